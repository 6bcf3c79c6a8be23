"""Small models and tokenizers made on the spot: no file, no network, no trained weights."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<|user|>", "<|assistant|>")
VOCABULARY = len(SPECIAL_TOKENS) + 256

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>' }}{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

_LLAMA = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_WINDOWED = {"head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 16}
_PLAIN_HEADS = {key: value for key, value in _LLAMA.items() if key != "num_key_value_heads"}

FAMILIES: Mapping[str, dict[str, Any]] = MappingProxyType(
    {
        "llama": _LLAMA,
        "mistral": {**_LLAMA, "sliding_window": 16},
        "qwen2": _LLAMA,
        "qwen3": {**_LLAMA, "head_dim": 16},
        "gemma2": {**_LLAMA, **_WINDOWED},
        "gemma3_text": {
            **_LLAMA,
            **_WINDOWED,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
        "phi3": {**_LLAMA, "sliding_window": 16},
        "gpt2": {
            "vocab_size": VOCABULARY,
            "n_embd": 32,
            "n_layer": 3,
            "n_head": 4,
            "n_positions": 512,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "gpt_neox": _PLAIN_HEADS,
    }
)
"""Settings of a tiny model of each supported family, by transformers' model type."""


def tiny_config(family: str = "llama", **changes: Any) -> PreTrainedConfig:
    """Configuration of a tiny model: 32 wide, 3 layers, 261 tokens; `changes` override single settings."""
    return AutoConfig.for_model(family, **{**FAMILIES[family], **changes})


def tiny_model(
    family: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, **changes: Any
) -> PreTrainedModel:
    """A tiny model with random weights; every norm weight and bias is moved off its default, so that it counts."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(tiny_config(family, **changes)).to(dtype).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
                else:
                    parameter.mul_(4)  # small random weights would leave attention flat and hide its mistakes
    return model


def tiny_tokenizer(*, chat: bool = True) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes with beginning, end and chat tokens; without `chat` no template."""
    vocabulary = {token: i for i, token in enumerate(SPECIAL_TOKENS)}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary[character] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",  # noqa: S106
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        additional_special_tokens=["<|user|>", "<|assistant|>"],
    )
    fast.chat_template = CHAT_TEMPLATE if chat else None
    return fast


def save_tiny_model(folder: str, family: str = "llama", *, seed: int = 0, **changes: Any) -> str:
    """Write a tiny model and tokenizer as a Hugging Face model folder; returns the folder."""
    tiny_model(family, seed=seed, **changes).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
