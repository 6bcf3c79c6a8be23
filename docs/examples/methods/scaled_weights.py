"""Weight-side and mergeable, plain torch alone: trained scales of rows and columns of frozen weights."""

import torch
from torch import Tensor, nn

from peftbench.own import Additions, Base, Frozen, MethodSpec, Target, Targets, find_targets


class Settings(Frozen):
    """Settings of the scaled weights."""

    targets: Targets = ("query", "value", "down")
    """Roles (query, key, value, output, gate, up, down) or endings of module names."""


class Scaled(nn.Module):
    """outputs * (W (inputs * x)), all scales from one."""

    def __init__(self, target: Target) -> None:
        super().__init__()
        self.inputs = nn.Parameter(torch.ones(target.in_features))
        self.outputs = nn.Parameter(torch.ones(target.out_features))

    def forward(self, x: Tensor, base: Base) -> Tensor:
        return self.outputs * base(self.inputs * x)


def build(model: nn.Module, settings: Settings) -> Additions:
    """Scales around each target; a schedule keeps them from turning a row or column off."""
    made = {target: Scaled(target) for target in find_targets(model, settings.targets)}

    def bounded(_step: int) -> None:
        for each in made.values():
            each.inputs.clamp_(min=0.1)
            each.outputs.clamp_(min=0.1)

    return Additions(around=made, after_step=bounded)


method = MethodSpec(
    name="scaled_weights",
    version=1,
    title="Scaled weights",
    category="reparametrized",
    summary="Scales the rows and columns of frozen weights by trained vectors.",
    source="example of this project; no library but torch",
    settings=Settings,
    build=build,
    identity_at_start=True,
    mergeable=True,
)
