"""Version 2 of the contract: every task, several inputs, what is forged; and version 1, which is written as long as it says all."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploykit.errors import ContractError
from deploykit.runtime.checks import check_contract
from deploykit.runtime.contract import (
    ArrayInput,
    Contract,
    DetectionOutput,
    EmbeddingOutput,
    ImageInput,
    MultiLabelOutput,
    Output,
    RegressionOutput,
    SegmentationOutput,
    input_from_dict,
    input_to_dict,
    loads,
)
from deploykit.runtime.session import TensorSpec

IMAGE = ImageInput(3, 32, 48, fit="letterbox", order="bgr", padding=(114, 113, 112), placement="top-left")
PLAIN = ImageInput(3, 32, 48)
BOXES = DetectionOutput("sigmoid", ("cat", "dog"), boxes="boxes", scores="scores", convention="cxcywh", iou_threshold=0.5)
OUTPUTS: dict[str, Output] = {
    "classification": Output("softmax", ("a", "b"), name="second"),
    "multilabel": MultiLabelOutput(labels=("a", "b"), threshold=(0.25, 0.75)),
    "segmentation": SegmentationOutput("softmax", ("sky", "sea", "sand"), class_axis=3),
    "detection": BOXES,
    "embedding": EmbeddingOutput(normalize=True),
    "regression": RegressionOutput(labels=("width", "height"), units=("mm", "mm")),
    "raw": Output(name="second"),
}
F32, I64 = np.dtype(np.float32), np.dtype(np.int64)


def spec(name: str, *shape: int | None, dtype: np.dtype[Any] = F32) -> TensorSpec:
    return TensorSpec(name, shape, dtype, "tensor(float)")


TAKES = spec("input", None, 3, 32, 48)


@pytest.mark.parametrize("task", OUTPUTS)
def test_every_task_is_written_and_read_again(task: str) -> None:
    contract = Contract(IMAGE, OUTPUTS[task], meanings={"boxes": "in pixels"})
    text = contract.dumps()
    document = json.loads(text)
    assert (document["version"], document["output"]["task"]) == (2, task)
    assert loads(text) == contract
    assert loads(text).dumps() == text


def test_several_inputs_have_names_and_the_first_is_the_input() -> None:
    facts = ArrayInput((5,), "int64")
    contract = Contract(IMAGE, Output(), inputs={"image": IMAGE, "facts": facts})
    found = loads(contract.dumps())
    assert found == contract
    assert list(found.inputs) == ["image", "facts"]
    assert found.rules() == {"image": IMAGE, "facts": facts}
    assert Contract(IMAGE, Output()).rules() == {None: IMAGE}
    with pytest.raises(ContractError, match="first of its inputs"):
        Contract(facts, Output(), inputs={"image": IMAGE, "facts": facts})


@pytest.mark.parametrize("rules", [PLAIN, replace(PLAIN, fit="center-crop", resize=40), ArrayInput((3, None))])
@pytest.mark.parametrize("output", [Output(), Output("softmax", ("a",)), Output("sigmoid")])
def test_what_version_1_can_say_is_written_in_version_1(rules: Any, output: Output) -> None:
    """Applications with an older deploykit go on reading the files of simple networks."""
    document = json.loads(Contract(rules, output).dumps())
    assert document["version"] == 1
    assert set(document) == {"version", "input", "output", "preprocessing_in_graph", "provenance", "verdict"}
    assert set(document["output"]) == {"activation", "labels"}
    assert not {"order", "padding", "placement"} & set(document["input"])
    assert input_from_dict(input_to_dict(rules)) == rules


@pytest.mark.parametrize(
    "new",
    [
        Contract(replace(PLAIN, order="bgr"), Output()),
        Contract(replace(PLAIN, fit="letterbox"), Output()),
        Contract(PLAIN, Output(), inputs={"x": PLAIN}),
        Contract(PLAIN, Output(), meanings={"x": "y"}),
        *(Contract(PLAIN, output) for output in OUTPUTS.values()),
    ],
)
def test_what_version_1_cannot_say_is_not_smuggled_into_it(new: Contract) -> None:
    document = json.loads(new.dumps())
    assert document["version"] == 2
    for key in ("inputs", "meanings"):
        document.pop(key)
    if type(new.output) is Output and new.output.name is None:
        document["output"].pop("task")
        document["output"].pop("name")
    if new.inputs or new.meanings:
        return  # what is left says no more than version 1 can
    with pytest.raises(ContractError):
        loads(json.dumps({**document, "version": 1}))


FORGED: dict[str, tuple[str, dict[str, Any], str]] = {
    "boxes without scores": ("detection", {"scores": ...}, "incomplete"),
    "scores of nothing": ("detection", {"scores": None}, "scores"),
    "boxes that are the scores": ("detection", {"scores": "boxes"}, "cannot be one output"),
    "boxes that are a list": ("detection", {"boxes": ["boxes"]}, "boxes"),
    "no convention": ("detection", {"convention": "yxyx"}, "convention"),
    "a convention that is a list": ("detection", {"convention": ["xyxy"]}, "convention"),
    "metres": ("detection", {"units": "metres"}, "units"),
    "a background that is no label": ("detection", {"background": 2}, "background"),
    "a billion detections": ("detection", {"max_detections": 10**9}, "max_detections"),
    "an overlap of two": ("detection", {"iou_threshold": 2}, "iou_threshold"),
    "a threshold that is no number": ("detection", {"threshold": "0.5"}, "threshold"),
    "a threshold too large for a float": ("detection", {"threshold": 10**400}, "threshold"),
    "one that is true": ("detection", {"class_wise": 1}, "class_wise"),
    "a threshold for nobody": ("multilabel", {"threshold": [0.5, 0.5, 0.5]}, "number of thresholds"),
    "thresholds of nothing": ("multilabel", {"labels": None, "threshold": []}, "number of thresholds"),
    "a multilabel softmax": ("multilabel", {"activation": "softmax"}, "activation"),
    "an axis of pixels": ("segmentation", {"class_axis": 2}, "class_axis"),
    "an axis that is true": ("segmentation", {"class_axis": True}, "class_axis"),
    "probabilities of indices": ("segmentation", {"class_axis": None}, "activation"),
    "an embedding of labels": ("embedding", {"labels": ["a"]}, "labels"),
    "one unit for two": ("regression", {"units": ["mm"]}, "number of units"),
    "units of numbers": ("regression", {"units": [1, 2]}, "units"),
    "no such task": ("raw", {"task": "tracking"}, "unknown task"),
    "a task that is a list": ("raw", {"task": ["raw"]}, "unknown task"),
    "no task": ("raw", {"task": ...}, "unknown task"),
    "a task of another": ("raw", {"task": "classification"}, "task"),
    "an unknown key": ("raw", {"threshold": 1}, "unknown key"),
    "an output without a name": ("raw", {"name": ""}, "name of an output"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_outputs(case: str) -> None:
    task, changes, problem = FORGED[case]
    document = json.loads(Contract(IMAGE, OUTPUTS[task]).dumps())
    for key, value in changes.items():
        document["output"].pop(key) if value is ... else document["output"].update({key: value})
    with pytest.raises(ContractError, match=problem) as error:
        loads(json.dumps(document))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 300


def test_thresholds_that_are_no_numbers_and_too_many_labels() -> None:
    text = Contract(IMAGE, BOXES).dumps()
    for constant in ("NaN", "Infinity", "1e999"):
        with pytest.raises(ContractError):
            loads(text.replace('"threshold":0.5', f'"threshold":{constant}'))
    with pytest.raises(ContractError, match="threshold"):
        replace(BOXES, threshold=float("nan"))
    # A billion would not fit into the size of a contract; nor do a hundred thousand and one.
    with pytest.raises(ContractError, match="labels"):
        loads(text.replace('["cat","dog"]', json.dumps(["a"] * 100_001)))
    with pytest.raises(ContractError, match="larger than"):
        loads(text.replace('["cat","dog"]', json.dumps(["a"] * 1_000_000)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"inputs": {}}, "inputs"),
        ({"inputs": [1]}, "no JSON object|not a JSON object"),
        ({"inputs": [{"kind": "array", "shape": [3], "dtype": "float32"}]}, "name of an input"),
        ({"inputs": [{"name": "x", "kind": "sound"}]}, "unknown kind"),
        ({"inputs": [{"name": "x", "kind": "array", "shape": [3], "dtype": "float32"}]}, "first of its inputs"),
        ({"inputs": [{"name": "x", "kind": "array", "shape": [3], "dtype": "float32"}] * 2}, "another for each"),
        ({"inputs": [{"name": str(n), "kind": "array", "shape": [3], "dtype": "float32"} for n in range(65)]}, "inputs"),
        ({"meanings": {"x": 1}}, "meanings"),
        ({"meanings": [1]}, "meanings"),
    ],
)
def test_forged_inputs_and_meanings(changes: dict[str, Any], problem: str) -> None:
    document = json.loads(Contract(IMAGE, BOXES).dumps())
    with pytest.raises(ContractError, match=problem):
        loads(json.dumps(document | changes))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"order": "gbr"}, "order"),
        ({"channels": 1, "padding": (0,)}, "order"),
        ({"padding": (256,)}, "padding"),
        ({"padding": (0, 0)}, "padding"),
        ({"padding": 114}, "padding"),
        ({"padding": (True,)}, "padding"),
        ({"placement": "bottom"}, "placement"),
        ({"fit": "stretch"}, "padding"),
        ({"fit": "stretch", "padding": (0,)}, "placement"),
        ({"resize": 5}, "resize"),
    ],
)
def test_colours_and_padding(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        replace(IMAGE, **changes)


MASKS, LABELS = OUTPUTS["segmentation"], ("a", "b")


@pytest.mark.parametrize(
    ("output", "outputs", "problem"),
    [
        (MASKS, [spec("out", None, 8, 12, 3)], None),
        (MASKS, [spec("out", None, 3, 8, 12)], "3 labels"),
        (MASKS, [spec("out", None, 3)], "a score per pixel"),
        (MASKS, [spec("out", None, 8, 12, 3, dtype=I64)], "scores of pixels"),
        (replace(MASKS, labels=LABELS), [spec("out", None, 8, 12, 1)], None),
        (MASKS, [spec("out", None, 8, 12, 1)], "3 labels"),
        (SegmentationOutput(class_axis=None), [spec("out", None, 8, 12, dtype=I64)], None),
        (SegmentationOutput(class_axis=None), [spec("out", None, 1, 8, 12, dtype=I64)], None),
        (SegmentationOutput(class_axis=None), [spec("out", None, 2, 8, 12, dtype=I64)], "one index per pixel"),
        (SegmentationOutput(class_axis=None), [spec("out", None, 8, 12)], "indices of labels"),
        (BOXES, [spec("boxes", None, 9, 4), spec("scores", None, 9, 2)], None),
        (BOXES, [spec("boxes", None, 4), spec("scores", None, 2)], None),
        (BOXES, [spec("boxes", None, 9, 5), spec("scores", None, 9, 2)], "four numbers"),
        (BOXES, [spec("boxes", None, 9, 4), spec("scores", None, 9, 3)], "2 labels"),
        (BOXES, [spec("boxes", None, 9, 4), spec("scores", None, 8, 2)], "a score for each box"),
        (BOXES, [spec("boxes", None, 9, 4), spec("scores", None, 9)], "scores of each box"),
        (BOXES, [spec("boxes", None, 9, 4)], "an output 'scores'"),
        (replace(BOXES, labels=("one",)), [spec("boxes", None, 9, 4), spec("scores", None, 9)], None),
        (
            replace(BOXES, classes="classes"),
            [spec("boxes", None, 9, 4), spec("scores", None, 9), spec("classes", None, 9, dtype=I64)],
            None,
        ),
        (
            replace(BOXES, classes="classes"),
            [spec("boxes", None, 9, 4), spec("scores", None, 9, 2), spec("classes", None, 9)],
            "one score and one class",
        ),
        (replace(BOXES, labels=None, background=2), [spec("boxes", None, 9, 4), spec("scores", None, 9, 2)], "background"),
        (OUTPUTS["multilabel"], [spec("out", None, 2)], None),
        (OUTPUTS["multilabel"], [spec("out", None, 3)], "2 labels"),
        (MultiLabelOutput(threshold=(0.1, 0.2)), [spec("out", None, 3)], "2 thresholds"),
        (EmbeddingOutput(), [spec("out", None, 16)], None),
        (EmbeddingOutput(), [spec("out", None, 4, 4)], "one vector"),
        (OUTPUTS["regression"], [spec("out", None, 2)], None),
        (OUTPUTS["regression"], [spec("out", None, 3)], "2 labels"),
        (OUTPUTS["regression"], [spec("out", None)], "2 labels"),
        (RegressionOutput(units=("m",)), [spec("out", None)], None),
        (RegressionOutput(units=("m",)), [spec("out", None, 2)], "1 units"),
        (OUTPUTS["classification"], [spec("first", None, 9), spec("second", None, 2)], None),
        (OUTPUTS["classification"], [spec("first", None, 2)], "an output 'second'"),
        (OUTPUTS["raw"], [spec("first", None, 2)], "an output 'second'"),
    ],
)
def test_the_output_is_checked_against_the_graph(output: Output, outputs: list[TensorSpec], problem: str | None) -> None:
    contract = Contract(PLAIN, output)
    if problem is None:
        check_contract(contract, (TAKES,), tuple(outputs))
        return
    with pytest.raises(ContractError, match=problem):
        check_contract(contract, (TAKES,), tuple(outputs))


def test_several_inputs_are_checked_against_the_graph() -> None:
    facts = ArrayInput((5,), "int64")
    recorded = {"inputs": [{"name": "facts", "shape": [5], "batch_axis": 1}]}
    contract = Contract(PLAIN, Output(), inputs={"input": PLAIN, "facts": facts})
    good = spec("facts", None, 5, dtype=I64)
    check_contract(contract, (TAKES, good), (spec("out", None, 2),))
    check_contract(contract, (good, TAKES), (spec("out", None, 2),))
    turned = replace(contract, provenance=recorded)
    check_contract(turned, (TAKES, spec("facts", 5, None, dtype=I64)), (spec("out", None, 2),))
    for wrong, problem in (((TAKES,), "the inputs input, facts"), ((TAKES, spec("facts", None, 5)), "another type")):
        with pytest.raises(ContractError, match=problem):
            check_contract(contract, wrong, (spec("out", None, 2),))
    with pytest.raises(ContractError, match="along axis 0"):
        check_contract(turned, (TAKES, spec("facts", 6, None, dtype=I64)), (spec("out", None, 2),))
    with pytest.raises(ContractError, match="preprocessing_in_graph"):
        replace(contract, preprocessing_in_graph=True)


def test_a_meaning_is_that_of_an_output() -> None:
    contract = Contract(PLAIN, Output(), meanings={"out": "how much"})
    check_contract(contract, (TAKES,), (spec("out", None, 2),))
    with pytest.raises(ContractError, match="an output 'out'"):
        check_contract(contract, (TAKES,), (spec("other", None, 2),))
