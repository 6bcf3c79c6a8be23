"""What the command line shows: tables, progress on a terminal, one line for each event elsewhere.

Results go to standard output, everything else to standard error. Text of models and datasets is shown with its
control characters spelled out, so that it cannot steer a terminal.
"""

import sys
import time
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from peftbench.observer import Observer
from peftbench.redaction import redacted

if TYPE_CHECKING:  # a list is shown at once, without what it does not need
    from rich.progress import Progress, TaskID

    from peftbench.efficiency.cost import Range
    from peftbench.records import CurvePoint

EVENT_SECONDS = 10.0
"""Least time between two lines about the progress of one phase, where there is no terminal."""


def shown(text: str) -> str:
    """Text with control and direction characters spelled out, line ends and tabs kept."""
    return "".join(
        character
        if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs")
        else f"\\x{ord(character):02x}"
        for character in text
    )


def flat(value: Any) -> str:
    """A value on one line, without the marks of Python."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {flat(item)}" for key, item in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(flat(item) for item in value) or "none"
    return str(value)


def flops_text(value: int | None) -> str | None:
    """Floating-point operations with their unit."""
    units = ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
    return None if value is None else _scaled(value, "FLOP", units, 3)


def bytes_text(value: int | None) -> str | None:
    """Bytes with their unit; a gigabyte is 1e9."""
    return None if value is None else _scaled(value, "bytes", ((1e9, "GB"), (1e6, "MB")), 2)


def seconds_text(value: "float | Range | None") -> str | None:
    """A time, or the range of one, with its unit."""
    if value is None:
        return None
    if not isinstance(value, float | int):
        return f"{seconds_text(value.low)} to {seconds_text(value.high)}"
    if value < 1:
        return f"{value * 1e3:.3g} ms"
    return (
        f"{value:.3g} s" if value < 120 else f"{value / 60:.3g} min" if value < 7200 else f"{value / 3600:,.4g} h"
    )


def kwh_text(joules: "Range | None") -> str | None:
    """The range of an energy in kilowatt-hours."""
    if joules is None:
        return None
    low, high = (each / 3.6e6 for each in (joules.low, joules.high))
    return f"{low:,.3g} to {high:,.3g} kWh" if high >= 0.1 else f"{low * 1e3:.3g} to {high * 1e3:.3g} Wh"


def _scaled(value: int, unit: str, units: Sequence[tuple[float, str]], digits: int) -> str:
    for size, name in units:
        if value >= size:
            return f"{value / size:,.{digits}f} {name}"
    return f"{value:,} {unit}"


def print_table(
    title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()
) -> None:
    """A table on standard output; columns in `right` are aligned to the right."""
    if title:
        print(shown(title))  # apart from the table, whose width would fold it
    table = Table(header_style="bold", box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(shown("-" if cell is None else str(cell))) for cell in row))
    # A pipe has no width of its own; wide enough that no cell is folded.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


@contextmanager
def observing(stream: TextIO | None = None) -> Iterator[Observer]:
    """Progress bars on a terminal, lines elsewhere; both on standard error."""
    out = stream or sys.stderr
    if not out.isatty():
        yield LineObserver(out)
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=Console(file=out), transient=True) as progress:
        yield BarObserver(progress)


class BarObserver(Observer):
    """A bar for each phase with its rate, the time left and the newest losses."""

    def __init__(self, progress: "Progress") -> None:
        self.progress = progress
        self.task: TaskID | None = None
        self.begun, self.done, self.validation = time.monotonic(), 0, ""
        self.noted: set[str] = set()

    def phase(self, name: str, total: int | None = None) -> None:
        """Begin a new bar; the one before is taken away."""
        if self.task is not None:
            self.progress.remove_task(self.task)
        self.task = self.progress.add_task(name, total=total, rate="", detail="")
        self.begun, self.done, self.validation = time.monotonic(), 0, ""

    def advance(self, count: int) -> None:
        """Move the bar."""
        self.done += count
        self._show("")

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        """Move the bar of training to this step."""
        self.done += 1
        self._show(f"loss {loss:.3f}{self.validation}", completed=step)

    def point(self, run: int, point: "CurvePoint") -> None:
        """Show the newest validation loss from now on."""
        self.validation = f", validation {point.validation_loss:.3f}"

    def note(self, run: int, text: str) -> None:
        """Print a line above the bars."""
        if text not in self.noted:
            self.noted.add(text)
            self.progress.console.print(Text(shown(redacted(text))))

    def _show(self, detail: str, completed: int | None = None) -> None:
        if self.task is not None:
            rate = self.done / max(time.monotonic() - self.begun, 1e-9)
            self.progress.update(
                self.task,
                completed=self.done if completed is None else completed,
                rate=f"{rate:.1f}/s",
                detail=detail,
            )


class LineObserver(Observer):
    """One line for each event; steps and predictions at most every few seconds."""

    def __init__(self, out: TextIO) -> None:
        self.out = out
        self.labels: Sequence[str] = ()
        self.noted: set[str] = set()
        self.done = 0
        self._begin("", None)

    def runs(self, labels: Sequence[str]) -> None:
        """Keep the names of the runs for the lines about them, if there are several."""
        self.labels = labels if len(labels) > 1 else ()

    def phase(self, name: str, total: int | None = None) -> None:
        """Say what begins."""
        self._begin(name, total)
        self._line(f"{name}, {total} steps" if total else name)

    def advance(self, count: int) -> None:
        """Say from time to time how far it is."""
        self.done += count
        self._now_and_then("")

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        """Say from time to time how far training is."""
        if self.done == 0:
            self.resumed_at = step - 1
        self.done = step
        self._now_and_then(f", loss {loss:.4f}")

    def point(self, run: int, point: "CurvePoint") -> None:
        """Say what a validation gave."""
        losses = f"training loss {point.train_loss:.4f}, validation loss {point.validation_loss:.4f}"
        self._line(f"{self._of(run)}step {point.step}: {losses}")

    def note(self, run: int, text: str) -> None:
        """Say what the user should know."""
        if text not in self.noted:
            self.noted.add(text)
            self._line(shown(redacted(text)))

    def _of(self, run: int) -> str:
        return f"{self.labels[run]}, " if self.labels else ""

    def _begin(self, name: str, total: int | None) -> None:
        self.name, self.total, self.done, self.resumed_at = name, total, 0, 0
        self.begun = self.shown_at = time.monotonic()

    def _now_and_then(self, detail: str) -> None:
        now = time.monotonic()
        if now - self.shown_at < EVENT_SECONDS:
            return
        self.shown_at = now
        rate = (self.done - self.resumed_at) / (now - self.begun)
        left = f", {(self.total - self.done) / rate:.0f} s left" if self.total and rate else ""
        self._line(f"{self.name} {self.done}/{self.total or '?'}{detail}, {rate:.1f}/s{left}")

    def _line(self, text: str) -> None:
        print(text, file=self.out, flush=True)
