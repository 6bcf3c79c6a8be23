"""Rows and hashes of one file, Parquet, JSON Lines or CSV.

Rows are given one after the other, so that a file larger than memory can be read. What the rows mean, and
where the file comes from, is not known here.
"""

import csv
import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from peftbench.errors import DataError
from peftbench.schema import ColumnType

Format = Literal["parquet", "json lines", "csv"]
Row = Mapping[str, Any]

_PARQUET_BATCH_ROWS = 1024
_LONGEST_CELL = 100_000_000


def format_of(name: str) -> Format:
    """Parquet, JSON Lines or CSV, by the file's ending; raises `DataError` for any other."""
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith((".jsonl", ".jsonl.gz")):
        return "json lines"
    if name.endswith((".csv", ".tsv")):
        return "csv"
    raise DataError(f"{name} ends in neither .parquet, .jsonl, .jsonl.gz nor .csv; convert it to one of these")


def read_rows(
    path: Path,
    name: str,
    columns: Mapping[str, ColumnType],
    file_format: Format | None = None,
    *,
    delimiter: str = ",",
) -> Iterator[Row]:
    """The rows of a file in their order, `name` being what messages call it.

    Of Parquet only `columns` are read; the others give the whole row. What CSV has for a column of numbers is read
    as one; `delimiter` parts its columns. Raises `DataError` where the file is damaged.
    """
    found = file_format or format_of(name)
    if found == "parquet":
        return _parquet_rows(path, name, columns)
    return _json_rows(path, name) if found == "json lines" else _csv_rows(path, name, columns, delimiter)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parquet_rows(path: Path, name: str, columns: Mapping[str, ColumnType]) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            present = [column for column in file.schema_arrow.names if column in columns]
            for batch in file.iter_batches(batch_size=_PARQUET_BATCH_ROWS, columns=present):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(
            f"{name} is not a whole Parquet file ({_short(error)}); remove it and fetch it again"
        ) from error


def _json_rows(path: Path, name: str) -> Iterator[Row]:
    number = 0
    try:
        with gzip.open(path, "rb") if name.endswith(".gz") else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise DataError(
                        f"line {number} of {name} is a JSON {type(row).__name__}, expected an object with the "
                        "columns as keys; write one object a line"
                    )
                yield row
    except (ValueError, RecursionError) as error:  # not JSON, or not UTF-8
        raise DataError(
            f"line {number} of {name} is not JSON in UTF-8 ({_short(error)}); mend or fetch the file again"
        ) from error
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{name} cannot be read beyond line {number} ({_short(error)}); remove it and fetch it again"
        ) from error


def _csv_rows(path: Path, name: str, columns: Mapping[str, ColumnType], delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(_LONGEST_CELL)
    lines, head = 0, list[str]()
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=delimiter, strict=True)
            head = next(reader, [])
            _check_head(head, name, columns, delimiter)
            for cells in reader:
                lines = reader.line_num
                if len(cells) == len(head):
                    row = zip(head, cells, strict=True)
                    yield {column: _csv_value(cell, columns.get(column)) for column, cell in row}
                elif cells:
                    raise DataError(
                        f"line {lines} of {name} has {len(cells)} columns, its head {len(head)}; put texts that "
                        f"hold {delimiter!r} or a line end between double quotes"
                    )
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name} is not UTF-8 text: byte {error.object[error.start] if error.object else 0:#04x} after line "
            f"{_lines_before(path)}; save it as UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(
            f"{name} cannot be read as CSV beyond line {lines} ({_short(error)}); mend its quotes, or convert it "
            "to JSON Lines"
        ) from error
    except OSError as error:
        raise DataError(f"{name} cannot be read ({_short(error)}); make it readable") from error


def _check_head(head: list[str], name: str, columns: Mapping[str, ColumnType], delimiter: str) -> None:
    """Raise `DataError` where the first line names no columns, or one twice, or is parted by something else."""
    if not head:
        raise DataError(f"{name} is empty; its first line must name the columns")
    if twice := [column for column in head if head.count(column) > 1]:
        raise DataError(f"{name} names column {twice[0]!r} twice in its first line; rename one")
    for other in (",", ";", "\t", "|"):
        if len(head) == 1 and other != delimiter and other in head[0] and head[0] not in columns:
            raise DataError(
                f"the first line of {name} is one column, {head[0][:60]!r}, that looks parted by {other!r}; set "
                f"delimiter: {json.dumps(other)} in the entry"
            )


def _csv_value(cell: str, kind: ColumnType | None) -> object:
    """A cell as what its column holds, or as it stands where it is none, which whoever checks the row will say."""
    if kind not in ("integer", "number"):
        return cell
    if not cell.strip():
        return None
    try:
        return int(cell) if kind == "integer" else float(cell)
    except ValueError:
        return cell


def _lines_before(path: Path) -> int:
    """How many lines of a file are UTF-8 before the first that is not."""
    before = 0
    with path.open("rb") as file:
        for line in file:
            try:
                line.decode("utf-8")
            except UnicodeDecodeError:
                break
            before += 1
    return before


def count_rows(path: Path, name: str, columns: Mapping[str, ColumnType], delimiter: str = ",") -> int:
    """How many rows a file has; raises `DataError` where it is damaged, as far as can be seen by counting."""
    if format_of(name) == "parquet":
        import pyarrow
        from pyarrow import parquet

        try:
            return int(parquet.ParquetFile(path).metadata.num_rows)
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{name} is not a whole Parquet file ({_short(error)}); make it again") from error
    if format_of(name) == "csv":
        return sum(1 for _ in _csv_rows(path, name, columns, delimiter))
    try:
        with gzip.open(path, "rb") if name.endswith(".gz") else path.open("rb") as file:
            return sum(1 for line in file if line.strip())
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(f"{name} cannot be read ({_short(error)}); make it again") from error


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
