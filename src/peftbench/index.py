"""An index of the records below a folder: one flat row for each, derived from them and made anew at will.

Large indexes are kept beside the records. A kept row counts only while its files are the very ones it was read
from, so that an index is never wrong, only slower without its file.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from peftbench import columns, records, schema
from peftbench.columns import arrow_schema, row_of
from peftbench.disk import draft_of
from peftbench.errors import DataError
from peftbench.finished import read_record
from peftbench.records import EvalRecord, RunResult, TrainRecord

if TYPE_CHECKING:
    import pyarrow as pa

Record = TypeVar("Record", TrainRecord, EvalRecord)

KEPT_NAME = ".index.parquet"
KEPT_FROM = 500
"""Rows from which an index is kept; fewer are read in a fraction of a second."""
REST_SECONDS = 2.0
"""A file changed so short a time ago could change again within one tick of its clock, and is not kept."""


@dataclass(frozen=True)
class Index:
    """What was found below a folder."""

    table: "pa.Table"
    """One row for each evaluation and for each training without one, in the order of folders."""
    problems: tuple[str, ...]
    """One sentence for each record that could not be read; its row is not there."""


@dataclass(frozen=True)
class RunFiles:
    """The folder of a run, and the state of the records in it."""

    path: Path
    train: os.stat_result | None
    evaluations: dict[str, os.stat_result]
    """Folder of a finished evaluation to the state of its record."""

    @property
    def finished(self) -> bool:
        """Whether there is a record."""
        return self.train is not None or bool(self.evaluations)

    def state(self, name: str, part: str | None) -> str:
        """What is the same only while a row's files are the same: names, sizes, times, numbers on the disk.

        A copy has another number and another time of change: no index counts that came with a folder.
        """
        files = (self.train, None if part is None else self.evaluations[part])
        told = [each and f"{each.st_size}-{each.st_mtime_ns}-{each.st_ctime_ns}-{each.st_ino}" for each in files]
        return "|".join([name, part or "", *(each or "" for each in told)])

    def changed(self, part: str | None) -> float:
        """When the files of a row last changed, seconds since the epoch."""
        files = (self.train, None if part is None else self.evaluations[part])
        return max(max(each.st_mtime, each.st_ctime) for each in files if each is not None)


def read_index(folder: Path) -> Index:
    """The index of all finished runs below a folder; links to other folders are not followed.

    Reads only records that are new or have changed since the index was kept, and keeps it again where that pays
    and the folder can be written to. Raises `DataError` if the folder is not there.
    """
    import pyarrow as pa

    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(f"{str(folder)!r} {what}; give a folder that holds runs, such as runs")
    kept, begun = _Kept(folder), time.time()
    problems: list[str] = []
    fresh: list[dict[str, Any]] = []
    order, states, sound = [], [], []
    for run in run_files(folder, problems):
        if not run.finished:
            continue
        name = _relative(run.path, folder)
        for part, result in _parts(run, name, problems, kept):
            state = run.state(name, part)
            if result is None:
                order.append(kept.rows[state])
            else:
                try:
                    fresh.append(row_of(result, name).model_dump())
                except DataError as error:
                    problems.append(str(error))
                    continue
                order.append(kept.table.num_rows + len(fresh) - 1)
            states.append(state)
            whole = result is None or run.train is None or result.train is not None
            sound.append(whole and run.changed(part) < begun - REST_SECONDS)
    rows = pa.concat_tables([kept.table, pa.Table.from_pylist(fresh, schema=arrow_schema())])
    table = rows.take(pa.array(order, pa.int64()))
    lasting = {state for state, whole in zip(states, sound, strict=True) if whole}
    if len(order) >= KEPT_FROM and lasting != kept.rows.keys():
        kept.write(table, states, sound)
    return Index(table, tuple(problems))


class _Kept:
    """The index as it was kept: its rows by the state of the files they were read from."""

    def __init__(self, folder: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.file = folder / KEPT_NAME
        self.table: pa.Table = arrow_schema().empty_table()
        self.rows: dict[str, int] = {}
        with suppress(pa.ArrowException, OSError, KeyError):
            found = pq.read_table(self.file, partitioning=None, page_checksum_verification=True)
            if (found.schema.metadata or {}).get(b"made_by") == _maker():
                self.table = found.drop_columns("state").cast(arrow_schema())
                self.rows = {state: row for row, state in enumerate(found["state"].to_pylist())}

    def write(self, table: "pa.Table", states: list[str], sound: list[bool]) -> None:
        """Keep the rows that are sound; a folder that cannot be written to has no index."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        whole = table.append_column("state", pa.array(states, pa.string())).filter(pa.array(sound))
        with suppress(OSError), draft_of(self.file) as draft:
            pq.write_table(
                whole.replace_schema_metadata({b"made_by": _maker()}),
                draft,
                compression="zstd",
                write_page_checksum=True,
            )


def run_files(folder: Path, problems: list[str]) -> Iterator[RunFiles]:
    """All folders of runs, those not finished too, in the order of their names.

    Links to other folders are not followed. What cannot be listed is one sentence of `problems`.
    """
    left = [folder]
    while left:
        path = left.pop()
        try:
            with os.scandir(path) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except OSError as error:
            problems.append(f"{path} cannot be listed ({error.strerror or error}); make it readable")
            continue
        names = {entry.name for entry in entries}
        folders = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        if "config.json" in names:
            states = {
                name: found
                for name in folders
                if name.startswith("eval-") and (found := _file(path / name / "result.json")) is not None
            }
            train = _file(path / "train.json") if "train.json" in names else None
            run = RunFiles(path, train, states)
            yield run
            if run.finished:
                continue
        left += [path / name for name in reversed(folders) if not name.startswith((".", "eval-"))]


def _file(path: Path) -> os.stat_result | None:
    """The state of a regular file, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _parts(
    run: RunFiles, name: str, problems: list[str], kept: _Kept
) -> Iterator[tuple[str | None, RunResult | None]]:
    """The evaluations of a run, or its training if there is none; what is kept comes without its result."""

    def read(model: type[Record], file: Path) -> Record | None:
        try:
            return read_record(model, file)
        except DataError as error:
            problems.append(str(error))
            return None

    known = {part for part in (*run.evaluations, None) if run.state(name, part) in kept.rows}
    wanted: list[str | None] = [part for part in run.evaluations if part not in known]
    train = None
    if wanted or (not run.evaluations and None not in known):
        train = read(TrainRecord, run.path / "train.json")
    given = False
    for part in run.evaluations:
        evaluation = None if part in known else read(EvalRecord, run.path / part / "result.json")
        if part in known:
            yield part, None
        elif evaluation is not None:
            yield (
                part,
                RunResult(folder=str(run.path), config=evaluation.config, train=train, evaluation=evaluation),
            )
        given |= part in known or evaluation is not None
    if not given and None in known:
        yield None, None
    elif not given and train is not None:
        yield None, RunResult(folder=str(run.path), config=train.config, train=train, evaluation=None)


def _relative(path: Path, folder: Path) -> str:
    """The path as text that any file format takes."""
    return path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()


def _maker() -> bytes:
    """What made the rows: another source of them makes other rows."""
    sources = [Path(module.__file__).read_bytes() for module in (records, schema, columns) if module.__file__]
    return hashlib.sha256(b"".join(sources)).hexdigest().encode()
