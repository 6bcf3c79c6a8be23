import numpy as np
import pytest
from scipy.stats import pearsonr, spearmanr

from peftbench.errors import DataError
from peftbench.metrics import score_rows
from tests.golden.metrics import dataset


def scores(predictions, golds, protocol="corrected", mean=2.5):
    spec = dataset("pearson", mean_train_label=mean)
    return score_rows(spec, predictions, [[str(gold)] for gold in golds], protocol)


def test_both_correlations_agree_with_scipy():
    random = np.random.default_rng(0)
    golds = random.uniform(0, 5, 300).round(1)
    outputs = (0.6 * golds + 0.4 * random.uniform(0, 5, 300)).round(1)
    values = scores([str(output) for output in outputs], golds).values
    assert values["primary"] == pytest.approx(100 * pearsonr(outputs, golds).statistic, abs=1e-10)
    assert values["spearman"] == pytest.approx(100 * spearmanr(outputs, golds).statistic, abs=1e-10)


@pytest.mark.parametrize(
    "output", ["", "none", "6", "-0.1", "4/5", "nan", "inf", "1e999999999", "3,5", "4.0 points"]
)
def test_an_output_that_is_no_number_from_0_to_5_becomes_the_mean_training_label(output: str):
    result = scores(["1", output, "4"], [1, 2, 5])
    assert result.columns["predicted"].tolist() == [1, 2.5, 4]
    assert result.valid == (True, False, True)


@pytest.mark.parametrize(
    ("output", "value"), [("none", -1), ("nan", -1), ("1e999", -1), ("7.5", 7.5), ("-3", -3), ("4.", 4)]
)
def test_published_keeps_any_number_and_takes_the_rest_as_minus_one(output: str, value: float):
    assert scores([output], [1], "published").columns["predicted"].tolist() == [value]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("protocol", ["corrected", "published"])
@pytest.mark.parametrize("outputs", [["3.3"] * 3, ["0"] * 3, ["bad"] * 3])
def test_a_constant_scores_zero(protocol: str, outputs: list[str]):
    assert scores(outputs, [1, 2, 4], protocol).values["primary"] == 0


def test_constant_gold_scores_and_a_single_row_score_zero():
    assert scores(["1", "2"], [3, 3]).values["primary"] == 0
    assert scores(["1"], [3]).values["spearman"] == 0


def test_the_correlation_of_valid_rows_leaves_invalid_ones_out():
    values = scores(["1", "x", "2", "4"], [1, 5, 2, 4]).values
    assert values["pearson_on_valid_rows"] == pytest.approx(100)
    assert values["primary"] == pytest.approx(100 * pearsonr([1, 2.5, 2, 4], [1, 5, 2, 4]).statistic)


def test_a_wild_number_does_not_overflow():
    values = scores(["1e300", "1", "2"], [1, 2, 3], "published").values
    assert values["raw_pearson"] == pytest.approx(100 * pearsonr([1, 0, 0], [1, 2, 3]).statistic)


def test_a_reference_that_is_no_number_is_an_error():
    with pytest.raises(DataError, match=r"row 0: the reference 'high' of sample is no number"):
        scores(["1"], ["high"])


def test_a_dataset_without_its_mean_training_label_is_an_error():
    with pytest.raises(DataError, match="has no mean_train_label"):
        scores(["1"], [1], mean=None)
