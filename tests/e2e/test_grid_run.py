"""`peftbench grid run`, `status`, `retry` and `gc`: rehearsed grids that meet accidents."""

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from tests.e2e.grids import all_are_right, cells, events, grid, started, status, until
from tests.e2e.test_cli import refused


def test_all_cells_are_done_and_the_same_command_has_nothing_left(place):
    out = grid("run", "--workers", 2)
    assert {each["status"] for each in events(out, "ended")} == {"done"}
    assert len(events(out, "ended")) == 14
    assert "14 done, 0 failed" in out.splitlines()[-1]
    all_are_right()
    out = grid("run")
    assert not events(out, "ended")
    assert "0 done, 0 failed" in out.splitlines()[-1]
    found = status()
    assert (found["done"], found["failed"], found["pending"], found["workers"]) == (14, 0, 0, [])
    assert found["by_method"]["lora"] == {"done": 6, "failed": 0, "pending": 0}
    assert "drill in runs/drill-rehearsal: 14 of 14 cells done" in grid("status")


def test_a_rehearsal_is_never_taken_for_the_real_thing(place):
    grid("run")
    assert json.loads(grid("status", "--json", rehearse=False))["done"] == 0
    assert not (place / "runs" / "drill").exists()


@pytest.mark.parametrize(
    ("accident", "reason", "message"),
    [
        ("crash", "crashed", "its worker was ended by SIGKILL, perhaps for want of memory"),
        ("hang", "hung", "its worker said nothing for"),
        ("refused", "refused", "these rows are not there; put them there"),
        ("error", "error", "RuntimeError: rehearsed error"),
        ("memory", "out_of_memory", "there is no more memory"),
    ],
)
def test_an_accident_costs_no_other_cell_and_has_a_reason(place, monkeypatch, accident, reason, message):
    victim = cells()["lora on cb, seed 2"]
    monkeypatch.setenv("PEFTBENCH_REHEARSAL_ACCIDENTS", f"{victim}={accident}")
    out = grid("run", *(["--patience", 0.1] if accident == "hang" else []), status=1)  # six seconds
    assert "13 done, 1 failed" in out.splitlines()[-1]
    [failure] = status()["failures"]
    assert (failure["label"], failure["reason"]) == ("lora on cb, seed 2", reason)
    assert message in failure["message"]
    assert f"Failed, {reason}, 1:" in grid("status")
    monkeypatch.delenv("PEFTBENCH_REHEARSAL_ACCIDENTS")
    assert not events(grid("run", status=1), "ended")  # it is left alone until that is said
    refused(
        "no cell failed with reason 'nonfinite'",
        "grid",
        "retry",
        "grid.yaml",
        "--rehearse",
        "--reason",
        "nonfinite",
    )
    assert "1 cells are pending again" in grid("retry", "--reason", reason)
    assert "1 done, 0 failed" in grid("run").splitlines()[-1]
    all_are_right()


def test_a_full_disk_ends_the_grid_in_one_sentence_and_costs_nothing(place, monkeypatch):
    victim = cells()["ia3 on copa, seed 1"]
    monkeypatch.setenv("PEFTBENCH_REHEARSAL_ACCIDENTS", f"{victim}=disk")
    refused("cannot write here: No space left on device; make room", "grid", "run", "grid.yaml", "--rehearse")
    monkeypatch.delenv("PEFTBENCH_REHEARSAL_ACCIDENTS")
    found = status()
    assert found["failed"] == 0
    assert 0 < found["done"] < 14
    grid("run")
    all_are_right()


def test_modules_in_the_working_directory_are_not_taken_for_ours(place):
    (place / "queue.py").write_text("raise SystemExit('queue.py of the working directory')")
    assert "14 done, 0 failed" in grid("run")


def test_a_records_folder_that_is_taken_away_ends_it_in_one_sentence(place):
    run = started("--workers", 2, PEFTBENCH_REHEARSAL_SECONDS="0.5")
    until(lambda: '"ended"' in run.stdout.readline())
    Path("runs/drill-rehearsal").rename("elsewhere")
    Path("runs/drill-rehearsal").write_text("")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 2
    # By what was to be written next, or by a look at what is there.
    said = ("cannot write runs/drill-rehearsal/", "folder runs/drill-rehearsal was removed or is out of reach;")
    assert err.startswith(tuple(f"peftbench: {each}" for each in said))
    assert "Traceback" not in err
    assert err.count("\n") == 1


def test_a_records_folder_that_is_deleted_ends_it_in_one_sentence(place):
    run = started("--workers", 1, PEFTBENCH_REHEARSAL_SECONDS="100")
    until(lambda: '"began"' in run.stdout.readline())
    shutil.rmtree("runs/drill-rehearsal")
    _, err = run.communicate(timeout=60)
    assert run.returncode == 2
    assert err.startswith(
        "peftbench: folder runs/drill-rehearsal was removed or is out of reach; the same command"
    )
    assert err.count("\n") == 1


def test_the_log_of_a_worker_has_a_bound(place, tmp_path):
    from peftbench.workerprocess import MOST_LOG_BYTES, WorkerProcess

    worker = WorkerProcess(1, "rehearse", tmp_path, None)
    try:
        worker.log.write_bytes(b"x" * MOST_LOG_BYTES)
        worker.give([])
        assert worker.log.stat().st_size == MOST_LOG_BYTES
        with worker.log.open("ab") as log:
            log.write(b"\nlast words\n\n")
        assert worker.last_words() == "last words"
        worker.give([])
        assert worker.log.stat().st_size == 0
    finally:
        worker.kill()
        worker.process.wait()


def test_a_run_that_shares_its_model_has_a_gpu_for_each_process(place):
    from peftbench.grid import load_grid
    from peftbench.gridrun import local_options

    shared = load_grid(Path("grid.yaml"), ["run.engine.processes=2"])[1]
    assert local_options(shared, devices="0,1,2,3,4").devices == ("0,1", "2,3")
    assert local_options(shared, devices="3").devices == ("3",)
    assert local_options(load_grid(Path("grid.yaml"))[1], devices="0,1").devices == ("0", "1")


def test_two_at_once_do_every_cell_once(place):
    runs = [started("--workers", 1, PEFTBENCH_REHEARSAL_SECONDS="0.1") for _ in range(3)]
    for run in runs:
        _, err = run.communicate(timeout=60)
        assert run.returncode in (0, 3), err  # 3 where another one had the last cells
    all_are_right()


def test_under_fire_every_cell_is_done_once(tmp_path):
    from bench.kills import bombard

    seed = 16  # printed with the outcome; the long part is in docs/faults.md
    found = bombard(tmp_path, kills=30, cells=40, workers=3, seed=seed, seconds_per_cell=0.3)
    print(seed, found)
    assert found.kills >= 15
    assert (found.lost, found.duplicated, found.wrong, found.unreadable) == (0, 0, 0, 0)


def test_status_shows_who_is_at_work(place):
    run = started("--workers", 1, PEFTBENCH_REHEARSAL_SECONDS="0.8")
    found = until(lambda: Path("runs/drill-rehearsal").exists() and status()["workers"])
    assert found[0]["phase"] == "rehearsing"
    assert found[0]["cells"]
    assert ", at work, " in grid("status")
    run.kill()
    run.communicate()
    until(lambda: ", gone, " in grid("status"), 10)


def test_shards_are_done_apart_and_make_the_whole(place):
    for part in ("1/2", "2/2"):
        grid("run", "--shard", part)
    assert status()["done"] == 14
    all_are_right()


def test_gc_names_first_and_removes_only_what_nobody_needs(place):
    grid("run")
    [*_, record] = Path("runs/drill-rehearsal").rglob("train.json")
    left = record.parent / "checkpoint" / "step-1"
    left.mkdir(parents=True)
    (left / "state").write_text("x" * 1000)
    draft = record.parent / ".train.json-abc.draft"
    draft.write_text("half")
    new = record.parent / ".train.json-new.draft"
    new.write_text("half")
    hours_ago = time.time() - 7200
    os.utime(draft, (hours_ago, hours_ago))
    before = {file for file in Path("runs").rglob("*") if file.is_file()}
    out = grid("gc")
    assert "checkpoints of a finished training" in out
    assert "nothing was removed yet, --yes removes them" in out
    assert {file for file in Path("runs").rglob("*") if file.is_file()} == before
    assert "Removed: 2" in grid("gc", "--yes")
    assert before - {file for file in Path("runs").rglob("*") if file.is_file()} == {left / "state", draft}
    assert "Nothing to remove." in grid("gc")


def test_notes_of_a_machine_that_is_gone_are_removed(place):
    from peftbench.gridstate import GridState, WorkerNote

    grid("run")
    state, old = GridState(Path("runs/drill-rehearsal")), time.time() - 7200
    state.note(WorkerNote(worker="far-1-1", host="far", pid=1, grid="drill", cells=(), at=old))
    state.note(WorkerNote(worker="far-1-2", host="far", pid=1, grid="drill", cells=(), at=time.time()))
    for file in state.folder.glob("workers/*"):
        os.utime(file, (old, old))
    assert "Removed: 1" in grid("gc", "--yes")
    assert [each.worker for each in state.workers()] == ["far-1-2"]


# -------------------------------------------------------------------------------------------------- for real
