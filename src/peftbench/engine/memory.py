"""Peak memory of an interval: what torch allocated on a CUDA device, or the resident size of the process.

The two are different things and are recorded under different names; elsewhere the peak is unknown.
"""

from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch

MemoryKind = Literal["cuda allocated", "process resident"]
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
