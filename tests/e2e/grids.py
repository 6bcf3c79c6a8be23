"""What tests of grids share: a rehearsed grid of 14 cells, commands and processes, and a real grid of two trainings."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from peftbench.predictions import read_predictions
from peftbench.rehearsal import expected_score
from peftbench.store import stored_results
from tests.e2e.test_cli import call, put_model_and_rows

GRID = (
    "name: drill\nmodels: [peftbench-tiny]\nmethods: [base, ia3, lora]\ndatasets: [cb, copa]\nseeds: [1, 2, 3]\n"
    "run: {device: cpu, threads: 1}\n"
)


def grid(command, *arguments, status=0, rehearse=True, file="grid.yaml"):
    code, out, err = call("grid", command, file, *arguments, *(["--rehearse"] if rehearse else []))
    assert code == status, (code, out, err)
    return out


def events(out, kind=None):
    found = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return [each for each in found if kind in (None, each["event"])]


def status(*arguments):
    return json.loads(grid("status", "--json", *arguments))


def cells():
    from peftbench.grid import load_grid

    return {str(cell): cell.id for cell in load_grid(Path("grid.yaml"))[1]}


def started(*arguments, **environment):
    """The command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "peftbench", "grid", "run", "grid.yaml", "--rehearse", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **environment},
    )  # fmt: skip


def children(pid):
    """Processes whose parent it is."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = file.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[1] == str(pid) and fields[0] != "Z":
            found.append(int(file.parent.name))
    return found


def until(condition, seconds=30.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def gone(pids):
    return not any(Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
                   for pid in pids)  # fmt: skip


def all_are_right():
    """Every cell has one record, with the score that is its own, and no draft is left."""
    results = stored_results(Path("runs/drill-rehearsal"))
    scores = sorted(result.evaluation.scores["corrected"].primary for result in results)
    assert scores == sorted(expected_score(cell) for cell in cells().values())
    assert not [file for file in Path("runs").rglob("*") if "draft" in file.name]


def put_real_grid(root, output="there"):
    """The file of a real grid of two tiny trainings below `root`, whose runs go to `output` there."""
    put_model_and_rows(root)
    file = root / "grid.yaml"
    file.write_text(
        f"name: real\nmodels: [{root / 'model'}]\nmethods: [{{name: lora, rank: 2}}]\n"
        f"datasets: [rte]\nseeds: [1, 2]\nrun:\n  data: {{directory: {root / 'data'}, allow_partial: true}}\n"
        f"  training: {{epochs: 1, learning_rate: 1e-2, validations: 3}}\n  evaluation: {{max_new_tokens: 6}}\n"
        f"  device: cpu\n  threads: 1\n  output: {root / output}\n"
    )
    return file


def assert_same_as_here(file, output="there"):
    """Run the real grid on this machine too, and compare all predictions with those in `output`."""
    root = file.parent
    here = ("--set", f"run.output={root / 'here'}")
    assert "2 done, 0 failed" in grid("run", "--workers", 1, *here, rehearse=False, file=file).splitlines()[-1]
    found = {each.relative_to(root / output): each for each in (root / output).rglob("predictions.parquet")}
    assert len(found) == 2
    for part, each in found.items():
        assert read_predictions(each, None) == read_predictions(root / "here" / part, None)
