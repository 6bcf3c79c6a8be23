"""Real grids of a few tiny trainings."""

import json
import shutil
from pathlib import Path

import pytest

from peftbench.predictions import read_predictions
from tests.e2e.grids import events, grid
from tests.e2e.test_cli import call, put_model_and_rows, refused


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

    model = tmp_path / "model"
    shutil.copytree(world / "model", model)
    settings = ("--set", f"models=[{model}]", "--set", "overrides=[]", "--set", f"run.output={tmp_path / 'runs'}")
    file = world / "grid.yaml"
    grid("run", *settings, "--set", "methods=[base]", rehearse=False, file=file)
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "changed": True}))
    refused("has changed while the grid ran; records of two models are no comparison", "grid", "run", file, *settings,
            "--set", "methods=[base, ia3]")  # fmt: skip
