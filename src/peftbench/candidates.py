"""Records to candidates of PSCP: performance with its replicates, parameters, FLOPs and memory of each method.

What cannot be set side by side is refused: sets with missing runs, several models or protocols, evaluations on
different rows, memory of several devices. Memory is the mean of the runs' maxima (section 4 of the paper).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from peftbench.efficiency.devices import Device
from peftbench.efficiency.models import shipped_model
from peftbench.errors import DataError, UnknownName
from peftbench.leaderboard import Gathered, gather
from peftbench.observer import Observer
from peftbench.records import RunResult, TrainRecord
from peftbench.sensitivity import Candidate
from peftbench.stats import paired_means

TOKENS = 512
"""Tokens of each sample for which FLOPs and memory are predicted, as in the paper."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """The methods of one model under one protocol, on the same rows of the same datasets."""

    title: str
    """Model, protocol, datasets, seeds, and where memory comes from."""
    candidates: tuple[Candidate, ...]
    base_performance: float | None
    """Score of the base model on the same rows; None where it is not there."""
    missing: dict[str, tuple[str, ...]]
    """Method to the runs that are not there."""
    note: str | None
    """What the missing runs mean for the comparison; None where the set is complete."""


def from_records(
    results: Sequence[RunResult],
    *,
    model: str | None,
    protocol: str | None,
    device: Device | None,
    allow_missing: bool,
    replicates: int,
    observer: Observer,
) -> Recorded:
    """What finished runs say of the methods in them; predictions are read from the runs' folders.

    Memory is predicted for `device`, or where that is None taken from the records; FLOPs are predicted, which
    loads torch. With `allow_missing` the comparison is over the datasets that all methods have. Raises
    `DataError` or `UnknownName` for what cannot be compared.
    """
    kept = of_one(results, model, protocol)
    gathered = gather(kept, protocol=kept[0].config.protocol)
    trained = [each for each in gathered if any(run.train for run in each.results)]
    short = [each.method.partition("(")[0] for each in trained]
    names = short if len(set(short)) == len(short) else [each.method for each in trained]
    gaps = [f"{name} lacks {cell}" for name, each in zip(names, trained, strict=True) for cell in each.missing]
    if gaps and not allow_missing:
        raise DataError(
            f"the set is not complete: {_listed(gaps)}; make these runs, or pass --allow-missing to compare on "
            "the datasets that all methods have"
        )
    every = list(dict.fromkeys(dataset for each in gathered for dataset in each.cells))
    datasets = [dataset for dataset in every if all(dataset in each.cells for each in trained)]
    if not datasets:
        raise DataError(f"no dataset was finished by all methods: {_listed(gaps)}; make these runs")
    check_rows(dict(zip(names, trained, strict=True)), datasets)
    cells = [{dataset: each.cells[dataset] for dataset in datasets} for each in trained]
    records = {name: _records(each, datasets) for name, each in zip(names, trained, strict=True)}
    if device is None:
        measured, basis = _measured_memory(records)
    else:
        precision = records[names[0]][0].model.dtype
        measured, basis = {}, f"memory predicted for {device.name} in {precision}, {TOKENS} tokens a sample"
    costs = {name: _predicted(runs, device) for name, runs in records.items()}
    observer.phase("resampling seeds and test rows", total=replicates)
    draws = paired_means(cells, replicates=replicates, advance=observer.advance)
    found = []
    for number, (name, runs) in enumerate(records.items()):
        flops, predicted = costs[name]
        found.append(
            Candidate(
                method=name,
                performance=float(np.mean([cell.estimate() for cell in cells[number].values()])),
                params=max(record.trainable_params for record in runs),
                flops=flops,
                memory=predicted if device is not None else measured[name],
                draws=None if draws is None else draws[:, number],
            )
        )
    counts = {len(cell.seeds) for of_method in cells for cell in of_method.values()}
    seeds = f"{min(counts)} to {max(counts)}" if len(counts) > 1 else f"{counts.pop()}"
    note = None
    if gaps:
        left = [dataset for dataset in every if dataset not in datasets]
        note = f"* The set is not complete: {_listed(gaps)}." + (
            f" Left out for all: {', '.join(left)}." if left else " Means are over the seeds that are there."
        )
    base = next((each.cells for each in gathered if each not in trained), None)
    whole = base is not None and all(dataset in base for dataset in datasets)
    first = kept[0]
    model_name = records[names[0]][0].model.name
    return Recorded(
        title=f"{model_name}, {first.config.protocol}; {len(datasets)} datasets, {seeds} seeds; {basis}",
        candidates=tuple(found),
        base_performance=float(np.mean([base[each].estimate() for each in datasets])) if base and whole else None,
        missing={name: each.missing for name, each in zip(names, trained, strict=True)},
        note=note,
    )


def of_one(results: Sequence[RunResult], model: str | None, protocol: str | None) -> list[RunResult]:
    """The results of one model under one protocol, each run once.

    Raises `DataError` or `UnknownName` where there are several to choose from, where a run is there under several
    settings, and where nothing but the base model was run.
    """
    if not results:
        raise DataError("the folder holds no finished run; give one that does, such as runs")

    def facts(result: RunResult) -> Any:
        record = result.train or result.evaluation
        assert record is not None
        return record.model

    names = list(dict.fromkeys(facts(each).name for each in results))
    if model is not None and model not in names:
        raise UnknownName("model", model, names, "of the runs that are there, ")
    if model is None and len(names) > 1:
        raise DataError(f"the runs are of several models, {', '.join(names)}; choose one with --model")
    kept = [each for each in results if facts(each).name == (model or names[0])]
    prints = {facts(each).fingerprint for each in kept}
    if len(prints) > 1:
        raise DataError(
            f"{len(prints)} models are called {facts(kept[0]).name} ({', '.join(sorted(prints))}); keep the runs "
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
                f"copy), in {where}; "
                "keep the one that is to be compared in the folder"
            )
    if not any(each.train for each in kept):
        raise DataError("the runs are of the base model alone, which has no PSCP; give those of a method too")
    return kept


def check_rows(groups: Mapping[str, Gathered], datasets: Sequence[str]) -> None:
    """Raise `DataError` unless the methods were evaluated on the same rows of each dataset, which all have."""
    for dataset in datasets:
        found = {each.cells[dataset].ids: name for name, each in groups.items()}
        if len(found) > 1:
            raise DataError(
                f"{' and '.join(list(found.values())[:2])} were evaluated on different test rows of {dataset}; "
                "evaluate them again on the same rows"
            )


def _records(group: Gathered, datasets: Sequence[str]) -> list[TrainRecord]:
    done = (run for run in group.results if run.primary is not None and run.config.dataset in datasets)
    return [run.train for run in done if run.train is not None]


def _measured_memory(records: Mapping[str, Sequence[TrainRecord]]) -> tuple[dict[str, float], str]:
    """Mean of the runs' maxima for each method, and on what; refused where they cannot be set side by side."""
    fix = "pass --memory predicted with --device NAME"
    kinds: set[tuple[str, str | None]] = set()
    found = {}
    for method, runs in records.items():
        peaks: dict[str, list[int]] = {}
        for run in runs:
            profile = run.efficiency
            if profile is None or profile.train_peak_memory_bytes is None:
                raise DataError(
                    f"memory of {method} on {run.config.dataset}, seed {run.config.seed}, is not known (runs that "
                    f"share passes cannot be told apart); {fix}, or make each run alone"
                )
            kinds.add((profile.device, profile.memory_kind))
            peaks.setdefault(run.config.dataset, []).append(profile.train_peak_memory_bytes)
        found[method] = float(np.mean([np.mean(each) for each in peaks.values()]))
    if len(kinds) > 1:
        shown = ", ".join(sorted(f"{device} ({kind})" for device, kind in kinds))
        raise DataError(f"memory was measured on several devices, {shown}, and cannot be compared; {fix}")
    device, kind = kinds.pop()
    return found, f"memory measured on {device}, {kind}"


def _predicted(runs: Sequence[TrainRecord], named: Device | None) -> tuple[float, float]:
    """FLOPs over the base model and peak bytes of training, of runs as these with samples of `TOKENS` tokens."""
    from peftbench.efficiency.plan import predict  # loads torch

    config, facts = runs[0].config, runs[0].model
    found = predict(
        config.model,
        # Dimensions that are shipped need neither network nor the model's files.
        None if shipped_model(config.model) is not None else config.model_revision,
        config.method,
        batch=config.training.batch_size,
        tokens=TOKENS,
        dtype=facts.dtype,
        engine="packed" if facts.padded_because is None else "padded",
        gradient_checkpointing=config.engine.gradient_checkpointing,
        kernels="cpu" if named is not None and named.kind == "cpu" else "fused",
    )
    return found.extra_forward_flops, found.peak_train_memory_bytes or 0


def _listed(gaps: Sequence[str], most: int = 20) -> str:
    more = f" and {len(gaps) - most} more" if len(gaps) > most else ""
    return "; ".join(gaps[:most]) + more
