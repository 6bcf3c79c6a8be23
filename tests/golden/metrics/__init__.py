"""Golden cases of the metrics, one JSON line each, in a file named after the metric.

A case has rows `[prediction, references, valid]`, the dataset's facts that matter (labels, ...), a protocol, the
expected scores, and a source: where the numbers come from or how they follow.
"""

import json
from pathlib import Path
from typing import Any

from peftbench.schema import DatasetSpec

FOLDER = Path(__file__).parent


def cases(metric: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (FOLDER / f"{metric}.jsonl").read_text("utf-8").splitlines()]


def dataset(metric: str, *, labels: tuple[str, ...] = (), **facts: Any) -> DatasetSpec:
    """A dataset of which only what metrics look at is filled in."""
    table = {label: label for label in labels}
    facts = {"name": "sample", "official_metric": None, "mean_train_label": None, **facts}
    return DatasetSpec.model_construct(metric=metric, labels=table or None, **facts)
