"""The places that rows come from: the hub, a directory, Python, a generator. After this module all are alike.

A directory holds `<dataset>/<split>.jsonl.gz`, `.jsonl` or `.parquet`. No place falls back on another.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from peftbench.datasets.examples import Role
from peftbench.datasets.files import read_rows, sha256_of
from peftbench.datasets.hub import HubFile, fetch
from peftbench.datasets.mini import is_mini, mini_rows
from peftbench.datasets.own import bare, file_of
from peftbench.errors import ConfigError, DataError
from peftbench.schema import DatasetSpec, LocalSource

RowsByRole = Mapping[Role, Iterable[Mapping[str, object]]]

_ENDINGS = (".jsonl.gz", ".jsonl", ".parquet")


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of one call come from; at most one of these is given, none means the hub."""

    directory: Path | None = None
    rows: RowsByRole | None = None
    generated: bool = False
    files: bool = False
    """Whether the entry of the dataset names files beside it."""

    @property
    def kind(self) -> Literal["hub", "directory", "files", "rows", "generated"]:
        """The name of the place, as records keep it."""
        if self.generated:
            return "generated"
        if self.rows is not None:
            return "rows"
        if self.files:
            return "files"
        return "hub" if self.directory is None else "directory"


@dataclass(frozen=True, slots=True)
class OpenedSplit:
    """The rows of one split, to be read once, and the files (name to SHA-256) and commit they are from."""

    rows: Iterable[object]
    files: dict[str, str]
    revision: str | None = None


def choose_source(spec: DatasetSpec, data_dir: Path | None, rows: RowsByRole | None) -> Source:
    """Rows if given, else the directory given or named by `PEFTBENCH_DATA`, else the hub.

    A task of the mini suite is generated where no rows are given, and the files of an entry are never replaced.
    """
    if rows is not None:
        if not isinstance(rows, Mapping):
            raise ConfigError(
                f"rows is a {type(rows).__name__}, expected one list for train and one for test; "
                "give {'train': [...], 'test': [...]}"
            )
        if data_dir is not None:
            raise ConfigError("both rows and data_dir are given, expected one source of rows; leave one out")
        return Source(rows=rows)
    if is_mini(spec.name):
        return Source(generated=True)
    if isinstance(spec.source, LocalSource):
        return Source(files=True)
    named = os.environ.get("PEFTBENCH_DATA")
    return Source(directory=data_dir or (Path(named).expanduser() if named else None))


def open_split(source: Source, spec: DatasetSpec, role: Role) -> OpenedSplit:
    """Find one split; `spec` is the entry under its protocol.

    Raises `DataError` where the split is absent or its files are not what they should be.
    """
    if source.generated:
        return OpenedSplit(mini_rows(spec.name, role), {})
    if source.rows is not None:
        return _from_rows(source.rows, spec, role)
    if source.directory is not None:
        return _from_directory(source.directory, spec, role)
    if source.files:
        return _from_files(spec, role)
    revision, files = fetch(spec.hub, spec.splits[role])
    return OpenedSplit(_hub_rows(files, spec), {file.name: file.sha256 for file in files}, revision)


def _from_rows(rows: RowsByRole, spec: DatasetSpec, role: Role) -> OpenedSplit:
    if role not in rows:
        raise DataError(
            f"rows for {spec.name} are given for {', '.join(rows) or 'no split'}, but {role} is wanted too; "
            f"add rows[{role!r}]"
        )
    return OpenedSplit(rows[role], {})


def _from_files(spec: DatasetSpec, role: Role) -> OpenedSplit:
    assert isinstance(spec.source, LocalSource)
    path, name = file_of(spec, role)
    rows = read_rows(path, name, spec.columns, delimiter=spec.source.delimiter)
    return OpenedSplit(rows, {name: spec.source.sha256[role]})


def _from_directory(directory: Path, spec: DatasetSpec, role: Role) -> OpenedSplit:
    split = spec.splits[role]
    candidates = [directory / _folder(spec) / f"{split}{ending}" for ending in _ENDINGS]
    found = [path for path in candidates if path.is_file()]
    if not found:
        if not directory.is_dir():
            raise DataError(f"the folder of datasets {str(directory)!r} does not exist; give another one")
        inside = directory.name == _folder(spec) and any(
            (directory / f"{split}{end}").is_file() for end in _ENDINGS
        )
        hint = f"give the folder above, {str(directory.parent)!r}" if inside else "put one there, or take the hub"
        raise DataError(
            f"the {role} split {split!r} of {spec.name} is absent: there is no {candidates[0]}, nor one "
            f"ending in {' or '.join(_ENDINGS[1:])}; {hint}"
        )
    if len(found) > 1:
        raise DataError(f"{' and '.join(map(str, found))} are the same split twice; keep one of them")
    [path] = found
    name = f"{_folder(spec)}/{path.name}"
    return OpenedSplit(read_rows(path, name, spec.columns), {name: sha256_of(path)})


def _folder(spec: DatasetSpec) -> str:
    return bare(spec.name) if spec.own else spec.name


def _hub_rows(files: Iterable[HubFile], spec: DatasetSpec) -> Iterator[object]:
    for file in files:
        yield from read_rows(file.path, file.name, spec.columns, spec.hub.format)
