"""kill -9 over a rehearsed grid: workers, and now and then the process that started them, until all is done.

    python -m bench.kills --kills 2000 --cells 1000 --workers 8 --seed 0

Afterwards every cell must have one record with the score that is its own. Once so many kills were made the grid
comes to its end in peace.
"""

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from peftbench.grid import load_grid
from peftbench.rehearsal import SECONDS_VARIABLE, expected_score
from peftbench.store import stored_results

STARTER_SHARE = 0.02
"""Of the kills, how many meet the process that starts the workers."""


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    kills: int
    starters: int
    """Kills of a process that had started workers."""
    cells: int
    lost: int
    duplicated: int
    wrong: int
    drafts: int
    """Half-written files that are left; they hurt nobody, and `gc` removes them."""
    unreadable: int
    seconds: float


def grid_of(cells: int, folder: Path) -> Path:
    """A grid file of so many cells: one method on five datasets with as many seeds as it takes."""
    file = folder / "grid.yaml"
    file.write_text(
        "name: kills\nmodels: [peftbench-tiny]\nmethods: [ia3]\ndatasets: [cb, copa, wsc, rte, svamp]\n"
        f"seeds: {list(range(-(-cells // 5)))}\nrun: {{device: cpu, threads: 1, output: {folder / 'runs'}}}\n"
    )
    return file


def bombard(folder: Path, *, kills: int, cells: int, workers: int, seed: int, seconds_per_cell: float) -> Outcome:
    """Run the grid under fire and look at what is left."""
    rng, file = random.Random(seed), grid_of(cells, folder)
    done = starters = 0
    begun = time.monotonic()
    running = start(file, workers, seconds_per_cell)
    while True:
        if running.poll() == 0:
            break
        if running.poll() is not None:
            running = start(file, workers, seconds_per_cell)
        time.sleep(rng.expovariate(workers / 2))
        targets = children(running.pid)
        if done >= kills or not targets:
            continue
        if rng.random() < STARTER_SHARE:
            running.kill()
            running.wait()
            starters += 1
        else:
            with suppress(ProcessLookupError):
                os.kill(rng.choice(targets), signal.SIGKILL)
        done += 1
    return looked_at(file, folder / "runs-rehearsal", done, starters, time.monotonic() - begun)


def start(file: Path, workers: int, seconds_per_cell: float) -> "subprocess.Popen[bytes]":
    """The grid in a process of its own."""
    options = ["--rehearse", "--workers", str(workers), "--attempts", "100000"]
    return subprocess.Popen(
        [sys.executable, "-m", "peftbench", "grid", "run", str(file), *options],
        stdout=subprocess.DEVNULL,
        env={**os.environ, SECONDS_VARIABLE: str(seconds_per_cell)},
    )


def children(pid: int) -> list[int]:
    """Processes that it started and that are alive."""
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]


def looked_at(file: Path, output: Path, kills: int, starters: int, seconds: float) -> Outcome:
    """Every cell against the records."""
    wanted = {cell.id: cell for cell in load_grid(file)[1]}
    unreadable: list[str] = []
    found = Counter(
        (result.config.dataset, result.config.seed, result.evaluation.scores["corrected"].primary)
        for result in stored_results(output, unreadable)
        if result.evaluation is not None
    )
    right = [(cell.config.dataset, cell.config.seed, expected_score(id_)) for id_, cell in wanted.items()]
    return Outcome(
        kills=kills,
        starters=starters,
        cells=len(wanted),
        lost=sum(found[each] == 0 for each in right),
        duplicated=sum(count - 1 for count in found.values()),
        wrong=sum(count for each, count in found.items() if each not in set(right)),
        drafts=sum("draft" in each.name for each in output.rglob(".*")),
        unreadable=len(unreadable),
        seconds=round(seconds, 1),
    )


def main() -> int:
    """Print the outcome; status 1 if a cell was lost, came twice or is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=2000)
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--seconds-per-cell", type=float, default=0.5)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        outcome = bombard(Path(folder), **vars(given))
    print(json.dumps({"seed": given.seed, **vars(outcome)}))
    return int(bool(outcome.lost or outcome.duplicated or outcome.wrong or outcome.unreadable))


if __name__ == "__main__":
    sys.exit(main())
