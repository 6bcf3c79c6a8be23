"""Where in a model a method acts: projections by their role (key, value, down, ...), norms of hidden width.

Families name and fuse their projections differently. A fused projection is targeted by the output features of
the role inside it; a family that is not known here is found by the Llama names or refused, never guessed.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from peftbench.errors import ConfigError

ROLES = ("query", "key", "value", "output", "gate", "up", "down")

# Role -> (module path inside a decoder block, how the role lies in its outputs): the "whole" of them, one of the
# consecutive blocks "query", "key", "value" or of two halves, or "interleaved" head by head.
_LLAMA = {
    "query": ("self_attn.q_proj", "whole"),
    "key": ("self_attn.k_proj", "whole"),
    "value": ("self_attn.v_proj", "whole"),
    "output": ("self_attn.o_proj", "whole"),
    "gate": ("mlp.gate_proj", "whole"),
    "up": ("mlp.up_proj", "whole"),
    "down": ("mlp.down_proj", "whole"),
}
_FAMILIES: dict[str, dict[str, tuple[str, str]]] = {
    "phi3": {
        "query": ("self_attn.qkv_proj", "query"),
        "key": ("self_attn.qkv_proj", "key"),
        "value": ("self_attn.qkv_proj", "value"),
        "output": ("self_attn.o_proj", "whole"),
        "gate": ("mlp.gate_up_proj", "first half"),
        "up": ("mlp.gate_up_proj", "second half"),
        "down": ("mlp.down_proj", "whole"),
    },
    "gpt2": {
        "query": ("attn.c_attn", "query"),
        "key": ("attn.c_attn", "key"),
        "value": ("attn.c_attn", "value"),
        "output": ("attn.c_proj", "whole"),
        "up": ("mlp.c_fc", "whole"),
        "down": ("mlp.c_proj", "whole"),
    },
    "gpt_neox": {
        "query": ("attention.query_key_value", "interleaved query"),
        "key": ("attention.query_key_value", "interleaved key"),
        "value": ("attention.query_key_value", "interleaved value"),
        "output": ("attention.dense", "whole"),
        "up": ("mlp.dense_h_to_4h", "whole"),
        "down": ("mlp.dense_4h_to_h", "whole"),
    },
}
_FAMILIES["opt"] = {
    **_LLAMA,
    "output": ("self_attn.out_proj", "whole"),
    "up": ("fc1", "whole"),
    "down": ("fc2", "whole"),
}
_FAMILIES["phi"] = {
    **_LLAMA,
    "output": ("self_attn.dense", "whole"),
    "up": ("mlp.fc1", "whole"),
    "down": ("mlp.fc2", "whole"),
}
_FAMILIES["gptj"] = {
    "query": ("attn.q_proj", "whole"),
    "key": ("attn.k_proj", "whole"),
    "value": ("attn.v_proj", "whole"),
    "output": ("attn.out_proj", "whole"),
    "up": ("mlp.fc_in", "whole"),
    "down": ("mlp.fc_out", "whole"),
}
# Norms inside attention that scale queries and keys; they belong to the attention, not to LN tuning.
_QUERY_KEY_NORMS = ("q_norm", "k_norm", "query_norm", "key_norm", "q_layernorm", "k_layernorm")


@dataclass(frozen=True)
class Heads:
    """Geometry of the attention of a model."""

    layers: int
    query_heads: int
    key_value_heads: int
    width: int
    """Width of one head."""

    @property
    def key_value_width(self) -> int:
        """Width of all keys (or values) of one layer."""
        return self.key_value_heads * self.width


@dataclass(frozen=True)
class Target:
    """A linear projection that a method acts on, or the part of a fused one that plays the role."""

    name: str
    """Path of the module in the model."""
    module: nn.Module
    outputs: torch.Tensor | None
    """Indices of the module's outputs that belong to the role; None where all do."""
    in_features: int
    out_features: int
    """Outputs of the role, not of the module."""

    @property
    def key(self) -> str:
        """A name that differs between the roles of one fused module."""
        return self.name if self.outputs is None else f"{self.name}[{int(self.outputs[0])}]"


def heads_of(config: PreTrainedConfig) -> Heads:
    """The attention geometry from a model's configuration; raises `ConfigError` if it has no attention heads."""
    text = config.get_text_config()
    if not getattr(text, "num_attention_heads", None):
        raise ConfigError(f"a {text.model_type} model has no attention heads, which is what this needs")
    query = int(text.num_attention_heads)
    return Heads(
        layers=int(text.num_hidden_layers),
        query_heads=query,
        key_value_heads=_key_value_heads(text) or query,
        width=int(getattr(text, "head_dim", None) or text.hidden_size // query),
    )


def _key_value_heads(text: Any) -> int:
    """Heads of keys and values as a configuration says; 0 where it says nothing."""
    if getattr(text, "model_type", "") == "falcon" and text.multi_query and not text.new_decoder_architecture:
        return 1
    return int(getattr(text, "num_key_value_heads", None) or getattr(text, "num_kv_heads", None) or 0)


def find_targets(model: PreTrainedModel, wanted: Sequence[str]) -> list[Target]:
    """The projections of `model` that play one of the roles or match one of the module names in `wanted`.

    A name matches a linear projection whose path equals it or ends in it after a dot. Raises `ConfigError`
    for a name that matches none, and for two targets that overlap.
    """
    if not wanted:
        raise ConfigError(f"no target is named; use roles ({', '.join(ROLES)}) or endings of module names")
    linears = dict(_linear_modules(model))
    family = _FAMILIES.get(model.config.get_text_config().model_type, _LLAMA)
    found: list[Target] = []
    for name in dict.fromkeys(wanted):
        path, part = family.get(name, (name, "whole"))
        matches = [path_of for path_of in linears if path_of == path or path_of.endswith("." + path)]
        if not matches:
            raise ConfigError(_no_match(name, path, model, linears))
        found += [_target(path_of, linears[path_of], part, model) for path_of in matches]
    order = list(linears)
    found = list({target.key: target for target in found}.values())  # a role and its module's name are one target
    found.sort(key=lambda target: order.index(target.name))
    for one, other in itertools.combinations(found, 2):
        if one.module is other.module and _overlap(one, other):
            raise ConfigError(
                f"two targets act on the same outputs of {one.name}; name the projection or its roles, not both"
            )
    return found


def _overlap(one: Target, other: Target) -> bool:
    if one.outputs is None or other.outputs is None:
        return True
    return bool(torch.isin(one.outputs, other.outputs).any())


def find_norms(model: PreTrainedModel) -> list[tuple[str, nn.Module]]:
    """Every norm of hidden width, the final one included, without query and key norms; in model order."""
    width = int(model.config.get_text_config().hidden_size)
    norms = [
        (name, module)
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower()
        and isinstance(getattr(module, "weight", None), torch.Tensor)
        and tuple(module.weight.shape) == (width,)
        and name.rsplit(".", 1)[-1] not in _QUERY_KEY_NORMS
    ]
    if not norms:
        raise ConfigError(f"ln_tuning found no norm of width {width} in this {model.config.model_type} model")
    return norms


def features(module: Any) -> tuple[int, int]:
    """(inputs, outputs) of a linear projection, whichever way its weight lies."""
    if isinstance(module, nn.Linear):
        return module.in_features, module.out_features
    inputs, outputs = module.weight.shape  # Conv1D of GPT-2 keeps (inputs, outputs)
    return int(inputs), int(outputs)


def by_module(targets: Sequence[Target]) -> list[tuple[nn.Module, list[Target]]]:
    """Targets of one module together: in a fused projection several roles share it."""
    groups: dict[int, tuple[nn.Module, list[Target]]] = {}
    for target in targets:
        groups.setdefault(id(target.module), (target.module, []))[1].append(target)
    return list(groups.values())


def whole_weights(model: nn.Module, what: str) -> None:
    """Raise `ConfigError` if several processes hold the model's weights in shares."""
    if any(hasattr(each, "device_mesh") for each in model.parameters()):
        raise ConfigError(f"{what} needs whole weights; run it with engine.processes=1")


def _linear_modules(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if module is not head and (isinstance(module, nn.Linear) or type(module).__name__ == "Conv1D"):
            yield name, module


def _target(name: str, module: nn.Module, part: str, model: PreTrainedModel) -> Target:
    inputs, outputs = features(module)
    index = None if part == "whole" else _part(part, outputs, heads_of(model.config))
    return Target(name, module, index, inputs, outputs if index is None else len(index))


def _part(part: str, outputs: int, heads: Heads) -> torch.Tensor:
    if part.endswith("half"):
        half = outputs // 2
        return torch.arange(half) + (half if part.startswith("second") else 0)
    if part.startswith("interleaved"):
        which = ("query", "key", "value").index(part.split()[1])
        head_starts = torch.arange(heads.query_heads)[:, None] * 3 * heads.width
        return (head_starts + which * heads.width + torch.arange(heads.width)).flatten()
    query, key = heads.query_heads * heads.width, heads.key_value_width
    start, length = {"query": (0, query), "key": (query, key), "value": (query + key, key)}[part]
    return torch.arange(start, start + length)


def _no_match(name: str, path: str, model: PreTrainedModel, linears: dict[str, nn.Module]) -> str:
    endings = sorted({".".join(each.split(".")[-2:]) for each in linears})
    looked = f"{name!r}" if name == path else f"{name!r} (looked for {path!r})"
    return (
        f"target {looked} matches no module of this {model.config.model_type} model; "
        f"name roles ({', '.join(ROLES)}) or some of its projections ({', '.join(endings)}), as by "
        f"--set 'method.targets=[{endings[-1]}]'"
    )
