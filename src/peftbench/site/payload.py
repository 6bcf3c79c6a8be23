"""Data as a script that a page can load from a file or from a server: one statement, ASCII, no markup.

The data is JSON in a string. It is read faster than as a part of the program, and no name in it means anything.
"""

import json
import math
import re
from typing import Any

LONGEST_NAME = 80
"""Characters of a file's name; file systems take 255 bytes."""
_MARKUP = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&'`"})


def statement(name: str, value: Any) -> bytes:
    """The file of one piece of data, which `name` is its path without `data/` and `.js`.

    Raises `ValueError` for a number that JSON has no form of.
    """
    text = json.dumps(value, allow_nan=False, separators=(",", ":")).translate(_MARKUP)
    quoted = text.replace("\\", "\\\\")
    return f"peftbench.put({json.dumps(name)},JSON.parse('{quoted}'));\n".encode("ascii")


def finite(value: float | None) -> float | None:
    """A number that JSON has a form of, None for any other."""
    return value if value is not None and math.isfinite(value) else None


class SafeNames:
    """Names of files for names of anything: letters, digits, dot, dash, underscore, each once in any case."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def name(self, given: str) -> str:
        """A file's name that no other has."""
        base = re.sub(r"[^A-Za-z0-9._-]", "-", given)[:LONGEST_NAME].strip(".-") or "unnamed"
        found, number = base, 1
        while found.lower() in self._taken:
            number += 1
            found = f"{base}-{number}"
        self._taken.add(found.lower())
        return found
