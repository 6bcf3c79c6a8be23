"""Processes that hold one model together: one leads and decides everything, the others do what it says.

The leader is the process that the user started. It starts the others over loopback, or finds them there under
`torchrun`. Only what runs the model is called on all of them (`collective`): each call brings the followers the
adapter's values, so that there is one optimizer, one checkpoint, one record, and nothing that could drift apart.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import IO, TYPE_CHECKING, Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

from peftbench.engine.memory import ran_out
from peftbench.engine.messages import (
    Call,
    arguments,
    broadcast,
    check_shapes,
    described,
    parted,
    share_values,
    tensors_of,
    write,
)
from peftbench.errors import ProcessEnded

if TYPE_CHECKING:
    from peftbench.engine.adapter import Adapter
    from peftbench.engine.model import LanguageModel

F = TypeVar("F", bound=Callable[..., Any])
_GRACE = 10.0
"""Seconds in which the leader should itself hear from the network that a follower died."""


@dataclass(frozen=True)
class Follower:
    """A process that this one started."""

    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]
    """What it writes to standard error."""

    @property
    def gone(self) -> bool:
        """Whether it has ended."""
        return self.process.poll() is not None

    def last_words(self) -> str:
        """Why it ended, as far as it could tell."""
        self.errors.seek(0)
        lines = self.errors.read().decode(errors="replace").strip().splitlines()
        code = self.process.returncode
        return f"signal {-code}" if code < 0 else lines[-1] if lines else f"status {code}"


class Ranks:
    """The processes that share a model, as one of them sees them; rank 0 leads."""

    def __init__(self, rank: int, count: int, followers: Sequence[Follower] = ()) -> None:
        self.rank, self.count, self.followers = rank, count, followers
        self.inside = rank > 0
        """Whether what runs now runs on all processes."""
        self.local_rank = int(os.environ.get("LOCAL_RANK", 0))
        """Its number on its machine, which is that of its GPU."""
        self.ended = False
        """Whether the others are gone, after which nothing can be called."""
        self._sent: Adapter | None = None

    # -- between all processes, inside a call ----------------------------------------------------------------

    def add_up(self, adapter: "Adapter", losses: Tensor) -> None:
        """Sum `losses`, (runs,), and the gradients of an adapter over the processes; the leader has them then."""
        tensors = tensors_of(adapter)
        found = [torch.zeros_like(each) if each.grad is None else each.grad for each in tensors]
        whole = torch.cat([losses, *(each.reshape(-1) for each in found)])
        dist.all_reduce(whole)
        losses.copy_(whole[: len(losses)])
        for each, part in zip(tensors, parted(whole[len(losses) :], tensors), strict=True):
            each.grad = part if self.rank == 0 else None

    def total(self, values: Sequence[Sequence[float]], device: torch.device) -> list[list[float]]:
        """Sums over the processes, number by number."""
        flat = torch.tensor([value for row in values for value in row], dtype=torch.float64, device=device)
        dist.all_reduce(flat)
        return [part.tolist() for part in torch.split(flat, [len(row) for row in values])]

    def gathered(self, value: int) -> list[int]:
        """The value of each process."""
        found = torch.zeros(self.count, dtype=torch.int64)
        found[self.rank] = value
        dist.all_reduce(found)
        return [int(each) for each in found]

    # -- from the leader to the others -----------------------------------------------------------------------

    def load(self, function: Callable[..., Any], *args: Any) -> Any:
        """`function(self, *args)` on all processes, which gives each its share of a model, the leader's here."""
        self._sent = None
        call = Call(function=function.__name__, arguments=arguments(function, self, *args))
        return self._together(write(call, {}), lambda: function(self, *args))

    def call(
        self,
        function: Callable[..., Any],
        model: "LanguageModel",
        adapter: "Adapter | None",
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """`function(model, adapter, *args, **kwargs)` on all processes; returns what it gives on the leader.

        Functions among the arguments, such as progress, stay here. Raises `ConfigError` if the others cannot make
        the adapter; `ProcessEnded` if memory runs out or a process ends: what the others wait for would never
        come, so all of them are ended then.
        """
        parts, tensors = (None, {}) if adapter is self._sent else described(adapter)
        call = Call(
            function=function.__name__,
            arguments=arguments(function, model, adapter, *args, **kwargs),
            adapter=parts,
            recompute=any(getattr(each, "gradient_checkpointing", False) for each in model.module.modules()),
        )
        message, self._sent = write(call, tensors), adapter

        def here() -> Any:
            # Made here once more: a method may look up embeddings to start from, which takes all processes.
            for member, part in zip(adapter.members() if adapter else [], parts or [], strict=False):
                assert member.recipe is not None
                check_shapes(member.recipe.make(model.module, member.seeds), part)
            share_values(adapter)
            return function(model, adapter, *args, **kwargs)

        return self._together(message, here)

    def invite(self, function: Callable[..., Any]) -> None:
        """Let the others run `function(model)` while the leader does the same by itself."""
        self._sent = None
        self._together(write(Call(function=function.__name__, arguments="{}"), {}), lambda: None)

    def _together(self, message: bytes, here: Callable[[], Any]) -> Any:
        self.check()
        self.inside = True
        try:
            broadcast(message)
            return here()
        except BaseException as error:
            reason = self._reason(error)
            self.end(clean=False)
            if reason is None:
                raise
            raise _ended(reason) from error
        finally:
            self.inside = False

    def check(self) -> None:
        """Raise `ProcessEnded` if a follower is gone."""
        if self.ended:
            raise ProcessEnded("the processes that shared this model have ended; load it again")
        if any(each.gone for each in self.followers):
            reason = self._reason(None)
            self.end(clean=False)
            raise _ended(reason or "")

    def _reason(self, error: BaseException | None) -> str | None:
        """Why the processes cannot go on; None if that is what `error` says itself."""
        if isinstance(error, RuntimeError) and ran_out(error):
            return f"process 0 of {self.count} ran out of memory"
        if error is not None and not isinstance(error, RuntimeError):
            return None
        if not self.followers and ("peer" in str(error) or isinstance(error, dist.DistError)):
            return f"a process of {self.count} ended"  # torchrun has the rest of the story
        until = time.monotonic() + _GRACE  # the network may know it before the system does
        while self.followers and time.monotonic() < until:
            for number, each in enumerate(self.followers, 1):
                if each.gone:
                    return f"process {number} of {self.count} ended ({each.last_words()})"
            time.sleep(0.05)
        return None

    def end(self, *, clean: bool = True) -> None:
        """Let the followers go, or end them where they are amid a call."""
        if self.ended:
            return
        self.ended, self._sent = True, None
        clean = clean and not self.inside and not any(each.gone for each in self.followers)
        if clean and dist.is_initialized():
            with suppress(RuntimeError):
                broadcast(b"")  # which lets them go
        for each in self.followers:
            if not clean:
                each.process.kill()
            assert each.process.stdin is not None
            try:
                each.process.wait(_GRACE)
            except subprocess.TimeoutExpired:
                each.process.kill()
                each.process.wait()
            each.process.stdin.close()
            each.errors.close()
        if dist.is_initialized():
            dist.destroy_process_group()

    def watch(self) -> None:
        """End this process should it wait for one that is dead: a GPU waits without a word."""
        while not self.ended:
            time.sleep(1)
            if self.inside and any(each.gone for each in self.followers):
                time.sleep(_GRACE)
                if self.inside and not self.ended:
                    print(f"peftbench: {_ended(self._reason(None) or '')}", file=sys.stderr, flush=True)
                    os._exit(1)


def _ended(reason: str) -> ProcessEnded:
    return ProcessEnded(
        f"{reason}, and the others with it; if it was for want of memory, set engine.micro_batch_size or use more "
        "processes, and run the same command again: what was finished is kept"
    )


def collective(function: F) -> F:
    """Let `function(model, adapter, ...)` run on all processes of a sharded model; elsewhere it is left alone."""

    @wraps(function)
    def on_all(model: "LanguageModel", adapter: "Adapter | None" = None, *args: Any, **kwargs: Any) -> Any:
        ranks = model.ranks
        if ranks is None or ranks.inside:
            return function(model, adapter, *args, **kwargs)
        return ranks.call(on_all, model, adapter, *args, **kwargs)

    return cast(F, on_all)
