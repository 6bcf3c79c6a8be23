"""What is kept of a grid beside its records: its name, failures, and what workers are doing now.

    <output>/.grid/grid.json  failures/<cell>-<attempt>.json  workers/<name>.json  stop  logs/

Records are the truth; everything here can be lost without losing a result. Files are written whole and belong to
one writer each, so that a network file system needs no lock.
"""

import os
import socket
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field

from peftbench.cellwork import Reason
from peftbench.disk import entries, explained, write_text
from peftbench.errors import DataError
from peftbench.provenance import utc_now
from peftbench.schema import Frozen

M = TypeVar("M", bound=Frozen)

STATE_VERSION = 1
"""Raised when a file here changes its meaning."""
SILENT_SECONDS = 60.0
"""A worker that has not written for so long is called silent."""


class GridNote(Frozen):
    """Which grid a folder holds."""

    version: int = STATE_VERSION
    name: str


class CellFailure(Frozen):
    """Why a cell has no result; kept until it is tried again."""

    cell: str
    label: str
    reason: Reason
    message: str
    attempts: int
    """How often it was tried in a row."""
    worker: str
    at: str = Field(default_factory=utc_now)
    """UTC, ISO 8601."""


class WorkerNote(Frozen):
    """What one worker is doing."""

    worker: str
    host: str
    pid: int
    grid: str
    cells: tuple[str, ...]
    """Labels of the cells at hand."""
    phase: str | None = None
    done: int | None = None
    total: int | None = None
    loss: float | None = None
    at: float
    """Wall time of the note, seconds since 1970."""

    @property
    def state(self) -> Literal["at work", "silent", "gone"]:
        """Whether it is at work, as far as can be seen from here."""
        if self.host == socket.gethostname() and not _alive(self.pid):
            return "gone"
        return "silent" if abs(time.time() - self.at) > SILENT_SECONDS else "at work"


class GridState:
    """The folder `.grid` below a folder of runs."""

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = output / ".grid"

    def check(self, name: str) -> bool:
        """Whether the folder is there, and raise `DataError` if it is another grid's or of a newer version."""
        known = _read(GridNote, self.folder / "grid.json")
        if known is not None and known.version > STATE_VERSION:
            raise DataError(
                f"folder {self.output} was used by a newer version of peftbench (state {known.version}, here "
                f"{STATE_VERSION}); install that version, or choose another output by --set run.output=<folder>"
            )
        if known is not None and known.name != name:
            raise DataError(
                f"folder {self.output} holds the grid {known.name!r}, not {name!r}; choose another output by "
                "--set run.output=<folder>, or give the grids one name if they are one"
            )
        return known is not None

    def open(self, name: str) -> None:
        """Make the folder, or check that it is this grid's; raises `DataError` if it is not, or cannot be made."""
        known = self.check(name)
        with explained(self.folder):
            for each in ("failures", "workers", "logs"):
                (self.folder / each).mkdir(parents=True, exist_ok=True)
            if not known:
                write_text(self.folder / "grid.json", GridNote(name=name).model_dump_json() + "\n")

    # ---------------------------------------------------------------------------------------------- failures

    def fail(self, failure: CellFailure) -> None:
        """Keep why a cell has no result."""
        file = self.folder / "failures" / f"{failure.cell}-{uuid.uuid4().hex[:8]}.json"
        with explained(file):
            write_text(file, failure.model_dump_json(indent=1) + "\n")

    def failures(self) -> dict[str, CellFailure]:
        """Cell to its newest failure; files that cannot be read are passed over."""
        found: dict[str, CellFailure] = {}
        for file in sorted(_notes(self.folder / "failures"), key=_changed):
            try:
                failure = _read(CellFailure, file)
            except DataError:
                continue
            if failure is not None:
                found[failure.cell] = failure
        return found

    def forgive(self, cell: str) -> None:
        """Forget the failures of a cell, so that it is tried again."""
        for file in _notes(self.folder / "failures"):
            if not file.name.startswith(f"{cell}-"):
                continue
            with explained(file):
                file.unlink(missing_ok=True)

    # ----------------------------------------------------------------------------------------------- workers

    def note(self, note: WorkerNote) -> None:
        """Say what a worker is doing; what cannot be written is not worth stopping for."""
        try:
            write_text(self.folder / "workers" / f"{note.worker}.json", note.model_dump_json() + "\n")
        except OSError:
            return

    def leave(self, worker: str) -> None:
        """A worker has ended; a note of it that cannot be deleted is not worth stopping for."""
        with suppress(OSError):
            (self.folder / "workers" / f"{worker}.json").unlink(missing_ok=True)

    def workers(self) -> list[WorkerNote]:
        """What all workers were doing last."""
        found = []
        for file in _notes(self.folder / "workers"):
            try:
                note = _read(WorkerNote, file)
            except DataError:
                continue
            if note is not None:
                found.append(note)
        return found

    def is_there(self) -> bool:
        """Whether the folder is still where it was made."""
        return (self.folder / "grid.json").exists()

    # -------------------------------------------------------------------------------------------------- stop

    def ask_to_stop(self) -> None:
        """Ask all who work on this grid to stop cleanly."""
        with explained(self.folder):
            write_text(self.folder / "stop", utc_now() + "\n")

    def stop_asked(self) -> bool:
        """Whether that was asked since the folder was opened for work."""
        return (self.folder / "stop").exists()

    def go_on(self) -> None:
        """Take back that it should stop."""
        with explained(self.folder):
            (self.folder / "stop").unlink(missing_ok=True)


def _notes(folder: Path) -> list[Path]:
    return [file for file in entries(folder) if file.suffix == ".json" and not file.name.startswith(".")]


def _read(model: type[M], file: Path) -> M | None:
    """A note, or None where there is none; raises `DataError` if it cannot be understood."""
    try:
        return model.model_validate_json(file.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read ({type(error).__name__}); delete it") from error


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
