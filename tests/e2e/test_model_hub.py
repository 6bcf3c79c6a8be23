"""A model by hub id and commit, downloaded for real from a server on the loopback interface."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from peftbench.testing import save_tiny_model
from tests.hub_server import HubServer, Repository

COMMIT, OTHER = "c0ffee" + "0" * 34, "decade" + "0" * 34
NAME = "someone/tiny-llama"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, bytes]:
    folder = Path(save_tiny_model(str(tmp_path_factory.mktemp("model"))))
    return {each.name: each.read_bytes() for each in folder.iterdir()}


@pytest.fixture
def hub(files):
    with HubServer({NAME: Repository(COMMIT, {COMMIT: files})}) as server:
        yield server


def call(hub, tmp_path, *arguments, **environment):
    """The command in a process of its own that knows no other hub and has empty caches."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "PEFTBENCH_"))}
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", *map(str, arguments)], capture_output=True, text=True, timeout=120,
        env={**clean, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(tmp_path / "home"),
             "HF_HUB_DISABLE_XET": "1", **environment},
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def shown(hub, tmp_path, revision=COMMIT, **environment):
    return call(hub, tmp_path, "show", "method", "lora", "--model", NAME, "--model-revision", revision, "--json",
                **environment)  # fmt: skip


def a_run(hub, tmp_path, *more, **environment):
    settings = [f"model={NAME}", f"model_revision={COMMIT}", "dataset=sst2@mini", "method=ln_tuning",
                "training.epochs=1", "data.train_rows=20", "data.allow_partial=true", f"output={tmp_path / 'runs'}"]  # fmt: skip
    train = tmp_path / "train.yaml"
    train.write_text("evaluation: {test_rows: 4, max_new_tokens: 2}\n")
    sets = [part for setting in settings for part in ("--set", setting)]
    return call(hub, tmp_path, "run", train, *sets, "--json", *more, **environment)


def test_a_run_on_a_model_of_the_hub_and_again_without_a_connection(hub, tmp_path):
    code, out, err = a_run(hub, tmp_path)
    assert code == 0, err
    first = json.loads(out)
    assert first["train"]["model"]["fingerprint"] == f"{NAME}@{COMMIT}"
    assert first["train"]["model"]["name"] == "tiny-llama"
    assert (
        json.loads((Path(first["folder"]) / "adapter" / "adapter_config.json").read_text())["revision"] == COMMIT
    )
    strangers = [request for request in hub.requests if NAME not in request]
    assert strangers == [], "nothing is asked of the hub but this model"
    code, out, err = a_run(hub, tmp_path, "--set", "seed=7", HF_HUB_OFFLINE="1")
    assert code == 0, err
    assert json.loads(out)["train"]["status"] == "done"


def test_parameters_of_a_hub_model_are_counted_without_its_weights(hub, tmp_path):
    code, out, err = shown(hub, tmp_path)
    assert code == 0, err
    assert json.loads(out)["trainable_params"] == 3 * 16 * (2 * (32 + 16) + 48 + 32)
    assert hub.transfers("model.safetensors") == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_model_says_how_to_get_in(hub, tmp_path, status):
    hub.refusal = (status, "GatedRepo")
    code, _, err = shown(hub, tmp_path)
    assert code == 2
    assert "is gated: accept its terms on its hub page and give a token by HF_TOKEN" in err


def test_a_model_or_commit_that_is_not_there(hub, tmp_path):
    code, _, err = shown(hub, tmp_path, OTHER)
    assert code == 2
    assert "the hub has no model 'someone/tiny-llama' at this revision" in err
    hub.repositories.clear()
    code, _, err = shown(hub, tmp_path)
    assert code == 2
    assert "the hub has no model 'someone/tiny-llama'" in err


def test_no_connection_and_nothing_in_the_cache(hub, tmp_path):
    code, _, err = shown(hub, tmp_path, HF_HUB_OFFLINE="1")
    assert code == 2
    assert "the hub is switched off by HF_HUB_OFFLINE" in err
    code, _, err = shown(hub, tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert code == 2
    assert "cannot be loaded" in err


def test_weights_that_are_not_safetensors_are_not_read(hub, tmp_path, files):
    only_pickle = {name: content for name, content in files.items() if not name.endswith(".safetensors")}
    hub.repositories[NAME] = Repository(
        COMMIT, {COMMIT: {**only_pickle, "pytorch_model.bin": b"\x80\x04cos\nsystem\n"}}
    )
    code, _, err = a_run(hub, tmp_path)
    assert code == 2
    assert "safetensors" in err
    assert hub.transfers("pytorch_model.bin") == 0


def test_code_of_a_repository_is_never_run(hub, tmp_path, files):
    config = json.loads(files["config.json"])
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Own", "AutoModelForCausalLM": "own.Own"}}
    mark = tmp_path / "ran"
    hostile = {**files, "config.json": json.dumps(config).encode(), "own.py": f"open({str(mark)!r}, 'w')".encode()}
    hub.repositories[NAME] = Repository(COMMIT, {COMMIT: hostile})
    code, _, err = a_run(hub, tmp_path)
    assert code == 2
    assert "cannot be loaded" in err
    assert not mark.exists()
