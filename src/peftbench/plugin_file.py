"""A Python file that its user names by path, run as a module. No folder is scanned and nothing else is found.

The file is read once, so that what is run has the hash that is told. `keep_file` stores it under a name made of
its content in the user's cache folder, and only what was stored there, by being named once, is run again by hash.
"""

import hashlib
import importlib.util
import sys
import traceback
from contextlib import redirect_stdout
from functools import lru_cache
from importlib.abc import SourceLoader
from pathlib import Path
from types import ModuleType

from peftbench.disk import cache_folder, explained, write_text
from peftbench.errors import ConfigError

LARGEST_BYTES = 1_000_000


def load_file(path: Path) -> ModuleType:
    """The module that a file is; its prints go to standard error.

    Raises `ConfigError` where the file cannot be read, is not Python, or raises or exits when it is imported.
    """
    return _module(path, read_file(path))


def read_file(path: Path) -> bytes:
    """The content of a Python file; raises `ConfigError` where it cannot be one."""
    if path.is_dir() or not path.exists():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise ConfigError(f"Python file {str(path)!r} {what}; give the path of a file that ends in .py")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise ConfigError(
            f"Python file {str(path)!r} cannot be read ({error.strerror}); make it readable"
        ) from error
    if len(content) > LARGEST_BYTES or b"\0" in content:
        raise ConfigError(f"{path.name} is not Python: it is binary, or too long; give a file of source code")
    return content


def kept_name(path: Path) -> str:
    """The name of a file in the cache folder, `<stem>@<first digits of its hash>`, whether it is there or not.

    Raises `ConfigError` for a file that cannot be read.
    """
    return _named(path)[0]


def keep_file(path: Path) -> str:
    """Store a file in the cache folder, and return its name there, `<stem>@<first digits of its hash>`.

    Only for a file that the user names: what is stored may be run. Raises `ConfigError` for a file that cannot be
    read, and `DataError` where the cache cannot be written to.
    """
    name, text = _named(path)
    target = _kept(name)
    with explained(target.parent):
        if not target.exists() or target.read_bytes() != text.encode():
            target.parent.mkdir(parents=True, exist_ok=True)
            write_text(target, text)
    return name


def _named(path: Path) -> tuple[str, str]:
    content = read_file(path)
    if not path.stem.isidentifier() or path.suffix != ".py":
        raise ConfigError(
            f"Python file {path.name!r} cannot be imported under that name; call it something like my_metric.py"
        )
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 text; save it as UTF-8") from error
    return f"{path.stem}@{hashlib.sha256(content).hexdigest()[:8]}", text


def load_kept(name: str) -> ModuleType | None:
    """The module of a file that was kept under this name; None where there is none with that content."""
    stem, _, digits = name.partition("@")
    target = _kept(name)
    if len(name) > 200 or not stem.isidentifier() or len(digits) != 8 or not target.is_file():
        return None
    content = read_file(target)
    if not hashlib.sha256(content).hexdigest().startswith(digits):
        return None
    return _module(target, content)


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
def _module(path: Path, content: bytes) -> ModuleType:
    name = f"peftbench_file_{hashlib.sha256(content).hexdigest()[:16]}"
    spec = importlib.util.spec_from_loader(name, _Loader(path, content))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and the like look their module up
    try:
        with redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        sys.modules.pop(name, None)
        raise ConfigError(
            f"{_called(path)} cannot be used: it {failure(error, path)} when it is imported; mend the file"
        ) from error
    return module


def failure(error: BaseException, path: Path | None = None) -> str:
    """What went wrong in a user's file in a few words: `raises ValueError: ... (line 7)`, or `exits`."""
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if path is not None and frame.filename == str(path)
    ]
    line = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    where = f" (line {line})" if line else ""
    if isinstance(error, SystemExit):
        return f"ends the process{where}"
    text = " ".join(str(error.msg if isinstance(error, SyntaxError) else error).split())[:200]
    return f"raises {type(error).__name__}{': ' if text else ''}{text}{where}"


def _called(path: Path) -> str:
    return f"{path.name.partition('@')[0].removesuffix('.py')}.py"
