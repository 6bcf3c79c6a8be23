"""The first draft of a method, dataset or metric of one's own: commented files to go on from, and their tests."""

import json
import keyword
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Any

from peftbench.datasets import dataset_names
from peftbench.datasets.files import Row, format_of, read_rows
from peftbench.disk import explained
from peftbench.errors import ConfigError, DataError
from peftbench.methods.specs import methods
from peftbench.metrics import metrics

ROWS_LOOKED_AT = 1000
MOST_LABELS = 20
"""Answers with more different values than that are taken for open ones."""
TARGETS = (
    "label",
    "labels",
    "answer",
    "target",
    "output",
    "response",
    "completion",
    "class",
    "category",
    "intent",
)
"""Names of columns that hold answers, the likeliest first."""
_IMPORTED = ("datasets", "numpy", "peft", "peftbench", "pytest", "scipy", "torch", "transformers")
"""What the files of users import."""
_DELIMITERS = (",", ";", "\t", "|")


def new_dataset(name: str, train: Path | None = None, test: Path | None = None) -> list[Path]:
    """Write `<name>.yaml`, with columns guessed from `train` where it is given; returns the files written.

    Raises `ConfigError` for a name that is taken or none, or a file that exists, and `DataError` for rows that
    cannot be read.
    """
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,59}", name):
        raise ConfigError(
            f"{name!r} cannot be the name of a dataset; use lower-case letters, digits, - and _, such as my_data"
        )
    if name in dataset_names():
        raise ConfigError(f"dataset {name!r} exists already; choose another name")
    for file in (train, test):
        if file is not None and (file.is_absolute() or ".." in file.parts or not file.is_file()):
            raise ConfigError(
                f"file of rows {str(file)!r} is not a file in this folder, where the entry will be; put it here"
            )
    rows, delimiter = ([], ",") if train is None else _rows(train)
    return _write({f"{name}.yaml": _entry(name, rows, delimiter, train, test)})


def new_metric(name: str) -> list[Path]:
    """Write `<name>.py` and its test; returns the files written. Raises `ConfigError` as `new_dataset` does."""
    _check_name(name, "metric", taken=name in metrics.names())
    return _write({f"{name}.py": _template("metric", name), f"test_{name}.py": _template("test_metric", name)})


def new_method(name: str, folder: Path) -> list[Path]:
    """Write `<name>.py` and its test into a folder, which is made; returns the files written.

    Raises `ConfigError` as `new_dataset` does.
    """
    _check_name(name, "method", taken=name in methods)
    contents = {f"{name}.py": _template("method", name), f"test_{name}.py": _template("test_method", name)}
    return _write(contents, folder)


def _check_name(name: str, kind: str, *, taken: bool) -> None:
    """Raise `ConfigError` for what cannot be the name of a module and of something new."""
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a {kind}; use lower-case letters, digits and underscores, beginning "
            f"with a letter, such as my_{kind}"
        )
    if name in sys.stdlib_module_names or name in _IMPORTED:
        raise ConfigError(
            f"{name!r} is the name of a Python module, which the file would hide; choose another name"
        )
    if taken:
        raise ConfigError(f"{kind} {name!r} exists already; choose another name")


def _template(template: str, name: str) -> str:
    text = files("peftbench").joinpath("templates", f"{template}.txt").read_text(encoding="utf-8")
    return text.replace("NAME", name).replace("TITLE", name.replace("_", " ").capitalize())


def _write(contents: Mapping[str, str], folder: Path = Path()) -> list[Path]:
    written = [folder / name for name in contents]
    for file in written:
        if file.exists() or file.is_symlink():
            raise ConfigError(f"{str(file)!r} is there already and is not overwritten; choose another name")
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file, text in zip(written, contents.values(), strict=True):
            with file.open("x", encoding="utf-8") as opened:
                opened.write(text)
    return written


# ------------------------------------------------------------------------------------------------- guessing


def _rows(file: Path) -> tuple[list[Row], str]:
    """The first rows of a file, and what parts its columns; CSV cells that are all whole numbers become such."""
    delimiter = ","
    if format_of(file.name) == "csv":
        with file.open(encoding="utf-8-sig", errors="replace") as opened:
            head = opened.readline()
        delimiter = max(_DELIMITERS, key=head.count)
    rows = list(islice(read_rows(file, file.name, _every_column(file), delimiter=delimiter), ROWS_LOOKED_AT))
    if not rows:
        raise DataError(f"{file.name} holds no row; put some into it first")
    return rows, delimiter


def _every_column(file: Path) -> dict[str, Any]:
    if format_of(file.name) != "parquet":
        return {}
    import pyarrow
    from pyarrow import parquet

    try:
        return dict.fromkeys(parquet.ParquetFile(file).schema_arrow.names, "any")
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{file.name} is not a whole Parquet file; make it again") from error


def _kind(values: Sequence[Any]) -> str:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, str) for value in present):
        return "text"
    if present and all(isinstance(value, int) and not isinstance(value, bool) for value in present):
        return "integer"
    if present and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        return "number"
    if present and all(
        isinstance(value, list) and all(isinstance(each, str) for each in value) for value in present
    ):
        return "texts"
    return "any"


def _guess_target(columns: Mapping[str, Sequence[Any]], kinds: Mapping[str, str]) -> str:
    named = [column for name in TARGETS for column in columns if column.lower() == name]
    few = [
        column
        for column, values in columns.items()
        if kinds[column] in ("text", "integer")
        and 1 < len({*map(str, values)}) <= min(MOST_LABELS, len(values) // 2)
    ]
    return (named or few[-1:] or list(columns)[-1:])[0]


def _is_id(column: str) -> bool:
    return bool(re.fullmatch(r"(.*_)?(id|idx|index|uuid|guid)", column.lower()))


# ---------------------------------------------------------------------------------------------- what is written


def _entry(name: str, rows: Sequence[Row], delimiter: str, train: Path | None, test: Path | None) -> str:
    names = list(dict.fromkeys(column for row in rows for column in row)) or ["text", "label"]
    columns = {column: [row.get(column) for row in rows] for column in names}
    kinds = {column: _kind(values) if rows else "text" for column, values in columns.items()}
    target = _guess_target(columns, kinds) if rows else "label"
    given = [each for each in columns[target] if each is not None]  # null is no answer
    answers = Counter(str(each) if not isinstance(each, bool) else str(each).lower() for each in given)
    labels = sorted(answers) if 1 < len(answers) <= min(MOST_LABELS, len(rows) // 2) else []
    others = [each for each in names if each != target]
    asked = [each for each in others if kinds[each] == "text" and not _is_id(each)] or others
    used = [*asked, target]
    nullable = [each for each in used if None in columns[each] and rows]
    lines = [
        "# A dataset of your own. `peftbench check dataset` says what is missing; see docs/own-dataset.md.",
        f"name: {name}",
        f"title: {name}",
        "# Under which terms the rows may be used, such as CC-BY-4.0, or: not stated",
        "licence: TODO",
        "# NLU and reasoning, math, or code generation",
        "area: NLU and reasoning",
        "task: own task",
        "# JSON Lines, CSV or Parquet in the folder of this file. No test row should stand in train.",
        "files:",
        f"  train: {_quoted(train.as_posix() if train else 'train.jsonl')}",
        f"  test: {_quoted(test.as_posix() if test else 'test.jsonl')}",
        *([f"delimiter: {_quoted(delimiter)}"] if delimiter != "," else []),
        "# Or in place of files, rows of the Hugging Face hub at one commit:",
        "# hub: {repository: owner/name, revision: <40 digits>, train: [train.parquet], test: [test.parquet],",
        "#       counts: {train: 1000, test: 100}}",
        "# What must be there: text, integer, number, texts (a list) or any. Other columns are left alone.",
        "columns:",
        *(f"  {_quoted(each)}: {kinds[each]}" for each in used),
        *([f"nullable: [{', '.join(map(_quoted, nullable))}]"] if nullable else []),
        "# What the model is asked; it stands above the fields.",
        f"instruction: {_quoted(_instruction(labels))}",
        "fields:",
        *(f"  - {{label: {_quoted(_label(each))}, column: {_quoted(each)}}}" for each in asked),
        "# Column of the answer.",
        f"target: {_quoted(target)}",
        "# Stored value: the word that the model answers. Leave it out for open answers.",
        *(["labels:", *(f"  {_quoted(each)}: {_quoted(each)}" for each in labels)] if labels else []),
        *(["# labels: {\"0\": negative, \"1\": positive}"] if not labels else []),
        "# macro_f1 for labels, token_f1 for short texts, others by `peftbench list metrics`, or ./my_metric.py",
        f"metric: {'macro_f1' if labels else 'token_f1'}",
        "# Most tokens of an answer.",
        f"max_new_tokens: {_answer_tokens(columns[target])}",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _instruction(labels: Sequence[str]) -> str:
    if not labels:
        return "TODO: say what is asked, and that the answer alone is wanted."
    return f"TODO: say what is asked. Answer with one word: {', '.join(labels[:-1])} or {labels[-1]}."


def _answer_tokens(answers: Sequence[Any]) -> int:
    """Room for the longest answer, generously: a token for each two characters."""
    longest = max((len(str(each)) for each in answers), default=0)
    return max(32, -(-longest // 32) * 16)


def _label(column: str) -> str:
    return column.replace("_", " ").capitalize()


def _quoted(text: str) -> str:
    """A text as YAML; quoted unless it is a plain word."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", text) and text.lower() not in ("true", "false", "null")
    return text if plain else json.dumps(text)
