"""What a run costs with grouping and without: a part of the demo's grid, both ways in turn.

    python -m bench.grouping OUT [PAIRS]

Grouped, the seeds of a method share passes over the base (`engine.tokens_per_step` as in the demo); apart, each
run has passes of its own. One worker, one thread. Medians over the pairs, and whether validation losses and
predictions are the same.
"""

import sys
import time
from pathlib import Path
from statistics import median

from bench.real_grid import in_peace, predictions
from peftbench.columns import row_of
from peftbench.console import print_table
from peftbench.grid import shipped_grids
from peftbench.gridrun import prepare

WAYS = {"grouped": "run.engine.tokens_per_step=700", "apart": "run.engine.tokens_per_step=1"}
PART = "datasets=[sst2@mini, svamp@mini]"


def main() -> int:
    """Run both ways in turn and print the table; status 1 if a loss or a prediction differs."""
    folder, pairs = Path(sys.argv[1]).absolute(), int(sys.argv[2]) if sys.argv[2:] else 3
    file = shipped_grids()["demo"]
    walls: dict[str, list[float]] = {way: [] for way in WAYS}
    trains: dict[tuple[str, str], list[float]] = {}
    losses: dict[str, dict[str, float]] = {way: {} for way in WAYS}
    for pair in range(pairs):
        for way, setting in WAYS.items():
            output = folder / f"{way}-{pair}"
            begun = time.monotonic()
            in_peace(file, output, "--workers", "1", "--set", PART, "--set", setting)
            found = prepare(file, [f"run.output={output}", PART])
            walls[way].append((time.monotonic() - begun) / len(found.done))
            for cell in found.cells:
                row = row_of(found.done[cell.id], "")
                if row.train_total_seconds is not None and row.best_validation_loss is not None:
                    trains.setdefault((row.method, way), []).append(row.train_total_seconds)
                    losses[way][cell.id] = row.best_validation_loss
    apart = max(abs(loss - losses["apart"][cell]) for cell, loss in losses["grouped"].items())
    told = [predictions(file, folder / f"{way}-0", PART) for way in WAYS]
    other = sum(told[0][cell] != told[1][cell] for cell in told[0])
    rows = [
        (method, *(f"{median(trains[method, way]):.2f}" for way in WAYS),
         f"{median(trains[method, 'apart']) / median(trains[method, 'grouped']):.2f}")
        for method in dict.fromkeys(method for method, _ in trains)
    ]  # fmt: skip
    ratio = median(b / a for a, b in zip(walls["grouped"], walls["apart"], strict=True))
    rows.append(("whole grid, each run", *(f"{median(walls[way]):.2f}" for way in WAYS), f"{ratio:.2f}"))
    print_table("Seconds of a training", ("", *WAYS, "apart / grouped"), rows)
    print(f"Largest difference of a validation loss: {apart:.1e}. Cells with another prediction: {other}.")
    return int(apart > 1e-4 or other > 0)


if __name__ == "__main__":
    sys.exit(main())
