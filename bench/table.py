"""All rows of the table, each in a process of its own, and the result as one file.

    python -m bench.table [--quick] [--name NAME]      (make bench, make bench-quick)
    python -m bench.table --device cuda                on a GPU with 80 GB, models of 1 and 8 billion parameters

Rows of real data are measured where PEFTBENCH_DATA names a folder of datasets and BENCH_TOKENIZER the folder of a
tokenizer; elsewhere they are listed as not measured.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.pairs import machine

RESULTS = Path(__file__).parent / "results"
METHODS = ("lora", "ia3", "ln_tuning", "prompt_tuning", "p_tuning", "prefix_tuning")


@dataclass(frozen=True)
class Row:
    """One measurement, the least ratio that it should reach, and the least share of useful FLOPs."""

    module: str
    options: str
    goal: float | None = None
    key: str = "ratio_vs_trainer"
    share: float | None = None


def rows(*, quick: bool) -> Iterator[Row]:
    """The rows of the whole table, or of one that is done in five minutes."""
    small = "--size small --vocab 8000"
    if quick:
        for method in METHODS:
            yield Row("train", f"--workload sst2 {small} --method {method} --rounds 7")
        yield Row("train", f"--workload tiny {small} --runs 5 --against alone --rounds 7", 1.4, "ratio_vs_alone")
        yield Row("evaluate", f"--what validation {small} --rounds 7")
        yield Row("evaluate", f"--what labels {small} --rows 128 --rounds 7", 3.7)
        return
    mid = "--size mid --vocab 32000 --rounds 7"
    yield Row("train", f"--workload sst2 {mid}", 2.6, share=0.75)
    yield Row("train", f"--workload sst2 {mid} --dropout 0.05")
    yield Row("train", "--workload sst2 --size mid --vocab 128000 --rounds 7", 4.0)
    yield Row("train", "--workload sst2 --size mid --vocab 128000 --rounds 7 --dropout 0.05")
    yield Row("train", f"--workload multirc {small} --rounds 9", 1.9)
    yield Row("train", f"--workload gsm8k {mid}", 1.35)
    yield Row("train", f"--workload sst2 {mid} --method prompt_tuning", 3.0)
    yield Row("evaluate", f"--what validation {mid}", 3.6)
    yield Row("evaluate", f"--what labels {small} --rows 128 --rounds 7", 3.7)
    yield Row("evaluate", f"--what answers --workload gsm8k {small} --rows 16 --rounds 7")
    for runs in (2, 5, 10):
        goal = 1.4 if runs == 5 else None
        options = f"--workload tiny {small} --runs {runs} --against alone --rounds 15"
        yield Row("train", options, goal, "ratio_vs_alone")
    yield Row("train", f"--workload sst2 {small} --runs 5 --against alone --rounds 9", None, "ratio_vs_alone")
    for workload in ("sst2", "multirc", "gsm8k"):
        for method in METHODS:
            yield Row("train", f"--workload {workload} {small} --method {method} --rounds 7")
    if os.environ.get("PEFTBENCH_DATA") and os.environ.get("BENCH_TOKENIZER"):
        for dataset in ("sst2", "rte"):
            yield Row("train", f"--workload rows:{dataset} --size mid --rounds 7")
        for dataset in ("gsm8k", "multirc"):  # minutes each
            yield Row("train", f"--workload rows:{dataset} --size mid --rounds 7 --against trainer")
    else:
        print("rows of real data are not measured: PEFTBENCH_DATA and BENCH_TOKENIZER are not set")


def gpu_rows() -> Iterator[Row]:
    """Several runs in one pass against one run of the reference, then each method alone, for its memory."""
    for size, goal in (("8b", 3.5), ("1b", 6.0)):
        shape = f"--device cuda --size {size} --vocab 128256"
        for workload in ("sst2", "multirc"):
            for runs in (1, 2, 5, 10):
                least = goal if (workload, runs) == ("sst2", 5) else None
                options = f"--workload {workload} {shape} --runs {runs}"
                yield Row("train", options, least, "ratio_vs_checkpointing")
        for method in METHODS:
            dropout = " --dropout 0.05" if method == "lora" else ""
            yield Row("train", f"--workload multirc {shape} --method {method}{dropout}")


def measured(row: Row) -> dict[str, Any]:
    """Run one row and return its JSON, or what went wrong."""
    command = [sys.executable, "-W", "ignore", "-m", f"bench.{row.module}", *row.options.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3600, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no word"}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {key: value for key, value in found.items() if key not in machine()}


def line(row: Row, found: dict[str, Any]) -> str:
    """One row of the table in Markdown."""
    if "failed" in found:
        return f"| {row.module} {row.options} | failed: {found['failed']} | | | | | |"
    low, high = found[f"{row.key}_middle_half"]
    other = found.get("ratio_vs_checkpointing")
    share = found.get("useful_flop_fraction")
    useful = "" if share is None else f"{100 * share:.0f} %"
    if row.share is not None:
        useful += f" ({_reached(share, row.share)})"
    peak = ""
    if found.get("trainer_peak_bytes"):
        peak = f"{found['peak_bytes'] / 1e6:.0f} / {found['trainer_peak_bytes'] / 1e6:.0f}"
        peak += " ABOVE" * (found["peak_bytes"] > found["trainer_peak_bytes"])
    options = row.options.replace("--", "")
    return (
        f"| {row.module} {options} | **{found[row.key]:.2f}** [{low:.2f}, {high:.2f}] | "
        f"{'' if row.goal is None else _reached(found[row.key], row.goal)} | "
        f"{'' if other is None else f'{other:.2f}'} | {1000 * found['seconds']:.0f} | "
        f"{useful} | {peak} |"
    )


def _reached(value: float, goal: float) -> str:
    return f"{goal} {'reached' if value >= goal else 'NOT reached'}"


HEAD = (
    "| row | ratio, middle half | goal | vs checkpointing | ours, ms | useful FLOPs | peak MB, ours / theirs |\n"
    "|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Measure every row, print each as it comes, write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rows, within five minutes")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--name", help="kind of machine, for the file's name; the device if not given")
    parser.add_argument("--only", default="", help="rows with this text alone, in a file of their own")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    command = "make bench-quick" if given.quick else "make bench"
    if given.only or given.device != "cpu":
        command = f"python -m bench.table --device {given.device}" + (given.only and f" --only {given.only}")
    begun = time.monotonic()
    found, lines = [], [HEAD]
    print(HEAD, flush=True)
    for row in gpu_rows() if given.device == "cuda" else rows(quick=given.quick):
        if given.only not in row.options:
            continue
        result = measured(row)
        found.append({"module": row.module, "options": row.options, "goal": row.goal, **result})
        lines.append(line(row, result))
        print(lines[-1], flush=True)
        about = {**machine(given.device), "threads": 1, "minutes": round((time.monotonic() - begun) / 60, 1)}
        place = given.name or given.device
        only = given.only and "-" + given.only.replace(":", "")
        name = f"{about['date']}-{place}{'-quick' if given.quick else ''}{only}"
        write(name, {"command": command, **about, "rows": found}, lines)


def write(name: str, result: dict[str, Any], lines: list[str]) -> None:
    """What was measured so far, as data and as a page."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    title = (
        f"# {result['command']}, {result['date']}, {result['machine']}, one thread, {result['minutes']} minutes"
    )
    versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
    (RESULTS / f"{name}.md").write_text("\n".join([title, "", versions, "", *lines]) + "\n")


if __name__ == "__main__":
    main()
