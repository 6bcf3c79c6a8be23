"""What all parts share: a tiny model, rows, runs in processes of their own, and the lines of the table."""

import dataclasses
import hashlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import peftbench
from peftbench.records import RunResult
from peftbench.store import RunFolder

SOFT = {"virtual_tokens": 4}
METHODS: dict[str, dict[str, Any]] = {
    "lora": {"rank": 2},
    "ia3": {},
    "ln_tuning": {},
    "prompt_tuning": SOFT,
    "prefix_tuning": {**SOFT, "encoder_hidden": 8},
    "p_tuning": {**SOFT, "encoder_hidden": 8},
}
DONE, REFUSED, BROKEN = 0, 2, 3
"""How a process ends: as it should, with one sentence for the user, with anything else."""


@dataclasses.dataclass
class Line:
    """One line of the table; anything but 0 in the last three is a defect."""

    what: str
    seed: int
    count: int = 0
    lost: int = 0
    """Finished work that is not there any more, or cannot be had by the same command."""
    duplicated: int = 0
    """A record that took the place of a finished one, or stands beside it."""
    wrong: int = 0
    """Another result than that of the undisturbed run, or an error that is not one sentence."""
    seconds: float = 0.0
    remarks: list[str] = dataclasses.field(default_factory=list)
    """What went wrong, and counts that explain the line."""

    @property
    def sound(self) -> bool:
        """Whether nothing was lost, duplicated or wrong."""
        return not (self.lost or self.duplicated or self.wrong)


@contextmanager
def timed(line: Line) -> Iterator[Line]:
    """Charge the time of the block to a line."""
    begun = time.monotonic()
    try:
        yield line
    finally:
        line.seconds += time.monotonic() - begun


def rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows of `rte` that differ and hold both labels."""
    verbs = ("sleeps", "runs", "sings")
    return [
        {
            "sentence1": f"The cat {verbs[i % 3]} in place {i}.",
            "sentence2": f"It {verbs[(i + i % 2) % 3]}.",
            "label": i % 2,
            "idx": i,
        }
        for i in range(start, start + count)
    ]


class World:
    """A folder with a tiny model, whose base stays loaded, and runs over it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, folder / "model"
        self.rows = {"train": rows(16), "test": rows(4, 100)}
        # In another process, so that no thread is alive here when processes are forked.
        assert self.process(self._save) == DONE
        self.run(self.config("warm"), self.config("warm", "p_tuning"))  # imports what is imported late

    def _save(self) -> None:
        from peftbench.testing import save_tiny_model

        save_tiny_model(str(self.model), num_hidden_layers=2)

    def config(self, output: str, method: str = "lora", seed: int = 1, **training: Any) -> dict[str, Any]:
        """A run of eight steps with four validations."""
        return {
            "model": str(self.model), "dataset": "rte", "method": {"name": method, **METHODS[method]}, "seed": seed,
            "threads": 1, "training": {"epochs": 2, "validations": 4, "learning_rate": 1e-2, **training},
            "evaluation": {"max_new_tokens": 4}, "output": str(self.folder / output),
        }  # fmt: skip

    def run(self, *configs: dict[str, Any]) -> list[RunResult]:
        """Train and evaluate here and now."""
        return peftbench.run_many(configs, rows=self.rows)

    def process(
        self,
        task: Callable[..., Any],
        *arguments: Any,
        kill_after: float | None = None,
        told: Path | None = None,
    ) -> int:
        """Run a task in a fork of this process and give how it ended; minus the signal if one ended it."""
        child = self.start(task, *arguments, told=told)
        if kill_after is not None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)
        return self.end(child)

    def start(self, task: Callable[..., Any], *arguments: Any, told: Path | None = None) -> int:
        """Fork a process for a task; what it has to say of an error goes to the file `told`."""
        sys.stdout.flush()
        child = os.fork()
        if child:
            return child
        status = BROKEN
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            task(*arguments)
            status = DONE
        except BaseException as error:
            refused = isinstance(error, peftbench.DataError) and "\n" not in str(error)
            status = REFUSED if refused else BROKEN
            with told.open("w") if told else nullcontext(sys.stdout) as file:
                file.write(f"{error}\n" if refused else traceback.format_exc())
                file.flush()
        finally:
            os._exit(status)

    @staticmethod
    def end(child: int) -> int:
        """Wait for a process and give how it ended."""
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def digest(file: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def outcome(output: Path) -> dict[str, str]:
    """What came out below a folder: adapters, predictions, curves without their times."""
    found = {}
    for pattern in ("adapter/*", "eval-*/predictions.parquet"):
        for file in sorted(output.rglob(pattern)):
            found[str(file.relative_to(output))] = digest(file)
    for file in sorted(output.rglob("train.json")):
        record = RunFolder(file.parent).train_record()
        assert record is not None
        found[str(file.relative_to(output))] = f"{record.best_step} {record.best_validation_loss!r} {record.steps}"
    return found


def leftovers(output: Path) -> list[str]:
    """What a finished run should not leave: drafts, prepared files, checkpoints."""
    found = [*output.rglob(".*-*"), *output.rglob("checkpoint")]
    return [str(file.relative_to(output)) for file in found]
