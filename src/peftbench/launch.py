"""Cells by worker processes of this machine: one for each device, watched by their progress.

A worker that dies, or that says nothing for too long, costs its batch an attempt and no other cell anything; its
whole process group is ended. What is finished lies in the records, so that the same call goes on after anything.
"""

import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

from peftbench.cellwork import Event, Job, Reason
from peftbench.errors import DataError
from peftbench.grid import Cell
from peftbench.gridstate import CellFailure, GridState, WorkerNote
from peftbench.schema import Frozen

TICK_SECONDS = 0.2
GAP_SECONDS = 5.0
"""A pause of this process itself, such as a suspended machine: nobody is blamed for the time."""
NOTE_SECONDS = 2.0
STOP_SECONDS = 60.0
"""How long a worker may take to keep its last step."""
MOST_STARTS = 3
"""Workers that die one after the other before they did anything."""


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


Tell = Callable[[str, Event], None]
"""Hears the name of a worker and what it says."""


@dataclass
class _Worker:
    name: str
    process: "subprocess.Popen[bytes]"
    jobs: IO[str]
    batch: list[Job] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    heard_at: float = 0.0
    noted_at: float = 0.0
    rest: bytes = b""
    newest: Event | None = None
    worked: bool = False
    blame: tuple[Reason, str] | None = None


def batches_of(cells: Sequence[Cell], most: int) -> list[list[Job]]:
    """Cells that share base, rows and method, in their order, at most so many together."""
    groups: dict[Any, list[Job]] = {}
    for cell in cells:
        key = (cell.group, cell.config.method.name, cell.config.engine, cell.config.training.max_tokens)
        groups.setdefault(repr(key), []).append(Job(cell=cell.id, label=str(cell), config=cell.config))
    return [group[i : i + most] for group in groups.values() for i in range(0, len(group), most)]


def launch(cells: Sequence[Cell], state: GridState, options: LaunchOptions, tell: Tell) -> Summary:
    """Do the cells and say how it ended; raises `DataError` if workers cannot be started at all.

    Ctrl-C, SIGTERM or a wish in the folder stops cleanly: trainings keep their last step. A second Ctrl-C ends at
    once.
    """
    return _Pool(cells, state, options, tell).run()


class _Pool:
    def __init__(self, cells: Sequence[Cell], state: GridState, options: LaunchOptions, tell: Tell) -> None:
        self.state, self.options, self.tell = state, options, tell
        self.queue = batches_of(cells, options.batch)
        self.count = len(cells)
        self.attempts: dict[str, int] = {}
        self.outcomes: dict[str, Literal["done", "failed", "busy"]] = {}
        self.workers: dict[int, _Worker] = {}
        self.slots = list(range(len(options.devices) if options.devices else options.workers))
        self.selector = selectors.DefaultSelector()
        self.stopping_since: float | None = None
        self.signals = self.crashes = self.failed_starts = self.started = 0

    def run(self) -> Summary:
        begun = self.ticked = time.monotonic()
        with self._signals():
            try:
                while self._work_left():
                    self._tick(begun)
            finally:
                self._end_all()
        done = list(self.outcomes.values())
        return Summary(
            done=done.count("done"),
            failed=done.count("failed"),
            busy=done.count("busy"),
            left=self.count - len(done),
            stopped=self.stopping_since is not None,
            crashes=self.crashes,
            seconds=time.monotonic() - begun,
        )

    def _work_left(self) -> bool:
        if any(worker.batch for worker in self.workers.values()):
            return True
        return bool(self.queue) and self.stopping_since is None

    def _tick(self, begun: float) -> None:
        now = time.monotonic()
        if now - self.ticked > GAP_SECONDS:
            for worker in self.workers.values():
                worker.heard_at += now - self.ticked
        self.ticked = now
        if self.stopping_since is None and self._should_stop(now - begun):
            self.stopping_since = now
            self.queue = []
        elif self.stopping_since is None:
            self._assign()
        self._hear()
        self._watch()

    def _should_stop(self, seconds: float) -> bool:
        if self.signals or self.state.stop_asked():
            for worker in self.workers.values():
                self._terminate(worker)
            return True
        most = self.options.max_seconds
        return most is not None and seconds >= most  # batches at hand are finished

    # --------------------------------------------------------------------------------------------- giving out

    def _assign(self) -> None:
        for slot in self.slots:
            worker = self.workers.get(slot)
            if not self.queue:
                return
            if worker is None:
                worker = self.workers[slot] = self._start(slot)
            if not worker.batch:
                self._give(worker, self.queue.pop(0))

    def _start(self, slot: int) -> _Worker:
        self.started += 1
        name = f"{socket.gethostname()}-{os.getpid()}-{self.started}"
        environment = dict(os.environ)
        if self.options.devices:
            environment["CUDA_VISIBLE_DEVICES"] = self.options.devices[slot]
        with (self.state.folder / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-m", "peftbench.worker", self.options.runner],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # its whole group can be ended, and Ctrl-C is not for it
            )
        assert process.stdin is not None
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        worker = _Worker(name, process, os.fdopen(process.stdin.fileno(), "w", encoding="utf-8", closefd=False))
        self.selector.register(process.stdout, selectors.EVENT_READ, slot)
        return worker

    def _give(self, worker: _Worker, batch: list[Job]) -> None:
        worker.batch, worker.open = batch, {job.cell for job in batch}
        worker.heard_at = time.monotonic()
        worker.newest = None
        with suppress(BrokenPipeError):  # it died; that is seen when it is waited for
            worker.jobs.write(json.dumps([job.model_dump(mode="json") for job in batch]) + "\n")
            worker.jobs.flush()

    # ------------------------------------------------------------------------------------------------ hearing

    def _hear(self) -> None:
        for key, _ in self.selector.select(TICK_SECONDS):
            worker = self.workers.get(key.data)
            if worker is not None:
                self._read(worker)

    def _read(self, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        while chunk := worker.process.stdout.read(1 << 16):
            *lines, worker.rest = (worker.rest + chunk).split(b"\n")
            for line in lines:
                self._heard(worker, Event.model_validate_json(line))

    def _heard(self, worker: _Worker, event: Event) -> None:
        worker.heard_at = time.monotonic()
        worker.worked = True
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

    def _ended(self, worker: _Worker, event: Event) -> None:
        assert event.cell is not None
        assert event.status is not None
        self.outcomes[event.cell] = event.status
        if event.status == "done":
            self.state.forgive(event.cell)
        elif event.status == "failed":
            self._fail(worker, event.cell, event.reason or "error", event.message or "")

    def _fail(self, worker: _Worker, cell: str, reason: Reason, message: str) -> None:
        label = next((job.label for job in worker.batch if job.cell == cell), cell)
        self.state.fail(
            CellFailure(
                cell=cell,
                label=label,
                reason=reason,
                message=message,
                attempts=self.attempts.get(cell, 0) + 1,
                worker=worker.name,
                at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            )
        )

    def _note(self, worker: _Worker) -> None:
        newest = worker.newest
        self.state.note(
            WorkerNote(
                worker=worker.name,
                host=socket.gethostname(),
                pid=worker.process.pid,
                grid=self.state.output.name,
                cells=tuple(job.label for job in worker.batch if job.cell in worker.open),
                phase=newest.phase if newest else None,
                done=newest.done if newest else None,
                total=newest.total if newest else None,
                loss=newest.loss if newest else None,
                at=time.time(),
            )
        )

    # ----------------------------------------------------------------------------------------------- watching

    def _watch(self) -> None:
        now = time.monotonic()
        for slot, worker in list(self.workers.items()):
            silent = now - worker.heard_at
            if worker.process.poll() is not None:
                self._read(worker)  # what it said last
                self._died(slot, worker)
            elif worker.batch and silent > self.options.patience_seconds:
                worker.blame = ("hung", f"its worker said nothing for {silent:.0f} s and was ended")
                _kill(worker.process)
            elif self.stopping_since is not None and worker.batch and self._stop_takes_too_long(now):
                _kill(worker.process)

    def _stop_takes_too_long(self, now: float) -> bool:
        assert self.stopping_since is not None
        asked = self.signals > 0 or self.state.stop_asked()
        return self.signals > 1 or (asked and now - self.stopping_since > STOP_SECONDS)

    def _died(self, slot: int, worker: _Worker) -> None:
        assert worker.process.stdout is not None
        self.selector.unregister(worker.process.stdout)
        _kill(worker.process)  # children that it left
        del self.workers[slot]
        self.state.leave(worker.name)
        code = worker.process.returncode
        if not worker.batch or self.stopping_since is not None:
            return
        self.crashes += 1
        if not worker.worked:
            self.failed_starts += 1
            if self.failed_starts >= MOST_STARTS:
                raise DataError(
                    f"workers end before they begin (status {code}); the last one said: {self._last_words(worker)}"
                )
        reason, message = worker.blame or ("crashed", f"its worker was ended by {_why(code)}")
        left = [job for job in worker.batch if job.cell in worker.open]
        for job in left:
            self.attempts[job.cell] = self.attempts.get(job.cell, 0) + 1
        # One of a batch took the others along: which one is found by doing them alone.
        tried = [job for job in left if self.attempts[job.cell] < self.options.attempts]
        for job in left:
            if job not in tried:
                self.attempts[job.cell] -= 1
                last = self._last_words(worker)
                self._fail(worker, job.cell, reason, f"{message}{f'; it said last: {last}' if last else ''}")
                self.outcomes[job.cell] = "failed"
        self.queue = [[job] for job in tried] + self.queue
        self.tell(worker.name, Event(kind="note", message=f"a worker ended: {message}; {len(tried)} runs go on"))

    def _last_words(self, worker: _Worker) -> str:
        file = self.state.folder / "logs" / f"{worker.name}.log"
        with suppress(OSError):
            lines = [line for line in file.read_text(errors="replace").splitlines() if line.strip()]
            return lines[-1][:500] if lines else ""
        return ""

    # ------------------------------------------------------------------------------------------------- ending

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def hear(*_: Any) -> None:
            self.signals += 1

        before = {number: signal.signal(number, hear) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _terminate(self, worker: _Worker) -> None:
        with suppress(ProcessLookupError, PermissionError):
            worker.process.send_signal(signal.SIGTERM)

    def _end_all(self) -> None:
        for worker in self.workers.values():
            with suppress(BrokenPipeError, OSError):
                worker.jobs.close()
            assert worker.process.stdin is not None
            worker.process.stdin.close()
        for worker in self.workers.values():
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(STOP_SECONDS if worker.batch and self.signals < 2 else 5)
            _kill(worker.process)
            worker.process.wait()
            self.state.leave(worker.name)
        self.workers.clear()
        self.selector.close()


def _kill(process: "subprocess.Popen[bytes]") -> None:
    """End a worker and everything that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _why(code: int) -> str:
    if code >= 0:
        return f"status {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
    return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name


def devices_here() -> tuple[str, ...] | None:
    """The GPUs of this machine, found without loading torch; None where there are none."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return tuple(part.strip() for part in named.split(",") if part.strip()) or None
    folders = sorted(Path("/proc/driver/nvidia/gpus").glob("*"))
    return tuple(str(number) for number in range(len(folders))) or None
