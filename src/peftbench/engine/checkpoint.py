"""Checkpoints of a training run: everything that decides how it goes on, as plain tensors and JSON.

A checkpoint is a folder that appears by one rename, with a manifest of sizes and hashes written last inside
it. The newest two are kept. One that does not match its manifest is reported and the one before is used.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from peftbench.disk import sync, system_errors

_TENSORS, _STATE, _MANIFEST = "state.safetensors", "state.json", "MANIFEST.json"
KEPT = 2


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

    Raises `OSError` if the disk is full or read-only; the checkpoints before stay as they were.
    """
    folder.mkdir(parents=True, exist_ok=True)
    final = folder / f"step-{step:09d}"
    draft = folder / f".draft-{step:09d}-{os.getpid()}"
    try:
        draft.mkdir()
        contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        with system_errors():
            save_file(contiguous, draft / _TENSORS)
        (draft / _STATE).write_text(json.dumps(state, allow_nan=False, sort_keys=True), encoding="utf-8")
        manifest = {name: _described(draft / name) for name in (_TENSORS, _STATE)}
        (draft / _MANIFEST).write_text(json.dumps(manifest, sort_keys=True), encoding="utf-8")
        for name in (_TENSORS, _STATE, _MANIFEST):
            sync(draft / name)
        if final.exists():  # damaged, or written by the attempt before this one
            shutil.rmtree(final)
        draft.rename(final)
        sync(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    for old in _folders(folder)[KEPT:]:
        shutil.rmtree(old)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint that matches its manifest, or None where there is none at all."""
    damaged: list[str] = []
    for each in _folders(folder):
        problem = _problem(each)
        if problem is None:
            try:
                tensors = load_file(each / _TENSORS)
                state = json.loads((each / _STATE).read_text(encoding="utf-8"))
                return Checkpoint(int(each.name.removeprefix("step-")), tensors, state, tuple(damaged))
            except (SafetensorError, ValueError) as error:
                problem = str(error)
        damaged.append(f"checkpoint {each.name} is damaged ({problem}) and is not used")
    return Checkpoint(0, {}, {}, tuple(damaged)) if damaged else None


def remove(folder: Path) -> None:
    """Delete all checkpoints of a finished run."""
    shutil.rmtree(folder, ignore_errors=True)


def _folders(folder: Path) -> list[Path]:
    """Checkpoints, the newest first."""
    return sorted(folder.glob("step-*"), reverse=True) if folder.is_dir() else []


def _problem(folder: Path) -> str | None:
    try:
        manifest = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        for name in (_TENSORS, _STATE):
            if _described(folder / name) != manifest[name]:
                return f"{name} does not match its manifest"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{type(error).__name__}: {error}"
    return None


def _described(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        return {"bytes": file.stat().st_size, "sha256": hashlib.file_digest(content, "sha256").hexdigest()}
