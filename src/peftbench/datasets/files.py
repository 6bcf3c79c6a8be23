"""Rows and hashes of one file, Parquet or JSON Lines.

Rows are given one after the other, so that a file larger than memory can be read. What the rows mean, and
where the file comes from, is not known here.
"""

import gzip
import hashlib
import json
import zlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from peftbench.errors import DataError

Format = Literal["parquet", "json lines"]
Row = Mapping[str, Any]

_PARQUET_BATCH_ROWS = 1024


def format_of(name: str) -> Format:
    """Parquet or JSON Lines, by the file's ending; raises `DataError` for any other."""
    if name.endswith(".parquet"):
        return "parquet"
    if name.endswith((".jsonl", ".jsonl.gz")):
        return "json lines"
    raise DataError(f"{name} ends in neither .parquet, .jsonl nor .jsonl.gz; convert it to one of these")


def read_rows(path: Path, name: str, columns: Collection[str], file_format: Format | None = None) -> Iterator[Row]:
    """The rows of a file in their order, `name` being what messages call it.

    Of Parquet only `columns` are read; JSON Lines give the whole row. Raises `DataError` where the file is
    damaged.
    """
    if (file_format or format_of(name)) == "parquet":
        return _parquet_rows(path, name, columns)
    return _json_rows(path, name)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _parquet_rows(path: Path, name: str, columns: Collection[str]) -> Iterator[Row]:
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


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
