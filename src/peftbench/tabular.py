"""Tables as text and files: for a terminal, CSV that a spreadsheet can open, JSON and Parquet."""

import csv
import json
import math
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, get_args

from peftbench.console import print_table, shown
from peftbench.disk import draft_of, explained
from peftbench.errors import ConfigError, UnknownName

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["table", "csv", "json", "parquet"]

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""What a text begins with that a spreadsheet would compute, the wide forms of East Asian text included."""


def format_for(given: str | None, output: Path | None) -> Format:
    """The format that is asked for, or that the name of the file says; a table where neither does.

    Raises `UnknownName` or `ConfigError` for a format that is not known or does not go where it should.
    """
    known = get_args(Format)
    if given is not None and given not in known:
        raise UnknownName("format", given, known)
    chosen = given or (output.suffix.lower().removeprefix(".") if output else "table")
    if output is not None and chosen not in known[1:]:
        raise ConfigError(f"--output is {output.name!r}; end it in .csv, .json or .parquet, or give that --format")
    if output is None and chosen == "parquet" and sys.stdout.isatty():
        raise ConfigError("--format parquet is not for a terminal; name a file by --output")
    return chosen  # type: ignore[return-value]


def put(table: "pa.Table", form: Format, output: Path | None) -> None:
    """Write a table to a file, whole or not at all, or to standard output.

    Raises `DataError` if it cannot, `ConfigError` if the format cannot hold it.
    """
    if form == "table":
        columns = table.column_names
        rows = [[_short(cell) for cell in row] for row in _rows(table)]
        numbers = [field.name for field in table.schema if _is_number(field.type)]
        print_table("", columns, rows, right=numbers)
        return
    if form != "csv" and len(set(table.column_names)) < table.num_columns:
        raise ConfigError(f"two columns have the same name, which {form} cannot tell apart; name them by AS")
    content = _parquet(table) if form == "parquet" else (_csv(table) if form == "csv" else _json(table)).encode()
    if output is not None:
        with explained(output), draft_of(output) as draft:
            draft.write_bytes(content)
    elif sys.stdout.isatty():
        print(shown(content.decode()), end="")
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()


def _rows(table: "pa.Table") -> Sequence[Sequence[Any]]:
    # Not by name: an answer of SQL may have two columns of one name.
    return list(zip(*(column.to_pylist() for column in table.columns), strict=True))


def _is_number(kind: Any) -> bool:
    import pyarrow.types as kinds

    return bool(kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind))


def _short(cell: Any) -> Any:
    """A cell of a table on a terminal: on one line, numbers to six digits."""
    if isinstance(cell, float):
        return f"{cell:.6g}"
    return " ".join(cell.splitlines()) if isinstance(cell, str) else cell


def _csv(table: "pa.Table") -> str:
    lines: list[str] = []
    # Some versions of csv quote only what the end of a line is made of: both marks, until the line is kept.
    write = csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n").writerow
    write([harmless(name) for name in table.column_names])
    for row in _rows(table):
        write([_cell(value) for value in row])
    return "".join(line.removesuffix("\r\n") + "\n" for line in lines)


def _cell(value: Any) -> Any:
    """Numbers as they are, so that they can be read back; what is not known is empty."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | Decimal):
        return value
    return harmless(value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False).strip('"'))


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula: one that could be is led by an apostrophe."""
    return f"'{text}" if text.startswith(FORMULA) else text


def _json(table: "pa.Table") -> str:
    rows = [dict(zip(table.column_names, map(_plain, row), strict=True)) for row in _rows(table)]
    lines = ",\n ".join(json.dumps(row, ensure_ascii=False, allow_nan=False) for row in rows)
    return f"[{lines}]\n"


def _plain(value: Any) -> Any:
    """A value as JSON has it; numbers that are none are null, and other kinds are text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.hex() if isinstance(value, bytes) else str(value)


def _parquet(table: "pa.Table") -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = pa.BufferOutputStream()
    pq.write_table(table, out, compression="zstd")
    return bytes(out.getvalue())
