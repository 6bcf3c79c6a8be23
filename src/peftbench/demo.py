"""The demo: base and six methods on two generated tasks with a tiny random model. A toy that shows the whole path.

No network, no GPU, no account. The settings of section 4 of the paper are made for a model of eight billion
parameters; `PRESET` scales what would otherwise take hours, and the output names everything that it changes.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from peftbench.console import observing, print_table
from peftbench.disk import explained
from peftbench.execute import run_many
from peftbench.records import RunResult
from peftbench.testing import save_tiny_model

DATASETS = ("sst2@mini", "svamp@mini")
METHODS = ("base", "ia3", "prompt_tuning", "p_tuning", "prefix_tuning", "lora", "ln_tuning")
SEED = 42

PRESET: dict[str, dict[str, Any]] = {
    "base": {},
    "ia3": {"learning_rate": 1e-1},
    "prompt_tuning": {"learning_rate": 3e-2, "virtual_tokens": 10},
    "p_tuning": {"learning_rate": 1e-2, "virtual_tokens": 10, "encoder_hidden": 32},
    "prefix_tuning": {"learning_rate": 1e-2, "virtual_tokens": 10, "encoder_hidden": 32},
    "lora": {"learning_rate": 1e-2, "dropout": 0.0},
    "ln_tuning": {"learning_rate": 3e-2},
}
"""For each method the learning rate and the settings that differ from section 4 of the paper."""

TRAINING = {"validations": 5}
MODEL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "tie_word_embeddings": True,
}


def compare(output: Path, *, as_json: bool = False) -> list[RunResult]:
    """Run every method on every task, print the table, and return the results; finished runs are read back."""
    model = output / "model" / "toy-llama"
    if not (model / "tokenizer.json").is_file():
        draft = model.with_name(f"draft-{os.getpid()}")
        with explained(output):
            shutil.rmtree(model, ignore_errors=True)  # half a model, of a demo that was stopped
            draft.mkdir(parents=True)
            save_tiny_model(str(draft), **MODEL)
            draft.rename(model)
    with observing() as observer:
        configs = [_config(dataset, method, model, output) for dataset in DATASETS for method in METHODS]
        results = run_many(configs, observer=observer)
    if as_json:
        print(json.dumps([json.loads(result.model_dump_json()) for result in results], indent=1))
    else:
        _print(results, output)
    return results


def _config(dataset: str, method: str, model: Path, output: Path) -> dict[str, Any]:
    settings = {key: value for key, value in PRESET[method].items() if key != "learning_rate"}
    rate = PRESET[method].get("learning_rate")
    return {
        "model": str(model),
        "dataset": dataset,
        "method": {"name": method, **settings},
        "seed": SEED,
        "training": {**TRAINING, **({"learning_rate": rate} if rate else {})},
        "device": "cpu",
        "threads": 1,
        "output": str(output / "runs"),
    }


def _print(results: list[RunResult], output: Path) -> None:
    rows = []
    for result in results:
        train, evaluation = result.train, result.evaluation
        rows.append(
            (
                result.config.dataset,
                result.config.method.name,
                "failed" if result.primary is None else f"{result.primary:.1f}",
                f"{100 * evaluation.invalid_rate:.0f} %" if evaluation else None,
                f"{train.trainable_params:,}" if train else "0",
                f"{(train.seconds if train else 0) + (evaluation.seconds if evaluation else 0):.1f}",
            )
        )
    columns = ("task", "method", "score", "invalid", "trainable", "seconds")
    print_table("", columns, rows, right=columns[2:])
    layers, width = MODEL["num_hidden_layers"], MODEL["hidden_size"]
    print(
        f"""
This is a toy: a random Llama of {layers} layers, {width} wide, never trained on any text, on generated rows,
one seed. It shows that everything works; its scores say nothing about the methods.
Scores from 0 to 100: macro-F1 for sst2@mini, accuracy for svamp@mini.
Preset `demo`: {TRAINING["validations"]} validations in place of 20, and in place of section 4 of the paper"""
    )
    for method, settings in PRESET.items():
        if settings:
            print(
                f"  {method:14}"
                + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in settings.items())
            )
    print(f"Records: {output / 'runs'}")
