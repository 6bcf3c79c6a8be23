"""Records to the rows of a comparison: means with intervals, and what is missing from them. Nothing is written.

A mean is over the same datasets for every method, or there is none: a cell that is missing is named, not skipped.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.datasets import get_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.errors import DataError
from peftbench.metrics import Scores, metrics, score_rows
from peftbench.predictions import Prediction, read_predictions
from peftbench.records import RunResult
from peftbench.schema import DatasetSpec, Protocol
from peftbench.stats import REPLICATES, Cell, Interval, Sums, mean_interval


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


@dataclass(frozen=True)
class MethodRuns:
    """The runs of one method, and those that are not there."""

    method: str
    results: tuple[RunResult, ...]
    seeds: int
    """Seeds that are expected of every dataset."""
    done: dict[str, tuple[RunResult, ...]]
    """Dataset to its finished runs."""
    missing: tuple[str, ...]
    """Runs that failed or were not made, as `dataset, seed`."""


@dataclass(frozen=True)
class Gathered:
    """What is there of one method, and what is not."""

    method: str
    results: tuple[RunResult, ...]
    seeds: int
    """Seeds that are expected of every dataset."""
    cells: dict[str, Cell]
    """Dataset to its finished runs."""
    missing: tuple[str, ...]
    """Runs that failed or were not made, as `dataset, seed`."""


@dataclass(frozen=True)
class Counted:
    """What the test rows of one evaluation count."""

    ids: tuple[str, ...]
    """Names of the rows that have a gold answer."""
    columns: Mapping[str, NDArray[Any]]


def counted(run: RunResult, protocol: Protocol) -> Counted:
    """What each test row of a finished run counts under a protocol; its predictions are read.

    Raises `DataError` where they cannot be read or scored.
    """
    stored = predictions_of(run)
    return Counted(tuple(row.id for row in stored if row.references), scores_of(run, stored, protocol).columns)


def predictions_of(run: RunResult) -> list[Prediction]:
    """The stored predictions of a finished run; raises `DataError` where they cannot be read."""
    assert run.evaluation is not None
    folder = Path(run.folder) / f"eval-{run.evaluation.eval_id}"
    return read_predictions(folder / "predictions.parquet", run.evaluation.predictions_sha256)


def scores_of(run: RunResult, stored: Sequence[Prediction], protocol: Protocol) -> Scores:
    """Stored predictions of a run, scored again under a protocol."""
    spec = under_protocol(get_dataset(run.config.dataset), run.config.protocol)
    return score_rows(spec, [row.text for row in stored], [row.references for row in stored], protocol)


def runs_by_method(results: Sequence[RunResult]) -> list[MethodRuns]:
    """The runs of each method, in the order in which methods first come; predictions are not read.

    Every method is expected on every dataset of `results` and with every seed that a trained method has; the
    base model has no seed.
    """
    methods: dict[str, list[RunResult]] = {}
    for result in results:
        methods.setdefault(str(result.config.method), []).append(result)
    datasets = list(dict.fromkeys(result.config.dataset for result in results))
    seeds = sorted({result.config.seed for result in results if result.train is not None})
    grouped = []
    for method, of_method in methods.items():
        found = {(each.config.dataset, each.config.seed): each for each in of_method}
        trained = any(result.train is not None for result in of_method)
        wanted = seeds if trained else [of_method[0].config.seed]
        runs_done: dict[str, tuple[RunResult, ...]] = {}
        missing = []
        for dataset in datasets:
            runs = [found.get((dataset, seed)) for seed in wanted]
            missing += [
                f"{dataset}, seed {seed}" if trained else dataset
                for seed, run in zip(wanted, runs, strict=True)
                if run is None or run.primary is None
            ]
            done = tuple(run for run in runs if run is not None and run.primary is not None)
            if done:
                runs_done[dataset] = done
        grouped.append(MethodRuns(method, tuple(of_method), len(wanted), runs_done, tuple(missing)))
    return grouped


def gather(
    results: Sequence[RunResult],
    *,
    protocol: Protocol = "corrected",
    count: Callable[[RunResult, Protocol], Counted] = counted,
) -> list[Gathered]:
    """The finished runs of each method as `runs_by_method` finds them, with what each of their test rows counts.

    Predictions are read from the runs' folders, unless `count` knows what they count.
    """
    return [
        Gathered(
            method=each.method,
            results=each.results,
            seeds=each.seeds,
            cells={dataset: _cell(runs, protocol, count) for dataset, runs in each.done.items()},
            missing=each.missing,
        )
        for each in runs_by_method(results)
    ]


def compare(
    results: Sequence[RunResult], *, protocol: Protocol = "corrected", replicates: int = REPLICATES
) -> list[Row]:
    """One row for each method as `gather` finds it."""
    rows = []
    for each in gather(results, protocol=protocol):
        done = [result for result in each.results if result.primary is not None]
        shares = [result.evaluation.invalid_rate for result in done if result.evaluation]
        invalid = [each for each in shares if each is not None]
        lenient = [
            np.mean([_lenient(run) for run in done if run.config.dataset == dataset]) for dataset in each.cells
        ]
        rows.append(
            Row(
                method=each.method,
                seeds=each.seeds,
                scores={dataset: cell.estimate() for dataset, cell in each.cells.items()},
                mean=None if each.missing else mean_interval(each.cells, replicates=replicates),
                lenient=None if each.missing else float(np.mean(lenient)),
                invalid_rate=float(np.mean(invalid)) if invalid else None,
                trainable_params=max((run.train.trainable_params for run in each.results if run.train), default=0),
                seconds=sum(part.seconds for run in each.results for part in (run.train, run.evaluation) if part),
                missing=each.missing,
            )
        )
    return rows


def _cell(runs: Sequence[RunResult], protocol: Protocol, count: Callable[[RunResult, Protocol], Counted]) -> Cell:
    """What each test row of finished runs counts, in the order of the rows."""
    found = [count(run, protocol) for run in runs]
    ids = {each.ids for each in found}
    dataset = runs[0].config.dataset
    if len(ids) > 1:
        raise DataError(
            f"runs of {runs[0].config.method} were evaluated on different test rows of {dataset}; "
            "evaluate them again with the same settings"
        )
    spec, method = under_protocol(get_dataset(dataset), protocol), str(runs[0].config.method)
    return cell_of([each.columns for each in found], spec, protocol, ids.pop(), method)


def cell_of(
    seeds: Sequence[Mapping[str, NDArray[Any]]],
    spec: DatasetSpec,
    protocol: Protocol,
    ids: tuple[str, ...] = (),
    method: str = "",
) -> Cell:
    """The counts of the same rows for each seed with the way in which the dataset's metric scores them."""
    metric = metrics.get(spec.metric)
    sums, added = metric.sums, None
    if sums is not None:
        added = Sums(
            lambda columns: sums.terms(columns, spec, protocol),
            lambda totals: sums.primary(totals, spec, protocol),
        )
    return Cell(
        tuple(seeds),
        lambda columns: metric.combine(columns, spec, protocol)["primary"],
        ids,
        added,
        method,
    )


def _lenient(run: RunResult) -> float:
    assert run.evaluation is not None
    return run.evaluation.scores["corrected"].values[metrics.get(run.evaluation.metric).lenient]
