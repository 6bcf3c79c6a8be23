"""Every place where a run changes the disk, times every fault there; then the same command again.

The places are found by listening to an undisturbed run: what it makes, writes, flushes, renames, links and deletes
below its output, by file. So a new kind of file is covered as soon as there is one.
"""

import errno
import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow.parquet
import safetensors.torch

from peftbench.engine import checkpoint
from tests.faults.world import BROKEN, DONE, REFUSED, Line, World, leftovers, outcome, timed

OCCURRENCES = 2
"""How often the same place of the same kind of file is disturbed: the first times."""
ERRORS = {"no space": errno.ENOSPC, "I/O error": errno.EIO, "permission": errno.EACCES}
FAULTS = {
    "make": ("kill", *ERRORS),
    "write": ("kill", "half and kill", "half and no space", "half and I/O error", *ERRORS),
    "flush": ("kill", "no space", "I/O error"),
    "rename": ("kill", "kill after", *ERRORS, "rename fails"),
    "link": ("kill", "kill after", *ERRORS, "no links"),
    "delete": ("kill", "I/O error", "permission"),
}
CALLS: dict[str, tuple[tuple[Any, str, int], ...]] = {
    # Where a function is looked up, and which of its arguments is the file that it is about.
    "make": ((os, "mkdir", 0), (os, "open", 0)),
    "write": (
        (Path, "write_text", 0),
        (checkpoint, "save_file", 1),
        (safetensors.torch, "save_file", 1),
        (pyarrow.parquet, "write_table", 1),
    ),
    "flush": ((os, "fsync", 0),),
    "rename": ((os, "rename", 1), (os, "replace", 1)),
    "link": ((os, "link", 1),),
    "delete": ((os, "unlink", 0), (os, "rmdir", 0)),
}


class Ear:
    """Counts the changes below a folder by kind and file, and disturbs one of them."""

    def __init__(self, root: Path, place: str | None = None, fault: str = "") -> None:
        self.root, self.place, self.fault = str(root.resolve()), place, fault
        self.heard: Counter[str] = Counter()
        self.places: list[str] = []

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Stand between the program and the disk."""
        patches = [
            mock.patch.object(owner, name, self._between(kind, getattr(owner, name), number))
            for kind, calls in CALLS.items()
            for owner, name, number in calls
        ]
        for each in patches:
            each.start()
        try:
            yield
        finally:
            for each in patches:
                each.stop()

    def _between(self, kind: str, real: Callable[..., Any], number: int) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            name = self._name(arguments[number], options)
            opened_to_read = real.__name__ == "open" and not arguments[1] & os.O_CREAT
            if name is None or opened_to_read:
                return real(*arguments, **options)
            self.heard[f"{kind} {name}"] += 1
            place = f"{kind} {name} {self.heard[f'{kind} {name}']}"
            self.places.append(place)
            if place != self.place:
                return real(*arguments, **options)
            return self._disturb(real, arguments, options, arguments[number])

        return called

    def _disturb(self, real: Callable[..., Any], arguments: Any, options: Any, file: Any) -> Any:
        if self.fault in ERRORS:
            raise OSError(ERRORS[self.fault], os.strerror(ERRORS[self.fault]))
        if self.fault == "rename fails":
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))
        if self.fault == "no links":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if self.fault != "kill":
            real(*arguments, **options)
        if self.fault.startswith("half"):
            os.truncate(file, Path(file).stat().st_size // 2)
        if "kill" in self.fault:
            os.kill(os.getpid(), signal.SIGKILL)
        number = errno.ENOSPC if "no space" in self.fault else errno.EIO
        raise OSError(number, os.strerror(number))

    def _name(self, file: Any, options: Any) -> str | None:
        """The file without what differs from run to run; None for what lies elsewhere."""
        folder = options.get("dir_fd")
        if isinstance(file, int):
            path = _opened(file)
        else:
            path = str(Path(_opened(folder) if folder is not None else "", os.fspath(file)).absolute())
        if not path.startswith(self.root):
            return None
        name = path.removeprefix(self.root)
        name = re.sub(r"-[A-Za-z0-9_]{8}\.draft", " draft", name)
        name = re.sub(r"(step|draft|gone)(-\d{9})?-[0-9a-f]{16}", r"\1", name)
        name = re.sub(r"-[0-9a-f]{16}$", " prepared", name)
        return re.sub(r".*/(seed\d+|eval)-[0-9a-f]+", r"\1", name) or "output"


def _opened(handle: int) -> str:
    return str(Path(f"/proc/self/fd/{handle}").readlink())


def run(world: World, quick: bool, seed: int) -> list[Line]:
    """Disturb each place in each way, or a sample of them, and run the same command again."""
    line = Line("places where a run changes the disk x faults: the same command ends right", seed)
    config = world.config("undisturbed", "ia3", validations=3)
    ear = Ear(world.folder / "undisturbed")
    with ear.listening():
        world.run(config)
    expected = outcome(world.folder / "undisturbed")
    pairs = [
        (place, fault)
        for place in dict.fromkeys(ear.places)
        if int(place.rsplit(" ", 1)[1]) <= OCCURRENCES
        for fault in FAULTS[place.split(" ")[0]]
    ]
    if quick:
        pairs = random.Random(seed).sample(pairs, 40)
    ended: Counter[str] = Counter()
    with timed(line):
        for number, (place, fault) in enumerate(pairs):
            problem = _disturbed(world, number, place, fault, expected, ended)
            line.count += 1
            if problem is not None:
                line.wrong += 1
                line.remarks.append(f"{place}, {fault}: {problem}")
    line.remarks.insert(0, f"{len({place for place, _ in pairs})} places; the disturbed run {dict(ended)}")
    return [line]


def _disturbed(
    world: World, number: int, place: str, fault: str, expected: dict[str, str], ended: Counter[str]
) -> str | None:
    """What went wrong when a place was disturbed, or None."""
    output, told = world.folder / f"disturbed-{number}", world.folder / "told"
    config = world.config(output.name, "ia3", validations=3)
    told.unlink(missing_ok=True)

    def disturbed() -> None:
        with Ear(output, place, fault).listening():
            world.run(config)

    status = world.process(disturbed, told=told)
    ended[{DONE: "ended right", REFUSED: "said why", -signal.SIGKILL: "was killed"}.get(status, "broke")] += 1
    try:
        if status == BROKEN:
            return told.read_text()[-2000:]
        if status == REFUSED and not re.search(r"cannot (write|be read)", told.read_text()):
            return told.read_text()
        if status == DONE and outcome(output) != expected:
            return "ended with another result"
        if world.process(world.run, config, told=told) != DONE:
            return f"the same command failed: {told.read_text()[-2000:]}"
        if outcome(output) != expected:
            return "the same command ended with another result"
        return f"left {left}" if (left := leftovers(output)) else None
    finally:
        shutil.rmtree(output, ignore_errors=True)
