"""AdamW, gradient clipping and the learning-rate schedule for all runs of an adapter at once.

The trainable tensors of K runs become views of one flat (K, N) buffer, their gradients views of another; a step
is a handful of operations on these, with a learning rate and a gradient norm of its own for each run. The
numbers are those of `torch.optim.AdamW` and `clip_grad_norm_`, run by run.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from peftbench.engine.adapter import Adapter


class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019) over an adapter's runs.

    Takes the adapter's tensors over: from here on they are views of `flat` and their gradients accumulate in
    place. Tensors that the adapter added with `decay=False` (biases, norms) are not decayed. `weight_decay` and
    `max_grad_norm` have one value a run.
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
        self.weight_decay, self.max_grad_norm = tuple(weight_decay), tuple(max_grad_norm)
        self.betas, self.epsilon = betas, epsilon
        runs, size = adapter.runs, adapter.trainable_params
        self.flat = torch.empty(runs, size, dtype=adapter.dtype, device=adapter.device)
        self.grad = torch.zeros_like(self.flat)
        self.first = torch.zeros_like(self.flat)
        self.second = torch.zeros_like(self.flat)
        self.steps = [0] * runs
        self.decayed = torch.ones(size, dtype=adapter.dtype, device=adapter.device)
        start = 0
        for name, tensor in adapter.tensors.items():
            end = start + tensor[0].numel()
            view = self.flat[:, start:end].view(tensor.shape)
            view.copy_(tensor.detach())
            adapter.tensors[name] = view.requires_grad_()
            adapter.tensors[name].grad = self.grad[:, start:end].view(tensor.shape)
            if name in adapter.undecayed:
                self.decayed[start:end] = 0
            start = end

    @torch.no_grad()
    def step(self, learning_rates: Sequence[float]) -> Tensor:
        """One update with the accumulated gradients, which are cleared; returns each run's norm, (K,)."""
        norms: Tensor = torch.linalg.vector_norm(self.grad, dim=1)
        self.grad.mul_((self._column(self.max_grad_norm) / (norms[:, None] + 1e-6)).clamp(max=1.0))

        beta1, beta2 = self.betas
        self.steps = [step + 1 for step in self.steps]
        rates = self._column(learning_rates)
        self.flat.mul_(1 - rates * self._column(self.weight_decay) * self.decayed)
        self.first.lerp_(self.grad, 1 - beta1)
        self.second.mul_(beta2).addcmul_(self.grad, self.grad, value=1 - beta2)
        sizes = self._column([1 / (1 - beta1**step) for step in self.steps]) * rates
        roots = self._column([math.sqrt(1 - beta2**step) for step in self.steps])
        denominator = (self.second.sqrt() / roots).add_(self.epsilon)
        self.flat.sub_(sizes * (self.first / denominator))
        self.grad.zero_()
        return norms

    def state(self, run: int) -> dict[str, Tensor]:
        """Copies of one run's values and moments, each (N,)."""
        return {name: getattr(self, name)[run].clone() for name in ("flat", "first", "second")}

    @torch.no_grad()
    def load_state(self, run: int, state: dict[str, Tensor], steps: int) -> None:
        """Put back what `state` gave, after `steps` updates."""
        for name in ("flat", "first", "second"):
            getattr(self, name)[run].copy_(state[name])
        self.steps[run] = steps

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=self.flat.dtype, device=self.flat.device)[:, None]


def learning_rate(step: int, *, peak: float, total: int, warmup: int) -> float:
    """Rate of the `step`-th update, from 0: linear rise over `warmup` updates, then half a cosine to zero.

    The schedule of section 4 of the paper, as `get_cosine_schedule_with_warmup` of transformers defines it.
    """
    if step < warmup:
        return peak * step / max(1, warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return peak * max(0.0, 0.5 * (1 + math.cos(math.pi * progress)))
