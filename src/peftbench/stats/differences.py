"""Two methods on the same rows: is there a difference, how sure is it, how small a one could have been seen.

All tests are two-sided. Where nothing differs p is 1.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from peftbench.stats.arrays import Reals, finite, inside
from peftbench.stats.intervals import Cell

PERMUTATIONS = 9999
_SWAPPED = 2**22
"""Rows that are swapped before they are scored: what bounds memory where test sets are large."""


@dataclass(frozen=True, slots=True)
class Permutation:
    """What swapping the outputs of two methods gives."""

    difference: float
    """First minus second, of the mean over datasets of the mean over seeds."""
    p: float
    exact: bool
    """Whether all swaps were tried and not a sample of them."""


@dataclass(frozen=True, slots=True)
class Discordance:
    """Rows that one of two methods alone gets right, and the exact McNemar test of their numbers."""

    only_first: int
    only_second: int
    p: float


def permutation_test(
    pairs: Sequence[tuple[Cell, Cell]],
    *,
    replicates: int = PERMUTATIONS,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Permutation:
    """Could the difference of the scores be as large if it did not matter which method an output is of?

    `pairs` has the two cells of each dataset. Each replicate swaps the outputs of the two methods on rows that a
    coin chooses, for all seeds together, and scores both anew (approximate randomization: Noreen 1989; Yeh 2000,
    https://aclanthology.org/C00-2137). Seeds are set beside one another in their order, repeated where one method
    has fewer; the test is of these trained models on other rows, not of other seeds. With up to `replicates`
    swaps in all, all are tried; otherwise p is (1 + as large) / (1 + replicates), never 0 (Phipson and Smyth
    2010, https://doi.org/10.2202/1544-6115.1585). Raises `ValueError` without pairs and for different rows.
    """
    if not pairs:
        raise ValueError("no pairs were given; give the cells of two methods on at least one dataset")
    for first, second in pairs:
        if (first.rows, first.ids) != (second.rows, second.ids):
            raise ValueError("the two methods were evaluated on different rows; give the same rows")
    observed = float(np.mean([first.estimate() - second.estimate() for first, second in pairs]))
    counts = [first.rows for first, _ in pairs]
    exact = sum(counts) < 63 and 2 ** sum(counts) <= replicates + 1
    found = 0
    swappers = [_Swapper(*pair) for pair in pairs]
    source = np.random.default_rng(seed)
    slack = 1e-9  # the same difference, added up in another order, is as large
    for swaps in _swaps(sum(counts), replicates, exact, source):
        places = np.cumsum([0, *counts])
        differences = [
            each.differences(swaps[:, start:stop])
            for each, start, stop in zip(swappers, places, places[1:], strict=False)
        ]
        found += int((np.abs(np.mean(differences, axis=0)) >= abs(observed) - slack).sum())
        if advance is not None:
            advance(len(swaps))
    p = found / 2 ** sum(counts) if exact else (1 + found) / (1 + replicates)
    return Permutation(observed, p, exact)


def _swaps(rows: int, replicates: int, exact: bool, source: np.random.Generator) -> Iterator[NDArray[np.uint8]]:
    """Which rows are swapped, 0 or 1, in parts of shape (draws, rows)."""
    if exact:
        numbers = np.arange(2**rows, dtype=np.int64)[:, None]
        yield (numbers >> np.arange(rows) & 1).astype(np.uint8)
        return
    width = -(-rows // 8)
    size = max(1, _SWAPPED // rows)
    for start in range(0, replicates, size):
        coins = source.integers(256, size=(min(size, replicates - start), width), dtype=np.uint8)
        yield np.unpackbits(coins, axis=1, count=rows)


class _Swapper:
    """Two methods on one dataset, with as many seeds each."""

    def __init__(self, first: Cell, second: Cell) -> None:
        self.cells = (first, second)
        count = int(np.lcm(len(first.seeds), len(second.seeds)))
        self.seeds = [[cell.seeds[place % len(cell.seeds)] for place in range(count)] for cell in self.cells]
        terms = [cell.terms() for cell in self.cells]
        self.terms: list[Reals] | None = None
        if terms[0] is not None and terms[1] is not None:
            kind = np.result_type(*(each for each in terms if each is not None))
            wide = [
                np.concatenate([each[place % len(each)] for place in range(count)], axis=1).astype(kind)
                for each in terms
                if each is not None
            ]
            self.terms = [wide[1] - wide[0], wide[0].sum(axis=0, dtype=float), wide[1].sum(axis=0, dtype=float)]

    def differences(self, swaps: NDArray[np.uint8]) -> Reals:
        """First minus second after each of the swaps, (draws,)."""
        if self.terms is None:
            return np.array([self._one(each.astype(bool)) for each in swaps])
        change = (swaps.astype(self.terms[0].dtype) @ self.terms[0]).astype(float)
        return self._score(0, self.terms[1] + change) - self._score(1, self.terms[2] - change)

    def _score(self, which: int, totals: Reals) -> Reals:
        sums, count = self.cells[which].sums, len(self.seeds[0])
        assert sums is not None
        scores = sums.score(totals.reshape(len(totals) * count, -1)).reshape(len(totals), count)
        means: Reals = scores.mean(axis=1)
        return means

    def _one(self, swapped: NDArray[Any]) -> float:
        scores = []
        for ours, theirs in zip(*self.seeds, strict=True):
            places = {name: swapped.reshape(-1, *[1] * (column.ndim - 1)) for name, column in ours.items()}
            left = {name: np.where(places[name], theirs[name], ours[name]) for name in ours}
            right = {name: np.where(places[name], ours[name], theirs[name]) for name in ours}
            scores.append(self.cells[0].score(left) - self.cells[1].score(right))
        return float(np.mean(scores))


def vote(right: ArrayLike) -> NDArray[np.bool_]:
    """Whether more than half of the seeds get a row right, (rows,), from (seeds, rows)."""
    most: NDArray[np.bool_] = finite(right, "rights and wrongs", 2).mean(axis=0) > 0.5
    return most


def mcnemar(first: ArrayLike, second: ArrayLike) -> Discordance:
    """McNemar's test (1947, https://doi.org/10.1007/BF02295996), exact, of right and wrong, (rows,) each.

    It is about the share of right rows and about these two sets of outputs, whatever the score. Raises
    `ValueError` where the two differ in length.
    """
    ours, theirs = (finite(each, "rights and wrongs", 1).astype(bool) for each in (first, second))
    if len(ours) != len(theirs):
        raise ValueError(f"the two methods have {len(ours)} and {len(theirs)} rows; give the same rows")
    only_first, only_second = int((ours & ~theirs).sum()), int((theirs & ~ours).sum())
    tail = special.bdtr(min(only_first, only_second), only_first + only_second, 0.5)
    return Discordance(only_first, only_second, min(1.0, 2 * float(tail)))


def holm(p: ArrayLike) -> Reals:
    """p-values of several comparisons, (comparisons,), so raised that any below alpha holds among all of them.

    The step-down of Holm (1979, https://www.jstor.org/stable/4615733). Raises `ValueError` outside 0 to 1.
    """
    given = finite(p, "p-values", 1)
    if given.min() < 0 or given.max() > 1:
        raise ValueError("p-values are outside 0 to 1; give probabilities")
    order = np.argsort(given, kind="stable")
    raised = np.empty_like(given)
    raised[order] = np.minimum(1, np.maximum.accumulate(given[order] * np.arange(len(given), 0, -1)))
    return raised


def share_ahead(first: ArrayLike, second: ArrayLike) -> float:
    """Probability that the first is ahead: the share of paired replicates, (replicates,), ties half each."""
    ours, theirs = finite(first, "replicates", 1), finite(second, "replicates", 1)
    if len(ours) != len(theirs):
        raise ValueError(f"there are {len(ours)} and {len(theirs)} replicates; give paired ones")
    close = np.isclose(ours, theirs, rtol=0, atol=1e-12)
    return float(np.mean(np.where(close, 0.5, ours > theirs)))


def smallest_difference(standard_error: float, *, alpha: float = 0.05, power: float = 0.8) -> float:
    """The smallest true difference that a two-sided test at `alpha` finds with probability `power`.

    For a difference with that standard error and a normal distribution: 2.80 standard errors for 0.05 and 0.8
    (Bloom 1995, https://doi.org/10.1177/0193841X9501900504). Raises `ValueError` for a standard error below 0,
    a share outside 0 to 1, and a power that is not above `alpha`, which any test has.
    """
    if not 0 <= standard_error < float("inf"):
        raise ValueError(f"the standard error is {standard_error!r}, expected a finite number of at least 0")
    if inside(power, "power") <= inside(alpha, "alpha"):
        raise ValueError(f"power is {power!r}, expected more than alpha, {alpha!r}")
    from scipy.optimize import brentq

    needed = -float(special.ndtri(alpha / 2))

    def lacking(effect: float) -> float:
        return float(special.ndtr(effect - needed) + special.ndtr(-needed - effect)) - power

    ceiling = needed + float(special.ndtri(power)) + 10
    return standard_error * float(brentq(lacking, 0, ceiling, xtol=1e-13, rtol=1e-13))
