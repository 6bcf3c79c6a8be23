"""The processes of a sharded model: started over loopback by the first, or found there under `torchrun`.

The process that the user started leads. The others end with it, however it ends, and it ends with any of them.
"""

import atexit
import os
import subprocess
import sys
import tempfile
import threading
import time
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from peftbench.engine.ranks import Follower, Ranks
from peftbench.errors import ConfigError
from peftbench.interpreter import PYTHON, module_path

LOOPBACK = "127.0.0.1"
FOREVER = timedelta(days=30)
"""A follower waits as long as its leader lives; that a process died is seen from the process, not from a clock."""


def under_torchrun() -> tuple[int, int] | None:
    """Rank and number of the processes that `torchrun` started, this among them; None elsewhere."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return None
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def check_processes(wanted: int | None, device: str) -> int:
    """Over how many processes a model on this device is sharded: what is set, or what `torchrun` started, or one.

    Raises `ConfigError` if the two differ, or if there are fewer GPUs than processes on this machine.
    """
    started = under_torchrun()
    if started is not None and wanted not in (None, started[1]):
        raise ConfigError(f"engine.processes is {wanted} but torchrun started {started[1]}; leave it out")
    count = started[1] if started is not None else wanted or 1
    if count > 1 and device not in ("cpu", "cuda"):
        raise ConfigError(f"{count} processes cannot share device {device!r}; use device: cuda or cpu")
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if started is not None else count
    if count > 1 and device == "cuda" and here > torch.cuda.device_count():
        raise ConfigError(
            f"{here} processes were asked for but torch sees {torch.cuda.device_count()} CUDA devices, and each "
            "process needs one of its own; lower engine.processes"
        )
    return count


_ranks: Ranks | None = None
"""The processes of the model that is loaded now."""


def lead(count: int) -> Ranks:
    """The leader's view of `count` processes; ends those of the model before.

    Under `torchrun` they are there already and go on with the next model. Raises `ProcessEnded` if one does not
    come up.
    """
    global _ranks
    if under_torchrun() is not None:
        if _ranks is None:
            dist.init_process_group(backend(), timeout=FOREVER)
            _ranks = Ranks(0, count)
        return _ranks
    let_go()
    # Nothing needs to be reachable from other machines.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    store = TCPStore(LOOPBACK, 0, count, is_master=True, wait_for_workers=False)
    ranks = _ranks = Ranks(0, count, [_started(rank, count, store.port) for rank in range(1, count)])
    while not store.check([f"here/{rank}" for rank in range(1, count)]):
        ranks.check()
        time.sleep(0.05)
    dist.init_process_group(backend(), store=store, rank=0, world_size=count, timeout=FOREVER)
    threading.Thread(target=ranks.watch, daemon=True).start()
    return ranks


def let_go() -> None:
    """End the processes of the model that is loaded, if it has any but this one."""
    global _ranks
    if _ranks is not None:
        _ranks.end()
    _ranks = None


atexit.register(let_go)


def dismiss() -> None:
    """At the end of the first process of `torchrun`: let the others end, whether a model was loaded or not."""
    started = under_torchrun()
    if started is not None and started[1] > 1:
        lead(started[1])
    let_go()


def _started(rank: int, count: int, port: int) -> Follower:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "MASTER_PORT": port}
    environment = {**os.environ, **module_path(), **{name: str(value) for name, value in place.items()}}
    errors = tempfile.TemporaryFile()  # noqa: SIM115
    # A session of its own: Ctrl-C is for the leader. The pipe closes when the leader is gone, however it went.
    process = subprocess.Popen(  # noqa: S603
        [*PYTHON, "-c", "from peftbench.follower import follow; follow()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )
    return Follower(process, errors)


def backend() -> str:
    """What carries messages and tensors between processes."""
    return "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
