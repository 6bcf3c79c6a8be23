"""Configuration files to checked models: file + `--set`, every problem found at once with file, line, column.

Names of datasets and methods are checked here, before anything heavy is loaded; YAML is read by `yamlfile`.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from peftbench.datasets.catalog import dataset_given, get_dataset
from peftbench.datasets.own import is_here, is_path, remembered
from peftbench.errors import ConfigError, PeftBenchError, UnknownName
from peftbench.methods.plugins import spec_of
from peftbench.naming import choice_of, choose_learning_rate, name_method
from peftbench.records import EvaluationConfig, RunConfig
from peftbench.schema import Frozen, MethodChoice, MethodSpec
from peftbench.yamlfile import Path_, Source, given, read_yaml, sentence, sentences

M = TypeVar("M", bound=BaseModel)


def load_run_config(
    train: Path | None, evaluation: Path | None = None, settings: Sequence[str] = (), **overrides: Any
) -> RunConfig:
    """The configuration of one run from its files, `key=value` settings and dotted keyword overrides.

    Raises `ConfigError` with every problem of all of them.
    """
    source = read_yaml(train) if train else Source("--set")
    if evaluation is not None:
        other = read_yaml(evaluation)
        if "model" in other.values and "model" not in source.values:
            raise ConfigError(f"{source.name} and {other.name} are swapped; give the training file first")
        _graft(source, other, "evaluation")
    apply_settings(source, settings, overrides)
    return checked(RunConfig, source)


def load_evaluation_config(evaluation: Path, settings: Sequence[str] = (), **overrides: Any) -> EvaluationConfig:
    """The configuration of an evaluation alone; raises `ConfigError` with every problem."""
    source = read_yaml(evaluation)
    apply_settings(source, settings, overrides)
    return checked(EvaluationConfig, source)


def shipped(name: str) -> Path:
    """A configuration file that comes with the package: `configs/` of the source tree."""
    in_wheel = Path(__file__).with_name("configs")
    return (in_wheel if in_wheel.is_dir() else Path(__file__).parents[2] / "configs") / name


def run_config(values: Mapping[str, Any] | RunConfig) -> RunConfig:
    """A configuration given in Python; raises `ConfigError` with every problem."""
    if isinstance(values, RunConfig):
        source = Source("config", values.model_dump(mode="json"))
    else:
        source = Source("config", dict(values))
    return checked(RunConfig, source)


def with_device(config: RunConfig, device: str) -> RunConfig:
    """The same on another device, nothing else read anew; raises `ConfigError` for what is none."""
    try:
        return RunConfig.model_validate_json(config.model_copy(update={"device": device}).model_dump_json())
    except ValidationError as error:
        raise ConfigError(sentences(error, RunConfig, Source("--device"))) from error


def checked_settings(spec: MethodSpec, settings: Sequence[str]) -> Frozen:
    """The settings of a method with `key=value` changes; raises `ConfigError` with every problem."""
    source = Source("--set")
    apply_settings(source, settings, {})
    return checked(spec.settings, source)


def _graft(source: Source, other: Source, key: str) -> None:
    """Put the settings of another file under `key`."""
    if key in source.values:
        source.problems.append(
            f"{source.place((key,))}: {key!r} is given here and by {other.name}; keep one of them"
        )
    source.values[key] = other.values
    source.places.update({(key, *path): place for path, place in other.places.items()})
    source.places[(key,)] = other.name


def apply_settings(source: Source, settings: Sequence[str], overrides: Mapping[str, Any]) -> None:
    """Put `key=value` settings and dotted keyword overrides over what the file says."""
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            source.problems.append(f"--set {setting}: expected key=value, such as training.epochs=3")
            continue
        place = f"--set {key.strip()}"
        _put(source, tuple(key.strip().split(".")), given(text, source, place), place)
    for key, value in overrides.items():
        if value is not None:
            _put(source, tuple(key.split("__")), value, f"--{key.split('__')[-1].replace('_', '-')}")


def _put(source: Source, path: tuple[str, ...], value: Any, place: str) -> None:
    where = source.values
    for part in path[:-1]:
        inner = where.get(part)
        if part == "method" and isinstance(inner, str):
            inner = {"name": inner}
        if inner is None:
            inner = {}
        if not isinstance(inner, dict):
            source.problems.append(f"{place}: {part!r} has no keys below it")
            return
        where[part] = inner
        where = inner
    where[path[-1]] = value
    # What stood below is gone, and keys on the way may be new.
    source.places = {key: each for key, each in source.places.items() if key[: len(path)] != path}
    source.places |= {path[:end]: place for end in range(1, len(path) + 1) if path[:end] not in source.places}


def checked(model: type[M], source: Source) -> M:
    """Plain data as a checked model; raises `ConfigError` with every problem, each with its place."""
    if model is RunConfig:
        name_method(source)
        choose_learning_rate(source)
        _read_own_dataset(source)
    problems = list(source.problems)
    checked: M | None = None
    try:
        checked = model.model_validate_json(json.dumps(source.values, default=str))
    except ValidationError as error:
        problems += sentences(error, model, source)
    problems += _name_problems(model, source)
    if problems or checked is None:
        raise ConfigError(dict.fromkeys(problems))
    return checked


def _read_own_dataset(source: Source) -> None:
    """Where a dataset is named by a path, put its full name in place of it and the path beside it."""
    dataset, file = source.values.get("dataset"), source.values.get("dataset_file")
    if not isinstance(dataset, str) or not (is_path(dataset) or file is not None):
        return
    from peftbench.metrics import metrics  # takes time, which most commands need not wait for

    place = source.place(("dataset",))
    # What was read before was named by the user then, or else, as in `eval`, by a record.
    before = None if is_path(dataset) else remembered(dataset)
    try:
        entry = dataset if is_path(dataset) else str(file)
        found = dataset_given(entry, by_user=before is None or not is_here(before))
        metrics.get(found.metric)
    except ConfigError as error:
        source.problems += [f"{place}: {each}" for each in error.problems]
        return
    except PeftBenchError as error:
        source.problems.append(f"{place}: {error}")
        return
    if not is_path(dataset) and found.name != dataset:
        source.problems.append(
            f"{place}: {file} describes {found.name} now, not {dataset}: its entry, rows or metric have changed; "
            "run the command with dataset: <that file> again"
        )
    source.values |= {"dataset": found.name, "dataset_file": dataset if is_path(dataset) else file}


def _name_problems(model: type[BaseModel], source: Source) -> Iterator[str]:
    """Names and method settings, which the models cannot check without the registries."""
    if model is not RunConfig:
        return
    dataset = source.values.get("dataset")
    if isinstance(dataset, str) and not is_path(dataset) and source.values.get("dataset_file") is None:
        try:
            get_dataset(dataset)
        except UnknownName as error:
            yield f"{source.place(('dataset',))}: {error}"
    method = source.values.get("method")
    name = method.get("name") if isinstance(method, dict) else method
    if not isinstance(name, str):
        return
    try:
        spec = spec_of(choice_of(method) or MethodChoice(name=name))
    except PeftBenchError as error:
        yield f"{source.place(('method', 'name'))}: {error}"
        return
    if isinstance(method, dict):
        below: Path_ = ("method", "settings") if "settings" in method else ("method",)
        settings = method.get("settings", {key: value for key, value in method.items() if key != "name"})
        try:
            spec.settings.model_validate_json(json.dumps(settings, default=str))
        except ValidationError as error:
            shifted = Source(source.name, source.values, _below(source, below))
            for each in error.errors():
                yield f"{sentence(each, spec.settings, shifted)} (a setting of method {name!r})"


def _below(source: Source, path: Path_) -> dict[Path_, str]:
    places = {key[len(path) :]: place for key, place in source.places.items() if key[: len(path)] == path}
    return places or {(): source.place(path)}
