"""Files of others, read with suspicion: bounded sizes, no links, strict JSON, every wrong value named.

Nothing here knows what a file means. What is wrong comes as sentences that begin with the name of the file.
"""

import json
import math
import os
import stat
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

from peftbench.errors import DataError

MEGABYTE = 1_000_000
MOST_BYTES = 20 * MEGABYTE
"""Largest file that is read whole; real ones have a hundredth of it."""
MOST_LINES_BYTES = 500 * MEGABYTE
"""Largest file of JSON lines."""
MOST_LINE_BYTES = 5 * MEGABYTE
MOST_FILES = 50_000
"""Most files and folders that are looked through."""
DEEPEST = 40
"""Deepest nesting of JSON."""
MOST_TEXT = 500
"""Longest name, in characters."""
MOST_SAID = 20
"""Most problems that are told of one import; half of them of the lines of one file."""
_MOST_DIGITS = 18


def files_below(path: Path, wanted: Callable[[str], bool], problems: list[str]) -> list[Path]:
    """The files below a folder whose name is wanted, in order, or the file itself.

    Links and what is no plain file are problems. Raises `DataError` if nothing is there, if nothing is wanted, and
    for a folder of too many files.
    """
    if os.path.isfile(path):  # noqa: PTH113  (pathlib raises for a name that is too long)
        return [path]
    if not os.path.isdir(path):  # noqa: PTH112
        what = "is no file and no folder" if os.path.lexists(path) else "does not exist"
        raise DataError(f"{str(path)!r} {what}; give what is to be imported")
    found, seen = [], 0

    def refuse(error: OSError) -> None:
        problems.append(
            f"{named(Path(error.filename), path)} cannot be listed ({error.strerror}); make it readable"
        )

    for place, folders, names in os.walk(path, onerror=refuse):
        folders.sort()
        seen += len(folders) + len(names)
        if seen > MOST_FILES:
            raise DataError(f"{str(path)!r} holds more than {MOST_FILES:,} files and folders; give a part of it")
        for name in sorted(filter(wanted, names)):
            file = Path(place) / name
            if stat.S_ISREG(file.lstat().st_mode):
                found.append(file)
            else:
                problems.append(f"{named(file, path)} is a link or no plain file; put a copy there")
    return found


def named(file: Path, path: Path) -> str:
    """What messages and records call a file: its place below what was given, or its name alone."""
    relative = file.relative_to(path) if file != path and file.is_relative_to(path) else Path(file.name)
    return relative.as_posix().encode("utf-8", errors="backslashreplace").decode()


def content(file: Path, name: str, most: int = MOST_BYTES) -> bytes:
    """All bytes of a plain file; raises `DataError` if it is too large or cannot be read."""
    try:
        # A pipe that was put there would be waited for, and a link would lead elsewhere.
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        with open(handle, "rb") as opened:  # noqa: PTH123
            state = os.fstat(handle)
            if not stat.S_ISREG(state.st_mode):
                raise DataError(f"{name} is no plain file; put a copy there")
            read = opened.read(most + 1)
    except OSError as error:
        raise DataError(f"{name} cannot be read ({error.strerror or error}); make it a readable file") from error
    if len(read) > most:
        raise DataError(
            f"{name} has more than {most // MEGABYTE:,} MB, which no such file has; is it the right one?"
        )
    return read


def json_object(raw: bytes, name: str, *, nan: bool = False) -> dict[str, Any]:
    """A JSON object from a file or a line; with `nan` what is not a number is None, as some tools write it.

    Raises `DataError` for what is no UTF-8 or no strict JSON (NaN, Infinity, numbers beyond a float, two equal
    keys, half a character), for deep nesting and for another kind of value.
    """

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        table = dict(found)
        if len(table) < len(found):
            keys = [key for key, _ in found]
            twice = next(key for key in keys if keys.count(key) > 1)
            raise DataError(f"{name} has the key {short(twice)} twice in one object; mend the file")
        return table

    def constant(text: str) -> None:
        if not (nan and text == "NaN"):
            raise DataError(f"{name} holds {text}, which is no number; mend the file")

    def real(text: str) -> float:
        if not math.isfinite(float(text)):
            raise DataError(f"{name} holds {short(text)}, which is beyond all numbers; mend the file")
        return float(text)

    def whole(text: str) -> int:
        if len(text) > _MOST_DIGITS:
            raise DataError(f"{name} holds a whole number of {len(text):,} digits; mend the file")
        return int(text)

    try:
        found = json.loads(
            raw.decode("utf-8-sig"),
            object_pairs_hook=pairs,
            parse_constant=constant,
            parse_float=real,
            parse_int=whole,
        )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is no UTF-8 text (byte {error.start + 1:,}); give the JSON file itself"
        ) from error
    except RecursionError as error:
        raise DataError(f"{name} is nested deeper than {DEEPEST} levels; mend the file") from error
    except ValueError as error:
        raise DataError(f"{name} is no JSON ({short(str(error), quoted=False)}); is it whole?") from error
    if not isinstance(found, dict):
        raise DataError(f"{name} is a {type(found).__name__}, expected a JSON object")
    check_json(found, name)
    return found


def check_json(value: Any, name: str) -> None:
    """Raise `DataError` for what is too deep, and for half a character, which no file could hold."""
    left = [(value, 1)]
    while left:
        item, depth = left.pop()
        if depth > DEEPEST:
            raise DataError(f"{name} is nested deeper than {DEEPEST} levels; mend the file")
        if isinstance(item, str) and not item.isascii() and any("\ud800" <= one <= "\udfff" for one in item):
            raise DataError(f"{name} holds half a character (a lone surrogate); mend the file")
        if isinstance(item, dict):
            left += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            left += [(part, depth + 1) for part in item]


def json_lines(
    raw: bytes, name: str, fault: Callable[[dict[str, Any]], str | None], problems: list[str], *, nan: bool = False
) -> Iterator[dict[str, Any]]:
    """Each JSON object of a file of lines.

    Lines that are none, and those in which `fault` finds one, are problems: `FILE, line 3: ...`.
    """
    wrong = 0
    for number, line in enumerate(BytesIO(raw), 1):
        place = f"{name}, line {number:,}"
        if not line.strip():
            continue
        try:
            if len(line) > MOST_LINE_BYTES:
                raise DataError(f"{place} has more than {MOST_LINE_BYTES // MEGABYTE} MB; mend the file")
            row = json_object(line, place, nan=nan)
            if found := fault(row):
                raise DataError(f"{place}: {found}")
            yield row
        except DataError as error:
            wrong += 1
            if wrong <= MOST_SAID // 2:
                problems.append(str(error))
    if (more := wrong - MOST_SAID // 2) > 0:
        problems.append(f"{name}: {more:,} more lines are wrong")


def short(value: Any, *, quoted: bool = True) -> str:
    """A value in a sentence, cut if it is long."""
    text = repr(value) if quoted else str(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


class Values:
    """The values of a JSON object by the path of their keys; what is wrong is added to the problems.

    Each method gives None for what is absent or null, which is a problem only where it is `needed`, and for what
    is of another kind, which always is.
    """

    def __init__(self, place: str, table: dict[str, Any], problems: list[str]) -> None:
        self.place, self._table, self._problems = place, table, problems

    def text(self, *keys: str, needed: bool = False, most: int = MOST_TEXT) -> str | None:
        """A text; an empty one stands for what is not known."""
        expected = f"a text of 1 to {most:,} characters"
        value = self._found(keys, needed, expected)
        found: str | None = self._of(value, keys, isinstance(value, str) and len(value) <= most, expected)
        return found

    def number(self, *keys: str, needed: bool = False, least: float = -1e300, most: float = 1e300) -> float | None:
        """A number within bounds."""
        expected = f"a number from {least:g} to {most:g}"
        value = self._found(keys, needed, expected)
        right = isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most
        found = self._of(value, keys, right, expected)
        return None if found is None else float(found)

    def whole(self, *keys: str, needed: bool = False) -> int | None:
        """A whole number of at least 0."""
        value = self._found(keys, needed, "a whole number")
        right = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        found: int | None = self._of(value, keys, right, "a whole number of at least 0")
        return found

    def table(self, *keys: str, needed: bool = False) -> dict[str, Any] | None:
        """An object of further values."""
        value = self._found(keys, needed, "an object")
        found: dict[str, Any] | None = self._of(value, keys, isinstance(value, dict), "an object")
        return found

    def rows(self, *keys: str, needed: bool = False) -> list[Any] | None:
        """A list."""
        value = self._found(keys, needed, "a list")
        found: list[Any] | None = self._of(value, keys, isinstance(value, list), "a list")
        return found

    def wrong(self, text: str) -> None:
        """Add a problem of this place."""
        self._problems.append(f"{self.place}: {text}")

    def _found(self, keys: tuple[str, ...], needed: bool, expected: str) -> Any:
        value: Any = self._table
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else None
        value = None if value == "" else value
        if value is None and needed:
            self.wrong(f"{'.'.join(keys)} is missing, expected {expected}")
        return value

    def _of(self, value: Any, keys: tuple[str, ...], right: bool, expected: str) -> Any:
        if value is None or right:
            return value
        self.wrong(f"{'.'.join(keys)} is {short(value)}, expected {expected}")
        return None
