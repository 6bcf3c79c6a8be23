"""A frozen base whose projections are kept in 4 or 8 bits by bitsandbytes, and computed in the base's precision.

A projection is unpacked for each pass, forwards and backwards, and nothing else about the model changes: a token's
output does not depend on what else is in the pass, which the 8-bit product of bitsandbytes does not promise.
Embeddings, norms, biases and the output head stay as they are.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.errors import ConfigError, first_line
from peftbench.outside import nothing_fetched
from peftbench.schema import Quantization

BLOCK = 64
"""Weights of nf4 that have one scale; 256 scales have one of their own (QLoRA, arXiv 2305.14314, section 3)."""
_SCALES = 256


class QuantizedLinear(nn.Linear):
    """A linear projection of which `weight`, (outputs, inputs), is unpacked whenever it is asked for."""

    codes: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear, kind: Quantization, device: torch.device) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.kind, self.dtype = kind, linear.weight.dtype
        self.bias = (
            linear.bias if linear.bias is None else nn.Parameter(linear.bias.to(device), requires_grad=False)
        )
        weight = linear.weight.detach().to(device)
        parts, self._state = (_empty if device.type == "meta" else _packed)(weight, kind)
        for name, part in parts.items():
            self.register_buffer(name, part, persistent=False)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]
        """The weight in the precision that the base computes in."""
        if self.codes.device.type == "meta":
            return torch.empty(self.out_features, self.in_features, dtype=self.dtype, device="meta")
        if self.kind == "int8":
            return (self.codes.float() * (self.scales / 127)[:, None]).to(self.dtype)
        from bitsandbytes.functional import dequantize_4bit

        unpacked: Tensor = dequantize_4bit(self.codes, self._state).to(self.dtype)
        return unpacked.view(self.out_features, self.in_features)

    def forward(self, input: Tensor) -> Tensor:
        """`input` (..., inputs) -> (..., outputs)."""
        out: Tensor = _Unpacking.apply(input, self)  # type: ignore[no-untyped-call]
        return out if self.bias is None else out + self.bias


class _Unpacking(torch.autograd.Function):
    """x W^T, keeping neither x nor the unpacked W for the way back: W is frozen, and can be unpacked again."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: QuantizedLinear) -> Tensor:
        ctx.linear = linear
        return F.linear(x, linear.weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0] @ ctx.linear.weight, None


def check_quantization(kind: Quantization | None, device: str, processes: int = 1) -> None:
    """Raise `ConfigError` if a base cannot be quantized here."""
    if kind is None:
        return
    if processes > 1:
        raise ConfigError("a quantized base is held by one process; leave out quantization, or engine.processes")
    if device == "mps":
        raise ConfigError(f"quantization: {kind} was asked for on mps, where it is not computed; use cuda or cpu")
    try:
        with nothing_fetched():
            import bitsandbytes  # noqa: F401
    except Exception as error:  # without its library for this machine, it raises anything
        raise ConfigError(
            f"quantization: {kind} needs bitsandbytes, which cannot be used here ({first_line(error)}); "
            "pip install 'peftbench[quantized]', or leave quantization out"
        ) from error


def quantize(module: PreTrainedModel, kind: Quantization, device: torch.device) -> None:
    """Put quantized projections, on `device`, in the place of all linear ones but the output head.

    Raises `ConfigError` where the model has none.
    """
    head = module.get_output_embeddings()
    found = [
        (parent, key, each)
        for parent in module.modules()
        for key, each in parent.named_children()
        if type(each) is nn.Linear and each is not head
    ]
    if not found:
        raise ConfigError(
            f"{type(module).__name__} has no linear projections that could be quantized; leave quantization out"
        )
    for parent, key, each in found:
        setattr(parent, key, QuantizedLinear(each, kind, device))


def is_quantized(module: nn.Module) -> bool:
    """Whether some of the weights are kept in 4 or 8 bits."""
    return any(isinstance(each, QuantizedLinear) for each in module.modules())


def parameter_count(module: nn.Module) -> int:
    """Weights of a model, however they are kept."""
    packed = sum(
        each.in_features * each.out_features for each in module.modules() if isinstance(each, QuantizedLinear)
    )
    return packed + sum(parameter.numel() for parameter in module.parameters())


def _packed(weight: Tensor, kind: Quantization) -> tuple[dict[str, Tensor], Any]:
    with nothing_fetched():
        from bitsandbytes import functional

    if kind == "int8":
        # bitsandbytes scales rows from half precision on every device.
        codes, scales, _ = functional.int8_vectorwise_quant(weight.to(torch.float16))
        return {"codes": codes, "scales": scales}, None
    # Its 4-bit kernels know no double precision.
    given = weight.float() if weight.dtype == torch.float64 else weight
    # One row: on a CPU, rows that do not end with a block are unpacked wrongly (seen with 0.50.2, rows of 96).
    codes, state = functional.quantize_4bit(
        given.flatten(), blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
    )
    return {"codes": codes, "scales": state.absmax, "scale_scales": state.state2.absmax}, state


def _empty(weight: Tensor, kind: Quantization) -> tuple[dict[str, Tensor], Any]:
    """What `_packed` gives, in shapes alone."""

    def empty(dtype: torch.dtype, *shape: int) -> Tensor:
        return torch.empty(*shape, dtype=dtype, device="meta")

    if kind == "int8":
        return {"codes": empty(torch.int8, *weight.shape), "scales": empty(torch.float32, weight.shape[0])}, None
    blocks = math.ceil(weight.numel() / BLOCK)
    return {
        "codes": empty(torch.uint8, math.ceil(weight.numel() / 2), 1),
        "scales": empty(torch.uint8, blocks),
        "scale_scales": empty(torch.float32, math.ceil(blocks / _SCALES)),
    }, None
