"""Index plans for the token stream: which token stands where, at which position, and what is predicted.

    row k:  [ soft prompt of run k | tokens that all samples share | own tokens of sample 1 | of sample 2 | ... ]

Pure bookkeeping on numbers; no model is touched here. The shared part may be empty: then every sample carries
its soft prompt and all its tokens itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from torch import Tensor

NOTHING = -100
"""Target of positions where nothing is predicted, as in torch's cross entropy."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Token ids of one prompt and of the answer that is learned, end of turn included."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def tokens(self) -> int:
        """Tokens that pass through the model: the last answer token is predicted, never read."""
        return len(self.prompt) + max(len(self.answer) - 1, 0)


@dataclass(frozen=True)
class Stream:
    """One forward pass over packed rows. Shapes: R runs (rows), T tokens, S samples a row, L longest own part.

    All index tensors lie on the model's device.
    """

    token_ids: Tensor
    """(R, T); -1 - i stands for virtual token i of the row's soft prompt."""
    positions: Tensor
    """(R, T); a sample's positions continue those of the shared part."""
    shared: int
    """Leading tokens of each row that every sample of the row sees."""
    samples: int
    """S, with empty samples where a row has fewer."""
    longest: int
    """L."""
    own: Tensor
    """(R * S * L,): for each own token of each sample its index in the flattened (R * T) stream."""
    back: Tensor
    """(R * (T - shared),): for each stream token after the shared part its index in (R * S * L)."""
    answer_rows: Tensor
    """(R * A,): flattened stream index of each position whose next token is predicted; none stands twice."""
    answer_ids: Tensor
    """(R, A): the tokens to predict, `NOTHING` where a row has fewer."""
    answer_samples: Tensor
    """(R, A): the sample that each of them belongs to."""
    own_lengths: tuple[tuple[int, ...], ...]
    """Own tokens of each sample of each row."""
    row_tokens: tuple[int, ...]
    """Tokens of each row without its padding."""

    @property
    def runs(self) -> int:
        """R."""
        return self.token_ids.shape[0]


def common_prefix(samples: Sequence[Sample]) -> tuple[int, ...]:
    """The longest token prefix of all prompts that leaves each prompt at least one token of its own."""
    if not samples:
        return ()
    shortest = min((sample.prompt for sample in samples), key=len)
    limit = len(shortest) - 1
    first, last = min(sample.prompt for sample in samples), max(sample.prompt for sample in samples)
    same = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(shortest))
    return shortest[: max(min(same, limit), 0)]


def pack(
    rows: Sequence[Sequence[Sample]],
    *,
    shared: Sequence[int] = (),
    share: bool = True,
    kept: bool = False,
    embedded_tokens: int = 0,
    first_position: int = 0,
    device: torch.device | str = "cpu",
) -> Stream:
    """Lay out the samples of each run as one row.

    `shared` are the tokens that every prompt begins with. With `share` false they and the soft prompt of
    `embedded_tokens` virtual tokens are repeated in each sample; with `kept` they are left out, because keys and
    values of theirs are there already. `first_position` is where positions start (the length of a key-value
    prefix). A row may be empty if not all are. Raises `ValueError` if a prompt does not begin with `shared`.
    """
    virtual = [-1 - i for i in range(embedded_tokens)]
    share = share or kept
    head = [*virtual, *shared] if share and not kept else []
    skip = len(shared) if share else 0
    first_position += embedded_tokens + skip if kept else 0
    own_rows: list[list[list[int]]] = []
    for samples_of_row in rows:
        own_rows.append([])
        for sample in samples_of_row:
            if tuple(sample.prompt[: len(shared)]) != tuple(shared) or len(sample.prompt) <= skip:
                raise ValueError("a sample does not begin with the shared prefix, or has nothing after it")
            tokens = [*sample.prompt, *sample.answer[:-1]]
            own_rows[-1].append(tokens[skip:] if share else [*virtual, *tokens])

    lengths = [[len(own) for own in row] for row in own_rows]
    runs, samples = len(rows), max(len(row) for row in rows)
    longest = max(max(row, default=0) for row in lengths)
    row_tokens = [len(head) + sum(row) for row in lengths]
    total = max(row_tokens)

    token_ids = np.zeros((runs, total), dtype=np.int64)
    positions = np.zeros((runs, total), dtype=np.int64)
    own = np.zeros((runs, samples, longest), dtype=np.int64)
    back = np.zeros((runs, total - len(head)), dtype=np.int64)
    answers: list[list[tuple[int, int, int]]] = []  # (stream index, token, sample)
    for k, row in enumerate(own_rows):
        token_ids[k, : len(head)] = head
        positions[k, : len(head)] = first_position + np.arange(len(head))
        # Padding points into its own row: its result is never used, but a run that breaks must not reach others.
        own[k] = k * total + len(head)
        back[k] = k * samples * longest
        answers.append([])
        start = len(head)
        for s, (tokens, sample) in enumerate(zip(row, rows[k], strict=True)):
            end = start + len(tokens)
            token_ids[k, start:end] = tokens
            positions[k, start:end] = first_position + len(head) + np.arange(len(tokens))
            own[k, s, : len(tokens)] = k * total + np.arange(start, end)
            back[k, start - len(head) : end - len(head)] = (k * samples + s) * longest + np.arange(len(tokens))
            answer = sample.answer or (NOTHING,)
            first = end - len(answer)  # the last prompt token predicts the first answer token
            answers[-1] += [(k * total + first + i, token, s) for i, token in enumerate(answer)]
            start = end

    predicted = max(len(row) for row in answers)
    for k, row_answers in enumerate(answers):
        if missing := predicted - len(row_answers):
            taken = {place for place, _, _ in row_answers}
            free = (place for place in range(k * total, (k + 1) * total) if place not in taken)
            row_answers += [(place, NOTHING, 0) for place in islice(free, missing)]
    table = np.array(answers, dtype=np.int64)  # (R, A, 3)

    def tensor(array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)

    return Stream(
        token_ids=tensor(token_ids),
        positions=tensor(positions),
        shared=len(head),
        samples=samples,
        longest=longest,
        own=tensor(own.reshape(-1)),
        back=tensor(back.reshape(-1)),
        answer_rows=tensor(table[:, :, 0].reshape(-1)),
        answer_ids=tensor(table[:, :, 1]),
        answer_samples=tensor(table[:, :, 2]),
        own_lengths=tuple(tuple(row) for row in lengths),
        row_tokens=tuple(row_tokens),
    )
