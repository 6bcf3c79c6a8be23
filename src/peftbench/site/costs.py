"""What each method of a group costs, as far as its records and the model's dimensions say; None is unknown.

Means are over datasets of means over seeds, as the scores. Nothing is measured here, and no model is fetched.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from peftbench.candidates import TOKENS, measured_memory, predicted_costs
from peftbench.efficiency.models import shipped_model
from peftbench.errors import DataError, PeftBenchError
from peftbench.records import TINY, RunResult, TrainRecord
from peftbench.site.grouping import Group
from peftbench.site.payload import finite

_UNKNOWN_MODEL = "not known: neither the model's files nor its dimensions are here"


def costs_of(group: Group, flops: Callable[[TrainRecord], float | None]) -> dict[str, Any]:
    """The keys `costs` and `costs_of` of a group: method to its costs, and how each was had."""
    done = {
        name: [run for run in each.results if run.primary is not None or group.refused]
        for name, each in group.methods.items()
    }
    trained = {name: [run.train for run in runs if run.train] for name, runs in done.items()}
    extra = {name: flops(records[0]) if records else None for name, records in trained.items()}
    memory, basis = _memory({name: records for name, records in trained.items() if records})
    found = {}
    for name, runs in done.items():
        records = trained[name]
        found[name] = {
            "trainable_params": max((record.trainable_params for record in records), default=0),
            "adapter_bytes": _mean(runs, lambda run: run.train.adapter_bytes if run.train else None),
            "flops": finite(extra[name]) if records else 0,
            "memory_bytes": memory.get(name),
            "train_seconds": _mean(runs, lambda run: _profile(run.train, "train_seconds")),
            "energy_joules": _mean(runs, lambda run: _profile(run.train, "energy_joules")),
            "first_token_seconds": _mean(runs, lambda run: _profile(run.evaluation, "first_token_seconds")),
            "next_token_seconds": _mean(runs, lambda run: _profile(run.evaluation, "next_token_seconds")),
        }
    known = any(value is not None for name, value in extra.items() if trained[name])
    devices = sorted({record.provenance.device for records in trained.values() for record in records})
    predicted = f"predicted for {TOKENS} tokens"
    measured = f"measured on {', '.join(devices[:3])}{' and others' if len(devices) > 3 else ''}"
    return {
        "costs": found,
        "costs_of": {
            "trainable_params": "counted; the largest where datasets differ",
            "flops": predicted if known else _UNKNOWN_MODEL,
            "memory_bytes": basis,
            "train_seconds": measured,
            "energy_joules": measured,
            "first_token_seconds": "adapter attached",
            "next_token_seconds": "adapter attached",
        },
    }


def flops_of(record: TrainRecord) -> float | None:
    """FLOPs of one forward pass over the base model's, predicted; None where its dimensions are not here.

    Loads torch, which may be absent. Nothing is fetched: a model is known by its folder or by what is shipped.
    """
    model = record.config.model
    try:
        if shipped_model(model) is None and model != TINY and not (Path(model) / "config.json").is_file():
            return None
        return float(predicted_costs([record], None)[0])
    except (PeftBenchError, ModuleNotFoundError, OSError, ValueError):
        return None


def _memory(records: Mapping[str, Sequence[TrainRecord]]) -> tuple[dict[str, float], str]:
    """Memory of the methods whose runs all say it, where all were measured alike."""
    found: dict[str, float] = {}
    kinds = set()
    for name, runs in records.items():
        try:
            value, basis = measured_memory({name: runs})
        except DataError:
            continue
        found |= value
        kinds.add(basis.removeprefix("memory "))
    if len(kinds) > 1:
        return {}, f"not comparable: {'; '.join(sorted(kinds))}"
    return found, f"{kinds.pop()}; mean of the runs' maxima" if kinds else "not known: runs shared passes"


def _profile(record: Any, name: str) -> float | None:
    return getattr(record.efficiency, name) if record is not None and record.efficiency is not None else None


def _mean(runs: Sequence[RunResult], value: Callable[[RunResult], float | None]) -> float | None:
    by_dataset: dict[str, list[float]] = {}
    for run in runs:
        if (found := value(run)) is not None:
            by_dataset.setdefault(run.config.dataset, []).append(found)
    return mean(mean(each) for each in by_dataset.values()) if by_dataset else None
