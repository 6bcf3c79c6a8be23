"""A worker process: batches of cells come in on standard input as JSON lines, events go out on standard output.

    python -m peftbench.worker train|rehearse

It loads a base model once and keeps it for the batches that follow. When its standard input ends, whoever started
it is gone: a training keeps its last step and the process ends. SIGTERM does the same, SIGUSR1 at a cell's end.
"""

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

from peftbench.cellwork import Event, Job, Runner, do_batch, train_cells

GRACE_SECONDS = 60.0
"""How long a training may take to keep its last step when its starter is gone."""


def runner_called(name: str) -> Runner:
    """What does the cells: `train`, or `rehearse`, which takes no time and trains nothing."""
    if name == "rehearse":
        from peftbench.rehearsal import rehearse_cells

        return rehearse_cells
    return train_cells


def main() -> None:
    """Do batches until there are no more."""
    runner = runner_called(sys.argv[1])
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what a library prints is not an event
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # of a cluster, for the process that started this one
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one, which tells
    enough = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: enough.set())
    ended = False

    def tell(event: Event) -> None:
        nonlocal ended
        if ended and enough.is_set() and event.kind != "ended":
            raise KeyboardInterrupt  # the next cell is not begun
        ended = event.kind == "ended"
        _say(out, event)

    jobs: queue.Queue[list[Job] | None] = queue.Queue()
    threading.Thread(target=_listen, args=(sys.stdin, jobs), daemon=True).start()
    try:
        for batch in iter(jobs.get, None):
            do_batch(batch, tell, runner)
            _say(out, Event(kind="idle"))
    except KeyboardInterrupt:
        os._exit(130)  # threads of libraries must not keep it
    except BrokenPipeError:
        os._exit(1)
    os._exit(0)


def _stop(*_: Any) -> None:
    raise KeyboardInterrupt


def _say(out: IO[str], event: Event) -> None:
    out.write(event.model_dump_json(exclude_none=True) + "\n")
    out.flush()


def _listen(lines: IO[str], jobs: "queue.Queue[list[Job] | None]") -> None:
    for batch in _batches(lines):
        jobs.put(batch)
    jobs.put(None)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(1)


def _batches(lines: IO[str]) -> Iterator[list[Job]]:
    for line in lines:
        yield [Job.model_validate_json(json.dumps(each)) for each in json.loads(line)]


if __name__ == "__main__":
    main()
