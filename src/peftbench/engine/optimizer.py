"""AdamW, gradient clipping and the learning-rate schedule for all runs of an adapter at once.

The trainable tensors of K runs become views of one flat (K, N) buffer, with a learning rate and a gradient norm
of its own for each run. The numbers are those of `torch.optim.AdamW` and `clip_grad_norm_`, run by run.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from peftbench.engine.adapter import Adapter


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019) over an adapter's runs, stepped by torch's fused kernel.

    Takes the adapter's tensors over: from here on they are views of `flat`, (runs, parameters). Tensors that the
    adapter added with `decay=False` (biases, norms) are not decayed. `weight_decay` and `max_grad_norm` have one
    value a run; a tensor in the adapter's `rates` learns at a multiple of its run's rate. Where runs of a mixture
    differ in size, the rest of a row stays zero. Gradients live from the backward pass to the step alone.
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
        self.members = adapter.members()
        self.max_grad_norm = tuple(max_grad_norm)
        shape = (adapter.runs, adapter.trainable_params)
        self.flat = torch.zeros(shape, dtype=adapter.dtype, device=adapter.device)
        self.first, self.second = torch.zeros_like(self.flat), torch.zeros_like(self.flat)
        self.sizes = [member.trainable_params for member in self.members for _ in range(member.runs)]
        """Parameters of each run."""
        self._rows: list[tuple[Tensor, Tensor, int, int]] = []
        """Each run's part of each tensor: what is stepped, the tensor, the run's row there and in the group."""
        groups: dict[tuple[int, bool, float], dict[str, Any]] = {}
        states = {}
        start = 0
        for member in self.members:
            for name, columns in _columns(member).items():
                view = self.flat[start : start + member.runs, columns].view(member.tensors[name].shape)
                view.copy_(member.tensors[name].detach())
                tensor = member.tensors[name] = view.requires_grad_()
                for row in range(member.runs):
                    run = start + row
                    values = self.flat[run, columns]
                    decayed, rate = name not in member.undecayed, member.rates.get(name, 1.0)
                    own = {"params": [], "weight_decay": weight_decay[run] * decayed, "run": run, "rate": rate}
                    groups.setdefault((run, decayed, rate), own)["params"].append(values)
                    moments = {"exp_avg": self.first[run, columns], "exp_avg_sq": self.second[run, columns]}
                    states[values] = {"step": torch.zeros((), device=adapter.device), **moments}
                    self._rows.append((values, tensor, row, run))
            start += member.runs
        self._torch = torch.optim.AdamW(list(groups.values()), lr=0.0, betas=betas, eps=epsilon, fused=True)
        self._torch.state.update(states)

    def clear(self) -> None:
        """Forget the gradients accumulated so far."""
        for values, tensor, _, _ in self._rows:
            values.grad = tensor.grad = None

    def gradients(self) -> Tensor:
        """A copy of the gradients accumulated so far, laid out as `flat`."""
        found = torch.zeros_like(self.flat)
        start = 0
        for member in self.members:
            for name, columns in _columns(member).items():
                gradient = member.tensors[name].grad
                if gradient is not None:
                    found[start : start + member.runs, columns] = gradient.flatten(1)
            start += member.runs
        return found

    @torch.no_grad()
    def step(self, learning_rates: Sequence[float], steps: Sequence[int] | None = None) -> Tensor:
        """One update with the accumulated gradients, which are cleared; returns each run's norm, (K,).

        `steps` has the number of updates of each run with this one, for adapters that keep a schedule.
        """
        norms = self._norms()
        limits = torch.tensor(self.max_grad_norm, dtype=norms.dtype, device=norms.device)
        factors = (limits / (norms + 1e-6)).clamp(max=1.0)
        for values, tensor, row, run in self._rows:
            if tensor.grad is None:  # nothing came of it in this step
                tensor.grad = torch.zeros_like(tensor)
            values.grad = tensor.grad[row].reshape(-1).mul_(factors[run])
        for group in self._torch.param_groups:
            group["lr"] = learning_rates[group["run"]] * group["rate"]
        self._torch.step()
        start = 0
        for member in self.members:
            if steps is not None:
                member.updated(steps[start : start + member.runs])
            start += member.runs
        self.clear()
        return norms

    def _norms(self) -> Tensor:
        """Norm of all gradients of each run, (K,)."""
        found = []
        for member in self.members:
            parts = [tensor.grad for tensor in member.tensors.values() if tensor.grad is not None]
            each = torch.stack([torch.linalg.vector_norm(part.flatten(1), dim=1) for part in parts])
            found.append(torch.linalg.vector_norm(each, dim=0))
        return torch.cat(found)

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


def learning_rate(step: int, *, peak: float, total: int, warmup: int) -> float:
    """Rate of the `step`-th update, from 0: linear rise over `warmup` updates, then half a cosine to zero.

    The schedule of section 4 of the paper, as `get_cosine_schedule_with_warmup` of transformers defines it.
    """
    if step < warmup:
        return peak * step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return peak * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
