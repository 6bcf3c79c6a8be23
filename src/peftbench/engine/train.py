"""The training loop: section 4 of the paper for one run or several at once, exact across stops.

All randomness is a function of a run's seed and the step, and a checkpoint holds the full trainable state, so
a stopped run goes on with the same bits. A run that ends or fails leaves its group without touching the others.
"""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from peftbench.engine import checkpoint, memory
from peftbench.engine.adapter import Adapter
from peftbench.engine.loss import mean_of_batch_means, token_mean, validation_losses
from peftbench.engine.model import LanguageModel
from peftbench.engine.optimizer import AdamW
from peftbench.engine.pack import common_prefix
from peftbench.engine.runs import Outcome, TrainingRun
from peftbench.engine.step import Batches, check_honesty, gradients, may_share
from peftbench.errors import ConfigError
from peftbench.observer import Observer
from peftbench.records import CurvePoint, EngineConfig, Failure

VALIDATION_TOKENS = 4096
"""Tokens of one validation stream, over all runs of the group."""

_EXTRA = "extra/"
"""What the tensors of a checkpoint are named after that a schedule of the adapter keeps."""

_COSTS = ("peak_memory_bytes", "training_peak_bytes", "training_reserved_bytes", "validation_seconds")
"""What an outcome says of costs and a stopped run goes on with."""


def train(
    model: LanguageModel,
    adapter: Adapter,
    runs: Sequence[TrainingRun],
    *,
    engine: EngineConfig = EngineConfig(),  # noqa: B008
    observer: Observer | None = None,
    force_resume: bool = False,
    debug: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> list[Outcome]:
    """Train the runs of `adapter` together, each from its newest checkpoint, and return what became of each.

    `stop` is asked after each step; once it says yes, every run is checkpointed and `KeyboardInterrupt` raised.
    `debug` compares the first step with one that shares nothing. Raises `ConfigError` if a checkpoint is of
    another run, or of another number of threads unless `force_resume`; `DishonestAdapter` under `debug`.
    """
    group = Group(model, adapter, runs, engine=engine, observer=observer, debug=debug)
    for number in range(len(runs)):
        group.resume(number, force=force_resume)
    with memory.recomputing(model.module, on=engine.gradient_checkpointing):
        while group.form():
            with group.adapter.attached():
                group.validate()  # what a group that was too large left undone
                while not group.must_form_anew():
                    group.update()
                    group.validate()
                    if stop():
                        group.stop()
    return group.outcomes


class Group:
    """Runs that share every pass over the base; `active[row]` is the number of the run in that row."""

    def __init__(
        self,
        model: LanguageModel,
        adapter: Adapter,
        runs: Sequence[TrainingRun],
        *,
        engine: EngineConfig = EngineConfig(),  # noqa: B008
        observer: Observer | None = None,
        debug: bool = False,
    ) -> None:
        self.model, self.runs, self.engine = model, list(runs), engine
        self.observer, self.debug = observer or Observer(), debug
        self.shared = common_prefix([sample for run in runs for sample in (*run.train, *run.validation)])
        self.share = may_share(model, adapter, engine)
        self.whole = self.adapter = adapter
        """The adapter of all runs as given, and that of the runs in the group now."""
        self.active = list(range(len(self.runs)))
        self.waiting: list[int] = []
        """Runs put off until the others are done, because the group was too large for the memory."""
        self.parked: dict[int, dict[str, torch.Tensor]] = {}
        """Values and moments of the runs that are not active."""
        self.passes = 1
        self.validation_tokens = max(1, VALIDATION_TOKENS // len(self.runs))
        self.outcomes = [Outcome() for _ in self.runs]
        start = 0
        for member in adapter.members():
            member.begin(model, self.runs[start : start + member.runs])
            start += member.runs
        self.optimizer = self._optimizer()
        self.clock = time.monotonic()
        for outcome in self.outcomes:
            outcome.shared_tokens = len(self.shared) + adapter.embedded_tokens if self.share else 0
        memory.start_interval(model.device)

    def _optimizer(self) -> AdamW:
        configs = [self.runs[number].config for number in self.active]
        return AdamW(
            self.adapter,
            weight_decay=[config.weight_decay for config in configs],
            max_grad_norm=[config.max_grad_norm for config in configs],
        )

    # -- one step --------------------------------------------------------------------------------------------

    def update(self) -> None:
        """One step of every active run; none if memory does not hold it and the group must be formed anew."""
        runs = [self.runs[number] for number in self.active]
        outcomes = [self.outcomes[number] for number in self.active]
        batches = Batches(
            rows=[run.batch(outcome.step) for run, outcome in zip(runs, outcomes, strict=True)],
            draws=[(run.seed, outcome.step) for run, outcome in zip(runs, outcomes, strict=True)],
            shared=self.shared,
            share=self.share,
        )
        losses = self._gradients(batches)
        if losses is None:
            return
        if self.debug and self.share and self.engine.shared_prefix != "always":
            check_honesty(self.model, self.adapter, self.optimizer, batches, losses)
        self.debug = False
        norms = self.optimizer.step(
            [run.learning_rate(outcome.step) for run, outcome in zip(runs, outcomes, strict=True)],
            [outcome.step + 1 for outcome in outcomes],
        )
        seen = zip(self.active, runs, outcomes, losses.tolist(), norms.tolist(), strict=True)
        for number, run, outcome, loss, norm in seen:
            outcome.step += 1
            outcome.losses.append(loss)
            outcome.norms.append(norm)
            outcome.passes, outcome.group = max(outcome.passes, self.passes), max(outcome.group, len(runs))
            if not math.isfinite(loss) or not math.isfinite(norm):
                what, value = ("loss", loss) if not math.isfinite(loss) else ("gradient norm", norm)
                self._fail(outcome, f"training {what} became {value} at step {outcome.step}")
            self.observer.step(number, outcome.step, run.steps, loss)
        self._spend()

    def _gradients(self, batches: Batches) -> torch.Tensor | None:
        """Losses of the runs, with more passes where memory runs out; None if not even one sample fits."""
        largest = batches.largest
        at_once = (self.engine.micro_batch_size or largest) * (self.model.ranks.count if self.model.ranks else 1)
        self.passes = max(self.passes, math.ceil(largest / at_once))
        while True:
            try:
                return gradients(self.model, self.adapter, batches, min(self.passes, largest))
            except RuntimeError as error:
                if not memory.ran_out(error):
                    raise
            # Outside of the handler, which would keep the tensors of the failed pass alive.
            self.optimizer.clear()
            memory.release(self.model.device)
            if self.passes >= largest:
                self._shrink()
                return None
            self.passes = min(2 * self.passes, largest)
            self._tell(f"out of memory: each step is now made in {self.passes} passes, with the same result")

    def _spend(self, *, validating: bool = False) -> None:
        """Charge the time since the last call to the active runs in equal shares."""
        now = time.monotonic()
        share = (now - self.clock) / len(self.active)
        for number in self.active:
            self.outcomes[number].seconds += share
            self.outcomes[number].validation_seconds += share * validating
        self.clock = now

    # -- who is in the group -----------------------------------------------------------------------------------

    def form(self) -> bool:
        """Make the group of the runs that have not ended; false if there is none left."""
        left = [number for number in self.active if not self._left(number) and number not in self.waiting]
        if not left:
            left, self.waiting = [number for number in self.waiting if not self._left(number)], []
            self.passes = 1
        if left and left != self.active:
            self._regroup(left)
        return bool(left)

    def must_form_anew(self) -> bool:
        """Whether a run in the group has ended or was put off."""
        return any(self._left(number) or number in self.waiting for number in self.active)

    def _shrink(self) -> None:
        """After a step of one sample a run did not fit: put half of the runs off, or give up the only one."""
        if len(self.active) > 1:
            half = len(self.active) // 2
            self._tell(f"out of memory: {len(self.active) - half} of {len(self.active)} runs wait for the others")
            self.waiting = [*self.active[half:], *self.waiting]
            return
        outcome = self.outcomes[self.active[0]]
        outcome.failure = Failure(
            reason="out_of_memory",
            message="not even one sample at a time fits into memory; set engine.gradient_checkpointing=true, or "
            "lower training.max_tokens",
            step=outcome.step,
        )

    def _regroup(self, numbers: list[int]) -> None:
        """Go on with these runs; what the others have learned is kept."""
        for row, number in enumerate(self.active):
            if number in numbers or number in self.waiting:
                self.parked[number] = self.optimizer.state(row)
        self.whole.empty()  # its tensors are views of the optimizer that goes now
        self.active = numbers
        self.adapter = self.whole.select(numbers)
        self.optimizer = self._optimizer()
        for row, number in enumerate(numbers):
            self.optimizer.load_state(row, self.parked.pop(number), self.outcomes[number].step)

    def _tell(self, text: str) -> None:
        for number in self.active:
            self.outcomes[number].notes.append(text)
            self.observer.note(number, text)

    # -- validation and checkpoints ------------------------------------------------------------------------------

    def validate(self) -> None:
        """Validate, and checkpoint, the active runs that are due."""
        due = [row for row, number in enumerate(self.active) if self._due(number)]
        if not due:
            return
        training_peak = self._training_peak()
        # All rows pass through the model together; those that are not due are few and only briefly so.
        samples = [self.runs[number].validation for number in self.active]
        try:
            losses, self.validation_tokens = memory.halving(
                lambda tokens: validation_losses(
                    self.model,
                    self.adapter,
                    samples,
                    max_tokens=tokens,
                    shared=self.shared,
                    share=self.model.packs,
                ),
                self.validation_tokens,
                self.model.device,
            )
        except RuntimeError as error:
            if not memory.ran_out(error):
                raise
            self._shrink()  # those that wait are validated when it is their turn
            return
        self._spend(validating=True)
        peak = memory.larger(training_peak, memory.peak_bytes(self.model.device))
        for row in due:
            self._record(self.active[row], row, losses[row], peak)
        memory.start_interval(self.model.device)
        self.clock = time.monotonic()

    def _training_peak(self) -> int | None:
        """End an interval of training steps: its peak, noted for the runs in the group."""
        device = self.model.device
        peak, reserved = memory.peak_bytes(device), memory.reserved_bytes(device)
        for number in self.active:
            outcome = self.outcomes[number]
            outcome.training_peak_bytes = memory.larger(outcome.training_peak_bytes, peak)
            outcome.training_reserved_bytes = memory.larger(outcome.training_reserved_bytes, reserved)
        memory.start_interval(device)
        return peak

    def _due(self, number: int) -> bool:
        run, outcome = self.runs[number], self.outcomes[number]
        seen = outcome.curve[-1].step if outcome.curve else 0
        return outcome.failure is None and outcome.step in run.validation_steps and outcome.step > seen

    def _record(self, number: int, row: int, losses: list[float], peak: int | None) -> None:
        run, outcome = self.runs[number], self.outcomes[number]
        mean = token_mean(losses, run.validation)
        if not math.isfinite(mean):
            self._fail(outcome, f"validation loss became {mean} after step {outcome.step}")
            return
        point = CurvePoint(
            step=outcome.step,
            epoch=outcome.step / run.steps_per_epoch,
            learning_rate=run.learning_rate(outcome.step - 1),
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
            outcome.best = self.optimizer.values(row)
        if peak is not None:
            outcome.peak_memory_bytes = max(outcome.peak_memory_bytes or 0, peak)
        self.observer.point(number, point)
        if run.checkpoints is not None:
            self._save(number, self._state(row), run.checkpoints)

    def _state(self, row: int) -> dict[str, torch.Tensor]:
        """Everything that decides how the run of a row goes on."""
        extra = self.adapter.extra_state(row)
        return {**self.optimizer.state(row), **{f"{_EXTRA}{name}": value for name, value in extra.items()}}

    def _save(self, number: int, values: dict[str, torch.Tensor], folder: Path) -> None:
        run, outcome = self.runs[number], self.outcomes[number]
        state = {
            "identity": run.identity,
            "threads": torch.get_num_threads(),
            "layout": self._layout(number),
            "curve": [point.model_dump() for point in outcome.curve],
            "losses": outcome.losses,
            "norms": outcome.norms,
            "best_step": outcome.best_step,
            "best_loss": outcome.best_loss,
            "resumed": outcome.resumed,
            "seconds": outcome.seconds,
            **{name: getattr(outcome, name) for name in _COSTS},
            "passes": outcome.passes,
            "group": outcome.group,
        }
        best = {} if outcome.best is None else {"best": outcome.best}
        checkpoint.save(folder, outcome.step, {**values, **best}, state)

    def stop(self) -> None:
        """Keep what every run has learned, and raise `KeyboardInterrupt`."""
        for row, number in enumerate(self.active):
            run, outcome = self.runs[number], self.outcomes[number]
            if run.checkpoints is not None and not self._left(number):
                self._save(number, self._state(row), run.checkpoints)
                self.observer.note(number, f"stopped after step {outcome.step} of {run.steps}, which is kept")
        for number in self.waiting:
            folder = self.runs[number].checkpoints
            if folder is not None and number in self.parked:
                self._save(number, self.parked[number], folder)
        raise KeyboardInterrupt

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
        self._check(number, state, force)
        device = self.model.device
        tensors = {name: tensor.to(device) for name, tensor in found.tensors.items()}
        outcome.step = found.step
        outcome.curve = [CurvePoint.model_validate(point) for point in state["curve"]]
        outcome.best, outcome.best_step = tensors.get("best"), state["best_step"]
        outcome.best_loss = state["best_loss"]
        outcome.losses, outcome.norms = state["losses"], state["norms"]
        outcome.resumed, outcome.seconds = state["resumed"] + 1, state["seconds"]
        for name in _COSTS:
            setattr(outcome, name, state.get(name, getattr(outcome, name)))  # older checkpoints know fewer
        outcome.passes, outcome.group = state["passes"], state["group"]
        self.optimizer.load_state(number, tensors, found.step)
        extra = {name: value for name, value in tensors.items() if name.startswith(_EXTRA)}
        self.adapter.load_extra_state(number, {name.removeprefix(_EXTRA): value for name, value in extra.items()})
        self.observer.note(number, f"goes on after step {found.step} of {run.steps}")

    def _check(self, number: int, state: dict[str, Any], force: bool) -> None:
        run = self.runs[number]
        if state["identity"] != run.identity or state["layout"] != self._layout(number):
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

    def _layout(self, number: int) -> list[Any]:
        owners = [member for member in self.whole.members() for _ in range(member.runs)]
        return [[name, list(tensor.shape[1:])] for name, tensor in owners[number].tensors.items()]

    def _fail(self, outcome: Outcome, message: str) -> None:
        outcome.failure = Failure(reason="nonfinite", message=message, step=outcome.step)

    def _left(self, number: int) -> bool:
        outcome = self.outcomes[number]
        return outcome.failure is not None or outcome.step >= self.runs[number].steps
