"""A grid that is run, looked at, tried again, stopped and tidied: what the `peftbench grid` commands do."""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from peftbench.cellwork import Event
from peftbench.disk import below, entries
from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.grid import Cell, finished, load_grid, shard
from peftbench.gridstate import CellFailure, GridState, WorkerNote
from peftbench.launch import MIXED, LaunchOptions, Summary, Tell, devices_by_worker, devices_here, launch
from peftbench.records import RunResult
from peftbench.resources import Cluster
from peftbench.schema import Frozen
from peftbench.store import RunFolder, stored_results

PLACES = {
    "here": ("--workers", "--devices", "--max-hours"),
    "slurm": (),
    "ray": ("--workers", "--max-hours", "--ray"),
}
"""Where a grid runs, and which options of `grid run` mean something there."""
DRAFT_SECONDS = 3600.0
"""Drafts of files and folders that are older belong to a writer that is gone."""


@dataclass(frozen=True)
class Prepared:
    """A grid with what is known of its cells."""

    name: str
    cells: list[Cell]
    state: GridState
    done: dict[str, RunResult]
    """Cell to its finished record."""
    failures: dict[str, CellFailure]
    """Cell to why it has none; what a record says of its failure is among them."""
    unreadable: tuple[str, ...]
    """One sentence for each record that cannot be read."""
    cluster: Cluster = field(default_factory=Cluster)
    """What the grid asks of a cluster."""

    @property
    def models(self) -> dict[str, set[str]]:
        """Base models of the finished cells: name to the fingerprints that records have."""
        found: dict[str, set[str]] = {}
        names = {cell.id: cell.config.model for cell in self.cells}
        for cell, result in self.done.items():
            if result.evaluation is not None:
                found.setdefault(names[cell], set()).add(result.evaluation.model.fingerprint)
        return found

    @property
    def pending(self) -> list[Cell]:
        """Cells that have neither a result nor a failure."""
        return [cell for cell in self.cells if cell.id not in self.done and cell.id not in self.failures]


class GridStatus(Frozen):
    """How far a grid is."""

    name: str
    output: str
    cells: int
    done: int
    failed: int
    pending: int
    by_method: dict[str, dict[str, int]]
    """Method to the number of its cells that are done, failed and pending."""
    failures: tuple[CellFailure, ...]
    workers: tuple[WorkerNote, ...]
    stop_asked: bool
    unreadable: tuple[str, ...]


class Removable(Frozen):
    """Something that nobody needs any more."""

    path: str
    why: str
    size_bytes: int


def prepare(
    file: Path,
    settings: Sequence[str] = (),
    *,
    data_dir: Path | None = None,
    device: str | None = None,
    output: Path | None = None,
    part: str | None = None,
    rehearse: bool = False,
) -> Prepared:
    """Read a grid and what was made of it; raises `ConfigError` for mistakes in it, `DataError` for its folder.

    A rehearsal has a folder of its own, so that its records are never taken for real ones.
    """
    grid, cells = load_grid(
        file,
        settings,
        run__data__directory=str(data_dir) if data_dir else None,
        run__device=device,
        run__output=str(output) if output else None,
    )
    outputs = {cell.config.output for cell in cells}
    if len(outputs) > 1:
        named = ", ".join(sorted(outputs))
        raise ConfigError(
            f"{file.name}: the cells go to {len(outputs)} folders ({named}), expected one; set run.output alone"
        )
    folder = Path(outputs.pop())
    if rehearse:
        folder = folder.with_name(folder.name + "-rehearsal")
        cells = [Cell(cell.id, cell.config.model_copy(update={"output": str(folder)})) for cell in cells]
    state = GridState(folder)
    state.check(grid.name)
    return look(grid.name, shard(cells, part), state, grid.cluster)


def look(name: str, cells: list[Cell], state: GridState, cluster: Cluster | None = None) -> Prepared:
    """What the folder of a grid holds now."""
    unreadable: list[str] = []
    results = stored_results(state.output, unreadable) if state.output.is_dir() else []
    found = finished(cells, results)
    done = {cell: result for cell, result in found.items() if result.status == "done"}
    recorded = {
        cell.id: _recorded_failure(cell, found[cell.id])
        for cell in cells
        if cell.id in found and cell.id not in done
    }
    kept = {cell: failure for cell, failure in state.failures().items() if cell not in done}
    wanted = {cell.id for cell in cells}
    failures = {cell: failure for cell, failure in {**recorded, **kept}.items() if cell in wanted}
    return Prepared(name, cells, state, done, failures, tuple(unreadable), cluster or Cluster())


def run_grid(prepared: Prepared, options: LaunchOptions, tell: Tell, *, goes_on: bool = True) -> Summary:
    """Do what is pending; what failed before is left alone until `retry`. Raises `DataError` as `launch` does.

    `goes_on` takes back that all should stop; the tasks of a cluster do not, since they may begin after it.
    """
    prepared.state.open(prepared.name)
    if goes_on:
        prepared.state.go_on()
    for name, prints in prepared.models.items():
        if len(prints) > 1:
            raise DataError(
                f"records in {prepared.state.output} are of {len(prints)} models called {name!r}; {MIXED}"
            )
    models = {name: next(iter(prints)) for name, prints in prepared.models.items()}
    return launch(prepared.pending, prepared.state, options, tell, models=models)


def where(place: str, given: Mapping[str, object]) -> None:
    """Check a place to run at against the options given for it.

    Raises `UnknownName` for a place that is not known, `ConfigError` for an option that it does not have.
    """
    if place not in PLACES:
        raise UnknownName("place", place, PLACES)
    for option, value in given.items():
        if value is not None and option not in PLACES[place]:
            raise ConfigError(
                f"{option} means nothing on {place}; write what a task gets under `cluster` in the grid"
            )


def local_options(
    cells: Sequence[Cell],
    *,
    workers: int | None = None,
    devices: str | None = None,
    max_hours: float | None = None,
    patience_minutes: float = 30.0,
    attempts: int = 3,
    rehearse: bool = False,
) -> LaunchOptions:
    """Workers for this machine: one for each GPU, or as many as its cores give room for.

    Raises `ConfigError` for numbers that cannot be.
    """
    given = {
        "--max-hours": max_hours,
        "--patience": patience_minutes,
        "--workers": workers,
        "--attempts": attempts,
    }
    for name, value in given.items():
        if value is not None and not 0 < value < 1e6:
            raise ConfigError(f"{name} is {value}, expected a number above 0")
    chosen = tuple(part.strip() for part in devices.split(",") if part.strip()) if devices else None
    if devices is not None and not chosen:
        raise ConfigError("--devices names none; give numbers with commas, such as 0,1")
    on_cpu = all(cell.config.device == "cpu" for cell in cells)
    if chosen is None and not on_cpu and workers is None and not rehearse:
        chosen = devices_here()
    return LaunchOptions(
        workers=workers or _cpu_workers(cells),
        devices=devices_by_worker(chosen, cells) if chosen else None,
        runner="rehearse" if rehearse else "train",
        patience_seconds=60 * patience_minutes,
        attempts=attempts,
        max_seconds=None if max_hours is None else 3600 * max_hours,
    )


def _cpu_workers(cells: Iterable[Cell]) -> int:
    """As many as have cores of their own; one where runs take all cores."""
    threads = max((cell.config.threads or 0 for cell in cells), default=0)
    return max(1, min(8, cores() // threads)) if threads else 1


def cores() -> int:
    """Cores that this process may use, which may be fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def status_of(prepared: Prepared) -> GridStatus:
    """How far a grid is, whether anyone is at work on it or not."""
    by_method: dict[str, dict[str, int]] = {}
    for cell in prepared.cells:
        counts = by_method.setdefault(str(cell.config.method), {"done": 0, "failed": 0, "pending": 0})
        kind = "done" if cell.id in prepared.done else "failed" if cell.id in prepared.failures else "pending"
        counts[kind] += 1
    return GridStatus(
        name=prepared.name,
        output=str(prepared.state.output),
        cells=len(prepared.cells),
        done=len(prepared.done),
        failed=len(prepared.failures),
        pending=len(prepared.pending),
        by_method=by_method,
        failures=tuple(prepared.failures.values()),
        workers=tuple(prepared.state.workers()),
        stop_asked=prepared.state.stop_asked(),
        unreadable=prepared.unreadable,
    )


def retry(prepared: Prepared, reason: str | None = None) -> list[CellFailure]:
    """Make failed cells pending again, all or those of one reason; their failed records are set aside.

    Raises `ConfigError` for a reason that no failure has, `DataError` if the disk refuses.
    """
    known = {failure.reason for failure in prepared.failures.values()}
    if reason is not None and reason not in known:
        there = ", ".join(sorted(known)) or "none"
        raise ConfigError(f"no cell failed with reason {reason!r}; the reasons are {there}")
    chosen = [each for each in prepared.failures.values() if reason in (None, each.reason)]
    results = stored_results(prepared.state.output, []) if prepared.state.output.is_dir() else []
    records = finished(prepared.cells, results)
    for failure in chosen:
        prepared.state.forgive(failure.cell)
        record = records.get(failure.cell)
        if record is not None and record.status == "failed":
            RunFolder(Path(record.folder)).set_failure_aside()
    return chosen


def removable(prepared: Prepared, jobs: Iterable[Path] = ()) -> list[Removable]:
    """Checkpoints of finished runs, old drafts, notes and logs of workers that are gone; nothing else.

    `jobs` are folders of jobs that have left the queue of a cluster, whose logs are old ones too.
    """
    found: list[Removable] = []
    output = prepared.state.output
    everything = sorted(below(output))
    for folder in everything:
        if folder.name == "checkpoint" and (folder.parent / "train.json").is_file() and not _kept(folder.parent):
            found.append(_removable(folder, "checkpoints of a finished training"))
    now = time.time()
    for draft in everything:
        if not (draft.name.startswith(".") and (draft.suffix == ".draft" or draft.name.startswith(".draft-"))):
            continue
        if not any(str(draft).startswith(each.path + "/") for each in found) and _age(draft, now) > DRAFT_SECONDS:
            found.append(_removable(draft, "a draft whose writer is gone"))
    # Whether a worker of another machine lives cannot be seen from here, only that it is silent.
    working = {
        note.worker
        for note in prepared.state.workers()
        if note.state != "gone" and not (note.state == "silent" and now - note.at > DRAFT_SECONDS)
    }
    for name in ("workers", "logs"):
        for file in entries(prepared.state.folder / name):
            if file.stem not in working and _age(file, now) > DRAFT_SECONDS:
                found.append(_removable(file, "left by a worker that is gone"))
    old = [folder for folder in jobs if _age(folder, now) > DRAFT_SECONDS]
    return found + [_removable(folder, "jobs and logs of a cluster that are over") for folder in old]


def remove(things: Iterable[Removable]) -> None:
    """Delete what `removable` found; raises `DataError` if the disk refuses, and leaves the rest then."""
    for each in things:
        path = Path(each.path)
        try:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        except FileNotFoundError:
            continue  # someone else was quicker
        except OSError as error:
            raise DataError(f"{path} cannot be removed: {error.strerror or error}; the rest was left") from error


def _kept(run: Path) -> bool:
    """Whether the checkpoints of a run are to stay."""
    try:
        record = RunFolder(run).train_record()
    except DataError:
        return True
    return record is None or record.config.keep_checkpoints or record.status == "failed"


def _removable(path: Path, why: str) -> Removable:
    size = sum(_size(each) for each in (path, *below(path)) if each.is_file())
    return Removable(path=str(path), why=why, size_bytes=size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # a run that ends meanwhile removes its own
        return 0


def _age(path: Path, now: float) -> float:
    try:
        return now - path.stat().st_mtime
    except OSError:
        return 0.0


def _recorded_failure(cell: Cell, result: RunResult) -> CellFailure:
    parts = [part for part in (result.train, result.evaluation) if part is not None and part.failure is not None]
    assert parts[0].failure is not None
    return CellFailure(
        cell=cell.id,
        label=str(cell),
        reason=parts[0].failure.reason,
        message=parts[0].failure.message,
        attempts=1,
        worker="",
        at=parts[0].provenance.started_at,
    )


Estimate = Callable[[], dict[str, float]]


class Clock:
    """Time left of a grid: as planned, corrected by what the cells so far took, with the workers of the moment."""

    def __init__(self, cells: Iterable[Cell], planned: Estimate) -> None:
        self.left = {cell.id for cell in cells}
        self.planned = planned
        self.at_work: set[str] = set()
        self.taken: dict[str, float] = {}

    def hear(self, worker: str, event: Event) -> None:
        """What a worker said."""
        if event.kind == "began":
            self.at_work.add(worker)
        elif event.kind == "idle":
            self.at_work.discard(worker)
        elif event.kind == "ended" and event.cell is not None:
            self.left.discard(event.cell)
            if event.seconds is not None:
                self.taken[event.cell] = event.seconds

    def seconds_left(self) -> float | None:
        """Wall time until all is done; None while nothing is known, or nobody is at work."""
        if not self.left:
            return 0.0
        if not self.at_work:
            return None
        planned = self.planned()
        both = [cell for cell in self.taken if cell in planned]
        if planned and all(cell in planned for cell in self.left):
            ratio = sum(self.taken[cell] for cell in both) / sum(planned[cell] for cell in both) if both else 1.0
            return ratio * sum(planned[cell] for cell in self.left) / len(self.at_work)
        if not self.taken:
            return None
        return sum(self.taken.values()) / len(self.taken) * len(self.left) / len(self.at_work)
