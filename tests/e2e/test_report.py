"""`peftbench report` over records with predictions: a folder of tables and figures, single tables, model cards, refusals."""

import csv
import json
import shutil

import numpy as np
import pytest

from peftbench.leaderboard import compare
from peftbench.store import stored_results
from tests.e2e.test_cli import call, refused
from tests.e2e.test_compare import add, fill, run_of
from tests.synthetic import add_run, edit

TABLES = ("leaderboard", "table1", "table2", "table11")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("report") / "runs", datasets=("rte", "cb", "svamp"))


@pytest.fixture
def runs(kept, tmp_path):
    shutil.copytree(kept, tmp_path / "runs")
    return tmp_path / "runs"


def said(*arguments):
    code, out, err = call("report", *arguments)
    assert code == 0, err
    return out


def test_a_folder_holds_what_the_records_allow_and_says_what_is_missing(kept, tmp_path):
    out = said(kept, "--output", tmp_path / "out", "--format", "markdown,csv,latex,html")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    wanted = {f"{table}{ending}" for table in TABLES for ending in (".md", ".csv", ".tex", ".html")}
    assert wanted | {"README.md", "index.html", "runs.csv"} <= names
    # The model of these records is nowhere, so that its FLOPs cannot be predicted.
    assert "table3.md" not in names
    assert "not there: Table 3: model 'models/small'" in out
    index = (tmp_path / "out" / "README.md").read_text()
    assert all(f"[{name}]({name})" in index for name in names - {"README.md", "index.html"})
    assert "| Table 9 |" in index
    page = (tmp_path / "out" / "index.html").read_text()
    assert "<script" not in page
    assert "default-src &#x27;none&#x27;" in page or "default-src 'none'" in page
    runs = list(csv.DictReader((tmp_path / "out" / "runs.csv").open()))
    assert len(runs) == len(stored_results(kept))
    assert all((kept / run["folder"]).is_dir() for run in runs)
    assert not [name for name in names if name.startswith(".")]


def test_a_page_stands_by_itself(kept, tmp_path):
    pytest.importorskip("matplotlib")
    said(kept, "--output", tmp_path / "out", "--format", "html")
    page = (tmp_path / "out" / "index.html").read_text()
    assert page.count('src="data:image/svg+xml;base64,') == 4
    assert 'src="' not in page.replace('src="data:', "")
    for name in ("figure4", "heatmap", "forest", "ranks"):
        drawn = (tmp_path / "out" / f"{name}.svg").read_text()
        assert drawn.lstrip().startswith("<?xml")
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        said(kept, "--output", tmp_path / "again", "--format", "html")
        assert (tmp_path / "again" / f"{name}.svg").read_text() == drawn


def test_figures_without_matplotlib_are_named_as_missing(kept, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    out = said(kept, "--output", tmp_path / "out", "--format", "markdown")
    assert "not there: figure4.svg: matplotlib is not installed; install what figures need: pip install" in out
    assert (tmp_path / "out" / "leaderboard.md").is_file()


def test_a_table_is_printed_with_the_numbers_of_the_comparison(kept):
    out = said(kept)
    for row in compare(stored_results(kept), replicates=1000):
        title = {"base": "Base", "ia3": "IA3", "lora": "LoRA", "ln_tuning": "LNTuning"}[row.method]
        line = next(line for line in out.splitlines() if line.startswith(f"| {title} |"))
        assert f"{row.mean.estimate:.1f}" in line
    assert "± " in said(kept, "--table", "11")
    assert r"\toprule" in said(kept, "--table", "1", "--format", "latex")
    rows = list(csv.DictReader(said(kept, "--table", "2", "--format", "csv").splitlines()))
    svamp = [each for each in rows if each["part"] == "Published scoring" and each["method"] == "LoRA"]
    published = [
        each.evaluation.scores["published"].primary
        for each in stored_results(kept)
        if str(each.config.method) == "lora" and each.config.dataset == "svamp"
    ]
    assert float(svamp[0]["svamp"]) == pytest.approx(np.mean(published))


def test_without_predictions_means_have_no_intervals_and_it_is_said(tmp_path):
    for method in ("lora", "ia3"):
        for dataset in ("rte", "cb"):
            add_run(tmp_path, method, dataset, 1)
    out = said(tmp_path)
    assert "No intervals: " in out
    assert "95 %" not in out.replace("95 % interval", "")


def test_half_a_file_of_predictions_is_named(runs):
    [file] = run_of(runs, "lora", "rte", 1).glob("eval-*/predictions.parquet")
    file.write_bytes(file.read_bytes()[:100])
    assert "No intervals: " in said(runs)
    refused("predictions.parquet", "report", run_of(runs, "lora", "rte", 1), "--card")


def test_missing_runs_are_refused_or_marked(runs):
    for seed in (1, 2, 3):
        shutil.rmtree(run_of(runs, "lora", "cb", seed))
    out = said(runs)
    assert "| LoRA | 57,344 |" in out
    assert "3 missing" in out
    assert "LoRA lacks cb, seed 1; LoRA lacks cb, seed 2" in out
    out = said(runs, "--allow-missing")
    assert "3 missing | 3 missing" not in out
    assert "means leave out cb for all methods" in out


def test_bad_input_ends_in_one_sentence(kept, tmp_path):
    refused("is not a folder", "report", tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    refused("holds no finished run", "report", tmp_path / "empty")
    refused("unknown table '12'", "report", kept, "--table", "12")
    refused("unknown format 'pdf'", "report", kept, "--format", "pdf")
    refused("expected some of markdown, latex, csv, html", "report", kept, "--format", ",")
    refused("has 2 formats and a table is printed in one", "report", kept, "--format", "csv,html")
    refused("give one of them", "report", kept, "--table", "1", "--output", tmp_path / "out")
    refused("unknown device 'abacus'", "report", kept, "--device", "abacus")
    refused("--references is 'three'", "report", kept, "--references", "three")
    refused("none of the datasets of Table 2", "report", fill(tmp_path / "one", datasets=("rte",)), "--table", "2")
    (tmp_path / "file").write_text("")
    refused("cannot write", "report", kept, "--output", tmp_path / "file")
    refused("cannot write", "report", kept, "--output", tmp_path / "file" / "below")


def test_one_dataset_has_no_ranks_and_it_is_said(tmp_path):
    fill(tmp_path / "runs", datasets=("rte",), methods=("lora", "ia3"), seeds=(1,))
    out = said(tmp_path / "runs", "--output", tmp_path / "out", "--format", "markdown")
    assert "not there: ranks.svg: the runs are of one dataset" in out
    assert "not there: figure4.svg: every run has one seed" in out
    assert "not there: Table 2: " in out


def test_several_models_or_protocols_must_be_chosen(tmp_path):
    for model in ("models/a", "models/b"):
        add_run(tmp_path, "lora", "rte", 1, model=model)
    refused("several models, models/a, models/b; choose one with --model", "report", tmp_path)
    assert "models/b" in said(tmp_path, "--model", "models/b")
    add_run(tmp_path, "lora", "cb", 1, model="models/b", protocol="published")
    refused("several protocols", "report", tmp_path, "--model", "models/b")
    assert "CB 277" in said(tmp_path, "--model", "models/b", "--protocol", "published")


def test_a_failed_run_alone_has_nothing_to_report(tmp_path):
    add_run(tmp_path, "lora", "rte", 1, failed=True)
    refused("none of the runs has scores", "report", tmp_path)


def test_a_record_of_a_newer_version_is_named(runs):
    [file] = run_of(runs, "lora", "rte", 1).glob("eval-*/result.json")
    edit(file, record_version=99)
    refused("newer version", "report", runs)


# ------------------------------------------------------------------------------------------------ model card


def card_of(folder):
    hub = pytest.importorskip("huggingface_hub")
    return hub.ModelCard(said(folder, "--card"), ignore_metadata_errors=False)


def test_a_card_loads_with_the_hub_and_holds_the_scores(kept):
    from huggingface_hub.repocard_data import model_index_to_eval_results

    run = run_of(kept, "lora", "rte", 1)
    card = card_of(run)
    front = card.data.to_dict()
    assert front["base_model"] == "models/small"
    assert front["library_name"] == "peft"
    assert front["datasets"] == ["nyu-mll/glue"]
    assert {"peft", "peftbench", "lora"} <= set(front["tags"])
    import yaml

    index = yaml.safe_load(said(run, "--card").split("---")[1])["model-index"]
    name, found = model_index_to_eval_results(index)
    assert name == "LoRA on rte"
    [result] = [each for each in stored_results(run) if each.evaluation]
    expected = {rule: scores.primary for rule, scores in result.evaluation.scores.items()}
    assert {each.metric_name.split(", ")[1].split()[0]: each.metric_value for each in found} == expected
    assert {each.dataset_type for each in found} == {"nyu-mll/glue"}
    [row] = compare([result], replicates=1000)
    ends = f"{row.mean.low:.1f} to {row.mean.high:.1f}"
    assert f"| corrected | {row.mean.estimate:.1f} | {ends} |" in card.text
    assert "PeftModel.from_pretrained" in card.text
    assert "57,344" in card.text
    assert "| rank | 16 |" in card.text
    assert "d" * 64 in card.text


def test_a_card_names_a_hub_model_in_full_and_no_path_of_a_folder(tmp_path):
    for model, revision, name, loaded in (
        ("owner/small", "a" * 40, "owner/small", f'("owner/small", revision="{"a" * 40}")'),
        ("some/where/small", None, "small", '("path/to/small")'),
    ):
        run = add(tmp_path / "runs", "lora", "rte", 1, 0.8)
        for file in (run / "train.json", *run.glob("eval-*/result.json")):
            record = json.loads(file.read_text())
            config = {**record["config"], "model": model, "model_revision": revision}
            edit(file, model={**record["model"], "name": "small"}, config=config)
        card = card_of(run)
        assert card.data.to_dict()["base_model"] == name
        assert loaded in card.text
        assert "some/where" not in card.text
        shutil.rmtree(tmp_path / "runs")


def test_a_card_is_that_of_the_run_whichever_of_its_folders_is_named(kept, tmp_path):
    run = run_of(kept, "lora", "rte", 1)
    (run / "adapter").mkdir(exist_ok=True)
    assert said(run, "--card") == said(run / "adapter", "--card")
    [evaluated] = run.glob("eval-*")
    assert said(run, "--card") == said(evaluated, "--card")
    out = said(run, "--card", "--output", tmp_path / "README.md")
    assert "written to" in out
    assert (tmp_path / "README.md").read_text() == said(run, "--card")
    said(run, "--card", "--output", run / "adapter")
    assert (run / "adapter" / "README.md").read_text() == said(run, "--card")
    refused("--card goes with --output alone", "report", run, "--card", "--table", "1")


def test_a_card_of_hostile_names_is_still_yaml_and_text(tmp_path):
    names = (
        "a: b",
        "yes",
        "1e5",
        "'\"",
        "</script><b>",
        "名前",
        "- x",
        "#x",
        "{a}",
        "\\",
        "a/b@c",
        "x  y",
        "<!--",
        "null",
    )
    for name in names:
        run = add(tmp_path / "runs", "lora", "rte", 1, 0.8)
        for file in (run / "train.json", *run.glob("eval-*/result.json")):
            edit(file, model={**json.loads(file.read_text())["model"], "name": name})
        card = card_of(run)
        assert card.data.to_dict()["base_model"] == " ".join(name.split())
        assert "<script" not in card.text
        assert "<b>" not in card.text
        shutil.rmtree(tmp_path / "runs")


def test_what_has_no_card_says_why(kept, tmp_path):
    refused("does not exist", "report", tmp_path / "nowhere", "--card")
    refused("is no run and no adapter of one", "report", kept, "--card")
    [base] = (kept / "small" / "base" / "rte").iterdir()
    refused("is of the base model, which has no adapter", "report", base, "--card")
    unfinished = add_run(tmp_path, "lora", "rte", 1, primary=None)
    refused("is not finished", "report", unfinished, "--card")
    failed = add_run(tmp_path, "lora", "rte", 2, failed=True)
    refused("has failed", "report", failed, "--card")
    begun = add_run(tmp_path, "lora", "rte", 3, primary=None)
    (begun / "train.json").unlink()
    refused("is not finished", "report", begun, "--card")
    run = add(tmp_path / "two", "lora", "rte", 1, 0.8)
    [evaluated] = run.glob("eval-*")
    shutil.copytree(evaluated, run / "eval-ffffffffffff")
    edit(run / "eval-ffffffffffff" / "result.json", eval_id="f" * 12)
    refused("several evaluations, eval-eeeeeeeeeeee, eval-ffffffffffff", "report", run, "--card")
    assert "| evaluation | ffffffffffff |" in said(run / "eval-ffffffffffff", "--card")


# --------------------------------------------------------------------------------------------------- the paper


def test_the_papers_tables_stand_beside_ours(tmp_path):
    out = said("paper", "--output", tmp_path / "out", "--format", "markdown,html")
    assert "not there: Table 11: the numbers of Table 11 are lost" in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {f"table{name}.md" for name in (1, 2, 3, 9, 10)} | {"index.html", "README.md"} <= names
    assert "LoRA 80.1 against 77.94" in said("paper", "--table", "3")
    assert "nothing" in said("paper")
    refused("are for a folder of runs", "report", "paper", "--model", "x")
    refused("unknown table of the paper 'leaderboard'", "report", "paper", "--table", "leaderboard")
