"""A grid on SLURM: its cells as tasks of job arrays, submitted by submitit, each a `grid run` of its part.

A task that is preempted is queued again by SLURM; one whose time is nearly over stops cleanly and queues itself
again; one that is killed is queued again by the last lines of its script. All go on from records and checkpoints.
What is submitted stands in <output>/.grid/slurm. No accounting is needed: `squeue` says what is in the queue, the
records say what is done.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.disk import explained, write_text
from peftbench.errand import Errand, arrive, errand_of
from peftbench.errors import DataError, NotInstalled, PeftBenchError
from peftbench.grid import Cell, shard
from peftbench.gridrun import Prepared, run_grid
from peftbench.gridstate import GridState
from peftbench.gridview import Planned, print_summary, viewing
from peftbench.launch import LaunchOptions, batches_of, devices_by_worker, devices_here
from peftbench.redaction import redacted
from peftbench.resources import Cluster, Resources
from peftbench.schema import Frozen

COMMAND_SECONDS = 60.0
"""How long a command of SLURM may take."""
_KILLED = (134, 135, 137, 139)
"""Status of a step that was ended by SIGABRT, SIGBUS, SIGKILL or SIGSEGV."""


class Submitted(Frozen):
    """What stands in the queue, or was put there."""

    tasks: dict[str, tuple[str, ...]]
    """Id of a task in SLURM, such as `17_3`, to the ids of its cells."""


class SlurmErrand(Frozen):
    """The file of one task."""

    errand: Errand
    resources: Resources
    restarts: int


# ------------------------------------------------------------------------------------------- where it is submitted


def submit(prepared: Prepared, options: LaunchOptions) -> Submitted:
    """Put what is pending into the queue, one job array for each kind of resources, and come back at once.

    Cells of tasks that are in the queue already are left out. Raises `NotInstalled` without submitit, `DataError`
    if this machine has no SLURM or SLURM refuses.
    """
    submitit = _submitit()
    _need("sbatch")
    prepared.state.open(prepared.name)
    prepared.state.go_on()
    held = {cell for cells in queued(prepared.state).tasks.values() for cell in cells}
    arrays: dict[Resources, list[Cell]] = {}
    for cell in prepared.pending:
        if cell.id not in held:
            arrays.setdefault(_resources(prepared.cluster, cell, options), []).append(cell)
    tasks: dict[str, tuple[str, ...]] = {}
    for resources, cells in arrays.items():
        tasks |= _submit_array(submitit, prepared, resources, cells, options).tasks
    return Submitted(tasks=tasks)


def queued(state: GridState) -> Submitted:
    """Tasks of a grid that wait or run; raises `DataError` if SLURM does not answer."""
    known = {task: cells for tasks in _submitted(state).values() for task, cells in tasks.items()}
    if not known:
        return Submitted(tasks={})
    said = _slurm("squeue", "--noheader", "--array", f"--user={os.getuid()}", "--format=%i")
    there = set(said.split())
    return Submitted(tasks={task: cells for task, cells in known.items() if task in there})


def over(state: GridState) -> list[Path]:
    """Folders of job arrays that have left the queue; none where this machine cannot see the queue."""
    if shutil.which("squeue") is None:
        return []
    there = queued(state).tasks
    return [folder for folder, tasks in _submitted(state).items() if not there.keys() & tasks.keys()]


def cancel_waiting(state: GridState) -> list[str]:
    """Take the tasks of a grid out of the queue that do not run; returns the ids of all that were in it."""
    _need("scancel")
    found = list(queued(state).tasks)
    if found:
        _slurm("scancel", "--state=PENDING", "--quiet", *found)
    return found


def _submitted(state: GridState) -> dict[Path, dict[str, tuple[str, ...]]]:
    """Folder of each job array that was ever submitted, to its tasks."""
    found = {}
    for file in sorted(_folder(state).glob("*/submitted.json")):
        try:
            with explained(file):
                found[file.parent] = Submitted.model_validate_json(file.read_text(encoding="utf-8")).tasks
        except ValueError as error:
            raise DataError(
                f"{file} is damaged, so that nobody knows which cells are in the queue; look for them by squeue, "
                f"and delete {file.parent} when its job is over"
            ) from error
    return found


def _submit_array(
    submitit: Any, prepared: Prepared, resources: Resources, cells: Sequence[Cell], options: LaunchOptions
) -> Submitted:
    cluster = prepared.cluster
    count = min(cluster.tasks, len(batches_of(cells, options.batch)))
    parts = [part for i in range(count) if (part := shard(cells, f"{i + 1}/{count}"))]
    folder = _folder(prepared.state) / f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{uuid.uuid4().hex[:6]}"
    files = [folder / f"part-{number}.json" for number in range(len(parts))]
    with explained(folder):
        folder.mkdir(parents=True)
        for file, part in zip(files, parts, strict=True):
            errand = errand_of(prepared, part, options)
            told = SlurmErrand(errand=errand, resources=resources, restarts=cluster.restarts)
            write_text(file, told.model_dump_json() + "\n")
    executor = submitit.SlurmExecutor(folder=str(folder.absolute()))
    executor.update_parameters(**_parameters(prepared.name, cluster, resources, len(parts)))
    try:
        jobs = executor.map_array(run_task, [str(file.absolute()) for file in files])
    except (OSError, submitit.core.utils.FailedJobError, submitit.core.utils.FailedSubmissionError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise DataError(
            f"SLURM refuses the job array: {_last_line(str(error))}; mend `cluster` in the grid"
        ) from None
    ids = {job.job_id: tuple(cell.id for cell in part) for job, part in zip(jobs, parts, strict=True)}
    submitted = Submitted(tasks=ids)
    with explained(folder):
        write_text(folder / "submitted.json", submitted.model_dump_json() + "\n")
    return submitted


def _parameters(name: str, cluster: Cluster, resources: Resources, count: int) -> dict[str, Any]:
    """What submitit writes into the script of an array."""
    given = {
        "gpus_per_node": resources.gpus or None,
        "cpus_per_task": resources.cpus,
        "mem": None if resources.memory_gb is None else f"{max(1, round(1024 * resources.memory_gb))}M",
        "partition": resources.partition,
        "account": resources.account,
        "qos": resources.qos,
        "constraint": resources.constraint,
        "setup": list(cluster.setup) or None,
    }
    return {
        **{key: value for key, value in given.items() if value is not None},
        "job_name": name,
        "nodes": 1,
        "ntasks_per_node": 1,
        "array_parallelism": cluster.at_once or count,
        "time": resources.minutes or 60,
        "signal_delay_s": cluster.stop_seconds,
        "stderr_to_stdout": True,
        "wckey": None,  # submitit would name itself, which a cluster with keys refuses
        "additional_parameters": {"requeue": True},
        "teardown": _again_if_killed(cluster.restarts),
    }


def _again_if_killed(restarts: int) -> list[str]:
    """Shell after the step: SLURM queues a preempted job again, and one whose node died, but not a killed one."""
    own = '"${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"'
    return [
        "code=$?",
        f'case " {" ".join(map(str, _KILLED))} " in',
        f'  *" $code "*) [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ] && scontrol requeue {own} ;;',
        "esac",
        "exit $code",
    ]


def _resources(cluster: Cluster, cell: Cell, options: LaunchOptions) -> Resources:
    """Resources of one cell, with a GPU for each of its processes if nothing else is said."""
    found = cluster.of(cell.config.model)
    if found.gpus is not None:
        return found
    without = options.runner == "rehearse" or cell.config.device == "cpu"
    return found.model_copy(update={"gpus": 0 if without else cell.config.engine.processes or 1})


# ------------------------------------------------------------------------------------------------ inside the job


def run_task(file: str) -> None:
    """What submitit calls within a job: do the cells of a file, and queue the job again if its time is over.

    Ends the process with status 1 if a cell failed, 2 if it cannot work here.
    """
    heard = _hear_slurm()
    told = SlurmErrand.model_validate_json(Path(file).read_text(encoding="utf-8"))
    try:
        found = arrive(told.errand)
        left, failed = len(found.pending), 0
        if not heard:
            options = _workers(told, found.cells)
            with viewing(found, Planned(None)) as view:
                summary = run_grid(found, options, view.tell, goes_on=False)
            print_summary(summary, found)
            left, failed = summary.left, summary.failed
    except PeftBenchError as error:
        print(redacted(str(error)), file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None
    if left and _time_signal() in heard and not found.state.stop_asked():
        _queue_again(told.restarts)
    if failed:
        raise SystemExit(1)


def _hear_slurm() -> list[int]:
    """Signals from now on. That of the time limit stops as SIGTERM does: at once here, and cleanly in `launch`.

    submitit's own handler would queue the job again first and leave what runs the rest of SLURM's patience.
    """
    heard: list[int] = []

    def hear(number: int, _: Any) -> None:
        heard.append(number)
        if number != signal.SIGTERM:
            signal.raise_signal(signal.SIGTERM)

    for number in (signal.SIGTERM, _time_signal()):
        signal.signal(number, hear)
    return heard


def _time_signal() -> signal.Signals:
    """The signal that submitit asks SLURM to send before the time limit."""
    return signal.Signals[f"SIG{os.environ.get('SUBMITIT_PREEMPT_SIGNAL', 'USR2')}"]


def _workers(told: SlurmErrand, cells: Sequence[Cell]) -> LaunchOptions:
    """One worker for each GPU of the task, or for as many as a run needs; else as many as cores give room for."""
    if told.resources.gpus:
        here = devices_here()
        devices = devices_by_worker(here, cells) if here else None
        return told.errand.options.model_copy(update={"devices": devices})
    given = told.resources.cpus or 1
    threads = max((cell.config.threads or given for cell in cells), default=given)
    return told.errand.options.model_copy(update={"workers": max(1, given // threads)})


def _queue_again(restarts: int) -> None:
    own = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        own = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) >= restarts:
        print(f"Not queued again after {restarts} restarts; `peftbench grid run` goes on.", flush=True)
        return
    print("The time is nearly over; queued again.", flush=True)
    _slurm("scontrol", "requeue", own)


# ------------------------------------------------------------------------------------------------------ commands


def _submitit() -> Any:
    try:
        import submitit
    except ModuleNotFoundError as error:
        raise NotInstalled(error.name, "SLURM needs", "slurm") from None
    return submitit


def _need(command: str) -> None:
    if shutil.which(command) is None:
        raise DataError(f"{command} is not on the PATH; give the command on a machine from which SLURM takes jobs")


def _slurm(command: str, *arguments: str) -> str:
    """What a command of SLURM prints; raises `DataError` if it fails, or does not answer in a minute."""
    _need(command)
    try:
        done = subprocess.run(  # noqa: S603
            [command, *arguments], capture_output=True, text=True, check=False, timeout=COMMAND_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise DataError(f"{command} did not answer within {COMMAND_SECONDS:.0f} s; try again later") from None
    if done.returncode:
        raise DataError(f"{command} failed: {_last_line(done.stderr) or f'status {done.returncode}'}")
    return done.stdout


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _folder(state: GridState) -> Path:
    return state.folder / "slurm"
