"""Where the paper's printed numbers do not agree with one another, computed from its printed cells alone."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from peftbench.importers.printed import PrintedTable, printed_table, printed_tables
from peftbench.penalty import PAPER_COSTS

_PENALTIES = ("params_penalty", "flops_penalty", "memory_penalty")


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One printed cell that others contradict."""

    table: str
    method: str
    column: str
    printed: str
    expected: str
    why: str


def disagreements() -> tuple[Disagreement, ...]:
    """All of them, in the order of tables: means that are not means, products that are not products, wrong marks.

    A printed number stands for all that round to it, so that only what no rounding explains is named.
    """
    found: list[Disagreement] = []
    for table in printed_tables():
        if table.importances is not None:
            found += [*_means(table), *_parameters(table), *_products(table)]
        else:
            found += _marks(table)
    return tuple(found)


def _means(table: PrintedTable) -> Iterator[Disagreement]:
    """P of Table 3 should be the mean of the scores in Tables 1 and 2, and that of Tables 9 and 10 the same."""
    if table.name != "table3":
        for row in table.rows:
            cell, first = (each.cell(row.method, "performance") for each in (table, printed_table("table3")))
            if cell.text != first.text:
                yield Disagreement(table.name, row.method, "performance", cell.text, first.text, "P of Table 3")
        return
    for row in table.rows:
        scores = [
            cell.value
            for source in (printed_table("table1"), printed_table("table2"))
            for cell, column in zip(source.row(row.method).cells, source.columns, strict=True)
            if column.unit == "score" and cell.value is not None
        ]
        mean, cell = sum(scores) / len(scores), table.cell(row.method, "performance")
        if abs(mean - (cell.value or 0)) > 0.1:  # half a unit of P and half a unit of the scores
            why = f"the mean of the {len(scores)} scores in Tables 1 and 2"
            yield Disagreement(table.name, row.method, "performance", cell.text, f"{mean:.2f}", why)


def _parameters(table: PrintedTable) -> Iterator[Disagreement]:
    """The penalty of the trainable parameters that Tables 1 and 2 print, by equation 3."""
    importance = (table.importances or (1, 1, 1))[0]
    factor = PAPER_COSTS.params.model_copy(update={"importance": float(importance)})
    for row, source in product(table.rows, ("table1", "table2")):
        params = printed_table(source).cell(row.method, "trainable_params").value
        cell = table.cell(row.method, "params_penalty")
        penalty = factor.penalty(params or 0)
        if abs(penalty - (cell.value or 0)) > 0.005 + 1e-9:
            why = f"equation 3 with the parameters of {source}"
            yield Disagreement(table.name, row.method, "params_penalty", cell.text, f"{penalty:.2f}", why)


def _products(table: PrintedTable) -> Iterator[Disagreement]:
    """PSCP should be P times the three penalties, each as far off as two decimals allow."""
    for row in table.rows:
        low = high = 1.0
        for name, half in (("performance", 0.05), *((name, 0.005) for name in _PENALTIES)):
            value = table.cell(row.method, name).value or 0
            low, high = low * (value - half), high * min(value + half, 1.0 if name in _PENALTIES else 100)
        cell = table.cell(row.method, "pscp")
        if not low - 0.005 <= (cell.value or 0) <= high + 0.005:
            expected = f"{low:.2f} to {high:.2f}"
            yield Disagreement(table.name, row.method, "pscp", cell.text, expected, "P times the three penalties")


def _marks(table: PrintedTable) -> Iterator[Disagreement]:
    """Underlined should be who is second in a column, the base model included."""
    for column in table.columns:
        cells = {row.method: table.cell(row.method, column.key) for row in table.rows}
        values = sorted({cell.value for cell in cells.values() if cell.value is not None}, reverse=True)
        if column.unit != "score" or len(values) < 2:
            continue
        for method, cell in cells.items():
            second = cell.value == values[1]
            if second != (cell.mark == "underlined"):
                marked = "underlined" if cell.mark else "not underlined"
                rank = 1 + sum(value > (cell.value or 0) for value in values)
                expected, why = "underlined" if second else "plain", f"it is number {rank} of the column"
                yield Disagreement(table.name, method, column.key, f"{cell.text}, {marked}", expected, why)
