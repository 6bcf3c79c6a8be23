"""A frozen causal language model of Hugging Face, unmodified, run on packed streams.

Logits are computed only where something is predicted: the stream's answer rows are picked just before the
output head, and what the family does after it (soft-capping, scaling) stays its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from peftbench.engine.adapter import Adapter
from peftbench.engine.attention import ATTENTION, Cache, KeysAndValues, Layout
from peftbench.engine.pack import Sample, Stream, pack
from peftbench.engine.ranks import Ranks
from peftbench.engine.roles import heads_of
from peftbench.errors import ConfigError


class LanguageModel:
    """A base model with frozen weights, ready for packed streams."""

    packs = True
    because: str | None = None
    """Why it cannot be packed, where it cannot."""
    ranks: Ranks | None = None
    """The processes that hold it together; None where one holds it alone."""

    def __init__(self, module: PreTrainedModel) -> None:
        self.module = module.eval().requires_grad_(False)
        module.set_attn_implementation(ATTENTION)
        self._rows: Tensor | None = None
        self._head().register_forward_pre_hook(self._pick_answer_rows)
        self._trimmed: tuple[Tensor, int] | None = None
        self._full: tuple[Tensor, tuple[int, ...]] | None = None
        self._last = _last_layer(module)
        if self._last is not None:
            self._last.mlp.register_forward_pre_hook(self._trim)
            self._last.mlp.register_forward_hook(self._restore)

    def _head(self) -> nn.Module:
        head: nn.Module | None = self.module.get_output_embeddings()
        if head is None:
            raise ConfigError(
                f"{type(self.module).__name__} has no output head; a causal language model is needed"
            )
        return head

    @property
    def config(self) -> PreTrainedConfig:
        """The configuration of the text model."""
        return self.module.config.get_text_config()

    @property
    def device(self) -> torch.device:
        """Where the weights lie."""
        return torch.device(self.module.device)

    @property
    def device_name(self) -> str:
        """The device in words, for records: the name of a GPU, or `cpu`."""
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else self.device.type

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the frozen weights."""
        dtype: torch.dtype = self.module.dtype
        return dtype

    @property
    def context(self) -> int | None:
        """Most positions the model was made for; None where its configuration does not say."""
        limit = getattr(self.config, "max_position_embeddings", None)
        return int(limit) if limit else None

    def logits(
        self,
        stream: Stream,
        adapter: Adapter | None,
        *,
        kept: KeysAndValues | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        """Logits at the answer positions of each row, (runs, answers, vocabulary).

        The adapter must be attached. With `kept`, from `keep`, the stream begins after the shared tokens. With
        `cache` (one row only) keys and values are kept for `next_logits`.
        """
        layout = Layout(stream, prefix=kept or self._prefix(adapter), cache=cache)
        # Dropout is drawn for whole rows; and when layers are computed again, this is no longer known.
        whole = (adapter is not None and adapter.draws()) or getattr(self._last, "gradient_checkpointing", False)
        self._trimmed = None if whole else (stream.answer_rows, stream.runs)
        try:
            return self._logits(stream, layout, adapter.soft_prompt() if adapter and kept is None else None)
        finally:
            self._trimmed = self._full = None

    def keep(self, shared: Sequence[int], adapter: Adapter | None, runs: int = 1) -> KeysAndValues | None:
        """Keys and values of the soft prompt and the shared tokens, for any number of streams; None without any.

        Not for training: gradients do not pass.
        """
        if not shared and (adapter is None or adapter.virtual_tokens == 0):
            return None
        embedded = adapter.embedded_tokens if adapter else 0
        one_more = [[Sample((*shared, 0), ())]] * runs  # a stream needs a token of its own
        virtual = adapter.virtual_tokens if adapter else 0
        stream = pack(
            one_more,
            shared=shared,
            embedded_tokens=embedded,
            first_position=virtual - embedded,
            device=self.device,
        )
        captured: dict[int, tuple[Tensor, Tensor]] = {}
        layout = Layout(stream, prefix=self._prefix(adapter), captured=captured)
        with torch.no_grad():
            self._logits(stream, layout, adapter.soft_prompt() if adapter else None)
        return [captured[layer] for layer in sorted(captured)]

    @staticmethod
    def _prefix(adapter: Adapter | None) -> KeysAndValues | None:
        return adapter.prefix() if adapter else None

    def _logits(self, stream: Stream, layout: Layout, soft_prompt: Tensor | None) -> Tensor:
        embeddings = self._embed(stream, soft_prompt)
        with self._picking(stream.answer_rows):
            logits = self._forward(embeddings, stream.positions, layout)
        return logits.view(stream.runs, -1, logits.shape[-1])

    def next_logits(self, tokens: Tensor, positions: Tensor, cache: Cache) -> Tensor:
        """Logits after one more token for each sample of the cache: tokens (samples,) -> (samples, vocabulary)."""
        layout = Layout(None, cache=cache, positions=positions[None, :])
        embeddings = self.module.get_input_embeddings()(tokens[None, :])
        logits = self._forward(embeddings, positions[None, :], layout)
        return logits[0]

    def _forward(self, embeddings: Tensor, positions: Tensor, layout: Layout) -> Tensor:
        out = self.module(inputs_embeds=embeddings, position_ids=positions, use_cache=False, layout=layout)
        return out.logits  # type: ignore[no-any-return]

    def _embed(self, stream: Stream, soft_prompt: Tensor | None) -> Tensor:
        ids = stream.token_ids
        embeddings = self.module.get_input_embeddings()(ids.clamp(min=0))
        if soft_prompt is None:
            return embeddings  # type: ignore[no-any-return]
        virtual = soft_prompt.shape[-2]
        if stream.shared >= virtual:  # the soft prompt stands once at the head of each row
            return torch.cat([soft_prompt, embeddings[:, virtual:]], dim=1)
        index = (-1 - ids).clamp(min=0)
        if soft_prompt.dim() == 4:  # each sample has its own; `back` says which stands where
            index = index + virtual * (stream.back // stream.longest % stream.samples).view(ids.shape)
            soft_prompt = soft_prompt.flatten(1, 2)
        index = index[:, :, None].expand(-1, -1, embeddings.shape[-1])
        return torch.where(ids[:, :, None] < 0, soft_prompt.gather(1, index), embeddings)

    @contextmanager
    def _picking(self, rows: Tensor) -> Iterator[None]:
        self._rows = rows
        try:
            yield
        finally:
            self._rows = None

    def _pick_answer_rows(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if self._rows is None:
            return args
        hidden = args[0]  # (runs, tokens, width)
        return (hidden.reshape(-1, hidden.shape[-1]).index_select(0, self._rows)[None], *args[1:])

    def _trim(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """The last layer's MLP need see only tokens after which something is predicted."""
        if self._trimmed is None or len(args) != 1:
            return None
        rows, runs = self._trimmed
        x = args[0]  # (runs, tokens, width)
        self._full = (rows, tuple(x.shape))
        return (x.reshape(-1, x.shape[-1]).index_select(0, rows).view(runs, -1, x.shape[-1]),)

    def _restore(self, _: nn.Module, __: tuple[Tensor, ...], out: Tensor) -> Tensor:
        if self._full is None:
            return out
        (rows, shape), self._full = self._full, None
        return out.new_zeros(shape).view(-1, shape[-1]).index_copy(0, rows, out.flatten(0, 1)).view(shape)


def _last_layer(module: PreTrainedModel) -> Any:
    """The last decoder layer, where it has an MLP by that name; None elsewhere."""
    depth = heads_of(module.config).layers
    stacks = (each for each in module.modules() if isinstance(each, nn.ModuleList) and len(each) == depth)
    return next((stack[-1] for stack in stacks if hasattr(stack[-1], "mlp")), None)
