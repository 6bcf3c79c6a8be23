"""The folder of the page: what is in it, what it replaces and what it refuses."""

import base64
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from peftbench.datasets import dataset_names
from peftbench.errors import ConfigError, DataError, PeftBenchError
from peftbench.leaderboard import compare
from peftbench.records import TINY, DataConfig
from peftbench.site.build import MARK, build
from peftbench.site.costs import flops_of
from peftbench.site.payload import SafeNames, statement
from peftbench.standings import standings
from peftbench.store import stored_results
from tests.predicted import DATASETS, SKILL, add, fill
from tests.synthetic import add_run, edit

ONE = re.compile(r"peftbench\.put\((\"[^\"]*\"),JSON\.parse\('(.*)'\)\);\n")


def read(file):
    """Name and data of a file, by another way than a script engine's."""
    name, text = ONE.fullmatch(file.read_text("ascii")).groups()
    assert not set("<>&'") & set(text)
    return json.loads(name), json.loads(text.replace("\\\\", "\\"))


def data(page, name):
    found, value = read(page / "data" / f"{name}.js")
    assert found == name
    return value


def no_flops(_record):
    return None


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    from peftbench.site import build as module

    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "ASSETS", folder / "assets")
        (folder / "assets").mkdir()
        (folder / "assets" / "index.html").write_text("<!doctype html>")
        build(folder / "page", [runs], flops=no_flops)
    return folder / "page"


def test_every_file_is_one_statement_of_plain_data(page):
    files = list((page / "data").rglob("*.js"))
    assert len(files) > 100
    for file in files:
        name, _ = read(file)
        assert (page / "data" / f"{name}.js") == file


def test_intervals_are_those_of_the_command_line(page, runs):
    index, results = data(page, "index"), stored_results(runs)
    [group] = index["groups"]
    assert (sorted(group["datasets"]), sorted(group["methods"])) == (sorted(DATASETS), sorted(SKILL))
    found = standings(results)
    for each in found.methods:
        ours = group["means"][each.method]
        assert ours == {"estimate": each.mean.estimate, "low": each.mean.low, "high": each.mean.high}
    for row in compare(results):
        ours = group["means"][row.method]
        assert ours["low"] == pytest.approx(row.mean.low, abs=1e-9)
        assert ours["high"] == pytest.approx(row.mean.high, abs=1e-9)
        assert {name: group["cells"][name][row.method]["estimate"] for name in DATASETS} == pytest.approx(
            row.scores
        )


def test_replicates_give_the_interval_of_any_part(page, runs, tmp_path):
    group = data(page, "index")["groups"][0]
    drawn = data(page, f"draws/{group['id']}")
    assert drawn["replicates"] == 1000
    decoded = {}
    for dataset, cell in drawn["cells"].items():
        values = np.frombuffer(base64.b64decode(cell["values"]), "<f4").reshape(1000, len(cell["methods"]))
        decoded[dataset] = dict(zip(cell["methods"], values.T, strict=True))
        for name, replicates in decoded[dataset].items():
            ours = group["cells"][dataset][name]
            assert np.percentile(replicates, [2.5, 97.5]) == pytest.approx([ours["low"], ours["high"]], abs=1e-4)
    # Two datasets and three methods alone, as the command line would have them from a folder of their own.
    two, three = ("cb", "svamp"), ("ia3", "lora", "ln_tuning")
    alone = standings(stored_results(fill(tmp_path / "runs", two, three, (1, 2))))
    for each in alone.methods:
        mean = np.mean([decoded[dataset][each.method] for dataset in two], axis=0)
        assert np.percentile(mean, [2.5, 97.5]) == pytest.approx([each.mean.low, each.mean.high], abs=1e-4)


def test_records_are_columns(page, runs):
    columns = data(page, "index")["records"]["columns"]
    keys = columns["key"]["values"]
    assert len(keys) == len(set(keys)) == 35
    for place, key in enumerate(keys):
        row = data(page, f"run/{key}")["row"]
        for name, value in row.items():
            column = columns[name]
            if isinstance(column, dict):
                code = column["codes"][place]
                assert value == (None if code < 0 else column["values"][code])
            else:
                assert value == column[place]
    assert set(columns["source"]["values"]) == {"measured"}
    assert "folder" not in columns


def test_predictions_say_which_rows_are_right(page):
    columns = data(page, "index")["records"]["columns"]
    seen = set()
    for place, key in enumerate(columns["key"]["values"]):
        dataset = columns["dataset"]["values"][columns["dataset"]["codes"][place]]
        told = data(page, f"run/{key}")["predictions"]
        assert told == {"rows": 60, "pages": 1}
        rows = data(page, f"predictions/{key}/0")["rows"]
        assert len(rows) == 60
        if dataset in ("rte", "cb"):
            assert all(row["right"] == (row["text"] == row["references"][0]) for row in rows)
            assert all(row["valid"] == (row["text"] != "no answer") for row in rows)
        if dataset == "svamp":
            assert columns["score"][place] == pytest.approx(100 * np.mean([row["right"] for row in rows]))
        if dataset in ("stsb", "conala"):
            assert all(row["right"] is None for row in rows)
        seen.add(dataset)
    assert seen == set(DATASETS)


def test_datasets_stand_in_the_order_of_the_paper(page):
    [group] = data(page, "index")["groups"]
    assert group["datasets"] == [name for name in dataset_names() if name in DATASETS]


def test_flops_of_the_model_that_comes_along_are_known(runs):
    record = next(each.train for each in stored_results(runs) if each.train)
    tiny = record.model_copy(update={"config": record.config.model_copy(update={"model": TINY})})
    nowhere = record.model_copy(update={"config": record.config.model_copy(update={"model": "no/such"})})
    assert flops_of(tiny) is not None
    assert flops_of(nowhere) is None


def test_a_study_of_settings_is_several_groups_and_base_is_in_each(tmp_path):
    runs, few = tmp_path / "runs", DataConfig(train_rows=100)
    for dataset in ("rte", "cb"):
        add(runs, "base", dataset, 1, 0.5)
        for method in ("ia3", "lora"):
            add(runs, method, dataset, 1, 0.7)
            add(runs, method, dataset, 1, 0.9, data=few)
    build(tmp_path / "page", [runs], flops=no_flops)
    groups = data(tmp_path / "page", "index")["groups"]
    assert [each["label"].rsplit(", ", 1)[-1] for each in groups] == ["train rows all", "train rows 100"]
    assert all(each["methods"] == ["base", "ia3", "lora"] and each["refused"] is None for each in groups)


def test_what_cannot_be_compared_says_why_and_shows_its_scores(tmp_path):
    runs = tmp_path / "runs"
    add(runs, "lora", "rte", 1, 0.7)
    add(runs, "ia3", "rte", 1, 0.7, rows=40)
    build(tmp_path / "page", [runs], flops=no_flops)
    [group] = data(tmp_path / "page", "index")["groups"]
    assert "different test rows of rte" in group["refused"]
    assert group["draws"] is False
    assert group["cells"]["rte"]["lora"]["estimate"] > 0
    assert group["cells"]["rte"]["lora"]["low"] is None


def test_runs_that_are_missing_or_failed_are_named(tmp_path):
    runs = fill(tmp_path / "runs", ("rte", "cb"), ("ia3", "lora"), (1, 2))
    add(runs, "lora", "rte", 3, 0.7)
    add_run(runs, "ia3", "rte", 3, failed=True)
    build(tmp_path / "page", [runs], flops=no_flops)
    [group] = data(tmp_path / "page", "index")["groups"]
    assert group["cells"]["rte"]["ia3"]["failed"] == ["seed 3: nonfinite"]
    assert group["cells"]["cb"]["ia3"]["missing"] == group["cells"]["cb"]["lora"]["missing"] == ["seed 3"]
    assert group["cells"]["rte"]["lora"]["missing"] == []
    assert group["means"] == {}


# ------------------------------------------------------------------------------------------------- bad input


def refused(sentence, *arguments, **options):
    with pytest.raises(PeftBenchError, match=sentence) as error:
        build(*arguments, flops=no_flops, **options)
    assert "\n" not in str(error.value)
    return error.value


def test_no_records_is_an_empty_page(tmp_path):
    (tmp_path / "runs").mkdir()
    build(tmp_path / "page", [tmp_path / "runs"])
    index = data(tmp_path / "page", "index")
    assert index["records"]["count"] == 0
    assert index["groups"] == []
    assert len(index["datasets"]) == 27
    assert [each["name"] for each in index["tables"]] == ["paper", "paper-means"]


def test_one_seed_and_one_dataset_say_what_they_cannot(tmp_path):
    runs = fill(tmp_path / "runs", ("rte",), ("ia3", "lora"), (1,))
    build(tmp_path / "page", [runs], flops=no_flops)
    [group] = data(tmp_path / "page", "index")["groups"]
    assert group["caution"].startswith("One seed each")
    assert group["cells"]["rte"]["lora"]["sd"] is None
    assert group["cells"]["rte"]["lora"]["low"] < group["cells"]["rte"]["lora"]["high"]


def test_one_row_has_no_interval_and_says_so(tmp_path):
    for method in ("ia3", "lora"):
        add(tmp_path / "runs", method, "svamp", 1, 0.9, rows=1)
    build(tmp_path / "page", [tmp_path / "runs"], flops=no_flops)
    [group] = data(tmp_path / "page", "index")["groups"]
    assert group["why_no_interval"].startswith("One test row")
    assert group["cells"]["svamp"]["lora"]["low"] is None


def test_records_that_cannot_be_read_are_left_out_and_said(tmp_path):
    runs = fill(tmp_path / "runs", ("rte",), ("ia3", "lora"), (1, 2))
    newer, half = (next((runs / "small" / method / "rte").glob("seed1-*")) for method in ("ia3", "lora"))
    edit(newer / "train.json", record_version=99)
    [file] = half.glob("eval-*/predictions.parquet")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    found = build(tmp_path / "page", [runs], flops=no_flops)
    index = data(tmp_path / "page", "index")
    assert len(found.problems) == len(index["notes"]) == 2
    assert any("newer version" in each for each in index["notes"])
    assert any("predictions.parquet" in each for each in index["notes"])
    [group] = index["groups"]
    assert group["cells"]["rte"]["lora"]["failed"] == ["seed 1: predictions cannot be read"]
    [key] = (key for key, entry in found.entries.items() if entry.problem)
    told = data(tmp_path / "page", f"run/{key}")
    assert told["predictions"] is None
    assert "predictions.parquet" in told["notes"][0]
    assert not (tmp_path / "page" / "data" / "predictions" / key).exists()


def test_names_of_any_length_and_direction(tmp_path):
    long, rightwards = "/".join(["m" * 99] * 5) + "m", "models/\u05d0\u05d1\u05d2 \u202eabc"
    add(tmp_path / "runs", "lora", "rte", 1, 0.9, model=long)
    add(tmp_path / "runs", "lora", "cb", 1, 0.9, model=rightwards)
    build(tmp_path / "page", [tmp_path / "runs"], flops=no_flops)
    index = data(tmp_path / "page", "index")
    assert {each["model"] for each in index["groups"]} == {long, rightwards}
    assert max(len(file.name) for file in (tmp_path / "page").rglob("*")) < 130


def test_names_of_files_are_safe_and_their_own():
    names = SafeNames()
    given = [
        "a",
        "A",
        "../../etc/passwd",
        "a/b",
        "a\\b",
        "",
        ".",
        "..",
        "\x00",
        "con",
        "x" * 500,
        "x" * 501,
        "a-2",
        "\u202e",
    ]
    found = [names.name(each) for each in given]
    assert len({each.lower() for each in found}) == len(given)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,90}", each) for each in found), found


def test_a_statement_is_read_by_a_script_engine(tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not here")
    value = {
        "__proto__": {"x": 1},
        "text": "</script><!--\u2028\u2029\\'\"`${1}\x00\ud800\u202e&amp;",
        "\\": [None, 1e-9, True],
    }
    code = "let seen; const peftbench = { put: (name, value) => { seen = JSON.stringify([name, value]) } };\n"
    script = tmp_path / "it.js"
    script.write_bytes(code.encode() + statement("a/b", value) + b"console.log(seen);\n")
    done = subprocess.run([node, str(script)], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == ["a/b", value]
    with pytest.raises(ValueError, match="JSON"):
        statement("x", float("nan"))


def test_a_page_replaces_a_page_and_nothing_else(tmp_path, runs):
    out = tmp_path / "page"
    build(out, [runs], flops=no_flops)
    first = (out / "data" / "index.js").stat().st_ino
    build(out, [runs], flops=no_flops)
    assert (out / "data" / "index.js").stat().st_ino != first
    assert sorted(each.name for each in tmp_path.iterdir()) == ["page"]
    (out / "CNAME").write_text("mine")
    refused("holds 'CNAME'", out, [runs])
    (out / "CNAME").unlink()
    (out / MARK).write_text("not json")
    refused("is not a page", out, [runs])
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.tex").write_text("dear")
    refused("is not a page", other, [runs])
    assert (other / "chapter.tex").read_text() == "dear"
    refused("is a file", other / "chapter.tex", [runs])
    (tmp_path / "link").symlink_to(out)
    refused("is a link", tmp_path / "link", [runs])
    (tmp_path / "empty").mkdir()
    build(tmp_path / "empty", [runs], flops=no_flops)


def test_a_page_does_not_swallow_the_runs(tmp_path):
    runs = fill(tmp_path / "all" / "runs", ("rte",), ("lora",), (1,))
    assert isinstance(refused("lie inside", tmp_path / "all", [runs]), ConfigError)
    assert isinstance(refused("lie inside", runs, [runs]), ConfigError)
    build(runs.parent / "page", [runs], flops=no_flops)


def test_folders_that_cannot_be(tmp_path, runs):
    assert isinstance(refused("does not exist", tmp_path / "page", [tmp_path / "nothing"]), DataError)
    (tmp_path / "file").write_text("")
    refused("is not a folder", tmp_path / "page", [tmp_path / "file"])
    refused("cannot write", tmp_path / "file" / "page", [runs])
    assert not (tmp_path / "page").exists()


def test_what_fails_on_the_way_leaves_the_old_page(tmp_path, runs, monkeypatch):
    out = tmp_path / "page"
    build(out, [runs], flops=no_flops)
    before = (out / "data" / "index.js").read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("peftbench.site.build.statement", full)
    refused("No space left", out, [runs])
    assert (out / "data" / "index.js").read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["page"]


def test_the_built_page_must_be_there(tmp_path, runs, monkeypatch):
    monkeypatch.setattr("peftbench.site.build.ASSETS", tmp_path / "nothing")
    refused("make web", tmp_path / "page", [runs])
