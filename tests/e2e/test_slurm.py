"""Grids on a real SLURM of one machine: tasks are killed, queued again, preempted and run out of time."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.grids import (
    all_are_right,
    assert_same_as_here,
    events,
    gone,
    grid,
    put_real_grid,
    status,
    until,
)
from tests.e2e.test_cli import call, refused
from tests.slurm_machine import missing, one_machine, slurm, waiting_or_running

pytest.importorskip("submitit", reason="submitit is not installed: pip install peftbench[slurm]")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    if reason := missing():
        pytest.skip(reason)
    with one_machine(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def slow(monkeypatch):
    monkeypatch.setenv("PEFTBENCH_REHEARSAL_SECONDS", "0.7")


def submit(*settings, rehearse=True, file="grid.yaml"):
    arguments = [part for setting in settings for part in ("--set", f"cluster.{setting}")]
    return grid("run", "--on", "slurm", *arguments, rehearse=rehearse, file=file)


def logs():
    return "".join(file.read_text() for file in sorted(Path("runs").rglob("*_log.out")))


def job_of(out):
    return out.partition("job ")[2].partition(".")[0]


def process_of(task):
    """The process of a task: the one that submitit started in its step."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().split(b"\0")
            variables = dict(
                each.split(b"=", 1) for each in (folder / "environ").read_bytes().split(b"\0") if b"=" in each
            )
        except OSError:
            continue
        array = b"_".join(variables.get(name, b"") for name in (b"SLURM_ARRAY_JOB_ID", b"SLURM_ARRAY_TASK_ID"))
        own = (array.decode(), variables.get(b"SLURM_JOB_ID", b"").decode())
        if (
            task in own
            and b"submitit.core._submit" in command
            and b"SLURM_PROCID" in variables
            and command[0] != b"srun"
        ):
            return int(folder.name)
    return None


def at_once(task):
    """Let a task that was queued again begin soon, where SLURM waits two minutes.

    Not within the same second, in which what the node was told of the end of the job would hold for it as well.
    """
    until(lambda: waiting_or_running().get(task) == "PENDING" and process_of(task) is None, 180)
    slurm("scontrol", "update", f"JobId={task}", "TimeLimit=5", "StartTime=now+3")


def all_done(cells=14):
    until(lambda: not waiting_or_running(), 180)
    found = status()
    assert (found["done"], found["failed"], found["pending"]) == (cells, 0, 0), logs()
    assert gone([worker["pid"] for worker in found["workers"]]), "only a killed one may leave a note"
    all_are_right()
    ended = [each["cell"] for each in events(logs(), "ended")]
    assert len(ended) == len(set(ended)) == cells, "each cell was done exactly once"


def test_a_task_that_is_killed_and_one_that_is_queued_again_lose_nothing(place, slow, cluster):
    out = submit("tasks=2")
    assert "14 cells in 2 tasks are in the queue" in out
    job = job_of(out)
    assert f"squeue --jobs={job}" in out
    # The same command does not put them there twice.
    again = submit("tasks=2")
    assert "14 cells are in the hands of tasks that are in the queue already" in again
    assert "Nothing to submit" in again
    until(lambda: len(status()["workers"]) == 2 and status()["done"], 180)
    killed = process_of(f"{job}_0")
    os.killpg(os.getpgid(killed), signal.SIGKILL)
    slurm("scontrol", "requeue", f"{job}_1")
    at_once(f"{job}_0")
    at_once(f"{job}_1")
    assert gone([killed])
    all_done()
    assert "left (stopped); the same command goes on" in logs()
    assert not waiting_or_running()
    assert "Nothing to submit" in submit()


def test_a_task_whose_time_is_nearly_over_keeps_its_work_and_queues_itself_again(place, cluster, monkeypatch):
    # SLURM looks at its clock every half minute, so that the signal comes after 2 to 32 seconds.
    monkeypatch.setenv("PEFTBENCH_REHEARSAL_SECONDS", "3")
    job = job_of(submit("tasks=1", "minutes=1", "stop_seconds=58"))
    until(lambda: status()["done"] and waiting_or_running().get(job) == "PENDING", 180)
    assert "The time is nearly over; queued again." in logs()
    done = status()["done"]
    assert 0 < done < 14
    at_once(job)
    until(lambda: status()["done"] > done, 180)
    grid("stop")
    until(lambda: not waiting_or_running(), 180)
    ended = [each["cell"] for each in events(logs(), "ended")]
    assert len(ended) == len(set(ended)) == status()["done"] < 14
    assert logs().count("queued again") == 1, "a wish to stop is not answered by another place in the queue"


def test_a_task_that_is_preempted_is_queued_again_and_goes_on(place, slow, cluster):
    job = job_of(submit("tasks=1", "partition=low"))
    until(lambda: status()["done"], 180)
    slurm("sbatch", "--partition=high", "--cpus-per-task=2", "--output=/dev/null", "--wrap=sleep 1")
    at_once(job)
    assert "left (stopped); the same command goes on" in logs()
    assert "queued again" not in logs()  # SLURM does that itself
    all_done()


def test_a_wish_to_stop_reaches_tasks_that_run_and_takes_out_those_that_wait(place, slow, cluster):
    submit("tasks=3", "at_once=1")
    until(lambda: status()["done"], 180)
    assert "SLURM's queue had 3 tasks of it" in grid("stop", "--cancel")
    until(lambda: not waiting_or_running(), 180)
    found = status()
    assert 0 < found["done"] < 14
    assert (found["failed"], found["stop_asked"]) == (0, True)
    os.environ["PEFTBENCH_REHEARSAL_SECONDS"] = "0.02"
    assert f"{found['pending']} cells in" in submit()
    all_done()


def test_what_a_task_gets_is_asked_for_by_model(place, cluster, monkeypatch):
    """Scripts of two arrays, which nothing here could run: the queue is never given them."""
    import peftbench.slurm as ours

    scripts = []
    monkeypatch.setattr(ours, "run_task", len)
    monkeypatch.setattr(
        "submitit.core.core.PicklingExecutor._submit_command",
        lambda self, command: scripts.append(self._make_submission_file_text(command, "x")) or pytest.fail("seen"),
    )
    big = "models={peftbench-tiny: {gpus: 2, memory_gb: 1.5, minutes: 90, constraint: a100}}"
    with pytest.raises(pytest.fail.Exception, match="seen"):
        submit("partition=low", "account=mine", "cpus=3", "setup=[module load cuda]", "stop_seconds=77", big)
    [script] = scripts
    for line in ("--partition=low", "--account=mine", "--cpus-per-task=3", "--gpus-per-node=2", "--mem=1536M", "--time=90",
                 "--constraint=a100", "--requeue", "--signal=USR2@77", "--job-name=drill", "--array=0-3%4"):  # fmt: skip
        assert f"#SBATCH {line}\n" in script, line
    assert "wckey" not in script
    assert script.index("module load cuda") < script.index("srun")


def test_what_is_left_of_jobs_is_named_and_removed_when_they_are_over(place, cluster, monkeypatch):
    monkeypatch.setenv("PEFTBENCH_REHEARSAL_SECONDS", "0.02")
    submit()
    until(lambda: not waiting_or_running(), 180)
    [folder] = Path("runs/drill-rehearsal/.grid/slurm").iterdir()
    assert str(folder) not in grid("gc")
    os.utime(folder, (time.time() - 7200,) * 2)
    assert f"{folder}  " in grid("gc", "--yes")
    assert not folder.exists()
    folder.mkdir()
    (folder / "submitted.json").write_text("{")
    refused(f"{folder / 'submitted.json'} is damaged", "grid", "stop", "grid.yaml", "--rehearse", "--cancel")


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("partition=nowhere", "SLURM refuses the job array: sbatch: error: "),
        ("gpus=3", "SLURM refuses the job array: sbatch: error: "),
    ],
)
def test_what_slurm_refuses_is_one_sentence(place, cluster, setting, expected):
    refused(expected, "grid", "run", "grid.yaml", "--rehearse", "--on", "slurm", "--set", f"cluster.{setting}")
    assert not waiting_or_running()
    assert not list(Path("runs").rglob("part-*.json"))


def test_a_machine_without_slurm_says_so(place, monkeypatch):
    command = ("grid", "run", "grid.yaml", "--rehearse", "--on", "slurm")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
    refused("sbatch is not on the PATH", *command)
    monkeypatch.setitem(sys.modules, "submitit", None)
    refused("submitit is not installed; install what SLURM needs: pip install peftbench[slurm]", *command)


def test_a_real_grid_gives_what_it_gives_here(cluster, tmp_path):
    file = put_real_grid(tmp_path)
    submit("tasks=1", rehearse=False, file=file)
    until(lambda: not waiting_or_running(), 120)
    assert json.loads(call("grid", "status", file, "--json")[1])["done"] == 2
    assert_same_as_here(file)
