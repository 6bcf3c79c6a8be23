"""Intervals by resampling: pure numpy, no records, no metrics of its own.

A score of several seeds on the same test rows has two sources of chance, the seed and the rows. Both are
resampled, and a score that is no mean of rows (F1, a correlation, CodeBLEU) is computed anew from their counts.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]
"""What must be known of each row to score any selection of rows: arrays of shape (rows, ...)."""

REPLICATES, CONFIDENCE = 1000, 0.95


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
class Cell:
    """One method on one dataset: the counts of the same test rows for each seed, and how they become a score."""

    seeds: tuple[Columns, ...]
    score: Callable[[Columns], float]
    ids: tuple[str, ...] = ()
    """Names of the rows; what is compared row by row must have the same."""

    @property
    def rows(self) -> int:
        """Number of test rows."""
        return len(next(iter(self.seeds[0].values())))

    def estimate(self) -> float:
        """Mean over seeds of the score of all rows."""
        return float(np.mean([self.score(columns) for columns in self.seeds]))


def mean_interval(
    cells: Sequence[Cell],
    *,
    replicates: int = REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """Mean over datasets of the mean over seeds, with the percentile interval of a two-level bootstrap.

    Each replicate draws, for each cell, seeds and test rows with replacement (Efron and Tibshirani 1993, chapters
    8 and 13), the same rows for all seeds. A single seed is kept, so that the interval then says nothing of
    seeds. Raises `ValueError` without cells.
    """
    if not cells:
        raise ValueError("no cells were given; give at least one")
    estimate = float(np.mean([cell.estimate() for cell in cells]))
    if all(cell.rows < 2 for cell in cells):
        return Interval(estimate, None, None, confidence)
    source = np.random.default_rng(seed)
    means = [np.mean([_resampled(cell, source) for cell in cells]) for _ in range(replicates)]
    return interval_of(estimate, np.array(means), confidence=confidence)


def interval_of(estimate: float, draws: NDArray[Any] | None, *, confidence: float = CONFIDENCE) -> Interval:
    """The percentile interval of an estimate's replicates; without ends where there are none."""
    if draws is None:
        return Interval(estimate, None, None, confidence)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(draws, [tail, 100 - tail])
    return Interval(estimate, float(low), float(high), confidence)


def paired_means(
    methods: Sequence[Mapping[str, Cell]],
    *,
    replicates: int = REPLICATES,
    seed: int = 0,
    advance: Callable[[int], None] | None = None,
) -> NDArray[np.float64] | None:
    """Replicates of the mean over datasets for methods that are compared: an array (replicates, methods).

    `methods` has the cells of each method by dataset. In one replicate all methods see the same rows, which they
    share, and each its own draw of seeds, which it does not. None where no dataset has two rows. `advance` is told
    of each replicate; large test sets take minutes. Raises `ValueError` where the methods differ in datasets or in
    the rows of one.
    """
    datasets = list(methods[0]) if methods else []
    if not datasets or any(set(cells) != set(datasets) for cells in methods):
        raise ValueError("methods are compared on the same datasets, at least one; give each a cell for each")
    for dataset in datasets:
        if len({(cells[dataset].rows, cells[dataset].ids) for cells in methods}) > 1:
            raise ValueError(f"methods were evaluated on different rows of {dataset}; give the same rows")
    if all(methods[0][dataset].rows < 2 for dataset in datasets):
        return None
    source = np.random.default_rng(seed)
    found = np.zeros((replicates, len(methods)))
    for replicate in range(replicates):
        for dataset in datasets:
            count = methods[0][dataset].rows
            rows = source.integers(count, size=count)
            found[replicate] += [_resampled(cells[dataset], source, rows) for cells in methods]
        if advance is not None:
            advance(1)
    return found / len(datasets)


def _resampled(cell: Cell, source: np.random.Generator, rows: NDArray[Any] | None = None) -> float:
    rows = source.integers(cell.rows, size=cell.rows) if rows is None else rows
    seeds = source.integers(len(cell.seeds), size=len(cell.seeds))
    drawn, times = np.unique(seeds, return_counts=True)
    scores = [cell.score({name: column[rows] for name, column in cell.seeds[number].items()}) for number in drawn]
    return float(np.average(scores, weights=times))
