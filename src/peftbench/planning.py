"""What `peftbench plan` says: a grid or one run before it is run, as a table and as data."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from peftbench.config import load_run_config
from peftbench.console import bytes_text, kwh_text, print_table, seconds_text, shown
from peftbench.datasets.catalog import get_dataset
from peftbench.efficiency.cost import Range
from peftbench.efficiency.devices import Device, device_called, find_device
from peftbench.errors import ConfigError
from peftbench.forecast import CellForecast, Forecast, forecast
from peftbench.grid import Cell, is_grid, load_grid, shard
from peftbench.identity import cell_id
from peftbench.methods.plugins import spec_of
from peftbench.records import RunResult
from peftbench.schema import Frozen
from peftbench.store import stored_results

JOULES_PER_KWH = 3.6e6


class Totals(Frozen):
    """What is left to do, over all cells that can be; None where a cost is not known."""

    cells: dict[str, int]
    """Number of cells by status."""
    device_hours: Range | None
    """Hours of one device, one run after the other."""
    kilowatt_hours: Range | None
    """Energy of the device alone."""
    co2_kilograms: Range | None
    """That energy times the given factor; None without one."""
    money: Range | None
    """Hours times the given price; None without one."""


def plan_file(
    file: Path,
    settings: Sequence[str] = (),
    *,
    device: str | None = None,
    data_dir: Path | None = None,
    part: str | None = None,
    online: bool = False,
) -> Forecast:
    """Forecast of the grid or the training configuration in `file`; see `forecast`.

    `device` is a name of the table; without it the device at hand. Raises `ConfigError` or `UnknownName` for what
    cannot be read as either.
    """
    directory = str(data_dir) if data_dir else None
    named = find_device(device) if device is not None else None  # a mistake is told before torch is loaded
    if is_grid(file):
        grid, cells = load_grid(file, settings, run__data__directory=directory)
        name, cells = grid.name, shard(cells, part)
    elif part is not None:
        raise ConfigError(f"--shard {part} was given, but {file.name} describes one run; leave it out")
    else:
        config = load_run_config(file, None, settings, data__directory=directory)
        name, spec = file.name, spec_of(config.method)
        cells = [Cell(cell_id(config, dataset=get_dataset(config.dataset), method=spec), config)]
    unreadable: list[str] = []
    results = [each for folder in _outputs(cells) for each in _stored(folder, unreadable)]
    return forecast(
        name,
        cells,
        named or device_at_hand(cpu=all(cell.config.device == "cpu" for cell in cells)),
        results=results,
        unreadable=unreadable,
        online=online,
    )


def totals(found: Forecast, *, price: float | None = None, carbon: float | None = None) -> Totals:
    """What is left of a forecast, with money at `price` an hour and `carbon` kilograms of CO2 a kWh.

    Raises `ConfigError` for a price or factor below 0.
    """
    for name, value in (("--price", price), ("--carbon", carbon)):
        if value is not None and not 0 <= value < 1e12:
            raise ConfigError(f"{name} is {value}, expected a number of at least 0")
    seconds, joules = found.total("seconds"), found.total("joules")
    hours = None if seconds is None else seconds.times(1 / 3600)
    kwh = None if joules is None else joules.times(1 / JOULES_PER_KWH)
    return Totals(
        cells={status: found.count(status) for status in ("done", "failed", "pending", "impossible")},
        device_hours=hours,
        kilowatt_hours=kwh,
        co2_kilograms=None if kwh is None or carbon is None else kwh.times(carbon),
        money=None if hours is None or price is None else hours.times(price),
    )


def device_at_hand(*, cpu: bool = False) -> Device | None:
    """The device that runs would take here, with `cpu` the CPU; None if the table has none like it."""
    from peftbench.engine.loading import choose_device, name_of_device

    return find_device("cpu") if cpu else device_called(name_of_device(choose_device("auto", "auto").device))


def print_plan(found: Forecast, whole: Totals, *, every_cell: bool = False) -> None:
    """The forecast as tables on standard output: a row for each method, or for each cell."""
    where = "on a device that is not in the table" if found.device is None else f"on {found.device}"
    print(shown(f"{found.name}, {len(found.cells)} {_cells(len(found.cells))} {where}; {found.basis}"))
    heads = ["cells", "done", "trainable", "extra GFLOP", "memory", "fits", "time left", "energy"]
    if every_cell:
        rows = [_row(str(cell.cell), [cell], status=cell.status) for cell in found.cells]
        heads[:2] = ["status", "tokens"]
    else:
        several = len({cell.model for cell in found.cells}) > 1
        groups: dict[str, list[CellForecast]] = {}
        for cell in found.cells:
            groups.setdefault(f"{cell.method} on {cell.model}" if several else cell.method, []).append(cell)
        rows = [_row(name, cells) for name, cells in groups.items()]
    print_table("", ["cell" if every_cell else "method", *heads], rows, right=heads)
    for line in _lines(found, whole):
        print(shown(line))


def _row(name: str, cells: Sequence[CellForecast], status: str | None = None) -> list[str | None]:
    left = [cell for cell in cells if cell.status in ("pending", "failed")]
    peaks = [cell.peak_memory_bytes for cell in cells if cell.peak_memory_bytes is not None]
    fits = {_fits(cell) for cell in cells if cell.fits is not None}
    seconds, joules = Forecast.total_of(left, "seconds"), Forecast.total_of(left, "joules")
    extra = next((cell.extra_forward_flops for cell in cells if cell.extra_forward_flops is not None), None)
    trained = next((cell.trainable_params for cell in cells if cell.trainable_params is not None), None)
    counts: list[str | None] = [str(len(cells)), str(sum(cell.status == "done" for cell in cells))]
    if status is not None:
        tokens = cells[0].sample_tokens
        counts = [status, None if tokens is None else str(tokens)]
    return [
        name,
        *counts,
        None if trained is None else f"{trained:,}",
        None if extra is None else f"{extra / 1e9:,.3f}",
        bytes_text(max(peaks, default=None)),
        None if not fits else fits.pop() if len(fits) == 1 else "some" if "no" in fits else "in several passes",
        seconds_text(seconds) if left else None,
        kwh_text(joules) if left else None,
    ]


def _fits(cell: CellForecast) -> str:
    return "in several passes" if cell.several_passes else "yes" if cell.fits else "no"


def _lines(found: Forecast, whole: Totals) -> Iterable[str]:
    yield "Cells: " + (", ".join(f"{count} {status}" for status, count in whole.cells.items() if count) or "none")
    left = [
        seconds_text(None if whole.device_hours is None else whole.device_hours.times(3600)),
        kwh_text(None if whole.kilowatt_hours is None else whole.kilowatt_hours.times(JOULES_PER_KWH)),
        _range(whole.co2_kilograms, "kg CO2"),
        _range(whole.money, "in money"),
    ]
    if whole.cells["pending"] + whole.cells["failed"]:
        yield f"Left to do: {', '.join(filter(None, left))}; one device, one run after the other"
    for title, texts in (
        ("Impossible", [why for cell in found.cells if cell.status == "impossible" for why in cell.why]),
        ("Failed before", [why for cell in found.cells if cell.status == "failed" for why in cell.why]),
        ("Note", [note for cell in found.cells for note in cell.notes]),
    ):
        for text in dict.fromkeys(texts):
            yield f"{title}, {texts.count(text)} {_cells(texts.count(text))}: {text}"
    for problem in found.unreadable:
        yield f"Not read: {problem}"
    for each in found.downloads:
        size = "" if each.estimated_bytes is None else f", about {each.estimated_bytes / 1e9:.1f} GB"
        commit = each.revision or "a commit that is not pinned"
        what = f" ({len(each.files)} file patterns)" if each.files else ""
        yield f"To download: {each.kind} {each.repository} at {commit}{what}{size}"


def _cells(count: int) -> str:
    return "cell" if count == 1 else "cells"


def _range(value: Range | None, unit: str) -> str | None:
    return None if value is None else f"{value.low:,.3g} to {value.high:,.3g} {unit}"


def _outputs(cells: Iterable[Cell]) -> list[Path]:
    return [Path(output) for output in dict.fromkeys(cell.config.output for cell in cells)]


def _stored(folder: Path, problems: list[str]) -> list[RunResult]:
    return stored_results(folder, problems) if folder.is_dir() else []
