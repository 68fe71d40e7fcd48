"""The verdict on a file that `tune` quantized. It is another network by its numbers; the question is whether it decides the same.

The word for that is "same decisions", beside "same", which says that the network is the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from deploykit import onnx_file
from deploykit.datasets import Split
from deploykit.errors import ContractError
from deploykit.onnx_file import sessions, walk
from deploykit.verdict import legal
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.inputs import labelled_split
from deploykit.verdict.originals import Original
from deploykit.verdict.result import Check, Decisions, Verdict, Word
from deploykit.verdict.same_decisions import Answers, Budget, Judged, Rule, judge, rule_of

MOST_SAMPLES = 4000
BATCH = 50  # samples at once


def is_quantized(model: onnx.ModelProto) -> bool:
    """Whether the file says that it was tuned, and has conversions to whole numbers in it."""
    try:
        contract = onnx_file.get_contract(model)
    except ContractError:
        return False
    quantizes = any(node.op_type == "DequantizeLinear" for node in walk.nodes(model.graph))
    return contract is not None and contract.tuned is not None and quantizes


def verdict_on(
    model: onnx.ModelProto,
    folder: Path | None,
    original: Original,
    file: str,
    data: str | None,
    device: str,
    budget: Budget | None = None,
) -> Verdict:
    """Is it legal, and does it decide as `original` does on labelled samples, those of `data` or of its own dataset?"""
    deployed = Deployed(model, folder)
    found_legal = legal.checks(deployed)
    if not all(check.passed for check in found_legal):
        return Verdict(file, original.name, "invalid", tuple(found_legal))
    labelled = labelled_split(original, data)
    contract = onnx_file.get_contract(model)
    rule = rule_of(None if contract is None else contract.output)
    missing = None
    if labelled is None or original.rules is None:
        missing = "there are no samples on which decisions could be compared: give --data"
    elif rule.name not in (None, model.graph.output[0].name):
        missing = f"decisions are read from the output {rule.name!r:.60}, and the first one alone can be compared"
    elif rule.name is None and len(model.graph.output) > 1:
        missing = "the first output alone can be compared, and no contract says that the others are not meant"
    if missing is not None or labelled is None:
        return Verdict(file, original.name, "not proven", (*found_legal, Check("same decisions", False, missing or "")))
    expected, found = _answers(deployed, original, labelled[0].take(MOST_SAMPLES), labelled[1], device, rule)
    judged = judge(expected, found, budget or Budget())
    checks = (*found_legal, Check("same decisions", judged.kept, judged.reason))
    word: Word = "same decisions" if judged.kept else "not proven" if "it would need" in judged.reason else "different"
    note = f"the file was quantized by `tune`: it is not the same network, and was asked whether {_asked(expected, budget)}"
    return Verdict(file, original.name, word, checks, decisions=_decisions(expected, found, judged), notes=(note,))


def _asked(expected: Answers, budget: Budget | None) -> str:
    return (budget or Budget()).words(expected.labelled, expected.decides)


def _answers(
    deployed: Deployed, original: Original, split: Split, has_classes: bool, device: str, rule: Rule
) -> tuple[Answers, Answers]:
    """Of the original and of the file, sample by sample; the last batch of a file that takes whole ones only is filled up."""
    session = deployed.answering(device)
    size, name = deployed.fixed_batch or BATCH, session.get_inputs()[0].name
    ours, theirs = [], []
    for begin in range(0, len(split), size):
        part = Split(split.samples[begin : begin + size], split.targets[begin : begin + size])
        inputs = part.arrays(original.rules)  # type: ignore[arg-type]  # there are rules, or nothing is asked
        ours.append(original.logits(inputs))
        missing = size - len(inputs) if deployed.fixed_batch else 0
        filled = np.concatenate([inputs, np.repeat(inputs[-1:], missing, axis=0)]) if missing else inputs
        theirs.append(sessions.run(session, {name: filled})[0][: len(inputs)])
    labels = split.targets.astype(np.int64) if has_classes else None
    expected, found = (np.concatenate(parts).astype(np.float64) for parts in (ours, theirs))
    return Answers((expected,), labels, rule), Answers((found,), labels, rule)


def _decisions(expected: Answers, found: Answers, judged: Judged) -> Decisions | None:
    if not expected.labelled:
        return None
    return Decisions(judged.samples, judged.agreement, float(expected.right(expected).mean()), float(found.right(expected).mean()))
