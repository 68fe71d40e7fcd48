"""What stands on a bound of the contract is taken, what is one step beyond it is refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest

from deploykit.errors import ContractError
from deploykit.runtime.contract import MAX_BYTES, ArrayInput, Contract, ImageInput, Output, input_from_dict, loads

IMAGE = ImageInput(channels=3, height=4, width=5)
CROPPED = replace(IMAGE, fit="center-crop", resize=7)


def above(value: float) -> float:
    return math.nextafter(value, math.inf)


def below(value: float) -> float:
    return math.nextafter(value, 0.0)


@pytest.mark.parametrize(
    ("base", "key", "good", "bad"),
    [
        (IMAGE, "channels", [1, 3], [0, 2, 4, True]),
        (IMAGE, "height", [1, 16_384], [0, -1, 16_385, 4.0]),
        (IMAGE, "width", [1, 16_384], [0, -1, 16_385, True]),
        (IMAGE, "resize", [None], [7]),
        (CROPPED, "resize", [1, 8_192], [None, 0, 8_193, 16_384, 16_385, 7.0]),
        (IMAGE, "scale", [1e-9, 1e9], [below(1e-9), above(1e9), 0.0, -1.0, True]),
        (IMAGE, "mean", [(1e9,), (-1e9, 0.0, 1e9)], [(above(1e9),), (0.0, -above(1e9), 0.0), (0.0, 0.0), (), 0.0, [0.0]]),
        (IMAGE, "std", [(1e9,), (1e-9, 1.0, 1e9)], [(above(1e9),), (1.0, below(1e-9), 1.0), (0.0,), (-1.0,), (1.0, 1.0)]),
        (IMAGE, "background", [0, 255], [-1, 256, 1.0, False]),
        (IMAGE, "interpolation", ["nearest", "bilinear", "bicubic"], ["lanczos", ""]),
        (IMAGE, "fit", ["stretch"], ["crop", "center-crop"]),
        (IMAGE, "kind", ["image"], ["array"]),
        (ArrayInput((1,)), "kind", ["array"], ["image"]),
        (ArrayInput((1,)), "shape", [(), (1 << 31,), (None,) * 8], [(0,), ((1 << 31) + 1,), (None,) * 9, (True,), [1]]),
        (ArrayInput((1,)), "dtype", ["x" * 16], ["x" * 17, None]),
        (Output(), "activation", ["softmax", "sigmoid", "none"], ["relu"]),
        (Output(), "labels", [None, ("a",) * 100_000, ("x" * 1000,)], [("a",) * 100_001, ("x" * 1001,), (), ["a"], ("a", 1)]),
    ],
)
def test_a_value_on_the_bound_is_taken_and_one_beyond_it_is_not(base: Any, key: str, good: list[Any], bad: list[Any]) -> None:
    for value in good:
        assert getattr(replace(base, **{key: value}), key) == value
    for value in bad:
        with pytest.raises(ContractError):
            replace(base, **{key: value})


def test_an_image_has_at_most_so_many_pixels() -> None:
    assert replace(IMAGE, height=8_192, width=8_192).height == 8_192
    with pytest.raises(ContractError, match="pixels"):
        replace(IMAGE, height=8_192, width=8_193)


DOCUMENT = json.loads(Contract(IMAGE, Output()).dumps())


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"version": True}, "has no version"),
        ({"version": 0}, "has version 0, this deploykit reads 1 to 2"),
        ({"version": 3}, "has version 3, this deploykit reads 1 to 2"),
        ({"input": []}, "input is not a JSON object"),
        ({"input": {**DOCUMENT["input"], "kind": "sound"}}, "unknown kind 'sound'"),
        ({"output": None}, "output is not a JSON object"),
        ({"preprocessing_in_graph": 1}, "preprocessing_in_graph cannot be 1"),
        ({"provenance": []}, "provenance is not a JSON object"),
        ({"verdict": "same"}, "verdict is not a JSON object"),
        ({"input": {**DOCUMENT["input"], "mirror": 1}}, "unknown key 'mirror'"),
    ],
)
def test_a_document_that_is_no_contract(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        loads(json.dumps(DOCUMENT | changes))
    assert loads(json.dumps(DOCUMENT)) == Contract(IMAGE, Output())


@pytest.mark.parametrize("constant", ["NaN", "Infinity", "-Infinity"])
def test_javascript_constants_are_no_json_anywhere(constant: str) -> None:
    """Also where nobody looks at the value: other programs read the same document."""
    text = json.dumps(DOCUMENT | {"provenance": {"loss": "HERE"}}).replace('"HERE"', constant)
    with pytest.raises(ContractError, match="not valid JSON"):
        loads(text)


def test_the_text_may_have_so_many_characters() -> None:
    text = json.dumps(DOCUMENT)
    assert loads(text.ljust(MAX_BYTES)) == loads(text)
    with pytest.raises(ContractError, match="larger than 4194304 bytes"):
        loads(text.ljust(MAX_BYTES + 1))


def test_an_input_alone() -> None:
    assert input_from_dict(DOCUMENT["input"]) == IMAGE
    for document in ({}, {"kind": ["image"]}, {"kind": "sound"}, {**DOCUMENT["input"], "mirror": 1}):
        with pytest.raises(ContractError):
            input_from_dict(document)


@pytest.mark.parametrize(
    ("entry", "sizes"),
    [
        ({"shape": [3, 4]}, (None, 3, 4)),  # the batch is first where nothing is said
        ({"shape": [3, 4], "batch_axis": 1}, (3, None, 4)),
        ({"shape": [3, 4], "batch_axis": 2}, (3, 4, None)),
        ({"shape": [3, 4], "batch_axis": 3}, (None, 3, 4)),
        ({"shape": [3, 4], "batch_axis": -1}, (None, 3, 4)),
        ({"shape": [3, 4], "batch_axis": True}, (None, 3, 4)),
        ({"shape": [3, 4], "batch_axis": None}, (3, 4)),
        ({"shape": []}, (None,)),
        ({"shape": [1] * 8}, (None, *[1] * 8)),
        ({"shape": [1] * 9}, None),
        ({"shape": [4096, 4096]}, (None, 4096, 4096)),  # so many elements at most
        ({"shape": [4096, 4097]}, None),
        ({"shape": [1, 0]}, None),
        ({"shape": [True]}, None),
        ({"shape": "34"}, None),
        ({"shape": [3], "name": 1}, None),
    ],
)
def test_the_sizes_that_a_file_was_exported_with(entry: dict[str, Any], sizes: tuple[int | None, ...] | None) -> None:
    contract = Contract(IMAGE, Output(), provenance={"inputs": ["no record", {"name": "x", **entry}]})
    assert contract.example_sizes() == ({} if sizes is None else {"x": sizes})
    assert contract.example_shapes() == ({} if sizes is None else {"x": tuple(size for size in sizes if size is not None)})
    assert Contract(IMAGE, Output(), provenance={"inputs": "x"}).example_sizes() == {}
