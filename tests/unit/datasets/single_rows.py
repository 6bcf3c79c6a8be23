"""Single rows of the catalogue's datasets, prepared one call at a time."""

import gzip
import json
from pathlib import Path
from typing import Any

from peftbench.datasets import get_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.datasets.examples import instruction_for, prepared_rows
from peftbench.schema import Example, Protocol

Row = dict[str, Any]


def row_of(name: str, **changes: Any) -> Row:
    example = get_dataset(name).example
    assert example is not None
    return {**example, **changes}


def prepare(name: str, *rows: Row, protocol: Protocol = "corrected", role: Any = "test") -> list[Example]:
    spec = get_dataset(name)
    asked = instruction_for(spec, protocol, role)
    found = prepared_rows(under_protocol(spec, protocol), role, rows, instruction=asked)
    return [example for row in found for example in row.examples]


def field(example: Example, label: str) -> str:
    [text] = [text for name, text in example.prompt.fields if name == label]
    return text


def real_rows(shared: Path, name: str, split: str) -> list[Row]:
    with gzip.open(shared / "data" / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]
