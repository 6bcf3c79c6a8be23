"""Attention over the packed stream, registered with transformers under the name `ATTENTION`.

Own tokens are gathered to (samples, longest), attend causally to themselves and to everything before them (a
key-value prefix, the shared tokens), and are scattered back: no mask over a whole row is ever built. What a
family does beside plain attention is honoured here (sliding windows, soft-capping) or refused, never ignored.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface

from peftbench.engine import varlen
from peftbench.engine.pack import Stream
from peftbench.errors import ConfigError

ATTENTION = "peftbench_stream"

# Keyword arguments that families pass along and that do not change what attention computes here.
_HARMLESS = frozenset(
    {
        "position_ids", "cache_position", "use_cache", "output_attentions", "output_hidden_states",
        "output_router_logits", "position_embeddings", "layer_idx", "return_dict", "labels", "logits_to_keep",
        "shift_labels", "num_items_in_batch",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Special:
    """What a family adds to plain causal attention."""

    scaling: float | None
    sliding_window: int | None
    softcap: float | None


@dataclass
class Cache:
    """Keys and values of the samples of one row, kept while answers are generated.

    Columns of each sample: everything before its own tokens, its own tokens padded to the longest, then one
    column for each generated token.
    """

    lengths: Tensor
    """(samples,): own tokens of each sample's prompt."""
    before: int = 0
    """Columns before the own tokens: key-value prefix and shared tokens."""
    longest: int = 0
    layers: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Layer number to keys and values, each (samples, heads, columns, width)."""

    def positions(self, columns: int) -> Tensor:
        """(samples, columns): each column's position, or a huge one for padding so that it is never seen."""
        column = torch.arange(columns, device=self.lengths.device)[None, :]
        end = self.before + self.lengths[:, None]
        generated = end + (column - self.before - self.longest)
        prompt = torch.where(column < end, column, torch.iinfo(torch.int64).max // 2)
        return torch.where(column < self.before + self.longest, prompt, generated)

    def keep(self, samples: Tensor) -> None:
        """Drop all samples but those given by index."""
        self.lengths = self.lengths[samples]
        self.layers = {layer: (k[samples], v[samples]) for layer, (k, v) in self.layers.items()}


KeysAndValues = Sequence[tuple[Tensor, Tensor]]
"""Of each layer, each (runs, heads, tokens, width)."""


@dataclass
class Layout:
    """What the attention function has to know of a forward pass; passed through the model as an argument."""

    stream: Stream | None
    """The packed stream; None while one token a sample is generated."""
    prefix: KeysAndValues | None = None
    """What stands before the stream: the adapter's prefix, or all that was kept from an earlier pass."""
    captured: dict[int, tuple[Tensor, Tensor]] | None = None
    """Filled with keys and values of all that stands before the samples: prefix and shared tokens."""
    cache: Cache | None = None
    """Filled by a pass over a stream of one row, read and extended by generation."""
    positions: Tensor | None = None
    """(1, samples): positions of the tokens generated in this pass."""
    masks: dict[tuple[int, int, int | None], Tensor | None] = field(default_factory=dict)
    sequences: varlen.Sequences | None = None
    """The plan of a variable-length kernel, once one is used."""


def stream_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention of one layer; query (R, heads, T, width), key and value (R, key-value heads, T, width).

    Returns (R, T, heads, width). Raises `ConfigError` for a kind of attention that is not known here.
    """
    strange = [name for name, given in others.items() if given is not None and name not in _HARMLESS]
    if sliding_window is None and _is_windowed(module):
        strange.append("a sliding window that it does not pass on")
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if strange or dropout or attention_mask is not None or not causal:
        what = ", ".join(strange) or ("dropout" if dropout else "a mask that is not causal")
        raise ConfigError(
            f"{type(module).__name__} asks for a kind of attention that the packed engine does not know ({what})"
        )
    if layout is None:
        raise ConfigError(f"{type(module).__name__} does not hand on the arguments that packing needs")
    special = Special(scaling, sliding_window, softcap)
    if layout.stream is None:
        return _one_token(module, query, key, value, layout, special), None
    return _stream(module, query, key, value, layout, layout.stream, special), None


def _is_windowed(module: Any) -> bool:
    """Whether the configuration gives this layer a window: where it names one and no kinds of layers, to all."""
    config = getattr(module, "config", None)
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return bool(getattr(config, "sliding_window", None))
    return bool(kinds[module.layer_idx] == "sliding_attention")


def _stream(
    module: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, stream: Stream, special: Special
) -> Tensor:
    runs, heads, total, width = query.shape
    samples, longest, shared = stream.samples, stream.longest, stream.shared

    def own(x: Tensor) -> Tensor:  # (R, heads, T, width) -> (R * S, heads, L, width)
        flat = x.transpose(1, 2).reshape(runs * total, x.shape[1], width)
        gathered = flat.index_select(0, stream.own)
        return gathered.view(runs * samples, longest, x.shape[1], width).transpose(1, 2)

    before_key, before_value = key[:, :, :shared], value[:, :, :shared]
    if layout.prefix is not None:
        prefix_key, prefix_value = layout.prefix[module.layer_idx]
        before_key = torch.cat([prefix_key, before_key], dim=2)
        before_value = torch.cat([prefix_value, before_value], dim=2)
    before = before_key.shape[2]
    if layout.captured is not None:
        layout.captured[module.layer_idx] = (before_key, before_value)

    kernel = varlen.kernel_for(query, key) if layout.cache is None and special.softcap is None else None
    if kernel is not None:
        if layout.sequences is None:
            layout.sequences = varlen.sequences(stream, before)
        window = None if _sees_all(special, before + longest) else special.sliding_window
        result = varlen.attend(
            kernel, query, key, value, (before_key, before_value), layout.sequences,
            scale=special.scaling, window=window,
        )[:, shared:]  # fmt: skip
    elif layout.cache is None and _uneven(stream, query.device):
        result = _one_by_one(query, key, value, before_key, before_value, layout, stream, special)
    else:
        own_key, own_value = own(key), own(value)
        if before:
            own_key = torch.cat([_for_samples(before_key, samples), own_key], dim=2)
            own_value = torch.cat([_for_samples(before_value, samples), own_value], dim=2)
        if layout.cache is not None:
            layout.cache.before, layout.cache.longest = before, longest
            layout.cache.layers[module.layer_idx] = (own_key, own_value)
        out = _attend_after(before, own(query), own_key, own_value, layout, special)
        flat = out.transpose(1, 2).reshape(runs * samples * longest, heads, width)
        result = flat.index_select(0, stream.back).view(runs, total - shared, heads, width)
    if shared:
        mask = _causal_mask(layout, shared, before - shared, special, query)
        head = _attend(query[:, :, :shared], before_key, before_value, mask, special)
        result = torch.cat([head.transpose(1, 2), result], dim=1)
    return result


def _uneven(stream: Stream, device: torch.device) -> bool:
    """Whether long samples of unlike lengths make padding dearer than a call for each: on a CPU alone."""
    lengths = [length for row in stream.own_lengths for length in row]
    padded = stream.runs * stream.samples * stream.longest**2
    return (
        device.type == "cpu" and sum(lengths) >= 64 * len(lengths) and padded > 1.1 * sum(n * n for n in lengths)
    )


def _one_by_one(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    before_key: Tensor,
    before_value: Tensor,
    layout: Layout,
    stream: Stream,
    special: Special,
) -> Tensor:
    """Own tokens of each sample without any padding, (R, T - shared, heads, width)."""
    rows = []
    for k, lengths in enumerate(stream.own_lengths):
        q, keys, values, first_key, first_value = (
            x[k : k + 1] for x in (query, key, value, before_key, before_value)
        )
        parts, start = [], stream.shared
        for length in lengths:
            own = slice(start, start + length)
            sample_key = torch.cat([first_key, keys[:, :, own]], dim=2)
            sample_value = torch.cat([first_value, values[:, :, own]], dim=2)
            before = first_key.shape[2]
            parts.append(_attend_after(before, q[:, :, own], sample_key, sample_value, layout, special))
            start += length
        parts.append(torch.zeros_like(q[:, :, start:]))
        rows.append(torch.cat(parts, dim=2))
    return torch.cat(rows).transpose(1, 2)


def _attend_after(
    before: int, query: Tensor, key: Tensor, value: Tensor, layout: Layout, special: Special
) -> Tensor:
    """Causal attention of own tokens that all see the `before` first keys: (N, heads, own tokens, width)."""
    own = query.shape[2]
    if 0 < before < own and _sees_all(special, before + own):
        # Queries of no consequence before the own ones make this plain causal attention, which skips what nobody
        # sees: less work than a mask over (own, before + own) where the own part is the longer one.
        return _attend(F.pad(query, (0, 0, before, 0)), key, value, None, special)[:, :, before:]
    return _attend(query, key, value, _causal_mask(layout, own, before, special, query), special)


def _one_token(module: Any, query: Tensor, key: Tensor, value: Tensor, layout: Layout, special: Special) -> Tensor:
    """One new token for each sample: (1, heads, samples, width) against the cache."""
    cache, positions = layout.cache, layout.positions
    assert cache is not None
    assert positions is not None
    keys, values = cache.layers[module.layer_idx]
    keys = torch.cat([keys, key.permute(2, 1, 0, 3)], dim=2)
    values = torch.cat([values, value.permute(2, 1, 0, 3)], dim=2)
    cache.layers[module.layer_idx] = (keys, values)

    mask_key = (1, keys.shape[2], special.sliding_window)
    if mask_key not in layout.masks:
        here = positions[0][:, None]
        columns = cache.positions(keys.shape[2])
        seen = columns <= here
        if special.sliding_window is not None:
            seen &= here - columns < special.sliding_window
        layout.masks[mask_key] = seen[:, None, None, :]
    out = _attend(query.permute(2, 1, 0, 3), keys, values, layout.masks[mask_key], special)
    return out.permute(2, 0, 1, 3)  # (samples, heads, 1, width) -> (1, samples, heads, width)


def _for_samples(x: Tensor, samples: int) -> Tensor:
    """(R, heads, tokens, width) repeated for each sample of a row: (R * S, heads, tokens, width)."""
    runs, *rest = x.shape
    return x[:, None].expand(runs, samples, *rest).reshape(runs * samples, *rest)


def _sees_all(special: Special, tokens: int) -> bool:
    return special.sliding_window is None or special.sliding_window >= tokens


def _causal_mask(layout: Layout, queries: int, before: int, special: Special, like: Tensor) -> Tensor | None:
    """(queries, before + queries), true where a query may look; None where plain causal attention says it all."""
    window = None if _sees_all(special, before + queries) else special.sliding_window
    key = (queries, before, window)
    if key not in layout.masks:
        here = torch.arange(before, before + queries, device=like.device)[:, None]
        there = torch.arange(before + queries, device=like.device)[None, :]
        mask = there <= here
        if window is not None:
            mask &= here - there < window
        layout.masks[key] = None if before == 0 and window is None else mask
    return layout.masks[key]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, special: Special) -> Tensor:
    grouped = query.shape[1] != key.shape[1]
    if special.softcap is None:
        return F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            scale=special.scaling,
            enable_gqa=grouped,
        )
    if grouped:
        repeats = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(repeats, dim=1), value.repeat_interleave(repeats, dim=1)
    scale = query.shape[-1] ** -0.5 if special.scaling is None else special.scaling
    scores = special.softcap * torch.tanh(query @ key.transpose(-1, -2) * scale / special.softcap)
    if mask is None:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    wide = torch.promote_types(scores.dtype, torch.float32)
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1, dtype=wide)
    return weights.to(query.dtype) @ value


def _no_mask(*_: Any, **__: Any) -> None:
    """The layout says who sees whom; transformers need not build a mask."""


AttentionInterface.register(ATTENTION, stream_attention)
AttentionMaskInterface.register(ATTENTION, _no_mask)
