"""The records below some folders, read once and again only where files have changed. Nothing is written.

What cannot be read is a sentence, not an end: the rest is shown all the same.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from peftbench.columns import ResultRow, row_of
from peftbench.errors import DataError, PeftBenchError
from peftbench.index import RunFiles, run_files
from peftbench.leaderboard import Counted, predictions_of, scores_of
from peftbench.metrics import Scores
from peftbench.observer import Observer
from peftbench.predictions import Prediction
from peftbench.records import RunResult
from peftbench.site.foreign import imported_rows
from peftbench.site.payload import SafeNames
from peftbench.store import results_of


@dataclass(frozen=True, eq=False)
class Entry:
    """One evaluation, or a training without one."""

    key: str
    """Name of its files, unlike any other's."""
    result: RunResult
    row: ResultRow
    counted: Counted | None
    """None where there are no predictions that can be scored."""
    problem: str | None
    """Why not, where there should be."""


@dataclass(frozen=True)
class Opened:
    """The predictions of one evaluation with their scores under the run's own protocol."""

    stored: list[Prediction]
    scores: Scores


Look = Callable[[Entry, Opened], None]
"""What is done with predictions while they are at hand."""


class Shelf:
    """The records below folders of runs."""

    def __init__(self, folders: Sequence[Path]) -> None:
        """Raises `DataError` for a folder that is not there."""
        for folder in folders:
            if not folder.is_dir():
                what = "is not a folder" if folder.exists() else "does not exist"
                raise DataError(f"{str(folder)!r} {what}; give a folder that holds runs, such as runs")
        self.folders = tuple(dict.fromkeys(folders))
        self.entries: tuple[Entry, ...] = ()
        self.problems: tuple[str, ...] = ()
        self.imported: tuple[dict[str, Any], ...] = ()
        """Results of others, in the columns of ours."""
        self.unfinished: tuple[Path, ...] = ()
        """Folders of runs without a record."""
        self.changes = 0
        """How often `read` has found something else."""
        self._names = SafeNames()
        self._kept: dict[Path, tuple[str, list[Entry], list[str]]] = {}

    def read(self, look: Look | None = None, observer: Observer | None = None) -> bool:
        """Read what is new or has changed, and say whether anything is; `look` sees predictions on the way."""
        problems: list[str] = []
        found = [run for folder in self.folders for run in run_files(folder, problems)]
        finished = [run for run in found if run.finished]
        kept: dict[Path, tuple[str, list[Entry], list[str]]] = {}
        if observer is not None:
            observer.phase("reading records and predictions", total=len(finished))
        for run in finished:
            state = _state(run)
            before = self._kept.get(run.path)
            same = before is not None and before[0] == state
            kept[run.path] = before if before is not None and same else (state, *self._entries(run, before, look))
            if observer is not None:
                observer.advance(1)
        entries = tuple(entry for _, each, _ in kept.values() for entry in each)
        problems += [problem for _, _, each in kept.values() for problem in each]
        imported = tuple(imported_rows(self.folders, problems))
        told = (entries, imported, tuple(problems))
        changed = told != (self.entries, self.imported, self.problems)
        self._kept, (self.entries, self.imported, self.problems) = kept, told
        self.unfinished = tuple(run.path for run in found if not run.finished)
        self.changes += changed
        return changed

    def _entries(
        self, run: RunFiles, before: tuple[str, list[Entry], list[str]] | None, look: Look | None
    ) -> tuple[list[Entry], list[str]]:
        try:
            results = results_of(run.path / "config.json")
        except PeftBenchError as error:
            return [], [str(error)]
        # A run that is evaluated once more keeps the names that its files had.
        names = {_identity(entry.result): entry.key for entry in before[1]} if before else {}
        entries, problems = [], []
        for result in results:
            try:
                row = row_of(result, run.path.name)
            except PeftBenchError as error:
                problems.append(str(error))
                continue
            identity = _identity(result)
            entry = Entry(names.get(identity) or self._names.name(identity), result, row, None, None)
            if result.primary is not None:
                try:
                    opened = open_predictions(result)
                except PeftBenchError as error:
                    entry = replace(entry, problem=str(error))
                    problems.append(str(error))
                else:
                    ids = tuple(each.id for each in opened.stored if each.references)
                    entry = replace(entry, counted=Counted(ids, opened.scores.columns))
                    if look is not None:
                        look(entry, opened)
            entries.append(entry)
        return entries, problems


def open_predictions(result: RunResult) -> Opened:
    """Predictions of a finished run; raises `PeftBenchError` where they cannot be read or scored."""
    stored = predictions_of(result)
    return Opened(stored, scores_of(result, stored, result.config.protocol))


def _identity(result: RunResult) -> str:
    record = result.evaluation or result.train
    assert record is not None
    return f"{record.train_id}-{result.evaluation.eval_id}" if result.evaluation else record.train_id


def _state(run: RunFiles) -> str:
    """What is the same only while the files of a run are."""
    parts = [run.state(str(run.path), None), *(run.state("", part) for part in run.evaluations)]
    for part in run.evaluations:
        try:
            found = os.stat(run.path / part / "predictions.parquet")  # noqa: PTH116
            parts.append(f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}")
        except OSError:
            parts.append("none")
    return "|".join(parts)
