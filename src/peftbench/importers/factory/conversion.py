"""What a conversion has found so far: our settings, what was said of each key, what would have gone wrong there.

Collects and decides nothing; the files that know keys and methods fill it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from peftbench.importers.factory.file import FactoryFile

Verdict = Literal["taken", "same", "default", "left out", "accepted"]


@dataclass(frozen=True, slots=True)
class Said:
    """What became of one key."""

    file: str
    key: str
    value: Any
    """As given; None where it was not, or was given as nothing."""
    given: bool
    """Whether the file has the key; otherwise its default there is what counts."""
    verdict: Verdict
    text: str
    """As what it was taken, or why it was left out."""


@dataclass
class Conversion:
    """Our settings in the making."""

    accepted: Collection[str]
    """Keys whose loss the user accepts."""
    chosen: Mapping[str, str]
    """Dotted settings that the user gives himself, so that nothing has to be found for them, with their texts."""
    as_published: bool
    """Whether the reference's rules and its variants of methods are taken."""
    values: dict[str, Any] = field(default_factory=dict)
    said: list[Said] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What would have gone wrong in the reference, a sentence each."""
    notes: list[str] = field(default_factory=list)
    """What the user has to know or do."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Key to the sentence that says what is lost without it."""
    problems: list[str] = field(default_factory=list)

    def put(self, path: str, value: Any) -> None:
        """Set a dotted setting of ours."""
        *above, last = path.split(".")
        where = self.values
        for part in above:
            where = where.setdefault(part, {})
        where[last] = value

    def taken(self, file: FactoryFile, key: str, path: str, value: Any, more: str = "") -> None:
        """A key was taken as one of our settings; of one that is not given, its default there."""
        if path in self.chosen:
            self.say(file, key, "left out", f"--set {path} stands in for it")
            return
        self.put(path, value)
        self.say(file, key, "taken" if key in file.values else "default", f"{path}: {plain(value)}{more}")

    def left_out(self, file: FactoryFile, key: str, why: str) -> None:
        """A given key, of which nothing was said, is left out for a reason that changes no result."""
        if key in file.values and not self.is_said(file, key):
            self.say(file, key, "left out", why)

    def same(self, file: FactoryFile, key: str, here: str) -> None:
        """A given key, of which nothing was said, says what holds here anyway."""
        if key in file.values and not self.is_said(file, key):
            self.say(file, key, "same", here)

    def differs(self, file: FactoryFile, key: str, why: str) -> None:
        """A key cannot be expressed and that changes results: refused, unless the user accepts it."""
        if key in self.accepted:
            self.say(file, key, "accepted", why)
        else:
            given = f"{key} is {plain(file.shown(key))}" if key in file.values else f"{key} is not given"
            self.refusals.setdefault(key, f"{file.place(key)}: {given}; {why}")

    def needs(self, file: FactoryFile, key: str, path: str, sentence: str) -> None:
        """A setting that has to be given, unless it is, or something else was said of its key."""
        if path not in self.chosen and key not in file.told:
            self.problems.append(f"{file.place(key)}: {key} {sentence}")

    def say(self, file: FactoryFile, key: str, verdict: Verdict, text: str) -> None:
        """Note what became of a key."""
        self.said.append(Said(file.name, key, file.shown(key), key in file.values, verdict, text))

    def is_said(self, file: FactoryFile, key: str) -> bool:
        """Whether something has been said of a key of this file."""
        known = any(said.file == file.name and said.key == key for said in self.said)
        return known or key in self.refusals


def plain(value: Any) -> str:
    """A value as it is written in a file, without quotes."""
    if isinstance(value, bool | None.__class__):
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(plain, value))}]"
    return str(value)
