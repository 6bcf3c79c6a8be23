"""Grids that are stopped, suspended, cut off or out of time, and go on."""

import os
import signal
import time
from pathlib import Path

from tests.e2e.grids import all_are_right, cells, children, events, gone, grid, started, status, until


def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(place):
    run = started("--workers", 2, PEFTBENCH_REHEARSAL_SECONDS="0.5")
    workers = until(lambda: len(found := children(run.pid)) == 2 and found)
    until(lambda: status()["done"] >= 1)
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=30)
    assert run.returncode == 130, err
    assert "the same command goes on" in out
    assert gone(workers)
    assert not list(Path("runs/drill-rehearsal/.grid/workers").iterdir())
    before = status()["done"]
    assert 0 < before < 14
    assert len(events(grid("run"), "ended")) == 14 - before
    all_are_right()


def test_a_second_ctrl_c_ends_it_at_once(place):
    victim = cells()["ia3 on cb, seed 1"]
    run = started("--workers", 1, PEFTBENCH_REHEARSAL_ACCIDENTS=f"{victim}=hang")
    [worker] = until(lambda: children(run.pid))
    until(lambda: status()["done"] >= 1)
    os.kill(worker, signal.SIGSTOP)  # it cannot hear
    for _ in range(2):
        run.send_signal(signal.SIGINT)
        time.sleep(0.5)
    run.communicate(timeout=10)
    assert run.returncode == 130
    assert gone([worker])


def test_workers_do_not_outlive_who_started_them(place):
    run = started("--workers", 2, PEFTBENCH_REHEARSAL_SECONDS="0.5")
    workers = until(lambda: len(found := children(run.pid)) == 2 and found)
    until(lambda: status()["done"] >= 1)
    run.kill()
    run.communicate()
    until(lambda: gone(workers), 10)
    grid("run", "--workers", 2)
    all_are_right()


def test_a_worker_that_stands_still_is_replaced(place):
    run = started("--workers", 1, "--patience", 0.03, PEFTBENCH_REHEARSAL_SECONDS="0.2")
    [worker] = until(lambda: children(run.pid))
    until(lambda: status()["done"] >= 1)
    os.kill(worker, signal.SIGSTOP)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert any("said nothing for" in each["message"] for each in events(out, "note"))
    assert gone([worker])
    all_are_right()


def test_nobody_is_blamed_for_a_machine_that_slept(place):
    run = started("--workers", 1, "--patience", 0.1, PEFTBENCH_REHEARSAL_SECONDS="0.3")  # six seconds
    [worker] = until(lambda: children(run.pid))
    until(lambda: status()["done"] >= 1)
    for pid in (run.pid, worker):
        os.kill(pid, signal.SIGSTOP)
    time.sleep(7)
    for pid in (run.pid, worker):
        os.kill(pid, signal.SIGCONT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0
    assert not events(out, "note")
    all_are_right()


def test_a_wish_in_the_folder_stops_it_from_elsewhere(place):
    run = started("--workers", 1, PEFTBENCH_REHEARSAL_SECONDS="0.5")
    until(lambda: Path("runs/drill-rehearsal").exists() and status()["done"] >= 1)
    assert "Asked to stop" in grid("stop")
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 130
    assert 0 < status()["done"] < 14
    grid("run")
    all_are_right()


def test_a_budget_ends_at_the_end_of_a_cell(place, monkeypatch):
    monkeypatch.setenv("PEFTBENCH_REHEARSAL_SECONDS", "1")
    out = grid("run", "--workers", 1, "--max-hours", 2.5 / 3600, status=3)
    done = len(events(out, "ended"))
    assert 0 < done < 4  # of the four that it was given at once
    assert f"{14 - done} left" in out.splitlines()[-1]
    monkeypatch.delenv("PEFTBENCH_REHEARSAL_SECONDS")
    grid("run")
    all_are_right()


def test_ctrl_c_is_heard_after_a_budget_as_well(place):
    run = started("--workers", 1, "--max-hours", 1.5 / 3600, PEFTBENCH_REHEARSAL_SECONDS="100")
    until(lambda: '"began"' in run.stdout.readline())
    time.sleep(2.5)  # the cell at hand goes on
    assert run.poll() is None
    run.send_signal(signal.SIGINT)
    begun = time.monotonic()
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, (out, err)
    assert time.monotonic() - begun < 30
    assert events(out, "note")[-1]["message"].startswith("stopping: trainings keep their last step")
