"""One step of training: gradients are clipped, a skipped step leaves the schedule alone, and every process gets its share."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR
from torch.optim.optimizer import register_optimizer_step_pre_hook

from deploykit import architectures
from deploykit.training import train
from deploykit.training.optimization import Optimization, Order, schedule


def optimization_of(network, scaler=None):
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    scaler = scaler or torch.amp.GradScaler("cpu", enabled=False)
    return Optimization(optimizer, LambdaLR(optimizer, lambda step: 1 / (1 + step)), scaler)


@pytest.fixture
def norms():
    """The norm of all gradients at every step of any optimizer."""
    seen = []

    def look(optimizer, *_):
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        seen.append(float(torch.linalg.vector_norm(torch.cat([g.flatten() for g in gradients]))))

    handle = register_optimizer_step_pre_hook(look)
    yield seen
    handle.remove()


@pytest.mark.parametrize("scale", [None, 2.0**10])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_gradients_are_clipped_to_the_norm_whether_they_are_scaled_or_not(norms, scale, clip_norm):
    network = nn.Linear(4, 2)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale) if scale else None
    optimization_of(network, scaler).step(network(torch.full((1, 4), 10.0)).sum(), clip_norm)
    whole = (2 * (4 * 10.0**2 + 1)) ** 0.5
    assert norms == [pytest.approx(clip_norm or whole, rel=1e-4)]


def test_a_recipe_with_a_clip_norm_is_trained_with_it(norms, tmp_path):
    clip_norm = architectures.get("rgnet").recipe.clip_norm
    train("rgnet", epochs=1, limit=256, lr=0.5, out=tmp_path, device="cpu")
    assert max(norms) == pytest.approx(clip_norm, rel=1e-4), "some gradients are larger before"


def test_the_schedule_waits_where_the_scaler_skips_a_step():
    network = nn.Linear(2, 1)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    optimization = optimization_of(network, torch.amp.GradScaler("cpu", init_scale=2.0**20))
    optimization.step(network(torch.full((1, 2), torch.inf)).sum(), None)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert optimization.scheduler.last_epoch == 0
    assert optimization.scaler.get_scale() == 2.0**19
    optimization.step(network(torch.ones(1, 2)).sum(), None)
    assert optimization.scheduler.last_epoch == 1
    assert optimization.optimizer.param_groups[0]["lr"] == 0.05


def test_what_is_remembered_comes_back_and_older_states_have_no_scaler():
    network = nn.Linear(2, 1)
    first = optimization_of(network, torch.amp.GradScaler("cpu", init_scale=2.0**20))
    first.step(network(torch.full((1, 2), torch.inf)).sum(), None)
    first.step(network(torch.ones(1, 2)).sum(), None)
    second = optimization_of(network, torch.amp.GradScaler("cpu", init_scale=2.0**20))
    second.load_state_dict(first.state_dict())
    assert second.state_dict() == first.state_dict()
    older = {name: state for name, state in first.state_dict().items() if name != "scaler"}
    third = optimization_of(network, torch.amp.GradScaler("cpu", init_scale=2.0**7))
    third.load_state_dict(older)
    assert (third.scheduler.last_epoch, third.scaler.get_scale()) == (1, 2.0**7)


def test_the_cosine_is_that_of_torch():
    recipe = replace(architectures.get("lenet5").recipe, schedule="cosine", epochs=3)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = CosineAnnealingLR(optimizer, T_max=30)
    for step in range(31):
        assert schedule(recipe, 10)(step) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(("samples", "batch_size", "processes"), [(130, 64, 2), (515, 64, 2), (10, 6, 3), (5, 64, 2), (1, 64, 2)])
def test_processes_share_every_batch_evenly_and_fill_up_the_last_one(samples, batch_size, processes):
    whole = list(Order(samples, batch_size, seed=3))
    shares = [list(Order(samples, batch_size, 3, rank, processes)) for rank in range(processes)]
    assert {len(share) for share in shares} == {len(whole)}
    for step, batch in enumerate(whole):
        parts = [share[step] for share in shares]
        assert len({len(part) for part in parts}) == 1
        together = sum(parts, [])
        assert together[: len(batch)] == batch
        filled = together[len(batch) :]
        assert filled == (whole[0] * len(together))[: len(filled)]
