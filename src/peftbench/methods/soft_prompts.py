"""Prompt Tuning, P-Tuning and Prefix Tuning, written for runs-as-rows: every tensor has a leading run axis.

Numerics follow Hugging Face PEFT, which is their oracle in the tests. An encoder is part of what is trained and
checkpointed; what it makes is all that is exported and used for prediction.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import PreTrainedModel

from peftbench.engine.adapter import Adapter, AdapterFiles, generator, heads_of, per_run, uniform
from peftbench.methods import peft_format
from peftbench.methods.specs import PrefixTuningSettings, PromptTuningSettings, PTuningSettings


def _linear(adapter: Adapter, name: str, inputs: int, outputs: int) -> None:
    """Weight and bias of a linear layer of an encoder, drawn as torch draws those of `nn.Linear`."""
    bound = 1 / math.sqrt(inputs)
    adapter.add(f"{name}.weight", uniform(outputs, inputs, bound=bound))
    adapter.add(f"{name}.bias", uniform(outputs, bound=bound), decay=False)


def _apply_linear(adapter: Adapter, name: str, x: Tensor) -> Tensor:
    return torch.baddbmm(
        per_run(adapter.tensors[f"{name}.bias"]), x, adapter.tensors[f"{name}.weight"].transpose(1, 2)
    )


def _as_loaded(trained: Adapter, deployed: Adapter, values: Tensor) -> Adapter:
    """What an encoder made, to be made elsewhere as if it had been stored."""
    files = AdapterFiles({}, {"prompt_embeddings": values})
    deployed.recipe = trained.recipe and replace(trained.recipe, files=files)
    return deployed


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
            self.add(f"lstm.{name}", uniform(*shape, bound=bound), decay="bias" not in name)
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
        samples = [each.samples for each in self.noise] if self.noise is not None and self.draws() else []
        most = max(map(len, samples), default=0)
        if most == 0:
            x = torch.cat([self._lstm(run, x[run : run + 1], "encoder") for run in range(self.runs)])
        else:  # one after another, (runs, samples * virtual tokens, width)
            x = torch.stack([self._of_samples(run, numbers, most) for run, numbers in enumerate(samples)])
        x = F.relu(_apply_linear(self, "head.0", x))
        x = _apply_linear(self, "head.1", x).to(self.base_dtype)
        return x if most == 0 else x.unflatten(1, (most, -1))  # type: ignore[no-untyped-call]

    def _of_samples(self, run: int, numbers: Sequence[int], most: int) -> Tensor:
        """What the LSTM makes for each of some samples of a step, with zeros up to `most` of them."""
        x = self.tensors["embedding"][run : run + 1]
        made = [self._lstm(run, x, f"encoder/{number}")[0] for number in numbers]
        empty = x.new_zeros((most - len(made)) * x.shape[1], 2 * self.settings.encoder_hidden)
        return torch.cat([*made, empty])

    def _lstm(self, run: int, x: Tensor, place: str) -> Tensor:
        s = self.settings
        start = x.new_zeros(2 * s.encoder_layers, 1, s.encoder_hidden)
        weights = [self.tensors[f"lstm.{name}"][run] for name in self._lstm_names()]
        dropout = s.encoder_dropout if self.noise is not None else 0.0
        with torch.random.fork_rng(enabled=dropout > 0):
            if self.noise is not None and dropout > 0:  # the kernel draws from the global stream
                source = self.noise[run].generator(place, x.device)
                torch.manual_seed(int(torch.randint(2**62, (1,), generator=source, device=source.device)))
            out, _, _ = torch.lstm(x, (start, start), weights, True, s.encoder_layers, dropout, True, True, True)
        return out

    def constant_over_batch(self) -> bool:
        return self.settings.encoder == "mlp" or self.settings.encoder_dropout == 0

    def deployed(self, run: int) -> Adapter:
        with torch.no_grad():
            embeddings = self.select([run]).soft_prompt()[0]  # type: ignore[index]
        return _as_loaded(self, EncodedPrompt(self.model, self.settings, self.seeds[run], embeddings), embeddings)

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
        return _as_loaded(self, EncodedPrefix(self.model, self.settings, self.seeds[run], table), table)

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
