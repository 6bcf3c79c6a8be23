"""Code of others while it is loaded or run: what it prints stays off standard output, its errors are sentences.

It does not protect from code that means harm: whoever names a file has it run.
"""

import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TextIO

from pydantic import ValidationError

from peftbench.errors import ConfigError, PeftBenchError

PRINTED_TO: ContextVar[TextIO | None] = ContextVar("printed_to", default=None)
"""Where what it prints goes; standard error for None."""
_NOT_THEIRS = ("_StopRecomputationError", "DishonestAdapter")
"""Errors by which torch and the engine speak to themselves."""


@contextmanager
def contained(what: str, fix: str, file: str = "", error_type: type[ConfigError] = ConfigError) -> Iterator[None]:
    """Raise `ConfigError` for all that goes wrong inside: `what` it was, why, at which line of `file`, `fix`.

    Errors with a message of their own, want of memory and Ctrl-C pass as they are. What it sets of torch for the
    whole process is put back.
    """
    before = _torch_settings()
    try:
        with redirect_stdout(PRINTED_TO.get() or sys.stderr):
            yield
    except (PeftBenchError, MemoryError):
        raise
    except (Exception, SystemExit) as error:
        if "out of memory" in str(error).lower() or type(error).__name__ in _NOT_THEIRS:
            raise
        raise error_type(f"{what} {ended(error, file)}; {fix}") from error
    finally:
        _put_back(before)


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


_Settings = tuple[Any, ...]


def _torch_settings() -> _Settings | None:
    """What holds for all of torch; None where it is not loaded yet."""
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):  # another thread may be importing it
        return None
    return (
        torch.get_default_dtype(),
        (torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()),
        torch.get_float32_matmul_precision(),
        torch.get_num_threads(),
        torch.is_grad_enabled(),
    )


def _put_back(before: _Settings | None) -> None:
    """Set what differs from before; where torch was not loaded then, what it begins with."""
    now = _torch_settings()
    if now is None or now == before:
        return
    import torch

    dtype, (on, warn_only), precision, threads, gradients = before or (
        *(torch.float32, (False, False), "highest", now[3], True),
    )
    torch.set_default_dtype(dtype)
    torch.use_deterministic_algorithms(on, warn_only=warn_only)
    torch.set_float32_matmul_precision(precision)
    if now[3] != threads:
        torch.set_num_threads(threads)
    torch.set_grad_enabled(gradients)


def told(error: BaseException) -> str:
    """An error in words: its type and the first line of what it says, or what pydantic has against which field."""
    if isinstance(error, ValidationError):
        found = [f"{'.'.join(map(str, each['loc'])) or 'it'}: {_of_field(each)}" for each in error.errors()[:5]]
        return f"{error.title} has {'; '.join(found)}"
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    first = (text.strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def ended(error: BaseException, file: str = "") -> str:
    """How code ended with an error, at which line of `file`: `ended with ValueError: no, line 7`."""
    if isinstance(error, SystemExit):
        return f"asked to end the process (sys.exit{_line(error, file)})"
    return f"ended with {told(error)}{_line(error, file)}"


def _of_field(problem: Any) -> str:
    given = "" if problem["type"] in ("missing", "extra_forbidden") else f", given {problem['input']!r:.60}"
    return f"{problem['msg']}{given}"


def _line(error: BaseException, file: str) -> str:
    """The innermost line of `file` on the way to an error, to be put behind it."""
    path = Path(file).absolute()
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if file and Path(frame.filename).absolute() == path
    ]
    number = error.lineno if isinstance(error, SyntaxError) else lines[-1] if lines else None
    return f", line {number}" if number else ""
