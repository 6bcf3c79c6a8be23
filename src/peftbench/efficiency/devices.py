"""Devices, and how long work takes on them: a roofline with the cost of launching, as a range.

The table ships with the package, each row with its source; `peftbench calibrate` puts measured rates in place of
those of a data sheet. No torch.
"""

import json
from functools import cache
from pathlib import Path
from typing import Literal

import platformdirs

from peftbench.efficiency.cost import Prediction, Range, Work
from peftbench.errors import DataError, UnknownName
from peftbench.schema import Frozen

_FILE = Path(__file__).parent / "data" / "devices.json"

# What is reached of the rates that a data sheet states. Large matrix products come to nine tenths, those of short
# batches to a third; copies that are long to nine tenths of the bandwidth.
_MATMUL_SHARE = Range(low=0.3, high=0.9)
_BANDWIDTH_SHARE = Range(low=0.5, high=0.95)
_LAUNCH_SECONDS = {"gpu": Range(low=5e-6, high=15e-6), "cpu": Range(low=3e-6, high=12e-6)}
"""What Python and torch take for one operator; on a GPU that is hidden behind work that takes longer."""
_POWER_SHARE = Range(low=0.4, high=1.0)
"""Power drawn while at work, of the largest that the maker states."""
CACHED_BYTES = 4_000_000
"""What an operator may move on a CPU and still find in its cache."""
CONTEXT_BYTES = 1_000_000_000
"""What a GPU needs beside tensors: its context and libraries, and what the allocator holds in odd pieces."""


class Calibration(Frozen):
    """Rates measured on one device, the worst and the best of several sizes."""

    device: str
    """Name in the table."""
    measured_on: str
    """What the device calls itself, and the number of threads of a CPU."""
    measured_at: str
    """UTC, ISO 8601."""
    matmul_flops_per_second: dict[str, Range]
    bandwidth_bytes_per_second: Range
    cached_bandwidth_bytes_per_second: Range | None
    """The same for what a CPU's cache holds; None on a GPU."""
    launch_seconds: Range


class Device(Frozen):
    """One kind of device."""

    name: str
    title: str
    kind: Literal["gpu", "cpu"]
    matches: tuple[str, ...]
    """Parts of the names by which torch calls it."""
    matmul_flops_per_second: dict[str, float | None]
    """Peak rate of dense matrix products by precision; None where it has none worth the name."""
    bandwidth_bytes_per_second: float
    memory_bytes: int | None
    """None where it is what is built in."""
    power_watts: float
    """Largest power of the board, as its maker states it."""
    source: str
    calibration: Calibration | None = None

    def matmul_rate(self, dtype: str) -> Range:
        """FLOPs a second that matrix products of this precision reach."""
        if self.calibration is not None and dtype in self.calibration.matmul_flops_per_second:
            return self.calibration.matmul_flops_per_second[dtype]
        peak = self.matmul_flops_per_second.get(dtype) or self.matmul_flops_per_second["float32"]
        assert peak is not None
        return _MATMUL_SHARE.times(peak)

    def bandwidth(self, moved_bytes: int) -> Range:
        """Bytes a second at which so many are read and written."""
        if self.calibration is None:
            return _BANDWIDTH_SHARE.times(self.bandwidth_bytes_per_second)
        cached = self.calibration.cached_bandwidth_bytes_per_second
        if cached is not None and moved_bytes <= CACHED_BYTES:
            return cached
        return self.calibration.bandwidth_bytes_per_second

    @property
    def launch_seconds(self) -> Range:
        """Time to start one operator."""
        return _LAUNCH_SECONDS[self.kind] if self.calibration is None else self.calibration.launch_seconds


class StepCost(Frozen):
    """Time and energy of what a prediction describes, on one device."""

    device: str
    calibrated: bool
    """Whether rates were measured on the device, or are those of its data sheet."""
    step_seconds: Range | None
    """One training step; None for the base model."""
    step_joules: Range | None
    """Energy of the device alone: its largest power, or a part of it, over that time."""
    first_token_seconds: Range
    """A prompt at batch 1, up to its first answer token."""
    next_token_seconds: Range
    """Each further token at batch 1."""
    answer_prefill_seconds: Range
    """Prompts of a whole evaluation batch."""
    answer_token_seconds: Range
    """One further token of each answer in it."""
    power_watts: Range
    fits: bool | None
    """Whether the peak and what a GPU needs beside it are within its memory; None where either is not known."""

    def toward(self, other: "StepCost", share: float) -> "StepCost":
        """What lies between this cost and another of the same kind, at a share from 0 to 1 of the way."""
        changed = {}
        for name in type(self).model_fields:
            near, far = getattr(self, name), getattr(other, name)
            if isinstance(near, Range) and isinstance(far, Range):
                changed[name] = near.times(1 - share).plus(far.times(share))
        return self.model_copy(update=changed)


class RunCost(Frozen):
    """Time and energy of a whole run."""

    train_seconds: Range
    validation_seconds: Range
    generation_seconds: Range
    seconds: Range
    joules: Range


@cache
def _table() -> dict[str, Device]:
    rows = json.loads(_FILE.read_text(encoding="utf-8"))
    return {row["name"]: Device.model_validate_json(json.dumps(row)) for row in rows}


def device_names() -> list[str]:
    """Names of the devices in the table."""
    return list(_table())


def find_device(name: str, *, calibrated: bool = True) -> Device:
    """The device of that name, with its calibration if there is one; raises `UnknownName` with the nearest."""
    if name.lower() not in _table():
        raise UnknownName("device", name, _table())
    found = _table()[name.lower()]
    return found.model_copy(update={"calibration": load_calibration(found.name)}) if calibrated else found


def device_called(name: str, *, calibrated: bool = True) -> Device | None:
    """The device that torch calls by this name, such as `NVIDIA H200`; None if the table has none like it."""
    for device in _table().values():
        if name == device.kind == "cpu" or any(part.lower() in name.lower() for part in device.matches):
            return find_device(device.name, calibrated=calibrated)
    return None


def calibration_file(device: str) -> Path:
    """Where the calibration of a device is kept, in the user's cache."""
    return platformdirs.user_cache_path("peftbench") / "devices" / f"{device}.json"


def load_calibration(device: str) -> Calibration | None:
    """The calibration of a device on this machine; None without one. Raises `DataError` if it cannot be read."""
    file = calibration_file(device)
    if not file.is_file():
        return None
    try:
        return Calibration.model_validate_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(
            f"the calibration in {file} cannot be read; remove it or run `peftbench calibrate` again"
        ) from error


def roofline(prediction: Prediction, device: Device) -> StepCost:
    """How long the predicted work takes on a device, and the energy that goes into it.

    Every operator takes the time of its arithmetic or of its bytes, whichever is longer. On a GPU the launch of
    an operator runs beside the one before it, on a CPU it comes on top.
    """

    def seconds(work: Work) -> Range:
        return _seconds(work, device)

    step = seconds(prediction.step) if prediction.step else None
    power = _POWER_SHARE.times(device.power_watts)
    peak = prediction.peak_train_memory_bytes
    fits = None if peak is None or device.memory_bytes is None else peak + CONTEXT_BYTES <= device.memory_bytes
    return StepCost(
        device=device.name,
        calibrated=device.calibration is not None,
        step_seconds=step,
        step_joules=_product(step, power) if step else None,
        first_token_seconds=seconds(prediction.prefill),
        next_token_seconds=seconds(prediction.token),
        answer_prefill_seconds=seconds(prediction.answer_prefill),
        answer_token_seconds=seconds(prediction.answer_token),
        power_watts=power,
        fits=fits,
    )


def run_cost(
    cost: StepCost,
    *,
    steps: int,
    validation_steps: float = 0,
    answer_batches: float = 0,
    answer_tokens: int = 0,
) -> RunCost:
    """A run of so many training steps, forward passes over a batch for validation, and batches of answers.

    A forward pass takes a third of a training step: frozen weights have no gradient, but activations do. Answers
    have `answer_tokens` tokens each.
    """
    nothing = Range(low=0, high=0)
    train = cost.step_seconds.times(steps) if cost.step_seconds else nothing
    validation = Range(low=0, high=0)
    if cost.step_seconds:
        validation = Range(low=cost.step_seconds.low / 3, high=cost.step_seconds.high / 2).times(validation_steps)
    generation = cost.answer_prefill_seconds.plus(cost.answer_token_seconds.times(answer_tokens))
    generation = generation.times(answer_batches)
    seconds = train.plus(validation).plus(generation)
    return RunCost(
        train_seconds=train,
        validation_seconds=validation,
        generation_seconds=generation,
        seconds=seconds,
        joules=_product(seconds, cost.power_watts),
    )


def _product(first: Range, second: Range) -> Range:
    return Range(low=first.low * second.low, high=first.high * second.high)


def _seconds(work: Work, device: Device) -> Range:
    launch = device.launch_seconds
    low = high = 0.0
    for each in work.operations:
        rate, bandwidth = device.matmul_rate(each.dtype), device.bandwidth(each.moved_bytes)
        fast = max(each.matmul_flops / rate.high, each.moved_bytes / bandwidth.high)
        slow = max(each.matmul_flops / rate.low, each.moved_bytes / bandwidth.low)
        if device.kind == "gpu":
            low, high = low + each.count * max(fast, launch.low), high + each.count * max(slow, launch.high)
        else:
            low, high = low + each.count * (fast + launch.low), high + each.count * (slow + launch.high)
    return Range(low=low, high=high)
