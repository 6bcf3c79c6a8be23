"""Intervals by resampling, against scipy's bootstrap and against what must hold whatever is resampled."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from peftbench.datasets import get_dataset
from peftbench.leaderboard import cell_of
from peftbench.stats import (
    Cell,
    Interval,
    Sums,
    critical_difference,
    equal_spread,
    friedman,
    holm,
    interquartile_mean,
    interval_of,
    mcnemar,
    mean_interval,
    nemenyi,
    paired_draws,
    paired_means,
    performance_profile,
    permutation_test,
    probability_of_improvement,
    rank_diagram,
    rank_intervals,
    share_ahead,
    signed_rank,
    smallest_difference,
    spread,
    stratified_interval,
    vote,
    wilcoxon_holm,
)


def mean_cell(*seeds):
    return Cell(tuple({"x": np.array(seed, dtype=float)} for seed in seeds), lambda columns: columns["x"].mean())


def test_one_seed_and_a_mean_is_the_percentile_bootstrap_of_scipy():
    values = np.random.default_rng(3).gamma(2.0, size=80)
    ours = mean_interval({"a": mean_cell(values)}, replicates=8000)
    theirs = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=8000, random_state=1)
    width = ours.high - ours.low
    assert ours.estimate == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.confidence_interval.low, abs=0.06 * width)
    assert ours.high == pytest.approx(theirs.confidence_interval.high, abs=0.06 * width)


def test_seeds_are_resampled_as_well_as_rows():
    # No row differs from another, so that all that is left to chance is the seed.
    apart = mean_interval({"a": mean_cell([0.0] * 50, [1.0] * 50, [2.0] * 50)}, replicates=2000)
    assert (apart.low, apart.high) == (pytest.approx(0, abs=0.01), pytest.approx(2, abs=0.01))
    alike = mean_interval({"a": mean_cell([1.0] * 50, [1.0] * 50)}, replicates=200)
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
    ours = mean_interval({"a": cell}, replicates=4000)
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
    single = [mean_interval({"a": cell}, replicates=1000) for cell in cells]
    together = mean_interval(dict(zip("abcd", cells, strict=True)), replicates=1000)
    assert together.estimate == pytest.approx(np.mean([each.estimate for each in single]))
    assert together.high - together.low < 0.7 * min(each.high - each.low for each in single)


def test_same_seed_same_interval_and_nothing_to_resample():
    cell = mean_cell([1.0, 2.0, 5.0])
    assert mean_interval({"a": cell}, replicates=50, seed=4) == mean_interval({"a": cell}, replicates=50, seed=4)
    assert mean_interval({"a": mean_cell([3.0])}) == Interval(3.0, None, None)
    with pytest.raises(ValueError, match="no cells"):
        mean_interval({})


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
    alone = mean_interval(cells[0], replicates=4000)
    paired = interval_of(alone.estimate, paired_means(cells, replicates=4000)[:, 0])
    assert (paired.low, paired.high) == (pytest.approx(alone.low, abs=0.02), pytest.approx(alone.high, abs=0.02))


def test_paired_means_draw_the_seeds_of_each_method_alone():
    two = [{"a": mean_cell([0.0] * 20, [1.0] * 20)}, {"a": mean_cell([0.0] * 20, [1.0] * 20)}]
    first, second = paired_means(two, replicates=2000).T
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.1


def test_a_replicate_does_not_depend_on_what_else_is_compared(monkeypatch):
    source = np.random.default_rng(2)

    def cell(method):
        return replace(mean_cell(*source.normal(size=(3, 30))), method=method)

    methods = [{dataset: cell(method) for dataset in "abc"} for method in ("base", "lora", "ia3")]
    every = paired_draws(methods, replicates=200)
    two = paired_draws([{each: cells[each] for each in "ca"} for cells in methods[1:]], replicates=200)
    assert all(np.array_equal(two[dataset], every[dataset][:, 1:]) for dataset in "ac")
    for place, cells in enumerate(methods):
        alone = mean_interval(cells, replicates=200)
        draws = np.mean(list(every.values()), axis=0)[:, place]
        assert np.percentile(draws, [2.5, 97.5]) == pytest.approx([alone.low, alone.high], abs=1e-12)
    assert np.corrcoef(every["a"][:, 0], every["b"][:, 0])[0, 1] == pytest.approx(0, abs=0.3)
    # However few are drawn at a time.
    monkeypatch.setattr("peftbench.stats.intervals._DRAWN", 90)
    assert all(np.array_equal(each, every[name]) for name, each in paired_draws(methods, replicates=200).items())


def test_methods_on_different_rows_are_not_paired():
    with pytest.raises(ValueError, match="different rows of a"):
        paired_means([{"a": mean_cell([0.0, 1.0])}, {"a": mean_cell([0.0, 1.0, 1.0])}])
    with pytest.raises(ValueError, match="same datasets"):
        paired_means([{"a": mean_cell([0.0, 1.0])}, {"b": mean_cell([0.0, 1.0])}])
    with pytest.raises(ValueError, match="same datasets"):
        paired_means([])
    assert paired_means([{"a": mean_cell([1.0])}]) is None


# ------------------------------------------------------------------------------------------------ sums of rows


def label_cells(rows=300, methods=3, seeds=2, dataset="cb"):
    spec, source = get_dataset(dataset), np.random.default_rng(0)
    classes = len(spec.label_set)
    gold = source.integers(classes, size=rows)
    cells = []
    for _ in range(methods):
        predicted = np.where(
            source.random((seeds, rows)) < 0.7, gold, source.integers(-1, classes, size=(seeds, rows))
        )
        columns = [{"gold_class": gold, "predicted_class": each, "lenient_class": each} for each in predicted]
        cells.append(cell_of(columns, spec, "corrected"))
    return cells


def slowly(cell):
    return Cell(cell.seeds, cell.score, cell.ids)


def test_sums_give_the_very_scores_of_the_same_drawn_rows():
    cells = label_cells()
    fast = paired_draws([{"cb": cell} for cell in cells], replicates=150)
    slow = paired_draws([{"cb": slowly(cell)} for cell in cells], replicates=150)
    assert np.array_equal(fast["cb"], slow["cb"])
    mixed = paired_draws([{"cb": cells[0]}, {"cb": slowly(cells[1])}, {"cb": cells[2]}], replicates=150)
    assert np.array_equal(mixed["cb"], slow["cb"])
    assert cells[0].terms().dtype == np.float32


@pytest.mark.parametrize("protocol", ["corrected", "published"])
def test_correlations_by_moments_are_those_of_the_same_drawn_rows(protocol):
    source = np.random.default_rng(0)
    gold = source.integers(51, size=80) / 10
    # Few rows differ from the value that stands in for invalid outputs, so that some draws have no spread at all.
    predicted = np.where(np.arange(80) < 2, gold, 2.7)
    columns = [{"valid": predicted != 2.7, "gold": gold, "predicted": predicted}]
    cell = cell_of(columns, get_dataset("stsb"), protocol)
    fast, slow = (paired_draws([{"stsb": each}], replicates=300)["stsb"] for each in (cell, slowly(cell)))
    assert fast == pytest.approx(slow, abs=1e-9)
    assert (slow == 0).any()
    wild = [{**columns[0], "predicted": np.where(np.arange(80) == 5, 1e300, predicted)}]
    assert cell_of(wild, get_dataset("stsb"), protocol).terms() is None


def test_swaps_by_sums_are_those_of_the_same_rows():
    first, second, _ = label_cells(rows=40)
    fast = permutation_test([(first, second)], replicates=300)
    assert fast == permutation_test([(slowly(first), slowly(second))], replicates=300)
    third = label_cells(rows=40, seeds=3)[0]
    assert permutation_test([(first, third)], replicates=300) == permutation_test(
        [(slowly(first), slowly(third))], replicates=300
    )


def test_sums_that_would_not_be_exact_stay_in_double_precision():
    heavy = Cell(({"x": np.full(4, 2.0**23)},), lambda columns: 0.0, sums=None)
    assert heavy.terms() is None
    for value, kind in ((2.0**23, np.float64), (0.5, np.float64), (3.0, np.float32)):
        sums = Sums(lambda columns: columns["x"][:, None], lambda totals: totals[:, 0])
        assert Cell(({"x": np.full(4, value)},), lambda columns: 0.0, sums=sums).terms().dtype == kind


# -------------------------------------------------------------------------------------------------- bad input


TABLE = np.arange(12.0).reshape(4, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: friedman([[1.0, np.nan], [1, 2]]), r"scores hold nan at \(0, 1\), expected finite numbers"),
        (lambda: friedman([[1.0, 2.0]]), "scores are of one dataset; ranks over datasets need at least 2"),
        (lambda: friedman([[1.0], [2.0]]), "scores are of one method; give at least two"),
        (lambda: friedman([[1.0, 2.0], [1.0]]), "no table of numbers"),
        (lambda: nemenyi([]), "expected 2 dimensions"),
        (lambda: wilcoxon_holm([[1.0, 2.0]]), "one dataset"),
        (lambda: critical_difference(3, 1), "need two of both"),
        (lambda: critical_difference(3, 5, alpha=1), "alpha is 1"),
        (lambda: rank_diagram(["a", "a", "b"], TABLE), "give each its own"),
        (lambda: rank_diagram(["a", "b"], TABLE), "give each its own"),
        (lambda: rank_intervals(TABLE), "expected 3 dimensions"),
        (lambda: signed_rank([]), "none empty"),
        (lambda: holm([0.5, 1.5]), "outside 0 to 1"),
        (lambda: holm([0.5, float("inf")]), "p-values hold inf"),
        (lambda: mcnemar([1, 0], [1]), "2 and 1 rows"),
        (lambda: share_ahead([1.0], [1.0, 2.0]), "1 and 2 replicates"),
        (lambda: smallest_difference(-1.0), "standard error is -1.0"),
        (lambda: smallest_difference(1.0, power=0.01), "more than alpha"),
        (lambda: smallest_difference(1.0, power=1.0), "power is 1.0"),
        (lambda: permutation_test([]), "no pairs"),
        (lambda: permutation_test([(mean_cell([1.0]), mean_cell([1.0, 2.0]))]), "different rows"),
        (lambda: interquartile_mean([[1.0, np.nan]]), "scores hold nan"),
        (lambda: performance_profile([1.0], [0.0]), "expected 2 dimensions"),
        (lambda: probability_of_improvement(TABLE, TABLE[:, :2]), "3 and 2 datasets"),
        (lambda: spread([1.0]), "one seed; a standard deviation over seeds needs at least two"),
        (lambda: spread([1.0, np.inf]), "scores hold inf"),
        (lambda: equal_spread([[1.0, 2.0]]), "at least two"),
        (lambda: equal_spread([[1.0, 2.0], [1.0]]), "two seeds each"),
        (lambda: mean_interval({"a": mean_cell([1.0, np.nan])}), r"scores of seeds hold nan at \(0,\)"),
        (lambda: paired_draws([{"a": mean_cell([1.0, np.inf])}]), "scores of seeds hold inf"),
        (lambda: interval_of(1.0, None, confidence=95), "confidence is 95"),
    ],
    ids=range(31),
)
def test_what_cannot_be_computed_is_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert "\n" not in str(error.value)


def test_methods_that_are_equal_everywhere_differ_with_p_1():
    equal = np.ones((7, 3))
    assert friedman(equal).p == friedman(equal).f_p == 1
    assert (nemenyi(equal) == 1).all()
    assert (wilcoxon_holm(equal) == 1).all()
    assert rank_diagram("abc", equal).groups == ((0, 2),)
    assert signed_rank(np.zeros(9)) == 1
    cell = mean_cell([0.0, 1.0, 1.0] * 20)
    assert permutation_test([(cell, cell)], replicates=99).p == 1
    assert mcnemar([1, 0], [1, 0]).p == 1
    assert share_ahead([1.0, 2.0], [1.0, 2.0]) == 0.5
    assert probability_of_improvement(TABLE, TABLE) == 0.5
    assert equal_spread([[1.0, 1.0], [2.0, 2.0]]) == 1
    assert smallest_difference(0.0) == 0


def test_scores_that_differ_by_rounding_are_equal():
    nearly = 80 + np.array([[0, 1e-14], [1e-14, 0], [2e-14, 0]])
    assert friedman(nearly).mean_ranks == (1.5, 1.5)
    assert signed_rank(nearly[:, 0] - nearly[:, 1]) == 1
    assert probability_of_improvement(nearly[:, :1], nearly[:, 1:]) == 0.5


# ------------------------------------------------------------------------------------------- what must hold


def test_a_method_that_leads_everywhere_by_any_amount():
    scores = np.array([[3.0, 2.0, 1.0]] * 9) * np.arange(1, 10)[:, None]
    found = friedman(scores)
    assert found.mean_ranks == (1, 2, 3)
    assert (found.chi_square, found.f) == (pytest.approx(18), float("inf"))
    # Signs alone: 2 / 2**9 for each of three pairs, times three.
    assert wilcoxon_holm(scores)[0, 1] == pytest.approx(3 * 2 / 2**9)
    assert rank_diagram("abc", scores).groups == ()
    assert spread([1.0, 1.0]).deviation == 0
    assert equal_spread([[1.0, 1.0, 1.0], [0.0, 2.0, 4.0]]) < 1


def test_bars_join_the_longest_runs_of_which_no_two_are_told_apart():
    source = np.random.default_rng(0)
    scores = source.normal(size=(25, 6)) + np.arange(6) / 2
    for procedure in ("nemenyi", "wilcoxon-holm"):
        found = rank_diagram("abcdef", scores, procedure=procedure)
        assert list(found.mean_ranks) == sorted(found.mean_ranks)
        p = np.array(found.p)
        for first, last in found.groups:
            assert (p[first : last + 1, first : last + 1] >= 0.05).all()
            assert last == 5 or (p[first : last + 2, first : last + 2] < 0.05).any()
            assert first == 0 or (p[first - 1 : last + 1, first - 1 : last + 1] < 0.05).any()
        if procedure == "nemenyi":
            ranks = np.array(found.mean_ranks)
            assert np.array_equal(p < 0.05, np.abs(ranks[:, None] - ranks) > found.critical)


def test_the_permutation_test_keeps_its_level_and_finds_what_is_there():
    source = np.random.default_rng(0)
    found = {0.0: [], 0.6: []}
    for shift, ps in found.items():
        for _ in range(120):
            first, second = source.normal(size=(2, 30))
            ps.append(permutation_test([(mean_cell(first + shift), mean_cell(second))], replicates=199).p)
    assert np.mean(np.array(found[0.0]) <= 0.05) < 0.12
    assert np.mean(np.array(found[0.6]) <= 0.05) > 0.4


def test_the_smallest_difference_is_found_as_often_as_it_says():
    source = np.random.default_rng(0)
    effect = smallest_difference(1.0)
    assert effect == pytest.approx(2.8016, abs=1e-4)
    found = np.abs(source.normal(effect, 1, size=40_000)) > 1.959964
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_the_vote_of_seeds_needs_more_than_half():
    assert vote([[1, 1, 0], [1, 0, 0], [0, 1, 0]]).tolist() == [True, True, False]
    assert vote([[1, 0], [0, 1]]).tolist() == [False, False]


def test_one_seed_has_no_interval_of_seeds():
    assert stratified_interval(interquartile_mean, [[1.0, 2.0, 3.0, 4.0]]) == Interval(2.5, None, None)


def test_few_seeds_make_intervals_too_narrow_by_as_much_as_is_said():
    source, held = np.random.default_rng(0), []
    sums = Sums(lambda columns: columns["x"][:, None] * [1.0], lambda totals: totals[:, 0] / 50)
    for _ in range(400):
        rows = source.normal(size=50) * np.sqrt(0.2 * 50)
        seeds = tuple({"x": rows + source.normal() * np.sqrt(0.8)} for _ in range(3))
        found = mean_interval({"a": Cell(seeds, lambda columns: columns["x"].mean(), (), sums)}, replicates=200)
        held.append(found.low <= 0 <= found.high)
    assert np.mean(held) == pytest.approx(0.88, abs=0.05)
