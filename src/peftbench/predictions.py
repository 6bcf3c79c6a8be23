"""Stored outputs of a model, one row for each test row, as Parquet."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from peftbench.disk import explained
from peftbench.errors import DataError
from peftbench.parts import content, prepare


@dataclass(frozen=True)
class Prediction:
    """One stored output."""

    id: str
    prompt_sha256: str
    """Hash of the prompt's token ids as they went into the model."""
    text: str
    references: tuple[str, ...]
    valid: bool | None
    """Whether the output is an answer of the required form; None where there is no gold answer to score it by."""
    hit_limit: bool
    """Whether it ended only because no more tokens were allowed."""
    new_tokens: int
    in_train: bool | None
    """Whether the same input stands in the source's train split; None where that was not loaded."""


def write_predictions(file: Path, rows: Iterable[Prediction]) -> str:
    """Store outputs to become `file` once their record stands; returns their hash for it.

    Raises `DataError` if the disk refuses.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "id": pa.string(),
        "prompt_sha256": pa.string(),
        "text": pa.string(),
        "references": pa.list_(pa.string()),
        "valid": pa.bool_(),
        "hit_limit": pa.bool_(),
        "new_tokens": pa.int32(),
        "in_train": pa.bool_(),
    }
    stored = list(rows)
    columns = [pa.array([getattr(row, name) for row in stored], type=kind) for name, kind in kinds.items()]
    table = pa.table(columns, names=list(kinds))
    with explained(file):
        return prepare(file, lambda draft: pq.write_table(table, draft, compression="zstd"))


def read_predictions(file: Path, sha256: str | None) -> list[Prediction]:
    """Stored outputs in the order of the test rows.

    `sha256` is what their record says of them, None in records of earlier versions. Raises `DataError` if the file
    is missing, is not what the record says or cannot be read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        found = file.read_bytes() if sha256 is None else content(file, sha256)
        if found is None and file.exists():
            raise DataError(
                f"{file} is not what its record was made from: it is damaged or was replaced; restore it or "
                "evaluate again"
            )
        if found is None:
            raise FileNotFoundError
        rows = pq.ParquetFile(pa.BufferReader(found)).read(use_threads=False).to_pylist()  # they are small
        return [Prediction(**{**row, "references": tuple(row["references"])}) for row in rows]
    except FileNotFoundError as error:
        raise DataError(f"{file} is missing; evaluate the run again") from error
    except (pa.ArrowException, OSError, TypeError, KeyError) as error:
        raise DataError(
            f"{file} cannot be read as predictions ({type(error).__name__}); evaluate again"
        ) from error
