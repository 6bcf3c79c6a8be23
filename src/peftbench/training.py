"""Trainings of several runs: those over one base and the same rows share their passes, as a budget allows."""

import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from peftbench.datasets import get_dataset
from peftbench.disk import explained
from peftbench.efficiency.energy import Energy, metered
from peftbench.efficiency.profile import training_profile
from peftbench.engine.adapter import Adapter
from peftbench.engine.base import Base
from peftbench.engine.loading import threads
from peftbench.engine.memory import memory_kind
from peftbench.engine.mixture import Mixture
from peftbench.engine.pack import common_prefix
from peftbench.engine.runs import Outcome, TrainingRun
from peftbench.engine.step import may_share
from peftbench.engine.tokens import Encoded
from peftbench.engine.train import train
from peftbench.engine.untouched import untouched
from peftbench.errors import DataError
from peftbench.finished import complete, tidy, write_record
from peftbench.methods import build_adapter
from peftbench.methods.plugins import theirs
from peftbench.observer import Part
from peftbench.plan import Plan, load_base_of
from peftbench.provenance import provenance
from peftbench.records import Provenance, TrainRecord


def train_all(plans: Sequence[Plan], *, force: bool, debug: bool) -> dict[Path, TrainRecord]:
    """The records of the trainings by folder: read back where finished, made in groups where not."""
    records: dict[Path, TrainRecord] = {}
    left: dict[Path, Plan] = {}
    for plan in plans:
        done = _finished(plan)
        if done is not None:
            records[plan.folder.path] = done
        elif plan.method.build:
            left.setdefault(plan.folder.path, plan)
    for _, alike in _grouped(left.values(), _base_and_rows):
        ready = [_ready(plan) for plan in alike]
        for _, mixable in _grouped(ready, lambda each: each.shape):
            for group in _within_budget(mixable):
                records.update(_train_group(group, force=force, debug=debug))
    return records


def _finished(plan: Plan) -> TrainRecord | None:
    """The record of a training that need not be made again."""
    done = plan.folder.train_record()
    if done is None or _may_succeed_now(done):
        return None
    if not complete(plan.folder.path / "train.json", done):
        plan.observer.note(plan.number, f"the adapter in {plan.folder.adapter} is damaged and is made again")
        return None
    # Of a process that was killed when all else was done.
    tidy(plan.folder.path / "train.json", done)
    if not plan.config.keep_checkpoints:
        plan.folder.remove_checkpoints()
    return done


def _may_succeed_now(record: TrainRecord) -> bool:
    """What failed for want of memory may succeed on another machine, or with other engine settings."""
    return record.failure is not None and record.failure.reason == "out_of_memory"


Item = TypeVar("Item")


def _grouped(items: Iterable[Item], key: Callable[[Item], Any]) -> list[tuple[Any, list[Item]]]:
    """Items of equal key together, in the order in which keys first come."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.items())


def _base_and_rows(plan: Plan) -> str:
    """Equal for runs over one base model and the same rows, computed in the same way."""
    config = plan.config
    where = (config.model, config.model_revision, config.device, config.dtype, config.quantization, config.threads)
    rows = [split.sha256 for name, split in plan.data.facts.splits.items() if name != "test"]
    return repr((where, config.dataset, rows, config.engine, config.training.max_tokens))


@dataclass(frozen=True)
class _Ready:
    """A run whose rows are token ids."""

    plan: Plan
    base: Base
    run: TrainingRun
    encoded: Mapping[Literal["train", "validation"], Encoded]
    shape: tuple[int, int, bool, str]
    """What is equal for runs that may mix: virtual tokens, those of them that are embedded, whether the prefix is
    shared, and for a method that mixes only with its like what it is."""
    tokens: float
    """Tokens of one step, on average."""


def _ready(plan: Plan) -> _Ready:
    config = plan.config
    base = load_base_of(config, plan.observer)
    with untouched(base, theirs([plan.method])):
        probe = build_adapter(plan.method, base.model.module, plan.settings, [config.seed])
    answer_tokens = get_dataset(config.dataset).max_new_tokens
    encoded: dict[Literal["train", "validation"], Encoded] = {}
    rows: tuple[tuple[Literal["train", "validation"], Any], ...] = (
        ("train", plan.data.train),
        ("validation", plan.data.validation),
    )
    for split, examples in rows:
        encoded[split] = base.encode(
            examples,
            max_tokens=config.training.max_tokens,
            virtual_tokens=probe.virtual_tokens,
            answer_tokens=answer_tokens,
            learn=True,
            place=f"{config.dataset}, {split}",
            content=plan.data.facts.splits[split].sha256,
            note=lambda text: plan.observer.note(plan.number, text),
        )
    run = TrainingRun(
        seed=config.seed,
        train=encoded["train"].samples,
        validation=encoded["validation"].samples,
        config=config.training,
        identity=plan.train_id,
        checkpoints=plan.folder.checkpoints,
    )
    share = may_share(base.model, probe, config.engine)
    before = len(common_prefix([*run.train, *run.validation])) if share else 0
    own = sum(sample.tokens - before for sample in run.train) / len(run.train)
    own += 0 if share else probe.embedded_tokens
    tokens = own * config.training.batch_size + (before + probe.embedded_tokens if share else 0)
    # What acts around a part with modules in it calls them for its own rows, where another method expects all.
    around_others = any(any(True for _ in module.children()) for module, _ in probe.forwards())
    only_with = repr((plan.method.name, plan.settings)) if around_others else ""
    shape = (probe.virtual_tokens, probe.embedded_tokens, share, only_with)
    return _Ready(plan, base, run, encoded, shape, tokens)


TOKENS_PER_STEP = {"cuda": 1500}
"""Up to how many tokens a step runs are trained together, by device: more of them gain nothing."""
TOKENS_PER_STEP_ELSEWHERE = 256


def _within_budget(runs: Sequence[_Ready]) -> Iterator[list[_Ready]]:
    """Runs that fit together into the token budget, those of one method and settings side by side."""
    chosen: list[_Ready] = []
    for run in sorted(runs, key=_place):
        budget = run.plan.config.engine.tokens_per_step or TOKENS_PER_STEP.get(
            run.base.model.device.type, TOKENS_PER_STEP_ELSEWHERE
        )
        full = sum(each.tokens for each in chosen) + run.tokens > budget
        alone = not run.base.model.packs or not all(each.plan.method.fuses for each in (run, *chosen))
        if chosen and (full or alone):
            yield chosen
            chosen = []
        chosen.append(run)
    if chosen:
        yield chosen


def _place(run: _Ready) -> tuple[bool, str]:
    """Where a run stands among others: those that train alone stand last."""
    method = run.plan.method
    return not method.fuses, repr((method.name, run.plan.settings))


def _train_group(group: Sequence[_Ready], *, force: bool, debug: bool) -> dict[Path, TrainRecord]:
    """Train runs in one pass and write what each of them gave."""
    with ExitStack() as held:
        held.enter_context(explained(group[0].plan.folder.path))
        for each in group:
            held.enter_context(each.plan.folder.training_alone())
        # Another process may have finished some since they were planned.
        done = {each.plan.folder.path: _finished(each.plan) for each in group}
        records = {path: record for path, record in done.items() if record is not None}
        left = [each for each in group if each.plan.folder.path not in records]
        if left:
            stop = held.enter_context(asked_to_stop())
            records |= _train_alone(left, stop, force=force, debug=debug)
    return records


def _train_alone(
    group: Sequence[_Ready], stop: Callable[[], bool], *, force: bool, debug: bool
) -> dict[Path, TrainRecord]:
    """Train runs that no other process trains."""
    base, observer = group[0].base, group[0].plan.observer
    made_with = provenance(base.model.device_name, threads())
    together = f", {len(group)} runs together" if len(group) > 1 else ""
    with untouched(base, theirs(each.plan.method for each in group)):
        parts = [
            build_adapter(
                alike[0].plan.method, base.model.module, alike[0].plan.settings, [each.run.seed for each in alike]
            )
            for _, alike in _grouped(group, lambda each: repr((each.plan.method.name, each.plan.settings)))
        ]
        for part in parts:
            if {tensor.dtype for tensor in part.tensors.values()} != {part.dtype}:
                raise AssertionError("trainable tensors must all have the adapter's precision")
        adapter = parts[0] if len(parts) == 1 else Mixture(parts)
        observer.phase(f"training{together}", max(each.run.steps for each in group))
        with metered() as energy:
            outcomes = train(
                base.model,
                adapter,
                [each.run for each in group],
                engine=group[0].plan.config.engine,
                observer=Part(
                    observer,
                    [each.plan.number for each in group],
                    keep=lambda number, point: group[number].plan.folder.add_to_curve(point),
                ),
                force_resume=force,
                debug=debug,
                stop=stop,
            )
    return {
        each.plan.folder.path: _write_training(each, adapter.select([row]), outcome, made_with, energy)
        for row, (each, outcome) in enumerate(zip(group, outcomes, strict=True))
    }


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed or the process told to end; a second time ends it at once.

    Only the main thread hears signals; elsewhere nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    heard: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # Whoever started this process may have told it to ignore one of them, as shells do in the background.
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

    def hear(number: int, _: Any) -> None:
        heard.append(number)
        if len(heard) > 1:
            raise KeyboardInterrupt

    for number in before:
        signal.signal(number, hear)
    try:
        yield lambda: bool(heard)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if heard:  # too late for the training to stop; whoever goes on must
        raise KeyboardInterrupt


def _write_training(
    ready: _Ready, adapter: Adapter, outcome: Outcome, made_with: Provenance, energy: Energy
) -> TrainRecord:
    """Write curve, adapter and record of one run; `adapter` has this run alone."""
    plan, file = ready.plan, ready.plan.folder.path / "train.json"

    def standing() -> TrainRecord | None:
        found = plan.folder.train_record()
        return None if found is None or _may_succeed_now(found) or not complete(file, found) else found

    record = standing()
    if record is None:
        try:
            record = _write(ready, adapter, outcome, made_with, energy)
        except DataError:
            # Who finished it first may have cleared away under our hands.
            record = standing()
            if record is None:
                raise
    if not plan.config.keep_checkpoints and not _may_succeed_now(record):
        plan.folder.remove_checkpoints()
    return record


def _write(
    ready: _Ready, adapter: Adapter, outcome: Outcome, made_with: Provenance, energy: Energy
) -> TrainRecord:
    """Write as above, where no record stands that counts."""
    plan, base = ready.plan, ready.base
    file = plan.folder.path / "train.json"
    before = plan.folder.train_record()
    params, size, hashes = _store_adapter(plan, adapter, outcome)
    record = TrainRecord(
        train_id=plan.train_id,
        status=outcome.status,
        failure=outcome.failure,
        config=plan.config,
        model=base.facts,
        data=plan.data.facts,
        tokens={split: each.facts for split, each in ready.encoded.items()},
        trainable_params=adapter.trainable_params,
        trainable_dtype=str(adapter.dtype).removeprefix("torch."),
        adapter_params=params,
        adapter_bytes=size,
        adapter_sha256=hashes.get("adapter_sha256"),
        adapter_config_sha256=hashes.get("adapter_config_sha256"),
        shared_prefix_tokens=outcome.shared_tokens,
        shared_prefix_exact=outcome.shared_tokens == 0 or adapter.constant_over_batch(),
        passes_per_step=outcome.passes,
        group_size=outcome.group,
        steps=outcome.step,
        best_step=outcome.best_step,
        best_validation_loss=outcome.best_loss,
        resumed=outcome.resumed,
        # What a run needs cannot be told from what a group took.
        peak_memory_bytes=outcome.peak_memory_bytes if outcome.group == 1 else None,
        memory_kind=memory_kind(base.model.device),
        seconds=outcome.seconds,
        provenance=made_with,
        efficiency=training_profile(
            base.model,
            outcome,
            tokens=sum(len(each.prompt) + len(each.answer) for each in ready.run.train),
            epochs=ready.run.config.epochs,
            adapter_bytes=size,
            energy=energy,
        ),
    )
    plan.folder.write_curve(outcome.curve)
    # Weights that were lost may just have been made as they were, and then their record is right again.
    lost = before is not None and (_may_succeed_now(before) or not complete(file, before))
    return write_record(file, record, over=before if lost else None)


def _store_adapter(
    plan: Plan, adapter: Adapter, outcome: Outcome
) -> tuple[int | None, int | None, dict[str, str]]:
    """Store the best weights; returns their number, the bytes of their file and the hashes for the record."""
    if outcome.failure or outcome.best is None:
        return None, None, {}
    adapter.load_flat(0, outcome.best)
    files = adapter.export(0)
    origin = {"base_model_name_or_path": plan.config.model, "revision": plan.config.model_revision}
    hashes, size = plan.folder.write_adapter({**files.config, **origin}, files.tensors)
    return sum(tensor.numel() for tensor in files.tensors.values()), size, hashes
