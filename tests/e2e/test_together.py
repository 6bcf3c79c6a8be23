"""Runs that are asked for together are trained together, with the ids, records and predictions of the runs alone."""

from pathlib import Path

import pytest

import peftbench
from peftbench.predictions import read_predictions
from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import call, rows

OWN = {"train": rows(40), "test": rows(16, 100)}


def config_of(tmp_path, name, method="lora", seed=1, tokens=4096, **training):
    return {
        "model": str(tmp_path / "model"), "dataset": "rte", "method": method, "seed": seed, "threads": 1,
        "training": {"epochs": 2, "validations": 3, "learning_rate": 1e-2, **training},
        "engine": {"tokens_per_step": tokens}, "evaluation": {"max_new_tokens": 6}, "output": str(tmp_path / name),
    }  # fmt: skip


def outputs(result):
    [file] = Path(result.folder).glob("eval-*/predictions.parquet")
    return [row.text for row in read_predictions(file, None)]


def test_runs_together_equal_the_runs_alone(tmp_path):
    save_tiny_model(str(tmp_path / "model"))
    asked = [
        ("lora", 1, {}), ("ia3", 1, {"epochs": 1}), ("prompt_tuning", 3, {}), ("base", 0, {}), ("lora", 2, {}),
        ({"name": "lora", "rank": 4, "dropout": 0.0}, 1, {"learning_rate": 3e-3}), ("p_tuning_mlp", 3, {}),
        ("ln_tuning", 5, {}),
    ]  # fmt: skip
    together = peftbench.run_many(
        [config_of(tmp_path, "together", method, seed, **more) for method, seed, more in asked], rows=OWN
    )
    # LoRA with dropout shares no prefix, so it trains beside its like; what shares one, beside what does.
    assert [each.train and each.train.group_size for each in together] == [2, 3, 2, None, 2, 3, 2, 3]
    for (method, seed, more), fused in zip(asked, together, strict=True):
        alone = peftbench.run(config_of(tmp_path, "alone", method, seed, tokens=1, **more), rows=OWN)
        assert outputs(fused) == outputs(alone)
        assert fused.evaluation.eval_id == alone.evaluation.eval_id
        assert fused.evaluation.scores == alone.evaluation.scores
        if alone.train is None:
            continue
        assert alone.train.group_size == 1
        same = (
            "train_id",
            "trainable_params",
            "adapter_params",
            "steps",
            "best_step",
            "shared_prefix_tokens",
            "tokens",
        )
        assert [getattr(fused.train, name) for name in same] == [getattr(alone.train, name) for name in same]
        assert fused.train.best_validation_loss == pytest.approx(alone.train.best_validation_loss, abs=1e-4)


def test_the_token_budget_decides_who_trains_together(tmp_path):
    save_tiny_model(str(tmp_path / "model"))
    for tokens, sizes in ((1, [1, 1, 1]), (900, [2, 2, 1]), (10_000, [3, 3, 3])):
        configs = [config_of(tmp_path, str(tokens), "ia3", seed, tokens, epochs=1) for seed in (1, 2, 3)]
        assert [each.train.group_size for each in peftbench.run_many(configs, rows=OWN)] == sizes


def test_seeds_from_the_command_line(tmp_path):
    import json

    save_tiny_model(str(tmp_path / "model"))
    data = tmp_path / "data" / "rte"
    data.mkdir(parents=True)
    for split, part in (("train", OWN["train"]), ("validation", OWN["test"])):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    (tmp_path / "train.yaml").write_text(
        f"model: {tmp_path / 'model'}\ndataset: rte\nmethod: ia3\ndata: {{allow_partial: true}}\n"
        f"training: {{epochs: 1, validations: 2}}\nthreads: 1\noutput: {tmp_path / 'runs'}\n"
    )
    code, out, err = call(
        "run", tmp_path / "train.yaml", "--data-dir", tmp_path / "data", "--seeds", "1,2", "--json"
    )
    assert code == 0, err
    assert [each["config"]["seed"] for each in json.loads(out)] == [1, 2]
    code, out, err = call("run", tmp_path / "train.yaml", "--data-dir", tmp_path / "data", "--seeds", "1,x")
    assert code == 2
    assert "--seeds is '1,x', expected whole numbers" in err


@pytest.mark.parametrize(("share", "exact"), [("auto", True), ("never", True), ("always", False)])
def test_the_record_says_what_was_shared(tmp_path, share, exact):
    save_tiny_model(str(tmp_path / "model"))
    config = config_of(tmp_path, "runs", "lora", epochs=1)
    config["engine"] = {"shared_prefix": share}
    record = peftbench.run(config, rows=OWN).train
    assert (record.shared_prefix_tokens > 0) == (share == "always")
    assert record.shared_prefix_exact == exact
    plain = peftbench.run(config_of(tmp_path, "plain", "lora", epochs=1), rows=OWN).train
    assert (record.train_id == plain.train_id) == exact, "another training has another id"


def test_what_acts_around_a_part_of_a_block_has_a_pass_with_its_like_alone(tmp_path):
    save_tiny_model(str(tmp_path / "model"))
    beside = {"name": "parallel_adapter", "hidden": 4}
    asked = [(beside, 1), ({"name": "lora", "dropout": 0.0}, 1), (beside, 2)]
    found = peftbench.run_many([config_of(tmp_path, "together", method, seed) for method, seed in asked], rows=OWN)
    assert [each.train.group_size for each in found] == [2, 1, 2]
    alone = peftbench.run(config_of(tmp_path, "alone", beside, 2, tokens=1), rows=OWN)
    assert found[2].train.best_validation_loss == pytest.approx(alone.train.best_validation_loss, abs=1e-4)
