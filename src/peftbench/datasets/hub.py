"""Pinned download from the Hugging Face hub, every file checked against a known hash.

`huggingface_hub` does the transfer, its cache, resumption and settings (HF_ENDPOINT, HF_TOKEN, HF_HOME,
HF_HUB_OFFLINE). Here lies which commit and files are asked for, what their bytes must be, and what to say when
something goes wrong. Nothing is uploaded and no file of a repository is ever run.
"""

import csv
import errno
import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from peftbench.datasets.files import format_of, sha256_of
from peftbench.datasets.lock import read_lock, update_lock
from peftbench.errors import DataError
from peftbench.schema import HubSource


@dataclass(frozen=True, slots=True)
class HubFile:
    """One verified file: its path in the repository, where it lies here, and its SHA-256."""

    name: str
    path: Path
    sha256: str


def fetch(source: HubSource, split: str) -> tuple[str, list[HubFile]]:
    """Download the files of a split, or find them in the cache; return the commit and the files in their order.

    Raises `DataError`, in one sentence, for every way in which that can fail.
    """
    revision, names = _located(source, split)
    return revision, [_verified(source, revision, name) for name in names]


def remote_columns(source: HubSource, split: str) -> set[str]:
    """Columns of the first file of a split, by its head alone; raises `DataError` as `fetch` does."""
    revision, names = _located(source, split)
    from huggingface_hub import HfFileSystem
    from pyarrow import parquet

    with _in_words(source, names[0], revision):
        path = f"datasets/{source.repository}@{revision}/{names[0]}"
        with HfFileSystem(use_listings_cache=False).open(path, "rb", block_size=1 << 20) as file:
            if (source.format or format_of(names[0])) == "parquet":
                return set(parquet.ParquetFile(file).schema_arrow.names)
            if format_of(names[0]) == "csv":
                return set(next(csv.reader([file.readline().decode("utf-8-sig")])))
            head = gzip.GzipFile(fileobj=file) if names[0].endswith(".gz") else file
            first = json.loads(head.readline() or b"{}")
            return set(first) if isinstance(first, dict) else set()


def _located(source: HubSource, split: str) -> tuple[str, list[str]]:
    """The commit and the names of a split's files."""
    if split not in source.files:
        raise DataError(
            f"split {split!r} has no files in {source.repository}, expected one of {', '.join(source.files)}; "
            "allow_partial does not help for a split that is absent"
        )
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise DataError(
            "the package huggingface_hub is not installed, which loading from the hub needs; "
            "run pip install 'peftbench[train]', or give --data-dir"
        ) from error
    revision = source.revision or _first_revision(source)
    return revision, [name for pattern in source.files[split] for name in _names(source, revision, pattern)]


def _first_revision(source: HubSource) -> str:
    from huggingface_hub import HfApi

    if (known := read_lock(source.repository).revision) is not None:
        return known
    with _in_words(source, "the repository", None):
        resolved = HfApi(library_name="peftbench").dataset_info(source.repository).sha
    if resolved is None:
        raise DataError(f"the hub names no commit for {source.repository}; try later, or give --data-dir")
    return update_lock(source.repository, lambda lock: lock.with_revision(resolved)).revision or resolved


def _names(source: HubSource, revision: str, pattern: str) -> tuple[str, ...]:
    """The files that a pattern stands for; a commit never changes, so the first answer is kept."""
    from huggingface_hub import HfApi

    if not any(sign in pattern for sign in "*?["):
        return (pattern,)
    if (known := read_lock(source.repository).listings.get(revision, {}).get(pattern)) is not None:
        return known
    with _in_words(source, f"the list of files {pattern}", revision):
        files = HfApi(library_name="peftbench").list_repo_files(
            source.repository, repo_type="dataset", revision=revision
        )
    names = tuple(sorted(name for name in files if fnmatchcase(name, pattern)))
    if not names:
        raise DataError(
            f"no file of {source.repository} at {revision} matches {pattern}; compare the catalogue's files with "
            "the repository, or give --data-dir"
        )
    update_lock(source.repository, lambda lock: lock.with_listing(revision, pattern, names))
    return names


def _verified(source: HubSource, revision: str, name: str) -> HubFile:
    from huggingface_hub import hf_hub_download

    with _in_words(source, name, revision):
        path = Path(
            hf_hub_download(
                source.repository, name, repo_type="dataset", revision=revision, library_name="peftbench"
            )
        )
    found = sha256_of(path)
    expected, known_from = source.sha256.get(name), "the catalogue"
    if expected is None:
        expected, known_from = _first_sha256(source, revision, name, found), "the first download"
    if found != expected:
        raise DataError(
            f"{name} of {source.repository} has SHA-256 {found}, expected {expected} from {known_from}; remove "
            f"{path.resolve()} and load again, and if the hash stays the same give --data-dir with a copy to trust"
        )
    return HubFile(name, path, found)


def _first_sha256(source: HubSource, revision: str, name: str, found: str) -> str:
    if (known := read_lock(source.repository).sha256.get(revision, {}).get(name)) is not None:
        return known
    lock = update_lock(source.repository, lambda lock: lock.with_sha256(revision, name, found))
    return lock.sha256[revision][name]


# -------------------------------------------------------------------------------------------------- failures


@contextmanager
def _in_words(source: HubSource, what: str, revision: str | None) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        sentence = _sentence(error, source, what, revision)
        if sentence is None:
            raise
        raise DataError(sentence) from error


def _sentence(error: BaseException, source: HubSource, what: str, revision: str | None) -> str | None:
    """What happened and what to do, or None for an error that is not about the transfer."""
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        EntryNotFoundError,
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if isinstance(error, LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        # Neither in the cache nor to be had; the reason is what the hub answered.
        error = error.__cause__
    hub = constants.ENDPOINT
    wanted = f"{what} of {source.repository}{f' at {revision}' if revision else ''}"
    page = f"{hub}/datasets/{source.repository}"
    give = "give --data-dir with a copy of the rows"
    unreached = f"{wanted} is not in the cache and {hub} cannot be reached; check the connection, or {give}"
    status = error.response.status_code if isinstance(error, HfHubHTTPError) else None
    match error:
        case OfflineModeIsEnabled():
            return (
                f"{wanted} is not in the cache and HF_HUB_OFFLINE is set; unset it, load once with a connection, "
                f"or {give}"
            )
        case GatedRepoError():
            return (
                f"{wanted} is gated (HTTP {status}); accept its terms at {page} and give a token of that account "
                "with `hf auth login` or HF_TOKEN"
            )
        case RevisionNotFoundError():
            others = f"; other public copies are {'; '.join(source.second_ways)}" if source.second_ways else ""
            return f"{wanted} cannot be had, because that commit is not there; {give}{others}"
        case RepositoryNotFoundError():
            return (
                f"{wanted} is not at {hub}, or is private (HTTP {status}); check HF_ENDPOINT and, for a private "
                f"repository, HF_TOKEN, or {give}"
            )
        case EntryNotFoundError() if not isinstance(error, LocalEntryNotFoundError):
            return f"{wanted} is not in that commit; compare the catalogue's files with {page}, or {give}"
        case _ if status in (401, 403):
            return f"{wanted} is refused (HTTP {status}); check the token of HF_TOKEN and the terms at {page}"
        case _ if status is not None:
            return f"{wanted} is not served (HTTP {status}); try later, or {give}"
        case OSError() if error.errno == errno.ENOSPC:
            return f"{wanted} does not fit on the disk; make room, or set HF_HOME to a folder with more"
        case OSError() if "onsistency check" in str(error):
            return f"{wanted} arrived incomplete and is not kept; load again, or {give}"
        case LocalEntryNotFoundError() | ConnectionError() | TimeoutError():
            return unreached
        case _ if type(error).__module__.partition(".")[0] in ("httpx", "httpx2", "httpcore", "httpcore2"):
            if type(error).__name__ in ("ConnectError", "ConnectTimeout"):
                return unreached
            return f"the connection to {hub} broke while {wanted} was fetched; load again, or {give}"
        case OSError():
            return f"{wanted} cannot be stored ({error.strerror or error}); check the folder of HF_HOME"
    return None
