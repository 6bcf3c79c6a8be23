"""One training step: the loss of each run's batch and its gradients, in one pass or in several."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from peftbench.engine.adapter import Adapter, DishonestAdapter, RunNoise
from peftbench.engine.loss import sample_losses
from peftbench.engine.model import LanguageModel
from peftbench.engine.optimizer import AdamW
from peftbench.engine.pack import Sample, pack
from peftbench.engine.ranks import collective
from peftbench.records import EngineConfig


def may_share(model: LanguageModel, adapter: Adapter, engine: EngineConfig) -> bool:
    """Whether the tokens that all samples begin with are computed once a step."""
    return (
        model.packs
        and {"auto": adapter.constant_over_batch(), "never": False, "always": True}[engine.shared_prefix]
    )


@dataclass(frozen=True)
class Batches:
    """What the runs of a group learn from in one step."""

    rows: Sequence[Sequence[Sample]]
    """The samples of each run."""
    draws: Sequence[tuple[int, int]]
    """Seed and step of each run, which decide its dropout."""
    shared: tuple[int, ...]
    """Tokens that all prompts begin with."""
    share: bool
    """Whether they, and the soft prompt, are computed once a row."""

    @property
    def largest(self) -> int:
        """Samples of the largest row: into more passes a step cannot be split."""
        return max(len(row) for row in self.rows)


@collective
def gradients(model: LanguageModel, adapter: Adapter, batches: Batches, passes: int = 1) -> Tensor:
    """Mean loss over the answer tokens of each run's batch, (runs,); its gradients are added to the adapter's.

    The samples of each row are split over so many passes; means are over the whole row whatever their number,
    and dropout is what one pass would draw. The adapter must be attached. The processes of a sharded model make so
    many passes each, over samples of their own.
    """
    rows, shared, share = batches.rows, batches.shared, batches.share
    head = len(shared) + adapter.embedded_tokens if share else 0
    extra = -len(shared) if share else adapter.embedded_tokens
    lengths = [[sample.tokens + extra for sample in row] for row in rows]
    counts = torch.tensor([sum(len(sample.answer) for sample in row) for row in rows], device=model.device)
    total = torch.zeros(len(rows), dtype=adapter.dtype, device=model.device)
    rank, processes = (model.ranks.rank, model.ranks.count) if model.ranks is not None else (0, 1)
    whole = passes * processes
    for number in range(rank, whole, processes):
        parts = [slice(len(row) * number // whole, len(row) * (number + 1) // whole) for row in rows]
        idle = all(part.start == part.stop for part in parts)
        if idle and model.ranks is None:
            continue
        if idle:  # the others gather the weights only together with this process; what it adds is zero
            parts = [slice(0, 1)] * len(rows)
        stream = pack(
            [row[part] for row, part in zip(rows, parts, strict=True)],
            shared=shared,
            share=share,
            embedded_tokens=adapter.embedded_tokens,
            first_position=adapter.virtual_tokens - adapter.embedded_tokens,
            device=model.device,
        )
        adapter.hear(
            [
                RunNoise(
                    seed=seed,
                    step=step,
                    tokens=head + sum(own),
                    spans=((0, head), (head + sum(own[: part.start]), head + sum(own[: part.stop]))),
                    samples=() if share else tuple(range(part.start, part.stop)),
                )
                for (seed, step), own, part in zip(batches.draws, lengths, parts, strict=True)
            ]
        )
        try:
            losses = sample_losses(model.logits(stream, adapter), stream).sum(1) / counts * (not idle)
            penalty = adapter.penalty() if number == 0 else None  # once a step, whatever the passes
            losses = losses if penalty is None else losses + penalty
            torch.autograd.backward(losses.sum())
        finally:
            adapter.hear(None)
        total += losses.detach()
    if model.ranks is not None:
        model.ranks.add_up(adapter, total)
    return total


def check_honesty(
    model: LanguageModel, adapter: Adapter, optimizer: AdamW, batches: Batches, losses: Tensor
) -> None:
    """Raise `DishonestAdapter` unless a step that shares nothing gives the same `losses` and gradients.

    The gradients that the optimizer holds are those with sharing, and are left as they are.
    """
    found = optimizer.gradients()
    kept = [(tensor, tensor.grad) for member in optimizer.members for tensor in member.tensors.values()]
    optimizer.clear()
    alone = gradients(model, adapter, Batches(batches.rows, batches.draws, batches.shared, share=False))
    norms = torch.linalg.vector_norm(found, dim=1).clamp(min=1e-30)
    far = torch.linalg.vector_norm(optimizer.gradients() - found, dim=1) / norms
    far = torch.maximum(far, (alone - losses).abs() / losses.abs())
    for tensor, gradient in kept:
        tensor.grad = gradient
    allowed = 1e-3 if model.dtype in (torch.float32, torch.float64) else 5e-2
    for run, difference in enumerate(far.tolist()):
        if not difference < allowed:
            raise DishonestAdapter(
                f"run {run}: the adapter says that its prefix is the same in all samples, but a step with the "
                f"prefix shared differs from one without by {difference:.1e} (relative); let "
                "constant_over_batch() return False, or train with shared_prefix: never"
            )
