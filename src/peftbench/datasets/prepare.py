"""Reshaping of rows that need more than fields and labels, one function for each oddity.

A function takes a source row and gives the rows it stands for, each with the columns that the catalogue file
names added to it. It raises `DataError` for what it cannot make sense of; the caller adds dataset, split and
row. Those ending in `_published` do as the reference implementation does, faults included.
"""

import ast
import json
import re
import struct
import warnings
from collections.abc import Callable
from decimal import ROUND_HALF_EVEN, Decimal
from importlib import import_module
from typing import Any

from peftbench.datasets.files import Row
from peftbench.errors import ConfigError, DataError, UnknownName

Prepare = Callable[[Row], list[dict[str, Any]]]

MOST_GOLD_SOLUTIONS = 10
"""Gold solutions kept for one problem: scoring compares each prediction with all of them."""

_prepare_functions: dict[str, Prepare] = {}


def prepare_function(name: str) -> Prepare:
    """The function of this name, or the one that `module:function` names.

    Raises `UnknownName` or, where another package's function cannot be loaded, `ConfigError`.
    """
    module, _, function = name.rpartition(":")
    if not module:
        if name not in _prepare_functions:
            raise UnknownName("prepare function", name, _prepare_functions)
        return _prepare_functions[name]
    try:
        found: Prepare = getattr(import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            f"prepare function {name!r} cannot be loaded ({error}); give it as module:function"
        ) from error
    return found


def _prepares(function: Prepare) -> Prepare:
    _prepare_functions[function.__name__] = function
    return function


# ------------------------------------------------------------------------------------------------ similarity


@_prepares
def similarity_score(row: Row) -> list[dict[str, Any]]:
    """STS-B: `one_decimal` to learn, `stored_score` to be scored against.

    The hub stores 32-bit floats, text files the decimals they were made from. Both are written as the shortest
    decimal that names the same 32-bit float, so 3.8 and 3.799999952316284 are the same label.
    """
    stored = _shortest_decimal(row["label"])
    if not 0 <= float(stored) <= 5:
        raise DataError(f"column 'label' is {stored}, expected a score from 0 to 5")
    rounded = Decimal(stored).quantize(Decimal("0.1"), rounding=ROUND_HALF_EVEN)
    return [{**row, "one_decimal": str(rounded), "stored_score": stored}]


@_prepares
def similarity_score_published(row: Row) -> list[dict[str, Any]]:
    """STS-B with the 32-bit float printed as if it had 64 bits, to learn and to be scored against."""
    printed = str(_as_float32(row["label"]))
    return [{**row, "one_decimal": printed, "stored_score": printed}]


def _as_float32(value: float) -> float:
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError as error:
        raise DataError(f"column 'label' is {value}, expected a score from 0 to 5") from error


def _shortest_decimal(value: float) -> str:
    exact = _as_float32(value)
    # Nine significant digits always name a 32-bit float.
    shortest = next(text for digits in range(1, 10) if _as_float32(float(text := f"{exact:.{digits}g}")) == exact)
    return str(float(shortest))


# ----------------------------------------------------------------------------------------------- reading


@_prepares
def cloze(row: Row) -> list[dict[str, Any]]:
    """ReCoRD: highlights become sentences of the passage; the entities, which are a set, come sorted."""
    answers = list(row["answers"])
    return [
        {
            **row,
            "sentences": _highlights_as_sentences(row["passage"]),
            "entity_list": "; ".join(sorted(set(row["entities"]))),
            "first_answer": answers[0] if answers else "",
        }
    ]


@_prepares
def cloze_published(row: Row) -> list[dict[str, Any]]:
    """ReCoRD with one row for each gold answer."""
    [prepared] = cloze(row)
    return [{**prepared, "first_answer": answer} for answer in row["answers"]] or [prepared]


def _highlights_as_sentences(passage: str) -> str:
    parts = [part.strip() for part in passage.split("@highlight")]
    return " ".join(part if part.endswith((".", "!", "?", '"', "'")) else f"{part}." for part in parts if part)


@_prepares
def coreference(row: Row) -> list[dict[str, Any]]:
    """WSC: `marked_text`, the text with the noun between # and the pronoun between * signs.

    A span is looked for at its token index first and then at the nearest token where it stands, since a row of
    the source points one token beside its pronoun.
    """
    text = row["text"]
    noun = _nearest_span(text, row["span1_index"], row["span1_text"])
    pronoun = _nearest_span(text, row["span2_index"], row["span2_text"])
    return [{**row, "marked_text": _with_marks(text, (noun, "#"), (pronoun, "*"))}]


@_prepares
def coreference_published(row: Row) -> list[dict[str, Any]]:
    """WSC with the marks the other way round, and without them from the first span that does not match."""
    text = row["text"]
    noun = _span_at(text, row["span1_index"], row["span1_text"])
    pronoun = _span_at(text, row["span2_index"], row["span2_text"]) if noun else None
    return [{**row, "marked_text": _with_marks(text, (noun, "*"), (pronoun, "#"))}]


def _span_at(text: str, index: int, span: str) -> tuple[int, int] | None:
    """Characters where `span` stands as whole words, in the tokens that begin at `index`; else None."""
    tokens = [match.span() for match in re.finditer(r"\S+", text)]
    last = index + len(span.split()) - 1
    if not (span.strip() and index >= 0 and last < len(tokens)):
        return None
    begin, limit = tokens[index][0], tokens[last][1]
    start = text.find(span, begin, limit)
    end = start + len(span)
    before, after = text[max(begin, start - 1) : start], text[end : min(end + 1, limit)]
    return (start, end) if start >= 0 and not before.isalnum() and not after.isalnum() else None


def _nearest_span(text: str, index: int, span: str) -> tuple[int, int]:
    by_distance = sorted(range(len(text.split())), key=lambda candidate: abs(candidate - index))
    for candidate in by_distance:
        if found := _span_at(text, candidate, span):
            return found
    raise DataError(f"span {span!r} stands nowhere in column 'text', expected it at token {index}")


def _with_marks(text: str, *spans: tuple[tuple[int, int] | None, str]) -> str:
    edits: list[tuple[int, int, int, str]] = []
    for span, mark in spans:
        if span is not None:
            # One span can begin or end with the other ("their mothers", "their"): the longer one lies outside.
            length = span[1] - span[0]
            edits += [(span[0], 1, -length, mark), (span[1], 0, length, mark)]
    # From the back, so that the places in front stay valid.
    for place, _, _, mark in sorted(edits, reverse=True):
        text = text[:place] + mark + text[place:]
    return text


# ----------------------------------------------------------------------------------------------- options


@_prepares
def lettered_choices(row: Row) -> list[dict[str, Any]]:
    """OpenBookQA: `lettered`, the choices by the letters stored with them."""
    choices = row["choices"]
    try:
        lettered = dict(zip(choices["label"], choices["text"], strict=True))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError("column 'choices' is not two lists 'text' and 'label' of one length") from error
    return [{**row, "lettered": lettered}]


@_prepares
def lettered_options(row: Row) -> list[dict[str, Any]]:
    """MathQA: `lettered`, the options from their one line, which is `a ) 1 , b ) 2` or `['a ) 1', 'b ) 2']`."""
    line = row["options"].strip()
    listed = line.startswith("[")
    divider = r"""['"]\s*,\s*['"]\s*""" if listed else r"\s*,\s*"
    pattern = ""
    for letter in "edcba":  # from the inside: a later option counts only behind all earlier ones
        option = rf"{letter} ?\)(?P<{letter}>.*?){pattern}"
        pattern = option if letter == "a" else f"(?:{divider}{option})?"
    whole = rf"""\[\s*['"]\s*{pattern}['"]\s*\]""" if listed else rf"{pattern}\s*,?"
    match = re.fullmatch(whole, line, flags=re.DOTALL)
    if match is None or match["b"] is None:
        raise DataError(f"column 'options' is {line!r}, expected options such as 'a ) 1 , b ) 2 , c ) 3'")
    return [{**row, "lettered": {letter: (text or "").strip() for letter, text in match.groupdict().items()}}]


@_prepares
def continuation_published(row: Row) -> list[dict[str, Any]]:
    """HellaSwag with the context in lower case but for its first letter, and a comma behind it."""
    return [{**row, "ctx": f"{row['ctx'].capitalize()},"}]


# ------------------------------------------------------------------------------------- equations and code


@_prepares
def equation(row: Row) -> list[dict[str, Any]]:
    """SVAMP: `equation_and_answer`, such as `( 8 - 7 ) = 1`; whole numbers lose their decimals."""
    both = f"{row['Equation'].strip()} = {row['Answer'].strip()}"
    return [{**row, "equation_and_answer": re.sub(r"(?<![\d.])(\d+)\.0+(?![\d.])", r"\1", both)}]


@_prepares
def rewritten_or_intent(row: Row) -> list[dict[str, Any]]:
    """CoNaLa: `wish`, the rewritten intent, or the original one where nobody rewrote it."""
    return [{**row, "wish": row["rewritten_intent"] or row["intent"]}]


@_prepares
def solutions(row: Row) -> list[dict[str, Any]]:
    """APPS: `shortest_solution` (the first of equals) and `gold_solutions`, of those that parse as Python 3.

    At most `MOST_GOLD_SOLUTIONS` are kept as gold, the first different ones as stored. Both are empty where no
    solution parses.
    """
    stored = list(dict.fromkeys(_stored_solutions(row)))
    shortest = next((code for code in sorted(stored, key=len) if _parses(code)), "")
    gold = _first_that_parse(stored)
    return [{**row, "shortest_solution": shortest, "gold_solutions": gold}]


@_prepares
def solutions_published(row: Row) -> list[dict[str, Any]]:
    """APPS with one row for each stored solution, whatever its language, that solution being its only gold."""
    stored = _stored_solutions(row)
    return [{**row, "shortest_solution": code, "gold_solutions": [code]} for code in stored] or [
        {**row, "shortest_solution": "", "gold_solutions": []}
    ]


def _stored_solutions(row: Row) -> list[str]:
    text = row["solutions"]
    try:
        # Some integers are longer than Python converts by default; none of them is a program.
        found = json.loads(text, parse_int=float) if text.strip() else []
    except (ValueError, RecursionError) as error:
        raise DataError("column 'solutions' is not JSON, expected a JSON list of programs") from error
    if not isinstance(found, list) or not all(isinstance(code, str) for code in found):
        raise DataError("column 'solutions' is JSON of another shape, expected a JSON list of programs")
    return found


def _first_that_parse(stored: list[str]) -> list[str]:
    gold: list[str] = []
    for code in stored:
        if len(gold) == MOST_GOLD_SOLUTIONS:
            break
        if _parses(code):
            gold.append(code)
    return gold


def _parses(code: str) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old programs are full of invalid escapes
        try:
            tree = ast.parse(code)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return False
    return bool(tree.body)
