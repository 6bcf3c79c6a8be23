"""What becomes of any row: columns checked, fields in order, labels by the table, errors in words."""

import pytest

from peftbench.datasets import get_dataset
from peftbench.datasets.examples import example_of, prepared_rows
from peftbench.datasets.prepare import prepare_function
from peftbench.errors import ConfigError, DataError, UnknownName
from tests.unit.datasets.single_rows import Row, prepare, row_of


def test_ids_name_the_split_of_the_source_and_the_row() -> None:
    assert [item.id for item in prepare("mnli", row_of("mnli"), row_of("mnli"))] == [
        "validation_matched-0",
        "validation_matched-1",
    ]
    assert prepare("mnli", row_of("mnli"), role="train")[0].id == "train-0"
    assert prepare("mnli", row_of("mnli"), protocol="published")[0].id == "validation_mismatched-0"


def test_empty_fields_are_left_out_and_outer_white_space_is_dropped() -> None:
    [example] = prepare("qqp", row_of("qqp", question1="  why ? \n", question2=" "))
    assert example.prompt.fields == (("Question 1", "why ?"),)


def test_a_label_becomes_the_word_of_the_catalogue_and_the_stratum() -> None:
    [example] = prepare("cb", row_of("cb", label=2))
    assert (example.target, example.references, example.stratum) == ("neutral", ("neutral",), "neutral")


@pytest.mark.parametrize(("name", "column", "value"), [("mnli", "label", -1), ("hellaswag", "label", "")])
def test_a_label_outside_the_table_is_an_error_that_names_the_row(name: str, column: str, value: object) -> None:
    with pytest.raises(
        DataError, match=rf"{name}, split 'validation.*', row 1: column '{column}' is .* expected one"
    ):
        prepare(name, row_of(name), row_of(name, **{column: value}))


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("mnli", {"premise": None}, "column 'premise' is null, expected text"),
        ("mnli", {"premise": 3}, "column 'premise' is int 3, expected text"),
        ("mnli", {"label": "2"}, "column 'label' is str '2', expected an integer"),
        ("mnli", {"label": True}, "column 'label' is bool True, expected an integer"),
        ("mnli", {"label": 1.0}, "column 'label' is float 1.0, expected an integer"),
        ("stsb", {"label": float("nan")}, "column 'label' is float nan, expected a finite number"),
        ("stsb", {"label": 5.5}, "column 'label' is 5.5, expected a score from 0 to 5"),
        ("stsb", {"label": 1e300}, "expected a score from 0 to 5"),
        ("mmlu", {"choices": ["a", 1, "c", "d"]}, "column 'choices' is list .* expected a list of texts"),
        ("mmlu", {"choices": ["a", "b", "c"]}, "column 'choices.3' has no part '3'"),
        ("openbookqa", {"choices": {"text": ["a"], "label": []}}, "column 'choices' is not two lists"),
        ("openbookqa", {"choices": {"text": ["a", "b"], "label": ["A", "B"]}}, "'lettered.C' has no part 'C'"),
        ("math_qa", {"options": "24 or 120"}, "column 'options' is '24 or 120', expected options such as"),
        ("apps", {"solutions": "not json"}, "column 'solutions' is not JSON"),
        ("apps", {"solutions": '{"a": 1}'}, "column 'solutions' is JSON of another shape"),
        ("wsc", {"span2_text": "her"}, "span 'her' stands nowhere in column 'text', expected it at token 6"),
    ],
)
def test_what_is_wrong_with_a_row_is_said_in_words(name: str, changes: Row, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        prepare(name, row_of(name, **changes))
    assert str(caught.value).startswith(f"{name}, split 'validation") or name == "apps"
    assert "row 0" in str(caught.value)


def test_a_missing_column_is_named_with_those_found() -> None:
    row = row_of("mnli")
    del row["hypothesis"]
    with pytest.raises(DataError, match="column 'hypothesis' is missing, found premise, label"):
        prepare("mnli", row)


def test_a_row_that_is_no_mapping_is_an_error() -> None:
    with pytest.raises(DataError, match="row 0: it is a list, expected a mapping"):
        list(prepared_rows(get_dataset("mnli"), "test", [["premise"]]))


def test_columns_that_are_not_asked_for_change_nothing() -> None:
    assert prepare("mnli", row_of("mnli", idx=7, other=None)) == prepare("mnli", row_of("mnli"))


def test_rows_with_the_same_input_share_a_key_whatever_their_case_and_spaces() -> None:
    first, second, third = prepared_rows(
        get_dataset("cola"),
        "train",
        [{"sentence": s, "label": 1} for s in ("Birds  sing .", "birds sing . ", "Birds sing!")],
    )
    assert first.input == second.input != third.input


def test_a_prepare_function_of_another_package_is_named_as_module_and_function() -> None:
    assert prepare_function("peftbench.datasets.prepare:equation") is prepare_function("equation")
    with pytest.raises(ConfigError, match="give it as module:function"):
        prepare_function("peftbench.datasets.prepare:nothing")
    with pytest.raises(UnknownName, match="did you mean 'equation'"):
        prepare_function("equations")


def test_a_dataset_without_an_example_row_says_so() -> None:
    with pytest.raises(DataError, match="cola has no example row"):
        example_of(get_dataset("cola").model_copy(update={"example": None}))
