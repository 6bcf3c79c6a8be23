"""Code of others while it is loaded or run: what it prints stays off standard output, its errors are sentences.

It does not protect from code that means harm: whoever names a file has it run.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TextIO

from peftbench.errors import ConfigError, PeftBenchError

PRINTED_TO: ContextVar[TextIO | None] = ContextVar("printed_to", default=None)
"""Where what it prints goes; standard error for None."""
_NOT_THEIRS = ("_StopRecomputationError", "DishonestAdapter")
"""Errors by which torch and the engine speak to themselves."""


@contextmanager
def contained(what: str, fix: str, file: str = "") -> Iterator[None]:
    """Raise `ConfigError` for all that goes wrong inside: `what` it was, why, at which line of `file`, `fix`.

    Errors with a message of their own, want of memory and Ctrl-C pass as they are.
    """
    try:
        with redirect_stdout(PRINTED_TO.get() or sys.stderr):
            yield
    except (PeftBenchError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if "out of memory" in str(error).lower() or type(error).__name__ in _NOT_THEIRS:
            raise
        raise ConfigError(f"{what} {ended(error, file)}; {fix}") from error


@contextmanager
def nothing_fetched() -> Iterator[None]:
    """To import bitsandbytes in: where the package `kernels` is there, it fetches code of a hub and runs it."""
    kept = sys.modules.pop("kernels", None)
    sys.modules["kernels"] = None  # type: ignore[assignment]
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it would tell of this as of a fault
    try:
        yield
    finally:
        del sys.modules["kernels"]
        if kept is not None:
            sys.modules["kernels"] = kept


def told(error: BaseException) -> str:
    """An error in words: its type and the first line of what it says."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (text.strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def ended(error: BaseException, file: str = "") -> str:
    """How code ended with an error, at which line of `file`: `ended with ValueError: no, line 7`."""
    if isinstance(error, SystemExit):
        return f"asked to end the process (sys.exit{_line(error, file)})"
    return f"ended with {told(error)}{_line(error, file)}"


def _line(error: BaseException, file: str) -> str:
    """The innermost line of `file` on the way to an error, to be put behind it."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    number = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return f", line {number}" if number else ""
