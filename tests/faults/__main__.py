"""Run the parts and print their table: `python -m tests.faults [--quick] [--seed N] [PART ...]`."""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path

from tests.faults.world import Line, World

PARTS = ("kills", "points", "mutations", "writers")
"""Modules of this package; each has `run(world, quick, seed)`, which gives lines of the table."""


def main() -> int:
    """Run what was asked for; 1 if anything was lost, duplicated or wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"any of {', '.join(PARTS)}; all without one")
    parser.add_argument("--quick", action="store_true", help="the part that runs in continuous integration")
    parser.add_argument("--seed", type=int, default=None, help="of everything random; drawn without one")
    asked = parser.parse_args()
    if unknown := set(asked.parts) - set(PARTS):
        parser.error(f"unknown part {', '.join(sorted(unknown))}, expected {', '.join(PARTS)}")
    seed = int.from_bytes(os.urandom(3)) if asked.seed is None else asked.seed
    print(f"seed {seed}", flush=True)
    memory = Path("/dev/shm")
    lines = []
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        world = World(Path(folder))
        for part in asked.parts or PARTS:
            found = import_module(f"tests.faults.{part}").run(world, asked.quick, seed)
            for line in found:
                print(
                    f"{line.what}: {line.count} in {line.seconds:.0f} s",
                    *line.remarks[:20],
                    sep="\n  ",
                    flush=True,
                )
            lines += found
    print(table(lines), flush=True)
    return 0 if all(line.sound for line in lines) else 1


def table(lines: Iterable[Line]) -> str:
    """The lines in Markdown."""
    head = "| what | how many | lost | duplicated | wrong | seed | seconds |\n|---|---|---|---|---|---|---|\n"
    return head + "\n".join(
        f"| {each.what} | {each.count:,} | {each.lost} | {each.duplicated} | {each.wrong} | {each.seed} "
        f"| {each.seconds:.0f} |"
        for each in lines
    )


if __name__ == "__main__":
    sys.exit(main())
