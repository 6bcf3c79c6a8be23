"""What holds of every metric whatever a model says, and of arithmetic against exact fractions."""

import math
import operator
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.metrics import metrics, score_rows
from peftbench.metrics.answers import evaluate
from tests.golden.metrics import dataset

CODE = (
    "x = 1",
    "def f(a, b=2):\n    return a + b",
    "for i in range(3):\n    total = total + i",
    "print('a' if b else c)",
    "[n for n in names if n]",
    "# nothing",
)
REFERENCES = {
    "macro_f1": st.sampled_from(["A", "B", "not A"]),
    "pearson": st.integers(0, 50).map(lambda tenths: str(tenths / 10)),
    "token_f1": st.sampled_from(["Barack Obama", "the", "U.S.", "a b c"]),
    "last_number": st.integers(-9999, 9999).map(lambda value: f"so it is <<1+1=2>>\n#### {value:,}"),
    "equation_answer": st.integers(1, 99).map(lambda value: f"( {value} + 1 ) = {value + 1}"),
    "codebleu": st.sampled_from(CODE),
}
SPECS = {name: dataset(name, labels=("A", "B", "not A"), mean_train_label=2.5) for name in REFERENCES}
SPECS |= {name: dataset(name, mean_train_label=2.5) for name in REFERENCES if name != "macro_f1"}

PIECES = [
    "####",
    "=",
    "(",
    ")",
    "-",
    "5",
    "1,000",
    ".",
    "$",
    "%",
    "e9",
    "A",
    "not A",
    "```",
    "\n",
    " ",
    "def f():",
    "x",
]
PIECES += [
    "    ",
    "'",
    '"""',
    "#",
    "\\",
    ":",
    "if",
    "for",
    "in",
    "else",
    "<|eot_id|>",
    "</think>\n\n",
    "İ",
    "\x00",
    "\ud800",
]
outputs = st.one_of(st.text(st.characters()), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
protocols = st.sampled_from(["corrected", "published"])


def scores(name: str, predictions, references, protocol):
    return score_rows(SPECS[name], predictions, [[reference] for reference in references], protocol)


def test_every_metric_of_this_package_is_tested_here():
    assert {name for name in metrics.names() if metrics.get(name).count.__module__.startswith("peftbench")} == set(
        SPECS
    )


@pytest.mark.parametrize("name", SPECS)
@given(st.data(), protocols)
def test_no_output_crashes_a_metric_and_scores_stay_on_the_scale(name: str, data, protocol):
    rows = data.draw(st.lists(st.tuples(outputs, REFERENCES[name]), min_size=1, max_size=6))
    result = scores(name, *zip(*rows, strict=True), protocol)
    assert 0 <= result.values["primary"] <= 100
    assert all(math.isfinite(value) and -100 <= value <= 100 for value in result.values.values())
    assert len(result.valid) == len(rows)


@pytest.mark.parametrize("name", SPECS)
@given(st.data())
def test_perfect_outputs_score_100(name: str, data):
    references = data.draw(st.lists(REFERENCES[name], min_size=1, max_size=8))
    if name == "pearson" and len(set(references)) == 1:
        references += ["0.0", "5.0"]
    result = scores(name, references, references, "corrected")
    assert result.values["primary"] == pytest.approx(100, abs=1e-9)
    assert result.invalid_rate == 0


@pytest.mark.parametrize("name", SPECS)
@given(st.data(), protocols)
def test_the_order_of_rows_does_not_matter(name: str, data, protocol):
    rows = data.draw(st.lists(st.tuples(outputs | REFERENCES[name], REFERENCES[name]), min_size=1, max_size=6))
    shuffled = data.draw(st.permutations(rows))
    one, other = (scores(name, *zip(*some, strict=True), protocol) for some in (rows, shuffled))
    assert one.values == pytest.approx(other.values, abs=1e-9)
    assert (one.invalid_rate, one.top_output_share) == (other.invalid_rate, other.top_output_share)


@pytest.mark.parametrize("name", SPECS)
@given(st.data(), protocols)
def test_scores_of_rows_drawn_again_are_computed_from_the_counts_alone(name: str, data, protocol):
    rows = data.draw(st.lists(st.tuples(outputs | REFERENCES[name], REFERENCES[name]), min_size=1, max_size=5))
    drawn = data.draw(st.lists(st.integers(0, len(rows) - 1), min_size=1, max_size=8))
    whole = scores(name, *zip(*rows, strict=True), protocol)
    again = scores(name, *zip(*(rows[row] for row in drawn), strict=True), protocol)
    columns = {key: column[drawn] for key, column in whole.columns.items()}
    assert metrics.get(name).combine(columns, SPECS[name], protocol) == again.values


numbers = st.integers(0, 20).map(lambda value: (str(value), Fraction(value)))
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}


def grown(inner):
    """Sums, differences, products, quotients by 2, 4 or 5 (so that decimals stay exact) and signs."""
    return st.one_of(
        st.tuples(inner, st.sampled_from("+-*"), inner).map(
            lambda parts: (
                f"({parts[0][0]} {parts[1]} {parts[2][0]})",
                OPERATIONS[parts[1]](parts[0][1], parts[2][1]),
            )
        ),
        st.tuples(inner, st.sampled_from([2, 4, 5])).map(
            lambda parts: (f"({parts[0][0]} / {parts[1]})", parts[0][1] / parts[1])
        ),
        inner.map(lambda part: (f"-{part[0]}", -part[1])),
    )


@settings(max_examples=300)
@given(st.recursive(numbers, grown, max_leaves=8))
def test_arithmetic_agrees_with_exact_fractions(expression):
    text, value = expression
    if len(text) < 400 and text.count("/") < 8:
        assert Fraction(evaluate(text)) == value


@settings(max_examples=300)
@given(
    st.lists(st.tuples(st.sampled_from("+-*"), st.integers(0, 99)), min_size=1, max_size=12), st.integers(0, 99)
)
def test_a_chain_without_brackets_has_the_usual_precedence(parts, first):
    text = str(first) + "".join(f" {sign} {value}" for sign, value in parts)
    terms, signs = [first], [1]
    for sign, value in parts:
        if sign == "*":
            terms[-1] *= value
        else:
            terms.append(value)
            signs.append(1 if sign == "+" else -1)
    assert evaluate(text) == sum(sign * term for sign, term in zip(signs, terms, strict=True))
