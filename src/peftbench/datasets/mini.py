"""The mini suite: small tasks generated on the spot under real catalogue entries, always called `<name>@mini`.

Rows have the columns of the real dataset and pass through the same code; what they say is made up here, from a
fixed seed, with no row twice. They need no file and no network, and they measure nothing of the real dataset.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from itertools import islice, product
from typing import Any, Literal

from peftbench.datasets.files import Row
from peftbench.errors import UnknownName
from peftbench.schema import Counts, DatasetSpec

SUFFIX = "@mini"
COUNTS = Counts(train=256, test=128)
VERSION = 1
"""Raised when the rows change."""


def is_mini(name: str) -> bool:
    """Whether a dataset's name is one of the mini suite."""
    return name.endswith(SUFFIX)


def mini_spec(spec: DatasetSpec) -> DatasetSpec:
    """The mini task of a catalogue entry; raises `UnknownName` where there is none."""
    if spec.name not in _TASKS:
        raise UnknownName("mini task", spec.name + SUFFIX, [name + SUFFIX for name in _TASKS])
    return spec.model_copy(
        update={"name": spec.name + SUFFIX, "version": VERSION, "counts": COUNTS, "lengths": None, "group": ()}
    )


def mini_rows(name: str, role: Literal["train", "test"]) -> list[Row]:
    """The generated rows of one split of `<name>@mini`."""
    every = list(islice(_TASKS[name.removesuffix(SUFFIX)](), COUNTS.train + COUNTS.test))
    return every[: COUNTS.train] if role == "train" else every[COUNTS.train :]


def _shuffled(name: str, *parts: Sequence[Any]) -> list[tuple[Any, ...]]:
    """All combinations of the parts in an order that depends on nothing but `name`."""
    return sorted(product(*parts), key=lambda each: sha256(f"{name}/{each}".encode()).digest())


def _sst2() -> Iterator[Row]:
    subjects = ("the film", "the plot", "the cast", "the story", "the ending", "the music")
    verbs, degrees = ("is", "was", "feels"), ("very", "quite", "so", "really")
    words = {
        1: ("good", "great", "lovely", "fine", "superb", "warm", "witty", "smart"),
        0: ("bad", "awful", "dull", "weak", "poor", "cold", "silly", "flat"),
    }
    judged = [(word, label) for label, of_label in words.items() for word in of_label]
    for subject, verb, degree, (word, label) in _shuffled("sst2", subjects, verbs, degrees, judged):
        yield {"sentence": f"{subject} {verb} {degree} {word}", "label": label}


def _svamp() -> Iterator[Row]:
    people, things = ("Ada", "Ben", "Cleo", "Dan", "Eva", "Finn"), ("pens", "figs", "cups")
    changes = (("gets", "more", "+"), ("gives", "away", "-"))
    numbers = [(a, b) for a in range(2, 7) for b in range(1, a)]
    for person, thing, (verb, how, sign), (a, b) in _shuffled("svamp", people, things, changes, numbers):
        yield {
            "question_concat": f"{person} has {a} {thing} and {verb} {b} {how}. How many {thing} are there then?",
            "Equation": f"( {a}.0 {sign} {b}.0 )",
            "Answer": str(a + b if sign == "+" else a - b),
        }


_TASKS: dict[str, Callable[[], Iterator[Row]]] = {"sst2": _sst2, "svamp": _svamp}
