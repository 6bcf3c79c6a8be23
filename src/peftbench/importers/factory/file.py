"""One configuration file of LLaMA-Factory or PEFT-Factory: read safely, placeholders filled, values by kind.

What a key means is not known here. What is wrong with a value becomes a problem that names its place.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from peftbench.errors import ConfigError
from peftbench.importers.reading import content, short
from peftbench.redaction import HIDDEN
from peftbench.yamlfile import read_yaml

_JINJA = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}")
_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))")
_OTHER_VARIABLE = re.compile(r"\$\{[^}]*\}?")
_NUMBER = re.compile(r"[-+]?(\d[\d_]*\.?[\d_]*|\.\d+)([eE][-+]?\d+)?")
_SECRET = re.compile(r"(^|_)(api_key|key|token|secret|password|webhook_url)$")
_LARGEST_BYTES = 1_000_000

T = TypeVar("T")


class Missing:
    """Stands for a value that only a variable could give, which nobody gave."""

    def __init__(self, variable: str) -> None:
        self.variable = variable


@dataclass
class FactoryFile:
    """The settings of a file by key, and what is wrong with those that were asked for."""

    name: str
    values: dict[str, Any]
    places: dict[str, str]
    """Key to `file:line:column`."""
    problems: list[str] = field(default_factory=list)
    told: set[str] = field(default_factory=set)
    """Keys that have a problem."""

    def place(self, key: str) -> str:
        """Where a key stands, or the name of the file."""
        return self.places.get(key, self.name)

    def given(self, key: str) -> bool:
        """Whether the file has a value for the key; null and an empty text are none."""
        return self.values.get(key) not in (None, "")

    def shown(self, key: str) -> Any:
        """The value as it may be shown: secrets hidden, long ones cut."""
        value = self.values.get(key)
        if isinstance(value, Missing):
            return f"${{{value.variable}}}"
        if value is not None and _SECRET.search(key):
            return HIDDEN
        if isinstance(value, str | list | dict) and len(str(value)) > 200:
            return short(value, quoted=False)
        return value

    def text(self, key: str, default: str | None = None) -> str | None:
        """A text; a number is taken as it is written."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, str | int | float) and not isinstance(value, bool) and len(str(value)) <= 500:
            return str(value)
        return self._wrong(key, value, "a text of at most 500 characters", default)

    def number(self, key: str, default: float) -> float:
        """A finite number; a text that is one, as readers of YAML 1.1 make of 5e-5, is taken for it."""
        value = self._value(key)
        if value is None:
            return default
        if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
            value = float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e300:
            return value
        return self._wrong(key, value, "a number", default)

    def whole(self, key: str, default: int | None) -> int | None:
        """A whole number; 3.0 is one."""
        if self._value(key) is None:
            return default
        number = self.number(key, math.nan)
        if math.isnan(number):  # said already
            return default
        if number == int(number):
            return int(number)
        return self._wrong(key, number, "a whole number", default)

    def switch(self, key: str, default: bool) -> bool:
        """True or false; yes, no, on and off mean the same, as in YAML 1.1."""
        value = self._value(key)
        if value is None:
            return default
        told = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(
            str(value).lower()
        )
        return self._wrong(key, value, "true or false", default) if told is None else told

    def names(self, key: str) -> tuple[str, ...] | None:
        """A list of names, or a text with commas between them."""
        value = self._value(key)
        if value is None:
            return None
        parts = value.split(",") if isinstance(value, str) else value
        if isinstance(parts, list) and all(isinstance(each, str) and len(each) <= 200 for each in parts):
            return tuple(each.strip() for each in parts if each.strip())
        return self._wrong(key, value, "names with commas between them, or a list of names", None)

    def _value(self, key: str) -> Any:
        value = self.values.get(key)
        if isinstance(value, Missing):
            self.problems.append(
                f"{self.place(key)}: {key} is the placeholder ${{{value.variable}}}; give its value by --var "
                f"{value.variable}=..."
            )
            self._tell(key)
            return None
        return None if value == "" else value

    def _wrong(self, key: str, value: Any, expected: str, default: T) -> T:
        self.problems.append(f"{self.place(key)}: {key} is {short(value)}, expected {expected}")
        self._tell(key)
        return default

    def _tell(self, key: str) -> None:
        self.told.add(key)
        self.values[key] = None  # said once


def read_factory_file(file: Path, variables: Mapping[str, str], used: set[str]) -> FactoryFile:
    """Read a file, with `$NAME` and `${NAME}` filled from `variables`; the names used are added to `used`.

    Variables of the environment are not looked at, so that a file means the same everywhere. Raises `ConfigError`
    for what is no YAML, for templates of another kind and for keys that stand twice.
    """
    if file.is_file():
        _refuse_templates(content(file, file.name, _LARGEST_BYTES), file.name)
    source = read_yaml(file)
    problems: list[str] = []
    values: dict[str, Any] = {}
    for key, value in source.values.items():
        place = source.place((key,))
        values[key] = _filled(value, variables, used, f"{place}: {key}", problems)
    if problems:
        raise ConfigError(problems)
    return FactoryFile(source.name, values, {key: source.place((key,)) for key in values})


def _refuse_templates(raw: bytes, name: str) -> None:
    for number, line in enumerate(raw.decode("utf-8", errors="replace").splitlines(), 1):
        if not line.lstrip().startswith("#") and (found := _JINJA.search(line)):
            raise ConfigError(
                f"{name}:{number}: {short(found[0], quoted=False)} belongs to a template engine; render the "
                "file first and give what comes out"
            )


def _filled(value: Any, variables: Mapping[str, str], used: set[str], where: str, problems: list[str]) -> Any:
    if isinstance(value, list):
        return [_filled(each, variables, used, where, problems) for each in value]
    if not isinstance(value, str) or "$" not in value:
        return value
    names = [match[1] or match[2] for match in _VARIABLE.finditer(value)]
    for name in names:
        if name not in variables:
            return Missing(name)
    used.update(names)
    told = _VARIABLE.sub(lambda match: variables[match[1] or match[2]], value)
    if not names or _OTHER_VARIABLE.search(_VARIABLE.sub("", value)):
        if found := _OTHER_VARIABLE.search(value):
            problems.append(
                f"{where} holds {short(found[0])}, which is resolved elsewhere; write the value itself"
            )
        return told
    # envsubst puts texts into a file, where a number becomes one when it is read.
    if len(names) == 1 and _VARIABLE.fullmatch(value) and _NUMBER.fullmatch(told):
        return int(told) if re.fullmatch(r"[-+]?\d+", told) else float(told)
    return told
