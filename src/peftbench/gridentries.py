"""What the axes of a grid are made of: models, methods with lists of settings, rules that hold for some cells."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar

from pydantic import BeforeValidator, Field, model_validator

from peftbench.kinds import Commit, Name
from peftbench.methods.plugins import resolved
from peftbench.schema import Frozen, MethodChoice, MethodCode


def listed(value: object) -> object:
    """A list as a tuple, one value as a tuple of one."""
    return tuple(value) if isinstance(value, list) else value if value is None else (value,)


class ModelEntry(Frozen):
    """A model of a grid: its folder, or its hub id with the commit."""

    model: Name
    model_revision: Commit | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"model": value} if isinstance(value, str) else value


class MethodEntry(Frozen):
    """A method of a grid: its settings, and under `each` those of which every value makes a cell."""

    name: str
    settings: dict[str, Any] = {}
    each: dict[str, Annotated[tuple[Any, ...], BeforeValidator(listed), Field(min_length=1)]] = {}
    code: MethodCode | None = None
    """Of a method that is not part of this package; filled in when the grid is expanded."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, value: object) -> object:
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and "settings" not in value:
            own = {key: item for key, item in value.items() if key in ("name", "each")}
            return {**own, "settings": {key: item for key, item in value.items() if key not in own}}
        return value

    def choices(self) -> Iterator[dict[str, Any]]:
        """The settings of each cell: every combination of the values under `each`."""
        for values in itertools.product(*self.each.values()):
            yield {**self.settings, **dict(zip(self.each, values, strict=True))}


Axis = Annotated[tuple[str, ...] | None, BeforeValidator(listed)]
Numbers = Annotated[tuple[int, ...] | None, BeforeValidator(listed)]


class Selection(Frozen):
    """Cells that have one of the values in every axis that is named; one value may stand without brackets."""

    models: Axis = None
    methods: Axis = None
    datasets: Axis = None
    seeds: Numbers = None
    protocols: Axis = None
    train_rows: Numbers = None

    def holds(self, config: Mapping[str, Any]) -> bool:
        """Whether a cell with these values is among them."""
        return all(
            wanted is None or config[axis] in wanted
            for axis, wanted in ((name, getattr(self, name)) for name in AXES)
        )


AXES = ("models", "methods", "datasets", "seeds", "protocols", "train_rows")


S = TypeVar("S", bound=Selection)


class Override(Selection):
    """Settings of a run that hold for a selection of cells."""

    set: dict[str, Any]
    """Keys as under `run`."""


def by_name(methods: Sequence[MethodEntry]) -> tuple[tuple[MethodEntry, ...], dict[str, str]]:
    """Methods by name where they are named by file, and the names by what stood there.

    One that cannot be loaded stays as it is.
    """
    names, entries = {}, []
    for entry in methods:
        choice = resolved(MethodChoice(name=entry.name, code=entry.code))
        names[entry.name] = choice.name
        entries.append(entry.model_copy(update={"name": choice.name, "code": choice.code}))
    return tuple(entries), names


def renamed(rules: Sequence[S], names: Mapping[str, str]) -> tuple[S, ...]:
    """Rules with methods by these names."""
    return tuple(
        rule.model_copy(update={"methods": rule.methods and tuple(names.get(name, name) for name in rule.methods)})
        for rule in rules
    )
