"""Our evaluation against Hugging Face with PEFT, one row of the table a call.

    python -m bench.evaluate --what validation --workload sst2 --size mid --vocab 32000 --rounds 7

`validation` is the loss over the rows, against `Trainer.evaluate` in batches of 4. `labels` and `answers` are
greedy generation of 3 or 64 tokens a prompt, against `generate` in batches of 4 in the order of the rows. The
last line printed is one JSON object.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from typing import Any

import peft
import torch
from transformers import Trainer, TrainingArguments

from bench.pairs import interleaved, machine
from bench.peers import padded, peft_config
from bench.train import METHODS, quiet
from bench.workloads import BATCH, SIZES, model_of, samples_of, vocabulary_of
from peftbench.engine.generate import generate
from peftbench.engine.loss import mean_of_batch_means, validation_losses
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample, common_prefix
from peftbench.engine.train import VALIDATION_TOKENS
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.schema import MethodChoice

NEW_TOKENS = {"labels": 3, "answers": 64}
OUR_BATCH = 64


def measure(
    what: str, workload: str, size: str, vocabulary: int, method: str, rows: int, rounds: int
) -> dict[str, Any]:
    """The ratio of one row of the table, and whether both sides gave the same."""
    vocabulary = vocabulary_of(workload, vocabulary)
    samples = samples_of(workload, rows, vocabulary)
    model = LanguageModel(model_of(size, vocabulary))
    spec = methods.get(method)
    settings = MethodChoice(name=method).settings_for(spec)
    adapter = build_adapter(spec, model.module, settings, [0]).deployed(0)
    theirs = peft.get_peft_model(model_of(size, vocabulary), peft_config(method, 0.0)).eval()
    results: dict[str, Any] = {}
    if what == "validation":
        mine, other = _validation(model, adapter, theirs, samples, results)
    else:
        mine, other = _generation(model, adapter, theirs, samples, NEW_TOKENS[what], results)
    with adapter.attached(), quiet():
        ratio = interleaved(mine, other, rounds=rounds, warmup=1)
    return {
        "what": what, "workload": workload, "size": size, "vocabulary": vocabulary, "method": method, "rows": rows,
        "ratio_vs_trainer": ratio.median, "ratio_vs_trainer_middle_half": [ratio.low, ratio.high],
        "pairs": ratio.pairs, "seconds": ratio.seconds_ours, "trainer_seconds": ratio.seconds_theirs,
        **_agreement(results, method),
    }  # fmt: skip


def _validation(
    model: LanguageModel, adapter: Any, theirs: Any, samples: list[Sample], results: dict[str, Any]
) -> tuple[Callable[[], None], Callable[[], None]]:
    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(prefix="peftbench-bench-"), per_device_eval_batch_size=BATCH, report_to=[],
        use_cpu=True, disable_tqdm=True, remove_unused_columns=False, prediction_loss_only=True,
    )  # fmt: skip
    trainer = Trainer(model=theirs, args=arguments, eval_dataset=list(samples), data_collator=padded)
    shared = common_prefix(samples)

    def mine() -> None:
        losses = validation_losses(model, adapter, [samples], max_tokens=VALIDATION_TOKENS, shared=shared)[0]
        results["ours"] = mean_of_batch_means(losses, samples, BATCH)

    def other() -> None:
        results["theirs"] = trainer.evaluate()["eval_loss"]

    return mine, other


def _generation(
    model: LanguageModel, adapter: Any, theirs: Any, samples: list[Sample], tokens: int, results: dict[str, Any]
) -> tuple[Callable[[], None], Callable[[], None]]:
    prompts = [sample.prompt for sample in samples]
    shared = common_prefix(samples)

    def mine() -> None:
        found = generate(
            model,
            adapter,
            prompts,
            max_new_tokens=tokens,
            stop_ids=frozenset(),
            batch_size=OUR_BATCH,
            shared=shared,
        )
        results["ours"] = [list(each.ids) for each in found]

    def other() -> None:
        found = []
        for start in range(0, len(prompts), BATCH):
            batch = prompts[start : start + BATCH]
            longest = max(map(len, batch))
            ids = torch.tensor([[0] * (longest - len(prompt)) + list(prompt) for prompt in batch])
            mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in batch])
            with torch.no_grad():
                out = theirs.generate(
                    input_ids=ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens,
                    do_sample=False, pad_token_id=0, eos_token_id=[],
                )  # fmt: skip
            found += out[:, -tokens:].tolist()
        results["theirs"] = found

    return mine, other


def _agreement(results: dict[str, Any], method: str) -> dict[str, Any]:
    if method not in ("lora", "ia3", "ln_tuning"):
        return {}  # both sides begin with values of their own
    ours, theirs = results["ours"], results["theirs"]
    if isinstance(ours, float):
        return {"difference": abs(ours - theirs)}
    return {"same_tokens": sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours)}


def main() -> None:
    """Print one row and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("validation", *NEW_TOKENS), default="validation")
    parser.add_argument("--workload", default="sst2", help="of bench.workloads, or rows:<dataset>")
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--method", choices=METHODS, default="lora")
    parser.add_argument("--rows", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(given.what, given.workload, given.size, given.vocab, given.method, given.rows, given.rounds)
    for key, value in found.items():
        print(f"{key}: {value}")
    print(json.dumps({**found, **machine()}))


if __name__ == "__main__":
    main()
