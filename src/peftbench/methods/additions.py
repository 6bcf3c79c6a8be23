"""What a method of one's own adds to the base model, as plain torch modules that know nothing of runs or files."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.adapter import Noise, Target, dropped
from peftbench.methods.slots import Slot

Base = Callable[[Tensor], Tensor]
"""What a place of the base computes by itself: (tokens, inputs) to (tokens, outputs)."""


@dataclass(frozen=True)
class Additions:
    """What a method adds to the base model: something around its modules, or something before the text."""

    around: Mapping[Target | str, nn.Module] = field(default_factory=dict)
    """By target, or name of a module of the base with one input and one output: a torch module that is called with
    that input, (tokens, inputs), and with the base's own function, and gives the output, (tokens, outputs)."""
    soft_prompt: nn.Module | None = None
    """Called without arguments it gives embeddings to be put before the text, (virtual tokens, width)."""
    prefix: nn.Module | None = None
    """Called without arguments it gives the keys and values to be put before the text in every layer, (layers, 2,
    key-value heads, virtual tokens, width of a head)."""
    penalty: Callable[[], Tensor | float] | None = None
    """A number that training adds to the loss of each step."""
    after_step: Callable[[int], None] | None = None
    """Called after each step with the number of steps done, for schedules; what it remembers lies in buffers."""


class Made:
    """The modules of one run, and where in them values stand."""

    def __init__(self, additions: Additions, base: PreTrainedModel) -> None:
        self.additions = additions
        self.parts: dict[str, nn.Module] = {key_of(place): each for place, each in additions.around.items()}
        for name in ("soft_prompt", "prefix"):
            if (module := getattr(additions, name)) is not None:
                self.parts[name] = module
        self.initial: dict[str, Tensor] = {}
        self.slots: dict[str, list[Slot]] = {part: [] for part in self.parts}
        self.kept: dict[str, Slot] = {}
        """Buffers and frozen parameters: stored beside what is trained."""
        self.dropouts: list[SeededDropout] = []
        # A module may hold on to a part of the base; that stays the base's own.
        theirs = {id(each) for each in (*base.modules(), *base.parameters(), *base.buffers())}
        names: dict[int, str] = {}
        for part, module in self.parts.items():
            for path, owner in list(module.named_modules()):
                if id(owner) not in theirs:
                    owner.training = False
                    self._take(part, f"{part}.{path}." if path else f"{part}.", owner, theirs, names)
            self._seed_dropouts(part, module, theirs)

    def _take(self, part: str, start: str, owner: nn.Module, theirs: set[int], names: dict[int, str]) -> None:
        for key, value in owner._parameters.items():
            if value is None or id(value) in theirs:
                continue
            name = names.setdefault(id(value), start + key)  # one that is shared has one name
            if value.requires_grad:
                self.slots[part].append(Slot(owner, key, name))
                self.initial[name] = value
            else:
                self.kept[start + key] = Slot(owner, key, name)
        for key, buffer in owner._buffers.items():
            if buffer is not None and id(buffer) not in theirs and key not in owner._non_persistent_buffers_set:
                self.kept[start + key] = Slot(owner, key, start + key)

    def _seed_dropouts(self, part: str, module: nn.Module, theirs: set[int]) -> None:
        for path, owner in list(module.named_modules()):
            for key, child in owner._modules.items() if id(owner) not in theirs else ():
                if isinstance(child, nn.Dropout) and child.p > 0:
                    made = SeededDropout(
                        f"{part}/{path}/{key}", child.p, by_token=part not in ("soft_prompt", "prefix")
                    )
                    owner._modules[key] = made
                    self.dropouts.append(made)

    def kept_values(self) -> dict[str, Tensor]:
        """Buffers and frozen parameters by name."""
        return {name: cast(Tensor, getattr(slot.owner, slot.key)) for name, slot in self.kept.items()}

    def keep(self, name: str, value: Tensor) -> None:
        """Put a buffer or frozen parameter."""
        slot = self.kept[name]
        if slot.key in slot.owner._parameters:
            slot.owner._parameters[slot.key] = nn.Parameter(value, requires_grad=False)
        else:
            slot.owner._buffers[slot.key] = value


class SeededDropout(nn.Module):
    """Dropout as the engine draws it: a function of the run's seed, the step and the place."""

    def __init__(self, place: str, p: float, *, by_token: bool) -> None:
        super().__init__()
        self.place, self.p, self.by_token = place, p, by_token
        self.noise: Noise | None = None

    def forward(self, x: Tensor) -> Tensor:
        """`x` with entries zeroed in training: (tokens, width) around a module, any shape before the text."""
        if self.noise is None:
            return x
        if self.by_token:
            return dropped(x[None], self.p, self.noise, self.place)[0]
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.noise[0].generator(self.place, x.device))
        return x * kept / (1 - self.p)


def key_of(place: Target | str) -> str:
    """The name of a place."""
    return place.key if isinstance(place, Target) else place
