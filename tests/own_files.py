"""Files of a user's own dataset and metric, written where a test wants them."""

import json
from pathlib import Path

THINGS = ("the screen", "the bill", "the cable", "my invoice", "the fan", "a refund", "the lid", "the fee")


def rows(count: int, start: int = 0) -> list[dict]:
    """Tickets whose answer can be told from the text."""
    return [
        {"text": f"Ticket {i}: {THINGS[i % 8]}.", "label": ("repair", "billing")[i % 2], "number": i / 4}
        for i in range(start, start + count)
    ]


ENTRY = {
    "name": "tickets",
    "licence": "CC0-1.0",
    "files": {"train": "train.jsonl", "test": "test.jsonl"},
    "columns": {"text": "text", "label": "text"},
    "instruction": "Which department? Answer with one word: billing or repair.",
    "fields": [{"label": "Ticket", "column": "text"}],
    "target": "label",
    "labels": ["billing", "repair"],
    "metric": "macro_f1",
    "max_new_tokens": 8,
}

METRIC = '''
"""Whether the first letter is right."""
from peftbench.metrics import mean_sums, means, metric, rights

@metric("first_letter", means(primary="right"), sums=mean_sums("right"), right=rights("right"))
def first_letter(prediction, references, spec, protocol):
    """Whether the first letter is right."""
    return {"valid": bool(prediction), "right": bool(prediction) and prediction[0] == references[0][0]}

METRIC = first_letter
'''


def put(folder: Path, train=None, test=None, *, without=(), **changes) -> Path:
    """An entry with rows beside it; `changes` are keys of the entry. JSON is YAML."""
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "train.jsonl", rows(40) if train is None else train)
    write_rows(folder / "test.jsonl", rows(16, 100) if test is None else test)
    entry = {key: value for key, value in {**ENTRY, **changes}.items() if key not in without}
    file = folder / "tickets.yaml"
    file.write_text(json.dumps(entry))
    return file


def write_rows(file: Path, content) -> None:
    file.write_text("".join(json.dumps(row) + "\n" for row in content))


def put_metric(folder: Path, text: str = METRIC, name: str = "first_letter") -> Path:
    file = folder / f"{name}.py"
    file.write_text(text)
    return file
