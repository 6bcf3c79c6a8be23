"""Places in torch modules where a parameter stands, and the values of an adapter put there while they compute."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Slot:
    """A place in a module where a value stands."""

    owner: nn.Module
    key: str
    name: str
    """Name of the value."""


@contextmanager
def standing_in(slots: Sequence[Slot], value: Callable[[str], Tensor]) -> Iterator[None]:
    """Values by name where parameters stand, which are put back afterwards."""
    before = [slot.owner._parameters[slot.key] for slot in slots]
    try:
        for slot in slots:
            slot.owner._parameters[slot.key] = value(slot.name)  # type: ignore[assignment]
        yield
    finally:
        for slot, parameter in zip(slots, before, strict=True):
            slot.owner._parameters[slot.key] = parameter
