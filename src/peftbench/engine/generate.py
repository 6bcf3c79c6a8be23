"""Greedy generation with a frozen model and one deployed adapter.

Prompts are sorted by length and run through packed streams; answers grow one token at a time on cached keys
and values. Results come back in the order given and do not depend on how prompts were batched.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from peftbench.engine import memory
from peftbench.engine.adapter import Adapter
from peftbench.engine.attention import Cache, KeysAndValues
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample, pack
from peftbench.engine.padded import PaddedModel
from peftbench.engine.ranks import collective

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Generated:
    """One generated answer."""

    ids: tuple[int, ...]
    """Tokens up to, without, the one that ended it."""
    hit_limit: bool
    """Whether it stopped only because no more tokens were allowed."""


@collective
@torch.inference_mode()
def generate(
    model: LanguageModel,
    adapter: Adapter | None,
    prompts: Sequence[tuple[int, ...]],
    *,
    max_new_tokens: int,
    stop_ids: frozenset[int],
    batch_size: int,
    shared: Sequence[int] = (),
    progress: Progress = lambda _: None,
) -> list[Generated]:
    """The most likely continuation of each prompt, token by token, until a stop token or the limit.

    `adapter` must be attached, with one run and no dropout. `shared` are tokens that every prompt begins with;
    their keys and values are computed once. A prompt that fills the model's context stops there. Batches are of
    at most `batch_size` prompts, fewer where memory runs out. The processes of a sharded model all answer all
    prompts: each token needs the weights of every layer gathered, which costs more than what it computes.
    """
    kept = model.keep(shared, adapter)
    # The longest first: if a batch does not fit into memory, that is known at once.
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    results: dict[int, Generated] = {}

    def answers(size: int) -> list[Generated]:
        batch = [prompts[i] for i in order[len(results) :][:size]]
        return _generate_batch(model, adapter, batch, max_new_tokens, stop_ids, tuple(shared), kept)

    again = model.ranks is None
    while len(results) < len(prompts):
        if isinstance(model, PaddedModel):  # prompts of one length at a time
            lengths = [len(prompts[i]) for i in order[len(results) :]]
            found, _ = memory.halving(
                answers, min(batch_size, lengths.count(lengths[0])), model.device, again=again
            )
        else:
            found, batch_size = memory.halving(answers, batch_size, model.device, again=again)
        results.update(zip(order[len(results) :], found, strict=False))
        progress(len(found))
    return [results[i] for i in range(len(prompts))]


def _generate_batch(
    model: LanguageModel,
    adapter: Adapter | None,
    prompts: list[tuple[int, ...]],
    max_new_tokens: int,
    stop_ids: frozenset[int],
    shared: tuple[int, ...],
    kept: KeysAndValues | None,
) -> list[Generated]:
    virtual = adapter.virtual_tokens if adapter else 0
    embedded = adapter.embedded_tokens if adapter else 0
    if isinstance(model, PaddedModel):
        left = model.context - virtual - len(prompts[0]) + 1 if model.context else max_new_tokens
        limit = max(1, min(max_new_tokens, left))
        found = model.answers(prompts, adapter, limit=limit, stop_ids=stop_ids)
        return [_ended(answer, stop_ids) for answer in found]
    stream = pack(
        [[Sample(prompt, ()) for prompt in prompts]],
        shared=shared,
        kept=kept is not None,
        embedded_tokens=embedded,
        first_position=virtual - embedded,
        device=model.device,
    )
    lengths = torch.tensor(stream.own_lengths[0], device=model.device)
    cache = Cache(lengths)
    logits = model.logits(stream, adapter, kept=kept, cache=cache)[0]  # (samples, vocabulary)

    ids: list[list[int]] = [[] for _ in prompts]
    ended = [False] * len(prompts)
    alive = list(range(len(prompts)))
    # The last generated token is never read, so a prompt may leave one position less than its answer has tokens.
    room = [
        min(max_new_tokens, model.context - virtual - len(prompt) + 1) if model.context else max_new_tokens
        for prompt in prompts
    ]
    positions = virtual + torch.tensor([len(prompt) for prompt in prompts], device=model.device)
    while True:
        tokens = logits.argmax(-1)
        still = []
        for row, token in enumerate(tokens.tolist()):
            sample = alive[row]
            if token in stop_ids:
                ended[sample] = True
                continue
            ids[sample].append(token)
            if len(ids[sample]) < room[sample]:
                still.append(row)
        if not still:
            break
        if len(still) < len(alive):
            keep = torch.tensor(still, device=model.device)
            cache.keep(keep)
            tokens, positions = tokens[keep], positions[keep]
            alive = [alive[row] for row in still]
        logits = model.next_logits(tokens, positions, cache)
        positions = positions + 1
    return [Generated(tuple(each), not stop) for each, stop in zip(ids, ended, strict=True)]


def _ended(ids: Sequence[int], stop_ids: frozenset[int]) -> Generated:
    """An answer up to its first stop token."""
    end = next((i for i, token in enumerate(ids) if token in stop_ids), None)
    return Generated(tuple(ids[:end]), end is None)
