"""The passes whose cost is predicted without data and measured with it: training step, prompt, next token.

Packed passes are the engine's own. Padded ones are the stock model's forward as Trainer would call it: samples
side by side with a mask, logits and loss at every position.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from peftbench.efficiency.cost import Engine
from peftbench.engine import memory
from peftbench.engine.adapter import Adapter, RunNoise
from peftbench.engine.attention import Cache
from peftbench.engine.loading import DTYPES
from peftbench.engine.model import LanguageModel
from peftbench.engine.optimizer import AdamW
from peftbench.engine.pack import NOTHING, Sample, pack
from peftbench.engine.step import Batches, gradients, may_share
from peftbench.errors import ConfigError
from peftbench.records import EngineConfig


@dataclass(frozen=True)
class Load:
    """What passes through the model."""

    batch: int
    tokens: int
    """Prompt and answer of each sample; virtual tokens come on top."""
    answer_tokens: int
    shared_tokens: int = 0
    """Tokens that all prompts begin with."""
    gradient_checkpointing: bool = False

    def samples(self, vocabulary: int) -> list[Sample]:
        """Samples of these lengths; ids differ from the first token after the shared ones."""
        shared, prompt = tuple(range(self.shared_tokens)), self.tokens - self.answer_tokens
        whole = [
            (*shared, *((i + 7 * row + 1) for i in range(self.shared_tokens, self.tokens)))
            for row in range(self.batch)
        ]
        ids = [tuple(token % vocabulary for token in each) for each in whole]
        return [Sample(each[:prompt], each[prompt:]) for each in ids]


Runnable: TypeAlias = PreTrainedModel | LanguageModel


def _for_engine(model: Runnable, engine: Engine) -> tuple[PreTrainedModel, LanguageModel | None]:
    """The model itself, and for the packed engine the engine around it."""
    if engine == "padded":
        return (model.module if isinstance(model, LanguageModel) else model), None
    packed = model if isinstance(model, LanguageModel) else LanguageModel(model)
    return packed.module, packed


def stock_attention(module: PreTrainedModel) -> None:
    """Give the model the faster of its own attentions that it knows."""
    with suppress(ValueError, ImportError):
        module.set_attn_implementation("eager")
        module.set_attn_implementation("sdpa")


def check(load: "Load", dtype: str) -> None:
    """Raise `ConfigError` for sizes and precisions that cannot be."""
    numbers = {"batch": load.batch, "tokens": load.tokens - 1, "answer_tokens": load.answer_tokens}
    for name, value in numbers.items():
        if value < 1:
            raise ConfigError(f"{name} is too small; give at least {2 if name == 'tokens' else 1}")
    if not 0 <= load.shared_tokens < load.tokens - load.answer_tokens:
        raise ConfigError(
            f"shared_tokens is {load.shared_tokens}, expected fewer than the {load.tokens - load.answer_tokens} "
            "tokens of a prompt"
        )
    if dtype not in DTYPES:
        raise ConfigError(f"dtype is {dtype!r}, expected one of {', '.join(DTYPES)}")


class Training:
    """An adapter with its optimizer, and one training step of it after another.

    `between` is called after the backward pass, before the optimizer.
    """

    def __init__(self, model: Runnable, adapter: Adapter, load: Load, engine: Engine) -> None:
        self.module, self.packed = _for_engine(model, engine)
        self.adapter, self.load = adapter, load
        self.optimizer = AdamW(adapter, weight_decay=[1e-5], max_grad_norm=[1.0])
        self.best = self.optimizer.values(0)
        """Training keeps the best weights so far beside the newest."""
        self.number = 0

    @property
    def held(self) -> list[Tensor]:
        """Tensors that live from step to step, the model's own left out."""
        optimizer = self.optimizer
        return [optimizer.flat, optimizer.first, optimizer.second, self.best]

    def step(self, between: Callable[[], None] = lambda: None) -> None:
        """One update."""
        on = self.load.gradient_checkpointing
        with memory.recomputing(self.module, on=on), self.adapter.attached():
            if self.packed is not None:
                samples = self.load.samples(int(self.packed.config.vocab_size))
                share = may_share(self.packed, self.adapter, EngineConfig())
                shared = samples[0].prompt[: self.load.shared_tokens]
                gradients(self.packed, self.adapter, Batches([samples], [(0, self.number)], shared, share))
            else:
                self._padded_gradients()
            between()
            self.optimizer.step([1e-5])
        self.number += 1

    def _padded_gradients(self) -> None:
        load, adapter = self.load, self.adapter
        if load.gradient_checkpointing and adapter.prefix() is not None:
            raise ConfigError(
                "the stock model drops a prefix of keys and values when layers are computed again; leave out "
                "gradient checkpointing or take the packed engine"
            )
        device, tokens = adapter.device, load.tokens + adapter.embedded_tokens
        spans = ((0, load.batch * tokens),)
        adapter.hear([RunNoise(seed=0, step=self.number, tokens=load.batch * tokens, spans=spans)])
        try:
            ids = torch.tensor(_ids(load, self.module), device=device)
            labels = torch.full((load.batch, tokens), NOTHING, device=device)
            labels[:, tokens - load.answer_tokens :] = ids[:, load.tokens - load.answer_tokens :]
            stock_forward(self.module, ids, adapter, labels=labels).loss.backward()
        finally:
            adapter.hear(None)


def _ids(load: Load, module: PreTrainedModel) -> list[list[int]]:
    vocabulary = int(module.config.get_text_config().vocab_size)
    return [[*sample.prompt, *sample.answer] for sample in load.samples(vocabulary)]


def stock_forward(
    module: PreTrainedModel,
    ids: Tensor,
    adapter: Adapter | None,
    *,
    labels: Tensor | None = None,
    keep: bool = False,
) -> Any:
    """The stock model's forward over ids (samples, tokens), with logits at all positions.

    The adapter must be attached. Several samples get the mask that samples of unlike lengths need. With `keep`
    keys and values are kept and logits made at the last position alone, as `generate` does.
    """
    embeddings = module.get_input_embeddings()(ids)
    prompt = adapter.soft_prompt() if adapter else None
    if prompt is not None:
        embeddings = torch.cat([prompt.expand(len(ids), -1, -1), embeddings], dim=1)
    prefix = adapter.prefix() if adapter else None
    past: Any = DynamicCache() if keep or prefix is not None else None
    for layer, (key, value) in enumerate(prefix or ()):
        past.update(key.expand(len(ids), -1, -1, -1), value.expand(len(ids), -1, -1, -1), layer)
    before = prefix[0][0].shape[2] if prefix else 0
    own = embeddings.shape[1]
    return module(
        inputs_embeds=embeddings,
        attention_mask=_mask(len(ids), own, before, ids.device) if len(ids) > 1 else None,
        position_ids=torch.arange(before, before + own, device=ids.device)[None].expand(len(ids), -1),
        past_key_values=past,
        use_cache=past is not None,
        **({} if labels is None else {"labels": labels}),
        **({"logits_to_keep": 1} if keep else {}),
    )


def _mask(samples: int, own: int, before: int, device: torch.device) -> Tensor:
    """(samples, 1, own, before + own), true where a query may look."""
    causal = torch.ones(own, before + own, dtype=torch.bool, device=device).tril(before)
    return causal[None, None].repeat(samples, 1, 1, 1)


class Answering:
    """Prompts of one length through the model, then one token after another, keys and values kept."""

    def __init__(
        self, model: Runnable, adapter: Adapter | None, tokens: int, engine: Engine, prompts: int = 1
    ) -> None:
        self.module, self.packed = _for_engine(model, engine)
        self.adapter, self.tokens, self.prompts = adapter, tokens, prompts
        self.virtual = adapter.virtual_tokens if adapter else 0

    @contextmanager
    def attached(self) -> Iterator[None]:
        """The model with the adapter, without gradients."""
        with torch.no_grad(), self.adapter.attached() if self.adapter else nullcontext():
            yield

    def prefill(self) -> None:
        """The prompts, up to the logits of their last positions."""
        vocabulary = int(self.module.config.get_text_config().vocab_size)
        prompt = tuple(token % vocabulary for token in range(1, self.tokens + 1))
        device = self.module.device
        self.position = self.virtual + self.tokens
        if self.packed is None:
            ids = torch.tensor([prompt] * self.prompts, device=device)
            self.past = stock_forward(self.module, ids, self.adapter, keep=True).past_key_values
            return
        embedded = self.adapter.embedded_tokens if self.adapter else 0
        rows, before = [[Sample(prompt, ())] * self.prompts], self.virtual - embedded
        stream = pack(rows, embedded_tokens=embedded, first_position=before, device=device)
        self.cache = Cache(torch.tensor(stream.own_lengths[0], device=device))
        self.packed.logits(stream, self.adapter, cache=self.cache)

    def token(self) -> None:
        """One more token of each."""
        device = self.module.device
        token = torch.ones(self.prompts, dtype=torch.long, device=device)
        position = torch.full_like(token, self.position)
        if self.packed is None:
            ids, positions = token[:, None], position[:, None]
            self.module(input_ids=ids, position_ids=positions, past_key_values=self.past, use_cache=True)
        else:
            self.packed.next_logits(token, position, self.cache)
        self.position += 1
