"""A method on a tiny model: built, moved off its start, trained on a toy task. What `contract` looks at."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from peftbench.engine.adapter import Adapter
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample, pack
from peftbench.engine.padded import PaddedModel
from peftbench.engine.quantized import quantize
from peftbench.engine.runs import Outcome, TrainingRun
from peftbench.engine.train import train
from peftbench.methods import build_adapter
from peftbench.records import TrainingConfig
from peftbench.schema import Frozen, MethodSpec, Quantization
from peftbench.testing.models import VOCABULARY, tiny_model

TINY_SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
        "prompt_tuning": {"virtual_tokens": 7},
        "prompt_tuning_published": {"virtual_tokens": 7},
        "p_tuning": {"virtual_tokens": 7, "encoder_hidden": 12},
        "p_tuning_mlp": {"virtual_tokens": 7, "encoder_hidden": 12},
        "prefix_tuning": {"virtual_tokens": 7, "encoder_hidden": 12},
        "svft": {"rank": 12},
        "adapter": {"hidden": 6},
        "parallel_adapter": {"hidden": 6},
    }
)
"""Settings for tiny models, where the defaults are too large for them, and without dropout."""


def tiny_settings(spec: MethodSpec) -> Frozen:
    """Settings of a method for tiny models; those of Hugging Face PEFT bring their own."""
    entry = getattr(spec.settings, "entry", None)
    return spec.settings.model_validate_json(
        json.dumps(dict(entry.tiny if entry else TINY_SETTINGS.get(spec.name, {})))
    )


@dataclass(frozen=True)
class Trial:
    """A method on a tiny model of two layers, float32 unless said otherwise."""

    spec: MethodSpec
    settings: Frozen
    quantization: Quantization | None = None
    """How the base's projections are kept."""

    @cached_property
    def model(self) -> LanguageModel:
        """The base, which no check may change."""
        return self.fresh_model()

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """Copies of its weights from before any check."""
        return {name: value.clone() for name, value in self.fresh_model().module.state_dict().items()}

    @cached_property
    def trained(self) -> tuple[Adapter, Outcome]:
        """The method after a short training on a toy task, uninterrupted."""
        adapter = self.build()
        return adapter, train(self.model, adapter, [self.run()])[0]

    def fresh_model(self, dtype: torch.dtype = torch.float32) -> LanguageModel:
        """Another copy of the base."""
        return LanguageModel(self._module(dtype))

    def padded(self) -> PaddedModel:
        """Another copy, which runs as its makers wrote it."""
        return PaddedModel(self._module(), "to be compared")

    def _module(self, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
        module = tiny_model(num_hidden_layers=2, dtype=dtype)
        if self.quantization is not None:
            quantize(module, self.quantization, torch.device("cpu"))
        return module

    def build(self, model: LanguageModel | None = None, seeds: tuple[int, ...] = (1,)) -> Adapter:
        """A new adapter on the base, or on another model."""
        return build_adapter(self.spec, (model or self.model).module, self.settings, seeds)

    def moved(self, model: LanguageModel | None = None, seeds: tuple[int, ...] = (1,)) -> Adapter:
        """A new adapter whose values are all off their start."""
        adapter = self.build(model, seeds)
        source = torch.Generator().manual_seed(5)
        with torch.no_grad():
            for tensor in adapter.tensors.values():
                tensor.add_(0.05 * torch.randn(tensor.shape, generator=source).to(tensor.dtype))
        return adapter

    def run(self, checkpoints: Path | None = None) -> TrainingRun:
        """A toy task: eight samples to know by heart."""
        rate = 2e-2 if self.spec.category != "reference" else 2e-3
        config = TrainingConfig(epochs=8, learning_rate=rate, validations=4)
        samples = tuple(toy_samples(8))
        return TrainingRun(1, samples, samples, config, identity="toy", checkpoints=checkpoints)


def toy_samples(count: int, seed: int = 2) -> list[Sample]:
    """Samples of different lengths that begin with the same tokens; answers repeat a token of the prompt."""
    source = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (1,), generator=source))
        return tuple(torch.randint(5, VOCABULARY, (length,), generator=source).tolist())

    prefix = ids(4, 5)
    prompts = [ids(2, 12) for _ in range(count)]
    return [Sample(prefix + prompt, (prompt[0], prompt[0], 2)) for prompt in prompts]


def logits_of(model: LanguageModel, adapter: Adapter | None, samples: list[Sample]) -> Tensor:
    """Logits at the answer positions of one run, in the order of the samples."""
    stream = pack(
        [samples] * (adapter.runs if adapter else 1),
        share=False,
        embedded_tokens=adapter.embedded_tokens if adapter else 0,
        first_position=adapter.virtual_tokens - adapter.embedded_tokens if adapter else 0,
    )
    with torch.no_grad():
        if adapter is None:
            return model.logits(stream, None)[0]
        with adapter.attached():
            return model.logits(stream, adapter)[0]


def with_weights(model: LanguageModel, values: Mapping[str, Tensor]) -> LanguageModel:
    """A model with some values replaced; a bias that a projection lacks is given to it."""
    known = dict(model.module.named_parameters())
    for name, value in values.items():
        owner, _, key = name.rpartition(".")
        if name in known:
            known[name].data = value.detach().to(known[name].dtype).clone()
        else:
            fresh = torch.nn.Parameter(value.detach().clone(), requires_grad=False)
            model.module.get_submodule(owner).register_parameter(key, fresh)
    return model
