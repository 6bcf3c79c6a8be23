"""Native adapters in the file format of Hugging Face PEFT, and back.

A role inside a fused projection has no name in that format. It is written as an adapter of the whole
projection that does nothing outside the role: same logits, more stored zeros (LoRA) or ones (IA3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from peftbench.engine.adapter import AdapterFiles, Target, features

if TYPE_CHECKING:
    from peftbench.methods.native import IA3, LNTuning, LoRA
    from peftbench.methods.selective import BitFit
    from peftbench.methods.soft_prompts import PrefixTuning, PromptTuning
    from peftbench.methods.svft import Factors
    from peftbench.schema import Frozen

_ROOT = "base_model.model"


def lora_files(adapter: LoRA, run: int) -> AdapterFiles:
    """LoRA of one run; the roles of a fused projection share one adapter of their summed rank."""
    settings, tensors, ranks = adapter.settings, {}, {}
    for name, targets in _by_name(adapter.targets).items():
        a = torch.cat([adapter.tensors[f"{target.key}.A"][run] for target in targets])
        b = torch.zeros(features(targets[0].module)[1], len(a), dtype=a.dtype, device=a.device)
        for number, target in enumerate(targets):
            columns = slice(number * settings.rank, (number + 1) * settings.rank)
            b[_rows(target, b), columns] = adapter.tensors[f"{target.key}.B"][run].detach()
        tensors[f"{_ROOT}.{name}.lora_A.weight"] = a
        tensors[f"{_ROOT}.{name}.lora_B.weight"] = b
        if len(targets) > 1:
            ranks[name] = len(targets)
    config = {
        "peft_type": "LORA",
        "r": settings.rank,
        "lora_alpha": settings.alpha,
        "lora_dropout": settings.dropout,
        "bias": "none",
        "target_modules": list(_by_name(adapter.targets)),
        # Rank and alpha grow together, so that alpha / rank stays what it is.
        "rank_pattern": {name: settings.rank * count for name, count in ranks.items()},
        "alpha_pattern": {name: settings.alpha * count for name, count in ranks.items()},
        "fan_in_fan_out": _is_transposed(adapter.targets),
    }
    return _files(config, tensors)


def load_lora(adapter: LoRA, files: AdapterFiles) -> None:
    """The inverse of `lora_files`, into run 0."""
    state, rank = {}, adapter.settings.rank
    for name, targets in _by_name(adapter.targets).items():
        a = files.tensors[f"{_ROOT}.{name}.lora_A.weight"]
        b = files.tensors[f"{_ROOT}.{name}.lora_B.weight"]
        for number, target in enumerate(targets):
            part = slice(number * rank, (number + 1) * rank)
            state[f"{target.key}.A"] = a[part]
            state[f"{target.key}.B"] = b[_rows(target, b), part]
    adapter.load_state(0, state)


def ia3_files(adapter: IA3, run: int) -> AdapterFiles:
    """IA3 of one run; outputs of a fused projection that play no scaled role are stored as ones."""
    tensors = {}
    for name, targets in _by_name(adapter.targets).items():
        scale = adapter.output_scale(targets, features(targets[0].module)[1])[run]
        tensors[f"{_ROOT}.{name}.ia3_l"] = scale[:, None]
    for target in adapter.feedforward:
        scale = adapter.tensors[f"{target.key}.input_scale"][run]
        tensors[f"{_ROOT}.{target.name}.ia3_l"] = scale[None, :]
    feedforward = [target.name for target in adapter.feedforward]
    config = {
        "peft_type": "IA3",
        # A list, never a string: PEFT reads a string as a pattern for the whole path, which matches nothing.
        "target_modules": list(_by_name([*adapter.targets, *adapter.feedforward])),
        "feedforward_modules": feedforward,
        "fan_in_fan_out": _is_transposed([*adapter.targets, *adapter.feedforward]),
    }
    return _files(config, tensors)


def load_ia3(adapter: IA3, files: AdapterFiles) -> None:
    """The inverse of `ia3_files`, into run 0."""
    state = {}
    for target in adapter.targets:
        scale = files.tensors[f"{_ROOT}.{target.name}.ia3_l"][:, 0]
        state[f"{target.key}.scale"] = scale[_rows(target, scale)]
    for target in adapter.feedforward:
        state[f"{target.key}.input_scale"] = files.tensors[f"{_ROOT}.{target.name}.ia3_l"][0]
    adapter.load_state(0, state)


def ln_files(adapter: LNTuning, run: int) -> AdapterFiles:
    """The trained norms of one run."""
    tensors = {}
    for name, norm in adapter.norms:
        for part, _ in norm.named_parameters(recurse=False):
            tensors[f"{_ROOT}.{name}.ln_tuning_layers.{part}"] = adapter.tensors[f"{name}.{part}"][run]
    return _files({"peft_type": "LN_TUNING", "target_modules": [name for name, _ in adapter.norms]}, tensors)


def load_ln(adapter: LNTuning, files: AdapterFiles) -> None:
    """The inverse of `ln_files`, into run 0."""
    state = {}
    for name in adapter.tensors:
        module, part = name.rsplit(".", 1)
        state[name] = files.tensors[f"{_ROOT}.{module}.ln_tuning_layers.{part}"]
    adapter.load_state(0, state)


def bias_files(adapter: BitFit, run: int) -> AdapterFiles:
    """Biases of one run as PEFT's BEFT, which adds them to what the base's own bias gives."""
    tensors = {}
    for name, targets in _by_name(adapter.targets).items():
        moved = torch.zeros(1, features(targets[0].module)[1], dtype=adapter.dtype, device=adapter.device)
        for target in targets:
            moved[0, _rows(target, moved)] = adapter.moved(target)[run].detach()
        tensors[f"{_ROOT}.{name}.beft_bias"] = moved
    return _files({"peft_type": "BEFT", "target_modules": list(_by_name(adapter.targets))}, tensors)


def load_biases(adapter: BitFit, files: AdapterFiles) -> None:
    """The inverse of `bias_files`, into run 0."""
    state = {}
    for target in adapter.targets:
        moved = files.tensors[f"{_ROOT}.{target.name}.beft_bias"][0].to(adapter.device, adapter.dtype)
        state[f"{target.key}.bias"] = adapter.base_bias(target) + moved[_rows(target, moved)]
    adapter.load_state(0, state)


def factor_files(adapter: Factors, run: int) -> AdapterFiles:
    """Two factors of each target, as a LoRA whose ranks differ and whose product is not scaled."""
    tensors, ranks = {}, {}
    for name, targets in _by_name(adapter.targets).items():
        a = torch.cat([adapter.tensors[f"{target.key}.A"][run] for target in targets])
        b = torch.zeros(features(targets[0].module)[1], len(a), dtype=a.dtype, device=a.device)
        start = 0
        for target in targets:
            own = adapter.tensors[f"{target.key}.B"][run].detach()
            b[_rows(target, b), start : start + own.shape[1]] = own
            start += own.shape[1]
        tensors[f"{_ROOT}.{name}.lora_A.weight"], tensors[f"{_ROOT}.{name}.lora_B.weight"] = a, b
        ranks[name] = len(a)
    config = {
        "peft_type": "LORA",
        "r": max(ranks.values()),
        "lora_alpha": max(ranks.values()),
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(ranks),
        "rank_pattern": ranks,
        "alpha_pattern": ranks,
        "fan_in_fan_out": _is_transposed(adapter.targets),
    }
    return _files(config, tensors)


def factors_of(files: AdapterFiles, ranks: dict[Target, int]) -> dict[str, tuple[Tensor, Tensor]]:
    """The inverse of `factor_files`: both factors by the key of the target, of which the ranks are known."""
    found = {}
    for name, targets in _by_name(list(ranks)).items():
        a, b = files.tensors[f"{_ROOT}.{name}.lora_A.weight"], files.tensors[f"{_ROOT}.{name}.lora_B.weight"]
        start = 0
        for target in targets:
            part = slice(start, start + ranks[target])
            found[target.key] = (a[part], b[_rows(target, b), part])
            start = part.stop
    return found


def own_files(kind: str, settings: Frozen, tensors: dict[str, Tensor]) -> AdapterFiles:
    """An adapter of a kind that PEFT does not have; this package reads it back."""
    return _files({"peft_type": kind, "settings": settings.model_dump(mode="json")}, tensors)


def prompt_files(adapter: PromptTuning, run: int) -> AdapterFiles:
    """A soft prompt of one run: the embeddings as they are used."""
    embeddings = adapter.tensors["embeddings"][run]
    config = {"peft_type": adapter.peft_type, **_prompt_config(adapter.model, embeddings.shape)}
    if adapter.peft_type == "P_TUNING":
        config |= {
            "encoder_reparameterization_type": adapter.settings.encoder.upper(),
            "encoder_hidden_size": adapter.settings.encoder_hidden,
        }
    return _files(config, {"prompt_embeddings": embeddings})


def prefix_files(adapter: PrefixTuning, run: int) -> AdapterFiles:
    """A prefix of one run: the keys and values as they are used, without the MLP that made them."""
    with torch.no_grad():
        table = adapter.table()[run]
    config = {
        "peft_type": "PREFIX_TUNING",
        "prefix_projection": adapter.settings.projection,
        "encoder_hidden_size": adapter.settings.encoder_hidden,
        **_prompt_config(adapter.model, table.shape),
        "token_dim": adapter.heads.key_value_width,
        "num_attention_heads": adapter.heads.key_value_heads,
    }
    return _files(config, {"prompt_embeddings": table})


def _prompt_config(model: Any, shape: Sequence[int]) -> dict[str, Any]:
    text = model.config.get_text_config()
    return {
        "num_virtual_tokens": shape[0],
        "token_dim": shape[1],
        "num_layers": int(text.num_hidden_layers),
        "num_attention_heads": int(text.num_attention_heads),
        "num_transformer_submodules": 1,
    }


def _files(config: dict[str, Any], tensors: dict[str, Tensor]) -> AdapterFiles:
    config = {**config, "task_type": "CAUSAL_LM", "inference_mode": True}
    return AdapterFiles(config, {name: _stored(tensor) for name, tensor in tensors.items()})


def _stored(tensor: Tensor) -> Tensor:
    """A copy on the CPU, on its own; a tensor without data stays one, to be counted."""
    found = tensor.detach()
    return (found if found.is_meta else found.cpu()).contiguous().clone()


def _by_name(targets: Sequence[Target]) -> dict[str, list[Target]]:
    groups: dict[str, list[Target]] = {}
    for target in targets:
        groups.setdefault(target.name, []).append(target)
    return groups


def _rows(target: Target, of: Tensor) -> Tensor | slice:
    return slice(None) if target.outputs is None else target.outputs.to(of.device)


def _is_transposed(targets: Sequence[Target]) -> bool:
    return any(not isinstance(target.module, nn.Linear) for target in targets)
