"""Intervals by resampling, against scipy's bootstrap and against what must hold whatever is resampled."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from peftbench.stats import Cell, Interval, interval_of, mean_interval, paired_means


def mean_cell(*seeds):
    return Cell(tuple({"x": np.array(seed, dtype=float)} for seed in seeds), lambda columns: columns["x"].mean())


def test_one_seed_and_a_mean_is_the_percentile_bootstrap_of_scipy():
    values = np.random.default_rng(3).gamma(2.0, size=80)
    ours = mean_interval([mean_cell(values)], replicates=8000)
    theirs = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=8000, random_state=1)
    width = ours.high - ours.low
    assert ours.estimate == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.06 * width)


def test_seeds_are_resampled_as_well_as_rows():
    # No row differs from another, so that all that is left to chance is the seed.
    apart = mean_interval([mean_cell([0.0] * 50, [1.0] * 50, [2.0] * 50)], replicates=2000)
    assert (apart.low, apart.high) == (pytest.approx(0, abs=0.01), pytest.approx(2, abs=0.01))
    alike = mean_interval([mean_cell([1.0] * 50, [1.0] * 50)], replicates=200)
    assert (alike.low, alike.high) == (1.0, 1.0)


def test_all_seeds_see_the_same_rows():
    # The second seed is right where the first is wrong: drawn once each, on the same rows, their mean is one half
    # whatever the rows. Half of the draws are such; on rows of their own they would rarely meet it.
    right = np.arange(41) % 2
    draws = paired_means([{"a": mean_cell(right, 1 - right)}], replicates=400)
    assert 0.4 < np.mean(np.isclose(draws, 0.5)) < 0.6


def test_a_score_that_is_no_mean_of_rows_is_computed_anew():
    gold = np.random.default_rng(0).normal(size=60)
    noisy = gold + np.random.default_rng(1).normal(size=60)
    cell = Cell(({"x": gold, "y": noisy},), lambda columns: float(np.corrcoef(columns["x"], columns["y"])[0, 1]))
    ours = mean_interval([cell], replicates=4000)
    theirs = scipy_stats.bootstrap(
        (gold, noisy),
        lambda x, y: np.corrcoef(x, y)[0, 1],
        paired=True,
        vectorized=False,
        method="percentile",
        n_resamples=4000,
        random_state=1,
    ).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.03)
    assert ours.high == pytest.approx(theirs.high, abs=0.03)


def test_the_mean_over_datasets_is_narrower_than_each():
    source = np.random.default_rng(5)
    cells = [mean_cell(source.normal(size=100)) for _ in range(4)]
    single = [mean_interval([cell], replicates=1000) for cell in cells]
    together = mean_interval(cells, replicates=1000)
    assert together.estimate == pytest.approx(np.mean([each.estimate for each in single]))
    assert together.high - together.low < 0.7 * min(each.high - each.low for each in single)


def test_same_seed_same_interval_and_nothing_to_resample():
    cell = mean_cell([1.0, 2.0, 5.0])
    assert mean_interval([cell], replicates=50, seed=4) == mean_interval([cell], replicates=50, seed=4)
    assert mean_interval([mean_cell([3.0])]) == Interval(3.0, None, None)
    with pytest.raises(ValueError, match="no cells"):
        mean_interval([])


def test_intervals_apart():
    assert Interval(1, 0.5, 1.5).apart_from(Interval(3, 2.5, 3.5)) is True
    assert Interval(3, 2.5, 3.5).apart_from(Interval(1, 0.5, 1.5)) is True
    assert Interval(1, 0.5, 1.5).apart_from(Interval(1.4, 1.2, 1.6)) is False
    assert Interval(1, None, None).apart_from(Interval(1.4, 1.2, 1.6)) is None


def test_paired_means_see_the_same_rows_for_all_methods():
    # The second method is right where the first is wrong: whatever the rows, together they are right once a row.
    right = np.random.default_rng(0).integers(2, size=37)
    cells = [{"a": mean_cell(each), "b": mean_cell(1 - each)} for each in (right, 1 - right)]
    draws = paired_means(cells, replicates=300)
    assert draws.shape == (300, 2)
    assert draws.sum(axis=1) == pytest.approx(np.ones(300))
    assert draws[:, 0].std() > 0.03
    # One on its own is resampled as `mean_interval` resamples it.
    alone = mean_interval(list(cells[0].values()), replicates=4000)
    paired = interval_of(alone.estimate, paired_means(cells, replicates=4000)[:, 0])
    assert (paired.low, paired.high) == (pytest.approx(alone.low, abs=0.02), pytest.approx(alone.high, abs=0.02))


def test_paired_means_draw_the_seeds_of_each_method_alone():
    two = [{"a": mean_cell([0.0] * 20, [1.0] * 20)}, {"a": mean_cell([0.0] * 20, [1.0] * 20)}]
    first, second = paired_means(two, replicates=2000).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_methods_on_different_rows_are_not_paired():
    with pytest.raises(ValueError, match="different rows of a"):
        paired_means([{"a": mean_cell([0.0, 1.0])}, {"a": mean_cell([0.0, 1.0, 1.0])}])
    with pytest.raises(ValueError, match="same datasets"):
        paired_means([{"a": mean_cell([0.0, 1.0])}, {"b": mean_cell([0.0, 1.0])}])
    with pytest.raises(ValueError, match="same datasets"):
        paired_means([])
    assert paired_means([{"a": mean_cell([1.0])}]) is None
