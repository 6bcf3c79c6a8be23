"""Records to the rows of a comparison: means with intervals, and what is missing from them. Nothing is written.

A mean is over the same datasets for every method, or there is none: a cell that is missing is named, not skipped.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from peftbench.datasets import get_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.metrics import metrics, score_rows
from peftbench.records import RunResult
from peftbench.schema import Protocol
from peftbench.stats import REPLICATES, Cell, Columns, Interval, mean_interval
from peftbench.store import read_predictions


@dataclass(frozen=True)
class Row:
    """One method over the datasets of a comparison."""

    method: str
    seeds: int
    """Seeds of every cell; 1 for the base model, which has none."""
    scores: dict[str, float]
    """Dataset to the mean primary score over seeds."""
    mean: Interval | None
    """Mean primary score over datasets and seeds; None where a cell is missing."""
    lenient: float | None
    """The same mean of the scores that ask least of the form."""
    invalid_rate: float | None
    trainable_params: int
    """Of one run; the largest where datasets differ."""
    seconds: float
    """Training and evaluation of all runs together."""
    missing: tuple[str, ...]
    """Runs that failed or were not made, as `dataset, seed`."""


def compare(
    results: Sequence[RunResult], *, protocol: Protocol = "corrected", replicates: int = REPLICATES
) -> list[Row]:
    """One row for each method in the order in which methods first come.

    Every method is expected on every dataset of `results` and with every seed that a trained method has; the
    base model has no seed. Predictions are read from the runs' folders.
    """
    methods = list(dict.fromkeys(str(result.config.method) for result in results))
    datasets = list(dict.fromkeys(result.config.dataset for result in results))
    seeds = sorted({result.config.seed for result in results if result.train is not None})
    found = {(str(each.config.method), each.config.dataset, each.config.seed): each for each in results}
    rows = []
    for method in methods:
        of_method = [result for result in results if str(result.config.method) == method]
        trained = any(result.train is not None for result in of_method)
        wanted = seeds if trained else [of_method[0].config.seed]
        cells: dict[str, Cell] = {}
        lenient, missing = [], []
        for dataset in datasets:
            runs = [found.get((method, dataset, seed)) for seed in wanted]
            missing += [
                f"{dataset}, seed {seed}"
                for seed, run in zip(wanted, runs, strict=True)
                if run is None or run.primary is None
            ]
            done = [run for run in runs if run is not None and run.primary is not None]
            if done:
                cells[dataset] = Cell(tuple(_counts(run, protocol) for run in done), _scorer(dataset, protocol))
                lenient.append(np.mean([_lenient(run) for run in done]))
        evaluations = [each.evaluation for each in of_method if each.evaluation and each.primary is not None]
        rows.append(
            Row(
                method=method,
                seeds=len(wanted),
                scores={dataset: cell.estimate() for dataset, cell in cells.items()},
                mean=None if missing else mean_interval(list(cells.values()), replicates=replicates),
                lenient=None if missing else float(np.mean(lenient)),
                invalid_rate=float(np.mean([each.invalid_rate for each in evaluations])) if evaluations else None,
                trainable_params=max((each.train.trainable_params for each in of_method if each.train), default=0),
                seconds=sum(part.seconds for each in of_method for part in (each.train, each.evaluation) if part),
                missing=tuple(missing),
            )
        )
    return rows


def _counts(run: RunResult, protocol: Protocol) -> Columns:
    """What each test row of a finished run counts, in the order of the rows."""
    assert run.evaluation is not None
    stored = read_predictions(Path(run.folder) / f"eval-{run.evaluation.eval_id}" / "predictions.parquet")
    spec = under_protocol(get_dataset(run.config.dataset), run.config.protocol)
    return score_rows(spec, [row.text for row in stored], [row.references for row in stored], protocol).columns


def _scorer(dataset: str, protocol: Protocol) -> Callable[[Columns], float]:
    spec = under_protocol(get_dataset(dataset), protocol)
    combine = metrics.get(spec.metric).combine
    return lambda columns: combine(columns, spec, protocol)["primary"]


def _lenient(run: RunResult) -> float:
    assert run.evaluation is not None
    return run.evaluation.scores["corrected"].values[metrics.get(run.evaluation.metric).lenient]
