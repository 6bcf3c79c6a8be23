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
    """Decoupled weight decay (Loshchilov and Hutter 2019) over an adapter's runs.

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
        self.weight_decay, self.max_grad_norm = tuple(weight_decay), tuple(max_grad_norm)
        self.betas, self.epsilon = betas, epsilon
        runs, size = adapter.runs, adapter.trainable_params
        self.flat = torch.zeros(runs, size, dtype=adapter.dtype, device=adapter.device)
        self.grad = torch.zeros_like(self.flat)
        self.first = torch.zeros_like(self.flat)
        self.second = torch.zeros_like(self.flat)
        self.steps = [0] * runs
        self.sizes: list[int] = []
        """Parameters of each run."""
        self.decayed = torch.ones_like(self.flat)
        for member in adapter.members():
            rows = slice(len(self.sizes), len(self.sizes) + member.runs)
            start = 0
            for name, tensor in member.tensors.items():
                columns = slice(start, start + tensor[0].numel())
                view = self.flat[rows, columns].view(tensor.shape)
                view.copy_(tensor.detach())
                member.tensors[name] = view.requires_grad_()
                member.tensors[name].grad = self.grad[rows, columns].view(tensor.shape)
                if name in member.undecayed:
                    self.decayed[rows, columns] = 0
                start = columns.stop
            self.sizes += [start] * member.runs

    def clear(self) -> None:
        """Forget the gradients accumulated so far."""
        self.grad.zero_()

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
