"""Downloads from a hub on the loopback interface: the same rows as elsewhere, pinned, locked and verified."""

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import constants

from peftbench.datasets import load_dataset
from peftbench.datasets.files import read_rows
from peftbench.datasets.hub import fetch
from peftbench.datasets.lock import RepositoryLock, lock_path, read_lock, update_lock
from peftbench.errors import DataError
from tests.hub_server import HubServer
from tests.unit.datasets.cola_on_hub import (
    COMMIT,
    LATER,
    ROWS,
    TEST,
    TRAIN,
    as_parquet,
    cola,
    forget_downloads,
    go_offline,
    invented,
)

REPOSITORY = Path(__file__).resolve().parents[3]


# --------------------------------------------------------------------------------------------- the good way


def test_the_hub_gives_what_python_gives_and_says_where_from(hub: HubServer) -> None:
    data = load_dataset(cola())
    given = load_dataset(cola(), rows=ROWS)
    assert data.train == given.train
    assert data.facts.splits == given.facts.splits
    assert (data.facts.source, data.facts.revision) == ("hub", COMMIT)
    assert set(data.facts.files) == {TRAIN, TEST}


def test_a_second_load_transfers_nothing(hub: HubServer) -> None:
    load_dataset(cola())
    before = hub.transfers()
    assert before == 2
    load_dataset(cola())
    assert hub.transfers() == before


def test_only_the_files_of_the_wanted_split_are_fetched(hub: HubServer) -> None:
    load_dataset(cola(), splits=["test"])
    assert (hub.transfers(TRAIN), hub.transfers(TEST)) == (0, 1)


def test_several_files_are_read_in_their_order_and_patterns_are_looked_up_once(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = hub.repositories["nyu-mll/glue"].commits[COMMIT]
    files["cola/train-00001.parquet"] = as_parquet(ROWS["train"][250:])
    files["cola/train-00000.parquet"] = as_parquet(ROWS["train"][:250])
    files["other/train-00000.parquet"] = b"not ours"
    spec = cola(files={"train": ("cola/train-0000?.parquet",), "validation": ("cola/validation-*.parquet",)})
    assert load_dataset(spec).facts.splits == load_dataset(spec, rows=ROWS).facts.splits
    go_offline(monkeypatch)
    assert len(load_dataset(spec).test) == 100


def test_json_lines_are_read_under_a_name_that_ends_otherwise(hub: HubServer) -> None:
    lines = {role: "".join(json.dumps(row) + "\n" for row in rows).encode() for role, rows in ROWS.items()}
    files = {"data/a.json": lines["train"], "data/b.json": lines["test"]}
    hub.repositories["nyu-mll/glue"].commits[COMMIT] = files
    named = {"train": ("data/a.json",), "validation": ("data/b.json",)}
    spec = cola(files=named, format="json lines")
    assert load_dataset(spec).facts.splits == load_dataset(spec, rows=ROWS).facts.splits
    with pytest.raises(DataError, match=r"data/a\.json ends in neither"):
        load_dataset(cola(files=named))


def test_columns_that_are_not_needed_are_not_read(hub: HubServer) -> None:
    [file] = fetch(cola().source, "train")[1]
    for columns in ({"sentence", "label"}, {"filler", "absent"}):
        [first, *_] = read_rows(file.path, file.name, columns)
        assert set(first) == columns - {"absent"}


def test_nothing_is_sent_but_questions(hub: HubServer) -> None:
    load_dataset(cola(files={"train": ("cola/train-*.parquet",), "validation": (TEST,)}))
    assert {request.partition(" ")[0] for request in hub.requests} <= {"GET", "HEAD"}


def test_the_environment_chooses_hub_and_caches(hub: HubServer, tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "PEFTBENCH_CACHE": str(tmp_path / "locks"),
        "HF_TOKEN": "a-token",
    }
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.unit.datasets.test_hub import cola, load_dataset\n"
        "print(len(load_dataset(cola()).test))"
    )
    command = [sys.executable, "-c", code, str(REPOSITORY)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "100", done.stderr
    assert list((tmp_path / "home").rglob("*.parquet"))
    assert (tmp_path / "locks" / "locks" / "nyu-mll--glue.json").is_file()


# ------------------------------------------------------------------------------------------- lock and hashes


def test_the_first_download_is_locked_and_changed_content_is_refused(hub: HubServer) -> None:
    first = load_dataset(cola()).facts.files
    assert read_lock("nyu-mll/glue").sha256 == {COMMIT: first}
    forget_downloads()
    changed = as_parquet(invented("test", 99))
    hub.repositories["nyu-mll/glue"].commits[COMMIT][TEST] = changed
    with pytest.raises(
        DataError, match=rf"{TEST} .* has SHA-256 .*, expected {first[TEST]} from the first download"
    ):
        load_dataset(cola(), allow_partial=True)
    assert read_lock("nyu-mll/glue").sha256 == {COMMIT: first}


def test_a_tampered_file_in_the_cache_is_refused_and_named(hub: HubServer) -> None:
    [file] = fetch(cola().source, "validation")[1]
    file.path.resolve().write_bytes(b"tampered")
    with pytest.raises(DataError, match=f"{TEST} of nyu-mll/glue has SHA-256 .* remove {file.path.resolve()}"):
        load_dataset(cola())
    file.path.resolve().unlink()
    file.path.unlink()
    assert len(load_dataset(cola()).test) == 100


def test_a_hash_of_the_catalogue_is_held_against_the_file(hub: HubServer) -> None:
    [file] = fetch(cola().source, "validation")[1]
    assert len(load_dataset(cola(sha256={TEST: file.sha256}), splits=["test"]).test) == 100
    with pytest.raises(DataError, match=rf"has SHA-256 {file.sha256}, expected {'0' * 64} from the catalogue"):
        load_dataset(cola(sha256={TEST: "0" * 64}), splits=["test"])


def test_without_a_pin_the_first_commit_is_kept_when_the_branch_moves(hub: HubServer) -> None:
    spec = cola(revision=None, attested="not attested")
    assert load_dataset(spec).facts.revision == COMMIT
    glue = hub.repositories["nyu-mll/glue"]
    glue.commits[LATER] = {TRAIN: as_parquet(ROWS["train"][:50]), TEST: as_parquet(ROWS["test"][:50])}
    glue.main = LATER
    forget_downloads()
    data = load_dataset(spec)
    assert (data.facts.revision, len(data.test)) == (COMMIT, 100)


def test_what_a_lock_holds_is_never_replaced() -> None:
    lock = (
        RepositoryLock()
        .with_revision(COMMIT)
        .with_sha256(COMMIT, TEST, "first")
        .with_listing(COMMIT, "*", (TEST,))
    )
    again = lock.with_revision(LATER).with_sha256(COMMIT, TEST, "second").with_listing(COMMIT, "*", ())
    assert again == lock


def test_a_damaged_lock_file_is_named(hub: HubServer) -> None:
    load_dataset(cola())
    lock_path("nyu-mll/glue").write_text("{")
    with pytest.raises(
        DataError, match=r"lock file .*nyu-mll--glue\.json of nyu-mll/glue cannot be read; remove it"
    ):
        load_dataset(cola())


def test_locks_written_at_the_same_time_are_all_kept(hub: HubServer) -> None:
    def add(number: int) -> None:
        update_lock("nyu-mll/glue", lambda lock: lock.with_sha256(COMMIT, f"file {number}", "0" * 64))

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_lock("nyu-mll/glue").sha256[COMMIT]) == 12
    assert not list(lock_path("nyu-mll/glue").parent.glob("*.part"))


def test_a_lock_that_cannot_be_written_is_an_error_in_words(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    occupied = Path(constants.HF_HUB_CACHE).with_name("occupied")
    occupied.write_text("a file where a folder is needed")
    monkeypatch.setenv("PEFTBENCH_CACHE", str(occupied))
    with pytest.raises(DataError, match=r"lock file .* cannot be (read|written)"):
        load_dataset(cola())
