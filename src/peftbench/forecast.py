"""What the cells of a grid will cost on a device, and which of them cannot be; needs neither weights nor rows."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from peftbench.bylength import Costs, cost_of_run, sample_lengths
from peftbench.datasets.catalog import get_dataset, under_protocol
from peftbench.datasets.check import in_hub, problems_of
from peftbench.datasets.examples import Role
from peftbench.datasets.lengths import lengths_of
from peftbench.datasets.mini import is_mini
from peftbench.efficiency.cost import Range
from peftbench.efficiency.devices import Device
from peftbench.efficiency.models import shipped_model
from peftbench.engine.loading import check_access, check_name
from peftbench.errors import ConfigError, DataError
from peftbench.grid import Cell, finished
from peftbench.methods.plugins import spec_of
from peftbench.records import RunConfig, RunResult
from peftbench.schema import DatasetSpec, Frozen, LocalSource

Status = Literal["done", "failed", "pending", "impossible"]


class CellForecast(Frozen):
    """One cell of a grid: how far it is, and what is left of it will cost."""

    id: str
    cell: str
    model: str
    method: str
    dataset: str
    seed: int | None
    """None for the base model."""
    status: Status
    why: tuple[str, ...] = ()
    """Why it is impossible, or failed."""
    notes: tuple[str, ...] = ()
    """What will go otherwise than asked for."""
    trainable_params: int | None = None
    extra_forward_flops: int | None = None
    """Of 512 tokens, over the base model's: the cost that PSCP takes."""
    steps: int | None = None
    sample_tokens: int | None = None
    """Prompt and answer of a sample of middle length; virtual tokens come on top."""
    peak_memory_bytes: int | None = None
    """Of a training step whose samples all have the length that 95 of 100 do not exceed; for the base model its
    weights. Estimated."""
    fits: bool | None = None
    """Whether that, and what a device needs beside it, is within the device's memory; None where not known."""
    several_passes: bool = False
    """Whether a step fits only if it is made in several passes over its samples."""
    seconds: Range | None = None
    """Training, validation and evaluation of this cell alone; None on a device that is not known."""
    joules: Range | None = None


class Download(Frozen):
    """What has to be fetched from the hub."""

    kind: Literal["model", "dataset"]
    repository: str
    revision: str | None
    files: tuple[str, ...]
    """Patterns; empty for a whole model."""
    estimated_bytes: int | None
    """Of a model, two bytes a parameter."""


class Forecast(Frozen):
    """A grid, or one run, before it is run."""

    name: str
    device: str | None
    basis: str
    """What the figures rest on."""
    cells: tuple[CellForecast, ...]
    downloads: tuple[Download, ...]
    unreadable: tuple[str, ...] = ()
    """Records that were found and could not be understood."""

    def count(self, status: Status) -> int:
        """Cells of that status."""
        return sum(each.status == status for each in self.cells)

    def total(self, cost: Literal["seconds", "joules"]) -> Range | None:
        """The sum over what is still to be done; None where it is not known for some."""
        return self.total_of([each for each in self.cells if each.status in ("pending", "failed")], cost)

    @staticmethod
    def total_of(cells: Iterable[CellForecast], cost: Literal["seconds", "joules"]) -> Range | None:
        """The same over some cells."""
        ranges = [getattr(each, cost) for each in cells]
        if any(each is None for each in ranges):
            return None
        return Range(low=sum(each.low for each in ranges), high=sum(each.high for each in ranges))


def forecast(
    name: str,
    cells: Sequence[Cell],
    device: Device | None,
    *,
    results: Sequence[RunResult] = (),
    unreadable: Sequence[str] = (),
    online: bool = False,
) -> Forecast:
    """What each cell will cost on `device`, which cells are done, and which cannot be and why.

    Nothing is written; the network is used only if `online`. A cell that cannot be is said to be impossible; no
    error is raised for it.
    """
    done = finished(cells, results)
    plans: dict[tuple[Any, ...], Costs] = {}
    checks = _Checks(online)
    found = []
    for cell in cells:
        record = done.get(cell.id)
        key = _alike(cell.config)
        if key not in plans:
            plans[key] = Costs(cell.config, device, online)
        found.append(_forecast_cell(cell, record, plans[key], checks))
    estimated = [costs.estimated for costs in plans.values() if costs.problem is None]
    return Forecast(
        name=name,
        device=None if device is None else device.name,
        basis=_basis(device, estimated, [get_dataset(name) for name in {cell.config.dataset for cell in cells}]),
        cells=tuple(found),
        downloads=tuple(_downloads(cell.config for cell in cells if cell.id not in done)),
        unreadable=tuple(unreadable),
    )


def _alike(config: RunConfig) -> tuple[Any, ...]:
    """Equal where predictions at one length are the same."""
    engine, training = config.engine, config.training
    return (
        *(config.model, config.model_revision, str(config.method), config.dtype, config.quantization),
        *(training.batch_size, engine.micro_batch_size, engine.gradient_checkpointing),
    )


def _basis(device: Device | None, estimated: Sequence[bool], datasets: Sequence[DatasetSpec]) -> str:
    counted = "rows as Table 4 of the paper counts them, lengths as the catalogue has them"
    here = [each for each in datasets if is_mini(each.name) or isinstance(each.source, LocalSource)]
    parts = [counted] if any(not each.own and each not in here for each in datasets) else []
    if here:
        names = ", ".join(sorted(each.name for each in here))
        parts.append(f"rows of {names} as they are here")
    if guessed := sorted(each.name for each in datasets if each.own and lengths_of(each) is None):
        parts.append(f"lengths of {', '.join(guessed)} guessed, for they are not here")
    rows = ", ".join(parts)
    dimensions = "models by their own dimensions" if estimated else "no model's dimensions known"
    if any(estimated):
        dimensions = f"{'' if all(estimated) else 'some '}models by the dimensions shipped with peftbench"
    rates = "no device known" if device is None else "calibrated" if device.calibration else "data sheet's rates"
    return f"estimated: {rows}, {dimensions}, {rates}"


# -------------------------------------------------------------------------------------------------- one cell


def _forecast_cell(cell: Cell, record: RunResult | None, costs: "Costs", checks: "_Checks") -> CellForecast:
    config = cell.config
    spec = under_protocol(get_dataset(config.dataset), config.protocol)
    trains = spec_of(config.method).build is not None
    facts: dict[str, Any] = {
        "id": cell.id,
        "cell": str(cell),
        "model": config.model,
        "method": str(config.method),
        "dataset": config.dataset,
        "seed": config.seed if trains else None,
    }
    if record is not None and record.status == "done":
        return CellForecast(
            **facts,
            status="done",
            trainable_params=record.train.trainable_params if record.train else 0,
        )
    parts = (record.train, record.evaluation) if record is not None else ()
    failures = [part.failure.message for part in parts if part is not None and part.failure is not None]
    why, notes = [*checks.of(config, spec, trains)], []
    if _dimensions_only(config.model):
        notes.append(
            f"{config.model!r} names dimensions alone; to run, give the model's folder or hub id and commit"
        )
    if costs.problem is not None:
        return CellForecast(**facts, status="impossible", why=(*why, costs.problem))
    lengths = sample_lengths(spec, costs)
    limit = costs.limit(config) - costs.virtual_tokens
    needed = lengths.least
    if needed > limit:
        why.append(
            f"the context is too short: instruction and answer of {spec.name} take about {needed} tokens, "
            f"and {max(0, limit)} are left of {costs.limit(config)} beside {costs.virtual_tokens} virtual ones; "
            "take a model with a longer context, fewer virtual tokens or a larger training.max_tokens"
        )
        return CellForecast(**facts, status="impossible", why=tuple(why))
    if lengths.p95 > limit:
        notes.append(f"more than 5 % of the prompts are longer than {limit} tokens and lose the middle of a field")
    middle, long = min(lengths.median, limit), min(lengths.p95, limit)
    peak, fits, split = costs.memory(long)
    if fits is False:
        why.append(costs.too_large(long))
    elif split:
        notes.append(f"{config.training.batch_size} samples do not fit at once; a step is made in several passes")
    steps, cost = cost_of_run(config, spec, costs, middle, lengths)
    return CellForecast(
        **facts,
        status="impossible" if why else "failed" if failures else "pending",
        why=(*why, *failures),
        notes=tuple(notes),
        trainable_params=costs.at(middle)[0].trainable_params,
        extra_forward_flops=costs.at(middle)[0].extra_forward_flops,
        steps=steps if trains else None,
        sample_tokens=middle,
        peak_memory_bytes=peak,
        fits=fits,
        several_passes=split,
        seconds=cost.seconds if cost else None,
        joules=cost.joules if cost else None,
    )


# ---------------------------------------------------------------------------------------- what must be there


@dataclass
class _Checks:
    """Files, columns and access; each dataset and model is looked at once."""

    online: bool
    found: dict[Any, list[str]] = field(default_factory=dict)

    def of(self, config: RunConfig, spec: DatasetSpec, trains: bool) -> list[str]:
        """What is wrong with the rows of a cell and the access to its model."""
        directory = Path(config.data.directory) if config.data.directory else None
        roles: tuple[Role, ...] = ("train", "test") if trains else ("test",)
        problems: list[str] = []
        for role in roles:
            key = (spec.name, config.protocol, directory, role)
            if key not in self.found:
                self.found[key] = problems_of(
                    get_dataset(spec.name),
                    [role],
                    protocol=config.protocol,
                    data_dir=directory,
                    online=self.online,
                )
            problems += self.found[key]
        model = (config.model, config.model_revision)
        if model not in self.found:
            self.found[model] = list(_model_problems(config, online=self.online))
        return [*dict.fromkeys(problems), *self.found[model]]


def _dimensions_only(model: str) -> bool:
    """Whether a model is one whose shape is shipped, to plan with before there are weights."""
    return not Path(model).exists() and model.count("/") != 1 and shipped_model(model) is not None


def _model_problems(config: RunConfig, *, online: bool) -> Iterator[str]:
    if (
        not Path(config.model).exists()
        and shipped_model(config.model) is not None
        and config.model.count("/") != 1
    ):
        return  # the name of shipped dimensions, to plan with before there is a model
    try:
        check_name(config.model, config.model_revision)
        if online and config.model_revision is not None and not Path(config.model).exists():
            check_access(config.model, config.model_revision)
    except (ConfigError, DataError) as error:
        yield str(error)


def _downloads(configs: Iterable[RunConfig]) -> Iterator[Download]:
    models: dict[tuple[str, str | None], None] = {}
    files: dict[tuple[str, str | None], dict[str, None]] = {}
    for config in configs:
        if config.model.count("/") == 1 and not Path(config.model).exists():
            models[config.model, config.model_revision] = None
        spec = under_protocol(get_dataset(config.dataset), config.protocol)
        if in_hub(spec, Path(config.data.directory) if config.data.directory else None):
            trains = spec_of(config.method).build is not None
            wanted = files.setdefault((spec.hub.repository, spec.hub.revision), {})
            for split in (spec.splits[role] for role in ("train", "test") if trains or role == "test"):
                wanted.update(dict.fromkeys(spec.hub.files.get(split, ())))
    for repository, revision in models:
        known = shipped_model(repository)
        size = None if known is None else 2 * known.params
        yield Download(kind="model", repository=repository, revision=revision, files=(), estimated_bytes=size)
    for (repository, revision), patterns in files.items():
        yield Download(
            kind="dataset", repository=repository, revision=revision, files=tuple(patterns), estimated_bytes=None
        )
