"""What is seen of a grid that runs: a live table on a terminal, one JSON line for each event elsewhere."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from peftbench.cellwork import Event
from peftbench.console import bytes_text, print_table, seconds_text, shown
from peftbench.gridrun import Clock, GridStatus, Prepared, Removable
from peftbench.interpreter import PYTHON, module_path
from peftbench.launch import Summary
from peftbench.provenance import utc_now
from peftbench.redaction import redacted

SUMMARY_SECONDS = 30.0
"""Time between two lines about the whole, where there is no terminal."""


class View(Protocol):
    """Hears what workers say."""

    def tell(self, worker: str, event: Event) -> None:
        """One event of a worker."""


@contextmanager
def viewing(prepared: Prepared, planned: "Planned") -> Iterator[View]:
    """A view for standard output as it is."""
    clock = Clock(prepared.pending, planned)
    labels = {cell.id: str(cell) for cell in prepared.cells}
    counts = {"done": len(prepared.done), "failed": len(prepared.failures), "busy": 0}
    if not sys.stdout.isatty():
        yield LineView(clock, labels, counts)
        return
    view = TableView(clock, labels, counts)
    with Live(get_renderable=view.table, refresh_per_second=4, console=Console()):
        yield view


class _Counting:
    """What both views count."""

    def __init__(self, clock: Clock, labels: dict[str, str], counts: dict[str, int]) -> None:
        self.clock, self.labels, self.counts = clock, labels, counts
        self.begun, self.ended = time.monotonic(), 0

    def count(self, worker: str, event: Event) -> None:
        """Count a cell that ended."""
        self.clock.hear(worker, event)
        if event.kind == "ended" and event.cell is not None and event.status is not None:
            self.counts[event.status] += 1
            self.ended += 1

    def whole(self) -> dict[str, Any]:
        """Numbers of the grid."""
        hours = (time.monotonic() - self.begun) / 3600
        return {
            "cells": len(self.labels),
            **self.counts,
            "cells_per_hour": round(self.ended / hours, 1) if self.ended else None,
            "seconds_left": None if (left := self.clock.seconds_left()) is None else round(left),
        }


class LineView(_Counting):
    """One JSON line for each event; of progress only validations, and now and then the whole."""

    def __init__(self, clock: Clock, labels: dict[str, str], counts: dict[str, int]) -> None:
        super().__init__(clock, labels, counts)
        self.told_at = time.monotonic()
        self.line("grid", **self.whole())

    def tell(self, worker: str, event: Event) -> None:
        """Print what is worth a line."""
        self.count(worker, event)
        if event.kind in ("began", "ended", "note") or event.validation_loss is not None:
            told = event.model_dump(mode="json", exclude_none=True)
            kind = "validation" if event.kind == "progress" else told["kind"]
            label = {"label": self.labels.get(event.cell, "")} if event.cell else {}
            self.line(kind, **{key: value for key, value in told.items() if key != "kind"}, **label, worker=worker)
        if time.monotonic() - self.told_at >= SUMMARY_SECONDS:
            self.told_at = time.monotonic()
            self.line("grid", **self.whole())

    def line(self, kind: str, **values: Any) -> None:
        """One line of standard output."""
        print(redacted(json.dumps({"event": kind, "at": utc_now(), **values})), flush=True)


class TableView(_Counting):
    """A line for the whole, one for each worker, the newest notes."""

    def __init__(self, clock: Clock, labels: dict[str, str], counts: dict[str, int]) -> None:
        super().__init__(clock, labels, counts)
        self.at_work: dict[str, dict[str, Event]] = {}
        self.progress: dict[str, Event] = {}
        self.notes: list[str] = []

    def tell(self, worker: str, event: Event) -> None:
        """Keep what is to be shown."""
        self.count(worker, event)
        if event.kind == "began" and event.cell:
            self.at_work.setdefault(worker, {})[event.cell] = event
        elif event.kind == "ended" and event.cell:
            self.at_work.get(worker, {}).pop(event.cell, None)
            if event.status != "done":
                self.notes.append(f"{self.labels.get(event.cell, event.cell)}: {event.message or event.status}")
        elif event.kind == "progress":
            self.progress[worker] = event
        elif event.kind == "idle":
            self.at_work.pop(worker, None)
            self.progress.pop(worker, None)
        elif event.kind == "note" and event.message:
            self.notes.append(event.message)

    def table(self) -> Group:
        """What is on the screen now."""
        whole = self.whole()
        left = seconds_text(whole["seconds_left"]) or "not known yet"
        rate = f", {whole['cells_per_hour']:,.0f} cells an hour" if whole["cells_per_hour"] else ""
        head = f"{whole['done']} of {whole['cells']} cells done, {whole['failed']} failed{rate}, time left {left}"
        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("worker", "cells", "doing", "done", "loss"):
            table.add_column(column, overflow="ellipsis", no_wrap=True)
        for worker, cells in list(self.at_work.items()):
            event = self.progress.get(worker)
            names = [self.labels.get(cell, cell) for cell in list(cells)]
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            done = f"{event.done}/{event.total or '?'}" if event and event.done is not None else ""
            loss = f"{event.loss:.3f}" if event and event.loss is not None else ""
            row = (worker.rsplit("-", 1)[-1], (names or [""])[0] + more, event.phase if event else "", done, loss)
            table.add_row(*(Text(shown(redacted(cell or ""))) for cell in row))
        return Group(Text(head), table, *(Text(shown(redacted(note))) for note in self.notes[-5:]))


class Planned:
    """Seconds that each cell is planned to take, worked out beside by `peftbench plan`; empty until it is done."""

    def __init__(self, arguments: Sequence[str] | None) -> None:
        self.found: dict[str, float] = {}
        self.process: subprocess.Popen[bytes] | None = None
        if arguments is not None:
            command = [*PYTHON, "-m", "peftbench", "plan", *arguments, "--json"]
            self.process = subprocess.Popen(  # noqa: S603
                command,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **module_path()},
                start_new_session=True,  # Ctrl-C is for the grid
            )
            threading.Thread(target=self._read, args=(self.process,), daemon=True).start()

    def __call__(self) -> dict[str, float]:
        """Cell to seconds."""
        return self.found

    def close(self) -> None:
        """End it; what it would have said is not needed any more."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def _read(self, process: "subprocess.Popen[bytes]") -> None:
        assert process.stdout is not None
        with suppress(ValueError, KeyError, TypeError):
            cells = json.loads(process.stdout.read())["cells"]
            self.found = {
                cell["id"]: (cell["seconds"]["low"] * cell["seconds"]["high"]) ** 0.5
                for cell in cells
                if cell["seconds"]
            }


# ------------------------------------------------------------------------------------------------- the others


def print_summary(summary: Summary, prepared: Prepared) -> None:
    """How a run of the grid ended."""
    parts = [f"{summary.done} done", f"{summary.failed} failed"]
    if summary.busy:
        parts.append(f"{summary.busy} in the hands of another process")
    if summary.left:
        parts.append(f"{summary.left} left{' (stopped)' if summary.stopped else ''}; the same command goes on")
    print(f"{', '.join(parts)}; {seconds_text(summary.seconds)}. Records: {prepared.state.output}")


def print_submitted(tasks: Mapping[str, Sequence[str]], prepared: Prepared) -> None:
    """What was put into SLURM's queue, and how to watch it."""
    cells = sum(len(each) for each in tasks.values())
    if rest := len(prepared.pending) - cells:
        print(f"{rest} cells are in the hands of tasks that are in the queue already.")
    if not tasks:
        print(f"Nothing to submit. Records: {prepared.state.output}")
        return
    jobs = ",".join(dict.fromkeys(task.partition("_")[0] for task in tasks))
    print(f"{cells} cells in {len(tasks)} tasks are in the queue, job {jobs}. Watch them with")
    print(f"  squeue --jobs={jobs}")
    print("  peftbench grid status <the same grid and settings>")
    print(f"Logs: {prepared.state.folder / 'slurm'}")


def print_status(status: GridStatus) -> None:
    """How far a grid is."""
    stopping = "; asked to stop" if status.stop_asked else ""
    print(shown(f"{status.name} in {status.output}: {status.done} of {status.cells} cells done{stopping}"))
    rows = [[method, *counts.values()] for method, counts in status.by_method.items()]
    print_table("", ["method", "done", "failed", "pending"], rows, right=["done", "failed", "pending"])
    for worker in status.workers:
        doing = f"{worker.phase or ''} {worker.done or 0}/{worker.total or '?'}"
        loss = "" if worker.loss is None else f", loss {worker.loss:.3f}"
        cells = ", ".join(worker.cells[:2]) + (
            f" and {len(worker.cells) - 2} more" if len(worker.cells) > 2 else ""
        )
        ago = time.time() - worker.at
        print(shown(f"Worker {worker.worker}, {worker.state}, {ago:.0f} s ago: {cells}; {doing}{loss}"))
    by_reason: dict[str, list[str]] = {}
    for failure in status.failures:
        by_reason.setdefault(failure.reason, []).append(f"{failure.label}: {failure.message}")
    for reason, texts in by_reason.items():
        print(shown(f"Failed, {reason}, {len(texts)}:"))
        for text in texts[:10]:
            print(shown(f"  {text}"))
        if len(texts) > 10:
            print(f"  and {len(texts) - 10} more")
    for problem in status.unreadable:
        print(shown(f"Not read: {problem}"))


def print_removable(things: Iterable[Removable], *, removed: bool) -> None:
    """What `gc` found, or took away."""
    found = list(things)
    for each in found:
        print(shown(f"{each.path}  {bytes_text(each.size_bytes)}, {each.why}"))
    size = bytes_text(sum(each.size_bytes for each in found))
    if not found:
        print("Nothing to remove.")
    elif removed:
        print(f"Removed: {len(found)}, {size}.")
    else:
        print(f"{len(found)}, {size}; nothing was removed yet, --yes removes them.")


def plan_arguments(
    file: Path, settings: Sequence[str], data_dir: Path | None, device: str | None, part: str | None
) -> list[str]:
    """Arguments of `peftbench plan` for the same grid on the device at hand."""
    found = [str(file)]
    if device is not None:
        found += ["--set", f"run.device={device}"]
    for setting in settings:
        found += ["--set", setting]
    if data_dir is not None:
        found += ["--data-dir", str(data_dir)]
    return found if part is None else [*found, "--shard", part]
