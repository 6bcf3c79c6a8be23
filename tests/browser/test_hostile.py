"""Texts of models, names and notes are shown and never run: every payload in every place, every view visited."""

import csv
import json
import re
from urllib.parse import quote

import pytest

import peftbench.disk
from peftbench.datasets import catalog
from peftbench.site.build import build
from tests.browser.conftest import serving
from tests.browser.hostile import DATASET, fill
from tests.browser.payloads import PAYLOADS


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            peftbench.disk, "sync", lambda _path: None
        )  # so many files, and none has to outlive the test
        patch.setattr(catalog._entries, "_values", dict(catalog._entries._loaded()))  # what is added goes again
        yield fill(tmp_path_factory.mktemp("hostile") / "runs")


@pytest.fixture(scope="module")
def site(runs, tmp_path_factory):
    page = tmp_path_factory.mktemp("site") / "page"
    build(page, [runs], title="".join(PAYLOADS[:12]), flops=lambda _record: None)
    return page


def index_of(page):
    text = (page / "data" / "index.js").read_text("ascii")
    return json.loads(re.fullmatch(r".*JSON\.parse\('(.*)'\)\);\n", text, re.DOTALL)[1].replace("\\\\", "\\"))


def routes(index):
    """Every view, every method, dataset and run, and every group."""
    columns = index["records"]["columns"]
    keys = columns["key"]["values"]
    failed = [key for key, code in zip(keys, columns["failure"]["codes"], strict=True) if code >= 0]
    models = columns["model"]["values"]
    for view in ("leaderboard", "pareto", "pscp", "heatmap", "runs", "paper", "errata", "live", "nothing"):
        yield f"#/{view}"
        yield f"#/{view}?model=models%2Fsmall"
    for page in range(1, 8):
        yield f"#/runs?runs.page={page}"
    for model in models:
        yield f"#/leaderboard?model={quote(model, safe='')}"
    for view in ("leaderboard", "pareto", "heatmap", "runs"):
        yield f"#/{view}?source=lm-eval"
    for method in index["methods"]:
        yield f"#/method/{quote(method, safe='')}"
    for dataset in (DATASET, "rte", "cb"):
        yield f"#/dataset/{dataset}"
    for key in [*failed, *keys[:: max(1, len(keys) // 120)]]:
        yield f"#/run/{key}"
    long = [key for key, rows in zip(keys, columns["test_rows"], strict=True) if (rows or 0) > 100]
    for key in long:
        for page in range(1, 9):
            yield f"#/run/{key}?answers.page={page}"
    yield f"#/diff/{long[0]}/{long[-1]}"
    yield f"#/diff/{keys[0]}/{keys[1]}"
    for payload in PAYLOADS:
        # What stands in an address is hostile too.
        yield f"#/{quote(payload, safe='')}"
        yield f"#/leaderboard?model={quote(payload, safe='')}&dataset={quote(payload, safe='')}"


def test_there_are_enough_of_them():
    assert len(set(PAYLOADS)) >= 150


def test_what_would_run_is_heard(watch, tmp_path):
    """The same texts on a page that believes them: the tests above would see it."""
    texts = json.dumps([each for each in PAYLOADS if "<" in each and "refresh" not in each]).replace(
        "<", "\\u003c"
    )
    (tmp_path / "index.html").write_text(
        "<!doctype html><meta charset=utf-8><main>x</main><script>"
        f"for (const text of {texts}) {{ const part = document.createElement('div'); document.body.append(part); "
        "part.innerHTML = text; }</script>"
    )
    tab = watch(f"file://{tmp_path}/index.html")
    tab.tab.wait_for_timeout(500)
    assert tab.tab.evaluate("window.pwned") is not None
    assert tab.dialogs
    assert tab.foreign
    with pytest.raises(AssertionError):
        tab.check()


def test_the_content_policy_is_heard(site, watch):
    """What gets into the built page in spite of all is refused by its policy, and the refusal is heard."""
    tab = watch(f"file://{site}/index.html")
    for code in (
        "document.body.innerHTML = '<img src=x onerror=alert(1)>'",
        "document.body.append(Object.assign(document.createElement('img'), { src: 'https://evil.example/x.png' }))",
        "document.body.append(Object.assign(document.createElement('iframe'), { src: 'https://evil.example/' }))",
        "setTimeout('window.pwned = 1', 0)",
        "void fetch('https://evil.example/').catch(() => {})",
    ):
        before = len(tab.errors)
        tab.tab.evaluate(f"() => {{ try {{ {code} }} catch {{}} }}")
        tab.tab.wait_for_timeout(100)
        assert len(tab.errors) > before, code
    assert tab.tab.evaluate("window.pwned") is None
    assert not tab.dialogs


def test_tables_for_a_spreadsheet_hold_no_formulas(site, watch, tmp_path):
    tab = watch(f"file://{site}/index.html")
    tab.go("#/runs")
    with tab.tab.expect_download() as download:
        tab.tab.get_by_role("button", name="CSV").first.click()
    file = tmp_path / "runs.csv"
    download.value.save_as(file)
    rows = list(csv.reader(file.read_text("utf-8").splitlines(keepends=True)))
    assert len(rows) > len(PAYLOADS)
    for cell in (cell for row in rows for cell in row):
        if cell[:1] in tuple("=+-@\t\r"):
            float(cell)


def test_nothing_runs_from_a_folder(site, watch):
    index = index_of(site)
    assert len(index["methods"]) > len(PAYLOADS)
    assert len(index["groups"]) > 120
    tab = watch(f"file://{site}/index.html")
    seen, visited = "", 0
    for route in routes(index):
        tab.go(route)
        visited += 1
        if visited % 25 == 0:
            tab.check()
            seen += tab.text()
    tab.check()
    assert visited > 700
    # What was to be seen was there: as text, not as nothing.
    assert "onerror=window.pwned" in seen
    assert "could not be drawn" not in seen
    assert tab.tab.evaluate("Object.prototype.pwned") is None


def test_invisible_characters_are_seen(site, watch):
    tab = watch(f"file://{site}/index.html")
    tab.go("#/runs")
    everything = tab.text()
    for page in range(2, 8):
        tab.go(f"#/runs?runs.page={page}")
        everything += tab.text()
    hidden = re.findall(r"[\u202a-\u202e\u2066-\u2069\u200b-\u200f\u061c\ufeff\x00-\x08\x0e-\x1f]", everything)
    assert hidden == []
    assert "U+202E" in everything
    tab.check()


def test_nothing_runs_from_the_server(runs, watch):
    with serving([runs], title=PAYLOADS[0], flops=lambda _record: None) as address:
        tab = watch(address)
        for route in (
            "leaderboard",
            "pareto",
            "pscp",
            "heatmap",
            "runs",
            "errata",
            "live",
            f"dataset/{DATASET}",
            "method/ia3",
        ):
            tab.go(f"#/{route}")
        key = tab.tab.evaluate("document.querySelector('a[href*=\"/run/\"]')?.getAttribute('href') ?? ''")
        if key:
            tab.go(key)
        tab.check()
        assert tab.requests > 5
