import gzip
import json
from decimal import Decimal

import pytest

from peftbench.errors import DataError
from peftbench.metrics import score_rows
from peftbench.metrics.answers import evaluate, number
from tests.golden.metrics import dataset


def scores(metric, prediction, reference, protocol="corrected"):
    return score_rows(dataset(metric), [prediction], [[reference]], protocol)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("8 - 3 - 2", 3),
        ("16 / 4 / 2", 2),
        ("2 * -3", -6),
        ("-(2 + 3) * +2", -10),
        ("--4", 4),
        ("2 - -3 * 2", 8),
        ("( 290.0 / 2.0 )", 145),
        (".5*4.", 2),
        ("7", 7),
        ("((((1))))", 1),
    ],
)
def test_arithmetic_has_the_usual_precedence(expression: str, value: int):
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    [
        "", " ", "()", "(", ")", "1 +", "* 1", "1 2", "1)", "(1", "1 (2)", "2 ** 3", "7 // 2", "7 % 2", "1 / 0",
        "0 / 0", "1 / (2 - 2)", "x + 1", "1,000 + 1", "__import__('os')", "1e5",
        "(" * 51 + "1" + ")" * 51, "1" * 1001, "-" * 100_000 + "1", "(" * 500_000,
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_has_no_value(expression: str):
    assert evaluate(expression) is None


def test_a_thousand_signs_are_computed_without_recursion():
    assert evaluate("-" * 998 + "1") == 1


@pytest.mark.parametrize(
    "text", ["", "five", "5 6", "0x10", "1_000", "nan", "inf", "1e1000", "9" * 101, "--5", "٣"]
)
def test_a_text_that_is_no_number_is_none(text: str):
    assert number(text) is None


def test_numbers_are_decimals():
    assert number("0.1") == Decimal("0.1")
    assert number("$-1,234.50%", ",$%") == Decimal("-1234.5")
    assert number("1e3") == 1000


def test_the_number_after_the_last_mark_must_be_all_that_follows():
    assert scores("last_number", "#### 4 #### 5.0.", "#### 5").values["primary"] == 100
    assert scores("last_number", "#### 5\nI hope this helps", "#### 5").invalid_rate == 1


@pytest.mark.parametrize(
    ("output", "right"),
    [
        ("it costs $1,005", True),
        ("1,0055", False),
        ("10-1005", True),
        ("x -1005", False),
        ("(2)-1005", True),
        ("1005.0", True),
        ("points 3,01005", True),
    ],
)
def test_the_last_number_anywhere_knows_thousands_and_signs(output: str, right: bool):
    assert scores("last_number", output, "#### 1005").values["last_number_anywhere"] == 100 * right


def test_a_gsm8k_reference_without_its_mark_is_an_error():
    with pytest.raises(
        DataError, match=r"row 0: the reference of sample ending in 'so 5' has no number after '####'"
    ):
        scores("last_number", "#### 5", "so 5")


def test_an_svamp_reference_without_an_answer_is_an_error():
    with pytest.raises(DataError, match=r"row 0: the reference '\( 8 - 3 \)' of sample has no number"):
        scores("equation_answer", "5", "( 8 - 3 )")


def test_the_value_of_an_equation_is_that_of_its_last_left_side():
    values = scores("equation_answer", "x = 4 + 1 = 5", "( 8 - 3 ) = 5").values
    assert values == {"primary": 100, "equation_value": 100, "exact_equation": 0, "self_consistency": 100}


def test_a_value_that_never_ends_is_close_enough_to_its_rounding():
    assert (
        scores("equation_answer", "( 10 / 3 ) = 3.3333333", "( 10 / 3 ) = 3.3333333").values["self_consistency"]
        == 100
    )


def test_published_svamp_takes_one_equation_only():
    for output in ("(1 + 1) = 2 = 2", "(1 + 1)", "() = 2", "(1 + 1) = two", "(1 + 1) = $2", "(1 + 1) = 2."):
        assert scores("equation_answer", output, "( 8 - 3 ) = 5", "published").invalid_rate == 1
    assert scores("equation_answer", "(600 + 634) = 1,234", "( 8 - 3 ) = 5", "published").values["primary"] == 100


def test_the_best_gold_answer_counts_for_words():
    spec = dataset("token_f1")
    assert score_rows(spec, ["us"], [["United States", "U.S."]], "corrected").values == {
        "primary": 100,
        "exact_match": 100,
    }


def test_articles_do_not_count():
    assert scores("token_f1", "An apple and a pear", "the apple and pear").values["exact_match"] == 100


def test_an_answer_of_articles_alone_is_still_an_answer():
    assert scores("token_f1", "A", "a").values["primary"] == 100
    assert scores("token_f1", "", "a").values == {"primary": 0, "exact_match": 0}
    assert scores("token_f1", "", "").values == {"primary": 0, "exact_match": 0}
    assert scores("token_f1", "?", "!").values == {"primary": 0, "exact_match": 0}


@pytest.mark.parametrize("protocol", ["corrected", "published"])
def test_every_stored_answer_of_gsm8k_and_svamp_is_right_by_its_own_measure(shared, protocol: str):
    with gzip.open(shared / "data/gsm8k/test.jsonl.gz") as lines:
        answers = [json.loads(line)["answer"] for line in lines]
    with gzip.open(shared / "data/svamp/test.jsonl.gz") as lines:
        rows = [json.loads(line) for line in lines]
    equations = [f"{row['Equation']} = {row['Answer']}" for row in rows]
    gsm8k = score_rows(dataset("last_number"), answers, [[answer] for answer in answers], protocol)
    svamp = score_rows(dataset("equation_answer"), equations, [[equation] for equation in equations], protocol)
    assert gsm8k.values == {"primary": 100, "last_number_anywhere": 100}
    bracketed = sum(equation.startswith("(") for equation in equations)
    assert svamp.values["primary"] == pytest.approx(
        100 if protocol == "corrected" else 100 * bracketed / len(rows)
    )
    assert svamp.values["equation_value"] == 100
