"""Tables of performances and costs: read, checked, and the paper's own, which are shipped.

A CSV file with a line of headings (lines that begin with # are comments), or a JSON list of objects, one a method:

    method, performance (0 to 100), params (trainable), tflops (forward pass), memory_gb (peak of training)

A row `base` gives the base model's tflops; without one, extra_tflops over the base stands in place of tflops.
"""

import csv
import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peftbench.errors import DataError, UnknownName
from peftbench.penalty import GIGA, TERA
from peftbench.sensitivity import Candidate
from peftbench.stats import REPLICATES

if TYPE_CHECKING:
    from peftbench.importers.results import ImportedResult

SHIPPED = {
    "paper": "PEFT-Bench paper, Table 3 as printed",
    "paper-means": "PEFT-Bench paper, performance as the means of Tables 1 and 2",
}
"""Tables that come with the package, with what they are."""
BASE = "base"
_NEEDED = ("method", "performance", "params", "memory_gb")
_COLUMNS = (*_NEEDED, "tflops", "extra_tflops", "standard_error")
_MOST_BYTES = 10_000_000
MOST = 1e100
"""Largest cost in a table, in its unit; what is above it would not be finite in ours."""


@dataclass(frozen=True, slots=True)
class CostTable:
    """What a table says of the methods in it."""

    title: str
    candidates: tuple[Candidate, ...]
    base_performance: float | None
    """Score of the base model, which has no PSCP: it is not trained."""


def shipped_costs(name: str) -> CostTable:
    """A table that comes with the package; raises `UnknownName`."""
    if name not in SHIPPED:
        raise UnknownName("table of costs", name, SHIPPED)
    found = read_costs(Path(__file__).with_name("costs") / f"{name}.csv")
    return replace(found, title=SHIPPED[name])


def read_costs(file: Path) -> CostTable:
    """Read a table of costs, as the head of this module describes it.

    `standard_error`, a column that may be there, gives each performance replicates: normal, independent of those
    of other methods, within 0 to 100. Raises `DataError` with file, line, value and what was expected.
    """
    rows = list(_json_rows(file) if file.suffix.lower() == ".json" else _csv_rows(file))
    if not rows:
        raise DataError(f"{file.name} holds no methods; give one row for each")
    columns = dict.fromkeys(name for _, row in rows for name in row)
    for name in columns:
        if name not in _COLUMNS:
            raise UnknownName("column", name, _COLUMNS, f"{file.name}: ")
    if absent := [name for name in _NEEDED if name not in columns]:
        raise DataError(f"{file.name} has no column {', '.join(absent)}; expected are {', '.join(_COLUMNS)}")
    if ("tflops" in columns) == ("extra_tflops" in columns):
        raise DataError(f"{file.name} needs either tflops with a row {BASE!r}, or extra_tflops over the base")
    named: dict[str, _Row] = {}
    for place, values in rows:
        method = values.get("method")
        if not isinstance(method, str) or not method.strip():
            raise DataError(f"{file.name}, {place}: method is {method!r}, expected a name")
        row = _Row(f"{file.name}, {place}, {method.strip()}", values)
        if named.setdefault(method.strip(), row) is not row:
            raise DataError(f"{row.place}: the method stands there twice; give one row for each")
    base = named.pop(BASE, None)
    if "tflops" in columns and base is None:
        raise DataError(
            f"{file.name} has tflops but no row {BASE!r} of the base model's; add it or give extra_tflops"
        )
    if not named:
        raise DataError(f"{file.name} holds the base model alone; give one row for each method")
    erring = "standard_error" in columns
    floor = 0.0 if base is None or "tflops" not in columns else base.number("tflops")
    source = np.random.default_rng(0)
    found = []
    for method, row in named.items():
        performance = row.number("performance", most=100)
        flops = row.number("tflops") - floor if "tflops" in columns else row.number("extra_tflops", negative=True)
        draws = None
        if erring:
            drawn = source.normal(performance, row.number("standard_error"), REPLICATES)
            draws = np.clip(drawn, 0, 100)
        found.append(
            Candidate(
                method,
                performance,
                params=row.number("params"),
                flops=flops * TERA,
                memory=row.number("memory_gb") * GIGA,
                draws=draws,
            )
        )
    scored = base is not None and base.values.get("performance") not in (None, "")
    return CostTable(file.name, tuple(found), base.number("performance", most=100) if base and scored else None)


def imported_costs(folder: Path, name: str, model: str | None = None) -> CostTable:
    """The methods of an import with their costs; FLOPs, of which no source says anything, are 0.

    P is the mean over datasets of the mean over seeds; a method with other settings is another candidate. Raises
    `UnknownName` for an import that is not there, and `DataError` for several models, for several metrics of one
    dataset, for methods on different datasets, and where parameters, memory or scores are not known.
    """
    from peftbench.importers.results import imported_set

    found = imported_set(folder, name)
    models = sorted({each.model or "unknown" for each in found.results})
    if model is None and len(models) > 1:
        raise DataError(
            f"import {name!r} is of several models, {', '.join(models)}; pass --model with one of them"
        )
    if model is not None and model not in models:
        raise UnknownName("model", model, models, f"import {name!r}: ")
    groups: dict[tuple[str | None, ...], list[ImportedResult]] = {}
    for each in found.results:
        if model in (None, each.model or "unknown") and each.method != BASE:
            # Where experiments have names, those of one method and settings differ in how they were trained.
            trained = each.experiment if each.source == "hf-method-comparison" else None
            groups.setdefault((trained or each.method or "unknown", each.settings), []).append(each)
    if not groups:
        raise DataError(f"import {name!r} holds the base model alone, which has no PSCP; name one with methods")
    called = [label for label, _ in groups]
    labels = [f"{label} {settings or ''}" if called.count(label) > 1 else str(label) for label, settings in groups]
    candidates = [_imported(name, label, group) for label, group in zip(labels, groups.values(), strict=True)]
    if len({frozenset(each.original_dataset for each in group) for group in groups.values()}) != 1:
        raise DataError(f"import {name!r} has not the same datasets for all methods; compare what has")
    return CostTable(f"imported: {name}, not measured here", tuple(candidates), None)


def _imported(name: str, label: str, results: "list[ImportedResult]") -> Candidate:
    """One method of an import."""
    scores: dict[str, list[float]] = {}
    metrics: dict[str, set[str]] = {}
    for each in results:
        unknown = [
            key for key in ("score", "trainable_params", "train_peak_memory_bytes") if getattr(each, key) is None
        ]
        if unknown:
            raise DataError(f"import {name!r}, {label}: {', '.join(unknown)} not known, so that it has no PSCP")
        scores.setdefault(each.original_dataset, []).append(each.score or 0.0)
        metrics.setdefault(each.original_dataset, set()).add(each.metric)
    if any(len(found) > 1 for found in metrics.values()):
        raise DataError(f"import {name!r}, {label}: several metrics of one dataset; PSCP is of one")
    return Candidate(
        label,
        float(np.mean([np.mean(found) for found in scores.values()])),
        params=float(np.mean([each.trainable_params or 0 for each in results])),
        flops=0.0,
        memory=float(np.mean([each.train_peak_memory_bytes or 0 for each in results])),
    )


@dataclass(frozen=True, slots=True)
class _Row:
    place: str
    values: Mapping[str, Any]

    def number(self, name: str, *, negative: bool = False, most: float = MOST) -> float:
        given = self.values.get(name)
        try:
            value = math.nan if isinstance(given, bool) or given is None else float(given)
        except (TypeError, ValueError, OverflowError):
            value = math.nan
        if (negative or value >= 0) and abs(value) <= most:
            return value
        raise DataError(
            f"{self.place}: {name} is {given!r}, expected a number from {-most if negative else 0:g} to {most:g}"
        )


def _text(file: Path) -> str:
    try:
        if file.stat().st_size > _MOST_BYTES:
            raise DataError(f"{file.name} is too large for a table of costs; give one row for each method")
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{str(file)!r} cannot be read as text: {error}; give a CSV or JSON file") from error


def _csv_rows(file: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    lines = [
        (number, line)
        for number, line in enumerate(_text(file).splitlines(), 1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    try:
        read = list(csv.reader((line for _, line in lines), strict=True))
    except csv.Error as error:
        raise DataError(f"{file.name} cannot be read as CSV ({error}); mend the file") from error
    if len(read) != len(lines):
        raise DataError(f"{file.name} cannot be read as CSV (a cell goes over several lines); mend the file")
    headings = [cell.strip() for cell in read[0]] if read else []
    if len(set(headings)) != len(headings):
        raise DataError(f"{file.name} has two columns of one name; give each a name of its own")
    for (number, _), cells in zip(lines[1:], read[1:], strict=True):
        if len(cells) != len(headings):
            raise DataError(
                f"{file.name}, line {number}: {len(cells)} cells, expected {len(headings)}, as headings"
            )
        yield f"line {number}", dict(zip(headings, (cell.strip() for cell in cells), strict=True))


def _json_rows(file: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    try:
        rows = json.loads(_text(file))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file.name} cannot be read as JSON ({error}); mend the file") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{file.name} is not a list of objects; give one object for each method")
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row
