"""What is measured: batches shaped like those of a dataset, and models of a size with random weights.

Lengths are those of the synthetic workloads in use since the first prototype: tokens shared by all prompts, own
tokens, answer tokens. Token ids are random; only lengths matter for speed.
"""

import os
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from peftbench.datasets import get_dataset, load_dataset
from peftbench.engine.loading import load_tokenizer
from peftbench.engine.pack import Sample, common_prefix
from peftbench.engine.tokens import chat_format, encode

BATCH = 4


@dataclass(frozen=True)
class Workload:
    """Token counts of one dataset's samples; ranges are drawn evenly, ends included."""

    shared: int
    own: tuple[int, int]
    answer: tuple[int, int]


WORKLOADS = {
    "sst2": Workload(shared=50, own=(15, 45), answer=(2, 3)),
    "multirc": Workload(shared=45, own=(260, 460), answer=(2, 2)),
    "gsm8k": Workload(shared=45, own=(45, 105), answer=(90, 190)),
    "tiny": Workload(shared=2, own=(4, 8), answer=(2, 2)),
}

# Llama-shaped: hidden, feed-forward, layers, heads, key-value heads. The last two are Llama 3.2 1B and Llama 3 8B.
SIZES = {
    "small": (192, 512, 6, 6, 2),
    "mid": (768, 2048, 12, 12, 4),
    "1b": (2048, 8192, 16, 32, 8),
    "8b": (4096, 14336, 32, 32, 8),
}


def samples_of(name: str, count: int, vocabulary: int, seed: int = 0) -> list[Sample]:
    """Random samples with the lengths of a workload."""
    if name.startswith("rows:"):
        return real_samples(name.removeprefix("rows:"), count)
    workload, source = WORKLOADS[name], torch.Generator().manual_seed(seed)

    def ids(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, vocabulary, (length,), generator=source).tolist())

    def between(bounds: tuple[int, int]) -> int:
        return int(torch.randint(bounds[0], bounds[1] + 1, (1,), generator=source))

    shared = ids(workload.shared)
    return [Sample(shared + ids(between(workload.own)), ids(between(workload.answer))) for _ in range(count)]


def real_samples(dataset: str, count: int) -> list[Sample]:
    """Training rows of a dataset in the folder that PEFTBENCH_DATA names, by the tokenizer in BENCH_TOKENIZER."""
    chat = chat_format(_tokenizer())
    data = load_dataset(get_dataset(dataset), allow_partial=True, splits=("train",))
    rows = (data.train * (count // len(data.train) + 1))[:count]
    return list(encode(rows, chat, limit=2048, reserve=32, learn=True, place=dataset).samples)


def vocabulary_of(name: str, wanted: int) -> int:
    """`wanted`, or the tokenizer's where the ids of real rows need more."""
    return max(wanted, len(_tokenizer())) if name.startswith("rows:") else wanted


def _tokenizer() -> Any:
    return load_tokenizer(os.environ["BENCH_TOKENIZER"], None)


def model_of(
    size: str, vocabulary: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> PreTrainedModel:
    """A Llama with random weights; the same weights at every call."""
    hidden, feedforward, layers, heads, key_value_heads = SIZES[size]
    config = AutoConfig.for_model(
        "llama",
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=feedforward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=key_value_heads,
        max_position_embeddings=4096,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    torch.manual_seed(0)
    with torch.device(device):
        return AutoModelForCausalLM.from_config(config, dtype=dtype).eval()


def useful_flops(model: PreTrainedModel, batch: list[Sample], virtual_tokens: int = 0) -> float:
    """Multiply-adds that one training step cannot do without, times two.

    Forward and backward through each layer once for every token that differs, shared ones once for the batch,
    and through the head for answer tokens alone; frozen weights have no gradient. Attention is left out.
    """
    shared = len(common_prefix(batch))
    tokens = virtual_tokens + shared + sum(sample.tokens - shared for sample in batch)
    answers = sum(len(sample.answer) for sample in batch)
    layers = sum(p.numel() for name, p in model.named_parameters() if ".layers." in name and p.dim() == 2)
    head: Any = model.get_output_embeddings().weight
    return 4.0 * (layers * tokens + head.numel() * answers)
