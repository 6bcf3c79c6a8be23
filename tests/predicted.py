"""Records with predictions of runs that were never made: outputs right with some skill, and scored as real ones."""

import numpy as np

from peftbench.datasets import get_dataset
from peftbench.parts import settle
from peftbench.predictions import Prediction, write_predictions
from peftbench.scoring import as_record, score_both
from tests.synthetic import add_run, edit, tokens_of

SKILL = {"base": 0.5, "ia3": 0.7, "lora": 0.85, "ln_tuning": 0.72}
DATASETS = ("rte", "cb", "svamp", "stsb", "conala")
GOLD = {
    "svamp": lambda source: f"( {(n := int(source.integers(9)))} + 2 ) = {n + 2}",
    "stsb": lambda source: f"{source.integers(51) / 10:.1f}",
    "conala": lambda source: f"x = f({source.integers(9)})\nprint(x, {source.integers(9)})",
}


def gold_of(dataset, source):
    return GOLD[dataset](source) if dataset in GOLD else str(source.choice(get_dataset(dataset).label_set))


def add(folder, method, dataset, seed, skill, rows=60, evaluation=None, training=None, **changes):
    """A run whose outputs are right with some skill, wrong by another row's answer or of no form otherwise."""
    source = np.random.default_rng(1)
    golds = [gold_of(dataset, source) for _ in range(rows)]
    source = np.random.default_rng([sum(map(ord, method)), sum(map(ord, dataset)), seed])
    texts = [gold if source.random() < skill else str(source.choice([*golds, "no answer"])) for gold in golds]
    scores = score_both(get_dataset(dataset), texts, [(gold,) for gold in golds])
    evaluated = {
        "scores": {name: as_record(each) for name, each in scores.items()},
        "metric": get_dataset(dataset).metric,
        "tokens": tokens_of("test").model_copy(update={"rows": rows}),
        **(evaluation or {}),
    }
    run = add_run(folder, method, dataset, seed, evaluation=evaluated, training=training, **changes)
    [evaluated] = run.glob("eval-*")
    file = evaluated / "predictions.parquet"
    sha256 = write_predictions(
        file,
        [
            Prediction(str(row), "0" * 64, text, (gold,), None, False, 3, False)
            for row, (text, gold) in enumerate(zip(texts, golds, strict=True))
        ],
    )
    settle(file, sha256)
    edit(file.with_name("result.json"), predictions_sha256=sha256)
    return run


def fill(folder, datasets=DATASETS, methods=tuple(SKILL), seeds=(1, 2, 3)):
    for method in methods:
        for dataset in datasets:
            for seed in seeds[:1] if method == "base" else seeds:
                add(folder, method, dataset, seed, SKILL[method])
    return folder
