"""LoRA, IA3 and LN tuning, written for runs-as-rows: every tensor has a leading run axis.

Shapes below are (runs, tokens, width). Numerics follow Hugging Face PEFT, which is their oracle in the tests;
what differs on purpose: trainable tensors are float32 for every method, LN tuning finds all norms of hidden
width, and targets that match nothing are errors.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.adapter import (
    Adapter,
    AdapterFiles,
    Forward,
    Initial,
    Target,
    by_module,
    dropped,
    find_norms,
    find_targets,
    per_run,
    uniform,
)
from peftbench.errors import ConfigError
from peftbench.methods import peft_format
from peftbench.methods.specs import (
    IA3Settings,
    LoRASettings,
    NoSettings,
)


def _filled(value: float, *shape: int) -> Initial:
    return lambda _: torch.full(shape, value)


def _copied(value: Tensor, _: torch.Generator) -> Tensor:
    return value.detach().clone()


class LoRA(Adapter):
    """W x + (alpha / rank) B A dropout(x); A uniform as in `nn.Linear`, B zero."""

    def __init__(self, model: PreTrainedModel, settings: LoRASettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.targets = find_targets(model, settings.targets)
        for target in self.targets:
            bound = 1 / math.sqrt(target.in_features)
            self.add(f"{target.key}.A", uniform(settings.rank, target.in_features, bound=bound))
            self.add(f"{target.key}.B", _filled(0.0, target.out_features, settings.rank))

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for module, targets in by_module(self.targets):
            yield module, self._forward(module, targets)

    def _forward(self, module: nn.Module, targets: list[Target]) -> Forward:
        base: Forward = type(module).forward
        scale = self.settings.alpha / self.settings.rank

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, x)
            result = out.to(self.dtype)
            x = x.to(self.dtype)
            for target in targets:
                low = self._dropped(x, target.key) @ self.tensors[f"{target.key}.A"].transpose(1, 2)
                high = self.tensors[f"{target.key}.B"].transpose(1, 2)
                if target.outputs is None:
                    result = torch.baddbmm(result, low, high, alpha=scale)
                else:
                    index = target.outputs.to(result.device)
                    result = result.index_add(-1, index, low @ high, alpha=scale)
            return result.to(out.dtype)

        return forward

    def _dropped(self, x: Tensor, place: str) -> Tensor:
        if self.noise is None or self.settings.dropout == 0:
            return x
        return dropped(x, self.settings.dropout, self.noise, place)

    def constant_over_batch(self) -> bool:
        return self.settings.dropout == 0

    def export(self, run: int) -> AdapterFiles:
        return peft_format.lora_files(self, run)

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        peft_format.load_lora(self, files)


class IA3(Adapter):
    """Outputs of `targets` and inputs of `feedforward_targets` times trained vectors that start at one."""

    def __init__(self, model: PreTrainedModel, settings: IA3Settings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.targets = find_targets(model, settings.targets) if settings.targets else []
        self.feedforward = (
            find_targets(model, settings.feedforward_targets) if settings.feedforward_targets else []
        )
        for target in self.feedforward:
            if target.outputs is not None:
                raise ConfigError(
                    f"IA3 cannot scale the input of a part of the fused projection {target.name}; name the "
                    "projection itself in feedforward_targets"
                )
            if any(each.module is target.module for each in self.targets):
                raise ConfigError(
                    f"{target.name} is in targets and in feedforward_targets of IA3; keep one of them"
                )
        if not self.targets and not self.feedforward:
            raise ConfigError("IA3 has neither targets nor feedforward_targets; name at least one projection")
        for target in self.targets:
            self.add(f"{target.key}.scale", _filled(1.0, target.out_features))
        for target in self.feedforward:
            self.add(f"{target.key}.input_scale", _filled(1.0, target.in_features))

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for module, targets in by_module(self.targets):
            yield module, self._scale_outputs(module, targets)
        for module, targets in by_module(self.feedforward):
            yield module, self._scale_inputs(module, targets[0])

    def output_scale(self, targets: list[Target], outputs: int) -> Tensor:
        """Factors of all outputs of one module, (runs, outputs): one where no role is scaled."""
        if targets[0].outputs is None:
            return self.tensors[f"{targets[0].key}.scale"]
        scale = torch.ones(self.runs, outputs, dtype=self.dtype, device=self.device)
        for target in targets:
            assert target.outputs is not None
            scale = scale.index_copy(1, target.outputs.to(self.device), self.tensors[f"{target.key}.scale"])
        return scale

    def _scale_outputs(self, module: nn.Module, targets: list[Target]) -> Forward:
        base: Forward = type(module).forward

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, x)
            return (out * per_run(self.output_scale(targets, out.shape[-1]))).to(out.dtype)

        return forward

    def _scale_inputs(self, module: nn.Module, target: Target) -> Forward:
        base: Forward = type(module).forward

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, (x * per_run(self.tensors[f"{target.key}.input_scale"])).to(x.dtype))
            return out

        return forward

    def export(self, run: int) -> AdapterFiles:
        return peft_format.ia3_files(self, run)

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        peft_format.load_ia3(self, files)


class LNTuning(Adapter):
    """Weights and biases of all norms of hidden width, trained from their values in the base model."""

    def __init__(self, model: PreTrainedModel, settings: NoSettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.norms = find_norms(model)
        for name, norm in self.norms:
            for part, value in norm.named_parameters(recurse=False):
                # Norm weights and biases are not decayed: the groups of Hugging Face Trainer.
                self.add(f"{name}.{part}", partial(_copied, value), decay=False)

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for name, norm in self.norms:
            yield (
                norm,
                self._layer_norm(name, norm) if isinstance(norm, nn.LayerNorm) else self._rms(name, norm),
            )

    def _layer_norm(self, name: str, norm: nn.LayerNorm) -> Forward:
        def forward(x: Tensor) -> Tensor:
            normed = F.layer_norm(x.to(self.dtype), norm.normalized_shape, eps=norm.eps)
            out = normed * per_run(self.tensors[f"{name}.weight"])
            if norm.bias is not None:
                out = out + per_run(self.tensors[f"{name}.bias"])
            return out.to(x.dtype)

        return forward

    def _rms(self, name: str, norm: nn.Module) -> Forward:
        # The family's own code runs on a shallow copy whose weight is ours and has a run axis, so that what a
        # family does with the weight (Gemma adds one to it) stays its own.
        twin = copy.copy(norm)
        twin._parameters = {}

        def forward(x: Tensor) -> Tensor:
            twin.weight = per_run(self.tensors[f"{name}.weight"])
            return twin(x).to(x.dtype)  # type: ignore[no-any-return]

        return forward

    def merged(self, run: int) -> dict[str, Tensor]:
        return {name: tensor[run].detach() for name, tensor in self.tensors.items()}

    def export(self, run: int) -> AdapterFiles:
        return peft_format.ln_files(self, run)

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        peft_format.load_ln(self, files)
