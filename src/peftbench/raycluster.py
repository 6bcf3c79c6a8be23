"""A grid on Ray: its batches as tasks with a GPU each, on a cluster that runs or on a local one started for it.

A task is a small pool of one worker process, so that watching, failures and the wish to stop are those of one
machine. A task whose process dies is sent again, and goes on from records and checkpoints. A local Ray has no
dashboard, reports no usage and asks for a password that only this process knows.
"""

import os
import secrets
import signal
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from peftbench.cellwork import Event
from peftbench.errand import Errand, arrive, errand_of
from peftbench.errors import DataError, NotInstalled, PeftBenchError
from peftbench.grid import Cell
from peftbench.gridrun import Prepared, cores, run_grid
from peftbench.gridstate import CellFailure
from peftbench.launch import STOP_SECONDS, STOPPING, LaunchOptions, StopSignals, Summary, Tell, batches_of
from peftbench.schema import Frozen

MOST_IN_FLIGHT = 256
"""Tasks that are given to Ray at once, where no number of workers is asked for."""
MOST_REFUSALS = 3
"""Tasks in a row that end in an error before one does its work: then it is the cluster."""
LOCAL_STORE_BYTES = 80 * 2**20
"""Memory for objects of a local Ray, the least it takes: nothing but short texts goes through it."""
BUSY_SECONDS = 90.0
"""How long a task that was sent again waits for the worker that its forerunner left to end."""


class Outcome(Frozen):
    """What a task says at its end, from the records."""

    done: tuple[str, ...]
    failed: dict[str, CellFailure]
    busy: bool
    """Whether another process is at work on what is left."""
    stopped: bool
    crashes: int


def run_on_ray(
    prepared: Prepared,
    options: LaunchOptions,
    tell: Tell,
    address: str | None = None,
    workers: int | None = None,
) -> Summary:
    """Do what is pending as tasks of Ray and say how it ended.

    `address` is that of a cluster; without it a local Ray is started, and stopped at the end. `workers` is the
    most tasks at once. Ctrl-C, SIGTERM or a wish in the folder stops cleanly, a second Ctrl-C at once. Raises
    `NotInstalled` without Ray, `DataError` if the cluster cannot be reached or refuses every task.
    """
    prepared.state.open(prepared.name)
    prepared.state.go_on()
    with _connected(address) as ray:
        most = workers or MOST_IN_FLIGHT
        return _Driver(ray, prepared, options, tell, most, local=address is None).run()


# -------------------------------------------------------------------------------------------- within the cluster


class Ears:
    """An actor that keeps what tasks tell until it is fetched."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def hear(self, worker: str, event: str) -> None:
        """One event, as JSON."""
        self.heard.append((worker, event))

    def take(self) -> list[tuple[str, str]]:
        """What was heard since it was last asked."""
        heard, self.heard = self.heard, []
        return heard


def do_task(text: str, ears: Any, again: bool) -> str:
    """What a task does: the errand of this JSON, in a worker process below this one. Returns an `Outcome` as JSON.

    `again` says that an earlier task of these cells died. Raises `DataError` if it cannot work here.
    """
    errand = Errand.model_validate_json(text)
    begun = time.monotonic()

    def tell(worker: str, event: Event) -> None:
        ears.hear.remote(worker, event.model_dump_json(exclude_none=True))

    while True:
        found = arrive(errand)
        summary = run_grid(found, errand.options, tell, goes_on=False)
        # The worker of a task that was killed keeps its last step and ends; until then it holds its run.
        if not (again and summary.busy and not summary.stopped) or time.monotonic() - begun > BUSY_SECONDS:
            break
        time.sleep(2)
    after = arrive(errand)
    return Outcome(
        done=tuple(after.done),
        failed=after.failures,
        busy=summary.busy > 0,
        stopped=summary.stopped,
        crashes=summary.crashes,
    ).model_dump_json()


# ----------------------------------------------------------------------------------------------------- outside it


class _Batch:
    def __init__(self, cells: Sequence[Cell]) -> None:
        self.cells = list(cells)
        self.attempts = 0


class _Driver:
    def __init__(
        self, ray: Any, prepared: Prepared, options: LaunchOptions, tell: Tell, most: int, *, local: bool
    ) -> None:
        self.local = local
        self.ray, self.prepared, self.options, self.tell, self.most = ray, prepared, options, tell, most
        cells = {cell.id: cell for cell in prepared.cells}
        batches = batches_of(prepared.pending, options.batch)
        self.queue = deque(_Batch([cells[job.cell] for job in batch]) for batch in batches)
        self.count = len(prepared.pending)
        self.flying: dict[Any, _Batch] = {}
        self.outcomes: dict[str, Literal["done", "failed", "busy"]] = {}
        self.task = ray.remote(do_task)
        self.ears = ray.remote(Ears).options(num_cpus=0).remote()
        self.gpus = ray.cluster_resources().get("GPU", 0)
        self.asked_for: set[tuple[tuple[str, float], ...]] = set()
        """Resources that were compared with those of the nodes."""
        self.signals = StopSignals()
        self.crashes = self.refusals = 0
        self.stopping_since: float | None = None
        """Since when nothing new is sent."""
        self.asked_since: float | None = None
        """Since when trainings are to keep their last step and stop."""
        self.senseless: str | None = None
        """Why no other task would fare better."""

    def run(self) -> Summary:
        begun = time.monotonic()
        with self.signals:
            while self.flying or (self.queue and self.stopping_since is None):
                self._tick(begun)
        self._hear()
        if self.senseless is not None:
            raise DataError(f"tasks cannot work on the cluster: {self.senseless}")
        ended = list(self.outcomes.values())
        return Summary(
            done=ended.count("done"),
            failed=ended.count("failed"),
            busy=ended.count("busy"),
            left=self.count - len(ended),
            stopped=self.stopping_since is not None,
            crashes=self.crashes,
            seconds=time.monotonic() - begun,
            asked=self.asked_since is not None,
        )

    def _tick(self, begun: float) -> None:
        now = time.monotonic()
        most = self.options.max_seconds
        asked = self.signals.count > 0 or self.senseless is not None or self.prepared.state.stop_asked()
        if self.stopping_since is None and (asked or (most is not None and now - begun >= most)):
            self.stopping_since = now
        if self.asked_since is None and asked:
            self.asked_since = now
            for ref in self.flying:
                self.ray.cancel(ref, force=False)  # as Ctrl-C there: trainings keep their last step
            self.tell("ray", Event(kind="note", message=STOPPING))
        elif self.stopping_since is None:
            while self.queue and len(self.flying) < self.most:
                self._send(self.queue.popleft(), begun)
        elif self.asked_since is not None and (
            self.signals.count > 1 or now - self.asked_since > STOP_SECONDS + 10
        ):
            for ref in self.flying:
                self.ray.cancel(ref, force=True)
            self.flying.clear()
        ready = self.ray.wait(list(self.flying), num_returns=1, timeout=0.5)[0] if self.flying else ()
        self._hear()
        for ref in ready:
            self._landed(ref, self.flying.pop(ref))

    def _send(self, batch: _Batch, begun: float) -> None:
        resources = self.prepared.cluster.of(batch.cells[0].config.model)
        local = self.options.runner == "rehearse" or batch.cells[0].config.device == "cpu"
        each = batch.cells[0].config.engine.processes or 1
        most = int(self.gpus) if resources.gpus is None and not local else resources.gpus or 0
        gpus = min(each, most)
        threads = batch.cells[0].config.threads or 1
        # Resources are those of a task with a worker for each GPU; here every worker is a task.
        share = max(1, (resources.gpus or 1) // each)
        memory = {} if resources.memory_gb is None else {"memory": int(resources.memory_gb * 2**30 / share)}
        budget = self.options.max_seconds
        left = None if budget is None else max(1.0, budget - (time.monotonic() - begun))
        options = self.options.model_copy(update={"workers": 1, "devices": None, "max_seconds": left})
        text = errand_of(self.prepared, batch.cells, options).model_dump_json()
        cpus = max(1, resources.cpus // share) if resources.cpus else threads
        self._compare(GPU=gpus, CPU=cpus, **memory)
        task = self.task.options(
            num_gpus=gpus,
            num_cpus=cpus,
            max_retries=0,  # a task that died is sent again below, where it is counted and told
            name=f"{self.prepared.name}: {batch.cells[0]}",
            **memory,
        )
        self.flying[task.remote(text, self.ears, batch.attempts > 0)] = batch

    def _compare(self, **asked: float) -> None:
        """Say once where no node has what a task asks for; a cluster may grow one, a local Ray does not."""
        if (kind := tuple(asked.items())) in self.asked_for:
            return
        self.asked_for.add(kind)
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0) >= amount for name, amount in kind) for node in nodes):
            wanted = ", ".join(f"{amount:,} {name}" for name, amount in kind if amount)
            told = f"no node of Ray has {wanted} for a task; ask for less under `cluster` in the grid"
            if self.local:
                self.senseless = told
            self.tell("ray", Event(kind="note", message=f"{told}, or wait until one joins"))

    def _hear(self) -> None:
        try:
            heard = self.ray.get(self.ears.take.remote(), timeout=10)
        except self.ray.exceptions.RayError:
            return  # what was told is lost; how tasks ended is not
        for worker, text in heard:
            event = Event.model_validate_json(text)
            if event.kind != "ended":
                self.tell(worker, event)
            elif event.status in ("done", "failed") and event.reason != "disk":  # what the pool counts as well
                self._ended(worker, event)

    def _landed(self, ref: Any, batch: _Batch) -> None:
        try:
            outcome = Outcome.model_validate_json(self.ray.get(ref))
        except self.ray.exceptions.TaskCancelledError:
            return
        except self.ray.exceptions.RayError as error:
            if self.stopping_since is None:
                self._crashed(batch, error)
            return
        self.refusals = 0
        self.crashes += outcome.crashes
        for cell in batch.cells:
            if cell.id in outcome.done:
                self._ended("ray", Event(kind="ended", cell=cell.id, status="done"))
            elif (failure := outcome.failed.get(cell.id)) is not None:
                told = Event(
                    kind="ended", cell=cell.id, status="failed", reason=failure.reason, message=failure.message
                )
                self._ended("ray", told)
            elif outcome.busy and not outcome.stopped:
                self._ended("ray", Event(kind="ended", cell=cell.id, status="busy"))

    def _ended(self, worker: str, event: Event) -> None:
        """Count and tell an outcome that was not heard before."""
        if event.cell is not None and event.cell not in self.outcomes and event.status is not None:
            self.outcomes[event.cell] = event.status
            self.tell(worker, event)

    def _crashed(self, batch: _Batch, error: Exception) -> None:
        """A task died, with its node or alone, or could not work where it was: its cells are sent again."""
        cause = getattr(error, "cause", None)
        message = next(iter(str(cause or error).strip().splitlines()), type(error).__name__)
        if cause is not None:
            self.refusals += 1
            if self.refusals >= MOST_REFUSALS or isinstance(cause, PeftBenchError):
                self.senseless = message
                return
        self.crashes += 1
        batch.attempts += 1
        self.tell("ray", Event(kind="note", message=f"a task ended: {message}; its runs are sent again"))
        if batch.attempts < self.options.attempts:
            self.queue.appendleft(batch)
        elif len(batch.cells) > 1:  # one of them took the others along
            self.queue.extendleft(_Batch([cell]) for cell in reversed(batch.cells))
        else:
            self._give_up(batch, message)

    def _give_up(self, batch: _Batch, message: str) -> None:
        for cell in batch.cells:
            failure = CellFailure(
                cell=cell.id,
                label=str(cell),
                reason="crashed",
                message=f"its task in Ray ended: {message}",
                attempts=batch.attempts,
                worker="ray",
            )
            self.prepared.state.fail(failure)
            told = Event(kind="ended", cell=cell.id, status="failed", reason="crashed", message=failure.message)
            self._ended("ray", told)


@contextmanager
def _connected(address: str | None) -> Iterator[Any]:
    """Ray, connected to a cluster or started here; ended here, it stops what was started."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    local: dict[str, Any] = {}
    if address is None:
        # Ray listens on every interface. Its password is made here and handed on in the environment alone; without
        # one Ray would make one and leave it in the user's home.
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        local = {
            "num_cpus": cores(),
            "include_dashboard": False,
            "object_store_memory": LOCAL_STORE_BYTES,
            "_node_ip_address": "127.0.0.1",
        }
    try:
        import ray
    except ModuleNotFoundError as error:
        raise NotInstalled(error.name, "Ray needs", "ray") from None
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(address=address or "local", log_to_driver=False, logging_level="ERROR", **local)
    except (OSError, RuntimeError, ValueError) as error:
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise DataError(f"Ray at {address or 'this machine'} cannot be reached or started: {first}") from None
    try:
        yield ray
    finally:
        ray.shutdown()
        for number, handler in before.items():
            signal.signal(number, handler)  # Ray puts its own in the place of SIGTERM's
