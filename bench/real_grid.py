"""A real grid of small trainings, run in several ways, whose predictions must be the same in all of them.

    PEFTBENCH_DATA=FOLDER python -m bench.real_grid OUT here killed slurm ray

Six datasets, base and six methods, three seeds, few rows, the shipped model: 114 cells. `here` is
undisturbed; `killed` loses workers and their starter to kill -9, seeded, until so many kills were made, and is run
again; the others go through a cluster. A table says what each took and how many predictions differ.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.slurm_machine import one_machine, waiting_or_running

from bench.kills import children
from peftbench.console import print_table
from peftbench.grid import load_grid
from peftbench.gridrun import prepare
from peftbench.predictions import Prediction, read_predictions

GRID = """
name: real
models: [peftbench-tiny]
methods:
  - base
  - ia3
  - {name: prompt_tuning, virtual_tokens: 10}
  - {name: p_tuning, virtual_tokens: 10, encoder_hidden: 64}
  - {name: prefix_tuning, virtual_tokens: 10, encoder_hidden: 64}
  - lora
  - ln_tuning
datasets: [rte, cb, copa, sst2, svamp, conala]
seeds: [42, 123, 456]
train_rows: [48]
run:
  training: {epochs: 2, validations: 2, learning_rate: 1e-2}
  evaluation: {test_rows: 16, max_new_tokens: 16}
  data: {allow_partial: true}
  device: cpu
  threads: 1
"""
KILLS, SEED = 20, 7


def command(file: Path, output: Path, *more: str) -> list[str]:
    """The command that does what is left of the grid."""
    return [sys.executable, "-m", "peftbench", "grid", "run", str(file), "--set", f"run.output={output}", *more]


def in_peace(file: Path, output: Path, *more: str) -> None:
    """Run the grid to its end."""
    subprocess.run(command(file, output, *more), check=True, stdout=subprocess.DEVNULL)


def under_fire(file: Path, output: Path) -> None:
    """Run the grid while its workers are killed, and now and then who started them."""
    rng, kills = random.Random(SEED), 0
    while True:
        running = subprocess.Popen(
            command(file, output, "--workers", "2", "--attempts", "100"), stdout=subprocess.DEVNULL
        )
        while running.poll() is None:
            time.sleep(rng.uniform(2, 8))
            targets = children(running.pid)
            if kills < KILLS and targets and running.poll() is None:
                kills += 1
                with suppress(ProcessLookupError):
                    os.kill(running.pid if kills % 5 == 0 else rng.choice(targets), signal.SIGKILL)
        if running.returncode == 0:
            print(f"{kills} kills, seed {SEED}")
            return


def on_slurm(file: Path, output: Path) -> None:
    """Run the grid through a SLURM of this machine, as the tests start one."""
    with TemporaryDirectory() as folder, one_machine(Path(folder)):
        in_peace(file, output, "--on", "slurm", "--set", "cluster.minutes=60")
        while waiting_or_running():
            time.sleep(1)


WAYS = {
    "here": lambda file, output: in_peace(file, output, "--workers", "2"),
    "killed": under_fire,
    "slurm": on_slurm,
    "ray": lambda file, output: in_peace(file, output, "--on", "ray"),
}


def predictions(file: Path, output: Path, *settings: str) -> dict[str, list[Prediction]]:
    """Cell to what was stored of it."""
    found = prepare(file, [f"run.output={output}", *settings])
    return {
        str(cell): read_predictions(
            Path(done.folder) / f"eval-{done.evaluation.eval_id}" / "predictions.parquet",
            done.evaluation.predictions_sha256,
        )
        for cell in found.cells
        if (done := found.done.get(cell.id)) is not None and done.evaluation is not None
    }


def main() -> int:
    """Run the ways that were named and compare; status 1 if a prediction differs or is missing."""
    folder, ways = Path(sys.argv[1]).absolute(), sys.argv[2:]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "grid.yaml"
    file.write_text(GRID)
    count, rows, different = len(load_grid(file)[1]), [], 0
    for way in ways:
        begun = time.monotonic()
        WAYS[way](file, folder / way)
        seconds = time.monotonic() - begun
        first, found = predictions(file, folder / ways[0]), predictions(file, folder / way)
        missing = count - len(found)
        other = sum(found[cell] != first.get(cell) for cell in found)
        different += missing + other
        rows.append((way, f"{count}", f"{missing}", f"{other}", f"{seconds:.0f}"))
    print_table("", ("way", "cells", "missing", "other predictions", "seconds"), rows)
    return int(bool(different))


if __name__ == "__main__":
    sys.exit(main())
