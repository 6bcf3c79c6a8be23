"""Whole runs with the base model in shares over two processes: as one process has them, or one sentence."""

import json
import os
import subprocess
import sys

import pytest
import torch

from peftbench.engine.processes import let_go
from peftbench.predictions import read_predictions
from peftbench.store import find_run
from tests.e2e.test_cli import call, put_model_and_rows, refused


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("world")
    put_model_and_rows(root)
    (root / "train.yaml").write_text(
        f"model: {root / 'model'}\ndataset: rte\nmethod: {{name: lora, rank: 2}}\n"
        f"data: {{directory: {root / 'data'}, allow_partial: true}}\n"
        "training: {epochs: 1, learning_rate: 1e-2, validations: 3}\nthreads: 1\ndevice: cpu\n"
    )
    (root / "eval.yaml").write_text("max_new_tokens: 6\n")
    yield root
    let_go()


def the_run(root):
    (record,) = root.rglob("train.json")
    found = find_run(record.parent)
    (evaluation,) = found.evaluations()
    return json.loads(record.read_text()), [
        each.text for each in read_predictions(evaluation / "predictions.parquet", None)
    ]


@pytest.fixture(scope="module")
def of_one(world):
    assert call("run", world / "train.yaml", world / "eval.yaml", "--set", f"output={world / 'one'}")[0] == 0
    return the_run(world / "one")


def assert_as_one(found, of_one):
    (record, answers), (wanted, their_answers) = found, of_one
    assert record["config"]["engine"]["processes"] == 2
    assert record["train_id"] == wanted["train_id"]
    assert record["best_validation_loss"] == pytest.approx(wanted["best_validation_loss"], rel=1e-5)
    assert record["model"] == wanted["model"]
    assert answers == their_answers


def test_a_run_over_two_processes_is_that_of_one(world, of_one):
    options = ("--set", f"output={world / 'two'}", "--set", "engine.processes=2")
    code, out, err = call("run", world / "train.yaml", world / "eval.yaml", *options)
    assert code == 0, err
    assert "status: done" in out
    assert_as_one(the_run(world / "two"), of_one)


def test_a_run_under_torchrun_is_that_of_one(world, of_one):
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "peftbench", "run",
         world / "train.yaml", world / "eval.yaml", "--set", f"output={world / 'three'}"],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PEFTBENCH_DATA": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("status: done") == 1
    assert_as_one(the_run(world / "three"), of_one)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("0", "engine.processes is 0, expected greater than or equal to 1"),
        ("2.5", "engine.processes is 2.5, expected a whole number"),
        ("many", "engine.processes is 'many', expected"),
    ],
)
def test_numbers_of_processes_that_cannot_be(number, expected, world):
    refused(expected, "train", world / "train.yaml", "--set", f"engine.processes={number}")


def test_more_processes_than_gpus_are_refused_before_rows_are_read(world, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    options = ("--set", "device=cuda", "--set", "engine.processes=2")
    refused("2 processes were asked for but torch sees 1 CUDA devices", "train", world / "train.yaml", *options)
