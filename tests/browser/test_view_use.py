"""The page in use: addresses, back and forward, keyboard alone, themes, files to take away, live sliders."""

import csv
import xml.etree.ElementTree as ElementTree

import pytest

from peftbench.site.build import build
from tests.predicted import DATASETS, SKILL, add


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    runs = tmp_path_factory.mktemp("use") / "runs"
    for method in SKILL:
        for dataset in DATASETS:
            if (method, dataset) != ("ia3", "rte"):
                for seed in (1,) if method == "base" else (1, 2):
                    add(runs, method, dataset, seed, SKILL[method])
    folder = tmp_path_factory.mktemp("site") / "page"
    build(folder, [runs])
    return f"file://{folder}/index.html"


def says(tab, text):
    """Wait until the view says so."""
    tab.tab.locator("main").get_by_text(text).first.wait_for()


def row_of(tab, name):
    [row] = [row for row in tab.cells() if row[0] == name]
    return row


def test_a_link_is_a_view_and_back_goes_back(page, watch):
    tab = watch(page)
    tab.go("#/heatmap?dataset=cb,svamp&colour=base")
    assert len([row for row in tab.cells() if row[0] in DATASETS]) == 2
    tab.tab.get_by_role("link", name="LoRA").first.click()
    says(tab, "On a model")
    assert "dataset=cb,svamp" in tab.tab.url
    tab.tab.go_back()
    says(tab, "Every dataset with every method")
    tab.tab.go_forward()
    says(tab, "On a model")
    tab.check()


def test_a_mean_over_a_missing_cell_is_refused(page, watch):
    tab = watch(page)
    assert "refused" in row_of(tab, "IA3")[1]
    assert f"1 of {len(DATASETS)} missing" in tab.text()
    tab.tab.get_by_label("Take only datasets that all methods have").check()
    says(tab, "left out for all methods: rte")
    assert float(row_of(tab, "IA3")[1]) > 0
    tab.check()


def test_a_table_is_sorted_by_any_column(page, watch):
    tab = watch(page)
    tab.go("#/runs")
    for name, first, second in (
        ("Seed", "descending", "ascending"),
        ("Score", "descending", "ascending"),
        ("Dataset", "ascending", "descending"),
    ):
        head = tab.tab.get_by_role("columnheader", name=name)
        for order in (first, second):
            head.get_by_role("button").click()
            tab.tab.locator(f"th[aria-sort={order}]").filter(has_text=name).wait_for()
    names = [row[2] for row in tab.cells()[1:]]
    assert names == sorted(names, reverse=True)
    tab.check()


def test_the_keyboard_is_enough(page, watch):
    tab = watch(page)
    keyboard = tab.tab.keyboard
    keyboard.press("Tab")
    assert tab.tab.evaluate("document.activeElement.textContent.trim()") == "Skip to content"
    keyboard.press("Enter")
    assert tab.tab.evaluate("document.activeElement.id") == "main"
    # Everything that can be done has a place in the order, and one sees where one is.
    seen = set()
    for _ in range(60):
        keyboard.press("Tab")
        name, outline = tab.tab.evaluate(
            "[document.activeElement.tagName, getComputedStyle(document.activeElement).outlineStyle]"
        )
        seen.add(name)
        assert name == "BODY" or outline != "none", name
    assert {"SELECT", "SUMMARY", "BUTTON", "A", "INPUT"} <= seen
    tab.tab.locator("summary").filter(has_text="all").first.focus()
    keyboard.press("Enter")
    assert tab.tab.locator("details[open]").count() == 1
    keyboard.press("Escape")
    assert tab.tab.locator("details[open]").count() == 0
    tab.check()


def test_sliders_act_at_once_and_are_in_the_address(page, watch):
    tab = watch(page)
    tab.go("#/pscp?table=paper")
    assert tab.tab.locator(".answer").inner_text().startswith("LN")
    tab.tab.get_by_role("slider", name="importance").first.focus()
    tab.tab.keyboard.press("Home")
    says(tab, "LoRA has the highest PSCP")
    assert "b.trainable_params=0" in tab.tab.url
    tab.tab.get_by_role("button", name="As in the paper").click()
    says(tab, "LN Tuning has the highest PSCP")
    assert "trainable_params" not in tab.tab.url
    tab.check()


def test_light_and_dark(page, watch):
    ground = "getComputedStyle(document.body).backgroundColor"
    light, dark = (watch(page, color_scheme=each).tab.evaluate(ground) for each in ("light", "dark"))
    assert light != dark
    tab = watch(page, color_scheme="light")
    tab.tab.get_by_label("Colours").select_option("dark")
    tab.tab.locator("html[data-theme=dark]").wait_for()
    assert tab.tab.evaluate(ground) == dark
    named = watch(page, color_scheme="light")
    named.go("#/leaderboard?theme=dark")
    assert named.tab.evaluate(ground) == dark
    tab.check()


def test_tables_and_figures_can_be_taken_away(page, watch, tmp_path):
    tab = watch(page)
    tab.go("#/pareto")
    for name in ("CSV", "SVG", "PNG"):
        with tab.tab.expect_download() as download:
            tab.tab.get_by_role("button", name=f"as {name}").click()
        assert download.value.suggested_filename.endswith(f".{name.lower()}")
        download.value.save_as(tmp_path / f"file.{name}")
    rows = list(csv.reader((tmp_path / "file.CSV").read_text("utf-8-sig").splitlines()))
    assert len(rows) == len(tab.cells())
    drawing = ElementTree.parse(tmp_path / "file.SVG").getroot()
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert "LoRA" in "".join(drawing.itertext())
    picture = (tmp_path / "file.PNG").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n"
    assert len(picture) > 5000
    assert (tab.errors, tab.foreign) == ([], [])


def test_a_phone_scrolls_tables_and_breaks_no_words(page, watch):
    tab = watch(page, viewport={"width": 390, "height": 844})
    tab.go("#/paper")
    heights = tab.tab.evaluate("[...document.querySelectorAll('tbody th')].map((each) => each.clientHeight)")
    assert max(heights) < 70  # two lines: "Prompt Tuning", and not a letter a line
    assert tab.tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.check()


def test_names_in_the_figure_of_costs_do_not_overlap(page, watch):
    tab = watch(page)
    tab.go("#/pareto?cost=trainable_params")
    boxes = tab.tab.evaluate(
        """[...document.querySelectorAll('.drawing svg text')].filter((each) => /[A-Z][a-z]|IA3/.test(each.textContent))
        .map((each) => each.getBoundingClientRect()).map(({ left, right, top, bottom }) => [left, right, top, bottom])"""
    )
    assert len(boxes) >= 3
    for place, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[place + 1 :]:
            assert right <= other[0] or other[1] <= left or bottom <= other[2] + 4 or other[3] <= top + 4
