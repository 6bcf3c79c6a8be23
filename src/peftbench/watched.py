"""Code of others in a process of its own, which may loop, exit or print there and harms nothing here."""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench.interpreter import PYTHON, module_path


@dataclass(frozen=True)
class Ended:
    """How such a process ended."""

    lines: tuple[dict[str, Any], ...]
    """What it wrote: objects with their `stage`."""
    status: int
    """Its exit status; below zero the signal that ended it."""
    late: str | None
    """Which time was over, in words; None where it ended by itself."""
    printed: str
    """What it printed on standard output."""


def watch(
    module: str, arguments: Sequence[str], *, seconds: float, stages: Mapping[str, tuple[float, str]]
) -> Ended:
    """Run a module of this package until it ends, and end it with all it started when its time is over.

    Its last argument is a file into which it writes lines of JSON, each an object with `stage`. `seconds` is for
    all of it; `stages` gives the seconds that may pass after a line of one stage, and what to say then.
    """
    with tempfile.TemporaryDirectory() as folder:
        lines, printed = Path(folder) / "lines", Path(folder) / "printed"
        lines.touch()
        with printed.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603
                [*PYTHON, "-m", module, *arguments, str(lines)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                env={**os.environ, **module_path()},
                start_new_session=True,
            )
            try:
                late = _wait(process, lines, seconds, stages)
            finally:
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        said = printed.read_text(encoding="utf-8", errors="replace").strip()
        return Ended(tuple(_read(lines)), process.returncode, late, said)


def _wait(
    process: "subprocess.Popen[bytes]", lines: Path, seconds: float, stages: Mapping[str, tuple[float, str]]
) -> str | None:
    """Wait for the end of the process, or say in words which time was over."""
    begun = since = time.monotonic()
    seen = 0
    while process.poll() is None:
        time.sleep(0.05)
        found, now = _read(lines), time.monotonic()
        if len(found) > seen:
            seen, since = len(found), now
        limit, said = stages.get(found[-1]["stage"] if found else "", (seconds, ""))
        if said and now - since > limit:
            return said
        if now - begun > seconds:
            return f"it took more than {seconds:g} s"
    return None


def _read(lines: Path) -> list[dict[str, Any]]:
    whole = lines.read_text(encoding="utf-8").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
