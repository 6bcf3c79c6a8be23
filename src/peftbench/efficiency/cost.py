"""What is said about the cost of a method before it is run. Plain data, no torch.

One FLOP is one addition or one multiplication: a multiply-add is two. Bytes are 8 bits, a gigabyte is 1e9.
"""

import math
from typing import Literal

from pydantic import Field

from peftbench.schema import Frozen, MethodChoice, Quantization

Engine = Literal["packed", "padded"]
"""Samples in one stream with logits at answer positions, or side by side in the stock model with all logits."""
Kernels = Literal["fused", "unfused", "cpu"]
"""How attention is computed: without keeping scores (flash and its kin), with them, or as torch does on a CPU."""
Kind = Literal["weights", "adapters", "gradients", "optimizer", "activations", "logits"]


ANSWER_TOKENS = 8
"""Tokens of an answer where nothing else is known: a label and its end of turn."""


class Range(Frozen):
    """A value that is known to lie between two bounds only."""

    low: float
    high: float

    @property
    def middle(self) -> float:
        """What is as many times above the low bound as below the high one."""
        return math.sqrt(self.low * self.high)

    def times(self, factor: float) -> "Range":
        """Both bounds times a factor."""
        return Range(low=self.low * factor, high=self.high * factor)

    def plus(self, other: "Range") -> "Range":
        """The sum of two ranges."""
        return Range(low=self.low + other.low, high=self.high + other.high)


class Operation(Frozen):
    """Operators of one size, and how many of them there are."""

    count: int
    matmul_flops: int
    """Of one of them; 0 where it multiplies no matrices."""
    moved_bytes: int
    """What one of them reads and writes at least."""
    dtype: str
    """Precision of its result, which decides the rate of the device."""


class Work(Frozen):
    """All operators of one piece of work, such as a training step."""

    matmul_flops: int
    """Multiply-adds of matrix products and of attention, each counted as two; attention in full, not halved."""
    elementwise_flops: int
    """One for each element that any other arithmetic operator reads or writes: a rough measure."""
    launches: int
    """Operators that compute or move something, each at least one kernel of a device."""
    operations: tuple[Operation, ...] = Field(repr=False)


class MemoryPoint(Frozen):
    """Most live bytes in one stretch of a training step, by kind."""

    operator: int
    """Number of the operator at which it was reached."""
    total_bytes: int
    bytes: dict[Kind, int]


class Prediction(Frozen):
    """What one method on one model will cost, from the model's dimensions alone."""

    model: str
    revision: str | None
    estimated: bool
    """True where the dimensions are those shipped with this package and not read from the model's own files."""
    method: MethodChoice
    batch: int
    tokens: int
    """Prompt and answer of each sample together; virtual tokens come on top."""
    answer_tokens: int
    shared_tokens: int
    dtype: str
    quantization: Quantization | None = None
    engine: Engine
    kernels: Kernels
    gradient_checkpointing: bool

    base_params: int
    base_bytes: int
    """Size of the base as it is kept."""
    trainable_params: int
    """Parameters that training changes; encoders of soft prompts and prefixes are among them."""
    adapter_params: int
    """Parameters in the stored adapter; a role inside a fused projection is stored with the zeros around it."""
    inference_params: int
    """Parameters that the attached adapter adds to a forward pass."""
    merged_inference_params: int | None
    """The same after merging: 0; None where the method cannot be merged."""
    adapter_bytes: int
    """Values of the stored adapter; its file has a header of some kilobytes beside them."""

    input_tokens: int
    """Length of the input that the three counts below are of; batch 1, logits at all positions."""
    base_forward_flops: int
    forward_flops: int
    """With the adapter attached; encoders of soft prompts and prefixes are not run again."""
    merged_forward_flops: int | None
    """With the adapter merged: those of the base model; None where the method cannot be merged."""
    base_forward_elementwise_flops: int
    forward_elementwise_flops: int

    step: Work | None
    """A training step of one run with this engine: forward, backward, optimizer; None for the base model."""
    prefill: Work
    """A forward pass over one prompt, up to the logits of its last position."""
    token: Work
    """One more generated token after a prompt of so many tokens, batch 1, keys and values kept."""
    answer_batch: int
    """Prompts that an evaluation answers at a time."""
    answer_prefill: Work
    """A forward pass over so many prompts, up to the logits of their last positions."""
    answer_token: Work
    """One more token of each of them."""

    peak_train_memory_bytes: int | None
    """Most bytes of live tensors in a training step; allocator's cache, context and libraries not among them."""
    peak_train_memory: dict[Kind, int] | None
    """What those bytes are."""
    memory_timeline: tuple[MemoryPoint, ...] = Field(repr=False)
    """The course of live bytes over a training step."""

    @property
    def extra_forward_flops(self) -> int:
        """FLOPs of a forward pass over those of the base model: the cost that PSCP takes."""
        return self.forward_flops - self.base_forward_flops


class Measured(Frozen):
    """What training steps and answers of one method took on one device. None where it cannot be measured."""

    device: str
    dtype: str
    trainable_params: int = 0
    peak_train_memory_bytes: int | None = None
    """Most bytes of tensors alive in a training step, as the allocator counts them; not resident memory."""
    peak_train_reserved_bytes: int | None = None
    """What the allocator held; CUDA alone."""
    step_seconds: float | None = None
    """Median wall time of a training step."""
    step_seconds_range: Range | None = None
    """Shortest and longest of those steps."""
    train_tokens_per_second: float | None = None
    """Prompt and answer tokens of a batch, by the time of a step."""
    first_token_seconds: float
    """A prompt at batch 1, up to its first answer token, with the adapter attached."""
    next_token_seconds: float
    """Each further token."""
    merged_first_token_seconds: float | None
    """The same without the adapter, which is what a merged one takes; None if it cannot be merged."""
    merged_next_token_seconds: float | None
    adapter_bytes: int | None = None
    """Values of the stored adapter."""
    step_joules: float | None = None
    """Energy of processor, memory and GPUs for one step, by codecarbon; None without it."""
    energy_source: Literal["measured", "estimated"] | None = None
