"""Processes that are killed at random moments of real trainings, begun again until they are done."""

import random
import shutil
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.faults.world import DONE, METHODS, Line, World, leftovers, outcome, timed

KILLS_OF_A_RUN = 5


def run(world: World, quick: bool, seed: int) -> list[Line]:
    """Kill trainings of the six methods, alone and in groups, and compare with those that were left alone."""
    wanted = 12 if quick else 120
    alone = Line("kill -9, six methods, alone: bits of adapter and predictions", seed)
    fused = Line("kill -9, two runs in one pass: bits of adapters and predictions", seed)
    chance = random.Random(seed)
    cells = [(alone, f"{method}-{number}", [(method, number)]) for number in range(1, 100) for method in METHODS]
    _kill(world, alone, cells, wanted, chance)
    groups = [(fused, f"group-{number}", [("ia3", number), ("ln_tuning", number)]) for number in range(1, 100)]
    _kill(world, fused, groups, wanted // 4, chance)
    return [alone, fused]


def _kill(world: World, line: Line, cells: list[Any], wanted: int, chance: random.Random) -> None:
    resumed = 0
    with timed(line):
        for _, name, members in cells:
            if line.count >= wanted:
                break
            task = _task(world, members)
            begun = time.monotonic()
            assert world.process(task, f"whole-{name}") == DONE
            duration = time.monotonic() - begun
            for _ in range(KILLS_OF_A_RUN):
                ended = world.process(task, f"killed-{name}", kill_after=chance.uniform(0.02, duration))
                line.count += ended == -signal.SIGKILL
                if ended != -signal.SIGKILL:
                    line.lost += ended != DONE
                    break
            resumed += _check(world, line, name, task)
    line.remarks.append(f"{resumed} runs went on from a checkpoint")


def _task(world: World, members: list[tuple[str, int]]) -> Callable[[str], None]:
    return lambda output: world.run(*(world.config(output, method, seed) for method, seed in members)) and None


def _check(world: World, line: Line, name: str, task: Callable[[str], None]) -> int:
    """Let the run end, compare, and run it once more; how many of its trainings went on from a checkpoint."""
    whole, killed = world.folder / f"whole-{name}", world.folder / f"killed-{name}"
    if world.process(task, killed.name) != DONE:
        line.lost += 1
        return 0
    expected, found = outcome(whole), outcome(killed)
    if found != expected:
        line.wrong += 1
        line.remarks.append(f"{name}: {[part for part in expected if found.get(part) != expected[part]]}")
    if left := leftovers(killed):
        line.duplicated += 1
        line.remarks.append(f"{name} left {left[:3]}")
    from peftbench.store import stored_results

    results = stored_results(killed)
    line.duplicated += len(results) != len(stored_results(whole))
    resumed = sum(bool(each.train and each.train.resumed) for each in results)
    before = {file: file.stat().st_mtime_ns for file in killed.rglob("*") if file.is_file()}
    line.wrong += world.process(task, killed.name) != DONE
    line.duplicated += before != {file: file.stat().st_mtime_ns for file in killed.rglob("*") if file.is_file()}
    shutil.rmtree(whole)
    shutil.rmtree(killed)
    return resumed
