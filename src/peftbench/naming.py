"""The method that a configuration names, by name or by file, and the learning rate that is meant for it.

Works on settings as plain data, before they are checked.
"""

import json
from typing import TYPE_CHECKING

from pydantic import ValidationError

from peftbench.errors import PeftBenchError
from peftbench.methods.plugins import resolved, spec_named
from peftbench.methods.specs import methods
from peftbench.schema import MethodChoice

if TYPE_CHECKING:
    from peftbench.yamlfile import Source


def name_method(source: "Source") -> None:
    """Put a method's own name, and what its code is, where it is named by its file or brought by a package."""
    given = source.values.get("method")
    choice = choice_of(given)
    found = choice and resolved(choice)
    if found is None or found == choice:
        return
    source.values["method"] = found.model_dump()
    if not isinstance(given, dict) or "settings" not in given:
        source.places = {
            ("method", "settings", *path[1:])
            if path[:1] == ("method",) and path[1:] not in ((), ("name",))
            else path: place
            for path, place in source.places.items()
        }


def choice_of(value: object) -> MethodChoice | None:
    """A method as it is given; None for what is told elsewhere."""
    try:
        return MethodChoice.model_validate_json(json.dumps(value, default=str))
    except ValidationError:
        return None


def choose_learning_rate(source: "Source") -> None:
    """Where a file gives one learning rate for each method, take that of the method at hand."""
    training, path = source.values.get("training"), ("training", "learning_rate")
    rates = training.get("learning_rate") if isinstance(training, dict) else None
    if not isinstance(training, dict) or not isinstance(rates, dict):
        return
    for name in list(rates):
        try:
            rates = {spec_named(key).name if key == name else key: rate for key, rate in rates.items()}
        except PeftBenchError as error:
            source.problems.append(f"{source.place((*path, name))}: {error}")
    method = source.values.get("method")
    name = method.get("name") if isinstance(method, dict) else method
    rest = {key: value for key, value in training.items() if key != "learning_rate"}
    if name in rates:
        rest["learning_rate"] = rates[name]
    elif name in methods.names() and methods.get(str(name)).build:
        source.problems.append(
            f"{source.place(path)}: there is no learning rate for method {name!r}, only for {', '.join(rates)}; "
            f"add it, or pass --set training.learning_rate=<number>"
        )
    source.values["training"] = rest
