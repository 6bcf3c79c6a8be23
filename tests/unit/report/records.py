"""A small set of records for tests of reports: four methods on datasets of all groups, scores that are made up."""

import numpy as np

from peftbench.store import stored_results
from tests.synthetic import add_run

METHODS = ("base", "ia3", "lora", "ln_tuning")
DATASETS = ("sst2", "rte", "cb", "svamp", "conala")
PARAMS = {"ia3": 524_288, "lora": 14_680_064, "ln_tuning": 266_240}
SEEDS = (42, 123, 456)
MODEL = "llama-3-8b"  # whose dimensions are shipped, so that FLOPs can be predicted


def scores(methods=METHODS, datasets=DATASETS, seeds=SEEDS, source=0):
    """(method, dataset, seed) to a primary score under the corrected rules, two decimals."""
    draw = np.random.default_rng(source)
    return {
        (method, dataset, seed): round(float(draw.uniform(40, 95)), 2)
        for method in methods
        for dataset in datasets
        for seed in (seeds if method != "base" else seeds[:1])
    }


def write(folder, cells, **changes):
    for (method, dataset, seed), primary in cells.items():
        training = {"trainable_params": PARAMS.get(method, 1)}
        add_run(folder, method, dataset, seed, primary, training=training, **{"model": MODEL, **changes})
    return folder


def results(folder, cells, **changes):
    return stored_results(write(folder, cells, **changes))
