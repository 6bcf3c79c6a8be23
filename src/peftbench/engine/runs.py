"""What a run of the training loop is given, and what becomes of it."""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from peftbench.engine.adapter import generator
from peftbench.engine.optimizer import learning_rate
from peftbench.engine.pack import Sample
from peftbench.records import CurvePoint, Failure, TrainingConfig


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

    def learning_rate(self, step: int) -> float:
        """Rate of the update that follows `step` updates."""
        config = self.config
        warmup = math.ceil(self.steps * config.warmup_ratio)
        return learning_rate(step, peak=config.learning_rate, total=self.steps, warmup=warmup)

    def batch(self, step: int) -> list[Sample]:
        """The rows of the update that follows `step` updates."""
        epoch, number = divmod(step, self.steps_per_epoch)
        order, size = _order(self.seed, epoch, len(self.train)), self.config.batch_size
        return [self.train[i] for i in order[number * size : (number + 1) * size].tolist()]


@lru_cache(maxsize=64)
def _order(seed: int, epoch: int, rows: int) -> torch.Tensor:
    """The order of the rows in one epoch of a run, (rows,)."""
    return torch.randperm(rows, generator=generator(seed, f"order/{epoch}"))


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
    """Time of its passes; of a pass with others an equal share."""
    validation_seconds: float = 0.0
    """The part of it that validation took."""
    peak_memory_bytes: int | None = None
    training_peak_bytes: int | None = None
    """The same of training steps alone, and what the allocator held then."""
    training_reserved_bytes: int | None = None
    shared_tokens: int = 0
    passes: int = 1
    """Most passes into which one of its steps was split."""
    group: int = 1
    """Most runs in one of its passes."""
    notes: list[str] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """Step losses since the last point of the curve."""
    norms: list[float] = field(default_factory=list)

    @property
    def status(self) -> Literal["done", "failed"]:
        """Whether the run ended as it should."""
        return "failed" if self.failure else "done"
