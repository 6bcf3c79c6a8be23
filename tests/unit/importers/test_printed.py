"""The paper's tables: cell for cell what its text prints, read from it a second time and in another way."""

import csv
import re
from collections import Counter

import pytest

from peftbench.costtable import shipped_costs
from peftbench.datasets import dataset_names, get_dataset
from peftbench.errors import UnknownName
from peftbench.importers.agreement import disagreements
from peftbench.importers.errata import errata, erratum
from peftbench.importers.printed import printed_table, printed_tables
from peftbench.methods.specs import methods
from peftbench.penalty import pscp
from peftbench.tradeoff import cost_model
from tests.conftest import REPOSITORY
from tests.unit.test_penalty import PRINTED

LABELS = ("Base", "IA3", "Prompt Tuning", "Prefix Tuning", "P-Tuning", "LoRA", "LNTuning")


def lines_of_methods(shared):
    """Each line of the paper that begins with a method: its name, and the texts between the bars after it."""
    text = (shared / "spec" / "paper.txt").read_text(encoding="utf-8")
    for matched in re.finditer(rf"^\| ({'|'.join(map(re.escape, LABELS))}) \|(.*)$", text, re.MULTILINE):
        yield matched[1], re.findall(r"[^|\s]+", matched[2])


def test_every_cell_is_what_the_paper_prints(shared):
    printed = list(lines_of_methods(shared))
    ours = [
        (row.label, [rf"\ul{cell.text}" if cell.mark else cell.text for cell in row.cells if cell.text])
        for table in printed_tables()
        for row in table.rows
    ]
    assert [label for label, _ in ours] == [label for label, _ in printed]
    for one, other in zip(ours, printed, strict=True):
        assert one == other
    assert sum(len(cells) for _, cells in ours) == 7 * 16 + 7 * 13 + 11 * 6 * 5


@pytest.mark.parametrize(
    ("name", "above"),
    [("table1", "MNLI QQP QNLI SST-2 STS-B MRPC RTE CoLA ReC MRC BQ WiC WSC CB COPA"),
     ("table2", "MMLU PIQA SIQA HS WG OBQA MQA GSM8K SVAMP Conala CAPy APPS"),
     ("table11", "CB COPA SVAMP CoLA SST-2 HellaSwag WSC")],
)  # fmt: skip
def test_headings_are_those_of_the_paper_in_its_order(shared, name, above):
    columns = [each for each in printed_table(name).columns if each.unit == "score"]
    assert [each.label for each in columns] == above.split()
    text = (shared / "spec" / "paper.txt").read_text(encoding="utf-8")
    assert any(re.findall(r"[^|\s]+", line) == above.split() for line in text.splitlines())


def test_scores_have_a_column_for_each_dataset_and_no_column_is_wrongly_named():
    keys = [
        each.key for name in ("table1", "table2") for each in printed_table(name).columns if each.unit == "score"
    ]
    assert sorted(keys) == sorted(dataset_names())
    for table in printed_tables():
        for column in table.columns:
            if column.key in dataset_names():
                spec = get_dataset(column.key)
                short = {"ReC": "record", "MRC": "multirc", "BQ": "boolq", "HS": "hellaswag", "WG": "winogrande",
                         "OBQA": "openbookqa", "MQA": "math_qa", "CAPy": "codealpacapy"}  # fmt: skip
                assert short.get(column.label, column.label.lower().replace("-", "")) == column.key
                if column.group:
                    area = column.group.split(" (")[0].lower()
                    assert area in ((spec.benchmark or "").lower(), spec.area.lower())
    assert all(row.method in methods for table in printed_tables() for row in table.rows)


@pytest.mark.parametrize("golden", PRINTED["tables"], ids=lambda each: each["name"])
def test_tables_of_pscp_are_those_of_the_golden_file(golden):
    table = printed_table(golden["name"])
    assert table.importances == tuple(golden["importances"])
    assert {row.method: [cell.value for cell in row.cells[1:]] for row in table.rows} == golden["rows"]


def test_shipped_costs_repeat_what_the_paper_prints():
    for each in shipped_costs("paper").candidates:
        assert each.performance == printed_table("3").cell(each.method, "performance").value
        for name in ("table1", "table2"):
            assert each.params == printed_table(name).cell(each.method, "trainable_params").value


def test_importances_of_each_part_give_its_penalties():
    for table in printed_tables():
        if table.importances is None:
            continue
        costs = cost_model(",".join(map(str, table.importances)), "paper", [])
        for each in shipped_costs("paper").candidates:
            found = pscp(each.performance, each.params, each.flops, each.memory, costs)
            computed = [
                found.performance,
                found.params_penalty,
                found.flops_penalty,
                found.memory_penalty,
                found.score,
            ]
            for value, cell in zip(computed, table.row(each.method).cells, strict=True):
                assert value == pytest.approx(cell.value, abs=0.005 + 1e-9), (table.name, each.method)


def test_what_disagrees_within_the_paper():
    found = {(each.table, each.method, each.column): each.expected for each in disagreements()}
    assert found == {
        ("table1", "p_tuning", "mrpc"): "underlined",
        ("table1", "ln_tuning", "mrpc"): "plain",
        ("table1", "ia3", "rte"): "underlined",
        ("table2", "prompt_tuning", "gsm8k"): "underlined",
        ("table2", "lora", "gsm8k"): "plain",
        ("table3", "prompt_tuning", "performance"): "50.19",
        ("table3", "prefix_tuning", "performance"): "41.93",
        ("table3", "p_tuning", "performance"): "54.72",
        ("table3", "lora", "performance"): "77.94",
        ("table3", "ln_tuning", "performance"): "75.61",
    }
    means = {each.method: f"{each.performance:.2f}" for each in shipped_costs("paper-means").candidates}
    assert {method: text for (_, method, column), text in found.items() if column == "performance"} == {
        method: means[method] for method in means if method != "ia3"
    }
    touched = {  # whatever disagrees is in the errata
        (table.name, row.method, column.key): set(cell.errata)
        for table in printed_tables()
        for row in table.rows
        for cell, column in zip(row.cells, table.columns, strict=True)
    }
    for place in found:
        assert touched[place] & {"underlines", "typed-performance"}
    assert {place for place, ids in touched.items() if "underlines" in ids} == {
        place for place in found if place[2] != "performance"
    }


def test_errata_have_anchors_that_are_their_own_and_name_only_what_is_there():
    ids = Counter(each.id for each in errata())
    assert max(ids.values()) == 1
    text = (REPOSITORY / "ERRATA.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in text.splitlines()
        if line.startswith("|") and not re.match(r"\|(---| the | dataset | metric )", line)
    ]
    assert len(rows) == len(ids), "every entry has an anchor"
    named = {name for table in printed_tables() for name in table.errata}
    assert named <= ids.keys()
    # Those that no printed cell shows: other models, other methods, and what is not a score.
    assert ids.keys() - named == {"ln-targets", "loaded-frozen", "bitfit", "svft"}
    assert erratum("wsc-marks").reference.startswith("wsc: the two marks")
    assert all(each.reference and (each.here or each.difference) for each in errata())
    with pytest.raises(UnknownName, match="wsc-marks"):
        erratum("wsc-mark")


def test_errata_name_rows_and_columns_that_exist():
    from ruamel.yaml import YAML

    folder = REPOSITORY / "src" / "peftbench" / "importers" / "paper"
    about = YAML(typ="safe", pure=True).load((folder / "tables.yaml").read_text(encoding="utf-8"))
    every = {column for table in about["tables"] for column in table["columns"]}
    for table in about["tables"]:
        with (folder / table["file"]).open(newline="", encoding="utf-8") as opened:
            header = next(csv.reader(opened))
        assert [name for name in header if name not in ("part", "method")] == list(table["columns"])
        for entry in table["errata"]:
            assert set(entry) <= {"id", "rows", "columns"}
            assert set(entry.get("columns", ())) <= every
            assert set(entry.get("rows", ())) <= set(about["methods"].values())


def test_a_cell_is_found_by_name_and_keeps_its_text():
    assert printed_table("3").cell("prompt_tuning", "performance").text == "50.0"
    assert printed_table("9d").number == "9(d)"
    cell = printed_table("table1").cell("ln_tuning", "qnli")
    assert (cell.text, cell.value, cell.mark, cell.sd) == ("95.1", 95.1, "underlined", None)
    assert "second-label" in cell.errata
    assert printed_table("1").cell("base", "trainable_params").value is None
    assert printed_table("1").cell("lora", "trainable_params").value == 14680064
    assert printed_table("11").cell("lora", "cb").value is None
    with pytest.raises(UnknownName, match="table9a"):
        printed_table("9")
    with pytest.raises(UnknownName, match="ia3"):
        printed_table("1").cell("ia", "mnli")
    with pytest.raises(UnknownName, match="table3: unknown column 'mnli'"):
        printed_table("3").cell("ia3", "mnli")
