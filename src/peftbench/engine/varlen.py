"""Own tokens of all samples in one call of a variable-length kernel: no padding, no mask; on a CUDA device alone.

Before a kernel is used it attends a small example there, and whatever it gives otherwise than plain attention,
gradients and windows included, means that it is not used. Everything here but the kernel runs on a CPU as well.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import accumulate, chain
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from peftbench.engine.pack import Sample, Stream, pack

Kernel = Callable[..., Any]
"""`torch.nn.attention.varlen.varlen_attn`: the last query of a sequence stands at its last key."""


@dataclass(frozen=True)
class Sequences:
    """Where the queries and the keys of each sample lie.

    Queries are counted in the flattened stream; keys in those that stand before the samples of each row,
    (runs * before), and behind them in the flattened stream.
    """

    queries: Tensor
    """(own tokens of all samples,)."""
    keys: Tensor
    """(those and `before` keys for each sample,)."""
    query_ends: Tensor
    """(samples + 1,), int32: where each sample's queries end, from 0."""
    key_ends: Tensor
    """The same of its keys."""
    most_queries: int
    most_keys: int


def sequences(stream: Stream, before: int) -> Sequences:
    """The plan of one pass, in which every sample sees `before` keys that stand before it."""
    runs, total = stream.token_ids.shape
    queries: list[range] = []
    keys: list[range] = []
    for k, lengths in enumerate(stream.own_lengths):
        start = k * total + stream.shared
        for length in filter(None, lengths):
            queries.append(range(start, start + length))
            keys += [
                range(k * before, (k + 1) * before),
                range(runs * before + start, runs * before + start + length),
            ]
            start += length
    own = [len(each) for each in queries]

    def ends(lengths: list[int]) -> Tensor:
        return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=stream.own.device)

    def index(ranges: list[range]) -> Tensor:
        return torch.tensor([*chain.from_iterable(ranges)], device=stream.own.device)

    return Sequences(
        index(queries), index(keys), ends(own), ends([before + n for n in own]), max(own), before + max(own)
    )


def attend(
    kernel: Kernel,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    before: tuple[Tensor, Tensor],
    plan: Sequences,
    *,
    scale: float | None,
    window: int | None,
) -> Tensor:
    """Attention of own tokens, (runs, T, heads, width) with zeros elsewhere.

    Query, key and value are (runs, heads, T, width); `before` are keys and values of (runs, heads, before, width).
    """

    def flat(x: Tensor) -> Tensor:  # (runs, heads, tokens, width) -> (runs * tokens, heads, width)
        return x.transpose(1, 2).flatten(0, 1)

    keys, values = (
        torch.cat([flat(first), flat(own)]).index_select(0, plan.keys)
        for first, own in zip(before, (key, value), strict=True)
    )
    queries = flat(query)
    out = kernel(
        queries.index_select(0, plan.queries),
        keys,
        values,
        plan.query_ends,
        plan.key_ends,
        plan.most_queries,
        plan.most_keys,
        scale=scale,
        window_size=(-1 if window is None else window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    whole = torch.zeros_like(queries).index_copy(0, plan.queries, out)
    return whole.view(query.shape[0], query.shape[2], *out.shape[1:])


def kernel_for(query: Tensor, key: Tensor) -> Kernel | None:
    """The kernel for such queries and keys, (runs, heads, T, width); None where there is none that is right."""
    if query.device.type != "cuda" or query.dtype not in (torch.bfloat16, torch.float16):
        return None
    return _kernel(query.device, query.dtype, query.shape[1], key.shape[1], query.shape[3])


@lru_cache(maxsize=16)
def _kernel(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, width: int) -> Kernel | None:
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    return varlen_attn if is_right(varlen_attn, device, dtype, heads, key_heads, width) else None


def is_right(
    kernel: Kernel, device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, width: int
) -> bool:
    """Whether the kernel gives what plain attention gives, gradients too, with a window and without."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            samples = [Sample((1, 1, 1, *range(own)), ()) for own in (5, 2, 9)]
            stream = pack([samples], shared=(1, 1, 1), device=device)
            source = torch.Generator().manual_seed(0)
            *narrow, weights = (
                torch.randn(1, count, stream.row_tokens[0], width, generator=source).to(device, dtype)
                for count in (heads, key_heads, key_heads, heads)
            )
            wide = [each.float() for each in narrow]
            ways: tuple[tuple[Callable[..., Tensor], list[Tensor]], ...] = (
                (partial(_by_kernel, kernel), narrow),
                (_by_mask, wide),
            )
            return all(
                _near(*(_with_gradients(way, given, weights, stream, window) for way, given in ways))
                for window in (None, 4)
            )
    except Exception:  # whatever a kernel raises, it cannot be used
        return False


def _with_gradients(
    way: Callable[..., Tensor], given: list[Tensor], weights: Tensor, stream: Stream, window: int | None
) -> list[Tensor]:
    leaves = [each.detach().requires_grad_() for each in given]
    out = way(*leaves, stream, window)[:, stream.shared :]
    torch.autograd.backward((out * weights.transpose(1, 2)[:, stream.shared :]).float().sum())
    return [out, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


def _by_kernel(
    kernel: Kernel, query: Tensor, key: Tensor, value: Tensor, stream: Stream, window: int | None
) -> Tensor:
    before = key[:, :, : stream.shared], value[:, :, : stream.shared]
    plan = sequences(stream, stream.shared)
    return attend(kernel, query, key, value, before, plan, scale=None, window=window)


def _by_mask(query: Tensor, key: Tensor, value: Tensor, stream: Stream, window: int | None) -> Tensor:
    """The same by one mask over the whole row."""
    place = stream.positions[0]
    owner = torch.zeros_like(place)
    owner[stream.shared :] = 1 + torch.repeat_interleave(torch.tensor(stream.own_lengths[0], device=place.device))
    seen = (place[None, :] <= place[:, None]) & ((owner == owner[:, None]) | (owner == 0))
    if window is not None:
        seen &= place[:, None] - place[None, :] < window
    grouped = query.shape[1] != key.shape[1]
    return F.scaled_dot_product_attention(query, key, value, attn_mask=seen, enable_gqa=grouped).transpose(1, 2)


def _near(found: list[Tensor], expected: list[Tensor]) -> bool:
    return len(found) == len(expected) and all(
        (a.float() - b).abs().max() <= 2e-2 * b.abs().max() for a, b in zip(found, expected, strict=True)
    )
