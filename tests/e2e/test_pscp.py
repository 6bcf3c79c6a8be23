"""`peftbench pscp` over records of real runs, and what it refuses."""

import json
import shutil
from pathlib import Path

import pytest

import peftbench
from peftbench.leaderboard import compare
from peftbench.schema import MethodChoice
from peftbench.store import stored_results
from tests.e2e.test_cli import call, refused
from tests.e2e.test_tiny import few
from tests.synthetic import edit

MEDIANS = ("--references", "median,tflops=0.0001")
MB = 1_000_000


def changed(folder, **values):
    """Put other values into a run's record of its training, `efficiency__device` into what it took."""
    file = folder / "train.json"
    record = json.loads(file.read_text())
    record.pop("sha256", None)
    for key, value in values.items():
        *where, last = key.split("__")
        inner = record
        for part in where:
            inner = inner[part]
        inner[last] = value
    file.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def grouped(tmp_path_factory) -> Path:
    """Base and two methods on two tasks with two seeds; runs that shared passes, so that memory is not known."""
    output = tmp_path_factory.mktemp("pscp")
    results = peftbench.run_many(few(output, methods=("base", "ln_tuning", "lora")))
    assert all(each.status == "done" for each in results)
    return output / "runs"


@pytest.fixture
def runs(grouped, tmp_path) -> Path:
    """The same with memory as if each had been made alone."""
    folder = tmp_path / "runs"
    shutil.copytree(grouped, folder)
    for number, (_, run) in enumerate(trained(folder)):
        changed(run, efficiency__train_peak_memory_bytes=(100 + number) * MB)
    return folder


def trained(folder):
    """Method and folder of each training, in the order of paths."""
    files = sorted(folder.rglob("train.json"))
    return [(json.loads(file.read_text())["config"]["method"]["name"], file.parent) for file in files]


def run_of(folder, method, dataset, seed):
    [found] = (folder / "peftbench-tiny" / method / dataset).glob(f"seed{seed}-*")
    return found


def weighed(folder, *arguments):
    code, out, err = call("pscp", folder, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


def test_records_become_scores_with_intervals(runs):
    found = weighed(runs, *MEDIANS)
    rows = {each["method"]: each for each in found["methods"]}
    assert rows.keys() == {"ln_tuning", "lora"}
    base, *means = compare(stored_results(runs), replicates=400)
    for row, mean in zip((rows["ln_tuning"], rows["lora"]), means, strict=True):
        interval = row["performance"]
        assert interval["estimate"] == pytest.approx(mean.mean.estimate)
        assert interval["low"] == pytest.approx(mean.mean.low, abs=2.5)
        assert interval["high"] == pytest.approx(mean.mean.high, abs=2.5)
        weight = row["pscp"]["estimate"] / interval["estimate"]
        assert row["pscp"]["low"] == pytest.approx(interval["low"] * weight)
        assert row["trainable_params"] == mean.trainable_params
        assert row["missing"] == []
    # Paths come in the order of methods: the first four runs are those of LN tuning.
    assert rows["ln_tuning"]["memory_bytes"] == pytest.approx(101.5 * MB)
    assert rows["lora"]["memory_bytes"] == pytest.approx(105.5 * MB)
    assert rows["ln_tuning"]["extra_flops"] == 0 < rows["lora"]["extra_flops"]
    assert sum(row["wins"] for row in rows.values()) == pytest.approx(1)
    assert found["base_performance"] == pytest.approx(base.mean.estimate)
    assert found["title"].startswith("peftbench-tiny, corrected; 2 datasets, 2 seeds; memory measured on cpu")
    [pair] = found["break_even"]
    assert {pair["first"], pair["second"]} == {"ln_tuning", "lora"}


def test_the_table_says_how_sure_it_is(runs, tmp_path):
    code, out, err = call("pscp", runs, *MEDIANS, "--break-even", "--map", tmp_path / "m.csv")
    assert code == 0, err
    for part in ("95 %", "wins", "base", "resample seeds and test rows", "% surely", "who leads above it"):
        assert part in out
    shares = {line.split(",")[-2] for line in (tmp_path / "m.csv").read_text().splitlines()[1:]}
    assert all(0 <= float(share) <= 1 for share in shares)


def test_a_set_with_a_missing_run_is_refused_or_marked(runs):
    shutil.rmtree(run_of(runs, "lora", "boolq@mini", 2))
    shutil.rmtree(run_of(runs, "lora", "boolq@mini", 1))
    shutil.rmtree(next((runs / "peftbench-tiny" / "base" / "boolq@mini").iterdir()))
    err = refused(
        "the set is not complete: lora lacks boolq@mini, seed 1; lora lacks boolq@mini, seed 2", "pscp", runs
    )
    assert "--allow-missing" in err
    found = weighed(runs, *MEDIANS, "--allow-missing")
    assert "1 dataset, 2 seeds" in found["title"]
    assert "Left out for all: boolq@mini" in found["notes"][1]
    rows = {each["method"]: each for each in found["methods"]}
    assert rows["lora"]["missing"] == ["boolq@mini, seed 1", "boolq@mini, seed 2"]
    alone = [each for each in stored_results(runs) if each.config.dataset == "sst2@mini"]
    assert rows["ln_tuning"]["performance"]["estimate"] == pytest.approx(compare(alone)[1].mean.estimate)
    assert rows["ln_tuning"]["memory_bytes"] == pytest.approx(102.5 * MB)
    assert found["base_performance"] is not None
    code, out, _ = call("pscp", runs, *MEDIANS, "--allow-missing")
    assert code == 0
    assert "lora *" in out
    assert "* The set is not complete" in out


def test_a_missing_seed_and_a_failed_run_count_as_missing(runs):
    changed(run_of(runs, "lora", "sst2@mini", 2), status="failed")
    evaluation = next(run_of(runs, "lora", "sst2@mini", 2).glob("eval-*")) / "result.json"
    edit(evaluation, status="failed")
    refused("lora lacks sst2@mini, seed 2", "pscp", runs)
    found = weighed(runs, *MEDIANS, "--allow-missing")
    assert "2 datasets, 1 to 2 seeds" in found["title"]
    assert "Means are over the seeds that are there" in found["notes"][1]
    for dataset in ("sst2@mini", "boolq@mini"):
        shutil.rmtree(runs / "peftbench-tiny" / "lora" / dataset)
        if dataset == "sst2@mini":
            shutil.rmtree(runs / "peftbench-tiny" / "ln_tuning" / "boolq@mini")
            refused("no dataset was finished by all methods", "pscp", runs, "--allow-missing")


def test_memory_of_several_devices_is_refused_and_predicted_instead(runs, grouped):
    changed(
        run_of(runs, "lora", "sst2@mini", 2),
        efficiency__device="NVIDIA H200",
        efficiency__memory_kind="cuda allocated",
    )
    err = refused(
        "memory was measured on several devices, NVIDIA H200 (cuda allocated), cpu (process resident)",
        "pscp",
        runs,
    )
    assert "--memory predicted with --device NAME" in err
    refused("memory of ln_tuning on ", "pscp", grouped)
    changed(run_of(runs, "lora", "sst2@mini", 2), efficiency=None)
    refused("memory of lora on sst2@mini, seed 2, is not known", "pscp", runs)
    found = weighed(runs, *MEDIANS, "--memory", "predicted", "--device", "h100")
    assert "memory predicted for h100 in float32, 512 tokens a sample" in found["title"]
    from peftbench.efficiency.plan import predict

    [lora] = (each for each in found["methods"] if each["method"] == "lora")
    choice = MethodChoice(name="lora", settings={"dropout": 0.0})
    own = predict("peftbench-tiny", None, choice, batch=4, tokens=512, dtype="float32", engine="packed")
    assert lora["memory_bytes"] == own.peak_train_memory_bytes
    assert lora["extra_flops"] == own.extra_forward_flops
    refused("--references: tflops is '0'", "pscp", runs, "--references", "median,tflops=0")
    refused("unknown device 'h10'; did you mean 'h100'", "pscp", runs, "--memory", "predicted", "--device", "h10")


def test_several_models_or_protocols_are_chosen_from(runs):
    second = runs / "another"
    shutil.copytree(runs / "peftbench-tiny", second)
    for file in (*second.rglob("train.json"), *second.rglob("result.json")):
        record = json.loads(file.read_text())
        edit(file, model=record["model"] | {"name": "another", "fingerprint": "x"})
    refused("several models, another, peftbench-tiny; choose one with --model", "pscp", runs)
    refused(
        "unknown model 'peftbench-tini'; did you mean 'peftbench-tiny'", "pscp", runs, "--model", "peftbench-tini"
    )
    assert weighed(runs, *MEDIANS, "--model", "another")["title"].startswith("another, corrected")
    for file in (*second.rglob("train.json"), *second.rglob("result.json")):
        record = json.loads(file.read_text())
        edit(file, model=record["model"] | {"name": "peftbench-tiny"})
    refused("2 models are called peftbench-tiny", "pscp", runs)
    for file in (*second.rglob("train.json"), *second.rglob("result.json")):
        edit(file, model=json.loads(next((runs / "peftbench-tiny").rglob("result.json")).read_text())["model"])
    refused("is there more than once (under several settings, or as a copy), in ", "pscp", runs)
    for file in (*second.rglob("train.json"), *second.rglob("result.json")):
        record = json.loads(file.read_text())
        edit(file, config=record["config"] | {"protocol": "published"})
    refused("several protocols, published, corrected; choose one with --protocol", "pscp", runs)
    assert "published" in weighed(runs, *MEDIANS, "--protocol", "published")["title"]
    refused("unknown protocol 'x'", "pscp", runs, "--protocol", "x")


def test_records_of_a_common_model_need_neither_its_files_nor_a_network(runs, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for file in (*runs.rglob("train.json"), *runs.rglob("result.json")):
        config = json.loads(file.read_text())["config"]
        edit(file, config=config | {"model": "meta-llama/Meta-Llama-3-8B-Instruct", "model_revision": "8" * 40})
    found = {each["method"]: each for each in weighed(runs)["methods"]}
    assert found["lora"]["extra_flops"] > 1e9


def test_methods_on_different_test_rows_are_not_compared(runs):
    import pyarrow.parquet as pq

    for seed in (1, 2):
        [file] = run_of(runs, "lora", "sst2@mini", seed).glob("eval-*/predictions.parquet")
        pq.write_table(pq.read_table(file).slice(seed), file)
        edit(file.with_name("result.json"), predictions_sha256=None)
    refused("runs of lora(dropout=0.0) were evaluated on different test rows of sst2@mini", "pscp", runs)
    [file] = run_of(runs, "lora", "sst2@mini", 1).glob("eval-*/predictions.parquet")
    pq.write_table(pq.read_table(file).slice(1), file)
    refused("ln_tuning and lora were evaluated on different test rows of sst2@mini", "pscp", runs)


def test_a_folder_without_what_is_needed(runs, tmp_path):
    shutil.rmtree(runs / "peftbench-tiny" / "lora")
    shutil.rmtree(runs / "peftbench-tiny" / "ln_tuning")
    refused("of the base model alone", "pscp", runs)
    (tmp_path / "empty").mkdir()
    refused("holds no finished run", "pscp", tmp_path / "empty")
    refused(
        "is no folder of runs and no table of costs; tables that are shipped are paper", "pscp", tmp_path / "none"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("paper", "--references", "5e8,0,94"), "--references: tflops is '0', expected a number above 0"),
        (("paper", "--exponents", "1,nan,1"), "--exponents: flops is 'nan'"),
        (("paper", "--device", "h100"), "--device names what memory is predicted for"),
        (("paper", "--memory", "predicted"), "needs a device"),
        (("paper", "--memory", "guessed"), "unknown kind of memory 'guessed'"),
        (("paper", "--memory", "predicted", "--device", "h101"), "unknown device 'h101'; did you mean"),
        (("paper", "--memory", "predicted", "--device", "h100"), "is a table with its own figures"),
        (("paper", "--model", "x"), "is a table with its own figures"),
        (("x" * 5000,), "is no folder of runs and no table of costs"),
        (("",), "is no folder of runs and no table of costs"),
        (("paper", "--map", "map.jpeg"), "expected it to end in .svg"),
        (("paper", "--map", "nowhere/map.csv"), "cannot write"),
    ],
    ids=range(12),
)
def test_options_that_cannot_be_are_one_sentence(arguments, message):
    refused(message, "pscp", *arguments)


def test_a_number_that_is_none_in_a_table(tmp_path):
    (tmp_path / "c.csv").write_text("method,performance,params,extra_tflops,memory_gb\nlora,nan,1,0,1\n")
    refused(
        "c.csv, line 2, lora: performance is 'nan', expected a number from 0 to 100",
        "pscp",
        tmp_path / "c.csv",
    )


def test_the_paper_comes_out_of_the_command():
    code, out, _ = call("pscp", "paper", "--break-even")
    assert code == 0
    assert [line.split()[-1] for line in out.splitlines()[2:4]] == ["60.19", "60.08"]
    assert "ln_tuning, lora" in out
    assert "0.94, ln_tuning" in out
    _, out, _ = call("pscp", "paper-means")
    assert [line.split()[-1] for line in out.splitlines()[2:4]] == ["58.50", "58.46"]
