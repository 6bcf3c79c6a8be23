"""Mistakes of a user on the command line: one sentence with place and fix, status 2, nothing lost."""

# ruff: noqa: F811  (fixtures are named as arguments)

import json
from pathlib import Path

import pytest

import peftbench
from peftbench.testing import save_tiny_model, tiny_tokenizer
from tests.e2e.test_cli import call, call_process, configured, finished, refused, rows, world  # noqa: F401  (fixtures)


def mirror(tmp_path, train=None, test=None):
    folder = tmp_path / "data" / "rte"
    folder.mkdir(parents=True)
    for split, part in (("train", rows(40) if train is None else train), ("validation", test or rows(12, 100))):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return f"{{directory: {tmp_path / 'data'}, allow_partial: true}}"


def test_configuration_mistakes_end_with_status_2_before_torch_is_loaded(world, tmp_path):
    code, out, err = call_process("run", configured(world, tmp_path, sede=1))
    assert (code, out) == (2, "")
    assert err.startswith("peftbench: train.yaml:8:1: unknown key 'sede'; did you mean 'seed'?")
    assert len(err.splitlines()) == 1
    refused(
        "unknown method 'lorra'; did you mean 'lora' or 'olora'?",
        "run",
        configured(world, tmp_path, method="lorra"),
    )
    refused("is '5e-5', expected a number; write it without quotes", "run",
            configured(world, tmp_path, training="{learning_rate: '5e-5'}"))  # fmt: skip
    refused("does not exist; give the path of a YAML file", "run", tmp_path / "nowhere.yaml")


def test_names_in_list_and_show(world):
    refused("unknown kind 'dataset'; did you mean 'datasets'?", "list", "dataset")
    refused("unknown dataset 'rtee'; did you mean 'rte'?", "show", "dataset", "rtee")
    refused("unknown method 'loar'; did you mean 'lora' or 'lokr'?", "show", "method", "loar")
    refused(
        "unknown protocol 'corect'; did you mean 'corrected'?", "show", "dataset", "rte", "--protocol", "corect"
    )


def test_models_that_are_none(world, tmp_path):
    refused("is neither a folder here nor a hub id", "run", configured(world, tmp_path, model="nowhere"))
    refused("is a hub id without a revision", "run", configured(world, tmp_path, model="some/model"))
    empty = tmp_path / "empty"
    empty.mkdir()
    refused("has no config.json", "run", configured(world, tmp_path, model=empty))
    (empty / "config.json").write_text((world / "model" / "config.json").read_text())
    refused("has no tokenizer: none of tokenizer.json", "run", configured(world, tmp_path, model=empty))
    tiny_tokenizer().save_pretrained(empty)
    (empty / "config.json").write_text("{]")
    refused("is not a valid JSON file", "run", configured(world, tmp_path, model=empty))
    (empty / "config.json").write_text((world / "model" / "config.json").read_text())
    (empty / "model.safetensors").write_bytes((world / "model" / "model.safetensors").read_bytes()[:5000])
    refused("its weights are damaged, fetch them again", "run", configured(world, tmp_path, model=empty))
    (empty / "model.safetensors").unlink()
    (empty / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n")
    refused("holds no .safetensors file", "run", configured(world, tmp_path, model=empty))


def test_a_tokenizer_without_an_end_token(world, tmp_path):
    folder = tmp_path / "model"
    save_tiny_model(str(folder))
    tokenizer = tiny_tokenizer(chat=False)
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder)
    refused("has no end token", "run", configured(world, tmp_path, model=folder))


def test_rows_that_are_not_what_the_catalogue_says(world, tmp_path):
    def data(**parts):
        return configured(world, tmp_path, data=mirror(tmp_path / str(len(list(tmp_path.iterdir()))), **parts))

    broken = rows(40)
    del broken[7]["sentence2"]
    refused("row 7: column 'sentence2' is missing", "run", data(train=broken))
    broken = rows(40)
    broken[3]["label"] = 9
    refused("row 3", "run", data(train=broken))
    refused("row 3", "run", data(train=broken))
    refused("holds no row", "run", data(train=[]))


def test_own_rows_with_test_rows_in_train(world, tmp_path):
    own = {"train": rows(40), "test": [*rows(3, 100), rows(40)[5]]}
    config = {
        "model": str(world / "model"), "dataset": "rte", "method": "lora", "data": {"allow_partial": True},
        "output": str(tmp_path),
    }  # fmt: skip
    with pytest.raises(peftbench.DataError, match="equals row"):
        peftbench.run(config, rows=own)


def test_a_test_row_that_cannot_fit(world, tmp_path):
    config = configured(world, tmp_path, method="base", training="{max_tokens: 120}")
    refused("chat header, instruction and answer alone exceed", "run", config)


def test_a_method_whose_targets_do_not_exist(world, tmp_path):
    config = configured(world, tmp_path, method="{name: lora, targets: [qkv_proj]}")
    refused("target 'qkv_proj' matches no module of this llama model", "run", config)


def test_an_output_folder_that_holds_another_run(finished, world, tmp_path):
    result, _ = finished
    config = configured(world, tmp_path)
    folder = tmp_path / "runs" / "model" / "lora" / "rte" / Path(result["folder"]).name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"train_id": "another", "config": {}}))
    refused("holds another run (another, not", "run", config)
    assert json.loads((folder / "config.json").read_text())["train_id"] == "another"


def test_an_output_that_cannot_be_written(world, tmp_path):
    (tmp_path / "file").write_text("kept")
    refused("cannot write", "run", configured(world, tmp_path, output=tmp_path / "file"))
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the kernel has no /dev/full")
def test_a_full_disk_loses_nothing_that_was_finished(world, tmp_path, monkeypatch):
    """The disk fills up when the second checkpoint is written; the first one is kept and the run goes on later."""
    from peftbench.engine import checkpoint

    config = {
        "model": str(world / "model"), "dataset": "rte", "method": "lora", "output": str(tmp_path), "threads": 1,
        "data": {"allow_partial": True}, "training": {"epochs": 1, "validations": 3},
    }  # fmt: skip
    own = {"train": rows(40), "test": rows(12, 100)}
    real, calls = checkpoint.save_file, []

    def full(tensors, file):
        calls.append(file)
        if len(calls) == 2:
            Path("/dev/full").write_bytes(b"x")
        real(tensors, file)

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(
        peftbench.DataError, match=r"cannot write .*No space left on device; .* run the same command"
    ):
        peftbench.run(config, rows=own)
    kept = list(tmp_path.glob("model/lora/rte/*/checkpoint/*"))
    assert [each.name[:14] for each in kept] == ["step-000000003"]
    monkeypatch.undo()
    again = peftbench.run(config, rows=own)
    assert again.train.resumed == 1


def test_runs_that_are_none(tmp_path, world):
    refused("does not exist; give a folder such as", "score", tmp_path / "nowhere")
    refused("is not the folder of a run", "score", tmp_path)
    refused("is not the folder of a run", "predict", tmp_path, stdin="a line\n")
    (tmp_path / "eval.yaml").write_text("test_rows: 3\n")
    refused("no run is named", "eval", tmp_path / "eval.yaml")
