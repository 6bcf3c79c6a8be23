"""scikit-learn and scipy as oracles, and a count by hand for invalid outputs."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, spearmanr
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

from peftbench.metrics import score_rows
from tests.golden.metrics import dataset

LABELS = ("alpha", "beta", "gamma", "delta")


def label_rows(outputs: tuple[str, ...], classes: int):
    labels = LABELS[:classes]
    return st.lists(st.tuples(st.sampled_from(labels + outputs), st.sampled_from(labels)), min_size=1, max_size=40)


def label_scores(rows, classes: int, protocol="corrected", official="accuracy"):
    spec = dataset("macro_f1", labels=LABELS[:classes], official_metric=official)
    return score_rows(spec, [row[0] for row in rows], [[row[1]] for row in rows], protocol).values


@given(st.integers(2, 4).flatmap(lambda classes: st.tuples(st.just(classes), label_rows((), classes))))
def test_scores_of_valid_outputs_agree_with_scikit_learn(case):
    classes, rows = case
    outputs, golds = zip(*rows, strict=True)
    present = [label for label in LABELS[:classes] if label in outputs or label in golds]
    expected = {
        "macro": f1_score(golds, outputs, labels=present, average="macro"),
        "accuracy": accuracy_score(golds, outputs),
        "second": f1_score(golds, outputs, labels=[LABELS[1]], average="macro", zero_division=0),
    }
    with warnings.catch_warnings(action="ignore"):
        expected["matthews"] = matthews_corrcoef(golds, outputs)
    corrected = label_scores(rows, classes)
    assert corrected["primary"] / 100 == pytest.approx(expected["macro"], abs=1e-12)
    assert corrected["lenient"] == corrected["primary"]
    assert corrected["accuracy"] / 100 == pytest.approx(expected["accuracy"], abs=1e-12)
    for official, key in (("matthews", "matthews"), ("f1_second_label", "second"), ("accuracy", "accuracy")):
        score = label_scores(rows, classes, official=official)["official"]
        assert score / 100 == pytest.approx(expected[key], abs=1e-12)
    published = label_scores(rows, classes, "published")["primary"] / 100
    assert published == pytest.approx(expected["second"] if classes == 2 else expected["macro"], abs=1e-12)


@given(label_rows(("?", "", "alpha beta"), 3))
def test_an_invalid_output_is_a_false_negative_and_no_false_positive(rows):
    scores = []
    for label in LABELS[:3]:
        found = sum(output == gold == label for output, gold in rows)
        missed = sum(gold == label and output != label for output, gold in rows)
        false_alarms = sum(output == label and gold != label for output, gold in rows)
        if found + missed + false_alarms:
            scores.append(2 * found / (2 * found + missed + false_alarms))
    assert label_scores(rows, 3)["primary"] / 100 == pytest.approx(sum(scores) / len(scores), abs=1e-12)


@given(label_rows(("?", "", "alpha beta"), 3))
def test_published_scores_agree_with_scikit_learn_once_invalid_outputs_are_replaced(rows):
    golds = [gold for _, gold in rows]
    outputs = [
        output if output in LABELS else (LABELS[0] if gold == LABELS[1] else LABELS[1]) for output, gold in rows
    ]
    expected = f1_score(golds, outputs, average="macro")
    assert label_scores(rows, 3, "published")["primary"] / 100 == pytest.approx(expected, abs=1e-12)


ratings = st.integers(0, 50).map(lambda tenths: tenths / 10)


@given(st.lists(st.tuples(ratings, ratings), min_size=2, max_size=40))
def test_correlations_agree_with_scipy(rows):
    outputs, golds = np.array(rows).T
    spec = dataset("pearson", mean_train_label=2.7)
    predictions, references = [str(output) for output in outputs], [[str(gold)] for gold in golds]
    constant = len(set(outputs)) == 1 or len(set(golds)) == 1
    expected = 0.0 if constant else pearsonr(outputs, golds).statistic
    ranks = 0.0 if constant else spearmanr(outputs, golds).statistic
    for protocol in ("corrected", "published"):
        values = score_rows(spec, predictions, references, protocol).values
        assert values["raw_pearson"] / 100 == pytest.approx(expected, abs=1e-12)
        assert values["pearson_on_valid_rows"] == values["raw_pearson"]
        assert values["primary"] == max(0, values["raw_pearson"])
        assert values["spearman"] / 100 == pytest.approx(ranks, abs=1e-12)


@given(st.lists(st.tuples(st.one_of(ratings.map(str), st.just("none")), ratings), min_size=1, max_size=40))
def test_invalid_ratings_count_as_the_mean_and_under_published_as_minus_one(rows):
    spec = dataset("pearson", mean_train_label=2.7)
    predictions, references = [row[0] for row in rows], [[str(row[1])] for row in rows]
    for protocol, stand_in in (("corrected", "2.7"), ("published", "-1")):
        filled = [stand_in if prediction == "none" else prediction for prediction in predictions]
        values = score_rows(spec, predictions, references, protocol).values
        expected = score_rows(spec, filled, references, "published").values
        assert {name: values[name] for name in ("primary", "spearman")} == {
            name: expected[name] for name in ("primary", "spearman")
        }
