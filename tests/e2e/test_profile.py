"""`peftbench profile` and `peftbench calibrate` from the command line."""

import json

import pytest

from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import call, refused


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(str(tmp_path_factory.mktemp("model")))


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)


def test_a_prediction_needs_no_weights():
    code, out, _ = call("profile", "llama-3-8b", "lora", "--predict-only", "--device", "a100-40", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["trainable_params"] == 14_680_064
    assert found["base_forward_flops"] == pytest.approx(7.822e12, rel=1e-3)
    assert found["forward_flops"] == pytest.approx(7.837e12, rel=1e-3)
    assert found["merged_forward_flops"] == found["base_forward_flops"]
    assert found["peak_train_memory_bytes"] == sum(found["peak_train_memory"].values())
    assert found["estimated"] is True
    assert found["cost"]["device"] == "a100-40"
    assert found["cost"]["fits"] is True
    assert found["cost"]["step_seconds"]["low"] < found["cost"]["step_seconds"]["high"]
    assert found["measured"] is None
    assert found["definitions"]["Prediction"]["trainable_params"].startswith("Parameters that training changes")
    assert "operations" not in found["step"]


def test_predicted_and_measured_stand_side_by_side(model):
    code, out, _ = call("profile", model, "lora", "--batch", 2, "--tokens", 24, "--set", "rank=4")
    assert code == 0
    lines = {line[:30].strip(): line.split() for line in out.splitlines()}
    assert out.splitlines()[1].split() == ["predicted", "measured,", "cpu", "in", "float32"]
    assert lines["trainable parameters"][-2] == lines["trainable parameters"][-1]
    *_, predicted, _, measured, _ = lines["peak memory of training"]
    assert float(predicted.replace(",", "")) == pytest.approx(float(measured.replace(",", "")), rel=0.05)
    assert "rank=4" in out


def test_sizes_engine_and_precision_can_be_given(model):
    code, out, _ = call(
        "profile", model, "ia3", "--predict-only", "--json", "--batch", 2, "--tokens", 24, "--dtype", "bfloat16",
        "--engine", "padded", "--gradient-checkpointing", "--device", "cpu",
    )  # fmt: skip
    assert code == 0
    found = json.loads(out)
    assert (found["batch"], found["tokens"], found["dtype"]) == (2, 24, "bfloat16")
    assert (found["engine"], found["gradient_checkpointing"], found["kernels"]) == ("padded", True, "cpu")
    assert found["estimated"] is False


def test_what_is_wrong_is_one_sentence(model, tmp_path):
    odd = tmp_path / "odd"
    odd.mkdir()
    (odd / "config.json").write_text('{"model_type": "nonsense"}')
    for expected, *arguments in (
        ("unknown device 'h20'; did you mean 'h200'", model, "lora", "--device", "h20"),
        ("unknown method 'lorra'; did you mean 'lora'", model, "lorra"),
        ("unknown engine 'pack'; did you mean 'packed'", model, "lora", "--engine", "pack"),
        ("unknown model 'llama-3-8'; did you mean 'llama-3-8b'", "llama-3-8", "lora", "--predict-only"),
        ("only the dimensions are here; pass --predict-only", "llama-3-8b", "lora"),
        ("nonsense", odd, "lora", "--predict-only"),
        ("dtype is 'int4', expected one of float32", model, "lora", "--predict-only", "--dtype", "int4"),
        ("batch is too small; give at least 1", model, "lora", "--predict-only", "--batch", 0),
        (
            "tokens is 8,193, expected at most the 8,192 of the context",
            "llama-3-8b",
            "lora",
            "--predict-only",
            "--tokens",
            8193,
        ),
        ("shared_tokens is 24, expected fewer", model, "ia3", "--tokens", 24, "--shared-tokens", 24),
        ("rank", model, "lora", "--predict-only", "--set", "rank=0"),
        ("target 'kay' matches no module", model, "lora", "--predict-only", "--set", "targets=[kay]"),
    ):
        err = refused(expected, "profile", *arguments)
        assert len(err.strip().splitlines()) == 1, err


def test_a_calibration_is_used_from_then_on(monkeypatch):
    monkeypatch.setattr("peftbench.efficiency.calibrate._SECONDS", 0.01)
    monkeypatch.setattr("peftbench.efficiency.calibrate._PRODUCTS", ((16, 16, 16), (64, 64, 64)))
    monkeypatch.setattr("peftbench.efficiency.calibrate._LARGE", 1 << 20)
    before = json.loads(call("profile", "qwen3-0.6b", "ia3", "--predict-only", "--json", "--device", "cpu")[1])
    code, out, _ = call("calibrate", "--device", "cpu", "--json")
    assert code == 0
    assert json.loads(out)["device"] == "cpu"
    after = json.loads(call("profile", "qwen3-0.6b", "ia3", "--predict-only", "--json", "--device", "cpu")[1])
    assert not before["cost"]["calibrated"]
    assert after["cost"]["calibrated"]
    assert after["cost"]["step_seconds"] != before["cost"]["step_seconds"]


def test_the_course_of_memory_as_data_and_as_a_figure(model, tmp_path):
    arguments = ("profile", model, "lora", "--predict-only", "--batch", 2, "--tokens", 24, "--json")
    code, out, _ = call(*arguments, "--timeline", tmp_path / "memory.csv")
    assert code == 0
    rows = [line.split(",") for line in (tmp_path / "memory.csv").read_text().splitlines()]
    assert rows[0] == ["operator", "weights_bytes", "adapters_bytes", "gradients_bytes", "optimizer_bytes",
                       "activations_bytes", "logits_bytes", "total_bytes"]  # fmt: skip
    numbers = [[int(each) for each in row] for row in rows[1:]]
    assert all(sum(row[1:-1]) == row[-1] for row in numbers)
    assert max(row[-1] for row in numbers) == json.loads(out)["peak_train_memory_bytes"]
    pytest.importorskip("matplotlib")
    assert call(*arguments, "--timeline", tmp_path / "memory.svg")[0] == 0
    figure = (tmp_path / "memory.svg").read_text()
    assert figure.startswith("<?xml")
    refused("expected it to end in .svg, .png, .pdf or .csv", *arguments, "--timeline", tmp_path / "memory.gif")
    refused(
        "method 'base' is not trained",
        "profile",
        model,
        "base",
        "--predict-only",
        "--timeline",
        tmp_path / "b.csv",
    )
