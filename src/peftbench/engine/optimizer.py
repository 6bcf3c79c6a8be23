"""AdamW, gradient clipping and the learning-rate schedule for all runs of an adapter at once.

The trainable tensors of K runs become views of one flat (K, N) buffer, their gradients views of another; a step
is a handful of operations on these, with a learning rate and a gradient norm of its own for each run. The
numbers are those of `torch.optim.AdamW` and `clip_grad_norm_`, run by run.
"""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from peftbench.engine.adapter import Adapter

# A run's values lie apart from those of the others, so that its norm and its step are one operation; gradients
# lie as the values do, and torch would have them otherwise.
warnings.filterwarnings("ignore", message="grad and param do not obey the gradient layout contract")


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019) over an adapter's runs, stepped by torch's fused kernel.

    Takes the adapter's tensors over: from here on they are views of `flat` and their gradients accumulate in
    place. Tensors that the adapter added with `decay=False` (biases, norms) are not decayed. `weight_decay` and
    `max_grad_norm` have one value a run. Where runs of a mixture differ in size, the rest of a row stays zero.
    """

    def __init__(
        self,
        adapter: Adapter,
        *,
        weight_decay: Sequence[float],
        max_grad_norm: Sequence[float],
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
    ) -> None:
        self.max_grad_norm = tuple(max_grad_norm)
        shape = (adapter.runs, adapter.trainable_params)
        self.flat = torch.zeros(shape, dtype=adapter.dtype, device=adapter.device)
        self.grad, self.first, self.second = (torch.zeros_like(self.flat) for _ in range(3))
        self.sizes: list[int] = []
        """Parameters of each run."""
        groups = [
            {"params": [], "weight_decay": rate * decayed, "run": run}
            for run, rate in enumerate(weight_decay)
            for decayed in (1, 0)
        ]
        states: dict[Tensor, dict[str, Tensor]] = {}
        for member in adapter.members():
            first = len(self.sizes)
            rows = slice(first, first + member.runs)
            self.sizes += [member.trainable_params] * member.runs
            for name, columns in _columns(member).items():
                tensor = member.tensors[name]
                view = self.flat[rows, columns].view(tensor.shape)
                view.copy_(tensor.detach())
                member.tensors[name] = view.requires_grad_()
                member.tensors[name].grad = self.grad[rows, columns].view(tensor.shape)
            for run in range(rows.start, rows.stop):
                for columns, decayed in _stretches(member):
                    values = self.flat[run, columns]
                    values.grad = self.grad[run, columns]
                    groups[2 * run + (not decayed)]["params"].append(values)  # type: ignore[attr-defined]
                    moments = {"exp_avg": self.first[run, columns], "exp_avg_sq": self.second[run, columns]}
                    states[values] = {"step": torch.zeros((), device=adapter.device), **moments}
        filled = [group for group in groups if group["params"]]
        self._torch = torch.optim.AdamW(filled, lr=0.0, betas=betas, eps=epsilon, fused=True)
        self._torch.state.update(states)

    def clear(self) -> None:
        """Forget the gradients accumulated so far."""
        self.grad.zero_()

    @torch.no_grad()
    def step(self, learning_rates: Sequence[float]) -> Tensor:
        """One update with the accumulated gradients, which are cleared; returns each run's norm, (K,)."""
        norms: Tensor = torch.linalg.vector_norm(self.grad, dim=1)
        limits = torch.tensor(self.max_grad_norm, dtype=norms.dtype, device=norms.device)
        self.grad.mul_((limits / (norms + 1e-6)).clamp(max=1.0)[:, None])
        for group in self._torch.param_groups:
            group["lr"] = learning_rates[group["run"]]
        self._torch.step()
        self.clear()
        return norms

    def values(self, run: int) -> Tensor:
        """A copy of one run's values, (N,)."""
        return self.flat[run, : self.sizes[run]].clone()

    def state(self, run: int) -> dict[str, Tensor]:
        """Copies of one run's values and moments, each (N,)."""
        size = self.sizes[run]
        return {name: getattr(self, name)[run, :size].clone() for name in ("flat", "first", "second")}

    @torch.no_grad()
    def load_state(self, run: int, state: dict[str, Tensor], steps: int) -> None:
        """Put back what `state` gave, after `steps` updates."""
        for name in ("flat", "first", "second"):
            getattr(self, name)[run, : self.sizes[run]].copy_(state[name])
        for group in self._torch.param_groups:
            if group["run"] == run:
                for values in group["params"]:
                    self._torch.state[values]["step"].fill_(steps)


def _columns(adapter: Adapter) -> dict[str, slice]:
    """Where each tensor of a run lies in its row."""
    found, start = {}, 0
    for name, tensor in adapter.tensors.items():
        found[name] = slice(start, start + tensor[0].numel())
        start = found[name].stop
    return found


def _stretches(adapter: Adapter) -> list[tuple[slice, bool]]:
    """The row of a run in as few stretches as there are changes between decayed tensors and others."""
    found: list[tuple[slice, bool]] = []
    for name, columns in _columns(adapter).items():
        decayed = name not in adapter.undecayed
        if found and found[-1][1] == decayed:
            columns = slice(found.pop()[0].start, columns.stop)
        found.append((columns, decayed))
    return found


def learning_rate(step: int, *, peak: float, total: int, warmup: int) -> float:
    """Rate of the `step`-th update, from 0: linear rise over `warmup` updates, then half a cosine to zero.

    The schedule of section 4 of the paper, as `get_cosine_schedule_with_warmup` of transformers defines it.
    """
    if step < warmup:
        return peak * step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return peak * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
