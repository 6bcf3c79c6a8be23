"""Records to candidates of PSCP: performance with its replicates, parameters, FLOPs and memory of each method.

What cannot be set side by side is refused, memory of several devices too. Memory is the mean of the runs' maxima
(section 4 of the paper).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from peftbench.efficiency.devices import Device
from peftbench.efficiency.models import shipped_model
from peftbench.errors import DataError
from peftbench.leaderboard import Gathered, gather
from peftbench.observer import Observer
from peftbench.records import RunResult, TrainRecord
from peftbench.selection import of_one, shared_by
from peftbench.sensitivity import Candidate
from peftbench.stats import paired_means

TOKENS = 512
"""Tokens of each sample for which FLOPs and memory are predicted, as in the paper."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What a method costs: the three factors of PSCP."""

    params: float
    """Parameters that are trained, the most where datasets differ."""
    flops: float
    """FLOPs over the base model of one forward pass."""
    memory: float
    """Peak bytes of training."""


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
    caution: str
    """What the intervals do not say."""
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
    if not any(each.train for each in kept):
        raise DataError("the runs are of the base model alone, which has no PSCP; give those of a method too")
    gathered = gather(kept, protocol=kept[0].config.protocol)
    trained = [each for each in gathered if any(run.train for run in each.results)]
    shared = shared_by(trained, allow_missing=allow_missing)
    names, datasets, cells = shared.names, shared.datasets, shared.cells
    records = {name: _records(each, datasets) for name, each in zip(names, trained, strict=True)}
    costs, basis = costs_of(records, device)
    observer.phase("resampling seeds and test rows", total=replicates)
    draws = paired_means(cells, replicates=replicates, advance=observer.advance)
    found = []
    for number, (name, cost) in enumerate(costs.items()):
        found.append(
            Candidate(
                method=name,
                performance=float(np.mean([cell.estimate() for cell in cells[number].values()])),
                params=cost.params,
                flops=cost.flops,
                memory=cost.memory,
                draws=None if draws is None else draws[:, number],
            )
        )
    base = next((each.cells for each in gathered if each not in trained), None)
    whole = base is not None and all(dataset in base for dataset in datasets)
    first = kept[0]
    model_name = records[names[0]][0].model.label
    return Recorded(
        title=f"{model_name}, {first.config.protocol}; {shared.size}; {basis}",
        candidates=tuple(found),
        base_performance=float(np.mean([base[each].estimate() for each in datasets])) if base and whole else None,
        missing=shared.missing,
        caution=shared.caution,
        note=shared.note,
    )


def costs_of(records: Mapping[str, Sequence[TrainRecord]], device: Device | None) -> tuple[dict[str, Costs], str]:
    """What each method costs by the records of its trainings, and where memory comes from, in words.

    Loads torch, which FLOPs are predicted with. Raises `DataError` where memory is not known or not comparable.
    """
    if device is None:
        measured, basis = measured_memory(records)
    else:
        precision = next(iter(records.values()))[0].model.precision
        measured, basis = {}, f"memory predicted for {device.name} in {precision}, {TOKENS} tokens a sample"
    found = {}
    for name, runs in records.items():
        flops, predicted = predicted_costs(runs, device)
        params = max(record.trainable_params for record in runs)
        found[name] = Costs(params, flops, predicted if device is not None else measured[name])
    return found, basis


def _records(group: Gathered, datasets: Sequence[str]) -> list[TrainRecord]:
    done = (run for run in group.results if run.primary is not None and run.config.dataset in datasets)
    return [run.train for run in done if run.train is not None]


def measured_memory(records: Mapping[str, Sequence[TrainRecord]]) -> tuple[dict[str, float], str]:
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


def predicted_costs(runs: Sequence[TrainRecord], named: Device | None) -> tuple[float, float]:
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
        quantization=facts.quantization,
        engine="packed" if facts.padded_because is None else "padded",
        gradient_checkpointing=config.engine.gradient_checkpointing,
        kernels="cpu" if named is not None and named.kind == "cpu" else "fused",
    )
    return found.extra_forward_flops, found.peak_train_memory_bytes or 0
