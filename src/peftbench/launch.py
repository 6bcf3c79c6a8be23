"""Cells by worker processes of this machine: one for each device, watched by their progress.

A worker that dies, or that says nothing for too long, costs its batch an attempt and no other cell anything; its
whole process group is ended. What is finished lies in the records, so that the same call goes on after anything.
"""

import os
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from peftbench.cellwork import Event, Job, Reason
from peftbench.disk import explained
from peftbench.errors import DataError
from peftbench.grid import Cell
from peftbench.gridstate import CellFailure, GridState, WorkerNote
from peftbench.schema import Frozen
from peftbench.workerprocess import WorkerProcess, why_it_ended

TICK_SECONDS = 0.2
GAP_SECONDS = 5.0
"""A pause of this process itself, such as a suspended machine: nobody is blamed for the time."""
NOTE_SECONDS = 2.0
STOP_SECONDS = 60.0
"""How long a worker may take to keep its last step."""
START_SECONDS = 120.0
"""How long a worker may take to begin, whatever the patience with one that has begun."""
MOST_STARTS = 5
"""Workers that die one after the other before they did anything."""


STOPPING = "stopping: trainings keep their last step; Ctrl-C once more ends them at once"
MIXED = (
    "records of two models are no comparison: put back the first one and remove the other's records, or choose "
    "another output"
)


class LaunchOptions(Frozen):
    """How cells are done on this machine."""

    workers: int = 1
    devices: tuple[str, ...] | None = None
    """Values of CUDA_VISIBLE_DEVICES, one worker each; None leaves the choice to the run."""
    runner: Literal["train", "rehearse"] = "train"
    batch: int = 8
    """Most cells that are given to a worker at once: those of one dataset and method."""
    patience_seconds: float = 1800.0
    """A worker that says nothing for so long is ended."""
    attempts: int = 3
    """How often a cell may take its worker down before it counts as failed."""
    max_seconds: float | None = None
    """No new batch is begun after so long."""


class Summary(Frozen):
    """How it ended."""

    done: int
    failed: int
    busy: int
    """Cells that another process is at work on."""
    left: int
    """Cells that were not begun, or were stopped."""
    stopped: bool
    crashes: int
    seconds: float
    asked: bool = False
    """Whether it was stopped by someone, and not by its own budget."""


Tell = Callable[[str, Event], None]
"""Hears the name of a worker and what it says."""


def batches_of(cells: Sequence[Cell], most: int) -> list[list[Job]]:
    """Cells that share base, rows and method, in their order, at most so many together."""
    groups: dict[Any, list[Job]] = {}
    for cell in cells:
        key = (cell.group, cell.config.method.name, cell.config.engine, cell.config.training.max_tokens)
        groups.setdefault(repr(key), []).append(Job(cell=cell.id, label=str(cell), config=cell.config))
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def launch(
    cells: Sequence[Cell],
    state: GridState,
    options: LaunchOptions,
    tell: Tell,
    *,
    models: Mapping[str, str] | None = None,
) -> Summary:
    """Do the cells and say how it ended.

    Ctrl-C, SIGTERM or a wish in the folder stops cleanly: trainings keep their last step. A second Ctrl-C ends at
    once. `models` has the fingerprints of base models that records were made with. Raises `DataError`, after a
    clean stop, where going on makes no sense: workers cannot be started, the disk refuses, a model has changed.
    """
    return _Pool(cells, state, options, tell, dict(models or {})).run()


class StopSignals:
    """Counts, in the block that it opens, how often the process was told to stop by Ctrl-C or SIGTERM.

    SIGTERM counts once at most: a cluster may send it by the task and by the step, and only Ctrl-C is impatience.
    """

    def __init__(self) -> None:
        self.count = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        self._before = {number: signal.signal(number, self._hear) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _: Any) -> None:
        self.count = self.count + 1 if number == signal.SIGINT else max(self.count, 1)


class _Pool:
    def __init__(
        self,
        cells: Sequence[Cell],
        state: GridState,
        options: LaunchOptions,
        tell: Tell,
        models: dict[str, str],
    ) -> None:
        self.state, self.options, self.tell, self.models = state, options, tell, models
        self.names = {cell.id: cell.config.model for cell in cells}
        self.senseless: str | None = None
        self.queue = batches_of(cells, options.batch)
        self.count = len(cells)
        self.attempts: dict[str, int] = {}
        self.outcomes: dict[str, Literal["done", "failed", "busy"]] = {}
        self.workers: dict[int, WorkerProcess] = {}
        self.slots = list(range(len(options.devices) if options.devices else options.workers))
        self.selector = selectors.DefaultSelector()
        self.stopping_since: float | None = None
        """Since when nothing new is begun."""
        self.asked_since: float | None = None
        """Since when trainings are to keep their last step and stop."""
        self.signals = StopSignals()
        self.crashes = self.failed_starts = self.started = 0

    def run(self) -> Summary:
        begun = self.ticked = self.looked_at = time.monotonic()
        with self.signals:
            try:
                while self._work_left():
                    self._tick(begun)
            finally:
                self._end_all()
        if self.senseless is not None:
            raise DataError(self.senseless)
        done = list(self.outcomes.values())
        return Summary(
            done=done.count("done"),
            failed=done.count("failed"),
            busy=done.count("busy"),
            left=self.count - len(done),
            stopped=self.stopping_since is not None,
            crashes=self.crashes,
            seconds=time.monotonic() - begun,
            asked=self.asked_since is not None,
        )

    def _work_left(self) -> bool:
        if any(worker.batch for worker in self.workers.values()):
            return True
        return bool(self.queue) and self.stopping_since is None

    def _tick(self, begun: float) -> None:
        now = self._now()
        if self.asked_since is None and (self.signals.count or self.senseless or self.state.stop_asked()):
            self.asked_since = now
            self._stop(now, WorkerProcess.ask_to_stop)
            self.tell("grid", Event(kind="note", message=STOPPING))
        most = self.options.max_seconds
        if self.stopping_since is None and most is not None and now - begun >= most:
            self._stop(now, WorkerProcess.ask_to_end)
        if self.stopping_since is None:
            self._assign()
        self._hear()
        self._watch()
        if now - self.looked_at >= NOTE_SECONDS:
            self.looked_at = now
            if not self.state.is_there():
                raise DataError(
                    f"folder {self.state.output} was removed or is out of reach; the same command goes on with "
                    "what is there then"
                )

    def _now(self) -> float:
        """The time; what passed while this process itself stood still is not held against its workers."""
        now = time.monotonic()
        if now - self.ticked > GAP_SECONDS:
            for worker in self.workers.values():
                worker.heard_at += now - self.ticked
        self.ticked = now
        return now

    def _stop(self, now: float, ask: Callable[[WorkerProcess], None]) -> None:
        """Begin nothing new; the workers are asked to end in this way."""
        self.stopping_since = self.stopping_since or now
        self.queue = []
        for worker in self.workers.values():
            ask(worker)

    # --------------------------------------------------------------------------------------------- giving out

    def _assign(self) -> None:
        for slot in self.slots:
            worker = self.workers.get(slot)
            if not self.queue:
                return
            if worker is None:
                worker = self.workers[slot] = self._start(slot)
            if not worker.batch:
                worker.give(self.queue.pop(0))

    def _start(self, slot: int) -> WorkerProcess:
        self.started += 1
        device = self.options.devices[slot] if self.options.devices else None
        logs = self.state.folder / "logs"
        with explained(logs):
            worker = WorkerProcess(self.started, self.options.runner, logs, device)
        self.selector.register(worker.stdout, selectors.EVENT_READ, slot)
        return worker

    # ------------------------------------------------------------------------------------------------ hearing

    def _hear(self) -> None:
        for key, _ in self.selector.select(TICK_SECONDS):
            worker = self.workers.get(key.data)
            if worker is not None:
                self._hear_from(worker)

    def _hear_from(self, worker: WorkerProcess) -> None:
        for event in worker.events():
            self._heard(worker, event)

    def _heard(self, worker: WorkerProcess, event: Event) -> None:
        self.failed_starts = 0
        self.tell(worker.name, event)
        if event.kind == "ended" and event.cell in worker.open:
            worker.open.discard(event.cell)
            self._ended(worker, event)
        elif event.kind == "idle":
            worker.batch = []
            self.state.leave(worker.name)
        elif event.kind == "progress":
            worker.newest = event
            if worker.heard_at - worker.noted_at >= NOTE_SECONDS:
                worker.noted_at = worker.heard_at
                self._note(worker)

    def _ended(self, worker: WorkerProcess, event: Event) -> None:
        assert event.cell is not None
        assert event.status is not None
        if event.reason == "disk":  # no fault of the cell, and the next one would fare no better
            self.senseless = event.message
            return
        self.outcomes[event.cell] = event.status
        name = self.names[event.cell]
        if event.model is not None and self.models.setdefault(name, event.model) != event.model:
            self.senseless = f"model {name!r} has changed while the grid ran; {MIXED}"
        if event.status == "done":
            self.state.forgive(event.cell)
        elif event.status == "failed":
            self._fail(worker, event.cell, event.reason or "error", event.message or "")

    def _fail(self, worker: WorkerProcess, cell: str, reason: Reason, message: str) -> None:
        label = next((job.label for job in worker.batch if job.cell == cell), cell)
        self.state.fail(
            CellFailure(
                cell=cell,
                label=label,
                reason=reason,
                message=message,
                attempts=self.attempts.get(cell, 0) + 1,
                worker=worker.name,
            )
        )

    def _note(self, worker: WorkerProcess) -> None:
        newest = worker.newest
        self.state.note(
            WorkerNote(
                worker=worker.name,
                host=socket.gethostname(),
                pid=worker.process.pid,
                grid=self.state.output.name,
                cells=tuple(job.label for job in worker.left()),
                phase=newest.phase if newest else None,
                done=newest.done if newest else None,
                total=newest.total if newest else None,
                loss=newest.loss if newest else None,
                at=time.time(),
            )
        )

    # ----------------------------------------------------------------------------------------------- watching

    def _watch(self) -> None:
        now = self._now()
        for slot, worker in list(self.workers.items()):
            silent = now - worker.heard_at
            if worker.process.poll() is not None:
                self._hear_from(worker)  # what it said last
                self._died(slot, worker)
            elif worker.batch and silent > self._patience(worker):
                worker.blame = ("hung", f"its worker said nothing for {silent:.0f} s and was ended")
                worker.kill()
            elif worker.batch and self._stop_takes_too_long(now):
                worker.kill()

    def _patience(self, worker: WorkerProcess) -> float:
        least = 0.0 if worker.worked else START_SECONDS
        return max(self.options.patience_seconds, least)

    def _stop_takes_too_long(self, now: float) -> bool:
        return self.asked_since is not None and (self.signals.count > 1 or now - self.asked_since > STOP_SECONDS)

    def _died(self, slot: int, worker: WorkerProcess) -> None:
        self.selector.unregister(worker.stdout)
        worker.kill()  # children that it left
        del self.workers[slot]
        self.state.leave(worker.name)
        self.tell(worker.name, Event(kind="idle"))
        code = worker.process.returncode
        if not worker.batch or self.stopping_since is not None:
            return
        self.crashes += 1
        if not worker.worked:
            self.failed_starts += 1
            if self.failed_starts >= MOST_STARTS:
                raise DataError(
                    f"workers end before they begin (status {code}); the last one said: {worker.last_words()}"
                )
        reason, message = worker.blame or ("crashed", f"its worker was ended by {why_it_ended(code)}")
        left = worker.left()
        for job in left:
            self.attempts[job.cell] = self.attempts.get(job.cell, 0) + 1
        # One of a batch took the others along: which one is found by doing them alone.
        tried = [job for job in left if self.attempts[job.cell] < self.options.attempts]
        for job in left:
            if job not in tried:
                self.attempts[job.cell] -= 1
                last = worker.last_words()
                told = f"{message}{f'; it said last: {last}' if last else ''}"
                self._fail(worker, job.cell, reason, told)
                self.outcomes[job.cell] = "failed"
                ended = Event(kind="ended", cell=job.cell, status="failed", reason=reason, message=told)
                self.tell(worker.name, ended)
        self.queue = [[job] for job in tried] + self.queue
        self.tell(worker.name, Event(kind="note", message=f"a worker ended: {message}; {len(tried)} runs go on"))

    # ------------------------------------------------------------------------------------------------- ending

    def _end_all(self) -> None:
        for worker in self.workers.values():
            worker.close()
        for worker in self.workers.values():
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(STOP_SECONDS if worker.batch and self.signals.count < 2 else 5)
            worker.kill()
            worker.process.wait()
            self.state.leave(worker.name)
        self.workers.clear()
        self.selector.close()


def devices_here() -> tuple[str, ...] | None:
    """The GPUs of this machine, found without loading torch; None where there are none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip()) or None
    folders = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    return tuple(str(number) for number in range(len(folders))) or None


def devices_by_worker(devices: Sequence[str], cells: Sequence[Cell]) -> tuple[str, ...]:
    """GPUs as workers get them: one each, or as many as the processes of a run that shares its model over some."""
    each = max((cell.config.engine.processes or 1 for cell in cells), default=1)
    groups = [devices[i : i + each] for i in range(0, len(devices) - each + 1, each)] or [devices]
    return tuple(",".join(group) for group in groups)
