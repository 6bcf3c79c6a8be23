"""Reading a model's output: what is cut off at its ends, and which label of a label set it gives.

A strict reading takes the output as the answer, a lenient one looks for the answer inside it. Scores are
computed elsewhere.
"""

import re
from functools import lru_cache

from peftbench.errors import DataError

INVALID = -1
END_OF_TURN = (
    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|end|>", "<|return|>",
    "<end_of_turn>", "<eos>", "</s>",
)  # fmt: skip
QUOTES = ('""', "''", "``", "“”", "‘’", "«»")


def trim(output: str) -> str:
    """Cut white space off both ends and end-of-turn marks off the end."""
    end = len(output)
    while True:
        while end and output[end - 1].isspace():
            end -= 1
        mark = next((mark for mark in END_OF_TURN if output.endswith(mark, 0, end)), None)
        if mark is None:
            return output[:end].lstrip()
        end -= len(mark)


def plain(output: str) -> str:
    """Trim, then take away one pair of surrounding quotes and one final period, inside the quotes or outside."""
    text = trim(output)
    bare = text.removesuffix(".").rstrip()
    if len(bare) > 1 and bare[0] + bare[-1] in QUOTES:
        inner = bare[1:-1].strip()
        return inner if bare != text else inner.removesuffix(".").rstrip()
    return bare


def published_text(output: str) -> str:
    """What the reference implementation scores: the part after a block of thoughts, stripped, in lower case."""
    return output.rsplit("</think>\n\n", 1)[-1].strip().lower()


def only(references: tuple[str, ...]) -> str:
    """The reference of a row that can have just one; raises `DataError` for several."""
    if len(references) > 1:
        raise DataError(
            f"{len(references)} references were given where the metric takes one; keep one for each row"
        )
    return references[0]


def gold_class(reference: str, labels: tuple[str, ...], dataset: str) -> int:
    """The number of the gold label; raises `DataError` for a word outside the label set."""
    if reference not in labels:
        raise DataError(
            f"the reference {reference[:80]!r} is no label of {dataset}; give one of {', '.join(labels)}"
        )
    return labels.index(reference)


def read_label(output: str, labels: tuple[str, ...]) -> int:
    """The number of the label that the output is, whatever its case, once `plain`; else `INVALID`."""
    return _by_word(labels).get(plain(output).casefold(), INVALID)


def find_label(output: str, labels: tuple[str, ...]) -> int:
    """The number of the one label that stands in the output as a whole word; `INVALID` for none or several.

    Longer labels are found first and what they cover is not searched again. A label of one letter must have its
    case, so that the article "a" is not the answer A.
    """
    found = {match.lastindex for match in _finder(labels).finditer(output)}
    group = found.pop() if len(found) == 1 else None
    return INVALID if group is None else _longest_first(labels)[group - 1]


@lru_cache
def _by_word(labels: tuple[str, ...]) -> dict[str, int]:
    return {label.casefold(): number for number, label in enumerate(labels)}


@lru_cache
def _longest_first(labels: tuple[str, ...]) -> list[int]:
    return sorted(range(len(labels)), key=lambda number: -len(labels[number]))


@lru_cache
def _finder(labels: tuple[str, ...]) -> re.Pattern[str]:
    words = [labels[number] for number in _longest_first(labels)]
    groups = [f"({re.escape(word)})" if len(word) == 1 else f"((?i:{re.escape(word)}))" for word in words]
    return re.compile(rf"(?<!\w)(?:{'|'.join(groups)})(?!\w)")
