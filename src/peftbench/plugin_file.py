"""A Python file that its user names by path, run as a module. No folder is scanned and nothing else is found.

The file is read once, so that what is run has the hash that is told. `keep_file` stores it under a name made of
its content in the user's cache folder, and only what was stored there, by being named once, is run again by hash.
"""

import hashlib
import importlib.util
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType

from peftbench.disk import cache_folder, explained, write_text
from peftbench.errors import ConfigError
from peftbench.outside import contained

LARGEST_BYTES = 1_000_000


def read_file(path: Path, kind: str = "Python file", other: str = "") -> bytes:
    """The content of a Python file; raises `ConfigError` where it cannot be one.

    `kind` is what messages call it, and `other` what could be given instead.
    """
    called = f"{kind} {str(path)!r}"
    if path.is_dir() or not path.exists():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"{called} {what}; give the path of a file that ends in .py{other}")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        content.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{called} cannot be read ({error.strerror}); make it readable") from error
    except UnicodeDecodeError as error:
        if len(content) <= LARGEST_BYTES and b"\0" not in content:
            raise ConfigError(f"{called} is not UTF-8 text; save it as UTF-8") from error
    if len(content) > LARGEST_BYTES or b"\0" in content:
        raise ConfigError(f"{called} is not Python: it is binary, or too long; give a file of source code")
    return content


def kept_name(path: Path) -> str:
    """The name of a file in the cache folder, `<stem>@<first digits of its hash>`, whether it is there or not.

    Raises `ConfigError` for a file that cannot be read.
    """
    return _name_of(path, read_file(path))


def keep_file(path: Path) -> str:
    """Store a file in the cache folder, and return its name there, `<stem>@<first digits of its hash>`.

    Only for a file that the user names: what is stored may be run. Raises `ConfigError` for a file that cannot be
    read, and `DataError` where the cache cannot be written to.
    """
    content = read_file(path)
    name = _name_of(path, content)
    target = _kept(name)
    with explained(target.parent):
        if not target.exists() or target.read_bytes() != content:
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, content.decode("utf-8"))
    return name


def _name_of(path: Path, content: bytes) -> str:
    if not path.stem.isidentifier() or path.suffix != ".py":
        raise ConfigError(
            f"Python file {path.name!r} cannot be imported under that name; call it something like my_metric.py"
        )
    return f"{path.stem}@{hashlib.sha256(content).hexdigest()[:8]}"


def load_kept(name: str) -> ModuleType | None:
    """The module of a file that was kept under this name; None where there is none with that content."""
    stem, _, digits = name.partition("@")
    target = _kept(name)
    if len(name) > 200 or not stem.isidentifier() or len(digits) != 8 or not target.is_file():
        return None
    content = read_file(target)
    if not hashlib.sha256(content).hexdigest().startswith(digits):
        return None
    return run_file(target, content, f"Python file {stem + '.py'!r}")


def _kept(name: str) -> Path:
    return cache_folder() / "python" / f"{name}.py"


class _Loader(SourceLoader):
    """Loads what was read, and writes no byte code beside it."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path, self._content = path, content

    def get_filename(self, _: str) -> str:
        return str(self._path)

    def get_data(self, _: str) -> bytes:
        return self._content


@lru_cache(maxsize=64)
def run_file(path: Path, content: bytes, called: str) -> ModuleType:
    """The module that a file with this content is, which is run once; what it prints goes to standard error.

    Raises `ConfigError`, in which it is `called` so, where it is not Python, or raises or exits when it is run.
    """
    name = f"peftbench_file_{hashlib.sha256(content).hexdigest()[:16]}"
    spec = importlib.util.spec_from_loader(name, _Loader(path, content))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look their module up
    try:
        with contained(called, "mend the file", str(path)), _told_of_if_slow(called):
            spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


SLOW_SECONDS = 30.0
"""After how long a file that is still being loaded is told of; importing torch from a slow disk takes ten."""


@contextmanager
def _told_of_if_slow(called: str) -> Iterator[None]:
    """Say that a file takes long, so that nobody wonders what a command that stands still does."""
    text = (
        f"peftbench: {called} is still being loaded after {SLOW_SECONDS:g} s; if it never ends, it loops or does "
        "its work when it is imported: Ctrl-C ends this, and `peftbench check` says more"
    )
    timer = threading.Timer(SLOW_SECONDS, lambda: print(text, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
