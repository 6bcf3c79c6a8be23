"""One run from its configuration to its records: rows, tokens, training, predictions, scores.

What is finished is never done again: a run whose records are there is read back, one that was stopped goes on
from its newest checkpoint.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from peftbench.config import run_config
from peftbench.datasets import PreparedDataset, get_dataset, load_dataset
from peftbench.engine.adapter import Adapter, AdapterFiles
from peftbench.engine.base import Base, load_base
from peftbench.engine.generate import generate
from peftbench.engine.loading import Where, choose_device, fingerprint, model_label, read_adapter, threads
from peftbench.engine.memory import memory_kind, peak_bytes, start_interval
from peftbench.engine.pack import Sample, common_prefix
from peftbench.engine.train import Outcome, TrainingRun, train
from peftbench.errors import DataError
from peftbench.identity import eval_id, train_id
from peftbench.methods import build_adapter, load_adapter
from peftbench.methods.specs import methods
from peftbench.observer import Observer
from peftbench.provenance import provenance
from peftbench.records import EvalRecord, RunConfig, RunResult, TrainRecord
from peftbench.schema import Example, Frozen, MethodSpec, Prompt
from peftbench.scoring import as_record, score_both
from peftbench.store import (
    Prediction,
    RunFolder,
    explained,
    find_run,
    read_record,
    write_predictions,
    write_record,
)

Rows = Mapping[Literal["train", "test"], Sequence[Mapping[str, Any]]]


def run(
    config: RunConfig | Mapping[str, Any],
    *,
    rows: Rows | None = None,
    observer: Observer | None = None,
    force: bool = False,
    evaluate: bool = True,
) -> RunResult:
    """Train, predict and score one run, and return its records.

    `config` is a `RunConfig` or the same as plain data. `rows` are the user's own rows in the columns of the
    dataset, by `train` and `test`; without them rows come from the configured folder or the hub. `force` goes
    on under another number of threads. Raises `ConfigError` or `DataError` for what the user can mend.
    """
    plan = _plan(run_config(config), rows, observer or Observer(), test=evaluate)
    trained = _train(plan, force) if plan.method.build else None
    failed = trained is not None and trained.status == "failed"
    evaluation = _evaluate(plan) if evaluate and not failed else None
    return RunResult(folder=str(plan.folder.path), config=plan.config, train=trained, evaluation=evaluation)


def evaluate_run(
    folder: Path, config: RunConfig, *, rows: Rows | None = None, observer: Observer | None = None
) -> RunResult:
    """Evaluate the finished run in `folder` under `config`: its own configuration with another evaluation."""
    found = find_run(folder)
    plan = _plan(config, rows, observer or Observer(), folder=found)
    trained = found.train_record()
    if plan.method.build and (trained is None or trained.status == "failed"):
        raise DataError(f"run {found.path} has no finished training; run `peftbench train` with its configuration")
    return RunResult(folder=str(found.path), config=plan.config, train=trained, evaluation=_evaluate(plan))


def predict(folder: Path, prompts: Sequence[Prompt], *, observer: Observer | None = None) -> list[str]:
    """What the model of a finished run answers to the user's own prompts."""
    found = find_run(folder)
    config = found.config()
    observer = observer or Observer()
    base = _load_base(config, observer)
    adapter = _deployed(found, config, base)
    answer_tokens = config.evaluation.max_new_tokens or get_dataset(config.dataset).max_new_tokens
    encoded = base.encode(
        [Example(f"{i + 1}", prompt, "", ()) for i, prompt in enumerate(prompts)],
        max_tokens=config.training.max_tokens,
        virtual_tokens=adapter.virtual_tokens if adapter else 0,
        answer_tokens=answer_tokens,
        learn=False,
        place="your prompts",
    )
    observer.phase("predicting", len(prompts))
    return [text for text, _, _ in _generate(base, adapter, encoded.samples, config, answer_tokens, observer)]


# ------------------------------------------------------------------------------------------------------ plan


@dataclass(frozen=True)
class _Plan:
    """One run with its rows and ids; no model is loaded yet."""

    config: RunConfig
    method: MethodSpec
    settings: Frozen
    data: PreparedDataset
    train_id: str
    folder: RunFolder
    observer: Observer


def _plan(
    config: RunConfig, rows: Rows | None, observer: Observer, *, test: bool = True, folder: RunFolder | None = None
) -> _Plan:
    threads(config.threads)
    # The precision is part of what a run is, the device is not: a run of a GPU can be evaluated on a CPU.
    config = config.model_copy(update={"dtype": _where(config).dtype})
    method = methods.get(config.method.name)
    wanted: list[Literal["train", "validation", "test"]] = ["train", "validation"] if method.build else []
    if test:
        wanted.append("test")
    observer.phase("reading rows")
    data = load_dataset(
        get_dataset(config.dataset),
        protocol=config.protocol,
        data_dir=_directory(config),
        rows=rows,
        allow_partial=config.data.allow_partial,
        train_rows=config.data.train_rows,
        test_rows=config.evaluation.test_rows,
        split_seed=config.data.split_seed,
        splits=wanted,
    )
    found = train_id(
        config,
        dataset=data.spec,
        method=method,
        model_fingerprint=fingerprint(config.model, config.model_revision),
        dtype=config.dtype,
        data=data.facts,
    )
    if folder is None:
        folder = RunFolder.of(config, model_label(config.model), found)
        folder.open(found, config)
    elif folder.train_id() != found:
        raise DataError(
            f"run {folder.path} was made with other rows, another model or other settings than are here now "
            f"({folder.train_id()}, not {found}); give it what it was made with"
        )
    return _Plan(config, method, config.method.settings_for(method), data, found, folder, observer)


def _directory(config: RunConfig) -> Path | None:
    return Path(config.data.directory) if config.data.directory else None


def _where(config: RunConfig) -> Where:
    return choose_device(config.device, config.dtype)


def _load_base(config: RunConfig, observer: Observer) -> Base:
    observer.phase("loading the model")
    base = load_base(config.model, config.model_revision, _where(config))
    if not base.chat.has_template:
        observer.note(0, f"model {base.facts.name} has no chat template; a plain one is used (see DECISIONS.md)")
    return base


# -------------------------------------------------------------------------------------------------- training


def _train(plan: _Plan, force: bool) -> TrainRecord:
    """Train, or read the record of a training that is finished."""
    done = plan.folder.train_record()
    if done is not None:
        return done
    config = plan.config
    base = _load_base(config, plan.observer)
    made_with = provenance(base.model.device_name, threads())
    adapter = build_adapter(plan.method, base.model.module, plan.settings, [config.seed])
    if {tensor.dtype for tensor in adapter.tensors.values()} != {adapter.dtype}:
        raise AssertionError("trainable tensors must all have the adapter's precision")
    answer_tokens = get_dataset(config.dataset).max_new_tokens
    encoded = {
        split: base.encode(
            examples,
            max_tokens=config.training.max_tokens,
            virtual_tokens=adapter.virtual_tokens,
            answer_tokens=answer_tokens,
            learn=True,
            place=f"{config.dataset}, {split}",
        )
        for split, examples in (("train", plan.data.train), ("validation", plan.data.validation))
    }
    training = TrainingRun(
        seed=config.seed,
        train=encoded["train"].samples,
        validation=encoded["validation"].samples,
        config=config.training,
        identity=plan.train_id,
        checkpoints=plan.folder.checkpoints,
    )
    plan.observer.phase("training", training.steps)
    with explained(plan.folder.path):
        outcome = train(base.model, adapter, [training], observer=plan.observer, force_resume=force)[0]
        plan.folder.write_curve(outcome.curve)
    stored = _store_adapter(plan, adapter, outcome)
    record = TrainRecord(
        train_id=plan.train_id,
        status=outcome.status,
        failure=outcome.failure,
        config=config,
        model=base.facts,
        data=plan.data.facts,
        tokens={split: each.facts for split, each in encoded.items()},  # type: ignore[misc]
        trainable_params=adapter.trainable_params,
        trainable_dtype=str(adapter.dtype).removeprefix("torch."),
        adapter_params=stored[0] if stored else None,
        adapter_bytes=stored[1] if stored else None,
        shared_prefix_tokens=outcome.shared_tokens,
        steps=outcome.step,
        best_step=outcome.best_step,
        best_validation_loss=outcome.best_loss,
        resumed=outcome.resumed,
        peak_memory_bytes=outcome.peak_memory_bytes,
        memory_kind=memory_kind(base.model.device),
        seconds=outcome.seconds,
        provenance=made_with,
    )
    write_record(plan.folder.path / "train.json", record)
    if not config.keep_checkpoints:
        plan.folder.remove_checkpoints()
    return record


def _store_adapter(plan: _Plan, adapter: Adapter, outcome: Outcome) -> tuple[int, int] | None:
    """Write the best weights; returns their number and the bytes of their file."""
    if outcome.failure or outcome.best is None:
        return None
    adapter.load_flat(0, outcome.best)
    files = adapter.export(0)
    origin = {"base_model_name_or_path": plan.config.model, "revision": plan.config.model_revision}
    size = plan.folder.write_adapter({**files.config, **origin}, files.tensors)
    return sum(tensor.numel() for tensor in files.tensors.values()), size


def _deployed(folder: RunFolder, config: RunConfig, base: Base) -> Adapter | None:
    """The trained adapter of a run, read back from its folder; None for the base model."""
    method = methods.get(config.method.name)
    if method.build is None:
        return None
    files = AdapterFiles(*read_adapter(folder.adapter))
    return load_adapter(method, base.model.module, config.method.settings_for(method), files, config.seed)


# ------------------------------------------------------------------------------------------------ evaluation


def _evaluate(plan: _Plan) -> EvalRecord:
    """Predict and score, or read the record of an evaluation that is finished."""
    config, spec = plan.config, plan.data.spec
    new_tokens = config.evaluation.max_new_tokens or spec.max_new_tokens
    found = eval_id(
        plan.train_id,
        test_sha256=plan.data.facts.splits["test"].sha256,
        max_new_tokens=new_tokens,
    )
    folder = plan.folder.evaluation(found)
    done = read_record(EvalRecord, folder / "result.json")
    if done is not None:
        return done
    base = _load_base(config, plan.observer)
    made_with = provenance(base.model.device_name, threads())
    adapter = _deployed(plan.folder, config, base)
    encoded = base.encode(
        plan.data.test,
        max_tokens=config.training.max_tokens,
        virtual_tokens=adapter.virtual_tokens if adapter else 0,
        answer_tokens=get_dataset(config.dataset).max_new_tokens,
        learn=False,
        place=f"{config.dataset}, test",
    )
    plan.observer.phase("predicting", len(encoded.samples))
    start_interval(base.model.device)
    begun = time.monotonic()
    outputs = list(_generate(base, adapter, encoded.samples, config, new_tokens, plan.observer))
    seconds = time.monotonic() - begun
    texts, references = [text for text, _, _ in outputs], [example.references for example in plan.data.test]
    scored = score_both(spec, texts, references)
    own = scored[config.protocol]
    overlapping = plan.data.overlapping_test_ids
    write_predictions(
        folder / "predictions.parquet",
        [
            Prediction(
                id=example.id,
                prompt_sha256=hashlib.sha256(json.dumps(sample.prompt).encode()).hexdigest(),
                text=text,
                references=example.references,
                valid=valid,
                hit_limit=hit_limit,
                new_tokens=count,
                in_train=None if overlapping is None else example.id in overlapping,
            )
            for example, sample, (text, count, hit_limit), valid in zip(
                encoded.examples, encoded.samples, outputs, own.valid, strict=True
            )
        ],
    )
    record = EvalRecord(
        eval_id=found,
        train_id=plan.train_id,
        status="done",
        config=config,
        model=base.facts,
        data=plan.data.facts,
        tokens=encoded.facts,
        scores={protocol: as_record(each) for protocol, each in scored.items()},
        metric=own.metric,
        metric_version=own.metric_version,
        invalid_rate=own.invalid_rate,
        top_output_share=own.top_output_share,
        hit_limit_rate=sum(hit for _, _, hit in outputs) / len(outputs),
        max_new_tokens=new_tokens,
        peak_memory_bytes=peak_bytes(base.model.device),
        seconds=seconds,
        provenance=made_with,
    )
    write_record(folder / "result.json", record)
    return record


def _generate(
    base: Base,
    adapter: Adapter | None,
    samples: Sequence[Sample],
    config: RunConfig,
    max_new_tokens: int,
    observer: Observer,
) -> Iterator[tuple[str, int, bool]]:
    """For each sample the text, its number of tokens, and whether it hit the limit."""
    with adapter.attached() if adapter else nullcontext():
        answers = generate(
            base.model,
            adapter,
            [sample.prompt for sample in samples],
            max_new_tokens=max_new_tokens,
            stop_ids=base.chat.stop_ids,
            batch_size=config.evaluation.batch_size,
            shared=common_prefix(samples),
            progress=observer.advance,
        )
    return ((base.chat.text(each.ids), len(each.ids), each.hit_limit) for each in answers)
