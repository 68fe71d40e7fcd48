from __future__ import annotations

import contextlib
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_models import DIGITS, LABELS, linear, with_contract

from deploykit.errors import ContractError, ImageError, InputError, ModelFileError
from deploykit.runtime import Predictor
from deploykit.runtime.contract import ArrayInput, Contract, ImageInput, Output, input_from_dict, loads
from deploykit.runtime.preprocessing import preprocess

GOOD = Contract(DIGITS, Output("softmax", LABELS), provenance={"network": "linear"}, verdict={"verdict": "same"})

numbers = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 3, 1e308, 1e-308, 10**400, 8, 1 << 31])
scalars = st.none() | st.booleans() | numbers | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4), max_leaves=8
)


def paths_of(document: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [prefix] if prefix else []
    children = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in children:
        found += paths_of(value, (*prefix, key))
    return found


def changed(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(document))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def test_round_trip_and_canonical_form() -> None:
    for contract in (
        GOOD,
        Contract(ArrayInput((3, None)), Output()),
        Contract(ImageInput(3, 5, 6, fit="center-crop", resize=9), Output("none", ("ä", "\U0001f600"))),
    ):
        text = contract.dumps()
        assert loads(text) == contract
        assert loads(text).dumps() == text
        text.encode()


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_forged_contract_is_refused_or_can_be_used(data: st.DataObject) -> None:
    """Whatever stands in it: `ContractError`, or rules that turn an image into finite numbers of the right shape."""
    document = json.loads(GOOD.dumps())
    for _ in range(data.draw(st.integers(1, 3))):
        paths = paths_of(document)
        document = changed(document, data.draw(st.sampled_from(paths)), data.draw(values)) if paths else document
    try:
        contract = loads(json.dumps(document))
    except ContractError:
        return
    contract.dumps().encode()
    rules = contract.input
    if isinstance(rules, ImageInput) and rules.height * rules.width <= 1_000_000:
        array = preprocess(Image.new("RGB", (9, 7), (200, 100, 0)), rules)
        assert array.shape == (rules.channels, rules.height, rules.width)
        assert array.dtype == np.float32
        assert np.isfinite(array).all()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_forged_contract_in_a_file_never_crashes_the_app(data: st.DataObject) -> None:
    document = json.loads(GOOD.dumps())
    document = changed(document, data.draw(st.sampled_from(paths_of(document))), data.draw(values))
    text = json.dumps(document)
    with contextlib.suppress(ContractError, InputError, ModelFileError, ImageError):
        model = Predictor(with_contract(linear(), text).SerializeToString(), device="cpu")
        model.predict(np.zeros((3, 3), np.uint8))


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda b: b.decode("latin-1")))
def test_any_text_is_refused_cleanly(text: str) -> None:
    with pytest.raises(ContractError):
        loads(text)


FORGED = {
    "true is no number of channels": ("input", "channels", True),
    "1.0 is no number of channels": ("input", "channels", 1.0),
    "a whole number too large for a float": ("input", "scale", 10**400),
    "a scale that makes infinities": ("input", "scale", 1e300),
    "a std that divides by nothing": ("input", "std", [1e-300]),
    "a mean beyond float32": ("input", "mean", [1e300]),
    "more pixels than memory": ("input", "height", 16_384),
    "half a surrogate pair": ("output", "labels", ["\ud800"]),
    "labels of nothing": ("output", "labels", []),
    "labels of numbers": ("output", "labels", [1]),
    "a kind that is a list": ("input", "kind", ["image"]),
    "an unknown key": ("input", "mirror", True),
    "an activation that is a list": ("output", "activation", ["softmax"]),
    "NaN": ("input", "scale", float("nan")),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_values(case: str) -> None:
    part, key, value = FORGED[case]
    document = json.loads(GOOD.dumps())
    document[part][key] = value
    if case == "more pixels than memory":
        document[part]["width"] = value
    with pytest.raises(ContractError) as error:
        loads(json.dumps(document))
    assert len(str(error.value)) < 300


def test_what_is_missing() -> None:
    for key in ("channels", "height", "width"):
        document = json.loads(GOOD.dumps())
        del document["input"][key]
        with pytest.raises(ContractError, match=f"incomplete.*{key}"):
            loads(json.dumps(document))
    for key in ("input", "output", "version"):
        document = json.loads(GOOD.dumps())
        del document[key]
        with pytest.raises(ContractError):
            loads(json.dumps(document))
    with pytest.raises(ContractError, match="unknown kind"):
        input_from_dict({"kind": {}})
    with pytest.raises(ContractError, match="larger than"):
        loads(" " * (5 << 20))
