"""A table as frozen data: cells with their value, their text and their mark, and what must be known to read them.

Renderers turn one into Markdown, LaTeX, CSV or HTML; nothing here knows these formats, or a record.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from peftbench.report.escaping import shortened

LONGEST = 80
"""Characters of a name that are shown; CSV has it whole."""
Mark = Literal["best", "second"]


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell."""

    text: str
    """As it is shown; where there is no value it says why."""
    value: float | int | str | None = None
    """Unrounded; None where there is none."""
    deviation: float | None = None
    """Standard deviation over seeds, where the cell shows one."""
    mark: Mark | None = None
    noted: bool = False
    """Whether the value is over less than it should be; shown by an asterisk."""


@dataclass(frozen=True, slots=True)
class Column:
    """What the cells of a column hold."""

    key: str
    """Heading in CSV, of letters, digits and underscores; a unit is its end."""
    heading: str
    group: str = ""
    """Heading above several columns."""
    number: bool = True
    best: Literal["highest", "lowest"] | None = None
    """Which end is marked as best; None marks nothing."""
    digits: int = 1
    """Decimals that are shown; what looks the same is a tie."""
    spread: bool = False
    """Whether the cells have a standard deviation."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method."""

    cells: tuple[Cell, ...]
    note: str = ""
    """What is missing of it."""
    marked: bool = True
    """False leaves it out of the marks, as the base model where the paper does."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One part of a table; a table of one part has no title for it."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a report."""

    name: str
    """`1`, `9`, `leaderboard`."""
    title: str
    """`Table 1`."""
    caption: str
    panels: tuple[Panel, ...]
    notes: tuple[str, ...] = ()
    """What has to be known to read it."""
    provenance: tuple[tuple[str, str], ...] = ()
    """What it was made from, as pairs of a name and a text."""
    source: str = ""
    """The same in one word, for each line of CSV."""

    @property
    def stem(self) -> str:
        """Name of its files without their ending."""
        return f"table{self.name}" if self.name[:1].isdecimal() else self.name


def number_cell(value: float | int | None, digits: int, *, instead: str = "–", noted: bool = False) -> Cell:
    """A number with so many decimals, thousands apart, or what stands in its place."""
    if value is None:
        return Cell(instead)
    return Cell(f"{value:,.{digits}f}", value, noted=noted)


def text_cell(text: str) -> Cell:
    """A text; one that would fill a page is shown cut."""
    return Cell(shortened(text, LONGEST), text)


def with_marks(columns: Sequence[Column], rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows with the best and second of each column marked.

    Values that are shown alike share a mark, and the next one is second. Nothing is marked in a column in which a
    cell that takes part is missing, or below two of them; second takes three.
    """
    marks: dict[tuple[int, int], Mark] = {}
    taking_part = [place for place, row in enumerate(rows) if row.marked]
    for number, column in enumerate(columns):
        if column.best is None:
            continue
        values = {place: rows[place].cells[number].value for place in taking_part}
        found = {place: round(float(value), column.digits) for place, value in values.items() if value is not None}
        if len(found) < len(values) or len(found) < 2:
            continue
        order = sorted(set(found.values()), reverse=column.best == "highest")
        for place, value in found.items():
            if value == order[0]:
                marks[place, number] = "best"
            elif len(found) > 2 and value == order[1]:
                marks[place, number] = "second"
    return tuple(
        replace(
            row,
            cells=tuple(replace(cell, mark=marks.get((place, number))) for number, cell in enumerate(row.cells)),
        )
        for place, row in enumerate(rows)
    )
