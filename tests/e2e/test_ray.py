"""Grids on Ray: processes are killed, Ctrl-C comes, on a local Ray and on a cluster that runs already."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.e2e.grids import (
    all_are_right,
    assert_same_as_here,
    cells,
    children,
    events,
    gone,
    grid,
    put_real_grid,
    status,
    until,
)
from tests.e2e.test_cli import refused

pytest.importorskip("ray", reason="ray is not installed: pip install peftbench[ray]")

VARIABLES = {
    "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4, "RAY_USAGE_STATS_ENABLED": "0",
    "PEFTBENCH_REHEARSAL_SECONDS": "0.6",
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster():
    """The address of a Ray of two cores, started as a cluster is, and the process that holds it."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder, (Path(folder) / "log").open("w") as log:
        command = [
            Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port=0", "--num-cpus=2",
            "--include-dashboard=false", f"--object-store-memory={80 * 2**20}", f"--temp-dir={folder}",
        ]  # fmt: skip
        held = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **VARIABLES})
        file = Path(folder) / "ray_current_cluster"
        try:
            until(lambda: (file.is_file() and file.read_text()) or held.poll() is not None, 90)
            assert held.poll() is None, Path(log.name).read_text()
            yield file.read_text(), held
        finally:
            below = descendants(held.pid)
            held.send_signal(signal.SIGTERM)
            held.wait(60)
            until(lambda: gone(below), 60)


def descendants(pid):
    return [each for child in children(pid) for each in (child, *descendants(child))]


def started(*arguments, **environment):
    """The command in a process of its own, because Ray changes the one that it is used in."""
    return subprocess.Popen(
        [sys.executable, "-m", "peftbench", "grid", "run", *map(str, arguments), "--on", "ray"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **VARIABLES, **environment},
    )  # fmt: skip


def finished(process, code=0):
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, (out, err)
    return out


def workers():
    """Pids of the worker processes and of the Ray processes above them."""
    pids = [worker["pid"] for worker in status()["workers"] if not gone([worker["pid"]])]
    return {pid: int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]) for pid in pids}


def test_processes_that_are_killed_cost_no_cell(place, cluster):
    process = started("grid.yaml", "--rehearse", "--ray", cluster[0])
    found = until(lambda: len(pids := workers()) == 2 and pids, 60)
    (worker, _), (orphan, above) = found.items()
    os.kill(worker, signal.SIGKILL)  # noticed by the task
    os.kill(above, signal.SIGKILL)  # a task itself, noticed by Ray
    out = finished(process)
    assert "14 done, 0 failed" in out.splitlines()[-1]
    notes = " ".join(each["message"] for each in events(out, "note"))
    assert "a worker ended: its worker was ended by SIGKILL" in notes
    assert "its runs are sent again" in notes
    ended = [each["cell"] for each in events(out, "ended")]
    assert sorted(ended) == sorted(cells().values()), "each cell was done exactly once"
    all_are_right()
    assert gone([worker, orphan, above])


def test_tasks_that_no_node_has_room_for(place, cluster):
    large = ("grid.yaml", "--rehearse", "--set", "cluster.cpus=4096")
    waiting = started(*large, "--ray", cluster[0])
    line = until(lambda: "no node" in (line := waiting.stdout.readline()) and line, 60)
    assert "no node of Ray has 4,096 CPU for a task; ask for less under `cluster` in the grid, or wait" in line
    waiting.send_signal(signal.SIGINT)
    finished(waiting, 130)
    local = started(*large)  # to which no node will come
    _, err = local.communicate(timeout=120)
    assert local.returncode == 2
    assert err.startswith("peftbench: tasks cannot work on the cluster: no node of Ray has 4,096 CPU"), err


def test_a_wish_to_stop_reaches_the_tasks(place, cluster):
    process = started("grid.yaml", "--rehearse", "--ray", cluster[0])
    until(lambda: status()["done"], 60)
    grid("stop")
    assert "left (stopped); the same command goes on" in finished(process, 130).splitlines()[-1]
    assert status()["failed"] == 0
    assert not workers()


def test_a_local_ray_is_ended_by_ctrl_c_and_the_same_command_goes_on(place):
    process = started("grid.yaml", "--rehearse", "--workers", 1)
    until(lambda: status()["done"], 90)
    below = descendants(process.pid)
    process.send_signal(signal.SIGINT)
    out = finished(process, 130)
    assert "left (stopped); the same command goes on" in out.splitlines()[-1]
    until(lambda: gone(below), 30)
    found = status()
    assert 0 < found["done"] < 14
    assert (found["failed"], found["workers"]) == (0, [])
    assert f"{14 - found['done']} done, 0 failed" in grid("run").splitlines()[-1]  # here, from the same records
    all_are_right()


def test_what_cannot_be_is_one_sentence(place, monkeypatch):
    command = ("grid", "run", "grid.yaml", "--rehearse", "--on")
    refused("unknown place 'rey'; did you mean 'ray'?", *command, "rey")
    refused("--devices means nothing on ray", *command, "ray", "--devices", "0")
    monkeypatch.setitem(sys.modules, "ray", None)
    refused("ray is not installed; install what Ray needs: pip install peftbench[ray]", *command, "ray")


def test_a_real_grid_gives_what_it_gives_here(cluster, tmp_path):
    file = put_real_grid(tmp_path)
    assert "2 done, 0 failed" in finished(started(file, "--ray", cluster[0])).splitlines()[-1]
    assert_same_as_here(file)
    assert json.loads((tmp_path / "there" / ".grid" / "grid.json").read_text())["name"] == "real"
