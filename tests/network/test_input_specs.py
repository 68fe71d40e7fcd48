"""Made-up values of whole numbers: never nothing but zeros, which stand for padding."""

from dataclasses import replace

import pytest
import torch

from deploykit.network.input_specs import InputSpec

IDS = InputSpec("ids", (6,), torch.int64, below=30)


@pytest.mark.parametrize("batch", [1, 3])
def test_a_sequence_of_indices_is_never_all_padding(batch):
    zeros = IDS.filled(0, batch)
    assert zeros.shape == (batch, 6)
    assert (zeros.sum(-1) == 1).all()
    assert (IDS.filled(1, batch) == 1).all()
    assert (IDS.filled(29, batch) == 29).all()
    lone = replace(IDS, shape=(1,)).random(200, torch.Generator().manual_seed(0))
    assert (lone > 0).all()
    assert (lone < 30).all()


@pytest.mark.parametrize(
    "spec",
    [
        replace(IDS, shape=()),  # one index per sample
        replace(IDS, batch_axis=1),  # its last axis is the batch
        InputSpec("pixels", (2, 3), torch.uint8, below=256),
        InputSpec("flags", (4,), torch.int64),
        InputSpec("numbers", (4,)),
    ],
)
def test_other_inputs_are_filled_with_zeros_where_zeros_are_asked_for(spec):
    assert not spec.filled(0, 3).any()


def test_a_random_sequence_is_changed_only_where_it_is_all_zeros():
    spec = replace(IDS, shape=(2,), below=3)
    plain = torch.randint(0, 3, (50, 2), generator=torch.Generator().manual_seed(1))
    found = spec.random(50, torch.Generator().manual_seed(1))
    empty = (plain == 0).all(-1)
    assert empty.any()
    assert torch.equal(found[~empty], plain[~empty])
    assert torch.equal(found[empty], torch.tensor([[1, 0]]).expand(int(empty.sum()), 2))


def test_a_mask_holds_both_a_one_and_a_zero():
    mask = InputSpec("mask", (4,), torch.bool, mask=True)
    for tensor in (mask.filled(0, 3), mask.filled(1, 3), mask.random(3, torch.Generator().manual_seed(0))):
        assert tensor.any(-1).all()
        assert not tensor.all(-1).any()
    assert replace(mask, shape=(1,)).filled(0, 2).all()
