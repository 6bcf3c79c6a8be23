"""One import from beginning to end: find the files, read all, keep what they hold, whole or not at all."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.importers import lm_eval, method_comparison, paper_results, peft_factory
from peftbench.importers.reading import MOST_SAID, named
from peftbench.importers.results import ImportedResult, ImportedSet, Source, keep

Units = Callable[[Path, list[str]], Sequence[Path]]
Read = Callable[[Path, str, list[str]], list[ImportedResult]]

KINDS: dict[Source, tuple[Units, Read, str]] = {
    "paper": (paper_results.units, paper_results.read, "nothing"),
    "hf-method-comparison": (
        method_comparison.units,
        method_comparison.read,
        "a JSON file of method_comparison/MetaMathQA/results, or that folder",
    ),
    "peft-factory": (
        peft_factory.units,
        peft_factory.read,
        f"a folder with {peft_factory.SCORES} or {peft_factory.PREDICTIONS} in it or below",
    ),
    "lm-eval": (lm_eval.units, lm_eval.read, "results_<time>.json, or a folder with such files"),
}
"""Each kind with how its files are found and read, and what it takes."""


@dataclass(frozen=True, slots=True)
class Taken:
    """What came of an import."""

    made: ImportedSet
    new: bool
    """False if the same results had been imported before."""
    units: int
    """Files, or folders of PEFT-Factory, that were read."""
    skipped: int
    """How many of them were left out."""
    problems: tuple[str, ...]
    """What was wrong with those."""


def import_results(
    kind: str, path: Path | None, into: Path, *, name: str | None = None, skip_damaged: bool = False
) -> Taken:
    """Import results of others into `into/imported`; the same import again changes nothing.

    Raises `UnknownName` for a kind that is not known, `ConfigError` for a path too many or too few, and
    `DataError` with the problems of all files, and nothing is written then; with `skip_damaged` such files are
    left out.
    """
    if kind not in KINDS:
        raise UnknownName("kind of results", kind, KINDS)
    source = next(each for each in KINDS if each == kind)
    units, read, takes = KINDS[source]
    if (path is None) != (source == "paper"):
        raise ConfigError(f"{kind} takes {takes}" + ("" if path is None else f", not {str(path)!r}"))
    path = Path() if path is None else path
    problems: list[str] = []
    found = units(path, problems)
    links = len(problems)
    results: list[ImportedResult] = []
    skipped = links
    for unit in found:
        wrong: list[str] = []
        read_here: list[ImportedResult] = []
        called = unit.name if source == "paper" else named(unit, path)
        try:
            read_here = read(unit, called, wrong)
        except DataError as error:
            wrong.append(str(error))
        if not read_here and not wrong:
            wrong.append(f"{called} holds no result; leave it out")
        if wrong:
            skipped += 1
            problems += wrong
        else:
            results += read_here
    if not found and not problems:
        raise DataError(f"there is nothing of {kind} in {str(path)!r}; it takes {takes}")
    if problems and not skip_damaged:
        more = len(problems) - MOST_SAID
        said = [*problems[:MOST_SAID], *([f"and {more:,} more problems"] if more > 0 else [])]
        good = f"; --skip-damaged takes the {len(found) + links - skipped:,} others" if results else ""
        total = f"nothing was imported: {skipped:,} of {len(found) + links:,} cannot be{good}"
        raise DataError("\n".join([*said, total]))
    if not results:
        raise DataError("\n".join([*problems[:MOST_SAID], f"none of {len(found) + links:,} could be imported"]))
    kept = problems[: 5 * MOST_SAID]
    made, new = keep(results, source, into, name, kept)
    return Taken(made, new, len(found) + links, skipped, tuple(problems))
