"""Methods of Hugging Face PEFT that need more than its layers: schedules, penalties, rates, training rows.

Each does in the engine's loop what PEFT leaves to whoever writes the loop.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from peftbench.engine.adapter import AdapterFiles
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample, pack
from peftbench.engine.runs import TrainingRun
from peftbench.errors import ConfigError
from peftbench.methods.hf import PEFTAdapter
from peftbench.methods.peft_library import IncrementalPCA
from peftbench.methods.slots import Slot


class LoRAPlus(PEFTAdapter):
    """The second factors learn `ratio` times as fast as the first."""

    own_settings = ("ratio",)

    def _take_values(self) -> dict[str, list[Slot]]:
        slots = super()._take_values()
        self.rates = {name: self.settings.ratio for name in self.tensors if "lora_B" in name}  # type: ignore[attr-defined]
        return slots


class LoRAFA(PEFTAdapter):
    """The first factors stay as they are drawn; the gradient of a second one is multiplied by (A A')^-1 / scale^2.

    The projection comes before the clipping of the gradient, in PEFT's own optimizer after it.
    """

    def _prepare(self) -> None:
        self.projections: dict[str, Tensor] = {}
        for name, each in self.wrapped.named_parameters():
            if "lora_A" in name:
                each.requires_grad_(False)
        for name, layer in self.wrapped.named_modules():
            if hasattr(layer, "lora_A") and hasattr(layer, "scaling") and self.device.type != "meta":
                a = layer.lora_A["default"].weight.detach().to(self.dtype)
                square = a @ a.T + 1e-8 * torch.eye(len(a), dtype=a.dtype, device=a.device)
                inverse = torch.linalg.pinv(square, hermitian=True)
                place = name.removeprefix("base_model.model.")
                self.projections[f"{place}.lora_B.weight"] = inverse / layer.scaling["default"] ** 2

    def value(self, name: str) -> Tensor:
        found = super().value(name)
        if found.requires_grad and name in self.projections:
            found.register_hook(lambda gradient: gradient @ self.projections[name])  # type: ignore[no-untyped-call]
        return found


class MovedBase(PEFTAdapter):
    """PiSSA and OLoRA: what the adapter begins with is taken out of the base.

    Exported as a plain LoRA of twice the rank on the untouched base: what was trained minus what it began with.
    """

    def _prepare(self) -> None:
        self.moved = self.files is None

    def copied_modules(self) -> Sequence[str]:
        return super().copied_modules() if self.files is None else ()

    def export(self, run: int) -> AdapterFiles:
        trained = super().export(run)
        if not self.moved:
            return trained
        start = self.stored_state()
        tensors = {}
        for name, value in trained.tensors.items():
            first = "lora_A" in name
            tensors[name] = torch.cat([value, start[name] if first else -start[name]], dim=0 if first else 1)
        rank, alpha = trained.config["r"], trained.config["lora_alpha"]
        plain = {"r": 2 * rank, "lora_alpha": 2 * alpha, "init_lora_weights": True}
        return AdapterFiles({**trained.config, **plain}, tensors)


class EVA(PEFTAdapter):
    """First factors begin with the main directions of their inputs, from an incremental PCA over training rows."""

    own_settings = ("init_rows",)

    def begin(self, model: LanguageModel, runs: Sequence[TrainingRun]) -> None:
        rank, wanted = self.settings.r, self.settings.init_rows  # type: ignore[attr-defined]
        found = {name: IncrementalPCA(n_components=rank, copy=True) for name in self.layers}
        waiting: dict[str, list[Tensor]] = {name: [] for name in self.layers}

        def see(name: str, _: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            waiting[name].append(inputs[0].detach().flatten(0, -2).to(self.dtype))
            rows = torch.cat(waiting[name])
            if len(rows) >= 2 * rank:  # less than the components cannot be fitted
                found[name].partial_fit(rows)
                waiting[name] = []

        hooks = [
            self.model.get_submodule(name).register_forward_pre_hook(partial(see, name)) for name in self.layers
        ]
        try:
            with torch.no_grad():
                for sample in runs[0].train[:wanted]:
                    tokens = sample.prompt + sample.answer
                    # Logits at every position, so that no layer leaves positions out.
                    model.logits(
                        pack([[Sample(tokens[:1], (*tokens[1:], tokens[-1]))]], device=model.device), None
                    )
        finally:
            for hook in hooks:
                hook.remove()
        with torch.no_grad():
            for name, each in found.items():
                if getattr(each, "components_", None) is None:
                    raise ConfigError(
                        f"EVA of rank {rank} needs more tokens than {wanted} training rows have; set init_rows "
                        "higher or r lower"
                    )
                self.tensors[f"{name}.lora_A.weight"][0].copy_(each.components_)


class KaSA(PEFTAdapter):
    """Penalties on singular values and on factors that are not orthogonal, in training alone."""

    own_settings = ("beta", "gamma")

    def places(self) -> dict[str, Any]:
        s: Any = self.settings
        return {"kasa_config": {"beta": s.beta, "gamma": s.gamma}}

    def penalty(self) -> Tensor | None:
        with self.values_in():
            found: Tensor = self.wrapped.base_model._get_kasa_loss()
        return found[None]


class AdaLoRA(PEFTAdapter):
    """Ranks are given up by importance after each update; factors are kept orthogonal by a penalty.

    The penalty is part of the training loss and never of a validation loss.
    """

    def make_config(self) -> Any:
        s: Any = self.settings
        if not s.target_r < s.init_r:
            raise ConfigError(f"target_r of AdaLoRA is {s.target_r}, which must be less than init_r ({s.init_r})")
        return super().make_config()

    def _prepare(self) -> None:
        for name, each in self.wrapped.named_parameters():
            if "ranknum" in name:  # a constant, which PEFT makes trainable when it casts it
                each.requires_grad_(False)

    def places(self) -> dict[str, Any]:
        s: Any = self.settings
        return {"total_step": s.tinit + s.tfinal + 2}  # until the training says how many there are

    def begin(self, _: LanguageModel, runs: Sequence[TrainingRun]) -> None:
        steps, s = runs[0].steps, self.settings
        if s.tinit + s.tfinal + 1 >= steps:  # type: ignore[attr-defined]
            raise ConfigError(
                f"AdaLoRA gives up ranks between tinit and the last tfinal steps, too few of {steps}; "
                "set them lower or train longer"
            )
        self.config.total_step = steps
        self.allocator = self.wrapped.base_model.rankallocator
        self.allocator.set_total_step(steps)

    def updated(self, steps: Sequence[int]) -> None:
        with torch.no_grad(), self._as_parameters():
            self.wrapped.base_model.update_and_allocate(steps[0])

    @contextmanager
    def _as_parameters(self) -> Iterator[None]:
        """PEFT's own parameters with our values and gradients; what it does to them is taken over."""
        pairs = [(each, self.tensors[name]) for name, each in self.trainable_parameters()]
        before = [each.detach().clone() for each, _ in pairs]
        for each, tensor in pairs:
            each.copy_(tensor[0])
            each.grad = None if tensor.grad is None else tensor.grad[0].to(each.dtype)
        try:
            yield
        finally:
            for (each, tensor), value in zip(pairs, before, strict=True):
                tensor[0].copy_(each)
                each.copy_(value)
                each.grad = None

    def penalty(self) -> Tensor | None:
        found = []
        for name, tensor in self.tensors.items():
            if "lora_A" in name or "lora_B" in name:
                square = tensor @ tensor.mT if "lora_A" in name else tensor.mT @ tensor
                unit = torch.eye(square.shape[-1], dtype=square.dtype, device=square.device)
                found.append(torch.linalg.matrix_norm(square - unit))
        return self.settings.orth_reg_weight * torch.stack(found).mean(0)  # type: ignore[attr-defined, no-any-return]

    def extra_state(self, _: int) -> dict[str, Tensor]:
        found = {}
        for kind in ("exp_avg_ipt", "exp_avg_unc"):
            for name, value in getattr(self.allocator, kind).items():
                found[f"{kind}/{name}"] = value.clone()
        for place, kept in (self.config.rank_pattern or {}).items():
            found[f"rank_pattern/{place}"] = torch.tensor(kept, dtype=torch.float32)
        return found

    def load_extra_state(self, _: int, state: dict[str, Tensor]) -> None:
        pattern: dict[str, list[bool]] = {}
        self.allocator.reset_ipt()
        for path, value in state.items():
            kind, name = path.split("/", 1)
            if kind == "rank_pattern":
                pattern[name] = value.bool().tolist()
            else:
                getattr(self.allocator, kind)[name] = value.clone()
                self.allocator.ipt[name] = torch.zeros_like(value)
        self.config.rank_pattern = pattern or None

    def export(self, run: int) -> AdapterFiles:
        # Ranks that were given up are stored as zeros: PEFT would cut them out and scale the rest otherwise.
        pattern, self.config.rank_pattern = self.config.rank_pattern, None
        try:
            return super().export(run)
        finally:
            self.config.rank_pattern = pattern


class Poly(PEFTAdapter):
    """One task: its number goes to every router."""

    def run(self, name: str, x: Tensor) -> Tensor:
        layer, task = self.layers[name], torch.zeros(1, dtype=torch.long, device=x.device)
        with self.values_in(self.slots[name]), self.drawing(name, x):
            out: Tensor = layer(x, task_ids=task)
            return out
