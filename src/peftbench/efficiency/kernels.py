"""Kernels as a device would choose them, for tensors without data, where torch falls back to plain ones.

Shapes, FLOPs and what is kept for the backward pass are those of the kernel that stands for it; no values.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from peftbench.efficiency.cost import Kernels

GRANULE_BYTES = {"fused": 512, "unfused": 512, "cpu": 1}
"""What the allocator rounds each tensor up to: CUDA's to 512 bytes."""


@contextmanager
def weightless_kernels(kernels: Kernels) -> Iterator[None]:
    """Attention and recurrent layers on device meta as `kernels` says; those on other devices stay as they are.

    They are put in place by name: a mode of torch would not be heard where layers are computed again.
    """
    attention, lstm = F.scaled_dot_product_attention, torch.lstm

    def attend(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        fused = query.is_meta and kernels != "unfused"
        return _attention(query, *args, **kwargs) if fused else attention(query, *args, **kwargs)

    def recur(x: Tensor, *args: Any) -> Any:
        return _lstm(kernels == "cpu", x, *args) if x.is_meta else lstm(x, *args)

    F.scaled_dot_product_attention, torch.lstm = attend, recur  # type: ignore[assignment]
    try:
        yield
    finally:
        F.scaled_dot_product_attention, torch.lstm = attention, lstm


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    **_: Any,
) -> Tensor:
    """Attention that keeps its inputs, its output and one float32 for each query and head, but no scores.

    torch turns a mask of true and false into one of numbers first, and keeps that too.
    """
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.where(attn_mask, query.new_zeros(()), query.new_zeros(()))
    out: Tensor = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, dropout_p, is_causal, attn_mask=attn_mask, scale=scale
    )[0]
    return out


class _Reordered(torch.autograd.Function):
    """A weight whose gradient's kernel holds copies of `values` float32 numbers while it runs."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, values: int) -> Tensor:
        ctx.values = values
        return weight.view_as(weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        torch.empty(ctx.values, device=gradients[0].device)
        return gradients[0], None


def _lstm(
    reorders: bool,
    x: Tensor,
    start: tuple[Tensor, Tensor],
    weights: list[Tensor],
    biases: bool,
    layers: int,
    _dropout: float,
    _train: bool,
    bidirectional: bool,
    _batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """An LSTM whose steps are taken at once: the same products and as much to keep, in fewer operators.

    On a CPU (`reorders`) the kernel of the backward pass copies both weights of a layer into two other orders.
    """
    directions, parts = 1 + bidirectional, 4 if biases else 2
    for layer in range(layers):
        outs = []
        for direction in range(directions):
            own = weights[(layer * directions + direction) * parts :][:parts]
            if reorders:
                values = 2 * (own[0].numel() + own[1].numel())
                own = [*(_Reordered.apply(each, values) for each in own[:2]), *own[2:]]  # type: ignore[no-untyped-call]
            before = x.new_zeros(*x.shape[:-1], own[1].shape[-1])  # what the step before would have given
            gates = F.linear(x, own[0], own[2] if biases else None)
            gates = gates + F.linear(before, own[1], own[3] if biases else None)
            take, forget, new, show = gates.chunk(4, -1)
            cell = forget.sigmoid() * before + take.sigmoid() * new.tanh()
            outs.append(show.sigmoid() * cell.tanh())
        x = torch.cat(outs, -1)
    return x, *start
