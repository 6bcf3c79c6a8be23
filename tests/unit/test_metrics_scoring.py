import subprocess
import sys

import numpy as np
import pytest

from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.metrics import means, metric, metrics, score_rows
from tests.golden.metrics import dataset

BOOLEAN = dataset("macro_f1", labels=("false", "true"))


def test_different_numbers_of_predictions_and_references_are_an_error():
    with pytest.raises(DataError, match="2 predictions and 1 rows of references were given for sample"):
        score_rows(BOOLEAN, ["true", "true"], [["true"]], "corrected")


@pytest.mark.parametrize("references", [[], [[]], [[], []]])
def test_nothing_to_score_is_an_error(references: list):
    with pytest.raises(DataError, match=f"none of the {len(references)} rows of sample has a reference"):
        score_rows(BOOLEAN, ["true"] * len(references), references, "corrected")


def test_a_prediction_that_is_no_text_is_an_error_that_names_the_row():
    with pytest.raises(DataError, match="row 1: the prediction is a NoneType"):
        score_rows(BOOLEAN, ["true", None], [["true"], ["true"]], "corrected")


def test_a_reference_that_is_not_in_a_list_is_an_error_that_names_the_row():
    with pytest.raises(DataError, match="row 0: the references are one text; give a list of texts"):
        score_rows(BOOLEAN, ["true"], ["true"], "corrected")


def test_an_unknown_metric_is_an_error_with_the_nearest_name():
    with pytest.raises(UnknownName, match="did you mean 'macro_f1'"):
        score_rows(dataset("macro-f1"), ["a"], [["a"]], "corrected")


def test_rows_without_a_reference_are_counted_and_not_scored():
    result = score_rows(BOOLEAN, ["true", "x", "false"], [["true"], [], ["true"]], "corrected")
    assert (result.scored_rows, result.unscored_rows) == (2, 1)
    assert result.values["accuracy"] == 50
    assert result.valid == (True, None, True)
    assert result.invalid_rate == 0
    assert all(len(column) == 2 for column in result.columns.values())


def test_the_share_of_the_most_frequent_output_forgets_white_space_and_counts_every_row():
    result = score_rows(
        BOOLEAN, ["true", " true\n", "false", "maybe"], [["true"], [], ["true"], ["true"]], "corrected"
    )
    assert result.top_output_share == 0.5


def test_an_empty_prediction_is_an_ordinary_invalid_output():
    result = score_rows(BOOLEAN, ["", "true"], [["true"], ["true"]], "corrected")
    assert result.invalid_rate == 0.5
    assert result.values["accuracy"] == 50


def test_scores_of_chosen_rows_are_those_of_the_rows_alone():
    outputs, golds = ["true", "false", "?", "true"], [["true"], ["true"], ["false"], ["false"]]
    whole = score_rows(BOOLEAN, outputs, golds, "corrected")
    chosen = np.array([0, 0, 3, 2])
    again = score_rows(BOOLEAN, [outputs[row] for row in chosen], [golds[row] for row in chosen], "corrected")
    columns = {name: column[chosen] for name, column in whole.columns.items()}
    assert metrics.get("macro_f1").combine(columns, BOOLEAN, "corrected") == again.values


def test_a_metric_is_added_with_one_function(monkeypatch):
    @metric("same_length", means(primary="same"), version=3)
    def same_length(prediction, references, spec, protocol):
        return {"valid": bool(prediction), "same": len(prediction) == len(references[0])}

    monkeypatch.setattr(metrics, "_values", dict(metrics._loaded()))
    metrics.add(same_length.name, same_length)
    result = score_rows(dataset("same_length"), ["ab", "a", ""], [["xy"], ["xy"], ["xy"]], "published")
    assert result.values == {"primary": pytest.approx(100 / 3)}
    assert (result.metric, result.metric_version, result.protocol) == ("same_length", 3, "published")
    assert result.absent_classes == ()
    with pytest.raises(ConfigError, match="metric 'same_length' exists already"):
        metrics.add("same_length", same_length)


def test_listing_the_metrics_loads_no_heavy_library():
    program = (
        "import sys\n"
        "from peftbench.metrics import metrics\n"
        "assert len(metrics.names()) >= 6\n"
        "heavy = {'torch', 'transformers', 'datasets', 'scipy', 'pyarrow', 'tree_sitter', 'huggingface_hub'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
