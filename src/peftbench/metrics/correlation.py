"""Agreement of scores with gold scores: Pearson's correlation, and Spearman's beside it.

A correlation that does not exist (one row, or the same number everywhere) is 0, never NaN.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import DataError
from peftbench.metrics.answers import number
from peftbench.metrics.labels import only, plain, published_text
from peftbench.metrics.scoring import Columns, Counts, metric
from peftbench.schema import DatasetSpec, Protocol

LOWEST, HIGHEST = 0.0, 5.0
PUBLISHED_INVALID = -1.0


def _combine(columns: Columns, _spec: DatasetSpec, _protocol: Protocol) -> dict[str, float]:
    predicted, gold, valid = columns["predicted"], columns["gold"], columns["valid"].astype(bool)
    raw = _correlation(predicted, gold)
    return {
        "primary": 100 * max(0.0, raw),
        "raw_pearson": 100 * raw,
        "pearson_on_valid_rows": 100 * _correlation(predicted[valid], gold[valid]),
        "spearman": 100 * _correlation(_ranks(predicted), _ranks(gold)),
    }


@metric("pearson", _combine, lenient="pearson_on_valid_rows")
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
