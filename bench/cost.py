"""The tables of `docs/cost.md`: Llama-3-8B beside the paper, and predictions beside measurements on this CPU.

    python -m bench.cost --table paper        # seconds
    python -m bench.cost --table memory       # about two minutes
    python -m bench.cost --table time         # calibrates first; about four minutes

Tables are printed in Markdown. Times are processor times of one thread.
"""

import argparse
import gc
import math
import tempfile
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch

from bench.workloads import model_of
from peftbench.efficiency.calibrate import calibrate
from peftbench.efficiency.cost import Engine, Prediction
from peftbench.efficiency.devices import find_device, roofline
from peftbench.efficiency.passes import Load, Training, stock_attention
from peftbench.efficiency.plan import predict
from peftbench.efficiency.profile import Peak
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.schema import MethodChoice

METHODS = ("ia3", "prompt_tuning", "p_tuning", "prefix_tuning", "lora", "ln_tuning")
# Table 3 of the paper: memory in GB; TFLOPs of a forward pass behind its penalties, base 8.38.
PRINTED = {
    "ia3": (28.41, 8.69),
    "prompt_tuning": (42.47, 10.05),
    "p_tuning": (34.53, 10.06),
    "prefix_tuning": (27.61, 8.39),
    "lora": (27.75, 8.38),
    "ln_tuning": (27.43, 8.38),
}
LOADS = {
    "short": Load(4, 64, 4, 40),
    "long": Load(4, 256, 8),
    "long, layers again": Load(4, 256, 8, gradient_checkpointing=True),
}
VOCABULARY = 8000


def paper() -> None:
    """Llama-3-8B in bfloat16, batch 4: what is predicted beside what is printed."""
    rows = []
    for method in METHODS:
        found = [
            predict(
                "llama-3-8b",
                None,
                MethodChoice(name=method),
                batch=4,
                tokens=512,
                dtype="bfloat16",
                engine=engine,
                gradient_checkpointing=again,
            ).peak_train_memory_bytes
            if (engine, again, method) != ("padded", True, "prefix_tuning")
            else None
            for engine in ("packed", "padded")
            for again in (False, True)
        ]
        one = predict(
            "llama-3-8b", None, MethodChoice(name=method), batch=4, tokens=512, dtype="bfloat16", engine="packed"
        )
        memory, flops = PRINTED[method]
        rows.append(
            [
                method,
                f"{one.trainable_params:,}",
                f"{one.forward_flops / 1e12:.3f}",
                f"{one.extra_forward_flops / 1e9:,.3f}",
                f"{flops:.2f}",
                *("-" if each is None else f"{each / 1e9:.1f}" for each in found),
                f"{memory:.2f}",
            ]
        )
    print_rows(
        ["method", "trainable", "forward, TFLOP", "over the base, GFLOP", "printed, TFLOP", "packed, GB",
         "packed, again, GB", "padded, GB", "padded, again, GB", "printed, GB"],
        rows,
    )  # fmt: skip


def memory() -> None:
    """Live bytes of a training step, predicted and counted by the allocator."""
    rows, far = [], []
    for size, method, engine, what, load in combinations():
        predicted, training, _ = both(size, method, engine, load)
        kept = bytes_of([*training.module.parameters(), *training.module.buffers(), *training.held])
        with Peak() as peak:
            training.step()
        assert peak.bytes is not None
        assert predicted.peak_train_memory_bytes is not None
        counted = kept + peak.bytes
        far.append(predicted.peak_train_memory_bytes / counted - 1)
        rows.append(
            [size, method, engine, what, f"{predicted.peak_train_memory_bytes / 1e6:.2f}", f"{counted / 1e6:.2f}",
             f"{100 * far[-1]:+.2f} %"]
        )  # fmt: skip
    print_rows(["model", "method", "engine", "samples", "predicted, MB", "allocated, MB", "difference"], rows)
    print(f"\nlargest difference {100 * max(map(abs, far)):.2f} %, {len(far)} combinations")


def times() -> None:
    """Seconds of a training step, predicted from rates measured just before, and measured."""
    device = find_device(calibrate("cpu").device)
    rows, far, outside = [], [], 0
    for size, method, engine, what, load in combinations():
        if load.gradient_checkpointing:
            continue
        predicted, training, _ = both(size, method, engine, load)
        expected = roofline(predicted, device).step_seconds
        assert expected is not None
        training.step()
        taken = median(processor_seconds(training) for _ in range(3))
        far.append(abs(math.log(expected.middle / taken)))
        outside += not expected.low <= taken <= expected.high
        rows.append(
            [size, method, engine, what, f"{expected.low * 1e3:.0f} to {expected.high * 1e3:.0f}",
             f"{expected.middle * 1e3:.0f}", f"{taken * 1e3:.0f}", f"{expected.middle / taken:.2f}"]
        )  # fmt: skip
    print_rows(
        ["model", "method", "engine", "samples", "predicted, ms", "middle", "measured, ms", "middle / measured"],
        rows,
    )
    print(
        f"\n{outside} of {len(far)} outside of their range; the middle is off by a factor of "
        f"{math.exp(sum(far) / len(far)):.2f} on average, {math.exp(max(far)):.2f} at most"
    )


def combinations() -> Iterator[tuple[str, str, Engine, str, Load]]:
    """Model, method, engine and samples of each row."""
    engines: tuple[Engine, ...] = ("packed", "padded")
    for method in METHODS:
        for engine in engines:
            for what, load in LOADS.items():
                if (engine, method, load.gradient_checkpointing) != ("padded", "prefix_tuning", True):
                    yield "small", method, engine, what, load
    for method in ("lora", "prompt_tuning"):
        for engine in engines:
            yield "mid", method, engine, "long", LOADS["long"]


def both(size: str, method: str, engine: Engine, load: Load) -> tuple[Prediction, Training, Any]:
    """The prediction for a model of this size, and the same training on real tensors."""
    gc.collect()
    torch.set_num_threads(1)
    module = model_of(size, VOCABULARY).requires_grad_(False)
    with tempfile.TemporaryDirectory() as folder:
        module.config.save_pretrained(folder)
        predicted = predict(
            folder,
            None,
            MethodChoice(name=method),
            batch=load.batch,
            tokens=load.tokens,
            answer_tokens=load.answer_tokens,
            shared_tokens=load.shared_tokens,
            gradient_checkpointing=load.gradient_checkpointing,
            dtype="float32",
            engine=engine,
            kernels="cpu",
        )
    if engine == "padded":
        stock_attention(module)
    spec = methods.get(method)
    adapter = build_adapter(spec, module, MethodChoice(name=method).settings_for(spec), [0])
    return predicted, Training(module, adapter, load, engine), module


def processor_seconds(training: Training) -> float:
    """Processor time of one step."""
    begun = time.process_time()
    training.step()
    return time.process_time() - begun


def bytes_of(tensors: list[torch.Tensor]) -> int:
    """Bytes of the storages behind tensors, each counted once."""
    found = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in tensors}
    return sum(found.values())


def print_rows(columns: list[str], rows: list[list[str]]) -> None:
    """A table in Markdown."""
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    for row in rows:
        print("| " + " | ".join(row) + " |", flush=True)


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--table", choices=("paper", "memory", "time"), required=True)
    {"paper": paper, "memory": memory, "time": times}[parser.parse_args().table]()


if __name__ == "__main__":
    main()
