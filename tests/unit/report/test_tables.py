"""Marks against a search by brute force, standard deviations against numpy, and means that a missing cell refuses."""

import csv
import io
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peftbench.errors import DataError, UnknownName
from peftbench.report.layout import GROUPS, SLICES, label
from peftbench.report.of_runs import Options, Report
from peftbench.report.rendering import ENDINGS, render
from peftbench.report.sheet import RULES, sheet_of
from peftbench.report.tables import Column, Row, number_cell, with_marks
from peftbench.store import stored_results
from tests.unit.report.records import DATASETS, METHODS, SEEDS, results, scores, write


def sheet(found, **options):
    return sheet_of(found, **{"model": None, "protocol": None, "allow_missing": False, **options})


values = st.one_of(st.none(), st.floats(0, 100), st.sampled_from([50.04, 50.0, 49.96, 50.06]))


@given(
    st.lists(st.tuples(values, st.booleans()), max_size=8),
    st.sampled_from(["highest", "lowest"]),
    st.integers(0, 2),
)
def test_marks_are_those_of_a_search_by_hand(given_values, best, digits):
    column = Column("x", "x", best=best, digits=digits)
    rows = with_marks(
        [column], [Row((number_cell(value, digits),), marked=marked) for value, marked in given_values]
    )
    marks = [row.cells[0].mark for row in rows]
    part = [value for value, marked in given_values if marked]
    for (value, marked), mark in zip(given_values, marks, strict=True):
        if not marked or None in part or len(part) < 2:
            assert mark is None
            continue
        sign = 1 if best == "highest" else -1
        better = {
            round(other, digits) for other in part if sign * round(other, digits) > sign * round(value, digits)
        }
        assert mark == ("best" if not better else "second" if len(better) == 1 and len(part) > 2 else None)


@given(st.lists(st.floats(0, 100), min_size=3, max_size=8))
def test_what_looks_alike_is_marked_alike(found):
    rows = with_marks([Column("x", "x", best="highest")], [Row((number_cell(value, 1),)) for value in found])
    marks = {}
    for row in rows:
        marks.setdefault(row.cells[0].text, set()).add(row.cells[0].mark)
    assert all(len(each) == 1 for each in marks.values())
    best = max(found)
    assert any(row.cells[0].mark == "best" and row.cells[0].value == best for row in rows)


def test_means_and_deviations_are_those_of_numpy(tmp_path):
    cells = scores()
    found = sheet(results(tmp_path, cells))
    assert [each.name for each in found.methods] == list(METHODS)
    for method in found.methods:
        seeds = SEEDS if method.trained else SEEDS[:1]
        for dataset in DATASETS:
            own = np.array([cells[method.name, dataset, seed] for seed in seeds])
            for rule, less in (("corrected", 0), ("published", 1)):
                score = found.score(method, dataset, rule)
                assert score.value == pytest.approx(own.mean() - less)
                if method.trained:
                    assert score.deviation == pytest.approx(own.std(ddof=1))
                else:
                    assert score.deviation is None
        every = [np.mean([cells[method.name, dataset, seed] for seed in seeds]) for dataset in DATASETS]
        assert found.mean(method, DATASETS, "corrected").value == pytest.approx(np.mean(every))
    table = Report(stored_results(tmp_path), Options()).table("11")
    [panel] = [panel for panel in table.panels if panel.title == "Corrected scoring"]
    assert [row.cells[0].text for row in panel.rows] == ["IA3", "LoRA", "LNTuning"]
    lora = panel.rows[1].cells
    deviations = [
        np.std([cells["lora", each, seed] for seed in SEEDS], ddof=1) for each in ("cb", "svamp", "sst2")
    ]
    assert [cell.deviation for cell in lora[1:-1]] == pytest.approx(deviations)
    assert lora[-1].value == pytest.approx(np.mean(deviations))


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    """Costs, which do not depend on scores and take seconds to predict."""
    return Report(results(tmp_path_factory.mktemp("prices"), scores(seeds=(1,))), Options()).prices


def run_of(folder, method, dataset, seed):
    name = "*" if method == "base" else f"seed{seed}-*"
    [found] = (folder / "llama-3-8b" / method / dataset).glob(name)
    return found


def read(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("case", range(12))
def test_a_missing_cell_refuses_every_mean_that_needs_it_and_no_other(tmp_path, prices, case):
    source = np.random.default_rng(case)
    cells = scores()
    write(tmp_path, cells)
    gone = list(cells)[source.integers(len(cells))]
    method, dataset, _ = gone
    shutil.rmtree(run_of(tmp_path, *gone))
    report = Report(stored_results(tmp_path), Options(), _prices=prices)
    titles = {each.name: each.title for each in report.sheet.methods}
    seen = 0
    for name in ("1", "2", "3", "9", "10", "11", "leaderboard"):
        table = report.table(name)
        for panel in table.panels:
            for row in panel.rows:
                for column, cell in zip(panel.columns, row.cells, strict=True):
                    if not column.best and not column.spread:
                        continue
                    needs = row.cells[0].text == titles[method] and (
                        column.key == dataset
                        or column.key in ("mean", "performance", "pscp")
                        or (column.key == "mean_deviation" and dataset in ("cb", "sst2", "svamp"))
                        or any(column.key.startswith(g.lower().split()[0]) and dataset in of for g, of in GROUPS.items()
                               if column.key.endswith("_mean"))
                    )  # fmt: skip
                    assert (cell.value is None) == needs, (name, row.cells[0].text, column.key)
                    assert (cell.text == "1 missing") == needs
                    seen += needs
                    others = [each.cells[panel.columns.index(column)] for each in panel.rows]
                    assert not (cell.mark and any(other.value is None for other in others))
        if any(row.note for panel in table.panels for row in panel.rows):
            for form in ENDINGS:
                assert "missing" in render(table, form)
            assert any(row["note"] == f"missing: {gap(gone)}" for row in read(render(table, "csv")))
            assert any(f"{titles[method]} lacks {gap(gone)}" in note for note in table.notes)
    assert seen


def gap(gone):
    return gone[1] if gone[0] == "base" else f"{gone[1]}, seed {gone[2]}"


@pytest.mark.parametrize("case", range(6))
def test_what_is_missing_may_be_left_out_for_all_and_is_marked(tmp_path, case):
    source = np.random.default_rng([case, 1])
    cells = scores()
    dataset = DATASETS[source.integers(len(DATASETS))]
    method = METHODS[1 + source.integers(3)]
    kept = {key: value for key, value in cells.items() if key[:2] != (method, dataset)}
    found = results(tmp_path, kept)
    report = Report(found, Options(allow_missing=True))
    others = [each for each in DATASETS if each != dataset]
    table = report.table("leaderboard")
    for panel, less in zip(table.panels, (0, 1), strict=True):
        place = [column.key for column in panel.columns].index("mean")
        assert panel.columns[place].heading == f"All ({len(others)})"
        for row, each in zip(panel.rows, report.sheet.methods, strict=True):
            seeds = SEEDS if each.trained else SEEDS[:1]
            mean = np.mean([np.mean([kept[each.name, other, seed] for seed in seeds]) for other in others]) - less
            assert row.cells[place].value == pytest.approx(mean)
            assert row.cells[place].noted
    for form in ("markdown", "latex", "html"):
        text = render(table, form)
        assert "*" in text
        assert f"{dataset}, seed {SEEDS[0]}" in text
        assert f"leave out {dataset} for all methods" in text


def test_seeds_that_are_there_are_averaged_if_that_is_asked_for_and_marked(tmp_path):
    kept = {key: value for key, value in scores().items() if key != ("lora", "rte", 123)}
    report = Report(results(tmp_path, kept), Options(allow_missing=True))
    corrected = report.table("1").panels[1]
    place = [column.key for column in corrected.columns].index("rte")
    cell = next(row for row in corrected.rows if row.cells[0].text == "LoRA").cells[place]
    assert cell.value == pytest.approx((kept["lora", "rte", 42] + kept["lora", "rte", 456]) / 2)
    assert cell.noted
    assert not [row for row in corrected.rows if row.cells[0].text != "LoRA" and row.cells[place].noted]


def test_pscp_follows_equation_3_under_each_importance(tmp_path, prices):
    report = Report(results(tmp_path, scores()), Options(), _prices=prices)
    for name, parts in SLICES.items():
        table = report.table(name)
        assert len(table.panels) == len(parts)
        for panel, (params, flops, memory) in zip(table.panels, parts, strict=True):
            for row in panel.rows:
                data = {column.key: cell.value for column, cell in zip(panel.columns, row.cells, strict=True)}
                expected = data["performance"] * (1 + data["trainable_params"] / 5e8) ** -params
                expected *= (1 + data["extra_tflops"] / 10) ** -flops * (1 + data["memory_gb"] / 94) ** -memory
                assert data["pscp"] == pytest.approx(expected)
    first, third = report.table("10").panels[0], report.table("3").panels[1]
    assert [row.cells[-1] for row in first.rows] == [row.cells[-1] for row in third.rows]
    assert all(row.cells[0].text != "Base" for panel in report.table("3").panels for row in panel.rows)


def test_csv_is_unrounded_and_plain(tmp_path):
    report = Report(results(tmp_path, scores()), Options())
    rows = read(render(report.table("11"), "csv"))
    cells = scores()
    lora = next(row for row in rows if row["method"] == "LoRA" and row["part"] == "Corrected scoring")
    own = [cells["lora", "cb", seed] for seed in SEEDS]
    assert float(lora["cb"]) == np.mean(own)
    assert float(lora["cb_sd"]) == np.std(own, ddof=1)
    first = read(render(report.table("1"), "csv"))
    assert {row["trainable_params"] for row in first} == {"", "524288", "14680064", "266240"}
    assert {row["records"] for row in first} == {report.sheet.digest}


def test_one_seed_says_why_there_is_no_deviation(tmp_path):
    report = Report(results(tmp_path, scores(seeds=(42,))), Options())
    table = report.table("11")
    assert any("With one seed there is no standard deviation" in note for note in table.notes)
    assert all(cell.deviation is None for panel in table.panels for row in panel.rows for cell in row.cells)
    assert {row.cells[-1].text for panel in table.panels for row in panel.rows} == {"–"}
    assert any("One seed each" in note for note in report.table("1").notes)
    with pytest.raises(DataError, match="every run has one seed; a standard deviation needs at least two"):
        report.draw("figure4", tmp_path)


def test_a_digest_stands_for_a_set_of_records(tmp_path):
    cells = scores()
    ours = sheet(results(tmp_path / "a", cells)).digest
    assert ours == sheet(results(tmp_path / "b", cells)).digest
    del cells["lora", "rte", 42]
    assert ours != sheet(results(tmp_path / "c", cells)).digest


def test_provenance_names_rows_limits_and_partial_data(tmp_path):
    from tests.synthetic import config_of, data_of

    limited = data_of(config_of(tmp_path, dataset="rte")).model_copy(
        update={"test_rows_limit": 60, "partial": True}
    )
    from tests.synthetic import add_run

    add_run(tmp_path, "lora", "rte", 1, evaluation={"data": limited})
    add_run(tmp_path, "lora", "cb", 1)
    facts = dict(Report(stored_results(tmp_path), Options()).table("1").provenance)
    assert facts["Test rows"] == "RTE 277 (a sample, partial data), CB 277"
    assert facts["Protocol"].startswith("corrected")
    assert facts["Seeds"] == "1"
    assert "2 evaluations" in facts["Records"]


def test_different_rows_are_refused(tmp_path):
    from tests.synthetic import add_run, config_of, data_of

    data = data_of(config_of(tmp_path, dataset="rte"))
    splits = {**data.splits, "test": data.splits["test"].model_copy(update={"sha256": "9" * 64})}
    add_run(tmp_path, "lora", "rte", 1)
    add_run(tmp_path, "ia3", "rte", 1, evaluation={"data": data.model_copy(update={"splits": splits})})
    with pytest.raises(DataError, match="evaluated on different test rows of rte"):
        sheet(stored_results(tmp_path))


def test_the_order_is_the_papers_and_others_follow(tmp_path):
    cells = {
        (method, dataset, 1): 50.0
        for method in ("lora", "base", "zeta", "ia3")
        for dataset in ("rte", "mnli", "sst2@mini")
    }
    report = Report(results(tmp_path, cells), Options())
    table = report.table("1")
    assert [column.heading for column in table.panels[0].columns[2:]] == ["MNLI", "SST-2 @mini", "RTE"]
    assert [row.cells[0].text for row in table.panels[0].rows] == ["Base", "IA3", "LoRA", "zeta"]
    with pytest.raises(DataError, match="none of the datasets of Table 2: MMLU"):
        report.table("2")
    with pytest.raises(UnknownName, match="unknown table '4'"):
        report.table("4")


def test_every_dataset_of_the_catalogue_stands_in_the_layout():
    from peftbench.datasets import dataset_names, get_dataset
    from peftbench.report.layout import group_of

    placed = [name for names in GROUPS.values() for name in names]
    assert sorted(placed) == sorted(dataset_names())
    for name in placed:
        spec = get_dataset(name)
        group = group_of(name)
        expected = {"math": "Math", "code generation": "Code Generation"}.get(spec.area, spec.benchmark)
        assert group.lower() == expected.lower()
    assert label("sst2@mini") == "SST-2 @mini"
    assert set(RULES) == {"published", "corrected"}
