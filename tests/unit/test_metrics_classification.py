import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from peftbench.errors import DataError
from peftbench.metrics import score_rows
from tests.golden.metrics import dataset

ABC = ("A", "B", "C")


def scores(predictions, golds, labels=ABC, protocol="corrected", official=None):
    spec = dataset("macro_f1", labels=labels, official_metric=official)
    return score_rows(spec, predictions, [[gold] for gold in golds], protocol)


def test_a_class_with_neither_gold_nor_prediction_is_left_out_and_named():
    result = scores(["A", "A"], ["A", "A"])
    assert result.values["primary"] == 100
    assert result.absent_classes == ("B", "C")


def test_a_class_that_is_only_predicted_counts():
    result = scores(["A", "B"], ["A", "A"])
    assert result.values["primary"] == pytest.approx(100 * (2 / 3 + 0) / 2)
    assert result.absent_classes == ("C",)


def test_an_invalid_output_is_a_miss_of_the_gold_class_and_a_false_alarm_of_none():
    golds, outputs = ["A", "A", "B", "B", "C"], ["A", "?", "B", "B", "?"]
    result = scores(outputs, golds)
    # A: 1 of 2 found, no false alarm; B: all; C: none found
    assert result.values["primary"] == pytest.approx(100 * (2 / 3 + 1 + 0) / 3)
    assert result.values["accuracy"] == 60
    assert result.invalid_rate == 0.4
    assert result.valid == (True, False, True, True, False)


@pytest.mark.parametrize("official", ["accuracy", "matthews", "f1_second_label"])
def test_the_official_metric_agrees_with_scikit_learn(official):
    golds, outputs = list("yynnyynny"), list("ynnnyyyny")
    expected = {
        "accuracy": accuracy_score(golds, outputs),
        "matthews": matthews_corrcoef(golds, outputs),
        "f1_second_label": f1_score(golds, outputs, pos_label="y"),
    }[official]
    assert scores(outputs, golds, ("n", "y"), official=official).values["official"] == pytest.approx(
        100 * expected
    )


def test_matthews_takes_invalid_outputs_as_a_class_of_their_own():
    golds, outputs = list("yynnyynn"), list("ynn?yy?n")
    expected = 100 * matthews_corrcoef(golds, outputs)
    assert scores(outputs, golds, ("n", "y"), official="matthews").values["official"] == pytest.approx(expected)


@pytest.mark.parametrize("outputs", ["yyyy", "????"])
def test_matthews_of_one_class_alone_is_zero(outputs):
    assert scores(list(outputs), list("yyyy"), ("n", "y"), official="matthews").values["official"] == 0


def test_no_official_score_where_the_benchmark_has_none():
    assert "official" not in scores(["A"], ["A"]).values


def test_published_turns_an_invalid_output_into_the_first_label_for_the_second_and_the_second_else():
    result = scores(["?", "?", "?"], ["A", "B", "C"], protocol="published")
    assert result.columns["predicted_class"].tolist() == [1, 0, 1]
    assert result.valid == (False, False, False)


def test_published_reads_the_whole_output_and_forgives_no_period():
    assert scores(["A."], ["A"], protocol="published").invalid_rate == 1
    assert scores([" a\n"], ["A"], protocol="published").invalid_rate == 0


def test_lenient_scores_stand_beside_under_corrected_only():
    assert scores(["The answer is C."], ["C"]).values == {"primary": 0, "accuracy": 0, "lenient": 100}
    assert "lenient" not in scores(["C"], ["C"], protocol="published").values


def test_a_gold_label_must_be_spelled_as_in_the_label_set():
    with pytest.raises(DataError, match=r"row 1: the reference 'b' is no label of sample; give one of A, B, C"):
        scores(["A", "B"], ["A", "b"])


def test_a_dataset_with_fewer_than_two_labels_is_an_error():
    with pytest.raises(DataError, match="has 1 labels, macro_f1 needs two"):
        scores(["A"], ["A"], labels=("A",))


def test_macro_f1_agrees_with_scikit_learn_on_many_classes():
    random = np.random.default_rng(0)
    golds, outputs = (random.choice(list("abcde"), 200).tolist() for _ in range(2))
    expected = 100 * f1_score(golds, outputs, average="macro")
    assert scores(outputs, golds, tuple("abcde")).values["primary"] == pytest.approx(expected, abs=1e-10)
