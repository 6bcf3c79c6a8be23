"""Trackers as mirrors: a copy of listed values of a run, to those that its configuration names and to no other.

The records beside a run are the truth; a mirror only repeats some of it. Each tracker has a process of its own
(`trackers`), which is told of runs through a queue that never makes a training wait.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from typing import Any

from peftbench.engine.loading import model_label
from peftbench.errors import ConfigError
from peftbench.observer import Observer
from peftbench.provenance import own_version
from peftbench.records import CurvePoint, RunConfig, RunResult
from peftbench.redaction import redacted
from peftbench.tracker_process import Mirror

CONFIG_FIELDS = (
    *(
        "method.name",
        "dataset",
        "seed",
        "protocol",
        "dtype",
        "quantization",
        "data.train_rows",
        "evaluation.test_rows",
    ),
    *("training.epochs", "training.batch_size", "training.learning_rate", "training.warmup_ratio"),
    *("training.weight_decay", "training.max_grad_norm", "training.validations", "training.max_tokens"),
)
"""What a tracker is told of a configuration, beside the run's id, the model's short name and our version."""
SETTING_FIELDS = (
    *("rank", "alpha", "dropout", "virtual_tokens", "encoder", "encoder_hidden", "encoder_layers"),
    *("encoder_dropout", "projection"),
)
"""What it is told of a method's settings, where they are given."""
CURVE_FIELDS = ("train_loss", "validation_loss", "learning_rate", "grad_norm")
"""What it is told of each validation, beside the step."""
FINAL_FIELDS = {
    "trainable_params": "train.trainable_params",
    "best_step": "train.best_step",
    "best_validation_loss": "train.best_validation_loss",
    "train_seconds": "train.seconds",
    "train_peak_memory_bytes": "train.peak_memory_bytes",
    "primary": "primary",
    "invalid_rate": "evaluation.invalid_rate",
    "evaluation_seconds": "evaluation.seconds",
    "evaluation_peak_memory_bytes": "evaluation.peak_memory_bytes",
}
"""What it is told of a run that has ended, as `final/<name>`, and where that stands in a `RunResult`."""

FINISH_SECONDS = 30.0
"""How long the end of all runs waits for trackers that still send."""
STOPPED_SECONDS = 5.0
"""The same after Ctrl-C or an error."""


@contextmanager
def mirrored(observer: Observer, configs: Sequence[RunConfig]) -> Iterator[Observer]:
    """What to tell of these runs: `observer` itself where none names a tracker, else one that tells those as well.

    Raises `ConfigError` if a tracker that is named is not installed.
    """
    names = list(dict.fromkeys(name for config in configs for name in config.tracking))
    if not names:
        yield observer
        return
    for name in names:
        if not _installed(name):
            raise ConfigError(
                f"tracker {name!r} is not installed; install it with pip install 'peftbench[{name}]', or leave it "
                "out of tracking"
            )
    mirrors = Mirrors(observer, configs, {name: Mirror(name) for name in names})
    patience = STOPPED_SECONDS
    try:
        yield mirrors
        patience = FINISH_SECONDS
    finally:
        mirrors.close(patience)


def _installed(name: str) -> bool:
    """Whether a tracker's package is there; it is not loaded, and a mere folder of its name is none."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None


def described(config: RunConfig, train_id: str) -> dict[str, str | int | float]:
    """The listed fields of a configuration, by their names; texts are redacted."""
    found: dict[str, Any] = {"run_id": train_id, "model": model_label(config.model), "peftbench": own_version()}
    found |= {name.removesuffix(".name"): attrgetter(name)(config) for name in CONFIG_FIELDS}
    found |= {f"method.{name}": config.method.settings.get(name) for name in SETTING_FIELDS}
    return {name: _plain(value) for name, value in found.items() if isinstance(value, str | int | float)}


def final_values(result: RunResult) -> dict[str, float]:
    """The listed fields of a run that has ended; without those that it does not have."""
    found = {}
    for name, path in FINAL_FIELDS.items():
        value: Any = result
        for part in path.split("."):
            value = getattr(value, part, None)
        found[f"final/{name}"] = value
    return _numbers(found)


def _plain(value: str | int | float) -> str | int | float:
    return redacted(value) if isinstance(value, str) else value


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}


class Mirrors(Observer):
    """Tells one observer everything, and the trackers of each run what is listed above."""

    def __init__(self, whole: Observer, configs: Sequence[RunConfig], trackers: Mapping[str, Mirror]) -> None:
        self.whole, self.configs, self.trackers = whole, configs, trackers
        self.waiting: dict[int, dict[str, Any]] = {}
        """How to open a run, until something is to be told of it."""
        self.steps: dict[int, int] = {}
        """The last step told of each run that is open."""

    def runs(self, labels: Sequence[str]) -> None:
        """Pass on."""
        self.whole.runs(labels)

    def planned(self, run: int, config: RunConfig, train_id: str, folder: Path) -> None:
        """Keep what a tracker will be told of the run at its first validation, or its end."""
        self.whole.planned(run, config, train_id, folder)
        if any(message["id"] == train_id for message in self.waiting.values()):
            return  # the same run, asked for twice
        label = f"{config.method.name}-{config.dataset}-seed{config.seed}-{train_id}"
        self.waiting[run] = {
            "do": "start",
            "run": run,
            "id": train_id,
            "name": redacted(label),
            "project": self.configs[run].tracking_project,
            "config": described(config, train_id),
            # Not told on: where the tracker may keep files of its own.
            "output": str(Path(config.output).absolute()),
            "place": folder.relative_to(config.output).as_posix(),
        }

    def phase(self, name: str, total: int | None = None) -> None:
        """Pass on."""
        self._tell_notes()
        self.whole.phase(name, total)

    def advance(self, count: int) -> None:
        """Pass on."""
        self.whole.advance(count)

    def step(self, run: int, step: int, steps: int, loss: float) -> None:
        """Pass on; a mirror is told of validations alone."""
        self.whole.step(run, step, steps, loss)

    def point(self, run: int, point: CurvePoint) -> None:
        """Pass on, and mirror the listed values."""
        self._tell_notes()
        self.whole.point(run, point)
        values = _numbers({name: getattr(point, name) for name in CURVE_FIELDS})
        self._open(run)
        self.steps[run] = point.step
        self._send(run, {"do": "log", "run": run, "step": point.step, "values": values})

    def note(self, run: int, text: str) -> None:
        """Pass on; a mirror is told nothing of it."""
        self.whole.note(run, text)

    def ended(self, run: int, result: RunResult) -> None:
        """Pass on, and mirror the listed values of the records."""
        self._tell_notes()
        self.whole.ended(run, result)
        self._open(run)
        if run not in self.steps:
            return
        step = self.steps.pop(run) or (result.train.steps if result.train else 0)
        end = {"step": step, "status": result.status, "values": final_values(result)}
        self._send(run, {"do": "finish", "run": run, **end})

    def close(self, patience: float) -> None:
        """Give the trackers so many seconds together to end, and tell what went wrong."""
        until = time.monotonic() + patience
        try:
            for mirror in self.trackers.values():
                mirror.end()
            for mirror in self.trackers.values():
                mirror.wait(until)
        finally:
            for mirror in self.trackers.values():
                mirror.kill()
            self._tell_notes()

    def _open(self, run: int) -> None:
        if run in self.waiting:
            self.steps[run] = 0
            self._send(run, self.waiting.pop(run))

    def _send(self, run: int, message: dict[str, Any]) -> None:
        for name in dict.fromkeys(self.configs[run].tracking):
            self.trackers[name].send(message)

    def _tell_notes(self) -> None:
        """Notes are told by whoever tells the observer everything else, which may not expect other threads."""
        for mirror in self.trackers.values():
            while mirror.notes:
                self.whole.note(0, mirror.notes.pop(0))
