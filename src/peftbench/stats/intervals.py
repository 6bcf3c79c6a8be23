"""Intervals by resampling both of what is left to chance: the seed, and the test rows.

A score that is no mean of rows (F1, a correlation, CodeBLEU) is computed anew from the counts of the rows drawn.
Where it is a function of sums, a draw is a vector of how often each row was drawn, and many draws are one product
of matrices. Each dataset has a generator of its own and so has each method's draw of seeds on it: a replicate is
the same whatever else is compared, so that any part of a comparison has the intervals that it would have alone.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.stats.arrays import Reals, finite, inside, single_where_exact

Columns = Mapping[str, NDArray[Any]]
"""What must be known of each row to score any selection of rows: arrays of shape (rows, ...)."""

REPLICATES, CONFIDENCE = 1000, 0.95
_DRAWN = 2**21
"""Rows that are drawn before they are scored: what bounds memory where test sets are large."""


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate with its interval at some confidence; no ends where there is nothing to resample."""

    estimate: float
    low: float | None
    high: float | None
    confidence: float = CONFIDENCE

    def apart_from(self, other: "Interval") -> bool | None:
        """Whether the two intervals share no value; None where one has no ends."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return None
        return self.low > other.high or other.low > self.high


@dataclass(frozen=True, slots=True)
class Sums:
    """A score that is a function of sums over rows.

    `terms` gives what each row adds, (rows, terms), or None where sums would lose what the score needs; `score`
    turns sums, (draws, terms), into scores, (draws,).
    """

    terms: Callable[[Columns], NDArray[Any] | None]
    score: Callable[[Reals], Reals]


@dataclass(frozen=True, slots=True)
class Cell:
    """One method on one dataset: the counts of the same test rows for each seed, and how they become a score."""

    seeds: tuple[Columns, ...]
    score: Callable[[Columns], float]
    ids: tuple[str, ...] = ()
    """Names of the rows; what is compared row by row must have the same."""
    sums: Sums | None = None
    """The same score by sums, which is faster; without it each draw is scored by `score`."""
    method: str = ""
    """Whose seeds these are: the name that their draws go by."""

    @property
    def rows(self) -> int:
        """Number of test rows."""
        return len(next(iter(self.seeds[0].values())))

    def scores(self) -> Reals:
        """Score of all rows for each seed, (seeds,); `ValueError` for one that is no finite number."""
        return finite([self.score(columns) for columns in self.seeds], "scores of seeds", 1)

    def estimate(self) -> float:
        """Mean over seeds of the score of all rows."""
        return float(np.mean(self.scores()))

    def terms(self) -> NDArray[Any] | None:
        """What each row adds for each seed, (seeds, rows, terms); None where the score is not by sums."""
        if self.sums is None:
            return None
        found = [self.sums.terms(columns) for columns in self.seeds]
        kept = [terms for terms in found if terms is not None]
        return single_where_exact(np.stack(kept)) if len(kept) == len(found) else None


def mean_interval(
    cells: Mapping[str, Cell],
    *,
    replicates: int = REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Mean over datasets of the mean over seeds, with the percentile interval of a two-level bootstrap.

    `cells` has the cell of each dataset. Each replicate draws, for each cell, seeds and test rows with replacement
    (Efron and Tibshirani 1993, chapters 8 and 13), the same rows for all seeds. A single seed is kept, so that the
    interval then says nothing of seeds; of n seeds a bootstrap sees (n - 1) / n of their variance. Raises
    `ValueError` without cells.
    """
    if not cells:
        raise ValueError("no cells were given; give at least one")
    estimate = float(np.mean([cell.estimate() for cell in cells.values()]))
    draws = paired_means([cells], replicates=replicates, seed=seed)
    return interval_of(estimate, None if draws is None else draws[:, 0], confidence=confidence)


def interval_of(estimate: float, draws: NDArray[Any] | None, *, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of an estimate's replicates, (replicates,); without ends where there are none."""
    tail = 100 * (1 - inside(confidence, "confidence")) / 2
    if draws is None:
        return Interval(estimate, None, None, confidence)
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(estimate, float(low), float(high), confidence)


def paired_means(
    methods: Sequence[Mapping[str, Cell]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> Reals | None:
    """Replicates of the mean over datasets for methods that are compared, (replicates, methods).

    As `paired_draws`, whose datasets are averaged.
    """
    draws = paired_draws(methods, replicates=replicates, seed=seed, advance=advance)
    return None if draws is None else np.mean(list(draws.values()), axis=0)


def paired_draws(
    methods: Sequence[Mapping[str, Cell]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> dict[str, Reals] | None:
    """Replicates of the score of methods that are compared, for each dataset an array (replicates, methods).

    `methods` has the cells of each method by dataset. In one replicate all methods see the same rows, which they
    share, and each its own draw of seeds, which it does not. Draws of a dataset depend on its name, and those of
    seeds on the method's besides, on nothing else that is compared. None where no dataset has two rows. `advance`
    is told of replicates as they are made. Raises `ValueError` where the methods differ in datasets or in the rows
    of one, and for a score that is no finite number.
    """
    datasets = list(methods[0]) if methods else []
    if not datasets or any(set(cells) != set(datasets) for cells in methods):
        raise ValueError("methods are compared on the same datasets, at least one; give each a cell for each")
    for dataset in datasets:
        if len({(cells[dataset].rows, cells[dataset].ids) for cells in methods}) > 1:
            raise ValueError(f"methods were evaluated on different rows of {dataset}; give the same rows")
    if all(methods[0][dataset].rows < 2 for dataset in datasets):
        return None
    urns = {dataset: _Urn(dataset, [cells[dataset] for cells in methods], seed) for dataset in datasets}
    found = {dataset: np.empty((replicates, len(methods))) for dataset in datasets}
    for part in _parts(replicates, max(methods[0][dataset].rows for dataset in datasets)):
        for dataset in datasets:
            found[dataset][part.start : part.stop] = urns[dataset].draw(len(part))
        if advance is not None:
            advance(len(part))
    return found


def _parts(replicates: int, rows: int) -> Iterator[range]:
    size = max(1, _DRAWN // rows)
    for start in range(0, replicates, size):
        yield range(start, min(start + size, replicates))


class _Scorer:
    """One cell, ready to score many draws."""

    def __init__(self, cell: Cell) -> None:
        cell.scores()  # says so where a score does not exist
        self.cell = cell
        terms = cell.terms()
        # Seeds beside one another, so that all are one product: (rows, seeds * terms).
        self.terms = None if terms is None else np.concatenate(list(terms), axis=1)

    def scores(self, rows: NDArray[Any], weights: NDArray[Any] | None, seeds: NDArray[Any]) -> Reals:
        """Mean over the drawn seeds, (draws, seeds), of the score of the drawn rows, (draws, rows)."""
        count = len(self.cell.seeds)
        times = _times(seeds, count)
        if self.terms is None or weights is None or self.cell.sums is None:
            return np.array([self._one(*each) for each in zip(rows, times, strict=True)])
        totals = (weights.astype(self.terms.dtype, copy=False) @ self.terms).astype(float)
        scores = self.cell.sums.score(totals.reshape(len(rows) * count, -1)).reshape(len(rows), count)
        means: Reals = (scores * times).sum(axis=1) / count
        return means

    def _one(self, rows: NDArray[Any], times: NDArray[Any]) -> float:
        drawn = np.flatnonzero(times)
        chosen = ({name: each[rows] for name, each in self.cell.seeds[seed].items()} for seed in drawn)
        return float(np.average([self.cell.score(columns) for columns in chosen], weights=times[drawn]))


class _Urn:
    """Where the rows of one dataset are drawn from, which its methods share, and the seeds of each method."""

    def __init__(self, dataset: str, cells: Sequence[Cell], seed: int) -> None:
        self.scorers = [_Scorer(cell) for cell in cells]
        self.count = cells[0].rows
        self.rows = source_of(seed, dataset)
        # Two of one name are still two, and each has seeds of its own.
        turns: Counter[str] = Counter()
        self.seeds = []
        for cell in cells:
            self.seeds.append(source_of(seed, dataset, cell.method, turns[cell.method]))
            turns[cell.method] += 1

    def draw(self, draws: int) -> Reals:
        """Scores of the next draws, (draws, methods)."""
        rows = self.rows.integers(self.count, size=(draws, self.count))
        weights = None
        if any(each.terms is not None for each in self.scorers):
            weights = _times(rows, self.count).astype(np.float32)  # exact: no row is drawn 2**24 times
        found = []
        for scorer, source in zip(self.scorers, self.seeds, strict=True):
            count = len(scorer.cell.seeds)
            found.append(scorer.scores(rows, weights, source.integers(count, size=(draws, count))))
        return np.stack(found, axis=1)


def _times(drawn: NDArray[Any], count: int) -> NDArray[Any]:
    """How often each of so many was drawn, (draws, count), in draws of any number of them."""
    places = drawn + count * np.arange(len(drawn))[:, None]
    return np.bincount(places.ravel(), minlength=count * len(drawn)).reshape(len(drawn), count)


def source_of(seed: int, *names: str | int) -> np.random.Generator:
    """The generator of these names: of a dataset, its rows; of a dataset, a method and its turn, the seeds."""
    digest = hashlib.sha256(json.dumps(names).encode()).digest()
    return np.random.default_rng([seed, int.from_bytes(digest)])
