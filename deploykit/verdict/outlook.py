"""How likely a proof on new samples will hold, by what was seen on others: so is chosen which candidate the proof is asked of.

What is seen next, given what was seen, is drawn from the posterior predictive distribution with Jeffreys' prior: half a sample more
of every kind (Box and Tiao, *Bayesian Inference in Statistical Analysis*, 1973, section 1.3). This is a guess to choose by and no
part of any guarantee: the proof looks at its own samples alone.
"""

from __future__ import annotations

import numpy as np

from deploykit.verdict import guarantee
from deploykit.verdict.guarantee import Pairs

DRAWS = 1000
PRIOR = 0.5  # of a sample, for each kind
LIKELY = 0.75  # a selection of a thousand samples rarely tells more, even where nothing was lost


def of_drop(seen: Pairs, planned: int, most: float) -> float:
    """The chance, 0..1, that `planned` samples will prove a drop of at most `most`, by Tango's interval."""
    random = np.random.default_rng(0)
    counts = np.array([seen.lost, seen.won, seen.samples - seen.lost - seen.won])
    drawn = random.multinomial(planned, random.dirichlet(counts + PRIOR, DRAWS))
    kinds, times = np.unique(drawn[:, :2], axis=0, return_counts=True)
    proves = [guarantee.tango_upper(float(lost), float(won), planned) <= most for lost, won in kinds]
    return float(times[proves].sum() / DRAWS)


def of_agreement(agreeing: int, samples: int, planned: int, least: float) -> float:
    """The chance, 0..1, that `planned` samples will prove an agreement of at least `least`."""
    random = np.random.default_rng(0)
    drawn = random.binomial(planned, random.beta(agreeing + PRIOR, samples - agreeing + PRIOR, DRAWS))
    kinds, times = np.unique(drawn, return_counts=True)
    proves = [guarantee.agreement_interval(int(count), planned)[0] >= least for count in kinds]
    return float(times[proves].sum() / DRAWS)
