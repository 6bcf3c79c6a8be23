"""`peftbench recommend`: what fits, what it costs, what records say, and the answer."""

import json
import shutil

import pytest

import peftbench
from peftbench import bylength
from peftbench.errors import ConfigError
from peftbench.leaderboard import compare
from peftbench.store import stored_results
from peftbench.testing import save_tiny_model
from peftbench.workload import Asked, workload
from tests.e2e.test_cli import call, refused
from tests.e2e.test_pscp import run_of
from tests.e2e.test_tiny import few
from tests.synthetic import edit

TINY = ("--model", "peftbench-tiny", "--device", "cpu")
METHODS = ["ia3", "prompt_tuning", "p_tuning", "prefix_tuning", "lora", "ln_tuning"]


@pytest.fixture(autouse=True, scope="module")
def remembered():
    """Predictions are made once for all commands of this file; they take most of the time."""
    known, predict = {}, bylength.predict

    def once(model, revision, method, **given):
        key = (model, revision, str(method), *given.values())
        if key not in known:
            known[key] = predict(model, revision, method, **given)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bylength, "predict", once)
        yield


def asked(*arguments):
    code, out, err = call("recommend", *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def by_name(found):
    return {each["method"]: each for each in found["methods"]}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Base, LoRA and LN tuning on two tasks with two seeds."""
    output = tmp_path_factory.mktemp("recommend")
    results = peftbench.run_many(few(output, methods=("base", "ln_tuning", "lora")))
    assert all(each.status == "done" for each in results)
    return output / "runs"


@pytest.fixture
def runs(made, tmp_path):
    folder = tmp_path / "runs"
    shutil.copytree(made, folder)
    return folder


def test_without_records_it_says_so_and_what_each_costs():
    found = asked(*TINY, "--dataset", "sst2@mini", "--dataset", "svamp@mini")
    assert found["answer"].startswith("cannot tell, because there are no records of scores for peftbench-tiny; ")
    assert "`peftbench grid run subset --set 'models=[peftbench-tiny]'" in found["answer"]
    assert list(by_name(found)) == METHODS
    assert found["base"]["trainable_params"] == 0
    assert found["verdict"] is None
    assert found["datasets"] == ["sst2@mini", "svamp@mini"]
    for each in found["methods"]:
        assert each["seconds"]["low"] > found["base"]["seconds"]["low"]
        assert each["joules"]["high"] > each["joules"]["low"] > 0
    one = by_name(asked(*TINY, "--dataset", "sst2@mini", "--set", "training.epochs=20"))
    two = by_name(asked(*TINY, "--dataset", "sst2@mini", "--set", "training.epochs=10"))
    assert 1.5 < one["lora"]["seconds"]["low"] / two["lora"]["seconds"]["low"] < 2


def test_another_method_is_costed_when_it_is_named():
    found = asked(*TINY, "--dataset", "sst2@mini", "--method", "dora", "--method", "full")
    assert list(by_name(found)) == [*METHODS, "full", "dora"]
    refused("unknown method 'dorra'; did you mean 'dora'", "recommend", *TINY, "--method", "dorra")


def test_without_a_dataset_it_is_the_grid_that_is_shipped():
    work = workload(Asked("peftbench-tiny", None, "corrected", (), ("training.epochs=1",), None), [])
    assert work.datasets == ("rte", "copa", "record", "stsb", "svamp", "conala")
    assert {cell.config.data.train_rows for cell in work.cells if cell.config.dataset == "record"} == {None, 5000}
    assert {cell.config.evaluation.test_rows for cell in work.cells} == {1000}
    assert {cell.config.training.epochs for cell in work.cells} == {1}


def test_the_records_decide(runs):
    found = asked(*TINY, "--records", runs)
    rows = by_name(found)
    means = {each.method: each for each in compare(stored_results(runs), replicates=200)}
    for name, choice in (("lora", "lora(dropout=0.0)"), ("ln_tuning", "ln_tuning")):
        assert rows[name]["choice"] == choice
        assert rows[name]["performance"]["estimate"] == pytest.approx(means[choice].mean.estimate)
        assert rows[name]["performance"]["low"] == pytest.approx(means[choice].mean.low, abs=4)
        assert rows[name]["seeds"] == 2
    assert sum(found["verdict"]["shares"].values()) == pytest.approx(1)
    assert set(found["verdict"]["shares"]) == {"lora", "ln_tuning"}
    assert found["base"]["performance"]["estimate"] == pytest.approx(means["base"].mean.estimate)
    assert rows["ia3"]["missing"] == ["boolq@mini", "sst2@mini"]
    assert "ia3, prompt_tuning, p_tuning and prefix_tuning could be run as well" in found["answer"]
    # The work is that of the records: one epoch, 24 test rows, settings of the method.
    more = by_name(asked(*TINY, "--records", runs, "--set", "training.epochs=10"))
    assert more["lora"]["seconds"]["low"] > 4 * rows["lora"]["seconds"]["low"]


def test_the_table_ends_in_the_answer(runs):
    code, out, err = call("recommend", *TINY, "--records", runs, "--set", "training.epochs=2")
    assert code == 0, err
    lines = out.splitlines()
    assert lines[-1].startswith("Answer: ")
    assert lines[0].startswith("peftbench-tiny on a server CPU")
    assert "95 %" in lines[1]
    assert "best in" in lines[1]
    assert "Missing of ia3: boolq@mini; sst2@mini" in lines
    assert "Costs are for training.epochs=2, scores are not." in lines


def test_missing_runs_are_named_and_not_averaged_over(runs):
    shutil.rmtree(run_of(runs, "lora", "boolq@mini", 2))
    found = asked(*TINY, "--records", runs)
    lora = by_name(found)["lora"]
    assert lora["performance"] is None
    assert lora["missing"] == ["boolq@mini, seed 2"]
    assert lora["scores"].keys() == {"boolq@mini", "sst2@mini"}
    assert found["answer"].startswith("cannot tell, because only ln_tuning (")
    found = asked(*TINY, "--records", runs, "--dataset", "boolq@mini", "--dataset", "svamp@mini")
    assert by_name(found)["ln_tuning"]["missing"] == ["svamp@mini"]
    assert found["answer"].startswith("cannot tell, because none of the methods that can be run has records")


def test_one_seed_is_said(runs):
    for method in ("lora", "ln_tuning"):
        for dataset in ("boolq@mini", "sst2@mini"):
            shutil.rmtree(run_of(runs, method, dataset, 2))
    assert "records are of one seed" in asked(*TINY, "--records", runs)["answer"]


def test_hours_leave_methods_out(runs):
    seconds = by_name(asked(*TINY, "--records", runs))["p_tuning"]["seconds"]
    found = asked(*TINY, "--records", runs, "--hours", seconds["low"] * 0.99 / 3600)
    rows = by_name(found)
    assert rows["p_tuning"]["within_hours"] == "no"
    assert "p_tuning" not in found["answer"]
    rows = by_name(asked(*TINY, "--records", runs, "--hours", seconds["low"] * 1.01 / 3600))
    assert rows["p_tuning"]["within_hours"] == "perhaps"
    found = asked(*TINY, "--records", runs, "--hours", 1e-6)
    assert found["answer"].startswith("none, because none of the methods that fit is done within 1e-06 h")
    assert found["verdict"] is None


def test_records_of_another_model_or_protocol_say_nothing(runs, tmp_path):
    other = save_tiny_model(str(tmp_path / "other"))
    found = asked("--model", other, "--device", "cpu", "--records", runs, "--dataset", "sst2@mini")
    assert "there are no records of scores" in found["answer"]
    assert "Records of peftbench-tiny are of another model and say nothing of this one." in found["notes"]
    found = asked(*TINY, "--records", runs, "--dataset", "sst2@mini", "--protocol", "published")
    assert "there are no records of scores" in found["answer"]
    assert "Records under the other protocol were left out: 10." in found["notes"]
    (tmp_path / "empty").mkdir()
    found = asked(*TINY, "--records", tmp_path / "empty", "--dataset", "sst2@mini")
    assert "there are no records of scores" in found["answer"]


def test_records_on_a_quantized_base_are_not_mixed_with_the_others(runs):
    before = asked(*TINY, "--records", runs)
    for run in [each.parent for each in runs.rglob("config.json")]:
        shutil.copytree(run, run.with_name(f"{run.name}0"))
        for file in (
            run.with_name(f"{run.name}0") / "train.json",
            *run.with_name(f"{run.name}0").glob("eval-*/result.json"),
        ):
            if file.exists():
                edit(file, model=json.loads(file.read_text())["model"] | {"quantization": "nf4"})
    found = asked(*TINY, "--records", runs)
    assert any(each.startswith("Records on a quantized base were left out: ") for each in found["notes"])
    assert found["answer"] == before["answer"]


def test_a_damaged_record_is_named(runs):
    (run_of(runs, "lora", "boolq@mini", 2) / "train.json").write_text("{")
    found = asked(*TINY, "--records", runs)
    assert by_name(found)["lora"]["missing"] == ["boolq@mini, seed 2"]
    assert any(note.startswith("Not read: ") and "train.json" in note for note in found["notes"])


def test_records_under_several_settings_are_refused(runs):
    copy = runs / "again"
    shutil.copytree(runs / "peftbench-tiny", copy)
    refused(
        "is there more than once (under several settings, or as a copy)", "recommend", *TINY, "--records", runs
    )


def test_what_does_not_fit_is_told_how_to_fit(tmp_path):
    from transformers import LlamaConfig

    # One layer over a large vocabulary: 16 GB of weights that are quick to trace.
    shape = {"hidden_size": 4096, "intermediate_size": 4096, "num_attention_heads": 32, "num_hidden_layers": 1}
    LlamaConfig(vocab_size=2_000_000, tie_word_embeddings=True, **shape).save_pretrained(tmp_path / "m")
    found = asked("--model", tmp_path / "m", "--device", "t4", "--dataset", "sst2@mini")
    assert found["answer"].startswith(
        "none, because no method can be run on t4; the smallest device of the table on"
    )
    assert all(
        each["fits"] is False and "the weights alone take 16" in each["why"][0] for each in found["methods"]
    )


def test_a_method_that_cannot_be_built_is_left_out_alone(monkeypatch):
    known = bylength.predict

    def refusing(model, revision, method, **given):
        if method.name == "ia3":
            raise ConfigError("target 'down' matches no module; name another")
        return known(model, revision, method, **given)

    monkeypatch.setattr(bylength, "predict", refusing)
    found = asked(*TINY, "--dataset", "sst2@mini")
    rows = by_name(found)
    assert rows["ia3"]["why"] == ["target 'down' matches no module; name another"]
    assert rows["ia3"]["seconds"] is None
    assert "ia3" not in found["answer"]
    assert [name for name, each in rows.items() if not each["why"]] == [name for name in METHODS if name != "ia3"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--device", "a100"), "unknown device 'a100'; did you mean 'a100-40' or 'a100-80'?"),
        (("--hours", "0"), "--hours is 0.0, expected a number above 0"),
        (("--hours", "-1"), "--hours is -1.0, expected"),
        (("--hours", "nan"), "--hours is nan, expected"),
        (("--hours", "inf"), "--hours is inf, expected"),
        (("--dataset", "sst3"), "unknown dataset 'sst3'; did you mean 'sst2'"),
        (("--protocol", "x"), "unknown protocol 'x'"),
        (("--records", "nowhere"), "'nowhere' is not a folder"),
        (
            ("--set", "training.epoch=1"),
            "--set training.epoch: unknown key 'training.epoch'; did you mean 'epochs'?",
        ),
        (("--set", "method=lora"), "--set method: what is recommended takes its method from the records"),
        (("--set", "data.train_rows=1"), "--set data.train_rows is 1, expected a whole number of at least 2"),
        (("--data-dir", "nowhere"), "the folder of datasets 'nowhere' does not exist"),
        (("--model", ""), "the model is ''"),
        (("--model", "x" * 300), "the model is 'xxx"),
        (("--model", "llama-3-9b"), "unknown model 'llama-3-9b'; did you mean 'llama-3-8b'"),
    ],
    ids=range(15),
)
def test_mistakes_are_one_sentence(arguments, expected):
    given = [*TINY, "--dataset", "sst2@mini"]
    if arguments[0] == "--model":
        given = given[2:]
    if arguments[0] == "--data-dir":
        given[-1] = "rte"
    err = refused(expected, "recommend", *given, *arguments)
    assert len([line for line in err.splitlines() if line != "predicting costs"]) == 1


def test_an_architecture_that_is_not_known_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "strange"}')
    refused("strange", "recommend", "--model", tmp_path, "--device", "h100", "--dataset", "rte")
