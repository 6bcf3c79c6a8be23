"""The mini suite: small tasks generated on the spot under real catalogue entries, always called `<name>@mini`.

Rows have the columns of the real dataset and pass through the same code; what they say is made up here, from a
fixed seed, with no input twice. They need no file and no network, and they measure nothing of the real dataset.
"""

from collections.abc import Iterator
from random import Random
from statistics import mean
from typing import Literal

from peftbench.datasets.files import Row
from peftbench.datasets.mini.tasks import TASKS
from peftbench.errors import UnknownName
from peftbench.schema import Counts, DatasetSpec

SUFFIX = "@mini"
COUNTS = Counts(train=256, test=128)
VERSION = 2
"""Raised when the rows change."""
_SEED = f"mini/{VERSION}"
ANSWER_COLUMNS = frozenset({"label", "Equation", "Answer", "answer", "snippet", "question_id"})
"""Columns of the tasks that say nothing of what is asked."""
LONGEST_ANSWER_TOKENS = 96
"""Answers are short, and an output that never ends has to be waited for."""


def is_mini(name: str) -> bool:
    """Whether a dataset's name is one of the mini suite."""
    return name.endswith(SUFFIX)


def mini_names() -> tuple[str, ...]:
    """The names of the suite."""
    return tuple(name + SUFFIX for name in TASKS)


def mini_spec(spec: DatasetSpec) -> DatasetSpec:
    """The mini task of a catalogue entry; raises `UnknownName` where there is none."""
    if spec.name not in TASKS:
        raise UnknownName("mini task", spec.name + SUFFIX, mini_names())
    return spec.model_copy(
        update={
            "name": spec.name + SUFFIX,
            "version": VERSION,
            "counts": COUNTS,
            "lengths": None,
            "group": (),
            "max_new_tokens": min(spec.max_new_tokens, LONGEST_ANSWER_TOKENS),
            "mean_train_label": _mean_label(spec),
            "example": next(rows_of(spec.name, _SEED)),
        }
    )


def _mean_label(spec: DatasetSpec) -> float | None:
    """What stands in for an invalid output where answers are scores."""
    if spec.mean_train_label is None:
        return None
    return mean(float(row["label"]) for row in mini_rows(spec.name, "train"))


def mini_rows(name: str, role: Literal["train", "test"]) -> list[Row]:
    """The generated rows of one split of `<name>@mini`."""
    task = name.removesuffix(SUFFIX)
    stream = rows_of(task, _SEED)
    every = [next(stream) for _ in range(COUNTS.train + COUNTS.test)]
    return every[: COUNTS.train] if role == "train" else every[COUNTS.train :]


def rows_of(task: str, seed: str) -> Iterator[Row]:
    """Rows of a task without end, no two of one input; each seed has its own."""
    random, seen = Random(f"{seed}/{task}"), set()  # noqa: S311
    while True:
        row = TASKS[task](random)
        asked = input_of(row)
        if asked not in seen:
            seen.add(asked)
            yield {**row, "question_id": len(seen)} if task == "conala" else row


def input_of(row: Row) -> tuple[str, ...]:
    """What a row asks: its texts without the answer."""
    return tuple(str(value) for column, value in row.items() if column not in ANSWER_COLUMNS)
