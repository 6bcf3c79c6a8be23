"""Open answers: the overlap of words (ReCoRD), a final number (GSM8K) and an equation with its answer (SVAMP).

Numbers are compared as decimals. Arithmetic is read by a small parser of its own; what it cannot read (a
division by zero, a huge number, deep nesting) is an output of the wrong form, never a crash.
"""

import re
import string
from collections import Counter
from decimal import Decimal

from peftbench.errors import DataError
from peftbench.metrics.labels import only, plain, published_text, trim
from peftbench.metrics.scoring import Counts, mean_sums, means, metric, rights
from peftbench.schema import DatasetSpec, Protocol

LONGEST_NUMBER, LONGEST_EXPRESSION, DEEPEST_NESTING = 100, 1000, 50
CLOSE = Decimal("1e-6")

_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(e[+-]?[0-9]{1,3})?", re.IGNORECASE)
_NUMBER_IN_TEXT = re.compile(r"((?<![\w)])[+-])?[$]?([0-9]{1,3}(,[0-9]{3})+(?![0-9])|[0-9]+)(\.[0-9]+)?")
_SYMBOL = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+|[-+*/()])")
_PUBLISHED_ANSWER = re.compile(r"[+-]?([0-9]+(\.[0-9]+)?|\.[0-9]+)")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def number(text: str, ignore: str = "") -> Decimal | None:
    """The number that a text is, apart from the signs in `ignore`; None for anything else or a huge exponent."""
    for sign in ignore:
        text = text.replace(sign, "")
    text = text.strip()
    return Decimal(text) if len(text) <= LONGEST_NUMBER and _NUMBER.fullmatch(text) else None


# --------------------------------------------------------------------------------------- overlap of words


@metric("token_f1", means(primary="f1", exact_match="exact"), sums=mean_sums("f1"))
def token_f1(prediction: str, references: tuple[str, ...], _spec: DatasetSpec, protocol: Protocol) -> Counts:
    """F1 of the words shared with the best gold answer; counts it and whether a gold answer is met exactly.

    Answers are normalised as for SQuAD (Rajpurkar et al. 2016, section 6.1, https://arxiv.org/abs/1606.05250):
    no case, no punctuation, no articles. An empty output is invalid.
    """
    read = published_text if protocol == "published" else trim
    given = _words(read(prediction))
    golds = [_words(read(reference)) for reference in references]
    return {
        "valid": bool(read(prediction)),
        "f1": max(_overlap(given, gold) for gold in golds),
        "exact": bool(given) and given in golds,
    }


def _words(text: str) -> list[str]:
    lowered = text.lower()
    words = _ARTICLES.sub(" ", lowered.translate(_PUNCTUATION)).split()
    return words or lowered.split()  # an answer such as "A" or "?" is not nothing


def _overlap(given: list[str], gold: list[str]) -> float:
    shared = (Counter(given) & Counter(gold)).total()
    return 2 * shared / (len(given) + len(gold)) if shared else 0.0


# ------------------------------------------------------------------------------------------ a final number


@metric(
    "last_number",
    means(primary="correct", last_number_anywhere="last_anywhere"),
    lenient="last_number_anywhere",
    sums=mean_sums("correct"),
    right=rights("correct"),
)
def last_number(prediction: str, references: tuple[str, ...], spec: DatasetSpec, protocol: Protocol) -> Counts:
    """Accuracy of the number after the last `####`, which must be all that follows.

    `,`, `$`, `%` and a final period do not matter; under `published` a `$` makes the output invalid.
    """
    gold = _after_hashes(only(references), ",$%")
    if gold is None:
        raise DataError(
            f"the reference of {spec.name} ending in {references[0][-40:]!r} has no number after '####'; "
            f"end it with '#### number'"
        )
    published = protocol == "published"
    text = published_text(prediction) if published else trim(prediction)
    answer = _after_hashes(text, ",%" if published else ",$%")
    *_, last = [None, *_NUMBER_IN_TEXT.finditer(text)]
    anywhere = number(last.group(), ",$") if last else None
    return {"valid": answer is not None, "correct": answer == gold, "last_anywhere": anywhere == gold}


def _after_hashes(text: str, ignore: str) -> Decimal | None:
    _, hashes, rest = text.rpartition("####")
    return number(rest.strip().removesuffix("."), ignore) if hashes else None


# ----------------------------------------------------------------------------- an equation with its answer


@metric(
    "equation_answer",
    means(
        primary="correct",
        equation_value="value_correct",
        exact_equation="exact",
        self_consistency="consistent",
    ),
    lenient="equation_value",
    sums=mean_sums("correct"),
    right=rights("correct"),
)
def equation_answer(prediction: str, references: tuple[str, ...], spec: DatasetSpec, protocol: Protocol) -> Counts:
    """Accuracy of the number after the last `=`, or of the bare number.

    Counted beside it: whether the value of the expression is the gold answer, whether the equation is the gold
    one (white space and the spelling of numbers apart), and whether it agrees with itself. Under `published` the
    last is what counts, not the gold answer, and an output is valid if it is `(expression) = number`.
    """
    gold_left, gold_answer = _sides(only(references))
    if gold_answer is None:
        raise DataError(
            f"the reference {references[0][:80]!r} of {spec.name} has no number after its last '='; "
            f"write it as 'equation = number'"
        )
    published = protocol == "published"
    left, answer = _sides(published_text(prediction) if published else plain(prediction))
    value = evaluate(left)
    consistent = value is not None and answer is not None and abs(value - answer) < CLOSE
    counts: Counts = {
        "valid": answer is not None,
        "correct": answer == gold_answer,
        "value_correct": value is not None and abs(value - gold_answer) < CLOSE,
        "exact": answer == gold_answer and _symbols(left) == _symbols(gold_left) is not None,
        "consistent": consistent,
    }
    if published:
        valid = value is not None and _has_published_form(published_text(prediction))
        # The reference implementation compares the expressions as they are written, white space included.
        same = left.strip() == published_text(gold_left) and answer == gold_answer
        agrees = valid and consistent
        counts |= {"valid": valid, "correct": agrees, "consistent": agrees, "exact": agrees and same}
    return counts


def _sides(equation: str) -> tuple[str, Decimal | None]:
    """The expression before the last `=` (after the one before it), and the number after it; either may be all."""
    parts = equation.split("=")
    return parts[-2] if len(parts) > 1 else equation, number(parts[-1].strip().removesuffix("."), ",$%")


def _has_published_form(text: str) -> bool:
    left, _, answer = (part.strip() for part in text.partition("="))
    depth = 0
    for place, sign in enumerate(left):
        depth += (sign == "(") - (sign == ")")
        if depth == 0:  # the bracket that opens the expression must be the one that closes it
            return (
                place > 0 and place == len(left) - 1 and bool(_PUBLISHED_ANSWER.fullmatch(answer.replace(",", "")))
            )
    return False


def evaluate(expression: str) -> Decimal | None:
    """The value of an expression of numbers, `+ - * / ( )` and signs; None if it has none that can be computed.

    Two stacks, no recursion: a value waits in one until the operator after it is known.
    """
    symbols = _symbols(expression)
    if symbols is None:
        return None
    values: list[Decimal] = []
    operators: list[str] = []
    value_next = True
    try:
        for symbol in symbols:
            if value_next:
                if isinstance(symbol, Decimal):
                    values.append(symbol)
                    value_next = False
                elif symbol in ("+", "-", "("):
                    operators.append("(" if symbol == "(" else "sign" + symbol)
                else:
                    return None
            elif symbol == ")":
                _apply(values, operators, 0)
                if not operators:
                    return None
                operators.pop()
            elif isinstance(symbol, str) and symbol in _STRENGTH:
                _apply(values, operators, _STRENGTH[symbol])
                operators.append(symbol)
                value_next = True
            else:
                return None
        if value_next:
            return None
        _apply(values, operators, 0)
    except ArithmeticError:
        return None
    return None if operators else values.pop()


_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "sign+": 3, "sign-": 3}


def _apply(values: list[Decimal], operators: list[str], strength: int) -> None:
    """Apply the waiting operators at least as strong as `strength`, back to the last open bracket."""
    while operators and _STRENGTH.get(operators[-1], -1) >= strength:
        operator, right = operators.pop(), values.pop()
        match operator:
            case "sign-":
                values.append(-right)
            case "sign+":
                values.append(right)
            case "+":
                values.append(values.pop() + right)
            case "-":
                values.append(values.pop() - right)
            case "*":
                values.append(values.pop() * right)
            case "/":
                values.append(values.pop() / right)


def _symbols(expression: str) -> list[Decimal | str] | None:
    """Numbers as decimals, operators and brackets as text; None for any other sign or beyond the limits."""
    text = expression.strip()
    if len(text) > LONGEST_EXPRESSION or text.count("(") > DEEPEST_NESTING:
        return None
    symbols: list[Decimal | str] = []
    end = 0
    while end < len(text):
        match = _SYMBOL.match(text, end)
        if match is None:
            return None
        symbol, end = match.group(1), match.end()
        symbols.append(symbol if symbol in "+-*/()" else Decimal(symbol))
    return symbols
