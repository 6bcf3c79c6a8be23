"""SVFT: W + U M V' with the singular vectors of W and a trained, nearly diagonal M.

Only M is trained and checkpointed. The weight stays in place and the change is added to its outputs, so that a
rank below the full one leaves the model as it was at the start.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.adapter import (
    Adapter,
    AdapterFiles,
    Forward,
    Target,
    by_module,
    find_targets,
    per_run,
    whole_weights,
)
from peftbench.methods import peft_format
from peftbench.methods.native import LoRA
from peftbench.methods.specs import LoRASettings, SVFTSettings


class SVFT(Adapter):
    """Trained entries of M: its diagonal and `off_diagonals` beside it on either side, all from zero."""

    def __init__(self, model: PreTrainedModel, settings: SVFTSettings, seeds: Sequence[int]) -> None:
        super().__init__(model, seeds)
        whole_weights(model, "SVFT")
        self.settings = settings
        self.targets = find_targets(model, settings.targets)
        self.vectors: dict[str, tuple[Tensor, Tensor]] = {}
        """Left (outputs, k) and right (inputs, k) singular vectors of each target."""
        for target in self.targets:
            rank = _rank(target, settings)
            self.vectors[target.key] = self._decomposed(target, rank)
            for offset in self.offsets(rank):
                self.add(f"{target.key}.M[{offset}]", partial(_zeros, rank - abs(offset)))

    def offsets(self, rank: int) -> range:
        """The diagonals of M that are trained."""
        most = min(self.settings.off_diagonals, rank - 1)
        return range(-most, most + 1)

    def _decomposed(self, target: Target, rank: int) -> tuple[Tensor, Tensor]:
        weight: Tensor = target.module.weight.detach()  # type: ignore[operator]
        if not isinstance(target.module, nn.Linear):
            weight = weight.T
        weight = weight if target.outputs is None else weight[target.outputs.to(weight.device)]
        if weight.is_meta:  # only to be counted
            return weight.new_empty(len(weight), rank), weight.new_empty(weight.shape[1], rank)
        left, _, right = torch.linalg.svd(weight.to(self.dtype), full_matrices=False)
        return left[:, :rank].contiguous(), right[:rank].T.contiguous()

    def forwards(self) -> Iterator[tuple[nn.Module, Forward]]:
        for module, targets in by_module(self.targets):
            yield module, self._forward(module, targets)

    def _forward(self, module: nn.Module, targets: list[Target]) -> Forward:
        base: Forward = type(module).forward

        def forward(x: Tensor) -> Tensor:
            out: Tensor = base(module, x)
            result, x = out.to(self.dtype), x.to(self.dtype)
            for target in targets:
                left, right = self.vectors[target.key]
                change = self._banded(target, x @ right) @ left.T
                if target.outputs is None:
                    result = result + change
                else:
                    result = result.index_add(-1, target.outputs.to(result.device), change)
            return result.to(out.dtype)

        return forward

    def _banded(self, target: Target, h: Tensor) -> Tensor:
        """M h for each token: (runs, tokens, k)."""
        k = h.shape[-1]
        result = torch.zeros_like(h)
        for offset in self.offsets(k):
            entries = per_run(self.tensors[f"{target.key}.M[{offset}]"])
            before, after = max(-offset, 0), max(offset, 0)
            result = result + F.pad(h[..., after : k - before] * entries, (before, after))
        return result

    def matrix(self, target: Target, run: int) -> Tensor:
        """M of one run, (k, k)."""
        k = self.vectors[target.key][0].shape[1]
        diagonals = [
            torch.diag(self.tensors[f"{target.key}.M[{each}]"][run].detach(), each) for each in self.offsets(k)
        ]
        return torch.stack(diagonals).sum(0)

    def deployed(self, run: int) -> Adapter:
        factors = {
            target.key: (self.vectors[target.key][1].T, self.vectors[target.key][0] @ self.matrix(target, run))
            for target in self.targets
        }
        made = Factors(self.model, self.settings, self.seeds[run], factors)
        made.recipe = self.recipe and replace(self.recipe, files=made.export(0))
        return made

    def export(self, run: int) -> AdapterFiles:
        return self.deployed(run).export(0)

    @classmethod
    def from_files(cls, model: PreTrainedModel, settings: Any, files: AdapterFiles, seed: int) -> Adapter:
        ranks = {target: _rank(target, settings) for target in find_targets(model, settings.targets)}
        return Factors(model, settings, seed, peft_format.factors_of(files, ranks))


class Factors(LoRA):
    """What SVFT has learned as the product of two factors, of a rank of its own for each target.

    The singular vectors are stored, because a decomposition need not come out the same on another machine.
    """

    def __init__(
        self, model: PreTrainedModel, settings: SVFTSettings, seed: int, factors: dict[str, tuple[Tensor, Tensor]]
    ) -> None:
        Adapter.__init__(self, model, [seed])
        self.settings = LoRASettings(rank=1, alpha=1, dropout=0.0, targets=settings.targets)
        self.targets = find_targets(model, settings.targets)
        for target in self.targets:
            a, b = factors[target.key]
            self.add(f"{target.key}.A", partial(_copied, a))
            self.add(f"{target.key}.B", partial(_copied, b))

    def export(self, run: int) -> AdapterFiles:
        return peft_format.factor_files(self, run)


def _rank(target: Target, settings: SVFTSettings) -> int:
    """How many singular vectors of a target are combined."""
    largest = min(target.in_features, target.out_features)
    return largest if settings.rank is None else min(settings.rank, largest)


def _zeros(size: int, _: torch.Generator) -> Tensor:
    return torch.zeros(size)


def _copied(value: Tensor, _: torch.Generator) -> Tensor:
    return value.detach().clone()
