"""Energy of the machine while something runs, through codecarbon where it is installed (extra `energy`).

Offline: nothing is looked up, written or sent. Without codecarbon there is no figure.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

JOULES_PER_KILOWATT_HOUR = 3.6e6
_COUNTERS = ("intel_rapl", "intel_power_gadget", "windows_emi")
"""Ways of codecarbon to read a CPU's own counters; the others are reckoned from its type."""


@dataclass
class Energy:
    """Energy of processor, memory and GPUs of the machine over an interval; filled at its end."""

    joules: float | None = None
    source: Literal["measured", "estimated"] | None = None
    """`measured` if the processor's counters were read, and those of the GPUs where it has any."""


@contextmanager
def metered() -> Iterator[Energy]:
    """Measure the energy of what runs inside, if codecarbon is there; what runs is not touched."""
    energy = Energy()
    if find_spec("codecarbon") is None:
        yield energy
        return
    from codecarbon import OfflineEmissionsTracker

    logging.getLogger("codecarbon").setLevel(logging.CRITICAL)
    tracker = OfflineEmissionsTracker(
        country_iso_code="USA",  # decides the CO2 alone, which is not used
        save_to_file=False,
        save_to_logger=False,
        log_level="critical",
        allow_multiple_runs=True,
        measure_power_secs=5,
        tracking_mode="machine",
    )
    tracker.start()
    try:
        yield energy
    finally:
        tracker.stop()
        data = getattr(tracker, "final_emissions_data", None)
        if data is not None and data.energy_consumed:
            energy.joules = data.energy_consumed * JOULES_PER_KILOWATT_HOUR
            energy.source = "measured" if _counted(tracker) else "estimated"


def _counted(tracker: Any) -> bool:
    """Whether counters were read. What is installed may be any version, so absence means no."""
    hardware = getattr(tracker, "_hardware", [])
    modes = [getattr(each, "_mode", None) for each in hardware if type(each).__name__ == "CPU"]
    return bool(modes) and all(mode in _COUNTERS for mode in modes)
