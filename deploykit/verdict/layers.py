"""Every layer's own output, compared: a wrong weight can vanish in the noise of the outputs, but not in its own layer.

The deployed file is not touched: a second session (several, where the values are large) runs the same graph with the values of
the modules as extra outputs. Those keep onnxruntime from fusing some nodes, which is why the outputs are judged apart, on the
file as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import onnxruntime

from deploykit.errors import ModelFileError
from deploykit.onnx_file import sessions
from deploykit.verdict.comparison import SIGMOID_SCALE, Difference, compare, floor_of
from deploykit.verdict.deployed import Deployed
from deploykit.verdict.naming import Naming
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Observation

BYTES_AT_ONCE = 512 << 20  # of layers' outputs that one session is asked for


@dataclass(frozen=True)
class LayerDifference:
    """How one module's output differs on one batch. `moved`: what the file calls so is another value, see `moved_names`."""

    path: str
    batch: str
    difference: Difference
    moved: bool = False

    @property
    def within(self) -> bool:
        """Whether it is within tolerance, or no difference of the network."""
        return self.moved or self.difference.within


def compare_layers(
    deployed: Deployed,
    naming: Naming,
    observations: Sequence[Observation],
    precision: Precision = "fp32",
    level: sessions.Level = "all",
    device: str = sessions.CPU,
) -> list[LayerDifference]:
    """One entry per module whose output the graph still has, in the order of execution, per batch."""
    known = {path for observation in observations for path in observation.layers}
    order = {value: place for place, value in enumerate(deployed.values())}
    paths = sorted((path for path, value in naming.values.items() if path in known), key=lambda p: order[naming.values[p]])
    if not paths:
        return []
    found: list[LayerDifference] = []
    for group in _groups(paths, observations):
        floor = floor_of(precision, deployed.operators)
        session_with = partial(deployed.session, level, device)
        found += _compared(group, naming, observations, precision, floor, deployed.sigmoids, session_with)
    # A value of another shape is not this layer's output but, say, a recurrent layer's before it is turned; the outputs judge it.
    alike = [layer for layer in found if layer.difference.tolerance > 0]
    return alike if naming.trusted else _believable(alike)


def _believable(layers: list[LayerDifference]) -> list[LayerDifference]:
    """Without the differences that no later layer has on the same batch, for a file in which it is guessed which value is whose.

    A network carries a difference on from layer to layer; one that ends at once says that the guess was wrong.
    """
    last: dict[str, int] = {}
    for place, layer in enumerate(layers):
        if not layer.difference.within:
            last[layer.batch] = place
    return [layer for place, layer in enumerate(layers) if layer.difference.within or place < last[layer.batch]]


def first_divergent(layers: Sequence[LayerDifference]) -> LayerDifference | None:
    """The first layer that is out of tolerance, in the order of execution, on any batch."""
    order = {layer.path: position for position, layer in reversed(list(enumerate(layers)))}
    outside = [layer for layer in layers if not layer.within]
    return min(outside, key=lambda layer: order[layer.path], default=None)


def _compared(
    paths: Sequence[str],
    naming: Naming,
    observations: Sequence[Observation],
    precision: Precision,
    floor: float,
    sigmoids: Container[str],
    session_with: Callable[[Sequence[str]], onnxruntime.InferenceSession],
) -> list[LayerDifference]:
    """With a session of their own, which is gone before the next one is made: it holds all the weights."""
    found: list[LayerDifference] = []
    session = session_with(list(dict.fromkeys(naming.values[path] for path in paths)))
    names = [entry.name for entry in session.get_inputs()]
    for observation in observations:
        called = set(observation.layers)
        known = [path for path in paths if path in called]
        try:
            values = sessions.run(session, observation.batch.feeds(names), [naming.values[path] for path in known]) if known else []
        except ModelFileError:
            # A batch that the file cannot take at all, such as another size than a frozen one: the outputs' check says so.
            continue
        for path, value in zip(known, values, strict=True):
            float64, float32, reference = (
                answers.layers[path] for answers in (observation.float64, observation.float32, observation.tolerance_reference)
            )
            least = SIGMOID_SCALE if naming.values[path] in sigmoids else 0.0
            difference = compare(
                float64, float32, value, tolerance_reference=reference, precision=precision, floor=floor, least_scale=least
            )
            found.append(LayerDifference(path, observation.batch.name, difference))
    return found


def _groups(paths: Sequence[str], observations: Sequence[Observation]) -> Iterator[list[str]]:
    """So many values at once that they fit in memory: a run of onnxruntime holds all that a session can be asked for."""
    group: list[str] = []
    size = 0
    for path in paths:
        each = max((o.float32.layers.nbytes(path) for o in observations if path in o.float32.layers), default=0)
        if group and size + each > BYTES_AT_ONCE:
            yield group
            group, size = [], 0
        group.append(path)
        size += each
    if group:
        yield group
