"""The work that a recommendation is about: one run with one seed of every method on each dataset, and its records.

Where there are records of the model, the work has their datasets, limits of rows, settings of methods and length
of training, so that scores and costs are of the same thing.
"""

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.config import apply_settings, checked
from peftbench.efficiency.models import shipped_model
from peftbench.errors import ConfigError
from peftbench.grid import Cell, Grid, expand, shipped_grids
from peftbench.methods.specs import PAPER, methods
from peftbench.records import ModelFacts, RunResult
from peftbench.schema import Protocol
from peftbench.selection import of_one
from peftbench.yamlfile import Source, read_yaml

SHARED = {
    "training": ("epochs", "batch_size", "validations", "max_tokens"),
    "evaluation": ("test_rows", "max_new_tokens"),
}
"""Settings that decide what a run costs, which the work has from its records."""
_OWN = {
    "model": "MODEL",
    "model_revision": "--model-revision",
    "dataset": "--dataset",
    "method": "the records",
    "seed": "nothing, since costs do not depend on it",
    "protocol": "--protocol",
}
"""Settings of a run that are not for `--set`, and what they come from."""


@dataclass(frozen=True)
class Asked:
    """What the user asked for."""

    model: str
    revision: str | None
    protocol: Protocol
    datasets: tuple[str, ...]
    """Empty for those of the records."""
    settings: tuple[str, ...]
    """`key=value` of a run."""
    data_dir: Path | None
    methods: tuple[str, ...] = ()
    """Named beside those of the paper and of the records."""


@dataclass
class Workload:
    """The runs to predict, the records of such runs, and what has to be known of both."""

    cells: list[Cell] = field(default_factory=list)
    records: list[RunResult] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(dict.fromkeys(cell.config.dataset for cell in self.cells))


def workload(asked: Asked, results: Sequence[RunResult]) -> Workload:
    """The work asked for, and those of `results` that are of it.

    Methods are the paper's, those of the records, with their settings there, and those that were asked for; never
    variants that repeat a defect of the reference. Raises `UnknownName`, `ConfigError` for settings that a run
    does not have, `DataError` for records that cannot be set side by side.
    """
    for name in asked.methods:
        methods.get(name)
    found = Workload()
    found.records = _records(asked, results, found.notes)
    found.cells = _cells(asked, found.records, found.notes)
    return found


# ------------------------------------------------------------------------------------------------- which records


def _records(asked: Asked, results: Sequence[RunResult], notes: list[str]) -> list[RunResult]:
    own = [each for each in results if _is_model(each, asked)]
    if other := {_facts(each).name for each in results} - {_facts(each).name for each in own}:
        notes.append(f"Records of {', '.join(sorted(other))} are of another model and say nothing of this one.")
    if len({_facts(each).quantization for each in own}) > 1:
        whole = [each for each in own if _facts(each).quantization is None]
        notes.append(f"Records on a quantized base were left out: {len(own) - len(whole)}.")
        own = whole
    kept = [each for each in own if each.config.protocol == asked.protocol]
    if len(kept) < len(own):
        notes.append(f"Records under the other protocol were left out: {len(own) - len(kept)}.")
    kept = [each for each in kept if not asked.datasets or each.config.dataset in asked.datasets]
    if strange := {each.config.method.name for each in kept} - set(_names()):
        notes.append(f"Methods that are variants or not known here were left out: {', '.join(sorted(strange))}.")
        kept = [each for each in kept if each.config.method.name not in strange]
    # The base model alone says nothing of methods.
    return of_one(kept, None, asked.protocol) if any(each.train for each in kept) else []


def _is_model(result: RunResult, asked: Asked) -> bool:
    config, known = result.config, shipped_model(asked.model)
    if asked.revision and config.model_revision and config.model_revision != asked.revision:
        return False
    alike = known is not None and known == shipped_model(config.model)
    return alike or _facts(result).name == asked.model.rstrip("/").split("/")[-1]


def _facts(result: RunResult) -> ModelFacts:
    record = result.train or result.evaluation
    assert record is not None
    return record.model


def _names() -> list[str]:
    names = (name for name in methods.names() if not name.endswith("_published") and name != "p_tuning_mlp")
    return [name for name in names if methods.known(name)]


def _wanted(asked: Asked, records: Sequence[RunResult]) -> list[str]:
    """Methods to predict, in the order of their definition."""
    named = {"base", *PAPER, *asked.methods, *(each.config.method.name for each in records)}
    return [name for name in methods.names() if name in named]


# ---------------------------------------------------------------------------------------------------- which runs


def _cells(asked: Asked, records: Sequence[RunResult], notes: list[str]) -> list[Cell]:
    default = read_yaml(shipped_grids()["subset"]).values
    own: dict[str, Any] = {"datasets": [*asked.datasets], "train_rows": [None], "run": {}}
    if records:
        limits = [each.config.data.train_rows for each in records if each.config.data.train_rows is not None]
        own["datasets"] = own["datasets"] or list(dict.fromkeys(each.config.dataset for each in records))
        own["train_rows"] = [max(limits, default=None)]  # a dataset that is smaller has all of its rows
        own["run"] = _common(records, notes)
    elif not asked.datasets:
        own = {key: default[key] for key in own}
    run = Source("--set", deepcopy(own["run"]))
    apply_settings(run, asked.settings, {"data__directory": str(asked.data_dir) if asked.data_dir else None})
    if mistaken := [key for key in run.values if key in _OWN]:
        key = mistaken[0]
        raise ConfigError(f"--set {key}: what is recommended takes its {key} from {_OWN[key]}; leave it out")
    data = run.values.get("data")
    if isinstance(data, dict) and "train_rows" in data:
        rows = data.pop("train_rows")  # an axis of a grid
        if rows is not None and (type(rows) is not int or rows < 2):
            raise ConfigError(f"--set data.train_rows is {rows!r}, expected a whole number of at least 2, or null")
        own["train_rows"] = [rows]
    grid = Source(
        "the workload",
        {
            **own,
            "name": "recommend",
            "models": [_planned(asked, records)],
            "methods": _choices(_wanted(asked, records), records),
            "protocols": [asked.protocol],
            "run": run.values,
        },
        {("run", *path): place for path, place in run.places.items()},
    )
    grid.problems += run.problems
    cells = expand(checked(Grid, grid), grid)
    if records and (changed := [key for key, value in _flat(own["run"]).items() if _value(cells, key) != value]):
        notes.append(
            f"Costs are for {', '.join(f'{key}={_value(cells, key)}' for key in changed)}, scores are not."
        )
    return cells


def _planned(asked: Asked, records: Sequence[RunResult]) -> dict[str, str | None]:
    """The model to predict with. A hub id without a commit has that of the records, or the shipped dimensions."""
    model, revision = asked.model, asked.revision
    if revision is None and model.count("/") == 1 and not Path(model).exists():
        revision = next((each.config.model_revision for each in records if each.config.model == model), None)
        known = shipped_model(model)
        if revision is None and known is not None:
            return {"model": known.name, "model_revision": None}
    return {"model": model, "model_revision": revision}


def _choices(names: Sequence[str], records: Sequence[RunResult]) -> list[dict[str, Any]]:
    """Methods, each once for each of the settings that it has in the records."""
    found = []
    for name in names:
        chosen = {
            str(each.config.method): each.config.method for each in records if each.config.method.name == name
        }
        every = [each.settings for each in chosen.values()] or [{}]
        found += [{"name": name, "settings": settings} for settings in every]
    return found


def _common(records: Sequence[RunResult], notes: list[str]) -> dict[str, dict[str, Any]]:
    """Settings on which the records agree."""
    found: dict[str, dict[str, Any]] = {}
    for part, names in SHARED.items():
        of = [getattr(each.config, part) for each in records if part == "evaluation" or each.train is not None]
        for name in names:
            values = {getattr(each, name) for each in of}
            if len(values) == 1:
                found.setdefault(part, {})[name] = values.pop()
            else:
                shown = ", ".join(sorted(map(str, values)))
                notes.append(
                    f"Records differ in {part}.{name} ({shown}); costs are for the default, or that of --set."
                )
    return found


def _flat(run: dict[str, dict[str, Any]]) -> dict[str, Any]:
    return {f"{part}.{name}": value for part, values in run.items() for name, value in values.items()}


def _value(cells: Sequence[Cell], key: str) -> Any:
    part, name = key.split(".")
    return getattr(getattr(cells[-1].config, part), name)
