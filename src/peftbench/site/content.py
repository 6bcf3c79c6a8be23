"""What the page shows, as plain data: the index that the first screen needs, and the rest by name.

`Content` is made from what a shelf holds now; nothing is written or sent. What each key holds stands in
docs/page.md.
"""

import base64
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from peftbench.columns import COLUMNS, KINDS
from peftbench.costtable import SHIPPED, shipped_costs
from peftbench.datasets import dataset_names, get_dataset
from peftbench.datasets.mini import mini_names
from peftbench.errors import PeftBenchError
from peftbench.methods.specs import methods as known_methods
from peftbench.observer import Observer
from peftbench.penalty import CostModel
from peftbench.provenance import own_version, utc_now
from peftbench.records import RunResult, TrainRecord
from peftbench.site.costs import costs_of, flops_of
from peftbench.site.errata import errata
from peftbench.site.foreign import printed_tables
from peftbench.site.grouping import Group, grouped
from peftbench.site.payload import SafeNames, finite
from peftbench.site.shelf import Entry, Shelf

FORMAT = 1
"""Raised when a key of the data changes its meaning."""
MOST_NOTES = 50
"""Sentences about records that cannot be read, before the rest is only counted."""
_TITLES = {
    "macro_f1": "macro-F1",
    "pearson": "Pearson correlation",
    "token_f1": "token F1",
    "last_number": "accuracy of the number",
    "equation_answer": "accuracy of the answer",
    "codebleu": "CodeBLEU",
}


@dataclass(frozen=True, eq=False)
class Content:
    """Everything that can be shown of some records."""

    title: str
    entries: dict[str, Entry]
    """Key to run."""
    groups: tuple[Group, ...]
    datasets: dict[str, str]
    """Name of the file to name of the dataset."""
    methods: dict[str, str]
    """Name of the file to name of the method."""
    problems: tuple[str, ...]
    imported: tuple[dict[str, Any], ...] = ()
    """Results of others, in the columns of ours."""
    costs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Group's id to the costs of its methods."""

    def group(self, identity: str) -> Group | None:
        """The group of this id."""
        return next((group for group in self.groups if group.id == identity), None)


def content_of(
    shelf: Shelf,
    title: str,
    *,
    before: Content | None = None,
    flops: Callable[[TrainRecord], float | None] = flops_of,
    observer: Observer | None = None,
) -> Content:
    """What a shelf holds now; what has not changed since `before` is not worked out again."""
    observer = observer or Observer()
    observer.phase("resampling seeds and test rows", total=len(shelf.entries))
    groups = grouped(shelf.entries, before.groups if before else (), observer.advance)
    kept = {id(group.methods): before.costs[group.id] for group in before.groups} if before else {}
    used = [entry.result.config for entry in shelf.entries]
    others = {name: [each[name] for each in shelf.imported] for name in ("dataset", "method")}
    datasets = [*dataset_names(), *mini_names(), *(each.dataset for each in used), *others["dataset"]]
    methods = [*known_methods.names(), *(each.method.name for each in used), *others["method"]]
    return Content(
        title=title,
        entries={entry.key: entry for entry in shelf.entries},
        groups=tuple(groups),
        datasets=_files(dict.fromkeys(datasets)),
        methods=_files(dict.fromkeys(methods)),
        problems=shelf.problems,
        imported=shelf.imported,
        costs={group.id: kept.get(id(group.methods)) or costs_of(group, flops) for group in groups},
    )


def _files(names: Iterable[str]) -> dict[str, str]:
    safe = SafeNames()
    return {safe.name(name): name for name in names}


def index(content: Content, *, live: bool) -> dict[str, Any]:
    """What the first screen needs."""
    costs = CostModel()
    factors = {"trainable_params": costs.params, "flops": costs.flops, "memory_bytes": costs.memory}
    shown = {entry.result.config.dataset for entry in content.entries.values()}
    shown |= {row["dataset"] for row in content.imported}
    return {
        "format": FORMAT,
        "title": content.title,
        "made_at": utc_now(),
        "version": own_version(),
        "live": live,
        "notes": _notes(content.problems),
        "records": _records(content),
        "groups": [_group(group, content.costs[group.id]) for group in content.groups],
        "tables": [_table(name) for name in SHIPPED],
        "printed": printed_tables(),
        "penalty": {
            "references": {name: factor.reference for name, factor in factors.items()},
            "exponents": {name: factor.importance for name, factor in factors.items()},
            "per_dataset_references": None,
        },
        "datasets": {
            name: _dataset(name, file)
            for file, name in content.datasets.items()
            if "@" not in name or name in shown
        },
        "methods": {name: _method(name, file) for file, name in content.methods.items()},
        "errata": errata(),
    }


def _notes(problems: Sequence[str]) -> list[str]:
    more = len(problems) - MOST_NOTES
    return [*problems[:MOST_NOTES], *([f"and {more:,} more that cannot be read"] if more > 0 else [])]


# --------------------------------------------------------------------------------------------------- records


def _records(content: Content) -> dict[str, Any]:
    """All runs by columns; texts as numbers of a list of them."""
    places = {key: (group.id, name) for group in content.groups for key, name in _members(group)}
    rows = [
        {
            **{name: getattr(entry.row, name) for name in COLUMNS},
            **dict(zip(("group", "label"), places[key], strict=True)),
            "key": key,
            "source": "measured",
        }
        for key, entry in content.entries.items()
    ]
    rows += [{**row, "group": None} for row in content.imported]
    columns: dict[str, Any] = {}
    for name in (*COLUMNS, "key", "source", "group", "label"):
        if name == "folder":
            continue
        values = [row[name] for row in rows]
        texts = KINDS.get(name, "text") == "text"
        columns[name] = _coded(values) if texts else [_plain(value) for value in values]
    return {"count": len(rows), "columns": columns}


def _members(group: Group) -> Iterator[tuple[str, str]]:
    names = {each.method: name for name, each in group.methods.items()}
    for entry in group.entries:
        yield entry.key, names[str(entry.result.config.method)]


def _coded(values: Sequence[str | None]) -> dict[str, Any]:
    known: dict[str, int] = {}
    codes = [-1 if value is None else known.setdefault(value, len(known)) for value in values]
    return {"values": list(known), "codes": codes}


def _plain(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


# ---------------------------------------------------------------------------------------------------- groups


def _group(group: Group, costs: dict[str, Any]) -> dict[str, Any]:
    model = group.model
    seeds = sorted({entry.result.config.seed for entry in group.entries if entry.result.train})
    return {
        "id": group.id,
        "model": model.name,
        "label": group.label,
        "protocol": group.protocol,
        "datasets": list(group.datasets),
        "methods": list(group.methods),
        "seeds": seeds,
        "cells": {dataset: _cells(group, dataset, seeds) for dataset in group.datasets},
        "means": {
            name: {"estimate": each.estimate, "low": finite(each.low), "high": finite(each.high)}
            for name, each in group.means.items()
        },
        "caution": group.caution,
        "why_no_interval": None if group.draws else group.refused or group.caution,
        "refused": group.refused,
        "draws": bool(group.draws),
        **costs,
    }


def _cells(group: Group, dataset: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Method to what is there of it on a dataset; nothing where there is no run."""
    found = {}
    for name, each in group.methods.items():
        runs = [run for run in each.results if run.config.dataset == dataset]
        if not runs:
            continue
        # The base model has no seed to lack.
        wanted = seeds if any(run.train for run in each.results) else ()
        there = {run.config.seed for run in runs}
        failed = [f"{_seed(run)}: {why}" for run in runs if (why := _why(group, run))]
        scores = [run.primary for run in runs if run.primary is not None]
        interval = group.intervals.get(dataset, {}).get(name)
        if interval is None:
            low = high = None
            estimate = float(np.mean(scores)) if scores else None
        else:
            estimate, low, high = interval.estimate, interval.low, interval.high
            scores = each.cells[dataset].scores().tolist()
        found[name] = {
            "estimate": estimate,
            "low": finite(low),
            "high": finite(high),
            "seeds": len(scores),
            "sd": float(np.std(scores, ddof=1)) if len(scores) > 1 else None,
            "rows": each.cells[dataset].rows if dataset in each.cells else None,
            "missing": [f"seed {seed}" for seed in wanted if seed not in there],
            "failed": failed,
        }
    return found


def _seed(run: RunResult) -> str:
    return f"seed {run.config.seed}" if run.train else "run"


def _why(group: Group, run: RunResult) -> str | None:
    """Why a run has no score that counts."""
    failure = next((part.failure for part in (run.train, run.evaluation) if part and part.failure), None)
    if failure is not None:
        return failure.reason
    if run.primary is not None:
        return None
    # Where predictions cannot be read the group holds the run without its evaluation.
    unread = any(entry.problem and _same(entry.result, run) for entry in group.entries)
    return "predictions cannot be read" if unread else "not evaluated"


def _same(first: RunResult, second: RunResult) -> bool:
    one, other = first.config, second.config
    return (str(one.method), one.dataset, one.seed) == (str(other.method), other.dataset, other.seed)


def draws(group: Group) -> dict[str, Any]:
    """Replicates of a group, (replicates, methods) for each dataset, row by row as 32-bit floats."""
    replicates = next(len(each) for found in group.draws.values() for each in found.values())
    return {
        "replicates": replicates,
        "cells": {
            dataset: {
                "methods": list(found),
                "values": base64.b64encode(
                    np.stack(list(found.values()), axis=1).astype("<f4").tobytes()
                ).decode(),
            }
            for dataset, found in group.draws.items()
        },
    }


# ------------------------------------------------------------------------------------------------ the others


def _table(name: str) -> dict[str, Any]:
    table = shipped_costs(name)
    return {
        "name": name,
        "title": table.title,
        "source": "PEFT-Bench paper, arXiv:2511.21285",
        "methods": [
            {
                "method": each.method,
                "performance": each.performance,
                "standard_error": None,
                "trainable_params": each.params,
                "flops": each.flops,
                "memory_bytes": each.memory,
            }
            for each in table.candidates
        ],
        "base": table.base_performance,
        "errata": ["pscp-and-efficiency"],
    }


def _dataset(name: str, file: str) -> dict[str, Any]:
    try:
        spec = get_dataset(name)
    except PeftBenchError:
        return {"name": name, "file": file, "title": name, "area": None, "task": None, "metric": None,
                "metric_title": None, "test_rows": None, "labels": None}  # fmt: skip
    return {
        "name": name,
        "file": file,
        "title": spec.title,
        "area": spec.benchmark or spec.area,
        "task": spec.task,
        "metric": spec.metric,
        "metric_title": _TITLES.get(spec.metric, spec.metric),
        "test_rows": spec.counts.test,
        "labels": list(spec.label_set) or None,
    }


def _method(name: str, file: str) -> dict[str, Any]:
    spec = known_methods.known(name)
    if spec is None:
        return {"name": name, "file": file, "title": name, "family": None, "variant_of": None}
    of = next((each for each in known_methods.names() if name.startswith(f"{each}_")), None)
    return {"name": name, "file": file, "title": spec.title, "family": spec.category, "variant_of": of}
