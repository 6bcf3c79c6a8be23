"""The paper's tables as printed beside the same computed again: every difference is found and explained."""

import re

import numpy as np
import pytest

from peftbench.errors import DataError, UnknownName
from peftbench.importers.agreement import disagreements
from peftbench.importers.errata import errata
from peftbench.importers.printed import printed_table, printed_tables
from peftbench.report.paper import PaperReport
from peftbench.report.rendering import ENDINGS, render

NAMES = ("1", "2", "3", "9", "10")


@pytest.fixture(scope="module")
def paper():
    return PaperReport()


@pytest.mark.parametrize("name", NAMES)
def test_the_printed_part_is_what_is_printed(paper, name):
    table = paper.table(name)
    printed = [each for each in printed_tables() if each.number.partition("(")[0] == name]
    for panel, part in zip(table.panels[::2], printed, strict=True):
        assert [[cell.text for cell in row.cells[1:]] for row in panel.rows] == [
            [cell.text for cell in row.cells] for row in part.rows
        ]
        marks = [[cell.mark for cell in row.cells[1:]] for row in panel.rows]
        assert marks == [["second" if cell.mark else None for cell in row.cells] for row in part.rows]
    for form in ENDINGS:
        assert render(table, form)


@pytest.mark.parametrize("name", NAMES)
def test_every_difference_is_explained(paper, name):
    assert not [note for note in paper.table(name).notes if "not explained" in note]


def test_differences_are_those_that_the_printed_numbers_alone_show(paper):
    """Another computation, of the importers, which knows no sheet and no renderer."""
    theirs = {(each.table, each.method, each.column, each.printed.partition(",")[0]) for each in disagreements()}
    ours = set()
    for name in ("1", "2", "3"):
        part = printed_table(name)
        keys = {column.label: column.key for column in part.columns}
        methods = {row.label: row.method for row in part.rows}
        for note in paper.table(name).notes:
            found = re.fullmatch(rf"Table {name}, ([^,]+), [^:]*: (.*)\.", note)
            for cell in found[2].split("; ") if found else ():
                method, number = re.match(r"(.+?) ([\d.]+)(?: against|$)", cell).groups()
                if keys[found[1]] != "pscp":  # which follows from P
                    ours.add((part.name, methods[method], keys[found[1]], number))
    assert ours == {each for each in theirs if each[0] in ("table1", "table2", "table3")}


def test_means_are_those_of_the_27_printed_scores(paper):
    again = paper.table("3").panels[1]
    for row, printed in zip(again.rows, printed_table("3").rows, strict=True):
        values = [
            cell.value
            for name in ("1", "2")
            for cell, column in zip(
                printed_table(name).row(printed.method).cells, printed_table(name).columns, strict=True
            )
            if column.unit == "score"
        ]
        assert len(values) == 27
        assert row.cells[1].value == pytest.approx(np.mean(values))


def test_each_table_names_the_errata_that_touch_it(paper):
    known = {each.id for each in errata()}
    for name in NAMES:
        named = [note.split()[1].rstrip(":") for note in paper.table(name).notes if note.startswith("Erratum ")]
        assert named
        assert set(named) <= known
        assert len(set(named)) == len(named)


def test_what_is_lost_is_said(paper):
    with pytest.raises(DataError, match="numbers of Table 11 are lost"):
        paper.table("11")
    with pytest.raises(UnknownName, match="unknown table of the paper '12'"):
        paper.table("12")
