"""What others have printed or measured, as the page shows it: marked with its source, never among our groups."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench import importers
from peftbench.columns import COLUMNS
from peftbench.importers import results as imports


def printed_tables() -> list[dict[str, Any]]:
    """The paper's tables, cells as they are printed and as numbers where they are such."""
    return [
        {
            "name": table.name,
            "title": f"Table {table.number}: {table.caption}",
            "columns": ["method", *(column.label for column in table.columns)],
            "rows": [
                [row.label, *(cell.text if cell.value is None else cell.value for cell in row.cells)]
                for row in table.rows
            ],
            "errata": list(table.errata),
        }
        for table in importers.printed_tables()
    ]


def imported_rows(folders: Sequence[Path], problems: list[str]) -> list[dict[str, Any]]:
    """Imported results in the columns of ours, with `source`, `key` and `label` beside; None is what they lack.

    A dataset that is not ours as far as the file tells has its source behind its name. What cannot be read is a
    sentence of `problems`.
    """
    found = []
    for folder in folders:
        for each in imports.imported(folder, problems):
            runs = Counter((result.method, _dataset(result), result.seed) for result in each.results)
            for number, result in enumerate(each.results):
                several = runs[result.method, _dataset(result), result.seed] > 1
                found.append(_row(each.name, number, result, several=several))
    return found


def _dataset(result: Any) -> str:
    return str(result.dataset or f"{result.original_dataset} ({result.source})")


def _row(name: str, number: int, result: Any, *, several: bool) -> dict[str, Any]:
    method = result.method or "unknown"
    told = result.experiment or result.settings
    same = ("settings", "seed", "test_rows", "metric", "score", "score_corrected", "score_published", "all_scores",
            "invalid_rate", "trainable_params", "train_peak_memory_bytes", "train_seconds", "device")  # fmt: skip
    return {
        **dict.fromkeys(COLUMNS),
        **{column: getattr(result, column) for column in same},
        "model": result.model or "unknown",
        "model_revision": result.model_revision,
        "dataset": _dataset(result),
        "protocol": "published" if result.source == "paper" else "imported",
        "method": method,
        "peftbench_version": " ".join(filter(None, (result.tool, result.tool_version))),
        "started_at": result.made_at,
        "status": "done",
        "key": f"imported-{name}-{number}",
        "source": result.source,
        "label": f"{method} ({told})" if several and told else method,
    }
