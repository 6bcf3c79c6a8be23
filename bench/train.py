"""One training step of ours against Hugging Face Trainer with PEFT, one row of the table a call.

    python -m bench.train --workload sst2 --size mid --vocab 32000 --method lora --rounds 7

Column (a) is Trainer as it comes, padded; column (b) the same with gradient checkpointing, the reference's
setting, empty where PEFT refuses it (prefix tuning). The last line printed is one JSON object.
"""

import argparse
import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.pairs import interleaved, machine, matmul_peak
from bench.peers import TrainerPeer
from bench.workloads import BATCH, SIZES, model_of, samples_of, useful_flops, vocabulary_of
from peftbench.efficiency.profile import Peak
from peftbench.engine.model import LanguageModel
from peftbench.engine.pack import Sample
from peftbench.engine.runs import TrainingRun
from peftbench.engine.train import Group
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.records import TrainingConfig
from peftbench.schema import MethodChoice

METHODS = ("lora", "ia3", "ln_tuning", "prompt_tuning", "p_tuning", "prefix_tuning")
WARMUP = 2
MEASURED_ONCE = 2
"""Further steps: one for the memory of each side."""


def measure(
    workload: str,
    size: str,
    vocabulary: int,
    method: str,
    *,
    rounds: int,
    dropout: float = 0.0,
    runs: int = 1,
    device: str = "cpu",
    against: tuple[str, ...] = ("trainer", "checkpointing"),
) -> dict[str, Any]:
    """Ratios, useful-FLOP fraction and peak memory of one row of the table."""
    steps = rounds + WARMUP + MEASURED_ONCE
    vocabulary = vocabulary_of(workload, vocabulary)
    samples = samples_of(workload, steps * BATCH, vocabulary)
    cuda = device != "cpu"
    dtype = torch.bfloat16 if cuda else torch.float32
    model = LanguageModel(model_of(size, vocabulary, dtype, device))
    seeds = range(runs)
    ours = a_group(model, method, samples, seeds, dropout)
    batches = [ours.runs[0].batch(step) for step in range(steps)]
    found: dict[str, Any] = {
        "workload": workload,
        "size": size,
        "vocabulary": vocabulary,
        "method": method,
        "dropout": dropout,
        "runs": runs,
        "shared_tokens": len(ours.shared) if ours.share else 0,
        "tokens_of_a_batch": round(sum(sample.tokens for batch in batches for sample in batch) / steps),
    }
    for name in against:
        found[f"ratio_vs_{name}"] = None
        if name == "checkpointing" and method == "prefix_tuning":
            continue  # PEFT refuses it
        if name == "alone":
            peer: Any = OneByOne([a_group(model, method, samples, [seed], dropout) for seed in seeds])
            each = 1
        else:
            theirs = model_of(size, vocabulary, dtype, device)
            checkpointing = name == "checkpointing"
            peer = TrainerPeer(theirs, method, batches, dropout=dropout, checkpointing=checkpointing, bf16=cuda)
            each = runs  # one step of ours is a step of every run
        with ours.adapter.attached() if name != "alone" else contextlib.nullcontext(), quiet():
            step = ours.update if name != "alone" else attached_update(ours)
            ratio = interleaved(step, peer.step, rounds=rounds, warmup=WARMUP, sync=cuda)
            found[f"ratio_vs_{name}"] = each * ratio.median
            found[f"ratio_vs_{name}_middle_half"] = [each * ratio.low, each * ratio.high]
            found["pairs"] = ratio.pairs
            found[f"{name}_seconds"] = ratio.seconds_theirs
            found.setdefault("seconds", ratio.seconds_ours)
            if name != "alone":
                with Peak(device) as peak_memory:
                    ours.update()
                found["peak_bytes"] = peak_memory.bytes
                found[f"{name}_peak_bytes"] = peer.measure_peak()
        peer.close()
        del peer
        for outcome in ours.outcomes:
            outcome.step = 0
    peak = matmul_peak(device, dtype)
    useful = [useful_flops(model.module, batch, ours.adapter.embedded_tokens) for batch in batches]
    found["tokens_per_second"] = runs * found["tokens_of_a_batch"] / found["seconds"]
    found["weight_bytes"] = sum(parameter.nbytes for parameter in model.module.parameters())
    found["matmul_peak_flops"] = peak
    found["useful_flop_fraction"] = runs * sum(useful) / len(useful) / found["seconds"] / peak
    return found


def a_group(
    model: LanguageModel, method: str, samples: list[Sample], seeds: Sequence[int], dropout: float
) -> Group:
    """Runs of one method that differ by their seed."""
    spec = methods.get(method)
    own = {"dropout": dropout} if method == "lora" else {}
    settings = MethodChoice(name=method, settings=own).settings_for(spec)
    adapter = build_adapter(spec, model.module, settings, seeds)
    return Group(model, adapter, [TrainingRun(seed, tuple(samples), (), TrainingConfig()) for seed in seeds])


class OneByOne:
    """The same runs one after another."""

    def __init__(self, groups: list[Group]) -> None:
        self.steps = [attached_update(group) for group in groups]

    def step(self) -> None:
        """One step of each."""
        for step in self.steps:
            step()

    def close(self) -> None:
        """Nothing to end."""


def attached_update(group: Group) -> Callable[[], None]:
    """A step with the adapter put in place for it alone, as several groups over one model need it."""

    def step() -> None:
        with group.adapter.attached():
            group.update()

    return step


@contextlib.contextmanager
def quiet() -> Any:
    """Trainer's log lines go nowhere."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def main() -> None:
    """Print one row and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", default="sst2", help="of bench.workloads, or rows:<dataset>")
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--method", choices=METHODS, default="lora")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--runs", type=int, default=1, help="runs fused into one pass")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against", default="trainer,checkpointing", help="of trainer, checkpointing, alone")
    given = parser.parse_args()
    if given.device == "cpu":
        torch.set_num_threads(1)
    found = measure(
        given.workload,
        given.size,
        given.vocab,
        given.method,
        rounds=given.rounds,
        dropout=given.dropout,
        runs=given.runs,
        device=given.device,
        against=tuple(given.against.split(",")),
    )
    for key, value in found.items():
        print(f"{key}: {value}")
    print(json.dumps({**found, **machine(given.device)}))


if __name__ == "__main__":
    main()
