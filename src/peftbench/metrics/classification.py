"""Classification and multiple choice: macro-F1 over a fixed label set, and the scores beside it.

An invalid output is a prediction of no class: a false negative for the gold class, a false positive for none.
Under `published` it becomes a wrong label, as in the reference implementation.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import DataError
from peftbench.metrics.labels import INVALID, find_label, gold_class, only, published_text, read_label
from peftbench.metrics.scoring import Columns, Counts, RowSums, metric
from peftbench.schema import DatasetSpec, Protocol

PUBLISHED_CHARACTERS = 16
CLASSES = ("gold_class", "predicted_class")

Table = NDArray[np.int64]
"""Rows by gold class and predicted class, (classes, classes + 1); the last column holds the invalid outputs."""


def _combine(columns: Columns, spec: DatasetSpec, protocol: Protocol) -> dict[str, float]:
    classes, gold = len(spec.label_set), columns["gold_class"]
    table = _table(gold, columns["predicted_class"], classes)
    primary = _f1_second_label if protocol == "published" and classes == 2 else _macro_f1
    values = {"primary": primary(table), "accuracy": _accuracy(table)}
    if spec.official_metric:
        official = {"accuracy": _accuracy, "matthews": _matthews, "f1_second_label": _f1_second_label}
        values["official"] = official[spec.official_metric](table)
    if protocol == "corrected":
        values["lenient"] = _macro_f1(_table(gold, columns["lenient_class"], classes))
    return values


def _terms(columns: Columns, spec: DatasetSpec, _protocol: Protocol) -> NDArray[np.float64]:
    """Whether a row is a hit of each class, then how often each class is its gold or predicted one."""
    gold, predicted = (columns[name][:, None] == np.arange(len(spec.label_set)) for name in CLASSES)
    return np.concatenate([gold & predicted, gold.astype(float) + predicted], axis=1)


def _primary(totals: NDArray[np.float64], spec: DatasetSpec, protocol: Protocol) -> NDArray[np.float64]:
    classes = len(spec.label_set)
    shares = _f1(totals[:, :classes], totals[:, classes:])
    return np.nan_to_num(shares[:, 1]) if protocol == "published" and classes == 2 else np.nanmean(shares, axis=1)


def _right(columns: Columns) -> NDArray[np.bool_]:
    gold, predicted = (columns[name] for name in CLASSES)
    return np.equal(gold, predicted)


@metric("macro_f1", _combine, lenient="lenient", sums=RowSums(_terms, _primary), right=_right)
def macro_f1(prediction: str, references: tuple[str, ...], spec: DatasetSpec, protocol: Protocol) -> Counts:
    """Macro-F1 over the fixed label set; counts the gold class and the predicted one.

    Under `corrected` it also counts the class that a lenient reading finds, for the score `lenient`. Under
    `published` both sides are in lower case and cut at 16 characters, and an invalid output becomes the first
    label where the gold is the second, and the second label otherwise.
    """
    labels = spec.label_set
    if len(labels) < 2:
        raise DataError(
            f"{spec.name} has {len(labels)} labels, macro_f1 needs two; name the labels of the dataset"
        )
    gold = gold_class(only(references), labels, spec.name)
    if protocol == "corrected":
        predicted = read_label(prediction, labels)
        lenient = find_label(prediction, labels)
        valid = predicted != INVALID
        return {"valid": valid, "gold_class": gold, "predicted_class": predicted, "lenient_class": lenient}
    words = [label.lower()[:PUBLISHED_CHARACTERS] for label in labels]
    word = published_text(prediction)[:PUBLISHED_CHARACTERS]
    predicted = words.index(word) if word in words else int(gold != 1)
    return {"valid": word in words, "gold_class": gold, "predicted_class": predicted}


def _table(gold: NDArray[Any], predicted: NDArray[Any], classes: int) -> Table:
    cells = gold * (classes + 1) + predicted % (classes + 1)  # -1 falls into the last column
    return np.bincount(cells, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def _f1_of_classes(table: Table) -> NDArray[np.float64]:
    """F1 of each class, (classes,), on 0 to 100; NaN for a class with neither gold nor prediction."""
    return _f1(table.diagonal(), table.sum(axis=1) + table.sum(axis=0)[:-1])


def _f1(hits: NDArray[Any], sizes: NDArray[Any]) -> NDArray[np.float64]:
    shares = np.full(sizes.shape, np.nan)
    np.divide(200 * hits, sizes, out=shares, where=sizes > 0)
    return shares


def _macro_f1(table: Table) -> float:
    return float(np.nanmean(_f1_of_classes(table)))


def _f1_second_label(table: Table) -> float:
    return float(np.nan_to_num(_f1_of_classes(table)[1]))


def _accuracy(table: Table) -> float:
    return 100 * float(table.trace() / table.sum())


def _matthews(table: Table) -> float:
    """The correlation of Gorodkin (2004, https://doi.org/10.1016/j.compbiolchem.2004.09.006); 0 if undefined."""
    rows, gold, predicted = float(table.sum()), table.sum(axis=1).astype(float), table.sum(axis=0).astype(float)
    covariance = rows * table.trace() - gold @ predicted[:-1]
    spread = (rows**2 - gold @ gold) * (rows**2 - predicted @ predicted)
    return 100 * float(covariance / np.sqrt(spread)) if spread > 0 else 0.0
