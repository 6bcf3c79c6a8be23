"""`peftbench grid`: rehearsed grids that meet every accident, and a real one of a few tiny trainings."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftbench.predictions import read_predictions
from peftbench.rehearsal import expected_score
from peftbench.store import stored_results
from tests.e2e.test_cli import call, put_model_and_rows, refused

GRID = (
    "name: drill\nmodels: [peftbench-tiny]\nmethods: [base, ia3, lora]\ndatasets: [cb, copa]\nseeds: [1, 2, 3]\n"
    "run: {device: cpu, threads: 1}\n"
)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a grid of 14 cells, the working directory."""
    (tmp_path / "grid.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PEFTBENCH_DATA", raising=False)
    return tmp_path


def grid(command, *arguments, status=0, rehearse=True, file="grid.yaml"):
    code, out, err = call("grid", command, file, *arguments, *(["--rehearse"] if rehearse else []))
    assert code == status, (code, out, err)
    return out


def events(out, kind=None):
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [each for each in found if kind in (None, each["event"])]


def status(*arguments):
    return json.loads(grid("status", "--json", *arguments))


def cells():
    from peftbench.grid import load_grid

    return {str(cell): cell.id for cell in load_grid(Path("grid.yaml"))[1]}


def started(*arguments, **environment):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "peftbench", "grid", "run", "grid.yaml", "--rehearse", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def children(pid):
    """Processes whose parent it is."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(pid) and fields[0] != "Z":
            found.append(int(file.parent.name))
    return found


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def gone(pids):
    return not any(Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
                   for pid in pids)  # fmt: skip


def all_are_right():
    """Every cell has one record, with the score that is its own, and no draft is left."""
    results = stored_results(Path("runs/drill-rehearsal"))
    scores = sorted(result.evaluation.scores["corrected"].primary for result in results)
    assert scores == sorted(expected_score(cell) for cell in cells().values())
    assert not [file for file in Path("runs").rglob("*") if "draft" in file.name]


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
    out = grid("run", "--workers", 1, "--max-hours", 2.5 / 3600)
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
    assert err.startswith("peftbench: cannot write runs/drill-rehearsal/")
    assert "Traceback" not in err
    assert err.count("\n") == 1


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
        assert run.returncode == 0, err
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


# ------------------------------------------------------------------------------------------------- bad input


def test_two_grids_do_not_share_a_folder(place):
    grid("run")
    (place / "other.yaml").write_text(GRID.replace("name: drill", "name: other").replace(
        "run: {", "run: {output: runs/drill, "))  # fmt: skip
    refused(
        "holds the grid 'drill', not 'other'; choose another output", "grid", "run", "other.yaml", "--rehearse"
    )


def test_a_folder_of_a_newer_version_is_left_alone(place):
    grid("run")
    note = Path("runs/drill-rehearsal/.grid/grid.json")
    note.write_text('{"version": 99, "name": "drill"}')
    refused("was used by a newer version of peftbench", "grid", "run", "grid.yaml", "--rehearse")


def test_a_folder_that_cannot_be_written_to(place):
    (place / "runs").write_text("a file")
    refused("cannot write", "grid", "run", "grid.yaml", "--rehearse")


def test_a_record_that_cannot_be_read_is_named_and_its_cell_done_again(place):
    grid("run")
    [*_, record] = Path("runs/drill-rehearsal").rglob("result.json")
    record.write_text("{")
    found = status()
    assert found["done"] == 13
    assert "is not a record of this version" in found["unreadable"][0]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--workers", 0), "--workers is 0, expected a number above 0"),
        (("--max-hours", -1), "--max-hours is -1.0, expected a number above 0"),
        (("--patience", "nan"), "--patience is nan"),
        (("--attempts", 0), "--attempts is 0"),
        (("--devices", ","), "--devices names none"),
        (("--shard", "5/4"), "--shard is '5/4'"),
        (("--set", "overrides=[{seeds: 1, set: {output: elsewhere}}]"), "the cells go to 2 folders"),
        (("--set", "methods=[]"), "methods"),
    ],
)
def test_mistakes_are_one_sentence(place, arguments, expected):
    refused(expected, "grid", "run", "grid.yaml", "--rehearse", *arguments)


# -------------------------------------------------------------------------------------------------- for real


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("grid")
    put_model_and_rows(root)
    (root / "grid.yaml").write_text(
        f"name: real\nmodels: [{root / 'model'}]\nmethods: [base, {{name: lora, rank: 2, dropout: 0.0}}, ia3]\n"
        f"datasets: [rte]\nseeds: [1, 2]\nrun:\n  data: {{directory: {root / 'data'}, allow_partial: true}}\n"
        f"  training: {{epochs: 1, learning_rate: 1e-2, validations: 3}}\n  evaluation: {{max_new_tokens: 6}}\n"
        f"  device: cpu\n  threads: 1\n  output: {root / 'runs'}\n"
        # one that cannot succeed
        "overrides: [{methods: ia3, seeds: 2, set: {training: {learning_rate: 1e30}}}]\n"
    )
    return root


def test_a_real_grid_gives_what_single_runs_give(world, tmp_path):
    file = world / "grid.yaml"
    out = grid("run", "--workers", 1, status=1, rehearse=False, file=file)
    assert "4 done, 1 failed" in out.splitlines()[-1]
    assert any("validation_loss" in each for each in events(out, "validation"))
    found = json.loads(grid("status", "--json", rehearse=False, file=file))
    [failure] = found["failures"]
    assert (failure["label"], failure["reason"]) == ("ia3 on rte, seed 2", "nonfinite")
    assert not list((world / "runs").rglob("checkpoint"))
    (tmp_path / "train.yaml").write_text(
        f"model: {world / 'model'}\ndataset: rte\nmethod: {{name: lora, rank: 2, dropout: 0.0}}\nseed: 2\n"
        f"data: {{directory: {world / 'data'}, allow_partial: true}}\n"
        f"training: {{epochs: 1, learning_rate: 1e-2, validations: 3}}\ndevice: cpu\nthreads: 1\n"
        f"output: {tmp_path / 'runs'}\nengine: {{tokens_per_step: 1}}\n"
    )
    (tmp_path / "eval.yaml").write_text("max_new_tokens: 6\n")
    code, out, err = call("run", tmp_path / "train.yaml", tmp_path / "eval.yaml", "--json")
    assert code == 0, err
    alone = json.loads(out)
    folder = world / "runs" / Path(alone["folder"]).relative_to(tmp_path / "runs")
    evaluation = f"eval-{alone['evaluation']['eval_id']}"
    mine = read_predictions(folder / evaluation / "predictions.parquet", None)
    assert mine == read_predictions(Path(alone["folder"]) / evaluation / "predictions.parquet", None)
    # A failure that a record holds can be tried again; the record is set aside, not lost.
    assert "1 cells are pending again" in grid("retry", rehearse=False, file=file)
    assert len(list((world / "runs").rglob("train-failed-1.json"))) == 1
    assert json.loads(grid("status", "--json", rehearse=False, file=file))["pending"] == 1


def test_a_model_that_changes_is_noticed(world, tmp_path):
    import shutil

    model = tmp_path / "model"
    shutil.copytree(world / "model", model)
    settings = ("--set", f"models=[{model}]", "--set", "overrides=[]", "--set", f"run.output={tmp_path / 'runs'}")
    file = world / "grid.yaml"
    grid("run", *settings, "--set", "methods=[base]", rehearse=False, file=file)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "changed": True}))
    refused("has changed while the grid ran; records of two models are no comparison", "grid", "run", file, *settings,
            "--set", "methods=[base, ia3]")  # fmt: skip
