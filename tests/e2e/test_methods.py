"""Methods beyond the paper's six, from a configuration to scores, on the model that comes with the package."""

import json

import peft
import pytest
import torch
from transformers import AutoModelForCausalLM

import peftbench
from peftbench.engine.loading import located
from peftbench.errors import ConfigError
from peftbench.grid import load_grid
from tests.e2e.test_cli import call, refused

GRID = """
name: several
models: [peftbench-tiny]
datasets: [sst2@mini]
seeds: [1, 2]
train_rows: [32]
methods:
  - lora
  - {name: dora, each: {r: [2, 4]}}
  - {name: vera, r: 16}
  - {name: svft, rank: 16}
  - full
run:
  threads: 1
  training: {epochs: 1, validations: 1, learning_rate: 1e-3}
  evaluation: {test_rows: 6}
"""


def config_of(tmp_path, method, seed=1):
    return {
        "model": "peftbench-tiny",
        "dataset": "sst2@mini",
        "method": method,
        "seed": seed,
        "data": {"train_rows": 32},
        "training": {"epochs": 1, "validations": 2, "learning_rate": 1e-3},
        "evaluation": {"test_rows": 6},
        "engine": {"tokens_per_step": 10_000},
        "output": str(tmp_path),
        "threads": 1,
    }


def test_methods_that_train_alone_and_together_stand_in_one_call(tmp_path):
    methods = [
        {"name": "lora", "dropout": 0.0},
        "bitfit",
        "dora",
        {"name": "adalora", "init_r": 4, "target_r": 2},
        "last_layers",
    ]
    results = peftbench.run_many([config_of(tmp_path, method, seed) for method in methods for seed in (1, 2)])
    assert all(result.status == "done" for result in results)
    sizes = {result.config.method.name: result.train.group_size for result in results}
    assert sizes == {"lora": 4, "bitfit": 4, "dora": 1, "adalora": 1, "last_layers": 1}
    dora = next(result for result in results if result.config.method.name == "dora")
    assert dora.train.trainable_dtype == "float32"
    assert dora.train.provenance.packages["peft"] == peft.__version__


@pytest.mark.parametrize("method", ["adalora", "pissa", "vera", "bitfit", "svft"])
def test_peft_loads_the_adapter_of_a_run_and_says_what_the_run_says(tmp_path, method):
    result = peftbench.run(config_of(tmp_path, method))
    assert result.status == "done"
    [stored] = [path.parent for path in tmp_path.rglob("adapter_config.json")]
    assert json.loads((stored / "adapter_config.json").read_text())["peft_type"] in peft.PeftType.__members__
    base = AutoModelForCausalLM.from_pretrained(located("peftbench-tiny"), dtype=torch.float32)
    ids = torch.tensor([[1, 5, 6, 7, 8]])
    with torch.no_grad():
        plain = base(input_ids=ids).logits
        adapted = peft.PeftModel.from_pretrained(base, str(stored)).eval()(input_ids=ids).logits
    assert torch.isfinite(adapted).all()
    assert float((adapted - plain).abs().max()) > 1e-4


def test_they_are_cells_of_a_grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text(GRID)
    assert len(load_grid(tmp_path / "grid.yaml")[1]) == 12
    code, out, err = call("grid", "run", "grid.yaml")
    assert code == 0, (out, err)
    rows = peftbench.results("runs")
    assert len(rows) == 12
    assert set(rows["status"]) == {"done"}


def test_settings_are_checked_before_anything_is_loaded(tmp_path):
    with pytest.raises(ConfigError, match="unknown key 'rank'; known are lora_alpha, r, targets"):
        peftbench.run(config_of(tmp_path, {"name": "dora", "rank": 4}))
    refused(
        "unknown key 'block_sise'; did you mean 'block_size'", "show", "method", "c3a", "--set", "block_sise=3"
    )
