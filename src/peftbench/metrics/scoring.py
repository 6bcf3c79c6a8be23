"""What a metric is, the table of all metrics, and the one entry point from predictions to scores.

Nothing here knows a task: what counts as right is the business of the metrics themselves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import DataError, MetricError
from peftbench.metrics.labels import trim
from peftbench.registry import Registry
from peftbench.schema import DatasetSpec, Protocol

Counts = dict[str, float | tuple[float, ...]]
"""What must be known of one row to score it in any company: numbers by name, `valid` (0 or 1) among them."""

Columns = Mapping[str, NDArray[Any]]
"""The same of many rows: arrays of shape (rows,) or (rows, length of the tuple)."""

Count = Callable[[str, tuple[str, ...], DatasetSpec, Protocol], Counts]
Combine = Callable[[Columns, DatasetSpec, Protocol], dict[str, float]]
Right = Callable[[Columns], NDArray[Any]]


@dataclass(frozen=True, slots=True)
class RowSums:
    """The primary score as a function of sums over rows, for scoring many selections of rows at once.

    `terms(columns, spec, protocol)` is what each row adds, (rows, terms), or None where sums would lose what the
    score needs. `primary(totals, spec, protocol)` turns sums, (selections, terms), into scores, (selections,), the
    same that `combine` gives for those rows.
    """

    terms: Callable[[Columns, DatasetSpec, Protocol], NDArray[Any] | None]
    primary: Callable[[NDArray[np.float64], DatasetSpec, Protocol], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Metric:
    """Two pure functions and a name.

    `count(prediction, references, spec, protocol)` looks at one row. `combine(columns, spec, protocol)` gives all
    scores of the rows in the columns, on 0 to 100 (a correlation may be negative), `primary` first. A metric
    over labels counts `gold_class` and `predicted_class`, numbers in the label set, -1 for an invalid output.
    `version` rises when the same predictions get another score. `lenient` names the score that asks least of the
    form of an output, so that format and skill can be told apart. `span` is what scores lie between. `sums` makes
    resampling fast where the primary score is a function of sums, and `right` says which rows are right, (rows,),
    where each is right or wrong.
    """

    name: str
    count: Count
    combine: Combine
    version: int = 1
    lenient: str = "primary"
    sums: RowSums | None = None
    right: Right | None = None
    span: tuple[float, float] = (0.0, 100.0)


@dataclass(frozen=True, slots=True)
class Scores:
    """What one set of predictions is worth under one protocol.

    `values` holds the scores by name on 0 to 100, `primary` first. `invalid_rate` and `top_output_share` are
    shares of 0 to 1: of the scored rows whose output is no answer of the required form, and of all rows that have
    the most frequent output. `valid` has an entry for every prediction, None where there is no reference;
    `columns` are the counts of the scored rows in their order, for scoring any selection of them.
    """

    metric: str
    metric_version: int
    protocol: Protocol
    values: dict[str, float]
    invalid_rate: float
    top_output_share: float
    absent_classes: tuple[str, ...]
    scored_rows: int
    unscored_rows: int
    valid: tuple[bool | None, ...]
    columns: dict[str, NDArray[Any]]


def metric(
    name: str,
    combine: Combine,
    *,
    version: int = 1,
    lenient: str = "primary",
    sums: RowSums | None = None,
    right: Right | None = None,
    span: tuple[float, float] = (0.0, 100.0),
) -> Callable[[Count], Metric]:
    """Turn the counting function below the decorator into a metric; `means` and `mean_sums` serve most."""
    return lambda count: Metric(name, count, combine, version, lenient, sums, right, span)


def means(**scores: str) -> Combine:
    """Scores that are means of counts: `means(primary="correct")` is 100 times the mean of column `correct`."""

    def combine(columns: Columns, _spec: DatasetSpec, _protocol: Protocol) -> dict[str, float]:
        return {score: 100 * float(columns[column].mean()) for score, column in scores.items()}

    return combine


def mean_sums(column: str) -> RowSums:
    """`sums` of a metric whose primary score is 100 times the mean of a column."""

    def terms(columns: Columns, _spec: DatasetSpec, _protocol: Protocol) -> NDArray[Any]:
        return np.stack([columns[column].astype(float), np.ones(len(columns[column]))], axis=1)

    def primary(totals: NDArray[np.float64], _spec: DatasetSpec, _protocol: Protocol) -> NDArray[np.float64]:
        return 100 * (totals[:, 0] / totals[:, 1])

    return RowSums(terms, primary)


def rights(column: str) -> Right:
    """`right` of a metric that counts in a column whether a row is right."""
    return lambda columns: columns[column].astype(bool)


def _built_in() -> dict[str, Metric]:
    from peftbench.metrics.answers import equation_answer, last_number, token_f1
    from peftbench.metrics.classification import macro_f1
    from peftbench.metrics.codebleu import python_codebleu
    from peftbench.metrics.correlation import pearson

    every = (macro_f1, pearson, token_f1, last_number, equation_answer, python_codebleu)
    return {one.name: one for one in every}


def _own(name: str) -> Metric | None:
    """A metric in a file that its user named here before."""
    from peftbench.metrics.own import kept_metric

    return kept_metric(name)


metrics: Registry[Metric] = Registry("metric", group="peftbench.metrics", built_in=_built_in, otherwise=_own)


def score_rows(
    spec: DatasetSpec, predictions: Sequence[str], references: Sequence[Sequence[str]], protocol: Protocol
) -> Scores:
    """Score the outputs of a model on rows of one dataset.

    `predictions` has one text for each row as the model gave it, `references` the row's gold answers, none where
    the dataset has none for it. Raises `DataError` where the two differ in number, where there is nothing to
    score, and for a reference that the metric cannot read; the sentence names the row, counted from 0.
    """
    if len(predictions) != len(references):
        raise DataError(
            f"{len(predictions)} predictions and {len(references)} rows of references were given for "
            f"{spec.name}; give one prediction for each row"
        )
    chosen = metrics.get(spec.metric)
    counts = [
        _count_row(chosen, row, prediction, golds, spec, protocol) if _listed(row, golds) else None
        for row, (prediction, golds) in enumerate(zip(predictions, references, strict=True))
    ]
    scored = [count for count in counts if count is not None]
    if not scored:
        raise DataError(
            f"none of the {len(predictions)} rows of {spec.name} has a reference; give at least one row that "
            f"can be scored"
        )
    shape = _shape(scored[0])
    for row, found in enumerate(scored):
        if _shape(found) != shape:
            raise MetricError(
                f"metric {chosen.name} counts {_shape(found)} for scored row {row}, and {shape} for the first; "
                "count the same of every row"
            )
    columns = {name: np.array([count[name] for count in scored]) for name in scored[0]}
    return Scores(
        metric=chosen.name,
        metric_version=chosen.version,
        protocol=protocol,
        values=chosen.combine(columns, spec, protocol),
        invalid_rate=float(np.mean(columns["valid"] == 0)),
        top_output_share=max(Counter(map(trim, predictions)).values()) / len(predictions),
        absent_classes=_absent_classes(columns, spec.label_set),
        scored_rows=len(scored),
        unscored_rows=len(counts) - len(scored),
        valid=tuple(None if count is None else bool(count["valid"]) for count in counts),
        columns=columns,
    )


def _shape(counts: Counts) -> dict[str, int]:
    """How many numbers a row's counts hold by name; 1 for a single one."""
    return {name: len(value) if isinstance(value, tuple) else 1 for name, value in counts.items()}


def _listed(row: int, golds: Sequence[str]) -> Sequence[str]:
    if not isinstance(golds, list | tuple | str):
        raise DataError(f"row {row}: the references are a {type(golds).__name__}; give a list of texts")
    return golds


def _count_row(
    chosen: Metric, row: int, prediction: str, golds: Sequence[str], spec: DatasetSpec, protocol: Protocol
) -> Counts:
    if not isinstance(prediction, str):
        raise DataError(
            f"row {row}: the prediction is a {type(prediction).__name__}; give a text, empty if need be"
        )
    if isinstance(golds, str):
        raise DataError(f"row {row}: the references are one text; give a list of texts, even for a single one")
    if not all(isinstance(gold, str) for gold in golds):
        raise DataError(f"row {row}: a reference is not a text; give a list of texts")
    try:
        return chosen.count(prediction, tuple(golds), spec, protocol)
    except DataError as error:
        raise type(error)(f"row {row}: {error}") from error


def _absent_classes(columns: Columns, labels: tuple[str, ...]) -> tuple[str, ...]:
    if "gold_class" not in columns:
        return ()
    seen = {*columns["gold_class"].tolist(), *columns["predicted_class"].tolist()}
    return tuple(label for number, label in enumerate(labels) if number not in seen)
