"""What other packages say of the same numbers: writes `tests/golden/statistics.json`, which tests compare with.

Needs scikit-posthocs, autorank, rliable and statsmodels, which the project does not depend on; their versions are
written too. Inputs are Table 6 of Demšar (2006) and draws from a fixed seed.
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
from arch.bootstrap import IIDBootstrap
from autorank import autorank
from rliable import library, metrics
from scikit_posthocs import posthoc_nemenyi_friedman, posthoc_wilcoxon
from scipy.optimize import brentq
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import normal_power

PACKAGES = ("scikit-posthocs", "autorank", "rliable", "arch", "statsmodels", "scipy")
TABLE_6 = [
    [0.763, 0.768, 0.771, 0.798], [0.599, 0.591, 0.590, 0.569], [0.954, 0.971, 0.968, 0.967],
    [0.628, 0.661, 0.654, 0.657], [0.882, 0.888, 0.886, 0.898], [0.936, 0.931, 0.916, 0.931],
    [0.661, 0.668, 0.609, 0.685], [0.583, 0.583, 0.563, 0.625], [0.775, 0.838, 0.866, 0.875],
    [1.000, 1.000, 1.000, 1.000], [0.940, 0.962, 0.965, 0.962], [0.619, 0.666, 0.614, 0.669],
    [0.972, 0.981, 0.9751, 0.975], [0.957, 0.978, 0.946, 0.970],
]  # fmt: skip
"""Area under the curve of four variants of a decision tree on 14 datasets.

On the last but one the third is printed as the fourth and ranked before it, hence a digit more.
"""


class Stratified(library.StratifiedBootstrap):
    """The stratified bootstrap of rliable, set up in the way that newer versions of arch take."""

    def __init__(self, scores):
        IIDBootstrap.__init__(self, scores, seed=0)
        self._args_shape, self._num_tasks, self._task_bootstrap = scores.shape, scores.shape[1], False
        self._parameters = [self._num_tasks, False]
        self._strata_indices = self._get_strata_indices()


def main() -> None:
    """Compute and write."""
    source = np.random.default_rng(0)
    # Seven methods on 20 datasets, as in a comparison of adapters, each a little better than the one before.
    scores = np.round(70 + 10 * source.normal(size=(20, 1)) + np.arange(7) * 0.9 + source.normal(size=(20, 7)), 6)
    p = np.round(source.uniform(size=15) ** 3, 8)
    runs = {name: np.round(source.normal(mean, 4, size=(5, 9)), 6) for name, mean in (("a", 60.0), ("b", 62.0))}
    thresholds = np.linspace(45, 75, 13)
    tables = [(3, 9), (0, 5), (12, 12), (40, 71), (1, 0)]
    np.random.seed(0)  # rliable draws from the global state
    intervals = {
        name: Stratified(each).conf_int(
            lambda x: np.array([metrics.aggregate_iqm(x)]), reps=20000, method="percentile"
        )
        for name, each in runs.items()
    }
    profiles = {name: library.score_distributions(each, thresholds) for name, each in runs.items()}
    ranked = autorank(pd.DataFrame(scores), alpha=0.05, force_mode="nonparametric")
    found = {
        "made_by": {name: version(name) for name in PACKAGES},
        "table_6": TABLE_6,
        "scores": scores.tolist(),
        "p": p.tolist(),
        "runs": {name: each.tolist() for name, each in runs.items()},
        "thresholds": thresholds.tolist(),
        "discordant": tables,
        "nemenyi_table_6": posthoc_nemenyi_friedman(np.array(TABLE_6)).to_numpy().tolist(),
        "nemenyi_scores": posthoc_nemenyi_friedman(scores).to_numpy().tolist(),
        "wilcoxon_holm_scores": posthoc_wilcoxon(scores.T, p_adjust="holm").to_numpy().tolist(),
        "autorank_mean_ranks": ranked.rankdf.sort_index()["meanrank"].tolist(),
        "holm": multipletests(p, method="holm")[1].tolist(),
        "mcnemar": [
            float(mcnemar([[50, first], [second, 40]], exact=True).pvalue) for first, second in tables
        ],
        "smallest_difference": [
            [alpha, power, float(brentq(lambda d, a=alpha, b=power: normal_power(d, 1, a) - b, 0, 20, xtol=1e-14))]
            for alpha in (0.01, 0.05, 0.1) for power in (0.3, 0.8, 0.95)
        ],
        "iqm": {name: float(metrics.aggregate_iqm(each)) for name, each in runs.items()},
        "iqm_interval": {name: each[:, 0].tolist() for name, each in intervals.items()},
        "profile": {name: np.asarray(each).tolist() for name, each in profiles.items()},
        "improvement": float(metrics.probability_of_improvement(runs["b"], runs["a"])),
    }  # fmt: skip
    Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/statistics.json").write_text(
        json.dumps(found, indent=1) + "\n"
    )


if __name__ == "__main__":
    main()
