"""The training loop: section 4 of the paper for one run or several at once, exact across stops.

All randomness is a function of a run's seed and the step, and a checkpoint holds the full trainable state, so
a stopped run goes on with the same bits. A run that ends or fails leaves its group without touching the others.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from peftbench.engine import checkpoint, memory
from peftbench.engine.adapter import Adapter, Noise, generator
from peftbench.engine.loss import mean_of_batch_means, sample_losses, token_mean, validation_losses
from peftbench.engine.model import LanguageModel
from peftbench.engine.optimizer import AdamW, learning_rate
from peftbench.engine.pack import Sample, common_prefix, pack
from peftbench.errors import ConfigError
from peftbench.observer import Observer
from peftbench.records import CurvePoint, Failure, TrainingConfig

VALIDATION_TOKENS = 4096
"""Tokens of one validation stream, over all runs of the group."""


@dataclass(frozen=True)
class TrainingRun:
    """What one run trains on."""

    seed: int
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    config: TrainingConfig
    identity: str = ""
    """The run's id; a checkpoint of another id is refused."""
    checkpoints: Path | None = None
    """Folder for checkpoints; None keeps none."""

    @property
    def steps_per_epoch(self) -> int:
        """Updates in one pass over the training rows; the last may be smaller."""
        return math.ceil(len(self.train) / self.config.batch_size)

    @property
    def steps(self) -> int:
        """Updates in all."""
        return self.steps_per_epoch * self.config.epochs

    @property
    def validation_steps(self) -> frozenset[int]:
        """Updates after which the run is validated: ceil(k S / 20), k = 1 to 20; the last always."""
        count = self.config.validations
        return frozenset(math.ceil(k * self.steps / count) for k in range(1, count + 1))

    def batch(self, step: int) -> list[Sample]:
        """The rows of the update that follows `step` updates."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order = torch.randperm(len(self.train), generator=generator(self.seed, f"order/{epoch}"))
        size = self.config.batch_size
        return [self.train[i] for i in order[number * size : (number + 1) * size].tolist()]


@dataclass
class Outcome:
    """How one run went, and the adapter's best values."""

    step: int = 0
    curve: list[CurvePoint] = field(default_factory=list)
    best: torch.Tensor | None = None
    """Values of the lowest validation loss, (parameters,), in the adapter's order."""
    best_step: int | None = None
    best_loss: float | None = None
    failure: Failure | None = None
    resumed: int = 0
    seconds: float = 0.0
    peak_memory_bytes: int | None = None
    shared_tokens: int = 0
    notes: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Step losses since the last point of the curve."""
    norms: list[float] = field(default_factory=list)

    @property
    def status(self) -> Literal["done", "failed"]:
        """Whether the run ended as it should."""
        return "failed" if self.failure else "done"


def train(
    model: LanguageModel,
    adapter: Adapter,
    runs: Sequence[TrainingRun],
    *,
    observer: Observer | None = None,
    share: bool | None = None,
    force_resume: bool = False,
) -> list[Outcome]:
    """Train the runs of `adapter` together, each from its newest checkpoint, and return what became of each.

    `share` computes tokens that all samples have in common once a row; None does so where it is exact. Raises
    `ConfigError` if a checkpoint is of another run, or of another number of threads unless `force_resume`.
    """
    observer = observer or Observer()
    every = [sample for run in runs for sample in (*run.train, *run.validation)]
    group = _Group(model, adapter, list(runs), common_prefix(every), share, observer)
    for number in range(len(runs)):
        group.resume(number, force=force_resume)
    group.drop_finished()
    while group.active:
        with group.adapter.attached():
            while not group.someone_left():
                group.update()
                group.validate()
        group.drop_finished()
    return group.outcomes


class _Group:
    """Runs that share every pass over the base; `active[row]` is the number of the run in that row."""

    def __init__(
        self,
        model: LanguageModel,
        adapter: Adapter,
        runs: list[TrainingRun],
        shared: tuple[int, ...],
        share: bool | None,
        observer: Observer,
    ) -> None:
        self.model, self.runs, self.shared, self.observer = model, runs, shared, observer
        self.share = adapter.constant_over_batch() if share is None else share
        self.outcomes = [Outcome() for _ in runs]
        self.active = list(range(len(runs)))
        self.adapter = adapter
        self.optimizer = self._optimizer(adapter)
        self.clock = time.monotonic()
        for outcome in self.outcomes:
            outcome.shared_tokens = len(shared) + adapter.embedded_tokens if self.share else 0
        memory.start_interval(model.device)

    def _optimizer(self, adapter: Adapter) -> AdamW:
        configs = [self.runs[number].config for number in self.active]
        return AdamW(
            adapter,
            weight_decay=[config.weight_decay for config in configs],
            max_grad_norm=[config.max_grad_norm for config in configs],
        )

    def update(self) -> None:
        """One step of every active run."""
        runs = [self.runs[number] for number in self.active]
        outcomes = [self.outcomes[number] for number in self.active]
        rows = [run.batch(outcome.step) for run, outcome in zip(runs, outcomes, strict=True)]
        stream = pack(
            rows,
            shared=self.shared,
            share=self.share,
            embedded_tokens=self.adapter.embedded_tokens,
            first_position=self.adapter.virtual_tokens - self.adapter.embedded_tokens,
            device=self.model.device,
        )
        self.adapter.noise = Noise(
            [
                generator(run.seed, f"dropout/{outcome.step}", self.model.device)
                for run, outcome in zip(runs, outcomes, strict=True)
            ],
            stream.row_tokens,
        )
        sums = sample_losses(self.model.logits(stream, self.adapter), stream).sum(1)
        counts = sums.new_tensor([sum(len(sample.answer) for sample in row) for row in rows])
        losses = sums / counts
        torch.autograd.backward(losses.sum())
        self.adapter.noise = None
        norms = self.optimizer.step(
            [
                learning_rate(
                    outcome.step,
                    peak=run.config.learning_rate,
                    total=run.steps,
                    warmup=math.ceil(run.steps * run.config.warmup_ratio),
                )
                for run, outcome in zip(runs, outcomes, strict=True)
            ]
        )
        seen = zip(self.active, runs, outcomes, losses.tolist(), norms.tolist(), strict=True)
        for number, run, outcome, loss, norm in seen:
            outcome.step += 1
            outcome.losses.append(loss)
            outcome.norms.append(norm)
            if not math.isfinite(loss):
                self._fail(outcome, f"training loss became {loss} at step {outcome.step}")
            self.observer.step(number, outcome.step, run.steps, loss)

    def validate(self) -> None:
        """Validate, and checkpoint, the active runs that are due."""
        due = [
            row
            for row, number in enumerate(self.active)
            if self.outcomes[number].step in self.runs[number].validation_steps
            and not self.outcomes[number].failure
        ]
        if not due:
            return
        # All rows pass through the model together; those that are not due are few and only briefly so.
        samples = [self.runs[number].validation for number in self.active]
        losses = validation_losses(
            self.model,
            self.adapter,
            samples,
            max_tokens=max(1, VALIDATION_TOKENS // len(samples)),
            shared=self.shared,
        )
        for row in due:
            number = self.active[row]
            self._record(number, row, losses[row])

    def _record(self, number: int, row: int, losses: list[float]) -> None:
        run, outcome = self.runs[number], self.outcomes[number]
        mean = token_mean(losses, run.validation)
        if not math.isfinite(mean):
            self._fail(outcome, f"validation loss became {mean} after step {outcome.step}")
            return
        peak = memory.peak_bytes(self.model.device)
        now = time.monotonic()
        outcome.seconds += now - self.clock
        point = CurvePoint(
            step=outcome.step,
            epoch=outcome.step / run.steps_per_epoch,
            learning_rate=learning_rate(
                outcome.step - 1,
                peak=run.config.learning_rate,
                total=run.steps,
                warmup=math.ceil(run.steps * run.config.warmup_ratio),
            ),
            train_loss=sum(outcome.losses) / len(outcome.losses),
            validation_loss=mean,
            validation_loss_of_batches=mean_of_batch_means(losses, run.validation, run.config.batch_size),
            grad_norm=max(outcome.norms),
            peak_memory_bytes=peak,
            seconds=outcome.seconds,
        )
        outcome.curve.append(point)
        outcome.losses, outcome.norms = [], []
        if outcome.best_loss is None or mean < outcome.best_loss:  # the earlier one on a tie
            outcome.best_loss, outcome.best_step = mean, outcome.step
            outcome.best = self.optimizer.flat[row].clone()
        if peak is not None:
            outcome.peak_memory_bytes = max(outcome.peak_memory_bytes or 0, peak)
        self.observer.point(number, point)
        if run.checkpoints is not None:
            self._save(run, outcome, row, run.checkpoints)
        memory.start_interval(self.model.device)
        self.clock = time.monotonic()

    def _save(self, run: TrainingRun, outcome: Outcome, row: int, folder: Path) -> None:
        assert outcome.best is not None
        state = {
            "identity": run.identity,
            "threads": torch.get_num_threads(),
            "layout": self._layout(),
            "curve": [point.model_dump() for point in outcome.curve],
            "best_step": outcome.best_step,
            "best_loss": outcome.best_loss,
            "resumed": outcome.resumed,
            "seconds": outcome.seconds,
            "peak_memory_bytes": outcome.peak_memory_bytes,
        }
        checkpoint.save(folder, outcome.step, {**self.optimizer.state(row), "best": outcome.best}, state)

    def resume(self, number: int, *, force: bool) -> None:
        """Take up run `number` where its newest usable checkpoint left it."""
        run, outcome = self.runs[number], self.outcomes[number]
        found = checkpoint.load_newest(run.checkpoints) if run.checkpoints else None
        if found is None:
            return
        for text in found.damaged:
            outcome.notes.append(text)
            self.observer.note(number, text)
        if not found.tensors:
            return
        state = found.state
        self._check(run, state, force)
        device = self.model.device
        tensors = {name: tensor.to(device) for name, tensor in found.tensors.items()}
        outcome.step = found.step
        outcome.curve = [CurvePoint.model_validate(point) for point in state["curve"]]
        outcome.best, outcome.best_step, outcome.best_loss = (
            tensors["best"],
            state["best_step"],
            state["best_loss"],
        )
        outcome.resumed, outcome.seconds = state["resumed"] + 1, state["seconds"]
        outcome.peak_memory_bytes = state["peak_memory_bytes"]
        self.optimizer.load_state(number, tensors, found.step)
        self.observer.note(number, f"goes on after step {found.step} of {run.steps}")

    def _check(self, run: TrainingRun, state: dict[str, Any], force: bool) -> None:
        if state["identity"] != run.identity or state["layout"] != self._layout():
            raise ConfigError(
                f"the checkpoints in {run.checkpoints} belong to another run ({state['identity']}, not "
                f"{run.identity}); choose another output folder or remove them"
            )
        threads = torch.get_num_threads()
        if state["threads"] != threads and self.model.device.type == "cpu" and not force:
            raise ConfigError(
                f"the run began with {state['threads']} threads and would go on with {threads}, which changes its "
                f"last digits; set threads: {state['threads']}, or pass --force to go on all the same"
            )

    def _layout(self) -> list[Any]:
        return [[name, list(tensor.shape[1:])] for name, tensor in self.adapter.tensors.items()]

    def _fail(self, outcome: Outcome, message: str) -> None:
        outcome.failure = Failure(reason="nonfinite", message=message, step=outcome.step)

    def _left(self, number: int) -> bool:
        outcome = self.outcomes[number]
        return outcome.failure is not None or outcome.step >= self.runs[number].steps

    def someone_left(self) -> bool:
        """Whether a run in the group has ended."""
        return any(self._left(number) for number in self.active)

    def drop_finished(self) -> None:
        """Go on with the runs that have not ended."""
        rows = [row for row, number in enumerate(self.active) if not self._left(number)]
        if len(rows) == len(self.active):
            return
        self.active = [self.active[row] for row in rows]
        if self.active:
            old = self.optimizer
            states, steps = [old.state(row) for row in rows], [old.steps[row] for row in rows]
            self.adapter = self.adapter.select(rows)
            self.optimizer = self._optimizer(self.adapter)
            for row, (state, step) in enumerate(zip(states, steps, strict=True)):
                self.optimizer.load_state(row, state, step)
