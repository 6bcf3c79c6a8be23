"""Each table in each format as it stands in tests/golden/report; `python -m tests.unit.report.test_golden` writes it."""

import tempfile
from pathlib import Path

import pytest

from peftbench.report.of_runs import Options, Report
from peftbench.report.rendering import ENDINGS, html_table, render
from peftbench.report.score_tables import leaderboard
from peftbench.stats import Interval
from tests.unit.report.records import results, scores

GOLDEN = Path(__file__).parents[2] / "golden" / "report"
NAMES = ("1", "2", "3", "9", "10", "11", "leaderboard")


def tables(folder):
    """With one run missing, so that this is seen as well."""
    cells = {key: value for key, value in scores().items() if key != ("lora", "svamp", 456)}
    report = Report(results(folder, cells), Options())
    found = {name: report.table(name) for name in NAMES if name != "leaderboard"}
    given = {each.name: (Interval(60, 55.25, 64.75), Interval(2, 1.5, 3)) for each in report.sheet.methods}
    return found | {"leaderboard": leaderboard(report.sheet, given)}


def texts(folder):
    for table in tables(folder).values():
        for form, ending in ENDINGS.items():
            # Of a page the part that differs from table to table.
            yield f"{table.stem}{ending}", html_table(table) if form == "html" else render(table, form)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return dict(texts(tmp_path_factory.mktemp("golden")))


@pytest.mark.parametrize("file", sorted(path.name for path in GOLDEN.iterdir()))
def test_a_table_reads_as_it_did(found, file):
    assert found[file] == (GOLDEN / file).read_text(encoding="utf-8")


def test_every_table_has_a_golden_file(found):
    assert sorted(found) == sorted(path.name for path in GOLDEN.iterdir())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, text in texts(Path(folder)):
            (GOLDEN / name).write_text(text, encoding="utf-8", newline="")
