"""Whole runs with mirrors: the same predictions as without, and none of twelve planted secrets anywhere."""

import base64
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import pytest

import peftbench
from peftbench.predictions import read_predictions
from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import call, refused, rows
from tests.unit.test_mirrors import FAKES

SECRETS = {
    name: f"{name[:3].lower()}-S3cr3t/{number:02}+Q{number * 7919}x" for number, name in enumerate(
        ("HF_TOKEN", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY",
         "GITHUB_TOKEN", "netrc", "tracking URL", "proxy URL", "model URL", "git remote", "data folder"), 1)
}  # fmt: skip
SECRETS["data folder"] = SECRETS["data folder"].replace("/", "-")  # one part of a path
IN_VARIABLES = [name for name in SECRETS if name.isupper()]


@pytest.fixture
def world(tmp_path):
    """A model, rows in a folder with a secret in its name, a repository whose remote holds one, and a home."""
    save_tiny_model(str(tmp_path / "model"))
    data = tmp_path / f"data-{SECRETS['data folder']}" / "rte"
    data.mkdir(parents=True)
    for split, part in (("train", rows(40)), ("validation", rows(12, 100))):
        (data / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    work = tmp_path / "work"
    (work / ".git").mkdir(parents=True)
    (work / ".git" / "config").write_text(f'[remote "origin"]\n\turl = https://me:{quoted("git remote")}@host/x\n')
    (tmp_path / "train.yaml").write_text(
        f"model: {tmp_path / 'model'}\ndataset: rte\nmethod: ia3\n"
        f"data: {{directory: '{data.parent}', allow_partial: true}}\n"
        "training: {epochs: 1, learning_rate: 1e-2, validations: 3}\nthreads: 1\noutput: out\n"
    )
    (tmp_path / "eval.yaml").write_text("max_new_tokens: 4\n")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / ".netrc").write_text(f"machine api.wandb.ai login user password {SECRETS['netrc']}\n")
    return tmp_path


def quoted(name):
    return quote(SECRETS[name], safe="")


def command(world, *arguments, fakes=True, **variables):
    """The command in a world full of secrets: (status, everything that it printed)."""
    paths = [*([str(FAKES)] if fakes else []), *(each for each in sys.path if each)]
    own = {
        name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW", "WANDB", "TRACKIO"))
    }
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", *map(str, arguments)],
        cwd=world / "work", capture_output=True, text=True, timeout=240,
        env={
            **own,
            **{name: SECRETS[name] for name in IN_VARIABLES},
            "PEFTBENCH_DATA": "", "PYTHONPATH": os.pathsep.join(paths),
            "HOME": str(world / "home"), "NETRC": str(world / "home" / ".netrc"), "HF_HOME": str(world / "home"),
            "MLFLOW_TRACKING_URI": f"http://user:{quoted('tracking URL')}@127.0.0.1:9",
            "HTTPS_PROXY": f"http://user:{quoted('proxy URL')}@127.0.0.1:9",
            "STORAGE_SECRET_KEY": SECRETS["data folder"],
            "FAKE_LOG": str(world / "heard.jsonl"), "WANDB_MODE": "offline", "TRACKIO_DIR": str(world / "trackio"),
            **variables,
        },
    )  # fmt: skip
    assert "Traceback" not in done.stdout + done.stderr
    return done.returncode, done.stdout + done.stderr


def found_in(world, *printed):
    """Each planted secret that stands in a file or in what was printed, in whatever form."""
    texts = {f"printed {number}": text.encode() for number, text in enumerate(printed)}
    for folder in (world / "work", world / "trackio"):
        texts |= {
            str(file): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file() and ".git" not in file.parts
        }
        texts |= {f"name of {path}": path.name.encode() for path in folder.rglob("*")}
    if (world / "heard.jsonl").exists():
        texts["heard"] = (world / "heard.jsonl").read_bytes()
    assert len(texts) > 10
    return [
        (name, where)
        for name, secret in SECRETS.items()
        for form in (
            secret,
            quote(secret, safe=""),
            base64.b64encode(secret.encode()).decode().rstrip("="),
            json.dumps(secret)[1:-1],
        )
        for where, text in texts.items()
        if form.encode() in text
    ]


def test_twelve_secrets_are_found_nowhere(world):
    assert len(set(SECRETS.values())) == 12
    trackers = ["wandb", "mlflow", "trackio", *(["tensorboard"] if find_spec("tensorboard") else [])]
    asked = [part for name in trackers for part in ("--track", name)]
    printed = []
    for seed, misdeed in enumerate(("", "log=raise", "start=exit")):
        code, text = command(
            world,
            "run",
            world / "train.yaml",
            world / "eval.yaml",
            "--json",
            "--set",
            f"seed={seed}",
            *asked,
            FAKE=misdeed,
        )
        assert code == 0, text
        assert text.count("the run is not affected") == (3 if misdeed else 0), text
        printed.append(text)
    code, text = command(
        world, "train", world / "train.yaml", "--set", f"model=http://user:{SECRETS['model URL']}@host/m"
    )
    assert (code, "neither a folder here nor a hub id" in text) == (2, True)
    printed.append(text)
    assert found_in(world, *printed) == []
    assert (
        "data-***" in next((world / "work" / "out").rglob("config.json")).read_text()
    )  # it was there to be found
    heard = [json.loads(line) for line in (world / "heard.jsonl").read_text().splitlines()]
    held = {
        name: {
            secret
            for each in heard
            if each["tracker"] == name
            for secret in IN_VARIABLES
            if secret in each["variables"]
        }
        for name in trackers[:3]
    }
    assert held == {
        "wandb": {"WANDB_API_KEY"},
        "mlflow": {"MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY"},
        "trackio": set(),
    }


@pytest.mark.parametrize("tracker", ["tensorboard", "wandb", "mlflow", "trackio"])
def test_the_trackers_themselves_keep_no_secret(world, tracker):
    if not find_spec(tracker):
        pytest.skip(f"the {tracker} extra is not installed")
    uris = {
        "mlflow": [
            f"sqlite:///{world / 'work' / 'mlflow.db'}",
            f"http://user:{quoted('tracking URL')}@127.0.0.1:9",
        ]
    }
    printed = []
    for seed, uri in enumerate(uris.get(tracker, [""])):
        code, text = command(
            world,
            "run",
            world / "train.yaml",
            world / "eval.yaml",
            "--set",
            f"seed={seed}",
            "--track",
            tracker,
            fakes=False,
            MLFLOW_TRACKING_URI=uri,
        )
        assert code == 0, text
        assert text.count("the run is not affected") == uri.startswith("http"), text
        printed.append(text)
    assert found_in(world, *printed) == []


def test_a_run_is_the_same_with_mirrors_and_without(tmp_path, monkeypatch):
    save_tiny_model(str(tmp_path / "model"))
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("FAKE_LOG", str(tmp_path / "heard.jsonl"))
    own = {"train": rows(40), "test": rows(12, 100)}
    found = {}
    for name, trackers in (("without", []), ("with", ["wandb", "trackio"])):
        config = {
            "model": str(tmp_path / "model"), "dataset": "rte", "method": "lora", "threads": 1, "output": str(tmp_path / name),
            "training": {"epochs": 1, "learning_rate": 1e-2, "validations": 3}, "evaluation": {"max_new_tokens": 4}, "tracking": trackers,
        }  # fmt: skip
        found[name] = peftbench.run(config, rows=own)
    without, mirrored = found["without"], found["with"]
    assert mirrored.train.train_id == without.train.train_id
    assert mirrored.train.adapter_sha256 == without.train.adapter_sha256
    assert mirrored.evaluation.eval_id == without.evaluation.eval_id
    assert mirrored.evaluation.scores == without.evaluation.scores
    outputs = [
        read_predictions(next(Path(each.folder).rglob("predictions.parquet")), None)
        for each in (without, mirrored)
    ]
    assert outputs[0] == outputs[1]
    assert mirrored.config.model_copy(update={"output": "x"}) == without.config.model_copy(update={"output": "x"})
    assert '"wandb"' not in "".join(file.read_text() for file in Path(mirrored.folder).rglob("*.json"))
    heard = [json.loads(line) for line in (tmp_path / "heard.jsonl").read_text().splitlines()]
    [final] = [each["values"] for each in heard if each["what"] == "final"]
    assert final["final/primary"] == mirrored.primary
    assert final["final/trainable_params"] == mirrored.train.trainable_params
    assert set(final) == {f"final/{name}" for name in peftbench.mirrors.FINAL_FIELDS}


def test_mistakes_in_tracking_are_one_sentence(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text(
        "model: peftbench-tiny\ndataset: sst2@mini\nmethod: lora\ntracking: [tensorbord]\ntracking_project: a/b\n"
    )
    error = refused(
        "train.yaml:4:12: tracking.0 is 'tensorbord', expected the name of a tracker; did you mean 'tensorboard'?",
        "train",
        file,
    )
    assert "train.yaml:5:1: tracking_project is 'a/b', expected a name of at most 100 letters" in error
    refused("did you mean 'wandb'?", "train", file, "--track", "wandbb", "--set", "tracking_project=x")
    assert call("train", "--help")[0] == 0
