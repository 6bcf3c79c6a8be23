"""Dimensions of common models, so that costs can be predicted without their files; no torch until one is made."""

import json
from functools import cache
from pathlib import Path
from typing import Any

from peftbench.errors import ConfigError, UnknownName
from peftbench.schema import Frozen

_FILE = Path(__file__).parent / "data" / "models.json"


class ModelDimensions(Frozen):
    """What the configuration of one common model says about its shape."""

    name: str
    hub: tuple[str, ...]
    """Names on the hub under which models of this shape are found."""
    params: int
    """All parameters, for a check."""
    source: str
    family: str
    """Model type in transformers."""
    dimensions: dict[str, Any]
    """Settings of the family's configuration that differ from its defaults or that matter."""


@cache
def shipped_models() -> dict[str, ModelDimensions]:
    """The models whose dimensions are shipped, by name."""
    rows = json.loads(_FILE.read_text(encoding="utf-8"))
    return {row["name"]: ModelDimensions.model_validate_json(json.dumps(row)) for row in rows}


def shipped_model(name: str) -> ModelDimensions | None:
    """A model by our name for it or by a name on the hub, upper and lower case alike; None if it is not there."""
    wanted = name.lower()
    for each in shipped_models().values():
        if wanted == each.name or wanted in {hub.lower() for hub in each.hub}:
            return each
    return None


def config_of(model: str, revision: str | None) -> tuple[Any, bool]:
    """Configuration of a model, and whether it rests on the dimensions shipped here.

    `model` is a folder, a `config.json`, a shipped name or a hub id, which needs its commit unless its dimensions
    are shipped. Raises `ConfigError`, `UnknownName` with the nearest names, `DataError` where the hub refuses.
    """
    from peftbench.engine.loading import load_config, located

    shipped = None if Path(model).exists() or revision else shipped_model(model)
    if shipped is not None:
        from transformers import AutoConfig

        return AutoConfig.for_model(shipped.family, **shipped.dimensions), True
    if not Path(located(model)).exists() and model.count("/") != 1:
        raise UnknownName("model", model, shipped_models(), "no folder of that name is here, and ")
    try:
        return load_config(model, revision), False
    except ConfigError as error:
        if revision is None and not Path(located(model)).exists():
            known = ", ".join(shipped_models())
            raise ConfigError(f"{error}; dimensions that need no files are those of {known}") from error
        raise
