"""YAML files of settings as plain data with the place of each key, and what is wrong with them in words.

YAML 1.2 by a safe loader, so that 5e-5 is a number and a key given twice is an error; no anchors, no tags, no
logic. What the settings mean is not known here.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from peftbench.errors import ConfigError, suggestion

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


def read_yaml(
    file: Path, kind: str = "configuration file", like: str = "configs/train.yaml and configs/eval.yaml"
) -> Source:
    """A YAML file as plain data with the place of each key; raises `ConfigError` if it cannot be read.

    `kind` is what messages call it, `like` where to see one that is right.
    """
    text = _text(file, kind)
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
        what = "empty" if not nodes or nodes[0] is None else "not a list of `key: value` lines"
        raise ConfigError(f"{file.name}: the file is {what}; see {like}")
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


def _text(file: Path, kind: str) -> str:
    if file.is_dir() or not file.exists():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise ConfigError(f"{kind} {str(file)!r} {what}; give the path of a YAML file")
    try:
        with file.open("rb") as opened:  # a pipe is read too, which has no size
            content = opened.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{kind} {str(file)!r} cannot be read: {error.strerror}; make it readable") from error
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


def given(text: str, source: Source, place: str) -> Any:
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


def sentences(error: ValidationError, model: type[BaseModel], source: Source) -> Iterator[str]:
    """One sentence with its place for each thing that pydantic found wrong."""
    every = error.errors()
    broken = {each["loc"][:end] for each in every for end in range(len(each["loc"]))}
    # A list that is too short for want of items that were refused says nothing of its own.
    told = [each for each in every if each["type"] != "too_short" or each["loc"] not in broken]
    for each in told:
        yield sentence(each, model, source)


def sentence(error: ErrorDetails, model: type[BaseModel], source: Source) -> str:
    """One thing that pydantic found wrong, with its place."""
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
