"""The six methods of the benchmark, written for runs-as-rows: every tensor has a leading run axis.

Shapes below are (runs, tokens, width). Numerics follow Hugging Face PEFT, which is their oracle in the tests;
what differs on purpose: trainable tensors are float32 for every method, LN tuning finds all norms of hidden
width, and targets that match nothing are errors.
"""

import copy
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, ClassVar

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
    find_norms,
    find_targets,
    generator,
    heads_of,
    per_run,
)
from peftbench.methods import peft_format
from peftbench.methods.specs import (
    IA3Settings,
    LoRASettings,
    NoSettings,
    PrefixTuningSettings,
    PromptTuningSettings,
    PTuningSettings,
)


def _by_module(targets: Sequence[Target]) -> list[tuple[nn.Module, list[Target]]]:
    """Targets of one module together: in a fused projection several roles share it."""
    groups: dict[int, tuple[nn.Module, list[Target]]] = {}
    for target in targets:
        groups.setdefault(id(target.module), (target.module, []))[1].append(target)
    return list(groups.values())


def _uniform(*shape: int, bound: float) -> Initial:
    return lambda source: (torch.rand(*shape, generator=source) * 2 - 1) * bound


def _filled(value: float, *shape: int) -> Initial:
    return lambda _: torch.full(shape, value)


def _copied(value: Tensor, _: torch.Generator) -> Tensor:
    return value.detach().clone()


def _linear(adapter: Adapter, name: str, inputs: int, outputs: int) -> None:
    """Weight and bias of a linear layer of an encoder, drawn as torch draws those of `nn.Linear`."""
    bound = 1 / math.sqrt(inputs)
    adapter.add(f"{name}.weight", _uniform(outputs, inputs, bound=bound))
    adapter.add(f"{name}.bias", _uniform(outputs, bound=bound), decay=False)


def _apply_linear(adapter: Adapter, name: str, x: Tensor) -> Tensor:
    return torch.baddbmm(
        per_run(adapter.tensors[f"{name}.bias"]), x, adapter.tensors[f"{name}.weight"].transpose(1, 2)
    )


class LoRA(Adapter):
    """W x + (alpha / rank) B A dropout(x); A uniform as in `nn.Linear`, B zero."""

    def __init__(self, model: PreTrainedModel, settings: LoRASettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.targets = find_targets(model, settings.targets)
        for target in self.targets:
            bound = 1 / math.sqrt(target.in_features)
            self.add(f"{target.key}.A", _uniform(settings.rank, target.in_features, bound=bound))
            self.add(f"{target.key}.B", _filled(0.0, target.out_features, settings.rank))

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for module, targets in _by_module(self.targets):
            yield module, self._forward(module, targets)

    def _forward(self, module: nn.Module, targets: list[Target]) -> Forward:
        base: Forward = type(module).forward
        scale = self.settings.alpha / self.settings.rank

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, x)
            result = out.to(self.dtype)
            x = x.to(self.dtype)
            for target in targets:
                low = self._dropped(x) @ self.tensors[f"{target.key}.A"].transpose(1, 2)
                high = self.tensors[f"{target.key}.B"].transpose(1, 2)
                if target.outputs is None:
                    result = torch.baddbmm(result, low, high, alpha=scale)
                else:
                    index = target.outputs.to(result.device)
                    result = result.index_add(-1, index, low @ high, alpha=scale)
            return result.to(out.dtype)

        return forward

    def _dropped(self, x: Tensor) -> Tensor:
        if self.noise is None or self.settings.dropout == 0:
            return x
        return self.noise.dropout(x, self.settings.dropout)

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
        for target in self.targets:
            self.add(f"{target.key}.scale", _filled(1.0, target.out_features))
        for target in self.feedforward:
            self.add(f"{target.key}.input_scale", _filled(1.0, target.in_features))

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for module, targets in _by_module(self.targets):
            yield module, self._scale_outputs(module, targets)
        for module, targets in _by_module(self.feedforward):
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

    def export(self, run: int) -> AdapterFiles:
        return peft_format.ln_files(self, run)

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        peft_format.load_ln(self, files)


class PromptTuning(Adapter):
    """Embeddings before the text; they start as embeddings of tokens drawn from the whole vocabulary."""

    peft_type: ClassVar[str] = "PROMPT_TUNING"

    def __init__(self, model: PreTrainedModel, settings: PromptTuningSettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings: Any = settings
        self.embedded_tokens = self.virtual_tokens = settings.virtual_tokens
        self.add("embeddings", self._from_vocabulary)

    def _from_vocabulary(self, source: torch.Generator) -> Tensor:
        embedding = self.model.get_input_embeddings()
        ids = torch.randint(embedding.weight.shape[0], (self.virtual_tokens,), generator=source)
        with torch.no_grad():
            return embedding(ids.to(self.device)).clone()  # type: ignore[no-any-return]

    def soft_prompt(self) -> Tensor:
        return self.tensors["embeddings"].to(self.base_dtype)

    def export(self, run: int) -> AdapterFiles:
        return peft_format.prompt_files(self, run)

    def load_files(self, files: AdapterFiles) -> None:
        """Put the values of an exported adapter into run 0."""
        self.load_state(0, {"embeddings": files.tensors["prompt_embeddings"]})


class PromptTuningPublished(PromptTuning):
    """As the reference does it: tokens among the first 5,000, bfloat16 values, reset to them at load."""

    def _from_vocabulary(self, source: torch.Generator) -> Tensor:
        embedding = self.model.get_input_embeddings()
        known = min(5000, embedding.weight.shape[0])
        ids = torch.randperm(known, generator=source)
        ids = ids.repeat(math.ceil(self.virtual_tokens / known))[: self.virtual_tokens]
        with torch.no_grad():
            return embedding(ids.to(self.device)).to(torch.bfloat16)  # type: ignore[no-any-return]

    def deployed(self, run: int) -> Adapter:
        # With equal seeds for training and evaluation the reference's reset gives the initial prompt back.
        reset = self.select([run])
        reset.load_state(0, {"embeddings": self._from_vocabulary(generator(self.seeds[run], "init"))})
        return reset


class PTuning(Adapter):
    """Embeddings before the text, made from trained ones by a bidirectional LSTM and a head, or by an MLP."""

    def __init__(self, model: PreTrainedModel, settings: PTuningSettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.embedded_tokens = self.virtual_tokens = settings.virtual_tokens
        width, hidden = int(model.config.get_text_config().hidden_size), settings.encoder_hidden
        self.add("embedding", lambda source: torch.randn(settings.virtual_tokens, width, generator=source))
        if settings.encoder == "mlp":
            _linear(self, "mlp.0", width, hidden)
            _linear(self, "mlp.1", hidden, hidden)
            _linear(self, "mlp.2", hidden, width)
            return
        bound = 1 / math.sqrt(hidden)
        for name in self._lstm_names():
            shape = self._lstm_shape(name, width)
            self.add(f"lstm.{name}", _uniform(*shape, bound=bound), decay="bias" not in name)
        _linear(self, "head.0", 2 * hidden, 2 * hidden)
        _linear(self, "head.1", 2 * hidden, width)

    def _lstm_names(self) -> list[str]:
        return [
            f"{part}_l{layer}{direction}"
            for layer in range(self.settings.encoder_layers)
            for direction in ("", "_reverse")
            for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]

    def _lstm_shape(self, name: str, width: int) -> tuple[int, ...]:
        gates = 4 * self.settings.encoder_hidden
        if name.startswith("bias"):
            return (gates,)
        if name.startswith("weight_hh"):
            return (gates, self.settings.encoder_hidden)
        return (gates, width if name.split("_l")[1].startswith("0") else 2 * self.settings.encoder_hidden)

    def soft_prompt(self) -> Tensor:
        x = self.tensors["embedding"]
        if self.settings.encoder == "mlp":
            x = F.relu(_apply_linear(self, "mlp.0", x))
            x = F.relu(_apply_linear(self, "mlp.1", x))
            return _apply_linear(self, "mlp.2", x).to(self.base_dtype)
        # The fused kernel has no run axis; runs are few, so a loop over them costs nothing.
        x = torch.cat([self._lstm(run, x[run : run + 1]) for run in range(self.runs)])
        x = F.relu(_apply_linear(self, "head.0", x))
        return _apply_linear(self, "head.1", x).to(self.base_dtype)

    def _lstm(self, run: int, x: Tensor) -> Tensor:
        s = self.settings
        start = x.new_zeros(2 * s.encoder_layers, 1, s.encoder_hidden)
        weights = [self.tensors[f"lstm.{name}"][run] for name in self._lstm_names()]
        dropout = s.encoder_dropout if self.noise is not None else 0.0
        with torch.random.fork_rng(enabled=dropout > 0):
            if self.noise is not None and dropout > 0:  # the kernel draws from the global stream
                source = self.noise.generators[run]
                torch.manual_seed(int(torch.randint(2**62, (1,), generator=source, device=source.device)))
            out, _, _ = torch.lstm(x, (start, start), weights, True, s.encoder_layers, dropout, True, True, True)
        return out

    def constant_over_batch(self) -> bool:
        return self.settings.encoder_dropout == 0

    def deployed(self, run: int) -> Adapter:
        with torch.no_grad():
            embeddings = self.select([run]).soft_prompt()[0]  # type: ignore[index]
        return EncodedPrompt(self.model, self.settings, self.seeds[run], embeddings)

    def export(self, run: int) -> AdapterFiles:
        return self.deployed(run).export(0)

    @classmethod
    def from_files(cls, model: PreTrainedModel, settings: Any, files: AdapterFiles, seed: int) -> Adapter:
        return EncodedPrompt(model, settings, seed, files.tensors["prompt_embeddings"])


class EncodedPrompt(PromptTuning):
    """The soft prompt that P-Tuning's encoder made; from then on it is used as it is."""

    peft_type = "P_TUNING"

    def __init__(self, model: PreTrainedModel, settings: PTuningSettings, seed: int, values: Tensor) -> None:
        Adapter.__init__(self, model, [seed])
        self.settings = settings
        self.embedded_tokens = self.virtual_tokens = len(values)
        self.add("embeddings", lambda _: values)


class PrefixTuning(Adapter):
    """Keys and values before the text in every layer, straight from a table or through an MLP with tanh."""

    def __init__(self, model: PreTrainedModel, settings: PrefixTuningSettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        self.settings = settings
        self.heads = heads_of(model.config)
        self.virtual_tokens = settings.virtual_tokens
        width, table = self.heads.key_value_width, self.heads.layers * 2 * self.heads.key_value_width
        if settings.projection:
            self.add("embedding", lambda source: torch.randn(settings.virtual_tokens, width, generator=source))
            _linear(self, "mlp.0", width, settings.encoder_hidden)
            _linear(self, "mlp.1", settings.encoder_hidden, table)
        else:
            self.add("table", lambda source: torch.randn(settings.virtual_tokens, table, generator=source))

    def table(self) -> Tensor:
        """All keys and values, (runs, virtual tokens, layers x 2 x key-value width), keys before values."""
        if "table" in self.tensors:
            return self.tensors["table"]
        hidden = torch.tanh(_apply_linear(self, "mlp.0", self.tensors["embedding"]))
        return _apply_linear(self, "mlp.1", hidden)

    def prefix(self) -> list[tuple[Tensor, Tensor]]:
        heads = self.heads
        parts = self.table().to(self.base_dtype)
        parts = parts.view(self.runs, self.virtual_tokens, heads.layers, 2, heads.key_value_heads, heads.width)
        keys_and_values = parts.permute(2, 3, 0, 4, 1, 5)  # (layers, 2, runs, heads, virtual tokens, width)
        return [(layer[0], layer[1]) for layer in keys_and_values]

    def deployed(self, run: int) -> Adapter:
        with torch.no_grad():
            table = self.table()[run]
        return EncodedPrefix(self.model, self.settings, self.seeds[run], table)

    def export(self, run: int) -> AdapterFiles:
        return peft_format.prefix_files(self, run)

    @classmethod
    def from_files(cls, model: PreTrainedModel, settings: Any, files: AdapterFiles, seed: int) -> Adapter:
        return EncodedPrefix(model, settings, seed, files.tensors["prompt_embeddings"])


class EncodedPrefix(PrefixTuning):
    """The keys and values that Prefix Tuning's MLP made; from then on they are used as they are."""

    def __init__(self, model: PreTrainedModel, settings: PrefixTuningSettings, seed: int, values: Tensor) -> None:
        Adapter.__init__(self, model, [seed])
        self.settings = settings
        self.heads = heads_of(model.config)
        self.virtual_tokens = len(values)
        self.add("table", lambda _: values)
