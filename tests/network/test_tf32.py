"""TF32 is off while deploykit works, and afterwards as the caller had it."""

import pytest
import torch

from deploykit import backends
from deploykit.network import target as targets
from deploykit.network.tf32 import without_tf32

cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn


def state():
    try:
        allowed = cuda.allow_tf32, cudnn.allow_tf32
    except RuntimeError:
        allowed = None
    return allowed, cuda.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


OFF = ((False, False), "ieee", "ieee", "ieee")


def by_the_old_interface():
    cuda.allow_tf32 = cudnn.allow_tf32 = True


def by_the_new_interface():
    cuda.fp32_precision = "tf32"
    cudnn.conv.fp32_precision = "ieee"


@pytest.fixture(params=[lambda: None, by_the_old_interface, by_the_new_interface], ids=["default", "old", "new"])
def before(request):
    """The state that the caller chose."""
    usual = state()
    request.param()
    yield state()
    cuda.allow_tf32, cudnn.allow_tf32 = usual[0]
    cuda.fp32_precision, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision = usual[1:]


def test_it_is_off_within_and_as_it_was_afterwards(before):
    with without_tf32():
        assert state() == OFF
        with without_tf32():
            assert state() == OFF
        assert state() == OFF
    assert state() == before
    with pytest.raises(ValueError, match="ours"), without_tf32():
        raise ValueError("ours")
    assert state() == before


def test_engines_that_overlap_leave_it_as_it_was(before):
    network = targets.resolve("mlp", untrained=True)
    first = backends.start("torch", network, threads=1)
    second = backends.start("torch", network, threads=1)
    assert state() == OFF
    first.close()
    assert state() == OFF, "the second one still works"
    second.close()
    assert state() == before
