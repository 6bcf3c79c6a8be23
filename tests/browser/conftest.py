"""A real Chromium that opens the page, and hears whatever the page should not do."""

import os
import shutil
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest

from peftbench.site import build as building
from peftbench.site.guard import Guard
from peftbench.site.serve import Pages, application, hosts_of, server_of

SETTLED = """async () => {
    const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done, 0)));
    const main = () => document.querySelector("main")?.textContent ?? "";
    for (let turn = 0; turn < 200; turn++) {
        const before = main();
        await frame();
        await frame();
        if (main() === before && main() !== "" && !/Reading|\\u2026$/.test(main())) return;
    }
}"""
"""Until the view stands still and waits for nothing more."""


def lacking(reason):
    """Without a browser there is nothing to see; continuous integration must have one."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}; `make browser` and `make web` bring what these tests need")
    pytest.skip(f"{reason}: `make browser` and `make web` bring what these tests need")


@pytest.fixture(scope="session")
def chromium():
    """Debian's Chromium, driven by Playwright."""
    if not (building.ASSETS / "index.html").is_file():
        lacking("the page is not built here")
    path = shutil.which("chromium")
    if path is None:
        lacking("no chromium is here")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        root = ["--no-sandbox"] if os.getuid() == 0 else []
        browser = playwright.chromium.launch(executable_path=path, args=[*root, "--disable-dev-shm-usage"])
        yield browser
        browser.close()


@dataclass
class Watched:
    """A tab, and what happened in it that must not."""

    tab: object
    own: str
    """Where all requests must go: a folder's `file://` or the server's address."""
    dialogs: list = field(default_factory=list)
    errors: list = field(default_factory=list)
    """Exceptions that nobody caught, and violations of the content policy."""
    foreign: list = field(default_factory=list)
    """Requests to elsewhere."""
    opened: list = field(default_factory=list)
    """Windows and downloads that nobody asked for."""
    requests: int = 0

    def go(self, hash_):
        """Show a view and wait until it stands still."""
        self.tab.evaluate("(hash) => { location.hash = hash; }", hash_)
        self.tab.evaluate(SETTLED)

    def text(self):
        """What the view says, what is folded away too."""
        return self.tab.evaluate("document.querySelector('main').textContent")

    def until(self, text, seconds=20):
        """Wait until the view says something; the content policy forbids to wait by a script in a text."""
        end = time.monotonic() + seconds
        while text not in self.text():
            assert time.monotonic() < end, f"{text!r} never came"
            self.tab.wait_for_timeout(100)

    def check(self):
        """Nothing ran, nothing left the page, nothing broke."""
        assert self.tab.evaluate("window.pwned") is None
        assert (self.dialogs, self.errors, self.foreign, self.opened) == ([], [], [], [])

    def cells(self, selector="main table"):
        """The texts of a table, row by row."""
        return self.tab.evaluate(
            "(selector) => [...document.querySelector(selector).rows].map((row) => "
            "[...row.cells].map((cell) => cell.innerText.trim()))",
            selector,
        )


@pytest.fixture
def watch(chromium):
    """Open an address in a tab of its own and hear everything."""
    contexts = []

    def opened(address, **options):
        context = chromium.new_context(**options)
        contexts.append(context)
        tab = context.new_page()
        own = address.rpartition("/")[0] + "/"
        watched = Watched(tab, own)

        def requested(request):
            watched.requests += 1
            inside = request.url.startswith(own) or urlsplit(request.url).scheme in ("data", "blob")
            if not inside:
                watched.foreign.append(request.url)

        def said(message):
            if (
                message.type == "error"
                and "ERR_FILE_NOT_FOUND" not in message.text
                and " 404 " not in message.text
            ):
                watched.errors.append(message.text)

        tab.on("request", requested)
        tab.on("console", said)
        tab.on("pageerror", lambda error: watched.errors.append(str(error)))
        tab.on("dialog", lambda dialog: (watched.dialogs.append(dialog.message), dialog.dismiss()))
        tab.on("popup", lambda popup: watched.opened.append(popup.url))
        tab.on("download", lambda download: watched.opened.append(download.url))
        tab.goto(address)
        tab.evaluate(SETTLED)
        return watched

    yield opened
    for context in contexts:
        context.close()


@contextmanager
def serving(folders, **options):
    """The server in a thread of its own; gives its address."""
    pages = Pages(folders, **options)
    pages.refresh()
    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    server = server_of(Guard(application(pages), hosts_of("127.0.0.1", port)))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{port}/"
    finally:
        server.should_exit = True
        thread.join(timeout=20)
        listening.close()
