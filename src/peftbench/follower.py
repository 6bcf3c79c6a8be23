"""A process that holds its share of a model and does what the first process says, until that says no more."""

import os
import signal
import sys
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from peftbench.engine.adapter import Adapter, AdapterFiles
from peftbench.engine.generate import generate
from peftbench.engine.loss import validation_losses
from peftbench.engine.memory import ran_out, recomputing
from peftbench.engine.messages import Part, broadcast, check_shapes, read, read_arguments, readable, share_values
from peftbench.engine.mixture import Mixture
from peftbench.engine.processes import FOREVER, LOOPBACK, backend, under_torchrun
from peftbench.engine.ranks import Ranks
from peftbench.engine.sharded import gather_embeddings, load_share, weight_bytes
from peftbench.engine.step import gradients
from peftbench.errors import ConfigError, PeftBenchError
from peftbench.methods import Recipe
from peftbench.methods.plugins import spec_of
from peftbench.schema import MethodChoice

FUNCTIONS: dict[str, Any] = {
    "gather_embeddings": gather_embeddings,
    "generate": generate,
    "gradients": gradients,
    "load_share": load_share,
    "validation_losses": validation_losses,
    "weight_bytes": weight_bytes,
}
"""All that a message can have called."""


def follow() -> None:
    """Do what the leader says until it says no more; the whole of a process that is not the leader."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the leader hears it, and needs the others for what it still does
    rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    try:
        if under_torchrun() is not None:
            dist.init_process_group(backend(), timeout=FOREVER)
        else:
            threading.Thread(target=_end_with_the_leader, daemon=True).start()
            store = TCPStore(LOOPBACK, int(os.environ["MASTER_PORT"]), count, is_master=False)
            store.set(f"here/{rank}", "")
            dist.init_process_group(backend(), store=store, rank=rank, world_size=count, timeout=FOREVER)
        _obey(Ranks(rank, count))
        dist.destroy_process_group()
        os._exit(0)  # nothing is left to do, and gloo's threads may abort an interpreter that takes itself down
    except Exception as error:  # whatever it is, the others must not wait
        what = "ran out of memory" if isinstance(error, RuntimeError) and ran_out(error) else f"{error}"
        first = (what.strip() or type(error).__name__).splitlines()[0]
        print(first if isinstance(error, PeftBenchError) else f"{type(error).__name__}: {first}", file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


def _obey(ranks: Ranks) -> None:
    model: Any = None
    adapter: Adapter | None = None
    while message := broadcast(None):
        call, tensors = read(message)
        function = function_of(call.function)
        arguments = read_arguments(function, call.arguments)
        if function is load_share:
            model = adapter = None
            model = function(ranks, **arguments)
            continue
        if call.adapter is not None:
            adapter = None
            adapter = adapter_of(call.adapter, tensors, model.module)
        share_values(adapter)
        with recomputing(model.module, on=call.recompute), adapter.attached() if adapter else nullcontext():
            function(model, adapter, **arguments)


def function_of(name: str) -> Any:
    """The function that a message names; raises `ConfigError` for any but a few."""
    if name not in FUNCTIONS:
        raise ConfigError(
            f"a message from process 0 names the function {name!r}, which is none of {', '.join(FUNCTIONS)}; "
            "start all processes from one installation of peftbench"
        )
    return FUNCTIONS[name]


def adapter_of(parts: Sequence[Part], tensors: dict[str, Tensor], module: Any) -> Adapter | None:
    """The adapter that a message describes, with values of its own.

    Raises `UnknownName` for a method that is not in the registry, `ConfigError` if settings cannot be read or
    other tensors come of them than the message says.
    """
    members = []
    for number, part in enumerate(parts):
        spec, files = spec_of(MethodChoice(name=part.method, code=part.code)), None
        with readable():
            settings = spec.settings.model_validate_json(part.settings)
        if part.files is not None:
            start = f"{number}/"
            own = {name[len(start) :]: each for name, each in tensors.items() if name.startswith(start)}
            files = AdapterFiles(part.files, own)
        members.append(Recipe(spec, settings, files).make(module, part.seeds))
        check_shapes(members[-1], part)
    return Mixture(members) if len(members) > 1 else members[0] if members else None


def _end_with_the_leader() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
