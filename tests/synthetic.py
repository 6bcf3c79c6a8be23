"""Records of runs that were never made, whole and of the size of real ones, for tests of what reads records."""

import hashlib
import json
from pathlib import Path
from typing import Any

from peftbench.finished import write_record
from peftbench.records import (
    EfficiencyProfile,
    EvalRecord,
    Failure,
    ModelFacts,
    Provenance,
    RunConfig,
    Scores,
    TokenFacts,
    TrainRecord,
)
from peftbench.schema import DataFacts, MethodChoice, SplitFacts
from peftbench.store import RunFolder

ROWS = {"train": 2241, "validation": 249, "test": 277}
DEVICE = "NVIDIA H100 80GB HBM3"


def config_of(
    output: Path, method: str = "lora", dataset: str = "rte", seed: int = 42, settings: Any = None, **changes: Any
) -> RunConfig:
    values: dict[str, Any] = {
        "model": "models/small", "dataset": dataset, "seed": seed, "output": str(output),
        "method": MethodChoice(name=method, settings=settings or {}), **changes,
    }  # fmt: skip
    return RunConfig(**values)


def made_with(started_at: str = "2026-11-24T10:00:00+00:00", device: str = DEVICE) -> Provenance:
    packages = dict.fromkeys(("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow"), "1.2.3")
    return Provenance(
        peftbench="0.1.0", commit="0" * 40, python="3.13.1", platform="linux x86_64", packages=packages,
        device=device, threads=1, started_at=started_at,
    )  # fmt: skip


def model_of(config: RunConfig) -> ModelFacts:
    return ModelFacts(
        name=config.model, fingerprint="f" * 64, family="llama", dtype="bfloat16", parameters=1_000_000,
        context_tokens=2048, chat_template=False,
    )  # fmt: skip


def data_of(config: RunConfig) -> DataFacts:
    return DataFacts(
        dataset=config.dataset, version=1, protocol=config.protocol, source="hub", revision="a" * 40,
        files={f"{config.dataset}/{split}-00000-of-00001.parquet": "b" * 64 for split in ("train", "validation")},
        partial=False, source_rows={"train": 2490, "test": 277},
        splits={split: SplitFacts(rows=count, sha256="c" * 64) for split, count in ROWS.items()},
        train_test_overlap_rows=3, train_duplicate_rows=1, split_seed=0,
        train_rows_limit=config.data.train_rows, test_rows_limit=None,
    )  # fmt: skip


def tokens_of(split: str) -> TokenFacts:
    return TokenFacts(rows=ROWS[split], cut_rows=0, dropped_rows=0, longest_tokens=310, limit_tokens=2048)


def training_of(config: RunConfig, train_id: str, *, failed: bool = False, **changes: Any) -> TrainRecord:
    efficiency = EfficiencyProfile(
        device=DEVICE, memory_kind="cuda allocated", train_peak_memory_bytes=4_000_000_000, train_seconds=90.5,
        validation_seconds=9.5, train_tokens_per_second=31_000.0, adapter_bytes=57_000, energy_joules=40_000.0,
        energy_source="measured",
    )  # fmt: skip
    values: dict[str, Any] = {
        "train_id": train_id, "status": "failed" if failed else "done",
        "failure": Failure(reason="nonfinite", message="the loss is not finite at step 7", step=7) if failed else None,
        "config": config, "model": model_of(config), "data": data_of(config),
        "tokens": {split: tokens_of(split) for split in ("train", "validation")},
        "trainable_params": 57_344, "trainable_dtype": "float32", "adapter_params": 57_300, "adapter_bytes": 57_000,
        "adapter_sha256": "d" * 64, "shared_prefix_tokens": 12, "steps": 5610, "best_step": 2805,
        "best_validation_loss": 0.25, "peak_memory_bytes": 4_100_000_000, "memory_kind": "cuda allocated",
        "seconds": 100.0, "provenance": made_with(), "efficiency": efficiency, **changes,
    }  # fmt: skip
    return TrainRecord(**values)


def scores_of(primary: float) -> Scores:
    values = {
        "primary": primary,
        "macro_f1": primary,
        "accuracy": primary,
        "lenient": primary,
        "weighted_f1": primary,
    }
    return Scores(primary=primary, values=values, scored_rows=277, unscored_rows=0)


def evaluation_of(config: RunConfig, train_id: str, primary: float = 80.0, **changes: Any) -> EvalRecord:
    efficiency = EfficiencyProfile(
        device=DEVICE, memory_kind="cuda allocated", evaluation_peak_memory_bytes=3_000_000_000,
        generation_seconds=4.5, generated_tokens_per_second=410.0, latency_prompt_tokens=60,
        first_token_seconds=0.02, next_token_seconds=0.01, merged_first_token_seconds=0.015,
        merged_next_token_seconds=0.008, energy_joules=2_000.0, energy_source="measured",
    )  # fmt: skip
    values: dict[str, Any] = {
        "eval_id": "e" * 12, "train_id": train_id, "status": "done", "config": config, "model": model_of(config),
        "data": data_of(config), "tokens": tokens_of("test"),
        "scores": {"corrected": scores_of(primary), "published": scores_of(primary - 1)}, "metric": "macro_f1",
        "metric_version": 1, "invalid_rate": 0.125, "top_output_share": 0.5, "hit_limit_rate": 0.0625,
        "max_new_tokens": 32, "peak_memory_bytes": 3_100_000_000, "seconds": 5.0,
        "provenance": made_with("2026-11-24T10:05:00+00:00"), "efficiency": efficiency, **changes,
    }  # fmt: skip
    return EvalRecord(**values)


def add_run(
    output: Path, method: str = "lora", dataset: str = "rte", seed: int = 42, primary: float | None = 80.0,
    *, failed: bool = False, evaluation: Any = None, training: Any = None, **changes: Any,
) -> Path:  # fmt: skip
    """Write one run as a real one leaves it, and give its folder; without `primary` it was only trained.

    `evaluation` and `training` change keys of the two records, anything else those of the configuration.
    """
    config = config_of(output, method, dataset, seed, **changes)
    train_id = hashlib.sha256(repr((method, dataset, seed, changes)).encode()).hexdigest()[:12]
    run = RunFolder.of(config, Path(config.model).name, train_id)
    run.open(train_id, config)
    if method != "base":
        write_record(run.path / "train.json", training_of(config, train_id, failed=failed, **(training or {})))
    if primary is not None and not failed:
        record = evaluation_of(config, train_id, primary, **(evaluation or {}))
        folder = run.evaluation(record.eval_id)
        folder.mkdir()
        write_record(folder / "result.json", record)
    return run.path


def edit(file: Path, **changes: Any) -> None:
    """Change keys of a record behind the back of the package, and leave it as a record of an earlier version."""
    rest = {name: value for name, value in json.loads(file.read_text()).items() if name != "sha256"}
    file.write_text(json.dumps({**rest, **changes}))
