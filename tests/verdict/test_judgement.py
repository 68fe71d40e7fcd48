"""Single checks of the verdict, on plain stand-ins for file and network: what each says passed, and what did not."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from onnx import TensorProto, helper

from deploykit import onnx_file
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output
from deploykit.verdict import contracts, judgement
from deploykit.verdict.comparison import Difference
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.layers import LayerDifference
from deploykit.verdict.result import Check, Decisions

IMAGE = ImageInput(channels=1, height=4, width=5)
OTHER = ImageInput(channels=1, height=4, width=5, mean=(0.5,))
LABELS = Output("softmax", ("a", "b"))


def deployed(contract: Contract | None, inputs: int = 1) -> Deployed:
    values = [helper.make_tensor_value_info(f"x{number}", TensorProto.FLOAT, ["n", 2]) for number in range(inputs)]
    model = helper.make_model(helper.make_graph([], "g", values, []))
    if contract is not None:
        onnx_file.set_contract(model, contract)
    return Deployed(model)


def stating(rules: Any, output: Output | None, declared: bool = True) -> Any:
    return SimpleNamespace(rules=rules, rules_of_inputs=() if rules is None else (rules,), output=output, declared=declared)


@pytest.mark.parametrize(
    ("contract", "rules", "output", "passed", "detail"),
    [
        (None, IMAGE, LABELS, True, "the file has none"),
        (Contract(IMAGE, LABELS), None, None, True, "the other has none to compare it with"),
        (Contract(IMAGE, LABELS), IMAGE, LABELS, True, "preprocessing and labels are those of the network"),
        (Contract(IMAGE, LABELS), IMAGE, None, True, "preprocessing and labels"),
        (Contract(IMAGE, LABELS), IMAGE, Output("softmax"), True, "preprocessing and labels"),
        (Contract(IMAGE, LABELS), IMAGE, Output("softmax", ("b", "a")), False, "labels are not those"),
        (Contract(IMAGE, Output()), IMAGE, LABELS, False, "labels are not those"),
        (Contract(IMAGE, LABELS), OTHER, LABELS, False, r"says mean \(0.0,\), the network was made for \(0.5,\)"),
        (Contract(ArrayInput((3, None)), Output()), ArrayInput((3, 4)), None, True, "preprocessing"),
        (Contract(ArrayInput((3, 4)), Output()), ArrayInput((None, 4)), None, True, "preprocessing"),
        (Contract(ArrayInput((3, 4)), Output()), ArrayInput((3, 5)), None, False, r"says shape \(3, 4\).*\(3, 5\)"),
        (Contract(ArrayInput((3,)), Output()), ArrayInput((3, 4)), None, False, "says shape"),
        (Contract(ArrayInput((3,), "int64"), Output()), ArrayInput((3,)), None, False, "says dtype int64.*float32"),
        (Contract(ArrayInput((4, 5)), Output()), IMAGE, None, False, "says channels None"),
    ],
)
def test_the_contract_of_the_file_and_the_network(
    contract: Contract | None, rules: Any, output: Output | None, passed: bool, detail: str
) -> None:
    found = contracts.check(deployed(contract), stating(rules, output))
    assert (found.name, found.passed) == ("contract", passed)
    assert re.search(detail, found.detail), found.detail


def test_a_damaged_contract_does_not_pass() -> None:
    file = deployed(Contract(IMAGE, LABELS))
    file.model.metadata_props[0].value = "{"
    found = contracts.check(file, stating(IMAGE, LABELS))
    assert (found.name, found.passed) == ("contract", False)


@pytest.mark.parametrize(("of_file", "of_network"), [(1, 1), (2, 2), (1, 2), (2, 1)])
def test_as_many_inputs_as_the_network(of_file: int, of_network: int) -> None:
    found = judgement._inputs(deployed(None, of_file), SimpleNamespace(inputs=[None] * of_network))
    same = of_file == of_network
    told = ", ".join(f"x{n}" for n in range(of_file)) if same else f"the file takes {of_file} inputs, the network {of_network}"
    assert found == Check("inputs", same, told)


def layer(path: str, error: float, batch: str = "noise") -> LayerDifference:
    return LayerDifference(path, batch, Difference(0.0, error, error, 1e-5, 1.0, (0, 0), False))


def test_layers() -> None:
    assert judgement._layers([]).passed
    assert "the outputs alone were compared" in judgement._layers([]).detail
    good = [layer("a", 1e-6), layer("b", 3e-6), layer("a", 2e-6, "ones")]
    assert judgement._layers(good) == Check("layers", True, "2 layers compared, largest error 3.0e-06")
    bad = [*good, layer("b", 2e-3, "ones"), layer("c", 5e-3, "ones")]
    assert judgement._layers(bad) == Check("layers", False, "b differs by 2.0e-03 of a tolerated 1.0e-05 (ones)")


@pytest.mark.parametrize(("agreement", "passed"), [(1.0, True), (0.99, True), (0.989, False), (0.0, False)])
def test_decisions(agreement: float, passed: bool) -> None:
    found = judgement._decisions(Decisions(1000, agreement, 0.975, 0.25, ()))
    assert (found.name, found.passed) == ("decisions", passed)
    assert found.detail == f"{agreement:.1%} alike on 1000 test samples; accuracy 97.5% in PyTorch, 25.0% in onnxruntime"


@pytest.mark.parametrize(
    ("failed", "told", "word"),
    [
        ((), True, "same"),
        (("evidence",), True, "not proven"),
        (("evidence",), False, "not proven"),
        (("evidence", "outputs"), True, "different"),
        (("evidence", "outputs"), False, "not proven"),
        (("outputs",), False, "not proven"),
        (("outputs",), True, "different"),
        (("weights",), False, "different"),
        (("weights", "evidence"), False, "different"),
    ],
)
def test_the_word(failed: tuple[str, ...], told: bool, word: str) -> None:
    checks = [Check(name, name not in failed, "") for name in ("outputs", "weights", "evidence")]
    assert judgement._word(checks, SimpleNamespace(told=told)) == word


def test_the_step_that_is_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that differs is the export's; else what trying the steps gives; else the first step with a wrong weight."""
    steps = [("export", "first"), ("simplify", "second"), ("precision", "third")]
    case = SimpleNamespace(
        agrees=None,
        original=SimpleNamespace(weights=lambda model, _proven, _moved: (Check("weights", model == "first", ""), None)),
    )
    ask = SimpleNamespace(provider="cpu", device="cpu")
    monkeypatch.setattr(judgement.blame, "blamed_step", lambda *_: "optimizer:all")
    assert judgement._blamed(steps, case, [Check("sizes", False, "")], ask) == "export"
    assert judgement._blamed(steps, case, [Check("sizes", True, "")], ask) == "optimizer:all"
    assert judgement._blamed(steps, case, [], ask) == "optimizer:all"
    monkeypatch.setattr(judgement.blame, "blamed_step", lambda *_: "unknown")
    assert judgement._blamed(steps, case, [], ask) == "simplify"
    case.original.weights = lambda *_: (Check("weights", True, ""), None)
    assert judgement._blamed(steps, case, [], ask) == "unknown"


def test_the_first_step_that_made_the_file_illegal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        judgement.legal, "checks", lambda deployed: [Check("a", True, ""), Check("b", deployed.model == "good", "")]
    )
    ask = SimpleNamespace(steps=[("export", "good"), ("simplify", "bad"), ("precision", "bad")])
    assert judgement._first_illegal(ask, Deployed("bad")) == "simplify"
    assert judgement._first_illegal(SimpleNamespace(steps=[("export", "good")]), Deployed("bad")) is None
