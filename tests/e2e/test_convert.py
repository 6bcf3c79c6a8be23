"""`peftbench import config` and `import datasets` as a user meets them, up to a run with what they wrote."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.e2e.test_cli import call, refused
from tests.unit.importers.factory_files import described, evaluation, moods, on_hub, train, written


def test_a_configuration_is_converted_told_and_can_be_planned(tmp_path):
    theirs = written(tmp_path, train(report_to=["wandb"]))
    other = written(tmp_path, evaluation(), "eval_theirs.yaml")
    out = tmp_path / "ours"
    code, text, err = call("import", "config", theirs, other, "--output", out)
    assert (code, err) == (0, "")
    assert "training.batch_size: 16, which is 2 on a GPU x 8 passes" in " ".join(text.split())
    assert "what would have gone wrong there:" in text
    assert "curves are sent to wandb" in text
    assert sorted(file.name for file in out.iterdir()) == ["eval.yaml", "train.yaml"]
    code, text, err = call(
        "plan", out / "train.yaml", "--device", "h100", "--set", "model_revision=" + "a" * 40, "--json"
    )
    assert code == 0, err
    refused("is there already", "import", "config", theirs, "--output", out)
    code, text, err = call("import", "config", theirs, other, "--output", out, "--force", "--json")
    facts = json.loads(text)
    assert facts["config"]["training"]["batch_size"] == 16
    assert {said["key"] for said in facts["keys"] if said["file"] == "eval_theirs.yaml"} == set(evaluation())
    assert facts["files"] == [(out / name).as_posix() for name in ("train.yaml", "eval.yaml")]


def test_a_refusal_names_every_problem_and_writes_nothing(tmp_path):
    theirs = written(tmp_path, train(lr_scheduler_type="linear", dataset="rte,sst2", seed="first"))
    code, text, err = call("import", "config", theirs, "--output", tmp_path / "ours")
    assert (code, text) == (2, "")
    for part in ("a run has one", "seed is 'first'", "--accept lr_scheduler_type"):
        assert part in err
    assert not (tmp_path / "ours").exists()
    refused("does not exist", "import", "config", tmp_path / "none.yaml")
    refused("is a folder", "import", "config", tmp_path)


def test_names_that_hurt_a_terminal_are_spelled_out(tmp_path):
    theirs = written(tmp_path, train(output_dir="\x1b]0;x\x07", **{"\x1b[31mkey": 1}))
    code, text, err = call("import", "config", theirs, "--accept", "\x1b[31mkey", "--output", tmp_path / "ours")
    assert code == 0, err
    assert "\x1b" not in text
    assert "\\x1b[31mkey" in text


def test_prompts_of_theirs_are_asked_in_a_run(tmp_path):
    entries = {
        "sst2": on_hub("train", subset="sst2", instruction="Learn.", columns={"prompt": "sentence", "response": "label"}),
        "sst2_eval": on_hub("validation", subset="sst2", instruction="Tell.", columns={"prompt": "sentence", "response": "label"}),
    }  # fmt: skip
    out = tmp_path / "ours"
    code, text, err = call("import", "datasets", described(tmp_path, entries), "--output", out)
    assert (code, err) == (0, "")
    assert "it is our sst2, train split" in text
    settings = ["model=peftbench-tiny", "dataset=sst2@mini", "method=base", f"output={tmp_path / 'runs'}", "protocol=published"]  # fmt: skip
    values = [part for setting in settings for part in ("--set", setting)]
    files = ["configs/train.yaml", "configs/eval.yaml"]
    base = ["run", *files, *values, "--set", "evaluation.test_rows=6", "--json"]
    code, plain, err = call(*base)
    assert code == 0, err
    code, asked, err = call(*base, "--set", f"data.prompts={out / 'prompts.yaml'}")
    assert code == 0, err
    results = [json.loads(each.read_text()) for each in (tmp_path / "runs").rglob("result.json")]
    assert len(results) == 2, "another evaluation, since the prompts are others"
    said = [each for result in results for each in result["data"]["differences"] if "prompts.yaml" in each]
    assert len(said) == 1
    refused("need `protocol: published`", *base, "--set", "protocol=corrected", "--set", f"data.prompts={out / 'prompts.yaml'}")  # fmt: skip
    code, trained, err = call(*base, "--set", "method=ia3", "--set", f"data.prompts={out / 'prompts.yaml'}", "--set", "training.epochs=1", "--set", "data.train_rows=20")  # fmt: skip
    assert code == 0, err
    folder = json.loads(trained)["folder"]
    assert call("predict", folder, stdin="a fine film\n")[0] == 0
    (out / "prompts.yaml").write_text((out / "prompts.yaml").read_text().replace("Tell.", "Tell me."))
    refused("prompts.yaml' is not what it was when run", "predict", folder, stdin="a fine film\n")


def test_datasets_of_their_own_are_entries_with_rows(tmp_path):
    file = moods(tmp_path, pile={"hf_hub_url": "a/b", "columns": {"prompt": "text"}})
    out = tmp_path / "ours"
    code, text, err = call("import", "datasets", file, "--output", out, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(text)
    assert {each["name"]: each["verdict"] for each in facts["entries"]} == {
        "mood": "entry", "mood_eval": "entry", "pile": "left out",
    }  # fmt: skip
    assert (out / "mood" / "train.jsonl").is_file()
    refused("is there already", "import", "datasets", file, "--output", out)
    refused(
        "none of 1 entries can be taken", "import", "datasets", file, "--only", "pile", "--output", tmp_path / "x"
    )
    assert not (tmp_path / "x").exists()


def test_the_guide_can_be_followed_and_shows_what_comes_out(tmp_path):
    guide = (Path(__file__).parents[2] / "docs" / "from-peft-factory.md").read_text(encoding="utf-8")
    places = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": places, "PEFTBENCH_DATA": ""}
    printed = []
    for block in re.findall(r"```sh\n(.*?)```", guide, re.DOTALL):
        done = subprocess.run(
            ["bash", "-euc", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        printed.append("".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines()))
    shown = re.findall(r"```text\n(.*?)```", guide, re.DOTALL)
    assert shown[0] == printed[0]
    assert shown[2] == printed[3]
