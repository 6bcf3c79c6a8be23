"""`peftbench site build` and `peftbench site serve` as commands."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from peftbench.site import build
from tests.e2e.test_cli import call, refused
from tests.predicted import fill


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return fill(tmp_path_factory.mktemp("site") / "runs", ("rte", "cb"), ("ia3", "lora"), (1, 2))


@pytest.fixture(scope="module")
def assets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("assets")
    (folder / "index.html").write_text("<!doctype html><title>page</title>")
    return folder


@pytest.fixture(autouse=True)
def placeholder(assets, monkeypatch):
    monkeypatch.setattr(build, "ASSETS", assets)


def test_build_says_what_it_made(runs, tmp_path):
    code, out, err = call("site", "build", tmp_path / "page", "--runs", runs, "--title", "Mine")
    assert code == 0, err
    assert out.startswith("8 runs in 1 group: ")
    assert '"title":"Mine"' in (tmp_path / "page" / "data" / "index.js").read_text()


def test_build_refuses(runs, tmp_path):
    refused("does not exist", "site", "build", tmp_path / "page", "--runs", tmp_path / "nothing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("dear")
    refused("is not a page", "site", "build", tmp_path / "mine", "--runs", runs)
    refused("is a file", "site", "build", tmp_path / "mine" / "thesis.tex", "--runs", runs)
    refused("--token auto", "site", "serve", "--runs", runs, "--host", "0.0.0.0")
    refused("does not exist", "site", "serve", "--runs", tmp_path / "nothing")


@contextmanager
def served(runs, assets, *arguments):
    """A server of its own process: its first line, and the process."""
    code = (
        f"from pathlib import Path; from peftbench.site import build; build.ASSETS = Path({str(assets)!r})\n"
        "from peftbench.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "site", "serve", "--runs", str(runs), "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip(), process
    finally:
        process.kill()
        process.communicate()


def got(port, path="/", method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
    answer = connection.getresponse()
    return answer, answer.read()


def test_serve_answers_its_own_page_and_ends_with_ctrl_c(runs, assets):
    with served(runs, assets) as (line, process):
        port = int(line.removesuffix("/").rpartition(":")[2])
        assert line == f"http://127.0.0.1:{port}/"
        answer, body = got(port)
        assert (answer.status, b"page" in body) == (200, True)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'")
        assert answer.headers["server"] is None
        assert answer.headers["access-control-allow-origin"] is None
        assert b'"count":8' in got(port, "/data/index.js?7")[1]
        assert got(port, "/data/live.js")[0].status == 200
        assert got(port, "/data/run/../index.js")[0].status == 404
        assert got(port, Host="evil.example")[0].status == 403
        assert got(port, Origin="http://evil.example")[0].status == 403
        assert got(port, method="POST")[0].status == 405
        # Not on any other address of this machine.
        with pytest.raises(OSError, match="refused|unreachable|timed out"):
            socket.create_connection(("127.0.0.2", port), timeout=5).close()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert "Traceback" not in process.stderr.read()


def test_raw_bytes_and_slow_requests(runs, assets, monkeypatch):
    with served(runs, assets) as (line, process):
        port = int(line.removesuffix("/").rpartition(":")[2])

        def raw(data, seconds=30):
            with socket.create_connection(("127.0.0.1", port), timeout=seconds) as connection:
                connection.sendall(data)
                found = b""
                while part := connection.recv(65536):
                    found += part
                return found

        host = f"Host: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode()
        assert b" 400 " in raw(b"GET / HTTP/1.1\r\n" + b"A: " + b"a" * 40_000 + b"\r\n\r\n")
        assert b" 400 " in raw(b"\x00\x1b[2J\r\n\r\n")
        for path in (b"/../../etc/passwd", b"/%2e%2e/%2e%2e/etc/passwd", b"/..%5c..%5cetc/passwd", b"/data/%00.js",
                     b"/data/..%2f..%2f..%2fetc%2fpasswd.js", b"//etc/passwd", b"/%ff%fe", b"/.peftbench-page.json"):  # fmt: skip
            answer = raw(b"GET " + path + b" HTTP/1.1\r\n" + host)
            assert b" 404 " in answer.split(b"\r\n")[0], path
            assert b"root:" not in answer
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=40) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            assert connection.recv(1000) == b""
        assert time.monotonic() - begun < 20
        assert got(port)[0].status == 200
        process.terminate()
        _, errors = process.communicate(timeout=20)
        assert all(part.isprintable() for part in errors.splitlines())


def test_beyond_loopback_everyone_needs_the_token(runs, assets):
    with served(runs, assets, "--host", "0.0.0.0", "--token", "auto") as (line, process):
        address, _, token = line.partition("/?token=")
        port = int(address.rpartition(":")[2])
        assert len(token) >= 32
        own = {"Host": f"127.0.0.1:{port}"}
        assert got(port, **own)[0].status == 401
        assert got(port, "/data/index.js", **own)[0].status == 401
        answer, _ = got(port, f"/?token={token}", **own)
        assert (answer.status, answer.headers["location"]) == (303, "/")
        cookie = answer.headers["set-cookie"].partition(";")[0]
        assert got(port, "/data/index.js", Cookie=cookie, **own)[0].status == 200
        assert got(port, "/data/index.js", Cookie=cookie, Host="evil.example")[0].status == 403
        process.terminate()
        out, errors = process.communicate(timeout=20)
        assert token not in out + errors


def test_help_and_the_page_load_no_torch(runs, tmp_path):
    code = (
        "import sys, json\nfrom pathlib import Path\nfrom peftbench.site import build\n"
        f"build.ASSETS = Path({str(build.ASSETS)!r})\nfrom peftbench.cli import app\n"
        f"try:\n    app(['site', 'build', {str(tmp_path / 'page')!r}, '--runs', {str(runs)!r}])\n"
        "except SystemExit as end:\n    assert not end.code\n"
        "print(json.dumps([n for n in ('torch', 'transformers', 'peft') if n in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert json.loads(done.stdout.splitlines()[-1]) == []
