"""`check method` from outside: a process that checks, a limit on its time, and what it found put into words.

Torch is not loaded here, and none of the method's code is.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.errors import ConfigError
from peftbench.methods.plugins import is_file
from peftbench.watched import Ended, watch

IMPORT_SECONDS = 30.0
"""How long the file of a method may take to be loaded; what it imports of torch is there already."""
SECONDS = 300.0
"""How long a check may take as a whole."""
_LONGEST_PRINT = 200


@dataclass
class Report:
    """What was found of a method."""

    method: str
    """Its name, or the file if that could not be loaded."""
    code: dict[str, str | None] | None = None
    promises: list[dict[str, str | None]] = field(default_factory=list)
    families: dict[str, str | None] = field(default_factory=dict)
    """By family of models, why it cannot be built there; None where it can."""
    notes: list[str] = field(default_factory=list)

    @property
    def kept(self) -> bool:
        """Whether no promise is broken."""
        return not any(each["status"] == "broken" for each in self.promises)

    def count(self, status: str) -> int:
        """How many promises have this status."""
        return sum(each["status"] == status for each in self.promises)


def check_method(
    name: str, settings: Sequence[str] = (), *, seconds: float = SECONDS, import_seconds: float = IMPORT_SECONDS
) -> Report:
    """Check the method of a name or file in a process of its own.

    Raises `ConfigError` if the file is not there or the name is not known. All else that is wrong with the method
    is in the report.
    """
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"--seconds is {seconds}, expected a number above 0, such as {SECONDS:g}")
    if is_file(name) and not Path(name).is_file():
        raise ConfigError(
            f"method file {name!r} does not exist; give the path of a Python file, or a method's name"
        )
    late = f"nothing came of loading it in {import_seconds:g} s: it loops, waits or does its work there"
    ended = watch(
        "peftbench.testing.child",
        [name, json.dumps(list(settings))],
        seconds=seconds,
        stages={"ready": (import_seconds, late)},
    )
    return _report(name, ended)


def _report(name: str, ended: Ended) -> Report:
    lines = ended.lines
    last: dict[str, Any] = lines[-1] if lines else {"stage": "not begun"}
    if last["stage"] == "refused" and (not is_file(name) or last["settings"]):
        raise ConfigError(last["why"])
    loaded = next((each for each in lines if each["stage"] == "loaded"), None)
    report = Report(loaded["method"] if loaded else name, loaded["code"] if loaded else None)
    if ended.printed:
        first = ended.printed.splitlines()[0][:_LONGEST_PRINT]
        report.notes.append(f"it prints ({first!r}), which is kept off standard output")
    expected, mend = "its file is loaded", "let the file define the method and do nothing else"
    why = ended.late or f"it ended the process with status {ended.status}"
    if loaded is None:
        refused = last["stage"] == "refused"  # which says how it is mended
        found = _line("loaded", "broken", expected, last["why"] if refused else why, None if refused else mend)
        report.promises.append(found)
        return report
    report.promises.append(_line("loaded", "kept", expected))
    for each in lines:
        if each["stage"] == "found":
            report.promises.append({key: value for key, value in each.items() if key != "stage"})
    if last["stage"] == "done":
        report.families = last["families"]
    else:
        doing = next((each["doing"] for each in reversed(lines) if each["stage"] == "checking"), "building it")
        why, mend = f"{why} while this was checked: {doing}", "look for a loop, or for a call that ends Python"
        report.promises.append(_line("comes to an end", "broken", "every check comes to an end", why, mend))
    return report


def _line(
    promise: str, status: str, expected: str, found: str | None = None, mend: str | None = None
) -> dict[str, str | None]:
    return {"promise": promise, "status": status, "expected": expected, "found": found, "mend": mend}


def sentences(report: Report) -> list[str]:
    """The report in words: each promise with its status; of a broken one what was found and how it is mended."""
    lines = []
    for each in report.promises:
        claim = f" ({each['mend']})" if each["status"] == "not claimed" else ""
        lines.append(f"{each['status']:11}  {each['expected']}{claim}")
        if each["found"]:
            lines.append(f"{'':11}    found: {each['found']}")
        if each["mend"] and each["status"] == "broken":
            lines.append(f"{'':11}    mend:  {each['mend']}")
    fits = [family for family, why in report.families.items() if why is None]
    if report.families:
        lines.append(f"Models on which it is built: {', '.join(fits) or 'none'}")
        lines += [f"  not on {family}: {why}" for family, why in report.families.items() if why is not None]
    lines += [f"Note: {note}." for note in report.notes]
    counts = [f"{n} {status}" for status in _STATUSES if (n := report.count(status))]
    lines.append(f"{report.method}: {', '.join(counts)}.")
    return lines


_STATUSES = ("kept", "broken", "not claimed", "not checked")
