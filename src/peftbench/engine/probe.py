"""How a model runs: packed where that gives what the model itself gives, else padded, else not at all.

Kinds of layers that mix tokens other than by plain or windowed attention are refused by name. What has no name is
found by a probe: a few tokens, each way in which the engine runs a model, against each text alone in the model as
its makers wrote it.
"""

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from peftbench.engine.attention import Cache
from peftbench.engine.memory import ran_out
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample, pack
from peftbench.engine.padded import PaddedModel
from peftbench.engine.roles import heads_of
from peftbench.errors import ConfigError

PACKABLE_LAYERS = {"full_attention", "sliding_attention"}
_PROMPTS, _FURTHER = ((3, 8, 5, 9, 7), (3, 8, 2, 4)), (6, 1)
"""Token ids of the probe, and those that follow as if they were generated; reduced to the vocabulary."""


class CannotBePacked(Exception):
    """Why a model cannot be packed, in a few words."""


def in_the_engine(module: PreTrainedModel) -> LanguageModel:
    """The model as the engine runs it; raises `ConfigError` if neither way gives what the model itself gives."""
    try:
        return packable(module)
    except CannotBePacked as error:
        # As it was made, then; with the faster of its own attentions that it knows.
        with suppress(ValueError, ImportError):
            module.set_attn_implementation("eager")
            module.set_attn_implementation("sdpa")
        return paddable(module, str(error))


def strange_layers(module: PreTrainedModel) -> list[str]:
    """Names of the kinds of layers that mix tokens other than by plain or windowed attention."""
    layers = set(getattr(module.config.get_text_config(), "layer_types", None) or ()) - PACKABLE_LAYERS
    mixers = {type(each).__name__ for each in module.modules() if isinstance(each, nn.Conv1d)}
    return sorted(layers | mixers)


@torch.no_grad()
def packable(module: PreTrainedModel) -> LanguageModel:
    """The model on packed streams; raises `CannotBePacked` if its logits would not be its own.

    Two samples are packed, with what they share, after what was kept of it, and for two generated tokens.
    """
    if strange := strange_layers(module):
        raise CannotBePacked(f"it has {', '.join(strange)} layers")
    alone = _alone(module)
    try:
        model = LanguageModel(module)
        found = _packed(model)
    except CannotBePacked:
        raise
    except Exception as error:
        if isinstance(error, RuntimeError) and ran_out(error):
            raise
        own = isinstance(error, ConfigError)
        raise CannotBePacked(str(error) if own else f"its code breaks on a packed stream: {error}") from error
    for what, step, logits in found:
        if not _same(logits, alone[:, step], model.dtype):
            raise CannotBePacked(f"its own logits differ from those of a packed stream ({what})")
    return model


@torch.no_grad()
def paddable(module: PreTrainedModel, because: str) -> PaddedModel:
    """The model on samples side by side; raises `ConfigError` if its logits would not be its own."""
    alone, model = _alone(module), PaddedModel(module, because)
    name = type(module).__name__
    try:
        found = model.logits(pack(_rows(model), device=model.device), None)[0]
    except Exception as error:
        if isinstance(error, RuntimeError) and ran_out(error):
            raise
        raise ConfigError(f"{name} cannot be run here: {error}; choose another model") from error
    if not _same(found, alone[:, 0], model.dtype):
        raise ConfigError(
            f"{name} gives other logits for samples side by side than for each alone, or looks at tokens that "
            "come later; choose another model"
        )
    return model


def _ids(module: PreTrainedModel, ids: Sequence[int]) -> tuple[int, ...]:
    vocabulary = int(module.config.get_text_config().vocab_size)
    return tuple(i % vocabulary for i in ids)


def _rows(model: LanguageModel) -> list[list[Sample]]:
    return [[Sample(_ids(model.module, prompt), ()) for prompt in _PROMPTS]]


def _alone(module: PreTrainedModel) -> Tensor:
    """Logits of each prompt and after each further token, (prompts, 1 + further tokens, vocabulary)."""
    found = []
    for prompt in _PROMPTS:
        ids = torch.tensor([_ids(module, (*prompt, *_FURTHER))], device=module.device)
        out = module(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False)
        found.append(out.logits[0, len(prompt) - 1 :])
    return torch.stack(found)


def _packed(model: LanguageModel) -> list[tuple[str, int, Tensor]]:
    """In which way of packing, after how many further tokens, the logits of each prompt, (prompts, vocabulary)."""
    rows = _rows(model)
    shared = rows[0][0].prompt[:2]
    found = [
        (what, 0, model.logits(pack(rows, shared=shared, share=share, device=model.device), None)[0])
        for what, share in (("nothing shared", False), ("prefix shared", True))
    ]
    kept = model.keep(shared, None)
    if kept is None or len(kept) != heads_of(model.module.config).layers:
        raise CannotBePacked("its attention does not go through transformers' registry in every layer")
    stream = pack(rows, shared=shared, kept=True, device=model.device)
    cache = Cache(torch.tensor(stream.own_lengths[0], device=model.device))
    found.append(("prefix kept", 0, model.logits(stream, None, kept=kept, cache=cache)[0]))
    positions = torch.tensor([len(sample.prompt) for sample in rows[0]], device=model.device)
    for step, token in enumerate(_ids(model.module, _FURTHER)):
        tokens = torch.full_like(positions, token)
        found.append(("generation", step + 1, model.next_logits(tokens, positions + step, cache)))
    return found


def _same(found: Tensor, alone: Tensor, dtype: torch.dtype) -> bool:
    """Whether the logits of each prompt, (prompts, vocabulary), are the model's own up to rounding."""
    tolerance = 1e-4 if dtype in (torch.float32, torch.float64) else 5e-2
    far = (found.float() - alone.float()).abs().amax(-1)
    return bool((far <= tolerance * alone.float().abs().amax(-1)).all())
