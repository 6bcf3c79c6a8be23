"""The page shows the numbers of the command line: same records, same scores, intervals, PSCP and cells."""

import json
import shutil

import pytest

from peftbench import candidates
from peftbench.site import costs
from peftbench.site.build import build
from tests.browser.conftest import serving
from tests.e2e.test_cli import call
from tests.predicted import DATASETS, SKILL, add

MODEL = "Qwen/Qwen3-0.6B"
"""Its dimensions are shipped, so that FLOPs can be predicted."""


@pytest.fixture(scope="module", autouse=True)
def predicted_once():
    """A prediction of FLOPs takes seconds, and the same method's is the same."""
    kept, predict = {}, candidates.predicted_costs

    def predicted(runs, device):
        method = str(runs[0].config.method)
        if method not in kept:
            kept[method] = predict(runs, device)
        return kept[method]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "predicted_costs", predicted)
        patch.setattr(costs, "predicted_costs", predicted)
        yield


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("numbers") / "runs"
    for number, method in enumerate(SKILL):
        for dataset in DATASETS:
            for seed in (1,) if method == "base" else (1, 2, 3):
                run = add(folder, method, dataset, seed, SKILL[method], model=MODEL)
                if method != "base":
                    cost(run, number + seed / 10)
    return folder


def cost(run, scale):
    """Memory and parameters of a run that differ from those of others."""
    file = run / "train.json"
    record = json.loads(file.read_text())
    record.pop("sha256")
    record["trainable_params"] = int(1e7 * scale)
    record["efficiency"]["train_peak_memory_bytes"] = int(8e9 * scale)
    file.write_text(json.dumps(record))


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("site") / "page"
    build(folder, [runs])
    return f"file://{folder}/index.html"


def told(*arguments):
    code, out, err = call(*arguments, "--json")
    assert code == 0, err
    return json.loads(out)


def column(rows, head):
    """Cells of one column by those of the first, from the texts of a table."""
    [place] = [place for place, text in enumerate(rows[0]) if text.split("\n")[0].strip(" \u25b2\u25bc") == head]
    return {row[0]: row[place] for row in rows[1:]}


def same(shown, value, digits):
    """Whether a text shows a number with so many digits."""
    assert float(shown.replace(",", "")) == pytest.approx(value, abs=0.51 * 10**-digits + 1e-5)


def ends(text):
    low, _, high = text.split("\n")[-1].partition(" to ")
    return low, high


TITLES = {"base": "Base", "ia3": "IA3", "lora": "LoRA", "ln_tuning": "LN Tuning"}


def test_the_leaderboard_is_that_of_ranks(page, runs, watch):
    tab = watch(page)
    rows, found = tab.cells(), told("ranks", runs)
    means, intervals = column(rows, "Mean score"), column(rows, "95 % interval")
    assert len(means) == len(found["methods"]) == 4
    for each in found["methods"]:
        name = TITLES[each["method"]]
        same(means[name], each["mean"]["estimate"], 1)
        low, high = ends(intervals[name])
        same(low, each["mean"]["low"], 1)
        same(high, each["mean"]["high"], 1)
    tab.check()


def test_any_part_of_the_datasets_is_that_of_ranks(runs, watch, page, tmp_path):
    # The command line is given a folder with these datasets alone.
    whole = tmp_path / "runs"
    shutil.copytree(runs, whole)
    for folder in [each for each in whole.glob("*/*/*") if each.name not in ("cb", "svamp")]:
        shutil.rmtree(folder)
    tab = watch(page)
    tab.go("#/leaderboard?dataset=cb,svamp")
    means, intervals = (column(tab.cells(), head) for head in ("Mean score", "95 % interval"))
    for each in told("ranks", whole)["methods"]:
        name = TITLES[each["method"]]
        same(means[name], each["mean"]["estimate"], 1)
        low, high = ends(intervals[name])
        same(low, each["mean"]["low"], 1)
        same(high, each["mean"]["high"], 1)


@pytest.mark.parametrize(
    ("options", "address"),
    [
        ((), ""),
        (("--exponents", "2,1,0.5"), "?b.trainable_params=2&b.flops=1&b.memory_bytes=0.5"),
        (("--references", "1e7,0.01,8"), "?c.trainable_params=1e7&c.flops=1e10&c.memory_bytes=8e9"),
    ],
)
def test_pscp_is_that_of_pscp(page, runs, watch, options, address):
    tab = watch(page)
    tab.go(f"#/pscp{address}")
    rows, found = tab.cells(), told("pscp", runs, *options)
    scores, intervals, wins = (column(rows, head) for head in ("PSCP", "95 % interval", "Wins"))
    assert len(scores) == len(found["methods"]) == 3
    for each in found["methods"]:
        name = TITLES[each["method"]]
        same(scores[name], each["pscp"]["estimate"], 2)
        low, high = intervals[name].split(" to ")
        same(low, each["pscp"]["low"], 2)
        same(high, each["pscp"]["high"], 2)
        share = 100 * each["wins"]
        same(
            wins[name].replace("<1", "0.5").replace(">99", "99.5"),
            share,
            0 if 1 <= share <= 99 or share in (0, 100) else -1,
        )
    tab.check()


def test_the_papers_table_is_that_of_pscp_paper(page, watch):
    tab = watch(page)
    tab.go("#/pscp?table=paper")
    scores = column(tab.cells(), "PSCP")
    found = told("pscp", "paper")["methods"]
    assert len(scores) == len(found) == 6
    assert sorted(float(text) for text in scores.values()) == pytest.approx(
        sorted(each["pscp"]["estimate"] for each in found), abs=0.0051
    )


def test_the_heat_map_is_that_of_results(page, runs, watch):
    tab = watch(page)
    tab.go("#/heatmap")
    rows = tab.cells()
    heads = rows[0][1:]
    code, out, err = call("results", runs, "--format", "json", "--columns", "method,dataset,score")
    assert code == 0, err
    scores = {}
    for each in json.loads(out):
        scores.setdefault((each["dataset"], TITLES[each["method"]]), []).append(each["score"])
    seen = 0
    for row in rows[1:]:
        for method, text in zip(heads, row[1:], strict=False):
            if (row[0], method) in scores:
                values = scores[row[0], method]
                same(text, sum(values) / len(values), 1)
                seen += 1
    assert seen == len(DATASETS) * 4
    tab.check()


def test_the_server_shows_the_same(page, runs, watch):
    from_folder = watch(page).cells()
    with serving([runs]) as address:
        tab = watch(address)
        assert tab.cells() == from_folder
        tab.check()
