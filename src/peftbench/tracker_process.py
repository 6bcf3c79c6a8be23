"""The process of one tracker, seen from the training: what is still to be told to it, and what went wrong.

No call waits but `wait`. A tracker that is slow, hangs, ends or fails costs its own copy and one note.
"""

import json
import os
import queue
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import Any

from peftbench.interpreter import PYTHON, module_path
from peftbench.redaction import environment, redacted_line

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
OWN_SECRETS: dict[str, tuple[str, ...]] = {
    "tensorboard": (),
    "wandb": ("WANDB_", *_PROXIES),
    "mlflow": ("MLFLOW_", "AWS_", "AZURE_", "GOOGLE_", "DATABRICKS_", *_PROXIES),
    "trackio": (),
}
"""Variables that the process of a tracker is given although they may hold secrets: it needs them to log in."""
MOST_WAITING = 1000
"""Validations that may wait for a slow tracker; those beyond are dropped."""


class Mirror:
    """One tracker: its process, what is still to be told to it, and the notes about it; no call ever waits."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.notes: list[str] = []
        self.dropped = 0
        self.failed = self.killed = False
        self.queue: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.process: subprocess.Popen[str] | None = None
        self.threads = [threading.Thread(target=work, daemon=True) for work in (self._speak, self._listen)]
        variables = {**environment(*OWN_SECRETS[name]), **module_path()}
        try:
            self.process = subprocess.Popen(  # noqa: S603
                [*PYTHON, "-m", "peftbench.trackers", name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                env=variables,
                start_new_session=True,  # Ctrl-C is for the training, which then ends the mirrors
            )
        except Exception as error:  # whatever it is, the run goes on
            self._fail(f"could not be started ({type(error).__name__})")
            return
        for thread in self.threads:
            thread.start()

    def send(self, message: dict[str, Any]) -> None:
        """Put a message into the queue; a validation only if there is room."""
        if message["do"] == "log" and self.queue.qsize() >= MOST_WAITING:
            self.dropped += 1
        elif self.process is not None:
            self.queue.put(message)

    def end(self) -> None:
        """Say that there is nothing more to come."""
        self.queue.put(None)
        if self.dropped:
            self.notes.append(
                f"tracker {self.name} was too slow: {self.dropped} validations were not copied to it"
            )

    def wait(self, until: float) -> None:
        """Wait until it has ended, or until this time by the monotonic clock."""
        if self.process is None:
            return
        try:
            self.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self.killed = True
            self._fail("did not come to an end in time and was stopped")

    def kill(self) -> None:
        """End its process, with those that it started, if it is still there."""
        if self.process is None:
            return
        self.queue.put(None)
        if self.process.poll() is None:
            self.killed = True
            with suppress(OSError):
                if hasattr(os, "killpg"):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.kill()
            self.process.wait()
        for thread in self.threads:
            thread.join(1.0)

    def _fail(self, what: str) -> None:
        """Note the first thing that goes wrong; the others would say the same."""
        if not self.failed:
            self.failed = True
            self.notes.append(f"tracker {self.name} {what}; the run is not affected, its copy there is incomplete")

    def _speak(self) -> None:
        assert self.process is not None and self.process.stdin is not None  # noqa: PT018
        # Whoever listens may be gone, and then `_listen` tells of it.
        with suppress(OSError), self.process.stdin as heard:
            while (message := self.queue.get()) is not None:
                heard.write(json.dumps(message) + "\n")
                heard.flush()

    def _listen(self) -> None:
        assert self.process is not None and self.process.stdout is not None  # noqa: PT018
        with self.process.stdout as answers:
            for line in answers:
                told = json.loads(line)
                text = redacted_line(told["text"])
                self._fail(f"failed at {told['during']}: {told['error']}{text and ': '}{text}")
        status = self.process.wait()
        if status and not self.killed:
            self._fail(f"ended by itself with status {status}")
