"""The scores that the paper prints in Tables 1 and 2, as imported results."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from peftbench.datasets import get_dataset
from peftbench.importers.printed import printed_table
from peftbench.importers.results import ImportedResult

_METRICS = {"macro_f1": "F1", "token_f1": "F1", "pearson": "Pearson", "codebleu": "CodeBLEU"}


def units(_path: Path, _problems: list[str]) -> Sequence[Path]:
    """The files of the two tables, which come with the package."""
    folder = Path(__file__).with_name("paper")
    return [folder / "table1.csv", folder / "table2.csv"]


def read(file: Path, name: str, _problems: list[str]) -> list[ImportedResult]:
    """One result for each printed score."""
    table = printed_table(file.stem)
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    found = []
    for row in table.rows:
        params = table.cell(row.method, "trainable_params").value
        for cell, column in zip(row.cells, table.columns, strict=True):
            if column.unit == "score":
                found.append(
                    ImportedResult(
                        source="paper",
                        file=name,
                        file_sha256=sha256,
                        tool="PEFT-Bench paper, printed",
                        experiment=f"Table {table.number}",
                        model="Llama-3-8B-Instruct",
                        dataset=column.key,
                        original_dataset=column.label,
                        method=row.method,
                        metric=_METRICS.get(get_dataset(column.key).metric, "accuracy"),
                        score=cell.value,
                        original_value=cell.value,
                        original_scale="0 to 100",
                        trainable_params=None if params is None else int(params),
                        notes=f"See ERRATA.md: {', '.join(cell.errata)}." if cell.errata else "",
                    )
                )
    return found
