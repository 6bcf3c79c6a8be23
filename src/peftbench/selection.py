"""Which records are set side by side: one model under one protocol, the same rows of the same datasets for all.

What cannot be is refused and named: several models or protocols, a run under several settings, missing runs,
evaluations on different rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from peftbench.errors import DataError, UnknownName
from peftbench.leaderboard import Gathered
from peftbench.records import RunResult
from peftbench.stats import Cell


@dataclass(frozen=True, slots=True)
class Shared:
    """Methods on the datasets that all of them have."""

    names: tuple[str, ...]
    """Short where that is enough to tell them apart, with settings otherwise."""
    datasets: tuple[str, ...]
    cells: tuple[dict[str, Cell], ...]
    """For each method its cells by dataset."""
    missing: dict[str, tuple[str, ...]]
    """Method to the runs that are not there."""
    note: str | None
    """What the missing runs mean for the comparison; None where the set is complete."""

    @property
    def size(self) -> str:
        """The numbers of datasets and of seeds, or the range of these, in words."""
        datasets, counts = len(self.datasets), self._seed_counts()
        seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else f"{counts[0]}"
        return f"{datasets} dataset{'s' * (datasets != 1)}, {seeds} seed{'s' * (counts[-1] != 1)}"

    @property
    def caution(self) -> str:
        """What intervals that resample so few seeds do not say."""
        return caution_of(self._seed_counts())

    def notes(self) -> tuple[str, ...]:
        """The caution, and what runs that are missing mean."""
        return (self.caution,) if self.note is None else (self.caution, self.note)

    def _seed_counts(self) -> list[int]:
        return sorted({len(cell.seeds) for cells in self.cells for cell in cells.values()})


def caution_of(seed_counts: Sequence[int]) -> str:
    """What intervals that resample so few seeds, counted for each cell, do not say."""
    several = sorted(count for count in seed_counts if count > 1)
    if not several:
        return "One seed each: nothing here says what another seed would give."
    return (
        f"Resampling {several[0]} seeds finds {several[0] - 1}/{several[0]} of their variance, so that intervals "
        "are somewhat too narrow where seeds matter."
    )


def shared_by(methods: Sequence[Gathered], *, allow_missing: bool) -> Shared:
    """The cells of methods on the datasets that all have.

    Raises `DataError` where runs are missing, unless `allow_missing`, where no dataset is left, and where two
    methods were evaluated on different rows of one.
    """
    names = names_of([each.method for each in methods])
    gaps = [f"{name} lacks {cell}" for name, each in zip(names, methods, strict=True) for cell in each.missing]
    if gaps and not allow_missing:
        raise DataError(
            f"the set is not complete: {listed(gaps)}; make these runs, or pass --allow-missing to compare on "
            "the datasets that all methods have"
        )
    every = list(dict.fromkeys(run.config.dataset for each in methods for run in each.results))
    datasets = [dataset for dataset in every if all(dataset in each.cells for each in methods)]
    if not datasets:
        raise DataError(f"no dataset was finished by all methods: {listed(gaps)}; make these runs")
    check_rows(dict(zip(names, methods, strict=True)), datasets)
    note = None
    if gaps:
        left = [dataset for dataset in every if dataset not in datasets]
        note = f"* The set is not complete: {listed(gaps)}." + (
            f" Left out for all: {', '.join(left)}." if left else " Means are over the seeds that are there."
        )
    return Shared(
        names=tuple(names),
        datasets=tuple(datasets),
        cells=tuple({dataset: each.cells[dataset] for dataset in datasets} for each in methods),
        missing={name: each.missing for name, each in zip(names, methods, strict=True)},
        note=note,
    )


def check_rows(groups: Mapping[str, Gathered], datasets: Sequence[str]) -> None:
    """Raise `DataError` unless the methods were evaluated on the same rows of each dataset, which all have."""
    for dataset in datasets:
        found = {each.cells[dataset].ids: name for name, each in groups.items()}
        if len(found) > 1:
            raise DataError(
                f"{' and '.join(list(found.values())[:2])} were evaluated on different test rows of {dataset}; "
                "evaluate them again on the same rows"
            )


def names_of(methods: Sequence[str]) -> list[str]:
    """Names without settings where they tell the methods apart, with them otherwise."""
    short = [each.partition("(")[0] for each in methods]
    return short if len(set(short)) == len(short) else list(methods)


def named(results: Sequence[RunResult], name: str) -> list[RunResult]:
    """The runs of the method of that name, with or without its settings.

    Raises `UnknownName` where there is none and `DataError` where several settings have it.
    """
    full = list(dict.fromkeys(str(each.config.method) for each in results))
    found = [method for method in full if name in (method, method.partition("(")[0])]
    if name in found:
        found = [name]
    if not found:
        raise UnknownName("method", name, {*full, *(each.partition("(")[0] for each in full)}, "of the runs, ")
    if len(found) > 1:
        raise DataError(f"the runs have several settings of {name}: {listed(found)}; name one in full")
    return [each for each in results if str(each.config.method) == found[0]]


def of_one(results: Sequence[RunResult], model: str | None, protocol: str | None) -> list[RunResult]:
    """The results of one model under one protocol, each run once."""
    if not results:
        raise DataError("the folder holds no finished run; give one that does, such as runs")

    def facts(result: RunResult) -> Any:
        record = result.train or result.evaluation
        assert record is not None
        return record.model

    names = list(dict.fromkeys(facts(each).label for each in results))
    if model is not None and model not in names:
        raise UnknownName("model", model, names, "of the runs that are there, ")
    if model is None and len(names) > 1:
        raise DataError(f"the runs are of several models, {', '.join(names)}; choose one with --model")
    kept = [each for each in results if facts(each).label == (model or names[0])]
    prints = {facts(each).fingerprint for each in kept}
    if len(prints) > 1:
        raise DataError(
            f"{len(prints)} models are called {facts(kept[0]).label} ({', '.join(sorted(prints))}); keep the runs "
            "of one of them in the folder"
        )
    rules = list(dict.fromkeys(each.config.protocol for each in kept))
    if protocol is not None and protocol not in rules:
        raise UnknownName("protocol", protocol, rules, "of the runs that are there, ")
    if protocol is None and len(rules) > 1:
        raise DataError(f"the runs are of several protocols, {', '.join(rules)}; choose one with --protocol")
    kept = [each for each in kept if each.config.protocol == (protocol or rules[0])]
    seen: dict[tuple[str, str, int], RunResult] = {}
    for each in kept:
        key = (str(each.config.method), each.config.dataset, each.config.seed)
        other = seen.setdefault(key, each)
        if other is not each:
            where = other.folder if other.folder == each.folder else f"{other.folder} and {each.folder}"
            raise DataError(
                f"{key[0]} on {key[1]}, seed {key[2]}, is there more than once (under several settings, or as a "
                f"copy), in {where}; keep the one that is to be compared in the folder"
            )
    return kept


def listed(gaps: Sequence[str], most: int = 20) -> str:
    """Gaps in one sentence, the first of very many."""
    more = f" and {len(gaps) - most} more" if len(gaps) > most else ""
    return "; ".join(gaps[:most]) + more
