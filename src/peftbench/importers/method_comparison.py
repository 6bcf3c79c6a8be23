"""Results of Hugging Face PEFT's `method_comparison` on MetaMathQA: one JSON file for each experiment.

Trained on MetaMathQA and tested on GSM8K, so that it is no dataset of ours.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.importers.adapters import MOST_SETTINGS, method_of, settings_of
from peftbench.importers.reading import Values, content, files_below, json_object
from peftbench.importers.results import ImportedResult

METRIC = "test accuracy"
_SUITE = ("metamath", "gsm8k")


def units(path: Path, problems: list[str]) -> Sequence[Path]:
    """The JSON files of a folder of results."""
    return files_below(path, lambda name: name.endswith(".json"), problems)


def read(file: Path, name: str, problems: list[str]) -> list[ImportedResult]:
    """The one result of a file; raises `DataError` if it is no JSON, and adds what is wrong in it."""
    raw = content(file, name)
    data = json_object(raw, name)
    values = Values(name, data, problems)
    if not {"run_info", "train_info", "meta_info"} <= data.keys():
        values.wrong("it has no run_info, train_info and meta_info, so it is no result of method_comparison")
        return []
    dataset = values.table("meta_info", "dataset_info", needed=True) or {}
    if not dataset.keys() >= set(_SUITE):
        values.wrong(
            "meta_info.dataset_info names other datasets than metamath and gsm8k; only MetaMathQA is read"
        )
    config = values.table("run_info", "peft_config")
    status = values.text("train_info", "status", needed=True)
    steps = values.rows("train_info", "metrics", needed=True)
    last = steps[-1] if steps else None
    tested = Values(f"{name}, last of train_info.metrics", last if isinstance(last, dict) else {}, problems)
    accuracy = tested.number(METRIC, needed=status == "success" and steps is not None, least=0, most=1)
    # The field was renamed when other accelerators than CUDA came.
    peaks = [values.whole("train_info", f"{kind}_memory_max") for kind in ("accelerator", "cuda")]
    versions = [values.text("meta_info", "package_info", f"peft-{part}") for part in ("version", "commit-hash")]
    settings = None if config is None else settings_of(config)
    if settings is not None and len(settings) > MOST_SETTINGS:
        values.wrong(f"run_info.peft_config has {len(settings):,} characters, more than {MOST_SETTINGS:,}")
    notes = [
        "Trained on MetaMathQA, tested on GSM8K.",
        "Memory is what the allocator had reserved at most, evaluation included.",
    ]
    if status != "success":
        reason = values.text("run_info", "error_msg", most=100_000)
        notes.insert(0, f"Status {status}{': ' + reason[:300] if reason else ''}.")
    facts: dict[str, Any] = {
        "source": "hf-method-comparison",
        "file": name,
        "file_sha256": hashlib.sha256(raw).hexdigest(),
        "tool": "Hugging Face PEFT method_comparison",
        "tool_version": " ".join(filter(None, versions)) or None,
        "experiment": values.text("run_info", "experiment_name", needed=True),
        "model": values.text("run_info", "train_config", "model_id", needed=True),
        "model_revision": values.text("meta_info", "model_info", "sha"),
        "original_dataset": "metamath, gsm8k",
        "method": "full_finetuning" if config is None else method_of(config),
        "settings": settings or json.dumps({}),
        "seed": values.whole("run_info", "train_config", "seed"),
        "metric": METRIC,
        "score": None if accuracy is None else 100 * accuracy,
        "original_value": accuracy,
        "original_scale": "0 to 1",
        "trainable_params": values.whole("train_info", "num_trainable_params", needed=True),
        "train_peak_memory_bytes": next((peak for peak in peaks if peak is not None), None),
        "train_seconds": values.number("train_info", "train_time", least=0),
        "device": values.text("meta_info", "system_info", "accelerator")
        or values.text("meta_info", "system_info", "gpu"),
        "made_at": values.text("run_info", "created_at"),
        "notes": " ".join(notes),
    }
    return [] if problems else [ImportedResult(**facts)]
