"""What a method costs on the device at hand, measured: in every run, and by `peftbench profile`.

Nothing here draws a random number or changes a value, so that a run that is measured gives what it gives anyway.
"""

import gc
import os
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import accumulate
from statistics import median
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from peftbench.efficiency.cost import ANSWER_TOKENS, Engine, Measured, Range
from peftbench.efficiency.energy import Energy, metered
from peftbench.efficiency.passes import Answering, Load, Training, check, stock_attention
from peftbench.engine import memory
from peftbench.engine.adapter import Adapter
from peftbench.engine.generate import generate
from peftbench.engine.loading import choose_device, load_model
from peftbench.engine.model import LanguageModel
from peftbench.engine.runs import Outcome
from peftbench.errors import ConfigError
from peftbench.methods import build_adapter
from peftbench.methods.plugins import spec_of
from peftbench.methods.specs import check_base
from peftbench.records import EfficiencyProfile
from peftbench.schema import MethodChoice, Quantization

LATENCY_TOKENS = 4
"""Further tokens whose time is taken."""
LATENCY_ROUNDS = 3
LATENCY_SECONDS = 2.0
"""A latency that takes longer than this in all is not taken again."""
STEPS = 4
"""Training steps that `measure` times, one before them to warm up."""


def training_profile(
    model: LanguageModel,
    outcome: Outcome,
    *,
    tokens: int,
    epochs: int,
    adapter_bytes: int | None,
    energy: Energy,
) -> EfficiencyProfile:
    """Costs of one training as its loop noted them; `tokens` are those of one epoch."""
    alone = outcome.group == 1
    seconds = outcome.seconds - outcome.validation_seconds
    finished = outcome.failure is None and seconds > 0
    return EfficiencyProfile(
        device=model.device_name,
        memory_kind=memory.memory_kind(model.device),
        train_peak_memory_bytes=outcome.training_peak_bytes if alone else None,
        train_peak_reserved_bytes=outcome.training_reserved_bytes if alone else None,
        train_seconds=seconds,
        validation_seconds=outcome.validation_seconds,
        train_tokens_per_second=tokens * epochs / seconds if finished else None,
        adapter_bytes=adapter_bytes,
        energy_joules=energy.joules if alone and not outcome.resumed else None,
        energy_source=energy.source if alone and not outcome.resumed else None,
    )


def evaluation_profile(
    model: LanguageModel,
    adapter: Adapter | None,
    prompts: Sequence[tuple[int, ...]],
    *,
    mergeable: bool,
    seconds: float,
    generated_tokens: int,
    energy: Energy,
) -> EfficiencyProfile:
    """Costs of one evaluation that has just ended, whose peak is still that of the interval, and latencies."""
    peak, reserved = memory.peak_bytes(model.device), memory.reserved_bytes(model.device)
    prompt = sorted(prompts, key=len)[len(prompts) // 2]
    attached = _latency(model, adapter, prompt)
    merged: tuple[float | None, float | None] = (None, None)
    if mergeable:
        merged = _latency(model, None, prompt) if adapter is not None else attached
    return EfficiencyProfile(
        device=model.device_name,
        memory_kind=memory.memory_kind(model.device),
        evaluation_peak_memory_bytes=peak,
        evaluation_peak_reserved_bytes=reserved,
        generation_seconds=seconds,
        generated_tokens_per_second=generated_tokens / seconds if seconds > 0 else None,
        latency_prompt_tokens=len(prompt),
        first_token_seconds=attached[0],
        next_token_seconds=attached[1],
        merged_first_token_seconds=merged[0],
        merged_next_token_seconds=merged[1],
        energy_joules=energy.joules,
        energy_source=energy.source,
    )


def _latency(
    model: LanguageModel, adapter: Adapter | None, prompt: tuple[int, ...]
) -> tuple[float | None, float | None]:
    """Seconds to the first answer token of one prompt, and of each further one; medians of a few rounds."""
    room = LATENCY_TOKENS
    if model.context:
        room = model.context - len(prompt) - (adapter.virtual_tokens if adapter else 0)
    if room < 1:
        return None, None
    further = min(LATENCY_TOKENS, room)

    def seconds(new_tokens: int) -> float:
        def answer() -> None:
            generate(model, adapter, [prompt], max_new_tokens=new_tokens, stop_ids=frozenset(), batch_size=1)

        return _timed(answer, model.device)

    with adapter.attached() if adapter else nullcontext():
        seconds(1)
        firsts: list[float] = []
        all_tokens: list[float] = []
        begun = time.perf_counter()
        while not firsts or (len(firsts) < LATENCY_ROUNDS and time.perf_counter() - begun < LATENCY_SECONDS):
            firsts.append(seconds(1))
            all_tokens.append(seconds(1 + further))
    first = median(firsts)
    return first, max(0.0, median(all_tokens) - first) / further


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Peak:
    """Most bytes of tensors alive at once inside the context beyond those before it, as the allocator counts.

    On a CPU it sees the thread that enters it alone, and is slow. `bytes` is None where it cannot be known.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.bytes: int | None = None
        self.device = torch.device(device)

    def __enter__(self) -> "Peak":
        gc.collect()  # what dies inside of what was made before would be counted against the rest
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
        elif self.device.type == "cpu":
            os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # it speaks of its own start and end otherwise
            self._profile = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
            self._profile.__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        if self.device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self.device) - self._before
        elif self.device.type == "cpu":
            self._profile.__exit__(*error)  # type: ignore[no-untyped-call]
            profiler: Any = self._profile.profiler
            events = profiler.kineto_results.events()
            changes = sorted((event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]")
            self.bytes = max(accumulate((change for _, change in changes), initial=0))


def measure(
    model: str,
    revision: str | None,
    method: MethodChoice,
    *,
    batch: int,
    tokens: int,
    dtype: str = "auto",
    quantization: Quantization | None = None,
    engine: Engine = "packed",
    gradient_checkpointing: bool = False,
    answer_tokens: int = ANSWER_TOKENS,
    shared_tokens: int = 0,
    device: str = "auto",
) -> Measured:
    """A few training steps and answers on the device at hand, as `predict` describes them, and what they took.

    `model` needs its weights: a folder, or a hub id with its commit. Token ids are made up. Raises `ConfigError`
    for a model that cannot run on this engine.
    """
    spec = spec_of(method)
    check_base(spec, quantization)
    where = choose_device(device, dtype, quantization)
    load = Load(batch, tokens, min(answer_tokens, tokens - 1), shared_tokens, gradient_checkpointing)
    check(load, where.dtype)
    loaded = load_model(model, revision, where)
    if engine == "packed" and not loaded.packs:
        raise ConfigError(f"model {model!r} cannot be packed ({loaded.because}); take the padded engine")
    module = loaded.module
    if engine == "padded":
        stock_attention(module)
    found: dict[str, Any] = {}
    deployed = None
    if spec.build is not None:
        adapter = build_adapter(spec, module, method.settings_for(spec), [0])
        found |= _training_costs(loaded, Training(loaded, adapter, load, engine))
        deployed = adapter.deployed(0)
        stored = adapter.export(0).tensors.values()
        found["adapter_bytes"] = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    attached = _token_seconds(Answering(loaded, deployed, tokens, engine))
    merged: tuple[float | None, float | None] = (None, None)
    if spec.merges_into(quantization):
        merged = _token_seconds(Answering(loaded, None, tokens, engine)) if deployed else attached
    return Measured(
        device=loaded.device_name,
        dtype=where.dtype,
        first_token_seconds=attached[0],
        next_token_seconds=attached[1],
        merged_first_token_seconds=merged[0],
        merged_next_token_seconds=merged[1],
        **found,
    )


def _training_costs(model: LanguageModel, training: Training) -> dict[str, Any]:
    device = model.device
    held = (*model.module.parameters(), *model.module.buffers(), *training.held)
    kept = sum({each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in held}.values())
    training.step()
    with Peak(device) as peak:
        training.step()
    seconds = []
    with metered() as energy:
        for _ in range(STEPS):
            seconds.append(_timed(training.step, device))
    load, middle = training.load, median(seconds)
    return {
        "trainable_params": training.adapter.trainable_params,
        "peak_train_memory_bytes": None if peak.bytes is None else kept + peak.bytes,
        "peak_train_reserved_bytes": memory.reserved_bytes(device),
        "step_seconds": middle,
        "step_seconds_range": Range(low=min(seconds), high=max(seconds)),
        "train_tokens_per_second": load.batch * load.tokens / middle,
        "step_joules": None if energy.joules is None else energy.joules / STEPS,
        "energy_source": energy.source,
    }


def _timed(call: Callable[[], object], device: torch.device) -> float:
    """Wall seconds of one call."""
    _finish(device)
    begun = time.perf_counter()
    call()
    _finish(device)
    return time.perf_counter() - begun


def _token_seconds(answering: Answering) -> tuple[float, float]:
    """Seconds of a prompt, and of each token after it: medians, after one round to warm up."""
    device = answering.module.device
    with answering.attached():
        rounds: list[tuple[float, float]] = []
        for _ in range(1 + LATENCY_ROUNDS):
            prompt = _timed(answering.prefill, device)
            rounds.append((prompt, median(_timed(answering.token, device) for _ in range(LATENCY_TOKENS))))
    return median(first for first, _ in rounds[1:]), median(then for _, then in rounds[1:])
