"""The printed tables of the PEFT-Bench paper, as data: `printed_tables()`, `printed_table("table2")`.

Cells are text as printed, so that 50.0 stays 50.0, and number where they are one. The files lie in `paper/`: one
CSV a table and `tables.yaml` for what they show. Nothing here is measured, corrected or computed.
"""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from peftbench.errors import UnknownName

_FOLDER = Path(__file__).with_name("paper")
Unit = Literal["score", "factor", "parameters"]


@dataclass(frozen=True, slots=True)
class PrintedCell:
    """One cell; a cell whose content the source text has lost is empty."""

    text: str
    """As printed, without its mark: `91.1`, `196,608`, `N/A`."""
    mark: Literal["underlined"] | None = None
    """Underlined is the paper's second best. Its bold print is not known: the source text has lost it."""
    sd: str | None = None
    """The printed standard deviation; None throughout, since the source text has none."""
    errata: tuple[str, ...] = ()
    """Ids of entries of `ERRATA.md` that touch this very cell."""

    @property
    def value(self) -> float | None:
        """The number, or None where the cell holds none."""
        text = self.text.replace(",", "")
        return float(text) if text.replace(".", "", 1).isdecimal() else None


@dataclass(frozen=True, slots=True)
class PrintedColumn:
    """One column of cells."""

    key: str
    """Our name of the dataset (`mnli`), or `trainable_params`, `performance`, `params_penalty`, `flops_penalty`,
    `memory_penalty`, `pscp`."""
    label: str
    """The heading."""
    unit: Unit
    """A score lies between 0 and 100, a factor between 0 and 1."""
    group: str = ""
    """The heading above several columns."""


@dataclass(frozen=True, slots=True)
class PrintedRow:
    """One method, with a cell for each column."""

    method: str
    """Our name of the method."""
    label: str
    """The name as printed."""
    cells: tuple[PrintedCell, ...]


@dataclass(frozen=True, slots=True)
class PrintedTable:
    """One table of the paper; a part of Table 9 or 10 is a table of its own."""

    name: str
    """`table2`, `table9a`."""
    number: str
    """`2`, `9(a)`."""
    caption: str
    """What it shows, in our words."""
    source: str
    columns: tuple[PrintedColumn, ...]
    rows: tuple[PrintedRow, ...]
    importances: tuple[float, ...] | None
    """Of parameters, FLOPs and memory, for tables of PSCP."""
    notes: tuple[str, ...]
    errata: tuple[str, ...]
    """Ids of all entries of `ERRATA.md` that touch a cell of this table, each once."""

    def row(self, method: str) -> PrintedRow:
        """The row of a method, by our name; raises `UnknownName`."""
        rows = {row.method: row for row in self.rows}
        if method not in rows:
            raise UnknownName("method", method, rows, f"{self.name}: ")
        return rows[method]

    def cell(self, method: str, column: str) -> PrintedCell:
        """The cell of a method and a column, by our names; raises `UnknownName`."""
        keys = [each.key for each in self.columns]
        if column not in keys:
            raise UnknownName("column", column, keys, f"{self.name}: ")
        return self.row(method).cells[keys.index(column)]


@cache
def printed_tables() -> tuple[PrintedTable, ...]:
    """All tables with results, in the order of the paper."""
    from ruamel.yaml import YAML

    about = YAML(typ="safe", pure=True).load((_FOLDER / "tables.yaml").read_text(encoding="utf-8"))
    return tuple(
        _table(about, table, part, details)
        for table in about["tables"]
        for part, details in table.get("parts", {"": {}}).items()
    )


def printed_table(name: str) -> PrintedTable:
    """The table of this name (`table2`, or `2`; `table9a`); raises `UnknownName`."""
    tables = {table.name: table for table in printed_tables()}
    wanted = name if name.startswith("table") else f"table{name}"
    if wanted not in tables:
        raise UnknownName("table of the paper", name, tables)
    return tables[wanted]


def _table(
    about: Mapping[str, Any], table: Mapping[str, Any], part: str, details: Mapping[str, Any]
) -> PrintedTable:
    columns = tuple(PrintedColumn(key, **column) for key, column in table["columns"].items())
    with (_FOLDER / table["file"]).open(encoding="utf-8", newline="") as opened:
        read = [row for row in csv.DictReader(opened) if row.get("part", "") == part]
    rows = tuple(
        PrintedRow(
            method := about["methods"][row["method"]],
            row["method"],
            tuple(_cell(row[each.key], _touching(table["errata"], method, each.key)) for each in columns),
        )
        for row in read
    )
    touched = dict.fromkeys(entry for row in rows for cell in row.cells for entry in cell.errata)
    importances = details.get("importances") or table.get("importances")
    return PrintedTable(
        name=f"table{table['number']}{part}",
        number=f"{table['number']}({part})" if part else table["number"],
        caption=table["caption"] + details.get("caption", ""),
        source=about["source"],
        columns=columns,
        rows=rows,
        importances=tuple(map(float, importances)) if importances else None,
        notes=tuple(table["notes"]),
        errata=tuple(touched),
    )


def _cell(printed: str, errata: tuple[str, ...]) -> PrintedCell:
    text = printed.strip("_")
    return PrintedCell(text, "underlined" if text != printed else None, errata=errata)


def _touching(entries: list[dict[str, Any]], method: str, column: str) -> tuple[str, ...]:
    return tuple(
        dict.fromkeys(
            entry["id"]
            for entry in entries
            if method in entry.get("rows", (method,)) and column in entry.get("columns", (column,))
        )
    )
