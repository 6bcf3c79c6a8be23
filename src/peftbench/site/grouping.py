"""What can be compared: runs of one model under one protocol on the same test rows, by the rules of `selection`.

A cell has an interval of its own, and a mean over any of the datasets follows from the replicates. What cannot be
set side by side says why, and shows its scores alone.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.datasets import dataset_names
from peftbench.datasets.mini import mini_names
from peftbench.errors import DataError
from peftbench.leaderboard import Counted, Gathered, gather
from peftbench.methods.specs import methods as known_methods
from peftbench.records import ModelFacts, RunResult
from peftbench.selection import caution_of, names_of, of_one
from peftbench.site.shelf import Entry
from peftbench.stats import Interval, Reals, interval_of, paired_draws

MOST_REPLICATES = 8_000_000
"""Replicates of all cells of a group that a page is given, four bytes each; a group of more has no intervals of
means over some of its datasets."""


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that can be compared, and what follows from them."""

    id: str
    entries: tuple[Entry, ...]
    label: str
    refused: str | None
    """Why they cannot be compared after all."""
    methods: dict[str, Gathered]
    """What is there of each method, by what it is called here: without settings where that tells methods apart."""
    datasets: tuple[str, ...]
    intervals: dict[str, dict[str, Interval]] = field(default_factory=dict)
    """Dataset to method to the mean over seeds."""
    means: dict[str, Interval] = field(default_factory=dict)
    """Method to the mean over all datasets; only of methods whose runs are all there."""
    draws: dict[str, dict[str, Reals]] = field(default_factory=dict)
    """Dataset to method to replicates, (replicates,); empty where there are none, or too many."""
    caution: str | None = None
    """What the intervals do not say, or why there are none."""

    @property
    def model(self) -> ModelFacts:
        """The base model of all runs."""
        return model_of(self.entries[0].result)

    @property
    def protocol(self) -> str:
        """The protocol of all runs."""
        return self.entries[0].result.config.protocol


def model_of(result: RunResult) -> ModelFacts:
    """The base model of a run."""
    record = result.evaluation or result.train
    assert record is not None
    return record.model


def grouped(
    entries: Sequence[Entry], before: Iterable[Group] = (), advance: Callable[[int], None] | None = None
) -> list[Group]:
    """The groups of all runs, in the order in which they first come; `before` has those that may stand still."""
    kept = {(group.id, group.entries): group for group in before}
    groups = []
    for identity, label, members in _split(entries):
        found = kept.get((identity, members))
        groups.append(_group(identity, label, members) if found is None else replace(found, label=label))
        if advance is not None:
            advance(len(members))
    return groups


# ------------------------------------------------------------------------------------------- what goes together


def _split(entries: Sequence[Entry]) -> list[tuple[str, str, tuple[Entry, ...]]]:
    """Id, label and runs of each group."""
    alike: dict[str, list[Entry]] = {}
    for entry in entries:
        config, model = entry.result.config, model_of(entry.result)
        limits = (config.evaluation.test_rows, config.data.split_seed)
        same = (model.name, model.fingerprint, model.precision, config.protocol, *limits)
        alike.setdefault(json.dumps(same), []).append(entry)
    found: list[tuple[str, str, str, tuple[Entry, ...]]] = []
    for key, members in alike.items():
        names = _telling_settings(members)
        parts: dict[str, list[Entry]] = {}
        base = [entry for entry in members if entry.result.train is None] if names else []
        for entry in members:
            if entry not in base:
                chosen = {name: _settings(entry.result)[name] for name in names}
                parts.setdefault(json.dumps(chosen), []).append(entry)
        for settings, part in (parts or {"{}": base}).items():
            together = (*base, *part) if parts else tuple(part)
            identity = "g" + hashlib.sha256(f"{key}{settings}".encode()).hexdigest()[:10]
            found.append((identity, _label(together[0].result, json.loads(settings)), key, together))
    labels = [label for _, label, _, _ in found]
    return [
        (identity, label if labels.count(label) == 1 else f"{label}, {json.loads(key)[1][:8]}", members)
        for identity, label, key, members in found
    ]


def _telling_settings(members: Sequence[Entry]) -> list[str]:
    """Settings of training under which a method was run more than once, as in a study of learning rates."""
    runs: dict[tuple[str, str, int], list[dict[str, Any]]] = {}
    for entry in members:
        config = entry.result.config
        if entry.result.train is not None:
            key = (str(config.method), config.dataset, config.seed)
            runs.setdefault(key, []).append(_settings(entry.result))
    return [
        name
        for name in _settings(members[0].result)
        if any(len({each[name] for each in repeated}) > 1 for repeated in runs.values())
    ]


def _settings(result: RunResult) -> dict[str, Any]:
    return {"train_rows": result.config.data.train_rows, **result.config.training.model_dump()}


def _label(result: RunResult, settings: Mapping[str, Any]) -> str:
    model, limit = model_of(result), result.config.evaluation.test_rows
    parts = [Path(model.name).name or model.name, model.precision, result.config.protocol]
    parts += [f"{limit:,} test rows"] if limit else []
    parts += [f"{name.replace('_', ' ')} {'all' if value is None else value}" for name, value in settings.items()]
    return ", ".join(parts)


# --------------------------------------------------------------------------------- what follows from them


def _group(identity: str, label: str, entries: tuple[Entry, ...]) -> Group:
    # A run whose predictions cannot be read has no score that could be compared.
    results = [_without_score(entry.result) if entry.problem else entry.result for entry in entries]
    counts = {id(result): entry.counted for result, entry in zip(results, entries, strict=True)}

    def count(result: RunResult, _protocol: object) -> Counted:
        found = counts[id(result)]
        assert found is not None
        return found

    known = [*dataset_names(), *mini_names()]  # in the order of the paper, so that areas stay together
    used = dict.fromkeys(result.config.dataset for result in results)
    datasets = tuple(sorted(used, key=lambda name: _place(known, name)))
    try:
        of_one(results, None, None)
        gathered = gather(results, protocol=results[0].config.protocol, count=count)
        _check_rows(gathered)
    except DataError as error:
        bare = dict.fromkeys(str(result.config.method) for result in results)
        names = {name: Gathered(name, tuple(_of_method(results, name)), 0, {}, ()) for name in bare}
        return Group(identity, entries, label, str(error), names, datasets)
    order = known_methods.names()
    gathered.sort(key=lambda each: _place(order, each.results[0].config.method.name))
    methods = dict(zip(names_of([each.method for each in gathered]), gathered, strict=True))
    draws = _draws(methods)
    group = Group(identity, entries, label, None, methods, datasets)
    counted = [len(cell.seeds) for each in gathered for cell in each.cells.values()]
    none = "One test row for each dataset: there is nothing to resample, and so there are no intervals."
    return replace(
        group,
        intervals=_intervals(group, draws),
        means=_means(group, draws),
        draws=draws if sum(len(each) for each in draws.values()) * 1000 <= MOST_REPLICATES else {},
        caution=(caution_of(counted) if draws else none) if counted else None,
    )


def _without_score(result: RunResult) -> RunResult:
    evaluation = result.evaluation and result.evaluation.model_copy(update={"status": "failed"})
    return result.model_copy(update={"evaluation": evaluation})


def _of_method(results: Sequence[RunResult], name: str) -> list[RunResult]:
    return [result for result in results if str(result.config.method) == name]


def _place(order: Sequence[str], name: str) -> int:
    return order.index(name) if name in order else len(order)


def _check_rows(gathered: Sequence[Gathered]) -> None:
    """Raise `DataError` where two methods were evaluated on different rows of a dataset."""
    first: dict[str, Gathered] = {}
    for each in gathered:
        for dataset, cell in each.cells.items():
            other = first.setdefault(dataset, each)
            if other.cells[dataset].ids != cell.ids:
                raise DataError(
                    f"{other.method} and {each.method} were evaluated on different test rows of {dataset}; "
                    "evaluate them again on the same rows"
                )


def _draws(methods: Mapping[str, Gathered]) -> dict[str, dict[str, Reals]]:
    """Replicates of every cell: the same whatever is resampled together, so that gaps do not matter."""
    alike: dict[tuple[str, ...], dict[str, Gathered]] = {}
    for name, each in methods.items():
        if each.cells:
            alike.setdefault(tuple(each.cells), {})[name] = each
    found: dict[str, dict[str, Reals]] = {}
    for members in alike.values():
        drawn = paired_draws([each.cells for each in members.values()])
        for dataset, values in (drawn or {}).items():
            found.setdefault(dataset, {}).update(zip(members, values.T, strict=True))
    return found


def _intervals(group: Group, draws: Mapping[str, Mapping[str, Reals]]) -> dict[str, dict[str, Interval]]:
    return {
        dataset: {
            name: interval_of(each.cells[dataset].estimate(), draws.get(dataset, {}).get(name))
            for name, each in group.methods.items()
            if dataset in each.cells
        }
        for dataset in group.datasets
    }


def _means(group: Group, draws: Mapping[str, Mapping[str, Reals]]) -> dict[str, Interval]:
    found = {}
    for name, each in group.methods.items():
        if each.missing or not each.cells:
            continue
        drawn = [draws[dataset][name] for dataset in each.cells if name in draws.get(dataset, {})]
        mean = float(np.mean([cell.estimate() for cell in each.cells.values()]))
        found[name] = interval_of(mean, np.mean(drawn, axis=0) if drawn else None)
    return found
