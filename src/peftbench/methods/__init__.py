"""The fine-tuning methods: what they are (`specs`, no torch) and how they are built (`native`, `soft_prompts`)."""

from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from peftbench.errors import ConfigError
from peftbench.schema import Frozen, MethodSpec

if TYPE_CHECKING:
    from peftbench.engine.adapter import Adapter, AdapterFiles


def build_adapter(spec: MethodSpec, model: Any, settings: Frozen, seeds: Sequence[int]) -> "Adapter":
    """A new adapter of this method on a model, one run for each seed."""
    adapter: Adapter = _code_of(spec)(model, settings, seeds)
    return adapter


def load_adapter(spec: MethodSpec, model: Any, settings: Frozen, files: "AdapterFiles", seed: int) -> "Adapter":
    """The adapter of a finished run from its files, ready for prediction."""
    adapter: Adapter = _code_of(spec).from_files(model, settings, files, seed)
    return adapter


def _code_of(spec: MethodSpec) -> Any:
    if spec.build is None:
        raise ConfigError(f"method {spec.name!r} trains nothing; choose another method to train")
    module, _, name = spec.build.partition(":")
    return getattr(import_module(module), name)
