"""Several methods over several datasets: Friedman, Nemenyi, Wilcoxon with Holm, ranks with intervals.

After Demšar (2006, https://www.jmlr.org/papers/v7/demsar06a.html). Scores are tables (datasets, methods), higher
is better, and rank 1 is best. The datasets are the sample: what is said holds for datasets like these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from peftbench.stats.arrays import Reals, ascending_ranks, finite, inside, table_of, without_noise
from peftbench.stats.differences import holm
from peftbench.stats.intervals import CONFIDENCE, Interval, interval_of

Procedure = Literal["nemenyi", "wilcoxon-holm"]
FEWEST_DATASETS = 6
"""Of fewer, signed ranks cannot come below 0.05 whatever the scores: 2 / 2**5 is 0.0625."""


@dataclass(frozen=True, slots=True)
class Friedman:
    """Whether any of several methods differs from the others over datasets."""

    mean_ranks: tuple[float, ...]
    chi_square: float
    p: float
    f: float
    """The statistic of Iman and Davenport (1980), which is less cautious; infinite where all ranks agree."""
    f_p: float


@dataclass(frozen=True, slots=True)
class RankDiagram:
    """Critical-difference diagram as data: methods by mean rank, and groups that are not told apart."""

    methods: tuple[str, ...]
    """The best first."""
    mean_ranks: tuple[float, ...]
    groups: tuple[tuple[int, int], ...]
    """First and last place of each longest run of methods of which no two are told apart; none for a single."""
    p: tuple[tuple[float, ...], ...]
    """p of each pair, corrected for all pairs, in the order of `methods`; 1 on the diagonal."""
    friedman_p: float
    procedure: Procedure
    alpha: float
    datasets: int
    critical: float | None
    """Ranks by which two must differ; None for Wilcoxon with Holm, which has no such number."""


def rank_rows(scores: ArrayLike) -> Reals:
    """Rank of each method on each dataset, the shape of `scores`; equal scores share the mean of their ranks."""
    return ascending_ranks(-table_of(scores, least=1))


def friedman(scores: ArrayLike) -> Friedman:
    """The test of Friedman (1937) with ties, by chi-square and by F; its ranks are within datasets.

    Chi-square is good from about ten datasets and five methods on. Raises `ValueError` below two methods or two
    datasets.
    """
    ranks = rank_rows(table_of(scores, least=2))
    datasets, methods = ranks.shape
    mean = ranks.mean(axis=0)
    between = datasets * float(((mean - (methods + 1) / 2) ** 2).sum())
    # Of all ranks around their mean; ties make it smaller, and it is 0 where all methods are equal everywhere.
    spread = float(((ranks - (methods + 1) / 2) ** 2).sum()) / (datasets * (methods - 1))
    if spread == 0:
        return Friedman(tuple(mean.tolist()), 0.0, 1.0, 0.0, 1.0)
    chi_square = between / spread
    p = float(special.chdtrc(methods - 1, chi_square))
    left = datasets * (methods - 1) - chi_square
    f = (datasets - 1) * chi_square / left if left > 1e-9 else float("inf")
    f_p = float(special.fdtrc(methods - 1, (methods - 1) * (datasets - 1), f))
    return Friedman(tuple(mean.tolist()), chi_square, p, f, f_p)


def critical_difference(methods: int, datasets: int, *, alpha: float = 0.05) -> float:
    """Mean ranks that differ by as much are told apart by Nemenyi's test (Demšar 2006, section 3.2.2)."""
    if methods < 2 or datasets < 2:
        raise ValueError(f"{methods} methods and {datasets} datasets were given; ranks need two of both at least")
    from scipy.stats import studentized_range  # half a second, for those alone who need it

    q = float(studentized_range.isf(inside(alpha, "alpha"), methods, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * datasets)))


def nemenyi(scores: ArrayLike) -> Reals:
    """p of each pair of methods, (methods, methods), by the studentized range of their mean ranks.

    Corrected for all pairs by its construction. Raises `ValueError` below two methods or two datasets.
    """
    from scipy.stats import studentized_range

    ranks = rank_rows(table_of(scores, least=2))
    datasets, methods = ranks.shape
    mean = ranks.mean(axis=0)
    apart = np.abs(mean[:, None] - mean) / np.sqrt(methods * (methods + 1) / (12 * datasets))
    p = np.ones((methods, methods))
    places = np.triu_indices(methods, 1)
    p[places] = studentized_range.sf(apart[places], methods, np.inf)
    found: Reals = np.minimum(p, p.T)
    return found


def signed_rank(differences: ArrayLike) -> float:
    """Two-sided p of the signed-rank test of Wilcoxon (1945) on paired differences, (datasets,).

    Zeros are left out, equal sizes share the mean of their ranks, and p is exact, with ties too: the chance over
    all ways to give signs. Where all are zero it is 1.
    """
    given = without_noise(finite(differences, "differences", 1))
    kept = given != 0
    doubled = np.rint(2 * ascending_ranks(np.abs(given[kept]))).astype(int)  # whole even where two share one
    ways = np.ones(1)
    for rank in doubled:
        ways = (np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))) / 2
    above = int(doubled[given[kept] > 0].sum())
    smaller = min(above, int(doubled.sum()) - above)
    return min(1.0, 2 * float(ways[: smaller + 1].sum()))


def wilcoxon_holm(scores: ArrayLike) -> Reals:
    """p of each pair of methods, (methods, methods): signed ranks over datasets, Holm over all pairs.

    Recommended over Nemenyi's test, whose answer for two methods depends on the others (Benavoli et al. 2016,
    https://www.jmlr.org/papers/v17/benavoli16a.html). Below six datasets no two methods can be told apart at
    0.05. Raises `ValueError` below two methods or two datasets.
    """
    given = table_of(scores, least=2)
    pairs = list(combinations(range(given.shape[1]), 2))
    raised = holm([signed_rank(given[:, first] - given[:, second]) for first, second in pairs])
    p = np.ones((given.shape[1], given.shape[1]))
    for (first, second), value in zip(pairs, raised, strict=True):
        p[first, second] = p[second, first] = value
    return p


def rank_intervals(draws: ArrayLike, *, confidence: float = CONFIDENCE) -> list[Interval]:
    """Mean rank over datasets of each method with its percentile interval over replicates.

    `draws` is (replicates, datasets, methods), scores of paired draws of rows and seeds, such as those of
    `paired_draws`; the datasets stay as they are. The estimate is the mean rank over replicates.
    """
    given = finite(draws, "replicates", 3)
    ranks = ascending_ranks(-given).mean(axis=1)
    return [interval_of(float(each.mean()), each, confidence=confidence) for each in ranks.T]


def rank_diagram(
    methods: Sequence[str],
    scores: ArrayLike,
    *,
    procedure: Procedure = "wilcoxon-holm",
    alpha: float = 0.05,
) -> RankDiagram:
    """Methods by mean rank, and which neighbours are not told apart, from scores (datasets, methods).

    Pairs are tested whatever Friedman's test says; where its p is not below `alpha`, no pair should be believed
    to differ. Raises `ValueError` as `friedman`, for names that are not as many as methods or not all different.
    """
    given = table_of(scores, least=2)
    if len(set(methods)) != given.shape[1] or len(methods) != given.shape[1]:
        raise ValueError(f"there are {given.shape[1]} methods and the names {list(methods)}; give each its own")
    found = friedman(given)
    order = np.argsort(found.mean_ranks, kind="stable")
    p = (nemenyi(given) if procedure == "nemenyi" else wilcoxon_holm(given))[np.ix_(order, order)]
    return RankDiagram(
        methods=tuple(methods[place] for place in order),
        mean_ranks=tuple(found.mean_ranks[place] for place in order),
        groups=_groups(p >= inside(alpha, "alpha")),
        p=tuple(map(tuple, p.tolist())),
        friedman_p=found.p,
        procedure=procedure,
        alpha=alpha,
        datasets=len(given),
        critical=critical_difference(len(methods), len(given), alpha=alpha) if procedure == "nemenyi" else None,
    )


def _groups(alike: NDArray[np.bool_]) -> tuple[tuple[int, int], ...]:
    """Longest runs of places all of whose pairs are alike."""
    found: list[tuple[int, int]] = []
    for first in range(len(alike)):
        last = first
        while last + 1 < len(alike) and alike[first : last + 1, last + 1].all():
            last += 1
        if last > first and (not found or last > found[-1][1]):
            found.append((first, last))
    return tuple(found)
