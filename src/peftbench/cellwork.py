"""Cells done in this process, a batch at a time: what happens is told as events, what goes wrong is an outcome.

A batch is computed together where that pays. If it ends in an error, its cells are tried one at a time, so that
one of them costs no other. How a cell is done is a `Runner`; `train_cells` is the real one.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from peftbench.errors import Busy, DiskError, PeftBenchError, first_line
from peftbench.observer import Observer
from peftbench.records import CurvePoint, RunConfig, RunResult
from peftbench.schema import Frozen

Reason = Literal["refused", "error", "nonfinite", "out_of_memory", "metric", "crashed", "hung", "disk"]
"""Why a cell has no result: what the user can mend, a defect, what a record says, a process that died or stood
still, a disk that is full."""

TOLD_SECONDS = 0.5
"""Least time between two events about the progress of one phase."""


class Job(Frozen):
    """One cell to be done."""

    cell: str
    """Id of the cell."""
    label: str
    config: RunConfig


class Event(Frozen):
    """What a worker tells."""

    kind: Literal["began", "progress", "ended", "note", "idle"]
    cell: str | None = None
    phase: str | None = None
    done: int | None = None
    total: int | None = None
    loss: float | None = None
    validation_loss: float | None = None
    status: Literal["done", "failed", "busy"] | None = None
    """Of a cell that ended; `busy` where another process is at work on it."""
    reason: Reason | None = None
    message: str | None = None
    folder: str | None = None
    score: float | None = None
    model: str | None = None
    """Fingerprint of the base model that a result was made with."""
    seconds: float | None = None
    """From the beginning of the batch, or the end of the cell before, to the end of this one."""


Tell = Callable[[Event], None]
Runner = Callable[[Sequence[Job], Observer], None]
"""Does the jobs and says `ended` of each to the observer; raises what went wrong."""


def train_cells(jobs: Sequence[Job], observer: Observer) -> None:
    """Train, predict and score the jobs, together where that pays."""
    from peftbench.execute import run_many

    run_many([job.config for job in jobs], observer=observer)


def do_batch(jobs: Sequence[Job], tell: Tell, runner: Runner = train_cells) -> None:
    """Do the jobs and tell one `ended` for each; raises nothing but `KeyboardInterrupt` and `SystemExit`."""
    told = _Telling(jobs, tell)
    try:
        runner(jobs, told)
    except Exception as error:
        left = told.left()
        if len(jobs) == 1:
            _tell_failure(left, error, told)
        else:
            tell(
                Event(kind="note", message=f"{len(left)} runs are tried one at a time: {first_line(error)[:1000]}")
            )
            for job in left:
                do_batch([job], tell, runner)


def _tell_failure(jobs: Sequence[Job], error: Exception, told: "_Telling") -> None:
    for job in jobs:
        if isinstance(error, Busy):
            told.end(job, status="busy", message=str(error))
        elif isinstance(error, DiskError):
            told.end(job, status="failed", reason="disk", message=str(error))
        elif isinstance(error, PeftBenchError):
            told.end(job, status="failed", reason="refused", message=str(error))
        elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
            told.end(job, status="failed", reason="out_of_memory", message=first_line(error)[:1000])
        else:
            told.end(
                job, status="failed", reason="error", message=f"{type(error).__name__}: {first_line(error)[:1000]}"
            )


class _Telling(Observer):
    """Turns what an observer hears into events about cells; progress now and then only."""

    def __init__(self, jobs: Sequence[Job], tell: Tell) -> None:
        self.jobs, self.tell = jobs, tell
        self.open = {job.cell for job in jobs}
        self.begun = self.told_at = time.monotonic()
        self.phase_name, self.done = "", 0
        self.total: int | None = None
        self.loss: float | None = None
        for job in jobs:
            tell(Event(kind="began", cell=job.cell))

    def left(self) -> list[Job]:
        """Jobs that have not ended."""
        return [job for job in self.jobs if job.cell in self.open]

    def end(
        self,
        job: Job,
        *,
        status: Literal["done", "failed", "busy"],
        reason: Reason | None = None,
        message: str | None = None,
        folder: str | None = None,
        score: float | None = None,
        model: str | None = None,
    ) -> None:
        """Tell the outcome of a job, once."""
        if job.cell not in self.open:
            return
        self.open.discard(job.cell)
        now = time.monotonic()
        seconds, self.begun = now - self.begun, now
        self.tell(
            Event(
                kind="ended",
                cell=job.cell,
                status=status,
                reason=reason,
                message=message,
                folder=folder,
                score=score,
                model=model,
                seconds=seconds,
            )
        )

    def phase(self, name: str, total: int | None = None) -> None:
        self.phase_name, self.total, self.done, self.loss = name, total, 0, None
        self._progress()

    def advance(self, count: int) -> None:
        self.done += count
        self._now_and_then()

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        self.done, self.loss = step, loss
        self._now_and_then()

    def point(self, run: int, point: CurvePoint) -> None:
        self._progress(cell=self.jobs[run].cell, validation_loss=point.validation_loss)

    def note(self, run: int, text: str) -> None:
        self.tell(Event(kind="note", cell=self.jobs[run].cell, message=text))

    def ended(self, run: int, result: RunResult) -> None:
        failure = next(
            (part.failure for part in (result.train, result.evaluation) if part is not None and part.failure), None
        )
        self.end(
            self.jobs[run],
            status=result.status,
            reason=failure.reason if failure else None,
            message=failure.message if failure else None,
            folder=str(Path(result.folder)),
            score=result.primary,
            model=part.model.fingerprint if (part := result.evaluation or result.train) else None,
        )

    def _now_and_then(self) -> None:
        if time.monotonic() - self.told_at >= TOLD_SECONDS:
            self._progress()

    def _progress(self, cell: str | None = None, validation_loss: float | None = None) -> None:
        self.told_at = time.monotonic()
        loss = self.loss if self.loss is not None and abs(self.loss) < float("inf") else None
        self.tell(
            Event(
                kind="progress",
                cell=cell,
                phase=self.phase_name,
                done=self.done,
                total=self.total,
                loss=loss,
                validation_loss=validation_loss,
            )
        )
