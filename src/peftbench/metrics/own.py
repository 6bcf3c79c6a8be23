"""A metric outside the package: the `METRIC` of a Python file, held to what a metric must give.

What such a file raises, prints, exits with or gets wrong becomes one sentence; its numbers are believed only after
they were looked at. Where the file lies and who named it is not known here.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import ConfigError, DataError, MetricError
from peftbench.metrics.scoring import Columns, Counts, Metric, RowSums
from peftbench.outside import ended
from peftbench.plugin_file import load_kept
from peftbench.schema import DatasetSpec, Protocol

TOLERANCE = 1e-9
"""How far a score may lie outside its span for rounding alone."""


def kept_metric(name: str) -> Metric | None:
    """The metric of a file that was named here before, as `<stem>@<hash>`; None for any other name.

    Raises `ConfigError` where that file is not kept here, or defines no metric.
    """
    if "@" not in name:
        return None
    module = load_kept(name)
    if module is None:
        raise ConfigError(
            f"metric {name[:80]!r} is a file that was never used on this machine, and code is not taken from "
            "records; `peftbench check metric FILE` makes it known"
        )
    return guarded(metric_in(module, name), name, Path(str(module.__file__)))


def metric_in(module: ModuleType, name: str) -> Metric:
    """What a module calls `METRIC`; raises `ConfigError` where that is no metric."""
    stem = name.partition("@")[0]
    found = getattr(module, "METRIC", None)
    if found is None:
        raise ConfigError(
            f"{stem}.py has no METRIC; decorate the function that counts a row by @metric(...) of "
            "peftbench.metrics and write METRIC = <its name> below it"
        )
    if not isinstance(found, Metric):
        raise ConfigError(
            f"METRIC of {stem}.py is a {type(found).__name__}, expected a Metric; decorate its function by "
            "@metric(...) of peftbench.metrics"
        )
    if not (isinstance(found.version, int) and len(found.span) == 2 and found.span[0] < found.span[1]):
        raise ConfigError(
            f"METRIC of {stem}.py has version {found.version!r} and span {found.span!r}, expected a whole number "
            "and two numbers, the lower first; mend them"
        )
    return found


def guarded(metric: Metric, name: str, path: Path | None = None) -> Metric:
    """The metric under its full name, whose failures and wrong answers are `MetricError` in one sentence."""
    stem = name.partition("@")[0]

    def count(prediction: str, references: tuple[str, ...], spec: DatasetSpec, protocol: Protocol) -> Counts:
        with _said(stem, "scoring a row", path):
            found = metric.count(prediction, references, spec, protocol)
        return _checked_counts(found, stem)

    def combine(columns: Columns, spec: DatasetSpec, protocol: Protocol) -> dict[str, float]:
        with _said(stem, "combining rows", path):
            found = metric.combine(columns, spec, protocol)
        return _checked_scores(found, metric, stem)

    def right(columns: Columns) -> NDArray[Any]:
        assert metric.right is not None
        with _said(stem, "`right`", path):
            found = np.asarray(metric.right(columns))
        return _of_length(found, len(columns["valid"]), stem, "`right`")

    return replace(
        metric,
        name=name,
        count=count,
        combine=combine,
        sums=None if metric.sums is None else _guarded_sums(metric.sums, stem, path),
        right=None if metric.right is None else right,
    )


def _guarded_sums(sums: RowSums, stem: str, path: Path | None) -> RowSums:
    def terms(columns: Columns, spec: DatasetSpec, protocol: Protocol) -> NDArray[Any] | None:
        with _said(stem, "`sums.terms`", path):
            found = sums.terms(columns, spec, protocol)
        return (
            None if found is None else _of_length(np.asarray(found), len(columns["valid"]), stem, "`sums.terms`")
        )

    def primary(totals: NDArray[np.float64], spec: DatasetSpec, protocol: Protocol) -> NDArray[np.float64]:
        with _said(stem, "`sums.primary`", path):
            found = np.asarray(sums.primary(totals, spec, protocol), dtype=float)
        return _of_length(found, len(totals), stem, "`sums.primary`")

    return RowSums(terms, primary)


@contextmanager
def _said(stem: str, what: str, path: Path | None) -> Iterator[None]:
    """Keep what the file prints off standard output, and put what it raises into a sentence."""
    try:
        with redirect_stdout(StringIO()):
            yield
    except DataError as error:
        raise MetricError(f"metric {stem}: {error}") from error
    except (Exception, SystemExit) as error:
        raise MetricError(
            f"metric {stem}, {what}, {ended(error, str(path))}; mend its file and run again"
        ) from error


def _checked_counts(found: object, stem: str) -> Counts:
    if not isinstance(found, Mapping):
        raise MetricError(
            f"metric {stem} gives a {type(found).__name__} for a row, expected numbers by name such as "
            "{'valid': 1, 'right': 0}; mend its file"
        )
    if "valid" not in found or found["valid"] not in (0, 1):
        raise MetricError(
            f"metric {stem} says valid is {found.get('valid')!r} for a row, expected 0 or 1, whether the output "
            "is an answer at all; mend its file"
        )
    for key, value in found.items():
        if not isinstance(key, str) or not _finite(value):
            raise MetricError(
                f"metric {stem} counts {key!r} as {value!r:.60}, expected a finite number; mend its file"
            )
    return dict(found)


def _finite(value: object) -> bool:
    try:
        return bool(np.all(np.isfinite(np.asarray(value, dtype=float))))
    except (TypeError, ValueError):
        return False


def _checked_scores(found: object, metric: Metric, stem: str) -> dict[str, float]:
    if not isinstance(found, Mapping) or "primary" not in found:
        raise MetricError(
            f"metric {stem} combines rows to {found!r:.80}, expected scores by name with 'primary' among them; "
            "mend its file"
        )
    low, high = metric.span
    scores: dict[str, float] = {"primary": 0.0}
    for key, value in found.items():
        if not isinstance(key, str) or np.ndim(value) or not _finite(value):
            raise MetricError(
                f"metric {stem} gives {key!r} as {value!r:.60}, expected a finite number; mend its file"
            )
        number = float(value)
        if not low - TOLERANCE <= number <= high + TOLERANCE:
            raise MetricError(
                f"metric {stem} gives {key!r} as {number:g}, expected a number from {low:g} to {high:g}; multiply "
                "shares by 100, or say span=(lowest, highest)"
            )
        scores[key] = min(max(number, low), high)
    if metric.lenient not in scores:
        raise MetricError(
            f"metric {stem} names {metric.lenient!r} as its lenient score, but gives {', '.join(scores)}; name one"
        )
    return scores


def _of_length(found: NDArray[Any], rows: int, stem: str, what: str) -> NDArray[Any]:
    if found.ndim == 0 or len(found) != rows:
        raise MetricError(
            f"{what} of metric {stem} gives {len(found) if found.ndim else 'one value'} for {rows} rows, expected "
            "one for each; mend its file"
        )
    if not _finite(found):
        raise MetricError(f"{what} of metric {stem} gives what is no finite number; mend its file")
    return found
