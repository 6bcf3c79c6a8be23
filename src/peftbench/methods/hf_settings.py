"""How a method of Hugging Face PEFT is described: its type, its settings with their meaning, what is fixed.

Settings have the names of PEFT's configuration, except `targets`, which means here what it means everywhere.
No torch and no PEFT: a list of methods has to be there at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, create_model

from peftbench.methods.settings import Count, Share, Targets
from peftbench.schema import Category, Frozen, MethodSpec

Positive = Annotated[float, Field(gt=0, le=1e6)]
Whole = Annotated[int, Field(ge=0, le=1_000_000_000)]

Setting = tuple[Any, Any, str]
"""Type, default, meaning."""

TARGETS = ("key", "value", "down")
"""Where LoRA acts in section 4 of the paper; all methods act there, so that they can be compared."""


@dataclass(frozen=True)
class HFEntry:
    """One method of Hugging Face PEFT."""

    name: str
    peft_type: str
    title: str
    category: Category
    summary: str
    source: str
    settings: Mapping[str, Setting]
    """By the names of PEFT's configuration."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of PEFT's configuration that make the method what it is."""
    tiny: Mapping[str, Any] = field(default_factory=dict)
    """Settings that fit models a few dozen wide."""
    code: str = "hf:PEFTAdapter"
    """Module in this package and class."""
    targets: tuple[str, ...] = TARGETS
    identity_at_start: bool = True
    mergeable: bool = True
    changes_base: bool = False
    """Whether PEFT puts other weights into the base model, which then needs copies of them."""
    quantized_base: bool = True
    """Whether it can stand on quantized projections; never where it changes the base."""
    draws: bool = False
    """Whether its layers draw numbers in training."""
    limits: str = ""
    version: int = 1


class HFSettings(Frozen):
    """Settings of a method that Hugging Face PEFT computes."""

    entry: ClassVar[HFEntry]

    targets: Targets = TARGETS
    """Roles (query, key, value, output, gate, up, down) or endings of module names."""


def count(default: int, meaning: str) -> Setting:
    """A number of things, at least one."""
    return Count, default, meaning


def optional(meaning: str) -> Setting:
    """A number of things, at least one, or none given."""
    return Count | None, None, meaning


def whole(default: int, meaning: str) -> Setting:
    """A whole number, zero allowed."""
    return Whole, default, meaning


def positive(default: float, meaning: str) -> Setting:
    """A number above zero."""
    return Positive, default, meaning


def share(default: float, meaning: str) -> Setting:
    """A number from 0 to below 1."""
    return Share, default, meaning


def switch(default: bool, meaning: str) -> Setting:
    """Yes or no."""
    return bool, default, meaning


def choice(default: Any, *others: Any, meaning: str) -> Setting:
    """One of a few values."""
    return Literal[(default, *others)], default, meaning


def spec_of(entry: HFEntry) -> MethodSpec:
    """The method as the registry knows it."""
    told = HFSettings.model_fields["targets"].description or ""
    settings = {"targets": (Targets, entry.targets, told), **entry.settings}
    fields: dict[str, Any] = {
        name: (kind, Field(default, description=meaning)) for name, (kind, default, meaning) in settings.items()
    }
    made: Any = create_model(
        f"{entry.peft_type.title()}Settings",
        __base__=HFSettings,
        __module__=__name__,
        __doc__=f"Settings of {entry.title}.",
        **fields,
    )
    made.entry = entry
    return MethodSpec(
        name=entry.name,
        version=entry.version,
        title=entry.title,
        category=entry.category,
        summary=entry.summary,
        source=f"{entry.source}; computed by Hugging Face PEFT",
        settings=made,
        build=f"peftbench.methods.{entry.code}",
        identity_at_start=entry.identity_at_start,
        mergeable=entry.mergeable,
        quantized_base=entry.quantized_base and not entry.changes_base,
        fuses=False,
        limits=entry.limits,
    )
