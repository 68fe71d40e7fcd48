"""Do two files make the same decisions? Their answers to the same samples -> a `Judged`, by the intervals of `guarantee`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from deploykit.runtime.contract import MultiLabelOutput, Output
from deploykit.verdict import guarantee, outlook

Kind = Literal["best", "labels", "values"]
SAME = 1e-4  # an error, relative to the output's scale, that float32's rounding can explain


@dataclass(frozen=True)
class Judged:
    """How the answers of a candidate compare with those of the given file on `samples` samples.

    `error`: the largest difference of an output relative to the scale of its sample; `None` where it is not finite.
    `agreement`: the share of samples with the same decision (of outputs that are no decisions: with an error of at most
    `--max-error`) of which all other outputs stay, too, and the low end of its interval. `accuracy`, `drop` and its interval: where
    there are labels, in 0..1. `kept`: whether the bad end is within what is allowed; `same`: whether there is nothing to decide,
    because the numbers are the same up to rounding; `reason`: in words. `chance`: where these are not the samples of the proof,
    how likely that one will hold, 0..1 (see `outlook`).
    """

    samples: int
    error: float | None
    agreement: float
    agreement_low: float
    kept: bool
    reason: str
    same: bool = False
    accuracy: float | None = None
    drop: float | None = None
    drop_low: float | None = None
    drop_high: float | None = None
    chance: float | None = None


@dataclass(frozen=True)
class Budget:
    """What may be lost. `drop`: of the accuracy, 0..1. `agreement`: the least share of samples that must agree, 0..1.

    `error`: up to which an output that is no decision agrees, relative to the scale of its sample.
    """

    drop: float = 0.005
    agreement: float = 0.99
    error: float = 0.05

    def words(self, labelled: bool, decides: bool, several: bool = False) -> str:
        """In words. `several`: there are other outputs beside the one that is meant."""
        confidence = f"at {100 * guarantee.CONFIDENCE:.0f} % confidence"
        within = f"within {100 * self.error:g} % of"
        others = (
            f"; a sample counts as lost where another output decides otherwise or does not stay {within} its scale"
            if several
            else ""
        )
        if labelled:
            return f"the accuracy drops by at most {100 * self.drop:g} points, {confidence}{others}"
        what = "the decision stays" if decides else f"the outputs stay {within} their scale"
        return f"{what} on at least {100 * self.agreement:g} % of all samples, {confidence}{others if decides else ''}"


@dataclass(frozen=True)
class Rule:
    """What an application reads out of the outputs, as the contract says.

    "best": the class of the largest number; "labels": every label whose number is at least `threshold`; "values": the numbers
    themselves, as of a regression, an embedding, masks or boxes. `name`: of the output that is meant, `None` for the first one.
    """

    kind: Kind = "best"
    threshold: float | tuple[float, ...] = 0.0
    name: str | None = None


def rule_of(output: Output | None) -> Rule:
    """By the task. What says nothing of its numbers is taken for one number per class, if it has two axes."""
    if output is None:
        return Rule()
    if isinstance(output, MultiLabelOutput):
        several = output.threshold if isinstance(output.threshold, tuple) else (output.threshold,)
        logits = tuple(_logit(each) for each in several) if output.activation == "sigmoid" else several
        return Rule("labels", logits if isinstance(output.threshold, tuple) else logits[0], output.name)
    return Rule("best" if output.task in ("classification", "raw") else "values", name=output.name)


def _logit(share: float) -> float:
    """The number that a sigmoid makes `share` of."""
    if not 0 < share < 1:
        return -np.inf if share <= 0 else np.inf
    return float(np.log(share / (1 - share)))


@dataclass(frozen=True)
class Answers:
    """The outputs of one file for a number of samples, each (samples, ...), and the true classes where they are known.

    `rule`: how decisions are read from the first of them. `whole`: which outputs are whole numbers or truth values, such as the
    class that a file itself decides on: near it is another one.
    """

    outputs: tuple[NDArray[np.float64], ...]
    labels: NDArray[np.int64] | None = None
    rule: Rule = Rule()
    whole: tuple[bool, ...] = ()

    @property
    def samples(self) -> int:
        """How many."""
        return len(self.outputs[0])

    @property
    def decides(self) -> bool:
        """Whether the first output is one number per class or label."""
        return self.rule.kind != "values" and self.outputs[0].ndim == 2 and self.outputs[0].shape[1] > (self.rule.kind == "best")

    @property
    def labelled(self) -> bool:
        """Whether the decisions can be right or wrong."""
        return self.labels is not None and self.decides and self.rule.kind == "best"

    def decisions(self) -> NDArray[Any]:
        """(samples, ...): what is decided of each."""
        first = self.outputs[0]
        if self.rule.kind == "labels":
            return np.greater_equal(first, np.asarray(self.rule.threshold))
        return first.argmax(axis=1, keepdims=True)

    def right(self, given: Answers) -> NDArray[np.bool_]:
        """Per sample, whether the decision is the label. Infinite numbers decide only where the `given` file has the same."""
        decided = _has_decision(self.outputs[0], given.outputs[0])
        found: NDArray[np.bool_] = decided & (self.outputs[0].argmax(axis=1) == self.labels)
        return found

    def is_whole(self, place: int) -> bool:
        """Whether that output is whole numbers."""
        return place < len(self.whole) and self.whole[place]


def judge(expected: Answers, found: Answers, budget: Budget, planned: int | None = None) -> Judged:
    """Compare the answers of a candidate with those of the given file.

    `planned`: what is asked is not whether this many samples prove it, but whether `planned` ones would, if all goes on like this:
    so the part of the data that candidates are selected on is used.
    """
    errors = relative_errors(expected.outputs, found.outputs)
    largest = float(errors.max()) if np.isfinite(errors).all() else None
    others = _others_stay(expected, found, budget)
    agree = _agreeing(expected, found, errors, budget) & others
    agreeing, samples = int(agree.sum()), len(agree)
    low = guarantee.agreement_interval(agreeing, samples)[0]
    about = {"samples": samples, "error": largest, "agreement": agreeing / samples, "agreement_low": low}
    pairs = guarantee.of_answers(expected.right(expected), found.right(expected) & others) if expected.labelled else None
    if pairs is not None:
        drop_low, drop_high = pairs.interval()
        about |= {
            "accuracy": float((found.right(expected) & others).mean()),
            "drop": pairs.drop,
            "drop_low": drop_low,
            "drop_high": drop_high,
        }
    if largest is not None and largest <= SAME and _whole_numbers_stay(expected, found):
        return Judged(**about, kept=True, same=True, reason="the same numbers up to rounding")  # type: ignore[arg-type]
    if planned is not None and pairs is not None:
        about["chance"] = outlook.of_drop(pairs, planned, budget.drop)
    elif planned is not None:
        about["chance"] = outlook.of_agreement(agreeing, samples, planned, budget.agreement)
    if pairs is not None:
        kept, reason = _by_drop(pairs, budget, planned)
    else:
        kept, reason = _by_agreement(agreeing, samples, budget, planned)
    return Judged(**about, kept=kept, reason=reason)  # type: ignore[arg-type]


def relative_errors(expected: Sequence[NDArray[np.float64]], found: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Per sample: the largest difference over all outputs, relative to the largest number of that output; infinite for NaN.

    The scale is that of the sample, but never less than a thousandth of the largest one of all samples.
    """
    worst = np.zeros(len(expected[0]))
    for a, b in zip(expected, found, strict=True):
        if a.shape != b.shape:
            return np.full(len(expected[0]), np.inf)
        flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
        if not flat_a.shape[1]:
            continue
        sizes = np.abs(np.where(np.isfinite(flat_a), flat_a, 0.0)).max(axis=1)
        scale = np.maximum(sizes, max(1e-3 * float(sizes.max()), np.finfo(np.float64).tiny))
        with np.errstate(invalid="ignore"):
            difference = np.where(flat_a == flat_b, 0.0, np.abs(flat_a - flat_b)).max(axis=1) / scale
        worst = np.maximum(worst, np.where(np.isnan(difference), np.inf, difference))
    return worst


def _agreeing(expected: Answers, found: Answers, errors: NDArray[np.float64], budget: Budget) -> NDArray[np.bool_]:
    if not expected.decides or found.outputs[0].shape != expected.outputs[0].shape:
        return errors <= (0.0 if expected.is_whole(0) else budget.error)
    same: NDArray[np.bool_] = np.equal(found.decisions(), expected.decisions()).all(axis=1)
    return (same & _has_decision(found.outputs[0], expected.outputs[0])) | (errors == 0)


def _others_stay(expected: Answers, found: Answers, budget: Budget) -> NDArray[np.bool_]:
    """Per sample, whether every output beside the one that is meant is within `budget.error`; whole numbers have to be the same.

    Where no contract says which output is meant, each that is one number per class decides, and has to keep its decision, too.
    """
    stay = np.ones(expected.samples, np.bool_)
    meant = expected.rule.name is not None or expected.rule.kind != "best"
    for place, (a, b) in enumerate(zip(expected.outputs[1:], found.outputs[1:], strict=True), start=1):
        stay &= relative_errors([a], [b]) <= (0.0 if expected.is_whole(place) else budget.error)
        if not meant and a.ndim == 2 and a.shape[1] > 1 and a.shape == b.shape:
            stay &= a.argmax(axis=1) == b.argmax(axis=1)
    return stay


def _whole_numbers_stay(expected: Answers, found: Answers) -> bool:
    pairs = zip(expected.outputs, found.outputs, strict=True)
    return all(np.array_equal(a, b, equal_nan=True) for place, (a, b) in enumerate(pairs) if expected.is_whole(place))


def _has_decision(outputs: NDArray[np.float64], given: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Per sample, whether one number per class tells the best: all are finite, or infinite as those of the `given` file are.

    A class of -inf is one that a mask excludes: that is no fault where the given file has it too. With -inf alone nothing is best.
    """
    told: NDArray[np.bool_] = np.isfinite(outputs)
    if outputs.shape == given.shape:
        told = np.logical_or(told, np.equal(outputs, given))
    found: NDArray[np.bool_] = np.logical_and(told.all(axis=1), np.greater(outputs, -np.inf).any(axis=1))
    return found


def _by_drop(pairs: guarantee.Pairs, budget: Budget, planned: int | None) -> tuple[bool, str]:
    asked = pairs if planned is None else pairs.in_proportion(planned)
    low, high = asked.interval()
    seen = f"drop {100 * pairs.drop:+.2f} points of {pairs.samples:,} samples"
    if high <= budget.drop:
        return True, f"{seen}, at most {100 * high:.2f}" if planned is None else seen
    if low > budget.drop:
        return False, f"{seen}: the accuracy drops by more than {100 * budget.drop:g}"
    needed = guarantee.samples_for_drop(pairs, budget.drop)
    return False, f"{seen}, perhaps {100 * high:.2f}: {_too_few(asked.samples, needed)}"


def _by_agreement(agreeing: int, samples: int, budget: Budget, planned: int | None) -> tuple[bool, str]:
    count = samples if planned is None else planned
    expected = agreeing if planned is None else int(np.floor(agreeing / samples * planned + 1e-9))
    low, high = guarantee.agreement_interval(expected, count)
    seen = f"{agreeing:,} of {samples:,} samples agree"
    if low >= budget.agreement:
        return True, f"{seen}, at least {100 * low:.2f} % of all" if planned is None else seen
    if high < budget.agreement:
        return False, f"{seen}: fewer than {100 * budget.agreement:g} % of all"
    needed = guarantee.samples_for_agreement(agreeing, samples, budget.agreement)
    return False, f"{seen}, perhaps {100 * low:.2f} % of all: {_too_few(count, needed)}"


def _too_few(samples: int, needed: int | None) -> str:
    """What is missing in words; `needed` is `None` where more of the same would prove nothing."""
    if needed is None:
        return "no number of samples would prove more"
    return f"too few samples to prove it, it would need about {needed:,} instead of {samples:,}"
