"""Weight-side: a low-rank change of a projection that each token lets through as far as its own gate is open."""

import torch
from torch import Tensor, nn

from peftbench.own import Additions, Base, Count, Frozen, MethodSpec, Target, Targets, find_targets


class Settings(Frozen):
    """Settings of the gated low-rank change."""

    rank: Count = 4
    """Width of the change."""
    targets: Targets = ("query", "value")
    """Roles (query, key, value, output, gate, up, down) or endings of module names."""


class GatedChange(nn.Module):
    """base(x) + sigmoid(g x) U D x, with U from zero: (tokens, inputs) -> (tokens, outputs)."""

    def __init__(self, target: Target, rank: int) -> None:
        super().__init__()
        self.down = nn.Linear(target.in_features, rank, bias=False)
        self.up = nn.Linear(rank, target.out_features, bias=False)
        self.gate = nn.Linear(target.in_features, 1)
        nn.init.zeros_(self.up.weight)

    def forward(self, x: Tensor, base: Base) -> Tensor:
        return base(x) + torch.sigmoid(self.gate(x)) * self.up(self.down(x))


def build(model: nn.Module, settings: Settings) -> Additions:
    """One gated change around each target."""
    targets = find_targets(model, settings.targets)
    return Additions(around={target: GatedChange(target, settings.rank) for target in targets})


method = MethodSpec(
    name="gated_lora",
    version=1,
    title="Gated LoRA",
    category="additive, adapter",
    summary="Adds a low-rank change that each token lets through by a gate of its own.",
    source="example of this project",
    settings=Settings,
    build=build,
    identity_at_start=True,
    mergeable=False,  # the gate depends on the token, so that no weight can hold it
)
