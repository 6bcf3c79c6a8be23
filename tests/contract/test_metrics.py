"""What every metric owes, those of other packages included; a new metric is tested by its golden cases alone."""

import math

import numpy as np
import pytest

from peftbench.datasets import dataset_names, get_dataset
from peftbench.metrics import Scores, metrics, score_rows
from tests.golden.metrics import FOLDER, cases, dataset

EVERY = [(name, case) for name in metrics.names() for case in cases(name)]


def score(name: str, case: dict) -> Scores:
    facts = {key: tuple(value) if key == "labels" else value for key, value in case.get("facts", {}).items()}
    predictions, references = [row[0] for row in case["rows"]], [row[1] for row in case["rows"]]
    return score_rows(dataset(name, **facts), predictions, references, case["protocol"])


@pytest.mark.parametrize(
    ("name", "case"), EVERY, ids=[f"{name}: {case['case']}, {case['protocol']}" for name, case in EVERY]
)
def test_a_golden_case_gives_its_scores_and_the_validity_of_each_row(name: str, case: dict):
    scores = score(name, case)
    assert {key: scores.values[key] for key in case["expect"]} == pytest.approx(case["expect"], abs=1e-9)
    assert list(scores.valid) == [row[2] for row in case["rows"]]
    assert case["source"]


@pytest.mark.parametrize("name", metrics.names())
def test_golden_cases_hold_perfect_outputs_and_garbage_under_both_protocols(name: str):
    named = {(case["case"], case["protocol"]): case for case in cases(name)}
    for protocol in ("corrected", "published"):
        perfect, garbage = named["perfect", protocol], named["garbage", protocol]
        assert perfect["expect"]["primary"] == 100
        assert garbage["expect"]["primary"] == 0 or "floor" in garbage["source"]


@pytest.mark.parametrize(
    ("name", "case"), EVERY, ids=[f"{name}: {case['case']}, {case['protocol']}" for name, case in EVERY]
)
def test_every_score_is_a_number_on_the_scale_and_primary_comes_first(name: str, case: dict):
    scores = score(name, case)
    assert next(iter(scores.values)) == "primary"
    assert 0 <= scores.values["primary"] <= 100
    assert all(math.isfinite(value) and -100 <= value <= 100 for value in scores.values.values())
    assert 0 <= scores.invalid_rate <= 1
    assert 0 < scores.top_output_share <= 1


@pytest.mark.parametrize("name", metrics.names())
def test_counts_of_a_row_have_the_same_names_and_lengths_for_any_output(name: str):
    for protocol in ("corrected", "published"):
        columns = [score(name, case).columns for case in cases(name) if case["protocol"] == protocol]
        shapes = [{key: column.shape[1:] for key, column in one.items()} for one in columns]
        assert all(shape == shapes[0] for shape in shapes)
        assert all(column.dtype != object for one in columns for column in one.values())


@pytest.mark.parametrize("name", metrics.names())
def test_a_metric_answers_to_the_name_it_is_listed_under_and_has_a_version(name: str):
    assert metrics.get(name).name == name
    assert metrics.get(name).version >= 1


def test_no_golden_file_is_left_without_its_metric():
    assert {path.stem for path in FOLDER.glob("*.jsonl")} == set(metrics.names())


def test_every_dataset_names_a_metric_that_exists_and_has_what_it_needs():
    for name in dataset_names():
        spec = get_dataset(name)
        assert spec.metric in metrics
        assert spec.metric != "macro_f1" or len(spec.label_set) > 1
        assert spec.metric != "pearson" or spec.mean_train_label is not None


@pytest.mark.parametrize("protocol", ["corrected", "published"])
@pytest.mark.parametrize("name", [name for name in metrics.names() if metrics.get(name).sums])
def test_sums_over_rows_give_the_score_of_the_rows(name: str, protocol: str):
    metric, tried = metrics.get(name), 0
    for case in cases(name):
        facts = {key: tuple(value) if key == "labels" else value for key, value in case.get("facts", {}).items()}
        spec, scored = dataset(name, **facts), score(name, case)
        terms = metric.sums.terms(scored.columns, spec, protocol) if case["protocol"] == protocol else None
        if terms is None:
            continue
        assert terms.shape[0] == scored.scored_rows
        source = np.random.default_rng(0)
        rows = source.integers(scored.scored_rows, size=(25, scored.scored_rows))
        totals = np.stack([terms[drawn].sum(axis=0) for drawn in rows])
        one_by_one = [
            metric.combine({key: column[drawn] for key, column in scored.columns.items()}, spec, protocol)[
                "primary"
            ]
            for drawn in rows
        ]
        assert metric.sums.primary(totals.astype(float), spec, protocol) == pytest.approx(one_by_one, abs=1e-9)
        tried += 1
    assert tried


@pytest.mark.parametrize("name", [name for name in metrics.names() if metrics.get(name).right])
def test_right_rows_are_those_that_count(name: str):
    for case in cases(name):
        if case["case"] in ("perfect", "garbage"):
            right = metrics.get(name).right(score(name, case).columns)
            assert right.dtype == bool
            assert right.all() if case["case"] == "perfect" else not right.all()
