"""All runs of a method at once: interquartile mean, performance profile, probability of improvement.

After Agarwal et al. (2021, https://arxiv.org/abs/2108.13264). Scores are tables (seeds, datasets) on one scale.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from peftbench.stats.arrays import Reals, finite, without_noise
from peftbench.stats.intervals import CONFIDENCE, REPLICATES, Interval, interval_of


def interquartile_mean(scores: ArrayLike) -> float:
    """Mean of the middle half of all runs, from (seeds, datasets); a quarter of them, rounded down, off each end.

    Runs on hard and on easy datasets are cut off the ends, so that it does not replace the mean over datasets.
    """
    ordered = np.sort(finite(scores, "scores", 2), axis=None)
    off = len(ordered) // 4
    return float(ordered[off : len(ordered) - off].mean())


def performance_profile(scores: ArrayLike, thresholds: ArrayLike) -> Reals:
    """Share of runs that score above each threshold, (thresholds,), from (seeds, datasets)."""
    runs = finite(scores, "scores", 2).ravel()
    shares: Reals = (runs[:, None] > finite(thresholds, "thresholds", 1)).mean(axis=0)
    return shares


def probability_of_improvement(first: ArrayLike, second: ArrayLike) -> float:
    """Probability that a run of the first scores above a run of the second on the same dataset, ties half.

    Both are (seeds, datasets), with as many datasets; the Mann-Whitney statistic over pairs of runs, averaged
    over datasets. It is about single runs: of two methods that differ by little but always, it is 1. Raises
    `ValueError` where the numbers of datasets differ.
    """
    ours, theirs = finite(first, "scores", 2), finite(second, "scores", 2)
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"scores are of {ours.shape[1]} and {theirs.shape[1]} datasets; give the same datasets")
    pairs = np.sign(without_noise(ours[:, None, :] - theirs[None, :, :]))
    return float((pairs + 1).mean() / 2)


def stratified_interval(
    statistic: Callable[[Reals], float],
    scores: ArrayLike,
    *,
    replicates: int = REPLICATES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> Interval:
    """A statistic of (seeds, datasets) with its percentile interval: seeds are drawn anew for each dataset.

    Test rows stay as they are, so that this is the part of the seeds alone. Without ends for one seed. Of n seeds
    a bootstrap sees (n - 1) / n of their variance, of three two thirds.
    """
    given = finite(scores, "scores", 2)
    estimate = float(statistic(given))
    if len(given) < 2:
        return interval_of(estimate, None, confidence=confidence)
    source = np.random.default_rng(seed)
    places = source.integers(len(given), size=(replicates, *given.shape))
    draws = np.array([statistic(np.take_along_axis(given, each, axis=0)) for each in places])
    return interval_of(estimate, draws, confidence=confidence)
