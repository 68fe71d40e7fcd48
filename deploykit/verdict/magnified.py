"""Which differences are no more than rounding: a network may magnify it, and then its own answers move as far."""

from __future__ import annotations

from deploykit.errors import InputError
from deploykit.verdict.comparison import TOLERANCE_FACTOR, Difference, compare
from deploykit.verdict.originals import Original
from deploykit.verdict.precision import Precision
from deploykit.verdict.reference import Observation

# The most that rounding may be magnified to, relative to the scale of a sample; what moves farther took another branch, as a number
# that is rounded at .5 does.
MOST_MAGNIFIED = 1e-2


class Shaken:
    """Observations with the network asked for inputs that differ in their last bit too, see `Reference.shaken`; each made once."""

    def __init__(self, original: Original, precision: Precision) -> None:
        self._original = original
        self._precision = precision
        self._made: dict[int, tuple[Observation, Observation | None]] = {}  # by identity of the first, which is kept for it

    def of(self, observation: Observation) -> Observation | None:
        """`None` where that excuses nothing, or the network refuses."""
        if self._precision != "fp32":
            return None
        if id(observation) not in self._made:
            try:
                self._made[id(observation)] = observation, self._original.shaken(observation)
            except InputError:
                self._made[id(observation)] = observation, None
        return self._made[id(observation)][1]


def is_steady(shaken: Observation) -> bool:
    """Whether no output of the network moves by more than rounding may be magnified to."""
    pairs = zip(shaken.float64.outputs, shaken.tolerance_reference.outputs, strict=True)
    return all(compare(truth, own, own).torch_error <= MOST_MAGNIFIED / TOLERANCE_FACTOR for truth, own in pairs)


def may_be_rounding(difference: Difference) -> bool:
    """Whether a difference is beyond its tolerance, and yet no more than a network may magnify rounding to."""
    return not difference.within and difference.onnx_error <= MOST_MAGNIFIED


def is_excused(difference: Difference) -> bool:
    """Whether a difference is within what a shaken network shows, and that little enough to be rounding, not another branch."""
    return difference.within and difference.tolerance <= MOST_MAGNIFIED
