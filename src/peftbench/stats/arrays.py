"""What every procedure asks of the numbers that it is given."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Reals = NDArray[np.float64]


def finite(values: ArrayLike, what: str, dimensions: int) -> Reals:
    """The values as an array of that many dimensions; `ValueError` names the first that is no finite number."""
    try:
        array = np.asarray(values, dtype=float)
    except (TypeError, ValueError):
        raise ValueError(f"{what} are no table of numbers; give as many in each line") from None
    if array.ndim != dimensions or 0 in array.shape:
        raise ValueError(f"{what} have the shape {array.shape}, expected {dimensions} dimensions, none empty")
    wrong = np.argwhere(~np.isfinite(array))
    if len(wrong):
        place = tuple(wrong[0].tolist())
        raise ValueError(
            f"{what} hold {array[place]} at {place}, expected finite numbers; leave it out or mend it"
        )
    return array


def table_of(scores: ArrayLike, *, least: int) -> Reals:
    """Scores of methods over datasets, (datasets, methods); `ValueError` below `least` datasets or two methods."""
    array = finite(scores, "scores", 2)
    datasets, methods = array.shape
    if methods < 2:
        raise ValueError("scores are of one method; give at least two to compare")
    if datasets < least:
        counted = "one dataset" if datasets == 1 else f"{datasets} datasets"
        raise ValueError(f"scores are of {counted}; ranks over datasets need at least {least}")
    return array


def without_noise(values: Reals) -> Reals:
    """Scores to nine decimals: what differs by less was added up in another order, and is equal."""
    return np.round(values, 9)


def ascending_ranks(values: Reals) -> Reals:
    """Ranks from 1 along the last axis, equal values sharing the mean of theirs; the shape stays."""
    rounded = without_noise(values)
    ours, theirs = rounded[..., :, None], rounded[..., None, :]
    ranks: Reals = (theirs < ours).sum(axis=-1) + ((theirs == ours).sum(axis=-1) + 1) / 2
    return ranks


def inside(value: float, what: str) -> float:
    """A share strictly between 0 and 1, else `ValueError`."""
    if not 0 < value < 1:
        raise ValueError(f"{what} is {value!r}, expected a number between 0 and 1")
    return value


def single_where_exact(terms: NDArray[Any]) -> NDArray[Any]:
    """Terms (seeds, rows, terms) in single precision where sums of as many rows are exact, else in double."""
    most = terms.shape[1] * float(np.abs(terms).max(initial=0.0))
    exact = most < 2**24 and bool((terms == np.rint(terms)).all())
    return terms.astype(np.float32 if exact else np.float64)
