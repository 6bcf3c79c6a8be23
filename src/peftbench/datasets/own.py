"""Datasets outside the package: an entry in a YAML file named by its path, with rows beside it or on the hub.

Such a dataset is called `<name>@<hash>` everywhere: of everything in its entry that can change a score, of its
files and of its metric. A change of any of them makes another dataset, which no table mixes with the first.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from peftbench.datasets.files import Row, count_rows, format_of, read_rows, sha256_of
from peftbench.errors import ConfigError, DataError, PeftBenchError
from peftbench.plugin_file import keep_file, kept_name
from peftbench.schema import (
    Area,
    ColumnType,
    Counts,
    DatasetSpec,
    Frozen,
    HubSource,
    InputField,
    LocalSource,
    PublishedRule,
)
from peftbench.yamlfile import Source, read_yaml, sentences

EXAMPLE = "docs/own-dataset.md"
_ROLES: tuple[Literal["train", "test"], ...] = ("train", "test")


class FilesOf(Frozen):
    """Files of the two splits, beside the entry."""

    train: str
    """File of the training rows, such as train.jsonl, relative to the entry."""
    test: str
    """File of the test rows, such as test.jsonl, relative to the entry."""


class HubFiles(Frozen):
    """A dataset on the Hugging Face hub."""

    repository: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")]
    """owner/name of the dataset repository."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    """pin the commit by its 40 hexadecimal digits, as a branch could move; its page on the hub shows them under
    Files and versions, History, and `git ls-remote https://huggingface.co/datasets/OWNER/NAME HEAD` prints them.
    """
    train: Annotated[tuple[str, ...], Field(min_length=1)]
    """files of the training rows inside the repository, such as [data/train-*.parquet]."""
    test: Annotated[tuple[str, ...], Field(min_length=1)]
    """files of the test rows inside the repository."""
    counts: Counts
    """how many rows each split has, such as {train: 7000, test: 300}; the viewer on its page shows them."""


class Entry(Frozen):
    """What stands in the YAML file of a dataset of one's own."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,59}$")]
    """a short name of small letters, digits, - and _."""
    title: str = ""
    licence: Annotated[str, Field(min_length=1)]
    """the licence of the rows, such as CC-BY-4.0, or `not stated`."""
    citation: str = ""
    area: Area = "NLU and reasoning"
    task: str = "own task"
    files: FilesOf | None = None
    """files of the rows, as {train: train.jsonl, test: test.jsonl}."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] = ","
    """What parts the columns of a CSV file."""
    hub: HubFiles | None = None
    columns: dict[str, ColumnType]
    """columns that must be there, each text, integer, number, texts or any."""
    nullable: tuple[str, ...] = ()
    instruction: str
    """what the model is asked to do, which stands before the fields."""
    fields: Annotated[tuple[InputField, ...], Field(min_length=1)]
    """lines of the prompt, as [{label: Question, column: question}]."""
    target: str
    """column of the answer."""
    references: str | None = None
    labels: dict[str, str] | tuple[str, ...] | None = None
    inputs: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    group_rule: Literal["equal", "connected", "adjacent"] = "equal"
    metric: str
    """how answers are scored: a name of `peftbench list metrics`, or a Python file such as ./my_metric.py."""
    mean_train_label: float | None = None
    max_new_tokens: Annotated[int, Field(ge=1)] = 64
    example: dict[str, Any] | None = None
    """One invented row, to show the prompt of a dataset on the hub without loading anything."""


_known: dict[str, DatasetSpec] = {}
_folders: dict[str, Path] = {}


def is_path(name: str) -> bool:
    """Whether a dataset is named by the path of its entry and not by a name."""
    return "/" in name or name.endswith((".yaml", ".yml", ".jsonl", ".jsonl.gz", ".csv", ".parquet"))


def bare(name: str) -> str:
    """The name of a dataset without what stands behind the @."""
    return name.partition("@")[0]


def own_dataset(file: Path, taken: frozenset[str] = frozenset(), *, by_user: bool = True) -> DatasetSpec:
    """The dataset that an entry describes; its files are counted and hashed, once while they stay as they are.

    Raises `ConfigError` with every problem of the entry, each with its place, and `DataError` where a file of rows
    cannot be read. `taken` are names that it may not have. Its metric may be run from now on if the file was named
    `by_user`; one that a record names only says which metric it was.
    """
    if file.name.endswith((".jsonl", ".jsonl.gz", ".csv", ".parquet")):
        raise ConfigError(
            f"dataset {str(file)!r} is a file of rows; describe it in an entry, which `peftbench new dataset NAME "
            f"--from {file.name}` begins"
        )
    seen = _state(file)
    entry = _entry(file, seen)
    spec = _spec(file, seen, _state(*_beside(entry, file)))
    if by_user and entry.metric.endswith(".py"):
        keep_file(file.parent / entry.metric)
    if bare(spec.name) in taken:
        raise ConfigError(
            f"{file.name}: name {bare(spec.name)!r} is that of a dataset that exists; choose another"
        )
    _folders[spec.name], _known[spec.name] = file.parent, spec
    return spec


def same_names(given: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Places and names of datasets that are called like one before them and are another one."""
    before: dict[str, str] = {}
    for number, path in enumerate(given):
        with suppress(PeftBenchError):  # whoever reads it will say so
            full = own_dataset(Path(path)).name if is_path(path) else path
            if full != path and before.setdefault(bare(full), full) != full:
                yield number, bare(full)


def remember(spec: DatasetSpec) -> DatasetSpec:
    """Know a dataset of one's own by its name from now on, such as one that a record brings.

    Raises `DataError` where its name is not the one that its content gives.
    """
    if not spec.own or named(spec).name != spec.name:
        raise DataError(
            f"the entry of dataset {spec.name[:80]!r} is not the one that its name was made from; restore "
            "the record"
        )
    # What follows from the rest is not part of its name, and so not a record's to say.
    published = PublishedRule(max_new_tokens=spec.max_new_tokens)
    return _known.setdefault(spec.name, spec.model_copy(update={"published": published}))


def remembered(name: str) -> DatasetSpec | None:
    """The dataset of one's own of this full name; None where it was not met in this process."""
    return _known.get(name)


def is_here(spec: DatasetSpec) -> bool:
    """Whether its entry was read in this process, and so where its files lie is known."""
    return spec.name in _folders


def folder_of(spec: DatasetSpec) -> Path:
    """Where the files of a dataset lie; raises `DataError` where only its record was met."""
    if not is_here(spec):
        raise DataError(
            f"the rows of {spec.name} lie beside its entry, and nobody said where that is; name the dataset by "
            "the path of its YAML file"
        )
    return _folders[spec.name]


def file_of(spec: DatasetSpec, role: Literal["train", "test"]) -> tuple[Path, str]:
    """A split's file and what messages call it; raises `DataError` where it is not the one that was hashed."""
    assert isinstance(spec.source, LocalSource)
    name = spec.source.files[role]
    path = folder_of(spec) / name
    if not path.is_file() or sha256_of(path) != spec.source.sha256[role]:
        raise DataError(f"{name} of {bare(spec.name)} changed while it was in use; run the same command again")
    return path, name


def first_row(spec: DatasetSpec) -> Row | None:
    """The first training row of a dataset whose files are here; None for any other, or where there is none."""
    if not isinstance(spec.source, LocalSource) or not is_here(spec):
        return None
    path, name = file_of(spec, "train")
    return next(iter(read_rows(path, name, spec.columns, delimiter=spec.source.delimiter)), None)


def named(spec: DatasetSpec) -> DatasetSpec:
    """The dataset under the name that its content gives; what says nothing of scores is left out.

    So are defaults, that a new setting with one renames nothing. The order of labels counts.
    """
    said = ("title", "area", "benchmark", "task", "classes", "licence", "citation", "lengths", "example", "own")
    content = spec.model_dump(mode="json", exclude={*said, "published"}, exclude_defaults=True) | {
        "name": bare(spec.name)
    }
    if isinstance(spec.source, LocalSource):
        content["source"] = {"sha256": spec.source.sha256, "delimiter": spec.source.delimiter}
    content = dict(sorted(content.items()))
    digest = hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()
    return spec.model_copy(update={"name": f"{bare(spec.name)}@{digest[:8]}"})


# ----------------------------------------------------------------------------------------------- reading it


def _state(*files: Path) -> tuple[object, ...]:
    """What can be seen of files without reading them; of one that is not there, nothing."""
    seen: list[object] = []
    for file in files:
        try:
            status = file.stat()
            seen.append((status.st_size, status.st_mtime_ns, status.st_ino))
        except (OSError, ValueError):  # reading says what is wrong
            seen.append(object())
    return tuple(seen)


@lru_cache(maxsize=64)
def _entry(file: Path, _: tuple[object, ...]) -> Entry:
    return read_entry(file)


def _beside(entry: Entry, file: Path) -> list[Path]:
    """The files that an entry names."""
    names = [] if entry.files is None else [entry.files.train, entry.files.test]
    return [file.parent / name for name in (*names, *([entry.metric] if entry.metric.endswith(".py") else []))]


@lru_cache(maxsize=64)
def _spec(file: Path, seen: tuple[object, ...], _: tuple[object, ...]) -> DatasetSpec:
    entry = _entry(file, seen)
    labels = dict.fromkeys(entry.labels) if isinstance(entry.labels, tuple) else entry.labels
    words = None if labels is None else {stored: word or stored for stored, word in labels.items()}
    source, counts = _source(entry, file)
    metric = kept_name(file.parent / entry.metric) if entry.metric.endswith(".py") else entry.metric
    same = {name: getattr(entry, name) for name in Entry.model_fields if name in DatasetSpec.model_fields}
    spec = DatasetSpec.model_validate(
        {
            **same,
            "version": 1,
            "title": entry.title or entry.name,
            "citation": entry.citation or "not stated",
            "classes": len(set(words.values())) if words else None,
            "counts": counts,
            "source": source,
            "splits": {"train": "train", "test": "test"},
            "labels": words,
            "metric": metric,
            "published": PublishedRule(max_new_tokens=entry.max_new_tokens),
            "own": True,
        }
    )
    return named(spec)


def read_entry(file: Path) -> Entry:
    """The entry in a YAML file, without a look at its rows; raises `ConfigError` with every problem."""
    source = read_yaml(file, "dataset file", EXAMPLE)
    try:
        entry = Entry.model_validate_json(json.dumps(source.values, default=str))
    except ValidationError as error:
        raise ConfigError(dict.fromkeys(sentences(error, Entry, source))) from error
    if problems := list(_problems(entry, source, file)):
        raise ConfigError(problems)
    return entry


def _source(entry: Entry, file: Path) -> tuple[HubSource | LocalSource, Counts]:
    if entry.hub is not None:
        hub = entry.hub
        source = HubSource(
            repository=hub.repository,
            revision=hub.revision,
            attested="not attested",
            files={"train": hub.train, "test": hub.test},
        )
        return source, hub.counts
    assert entry.files is not None
    names: dict[Literal["train", "test"], str] = {"train": entry.files.train, "test": entry.files.test}
    counts = {
        role: count_rows(file.parent / name, name, entry.columns, entry.delimiter) for role, name in names.items()
    }
    hashes = {role: sha256_of(file.parent / name) for role, name in names.items()}
    return LocalSource(files=names, sha256=hashes, delimiter=entry.delimiter), Counts(**counts)


def _problems(entry: Entry, source: Source, file: Path) -> Iterator[str]:
    """What pydantic cannot see: names that stand for one another, and files that must be there."""
    if (entry.files is None) == (entry.hub is None):
        yield f"{source.place(('files',))}: give one of `files` and `hub`, which say where the rows are"
    if entry.files is not None:
        for role in _ROLES:
            yield from _file_problems(getattr(entry.files, role), source.place(("files", role)), file, "rows")
        if entry.files.train == entry.files.test:
            yield f"{source.place(('files', 'test'))}: train and test are the same file; part its rows into two"
    if entry.metric.endswith(".py"):
        yield from _file_problems(entry.metric, source.place(("metric",)), file, "metric")
    known = ", ".join(entry.columns)
    places = [(("fields", number, "column"), each.column) for number, each in enumerate(entry.fields)]
    named_: list[tuple[tuple[str | int, ...], str | None]] = [
        *places,
        (("target",), entry.target),
        (("references",), entry.references),
    ]
    for key in ("nullable", "inputs", "group"):
        named_ += [((key, number), each) for number, each in enumerate(getattr(entry, key))]
    for path, column in named_:
        if column is not None and column not in entry.columns and column.partition(".")[0] not in entry.columns:
            yield f"{source.place(path)}: column {column!r} is not among columns ({known}); add or mend it"
    if entry.labels is not None:
        words = list(entry.labels.values() if isinstance(entry.labels, dict) else entry.labels)
        place = source.place(("labels",))
        if len(set(words)) < 2:
            yield f"{place}: labels holds {len(set(words))}, expected two or more; leave it out for open answers"
        if any(not word.strip() for word in words):
            yield f"{place}: a label is empty; give each a word that the model can answer"
        folded = {word.casefold() for word in words}
        if len(folded) < len(set(words)):
            yield f"{place}: two labels differ in case alone, so answers could not be told apart; rename one"
    if entry.metric == "pearson" and entry.mean_train_label is None:
        yield (
            f"{source.place(('metric',))}: pearson needs mean_train_label, the mean of the training answers, "
            "which stands in for an output that is no number; add it"
        )
    if entry.metric == "macro_f1" and entry.labels is None:
        yield f"{source.place(('metric',))}: macro_f1 needs labels; list the words that are answers under `labels`"


def _file_problems(name: str, place: str, file: Path, kind: str) -> Iterator[str]:
    parts = PurePosixPath(name).parts
    if (
        PurePosixPath(name).is_absolute()
        or re.match(r"[A-Za-z]:|\\", name)
        or ".." in parts
        or name.startswith("~")
    ):
        yield (
            f"{place}: {name!r} is not a path inside the folder of {file.name}; put the file there, so that the "
            "entry works wherever the folder is copied"
        )
        return
    path = file.parent / name
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        yield f"{place}: {kind} file {name!r} {what}; give a file in the folder of {file.name}"
        return
    if kind == "rows":
        try:
            format_of(name)
        except DataError as error:
            yield f"{place}: {error}"
