"""A control: the same training on answers that belong to other rows. What is learned must not help on test rows.

    python -m bench.shuffled OUT    LoRA on the demo's tasks, answers in place and shuffled

A score well above chance with shuffled answers would mean that test answers leak into what a method sees.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from peftbench import demo, run
from peftbench.console import print_table
from peftbench.datasets.mini import ANSWER_COLUMNS, mini_rows

Row = Mapping[str, Any]


def shuffled(rows: list[Row], seed: int = 0) -> list[Row]:
    """The same inputs with the answers of other rows."""
    order = list(range(len(rows)))
    Random(seed).shuffle(order)
    return [
        {column: (rows[other] if column in ANSWER_COLUMNS else row)[column] for column in row}
        for row, other in zip(rows, order, strict=True)
    ]


def main() -> None:
    """Print both scores of each task."""
    output = Path(sys.argv[1])
    found = []
    for config in demo.configs(output):
        if config.method.name not in ("base", "lora") or config.seed != demo.demo_grid().seeds[0]:
            continue
        own = {"train": mini_rows(config.dataset, "train"), "test": mini_rows(config.dataset, "test")}
        results = [run(config, rows=own)]
        if config.method.name == "lora":
            results.append(run(config, rows={**own, "train": shuffled(own["train"])}))
        for name, result in zip(("as they are", "shuffled"), results, strict=False):
            assert result.evaluation is not None
            shares = (result.evaluation.invalid_rate, result.evaluation.top_output_share)
            shown = (f"{result.primary:.1f}", *(f"{100 * share:.0f} %" for share in shares))
            found.append((config.dataset, config.method.name, name, *shown))
    print_table("", ("task", "method", "training answers", "score", "invalid", "most frequent output"), found)


if __name__ == "__main__":
    main()
