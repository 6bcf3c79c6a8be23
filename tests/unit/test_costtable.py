"""Tables of costs and what is made of them: the paper's tables come out, what is wrong is one sentence."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from peftbench import figures
from peftbench.costtable import SHIPPED, read_costs, shipped_costs
from peftbench.errors import ConfigError, PeftBenchError, UnknownName
from peftbench.sensitivity import break_even
from peftbench.tradeoff import cost_model, weigh

PRINTED = json.loads((Path(__file__).parents[1] / "golden" / "pscp.json").read_text())
GOOD = "method,performance,params,extra_tflops,memory_gb\na,50,1e6,0,10\nb,60,2e6,0.5,12\n"


def table(tmp_path, text, name="costs.csv"):
    file = tmp_path / name
    file.write_text(text)
    return file


@pytest.mark.parametrize("printed", PRINTED["tables"], ids=lambda each: each["name"])
def test_the_shipped_table_gives_every_printed_score(printed):
    found = weigh("paper", exponents=",".join(map(str, printed["importances"])))
    scores = {each.candidate.method: each.score.estimate for each in found.methods}
    assert scores.keys() == printed["rows"].keys()
    for method, cells in printed["rows"].items():
        assert abs(scores[method] - cells[3]) <= 0.005 + 1e-9
    assert [each.score.estimate for each in found.methods] == sorted(scores.values(), reverse=True)


def test_the_shipped_table_has_the_costs_of_the_fixture():
    costs = PRINTED["costs"]
    for name in SHIPPED:
        for each in shipped_costs(name).candidates:
            printed = costs[each.method]
            assert each.params == printed["params"]
            assert each.flops == pytest.approx((printed["tflops"] - PRINTED["base_tflops"]) * 1e12)
            assert each.memory == pytest.approx(printed["memory_gb"] * 1e9)
            if name == "paper":
                assert each.performance == printed["performance"]


def test_the_means_of_tables_1_and_2_change_the_score():
    """The printed performance is the mean of the 27 printed scores for one method only."""
    means = {each.method: each.performance for each in shipped_costs("paper-means").candidates}
    apart = {name: abs(row["performance"] - means[name]) for name, row in PRINTED["costs"].items()}
    assert [name for name, gap in apart.items() if gap < 0.05] == ["ia3"]
    assert max(apart, key=apart.get) == "prefix_tuning"
    found = weigh("paper-means")
    scores = {each.candidate.method: round(each.score.estimate, 2) for each in found.methods}
    assert scores == {
        "lora": 58.46, "ln_tuning": 58.50, "ia3": 55.64, "p_tuning": 30.97, "prefix_tuning": 30.30, "prompt_tuning": 29.60,
    }  # fmt: skip
    assert found.base == 56.57


def test_csv_and_json_give_the_same(tmp_path):
    first = read_costs(table(tmp_path, "# a comment\n\n" + GOOD.replace(",", " , ")))
    rows = list(csv.DictReader(GOOD.splitlines()))
    rows = [{k: v if k == "method" else float(v) for k, v in row.items()} for row in rows]
    assert read_costs(table(tmp_path, json.dumps(rows), "costs.json")).candidates == first.candidates
    assert [each.flops for each in first.candidates] == [0, 0.5e12]


def test_standard_errors_become_replicates(tmp_path):
    text = "method,performance,params,extra_tflops,memory_gb,standard_error\na,50,0,0,0,2\nb,50,0,0,0,2\nc,99.9,0,0,94,5\n"
    found = weigh(str(table(tmp_path, text)))
    by = {each.candidate.method: each for each in found.methods}
    assert (by["a"].performance.low, by["a"].performance.high) == (
        pytest.approx(46, abs=1),
        pytest.approx(54, abs=1),
    )
    assert by["c"].candidate.draws.max() == 100
    assert sum(each.wins for each in found.methods) == pytest.approx(1)
    assert 0.3 < by["a"].wins < 0.7
    assert "standard errors" in found.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no methods"),
        ("method,performance,params,extra_tflops,memory_gb\n", "holds no methods"),
        ("method,performance\na,5\n", "has no column params, memory_gb"),
        ("method,performance,params,memory_gb\na,5,1,1\n", "needs either tflops with a row 'base', or extra_tflops"),
        (GOOD.replace("extra_tflops", "extra_tflop"), "unknown column 'extra_tflop'; did you mean 'extra_tflops'"),
        (GOOD.replace("extra_tflops", "tflops"), "has tflops but no row 'base'"),
        (GOOD.replace("b,", "a,"), "line 3, a: the method stands there twice"),
        (GOOD.replace("b,", ","), "line 3: method is '', expected a name"),
        (GOOD.replace("12", "nan"), "costs.csv, line 3, b: memory_gb is 'nan', expected a number from 0 to 1e+100"),
        (GOOD.replace("12", "inf"), "memory_gb is 'inf'"),
        (GOOD.replace("12", "-1"), "memory_gb is '-1'"),
        (GOOD.replace("12", "1e400"), "memory_gb is '1e400'"),
        (GOOD.replace("12", "1e101"), "memory_gb is '1e101', expected a number from 0 to 1e+100"),
        (GOOD.replace("12", ""), "memory_gb is ''"),
        (GOOD.replace("1e6", "many"), "line 2, a: params is 'many'"),
        (GOOD.replace("50", "101"), "performance is '101', expected a number from 0 to 100"),
        (GOOD.replace("50", "NaN"), "performance is 'NaN'"),
        (GOOD.replace(",12", ""), "line 3: 4 cells, expected 5"),
        (GOOD.replace("params", "performance"), "two columns of one name"),
        ("method,performance,params,tflops,memory_gb\nbase,1,,8,\n", "holds the base model alone"),
        ("method,performance,params,tflops,memory_gb\nbase,1,,nan,\na,1,1,1,1\n", "line 2, base: tflops is 'nan'"),
        ('"', "cannot be read as CSV"),
        ('method,"a\nb"\n', "cannot be read as CSV"),
    ],
)  # fmt: skip
def test_a_table_that_is_wrong_is_one_sentence(tmp_path, text, message):
    with pytest.raises(PeftBenchError) as caught:
        read_costs(table(tmp_path, text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "cannot be read as JSON"),
        ("{}", "is not a list of objects"),
        ("[1]", "is not a list of objects"),
        ('[{"method": 3, "performance": 1, "params": 1, "extra_tflops": 0, "memory_gb": 1}]', "row 1: method is 3"),
        ('[{"method": "a", "performance": NaN, "params": 1, "extra_tflops": 0, "memory_gb": 1}]', "performance is nan"),
        ('[{"method": "a", "performance": true, "params": 1, "extra_tflops": 0, "memory_gb": 1}]', "is True"),
        ('[{"method": "a", "performance": 1, "params": [], "extra_tflops": 0, "memory_gb": 1}]', r"params is []"),
        ("[" * 100_000, "cannot be read as JSON"),
    ],
    ids=range(8),
)  # fmt: skip
def test_json_that_is_wrong_is_one_sentence(tmp_path, text, message):
    with pytest.raises(PeftBenchError) as caught:
        read_costs(table(tmp_path, text, "costs.json"))
    assert message in str(caught.value)


def test_a_table_that_is_no_text(tmp_path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PeftBenchError, match="cannot be read as text"):
        read_costs(tmp_path / "x.csv")
    with pytest.raises(UnknownName, match="did you mean 'paper'"):
        shipped_costs("papr")


# ------------------------------------------------------------------------------------- exponents, references

PAPER = shipped_costs("paper").candidates


def references(costs):
    return (costs.params.reference, costs.flops.reference, costs.memory.reference)


def test_exponents_and_references_from_the_command_line():
    costs = cost_model("1,2,0.5", "paper", PAPER)
    assert [costs.params.importance, costs.flops.importance, costs.memory.importance] == [1, 2, 0.5]
    assert cost_model("memory=2", "paper", PAPER).memory.importance == 2
    assert references(costs) == references(cost_model(None, "5e8,10,94", PAPER)) == (5e8, 1e13, 94e9)
    assert references(cost_model(None, "memory_gb=80", PAPER)) == (5e8, 1e13, 80e9)
    median = cost_model(None, "median,tflops=2", PAPER)
    assert references(median) == (
        np.median([each.params for each in PAPER]), 2e12, np.median([each.memory for each in PAPER]),
    )  # fmt: skip
    assert references(cost_model(None, "geometric-mean", PAPER))[0] > references(median)[0] / 10


@pytest.mark.parametrize(
    ("exponents", "given", "message"),
    [
        (None, "5e8,-10,94", "--references: tflops is '-10', expected a number above 0"),
        (None, "0,10,94", "--references: params is '0', expected a number above 0"),
        (None, "5e8,nan,94", "tflops is 'nan'"),
        (None, "5e8,inf,94", "tflops is 'inf'"),
        (None, "5e8,10", "expected three numbers, params,tflops,memory_gb, or some by name"),
        (None, "", "expected three numbers"),
        (None, "mean", "expected three numbers"),
        (None, "memory=80", "unknown cost 'memory'; did you mean 'memory_gb'"),
        (None, "median,tflops=", "tflops is ''"),
        ("1,1", "paper", "--exponents is '1,1', expected three numbers, params,flops,memory"),
        ("1,1,-1", "paper", "--exponents: memory is '-1', expected a number of at least 0"),
        ("1,1,nan", "paper", "memory is 'nan'"),
        ("flop=1", "paper", "--exponents: unknown cost 'flop'; did you mean 'flops'"),
        ("", "paper", "expected three numbers"),
    ],
)
def test_options_that_are_wrong_are_one_sentence(exponents, given, message):
    with pytest.raises(PeftBenchError) as caught:
        cost_model(exponents, given, PAPER)
    assert message in str(caught.value)


def test_a_median_of_0_says_how_to_set_it():
    free = [each for each in PAPER if each.method in ("lora", "ln_tuning")]
    with pytest.raises(ConfigError, match="median of cost 'flops' is 0.*--references median,tflops=0.1"):
        cost_model(None, "median", free)
    assert references(cost_model(None, "median,tflops=3", free))[1] == 3e12


# --------------------------------------------------------------------------------------------------- figures


@pytest.mark.parametrize("ending", ["svg", "png", "pdf"])
def test_a_map_is_drawn(tmp_path, ending):
    pytest.importorskip("matplotlib")
    found = weigh("paper")
    file = tmp_path / f"map.{ending}"
    figures.write_maps(file, found.maps(slices=True), found.title)
    begin = {"svg": b"<?xml", "png": b"\x89PNG", "pdf": b"%PDF"}[ending]
    assert file.read_bytes().startswith(begin)
    if ending == "svg":
        again = tmp_path / "again.svg"
        figures.write_maps(again, found.maps(slices=True), found.title)
        assert again.read_bytes() == file.read_bytes()


def test_names_are_drawn_as_they_are_and_many_methods_share_a_colour(tmp_path):
    pytest.importorskip("matplotlib")
    names = ["$a^{", "_b", "c\x1b[2J", *"defghijk"]
    rows = [f"{name},{50 + 3 * n},{10 ** (5 + n / 3)},{n / 20},{10 + 2 * n}" for n, name in enumerate(names)]
    text = "\n".join(["method,performance,params,extra_tflops,memory_gb", *rows]) + "\n"
    found = weigh(str(table(tmp_path, text)))
    maps = found.maps(slices=True)
    assert len({number for each in maps for number in each.winner.flat}) > 7
    figures.write_maps(tmp_path / "map.png", maps, "a title with $")
    colours = figures._colours(maps)
    assert len(set(colours.values())) == 8
    areas = {n: sum((each.winner == n).mean() for each in maps) for n in colours}
    assert max((areas[n] for n, colour in colours.items() if colour == figures._OTHER)) <= min(
        areas[n] for n, colour in colours.items() if colour != figures._OTHER
    )


def test_a_map_as_data_has_a_row_for_each_point(tmp_path):
    found = weigh("paper")
    for ending in ("csv", "json"):
        figures.write_maps(tmp_path / f"map.{ending}", found.maps(), found.title)
    rows = list(csv.DictReader((tmp_path / "map.csv").open()))
    data = json.loads((tmp_path / "map.json").read_text())
    assert len(rows) == len(data) == 2 * 17**3
    here = [each for each in data if (each["params"], each["flops"], each["memory"]) == (1, 1, 1)]
    assert [each["over"] for each in here] == ["exponents", "references"]
    assert {each["winner"] for each in here} == {"ln_tuning"}
    assert here[0]["lead"] == pytest.approx(1 - 60.08 / 60.19, abs=2e-4)
    assert here[0]["share"] is None
    assert rows[0]["share"] == ""


def test_a_map_needs_an_ending_that_is_known_and_a_folder(tmp_path):
    with pytest.raises(ConfigError, match="'map.txt', expected it to end in .svg, .png, .pdf, .csv, .json"):
        figures.check_name(Path("map.txt"))
    with pytest.raises(PeftBenchError, match="cannot write"):
        figures.write_maps(tmp_path / "no" / "map.csv", weigh("paper").maps(), "")


def test_the_documented_tables_are_those_of_the_command():
    text = (Path(__file__).parents[2] / "docs" / "pscp.md").read_text()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    printed, means = ({each.candidate.method: each for each in weigh(name).methods} for name in SHIPPED)
    scores = {row[0]: row[1:] for row in rows if row[0] in printed}
    assert scores == {
        name: [f"{each.candidate.performance:.1f}", f"{each.score.estimate:.2f}",
               f"{means[name].candidate.performance:.2f}", f"{means[name].score.estimate:.2f}"]
        for name, each in printed.items()
    }  # fmt: skip
    pairs = {tuple(row[0].split(", ")): row[1:] for row in rows if ", " in row[0]}
    assert len(pairs) == 15
    for (first, second), cells in pairs.items():
        one, two = (break_even(part[first].candidate, part[second].candidate) for part in (printed, means))
        found = [one.together, *one.alone.values(), two.together]
        assert cells == [
            f"{each.above} always" if each.at is None else f"{each.at:.2f}, {each.above}" for each in found
        ]
