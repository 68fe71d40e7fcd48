"""What a proof on few samples is worth: intervals for the drop of the accuracy, and for the share of samples that agree.

Both are at `CONFIDENCE`, two-sided, so the bad end alone is exceeded by the truth in 1 of 40 cases at most.

*Drop.* Two files answer the same labelled samples, so their answers are paired: only samples on which one is right and the other
wrong tell. `lost`: the first is right, the second wrong; `won`: the other way round. The drop is (lost - won) / samples.
Its interval inverts the score test of Tango, "Equivalence test and confidence interval for the difference in proportions for the
paired-sample design", Statistics in Medicine 17 (1998). With up to `EXACT` discordant samples the probability is not that of the
normal distribution but the exact one of the trinomial, largest over the share of discordant samples; that share is searched within
an exact interval of its own whose error is added, as in Berger and Boos, "P values maximized over a confidence set for the nuisance
parameter", JASA 89 (1994).

*Agreement.* The samples agree or not: the exact binomial interval of Clopper and Pearson (Biometrika 26, 1934).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
TAIL = (1 - CONFIDENCE) / 2
EXACT = 60  # discordant samples up to which the probability is the exact one
NUISANCE_ERROR = 0.001  # the part of `TAIL` that is spent on the share of discordant samples
SHARES, DROPS, HALVINGS = 15, 40, 12  # the grid of those shares, that of the drops, and how often a step of it is halved
NEGLIGIBLE = 1e-9  # probability of numbers of discordant samples that are left out; it is added to the result
DROP_TEST = f"paired answers: Tango's score interval, exact up to {EXACT} answers that are right in one file alone"
AGREEMENT_TEST = "the exact binomial interval of Clopper and Pearson"
MOST_SAMPLES = 10_000_000  # more than this is "no number of samples"

Numbers = NDArray[np.float64]
Number = Numbers | np.float64


@dataclass(frozen=True)
class Pairs:
    """How often two files were right on the same `samples`. Raises `ValueError` for numbers that cannot be.

    `lost`: only the first one was right; `won`: only the second one.
    """

    lost: int
    won: int
    samples: int

    def __post_init__(self) -> None:
        if self.lost < 0 or self.won < 0 or self.lost + self.won > self.samples or self.samples < 1:
            raise ValueError(f"{self.lost} lost and {self.won} won of {self.samples} samples cannot be")

    @property
    def drop(self) -> float:
        """The drop that was seen, -1..1; below 0 where the second one is better."""
        return (self.lost - self.won) / self.samples

    def interval(self) -> tuple[float, float]:
        """(low, high) of the true drop."""
        return -_upper(self.won, self.lost, self.samples), _upper(self.lost, self.won, self.samples)

    def in_proportion(self, samples: int) -> Pairs:
        """As many as would be expected among `samples`, rounded up where they are lost and down where they are won."""
        share = samples / self.samples
        lost = min(samples, math.ceil(self.lost * share - 1e-9))
        return Pairs(lost, min(samples - lost, math.floor(self.won * share + 1e-9)), samples)


def of_answers(expected: NDArray[np.bool_], found: NDArray[np.bool_]) -> Pairs:
    """Whether each of two files was right, sample by sample."""
    return Pairs(int(np.sum(expected & ~found)), int(np.sum(~expected & found)), len(expected))


def samples_for_drop(pairs: Pairs, most: float) -> int | None:
    """How many samples would prove a drop of at most `most`, if all went on as it was; `None` where no number would."""
    lost, won = pairs.lost / pairs.samples, pairs.won / pairs.samples
    return _first(lambda samples: tango_upper(lost * samples, won * samples, samples) <= most)


def agreement_interval(agreeing: int, samples: int) -> tuple[float, float]:
    """(low, high) of the true share of samples that agree, by Clopper and Pearson."""
    from scipy.special import betaincinv  # scipy.stats would take over a second to import

    if not 0 <= agreeing <= samples or samples < 1:
        raise ValueError(f"{agreeing} of {samples} samples cannot agree")
    low = float(betaincinv(agreeing, samples - agreeing + 1, TAIL)) if agreeing else 0.0
    high = float(betaincinv(agreeing + 1, samples - agreeing, 1 - TAIL)) if agreeing < samples else 1.0
    return low, high


def samples_for_agreement(agreeing: int, samples: int, least: float) -> int | None:
    """How many samples would prove an agreement of at least `least`, if all went on as it was; `None` where no number would."""
    share = agreeing / samples
    return _first(lambda count: agreement_interval(min(count, math.floor(share * count + 1e-9)), count)[0] >= least)


def tango_upper(lost: float, won: float, samples: int) -> float:
    """The upper end of Tango's score interval for the drop; the numbers may be expected ones."""
    normal = NormalDist().inv_cdf(1 - TAIL)
    low, high = (lost - won) / samples, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(_score(np.float64(lost), np.float64(won), samples, middle)) > -normal:
            low = middle
        else:
            high = middle
    return high


@cache
def _upper(lost: int, won: int, samples: int) -> float:
    """The upper end of the interval of the drop."""
    if lost + won > EXACT:
        return tango_upper(lost, won, samples)
    table = _Table(lost, won, samples)
    seen = (lost - won) / samples
    step = (min(1.0, table.highest) - seen) / DROPS
    kept = next((k for k in reversed(range(DROPS)) if table.probability(seen + k * step) > TAIL), 0)
    low, high = seen + kept * step, seen + (kept + 1) * step
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if table.probability(middle) > TAIL else (low, middle)
    return high


class _Table:
    """Every pair of numbers (lost, won) that could have been seen, as far as it has any probability to speak of.

    `highest`: a drop that is surely too large: the upper end of the share of discordant samples.
    """

    def __init__(self, lost: int, won: int, samples: int) -> None:
        from scipy.special import betaincinv, gammaln

        self.samples, self.seen = samples, (lost, won)
        discordant = lost + won
        self.lowest = float(betaincinv(discordant, samples - discordant + 1, NUISANCE_ERROR / 2)) if discordant else 0.0
        full = discordant == samples
        self.highest = 1.0 if full else float(betaincinv(discordant + 1, samples - discordant, 1 - NUISANCE_ERROR / 2))
        most = _most_discordant(self.highest, samples)
        first, second = np.meshgrid(np.arange(most + 1), np.arange(most + 1), indexing="ij")
        kept = first + second <= min(most, samples)
        self.lost, self.won = first[kept].astype(np.float64), second[kept].astype(np.float64)
        rest = samples - self.lost - self.won
        self.ways = gammaln(samples + 1) - gammaln(self.lost + 1) - gammaln(self.won + 1) - gammaln(rest + 1)
        self.rest = rest

    def probability(self, drop: float) -> float:
        """At most so probable are numbers as good as those seen, or better, where the true drop is `drop`."""
        scores = _score(self.lost, self.won, self.samples, drop)
        own = _score(np.float64(self.seen[0]), np.float64(self.seen[1]), self.samples, drop)
        as_good = scores <= own + 1e-9
        lost, won, rest, ways = (values[as_good] for values in (self.lost, self.won, self.rest, self.ways))
        found = 0.0
        for share in np.linspace(max(self.lowest, abs(drop)), max(self.highest, abs(drop)), SHARES):
            p_lost, p_won = (share + drop) / 2, (share - drop) / 2
            logs = ways + _power(p_lost, lost) + _power(p_won, won) + _power(1 - share, rest)
            found = max(found, float(np.exp(logs).sum()))
        return min(1.0, found + NUISANCE_ERROR + NEGLIGIBLE)


def _power(base: float, exponent: Numbers) -> Numbers:
    """log(base ** exponent), where 0 ** 0 is 1."""
    if base <= 0:
        return np.where(exponent == 0, 0.0, -np.inf)
    return exponent * math.log(base)


def _most_discordant(share: float, samples: int) -> int:
    """A number of discordant samples that is passed with a probability of at most `NEGLIGIBLE`."""
    from scipy.special import bdtrc

    most = math.ceil(share * samples)
    while most < samples and float(bdtrc(most, samples, share)) > NEGLIGIBLE:
        most += max(1, most // 16)
    return min(most, samples)


def _score(lost: Number, won: Number, samples: int, drop: float) -> Numbers:
    """Tango's statistic: how far the drop that was seen lies above `drop`, in standard errors under `drop`."""
    # The most likely share of samples that are won, among those shares that give this drop, solves a quadratic.
    a, b, c = 2.0 * samples, -lost - won + (2 * samples - lost + won) * drop, -won * drop * (1 - drop)
    root = np.sqrt(np.maximum(b * b - 4 * a * c, 0.0))
    p_won = np.clip((root - b) / (2 * a), max(0.0, -drop), (1 - drop) / 2 if drop >= 0 else 1.0)
    deviation = np.sqrt(samples * np.maximum(2 * p_won + drop * (1 - drop), 0.0))
    above = lost - won - samples * drop
    certain = np.where(above == 0, 0.0, np.copysign(np.inf, above))  # where the drop leaves nothing to chance
    return np.where(deviation > 0, above / np.where(deviation > 0, deviation, 1.0), certain)


def _first(proves: Callable[[int], bool]) -> int | None:
    """The smallest number of samples that proves it, as far as doubling and halving finds it."""
    high = 2
    while not proves(high):
        high *= 2
        if high > MOST_SAMPLES:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if proves(middle) else (middle, high)
    return high
