"""Odd models, odd folders, full disks and replaced files: one sentence each, and never a wrong number."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import peftbench
from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import call, finished, refused, rows, world  # noqa: F401  (fixtures)
from tests.synthetic import edit


@pytest.fixture
def model(tmp_path):
    return Path(save_tiny_model(str(tmp_path / "odd")))


def a_config(tmp_path, world, model, **lines):  # noqa: F811
    keys = {
        "model": model, "dataset": "rte", "method": "{name: lora, rank: 2}",
        "data": f"{{directory: {world / 'data'}, allow_partial: true}}",
        "training": "{epochs: 1, validations: 3}", "threads": 1, "output": tmp_path / "runs", **lines,
    }  # fmt: skip
    file = tmp_path / "train.yaml"
    file.write_text("".join(f"{key}: {value}\n" for key, value in keys.items()))
    return file


def edited(model, file="config.json", **changes):
    values = json.loads((model / file).read_text())
    (model / file).write_text(json.dumps({**values, **changes}))


def test_missing_weights_are_never_made_up(tmp_path, world, model):  # noqa: F811
    weights = model / "model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if ".layers.1." not in name}
    save_file(kept, weights, metadata={"format": "pt"})
    err = refused("is incomplete: its files hold no weights", "run", a_config(tmp_path, world, model))
    assert "model.layers.1." in err


def test_an_adapter_in_the_model_folder_is_refused(tmp_path, world, model):  # noqa: F811
    (model / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))
    refused("holds an adapter", "run", a_config(tmp_path, world, model))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_hidden_layers": "two"}, {"num_attention_heads": 0}, {"num_attention_heads": 3}, {"vocab_size": -1},
        {"hidden_size": 64}, {"dtype": "evil"}, {"rope_scaling": "x"}, {"quantization_config": {"quant_method": "gptq"}},
        {"quantization_config": "text"}, {"pad_token_id": 99999},
    ],
    ids=str,
)  # fmt: skip
def test_an_odd_configuration_of_a_model_is_one_sentence(tmp_path, world, model, changes):  # noqa: F811
    edited(model, **changes)
    refused("odd", "run", a_config(tmp_path, world, model))


@pytest.mark.parametrize("content", ["[]", '"text"', "[" * 3000, "\x00"])
def test_a_config_json_that_is_none(tmp_path, world, model, content):  # noqa: F811
    (model / "config.json").write_text(content)
    refused("cannot be loaded", "run", a_config(tmp_path, world, model))


def test_damaged_weights_and_dangling_links(tmp_path, world, model):  # noqa: F811
    (model / "extra.json").symlink_to(tmp_path / "nowhere")
    refused("odd", "run", a_config(tmp_path, world, model))
    (model / "extra.json").unlink()
    (model / "model.safetensors").write_bytes(b"")
    refused("odd", "run", a_config(tmp_path, world, model))


def test_a_model_cannot_choose_the_code_of_its_attention(tmp_path, world, model):  # noqa: F811
    edited(model, _attn_implementation="evil/kernel")
    code, _, err = call("run", a_config(tmp_path, world, model))
    assert code == 0, err


def test_a_tokenizer_larger_than_the_embedding(tmp_path, world):  # noqa: F811
    model = Path(save_tiny_model(str(tmp_path / "odd"), vocab_size=200))
    refused("has 200 token embeddings but its tokenizer 261 tokens", "run", a_config(tmp_path, world, model))


def test_a_template_that_asks_for_the_time_gets_the_same_day_every_day(model):
    from peftbench.engine.tokens import chat_format
    from tests.unit.test_tokens import tiny_tokenizer

    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ strftime_now('%Y-%m-%d') }}" + tokenizer.chat_template
    assert chat_format(tokenizer).head.startswith("26 Jul 2024<s>")


def test_text_of_a_template_cannot_steer_the_terminal(tmp_path, world, model):  # noqa: F811
    (model / "chat_template.jinja").write_text("{{ raise_exception('\x1b]0;owned\x07') }}")
    err = refused("\\x1b]0;owned\\x07", "run", a_config(tmp_path, world, model))
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("{name: lora, targets: [value, v_proj]}", None),
        ("{name: lora, targets: []}", "no target is named"),
        ("{name: ia3, targets: [down], feedforward_targets: [down]}", "is in targets and in feedforward_targets"),
        ("{name: ia3, targets: [], feedforward_targets: []}", "neither targets nor feedforward_targets"),
    ],
)
def test_targets_that_overlap_or_are_none(tmp_path, world, method, expected):  # noqa: F811
    config = a_config(tmp_path, world, world / "model", method=method)
    if expected:
        refused(expected, "train", config)
        return
    code, out, _ = call("train", config, "--json")
    assert code == 0
    assert json.loads(out)["train"]["trainable_params"] == 3 * 16 * (32 + 16), "a role and its module are one"


def test_a_part_of_a_fused_projection_and_the_whole_are_not_trained_twice(tmp_path, world):  # noqa: F811
    model = Path(save_tiny_model(str(tmp_path / "phi"), "phi3"))
    config = a_config(tmp_path, world, model, method="{name: lora, targets: [value, qkv_proj]}")
    refused("act on the same outputs", "train", config)
    config = a_config(tmp_path, world, model, method="{name: ia3, feedforward_targets: [gate, up]}")
    refused("cannot scale the input of a part of the fused projection", "train", config)


def test_predict_refuses_another_model_and_a_damaged_adapter(finished, tmp_path):  # noqa: F811
    folder = tmp_path / "run"
    shutil.copytree(finished[0]["folder"], folder)
    weights = folder / "adapter" / "adapter_model.safetensors"
    before = weights.read_bytes()
    save_file({name: tensor * 0 for name, tensor in load_file(weights).items()}, weights)
    refused("is damaged or replaced", "predict", folder, stdin="a line\n")
    weights.write_bytes(before)
    other = save_tiny_model(str(tmp_path / "other"), seed=9)
    described = json.loads((folder / "config.json").read_text())
    edit(folder / "config.json", config=described["config"] | {"model": other})
    refused("is not the one that run", "predict", folder, stdin="a line\n")


def test_a_damaged_adapter_is_trained_again_with_the_same_weights(tmp_path):
    config = {
        "model": save_tiny_model(str(tmp_path / "model")), "dataset": "rte", "method": "ia3", "threads": 1,
        "data": {"allow_partial": True}, "training": {"epochs": 1, "validations": 2}, "output": str(tmp_path / "runs"),
    }  # fmt: skip
    own = {"train": rows(24), "test": rows(6, 100)}
    first = peftbench.run(config, rows=own)
    weights = Path(first.folder) / "adapter" / "adapter_model.safetensors"
    before = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    weights.write_bytes(b"")
    again = peftbench.run(config, rows=own)
    assert all(torch.equal(before[name], tensor) for name, tensor in load_file(weights).items())
    assert again.train.adapter_sha256 == first.train.adapter_sha256


@pytest.mark.parametrize("limit", [8000, 40000])
def test_a_disk_that_fills_up_is_one_sentence(tmp_path, world, limit):  # noqa: F811
    """A limit on the size of files stands for the disk: the system itself refuses to write."""
    config = a_config(tmp_path, world, world / "model", method="{name: lora, rank: 64}")

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    done = subprocess.run(
        [sys.executable, "-B", "-m", "peftbench", "train", str(config)],
        capture_output=True, text=True, timeout=120, preexec_fn=limited,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "cannot write" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "runs").glob("**/*.draft"))
    assert not list((tmp_path / "runs").glob("**/train.json"))


def test_score_wants_a_folder_that_is_there_and_all_of_its_rows(finished, tmp_path):  # noqa: F811
    import pyarrow.parquet as pq

    folder = tmp_path / "run"
    shutil.copytree(finished[0]["folder"], folder)
    refused("does not exist", "score", folder / "eval-typo")
    refused("is no finished evaluation", "score", folder / "adapter")
    file = next(folder.glob("eval-*/predictions.parquet"))
    pq.write_table(pq.read_table(file)[:4], file)
    refused("is not what its record was made from", "score", folder)
    edit(file.with_name("result.json"), predictions_sha256=None)  # as records of earlier versions are
    refused("holds 4 rows, its record 12", "score", folder)


def test_values_that_no_computer_has(tmp_path, world):  # noqa: F811
    config = a_config(tmp_path, world, world / "model")
    for setting, expected in {
        "threads=99999999999": "threads", "method.rank=1000000000000": "rank", "method.alpha=1e308": "alpha",
        'output="a\\0b"': "output", 'model="\\uD800"': "model", f"output={'a' * 5000}": "output",
        "training={[1,2]: 3}": "training", "training=&a {epochs: *a}": "anchors", "device=mps": "mps",
    }.items():  # fmt: skip
        refused(expected, "train", config, "--set", setting)


def test_training_the_base_model(tmp_path, world):  # noqa: F811
    refused("trains nothing; use `run`", "train", a_config(tmp_path, world, world / "model", method="base"))


def test_a_missing_package_is_named(tmp_path, world, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "peftbench.execute", None)
    real = __import__

    def without_torch(name, *args, **others):
        if name == "peftbench.execute":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")
        return real(name, *args, **others)

    monkeypatch.setattr("builtins.__import__", without_torch)
    refused("torch is not installed", "run", a_config(tmp_path, world, world / "model"))


@pytest.mark.parametrize("references", [[None], [1], [[1]], [["0", None]]])
def test_references_that_are_no_texts(references):
    with pytest.raises(peftbench.DataError, match="row 0"):
        peftbench.score("rte", ["entailment"], references)


@pytest.mark.parametrize("value", [True, 10**400, float("nan"), "5", None])
def test_costs_that_are_no_numbers(value):
    with pytest.raises(peftbench.ConfigError, match="expected a finite number"):
        peftbench.pscp(value, 1, 1, 1)


@pytest.mark.parametrize("method", ["prompt_tuning", "prefix_tuning"])
def test_a_prefix_longer_than_the_limit(tmp_path, world, method):  # noqa: F811
    config = a_config(tmp_path, world, world / "model", method=f"{{name: {method}, virtual_tokens: 600}}")
    refused("600 virtual tokens leave no room for text within 512 tokens", "train", config)
