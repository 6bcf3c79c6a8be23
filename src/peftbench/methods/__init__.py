"""The fine-tuning methods: what they are (`specs`, no torch) and how they are built (`native`, `soft_prompts`)."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

from peftbench.errors import ConfigError, NotInstalled
from peftbench.outside import contained
from peftbench.schema import Frozen, MethodSpec

if TYPE_CHECKING:
    from peftbench.engine.adapter import Adapter, AdapterFiles


@dataclass(frozen=True)
class Recipe:
    """How an adapter is made, but for its seeds: another process makes the same from it."""

    spec: MethodSpec
    settings: Frozen
    files: "AdapterFiles | None" = None
    """What it is loaded from; None if it is built."""

    def make(self, model: Any, seeds: Sequence[int]) -> "Adapter":
        """The adapter on a model, one run for each seed; from files there is one."""
        code = _code_of(self.spec)
        with _told(self.spec):
            adapter: Adapter = (
                code(model, self.settings, seeds)
                if self.files is None
                else code.from_files(model, self.settings, self.files, *seeds)
            )
        adapter.recipe = self
        return adapter


def build_adapter(spec: MethodSpec, model: Any, settings: Frozen, seeds: Sequence[int]) -> "Adapter":
    """A new adapter of this method on a model, one run for each seed."""
    return Recipe(spec, settings).make(model, seeds)


def load_adapter(spec: MethodSpec, model: Any, settings: Frozen, files: "AdapterFiles", seed: int) -> "Adapter":
    """The adapter of a finished run from its files, ready for prediction."""
    return Recipe(spec, settings, files).make(model, [seed])


def _code_of(spec: MethodSpec) -> Any:
    if spec.build is None:
        raise ConfigError(f"method {spec.name!r} trains nothing; choose another method to train")
    if not isinstance(spec.build, str):
        return _made_from(spec, spec.build)
    module, _, name = spec.build.partition(":")
    try:
        return _made_from(spec, getattr(import_module(module), name))
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise NotInstalled("peft", f"computes {spec.title}", "peft") from error


def _made_from(spec: MethodSpec, build: Any) -> Any:
    """An adapter class as it is; a function that gives `Additions` as what makes adapters of them."""
    from peftbench.methods.plain import PlainMethod

    return build if hasattr(build, "from_files") else PlainMethod(spec.model_copy(update={"build": build}))


def _told(spec: MethodSpec) -> AbstractContextManager[None]:
    """What goes wrong in a method that is not part of this package is said in a sentence."""
    if spec.code is None:
        return nullcontext()
    return contained(f"method {spec.name!r}: build", "mend the method", spec.code.path or "")
