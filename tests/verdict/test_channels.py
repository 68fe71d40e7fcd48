"""Scores beside coordinates in one tensor: an error of a score is none of the largest coordinate's rounding."""

import numpy as np
import pytest
import torch
from torch import nn

import deploykit
from deploykit.verdict.channels import Channels


class Head(nn.Module):
    """Boxes in pixels and small scores in one tensor, along the last axis or the second one."""

    def __init__(self, wrong=1.0, turned=False):
        super().__init__()
        torch.manual_seed(0)
        self.tell = nn.Linear(6, 5)
        self.wrong, self.turned = wrong, turned

    def forward(self, x):
        y = self.tell(x)
        found = torch.cat([y[..., :4] * 2000 + 3000, torch.tanh(y[..., 4:] * self.wrong) * 1e-3], -1)
        return found.transpose(1, 2) if self.turned else found


def written(network, path):
    example = torch.randn(2, 7, 6)
    shapes = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(
        network.eval(), (example,), path, dynamo=True, dynamic_shapes=shapes, external_data=False, verbose=False, optimize=False
    )
    return path


@pytest.mark.parametrize("turned", [False, True])
def test_a_score_that_is_wrong_beside_coordinates_is_different(tmp_path, turned):
    right = Head(turned=turned)
    assert deploykit.validate(written(right, tmp_path / "right.onnx"), right).verdict == "same"
    verdict = deploykit.validate(written(Head(1.1, turned), tmp_path / "wrong.onnx"), right)
    assert verdict.verdict == "different"
    detail = next(check.detail for check in verdict.checks if check.name == "outputs")
    assert f"number 4 of axis {1 if turned else 2} is " in detail


def seen(truth, own, found):
    channels = Channels()
    for row in zip(truth, own, found, strict=True):
        channels.add(*map(np.asarray, row))
    return channels.worst()


def test_the_scale_of_a_channel_is_its_own_over_all_samples():
    truth = np.array([[1e4, 1e-3], [2e4, 5e-3]])
    assert seen([truth], [truth], [truth + np.array([0, 1e-4])]).startswith(
        "number 1 of axis 1 is 2.0e-02 of its own largest value off"
    )
    assert not seen([truth, [[1e4, 1.0]]], [truth, [[1e4, 1.0]]], [truth + np.array([0, 1e-4]), [[1e4, 1.0]]])


def test_what_the_network_itself_is_off_and_a_unit_in_the_last_place_of_one_are_no_faults():
    truth = np.array([[1e4, 1e-3]])
    assert not seen([truth], [truth + np.array([0, 1e-5])], [truth + np.array([0, 1e-4])])
    assert not seen([truth * [1, 1e-4]], [truth * [1, 1e-4]], [truth * [1, 1e-4] + np.array([0, 1e-6])])


def test_numbers_that_are_not_finite_and_other_shapes_have_no_part():
    truth, infinite = np.array([[1.0, 2.0]]), np.array([[1.0, np.inf]])
    assert not seen([infinite], [infinite], [truth])
    assert not seen([truth, np.ones((1, 3))], [truth, np.ones((1, 3))], [truth, np.zeros((1, 3))])
    assert not seen([np.ones(3)], [np.ones(3)], [np.zeros(3)]), "a number for each sample is no channel"
    assert not seen([np.ones((1, 2), int)], [np.ones((1, 2), int)], [np.zeros((1, 2), int)])
