"""Attention that has nothing to attend to: a decoder's places before the first one of a mask, which nobody reads."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import deploykit
from deploykit.verdict.attention import Attending


class Decoder(nn.Module):
    """Every place looks at those before it that the mask leaves."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.inside = nn.Linear(8, 24)
        self.head = nn.Linear(8, 5)

    def forward(self, tokens, mask):
        length = tokens.shape[1]
        x = self.words(tokens)
        query, key, value = self.inside(x).unflatten(-1, (3, 2, 4)).permute(2, 0, 3, 1, 4).unbind(0)
        places = torch.arange(length)
        seen = (places[:, None] >= places)[None, None] & mask.bool()[:, None, None, :]
        return self.head(x + F.scaled_dot_product_attention(query, key, value, attn_mask=seen).transpose(1, 2).flatten(2))

    example_inputs = {
        "tokens": torch.arange(18).reshape(2, 9),
        "mask": torch.tensor([[1] * 9, [1] * 6 + [0] * 3]),
    }


class WithLast(Decoder):
    """It also looks up where the last one of the mask stands."""

    def forward(self, tokens, mask):
        last = (mask * torch.arange(tokens.shape[1])).amax(1)
        return (
            super().forward(tokens, mask)
            + (self.traced(last) if torch.compiler.is_exporting() else self.head(self.words(last)))[:, None]
        )

    def traced(self, last):
        return self.head(self.words(last.clamp(min=5)))


def mask_of(*rows):
    return {**Decoder.example_inputs, "mask": torch.tensor(rows)}


def asked(module, given):
    with Attending() as seen, torch.no_grad():
        module(**given)
    return seen.to_nothing


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([[1] * 9, [1] * 6 + [0] * 3], False),
        ([[1] * 9, [0] * 3 + [1] * 6], True),
        ([[1] + [0] * 8] * 2, False),
        ([[0] * 9, [1] * 9], True),
    ],
)
def test_a_row_that_is_hidden_as_a_whole_is_seen(rows, expected):
    assert asked(Decoder().eval(), mask_of(*rows)) == expected


def test_the_softmax_of_an_attention_by_hand_is_seen_too():
    hidden = torch.full((2, 3), -torch.inf)
    with Attending() as seen:
        torch.softmax(torch.zeros(2, 3), 1)
        assert not seen.to_nothing
        torch.softmax(hidden, 1)
    assert seen.to_nothing


def test_a_decoder_with_a_mask_is_the_same_network(tmp_path):
    torch.manual_seed(0)
    found = deploykit.export(Decoder().eval(), dynamic=("batch", "length=1"), out=tmp_path / "model.onnx")
    assert found.verdict.same, found.verdict.checks


def test_one_that_is_wrong_at_short_masks_is_not(tmp_path):
    torch.manual_seed(0)
    found = deploykit.export(WithLast().eval(), dynamic=("batch", "length=1"), out=tmp_path / "model.onnx")
    assert found.verdict.verdict == "different"
