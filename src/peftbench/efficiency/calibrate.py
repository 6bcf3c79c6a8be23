"""Rates of the device at hand, measured in a few seconds, in place of those of a data sheet."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from peftbench.disk import explained
from peftbench.efficiency.cost import Range
from peftbench.efficiency.devices import Calibration, calibration_file, device_called, device_names
from peftbench.errors import ConfigError

# (rows, inner, columns): from a short batch through a narrow layer to a square that fills a device.
_PRODUCTS = ((64, 512, 512), (512, 1024, 1024), (2048, 2048, 2048))
_GPU_PRODUCTS = ((256, 2048, 2048), (1024, 4096, 4096), (8192, 8192, 8192))
_CACHED, _LARGE = 1 << 18, 1 << 26
"""Bytes of a tensor that stays in a CPU's cache, and of one that does not."""
_SECONDS = 0.2
"""Time spent on each rate at least."""


def calibrate(device: str = "auto") -> Calibration:
    """Measure the device and keep what came of it; raises `ConfigError` for one that the table does not have."""
    import torch

    from peftbench.engine.loading import choose_device, name_of_device

    where = torch.device(choose_device(device).device)
    called = name_of_device(str(where))
    known = device_called(called, calibrated=False)
    if known is None:
        raise ConfigError(
            f"device {called!r} is not in the table, which has {', '.join(device_names())}; calibrate one of those"
        )
    products = _PRODUCTS if where.type == "cpu" else _GPU_PRODUCTS
    found = Calibration(
        device=known.name,
        measured_on=f"{called}, {torch.get_num_threads()} threads" if where.type == "cpu" else called,
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
        matmul_flops_per_second={
            name: _range([_matmul(where, getattr(torch, name), *shape) for shape in products])
            for name in ("float32", "bfloat16")
        },
        bandwidth_bytes_per_second=_range([_copy(where, _LARGE), _read(where, _LARGE)]),
        cached_bandwidth_bytes_per_second=(
            _range([_copy(where, _CACHED), _copy(where, 4 * _CACHED)]) if where.type == "cpu" else None
        ),
        launch_seconds=_launch(where),
    )
    file = calibration_file(known.name)
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return found


def _range(values: list[float]) -> Range:
    return Range(low=min(values), high=max(values))


def _matmul(where: Any, dtype: Any, rows: int, inner: int, columns: int) -> float:
    """FLOPs a second of one matrix product."""
    import torch

    first = torch.ones(rows, inner, dtype=dtype, device=where)
    second = torch.ones(inner, columns, dtype=dtype, device=where)
    return 2 * rows * inner * columns / _best(lambda: first @ second, where)[0]


def _copy(where: Any, size: int) -> float:
    """Bytes read and written a second by an element-wise operator, new result and all."""
    import torch

    source = torch.ones(size // 4, device=where)
    return 2 * size / _best(lambda: source * 2, where)[0]


def _read(where: Any, size: int) -> float:
    """Bytes read a second by an operator that writes next to none."""
    import torch

    source = torch.ones(size // 4, device=where)
    return size / _best(source.sum, where)[0]


def _launch(where: Any) -> Range:
    """Time of an operator that has nothing to do: the best, and what the middle of many take with a module."""
    import torch

    nothing = torch.zeros(1, device=where, requires_grad=True)
    best, middle = _best(lambda: nothing + 1, where, together=200)
    return Range(low=best, high=3 * middle)  # three: the Python code of a module around it


def _best(call: Callable[[], object], where: Any, together: int = 1) -> tuple[float, float]:
    """Best and middle time of one call, over as many as fit into the time for it."""
    import torch

    def finish() -> None:
        if where.type == "cuda":
            torch.cuda.synchronize(where)

    # A CPU is shared with others: the process's own time counts, of all its threads, so it runs with one.
    clock = time.perf_counter
    call()
    finish()
    times: list[float] = []
    end = clock() + _SECONDS
    while len(times) < 5 or (clock() < end and len(times) < 1000):
        begun = clock()
        for _ in range(together):
            call()
        finish()
        times.append((clock() - begun) / together)
    times.sort()
    return times[0], times[len(times) // 2]
