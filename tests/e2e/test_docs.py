"""The documentation: its commands run, what cannot run here has options that there are, and its site opens offline."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import peftbench
from peftbench import cli
from tests.browser.conftest import chromium  # noqa: F401
from tests.conftest import REPOSITORY
from tests.e2e.test_tiny import few

DOCS = REPOSITORY / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(\S*)[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(path, language):
    return [text for found, text in FENCE.findall(path.read_text("utf-8")) if found == language]


ELSEWHERE = {"from-peft-factory.md"}  # where what it prints is compared as well: tests/e2e/test_convert.py
RUN = [page for page in PAGES if blocks(DOCS / page, "sh") and page not in ELSEWHERE]
AFTER_RUNS = ("importing.md", "page.md", "pscp.md", "reports.md", "statistics.md")
"""Pages about runs that are there; the others begin with nothing."""
EXPECTED = {
    "own-metric.md": ["none is generated again"],
    "own-model.md": ["matches no module of this falcon model", "trainable_params"],
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Records that pages take for granted: three methods on two tasks with two seeds."""
    output = tmp_path_factory.mktemp("docs")
    for config in few(output, methods=("base", "ia3", "lora")):  # one by one, so that each knows its memory
        assert peftbench.run(config).status == "done"
    return output / "runs"


@pytest.mark.parametrize("page", RUN)
def test_the_commands_of_a_page_run(page, runs, tmp_path):
    """In their order, in a folder of their own, without a network."""
    if page in AFTER_RUNS:
        shutil.copytree(runs, tmp_path / "runs")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "COLUMNS": "200", "PEFTBENCH_DATA": ""}
    script = "\n".join(blocks(DOCS / page, "sh"))
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], cwd=tmp_path, env=environment,
                          capture_output=True, text=True, timeout=400)  # fmt: skip
    told = done.stdout + done.stderr
    assert done.returncode == 0, told[-3000:]
    for unexpected in ("Traceback", "should have foreseen"):
        assert unexpected not in told
    for expected in EXPECTED.get(page, ()):
        assert expected in told


def commands(path):
    """Lines of blocks that are not run: the commands of this package in them, as words."""
    for language, text in FENCE.findall(path.read_text("utf-8")):
        for line in text.replace("\\\n", " ").splitlines() if language != "sh" else ():
            if line.startswith("peftbench ") and not line.startswith("peftbench --debug"):
                yield shlex.split(line, comments=True)[1:]


NOT_RUN = [
    pytest.param(words, id=" ".join(words)[:60])
    for page in (REPOSITORY / "README.md", *(DOCS / page for page in PAGES))
    for words in commands(page)
]


@pytest.mark.parametrize("words", NOT_RUN)
def test_a_command_that_is_not_run_has_options_that_there_are(words):
    command = typer.main.get_command(cli.app)
    while hasattr(command, "commands"):
        command = command.commands[words[0]]
        words = words[1:]
    command.make_context(command.name, list(words))


def test_every_block_says_what_it_is():
    for page in PAGES:
        assert "" not in {language for language, _ in FENCE.findall((DOCS / page).read_text("utf-8"))}, page


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=REPOSITORY, capture_output=True, text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_the_site_has_every_page_and_every_command(site):
    for page in PAGES:
        assert (site / page).with_suffix(".html").is_file(), page
    text = (site / "reference/commands.html").read_text("utf-8")
    for name in ("peftbench run", "peftbench grid status", "peftbench import config", "peftbench site serve"):
        assert f">{name}<" in text, name


def test_the_site_names_no_script_style_or_picture_of_another_host(site):
    for page in site.rglob("*.html"):
        text = page.read_text("utf-8")
        assert not re.findall(
            r'<(?:script|link|img|iframe)[^>]+(?:src|href)="(?:https?:)?//(?!arxiv)[^"]*"', text
        ), page


def test_the_site_opens_from_the_disk_and_finds_words(site, chromium):  # noqa: F811
    page, asked, errors = chromium.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((site / "index.html").as_uri())
    page.locator(".md-search__input").click()
    page.keyboard.type("quantized")
    page.locator(".md-search-result__item").first.wait_for()
    assert "quantized.html" in page.locator(".md-search-result").inner_html()
    page.close()
    assert {url.split(":")[0] for url in asked} <= {"file", "data"}
    assert errors == []
