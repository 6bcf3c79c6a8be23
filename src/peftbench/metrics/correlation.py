"""Agreement of scores with gold scores: Pearson's correlation, and Spearman's beside it.

A correlation that does not exist (one row, or the same number everywhere) is 0, never NaN.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import DataError
from peftbench.metrics.answers import number
from peftbench.metrics.labels import only, plain, published_text
from peftbench.metrics.scoring import Columns, Counts, RowSums, metric
from peftbench.schema import DatasetSpec, Protocol

LOWEST, HIGHEST = 0.0, 5.0
PUBLISHED_INVALID = -1.0
MODEST = 100.0
"""Numbers up to this size are resampled by their moments."""


def _combine(columns: Columns, _spec: DatasetSpec, _protocol: Protocol) -> dict[str, float]:
    predicted, gold, valid = columns["predicted"], columns["gold"], columns["valid"].astype(bool)
    raw = _correlation(predicted, gold)
    return {
        "primary": 100 * max(0.0, raw),
        "raw_pearson": 100 * raw,
        "pearson_on_valid_rows": 100 * _correlation(predicted[valid], gold[valid]),
        "spearman": 100 * _correlation(_ranks(predicted), _ranks(gold)),
    }


def _terms(columns: Columns, _spec: DatasetSpec, _protocol: Protocol) -> NDArray[np.float64] | None:
    """Moments around the means of all rows, and how many rows are not at the most frequent value of a side.

    Where one wild output would drown what the others differ by, there are none.
    """
    x, y = columns["predicted"], columns["gold"]
    if max(np.abs(x).max(), np.abs(y).max()) > MODEST:
        return None
    x, y = x - x.mean(), y - y.mean()
    return np.stack([np.ones(len(x)), x, y, x * x, y * y, x * y, x != _mode(x), y != _mode(y)], axis=1)


def _primary(totals: NDArray[np.float64], _spec: DatasetSpec, _protocol: Protocol) -> NDArray[np.float64]:
    rows, x, y, xx, yy, xy, x_differs, y_differs = totals.T
    spreads = (xx - x * x / rows, yy - y * y / rows)
    # One value everywhere: the most frequent by its count, another by what rounding leaves of its spread.
    flat = (x_differs == 0) | (y_differs == 0) | (spreads[0] <= 1e-12 * xx) | (spreads[1] <= 1e-12 * yy)
    norms = np.sqrt(np.where(flat, 1, spreads[0] * spreads[1]))
    return 100 * np.where(flat, 0.0, np.clip((xy - x * y / rows) / norms, 0, 1))


def _mode(side: NDArray[Any]) -> float:
    values, counts = np.unique(side, return_counts=True)
    return float(values[counts.argmax()])


@metric(
    "pearson",
    _combine,
    lenient="pearson_on_valid_rows",
    sums=RowSums(_terms, _primary),
    span=(-100.0, 100.0),
)
def pearson(prediction: str, references: tuple[str, ...], spec: DatasetSpec, protocol: Protocol) -> Counts:
    """Pearson's correlation with the gold scores; counts the gold score and the predicted one.

    An output that is no number from 0 to 5 counts as the mean training label; under `published` one that is no
    number at all counts as -1.
    """
    reference = only(references)
    gold = _real(reference)
    if gold is None:
        raise DataError(
            f"the reference {reference[:80]!r} of {spec.name} is no number; give the gold score as digits"
        )
    if protocol == "published":
        given = _real(published_text(prediction))
        return {
            "valid": given is not None,
            "gold": gold,
            "predicted": PUBLISHED_INVALID if given is None else given,
        }
    if spec.mean_train_label is None:
        raise DataError(
            f"{spec.name} has no mean_train_label to stand in for invalid outputs; add it to its entry"
        )
    given = _real(plain(prediction))
    valid = given is not None and LOWEST <= given <= HIGHEST
    return {
        "valid": valid,
        "gold": gold,
        "predicted": given if given is not None and valid else spec.mean_train_label,
    }


def _real(text: str) -> float | None:
    value = number(text)
    return None if value is None or not np.isfinite(float(value)) else float(value)


def _correlation(left: NDArray[Any], right: NDArray[Any]) -> float:
    centred = []
    for side in (left, right):
        if len(side) < 2 or side.min() == side.max():
            return 0.0
        scaled = side / np.abs(side).max()  # a wild output such as 1e300 must not overflow when squared
        centred.append(scaled - scaled.mean())
    norms = np.linalg.norm(centred[0]) * np.linalg.norm(centred[1])
    return float(np.clip(centred[0] @ centred[1] / norms, -1, 1)) if norms > 0 else 0.0


def _ranks(side: NDArray[Any]) -> NDArray[np.float64]:
    """Ranks from 1, (rows,), equal values sharing the mean of theirs."""
    _, places, sizes = np.unique(side, return_inverse=True, return_counts=True)
    return (np.cumsum(sizes) - (sizes - 1) / 2)[places]
