"""Measure how long prompts and targets are, in characters, for the `lengths` of the catalogue files.

    python tools/measure_lengths.py DIRECTORY           print the block of every dataset
    python tools/measure_lengths.py DIRECTORY --check   print and fail where a catalogue file says otherwise

DIRECTORY holds `<dataset>/<split>.jsonl.gz`. The training split is measured, or the test split where train is
absent; parts are measured as they are and called so.
"""

import argparse
import sys
from pathlib import Path
from typing import Literal

from peftbench.datasets import dataset_names, get_dataset, load_dataset
from peftbench.datasets.lengths import measured
from peftbench.errors import DataError
from peftbench.schema import DatasetSpec, LengthQuantiles, Lengths


def measure(spec: DatasetSpec, directory: Path) -> Lengths:
    """Lengths over the rows of the training split, or of the test split where there is no other."""
    role: Literal["train", "test"] = "train"
    try:
        data = load_dataset(spec, data_dir=directory, allow_partial=True, splits=["train", "validation"])
    except DataError:
        role = "test"
        data = load_dataset(spec, data_dir=directory, allow_partial=True, splits=["test"])
    examples = (*data.train, *data.validation, *data.test)
    return measured(examples, f"{data.spec.splits[role]}, {'a part' if data.facts.partial else 'whole'}")


def _block(lengths: Lengths) -> str:
    def line(quantiles: LengthQuantiles) -> str:
        return f"{{median: {quantiles.median}, p95: {quantiles.p95}, longest: {quantiles.longest}}}"

    return (
        "lengths:\n"
        f"  prompt_characters: {line(lengths.prompt_characters)}\n"
        f"  target_characters: {line(lengths.target_characters)}\n"
        f"  measured_rows: {lengths.measured_rows}\n"
        f"  measured_on: {lengths.measured_on}"
    )


def main() -> int:
    """Print every block; with `--check`, return 1 where a catalogue file differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    differing = []
    for spec in map(get_dataset, dataset_names()):
        measured = measure(spec, options.directory)
        print(f"# {spec.name}\n{_block(measured)}")
        if measured != spec.lengths:
            differing.append(spec.name)
    if options.check and differing:
        print(f"the catalogue says otherwise for {', '.join(differing)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
