"""Several methods in one pass: each acts in the rows of its own runs, and all share the frozen base."""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from peftbench.engine.adapter import Adapter, Forward, Noise


class Mixture(Adapter):
    """Adapters of several methods or settings over one base: each acts in the rows of its own runs."""

    def __init__(self, parts: Sequence[Adapter]) -> None:
        first = parts[0]
        super().__init__(first.model, [seed for part in parts for seed in part.seeds])
        self.parts = list(parts)
        self.virtual_tokens, self.embedded_tokens = first.virtual_tokens, first.embedded_tokens
        if any(not part.mixes_with(first) for part in parts):
            raise ValueError("adapters of one pass must put the same number of virtual tokens before the text")

    @property
    def trainable_params(self) -> int:
        """Of the largest part."""
        return max(part.trainable_params for part in self.parts)

    def members(self) -> list[Adapter]:
        return self.parts

    def hear(self, noise: Noise | None) -> None:
        super().hear(noise)
        start = 0
        for part in self.parts:
            part.hear(None if noise is None else noise[start : start + part.runs])
            start += part.runs

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        acting: dict[nn.Module, dict[int, Forward]] = {}
        for number, part in enumerate(self.parts):
            for module, forward in part.forwards():
                acting.setdefault(module, {})[number] = forward
        for module, forwards in acting.items():
            yield module, self._by_rows(module, forwards)

    def _by_rows(self, module: nn.Module, forwards: dict[int, Forward]) -> Forward:
        base: Forward = type(module).forward
        sizes = [part.runs for part in self.parts]

        def forward(x: Tensor) -> Tensor:
            rows = torch.split(x, sizes)
            return torch.cat([forwards[i](x) if i in forwards else base(module, x) for i, x in enumerate(rows)])

        return forward

    def soft_prompt(self) -> Tensor | None:
        prompts = [each for each in (part.soft_prompt() for part in self.parts) if each is not None]
        if not prompts:
            return None
        most = max((each.shape[1] for each in prompts if each.dim() == 4), default=None)
        return torch.cat(prompts if most is None else [_for_each_sample(each, most) for each in prompts])

    def prefix(self) -> list[tuple[Tensor, Tensor]] | None:
        prefixes = [each for each in (part.prefix() for part in self.parts) if each is not None]
        if not prefixes:
            return None
        return [
            (torch.cat([key for key, _ in layer]), torch.cat([value for _, value in layer]))
            for layer in zip(*prefixes, strict=True)
        ]

    def constant_over_batch(self) -> bool:
        return all(part.constant_over_batch() for part in self.parts)

    def penalty(self) -> Tensor | None:
        found = [part.penalty() for part in self.parts]
        if all(each is None for each in found):
            return None
        none = [torch.zeros(part.runs, dtype=self.dtype, device=self.device) for part in self.parts]
        return torch.cat([zero if each is None else each for each, zero in zip(found, none, strict=True)])

    def extra_state(self, run: int) -> dict[str, Tensor]:
        part, row = self._place(run)
        return part.extra_state(row)

    def load_extra_state(self, run: int, state: dict[str, Tensor]) -> None:
        part, row = self._place(run)
        part.load_extra_state(row, state)

    def deployed(self, run: int) -> Adapter:
        part, row = self._place(run)
        return part.deployed(row)

    def select(self, runs: Sequence[int]) -> Adapter:
        """The same with only some of its runs, which must keep their order."""
        chosen: list[Adapter] = []
        for part in self.parts:
            rows = [row for run in runs for owner, row in [self._place(run)] if owner is part]
            if rows:
                chosen.append(part.select(rows))
        return chosen[0] if len(chosen) == 1 else Mixture(chosen)

    def _place(self, run: int) -> tuple[Adapter, int]:
        for part in self.parts:
            if run < part.runs:
                return part, run
            run -= part.runs
        raise IndexError(f"the mixture has only {self.runs} runs")


def _for_each_sample(prompt: Tensor, samples: int) -> Tensor:
    """A soft prompt as (runs, samples, embedded tokens, width)."""
    if prompt.dim() == 3:
        return prompt[:, None].expand(-1, samples, -1, -1)
    return F.pad(prompt, (0, 0, 0, 0, 0, samples - prompt.shape[1]))
