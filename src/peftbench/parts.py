"""Files that belong to a record and are named by hash in it: an adapter, predictions.

Such a file is first written under a name made of its content. Once a record stands, the content that it names
takes the file's own name, whoever does it and how often; so what stands beside a record is always its own, however
the steps of several writers fall between one another.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from peftbench.disk import draft_beside, flush, sync
from peftbench.errors import DataError


def prepare(file: Path, write: Callable[[Path], None]) -> str:
    """Store what `write` puts into a draft, to become `file` later; returns the hash for the record.

    Raises `OSError` if the disk refuses.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with draft_beside(file) as draft:
        write(draft)
        flush(draft)
        found = sha256_of(draft)
        if found is None:
            raise FileNotFoundError(2, "another process deleted it", str(draft))
        draft.replace(_prepared(file, found))
        sync(file.parent)
    return found


def settle(file: Path, sha256: str) -> bool:
    """Give what was prepared under this hash the name of `file`; whether `file` now has that content.

    Raises `OSError` if the disk refuses, and `DataError` if a file cannot be read.
    """
    for _ in range(3):
        if sha256_of(file) == sha256:
            return True
        ready = _prepared(file, sha256)
        if sha256_of(ready) == sha256:
            with suppress(FileNotFoundError):  # another process was quicker with the same
                ready.replace(file)
                sync(file.parent)
    return False


def content(file: Path, sha256: str) -> bytes | None:
    """The content that a record names, from the file or from what was prepared; None where it is in neither.

    Changes nothing, so that folders that may not be written to can be read. Raises `OSError` if one is there and
    cannot be read.
    """
    for each in (file, _prepared(file, sha256), file):  # the last time because it may just have been placed
        with suppress(FileNotFoundError):
            found = each.read_bytes()
            if hashlib.sha256(found).hexdigest() == sha256:
                return found
    return None


def sweep(file: Path) -> None:
    """Delete drafts of `file` and what was prepared and not needed; only once a record stands beside it."""
    for each in (*file.parent.glob(f".{file.name}-*.draft"), *file.parent.glob(f".{file.name}-{'[0-9a-f]' * 16}")):
        with suppress(OSError):  # untidy, and nothing else
            each.unlink()


def sha256_of(file: Path) -> str | None:
    """Hash of the content of a file; None where there is none. Raises `DataError` if it cannot be read."""
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error


def _prepared(file: Path, sha256: str) -> Path:
    return file.with_name(f".{file.name}-{sha256[:16]}")
