"""What comes of good files of each kind, kept once and apart from what was measured."""

import json

import pytest

import peftbench
from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.importers.printed import printed_table
from peftbench.importers.results import imported, imported_set
from peftbench.importers.taking import import_results
from peftbench.index import read_index
from peftbench.query import ask
from peftbench.store import stored_results
from peftbench.tradeoff import weigh
from tests.synthetic import add_run
from tests.unit.importers import shapes


def take(kind, path, tmp_path, **more):
    return import_results(kind, path, tmp_path / "runs", **more)


def one(kind, path, tmp_path):
    (result,) = take(kind, path, tmp_path).made.results
    return result


def test_a_result_of_method_comparison(tmp_path):
    found = one("hf-method-comparison", shapes.written(tmp_path / "in", shapes.comparison()), tmp_path)
    assert (found.source, found.tool_version) == ("hf-method-comparison", "0.15.2.dev0 5fe7f8f")
    assert (found.model, found.model_revision, found.seed) == (shapes.MODEL, shapes.SHA, 0)
    assert (found.dataset, found.original_dataset) == (None, "metamath, gsm8k")
    assert (found.method, json.loads(found.settings)) == (
        "lora",
        {"r": 32, "target_modules": ["v_proj", "q_proj"]},
    )
    assert found.score == pytest.approx(48.21834723)
    assert (found.original_value, found.original_scale) == (0.4821834723, "0 to 1")
    assert (found.trainable_params, found.train_peak_memory_bytes, found.train_seconds) == (
        9175040,
        22273851392,
        1796.25,
    )
    assert (found.device, found.standard_error, found.test_rows) == ("NVIDIA L40S", None, None)


@pytest.mark.parametrize(
    ("config", "method"),
    [
        ({"method": "FULL"}, "full_finetuning"),
        ({"method": "IA3"}, "ia3"),
        ({"method": "LN_TUNING"}, "ln_tuning"),
        ({"method": "P_TUNING", "encoder_reparameterization_type": "LSTM"}, "p_tuning"),
        ({"method": "P_TUNING", "encoder_reparameterization_type": "MLP"}, "p_tuning_mlp"),
        ({"method": "VBLORA"}, "vblora"),
    ],
)
def test_methods_have_our_names_where_we_have_one(tmp_path, config, method):
    found = one("hf-method-comparison", shapes.written(tmp_path / "in", shapes.comparison(**config)), tmp_path)
    assert found.method == method
    if method == "p_tuning":
        assert json.loads(found.settings)["encoder_reparameterization_type"] == "LSTM"


def test_the_newer_name_of_memory_and_a_run_that_failed(tmp_path):
    newer = shapes.comparison()
    newer["train_info"]["accelerator_memory_max"] = 5
    del newer["train_info"]["cuda_memory_max"], newer["meta_info"]["system_info"]["gpu"]
    newer["meta_info"]["system_info"]["accelerator"] = "RTX"
    found = one("hf-method-comparison", shapes.written(tmp_path / "a", newer), tmp_path)
    assert (found.train_peak_memory_bytes, found.device) == (5, "RTX")
    failed = one(
        "hf-method-comparison", shapes.written(tmp_path / "b", shapes.comparison(accuracy=None)), tmp_path
    )
    assert failed.score is None
    assert "Status failed: CUDA out of memory." in failed.notes


def test_a_tree_of_peft_factory_is_scored_again_by_our_rules(tmp_path):
    found = one("peft-factory", shapes.factory(tmp_path / "saves").parents[2], tmp_path)
    assert (found.dataset, found.method, found.seed) == ("qqp", "lora", 42)
    assert found.model == "meta-llama/Meta-Llama-3-8B-Instruct"
    assert (found.metric, found.score, json.loads(found.all_scores)) == (
        "f1",
        80.0,
        {"f1": 0.8, "exact_match": 0.5},
    )
    for protocol, score in (("corrected", found.score_corrected), ("published", found.score_published)):
        assert score == peftbench.score("qqp", shapes.PREDICTED, shapes.GOLD, protocol)["primary"]
    # By its rule the invalid output counts as `duplicate`: 2 of 3 right, none missed.
    assert found.score_published == pytest.approx(80.0)
    assert found.score_corrected != found.score_published
    assert (found.test_rows, found.invalid_rate, found.train_seconds) == (4, 0.25, 321.5)
    assert json.loads(found.settings) == {"r": 16, "lora_alpha": 16, "target_modules": ["k_proj", "v_proj"]}
    assert "4 predictions; the benchmark counts 40,430 test rows." in found.notes


def test_peft_factory_labels_in_another_case_and_outputs_that_give_no_number(tmp_path):
    folder = shapes.factory(tmp_path / "saves", "boolq", ["True", "false"], ["True", "False"], ({"f1": 1.0},))
    assert one("peft-factory", folder, tmp_path).score_corrected == 100.0
    constant = shapes.factory(tmp_path / "more", "stsb", ["3.0", "3.0"], ["1.0", "3.799999952316284"], ())
    (constant / "results.jsonl").write_text('{"pearsonr": NaN}\n{"spearmanr": NaN}\n')
    found = one("peft-factory", constant, tmp_path)
    assert (found.score, found.metric, found.score_corrected) == (None, "pearsonr", 0.0)
    assert "no number" in found.notes


def test_peft_factory_without_one_file_or_the_other(tmp_path):
    folder = shapes.factory(tmp_path / "saves")
    (folder / "generated_predictions.jsonl").unlink()
    found = one("peft-factory", folder, tmp_path)
    assert (found.score, found.score_corrected, found.test_rows) == (80.0, None, None)
    other = shapes.factory(tmp_path / "more", scores=())
    (other / "results.jsonl").unlink()
    (other / "eval.yaml").unlink()
    found = one("peft-factory", other, tmp_path)
    assert (found.score, found.metric, found.dataset, found.seed) == (None, "none", "qqp", 42)
    assert found.score_corrected is not None
    assert found.file.endswith("generated_predictions.jsonl")


def test_peft_factory_of_the_base_model_and_of_a_dataset_that_is_not_ours(tmp_path):
    folder = shapes.factory(tmp_path / "saves", "mydata", method="base")
    (folder / "eval.yaml").write_text("seed:\nfinetuning_type: full\neval_dataset: mydata_eval\n")
    (folder.parent / "train_mydata_42_1758000000" / "adapter_config.json").unlink()
    found = one("peft-factory", folder, tmp_path)
    assert (found.method, found.settings, found.seed, found.model) == ("base", None, 42, None)
    assert (found.dataset, found.original_dataset, found.score, found.score_corrected) == (
        None,
        "mydata",
        80.0,
        None,
    )
    assert "no dataset of ours" in found.notes


def test_an_adapter_elsewhere_is_not_followed(tmp_path):
    folder = shapes.factory(tmp_path / "saves")
    written = (folder / "eval.yaml").read_text()
    for path in ("..", "/", "../../..", "/etc", "x" * 400, '"a\\0b"'):
        (folder / "eval.yaml").write_text("".join(
            f"adapter_name_or_path: {path}\n" if line.startswith("adapter") else line for line in written.splitlines(True)
        ))  # fmt: skip
        assert one("peft-factory", folder, tmp_path).train_seconds == 321.5  # found beside it, by its name


def test_results_of_the_harness(tmp_path):
    made = take("lm-eval", shapes.written(tmp_path / "in", shapes.harness(), "results_2026.json"), tmp_path).made
    found = {(each.original_dataset, each.metric): each for each in made.results}
    strict = found["gsm8k", "exact_match,strict-match"]
    assert (strict.score, strict.standard_error, strict.test_rows, strict.dataset) == (
        50.0,
        pytest.approx(1.38),
        1319,
        "gsm8k",
    )
    assert (strict.method, strict.model, strict.model_revision) == ("base", shapes.MODEL, shapes.SHA)
    assert strict.notes == "5-shot. Version 3.0 of the task."
    assert found["gsm8k", "exact_match,flexible-extract"].standard_error is None
    perplexity = found["wikitext", "word_perplexity,none"]
    assert (perplexity.score, perplexity.original_value, perplexity.original_scale) == (None, 7.5, "unknown")
    assert "On 10 of 62 rows." in perplexity.notes
    mmlu = found["mmlu", "acc,none"]
    assert (mmlu.dataset, mmlu.score) == (None, 25.0)
    assert "Over 2 tasks." in mmlu.notes
    assert len(found) == 4
    assert "hunter2" not in (tmp_path / "runs" / "imported" / f"{made.name}.json").read_text()


def test_the_harness_with_an_adapter_and_in_its_older_shape(tmp_path):
    adapted = shapes.harness(config={"model": "hf", "model_args": {"pretrained": "m", "peft": "out/lora"}})
    found = take("lm-eval", shapes.written(tmp_path / "a", adapted, "results.json"), tmp_path).made.results[0]
    assert (found.model, found.method, json.loads(found.settings)) == ("m", None, {"adapter": "out/lora"})
    squad = shapes.harness(
        results={"squadv2": {"f1,none": 0.9, "f1_stderr,none": "N/A"}, "drop": {"f1,none": 0.9}}
    )
    found = take("lm-eval", shapes.written(tmp_path / "c", squad, "results.json"), tmp_path).made.results
    assert [(each.original_dataset, each.score) for each in found] == [("squadv2", None), ("drop", 90.0)]
    older = {
        "results": {"piqa": {"acc": 0.8, "acc_stderr": 0.01, "acc_norm": 0.79}},
        "versions": {"piqa": 0},
        "config": {"model": "gpt2", "model_args": ""},
    }
    found = take("lm-eval", shapes.written(tmp_path / "b", older, "results.json"), tmp_path).made.results
    assert [(each.metric, each.score, each.standard_error) for each in found] == [
        ("acc", 80.0, 1.0),
        ("acc_norm", 79.0, None),
    ]


def test_the_paper_is_imported_with_its_errata(tmp_path):
    results = take("paper", None, tmp_path).made.results
    assert len(results) == 7 * 27
    cell = next(each for each in results if (each.method, each.dataset) == ("prompt_tuning", "wsc"))
    assert (cell.score, cell.trainable_params, cell.seed) == (5.6, 409600, None)
    assert "prompt-tuning-reset" in cell.notes
    printed = printed_table("2")
    assert all(
        printed.cell(each.method, each.dataset).value == each.score
        for each in results
        if each.experiment == "Table 2"
    )
    assert {each.metric for each in results} == {"F1", "Pearson", "accuracy", "CodeBLEU"}


def test_the_same_import_again_changes_nothing(tmp_path):
    file = shapes.written(tmp_path / "in", shapes.comparison())
    first = take("hf-method-comparison", file, tmp_path)
    kept = {each: each.read_bytes() for each in (tmp_path / "runs" / "imported").iterdir()}
    again = take("hf-method-comparison", file, tmp_path, name="other")
    assert (first.new, again.new, again.made) == (True, False, first.made)
    assert {each: each.read_bytes() for each in (tmp_path / "runs" / "imported").iterdir()} == kept
    file.write_text(json.dumps(shapes.comparison(accuracy=0.5)))
    assert take("hf-method-comparison", file, tmp_path).new
    assert len(imported(tmp_path / "runs")) == 2


def test_an_import_has_a_name_that_is_its_own(tmp_path):
    file = shapes.written(tmp_path / "in", shapes.comparison())
    assert take("hf-method-comparison", file, tmp_path, name="mine").made.name == "mine"
    file.write_text(json.dumps(shapes.comparison(accuracy=0.5)))
    with pytest.raises(DataError, match="another import"):
        take("hf-method-comparison", file, tmp_path, name="mine")
    for name in ("../x", "a/b", "", "config", ".x", "x" * 101):
        with pytest.raises(ConfigError, match="--name"):
            take("hf-method-comparison", file, tmp_path, name=name)
    with pytest.raises(UnknownName, match="mine"):
        imported_set(tmp_path / "runs", "mein")


def test_an_import_that_was_edited_or_cut_is_refused(tmp_path):
    made = take("paper", None, tmp_path).made
    file = tmp_path / "runs" / "imported" / f"{made.name}.json"
    whole = file.read_text()
    for text, said in (
        (whole.replace("91.2", "99.2", 1), "does not have the content"),
        (whole[: len(whole) // 2], "cannot be read as JSON"),
        ("[]", "is no import"),
        ('{"record_version": 99, "sha256": ""}', "newer version"),
        ("[" * 100_000, "cannot be read as JSON"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=said):
            imported(tmp_path / "runs")
        problems = []
        assert imported(tmp_path / "runs", problems) == []
        assert len(problems) == 1
    file.unlink()
    assert imported(tmp_path / "runs") == imported(tmp_path / "nowhere") == []


def test_nothing_that_walks_over_runs_sees_an_import(tmp_path):
    runs = tmp_path / "runs"
    add_run(runs, method="lora", dataset="rte")
    before = [each.model_dump() for each in stored_results(runs)], read_index(runs).table.to_pylist()
    take("paper", None, tmp_path)
    take("peft-factory", shapes.factory(tmp_path / "saves"), tmp_path)
    after = [each.model_dump() for each in stored_results(runs)], read_index(runs).table.to_pylist()
    assert after == before
    assert read_index(runs).problems == ()


def test_imported_rows_are_asked_for_and_never_measured(tmp_path):
    runs = tmp_path / "runs"
    take("paper", None, tmp_path)
    take("hf-method-comparison", shapes.written(tmp_path / "in", shapes.comparison()), tmp_path)
    found = ask(runs, ["method=lora", "score>=90"], (), ["-score"], None, brief=False, imported=True).table
    assert found["score"].to_pylist() == [97.8, 96.1, 95.9, 94.8, 91.1, 91.0, 91.0, 90.7, 90.3]
    every = ask(runs, (), (), (), None, brief=False, imported=True).table
    assert set(every["source"].to_pylist()) == {"paper", "hf-method-comparison"}
    assert ask(runs, (), (), (), None, brief=True, imported=True).table.column_names[:2] == [
        "source",
        "imported_as",
    ]
    counted = ask(
        runs,
        (),
        (),
        (),
        "SELECT source, count(*) AS n FROM results GROUP BY source ORDER BY n",
        brief=False,
        imported=True,
    )
    assert counted.table.to_pylist() == [{"source": "hf-method-comparison", "n": 1}, {"source": "paper", "n": 189}]
    with pytest.raises(UnknownName, match="column 'train_id'"):
        ask(runs, ["train_id=x"], (), (), None, brief=True, imported=True)
    with pytest.raises(DataError, match="nothing was imported"):
        ask(tmp_path, (), (), (), None, brief=True, imported=True)


def test_pscp_takes_an_import_by_name_only_and_without_flops(tmp_path):
    folder = tmp_path / "in"
    shapes.written(folder, shapes.comparison(), "a.json")
    shapes.written(folder, shapes.comparison("IA3", 0.4), "b.json")
    take("hf-method-comparison", folder, tmp_path, name="theirs")
    runs = str(tmp_path / "runs")
    with pytest.raises(DataError, match="run"):
        weigh(runs)
    with pytest.raises(ConfigError, match="flops=0"):
        weigh(runs, imported="theirs")
    found = weigh(runs, imported="theirs", exponents="flops=0")
    assert "imported: theirs, not measured here" in found.title
    scores = {each.candidate.method: each.score.estimate for each in found.methods}
    penalty = 1 / (1 + 9175040 / 5e8) / (1 + 22273851392 / 94e9)
    assert scores == {
        "lora/llama-3.2-3B-rank32": pytest.approx(48.21834723 * penalty),
        "ia3/llama-3.2-3B-rank32": pytest.approx(40 * penalty),
    }
    shapes.written(folder, shapes.comparison("IA3", 0.2, r=8), "c.json")
    take("hf-method-comparison", folder, tmp_path, name="more")
    found = weigh(runs, imported="more", exponents="flops=0")
    assert [each.candidate.method.split(" ", 1)[0] for each in found.methods].count("ia3/llama-3.2-3B-rank32") == 2
    assert sorted(each.candidate.performance for each in found.methods) == pytest.approx([20, 40, 48.21834723])
    take("paper", None, tmp_path, name="printed")
    with pytest.raises(DataError, match="not known, so that it has no PSCP"):
        weigh(runs, imported="printed", exponents="flops=0")
    with pytest.raises(UnknownName, match="theirs"):
        weigh(runs, imported="their", exponents="flops=0")
