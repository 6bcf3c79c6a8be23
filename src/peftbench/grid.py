"""A grid: one file that asks for many runs, and the cells that it comes to. Pure; nothing is loaded or run.

Cells come in the order of the file, datasets before methods before seeds. What a cell asks for has an id, so that
adding a method or a seed later adds cells and changes none.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from peftbench.config import apply_settings, checked, shipped
from peftbench.datasets.catalog import dataset_given, get_dataset, under_protocol
from peftbench.datasets.own import same_names
from peftbench.errors import ConfigError, PeftBenchError, UnknownName, suggestion
from peftbench.gridentries import AXES, MethodEntry, ModelEntry, Override, Selection, by_name, renamed
from peftbench.identity import cell_id
from peftbench.methods.plugins import known_spec, spec_of
from peftbench.methods.specs import methods
from peftbench.records import RunConfig, RunResult
from peftbench.resources import Cluster
from peftbench.schema import Frozen, MethodChoice, Protocol
from peftbench.yamlfile import Path_, Source, read_yaml

MOST_CELLS = 1_000_000


class Grid(Frozen):
    """What a grid file says, such as

    name: example
    models: [peftbench-tiny]
    methods: [base, ia3, {name: lora, alpha: 32, each: {rank: [8, 16]}}]
    datasets: [rte, cb]
    seeds: [42, 123]
    run: {training: {epochs: 5}}
    overrides: [{methods: ia3, set: {training: {learning_rate: 1e-3}}}]
    """

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,100}$")]
    """Name of the grid; its runs go to runs/<name> unless run.output says otherwise."""
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    """Model folders or hub ids; a hub id with its commit as {model: owner/name, model_revision: <commit>}."""
    methods: Annotated[tuple[MethodEntry, ...], Field(min_length=1)]
    """Methods, base among them if it is to be compared with."""
    datasets: Annotated[tuple[str, ...], Field(min_length=1)]
    """Datasets by name."""
    seeds: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (42,)
    """One cell each for methods that train; the base model has no seed."""
    protocols: Annotated[tuple[Protocol, ...], Field(min_length=1)] = ("corrected",)
    train_rows: Annotated[tuple[Annotated[int, Field(ge=2)] | None, ...], Field(min_length=1)] = (None,)
    """Limits of training rows, validation included; null takes all, as does a limit that a dataset is below."""
    run: dict[str, Any] = {}
    """Everything else of a run, as in configs/train.yaml, and under `evaluation` as in configs/eval.yaml."""
    exclude: tuple[Selection, ...] = ()
    """Cells that are left out."""
    overrides: tuple[Override, ...] = ()
    """Settings for some cells; a later one wins."""
    cluster: Cluster = Cluster()
    """What is asked of a cluster, should it run on one."""


@dataclass(frozen=True)
class Cell:
    """One run that a grid asks for."""

    id: str
    config: RunConfig

    def __str__(self) -> str:
        """Name for tables and messages."""
        config = self.config
        rows = "" if config.data.train_rows is None else f", {config.data.train_rows} rows"
        protocol = "" if config.protocol == "corrected" else f", {config.protocol}"
        seed = "" if spec_of(config.method).build is None else f", seed {config.seed}"
        return f"{config.method} on {config.dataset}{rows}{protocol}{seed}"

    @property
    def group(self) -> tuple[object, ...]:
        """What cells have in common that one process should do one after another: a base model and its rows."""
        config = self.config
        base = config.model, config.model_revision, config.dtype, config.quantization
        return *base, config.dataset, config.protocol, config.data


def load_grid(file: Path, settings: Sequence[str] = (), **overrides: Any) -> tuple[Grid, list[Cell]]:
    """A grid file and its cells. `file` is a path, or the name of a grid that is shipped, such as `paper`.

    Raises `ConfigError` with every problem of the grid and of all its cells, each with its place in the file.
    """
    if not file.exists() and file.suffix == "" and len(file.parts) == 1:
        known = shipped_grids()
        if file.name not in known:
            raise UnknownName("grid", file.name, known, f"no file {file.name!r} is here, and ")
        file = known[file.name]
    source = read_yaml(file)
    for key in ("model", "dataset", "method"):
        if key in source.values and f"{key}s" not in source.values:
            raise ConfigError(
                f"{source.place((key,))}: {file.name} describes one run, not a grid, which has models, methods "
                "and datasets; see configs/grids"
            )
    apply_settings(source, settings, overrides)
    grid = checked(Grid, source)
    return grid, expand(grid, source)


def is_grid(file: Path) -> bool:
    """Whether a file describes a grid and not one run; also for the name of a grid that is shipped."""
    if not file.exists():
        return file.suffix == "" and len(file.parts) == 1
    values = read_yaml(file).values
    return "models" in values or "methods" in values or "datasets" in values


def shipped_grids() -> dict[str, Path]:
    """Grid files that come with the package, by name."""
    return {file.stem: file for file in sorted(shipped("grids").glob("*.yaml"))}


def expand(grid: Grid, source: Source | None = None) -> list[Cell]:
    """The cells of a grid in their order, each once; `source` knows where in a file things stand.

    Raises `ConfigError` with every problem: names that are not known, settings that a method does not have, two
    models of one name, an exclusion or override that meets no cell, no cell at all.
    """
    source = source or Source(grid.name, grid.model_dump(mode="json"))
    entries, names = by_name(grid.methods)
    rules = {"exclude": renamed(grid.exclude, names), "overrides": renamed(grid.overrides, names)}
    grid = grid.model_copy(update={"methods": entries, **rules})
    problems = list(_problems_of_axes(grid, source))
    met: set[tuple[str, int]] = set()
    places = [_below(source, "overrides", number, "set") for number in range(len(grid.overrides))]
    cells: dict[str, Cell] = {}
    for wanted in _combinations(grid, source):
        excluded = [number for number, each in enumerate(grid.exclude) if each.holds(wanted.axes)]
        met.update(("exclude", number) for number in excluded)
        if excluded:
            continue
        for number, override in enumerate(grid.overrides):
            if override.holds(wanted.axes):
                met.add(("overrides", number))
                wanted.put(override.set, places[number])
        try:
            config = checked(RunConfig, wanted.source)
        except ConfigError as error:
            problems += error.problems
            continue
        method, dataset = spec_of(config.method), get_dataset(config.dataset)
        cell = Cell(cell_id(config, dataset=dataset, method=method), config)
        cells.setdefault(cell.id, cell)
        if len(cells) > MOST_CELLS:
            raise ConfigError(f"{source.name}: more than {MOST_CELLS:,} cells; make several grids of it")
    if not problems:
        problems += [
            f"{source.place((kind, number))}: {kind}.{number} meets no cell; mend its names or remove it"
            for kind, rules in (("exclude", grid.exclude), ("overrides", grid.overrides))
            for number in range(len(rules))
            if (kind, number) not in met
        ]
    if not problems and not cells:
        problems.append(f"{source.place(('exclude',))}: everything is excluded, so that no cell is left")
    if problems:
        raise ConfigError(dict.fromkeys(problems))
    return list(cells.values())


def shard(cells: Sequence[Cell], text: str | None) -> list[Cell]:
    """The part `i/n` of the cells, counted from 1; the seeds of a method on a dataset stay together.

    Raises `ConfigError` if `text` is not of that form.
    """
    if text is None:
        return list(cells)
    parts = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if parts is None or not 1 <= int(parts[1]) <= int(parts[2]):
        raise ConfigError(f"--shard is {text!r}, expected i/n with i from 1 to n, such as 1/4")
    number, count = int(parts[1]), int(parts[2])
    # Along the diagonal of datasets and methods, so that every part has some of each.
    rows = {group: index for index, group in enumerate(dict.fromkeys(cell.group for cell in cells))}
    names = {name: index for index, name in enumerate(dict.fromkeys(cell.config.method.name for cell in cells))}
    return [each for each in cells if (rows[each.group] + names[each.config.method.name]) % count == number - 1]


def finished(cells: Iterable[Cell], results: Iterable[RunResult]) -> dict[str, RunResult]:
    """Id of a cell to the record that answers it; a failed record only where there is no other.

    A cell whose precision is left to the machine (`dtype: auto`) is answered by a record of any.
    """
    found: dict[str, RunResult] = {}
    for result in results:
        evaluation = result.evaluation
        if evaluation is None and result.status == "done":
            continue
        if evaluation is not None and evaluation.failure is not None and evaluation.failure.reason == "metric":
            continue  # its outputs are there, and scoring them takes no time
        method = known_spec(result.config.method)
        try:
            dataset = get_dataset(result.config.dataset)
        except UnknownName:
            method = None
        if method is None:
            continue  # made with a plug-in that is not here, or was another
        for config in (result.config, result.config.model_copy(update={"dtype": "auto"})):
            id_ = cell_id(config, dataset=dataset, method=method)
            if id_ not in found or found[id_].status == "failed":
                found[id_] = result
    return {cell.id: found[cell.id] for cell in cells if cell.id in found}


# ------------------------------------------------------------------------------------------------- one cell


def _below(source: Source, *path: str | int) -> dict[Path_, str]:
    """Places of all that stands below `path` in the grid's file; looked up once and not for each cell."""
    return {p[len(path) :]: place for p, place in source.places.items() if p[: len(path)] == path}


class _Wanted:
    """The configuration of one cell as it comes together, with the place of each key in the grid file."""

    def __init__(self, axes: dict[str, Any], name: str) -> None:
        self.axes = axes
        self.source = Source(name)

    def put(self, values: Mapping[str, Any], places: dict[Path_, str] | None = None) -> None:
        """Put settings over what is there, key by key; `places` are theirs in the file."""
        self._merge(self.source.values, values)
        self.source.places |= places or {}

    def _merge(self, into: dict[str, Any], values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, Mapping):
                inner = into.get(key)
                into[key] = dict(inner) if isinstance(inner, Mapping) else {}
                self._merge(into[key], value)
            else:
                into[key] = value


def _combinations(grid: Grid, source: Source) -> Iterator[_Wanted]:
    chosen = [
        (number, entry, settings)
        for number, entry in enumerate(grid.methods)
        for settings in (entry.choices() if entry.name in methods else [entry.settings])
    ]
    of_run, of_methods = _below(source, "run"), [_places_of_settings(source, k) for k in range(len(grid.methods))]
    for (m, model), protocol, (d, dataset), limit, (k, entry, settings) in itertools.product(
        enumerate(grid.models), grid.protocols, enumerate(grid.datasets), grid.train_rows, chosen
    ):
        method = entry.name
        trains = method not in methods or methods.get(method).build is not None
        rows = _rows(dataset, protocol, limit) if trains else None
        for s, seed in enumerate(grid.seeds if trains else grid.seeds[:1]):
            axes = dict(zip(AXES, (model.model, method, dataset, seed, protocol, rows), strict=True))
            wanted = _Wanted(axes, source.name)
            wanted.put({"output": f"runs/{grid.name}"})
            wanted.put(grid.run, of_run)
            own = {
                **model.model_dump(),
                "protocol": protocol,
                "dataset": dataset,
                "method": MethodChoice(name=method, settings=settings, code=entry.code).model_dump(),
                "seed": seed,
                "data": {"train_rows": rows},
            }
            wanted.put(own, _places_of_axes(source, m, d, k, s) | of_methods[k])
            yield wanted


def _places_of_axes(source: Source, model: int, dataset: int, method: int, seed: int) -> dict[Path_, str]:
    return {
        ("model",): source.place(("models", model)),
        ("model_revision",): source.place(("models", model)),
        ("dataset",): source.place(("datasets", dataset)),
        ("method", "name"): source.place(("methods", method)),
        ("seed",): source.place(("seeds", seed)),
        ("data", "train_rows"): source.place(("train_rows",)),
    }


def _places_of_settings(source: Source, method: int) -> dict[Path_, str]:
    return {
        ("method", "settings", *path[path[0] in ("settings", "each") :]): place
        for path, place in _below(source, "methods", method).items()
        if path and path[0] != "name"
    }


def _rows(dataset: str, protocol: Protocol, limit: int | None) -> int | None:
    """A limit of training rows, None where the dataset has no more than that."""
    try:
        spec = under_protocol(dataset_given(dataset), protocol)
    except PeftBenchError:
        return limit  # told with the cell
    return limit if limit is not None and limit < spec.counts.train else None


def _problems_of_axes(grid: Grid, source: Source) -> Iterator[str]:
    for key in grid.run:
        if key in RunConfig.model_fields and (axis := _AXIS_OF.get(key)):
            yield f"{source.place(('run', key))}: run.{key} is set by the grid's {axis!r}; write it there"
    if isinstance(data := grid.run.get("data"), Mapping) and "train_rows" in data:
        place = source.place(("run", "data", "train_rows"))
        yield f"{place}: run.data.train_rows is set by the grid's 'train_rows'; write it there"
    names: dict[tuple[str, str | None], str] = {}
    for number, entry in enumerate(grid.models):
        name = entry.model.rstrip("/").split("/")[-1]
        if names.setdefault((name, entry.model_revision), entry.model) != entry.model:
            place = source.place(("models", number))
            yield f"{place}: two models are called {name!r}, and records could not tell them apart; rename one"
    for number, name in same_names(grid.datasets):
        yield f"{source.place(('datasets', number))}: two datasets are called {name!r}; rename one of them"
    for problem in grid.cluster.unknown_models(entry.model for entry in grid.models):
        yield f"{source.place(('cluster', 'models'))}: {problem}"
    named: dict[str, list[str]] = {
        "models": [entry.model for entry in grid.models],
        "methods": [entry.name for entry in grid.methods],
        "datasets": list(grid.datasets),
        "protocols": [*grid.protocols],
    }
    for kind, rules in (("exclude", grid.exclude), ("overrides", grid.overrides)):
        for number, rule in enumerate(rules):
            for axis, known in named.items():
                for value in getattr(rule, axis) or ():
                    if value not in known:
                        place = source.place((kind, number, axis))
                        yield f"{place}: {value!r} is not among the grid's {axis}{suggestion(value, known)}"


_AXIS_OF = {axis.removesuffix("s"): axis for axis in AXES[:5]} | {"model_revision": "models"}
