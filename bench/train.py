"""One training step of ours against Hugging Face Trainer with PEFT, one row of the table a call.

    python -m bench.train --workload sst2 --size mid --vocab 32000 --method lora --rounds 7

Column (a) is Trainer as it comes, padded; column (b) the same with gradient checkpointing, the reference's
setting, empty where PEFT refuses it (prefix tuning). The last line printed is one JSON object.
"""

import argparse
import contextlib
import json
import os
from pathlib import Path
from typing import Any

import torch

from bench.pairs import Peak, interleaved, machine, matmul_peak
from bench.peers import TrainerPeer
from bench.workloads import BATCH, SIZES, WORKLOADS, model_of, samples_of, useful_flops
from peftbench.engine.model import LanguageModel
from peftbench.engine.runs import TrainingRun
from peftbench.engine.train import Group
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.records import TrainingConfig
from peftbench.schema import MethodChoice

METHODS = ("lora", "ia3", "ln_tuning", "prompt_tuning", "p_tuning", "prefix_tuning")


def measure(
    workload: str,
    size: str,
    vocabulary: int,
    method: str,
    *,
    rounds: int,
    dropout: float,
    runs: int = 1,
    device: str = "cpu",
) -> dict[str, Any]:
    """Ratios, useful-FLOP fraction and peak memory of one row of the table."""
    steps = rounds + 4
    samples = samples_of(workload, steps * BATCH, vocabulary)
    cuda = device != "cpu"
    dtype = torch.bfloat16 if cuda else torch.float32
    model = LanguageModel(model_of(size, vocabulary, dtype, device))
    spec = methods.get(method)
    settings = MethodChoice(name=method, settings={"dropout": dropout} if method == "lora" else {}).settings_for(
        spec
    )
    config = TrainingConfig(epochs=1)
    group = [TrainingRun(seed, tuple(samples), (), config) for seed in range(runs)]
    adapter = build_adapter(spec, model.module, settings, range(runs))
    ours = Group(model, adapter, group)
    batches = [group[0].batch(step) for step in range(steps)]
    found: dict[str, Any] = {
        "workload": workload,
        "size": size,
        "vocabulary": vocabulary,
        "method": method,
        "dropout": dropout,
        "runs": runs,
        "shared_tokens": len(ours.shared),
        "shares": ours.share,
    }
    for name, checkpointing in (("trainer", False), ("checkpointing", True)):
        if checkpointing and method == "prefix_tuning":
            found["ratio_vs_checkpointing"] = None
            continue
        peer = TrainerPeer(
            model_of(size, vocabulary, dtype, device),
            method,
            batches,
            dropout=dropout,
            checkpointing=checkpointing,
            bf16=cuda,
        )
        with adapter.attached(), quiet():
            ratio = interleaved(ours.update, peer.step, rounds=rounds, sync=cuda)
            found[f"ratio_vs_{name}"] = ratio.median * runs
            found[f"ratio_vs_{name}_middle_half"] = [ratio.low * runs, ratio.high * runs]
            if not checkpointing:
                found["pairs"] = ratio.pairs
                found["seconds"] = ratio.seconds_ours
                found["trainer_seconds"] = ratio.seconds_theirs
                with Peak() as peak_memory:
                    ours.update()
                found["peak_bytes"] = peak_memory.bytes
                found["trainer_peak_bytes"] = peer.measure_peak()
        peer.close()
        ours.outcomes[0].step = 0
    peak = matmul_peak(device, dtype)
    useful = sum(useful_flops(model.module, batch, adapter.embedded_tokens) for batch in batches) / len(batches)
    found["matmul_peak_flops"] = peak
    found["useful_flop_fraction"] = runs * useful / found["seconds"] / peak
    return found


@contextlib.contextmanager
def quiet() -> Any:
    """Trainer's log lines go nowhere."""
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield


def main() -> None:
    """Print one row and its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", choices=WORKLOADS, default="sst2")
    parser.add_argument("--size", choices=SIZES, default="mid")
    parser.add_argument("--vocab", type=int, default=32000)
    parser.add_argument("--method", choices=METHODS, default="lora")
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--runs", type=int, default=1, help="runs fused into one pass")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
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
    )
    for key, value in found.items():
        print(f"{key}: {value}")
    print(json.dumps({**found, **machine()}))


if __name__ == "__main__":
    main()
