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


class _Recurrent(torch.autograd.Function):
    """One direction of one LSTM layer: its products, what its kernel keeps, and what it needs on the way.

    oneDNN, a CPU's kernel, keeps gates and states padded and copies both weights into two other orders in the
    backward pass; cuDNN keeps gates and states. The steps are taken at once: few operators, the same products.
    """

    @staticmethod
    def forward(ctx: Any, onednn: bool, x: Tensor, *weights: Tensor) -> Tensor:
        steps, hidden = x.shape[:-1].numel(), weights[1].shape[-1]
        out = x.new_empty(*x.shape[:-1], hidden)
        F.linear(x, weights[0])
        F.linear(out, weights[1])
        widest = max(hidden, x.shape[-1])
        kept = (steps + 1) * (6 * widest + 9 * hidden) if onednn else 6 * steps * hidden
        ctx.save_for_backward(x, out, x.new_empty(kept), *weights)
        ctx.onednn = onednn
        return out

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        x, out, _kept, *weights = ctx.saved_tensors
        copies = [torch.empty_like(weight) for weight in weights[:2] for _ in range(2 * ctx.onednn)]
        gates = out.new_empty(out.shape[:-1].numel(), weights[0].shape[0])
        of_x, of_weights = gates @ weights[0], (gates.t() @ x.flatten(0, -2), gates.t() @ out.flatten(0, -2))
        del copies
        return None, of_x.view(x.shape), *of_weights, *(torch.empty_like(bias) for bias in weights[2:])


def _lstm(
    onednn: bool,
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
    """An LSTM of shapes: outputs of the last layer, and the states as they came."""
    directions, parts = 1 + bidirectional, 4 if biases else 2
    for layer in range(layers):
        own = [weights[(layer * directions + direction) * parts :][:parts] for direction in range(directions)]
        outs = [_Recurrent.apply(onednn, x, *each) for each in own]  # type: ignore[no-untyped-call]
        x = torch.cat(outs, -1)
    return x, *start
