"""The entries of `ERRATA.md` as data, so that a printed number can be shown with what is known to be wrong."""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from peftbench.errors import UnknownName

_ENTRY = re.compile(r'\| <a id="([a-z0-9-]+)"></a>')


@dataclass(frozen=True, slots=True)
class Erratum:
    """One entry; texts are the Markdown of the file."""

    id: str
    """Its anchor in `ERRATA.md`, which stays."""
    section: str
    reference: str
    """What the reference implementation or the paper does, with the dataset or metric it is about."""
    here: str
    """What is done here."""
    difference: str
    """The number that shows it; may be empty."""


@cache
def errata_text() -> str:
    """The file as it is."""
    in_wheel = Path(__file__).parents[1] / "ERRATA.md"
    file = in_wheel if in_wheel.is_file() else Path(__file__).parents[3] / "ERRATA.md"
    return file.read_text(encoding="utf-8")


@cache
def errata() -> tuple[Erratum, ...]:
    """All entries in the order of the file."""
    section, found = "", []
    for line in errata_text().splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        if entry := _ENTRY.match(line):
            cells = [cell.strip() for cell in line[entry.end() :].removesuffix("|").split("|")]
            *subject, reference, here, difference = cells
            found.append(Erratum(entry[1], section, ": ".join([*subject, reference]), here, difference))
    return tuple(found)


def erratum(name: str) -> Erratum:
    """The entry of this id; raises `UnknownName`."""
    entries = {each.id: each for each in errata()}
    if name not in entries:
        raise UnknownName("erratum", name, entries)
    return entries[name]
