"""Whether a metric in a Python file does what a metric must, tried on odd outputs and told in words.

The file is run in a process of its own, `metrictrial`, which may loop, exit or print.
"""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from peftbench.datasets import dataset_given, load_dataset
from peftbench.findings import Finding, problem
from peftbench.plugin_file import keep_file
from peftbench.schema import Counts, DatasetSpec, InputField, LocalSource
from peftbench.watched import watch

SECONDS = 20.0
"""How long importing and scoring a few rows may take."""
REFERENCES = ("yes", "12", "3.5", "a b c", "x = 1", "( 8 - 3 ) = 5")
"""Gold answers to try where no dataset brings its own."""


@dataclass
class CheckedMetric:
    """What was found, and the scores that were seen."""

    metric: str
    """Full name, with the hash of the file."""
    findings: list[Finding]
    scores: dict[str, float] = field(default_factory=dict)


def check_metric(file: Path, dataset: str | None = None) -> CheckedMetric:
    """Try the metric in a file; `dataset`, a name or the path of an entry, brings gold answers and labels.

    Raises `ConfigError` where the file cannot be read, and `DataError` where the dataset cannot.
    """
    name = keep_file(file)
    golds, spec = _golds(dataset, name)
    late = f"importing the file and scoring a few rows took over {SECONDS:g} s"
    with tempfile.TemporaryDirectory() as folder:
        asked = Path(folder) / "asked.json"
        asked.write_text(json.dumps({"metric": name, "golds": golds, "spec": spec.model_dump(mode="json")}))
        ended = watch(
            "peftbench.metrictrial", [str(asked)], seconds=SECONDS + 280, stages={"ready": (SECONDS, late)}
        )
    for each in ended.lines:
        if each["stage"] == "done":
            return CheckedMetric(name, [Finding(**one) for one in each["findings"]], each["scores"])
    what = ended.late or f"it ended the process with status {ended.status}"
    return CheckedMetric(name, [problem(what, "make it end by giving a count, and be quicker")])


def _golds(dataset: str | None, name: str) -> tuple[list[tuple[str, ...]], DatasetSpec]:
    if dataset is not None:
        data = load_dataset(dataset_given(dataset), allow_partial=True, splits=["test"])
        return [each.references for each in data.test if each.references][:50], data.spec
    spec = DatasetSpec(
        name="example",
        version=1,
        title="example",
        area="NLU and reasoning",
        task="example",
        classes=None,
        counts=Counts(train=2, test=1),
        licence="none",
        citation="none",
        source=LocalSource(files={}, sha256={}),
        splits={"train": "train", "test": "test"},
        columns={"text": "text"},
        instruction="",
        fields=(InputField(label="Text", column="text"),),
        target="text",
        metric=name,
        max_new_tokens=16,
        own=True,
    )
    return [(each,) for each in REFERENCES], spec
