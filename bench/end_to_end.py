"""One real training under ours and under Trainer with PEFT, from the same initial weights and in the same order.

    python -m bench.end_to_end --model FOLDER --data FOLDER [--dataset rte] [--epochs 2]

LoRA without dropout. Prints both validation losses at every validation, their largest difference, and the wall
time of each side; the last line is one JSON object.
"""

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import peft
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainerCallback, TrainingArguments

from bench.pairs import machine
from bench.peers import padded, peft_config
from bench.train import quiet
from peftbench.datasets import get_dataset, load_dataset
from peftbench.engine.base import load_base
from peftbench.engine.loading import Where
from peftbench.engine.runs import TrainingRun
from peftbench.engine.train import train
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.records import TrainingConfig
from peftbench.schema import MethodChoice


def compare(model: str, data: Path, dataset: str, epochs: int, rate: float) -> dict[str, Any]:
    """Both validation curves and both times."""
    prepared = load_dataset(get_dataset(dataset), data_dir=data, allow_partial=True)
    base = load_base(model, None, Where("cpu", "float32"))
    encoded = {
        split: base.encode(
            rows, max_tokens=2048, virtual_tokens=0, answer_tokens=32, learn=True, place=f"{dataset}, {split}"
        ).samples
        for split, rows in (("train", prepared.train), ("validation", prepared.validation))
    }
    config = TrainingConfig(epochs=epochs, learning_rate=rate)
    run = TrainingRun(42, encoded["train"], encoded["validation"], config)
    spec = methods.get("lora")
    settings = MethodChoice(name="lora", settings={"dropout": 0.0}).settings_for(spec)
    adapter = build_adapter(spec, base.model.module, settings, [42])
    theirs = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(model), peft_config("lora", 0.0))
    _same_start(adapter, theirs)

    begun = time.perf_counter()
    outcome = train(base.model, adapter, [run])[0]
    ours = [point.validation_loss_of_batches for point in outcome.curve]
    seconds = time.perf_counter() - begun
    print(f"ours: {seconds:.0f} s", flush=True)

    begun = time.perf_counter()
    other = _trainer(theirs, run)
    their_seconds = time.perf_counter() - begun
    for step, a, b in zip(sorted(run.validation_steps), ours, other, strict=True):
        print(f"step {step}: {a:.6f} {b:.6f}")
    return {
        "dataset": dataset,
        "train_rows": len(run.train),
        "validation_rows": len(run.validation),
        "steps": run.steps,
        "validations": len(ours),
        "largest_difference": max(abs((a or 0.0) - b) for a, b in zip(ours, other, strict=True)),
        "first_and_last_loss": [ours[0], ours[-1]],
        "seconds": seconds,
        "trainer_seconds": their_seconds,
        "ratio_vs_trainer": their_seconds / seconds,
    }


def _same_start(adapter: Any, theirs: Any) -> None:
    parameters = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, tensor in adapter.tensors.items():
            module, _, part = name.rpartition(".")
            parameters[f"base_model.model.{module}.lora_{part}.default.weight"].copy_(tensor[0])


def _trainer(theirs: Any, run: TrainingRun) -> list[float]:
    losses: list[float] = []
    due = run.validation_steps

    class Validate(TrainerCallback):
        """Validates where the protocol does."""

        def on_step_end(self, _args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_evaluate = state.global_step in due
            return control

        def on_evaluate(self, _args: Any, _state: Any, _control: Any, metrics: Any, **_: Any) -> None:
            losses.append(metrics["eval_loss"])

    config = run.config
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(prefix="peftbench-bench-"),
        max_steps=run.steps,
        per_device_train_batch_size=1,
        per_device_eval_batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup_steps=math.ceil(run.steps * config.warmup_ratio),
        lr_scheduler_type="cosine",
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=5,
        remove_unused_columns=False,
        prediction_loss_only=True,
        train_sampling_strategy="sequential",
    )
    trainer = Trainer(
        model=theirs,
        args=arguments,
        train_dataset=[run.batch(step) for step in range(run.steps)],
        eval_dataset=list(run.validation),
        data_collator=lambda rows: padded(rows[0] if isinstance(rows[0], list) else rows),
        callbacks=[Validate()],
    )
    with quiet():
        trainer.train()
    return losses


def main() -> None:
    """Print the comparison and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", default="rte")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--rate", type=float, default=1e-3)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = compare(given.model, given.data, given.dataset, given.epochs, given.rate)
    for key, value in found.items():
        print(f"{key}: {value}")
    print(json.dumps({**found, **machine()}))


if __name__ == "__main__":
    main()
