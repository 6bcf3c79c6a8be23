"""A small CoLA with invented rows, as a repository of the hub, and what tests do to the hub's client."""

import io
import os
import shutil
from typing import Any

import pyarrow
import pytest
from huggingface_hub import constants
from pyarrow import parquet

from peftbench.datasets import get_dataset
from peftbench.schema import Counts, DatasetSpec
from tests.hub_server import Repository

COMMIT = "c0ffee" + "0" * 34
LATER = "decade" + "0" * 34
TRAIN, TEST = "cola/train-00000-of-00001.parquet", "cola/validation-00000-of-00001.parquet"

Row = dict[str, Any]


def as_parquet(rows: list[Row], **types: pyarrow.DataType) -> bytes:
    """A Parquet file as the hub has them: small integers, 32-bit floats, labels as numbers."""
    table = pyarrow.Table.from_pylist(rows)
    fields = [field.with_type(types.get(field.name, field.type)) for field in table.schema]
    file = io.BytesIO()
    parquet.write_table(table.cast(pyarrow.schema(fields)), file, row_group_size=500)
    return file.getvalue()


def invented(role: str, count: int) -> list[Row]:
    return [
        {"sentence": f"{role} sentence {number}", "label": number % 2, "idx": number} for number in range(count)
    ]


ROWS: dict[Any, list[Row]] = {"train": invented("train", 400), "test": invented("test", 100)}
# Random-looking bytes, so that a file is longer than what one packet carries.
FILLER = [{**row, "filler": os.urandom(600)} for row in ROWS["train"]]


def repository() -> Repository:
    files = {TRAIN: as_parquet(FILLER), TEST: as_parquet(ROWS["test"]), "README.md": b"# A card\n"}
    return Repository(COMMIT, {COMMIT: files})


def cola(**source: Any) -> DatasetSpec:
    """CoLA at the commit of the server, its hashes unknown unless given."""
    spec = get_dataset("cola")
    changed = spec.source.model_copy(update={"revision": COMMIT, "sha256": {}, **source})
    return spec.model_copy(update={"source": changed, "counts": Counts(train=400, test=100)})


def use_endpoint(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries follow one another at once."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def forget_downloads() -> None:
    shutil.rmtree(constants.HF_HUB_CACHE)
