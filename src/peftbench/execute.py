"""One run from its configuration to its records: rows, tokens, training, predictions, scores.

What is finished is never done again: a run whose records are there is read back, one that was stopped goes on
from its newest checkpoint.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from peftbench.config import run_config, with_device
from peftbench.datasets import get_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.datasets.kept import kept_for
from peftbench.efficiency.energy import metered
from peftbench.efficiency.profile import evaluation_profile
from peftbench.engine.adapter import Adapter, AdapterFiles
from peftbench.engine.base import Base
from peftbench.engine.generate import generate
from peftbench.engine.loading import read_adapter, threads
from peftbench.engine.memory import peak_bytes, start_interval
from peftbench.engine.pack import Sample, common_prefix
from peftbench.engine.untouched import untouched
from peftbench.errors import ConfigError, DataError
from peftbench.evaluations import kept_outputs, metric_failed, outputs_of, write_scored
from peftbench.finished import complete, read_record, tidy
from peftbench.identity import eval_id
from peftbench.methods import load_adapter
from peftbench.methods.plugins import spec_of, theirs
from peftbench.mirrors import mirrored
from peftbench.observer import Observer
from peftbench.plan import Plan, Rows, load_base_of, make_plan
from peftbench.predictions import Prediction
from peftbench.provenance import provenance
from peftbench.records import EvalRecord, RunConfig, RunResult
from peftbench.schema import Example, Prompt
from peftbench.store import RunFolder, find_run
from peftbench.training import train_all


def run(
    config: RunConfig | Mapping[str, Any],
    *,
    rows: Rows | None = None,
    observer: Observer | None = None,
    force: bool = False,
    evaluate: bool = True,
    debug: bool = False,
) -> RunResult:
    """Train, predict and score one run, and return its records.

    `config` is a `RunConfig` or the same as plain data. `rows` are the user's own rows in the columns of the
    dataset, by `train` and `test`; without them rows come from the configured folder or the hub. `force` goes
    on under another number of threads, `debug` checks in the first step that the adapter says the truth about
    its prefix. Raises `ConfigError` or `DataError` for what the user can mend.
    """
    return run_many([config], rows=rows, observer=observer, force=force, evaluate=evaluate, debug=debug)[0]


def run_many(
    configs: Sequence[RunConfig | Mapping[str, Any]],
    *,
    rows: Rows | None = None,
    observer: Observer | None = None,
    force: bool = False,
    evaluate: bool = True,
    debug: bool = False,
) -> list[RunResult]:
    """Train, predict and score several runs, and return their results in the order given; see `run`.

    Runs over one base model and the same rows are trained in one pass, as many as `engine.tokens_per_step`
    allows: other seeds, learning rates and settings, and methods that put equally many virtual tokens before
    the text. Ids and records are those of the runs alone.
    """
    checked = [run_config(config) for config in configs]
    for config in checked:
        if not evaluate and spec_of(config.method).build is None:
            raise ConfigError(
                f"method {config.method.name!r} trains nothing; use `run`, which evaluates it as it is"
            )
    with mirrored(observer or Observer(), checked) as told:
        # A record says nothing of trackers: it is the same without them, and never sends by being read again.
        nowhere = {name: RunConfig.model_fields[name].default for name in ("tracking", "tracking_project")}
        bare = [config.model_copy(update=nowhere) for config in checked]
        return _run_all(bare, rows, told, force=force, evaluate=evaluate, debug=debug)


def _run_all(
    configs: Sequence[RunConfig],
    rows: Rows | None,
    observer: Observer,
    *,
    force: bool,
    evaluate: bool,
    debug: bool,
) -> list[RunResult]:
    observer.runs([f"{config.method.name} on {config.dataset}, seed {config.seed}" for config in configs])
    kept = kept_for(rows)
    plans = [
        make_plan(config, rows, observer, test=evaluate, number=i, kept=kept) for i, config in enumerate(configs)
    ]
    for plan in plans:
        observer.planned(plan.number, plan.config, plan.train_id, plan.folder.path)
    trained = train_all(plans, force=force, debug=debug)
    results = []
    for plan in plans:
        record = trained.get(plan.folder.path)
        failed = record is not None and record.status == "failed"
        evaluation = _evaluate(plan) if evaluate and not failed else None
        folder = str(plan.folder.path)
        results.append(RunResult(folder=folder, config=plan.config, train=record, evaluation=evaluation))
        observer.ended(plan.number, results[-1])
    return results


def evaluate_run(
    folder: Path, config: RunConfig, *, rows: Rows | None = None, observer: Observer | None = None
) -> RunResult:
    """Evaluate the finished run in `folder` under `config`: its own configuration with another evaluation."""
    found = find_run(folder)
    plan = make_plan(config, rows, observer or Observer(), folder=found)
    trained = found.train_record()
    if plan.method.build and trained is None:
        raise DataError(f"run {found.path} has no finished training; run `peftbench train` with its configuration")
    if trained is not None and trained.failure is not None:
        raise DataError(
            f"the training of run {found.path} failed, and cannot be evaluated: {trained.failure.message}; "
            "train with other settings"
        )
    return RunResult(folder=str(found.path), config=plan.config, train=trained, evaluation=_evaluate(plan))


def predict(
    folder: Path, prompts: Sequence[Prompt], *, device: str | None = None, observer: Observer | None = None
) -> list[str]:
    """What the model of a finished run answers to the user's own prompts, on `device` or that of the run."""
    found = find_run(folder)
    config = found.config()
    if device is not None:
        config = with_device(config, device)
    observer = observer or Observer()
    base = load_base_of(config, observer)
    made_with = _made_with(found)
    if made_with is not None and made_with != base.facts.fingerprint:
        raise DataError(
            f"model {config.model!r} is not the one that run {found.path} was made with; give that one"
        )
    adapter = _deployed(found, config, base)
    spec = under_protocol(get_dataset(config.dataset), config.protocol)
    new_tokens = config.evaluation.max_new_tokens or spec.max_new_tokens
    encoded = base.encode(
        [Example(f"{i + 1}", prompt, "", ()) for i, prompt in enumerate(prompts)],
        max_tokens=config.training.max_tokens,
        virtual_tokens=adapter.virtual_tokens if adapter else 0,
        answer_tokens=get_dataset(config.dataset).max_new_tokens,  # cut as in training and evaluation
        learn=False,
        place="your prompts",
    )
    observer.phase("predicting", len(prompts))
    return [text for text, _, _ in _generate(base, adapter, encoded.samples, config, new_tokens, observer)]


def _made_with(folder: RunFolder) -> str | None:
    """Fingerprint of the model that a run was made with; None where nothing is finished."""
    trained = folder.train_record()
    if trained is not None:
        return trained.model.fingerprint
    done = [read_record(EvalRecord, each / "result.json") for each in folder.evaluations()]
    return next((record.model.fingerprint for record in done if record is not None), None)


def _deployed(folder: RunFolder, config: RunConfig, base: Base) -> Adapter | None:
    """The trained adapter of a run, read back from its folder; None for the base model."""
    method = spec_of(config.method)
    if method.build is None:
        return None
    trained = folder.train_record()
    if trained is None or not complete(folder.path / "train.json", trained):
        raise DataError(
            f"the adapter in {folder.adapter} is not the one that was trained: it is damaged or replaced; "
            "restore its files, or run `peftbench train` again with its configuration"
        )
    files = AdapterFiles(*read_adapter(folder.adapter))
    return load_adapter(method, base.model.module, config.method.settings_for(method), files, config.seed)


# ------------------------------------------------------------------------------------------------ evaluation


def _evaluate(plan: Plan) -> EvalRecord:
    """Predict and score, or read the record of an evaluation that is finished."""
    config, spec = plan.config, plan.data.spec
    new_tokens = config.evaluation.max_new_tokens or spec.max_new_tokens
    found = eval_id(
        plan.train_id,
        test_sha256=plan.data.facts.splits["test"].sha256,
        max_new_tokens=new_tokens,
        own=spec.name if spec.own else None,
    )
    file = plan.folder.evaluation(found) / "result.json"
    done = read_record(EvalRecord, file)
    if done is not None and complete(file, done) and not metric_failed(done):
        tidy(file, done)
        return done
    test_sha256 = plan.data.facts.splits["test"].sha256
    if spec.own and (before := kept_outputs(plan.folder, test_sha256, new_tokens)):
        plan.observer.note(plan.number, "the outputs that are there are scored; none is generated again")
        again = {"eval_id": found, "config": config, "data": plan.data.facts}
        rows = outputs_of(plan.folder, before[0])
        return write_scored(file, before[0].model_copy(update=again), rows, spec, done)
    if done is not None:
        plan.observer.note(plan.number, f"the predictions in {file.parent} are damaged and are made again")
    base = load_base_of(config, plan.observer)
    made_with = provenance(base.model.device_name, threads())
    with untouched(base, theirs([plan.method])):
        adapter = _deployed(plan.folder, config, base)
        encoded = base.encode(
            plan.data.test,
            max_tokens=config.training.max_tokens,
            virtual_tokens=adapter.virtual_tokens if adapter else 0,
            answer_tokens=get_dataset(config.dataset).max_new_tokens,
            learn=False,
            place=f"{config.dataset}, test",
            content=plan.data.facts.splits["test"].sha256,
            note=lambda text: plan.observer.note(plan.number, text),
        )
        plan.observer.phase(f"predicting: {config.method.name} on {config.dataset}", len(encoded.samples))
        start_interval(base.model.device)
        with metered() as energy:
            begun = time.monotonic()
            outputs = list(_generate(base, adapter, encoded.samples, config, new_tokens, plan.observer))
            seconds = time.monotonic() - begun
        peak = peak_bytes(base.model.device)
        profile = evaluation_profile(
            base.model,
            adapter,
            [sample.prompt for sample in encoded.samples],
            mergeable=plan.method.merges_into(config.quantization),
            seconds=seconds,
            generated_tokens=sum(count for _, count, _ in outputs),
            energy=energy,
        )
    overlapping = plan.data.overlapping_test_ids
    rows = [
        Prediction(
            id=example.id,
            prompt_sha256=hashlib.sha256(json.dumps(sample.prompt).encode()).hexdigest(),
            text=text,
            references=example.references,
            valid=None,
            hit_limit=hit_limit,
            new_tokens=count,
            in_train=None if overlapping is None else example.id in overlapping,
        )
        for example, sample, (text, count, hit_limit) in zip(
            encoded.examples, encoded.samples, outputs, strict=True
        )
    ]
    record = EvalRecord(
        eval_id=found,
        train_id=plan.train_id,
        status="done",
        config=config,
        model=base.facts,
        data=plan.data.facts,
        tokens=encoded.facts,
        scores={},
        metric=spec.metric,
        metric_version=None,
        invalid_rate=None,
        top_output_share=None,
        hit_limit_rate=sum(hit for _, _, hit in outputs) / len(outputs),
        max_new_tokens=new_tokens,
        peak_memory_bytes=peak,
        seconds=seconds,
        provenance=made_with,
        efficiency=profile,
    )
    return write_scored(file, record, rows, spec, done)


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
