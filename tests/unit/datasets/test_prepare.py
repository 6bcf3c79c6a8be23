"""The reshaping that some datasets need, row by row and over all real rows."""

import json
import re
import struct
from pathlib import Path

import pytest

from peftbench.datasets import get_dataset
from peftbench.datasets.prepare import MOST_GOLD_SOLUTIONS
from peftbench.errors import DataError
from peftbench.schema import Protocol
from tests.unit.datasets.single_rows import field, prepare, real_rows, row_of

# ---------------------------------------------------------------------------------------------- similarity


@pytest.mark.parametrize(
    ("label", "target", "reference"),
    [
        (3.8, "3.8", "3.8"),
        (3.799999952316284, "3.8", "3.8"),
        (4.75, "4.8", "4.75"),
        (2.25, "2.2", "2.25"),
        (5, "5.0", "5.0"),
        (0.0, "0.0", "0.0"),
        (2.11111111111111, "2.1", "2.1111112"),
    ],
)
def test_a_similarity_is_taught_with_one_decimal_and_scored_as_stored(
    label: float, target: str, reference: str
) -> None:
    [example] = prepare("stsb", row_of("stsb", label=label))
    assert (example.target, example.references) == (target, (reference,))


def test_the_published_similarity_is_the_32_bit_float_printed_in_full() -> None:
    [example] = prepare("stsb", row_of("stsb", label=3.8), protocol="published")
    assert example.target == "3.799999952316284"


@pytest.mark.shared
def test_every_real_similarity_is_the_same_as_a_32_bit_float(shared: Path) -> None:
    rows = real_rows(shared, "stsb", "train") + real_rows(shared, "stsb", "validation")
    as_stored = [{**row, "label": struct.unpack("f", struct.pack("f", row["label"]))[0]} for row in rows]
    assert prepare("stsb", *rows) == prepare("stsb", *as_stored)
    printed = [repr(row["label"]) for row in rows]
    same = sum(item.references == (text,) for item, text in zip(prepare("stsb", *rows), printed, strict=True))
    assert (same, len(rows)) == (7234, 7249)  # the other 15 have more digits than a 32-bit float holds


# ------------------------------------------------------------------------------------------------- reading


def test_highlights_become_sentences_and_entities_a_sorted_list() -> None:
    [example] = prepare(
        "record",
        row_of("record", passage="First.\n@highlight\nSecond\n@highlight\nThird?", entities=["b", "a", "b"]),
    )
    assert field(example, "Passage") == "First. Second. Third?"
    assert field(example, "Entities") == "a; b"


def test_a_cloze_is_taught_with_the_first_answer_and_scored_against_all() -> None:
    [example] = prepare("record", row_of("record"))
    assert (example.id, example.target) == ("validation-0", "Anna Holt")
    assert example.references == ("Anna Holt", "Holt")


def test_a_published_cloze_gives_a_row_for_each_answer() -> None:
    examples = prepare("record", row_of("record"), protocol="published")
    assert [(item.id, item.target) for item in examples] == [
        ("validation-0-0", "Anna Holt"),
        ("validation-0-1", "Holt"),
    ]
    assert all(item.references == ("Anna Holt", "Holt") for item in examples)


def test_the_question_of_copa_is_asked_but_under_the_published_protocol() -> None:
    assert ("Question", "cause") in prepare("copa", row_of("copa"))[0].prompt.fields
    published = prepare("copa", row_of("copa"), protocol="published")[0]
    assert [label for label, _ in published.prompt.fields] == ["Premise", "Choice1", "Choice2"]


# --------------------------------------------------------------------------------------------- coreference


def coreference(
    text: str, first: tuple[int, str], second: tuple[int, str], protocol: Protocol = "corrected"
) -> str:
    row = {"text": text, "span1_index": first[0], "span1_text": first[1], "label": 1}
    row |= {"span2_index": second[0], "span2_text": second[1]}
    return field(prepare("wsc", row, protocol=protocol)[0], "Text")


def test_noun_and_pronoun_are_marked_at_their_tokens_and_named() -> None:
    marked = coreference("He saw that he won.", (0, "He"), (3, "he"))
    assert marked == "#He# saw that *he* won."
    [example] = prepare("wsc", row_of("wsc"))
    assert (field(example, "Noun"), field(example, "Pronoun")) == ("the painter", "she")


def test_marks_leave_punctuation_and_endings_outside() -> None:
    assert coreference('"Emma\'s cat," she said.', (0, "Emma"), (2, "she")) == '"#Emma#\'s cat," *she* said.'


def test_a_span_is_never_read_as_a_pattern() -> None:
    assert coreference("Dr. (A+) met him (once).", (1, "(A+)"), (3, "him")) == "Dr. #(A+)# met *him* (once)."


def test_a_span_inside_the_other_is_marked_inside() -> None:
    assert coreference("He met their mothers.", (2, "their mothers"), (2, "their")) == "He met #*their* mothers#."
    published = coreference("He met their mothers.", (2, "their mothers"), (2, "their"), "published")
    assert published == "He met *#their# mothers*."


def test_a_span_beside_its_index_is_found_at_the_nearest_token() -> None:
    assert coreference("it is so that it is", (1, "so"), (5, "it")) == "it is #so# that *it* is"
    assert coreference("other the then", (2, "the"), (0, "other")) == "*other* #the# then"


def test_a_span_is_whole_words_only() -> None:
    assert coreference("one there he", (0, "one"), (1, "he")) == "#one# there *he*"
    assert coreference("one there here", (0, "one"), (1, "here")) == "#one# there *here*"
    assert coreference("one hers her", (0, "one"), (1, "her")) == "#one# hers *her*"


def test_the_published_marks_are_the_other_way_round_and_stop_at_the_first_mismatch() -> None:
    assert coreference("He saw that he won.", (0, "He"), (3, "he"), "published") == "*He* saw that #he# won."
    assert coreference("He saw that he won.", (1, "He"), (3, "he"), "published") == "He saw that he won."
    assert coreference("He saw that he won.", (0, "He"), (2, "he"), "published") == "*He* saw that he won."


@pytest.mark.shared
def test_every_real_span_is_marked_once_and_only_marks_are_added(shared: Path) -> None:
    rows = real_rows(shared, "wsc", "train") + real_rows(shared, "wsc", "validation")
    assert len(rows) == 658
    for row, example in zip(rows, prepare("wsc", *rows), strict=True):
        marked = field(example, "Text")
        assert f"#{row['span1_text']}#" in marked.replace("*", "")
        assert f"*{row['span2_text']}*" in marked.replace("#", "")
        assert marked.replace("#", "").replace("*", "") == row["text"].strip()
        before = marked.split("#")[0].replace("*", "")
        assert len(before.split()) - bool(before and not before[-1].isspace()) == row["span1_index"]


# ------------------------------------------------------------------------------------------------- options


def test_choices_are_matched_by_their_letters_and_not_by_their_places() -> None:
    choices = {"text": ["third", "first", "fourth", "second"], "label": ["C", "A", "D", "B"]}
    [example] = prepare("openbookqa", row_of("openbookqa", choices=choices))
    assert example.prompt.fields[1:] == (("A", "first"), ("B", "second"), ("C", "third"), ("D", "fourth"))


@pytest.mark.parametrize(
    "options",
    [
        "a ) 1 , b ) 2,000 , c ) ( 3 ) , d ) 4 , 5 , e ) none",
        "['a ) 1', 'b ) 2,000', 'c ) ( 3 )', 'd ) 4 , 5', 'e ) none']",
        """["a ) 1", 'b ) 2,000', "c ) ( 3 )", 'd ) 4 , 5', 'e ) none']""",
    ],
)
def test_both_spellings_of_options_give_the_same_fields(options: str) -> None:
    [example] = prepare("math_qa", row_of("math_qa", options=options))
    assert dict(example.prompt.fields[1:]) == {"a": "1", "b": "2,000", "c": "( 3 )", "d": "4 , 5", "e": "none"}


def test_an_option_that_is_not_there_is_left_out() -> None:
    [example] = prepare("math_qa", row_of("math_qa", options="a ) 1 , b ) 2 , c ) 3 , d ) 4"))
    assert [label for label, _ in example.prompt.fields] == ["Problem", "a", "b", "c", "d"]


@pytest.mark.shared
def test_every_real_line_of_options_is_taken_apart_without_loss(shared: Path) -> None:
    rows = real_rows(shared, "math_qa", "validation")
    assert sum(row["options"].startswith("[") for row in rows) == 115
    for row, example in zip(rows, prepare("math_qa", *rows), strict=True):
        letters = [f"{label} ) {text}" for label, text in example.prompt.fields[1:]]
        assert len(letters) == 5
        squeezed = re.sub(r"[\s,'\"\[\]]", "", row["options"])
        assert re.sub(r"[\s,'\"\[\]]", "", "".join(letters)) == squeezed


def test_the_context_keeps_its_case_but_under_the_published_protocol() -> None:
    row = row_of("hellaswag", ctx="Bob from NASA waves. he")
    assert field(prepare("hellaswag", row)[0], "Context") == "Bob from NASA waves. he"
    assert field(prepare("hellaswag", row, protocol="published")[0], "Context") == "Bob from nasa waves. he,"


def test_published_winogrande_trains_without_an_instruction_and_calls_both_options_one() -> None:
    trained, tested = (
        prepare("winogrande", row_of("winogrande"), protocol="published", role=role)[0].prompt
        for role in ("train", "test")
    )
    assert [label for label, _ in trained.fields] == ["Sentence", "Option1", "Option1"]
    assert trained.instruction == ""
    assert tested.instruction == get_dataset("winogrande").instruction


# -------------------------------------------------------------------------------------- equations and code


@pytest.mark.parametrize(
    ("equation", "answer", "target"),
    [
        ("( 8.0 - 7.0 )", "1", "( 8 - 7 ) = 1"),
        ("( ( 2.5 * 4 ) + 10.0 )", "20.0", "( ( 2.5 * 4 ) + 10 ) = 20"),
        ("8.0", "8", "8 = 8"),
        ("( 1.05 * 100.00 )", "105", "( 1.05 * 100 ) = 105"),
    ],
)
def test_an_equation_is_taught_with_its_answer_and_whole_numbers_as_integers(
    equation: str, answer: str, target: str
) -> None:
    [example] = prepare("svamp", row_of("svamp", Equation=equation, Answer=answer))
    assert (example.target, example.references) == (target, (target,))


def test_a_null_intent_falls_back_on_the_original_but_under_the_published_protocol() -> None:
    row = row_of("conala", rewritten_intent=None)
    assert field(prepare("conala", row)[0], "Task") == row["intent"]
    published = prepare("conala", row, protocol="published")[0]
    assert published.prompt.text() == get_dataset("conala").instruction


LONG = "1" * 5000


def test_the_shortest_solution_that_parses_is_taught_and_the_first_of_equals() -> None:
    stored = json.dumps(["print 1", "y = 12", "x = 12", "z = 1234"])
    [example] = prepare("apps", row_of("apps", solutions=stored), role="train")
    assert example.target == "y = 12"
    assert example.references == ("y = 12", "x = 12", "z = 1234")


def test_a_problem_without_a_solution_that_parses_has_no_reference() -> None:
    for stored in ("", "[]", '["print 1"]', '["", "# nothing"]'):
        [example] = prepare("apps", row_of("apps", solutions=stored))
        assert (example.target, example.references) == ("", ())


@pytest.mark.parametrize(
    "odd",
    [
        "x = " + "(" * 300 + ")" * 300,
        f"x = {LONG}",
        "\x00",
        "x = '\ud800'",
        "-" * 100_000 + "1",
        "a" + ".a" * 100_000,
        "print 1",
    ],
)
def test_a_solution_that_python_cannot_read_is_passed_over(odd: str) -> None:
    stored = json.dumps([odd, "print('fine') or '\\d'"])
    [example] = prepare("apps", row_of("apps", solutions=stored))
    assert example.references == ("print('fine') or '\\d'",)


def test_a_long_integer_is_no_solution() -> None:
    with pytest.raises(DataError, match="JSON of another shape"):
        prepare("apps", row_of("apps", solutions=f"[{LONG}]"))


def test_gold_solutions_are_capped_and_never_repeated() -> None:
    stored = json.dumps([f"x = {number // 2}" for number in range(60)])
    [example] = prepare("apps", row_of("apps", solutions=stored))
    assert example.references == tuple(f"x = {number}" for number in range(MOST_GOLD_SOLUTIONS))


def test_published_apps_give_a_row_for_each_solution_without_starter_code() -> None:
    row = row_of("apps", solutions=json.dumps(["print 1", "print(1)"]), starter_code="def f():")
    assert field(prepare("apps", row)[0], "Starter code") == "def f():"
    examples = prepare("apps", row, protocol="published")
    assert [(item.id, item.target, item.references) for item in examples] == [
        ("test-0-0", "print 1", ("print 1",)),
        ("test-0-1", "print(1)", ("print(1)",)),
    ]
    assert all([label for label, _ in item.prompt.fields] == ["Problem"] for item in examples)


@pytest.mark.shared
def test_answers_are_kept_as_they_are_stored(shared: Path) -> None:
    for name, column in (("gsm8k", "answer"), ("conala", "snippet")):
        rows = real_rows(shared, name, "test")
        assert [item.target for item in prepare(name, *rows)] == [row[column] for row in rows]
        assert all(item.references == (item.target,) for item in prepare(name, *rows))
