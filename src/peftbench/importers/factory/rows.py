"""Local rows of a dataset description, read as plain texts: JSON, JSON Lines, CSV or Parquet beside it."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from peftbench.datasets.files import read_rows
from peftbench.errors import DataError
from peftbench.importers.factory.descriptions import Description
from peftbench.importers.reading import (
    MOST_LINES_BYTES,
    MOST_TEXT,
    check_json,
    content,
    json_lines,
    short,
)
from peftbench.schema import ColumnType

ENDINGS = (".json", ".jsonl", ".csv", ".parquet")


def local_rows(found: Description, folder: Path) -> list[dict[str, str | None]]:
    """The rows of a description with the columns that count, as texts; raises `DataError` with the first fault."""
    name = found.file or ""
    if len(name) > MOST_TEXT or not name.isprintable():
        raise DataError(f"its file is called {short(name)}, which is no name of a file")
    file = folder / name
    if Path(name).is_absolute() or not file.resolve().is_relative_to(folder.resolve()):
        raise DataError(f"its file {short(name)} lies outside the folder of dataset_info.json; put a copy there")
    if not os.path.isfile(file):  # noqa: PTH113  (pathlib raises for a name that is too long)
        what = "is a folder" if os.path.isdir(file) else "is not there"  # noqa: PTH112
        raise DataError(f"its file {short(name)} {what}; put the file beside dataset_info.json")
    if file.suffix not in ENDINGS:
        raise DataError(f"its file {short(name)} ends in none of {', '.join(ENDINGS)}; convert it to one of these")
    rows = [_taken(row, found, f"{name}, row {number}") for number, row in enumerate(_rows(file, name, found))]
    if not rows:
        raise DataError(f"its file {short(name)} holds no row")
    return rows


def _rows(file: Path, name: str, found: Description) -> Iterator[Any]:
    if file.suffix in (".parquet", ".csv"):
        places = (found.prompt, found.query, found.response, found.messages)
        wanted: dict[str, ColumnType] = {column: "any" for column in places if column}
        yield from read_rows(file, name, wanted)
        return
    raw = content(file, name, MOST_LINES_BYTES)
    if file.suffix == ".jsonl" or (file.suffix == ".json" and not raw.lstrip().startswith(b"[")):
        problems: list[str] = []
        yield from json_lines(raw, name, lambda _row: None, problems)
        if problems:
            raise DataError(problems[0])
        return
    try:
        text = raw.decode("utf-8-sig")
        rows = json.loads(text)
        check_json(rows, name)
        yield from rows
    except (ValueError, RecursionError) as error:
        raise DataError(f"its file {short(name)} cannot be read ({short(str(error), quoted=False)})") from error


def _taken(row: Any, found: Description, place: str) -> dict[str, str | None]:
    if not isinstance(row, dict):
        raise DataError(f"{place} is {short(row)}, expected an object with the columns as keys")
    if found.messages is not None:
        question, answer = _turns(row.get(found.messages), found.tags, place)
        return {found.prompt: question, found.response: answer}
    texts: dict[str, str | None] = {}
    for column in (found.prompt, found.query, found.response):
        if column is None:
            continue
        if column not in row:
            raise DataError(
                f"{place} has no column {column!r}; it has {short(', '.join(map(str, row)), quoted=False)}"
            )
        texts[column] = _text(row[column], f"{place}: column {column!r}", needed=column != found.query)
    return texts


def _turns(turns: Any, tags: dict[str, str], place: str) -> tuple[str, str]:
    """The one question and the one answer of a conversation."""
    role, text = tags["role_tag"], tags["content_tag"]
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise DataError(f"{place}: the conversation is {short(turns)}, expected a list of objects")
    if [turn.get(role) for turn in turns] != [tags["user_tag"], tags["assistant_tag"]]:
        told = ", ".join(str(turn.get(role)) for turn in turns)
        raise DataError(
            f"{place} has the turns {short(told, quoted=False)}; a row is one question with one answer"
        )
    question, answer = (_text(turn.get(text), f"{place}: {text}", needed=True) for turn in turns)
    return question or "", answer or ""


def _text(value: Any, place: str, *, needed: bool) -> str | None:
    if value is None and not needed:
        return None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise DataError(f"{place} is {short(value)}, expected a text")
    return value
