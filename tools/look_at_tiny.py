"""What `peftbench-tiny` has learned: its loss curve as a figure, and how often it answers each kind of document.

python tools/look_at_tiny.py FOLDER    draws FOLDER/curve.svg, prints a table of fresh documents answered
"""

import csv
import sys
from pathlib import Path
from random import Random

import matplotlib
import torch
from matplotlib import pyplot
from transformers import AutoTokenizer, LlamaForCausalLM

from pretrain_tiny import encode
from tiny_corpus import _KINDS

DOCUMENTS = 200


def draw(folder: Path) -> None:
    """The loss over the tokens seen."""
    with (folder / "curve.csv").open(encoding="utf-8") as file:
        points = [(int(row["tokens"]) / 1e6, float(row["loss"])) for row in csv.DictReader(file)]
    matplotlib.rcParams["svg.hashsalt"] = "peftbench"
    figure, axes = pyplot.subplots(figsize=(7, 3.5), layout="constrained")
    axes.plot(*zip(*points, strict=True), linewidth=1.2)
    axes.set(yscale="log", xlabel="million tokens", ylabel="loss of answers and messages, nats")
    axes.set_title("Pre-training of peftbench-tiny", fontsize=10)
    axes.grid(alpha=0.3, which="both")
    figure.savefig(folder / "curve.svg", metadata={"Date": None})


@torch.no_grad()
def answered(folder: Path) -> dict[str, float]:
    """Kind of document to the share whose whole answer is the likeliest, token by token."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    random, shares = Random("documents never trained on"), {}
    for kind, _ in _KINDS:
        right = 0
        for _ in range(DOCUMENTS):
            ids, before = encode(tokenizer, kind(random))
            found = model(input_ids=torch.tensor([ids])).logits[0, before - 1 : -1].argmax(-1)
            right += found.tolist() == ids[before:]
        shares[kind.__name__] = right / DOCUMENTS
    return shares


def main() -> None:
    """Figure and table."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    draw(folder)
    for kind, share in answered(folder).items():
        print(f"| {kind} | {share:.0%} |")


if __name__ == "__main__":
    main()
