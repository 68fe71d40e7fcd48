"""The models that answer: loading, warming up, exchanging one for a newer file without a gap."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from deploykit.errors import DeploykitError, InputError
from deploykit.runtime import rows
from deploykit.runtime.batching import Batcher, Later
from deploykit.runtime.contract import ImageInput
from deploykit.runtime.isolation import rehearse
from deploykit.runtime.predictor import Predictor
from deploykit.runtime.stopping import Stop
from deploykit.runtime.waiting import Answer
from deploykit.serving.alone import Alone
from deploykit.serving.inference import Signature
from deploykit.serving.latencies import Latencies
from deploykit.serving.refusals import Refusal, refusal_of
from deploykit.serving.repository import Source
from deploykit.serving.tensors import tensor_of

log = logging.getLogger("deploykit.serving")

UNLOADED = "unloaded"  # why a model is not there, in the words of Triton


@dataclass(frozen=True)
class Settings:
    """How models are run. `delay`: seconds; `queue`: requests that may wait; `timeout`: seconds that a request may take in all."""

    device: str = "auto"
    threads: int | None = None
    instances: int = 1
    max_rows: int = 32
    delay: float = 0.0
    queue: int = 128
    timeout: float = 60.0
    allow_rejected: bool = False

    @property
    def most_inside(self) -> int:
        """Requests of one model that may wait and may run."""
        return self.queue + self.instances * self.max_rows


class Served:
    """One version of a model, loaded and warm. `note`: why its rows do not share runs, where they do not.

    `inside`: requests that were read and are not answered yet, counted by whoever reads them. `closed`: it was taken away, and an
    error that it gives from then on says nothing about the request: whatever took its place is asked.
    """

    def __init__(self, name: str, version: int, path: Path, settings: Settings) -> None:
        self.name = name
        self.version = str(version)
        self.path = path
        self.settings = settings
        self.refused: Counter[str] = Counter()
        self.inside = 0
        self.closed = False
        self._most_inside = settings.most_inside
        self._full = Refusal(503, f"{settings.queue} requests wait already, which is the limit; try again later", "full")
        self.latencies = Latencies()
        self.loaded_at = time.time()
        self.last_inference = 0.0
        rehearse(path)
        # Requests come when they like: threads that spin between them would only burn the cores.
        self.predictor = Predictor(path, settings.device, threads=settings.threads, spinning=False, check_finite=False)
        try:
            check_verdict(self.predictor, settings.allow_rejected)
            self.signature = signature_of(self.predictor)
            self.together, self.note = _warm(self.predictor, settings)
        except BaseException:
            self.predictor.close()
            raise
        self.batcher = Batcher(
            self.predictor.run_all,
            max_rows=settings.max_rows,
            delay=settings.delay,
            limit=settings.queue,
            workers=settings.instances,
            together=self.together,
            stopper=Stop,
        )

    @property
    def max_batch_size(self) -> int:
        """As Triton's configuration has it: rows of a run, 0 where the first axis is not the batch of every input and output."""
        return self.batcher.max_rows if self.together else 0

    @property
    def takes_images(self) -> bool:
        """Whether its contract says how an image becomes its input."""
        contract = self.predictor.contract
        return contract is not None and isinstance(contract.input, ImageInput) and len(self.predictor.inputs) == 1

    def no_room(self) -> Refusal | None:
        """Why no further request can be taken at this moment, counted; `None` while it can.

        Requests wait in the event loop too, before they come to the line and when they leave it: so many as may wait and may run
        is all that may be inside.
        """
        if self.inside < self._most_inside and not self.batcher.is_full:
            return None
        self.refused[self._full.reason] += 1
        return self._full

    def counted(self, error: Exception) -> Refusal:
        """The refusal for whatever went wrong with a request, counted for the metrics; what nobody expected is logged."""
        refusal = refusal_of(error)
        if refusal.reason == "internal":
            log.error("the model %s failed", self.name, exc_info=error)
        self.refused[refusal.reason] += 1
        return refusal

    def submit(self, inputs: Mapping[str, Any], timeout: float | None = None, later: Later | None = None) -> Future[Answer]:
        """A request, already checked, into the line. Raises what `Batcher.submit` raises."""
        self.last_inference = time.time()
        return self.batcher.submit(inputs, timeout, later)

    def run_here(self, inputs: Mapping[str, Any], timeout: float) -> Answer | None:
        """The answer from the calling thread, where that takes a moment; else `None`, and it has to go into the line."""
        if not self.predictor.is_steady:
            return None
        self.last_inference = time.time()
        return self.batcher.run_here(inputs, timeout)

    def close(self) -> None:
        """Answer what was accepted, then let go of the network."""
        self.closed = True
        self.batcher.close()
        self.predictor.close()


@dataclass
class Model:
    """A name and its versions. `state` and `reason` are those of the protocol's repository index."""

    source: Source
    versions: dict[str, Served] = field(default_factory=dict)
    state: str = "UNAVAILABLE"
    reason: str = ""

    @property
    def is_as_wanted(self) -> bool:
        """Whether it answers, or was unloaded on request: that, too, is readiness to Triton."""
        return bool(self.versions) or self.reason == UNLOADED

    @property
    def newest(self) -> Served:
        """The version that answers where a caller names none."""
        return self.versions[max(self.versions, key=int)]


class Models:
    """All models by name. Looking one up is safe while another thread loads, exchanges or unloads them.

    `alone`: told of every request for an inference, by the event loop.
    """

    def __init__(self, sources: list[Source], settings: Settings) -> None:
        self.settings = settings
        self.alone = Alone()
        self._models = {source.name: Model(source) for source in sources}
        self._changing = threading.Lock()

    def load_all(self) -> None:
        """Load every model. Raises what the first one raises, with its file in the message; then none is left open."""
        try:
            for name in self._models:
                self.load(name)
        except BaseException:
            self.close()
            raise

    def names(self) -> list[str]:
        """Every name, in the order given."""
        return list(self._models)

    def model(self, name: str) -> Model:
        """The model of that name, loaded or not. Raises `Refusal`."""
        found = self._models.get(name)
        if found is None:
            known = ", ".join(list(self._models)[:12])
            raise Refusal(404, f"there is no model {name!r:.80}; served are: {known}")
        return found

    def get(self, name: str, version: str | None = None) -> Served:
        """The loaded version, the newest where none is named. Raises `Refusal`."""
        versions = self.model(name).versions
        if not versions:
            raise Refusal(503, f"the model {name!r:.80} is not loaded", UNLOADED)
        if version is None:
            return next(iter(versions.values())) if len(versions) == 1 else versions[max(versions, key=int)]
        if version not in versions:
            raise Refusal(404, f"the model {name!r:.80} has no version {version!r:.40}; it has: {', '.join(versions)}")
        return versions[version]

    def loaded(self) -> list[Served]:
        """Every version of every model, at this moment."""
        return [served for model in self._models.values() for served in list(model.versions.values())]

    def load(self, name: str) -> None:
        """Load the model's files as they are now, then exchange it; the old one answers until then and what it had accepted.

        Raises `DeploykitError` where a file cannot be loaded: then the old one stays.
        """
        with self._changing:
            model = self.model(name)
            fresh: dict[str, Served] = {}
            try:
                source = model.source.again()
                for number, path in source.files.items():
                    fresh[str(number)] = Served(name, number, path, self.settings)
            except BaseException as error:
                for served in fresh.values():
                    served.close()
                model.reason = str(error) if isinstance(error, DeploykitError) else type(error).__name__
                raise
            old, model.versions = model.versions, fresh
            model.source, model.state, model.reason = source, "READY", ""
            for version, served in old.items():
                if version in fresh:
                    fresh[version].refused.update(served.refused)
        for served in old.values():
            served.close()

    def unload(self, name: str) -> None:
        """Take a model away; what it had accepted is answered first."""
        with self._changing:
            model = self.model(name)
            old, model.versions = model.versions, {}
            model.state, model.reason = "UNAVAILABLE", UNLOADED
        for served in old.values():
            served.close()

    def close(self) -> None:
        """Unload all."""
        for name in self._models:
            self.unload(name)


def check_verdict(predictor: Predictor, allow_rejected: bool) -> None:
    """Raise `InputError` for a file whose own verdict says that it is not the network it was exported from."""
    verdict = None if predictor.contract is None else predictor.contract.verdict
    found = None if verdict is None else verdict.get("verdict")
    if found not in (None, "same") and not allow_rejected:
        raise InputError(
            f"{predictor.name} was rejected by its own verdict ({found!r:.40})",
            "export it again, or serve it with --allow-rejected",
        )


def signature_of(predictor: Predictor) -> Signature:
    """What it takes and gives. Raises `InputError` for what the protocol cannot carry."""
    inputs = tuple(tensor_of(spec) for spec in predictor.inputs)
    outputs = tuple(tensor_of(spec) for spec in predictor.outputs)
    contract = predictor.contract
    return Signature(inputs, outputs, contract is not None, None if contract is None else contract.output.labels)


def _warm(predictor: Predictor, settings: Settings) -> tuple[bool, str]:
    """Run it at the sizes that will come, so that no caller pays for the first time; whether rows share runs, and why not."""
    together, note = rows.together(predictor) if settings.max_rows > 1 else (False, "")
    for batch in [1, settings.max_rows] if together else [1]:
        # A network that takes no zeros is warm after its first caller.
        with contextlib.suppress(InputError):
            predictor.warm_up(1, batch)
    if predictor.contract is not None and isinstance(predictor.contract.input, ImageInput):
        with contextlib.suppress(InputError):
            predictor.predict(np.zeros((8, 8), np.uint8))  # Pillow is loaded by the first image
    return together, note
