"""Memory: the peak of an interval, what to do when it runs out, and layers computed twice to need less.

The peak is what torch allocated on a CUDA device, or the resident size of the process: different things,
recorded under different names; elsewhere it is unknown.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import torch
import torch.utils.checkpoint
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from peftbench.errors import ConfigError

Result = TypeVar("Result")
MemoryKind = Literal["cuda allocated", "process resident"]
_RECOMPUTE = partial(torch.utils.checkpoint.checkpoint, use_reentrant=False)
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


def memory_kind(device: torch.device) -> MemoryKind | None:
    """What `peak_bytes` measures on this device."""
    if device.type == "cuda":
        return "cuda allocated"
    return "process resident" if device.type == "cpu" and _CLEAR.exists() else None


def start_interval(device: torch.device) -> None:
    """Forget the peak so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif memory_kind(device):
        with suppress(OSError):
            _CLEAR.write_text("5", encoding="ascii")  # Linux: 5 resets the peak resident size


def peak_bytes(device: torch.device) -> int | None:
    """Largest memory in use since `start_interval`, in bytes; None where it cannot be known."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if memory_kind(device):
        for line in _STATUS.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return None


def reserved_bytes(device: torch.device) -> int | None:
    """Most memory that torch's allocator held since `start_interval`, used or not; None but on CUDA."""
    return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else None


def larger(one: int | None, other: int | None) -> int | None:
    """The larger of two peaks, of which either may be unknown."""
    return max((each for each in (one, other) if each is not None), default=None)


def ran_out(error: RuntimeError) -> bool:
    """Whether an error says that memory ran out, on a GPU or on the CPU."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return any(text in str(error) for text in ("can't allocate memory", "out of memory", "_ALLOC_FAILED"))


def release(device: torch.device) -> None:
    """Give cached blocks back, so that a smaller attempt finds room in one piece."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def halving(
    call: Callable[[int], Result], size: int, device: torch.device, *, again: bool = True
) -> tuple[Result, int]:
    """`call(size)`, with half the size whenever memory runs out; returns the size that fitted, too.

    Without `again` the first failure is the last: for passes that other processes take part in.
    """
    while True:
        try:
            return call(size), size
        except RuntimeError as error:
            if not again or not ran_out(error) or size <= 1:
                raise
        release(device)  # outside of the handler, which would keep the tensors of the failed call alive
        size //= 2


@contextmanager
def recomputing(module: nn.Module, *, on: bool) -> Iterator[None]:
    """Compute the layers' activations again in the backward pass instead of keeping them.

    Only the layers themselves are put into training mode, so that no dropout of the base begins. Raises
    `ConfigError` if the model's class does not know how.
    """
    if not on:
        yield
        return
    layers = [each for each in module.modules() if isinstance(each, GradientCheckpointingLayer)]
    if not layers:
        raise ConfigError(
            f"{type(module).__name__} does not know gradient checkpointing; set "
            "engine.gradient_checkpointing=false"
        )
    # The layers' own switches, not the model's: those would put a new deprecated name beside an old missing one.
    switched = {"gradient_checkpointing": True, "training": True, "_gradient_checkpointing_func": _RECOMPUTE}
    for layer in layers:
        vars(layer).update(switched)
    try:
        yield
    finally:
        for layer in layers:
            for name in ("gradient_checkpointing", "_gradient_checkpointing_func"):
                del vars(layer)[name]
            layer.training = False
