"""The errors that a user can do something about.

Every message is one sentence that says what was given, what was expected and how to mend it. The command
line prints the message alone; anything that is not one of these is a defect of ours and keeps its traceback.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PeftBenchError(Exception):
    """Base of all errors with a message for the user; `exit_code` is the command line's status."""

    exit_code = 2


class ConfigError(PeftBenchError):
    """A configuration cannot be used; `problems` holds one sentence each, all found at once."""

    def __init__(self, problems: str | Iterable[str]) -> None:
        self.problems = (problems,) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(self.problems))


class NeedsWeights(ConfigError):
    """A method's parameters depend on the weights, and there are none to look at."""


class MethodError(ConfigError):
    """A user's own method fails while it computes."""

    exit_code = 1


class DataError(PeftBenchError):
    """Rows, files or models are not what was promised."""


class NotInstalled(PeftBenchError):
    """A package of an extra is missing; `purpose` says what needs it."""

    def __init__(self, package: str | None, purpose: str = "queries need", extra: str = "query") -> None:
        super().__init__(f"{package} is not installed; install what {purpose}: pip install peftbench[{extra}]")


class ProcessEnded(PeftBenchError):
    """One of the processes that share a model is gone, and the others with it."""

    exit_code = 1


class MetricError(DataError):
    """A user's own metric does not do what a metric must."""

    exit_code = 1


class DiskError(DataError):
    """The disk refuses what is to be kept: full, read-only, broken."""


class Busy(DataError):
    """Another process is at work on the same run."""


def first_line(error: BaseException) -> str:
    """What a library's error says first; the name of its kind where it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


_MOST_NAMES = 60  # of a list in one sentence


class UnknownName(PeftBenchError):
    """A name that is not in a registry; the message offers the nearest ones."""

    def __init__(self, kind: str, given: str, known: Iterable[str], where: str = "") -> None:
        self.kind, self.given = kind, given
        super().__init__(f"{where}unknown {kind} {given!r}{suggestion(given, known)}")


def suggestion(given: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the nearest known names, else the list of them."""
    names = sorted(known)
    lowered = {name.lower(): name for name in names}
    begun = [name for name in lowered if given and name.startswith(given.lower())]
    alike = get_close_matches(given.lower(), lowered, n=2, cutoff=0.6)
    near = [lowered[match] for match in dict.fromkeys([*begun, *alike])][:2]
    if near:
        return f"; did you mean {' or '.join(repr(name) for name in near)}?"
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"; known are {', '.join(names[:_MOST_NAMES])}{more}" if names else "; none is known here"
