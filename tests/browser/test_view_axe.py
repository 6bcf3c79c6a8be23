"""No serious finding of axe in any view, light and dark, on a wide and on a narrow window; nothing is too wide."""

from pathlib import Path

import pytest

from peftbench.site.build import build
from tests.browser.conftest import lacking
from tests.predicted import DATASETS, SKILL, add

AXE = Path(__file__).resolve().parents[2] / "web/node_modules/axe-core/axe.min.js"
VIEWS = ("leaderboard", "leaderboard?common=1", "pareto", "pscp", "pscp?table=paper", "heatmap", "runs", "paper",
         "errata", "live", "method/lora", "dataset/rte", "nothing")  # fmt: skip


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    runs = tmp_path_factory.mktemp("axe") / "runs"
    for method in SKILL:
        for dataset in DATASETS:
            for seed in (1, 2):
                # One run is missing, so that gaps are looked at too.
                if (method, dataset, seed) != ("ia3", "rte", 2) and (method != "base" or seed == 1):
                    add(runs, method, dataset, seed, SKILL[method])
    page = tmp_path_factory.mktemp("site") / "page"
    build(page, [runs])
    return page


@pytest.fixture(scope="module")
def axe():
    if not AXE.is_file():
        lacking("axe-core is not here")
    return AXE.read_text("utf-8")


@pytest.mark.parametrize(("theme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
def test_every_view_is_for_everyone(site, watch, axe, theme, width):
    tab = watch(f"file://{site}/index.html", color_scheme=theme, viewport={"width": width, "height": 900})
    tab.tab.evaluate(axe)
    keys = sorted(file.stem for file in (site / "data" / "run").iterdir())
    for view in (*VIEWS, f"run/{keys[0]}", f"diff/{keys[0]}/{keys[1]}"):
        tab.go(f"#/{view}")
        found = tab.tab.evaluate("axe.run(document, { preload: false })")
        serious = [
            (each["id"], [node["target"] for node in each["nodes"]])
            for each in found["violations"]
            if each["impact"] in ("serious", "critical")
        ]
        assert serious == [], view
        assert len(found["passes"]) > 10
        assert tab.tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), view
    tab.check()
