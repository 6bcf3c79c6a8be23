"""A training that is told to stop keeps its last step; two of the same run never train at once."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import peftbench
from peftbench import evaluations
from peftbench.observer import Observer
from peftbench.store import RunFolder
from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import rows

OWN = {"train": rows(40), "test": rows(6, 100)}


def config_of(tmp_path, name="runs", **changes):
    return {
        "model": str(tmp_path / "model"), "dataset": "rte", "method": "ia3", "threads": 1,
        "training": {"epochs": 2, "validations": 3, "learning_rate": 1e-2}, "output": str(tmp_path / name), **changes,
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _heard():
    """Signals as a shell hands them to a command in front, whoever started the tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class StopAt(Observer):
    def __init__(self, step, signal_number):
        self.at, self.number, self.notes = step, signal_number, []

    def step(self, run, step, steps, loss):
        if step == self.at:
            os.kill(os.getpid(), self.number)

    def note(self, run, text):
        self.notes.append(text)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("step", [1, 5, 6])
def test_a_run_that_is_told_to_stop_goes_on_from_its_last_step(tmp_path, number, step):
    save_tiny_model(str(tmp_path / "model"))
    whole = peftbench.run(config_of(tmp_path, "whole"), rows=OWN)
    observer = StopAt(step, number)
    with pytest.raises(KeyboardInterrupt):
        peftbench.run(config_of(tmp_path), rows=OWN, observer=observer)
    assert f"stopped after step {step} of 18, which is kept" in observer.notes
    listening = Observer()
    notes = []
    listening.note = lambda run, text: notes.append(text)
    again = peftbench.run(config_of(tmp_path), rows=OWN, observer=listening)
    assert f"goes on after step {step} of 18" in notes
    curves = [
        [
            {**json.loads(line), "seconds": 0, "peak_memory_bytes": 0}
            for line in (Path(each.folder) / "curve.jsonl").open()
        ]
        for each in (whole, again)
    ]
    assert curves[0] == curves[1]
    assert again.train.adapter_sha256 == whole.train.adapter_sha256
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_curve_can_be_followed_while_a_run_trains(tmp_path):
    save_tiny_model(str(tmp_path / "model"))
    seen = []

    class Reader(Observer):
        def point(self, run, point):
            file = next((tmp_path / "runs").glob("**/curve.jsonl"))
            seen.append(len(file.read_text().splitlines()))

    peftbench.run(config_of(tmp_path), rows=OWN, observer=Reader())
    assert seen == [1, 2, 3]


def test_one_run_is_trained_by_one_process_at_a_time(tmp_path):
    folder = RunFolder(tmp_path)
    script = (
        "import sys, time; from pathlib import Path; from peftbench.store import RunFolder\n"
        "with RunFolder(Path(sys.argv[1])).training_alone():\n"
        "    print('held', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(peftbench.DataError, match="is being trained by another process"),
            folder.training_alone(),
        ):
            pass
        other.kill()
        other.wait()
        time.sleep(0.1)
        with folder.training_alone():  # a process that was killed holds nothing
            pass
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_a_record_is_written_is_not_forgotten(tmp_path, monkeypatch):
    save_tiny_model(str(tmp_path / "model"))
    real = RunFolder.write_curve

    def interrupted(folder, points):
        os.kill(os.getpid(), signal.SIGINT)
        real(folder, points)

    monkeypatch.setattr(RunFolder, "write_curve", interrupted)
    with pytest.raises(KeyboardInterrupt):
        peftbench.run(config_of(tmp_path), rows=OWN)
    [folder] = (tmp_path / "runs").glob("model/ia3/rte/*")
    assert (folder / "train.json").is_file(), "what was being written is whole"


def test_the_same_run_in_two_folders_is_made_in_both(tmp_path):
    save_tiny_model(str(tmp_path / "model"))
    first, second = peftbench.run_many([config_of(tmp_path, "a"), config_of(tmp_path, "b")], rows=OWN)
    assert first.train.train_id == second.train.train_id
    assert first.train.adapter_sha256 == second.train.adapter_sha256
    assert first.primary == second.primary


def test_a_run_that_another_process_finished_meanwhile_is_read_back(tmp_path, monkeypatch):
    save_tiny_model(str(tmp_path / "model"))
    real = RunFolder.training_alone
    others = []

    def late(folder):
        if not others:
            others.append(1)
            others.append(peftbench.run(config_of(tmp_path), rows=OWN))
        return real(folder)

    monkeypatch.setattr(RunFolder, "training_alone", late)
    again = peftbench.run(config_of(tmp_path), rows=OWN)
    assert again.train == others[1].train


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    save_tiny_model(str(tmp_path / "model"))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    result = peftbench.run(config_of(tmp_path), rows=OWN, observer=StopAt(5, signal.SIGINT))
    assert result.train.steps == 18


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_the_file_system_keeps_no_lock_two_train_and_the_first_record_stands(tmp_path, monkeypatch, number):
    import peftbench.execute
    import peftbench.training

    def no_lock(handle, operation):
        raise OSError(number, os.strerror(number))

    def late(module, name, rival):
        """The rival comes in between when this one is about to write."""
        real, found = getattr(module, name), []

        def wrapped(*arguments):
            if not found:
                found.append(None)
                found[0] = rival()
                files = Path(found[0].folder).rglob("*")
                stored.update(
                    {file: file.read_bytes() for file in files if file.is_file() and file.suffix != ".lock"}
                )
            return real(*arguments)

        monkeypatch.setattr(module, name, wrapped)
        return found

    stored = {}
    monkeypatch.setattr("fcntl.flock", no_lock)
    save_tiny_model(str(tmp_path / "model"))
    trained = late(peftbench.training, "_write_training",
                   lambda: peftbench.run(config_of(tmp_path), rows=OWN, evaluate=False))  # fmt: skip
    scored = late(evaluations, "score_both", lambda: peftbench.run(config_of(tmp_path), rows=OWN))
    result = peftbench.run(config_of(tmp_path), rows=OWN)
    assert result.train == trained[0].train
    assert result.evaluation == scored[0].evaluation
    assert {file: file.read_bytes() for file in stored} == stored
