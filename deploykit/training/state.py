"""Where a training run stands, so that a run that was killed can go on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deploykit import files
from deploykit.errors import InputError
from deploykit.network import checkpoint
from deploykit.training import earlier, record
from deploykit.training.launch import UNNAMED, launch, restarts
from deploykit.training.optimization import Optimization
from deploykit.training.plan import Plan, checkpoint_of
from deploykit.training.processes import Processes
from deploykit.training.result import TrainingResult
from deploykit.training.tasks import HIGHER_IS_BETTER


@dataclass
class State:
    """Where a run stands. It lies in the run's folder after every epoch, and is removed when the run is done."""

    epoch: int = 0
    seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Tensor] | None = None
    best_epoch: int = 0
    best_value: float = math.nan
    stale: int = 0
    tensors: Mapping[str, Any] = field(default_factory=dict)
    finished: TrainingResult | None = None
    begun: bool = False  # what lies in the folder is this run's own
    previous: str | None = None

    FILE = earlier.RESUME

    @classmethod
    def load(cls, plan: Plan, network: nn.Module) -> State:
        """The state that lies in the run's folder, or one with the result of a run that is done.

        Raises `InputError` where there is nothing to resume, or it belongs to another run, `CheckpointError` for a damaged file.
        """
        path = plan.folder / cls.FILE
        if not path.is_file():
            done = record.finished(plan.folder, plan.fingerprint())
            if done is None:
                other = record.run_in(plan.folder)
                raise InputError(
                    f"nothing to resume in {plan.folder}: "
                    + (
                        f"the run that ended there is another: {_difference(other, plan.fingerprint())}"
                        if other
                        else f"{path} is not there"
                    ),
                    f"run `deploykit train {plan.architecture.name}`",
                )
            return cls(finished=done)
        content = checkpoint.read_resume(path)
        try:
            kept, tensors = content["state"], content["tensors"]
            if kept["fingerprint"] != plan.fingerprint():
                raise InputError(
                    f"{path} belongs to another run: {_difference(kept['fingerprint'], plan.fingerprint())}",
                    "use the options of that run, or another --out",
                )
            names = ("epoch", "seconds", "history", "best_epoch", "best_value", "stale")
            known = {n: kept[n] for n in names}
            return cls(**known, best=tensors["best"], tensors=tensors, begun=True, previous=kept.get("previous"))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path} is damaged ({type(error).__name__})", "train without --resume") from error

    @classmethod
    def of_launch(cls, plan: Plan, network: nn.Module, processes: Processes) -> State:
        """The state that this very launch of `torchrun` left before it started its processes again, or a new one.

        Raises `CheckpointError` for a damaged file.
        """
        path = plan.folder / cls.FILE
        name, again = launch(), processes.most(restarts()) > 0
        if name is None or (name == UNNAMED and not again) or not path.is_file():
            return cls()
        kept = checkpoint.read_resume(path).get("state")
        ours = isinstance(kept, dict) and kept.get("launch") == name and kept.get("fingerprint") == plan.fingerprint()
        return cls.load(plan, network) if ours else cls()

    def restore(self, network: nn.Module, optimization: Optimization) -> None:
        """Put the weights back, and what the optimization remembers. The network lies on its device already."""
        if self.tensors:
            network.load_state_dict(self.tensors["network"])
            optimization.load_state_dict(self.tensors)

    def record(
        self,
        epoch: int,
        loss: float,
        validation: float,
        network: nn.Module,
        seconds: float,
        plan: Plan,
        validation_loss: float | None = None,
    ) -> None:
        """Take in an epoch's result; keep its weights if they are the best so far (on a tie the later ones: lower loss).

        `validation_loss` is kept where it is another number than the metric, `validation`.
        """
        self.epoch, self.seconds = epoch + 1, seconds
        row = {"epoch": epoch + 1, "loss": loss, f"validation_{plan.metric}": validation, "seconds": seconds}
        if plan.metric != "mse" and validation_loss is not None and math.isfinite(validation_loss):
            row["validation_loss"] = validation_loss
        self.history.append(row)
        better = math.isnan(self.best_value) or no_worse(validation, self.best_value, plan.metric in HIGHER_IS_BETTER)
        self.stale = 0 if better and validation != self.best_value else self.stale + 1
        if better:
            self.best_value, self.best_epoch = validation, epoch + 1
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}

    def begin(self, folder: Path) -> None:
        """Before the first write: what an earlier run left in the folder is set aside. Raises `OutputError`."""
        if not self.begun:
            kept = earlier.set_aside(folder)
            self.begun, self.previous = True, str(kept) if kept else None

    def save(self, plan: Plan, network: nn.Module, optimization: Optimization) -> None:
        """The best weights as a checkpoint of their own, then all that is needed to go on."""
        self.begin(plan.folder)
        if self.best_epoch == self.epoch:
            metrics = {"validation": self.best_value, "metric": plan.metric, "epoch": self.best_epoch}
            kept = checkpoint_of(plan, network, metrics)
            checkpoint.save_checkpoint(kept, plan.folder / checkpoint.NAME)
        names = ("epoch", "seconds", "history", "best_epoch", "best_value", "stale", "previous")
        state = {**{n: getattr(self, n) for n in names}, "fingerprint": plan.fingerprint(), "launch": launch()}
        tensors = {"network": network.state_dict(), "best": self.best, **optimization.state_dict()}
        with files.replacing(plan.folder / self.FILE) as temporary:
            torch.save({"state": state, "tensors": tensors}, temporary)


def no_worse(value: float, best: float, higher_is_better: bool) -> bool:
    """Whether a metric is as good as the best so far."""
    return value >= best if higher_is_better else value <= best


def _difference(kept: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    for key, value in wanted.items():
        if kept.get(key) != value:
            if isinstance(value, dict) and isinstance(kept.get(key), dict):
                return f"{key}, {_difference(kept[key], value)}"
            return f"its {key} is {kept.get(key)!r}, not {value!r}"
    return "it has more options"
