"""`peftbench import results` and the paper's tables as a user meets them."""

import csv
import io
import json

import pytest

from tests.e2e.test_cli import call
from tests.synthetic import add_run
from tests.unit.importers import shapes


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "runs"
    add_run(folder, "lora", "rte", primary=71.0)
    return folder


def pairs(text):
    return dict(line.split(": ", 1) for line in text.splitlines())


def test_results_are_taken_in_once_and_shown_only_when_asked_for(runs, tmp_path):
    before = call("results", runs, "--format", "json")
    file = shapes.written(tmp_path / "in", shapes.harness(), "results_1.json")
    code, out, err = call("import", "results", "lm-eval", file, "--into", runs, "--name", "theirs")
    assert (code, err) == (0, "")
    assert pairs(out) == {"import": "theirs", "results": "4", "files": "1", "left out": "0", "new": "yes"}
    code, out, err = call("import", "results", "lm-eval", file, "--into", runs)
    assert pairs(out)["new"].startswith("no, the same was imported at ")
    assert call("results", runs, "--format", "json") == before
    code, out, err = call("results", runs, "--imported", "--format", "csv", "--sort", "-score")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["score"] for row in rows] == ["75.0", "50.0", "25.0", ""]
    assert {row["source"] for row in rows} == {"lm-eval"}
    assert {row["imported_as"] for row in rows} == {"theirs"}
    code, out, err = call("ranks", runs, "--json")
    assert "theirs" not in out + err
    code, out, err = call("pscp", runs, "--imported", "theirs", "--exponents", "flops=0")
    assert code == 2
    assert "holds the base model alone" in err


def test_damaged_files_are_named_and_left_out_only_if_told(runs, tmp_path):
    folder = tmp_path / "in"
    shapes.written(folder, shapes.comparison(), "good.json")
    shapes.written(folder, '{"run_info": ', "bad.json")
    code, out, err = call("import", "results", "hf-method-comparison", folder, "--into", runs)
    assert (code, out) == (2, "")
    assert err.splitlines()[0].startswith("peftbench: bad.json is no JSON")
    assert not (runs / "imported").exists()
    code, out, err = call(
        "import", "results", "hf-method-comparison", folder, "--into", runs, "--skip-damaged", "--json"
    )
    assert code == 0
    assert json.loads(out) | {"import": ""} == {"import": "", "results": 1, "files": 2, "left out": 1, "new": True}
    assert "bad.json" in err
    file = runs / "imported" / f"{json.loads(out)['import']}.json"
    file.write_text(file.read_text().replace("48.2", "58.2"))
    code, out, err = call("results", runs, "--imported")
    assert code == 1
    assert "does not have the content that it was written with" in err


def test_a_printed_table_is_shown_with_its_errata(tmp_path):
    code, out, err = call("show", "table", "3")
    assert (code, err) == (0, "")
    assert "Prefix Tuning  45.9" in out
    assert "prefix_tuning, performance: printed 45.9, expected 41.93" in out
    assert "lora-flops: " in out
    code, out, err = call("show", "table", "1", "--json")
    shown = json.loads(out)
    assert shown["rows"][1]["cells"][1] | {"errata": []} == {
        "text": "91.1",
        "mark": "underlined",
        "sd": None,
        "errata": [],
    }
    assert shown["errata"][0]["id"] == "prompt-tuning-reset"
    code, out, err = call("show", "table", "4")
    assert code == 2
    assert "unknown table of the paper '4'" in err
    code, out, err = call("list", "tables", "--json")
    assert [each["number"] for each in json.loads(out)][:4] == ["1", "2", "3", "9(a)"]
