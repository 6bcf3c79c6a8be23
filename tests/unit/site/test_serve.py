"""The server: the same data as the folder, from the records as they are, and nothing of the disk."""

import itertools
import json
import os
import shutil
import socket
import time
from urllib.parse import unquote

import pytest

from peftbench.errors import PeftBenchError
from peftbench.gridstate import GridState, WorkerNote
from peftbench.records import CurvePoint
from peftbench.site import serve as module
from peftbench.site.build import build
from peftbench.site.guard import Guard
from peftbench.site.serve import Pages, application, hosts_of
from peftbench.store import RunFolder
from tests.asgi import asked
from tests.predicted import add
from tests.synthetic import config_of
from tests.unit.site.test_build import no_flops, read

OWN = [("host", "127.0.0.1:8787")]


@pytest.fixture
def folder(runs, tmp_path):
    shutil.copytree(runs, tmp_path / "runs")
    return tmp_path / "runs"


@pytest.fixture
def pages(folder, monkeypatch):
    monkeypatch.setattr(module, "FRESH_SECONDS", -1.0)
    return Pages([folder], flops=no_flops)


@pytest.fixture
def app(pages):
    return Guard(application(pages), hosts_of("127.0.0.1", 8787))


def value(app, name):
    status, headers, body = asked(app, path=f"/data/{name}.js", headers=OWN)
    assert status == 200, name
    assert headers["content-type"] == "text/javascript; charset=utf-8"
    text = body.decode("ascii")
    return json.loads(text[text.index("JSON.parse('") + 12 : -5].replace("\\\\", "\\"))


def test_the_same_addresses_and_data_as_the_folder(app, folder, tmp_path):
    build(tmp_path / "page", [folder], flops=no_flops)
    count = 0
    for file in sorted((tmp_path / "page").rglob("*")):
        if file.is_dir() or file.name.startswith("."):
            continue
        path = "/" + file.relative_to(tmp_path / "page").as_posix()
        status, _, body = asked(app, path=path, headers=OWN)
        assert status == 200, path
        if file.name != "index.js":
            assert body == file.read_bytes(), path
        count += 1
    assert count > 100
    _, built = read(tmp_path / "page" / "data" / "index.js")
    served = value(app, "index")
    assert served.pop("live") is True
    assert built.pop("live") is False
    assert {**served, "made_at": 0} == {**built, "made_at": 0}
    assert asked(app, path="/", headers=OWN)[2] == (tmp_path / "page" / "index.html").read_bytes()
    head = asked(app, "HEAD", "/data/index.js", headers=OWN)
    assert (head[0], head[2]) == (200, b"")


def test_new_records_are_seen_and_old_ones_not_read_again(app, pages, folder, monkeypatch):
    before = value(app, "live")["changed"]
    assert value(app, "index")["records"]["count"] == 35
    assert value(app, "live")["changed"] == before
    known = {id(entry) for entry in pages.shelf.entries}
    add(folder, "lora", "rte", 3, 0.9)
    index = value(app, "index")
    assert index["records"]["count"] == 36
    assert value(app, "live")["changed"] == before + 1
    assert len(known & {id(entry) for entry in pages.shelf.entries}) == 35
    assert index["groups"][0]["cells"]["rte"]["ia3"]["missing"] == ["seed 3"]
    shutil.rmtree(folder)
    assert value(app, "index")["records"]["count"] == 0


def test_runs_in_progress_and_their_curves(app, folder):
    state = GridState(folder)
    state.open("nightly")
    config = config_of(folder, "ia3", "sst2", 7)
    run = RunFolder.of(config, "small", "abc123")
    run.open("abc123", config)
    for step in (1, 2, 3):
        run.add_to_curve(
            CurvePoint(
                step=step,
                epoch=0.1,
                learning_rate=1e-4,
                train_loss=3.0 / step,
                validation_loss=None,
                validation_loss_of_batches=None,
                grad_norm=1.0,
                peak_memory_bytes=None,
                seconds=1.0,
            )
        )
    with (run.path / "curve.jsonl").open("a") as opened:
        opened.write('{"step": 4, "train_loss": \n[[[[\nnull\n{"step": "x"}\n')
    note = WorkerNote(
        worker="w0", host=socket.gethostname(), pid=os.getpid(), grid="nightly",
        cells=("ia3 on sst2, seed 7",), phase="training", done=3, total=20, loss=1.0, at=time.time(),
    )  # fmt: skip
    state.note(note)
    told = value(app, "live")
    assert told["grids"] == [
        {"name": "nightly", "total": None, "done": 35, "failed": 0, "running": 1, "waiting": None}
    ]
    [shown] = told["runs"]
    assert (shown["method"], shown["dataset"], shown["seed"], shown["step"], shown["steps"]) == (
        "ia3",
        "sst2",
        7,
        3,
        20,
    )
    assert shown["curve"] == [[1, 3.0], [2, 1.5], [3, 1.0]]


HEADS = ("", "/", "/data/", "/data/run/", "/data/predictions/", "/assets/", "/data/index.js/", "/app.js/", "//")
CLIMBS = (
    "../",
    "..\\",
    "%2e%2e/",
    "..%2f",
    "..%5c",
    "%2e%2e%5c",
    "....//",
    "..;/",
    "%c0%ae%c0%ae/",
    "\x00../",
    "%00../",
)
TARGETS = ("etc/passwd", "secret.txt", "runs/secret.txt", "etc/passwd%00.js", "secret.txt\x00.js", "secret.js")


def test_no_file_of_the_disk_is_reached(app, folder, tmp_path):
    for place in (tmp_path, folder, folder.parent):
        (place / "secret.txt").write_text("swordfish")
        (place / "secret.js").write_text("swordfish")
    run = next(folder.rglob("train.json")).parent
    (run / "secret.js").symlink_to(tmp_path / "secret.js")
    count = 0
    for head, climb, times, target in itertools.product(HEADS, CLIMBS, (1, 3, 8), TARGETS):
        given = head + climb * times + target
        for path in {given, unquote(given, errors="surrogateescape"), unquote(unquote(given, errors="replace"))}:
            if not path.startswith("/"):
                path = f"/{path}"
            status, _, body = asked(app, path=path, headers=OWN)
            assert status in (403, 404, 307, 414), path
            assert b"swordfish" not in body, path
            assert b"root:" not in body, path
            count += 1
    assert count > 2000
    for path in (str(tmp_path / "secret.txt"), f"/{tmp_path}/secret.txt", f"file://{tmp_path}/secret.txt"):
        assert asked(app, path=path, headers=OWN)[0] == 404


@pytest.mark.parametrize(
    "name",
    ["run/nothing", "predictions/x/0", "predictions", "draws/g0", "method/nothing", "dataset/..", "index/0", "live/x", "run",
     "dataset/rte/0", "INDEX", "index.js", "", "run/" + "a" * 300],
)  # fmt: skip
def test_names_that_there_are_not(app, name):
    assert asked(app, path=f"/data/{name}.js", headers=OWN)[0] == 404


def test_pages_of_predictions_that_there_are_not(app, pages):
    key = pages.refresh().entries and next(iter(pages.refresh().entries))
    assert asked(app, path=f"/data/predictions/{key}/0.js", headers=OWN)[0] == 200
    for page in ("1", "-1", "00", "0x0", "9999999", "1e1", "\u0660", " 0", ""):
        assert asked(app, path=f"/data/predictions/{key}/{page}.js", headers=OWN)[0] == 404


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"host": "0.0.0.0"}, "--token auto"),
        ({"host": "192.0.2.1"}, "--token auto"),
        ({"host": "::"}, "--token auto"),
        ({"host": "evil.example"}, "--token auto"),
        ({"host": "127.0.0.1.evil.example"}, "--token auto"),
        ({"host": "0.0.0.0", "token": ""}, "--token auto"),
        ({"host": "0.0.0.0", "token": "short"}, "too simple"),
        ({"token": "with a space in the middle of it"}, "too simple"),
        ({"host": "192.0.2.1", "token": "auto"}, "cannot be used"),
    ],
)
def test_what_is_not_served(folder, options, sentence):
    with pytest.raises(PeftBenchError, match=sentence) as error:
        module.serve([folder], **{"port": 0, **options}, tell=pytest.fail)
    assert "\n" not in str(error.value)


def test_a_port_that_is_taken(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(PeftBenchError, match=f"port {port} of 127.0.0.1 cannot be used .*--port"):
            module.serve([folder], port=port, tell=pytest.fail)
