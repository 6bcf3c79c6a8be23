"""An adapter made of plain torch modules: `Additions` once for each run, in the random stream of its seed.

Their trainable values are float32 tensors with a run axis, put into the modules of each run while they compute.
Modules see float32, whatever the base's precision. Several runs compute one after another.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.adapter import Adapter, AdapterFiles, Forward, Target, heads_of, seeded, whole_weights
from peftbench.errors import ConfigError, MethodError, NeedsWeights
from peftbench.methods import peft_format
from peftbench.methods.additions import Additions, Made, key_of
from peftbench.methods.slots import standing_in
from peftbench.outside import contained
from peftbench.schema import Frozen, MethodSpec

Part = tuple[str, Tensor | None, int | None]
"""What stands around a module: its name, the outputs that it has (None for all), their number where known."""


class PlainAdapter(Adapter):
    """A method made of plain torch modules; where there are several runs they compute one after another."""

    def __init__(self, model: PreTrainedModel, spec: MethodSpec, settings: Frozen, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.spec, self.settings = spec, settings
        self.what = f"method {spec.name!r}"
        self.file = spec.code.path or "" if spec.code else ""
        if not spec.fuses and len(self.seeds) != 1:
            raise ConfigError(f"{self.what} says fuses=False: it has one run in a pass, not {len(self.seeds)}")
        whole_weights(model, self.what)
        self.made = [self._make(seed) for seed in self.seeds]
        self.places = self._find_places()
        self._take_values()
        before = self.soft_prompt()
        if before is not None:
            self.embedded_tokens = self.virtual_tokens = before.shape[1]
        elif (prefix := self.prefix()) is not None:
            self.virtual_tokens = prefix[0][0].shape[2]

    # -- building ----------------------------------------------------------------------------------------------

    def _make(self, seed: int) -> Made:
        free = {name for name, each in self.model.named_parameters() if each.requires_grad}
        weightless = self.device.type == "meta"
        try:
            with (
                seeded(seed),
                torch.device("meta") if weightless else nullcontext(),
                self._running("build", ConfigError),
            ):
                additions = self.spec.build(self.model, self.settings)  # type: ignore[operator, misc]
        except ConfigError as error:
            # It looked at values, which are not there.
            if weightless and "meta" in str(error.__cause__).lower():
                raise NeedsWeights(f"what {self.what} trains is known only with the model's weights") from error
            raise
        finally:
            taken = [n for n, each in self.model.named_parameters() if each.requires_grad and n not in free]
            for name in taken:
                self.model.get_parameter(name).requires_grad_(False)
        if taken:
            raise ConfigError(
                f"{self.what} asks to train the base's own {', '.join(taken[:3])}; train a copy: "
                "nn.Parameter(weight.detach().clone()) in a module of its own"
            )
        if not isinstance(additions, Additions):
            raise ConfigError(
                f"{self.what}: build gave a {type(additions).__name__}, expected Additions; return Additions(...)"
            )
        if not (additions.around or additions.soft_prompt or additions.prefix):
            raise ConfigError(f"{self.what} adds nothing; give Additions(around=...), soft_prompt or prefix")
        if additions.soft_prompt and additions.prefix:
            raise ConfigError(f"{self.what} has both a soft prompt and a prefix; keep one of them")
        return Made(additions, self.model)

    def _find_places(self) -> list[tuple[nn.Module, list[Part]]]:
        """Modules of the base with the parts around them: key, the outputs that it has, their number."""
        found: dict[int, tuple[nn.Module, list[Part]]] = {}
        part: Part
        for place in self.made[0].additions.around:
            if isinstance(place, Target):
                outputs = None if place.outputs is None else place.outputs.to(self.device)
                module, part = place.module, (place.key, outputs, place.out_features)
            else:
                module, part = self._module(place), (place, None, None)
            parts = found.setdefault(id(module), (module, []))[1]
            if parts and (part[1] is None or parts[0][1] is None):
                raise ConfigError(f"{self.what} puts two modules around {key_of(place)}; make one of them")
            parts.append(part)
        return list(found.values())

    def _module(self, name: str) -> nn.Module:
        try:
            module: nn.Module = self.model.get_submodule(name)
        except AttributeError as error:
            kind = self.model.config.model_type
            raise ConfigError(
                f"{self.what} acts on {name!r}, which this {kind} model does not have; find_targets finds "
                "roles in every family"
            ) from error
        taken = [
            each.kind
            for each in list(signature(type(module).forward).parameters.values())[1:]
            if each.kind is not Parameter.VAR_KEYWORD
        ]
        if not name or taken != [Parameter.POSITIONAL_OR_KEYWORD]:
            raise ConfigError(
                f"{self.what} acts on {name!r}, a {type(module).__name__} with several inputs; act on "
                "projections, norms or a feed-forward part"
            )
        if self.spec.fuses and any(True for _ in module.children()):
            raise ConfigError(
                f"{self.what} acts on {name!r} as a whole, which one run in a pass can do; set fuses=False"
            )
        return module

    def _take_values(self) -> None:
        first = self.made[0]
        if not first.initial:
            raise ConfigError(
                f"{self.what} trains nothing: its modules hold no nn.Parameter that asks for a gradient; "
                "keep what is trained in one"
            )
        for made in self.made:
            if {n: v.shape for n, v in made.initial.items()} != {n: v.shape for n, v in first.initial.items()}:
                raise ConfigError(f"{self.what} makes other shapes for another seed; make them depend on settings")
            for name, value in made.kept_values().items():
                kept = value.detach().to(self.device, self.dtype if value.is_floating_point() else None)
                made.keep(name, kept.clone())
        for name in first.initial:
            values = [made.initial[name].detach().to(self.device, self.dtype) for made in self.made]
            self.tensors[name] = torch.stack(values).requires_grad_()
            if name.endswith("bias"):
                self.undecayed.add(name)

    # -- computing ---------------------------------------------------------------------------------------------

    def _running(self, doing: str, error_type: type[ConfigError] = MethodError) -> Any:
        return contained(f"{self.what}: {doing}", "mend the method", self.file, error_type)

    @contextmanager
    def _values_in(self, run: int, part: str | None = None) -> Iterator[Made]:
        """One run's modules with its values where their parameters are; those of one part, or of all."""
        made = self.made[run]
        slots = made.slots[part] if part else [slot for each in made.slots.values() for slot in each]
        with standing_in(slots, lambda name: self.tensors[name][run]):
            for dropout in made.dropouts:
                dropout.noise = None if self.noise is None else [self.noise[run]]
            yield made

    def _call(self, run: int, part: str, *given: Any) -> Tensor:
        with self._values_in(run, part) as made, self._running(f"the module of {part}"):
            out: Tensor = made.parts[part](*given)
        if not isinstance(out, Tensor):
            raise ConfigError(f"{self.what}: the module of {part} gave a {type(out).__name__}, expected a tensor")
        return out.to(self.dtype)

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        """Modules with the function that stands in for theirs."""
        for module, parts in self.places:
            yield module, partial(self._rows, module, parts)

    def _rows(self, module: nn.Module, parts: list[Part], x: Tensor) -> Tensor:
        return torch.stack([self._row(run, module, parts, x[run]) for run in range(self.runs)])

    def _row(self, run: int, module: nn.Module, parts: list[Part], x: Tensor) -> Tensor:
        """The output of one module for one run: (tokens, inputs) -> (tokens, outputs)."""
        plain, given = type(module).forward, x.to(self.dtype)
        known: list[Tensor] = []

        def base(y: Tensor, outputs: Tensor | None = None) -> Tensor:
            if y is not given or not known:
                out: Tensor = plain(module, y.to(x.dtype)).to(self.dtype)
                if y is given:
                    known.append(out)
            else:
                out = known[0]
            return out if outputs is None else out[..., outputs]

        result: Tensor | None = None
        for part, outputs, width in parts:
            out = self._call(run, part, given, partial(base, outputs=outputs))
            if out.shape[:-1] != x.shape[:-1] or (width is not None and out.shape[-1] != width):
                expected = f"({x.shape[0]}, {'outputs' if width is None else width})"
                shape = tuple(out.shape)
                raise ConfigError(f"{self.what}: the module of {part} gave shape {shape}, expected {expected}")
            result = (
                out
                if outputs is None
                else (base(given) if result is None else result).index_copy(-1, outputs, out)
            )
        assert result is not None
        return result.to(x.dtype)

    def soft_prompt(self) -> Tensor | None:
        """Embeddings put before the text, of shape (runs, embedded tokens, width), or None."""
        if self.made[0].additions.soft_prompt is None:
            return None
        width = int(self.model.config.get_text_config().hidden_size)
        made = torch.stack([self._call(run, "soft_prompt") for run in range(self.runs)])
        if made.dim() != 3 or made.shape[-1] != width or not made.shape[1]:
            shape = tuple(made.shape[1:])
            raise ConfigError(
                f"{self.what}: its soft prompt has shape {shape}, expected (virtual tokens, {width})"
            )
        return made.to(self.base_dtype)

    def prefix(self) -> list[tuple[Tensor, Tensor]] | None:
        """For each layer the keys and values put before the text: (runs, heads, virtual tokens, width)."""
        if self.made[0].additions.prefix is None:
            return None
        heads = heads_of(self.model.config)
        made = [self._call(run, "prefix") for run in range(self.runs)]
        shape = tuple(made[0].shape)
        if shape != (heads.layers, 2, heads.key_value_heads, *shape[3:4], heads.width) or not shape[3]:
            expected = f"({heads.layers} layers, 2, {heads.key_value_heads} heads, virtual tokens, {heads.width})"
            raise ConfigError(f"{self.what}: its prefix has shape {shape}, expected {expected}")
        keys_and_values = torch.stack(made, dim=2).to(self.base_dtype)
        return [(layer[0], layer[1]) for layer in keys_and_values]

    def constant_over_batch(self) -> bool:
        """Whether nothing is drawn for each token."""
        return not any(each.by_token for each in self.made[0].dropouts)

    def mixes_with(self, other: Adapter) -> bool:
        """Whether the two can be in one pass."""
        return self.spec.fuses and super().mixes_with(other)

    # -- schedules, losses and files ---------------------------------------------------------------------------

    def penalty(self) -> Tensor | None:
        """What training adds to the loss of each run, (runs,)."""
        if self.made[0].additions.penalty is None:
            return None
        found = []
        for run in range(self.runs):
            with self._values_in(run) as made, self._running("penalty"):
                given = made.additions.penalty()  # type: ignore[misc]
                found.append(torch.as_tensor(given, dtype=self.dtype, device=self.device).reshape(()))
        return torch.stack(found)

    def updated(self, steps: Sequence[int]) -> None:
        """Called after an update; `steps` has the number of updates of each run."""
        if self.made[0].additions.after_step is None:
            return
        for run, step in enumerate(steps):
            with torch.no_grad(), self._values_in(run) as made, self._running("after_step"):
                made.additions.after_step(step)  # type: ignore[misc]

    def extra_state(self, run: int) -> dict[str, Tensor]:
        """What a schedule remembers: the buffers of its run."""
        made = self.made[run]
        return {} if made.additions.after_step is None else self._kept(run)

    def load_extra_state(self, run: int, state: dict[str, Tensor]) -> None:
        """Put back what `extra_state` gave for a run."""
        for name, value in state.items():
            self.made[run].keep(name, value.to(self.device))

    def _kept(self, run: int) -> dict[str, Tensor]:
        return {name: value.detach().clone() for name, value in self.made[run].kept_values().items()}

    def select(self, runs: Sequence[int]) -> Adapter:
        """The same adapter with only some of its runs, in that order."""
        chosen = super().select(runs)
        assert isinstance(chosen, PlainAdapter)
        chosen.made = [self.made[run] for run in runs]
        return chosen

    def export(self, run: int) -> AdapterFiles:
        """One run as this package reads it: what is trained, and what its modules keep beside it."""
        return peft_format.own_files(
            f"OWN_{self.spec.name.upper()}", self.settings, {**self.state(run), **self._kept(run)}
        )

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        kept = self.made[0].kept
        if missing := (set(self.tensors) | set(kept)) ^ set(files.tensors):
            raise ConfigError(
                f"the adapter is not one of {self.what} with these settings: they differ in {sorted(missing)[:3]}"
            )
        self.load_state(0, {name: files.tensors[name] for name in self.tensors})
        self.load_extra_state(0, {name: files.tensors[name] for name in kept})


@dataclass(frozen=True)
class PlainMethod:
    """Makes the adapters of a method whose build function gives `Additions`."""

    spec: MethodSpec

    def __call__(self, model: PreTrainedModel, settings: Frozen, seeds: Sequence[int]) -> Adapter:
        """A new adapter, one run for each seed."""
        return PlainAdapter(model, self.spec, settings, seeds)

    def from_files(self, model: PreTrainedModel, settings: Frozen, files: AdapterFiles, seed: int) -> Adapter:
        """The deployed adapter of a finished run."""
        adapter = self(model, settings, [seed])
        adapter.load_files(files)
        return adapter.deployed(0)
