"""Configuration files to checked models: file + `--set`, every problem found at once with file, line, column.

YAML 1.2 by a safe loader, so that 5e-5 is a number and a key given twice is an error; no anchors, no tags, no
logic. Names of datasets and methods are checked here, before anything heavy is loaded.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from peftbench.datasets.catalog import get_dataset
from peftbench.errors import ConfigError, PeftBenchError, UnknownName, suggestion
from peftbench.methods.plugins import spec_of
from peftbench.naming import choice_of, choose_learning_rate, name_method
from peftbench.records import EvaluationConfig, RunConfig
from peftbench.schema import Frozen, MethodChoice, MethodSpec

M = TypeVar("M", bound=BaseModel)
Path_ = tuple[str | int, ...]

LARGEST_BYTES = 1_000_000
DEEPEST = 20


@dataclass
class Source:
    """Settings as plain data, and where each of them stands."""

    name: str
    """File name, or `--set`."""
    values: dict[str, Any] = field(default_factory=dict)
    places: dict[Path_, str] = field(default_factory=dict)
    """Path of a key to `file:line:column`."""
    problems: list[str] = field(default_factory=list)

    def place(self, path: Path_) -> str:
        """The place of a key, or of the nearest one around it."""
        for end in range(len(path), -1, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.name


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


def checked_settings(spec: MethodSpec, settings: Sequence[str]) -> Frozen:
    """The settings of a method with `key=value` changes; raises `ConfigError` with every problem."""
    source = Source("--set")
    apply_settings(source, settings, {})
    return checked(spec.settings, source)


def read_yaml(file: Path) -> Source:
    """A YAML file as plain data with the place of each key; raises `ConfigError` if it cannot be read."""
    text = _text(file)
    source = Source(file.name)
    try:
        _check_events(text, file.name)
        nodes = list(YAML(typ="safe", pure=True).compose_all(text))
    except MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"{file.name}:{mark.line + 1}:{mark.column + 1}" if mark else file.name
        raise ConfigError(f"{where}: this is not YAML: {error.problem or error.context}") from error
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"{file.name}: this is not YAML: {str(error).splitlines()[0]}") from error
    except RecursionError as error:
        raise ConfigError(
            f"{file.name}: nested deeper than {DEEPEST} levels; a configuration is flatter"
        ) from error
    if len(nodes) != 1 or not isinstance(nodes[0], MappingNode):
        kind = "empty" if not nodes or nodes[0] is None else "not a list of `key: value` lines"
        raise ConfigError(f"{file.name}: the file is {kind}; see configs/train.yaml and configs/eval.yaml")
    source.values = _plain(nodes[0], source, ())
    if source.problems:
        raise ConfigError(source.problems)
    return source


def _check_events(text: str, name: str) -> None:
    """Refuse anchors, and nesting so deep that it could only be meant to hurt, before anything is built."""
    depth = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        if getattr(event, "anchor", None) is not None:
            place = f"{name}:{event.start_mark.line + 1}:{event.start_mark.column + 1}"
            raise ConfigError(f"{place}: anchors and aliases are not allowed; write the value where it is used")
        kind = type(event).__name__
        depth += kind.endswith("StartEvent") - kind.endswith("EndEvent")
        if depth > DEEPEST:
            raise ConfigError(f"{name}: nested deeper than {DEEPEST} levels; a configuration is flatter")


def _text(file: Path) -> str:
    if file.is_dir() or not file.exists():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"configuration file {str(file)!r} {what}; give the path of a YAML file")
    try:
        with file.open("rb") as opened:  # a pipe is read too, which has no size
            content = opened.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"configuration file {str(file)!r} cannot be read: {error.strerror}; make it readable"
        ) from error
    if len(content) > LARGEST_BYTES:
        raise ConfigError(
            f"{file.name}: more than {LARGEST_BYTES:,} bytes, which no configuration has; is it the right file?"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file.name}: the file is binary, not UTF-8 text; give a YAML file") from error
    if "\0" in text:
        raise ConfigError(f"{file.name}: the file is binary, not text; give a YAML file")
    return text


def _plain(node: Node, source: Source, path: Path_) -> Any:
    """Plain data of a node; notes places, and keys that stand twice."""
    if isinstance(node, MappingNode):
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value) if isinstance(key_node, ScalarNode) else "?"
            place = _place(source, key_node)
            if key in values:
                first = source.places[(*path, key)]
                source.problems.append(f"{place}: key {key!r} stands twice, first at {first}; keep one of them")
                continue
            source.places[(*path, key)] = place
            values[key] = _plain(value_node, source, (*path, key))
        return values
    if isinstance(node, SequenceNode):
        for number, item in enumerate(node.value):
            source.places[(*path, number)] = _place(source, item)
        return [_plain(item, source, (*path, number)) for number, item in enumerate(node.value)]
    return _scalar(node, source)


def _scalar(node: Node, source: Source) -> Any:
    tag = str(node.tag).removeprefix("tag:yaml.org,2002:")
    if tag in ("null", "bool", "int", "float"):
        try:
            value = YAML(typ="safe", pure=True).constructor.construct_object(node)
        except ValueError:
            return str(node.value)
        return str(node.value) if isinstance(value, float) and not math.isfinite(value) else value
    if tag not in ("str", "timestamp"):
        source.problems.append(f"{_place(source, node)}: tag {node.tag!r} is not allowed; write a plain value")
    return str(node.value)


def _place(source: Source, node: Node) -> str:
    mark = node.start_mark
    return f"{source.name}:{mark.line + 1}:{mark.column + 1}"


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
        _put(source, tuple(key.strip().split(".")), _given(text, source, place), place)
    for key, value in overrides.items():
        if value is not None:
            _put(source, tuple(key.split("__")), value, f"--{key.split('__')[-1].replace('_', '-')}")


def _given(text: str, source: Source, place: str) -> Any:
    """The value of `--set`, read as in a file."""
    try:
        _check_events(text, place)
        nodes = list(YAML(typ="safe", pure=True).compose_all(text))
    except ConfigError as error:
        source.problems += error.problems
        return None
    except (YAMLError, ValueError, RecursionError):
        return text
    if len(nodes) != 1 or nodes[0] is None:
        return text if text.strip() else None
    own = Source(place)
    value = _plain(nodes[0], own, ())
    source.problems += own.problems
    return value


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
    problems = list(source.problems)
    checked: M | None = None
    try:
        checked = model.model_validate_json(json.dumps(source.values, default=str))
    except ValidationError as error:
        every = error.errors()
        broken = {each["loc"][:end] for each in every for end in range(len(each["loc"]))}
        # A list that is too short for want of items that were refused says nothing of its own.
        told = [each for each in every if each["type"] != "too_short" or each["loc"] not in broken]
        problems += [_sentence(each, model, source) for each in told]
    problems += _name_problems(model, source)
    if problems or checked is None:
        raise ConfigError(dict.fromkeys(problems))
    return checked


def _sentence(error: ErrorDetails, model: type[BaseModel], source: Source) -> str:
    path = tuple(error["loc"])
    place, key = source.place(path), ".".join(str(part) for part in path)
    if error["type"] == "extra_forbidden":
        known = [name for name, _ in _described(model, path[:-1])]
        return f"{place}: unknown key {key!r}{suggestion(str(path[-1]), known)}"
    if error["type"] == "missing":
        description = next((d for name, d in _described(model, path[:-1]) if name == path[-1]), None)
        return f"{place}: key {key!r} is missing{f': {description}' if description else ''}"
    given = error["input"]
    expected = error["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    expected = expected.replace("String should match pattern", "a text that matches")
    expected = _EXPECTED.get(error["type"], expected)
    hint = ""
    if isinstance(given, str) and _is_number(given) and error["type"] in ("float_type", "int_type"):
        hint = "; write it without quotes"
    if isinstance(given, int | float) and error["type"] == "string_type":
        hint = "; write it in quotes"
    named = place if place == f"--set {key}" else f"{place}: {key}"
    shown = repr(given) if isinstance(given, str) else json.dumps(given)  # as it is written in a file
    return f"{named} is {shown}, expected {expected}{hint}"


_EXPECTED = {
    "bool_type": "true or false",
    "float_type": "a number",
    "int_from_float": "a whole number",
    "int_type": "a whole number",
    "model_type": "keys with values below it",
    "string_type": "a text",
    "too_short": "at least one value",
    "tuple_type": "a list, such as [one, another]",
}
"""What to write, by pydantic's type of error, where its own words are those of a programmer."""


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _inner(model: type[BaseModel], path: Path_) -> type[BaseModel] | None:
    for part in path:
        info = model.model_fields.get(str(part))
        if info is None:
            return None
        kinds = [info.annotation, *get_args(info.annotation)]
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if inner is None:
            return None
        model = inner
    return model


def _described(model: type[BaseModel], path: Path_) -> Iterator[tuple[str, str | None]]:
    inner = _inner(model, path)
    for name, info in (inner.model_fields if inner else {}).items():
        yield name, info.description


def _name_problems(model: type[BaseModel], source: Source) -> Iterator[str]:
    """Names and method settings, which the models cannot check without the registries."""
    if model is not RunConfig:
        return
    dataset = source.values.get("dataset")
    if isinstance(dataset, str):
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
                yield f"{_sentence(each, spec.settings, shifted)} (a setting of method {name!r})"


def _below(source: Source, path: Path_) -> dict[Path_, str]:
    places = {key[len(path) :]: place for key, place in source.places.items() if key[: len(path)] == path}
    return places or {(): source.place(path)}
