"""Runs on a quantized base, from the file to the record."""

import pytest

import peftbench
from peftbench.site.content import content_of, index
from peftbench.site.shelf import Shelf
from tests.e2e.test_cli import call, refused
from tests.e2e.test_tiny import few


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("quantized")
    configs = [
        config.model_copy(update={"quantization": kind})
        for kind in ("nf4", None)
        for config in few(output, ("sst2@mini",), ("base", "lora"), (1,))
    ]
    return output / "runs", peftbench.run_many(configs)


def test_a_quantized_base_is_another_run_and_the_record_says_so(made):
    _, results = made
    assert [each.status for each in results] == ["done"] * 4
    assert len({each.evaluation.eval_id for each in results}) == 4
    for each in results:
        facts = each.evaluation.model
        assert facts.quantization == each.config.quantization
        assert facts.precision == ("nf4 in float32" if facts.quantization else "float32")
    assert len({each.evaluation.model.parameters for each in results}) == 1
    assert results[1].train.best_validation_loss != results[3].train.best_validation_loss


def test_the_results_and_the_page_tell_the_two_apart(made):
    runs, _ = made
    code, out, err = call(
        "results", runs, "--columns", "method,quantization", "--sort", "method,quantization", "--format", "csv"
    )
    assert (code, err) == (0, "")
    assert out.split() == [
        "method,quantization",
        *(f"{method},{kind}" for method in ("base", "lora") for kind in ("nf4", "")),
    ]
    facts = {each.evaluation.model.precision for each in made[1]}
    shelf = Shelf([runs])
    shelf.read()
    labels = [group["label"] for group in index(content_of(shelf, "t"), live=False)["groups"]]
    assert {precision for precision in facts for label in labels if precision in label.split(", ")} == facts


def test_an_adapter_on_a_quantized_base_answers_again(made, tmp_path):
    runs, results = made
    code, out, _ = call("results", runs)
    assert "nf4" in out, "the table tells them apart without being asked"
    refused("several models, peftbench-tiny (nf4), peftbench-tiny", "ranks", runs)
    code, out, err = call("ranks", runs, "--model", "peftbench-tiny (nf4)")
    assert code == 0, err
    assert "peftbench-tiny (nf4), corrected" in out
    [folder] = [each.folder for each in results if each.config.quantization and each.train]
    code, out, err = call("predict", folder, stdin="a fine film\n")
    assert code == 0, err
    assert out.count("\n") == 1


def test_nothing_is_said_of_a_merged_adapter_and_the_card_says_how_the_base_is_kept(made):
    runs, results = made
    for each in results:
        if each.train is not None:
            merged = each.evaluation.efficiency.merged_first_token_seconds
            assert (merged is None) == (each.config.quantization is not None)
            code, out, err = call("report", each.folder, "--card")
            assert code == 0, err
            assert ('bnb_4bit_quant_type="nf4"' in out) == (each.config.quantization is not None)
            assert out.count("```") == 2


def test_what_cannot_be_is_said_before_rows_are_read(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text("model: peftbench-tiny\ndataset: sst2@mini\nmethod: full\nquantization: nf4\n")
    refused("method 'full' needs the weights themselves", "train", file)
    refused("train.yaml:4:1: quantization is 'int4', expected 'nf4' or 'int8'", "train", _with(file, "int4"))


def _with(file, kind):
    file.write_text(file.read_text().replace("nf4", kind))
    return file
