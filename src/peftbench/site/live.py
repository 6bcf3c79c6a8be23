"""What is running below the folders of a shelf: grids with their workers, curves of runs without a record."""

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from peftbench.errors import PeftBenchError
from peftbench.gridstate import GridState, WorkerNote
from peftbench.provenance import utc_now
from peftbench.records import RunConfig
from peftbench.site.pages import curve
from peftbench.site.shelf import Shelf
from peftbench.store import RunFolder

MOST_RUNS = 200
"""Runs in progress that are shown, those that moved last first."""
RECENT_SECONDS = 3600.0
"""A run that no worker names counts as in progress while its curve is not older."""


def live(shelf: Shelf) -> dict[str, Any]:
    """What is running now, as far as files say."""
    grids, workers = [], []
    for folder in shelf.folders:
        state = GridState(folder)
        if not (state.folder / "grid.json").is_file():
            continue
        notes = state.workers()
        at_work = [note for note in notes if note.state == "at work"]
        workers += at_work
        grids.append(
            {
                "name": _name(state, folder),
                "total": None,
                "done": sum(Path(each.result.folder).is_relative_to(folder) for each in shelf.entries),
                "failed": len(state.failures()),
                "running": sum(len(note.cells) for note in at_work),
                "waiting": None,
            }
        )
    return {"at": utc_now(), "grids": grids, "runs": _runs(shelf.unfinished, workers), "changed": shelf.changes}


def _name(state: GridState, folder: Path) -> str:
    from peftbench.gridstate import GridNote

    with suppress(OSError, ValueError):
        return GridNote.model_validate_json((state.folder / "grid.json").read_bytes()).name
    return folder.name


def _runs(unfinished: Sequence[Path], workers: Sequence[WorkerNote]) -> list[dict[str, Any]]:
    """Runs with a curve that moves, or that a worker names."""
    named = {cell: note for note in workers for cell in note.cells}
    moved = sorted(((_moved(folder), folder) for folder in unfinished), reverse=True)
    found = []
    for changed, folder in moved[: 5 * MOST_RUNS]:
        try:
            config = RunFolder(folder).config()
        except PeftBenchError:
            continue
        note = next((note for cell, note in named.items() if _is(cell, config)), None)
        if note is None and time.time() - changed > RECENT_SECONDS:
            continue
        points = [(each["step"], each["loss"]) for each in curve(folder) if each["loss"] is not None]
        step = int(points[-1][0]) if points else None
        if note is not None and note.phase == "training" and note.done is not None:
            step = note.done
        found.append(
            {
                "cell": folder.name,
                "model": config.model,
                "method": str(config.method),
                "dataset": config.dataset,
                "seed": config.seed,
                "phase": note.phase if note else None,
                "step": step,
                "steps": note.total if note else None,
                "curve": points,
            }
        )
    return found[:MOST_RUNS]


def _is(cell: str, config: RunConfig) -> bool:
    """Whether a worker's name for a cell can be this run's."""
    begins = f"{config.method} on {config.dataset}"
    return cell.startswith(begins) and (f"seed {config.seed}" in cell or "seed" not in cell)


def _moved(folder: Path) -> float:
    for name in ("curve.jsonl", "config.json"):
        with suppress(OSError):
            return (folder / name).stat().st_mtime
    return 0.0
