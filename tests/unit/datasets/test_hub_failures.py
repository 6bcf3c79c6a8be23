"""What goes wrong with a download is said in one sentence, and no broken file stays in use."""

import errno
import sys
from collections.abc import Callable

import huggingface_hub
import pytest

from peftbench.datasets import load_dataset
from peftbench.datasets.lock import read_lock
from peftbench.errors import DataError
from tests.hub_server import HubServer, Repository
from tests.unit.datasets.cola_on_hub import (
    COMMIT,
    LATER,
    TEST,
    TRAIN,
    cola,
    go_offline,
    use_endpoint,
    without_waiting,
)


def test_a_commit_that_is_gone_is_named_with_second_ways(hub: HubServer) -> None:
    hub.repositories["nyu-mll/glue"] = Repository(LATER, {LATER: {}})
    with pytest.raises(
        DataError, match=f"at {COMMIT} cannot be had, because that commit is not there; give --data-dir"
    ):
        load_dataset(cola())
    with pytest.raises(DataError, match="other public copies are someone/copy at 123"):
        load_dataset(cola(second_ways=("someone/copy at 123",)))


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("files", [(TRAIN,), ("cola/train-*.parquet",)])
def test_a_gated_repository_says_how_to_get_in(hub: HubServer, status: int, files: tuple[str, ...]) -> None:
    hub.refusal = (status, "GatedRepo")
    with pytest.raises(
        DataError, match=rf"is gated \(HTTP {status}\); accept its terms at .*/datasets/nyu-mll/glue"
    ):
        load_dataset(cola(files={"train": files}))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, r"is (refused|private) \(HTTP 401\); check"),
        (403, r"is refused \(HTTP 403\); check the token of HF_TOKEN"),
        (503, r"is not served \(HTTP 503\); try later"),
    ],
)
def test_what_the_hub_refuses_is_said_in_words(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, status: int, words: str
) -> None:
    without_waiting(monkeypatch)
    hub.refusal = (status, "")
    for spec in (cola(), cola(revision=None)):
        with pytest.raises(DataError, match=words):
            load_dataset(spec)


def test_a_repository_that_is_not_there_is_named(hub: HubServer) -> None:
    with pytest.raises(DataError, match=r"of nobody/nothing at .* is not at http.*, or is private \(HTTP 404\)"):
        load_dataset(cola(repository="nobody/nothing"))
    with pytest.raises(DataError, match="the repository of nobody/nothing is not at http"):
        load_dataset(cola(repository="nobody/nothing", revision=None))


def test_a_file_that_is_not_in_the_commit_is_named(hub: HubServer) -> None:
    with pytest.raises(DataError, match=r"cola/other\.parquet of nyu-mll/glue at .* is not in that commit"):
        load_dataset(cola(files={"train": ("cola/other.parquet",)}))
    with pytest.raises(DataError, match=r"no file of nyu-mll/glue at .* matches cola/other-\*\.parquet"):
        load_dataset(cola(files={"train": ("cola/other-*.parquet",)}))


def test_a_split_without_files_says_that_leave_to_be_partial_does_not_help(hub: HubServer) -> None:
    with pytest.raises(DataError, match="split 'train' has no files in nyu-mll/glue, expected one of validation;"):
        load_dataset(cola(files={"validation": (TEST,)}), allow_partial=True)


def test_a_connection_cut_half_way_is_taken_up_again(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)
    hub.cuts[TRAIN] = 1
    assert len(load_dataset(cola()).facts.files) == 2
    assert hub.transfers(TRAIN) == 2


def test_a_connection_that_is_always_cut_is_an_error_and_leaves_nothing_in_use(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_waiting(monkeypatch)
    hub.cuts[TRAIN] = -1
    with pytest.raises(DataError, match=f"the connection to {hub.endpoint} broke while {TRAIN} .* was fetched"):
        load_dataset(cola())
    assert read_lock("nyu-mll/glue").sha256 == {}
    hub.cuts.clear()
    assert load_dataset(cola()).facts.source_rows == {"train": 400, "test": 100}


def test_no_connection_is_said_in_words(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    without_waiting(monkeypatch)
    use_endpoint(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(DataError, match="127.0.0.1:9 cannot be reached; check the connection, or give --data-dir"):
        load_dataset(cola())
    with pytest.raises(DataError, match="127.0.0.1:9 cannot be reached; check the connection, or give --data-dir"):
        load_dataset(cola(revision=None))


def test_offline_loads_what_is_in_the_cache_and_names_what_is_not(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_dataset(cola(), splits=["test"])
    go_offline(monkeypatch)
    assert len(load_dataset(cola(), splits=["test"]).test) == 100
    for spec in (cola(), cola(files={"train": ("cola/train-*.parquet",)}), cola(repository="a/b", revision=None)):
        with pytest.raises(DataError, match="is not in the cache and HF_HUB_OFFLINE is set"):
            load_dataset(spec, splits=["train"])


def test_offline_without_a_pin_uses_the_commit_of_the_first_download(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = cola(revision=None)
    load_dataset(spec)
    go_offline(monkeypatch)
    assert load_dataset(spec).facts.revision == COMMIT


def failing(error: BaseException) -> Callable[..., str]:
    def download(*_: object, **__: object) -> str:
        raise error

    return download


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "does not fit on the disk; make room, or set HF_HOME"),
        (OSError("Consistency check failed: file should be of size 9"), "arrived incomplete and is not kept"),
        (PermissionError(errno.EACCES, "Permission denied"), r"cannot be stored \(Permission denied\)"),
        (TimeoutError(), "cannot be reached"),
    ],
)
def test_what_the_disk_or_the_network_does_is_said_in_words(
    hub: HubServer, monkeypatch: pytest.MonkeyPatch, error: BaseException, words: str
) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(error))
    with pytest.raises(DataError, match=words):
        load_dataset(cola())


def test_a_defect_keeps_its_own_error(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", failing(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        load_dataset(cola())


def test_without_the_hub_library_the_way_out_is_named(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(DataError, match=r"pip install 'peftbench\[train\]', or give --data-dir"):
        load_dataset(cola())
