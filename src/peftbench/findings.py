"""What a check of a user's own file found, in words: problems, which must be mended, and notices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was found."""

    severity: Literal["problem", "notice"]
    what: str
    mend: str
    count: int | None = None
    """How many rows it is about; None where it is about none."""
    rows: tuple[str, ...] = ()
    """The first of them."""


def problem(what: str, mend: str, rows: Sequence[str] = (), count: int | None = None) -> Finding:
    """Something that must be mended; `rows` are the ids of those it is about."""
    return _finding("problem", what, mend, rows, count)


def notice(what: str, mend: str, rows: Sequence[str] = (), count: int | None = None) -> Finding:
    """Something that should be known."""
    return _finding("notice", what, mend, rows, count)


def halves(sentence: str) -> tuple[str, str]:
    """What is wrong, and how to mend it, of an error's sentence, which says both."""
    what, _, mend = sentence.rpartition("; ")
    return (what, mend) if what else (sentence, "mend it")


MOST_ROWS_NAMED = 5


def _finding(
    severity: Literal["problem", "notice"], what: str, mend: str, rows: Sequence[str], count: int | None
) -> Finding:
    number = count if count is not None else len(rows) if rows else None
    return Finding(severity, what, mend, number, tuple(rows[:MOST_ROWS_NAMED]))


def failed(findings: Sequence[Finding]) -> bool:
    """Whether any of them must be mended."""
    return any(each.severity == "problem" for each in findings)


def print_findings(findings: Sequence[Finding], subject: str) -> None:
    """Findings on standard output, problems first, and a last line that says how it ended."""
    from peftbench.console import shown

    for each in sorted(findings, key=lambda one: one.severity != "problem"):
        named = (
            f": {', '.join(each.rows)}{', ...' if (each.count or 0) > len(each.rows) else ''}" if each.rows else ""
        )
        rows = "" if each.count is None else f" ({each.count:,} {'row' if each.count == 1 else 'rows'}{named})"
        print(shown(f"{each.severity}: {each.what}{rows}; {each.mend}".replace("\n", "\\n")))
    problems = sum(each.severity == "problem" for each in findings)
    notices = len(findings) - problems
    verdict = f"{problems} to be mended" if problems else "nothing to be mended"
    print(shown(f"{subject}: {verdict}{f', {notices} to be known' if notices else ''}"))
