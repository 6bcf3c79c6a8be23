"""A dataset and a metric of one's own through every command, each in the way a user would meet it."""

import json
import os
import re
import subprocess
import sys

import pytest

from peftbench.cli import app  # noqa: F401
from peftbench.datasets import own
from peftbench.predictions import read_predictions
from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import call, refused
from tests.own_files import METRIC, put, put_metric, rows, write_rows

TRAIN = "model: model\ndataset: own/tickets.yaml\nmethod: {name: lora, rank: 2}\nthreads: 1\n"
TRAIN += "training: {epochs: 1, learning_rate: 1e-2, validations: 2}\n"
RAISING = METRIC.replace("    return", "    1 / 0\n    return")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(str(tmp_path_factory.mktemp("models") / "model"))


@pytest.fixture
def place(tmp_path, monkeypatch, model):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PEFTBENCH_DATA", raising=False)
    (tmp_path / "model").symlink_to(model)
    (tmp_path / "train.yaml").write_text(TRAIN)
    (tmp_path / "eval.yaml").write_text("max_new_tokens: 6\n")
    return tmp_path


def run(place, *more, status=0):
    code, out, err = call("run", place / "train.yaml", place / "eval.yaml", "--json", *more)
    assert code == status, err
    return json.loads(out), err


def forget():
    """As in a new process: nothing is known of any entry."""
    own._known.clear()
    own._folders.clear()


def test_a_run_and_every_command_that_reads_its_record(place):
    put(place / "own")
    result, _ = run(place)
    name = result["config"]["dataset"]
    assert name.startswith("tickets@")
    assert result["folder"].startswith("runs/model/lora/tickets/seed42-")
    assert result["train"]["data"]["entry"]["name"] == name
    assert result["train"]["data"]["files"].keys() == {"train.jsonl", "test.jsonl"}
    run(place, "--set", "method=base")
    (place / "own").rename(place / "gone")  # records speak for themselves
    forget()
    code, out, _ = call("score", result["folder"], "--json")
    assert code == 0
    assert json.loads(out)[0]["metric"] == "macro_f1"
    forget()
    code, out, err = call("predict", result["folder"], "--lines", _lines(place))
    assert (code, len(out.splitlines())) == (0, 2), err
    for command in (["results", "runs"], ["report", "runs"], ["ranks", "runs"], ["pscp", "runs"],
                    ["report", result["folder"], "--card"], ["site", "build", "page", "--runs", "runs"]):  # fmt: skip
        forget()
        code, out, err = call(*command)
        assert code == 0, (command, err)
        if command[0] in ("results",):
            assert name in out
    [page] = (place / "page").rglob("*tickets*")
    assert "Which department?" in page.read_text()


def _lines(place):
    file = place / "lines.txt"
    file.write_text('The screen.\n{"Ticket": "The bill."}\n')
    return file


def test_a_grid_of_own_and_other_datasets_in_worker_processes(place):
    put_metric(put(place / "own", metric="./first_letter.py").parent)
    (place / "grid.yaml").write_text(
        "name: g\nmodels: [model]\nmethods: [base, ia3]\ndatasets: [own/tickets.yaml, sst2@mini]\n"
        "exclude: [{methods: base, datasets: sst2@mini}]\n"
        "run: {threads: 1, device: cpu, data: {}, training: {epochs: 1, validations: 1}, evaluation: {test_rows: 8, "
        "max_new_tokens: 4}}\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", "grid", "run", "grid.yaml"], capture_output=True, text=True, timeout=200,
        env={**os.environ, "PEFTBENCH_DATA": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    code, out, _ = call("grid", "status", "grid.yaml")
    assert "3 of 3 cells done" in out
    forget()
    code, out, err = call("compare", "base", "ia3", "runs/g", "--allow-missing")
    assert code == 0, err
    assert "tickets@" in out
    code, out, _ = call("plan", "grid.yaml", "--device", "a100-40")
    assert "3 done" in out
    assert re.search(r"rows of sst2@mini, tickets@\w+ as they are here", out)
    assert "Table 4" not in out
    write_rows(place / "own" / "test.jsonl", rows(9, 300))  # other rows are other cells
    code, out, _ = call("grid", "status", "grid.yaml")
    assert "1 of 3 cells done" in out


def test_a_metric_that_fails_loses_no_output_and_is_mended_without_generating(place, monkeypatch):
    file = put(place / "own", metric="./first_letter.py")
    put_metric(file.parent, RAISING)
    code, out, err = call("run", place / "train.yaml", place / "eval.yaml", "--json")
    assert code == 1
    assert (
        "the run failed: row 0: metric first_letter, scoring a row, ended with ZeroDivisionError: division by zero, line"
        in err
    )
    assert "Traceback" not in err
    failed = json.loads(out)
    evaluation = failed["evaluation"]
    assert (evaluation["status"], evaluation["scores"]) == ("failed", {})
    unknown = ("metric_version", "invalid_rate", "top_output_share")
    assert [evaluation[each] for each in unknown] == [None] * 3, "nothing is claimed of what was not scored"
    kept = read_predictions(
        place / failed["folder"] / f"eval-{evaluation['eval_id']}" / "predictions.parquet",
        evaluation["predictions_sha256"],
    )
    assert len(kept) == 16
    assert (
        "first_letter, scoring a row, ended" in call("run", place / "train.yaml", place / "eval.yaml")[2]
    )  # and again
    put_metric(file.parent)

    def never(*_, **__):
        raise AssertionError("something was generated or trained again")

    monkeypatch.setattr("peftbench.execute.generate", never)
    monkeypatch.setattr("peftbench.training.train", never)
    result, err = run(place)
    assert "none is generated again" in err
    assert result["folder"] == failed["folder"]
    scores = result["evaluation"]["scores"]["corrected"]["values"]
    expected = [bool(each.text) and each.text[0] == each.references[0][0] for each in kept]
    assert scores["primary"] == pytest.approx(100 * sum(expected) / 16)
    code, out, err = call("eval", place / "eval.yaml", "--run", result["folder"])
    assert code == 0, err
    code, out, _ = call("results", "runs", "--format", "json")
    assert [row["status"] for row in json.loads(out)] in (["failed", "done"], ["done", "failed"])


def test_a_metric_that_ends_the_process_or_never_ends_loses_no_output_either(place):
    file = put(place / "own", metric="./first_letter.py")
    put_metric(file.parent, METRIC.replace("    return", "    import os; os._exit(9)\n    return"))
    done = subprocess.run(
        [sys.executable, "-m", "peftbench", "run", "train.yaml", "eval.yaml"], capture_output=True, timeout=100
    )
    assert done.returncode == 9
    put_metric(file.parent)
    result, err = run(place)
    assert "none is generated again" in err
    assert result["evaluation"]["status"] == "done"


def test_a_run_is_not_evaluated_on_rows_it_was_not_made_with(place):
    file = put(place / "own")
    result, _ = run(place)
    write_rows(file.parent / "train.jsonl", rows(30))
    refused("was made with other rows", "eval", place / "eval.yaml", "--run", result["folder"])


def test_a_record_with_code_that_is_not_known_here_runs_nothing(place, monkeypatch):
    file = put(place / "own", metric="./first_letter.py")
    put_metric(file.parent, METRIC + "\nopen('ran', 'w').close()\n")
    run(place)
    (place / "ran").unlink()
    monkeypatch.setenv("PEFTBENCH_CACHE", str(place / "another"))
    forget()
    from peftbench.plugin_file import run_file

    run_file.cache_clear()
    refused("code is not taken from records", "score", "runs/model/lora/tickets/" + _only(place))
    assert not (place / "ran").exists()
    assert call("check", "metric", "own/first_letter.py")[0] == 0
    assert call("score", "runs/model/lora/tickets/" + _only(place))[0] == 0


def _only(place):
    [folder] = (place / "runs" / "model" / "lora" / "tickets").iterdir()
    return folder.name


def test_show_takes_a_file_and_escapes_what_it_shows(place):
    put(place / "own", [{"text": "\x1b[31mred \u202e", "label": "repair"}, *rows(40)])
    code, out, err = call("show", "dataset", "own/tickets.yaml")
    assert code == 0, err
    assert "Ticket: \\x1b[31mred" in out
    assert "\x1b" not in out
    assert "licence: CC0-1.0" in out
    code, out, _ = call("check", "dataset", "own/tickets.yaml")
    assert "\x1b" not in out
    refused("does not exist", "show", "dataset", "own/absent.yaml")
    refused("is a folder", "show", "dataset", "own/")


def test_new_writes_what_check_accepts_once_it_is_filled(place):
    train, test = [{**row, "ticket_id": i} for i, row in enumerate(rows(40))], rows(10, 100)
    write_rows(place / "train.jsonl", [*train, {**train[0], "text": "nothing said of it", "label": None}])
    write_rows(place / "test.jsonl", test)
    code, out, err = call("new", "dataset", "mine", "--from", "train.jsonl", "--test", "test.jsonl")
    assert code == 0, err
    written = (place / "mine.yaml").read_text()
    assert "ticket_id" not in written
    assert "None" not in written, "an answer that is missing is no label"
    write_rows(place / "train.jsonl", train)
    code, out, _ = call("check", "dataset", "mine.yaml")
    assert code == 1
    assert "licence still says TODO" in out
    assert "instruction still says TODO" in out
    filled = written.replace("licence: TODO", "licence: MIT").replace("TODO: say what is asked.", "Which?")
    (place / "mine.yaml").write_text(filled)
    code, out, _ = call("check", "dataset", "mine.yaml", "--model", "model", "--json")
    assert (code, json.loads(out)["findings"]) == (0, [])
    refused("'mine.yaml' is there already and is not overwritten", "new", "dataset", "mine")
    assert (place / "mine.yaml").read_text() == filled
    refused("exists already", "new", "dataset", "sst2")
    refused("cannot be the name of a dataset; use lower-case", "new", "dataset", "../x")
    refused("is not a file in this folder", "new", "dataset", "y", "--from", "/etc/passwd")


@pytest.mark.parametrize(("delimiter", "ending"), [(";", "csv"), ("\t", "csv"), (",", "csv")])
def test_new_guesses_what_parts_the_columns(place, delimiter, ending):
    lines = [delimiter.join(("question", "answer"))] + [
        delimiter.join((f"What is {i}?", str(i))) for i in range(30)
    ]
    for name in ("a", "b"):
        (place / f"{name}.{ending}").write_text("\n".join(lines[: 1 if name == "a" else 31] + lines[20:]) + "\n")
    code, _, err = call("new", "dataset", "mine", "--from", "a.csv", "--test", "b.csv")
    assert code == 0, err
    written = (place / "mine.yaml").read_text()
    assert "target: answer" in written
    assert "\nlabels:" not in written
    assert "metric: token_f1" in written
    out = call("check", "dataset", "mine.yaml")[1]
    assert "column" not in out.replace("columns", "")


def test_new_metric_writes_a_metric_and_a_test_that_pass(place):
    code, out, err = call("new", "metric", "close_enough")
    assert code == 0, err
    assert call("check", "metric", "close_enough.py")[0] == 0
    done = subprocess.run([sys.executable, "test_close_enough.py"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "all right\n"), done.stderr
    refused("is there already", "new", "metric", "close_enough")
    refused("exists already", "new", "metric", "macro_f1")
    refused("such as my_metric", "new", "metric", "Not a name")
    (place / "bad.py").write_text("import os; os._exit if False else 1/0")
    code, out, err = call("check", "metric", "bad.py", "--json")
    assert code == 1
    assert "ZeroDivisionError" in json.loads(out)["findings"][0]["what"]
    refused("does not exist", "check", "metric", "absent.py")


def test_python_takes_a_path_as_well(place):
    import peftbench

    put_metric(put(place / "own", metric="./first_letter.py").parent)
    found = peftbench.score("own/tickets.yaml", ["repair", "billing"], ["repair", "repair"])
    assert found["primary"] == 50


@pytest.mark.parametrize("command", ["eval", "predict"])
def test_a_run_from_elsewhere_has_no_metric_run(place, tmp_path, command):
    """Its record names an entry, and that a metric: both may come from whoever made the record."""
    put_metric(put(place / "own", metric="./first_letter.py").parent)
    result, _ = run(place)
    evil = METRIC + f"\nopen({str(tmp_path / 'ran')!r}, 'w').close()\n"
    for text in (METRIC, evil):
        (place / "own" / "first_letter.py").write_text(text)
        (tmp_path / "ran").unlink(missing_ok=True)
        given = ["eval", place / "eval.yaml", "--run", result["folder"]]
        if command == "predict":
            given = ["predict", result["folder"], "--lines", _lines(place), "--device", "cpu"]
        elsewhere = {**os.environ, "PEFTBENCH_CACHE": str(tmp_path / "other"), "PEFTBENCH_DATA": ""}
        done = subprocess.run(
            [sys.executable, "-m", "peftbench", *map(str, given)], capture_output=True, text=True, env=elsewhere
        )
        assert not (tmp_path / "ran").exists()
        assert not (tmp_path / "other" / "python").exists()
        assert "Traceback" not in done.stderr
        assert done.returncode == (2 if command == "eval" else 0), done.stderr
        if command == "eval":
            assert "code is not taken from records" in done.stderr
