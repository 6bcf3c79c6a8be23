"""Checkpoints of a training run: everything that decides how it goes on, as plain tensors and JSON.

A checkpoint is a folder that appears by one rename, with a manifest of sizes and hashes written last inside
it. The newest two are kept. One that does not match its manifest is reported and the one before is used.

Several processes may train one run in one folder without harm. No two folders have the same name; one is only ever
made, read or taken away whole; and whoever finds its own taken away has been overtaken by a newer one.
"""

import hashlib
import json
import re
import secrets
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from peftbench.disk import entries, sync, system_errors

_TENSORS, _STATE, _MANIFEST = "state.safetensors", "state.json", "MANIFEST.json"
_NAME = re.compile(r"(?:step|\.draft)-(\d{9})(-.*)?")
KEPT = 2
_TRIES = 5
"""How often a folder is looked at again that changed under our eyes."""


@dataclass(frozen=True)
class Checkpoint:
    """What was read back."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]
    damaged: tuple[str, ...]
    """One sentence for each newer checkpoint that could not be used."""


def save(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    """Write the checkpoint of `step` and drop all but the newest `KEPT`.

    Where the folder is taken away again and again, other processes have finished this run: nothing is kept then.
    Raises `OSError` if the disk is full or read-only; the checkpoints before stay as they were.
    """
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    for _ in range(_TRIES):
        # Another process that trains this run has tidied up; amid `mkdir` that looks like a file in its place.
        with suppress(FileNotFoundError, FileExistsError):
            _write(folder, step, contiguous, state)
            break
        if _newest_step(folder) >= step:
            return
    _tidy(folder)


def _write(folder: Path, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{step:09d}-{secrets.token_hex(8)}"  # of no other process, here or on another machine
    draft = folder / f".draft-{name}"
    try:
        draft.mkdir()
        with system_errors():
            save_file(tensors, draft / _TENSORS)
        (draft / _STATE).write_text(json.dumps(state, allow_nan=False, sort_keys=True), encoding="utf-8")
        manifest = {"step": step, **{name: _described(draft / name) for name in (_TENSORS, _STATE)}}
        (draft / _MANIFEST).write_text(json.dumps(manifest, sort_keys=True), encoding="utf-8")
        for path in (draft / _TENSORS, draft / _STATE, draft / _MANIFEST, draft):
            sync(path)
        draft.rename(folder / f"step-{name}")
        sync(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that matches its manifest, or None where there is none at all."""
    damaged: list[str] = []
    for _ in range(_TRIES):
        damaged, gone = [], False
        for each in _folders(folder):
            problem = _problem(each)
            if problem is None:
                try:
                    tensors = load_file(each / _TENSORS)
                    state = json.loads((each / _STATE).read_text(encoding="utf-8"))
                    return Checkpoint(_step(each), tensors, state, tuple(damaged))
                except (OSError, RuntimeError, SafetensorError, ValueError) as error:
                    problem = f"{type(error).__name__}: {error}"
            if each.exists():
                damaged.append(f"checkpoint {each.name} is damaged ({problem}) and is not used")
            else:
                gone = True  # taken away for a newer one, while it was being read
        if not gone:
            break
    return Checkpoint(0, {}, {}, tuple(damaged)) if damaged else None


def _tidy(folder: Path) -> None:
    """Delete all but the newest checkpoints, and what killed processes have left."""
    found = _folders(folder)
    newest = _newest_step(folder)
    drafts = [each for each in _folders(folder, ".draft") if _step(each) <= newest]
    for each in (*found[KEPT:], *drafts):
        # In one step, so that nobody takes a half deleted one for a damaged one.
        with suppress(OSError):  # untidy, and nothing else
            each.rename(folder / f".gone-{secrets.token_hex(8)}")
    for each in entries(folder):
        if each.name.startswith(".gone-"):
            shutil.rmtree(each, ignore_errors=True)


def _folders(folder: Path, kind: str = "step") -> list[Path]:
    """Checkpoints, or drafts of them, the newest first."""
    return [each for each in entries(folder) if each.name.startswith(kind) and _NAME.fullmatch(each.name)][::-1]


def _step(folder: Path) -> int:
    found = _NAME.fullmatch(folder.name)
    assert found is not None
    return int(found[1])


def _newest_step(folder: Path) -> int:
    return max(map(_step, _folders(folder)), default=-1)


def _problem(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        # Manifests of earlier versions do not name their step.
        if manifest.get("step", _step(folder)) != _step(folder):
            return f"it is that of step {manifest['step']}"
        for name in (_TENSORS, _STATE):
            if _described(folder / name) != manifest[name]:
                return f"{name} does not match its manifest"
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _described(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}
