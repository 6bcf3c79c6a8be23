"""Files that are written whole or not at all, and are on the disk before anything refers to them."""

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

from peftbench.errors import DiskError


def cache_folder() -> Path:
    """The folder of `PEFTBENCH_CACHE`, else the user's cache folder of this package."""
    from platformdirs import user_cache_path

    given = os.environ.get("PEFTBENCH_CACHE")
    return Path(given).expanduser() if given else user_cache_path("peftbench")


_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
"""What file systems say that know no hard links."""


@contextmanager
def draft_of(file: Path) -> Iterator[Path]:
    """A draft beside `file` to write to; when the block ends it is flushed to disk and takes the file's name.

    If the block fails the file stays as it was. The errors of safetensors, which are none of the system's, come
    out as `OSError` with the system's number.
    """
    with draft_beside(file) as draft:
        yield draft
        flush(draft)
        draft.replace(file)
        sync(file.parent)


@contextmanager
def draft_beside(file: Path) -> Iterator[Path]:
    """A draft beside `file` under a name of its own; what is left of it when the block ends is deleted."""
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-", suffix=".draft")
    os.close(handle)
    draft = Path(name)
    try:
        with system_errors():
            yield draft
    finally:
        with suppress(OSError):  # what the block raised is what the user must hear
            draft.unlink(missing_ok=True)


def flush(draft: Path) -> None:
    """Make a draft readable to others, and flush it to the disk."""
    draft.chmod(0o644)
    sync(draft)


def write_draft(draft: Path, text: str) -> None:
    """Write text to a draft as it is, in UTF-8."""
    draft.write_text(text, encoding="utf-8", newline="")


def write_text(file: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with draft_of(file) as draft:
        write_draft(draft, text)


def create_text(file: Path, text: str) -> None:
    """Write a text file whole, unless one of that name is there, which then stays as it is.

    Whoever comes first has it, on other machines too: a link is made only where there is no file yet, and network
    file systems keep to that. Its answer may get lost on the way, so read the file to know whose it is. Raises
    `OSError` if the disk refuses.
    """
    with draft_beside(file) as draft:
        write_draft(draft, text)
        flush(draft)
        try:
            os.link(draft, file)
        except FileExistsError:
            return
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Between this look and the rename another may come; both are whole, and the later one then stands.
            if not file.exists():
                draft.rename(file)
        sync(file.parent)


def write_tensors(draft: Path, tensors: Mapping[str, Any]) -> None:
    """Write tensors to a draft as a safetensors file."""
    from safetensors.torch import save_file

    save_file(dict(tensors), draft, metadata={"format": "pt"})


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing where the folder has vanished, which `Path.glob` raises for."""
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def below(folder: Path) -> Iterator[Path]:
    """Every folder and file below a folder; what vanishes meanwhile is passed over."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            yield Path(place) / name


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
