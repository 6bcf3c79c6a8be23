"""A model that Hugging Face PEFT may change: the same modules again, over the same weights.

Nothing that PEFT does to it is seen by the base model, whose modules, hooks and weights stay as they are.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from peftbench.methods.peft_library import BaseTunerLayer


def shadow(module: nn.Module, *, copied: Sequence[str]) -> Any:
    """The same tree of modules over the same weights, without hooks and own forwards; `copied` have copies."""
    made: dict[int, Any] = {}
    own = {id(value) for name in copied for value in module.get_submodule(name).parameters()}

    def value_of(each: Any) -> Any:
        if each is None:
            return None
        if id(each) not in made:
            new = each.detach() if type(each) in (nn.Parameter, Tensor) else each
            new = new.clone() if id(each) in own else new
            if type(each) is nn.Parameter:
                new = nn.Parameter(new, requires_grad=False)
            made[id(each)] = new
        return made[id(each)]

    def tree_of(each: nn.Module) -> nn.Module:
        if id(each) in made:
            found: nn.Module = made[id(each)]
            return found
        new = each.__class__.__new__(each.__class__)
        made[id(each)] = new
        new.__dict__ = {key: _fresh(key, value) for key, value in each.__dict__.items() if key != "forward"}
        new._parameters = {key: value_of(value) for key, value in each._parameters.items()}
        new._buffers = {key: value_of(value) for key, value in each._buffers.items()}
        new._modules = {key: None if child is None else tree_of(child) for key, child in each._modules.items()}
        return new

    return tree_of(module)


def _fresh(key: str, value: Any) -> Any:
    """Attributes that two trees must not share: hooks are left out, the rest is copied one level deep."""
    if "_hooks" in key and hasattr(value, "clear"):
        return type(value)()
    return value.copy() if type(value) in (dict, set, list) else value


def replaced(model: nn.Module, inner: nn.Module) -> list[str]:
    """Names of the modules of `model` in whose place PEFT has put one of another class, outermost first."""
    found: list[str] = []
    for name, module in model.named_modules():
        if any(name.startswith(f"{outer}.") for outer in found):
            continue
        other = inner.get_submodule(name)
        if isinstance(other, BaseTunerLayer) or type(other) is not type(module):
            found.append(name)
    return found
