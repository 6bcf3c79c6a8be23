"""Mirrors: what they tell, that they never stand in the way of a run, and what becomes of a tracker that misbehaves."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from peftbench import mirrors, tracker_process
from peftbench.config import run_config
from peftbench.errors import ConfigError
from peftbench.mirrors import described, final_values, mirrored
from peftbench.observer import Observer
from peftbench.records import CurvePoint, RunResult

FAKES = Path(__file__).parents[1] / "fake_trackers"


class Ear(Observer):
    """Keeps what an observer hears."""

    def __init__(self):
        self.notes, self.heard = [], []

    def note(self, run, text):
        self.notes.append(text)

    def step(self, run, step, steps, loss):
        self.heard.append(("step", run, step))

    def point(self, run, point):
        self.heard.append(("point", run, point.step))

    def ended(self, run, result):
        self.heard.append(("ended", run))


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """Stand-ins for three trackers; gives a function that reads what they were told."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "heard.jsonl"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    def heard(what=None):
        file = tmp_path / "heard.jsonl"
        found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
        return [each for each in found if what in (None, each["what"])]

    return heard


def config_of(tmp_path, *tracking, seed=1, **changes):
    return run_config({"model": "owner/tiny", "dataset": "rte", "method": {"name": "lora", "rank": 4, "targets": ["key"]}, "seed": seed,
                       "output": str(tmp_path / "runs"), "tracking": tracking, **changes})  # fmt: skip


def point(step, **changes):
    values = {"step": step, "epoch": 1.0, "learning_rate": 1e-3, "train_loss": 2.0, "validation_loss": 1.5,
              "validation_loss_of_batches": 1.6, "grad_norm": 0.5, "peak_memory_bytes": 7, "seconds": 3.0}  # fmt: skip
    return CurvePoint(**{**values, **changes})


def make_run(tmp_path, ear, *tracking, points=2, seeds=(1,), **changes):
    """What `run_many` tells of runs with a curve of so many points; returns the seconds that it was held up."""
    configs = [config_of(tmp_path, *tracking, seed=seed, **changes) for seed in seeds]
    with mirrored(ear, configs) as told:
        begun = time.monotonic()
        for number, config in enumerate(configs):
            told.planned(
                number, config, f"id{config.seed}", tmp_path / "runs" / "tiny" / "lora" / f"seed{config.seed}"
            )
        for step in range(1, points + 1):
            for number in range(len(configs)):
                told.step(number, step, points, 1.0)
                told.point(number, point(step))
        for number, config in enumerate(configs):
            told.ended(number, RunResult(folder="x", config=config, train=None, evaluation=None))
        return time.monotonic() - begun


# -------------------------------------------------------------------------------------------- what is told


def test_only_listed_fields_are_told(tmp_path):
    config = config_of(tmp_path, data={"directory": str(tmp_path / "private")}, model=str(tmp_path))
    told = described(config, "0123456789ab")
    assert set(told) == {
        "run_id", "model", "peftbench", "method", "method.rank", "dataset", "seed", "protocol", "dtype", "training.epochs",
        "training.batch_size", "training.learning_rate", "training.warmup_ratio", "training.weight_decay",
        "training.max_grad_norm", "training.validations", "training.max_tokens",
    }  # fmt: skip
    assert told["model"] == tmp_path.name
    assert str(tmp_path) not in str(told)
    assert "private" not in str(told)


def test_final_values_are_numbers_that_are_there(tmp_path):
    result = RunResult(folder="x", config=config_of(tmp_path), train=None, evaluation=None)
    assert final_values(result) == {}


def test_each_run_has_a_run_of_its_own_in_each_tracker(tmp_path, fakes):
    ear = Ear()
    make_run(tmp_path, ear, "wandb", "mlflow", "trackio", seeds=(1, 2), tracking_project="mine")
    assert ear.notes == []
    assert ear.heard == [
        *(each for step in (1, 2) for run in (0, 1) for each in (("step", run, step), ("point", run, step))),
        ("ended", 0),
        ("ended", 1),
    ]
    for tracker in ("wandb", "mlflow", "trackio"):
        own = [each for each in fakes() if each["tracker"] == tracker]
        assert [each["name"] for each in own if each["what"] == "start"] == [
            "lora-rte-seed1-id1",
            "lora-rte-seed2-id2",
        ]
        curve = [(each["run"], each["step"]) for each in own if each["what"] == "log" and each.get("values")]
        if tracker == "mlflow":
            curve = [
                (each["run"], each["metrics"][0][1]) for each in own if each["what"] == "log" and each["metrics"]
            ]
        assert curve[:4] == [(f"lora-rte-seed{seed}-id{seed}", step) for step in (1, 2) for seed in (1, 2)]
        assert len([each for each in own if each["what"] == "finish"]) == 2
    [first, _] = [each for each in fakes("start") if each["tracker"] == "wandb"]
    off = {
        "disable_code",
        "disable_git",
        "disable_job_creation",
        "x_disable_stats",
        "x_disable_meta",
        "x_disable_machine_info",
    }
    assert all(first["settings"][name] is True for name in off)
    assert first["settings"]["console"] == "off"
    assert first["settings"]["save_code"] is first["settings"]["x_save_requirements"] is False
    assert (first["project"], first["id"], first["resume"]) == ("mine", "id1", "allow")
    values = [each["values"] for each in fakes("log") if each["tracker"] == "wandb"]
    assert values[0] == {"train_loss": 2.0, "validation_loss": 1.5, "learning_rate": 1e-3, "grad_norm": 0.5}


def test_a_run_is_told_only_to_the_trackers_that_it_names(tmp_path, fakes):
    configs = [
        config_of(tmp_path, "wandb", seed=1),
        config_of(tmp_path, seed=2),
        config_of(tmp_path, "trackio", seed=3),
    ]
    with mirrored(Ear(), configs) as told:
        for number, config in enumerate(configs):
            told.planned(number, config, f"id{config.seed}", tmp_path / "runs" / f"{config.seed}")
            told.point(number, point(1))
    assert {(each["tracker"], each["name"]) for each in fakes("start")} == {
        ("wandb", "lora-rte-seed1-id1"),
        ("trackio", "lora-rte-seed3-id3"),
    }


def test_the_same_run_asked_for_twice_is_one(tmp_path, fakes):
    ear = Ear()
    make_run(tmp_path, ear, "wandb", seeds=(1, 1))
    assert len(fakes("start")) == len(fakes("finish")) == 1
    assert ear.notes == []


def test_what_was_not_measured_is_left_out(tmp_path, fakes):
    with mirrored(Ear(), [config_of(tmp_path, "wandb")]) as told:
        told.planned(0, config_of(tmp_path), "id", tmp_path / "runs" / "x")
        told.point(0, point(1, validation_loss=None))
    assert fakes("log")[0]["values"] == {"train_loss": 2.0, "learning_rate": 1e-3, "grad_norm": 0.5}


def test_without_tracking_the_observer_itself_is_told_and_nothing_is_loaded(tmp_path):
    ear = Ear()
    with mirrored(ear, [config_of(tmp_path)]) as told:
        assert told is ear
    code = "import sys, peftbench.cli, peftbench.execute, peftbench.mirrors\nprint([n for n in ('tensorboard', 'wandb', 'mlflow', 'trackio') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


# ------------------------------------------------------------------------------------- what may go wrong


def test_a_tracker_that_is_not_installed_is_found_before_anything_is_done(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()  # the folder of runs that wandb leaves behind is no package
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with (
        pytest.raises(ConfigError, match=r"tracker 'wandb' is not installed; .* 'peftbench\[wandb\]'"),
        mirrored(Ear(), [config_of(tmp_path, "wandb")]),
    ):
        raise AssertionError("not reached")


@pytest.mark.parametrize("tracker", ["wandb", "mlflow", "trackio"])
@pytest.mark.parametrize("when", ["start", "log", "finish"])
@pytest.mark.parametrize("misdeed", ["raise", "exit"])
def test_what_a_tracker_throws_is_one_note(tmp_path, fakes, monkeypatch, tracker, when, misdeed):
    monkeypatch.setenv("FAKE", f"{when}={misdeed}")
    (tmp_path / "netrc").write_text("machine host login me password n3trc-secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "MLFLOW_TRACKING_TOKEN"):
        monkeypatch.setenv(name, f"{name[:3]}-t0p-secret")
    ear = Ear()
    make_run(tmp_path, ear, tracker, points=4)
    kind, text = ("ConnectionError", "no answer to") if misdeed == "raise" else ("SystemExit", "gave up")
    [note] = ear.notes
    assert note.startswith(f"tracker {tracker} failed at {when}: {kind}: {text} machine host")
    assert note.endswith("the run is not affected, its copy there is incomplete")
    assert "second line" not in note
    assert "n3trc-secret" not in note
    assert "t0p-secret" not in note
    assert "login me password ***" in note  # it was there to be found
    assert ear.heard[-1] == ("ended", 0)


def test_after_a_failed_call_the_others_are_made_all_the_same(tmp_path, fakes, monkeypatch):
    monkeypatch.setenv("FAKE", "log=raise")
    make_run(tmp_path, Ear(), "wandb", points=4)
    assert [each["step"] for each in fakes("log")] == [1, 2, 3, 4]
    assert len(fakes("finish")) == 1


def test_a_tracker_that_ends_the_process_is_one_note(tmp_path, fakes, monkeypatch):
    monkeypatch.setenv("FAKE", "log=die")
    ear = Ear()
    make_run(tmp_path, ear, "wandb", "trackio", points=3)
    assert len(ear.notes) == 2
    assert ear.notes[0].startswith("tracker wandb ended by itself with status 3")


@pytest.mark.parametrize("when", ["start", "finish"])
def test_a_tracker_that_hangs_is_waited_for_only_so_long(tmp_path, fakes, monkeypatch, when):
    monkeypatch.setattr(mirrors, "FINISH_SECONDS", 2.0)
    monkeypatch.setenv("FAKE", f"{when}=hang")
    ear = Ear()
    begun = time.monotonic()
    held_up = make_run(tmp_path, ear, "wandb", "trackio")
    assert held_up < 60.0  # it hangs for 1,000
    assert time.monotonic() - begun < 90.0
    assert sorted(ear.notes) == [
        f"tracker {name} did not come to an end in time and was stopped; the run is not affected, its copy there is incomplete"
        for name in ("trackio", "wandb")
    ]


def test_a_slow_tracker_holds_nothing_up_and_what_is_dropped_is_counted(tmp_path, fakes, monkeypatch):
    monkeypatch.setattr(tracker_process, "MOST_WAITING", 20)
    monkeypatch.setattr(mirrors, "FINISH_SECONDS", 2.0)
    monkeypatch.setenv("FAKE", "start=hang")
    ear = Ear()
    held_up = make_run(tmp_path, ear, "wandb", points=5000)  # more than the pipe to the process holds
    assert held_up < 60.0  # it hangs for 1,000
    assert [note for note in ear.notes if "validations were not copied to it" in note]
    assert len(ear.notes) == 2


def test_a_process_that_cannot_be_started_is_one_note(tmp_path, fakes, monkeypatch):
    monkeypatch.setattr("peftbench.tracker_process.PYTHON", (str(tmp_path / "none"),))
    ear = Ear()
    make_run(tmp_path, ear, "wandb")
    [note] = ear.notes
    assert note.startswith("tracker wandb could not be started (FileNotFoundError)")


def test_ctrl_c_comes_through_and_the_trackers_hear_that_the_run_stopped(tmp_path, fakes):
    config = config_of(tmp_path, "wandb", "mlflow")
    ear = Ear()

    def stopped():
        with mirrored(ear, [config]) as told:
            told.planned(0, config, "id", tmp_path / "runs" / "x")
            told.point(0, point(1))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert {each["tracker"]: each["status"] for each in fakes("finish")} == {"wandb": 1, "mlflow": "KILLED"}
    assert ear.notes == []


def test_ctrl_c_while_waiting_ends_the_trackers_at_once(tmp_path, fakes, monkeypatch):
    def wait(self, until):
        raise KeyboardInterrupt

    monkeypatch.setattr(tracker_process.Mirror, "wait", wait)
    monkeypatch.setenv("FAKE", "start=hang")
    config = config_of(tmp_path, "wandb")
    trackers = []

    def stopped():
        with mirrored(Ear(), [config]) as told:
            trackers.append(told.trackers["wandb"])
            told.planned(0, config, "id", tmp_path / "runs" / "x")
            told.point(0, point(1))

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert trackers[0].process.poll() is not None


def test_tensorboard_reads_what_is_written(tmp_path):
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    ear = Ear()
    make_run(tmp_path, ear, "tensorboard", points=3)
    assert ear.notes == []
    folder = tmp_path / "runs" / "tensorboard" / "tiny" / "lora" / "seed1"
    [file] = folder.iterdir()
    assert file.name.startswith("events.out.tfevents.")
    assert file.name.endswith(".peftbench")  # and no name of a machine
    found = EventAccumulator(str(folder))
    found.Reload()
    assert [(each.step, each.value) for each in found.Scalars("train_loss")] == [(1, 2.0), (2, 2.0), (3, 2.0)]
    assert set(found.Tags()["scalars"]) == {"train_loss", "validation_loss", "learning_rate", "grad_norm"}
    assert set(found.summary_metadata) >= {"_hparams_/session_start_info", "_hparams_/session_end_info"}
