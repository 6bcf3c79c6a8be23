"""How far the engine is from the stock Hugging Face model: the largest relative difference, in float64.

    python -m bench.parity

For each family: logits and LoRA gradients of packed samples, with the shared prefix, and of three runs in one
pass, against one unpadded sample at a time. Then all methods on two families. The same comparisons are tests; this
prints their numbers.
"""

import torch
from tests.oracle import SIX, build, disturb, engine_model, float64_throughout, some_samples, stock_model
from torch import Tensor

from peftbench.engine.loss import sample_losses
from peftbench.engine.pack import common_prefix, pack
from peftbench.engine.padded import PaddedModel
from peftbench.testing import FAMILIES


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference relative to the largest value."""
    return float((ours - theirs).abs().max() / theirs.abs().max())


def errors(family: str, method: str) -> list[float]:
    """Packed, shared, and three runs at once, each the worst of logits and gradients."""
    groups = [some_samples(count, seed=7) for count in (4, 2, 3)]
    model, stock = engine_model(family), PaddedModel(stock_model(family), "it is the oracle")
    adapter = build(method, model.module, seeds=(1, 2, 3))
    disturb(adapter)
    expected = []
    for run, samples in enumerate(groups):
        alone = build(method, stock.module)
        alone.load_state(0, adapter.state(run))
        logits, total = [], 0
        answers = sum(len(sample.answer) for sample in samples)
        with alone.attached():
            for sample in samples:
                stream = packed([[sample]], alone, (), share=False)
                found = stock.logits(stream, alone)
                (sample_losses(found, stream).sum() / answers).backward()
                logits.append(found[0].detach())
        total = {name: tensor.grad[0] for name, tensor in alone.tensors.items() if tensor.grad is not None}
        expected.append((torch.cat(logits), total))
    shared = common_prefix(groups[0])
    cases = [([0], False), ([0], True), ([0, 1, 2], True)]
    return [
        worst(model, adapter.select(runs), [groups[run] for run in runs], shared, share, expected)
        for runs, share in cases
    ]


def packed(rows, adapter, shared, *, share):  # type: ignore[no-untyped-def]
    """The stream of these rows."""
    virtual = adapter.virtual_tokens - adapter.embedded_tokens
    embedded = adapter.embedded_tokens
    return pack(rows, shared=shared, share=share, embedded_tokens=embedded, first_position=virtual)


def worst(model, adapter, rows, shared, share, expected) -> float:  # type: ignore[no-untyped-def]
    """The largest difference over the runs of one pass."""
    stream = packed(rows, adapter, shared, share=share)
    with adapter.attached():
        logits = model.logits(stream, adapter)
        counts = torch.tensor([sum(len(sample.answer) for sample in row) for row in rows])
        (sample_losses(logits, stream).sum(1) / counts).sum().backward()
    found = []
    for run in range(len(rows)):
        wanted, gradients = expected[run]
        found.append(difference(logits[run, : len(wanted)].detach(), wanted))
        largest = max(float(each.abs().max()) for each in gradients.values())
        found += [
            float((adapter.tensors[name].grad[run] - each).abs().max()) / largest
            for name, each in gradients.items()
        ]
    return max(found)


def main() -> None:
    """Print the table."""
    print("| family | method | packed | shared prefix | three runs |\n|---|---|---|---|---|")
    cases = [(family, "lora") for family in FAMILIES]
    cases += [(family, method) for family in ("llama", "qwen3") for method in SIX if method != "lora"]
    with float64_throughout():
        for family, method in cases:
            print(
                f"| {family} | {method} | " + " | ".join(f"{each:.0e}" for each in errors(family, method)) + " |"
            )


if __name__ == "__main__":
    main()
