"""The command line as a user meets it: whole runs on a tiny model, and bad input that ends in one sentence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

import peftbench
from peftbench.cli import app
from peftbench.predictions import read_predictions
from peftbench.testing import save_tiny_model

LABELS = ("entailment", "not_entailment")


def rows(count, start=0):
    subjects, verbs = ("cat", "dog", "bird", "fox"), ("sleeps", "runs", "sings")
    found = []
    for i in range(start, start + count):
        label = i % 2
        subject, verb = subjects[i % 4], verbs[i % 3]
        said = verb if label == 0 else verbs[(i + 1) % 3]
        found.append(
            {
                "sentence1": f"The {subject} {verb} in place {i}.",
                "sentence2": f"It {said}.",
                "label": label,
                "idx": i,
            }
        )
    return found


def put_model_and_rows(root: Path) -> None:
    """A tiny model and a folder with a small `rte`."""
    save_tiny_model(str(root / "model"))
    data = root / "data" / "rte"
    data.mkdir(parents=True)
    for split, part in (("train", rows(40)), ("validation", rows(12, 100))):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with a model, a mirror with a small `rte`, and two configuration files."""
    root = tmp_path_factory.mktemp("world")
    put_model_and_rows(root)
    (root / "train.yaml").write_text(
        f"model: {root / 'model'}\ndataset: rte\nmethod: {{name: lora, rank: 2}}\n"
        f"data: {{directory: {root / 'data'}, allow_partial: true}}\n"
        f"training: {{epochs: 1, learning_rate: 1e-2, validations: 3}}\nthreads: 1\noutput: {root / 'runs'}\n"
    )
    (root / "eval.yaml").write_text("max_new_tokens: 6\n")
    return root


def call_process(*arguments, stdin=None):
    """The command in a process of its own: (status, standard output, standard error)."""
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", *map(str, arguments)],
        capture_output=True, text=True, input=stdin, timeout=120, env={**os.environ, "PEFTBENCH_DATA": ""},
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def call(*arguments, stdin=None):
    """The same in this process, which is many times faster; an error that is not the user's comes through."""
    done = CliRunner(env={"PEFTBENCH_DATA": ""}).invoke(app, list(map(str, arguments)), input=stdin)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout, done.stderr


def refused(expected, *arguments, status=2, **options):
    code, out, err = call(*arguments, **options)
    assert code == status, (code, out, err)
    assert expected in err, err
    assert "Traceback" not in err
    assert "should have foreseen" not in err
    assert "Traceback" not in out
    return err


@pytest.fixture(scope="module")
def finished(world):
    code, out, err = call_process("run", world / "train.yaml", world / "eval.yaml", "--json")
    assert code == 0, err
    return json.loads(out), err


def configured(world, tmp_path, **changes):
    """A training file with some lines replaced."""
    lines = {line.split(":")[0]: line for line in (world / "train.yaml").read_text().splitlines()}
    for key, value in {"output": tmp_path / "runs", **changes}.items():
        lines[key] = f"{key}: {value}"
    file = tmp_path / "train.yaml"
    file.write_text("\n".join(lines.values()) + "\n")
    return file


def test_a_run_leaves_adapter_curve_records_and_predictions(finished, world):
    result, err = finished
    folder = Path(result["folder"])
    assert folder.parent == world / "runs" / "model" / "lora" / "rte"
    assert folder.name == f"seed42-{result['train']['train_id']}"
    assert {each.name for each in folder.iterdir()} == {
        "config.json", "adapter", "curve.jsonl", "train.json", f"eval-{result['evaluation']['eval_id']}",
    }  # fmt: skip
    curve = [json.loads(line) for line in (folder / "curve.jsonl").read_text().splitlines()]
    assert [point["step"] for point in curve] == [3, 6, 9]
    assert result["train"]["data"]["partial"]
    assert result["train"]["trainable_params"] == 3 * 2 * (2 * (32 + 16) + 48 + 32)
    assert result["train"]["trainable_dtype"] == "float32"
    predictions = read_predictions(
        folder / f"eval-{result['evaluation']['eval_id']}" / "predictions.parquet", None
    )
    assert len(predictions) == 12
    assert all(row.references in [(label,) for label in LABELS] for row in predictions)
    assert all(row.new_tokens <= 6 for row in predictions)
    assert all(len(row.prompt_sha256) == 64 for row in predictions)
    hits = sum(row.hit_limit for row in predictions)
    assert result["evaluation"]["hit_limit_rate"] == hits / 12
    assert result["evaluation"]["invalid_rate"] == 1 - sum(row.valid for row in predictions) / 12
    assert set(result["evaluation"]["scores"]) == {"corrected", "published"}
    assert "training, 9 steps" in err
    assert "step 9: training loss" in err


def test_what_is_finished_is_read_back_and_not_done_again(finished, world):
    result, _ = finished
    code, out, err = call("run", world / "train.yaml", world / "eval.yaml", "--json")
    assert code == 0
    assert json.loads(out) == result
    assert "training" not in err


def test_the_same_from_python_is_the_same_run(finished, world):
    result, _ = finished
    config = {
        "model": str(world / "model"),
        "dataset": "rte",
        "method": {"name": "lora", "rank": 2},
        "data": {"allow_partial": True},
        "training": {"epochs": 1, "learning_rate": 1e-2, "validations": 3},
        "threads": 1,
        "output": str(world / "python"),
        "evaluation": {"max_new_tokens": 6},
    }
    found = peftbench.run(config, rows={"train": rows(40), "test": rows(12, 100)})
    assert found.train.train_id == result["train"]["train_id"]
    assert found.evaluation.eval_id == result["evaluation"]["eval_id"]
    assert found.train.best_validation_loss == result["train"]["best_validation_loss"]
    assert found.primary == result["evaluation"]["scores"]["corrected"]["primary"]


def test_score_reads_stored_predictions_and_loads_no_torch(finished):
    result, _ = finished
    folder = Path(result["folder"])
    code, out, _ = call_process("score", folder, "--json")
    assert code == 0
    [scored] = json.loads(out)
    assert scored["scores"] == result["evaluation"]["scores"]
    stored = list(folder.glob("eval-*/scores-*.json"))
    assert len(stored) == 1
    assert json.loads(stored[0].read_text())["scores"] == scored["scores"]
    code, out, _ = call("score", folder)
    assert code == 0
    assert "primary" in out
    code, out, _ = call("score", folder, "--unseen", "--json")
    assert json.loads(out)[0]["rows"] == 12


def test_predict_answers_lines_of_text_and_json(finished):
    folder = finished[0]["folder"]
    lines = 'Just a line.\n{"sentence1": "The cat sleeps.", "sentence2": "It sleeps."}\n{"Text": "A."}\n'
    code, out, err = call("predict", folder, "--json", stdin=lines)
    assert code == 0, err
    answers = [json.loads(line) for line in out.splitlines()]
    assert [each["input"] for each in answers] == lines.splitlines()
    assert all(isinstance(each["output"], str) for each in answers)


def test_eval_takes_another_evaluation_of_the_same_run(finished, world, tmp_path):
    other = tmp_path / "eval.yaml"
    other.write_text(f"run: {finished[0]['folder']}\ntest_rows: 5\nmax_new_tokens: 3\n")
    code, out, err = call("eval", other, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["train"] == finished[0]["train"]
    assert found["evaluation"]["scores"]["corrected"]["scored_rows"] == 5
    assert found["evaluation"]["eval_id"] != finished[0]["evaluation"]["eval_id"]


def test_the_base_model_is_evaluated_without_training_or_seed(world):
    code, out, err = call("run", world / "train.yaml", world / "eval.yaml", "--set", "method=base", "--json")
    assert code == 0, err
    first = json.loads(out)
    assert first["train"] is None
    assert "seed" not in Path(first["folder"]).name
    code, out, _ = call("run", world / "train.yaml", world / "eval.yaml", "--set", "method=base", "--set", "seed=7",
                        "--set", "training.epochs=3", "--json")  # fmt: skip
    assert json.loads(out)["folder"] == first["folder"]


def test_train_alone_needs_no_test_rows(world, tmp_path):
    data = tmp_path / "data" / "rte"
    data.mkdir(parents=True)
    (data / "train.jsonl").write_text((world / "data" / "rte" / "train.jsonl").read_text())
    command = (
        "train",
        world / "train.yaml",
        "--data-dir",
        tmp_path / "data",
        "--set",
        f"output={tmp_path / 'out'}",
    )
    code, out, err = call(*command, "--json")
    assert code == 0, err
    assert json.loads(out)["evaluation"] is None
    refused("split 'validation' of rte", "run", *command[1:])


def test_a_killed_training_goes_on(world, tmp_path):
    """A real SIGKILL in the middle; the end is that of a run that was never stopped."""
    command = ["train", world / "train.yaml", "--set", "training.epochs=6", "--set", "training.validations=20"]
    code, out, err = call(*command, "--set", f"output={tmp_path / 'whole'}", "--json")
    assert code == 0, err
    whole = json.loads(out)
    stopped = [*command, "--set", f"output={tmp_path / 'killed'}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "peftbench", *map(str, stopped)], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PEFTBENCH_DATA": ""},
    )  # fmt: skip
    seen = 0
    for line in process.stderr:
        seen += line.startswith("step ")
        if seen == 3:  # the checkpoint of a validation is written just after its line
            break
    process.kill()
    process.wait()
    process.stderr.close()
    folder = next((tmp_path / "killed").glob("model/lora/rte/*"))
    assert not (folder / "train.json").exists()
    assert list((folder / "checkpoint").iterdir())
    code, out, err = call(*stopped, "--json")
    assert code == 0, err
    assert "goes on after step" in err
    again = json.loads(out)
    timeless = {"provenance", "seconds", "peak_memory_bytes", "efficiency", "resumed", "config"}
    for key in whole["train"].keys() - timeless:
        assert again["train"][key] == whole["train"][key], key
    curves = [
        [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "peak_memory_bytes")}
         for line in (Path(run["folder"]) / "curve.jsonl").read_text().splitlines()]
        for run in (whole, again)
    ]  # fmt: skip
    assert curves[0] == curves[1]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (Path(whole["folder"]) / "adapter" / name).read_bytes() == (folder / "adapter" / name).read_bytes()


def test_debug_gives_the_error_itself(tmp_path):
    with pytest.raises(peftbench.DataError, match="is not the folder of a run"):
        call("--debug", "score", tmp_path)
    refused("is not the folder of a run", "score", tmp_path)


@pytest.mark.parametrize("arguments", [["list", "datasets"], ["show", "dataset", "rte"]], ids=" ".join)
def test_a_reader_that_has_seen_enough_is_no_error(arguments):
    """As in `peftbench list datasets | head -1`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "peftbench", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait()


def test_seeds_are_whole_numbers(world):
    for seeds in ("1,x", "1,", "-1", "1.5"):
        refused("expected whole numbers from 0 with commas", "run", world / "train.yaml", f"--seeds={seeds}")


def test_damaged_records_and_predictions(finished, tmp_path):
    import shutil

    folder = tmp_path / "run"
    shutil.copytree(finished[0]["folder"], folder)
    evaluation = next(folder.glob("eval-*"))
    (evaluation / "predictions.parquet").write_bytes(b"PAR1 not really")
    refused("is not what its record was made from", "score", folder)
    (evaluation / "result.json").write_text("{}")
    refused("is not a record of this version", "score", folder)
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(b"\0" * 9)
    refused("is damaged or replaced", "predict", folder, stdin="a line\n")


def test_predict_on_another_device(finished):
    folder = finished[0]["folder"]
    code, out, err = call("predict", folder, "--device", "cpu", "--json", stdin="A line.\n")
    assert code == 0, err
    assert json.loads(out)["input"] == "A line."
    refused("device is 'gpu', expected auto, cpu", "predict", folder, "--device", "gpu", stdin="A line.\n")


def test_predict_without_a_line(finished):
    refused("there is no line to answer", "predict", finished[0]["folder"], stdin="\n")
    refused("unknown field 'premis'", "predict", finished[0]["folder"], stdin='{"premis": "x"}\n')
    refused("begins like JSON but is none", "predict", finished[0]["folder"], stdin='{"premis"\n')


def test_a_loss_that_is_not_finite_is_a_failed_run_with_a_record(world, tmp_path):
    config = configured(world, tmp_path, training="{epochs: 1, learning_rate: 1e30, max_grad_norm: 1e30}")
    err = refused("the run failed: ", "run", config, status=1)
    assert "at step" in err or "after step" in err
    record = json.loads(next((tmp_path / "runs").glob("model/lora/rte/*/train.json")).read_text())
    assert record["status"] == "failed"
    assert record["failure"]["reason"] == "nonfinite"
    assert record["failure"]["step"] >= 1
    assert not list((tmp_path / "runs").glob("model/lora/rte/*/adapter"))


def test_hostile_text_cannot_steer_a_terminal():
    from peftbench.console import shown

    assert shown("a\x1b[2Jb\u202ec\n\td\x07") == "a\\x1b[2Jb\\x202ec\n\td\\x07"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_a_full_disk_is_one_sentence():
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "peftbench", "list", "methods"], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.decode().startswith("peftbench: no space is left where the output goes; make room")
    assert done.stderr.count(b"\n") == 1
