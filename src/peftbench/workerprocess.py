"""One worker process from outside: started, given batches, heard, ended with everything that it started."""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from peftbench.cellwork import Event, Job, Reason
from peftbench.interpreter import PYTHON, module_path

MOST_LOG_BYTES = 16 * 2**20
"""A longer log is emptied before the next batch."""
LAST_BYTES = 2**16
"""How much of a log is read for the last words of its worker."""


class WorkerProcess:
    """A process of `peftbench.worker` and the batch that it has."""

    def __init__(self, number: int, runner: str, log_folder: Path, device: str | None) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{number}"
        self.log = log_folder / f"{self.name}.log"
        environment = {**os.environ, **module_path()}
        if device is not None:
            environment["CUDA_VISIBLE_DEVICES"] = device
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [*PYTHON, "-m", "peftbench.worker", runner],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
                start_new_session=True,  # its whole group can be ended, and Ctrl-C is not for it
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        os.set_blocking(self.stdout.fileno(), False)
        self.batch: list[Job] = []
        self.open: set[str] = set()
        """Cells of the batch that have not ended."""
        self.heard_at = time.monotonic()
        self.noted_at = 0.0
        self.newest: Event | None = None
        """What it said last of its progress."""
        self.worked = False
        """Whether it ever said anything."""
        self.blame: tuple[Reason, str] | None = None
        """Why it was ended, if it was."""
        self._rest = b""

    def _shorten_log(self) -> None:
        """Empty a log that has grown long; its process, which has nothing to do now, goes on at its beginning."""
        with suppress(OSError):
            if self.log.stat().st_size > MOST_LOG_BYTES:
                os.truncate(self.log, 0)

    def give(self, batch: Sequence[Job]) -> None:
        """Give it a batch; one that has died is found out when it is waited for."""
        self._shorten_log()
        self.batch, self.open = list(batch), {job.cell for job in batch}
        self.heard_at, self.newest = time.monotonic(), None
        line = json.dumps([job.model_dump(mode="json") for job in batch]) + "\n"
        with suppress(BrokenPipeError):
            self.stdin.write(line.encode())
            self.stdin.flush()

    def events(self) -> Iterator[Event]:
        """What it has said since it was last asked."""
        while chunk := self.stdout.read(1 << 16):
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self.heard_at, self.worked = time.monotonic(), True
                yield Event.model_validate_json(line)

    def left(self) -> list[Job]:
        """Jobs of its batch that have not ended."""
        return [job for job in self.batch if job.cell in self.open]

    def ask_to_stop(self) -> None:
        """Let it keep its last step and end."""
        with suppress(ProcessLookupError, PermissionError):
            self.process.send_signal(signal.SIGTERM)

    def ask_to_end(self) -> None:
        """Let it finish the cell at hand and then end."""
        with suppress(ProcessLookupError, PermissionError):
            self.process.send_signal(signal.SIGUSR1)

    def close(self) -> None:
        """End its input, after which it ends by itself."""
        with suppress(BrokenPipeError, OSError):
            self.stdin.close()

    def kill(self) -> None:
        """End it and everything that it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)

    def last_words(self) -> str:
        """The last line of its log."""
        with suppress(OSError):
            with self.log.open("rb") as log:
                log.seek(max(0, self.log.stat().st_size - LAST_BYTES))
                lines = [line for line in log.read().decode(errors="replace").splitlines() if line.strip()]
            return lines[-1][:500] if lines else ""
        return ""


def why_it_ended(code: int) -> str:
    """The end of a process in words, from its return code."""
    if code >= 0:
        return f"status {code}"
    name = signal.Signals(-code).name if -code in signal.valid_signals() else str(-code)
    return f"{name}, perhaps for want of memory" if name == "SIGKILL" else name
