"""Masks that hide everything or nothing: where only one of the two differs the file is right, and the limit is said."""

import pytest
import torch
from torch import nn

from deploykit.errors import InputError
from deploykit.exporter import export
from deploykit.network.input_specs import InputSpec
from deploykit.verdict import uniform
from deploykit.verdict.batches import Batch
from deploykit.verdict.result import Parting

IDS = InputSpec("ids", (6,), torch.int64, below=30)
MASK = InputSpec("mask", (6,), torch.bool, mask=True)
NOISE = Batch("noise", (torch.arange(12).reshape(2, 6), torch.tensor([[True] * 5 + [False]] * 2)))


def answers(**by_value):
    """What is said of a batch whose mask (`m0`, `m1`) or sequence (`i0`) is uniform: "" agrees, None refuses, "nan" answers NaN."""

    def compared(batch):
        ids, mask = batch.tensors
        key = "i0" if not ids.any() else f"m{int(mask.all())}"
        answer = by_value.get(key, "")
        if answer is None:
            raise InputError("NaN")
        return Parting(answer, has_nan=answer == "nan") if answer else None

    return compared


@pytest.mark.parametrize(
    ("said", "passed", "detail"),
    [
        ({}, True, "3 tried"),
        ({"m1": "nan"}, True, "where mask is 1 throughout"),
        ({"m0": "nan"}, True, "where mask is 0 throughout"),
        ({"m0": "far"}, True, "where mask is 0 throughout"),
        ({"m1": "far"}, False, "where mask is 1 throughout: far"),
        ({"m1": "far (logits of a dominant mask)"}, False, "where mask is 1 throughout: far"),
        ({"i0": "nan"}, True, "where ids is 0 throughout"),
        ({"m0": "far", "m1": "far"}, False, "where mask is 0 throughout: far"),
        ({"m0": None, "m1": "far"}, False, "where mask is 1 throughout: far"),
    ],
)
def test_a_file_is_wrong_where_it_differs_at_every_uniform_mask_that_the_network_answers(said, passed, detail):
    check, batch = uniform.check((IDS, MASK), NOISE, answers(**said))
    assert check.passed is passed
    assert detail in check.detail
    assert (batch is None) is passed


def test_nothing_is_said_where_the_network_answers_none_or_has_no_such_input():
    assert uniform.check((IDS, MASK), NOISE, answers(i0=None, m0=None, m1=None)) == (None, None)
    assert uniform.check((InputSpec("x", (3,)),), Batch("noise", (torch.ones(1, 3),)), answers()) == (None, None)


class Padded(nn.Module):
    """Attention that is told which words are padding: PyTorch answers 0 where all are, the operators of ONNX NaN."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(30, 8)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, ids, padding):
        x = self.embed(ids)
        return self.head(self.attend(x, x, x, key_padding_mask=padding, need_weights=False)[0].mean(1))


def test_a_padding_mask_of_nothing_but_ones_is_a_limit_and_no_fault(tmp_path, monkeypatch):
    (tmp_path / "padded_networks.py").write_text(f"from {__name__} import Padded\n")
    monkeypatch.syspath_prepend(tmp_path)
    shapes, types = [(10,), (10,)], ["int64", "bool"]
    verdict = export("padded_networks:Padded", input_shapes=shapes, input_dtypes=types, out=tmp_path / "m.onnx").verdict
    assert verdict.same, verdict.checks
    told = next(check.detail for check in verdict.checks if check.name == uniform.NAME)
    assert "padding is 1 throughout" in told
