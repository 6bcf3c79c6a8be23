"""Pre-train `peftbench-tiny`, the model that the package ships, from nothing but a seed.

    python tools/pretrain_tiny.py OUT              train and write the model folder (half an hour on one core)
    python tools/pretrain_tiny.py OUT --steps 200  only its first 200 steps, to hold the loss curve against

One thread, float32, so that the same versions on the same kind of device give the same curve.
"""

import argparse
import csv
import json
import math
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import tokenizers
import torch
import torch.nn.functional as F
import transformers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tiny_corpus import Document, documents

SEED = 20261125
VOCABULARY = 1024
STEPS, BATCH, BUCKET = 16_000, 32, 32
PEAK, WARMUP, WEIGHT_DECAY, CLIP = 3e-3, 200, 0.05, 1.0
MESSAGE_WEIGHT = 0.1
"""What a token of a message counts in the loss, where a token of an answer counts 1."""
KEEP = 2000
"""Steps after which the weights are written as they are by then."""
INTERVAL = 50
"""Steps that a point of the loss curve averages."""

PAD, BEGIN, END, USER, ASSISTANT, SYSTEM = SPECIAL = (
    *("<pad>", "<s>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"),
)
TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer() -> PreTrainedTokenizerFast:
    """A BPE tokenizer whose unknown characters fall back on bytes; each digit is a token of its own."""
    space = "\u2581"
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=False))
    tokenizer.normalizer = normalizers.Replace(" ", space)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pieces_with(space)), behavior="isolated")
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[*SPECIAL, *bytes_],
        initial_alphabet=[chr(code) for code in range(33, 127)] + ["\n", space],
        show_progress=False,
    )
    drawn = islice(documents(f"{SEED}/tokenizer"), 40_000)
    texts = (text for each in drawn for text in (each.message, each.answer))
    tokenizer.train_from_iterator(texts, trainer)
    # Bytes were special only to come first; a text that spells one is ordinary text.
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in SPECIAL]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.decoder = decoders.Sequence([decoders.Replace(space, " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        bos_token=BEGIN,
        eos_token=END,
        extra_special_tokens=[USER, ASSISTANT, SYSTEM],
        chat_template=TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=512,
    )


def pieces_with(space: str) -> str:
    """How a text is cut before merging: a word with the space before it, one digit, one mark, one new line."""
    word = "A-Za-z_'"
    return rf"{space}?[{word}]+|{space}?\d|\n|{space}?[^{word}\d\n{space}]|{space}"


def new_model() -> LlamaForCausalLM:
    """About a million parameters in four layers, embeddings tied."""
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.06,  # near 1 / sqrt(width): a narrow model learns far sooner from it than from 0.02
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(SEED)
    return LlamaForCausalLM(config)


def encode(tokenizer: PreTrainedTokenizerFast, document: Document) -> tuple[list[int], int]:
    """Token ids, and how many of them stand before the answer."""
    answer = tokenizer(document.answer, add_special_tokens=False)["input_ids"] + [2]
    if not document.message:
        return [1, *answer], 1
    asked = tokenizer(f"{BEGIN}{USER}{document.message}{ASSISTANT}", add_special_tokens=False)["input_ids"]
    return [*asked, *answer], len(asked)


def batches(tokenizer: PreTrainedTokenizerFast) -> Iterator[tuple[Tensor, Tensor]]:
    """Token ids (batch, longest) and the weight of each as a target; documents of like length go together."""
    stream = documents(f"{SEED}/train")
    source = torch.Generator().manual_seed(SEED)
    while True:
        encoded = [encode(tokenizer, each) for each in islice(stream, BATCH * BUCKET)]
        encoded.sort(key=lambda each: len(each[0]))
        for number in torch.randperm(BUCKET, generator=source).tolist():
            batch = encoded[number * BATCH : (number + 1) * BATCH]
            longest = max(len(ids) for ids, _ in batch)
            ids = torch.zeros(BATCH, longest, dtype=torch.long)
            weights = torch.zeros(BATCH, longest)
            for row, (tokens, before) in enumerate(batch):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                weights[row, 1:before] = MESSAGE_WEIGHT
                weights[row, before : len(tokens)] = 1
            yield ids, weights


def rate(step: int, steps: int) -> float:
    """Learning rate: a linear rise, then half a cosine to a twentieth."""
    if step < WARMUP:
        return PEAK * (step + 1) / WARMUP
    return PEAK * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / max(1, steps - WARMUP))))


def main() -> None:
    """Train, and write model, tokenizer, loss curve and facts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS, help="stop after so many of the steps")
    parser.add_argument("--of", type=int, default=STEPS, help="steps that the learning rate is laid out for")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    chosen.out.mkdir(parents=True, exist_ok=True)
    tokenizer = train_tokenizer()
    tokenizer.save_pretrained(chosen.out)
    model = new_model().train()
    decayed = [each for each in model.parameters() if each.dim() > 1]
    plain = [each for each in model.parameters() if each.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}],
        lr=0.0,
        betas=(0.9, 0.95),
        fused=True,
    )
    begun, tokens, seen = time.monotonic(), 0, []
    with (chosen.out / "curve.csv").open("w", newline="", encoding="utf-8") as file:
        curve = csv.writer(file)
        curve.writerow(("step", "tokens", "loss"))
        for step, (ids, weights) in enumerate(islice(batches(tokenizer), chosen.steps)):
            for group in optimizer.param_groups:
                group["lr"] = rate(step, chosen.of)
            logits = model(input_ids=ids[:, :-1], use_cache=False).logits
            losses = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            loss = (losses * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            tokens += int((weights > 0).sum())
            seen.append(loss.item())
            if len(seen) == INTERVAL:
                mean, seen = sum(seen) / INTERVAL, []
                curve.writerow((step + 1, tokens, f"{mean:.5f}"))
                file.flush()
                if (step + 1) % KEEP == 0:
                    model.save_pretrained(chosen.out)
                print(f"step {step + 1}: loss {mean:.4f}, {time.monotonic() - begun:.0f} s", flush=True)
    model.eval().save_pretrained(chosen.out)
    facts = {
        "seed": SEED,
        "steps": chosen.steps,
        "documents": chosen.steps * BATCH,
        "tokens": tokens,
        "parameters": sum(each.numel() for each in model.parameters()),
        "seconds": round(time.monotonic() - begun),
        "threads": 1,
        "device": "CPU",
        "torch": torch.__version__.split("+")[0],
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
    }
    (chosen.out / "pretraining.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
