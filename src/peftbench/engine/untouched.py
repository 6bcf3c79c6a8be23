"""Whether a base model is as it was before code of others ran beside it: its modules, their hooks, its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from peftbench.engine.base import Base, forget
from peftbench.errors import MethodError

_WHOLE_NUMBERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@contextmanager
def untouched(base: Base, whose: str) -> Iterator[None]:
    """Raise `MethodError` if the base is another one after the block, and let it be loaded anew.

    `whose` names what ran in the block; where it is empty, nothing is looked at, which spares reading the weights
    twice. What is changed in classes or other packages is not seen.
    """
    if not whose:
        yield
        return
    before = _marks(base)
    try:
        yield
    finally:
        changed = [name for name, mark in _marks(base).items() if before.pop(name, None) != mark]
        changed += before
        if changed:
            forget()
    if changed:
        names = ", ".join(each.strip() for each in changed[:3])
        more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
        raise MethodError(
            f"{whose} changed the base model's own {names}{more}, so that nothing of this pass can be believed; "
            "work on copies (weight.detach().clone()), and let `peftbench check method` say more"
        )


def _marks(base: Base) -> dict[str, Any]:
    """A mark of each module, parameter and buffer by name; where all are equal nothing was changed."""
    module = base.model.module
    found: dict[str, Any] = {}
    for name, each in module.named_modules():
        hooks = len(each._forward_hooks) + len(each._forward_pre_hooks) + len(each._backward_hooks)
        marks = (id(each), hooks, "forward" in each.__dict__, each.training)
        found[f"{name} module" if name else "root module"] = marks
    for name, value in (*module.named_parameters(), *module.named_buffers()):
        found[f"{name} "] = (value.requires_grad, _sum_of_bits(value))
    return found


def _sum_of_bits(value: Tensor) -> int:
    """Of equal tensors equal; of ones that were scaled, shifted or rounded another, but for rare chance."""
    plain = value.detach().as_subclass(Tensor).contiguous()
    return 0 if plain.is_meta else int(plain.view(_WHOLE_NUMBERS[plain.element_size()]).sum(dtype=torch.int64))
