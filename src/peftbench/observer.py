"""Who is told what a run is doing. The base class does nothing; the command line draws bars or prints lines."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from peftbench.records import CurvePoint, RunConfig, RunResult


class Observer:
    """Told of progress; a subclass overrides what it wants to hear. Runs are numbered as they were given."""

    def runs(self, labels: Sequence[str]) -> None:
        """These runs are going to be made; they are numbered in this order from here on."""

    def planned(self, run: int, config: "RunConfig", train_id: str, folder: Path) -> None:
        """The rows of a run were read: it has its id and its folder now."""

    def phase(self, name: str, total: int | None = None) -> None:
        """A part begins, such as `training` or `predicting`, with its number of steps where that is known."""

    def advance(self, count: int) -> None:
        """So many steps of the phase were made."""

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        """One update of a training was made: `step` of `steps`."""

    def point(self, run: int, point: "CurvePoint") -> None:
        """One validation was made."""

    def note(self, run: int, text: str) -> None:
        """Something that the user should know."""

    def ended(self, run: int, result: "RunResult") -> None:
        """All that was asked for of a run is there, or it failed."""


class Part(Observer):
    """Some of the runs under numbers of their own, told on to another observer under its numbers.

    `keep` is given each point of the curve as well.
    """

    def __init__(self, whole: Observer, numbers: Sequence[int], keep: Callable[[int, "CurvePoint"], None]) -> None:
        self.whole, self.numbers, self.keep = whole, numbers, keep

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        """One update was made."""
        self.whole.step(self.numbers[run], step, steps, loss)

    def point(self, run: int, point: "CurvePoint") -> None:
        """One validation was made."""
        self.keep(run, point)
        self.whole.point(self.numbers[run], point)

    def note(self, run: int, text: str) -> None:
        """Something that the user should know."""
        self.whole.note(self.numbers[run], text)
