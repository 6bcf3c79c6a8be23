"""The loss of training and validation: negative log-likelihood of answer tokens, end of turn included.

Kept for each sample, so that any mean over them (all tokens, or the mean of batch means that Hugging Face
Trainer reports) comes out exactly, however the samples were batched.
"""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import torch
import torch.nn.functional as F
from torch import Tensor

from peftbench.engine.adapter import Adapter
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample, Stream, pack
from peftbench.engine.ranks import collective


def sample_losses(logits: Tensor, stream: Stream) -> Tensor:
    """Summed loss of each sample: logits (runs, answers, vocabulary) -> (runs, samples), at least float32."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(wide.flatten(0, 1), stream.answer_ids.flatten(), reduction="none")
    sums = losses.new_zeros(stream.runs, stream.samples)
    return sums.scatter_add(1, stream.answer_samples, losses.view(stream.answer_ids.shape))


@collective
@torch.no_grad()
def validation_losses(
    model: LanguageModel,
    adapter: Adapter | None,
    rows: Sequence[Sequence[Sample]],
    *,
    max_tokens: int,
    shared: Sequence[int] = (),
    share: bool = True,
) -> list[list[float]]:
    """For each run the summed loss of each of its samples, in the order given.

    `rows` holds the samples of each run; streams take up to `max_tokens` tokens of each. The adapter must be
    attached and without dropout. The processes of a sharded model take the streams in turn.
    """
    embedded = adapter.embedded_tokens if adapter else 0
    kept = model.keep(shared, adapter, len(rows)) if share else None
    results = [[0.0] * len(samples) for samples in rows]
    batches = [list(_batches(samples, max_tokens)) for samples in rows]
    steps: list[tuple[list[int] | None, ...]] = list(zip_longest(*batches))
    if model.ranks is not None:
        steps += [(None,) * len(rows)] * (-len(steps) % model.ranks.count)
        steps = steps[model.ranks.rank :: model.ranks.count]
    for step in steps:
        # A run with fewer batches repeats its first sample; what comes out of that is dropped.
        chosen = [indices or [0] for indices in step]
        stream = pack(
            [[samples[i] for i in indices] for samples, indices in zip(rows, chosen, strict=True)],
            shared=shared,
            share=share,
            kept=kept is not None,
            embedded_tokens=embedded,
            first_position=(adapter.virtual_tokens if adapter else 0) - embedded,
            device=model.device,
        )
        sums = sample_losses(model.logits(stream, adapter, kept=kept), stream).tolist()
        for run, indices in enumerate(step):
            for column, i in enumerate(indices or []):
                results[run][i] = sums[run][column]
    return results if model.ranks is None else model.ranks.total(results, model.device)


def token_mean(losses: Sequence[float], samples: Sequence[Sample]) -> float:
    """Mean over all answer tokens."""
    return sum(losses) / sum(len(sample.answer) for sample in samples)


def mean_of_batch_means(losses: Sequence[float], samples: Sequence[Sample], batch_size: int) -> float:
    """Mean over rows of the token mean of their batch, consecutive rows: what Trainer reports as evaluation loss.

    A last batch that is smaller counts by its rows.
    """
    total = 0.0
    for start in range(0, len(samples), batch_size):
        batch = samples[start : start + batch_size]
        total += len(batch) * token_mean(losses[start : start + batch_size], batch)
    return total / len(samples)


def _batches(samples: Sequence[Sample], max_tokens: int) -> Iterator[list[int]]:
    """Indices of samples of like length, as many as fit into `max_tokens`."""
    batch: list[int] = []
    total = 0
    for i in sorted(range(len(samples)), key=lambda i: (-samples[i].tokens, i)):
        if batch and total + samples[i].tokens > max_tokens:
            yield batch
            batch, total = [], 0
        batch.append(i)
        total += samples[i].tokens
    if batch:
        yield batch
