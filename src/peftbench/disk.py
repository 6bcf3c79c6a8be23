"""Files that are written whole or not at all, and are on the disk before anything refers to them."""

import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from peftbench.errors import DiskError


@contextmanager
def draft_of(file: Path) -> Iterator[Path]:
    """A draft beside `file` to write to; when the block ends it is flushed to disk and takes the file's name.

    If the block fails the file stays as it was. The errors of safetensors, which are none of the system's, come
    out as `OSError` with the system's number.
    """
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-", suffix=".draft")
    os.close(handle)
    draft = Path(name)
    try:
        with system_errors():
            yield draft
        draft.chmod(0o644)
        sync(draft)
        draft.replace(file)
        sync(file.parent)
    finally:
        draft.unlink(missing_ok=True)


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with draft_of(file) as draft:
        draft.write_text(text, encoding="utf-8", newline="")


def write_tensors(file: Path, tensors: Mapping[str, Any]) -> None:
    """Write tensors as a safetensors file, whole or not at all."""
    from safetensors.torch import save_file

    with draft_of(file) as draft:
        save_file(dict(tensors), draft, metadata={"format": "pt"})


@contextmanager
def system_errors() -> Iterator[None]:
    """Give the errors of safetensors about the disk as the `OSError` that they stand for."""
    try:
        yield
    except Exception as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if isinstance(error, OSError) or number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1]))) from error


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Say in one sentence, as a `DiskError`, what the disk refused, and that nothing before is lost."""
    try:
        with system_errors():
            yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DiskError(
            f"cannot write {path}: {reason}; what was finished before is kept, make room or choose another output "
            "folder and run the same command again"
        ) from error


def sync(path: Path) -> None:
    """Flush a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        # Some file systems know no flush of folders; what a flush of a file says must be heard.
        with suppress(OSError) if path.is_dir() else nullcontext():
            os.fsync(handle)
    finally:
        os.close(handle)
