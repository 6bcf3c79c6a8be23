"""What others printed or measured, on the page: marked with its source and never among what was measured here."""

import pytest

from peftbench import importers
from peftbench.site.build import build
from tests.predicted import fill
from tests.unit.site.test_build import data, no_flops


@pytest.fixture
def page(tmp_path):
    from peftbench.importers.taking import import_results

    runs = fill(tmp_path / "runs", ("rte", "cb"), ("ia3", "lora"), (1, 2))
    import_results("paper", None, runs)
    build(tmp_path / "page", [runs], flops=no_flops)
    return tmp_path / "page"


def column(index, name):
    found = index["records"]["columns"][name]
    if isinstance(found, list):
        return found
    return [None if code < 0 else found["values"][code] for code in found["codes"]]


def test_imports_are_rows_with_their_source_and_in_no_group(page):
    index = data(page, "index")
    sources = column(index, "source")
    assert sources.count("measured") == 8
    assert sources.count("paper") == index["records"]["count"] - 8 == 27 * 7
    for source, group, score in zip(sources, column(index, "group"), column(index, "score"), strict=True):
        assert (group is None) == (source == "paper")
        assert source == "measured" or score is None or 0 <= score <= 100
    assert len(index["groups"]) == 1
    assert len(set(column(index, "key"))) == index["records"]["count"]


def test_tables_of_the_paper_are_as_printed_and_their_errata_are_there(page):
    index = data(page, "index")
    assert [each["name"] for each in index["printed"]] == [each.name for each in importers.printed_tables()]
    known = {row for each in index["errata"] for row in each["ids"]} | {each["id"] for each in index["errata"]}
    for shown, table in zip(index["printed"], importers.printed_tables(), strict=True):
        assert set(shown["errata"]) <= known
        for row, printed in zip(shown["rows"], table.rows, strict=True):
            assert row[0] == printed.label
            for cell, wanted in zip(row[1:], printed.cells, strict=True):
                assert cell == (wanted.text if wanted.value is None else wanted.value)
