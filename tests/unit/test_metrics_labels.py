import pytest

from peftbench.errors import DataError
from peftbench.metrics.labels import INVALID, find_label, gold_class, only, plain, published_text, read_label, trim

NLI = ("entailment", "not_entailment")
LETTERS = ("A", "B", "C", "D")


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ("  yes \n", "yes"),
        ("yes<|eot_id|>", "yes"),
        ("yes </s> <|im_end|>\n", "yes"),
        ("</s> yes", "</s> yes"),
        ("<|eot_id|>", ""),
        ("", ""),
    ],
)
def test_white_space_is_cut_off_both_ends_and_marks_off_the_end(output: str, text: str):
    assert trim(output) == text


@pytest.mark.parametrize("output", ['"yes"', "'yes'", "`yes`", "“yes”", "yes.", '"yes."', '"yes".', ' " yes " . '])
def test_one_pair_of_quotes_and_one_period_are_taken_away(output: str):
    assert plain(output) == "yes"


@pytest.mark.parametrize(
    ("output", "text"),
    [
        ('""yes""', '"yes"'),
        ("yes..", "yes."),
        ('"yes.".', "yes."),
        ('"yes', '"yes'),
        ('"', '"'),
        (".", ""),
        ('“yes"', '“yes"'),
    ],
)
def test_no_more_than_that_is_taken_away(output: str, text: str):
    assert plain(output) == text


@pytest.mark.parametrize("output", ["entailment", "ENTAILMENT.", " 'Entailment'<|eot_id|>"])
def test_a_label_is_read_whatever_its_case(output: str):
    assert read_label(output, NLI) == 0


@pytest.mark.parametrize("output", ["", "entails", "entailment not", "(A)", "not entailment", "entailment, since"])
def test_anything_but_a_label_is_invalid(output: str):
    assert read_label(output, NLI) == INVALID


@pytest.mark.parametrize(
    ("output", "labels", "found"),
    [
        ("it is not_entailment", NLI, 1),
        ("entailment. Yes, Entailment!", NLI, 0),
        ("entailment or not_entailment", NLI, INVALID),
        ("no_entailment", NLI, INVALID),
        ("", NLI, INVALID),
        ("The answer is (B).", LETTERS, 1),
        ("a boy chose option c", LETTERS, INVALID),
        ("A or B", LETTERS, INVALID),
        ("BAD", LETTERS, INVALID),
        ("a", ("a", "b"), 0),
        ("very good indeed", ("good", "very good"), 1),
        ("very good, good", ("good", "very good"), INVALID),
        ("good enough", ("good", "good enough"), 1),
        ("posıtive", ("negative", "positive"), 1),
    ],
)
def test_the_lenient_reading_finds_one_label_as_a_whole_word_longest_first(output: str, labels: tuple, found: int):
    if "ı" in output:  # equal to i for a search without case; what matters is that it has an answer
        assert find_label(output, labels) in (found, INVALID)
    else:
        assert find_label(output, labels) == found


def test_the_published_text_is_lower_case_after_the_thoughts():
    assert published_text("<think>\nA?</think>\n\n True \n") == "true"
    assert published_text(" False.") == "false."


def test_a_reference_outside_the_label_set_is_an_error():
    with pytest.raises(DataError, match=r"'maybe' is no label of boolq; give one of false, true"):
        gold_class("maybe", ("false", "true"), "boolq")


def test_two_references_where_one_is_taken_are_an_error():
    with pytest.raises(DataError, match="2 references were given where the metric takes one"):
        only(("a", "b"))
