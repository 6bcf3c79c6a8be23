"""Methods of Hugging Face PEFT on this engine: its layers compute, ours are the training, the state and the files.

PEFT wraps a shadow of the base model, which shares its weights, and is left in charge of where its layers stand
and what they compute. Their trainable values live in an adapter of one run, in float32. Nothing here knows a
single method: what there is stands in `hf_table`, what needs a schedule or a penalty in `hf_schedules`.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import fields
from enum import Enum
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.adapter import (
    Adapter,
    AdapterFiles,
    Forward,
    dropped,
    find_targets,
    seeded,
    whole_weights,
)
from peftbench.errors import ConfigError, NeedsWeights
from peftbench.methods.hf_settings import HFEntry, HFSettings
from peftbench.methods.hf_shadow import replaced, shadow
from peftbench.methods.peft_library import peft
from peftbench.methods.slots import Slot, standing_in

_ROOT, _NAME = "base_model.model.", ".default"


class PEFTAdapter(Adapter):
    """One run of a method of Hugging Face PEFT."""

    own_settings: ClassVar[tuple[str, ...]] = ()
    """Settings that PEFT's configuration does not have."""

    def __init__(
        self, model: PreTrainedModel, settings: HFSettings, seeds: Sequence[int], files: AdapterFiles | None = None
    ) -> None:
        super().__init__(model, seeds)
        if len(self.seeds) != 1:
            raise ConfigError(
                f"{settings.entry.peft_type} of Hugging Face PEFT trains one run in a pass, not {seeds}"
            )
        whole_weights(model, f"{settings.entry.title}, which Hugging Face PEFT computes,")
        self.settings, self.files = settings, files
        self.config = self.make_config() if files is None else _config_of(files, settings)
        self.wrapped = self._wrap(model, self.config)
        if files is not None:
            _load(self.wrapped, files)
        self._prepare()
        inner = self.wrapped.base_model.model
        self.layers: dict[str, nn.Module] = {name: inner.get_submodule(name) for name in replaced(model, inner)}
        """The wrapped layers by the names of the modules for which they stand in."""
        self.slots = self._take_values()
        self._seed_dropouts()

    # -- building ----------------------------------------------------------------------------------------------

    def make_config(self) -> Any:
        """The configuration of PEFT that the settings mean."""
        entry, given = self.settings.entry, self.settings.model_dump()
        for name in ("targets", *self.own_settings):
            del given[name]
        kind = config_class(entry.peft_type)
        places = {"target_modules": self.target_names(), **self.places()}
        return _explained(entry, lambda: kind(task_type="CAUSAL_LM", **places, **given, **entry.fixed))

    def target_names(self) -> list[str]:
        """Full names of the modules that are wrapped."""
        targets = find_targets(self.model, self.settings.targets)
        for target in targets:
            if target.outputs is not None:
                raise ConfigError(
                    f"Hugging Face PEFT cannot act on a part of the fused projection {target.name}; name the "
                    "projection itself in targets"
                )
        return [target.name for target in targets]

    def places(self) -> dict[str, Any]:
        """Further arguments of the configuration that depend on the model."""
        if self.settings.entry.peft_type == "IA3":
            down = find_targets(self.model, [role for role in self.settings.targets if role == "down"] or ["down"])
            return {"feedforward_modules": [target.name for target in down]}
        return {}

    def _wrap(self, model: PreTrainedModel, config: Any) -> Any:
        shared = shadow(model, copied=self.copied_modules())
        with seeded(self.seeds[0]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with ExitStack() as held:
                if self.device.type == "meta":
                    held.enter_context(torch.device("meta"))
                try:
                    wrapped = _explained(self.settings.entry, lambda: peft.get_peft_model(shared, config))
                except ConfigError as error:
                    if self.device.type != "meta":
                        raise
                    told = f"what {self.settings.entry.title} trains is known only with the model's weights"
                    raise NeedsWeights(told) from error.__cause__
        return wrapped.eval()

    def copied_modules(self) -> Sequence[str]:
        """Modules whose weights are copied, because PEFT changes them."""
        return self.target_names() if self.settings.entry.changes_base else ()

    def _prepare(self) -> None:
        """What a method does once PEFT has wrapped the model, before values are taken."""

    def _take_values(self) -> dict[str, list[Slot]]:
        """Copy the trainable parameters into tensors; returns where they stand in each wrapped layer."""
        names = {id(each): _ours(name) for name, each in self.wrapped.named_parameters() if each.requires_grad}
        found: dict[str, list[Slot]] = {}
        for layer_name, layer in self.layers.items():
            found[layer_name] = [
                Slot(owner, key, names[id(value)])
                for owner in layer.modules()
                for key, value in owner._parameters.items()
                if value is not None and id(value) in names
            ]
        used = {slot.name for slots in found.values() for slot in slots}
        for name, each in self.wrapped.named_parameters():
            if each.requires_grad and _ours(name) in used:
                self.tensors[_ours(name)] = each.detach().to(self.dtype)[None].clone().requires_grad_()
                if "bias" in name:
                    self.undecayed.add(_ours(name))
        if not self.tensors:
            raise ConfigError(f"{self.settings.entry.peft_type} trains nothing on these targets")
        if self._trains_elsewhere(used):
            raise ConfigError(
                f"{self.settings.entry.peft_type} trains {self._trains_elsewhere(used)} outside its layers"
            )
        return found

    def _trains_elsewhere(self, used: set[str]) -> list[str]:
        return sorted(
            _ours(name)
            for name, each in self.wrapped.named_parameters()
            if each.requires_grad and _ours(name) not in used
        )[:3]

    def _seed_dropouts(self) -> None:
        for name, layer in self.layers.items():
            for path, module in list(layer.named_modules()):
                if isinstance(module, nn.Dropout) and module.p > 0:
                    parent, _, key = path.rpartition(".")
                    layer.get_submodule(parent)._modules[key] = _SeededDropout(self, f"{name}/{path}", module.p)

    # -- computing ---------------------------------------------------------------------------------------------

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for name in self.layers:
            yield self.model.get_submodule(name), partial(self.run, name)

    def run(self, name: str, x: Tensor) -> Tensor:
        """The output of one wrapped layer, with the adapter's values in it: (1, tokens, width)."""
        with self.values_in(self.slots[name]), self.drawing(name, x):
            out: Tensor = self.layers[name](x)
            return out

    @contextmanager
    def drawing(self, name: str, x: Tensor) -> Iterator[None]:
        """A layer that draws in training draws from a stream of the run's seed, the step and the place."""
        if self.noise is None or not self.settings.entry.draws:
            yield
            return
        layer, [noise] = self.layers[name], self.noise
        with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []):
            torch.manual_seed(noise.generator(name, torch.device("cpu")).initial_seed())
            layer.train()
            try:
                yield
            finally:
                layer.eval()

    def value(self, name: str) -> Tensor:
        """A trainable value as a layer sees it."""
        return self.tensors[name][0]

    def values_in(self, slots: Sequence[Slot] | None = None) -> AbstractContextManager[None]:
        """The adapter's tensors where PEFT has its parameters; everywhere for None."""
        chosen = [slot for each in self.slots.values() for slot in each] if slots is None else slots
        return standing_in(chosen, self.value)

    def trainable_parameters(self) -> list[tuple[str, nn.Parameter]]:
        """PEFT's own parameters by the names of our tensors; their values are those of the start."""
        found = {_ours(name): each for name, each in self.wrapped.named_parameters()}
        return [(name, found[name]) for name in self.tensors]

    def constant_over_batch(self) -> bool:
        return not self.settings.entry.draws and not any(
            value for name, value in self.settings.model_dump().items() if name.endswith("dropout")
        )

    def select(self, runs: Sequence[int]) -> Adapter:
        chosen = super().select(runs)
        assert isinstance(chosen, PEFTAdapter)
        for layer in chosen.layers.values():
            for module in layer.modules():
                if isinstance(module, _SeededDropout):
                    module.adapter = chosen
        return chosen

    # -- files -------------------------------------------------------------------------------------------------

    def export(self, run: int) -> AdapterFiles:
        assert run == 0
        with self.values_in():
            return AdapterFiles(_plain(self.config), self.stored_state())

    def stored_state(self) -> dict[str, Tensor]:
        """What PEFT stores of the model as it stands."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = peft.get_peft_model_state_dict(self.wrapped, save_embedding_layers=False)
        return {name: _stored(each) for name, each in state.items()}

    @classmethod
    def from_files(cls, model: PreTrainedModel, settings: Any, files: AdapterFiles, seed: int) -> Self:
        return cls(model, settings, [seed], files)

    def merged(self, run: int) -> dict[str, Tensor]:
        files = self.export(run)
        whole = shadow(self.model, copied=self.target_names())
        with seeded(self.seeds[0]), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrapped = peft.get_peft_model(whole, _config_of(files, self.settings)).eval()
            _load(wrapped, files)
            plain = wrapped.merge_and_unload()
        names = dict(self.model.named_parameters())
        return {
            name: value.detach()
            for name, value in plain.named_parameters()
            if name not in names or not torch.equal(value, names[name])
        }


class _SeededDropout(nn.Module):
    """Dropout as the engine draws it: a function of the run's seed, the step and the place."""

    def __init__(self, adapter: PEFTAdapter, place: str, p: float) -> None:
        super().__init__()
        self.adapter, self.place, self.p = adapter, place, p

    def forward(self, x: Tensor) -> Tensor:
        noise = self.adapter.noise
        return x if noise is None else dropped(x, self.p, noise, self.place)


def config_class(peft_type: str) -> Any:
    """PEFT's configuration for a method; raises `ConfigError` if the version that is installed lacks it."""
    if peft_type not in peft.PeftType.__members__:
        raise ConfigError(f"the installed PEFT {peft.__version__} has no {peft_type}; install a newer one")
    return peft.PEFT_TYPE_TO_CONFIG_MAPPING[peft.PeftType(peft_type)]


def _explained(entry: HFEntry, make: Callable[[], Any]) -> Any:
    """What PEFT says against settings or model, in one sentence."""
    try:
        return make()
    except (ValueError, TypeError, RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(
            f"Hugging Face PEFT refuses {entry.peft_type} with these settings: {reason}; change them, "
            "`peftbench show method` says what they mean"
        ) from error


def _config_of(files: AdapterFiles, settings: HFSettings) -> Any:
    """The configuration of an exported adapter, of the method's type or it is refused."""
    stored = files.config.get("peft_type")
    if stored != settings.entry.peft_type:
        raise ConfigError(
            f"the adapter is one of {stored}, not of {settings.entry.peft_type}; give that of this method"
        )
    kind = config_class(stored)
    known = {each.name for each in fields(kind)} - {"peft_type", "base_model_name_or_path", "revision"}
    return _explained(
        settings.entry,
        lambda: kind(**{k: v for k, v in files.config.items() if k in known} | {"inference_mode": False}),
    )


def _load(wrapped: Any, files: AdapterFiles) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        told = peft.set_peft_model_state_dict(wrapped, dict(files.tensors))
    if told.unexpected_keys:
        raise ConfigError(
            f"the adapter has tensors that its configuration does not mean: {told.unexpected_keys[:3]}"
        )


def _plain(config: Any) -> dict[str, Any]:
    """A configuration of PEFT as JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, Enum):
            return value.value
        if isinstance(value, set | frozenset):
            return sorted(value)
        if isinstance(value, dict):
            return {key: plain(each) for key, each in value.items()}
        return [plain(each) for each in value] if isinstance(value, list | tuple) else value

    found = {key: plain(value) for key, value in config.to_dict().items()}
    found.pop("runtime_config", None)
    return {**found, "inference_mode": True}


def _ours(name: str) -> str:
    """A parameter's name without what PEFT puts around it."""
    return name.removeprefix(_ROOT).replace(f"{_NAME}.", ".").removesuffix(_NAME)


def _stored(tensor: Tensor) -> Tensor:
    found = tensor.detach()
    return (found if found.is_meta else found.cpu()).contiguous().clone()
