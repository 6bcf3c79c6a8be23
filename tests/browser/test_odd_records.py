"""Records that are few, many, old, new or damaged: the page opens, says what is wrong and breaks nowhere."""

import shutil
from dataclasses import replace

import pytest

from peftbench.schema import MethodChoice
from peftbench.site import build as building
from peftbench.site.build import build
from peftbench.site.content import content_of, index
from peftbench.site.payload import statement
from peftbench.site.shelf import Shelf
from tests.browser.conftest import serving
from tests.predicted import add, fill
from tests.synthetic import edit

VIEWS = (
    "leaderboard",
    "pareto",
    "pscp",
    "heatmap",
    "runs",
    "paper",
    "errata",
    "method/lora",
    "dataset/rte",
    "run/nothing",
    "diff/a/b",
)


def no_flops(_record):
    return None


@pytest.fixture
def opened(watch, tmp_path):
    """The page of a folder of runs, all views seen; gives what each says."""

    def open_page(runs, views=VIEWS):
        build(tmp_path / "page", [runs], flops=no_flops)
        tab = watch(f"file://{tmp_path}/page/index.html")
        said = {}
        for view in views:
            tab.go(f"#/{view}")
            said[view] = tab.text()
            assert said[view], view
            assert "could not be drawn" not in said[view], view
        tab.check()
        return said

    return open_page


def test_no_records(opened, tmp_path):
    (tmp_path / "runs").mkdir()
    assert "no" in opened(tmp_path / "runs")["leaderboard"].lower()


def test_one_seed_says_that_another_could_differ(opened, tmp_path):
    said = opened(fill(tmp_path / "runs", ("rte", "cb"), ("ia3", "lora"), (1,)))
    assert "1 seed" in said["leaderboard"] or "One seed" in said["leaderboard"]


def test_one_dataset_one_method_one_row(opened, tmp_path):
    add(tmp_path / "runs", "lora", "rte", 1, 0.9)
    opened(tmp_path / "runs")
    add(tmp_path / "one", "lora", "svamp", 1, 0.9, rows=1)
    add(tmp_path / "one", "ia3", "svamp", 1, 0.9, rows=1)
    assert "nothing to resample" in opened(tmp_path / "one")["leaderboard"]


def test_damaged_records_are_named(opened, tmp_path):
    runs = fill(tmp_path / "runs", ("rte", "cb"), ("ia3", "lora"), (1, 2))
    newer, half = (next((runs / "small" / method / "rte").glob("seed1-*")) for method in ("ia3", "lora"))
    edit(newer / "train.json", record_version=99)
    [file] = half.glob("eval-*/predictions.parquet")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    said = opened(runs)
    assert "newer version" in said["leaderboard"]
    assert "predictions.parquet" in said["leaderboard"]


def test_long_and_rightward_names(opened, tmp_path):
    long, rightwards = (
        "/".join(["m" * 99] * 5),
        "models/\u05d0\u05d1\u05d2\u05d3 \u0627\u0644\u0639\u0631\u0628\u064a\u0629",
    )
    for model in (long, rightwards):
        for method in ("ia3", "lora"):
            add(tmp_path / "runs", method, "rte", 1, 0.9, model=model, settings={"targets": "t" * 500})
    said = opened(tmp_path / "runs", (*VIEWS, "leaderboard?model=all"))
    assert "\u05d0\u05d1\u05d2\u05d3" in said["runs"]


class ManyMethods(Shelf):
    """One run as if it were ten thousand, each under a setting of its own."""

    def read(self, look=None, observer=None):
        super().read(look, observer)
        [only] = self.entries
        self.entries = tuple(
            replace(
                only,
                key=f"run-{rank}",
                result=only.result.model_copy(update={"config": self.under(only.result.config, rank)}),
                row=only.row.model_copy(update={"settings": f'{{"rank": {rank}}}'}),
            )
            for rank in range(10_000)
        )
        return True

    @staticmethod
    def under(config, rank):
        return config.model_copy(update={"method": MethodChoice(name="lora", settings={"rank": rank})})


def test_ten_thousand_methods(watch, tmp_path):
    add(tmp_path / "runs", "lora", "cb", 1, 0.7, rows=12)
    shelf = ManyMethods([tmp_path / "runs"])
    shelf.read()
    found = content_of(shelf, "many", flops=no_flops)
    [group] = found.groups
    assert len(group.methods) == 10_000
    page = tmp_path / "page"
    shutil.copytree(building.ASSETS, page)
    (page / "data").mkdir()
    (page / "data" / "index.js").write_bytes(statement("index", index(found, live=False)))
    tab = watch(f"file://{page}/index.html")
    for view in ("leaderboard", "heatmap", "pareto", "pscp", "runs"):
        tab.go(f"#/{view}")
        assert "could not be drawn" not in tab.text(), view
    tab.check()


def test_the_page_follows_the_runs(watch, tmp_path, monkeypatch):
    monkeypatch.setattr("peftbench.site.serve.FRESH_SECONDS", 0.2)
    runs = fill(tmp_path / "runs", ("rte",), ("ia3",), (1, 2))
    with serving([runs], flops=no_flops) as address:
        tab = watch(address)
        assert "LoRA" not in tab.text()
        for seed in (1, 2):
            add(runs, "lora", "rte", seed, 0.9)
        tab.until("LoRA")
        tab.go("#/live")
        tab.check()
