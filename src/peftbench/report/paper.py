"""The paper's printed tables beside the same computed again from its own printed cells, each difference explained.

Scores, parameters and costs are those that the paper and its reference implementation give; nothing was measured.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from peftbench.candidates import Costs
from peftbench.costtable import shipped_costs
from peftbench.errors import DataError, UnknownName
from peftbench.importers.errata import erratum
from peftbench.importers.printed import PrintedTable, printed_table, printed_tables
from peftbench.penalty import CostModel, pscp
from peftbench.report import drawing
from peftbench.report.cost_tables import Priced, cost_table, importance_table, weights_of
from peftbench.report.layout import CAPTIONS, TITLES, method_title
from peftbench.report.score_tables import METHOD, score_table
from peftbench.report.sheet import Method, Sheet
from peftbench.report.tables import Cell, Column, Panel, Row, Table, text_cell
from peftbench.schema import Protocol

RULES: tuple[Protocol] = ("published",)
_LOST = "lost"
_UNEXPLAINED = "printed against computed, not explained"
_ABOUT_SCORES = (
    "One number for each cell, without seeds and deviations. Bold print is lost in the text that the printed "
    "cells come from, underlines are not."
)
_ABOUT_PSCP = (
    "P is meant to be the mean of the 27 scores in Tables 1 and 2. Costs are those that the reference "
    "implementation records; headings of the penalties are ours."
)


class PaperReport:
    """The tables of the paper, as printed and computed again."""

    title = "The paper's tables, as printed and computed again"
    tables = ("1", "2", "3", "9", "10", "11")
    figures: Mapping[str, str] = {"heatmap": "Scores of Tables 1 and 2, as printed."}

    @cached_property
    def sheet(self) -> Sheet:
        """The scores of Tables 1 and 2."""
        printed = [printed_table("1"), printed_table("2")]
        names = [row.method for row in printed[0].rows]
        datasets = [column.key for table in printed for column in table.columns if column.unit == "score"]
        params = {name: printed[0].cell(name, "trainable_params").value for name in names}
        return Sheet(
            model="Llama-3-8B-Instruct",
            protocol="published",
            methods=tuple(_method(name, params[name]) for name in names),
            datasets=tuple(datasets),
            scores={
                (name, column.key, "published"): (cell.value,)
                for table in printed
                for name in names
                for column, cell in zip(table.columns, table.row(name).cells, strict=True)
                if column.unit == "score" and cell.value is not None
            },
            provenance=(("Source", printed[0].source), ("Measured here", "nothing")),
            digest="printed",
        )

    @cached_property
    def prices(self) -> Priced:
        """The costs that the reference implementation records, under the paper's references."""
        costs = {
            each.method: Costs(each.params, each.flops, each.memory) for each in shipped_costs("paper").candidates
        }
        return Priced(costs, "Costs are those that the reference implementation records", CostModel())

    def table(self, name: str) -> Table:
        """A printed table, and behind each part the same computed again; differences are the notes.

        Raises `UnknownName`, and `DataError` for Table 11, whose numbers are lost.
        """
        if name not in self.tables:
            raise UnknownName("table of the paper", name, self.tables)
        if name == "11":
            raise DataError("the numbers of Table 11 are lost in the text of the paper that its tables come from")
        printed = [table for table in printed_tables() if table.number.partition("(")[0] == name]
        ours = self._computed(name)
        panels: list[Panel] = []
        notes = [_ABOUT_SCORES if name in ("1", "2") else _ABOUT_PSCP]
        for part, again in zip(printed, ours.panels, strict=True):
            about = f"({part.number.partition('(')[2]} " if "(" in part.number else ""
            panels += [_as_printed(part, f"{about}As printed"), replace(again, title=f"{about}Computed again")]
            notes += [f"Table {part.number}, {each}" for each in self._differences(part, again)]
        notes.append("All other cells agree.")
        notes += [f"Erratum {each}: {_plain(erratum(each).reference)}." for each in _errata(printed)]
        return Table(
            name=name,
            title=TITLES[name],
            caption=CAPTIONS[name],
            panels=tuple(panels),
            notes=tuple(notes),
            provenance=self.sheet.provenance,
            source=self.sheet.digest,
        )

    def draw(self, name: str, folder: Path) -> list[Path]:
        """The heat map of the scores; raises `UnknownName` for another figure."""
        if name not in self.figures:
            raise UnknownName("figure", name, self.figures)
        return drawing.heat_map(folder / name, self.sheet, "published")

    def _computed(self, name: str) -> Table:
        if name in ("1", "2"):
            return score_table(self.sheet, name, RULES)
        if name == "3":
            return cost_table(self.sheet, self.prices, RULES)
        return importance_table(self.sheet, self.prices, name)

    def _differences(self, printed: PrintedTable, again: Panel) -> Iterator[str]:
        """What is not computed as it is printed, a sentence for each column and reason."""
        found: dict[tuple[str, str], list[str]] = {}
        places = {column.key: place for place, column in enumerate(again.columns)}
        rows = {row.cells[0].text: row for row in again.rows}
        for row in printed.rows:
            for column, cell in zip(printed.columns, row.cells, strict=True):
                place = places[column.key]
                ours, digits = rows[method_title(row.method)].cells[place], again.columns[place].digits
                if printed.importances is None and (cell.mark == "underlined") != (ours.mark == "second"):
                    why = "underlined but not second" if cell.mark else "second but not underlined"
                    found.setdefault((column.label, why), []).append(f"{row.label} {cell.text}")
                if not isinstance(ours.value, int | float) or cell.value is None:
                    continue
                if round(cell.value, digits) != round(ours.value, digits):
                    why = self._why(printed, row.method, column.key, cell.value)
                    said = f"{row.label} {cell.text} against {ours.value:.2f}"
                    found.setdefault((column.label, why), []).append(said)
        for (label, why), cells in found.items():
            yield f"{label}, {why}: {'; '.join(cells)}."

    def _why(self, printed: PrintedTable, method: str, column: str, value: float) -> str:
        """Why a printed number of PSCP is not the computed one."""
        if column == "performance":
            return f"printed against the mean of the {len(self.sheet.datasets)} scores in Tables 1 and 2"
        if column == "pscp" and printed.importances is not None:
            cost, p = self.prices.costs[method], printed.cell(method, "performance").value or 0.0
            weights = weights_of(self.prices.weights, printed.importances)
            if round(pscp(p, cost.params, cost.flops, cost.memory, weights).score, 2) == value:
                return "printed (which is what the formula gives for P as printed) against that of the means"
        return _UNEXPLAINED


def _method(name: str, params: float | None) -> Method:
    return Method(
        name=name,
        title=method_title(name),
        seeds=1,
        trained=name != "base",
        params=None if params is None else int(params),
    )


def _as_printed(table: PrintedTable, title: str) -> Panel:
    columns = [METHOD, *(Column(each.key, each.label, each.group) for each in table.columns)]
    rows = [
        Row(
            (
                text_cell(row.label),
                *(
                    Cell(cell.text or _LOST, cell.value, mark="second" if cell.mark else None)
                    for cell in row.cells
                ),
            )
        )
        for row in table.rows
    ]
    return Panel(title, tuple(columns), tuple(rows))


def _errata(tables: Sequence[PrintedTable]) -> list[str]:
    return list(dict.fromkeys(entry for table in tables for entry in table.errata))


def _plain(text: str) -> str:
    """An entry of the errata without its marks."""
    return re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text).replace("`", "").replace("*", "")
