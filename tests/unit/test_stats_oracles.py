"""Each procedure against another implementation or a published example; docs/statistics.md has the same table.

What scipy and scikit-learn have is computed here. The rest is in `tests/golden/statistics.json`, which
`tools/check_statistics.py` wrote with the versions that stand in it.
"""

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import f1_score

import peftbench
from peftbench.costtable import read_costs
from peftbench.datasets import get_dataset
from peftbench.importers.printed import printed_table
from peftbench.leaderboard import cell_of
from peftbench.stats import (
    Cell,
    critical_difference,
    equal_spread,
    friedman,
    holm,
    interquartile_mean,
    mcnemar,
    mean_interval,
    nemenyi,
    paired_draws,
    performance_profile,
    permutation_test,
    probability_of_improvement,
    rank_diagram,
    rank_intervals,
    rank_rows,
    signed_rank,
    smallest_difference,
    spread,
    stratified_interval,
    wilcoxon_holm,
)
from tests.conftest import REPOSITORY

SOURCE = Path(peftbench.__file__).parent
GOLDEN = json.loads((REPOSITORY / "tests" / "golden" / "statistics.json").read_text())
SCORES, TABLE_6 = np.array(GOLDEN["scores"]), np.array(GOLDEN["table_6"])
RUNS = {name: np.array(each) for name, each in GOLDEN["runs"].items()}


def apart(ours, theirs):
    return float(np.max(np.abs(np.asarray(ours, dtype=float) - np.asarray(theirs, dtype=float))))


def mean_cell(*seeds):
    return Cell(tuple({"x": np.array(seed, dtype=float)} for seed in seeds), lambda columns: columns["x"].mean())


def bootstrap_of_a_mean():
    values = np.random.default_rng(3).gamma(2.0, size=80)
    ours = mean_interval([mean_cell(values)], replicates=8000)
    theirs = scipy_stats.bootstrap((values,), np.mean, method="percentile", n_resamples=8000, random_state=1)
    return apart((ours.low, ours.high), theirs.confidence_interval) / (ours.high - ours.low)


def bootstrap_of_f1():
    """On the rows that our generator draws, scored by scikit-learn."""
    spec, source = get_dataset("cb"), np.random.default_rng(1)
    gold, predicted = source.integers(3, size=40), source.integers(-1, 3, size=(2, 40))
    columns = [{"gold_class": gold, "predicted_class": each, "lenient_class": each} for each in predicted]
    ours = paired_draws([{"cb": cell_of(columns, spec, "corrected")}], replicates=50)["cb"][:, 0]
    source, theirs = np.random.default_rng(0), []
    for _ in range(50):
        rows, seeds = source.integers(40, size=40), source.integers(2, size=2)
        present = np.unique([*gold[rows], *predicted[:, rows].ravel()])
        scores = [
            f1_score(
                gold[rows], predicted[seed][rows], average="macro", labels=present[present >= 0], zero_division=0
            )
            for seed in seeds
        ]
        theirs.append(100 * np.mean(scores))
    return apart(ours, theirs)


def permutation_all_swaps():
    source = np.random.default_rng(2)
    first, second = source.integers(6, size=(2, 11)) / 2
    theirs = scipy_stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    return apart(permutation_test([(mean_cell(first), mean_cell(second))]).p, theirs.pvalue)


def permutation_sampled():
    """In standard errors of the p-value by as many swaps."""
    first, second = np.random.default_rng(6).normal((0, 0.25), 1, size=(60, 2)).T
    ours = permutation_test([(mean_cell(first), mean_cell(second))]).p
    theirs = scipy_stats.permutation_test(
        (first, second),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        n_resamples=9999,
        vectorized=True,
        random_state=1,
    ).pvalue
    return apart(ours, theirs) / np.sqrt(2 * theirs * (1 - theirs) / 9999)


def mcnemar_exact():
    ours, theirs = [], []
    for (first, second), p in zip(GOLDEN["discordant"], GOLDEN["mcnemar"], strict=True):
        left = [1] * 50 + [1] * first + [0] * second + [0] * 40
        right = [1] * 50 + [0] * first + [1] * second + [0] * 40
        found = mcnemar(left, right)
        assert (found.only_first, found.only_second) == (first, second)
        ours.append(found.p)
        theirs.append(p)
    return apart(ours, theirs)


def wilcoxon_without_ties():
    differences = [np.random.default_rng(seed).normal(0.4, size=5 + seed) for seed in range(20)]
    theirs = [scipy_stats.wilcoxon(each, method="exact").pvalue for each in differences]
    return apart([signed_rank(each) for each in differences], theirs)


def wilcoxon_with_ties():
    """All ways to give signs, one by one, by scipy; zeros are left out as there."""
    differences = [np.random.default_rng(seed).integers(-2, 5, size=9).astype(float) for seed in range(12)]
    theirs = [
        scipy_stats.wilcoxon(each[each != 0], method=scipy_stats.PermutationMethod(n_resamples=np.inf)).pvalue
        for each in differences
    ]
    return apart([signed_rank(each) for each in differences], theirs)


def friedman_with_ties():
    found = [(friedman(each), scipy_stats.friedmanchisquare(*each.T)) for each in (SCORES, TABLE_6)]
    return max(apart((ours.chi_square, ours.p), theirs) for ours, theirs in found)


def published_ranks():
    """Demšar 2006, section 3.2.2: mean ranks to three digits, and 9.28 from them without regard to ties."""
    ranks = friedman(TABLE_6).mean_ranks
    assert 168 / 20 * (np.square(np.round(ranks, 3)).sum() - 4 * 25 / 4) == pytest.approx(9.28, abs=0.005)
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    assert critical_difference(4, 14, alpha=0.1) == pytest.approx(1.12, abs=0.005)
    return apart(np.round(ranks, 3), [3.143, 2.0, 2.893, 1.964])


def nemenyi_pairs():
    ours = (nemenyi(SCORES), nemenyi(TABLE_6))
    return apart(ours[0], GOLDEN["nemenyi_scores"]) + apart(ours[1], GOLDEN["nemenyi_table_6"])


def published_critical():
    """Demšar 2006, Table 5: critical values for 2 to 10 methods, at 0.05 and at 0.10."""
    table = {
        0.05: (1.960, 2.343, 2.569, 2.728, 2.850, 2.949, 3.031, 3.102, 3.164),
        0.10: (1.645, 2.052, 2.291, 2.459, 2.589, 2.693, 2.780, 2.855, 2.920),
    }
    scale = [np.sqrt(k * (k + 1) / (6 * 1000)) for k in range(2, 11)]
    ours = [[critical_difference(k, 1000, alpha=alpha) for k in range(2, 11)] / np.array(scale) for alpha in table]
    return apart(ours, list(table.values()))


def rank_bootstrap():
    draws = np.random.default_rng(0).integers(5, size=(200, 4, 6)).astype(float)
    ranks = scipy_stats.rankdata(-draws, axis=2).mean(axis=1)
    ours = [(each.estimate, each.low, each.high) for each in rank_intervals(draws)]
    return apart(ours, np.stack([ranks.mean(axis=0), *np.percentile(ranks, [2.5, 97.5], axis=0)], axis=1))


def smallest():
    return max(
        apart(smallest_difference(1, alpha=alpha, power=power), value)
        for alpha, power, value in GOLDEN["smallest_difference"]
    )


def iqm_interval():
    """In widths of the interval."""
    found = []
    for name, runs in RUNS.items():
        ours = stratified_interval(interquartile_mean, runs, replicates=8000)
        found.append(apart((ours.low, ours.high), GOLDEN["iqm_interval"][name]) / (ours.high - ours.low))
    return max(found)


def improvement():
    tied = (np.round(RUNS["a"]), np.round(RUNS["b"]))
    pairs = zip(*(each.T for each in tied), strict=True)
    theirs = np.mean([scipy_stats.mannwhitneyu(*pair).statistic / 25 for pair in pairs])
    return apart(
        (probability_of_improvement(RUNS["b"], RUNS["a"]), probability_of_improvement(*tied)),
        (GOLDEN["improvement"], theirs),
    )


def chi_square_interval():
    """The interval of a variance by scipy's quantiles: n - 1 times the variance, over them."""
    scores = RUNS["a"][:, 0]
    ends = np.sqrt(4 * np.var(scores, ddof=1) / scipy_stats.chi2(4).isf([0.025, 0.975]))
    found = spread(scores)
    return apart((found.deviation, found.low, found.high), (np.std(scores, ddof=1), *ends))


CHECKS = {
    "interval of a mean": bootstrap_of_a_mean,
    "interval of macro-F1": bootstrap_of_f1,
    "permutation, all swaps": permutation_all_swaps,
    "permutation, sampled": permutation_sampled,
    "McNemar": mcnemar_exact,
    "Holm": lambda: apart(holm(GOLDEN["p"]), GOLDEN["holm"]),
    "Wilcoxon": wilcoxon_without_ties,
    "Wilcoxon with ties": wilcoxon_with_ties,
    "Friedman": friedman_with_ties,
    "mean ranks": lambda: apart(rank_rows(SCORES).mean(axis=0), GOLDEN["autorank_mean_ranks"]),
    "mean ranks, published": published_ranks,
    "Nemenyi": nemenyi_pairs,
    "critical difference, published": published_critical,
    "Wilcoxon-Holm": lambda: apart(wilcoxon_holm(SCORES), GOLDEN["wilcoxon_holm_scores"]),
    "ranks with intervals": rank_bootstrap,
    "smallest difference": smallest,
    "interquartile mean": lambda: apart([interquartile_mean(RUNS[name]) for name in "ab"], [GOLDEN["iqm"][name] for name in "ab"]),
    "its interval": iqm_interval,
    "performance profile": lambda: apart([performance_profile(RUNS[name], GOLDEN["thresholds"]) for name in "ab"], [GOLDEN["profile"][name] for name in "ab"]),
    "probability of improvement": improvement,
    "standard deviation over seeds": chi_square_interval,
    "equal spread": lambda: apart(equal_spread(list(SCORES.T)), scipy_stats.levene(*SCORES.T, center="median").pvalue),
}  # fmt: skip
LOOSE = {
    "interval of a mean": 0.05,
    "its interval": 0.05,
    "permutation, sampled": 3.0,
    "critical difference, published": 0.0012,
}
"""Shares of the interval's width, standard errors of p, and the last printed digit."""
LINES = (REPOSITORY / "docs" / "statistics.md").read_text().splitlines()
TABLE = {
    cells[0]: float(cells[-1].split()[0])
    for cells in ([cell.strip() for cell in line.strip("|").split("|")] for line in LINES if line.startswith("|"))
    if cells[0] in CHECKS
}


@pytest.mark.parametrize("name", CHECKS)
def test_a_procedure_gives_what_another_implementation_gives(name):
    found = CHECKS[name]()
    if name in LOOSE:
        assert found <= LOOSE[name]
        assert TABLE[name] <= LOOSE[name]
    else:
        assert found <= 1e-9
        assert found <= max(TABLE[name], 1e-12), "the documentation says less"


def test_every_pair_of_the_published_table_is_told_apart_as_published():
    # Demšar 2006, section 3.2.2: at 0.10 the first differs from the second and the fourth, no others.
    p = nemenyi(TABLE_6)
    assert {pair for pair in combinations(range(4), 2) if p[pair] < 0.1} == {(0, 1), (0, 3)}


def test_what_the_documentation_says_of_the_papers_tables():
    tables = [printed_table("table1"), printed_table("table2")]
    methods = [row.method for row in tables[0].rows]
    scores = np.array(
        [[cell.value for table in tables for cell in table.row(name).cells[1:]] for name in methods]
    ).T
    means = dict(zip(methods, scores.mean(axis=0), strict=True))
    printed = read_costs(SOURCE / "costs" / "paper-means.csv").candidates
    assert {each.method: each.performance for each in printed} == pytest.approx(
        {name: mean for name, mean in means.items() if name != "base"}, abs=6e-4
    )
    found = rank_diagram(methods, scores)
    assert found.methods[:5] == ("lora", "ln_tuning", "ia3", "base", "p_tuning")
    assert [found.methods[first : last + 1] for first, last in found.groups] == [
        ("base", "p_tuning"),
        ("p_tuning", "prompt_tuning", "prefix_tuning"),
    ]
    nemenyi_groups = rank_diagram(methods, scores, procedure="nemenyi")
    assert nemenyi_groups.critical == pytest.approx(1.73, abs=0.005)
    assert nemenyi_groups.groups[:2] == ((0, 1), (1, 2))
    assert (scores[:, methods.index("lora")] > scores[:, methods.index("ln_tuning")]).sum() == 24
