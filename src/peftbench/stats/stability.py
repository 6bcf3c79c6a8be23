"""How much a score depends on the seed: the paper's Figure 4 and Table 11, with how little few seeds say.

The paper takes the standard deviation over five seeds for each dataset and method, and its mean over datasets.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from peftbench.stats.arrays import finite, inside
from peftbench.stats.intervals import CONFIDENCE


@dataclass(frozen=True, slots=True)
class Spread:
    """Scores of one method on one dataset over seeds."""

    seeds: int
    mean: float
    deviation: float
    """Standard deviation with seeds - 1 in the denominator."""
    low: float
    """Ends of the interval of the standard deviation, if scores are normal over seeds."""
    high: float
    lowest: float
    highest: float
    confidence: float = CONFIDENCE


def spread(scores: ArrayLike, *, confidence: float = CONFIDENCE) -> Spread:
    """Standard deviation over seeds, (seeds,), with its interval by chi-square.

    The interval is wide: of five seeds from 0.6 to 2.9 times the estimate, of three from 0.5 to 6.3 times. Raises
    `ValueError` for one seed, which has no deviation.
    """
    given = finite(scores, "scores", 1)
    if len(given) < 2:
        raise ValueError("there is one seed; a standard deviation over seeds needs at least two")
    tail, free = (1 - inside(confidence, "confidence")) / 2, len(given) - 1
    deviation = float(given.std(ddof=1))
    low, high = (deviation * np.sqrt(free / special.chdtri(free, above)) for above in (tail, 1 - tail))
    return Spread(
        seeds=len(given),
        mean=float(given.mean()),
        deviation=deviation,
        low=float(low),
        high=float(high),
        lowest=float(given.min()),
        highest=float(given.max()),
        confidence=confidence,
    )


def equal_spread(groups: Sequence[ArrayLike]) -> float:
    """p that methods depend on the seed alike: Brown and Forsythe (1974), from the scores of each, (seeds,).

    An analysis of variance of the distances to the median, which holds for scores that are not normal. Where no
    method varies p is 1. Raises `ValueError` below two methods or two seeds.
    """
    given = [finite(each, "scores", 1) for each in groups]
    if len(given) < 2 or min(map(len, given)) < 2:
        raise ValueError("the spread of methods is compared between at least two, with two seeds each")
    away = [np.abs(each - np.median(each)) for each in given]
    every = np.concatenate(away)
    within = sum(float(((each - each.mean()) ** 2).sum()) for each in away)
    between = sum(len(each) * float((each.mean() - every.mean()) ** 2) for each in away)
    if between <= 1e-24 * max(1.0, float((every**2).sum())):
        return 1.0
    if within == 0:
        return 0.0
    free = len(every) - len(given)
    f = between / (len(given) - 1) / (within / free)
    return float(special.fdtrc(len(given) - 1, free, f))
