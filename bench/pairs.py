"""Paired timing: variants take turns in one process, and only ratios of neighbours count."""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch


@dataclass(frozen=True)
class Ratio:
    """How many times cheaper ours is than the peer, from pairs of neighbours."""

    median: float
    low: float
    high: float
    """Ends of the middle half of the pairs' ratios."""
    pairs: int
    seconds_ours: float
    seconds_theirs: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}] n={self.pairs}"


def interleaved(
    ours: Callable[[], None], theirs: Callable[[], None], *, rounds: int, warmup: int = 2, sync: bool = False
) -> Ratio:
    """Time `theirs` and `ours` in turn, the order changing every round; medians of the pairs' ratios."""
    mine: list[float] = []
    other: list[float] = []
    for number in range(warmup + rounds):
        order = ((ours, mine), (theirs, other)) if number % 2 else ((theirs, other), (ours, mine))
        for call, times in order:
            times.append(timed(call, sync=sync))
    mine, other = mine[warmup:], other[warmup:]
    ratios = sorted(b / a for a, b in zip(mine, other, strict=True))
    quarters = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return Ratio(
        median=statistics.median(ratios),
        low=quarters[0],
        high=quarters[2],
        pairs=rounds,
        seconds_ours=statistics.median(mine),
        seconds_theirs=statistics.median(other),
    )


def timed(call: Callable[[], None], *, sync: bool = False) -> float:
    """Seconds of one call: of the process on a CPU, of the clock where a device has to be waited for."""
    if sync:
        torch.cuda.synchronize()
        begun = time.perf_counter()
        call()
        torch.cuda.synchronize()
        return time.perf_counter() - begun
    begun = time.process_time()
    call()
    return time.process_time() - begun


def matmul_peak(device: str = "cpu", dtype: torch.dtype = torch.float32) -> float:
    """Floating-point operations a second of a large matrix product here, the median of seven."""
    size = 2048 if device == "cpu" else 8192
    a, b = torch.randn(size, size, dtype=dtype, device=device), torch.randn(size, size, dtype=dtype, device=device)
    times = [timed(lambda: torch.mm(a, b), sync=device != "cpu") for _ in range(9)]
    return 2 * size**3 / statistics.median(times[2:])


def machine(device: str = "cpu") -> dict[str, Any]:
    """What a result has to say of where it comes from."""
    return {
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
        "machine": f"CPU, {os.cpu_count()} cores" if device == "cpu" else torch.cuda.get_device_name(device),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft", "peftbench")},
    }
