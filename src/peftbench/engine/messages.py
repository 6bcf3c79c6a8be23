"""What the processes of one model send one another: which function to call on what, and an adapter's values.

A message is JSON and, for an adapter that was loaded, its tensors. It names a function, and methods, by which the
reader finds its own; it can hold only what the types of that function's arguments allow.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any, get_origin, get_type_hints

import torch
import torch.distributed as dist
from pydantic import BaseModel, ConfigDict, ValidationError, create_model
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from peftbench.errors import ConfigError
from peftbench.schema import Frozen, MethodCode

if TYPE_CHECKING:
    from peftbench.engine.adapter import Adapter


class Part(Frozen):
    """How an adapter is made, or a member of one, without its values."""

    method: str
    code: MethodCode | None
    """Of a method that is not part of this package."""
    settings: str
    """Settings as JSON."""
    seeds: tuple[int, ...]
    files: dict[str, Any] | None
    """`adapter_config.json` of what it was loaded from; None where it was built."""
    shapes: dict[str, tuple[int, ...]]
    """What its trainable tensors must turn out to be, in their order."""


class Call(Frozen):
    """A function that all processes call at once."""

    function: str
    arguments: str
    """Its arguments as JSON, but for model and adapter."""
    adapter: tuple[Part, ...] | None = ()
    """Members of the adapter; empty for none, None for that of the call before."""
    recompute: bool = False


def described(adapter: "Adapter | None") -> tuple[tuple[Part, ...], dict[str, Tensor]]:
    """How an adapter is made, and the tensors of what it was loaded from, by member and name.

    Raises `ConfigError` for one that was not made from a method's name.
    """
    parts, tensors = [], {}
    for number, member in enumerate(adapter.members() if adapter else []):
        if member.recipe is None:
            raise ConfigError(
                f"an adapter of class {type(member).__name__} cannot be made by other processes; make it by "
                "build_adapter or load_adapter, or run it with engine.processes=1"
            )
        spec, settings, files = member.recipe.spec, member.recipe.settings.model_dump_json(), member.recipe.files
        for name, each in files.tensors.items() if files else ():
            tensors[f"{number}/{name}"] = each.detach().cpu().clone(memory_format=torch.contiguous_format)
        config, shapes = files.config if files else None, _shapes(member)
        part = Part(
            method=spec.name,
            code=spec.code,
            settings=settings,
            seeds=member.seeds,
            files=config,
            shapes=shapes,
        )
        parts.append(part)
    return tuple(parts), tensors


def check_shapes(made: "Adapter", part: Part) -> None:
    """Raise `ConfigError` unless what was made from a description is what was described."""
    if list(_shapes(made).items()) != list(part.shapes.items()):
        raise ConfigError(
            f"method {part.method!r} makes other tensors from the same settings and seeds than it made before; "
            "run it with engine.processes=1"
        )


def _shapes(adapter: "Adapter") -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in adapter.tensors.items()}


@lru_cache
def arguments_of(function: Callable[..., Any]) -> type[BaseModel]:
    """The arguments that a message brings to a function; what it is to call, such as progress, is not sent."""
    hints = get_type_hints(function)
    fields: dict[str, Any] = {
        name: (hints[name], ... if each.default is Parameter.empty else each.default)
        for name, each in signature(function).parameters.items()
        if name not in ("model", "adapter", "ranks", "_") and get_origin(hints[name]) is not Callable
    }
    return create_model("Arguments", __config__=ConfigDict(extra="forbid"), **fields)


def arguments(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Arguments of a call, as JSON."""
    given, allowed = signature(function).bind(*args, **kwargs).arguments, arguments_of(function)
    known = {name: value for name, value in given.items() if name in allowed.model_fields}
    return allowed.model_construct(**known).model_dump_json()


def write(call: Call, tensors: dict[str, Tensor]) -> bytes:
    """A message; the length of its JSON comes first."""
    text = call.model_dump_json().encode()
    return len(text).to_bytes(8, "little") + text + save(tensors)


def read(message: bytes) -> tuple[Call, dict[str, Tensor]]:
    """What was written."""
    with readable():
        end = 8 + int.from_bytes(message[:8], "little")
        return Call.model_validate_json(message[8:end]), load(message[end:])


def read_arguments(function: Callable[..., Any], text: str) -> dict[str, Any]:
    """Arguments of a call, as `arguments` wrote them."""
    with readable():
        found = arguments_of(function).model_validate_json(text, strict=True)
    return {name: getattr(found, name) for name in type(found).model_fields}


@contextmanager
def readable() -> Iterator[None]:
    """Say in one sentence that something in a message cannot be read."""
    try:
        yield
    except (ValidationError, SafetensorError, json.JSONDecodeError) as error:
        what = "/".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else ""
        raise ConfigError(
            f"a message from process 0 cannot be read{what and f' at {what}'}; start all processes from one "
            "installation of peftbench"
        ) from error


def broadcast(message: bytes | None) -> bytes:
    """The leader's message, on all processes; the others give None."""
    size = torch.tensor([len(message or b"")])
    dist.broadcast(size, 0)
    held = torch.empty(int(size), dtype=torch.uint8)
    if message is not None and len(message):
        held.copy_(torch.frombuffer(bytearray(message), dtype=torch.uint8))
    dist.broadcast(held, 0)
    return held.numpy().tobytes()


def tensors_of(adapter: "Adapter | None") -> list[Tensor]:
    """All trainable tensors of an adapter, in an order that is the same everywhere."""
    return [] if adapter is None else [each for part in adapter.members() for each in part.tensors.values()]


def parted(flat: Tensor, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Views of `flat`, (elements,), in the shapes of `tensors`."""
    parts = torch.split(flat, [each.numel() for each in tensors])
    return [part.view(each.shape) for part, each in zip(parts, tensors, strict=True)]


@torch.no_grad()
def share_values(adapter: "Adapter | None") -> None:
    """Give all processes the values that the leader's adapter has."""
    tensors = tensors_of(adapter)
    if not tensors:
        return
    flat = torch.cat([each.detach().reshape(-1) for each in tensors])
    dist.broadcast(flat, 0)
    if dist.get_rank() > 0:
        for each, part in zip(tensors, parted(flat, tensors), strict=True):
            each.copy_(part)
