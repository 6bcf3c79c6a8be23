"""The oracle of the engine and the methods: stock Hugging Face models, one unpadded sample at a time, float64."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import peft
import torch
import torch.nn.functional as F
from torch import Tensor

from peftbench.engine.adapter import Adapter
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.schema import Frozen, MethodChoice
from peftbench.testing import tiny_model

SMALL: dict[str, dict[str, Any]] = {
    "lora": {"rank": 4, "alpha": 8, "dropout": 0.0},
    "ia3": {},
    "ia3_published": {},
    "ln_tuning": {},
    "prompt_tuning": {"virtual_tokens": 7},
    "p_tuning": {"virtual_tokens": 7, "encoder_hidden": 12},
    "p_tuning_mlp": {"virtual_tokens": 7, "encoder_hidden": 12},
    "prefix_tuning": {"virtual_tokens": 7, "encoder_hidden": 12},
}
"""Every method with settings for tiny models and without dropout."""

SIX = ("ia3", "prompt_tuning", "p_tuning", "prefix_tuning", "lora", "ln_tuning")


@contextmanager
def float64_throughout() -> Iterator[None]:
    """Models compute norms and softmax in float32 even on float64 weights; inside, they stay in float64."""
    real_float, real_to, real_softmax = Tensor.float, Tensor.to, F.softmax

    def stay(self: Tensor) -> Tensor:
        return self if self.dtype == torch.float64 else real_float(self)

    def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.dtype == torch.float64:
            args = tuple(arg for arg in args if arg is not torch.float32)
            if kwargs.get("dtype") is torch.float32:
                del kwargs["dtype"]
            if not args and not kwargs:
                return self
        return real_to(self, *args, **kwargs)

    def softmax(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if x.dtype == torch.float64:
            kwargs.pop("dtype", None)
        return real_softmax(x, *args, **kwargs)

    Tensor.float, Tensor.to, F.softmax = stay, to, softmax  # type: ignore[method-assign, assignment]
    torch.nn.functional.softmax = softmax
    try:
        yield
    finally:
        Tensor.float, Tensor.to, F.softmax = real_float, real_to, real_softmax  # type: ignore[method-assign]


def settings_of(name: str, **changes: Any) -> Frozen:
    """Settings of a method for tiny models."""
    return MethodChoice(name=name, settings={**SMALL.get(name, {}), **changes}).settings_for(methods.get(name))


def build(name: str, module: Any, seeds: Sequence[int] = (1,), **changes: Any) -> Adapter:
    """The adapter of a method on a model, with settings for tiny models."""
    return build_adapter(methods.get(name), module, settings_of(name, **changes), seeds)


def disturb(adapter: Adapter, seed: int = 5, size: float = 0.1) -> None:
    """Move every value off its start, so that an adapter that does nothing cannot pass."""
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in adapter.tensors.values():
            tensor.add_(size * torch.randn(tensor.shape, generator=source, dtype=tensor.dtype))


def some_samples(count: int = 4, seed: int = 0, shared: int = 5) -> list[Sample]:
    """Samples of different lengths that begin with the same tokens."""
    source = torch.Generator().manual_seed(seed)

    def ids(low: int, high: int) -> tuple[int, ...]:
        length = int(torch.randint(low, high, (1,), generator=source))
        return tuple(torch.randint(5, 261, (length,), generator=source).tolist())

    prefix = tuple(torch.randint(5, 261, (shared,), generator=source).tolist())
    return [Sample(prefix + ids(1, 18), ids(1, 6)) for _ in range(count)]


def stock_model(family: str, **changes: Any) -> Any:
    """The same tiny model as the engine's, untouched by it: sdpa, or eager where a family refuses it."""
    module = tiny_model(family, dtype=torch.float64, **changes)
    module.set_attn_implementation("eager" if family == "gemma2" else "sdpa")
    return module


def engine_model(family: str, dtype: torch.dtype = torch.float64, **changes: Any) -> LanguageModel:
    """A tiny model in the engine."""
    return LanguageModel(tiny_model(family, dtype=dtype, **changes))


def answer_logits(module: Any, samples: Sequence[Sample]) -> list[Tensor]:
    """Logits at the answer positions of each sample, run alone: each (answer tokens, vocabulary)."""
    out = []
    for sample in samples:
        ids = torch.tensor([[*sample.prompt, *sample.answer[:-1]]])
        logits = module(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0]
        out.append(logits[-len(sample.answer) :])
    return out


def batch_loss(logits: Sequence[Tensor], samples: Sequence[Sample]) -> Tensor:
    """Mean negative log-likelihood over all answer tokens of the batch."""
    targets = torch.tensor([token for sample in samples for token in sample.answer])
    return F.cross_entropy(torch.cat(list(logits)), targets)


def peft_model(name: str, module: Any, adapter: Adapter) -> tuple[Any, dict[str, torch.nn.Parameter]]:
    """The method of Hugging Face PEFT with the values of `adapter`'s run 0, and its parameters by our names."""
    s: Any = getattr(adapter, "settings", None)
    common = {"task_type": "CAUSAL_LM"}
    if name == "lora":
        config: Any = peft.LoraConfig(
            r=s.rank, lora_alpha=s.alpha, lora_dropout=s.dropout,
            target_modules=["k_proj", "v_proj", "down_proj"], **common,
        )  # fmt: skip
    elif name in ("ia3", "ia3_published"):
        feedforward = ["down_proj"] if name == "ia3" else []
        config = peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=feedforward, **common
        )
    elif name == "ln_tuning":
        config = peft.LNTuningConfig(target_modules=[norm for norm, _ in adapter.norms], **common)  # type: ignore[attr-defined]
    elif name == "prompt_tuning":
        config = peft.PromptTuningConfig(num_virtual_tokens=s.virtual_tokens, **common)
    elif name in ("p_tuning", "p_tuning_mlp"):
        config = peft.PromptEncoderConfig(
            num_virtual_tokens=s.virtual_tokens, encoder_reparameterization_type=s.encoder.upper(),
            encoder_hidden_size=s.encoder_hidden, encoder_num_layers=s.encoder_layers, encoder_dropout=0.0, **common,
        )  # fmt: skip
    else:
        config = peft.PrefixTuningConfig(
            num_virtual_tokens=s.virtual_tokens,
            prefix_projection=True,
            encoder_hidden_size=s.encoder_hidden,
            **common,
        )
    wrapped = peft.get_peft_model(module, config, autocast_adapter_dtype=False).double().eval()
    theirs = dict(wrapped.named_parameters())
    pairs = {ours: theirs[_their_name(name, ours)] for ours in adapter.tensors}
    with torch.no_grad():
        for ours, parameter in pairs.items():
            parameter.copy_(adapter.tensors[ours][0].view(parameter.shape))
    trainable = {id(parameter) for parameter in theirs.values() if parameter.requires_grad}
    assert trainable == {id(parameter) for parameter in pairs.values()}, "PEFT trains something else"
    return wrapped, pairs


def _their_name(method: str, ours: str) -> str:
    root, encoder = "base_model.model.", "prompt_encoder.default."
    module, _, part = ours.rpartition(".")
    if method == "lora":
        return f"{root}{module}.lora_{part}.default.weight"
    if method in ("ia3", "ia3_published"):
        return f"{root}{module}.ia3_l.default"
    if method == "ln_tuning":
        return f"{root}{module}.ln_tuning_layers.default.{part}"
    if ours in ("embedding", "embeddings"):
        return f"{encoder}embedding.weight"
    if ours.startswith("lstm."):
        return f"{encoder}lstm_head.{part}"
    layers = {"head.0": "mlp_head.0", "head.1": "mlp_head.2"}
    if method == "prefix_tuning":
        layers = {"mlp.0": "transform.0", "mlp.1": "transform.2"}
    if method == "p_tuning_mlp":
        layers = {"mlp.0": "mlp_head.0", "mlp.1": "mlp_head.2", "mlp.2": "mlp_head.4"}
    return f"{encoder}{layers[module]}.{part}"
