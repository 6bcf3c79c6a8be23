"""Figures of the explanations: docs/engine.svg and docs/protocol.svg.

python tools/docs_figures.py
"""

from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

DOCS = Path(__file__).resolve().parents[1] / "docs"
COLOURS = {"common beginning": "#0072B2", "own text": "#56B4E9", "answer": "#D55E00", "padding": "#DDDDDD"}
"""Okabe and Ito's, which differ for colour-blind people."""
SHARED, OWN, ANSWER = 18, (9, 5, 16, 7), 2
"""Tokens of an example."""


def cells(axes: Any, x: float, y: float, kinds: list[tuple[str, int]]) -> float:
    """Boxes of tokens from left to right; returns where they end."""
    for kind, count in kinds:
        axes.add_patch(Rectangle((x, y), count, 0.8, facecolor=COLOURS[kind], edgecolor="white", linewidth=0.8))
        x += count
    return x


def engine() -> None:
    """Four samples padded side by side, and the same as one stream."""
    longest = max(OWN)
    figure, (above, below) = plt.subplots(2, 1, figsize=(8, 3.6), height_ratios=(4, 1.4))
    for row, length in enumerate(OWN):
        own, rest = ("own text", length), ("padding", longest - length)
        kinds = [("common beginning", SHARED), own, ("answer", ANSWER), rest]
        cells(above, 0, len(OWN) - 1 - row, kinds)
    padded = len(OWN) * (SHARED + longest + ANSWER)
    above.set_title(f"side by side, padded: {padded} tokens, logits of each", loc="left", fontsize=10)
    end = cells(below, 0, 0, [("common beginning", SHARED)])
    for length in OWN:
        end = cells(below, end, 0, [("own text", length), ("answer", ANSWER)])
    below.set_title(f"one stream: {int(end)} tokens, logits of {len(OWN) * ANSWER}", loc="left", fontsize=10)
    for axes, height in ((above, len(OWN)), (below, 1)):
        axes.set_xlim(0, max(end, SHARED + longest + ANSWER))
        axes.set_ylim(-0.1, height)
        axes.axis("off")
    handles = [Rectangle((0, 0), 1, 1, facecolor=colour) for colour in COLOURS.values()]
    figure.legend(handles, COLOURS, loc="lower center", ncols=4, frameon=False, fontsize=9)
    save(figure, "engine.svg")


def protocol() -> None:
    """The way of a row to a score, as boxes."""
    steps = (
        ("rows", "at a commit,\nhashed"),
        ("splits", "a tenth held out,\ngroups whole"),
        ("prompt", "instruction,\nfields, template"),
        ("answer", "greedy,\nto a limit"),
        ("scores", "corrected and\npublished"),
    )
    figure, axes = plt.subplots(figsize=(8, 1.7))
    for number, (title, text) in enumerate(steps):
        x = 2.0 * number
        axes.add_patch(FancyBboxPatch((x, 0), 1.45, 1.3, boxstyle="round,pad=0.05", fc="#EAF3F9", ec="#0072B2"))
        axes.text(x + 0.72, 1.08, title, ha="center", va="center", fontsize=11, weight="bold", color="#222222")
        axes.text(x + 0.72, 0.5, text, ha="center", va="center", fontsize=8, color="#222222")
        if number:
            axes.annotate("", (x - 0.08, 0.65), (x - 0.47, 0.65), arrowprops={"arrowstyle": "->"})
    axes.set_xlim(-0.15, 9.6)
    axes.set_ylim(-0.15, 1.45)
    axes.axis("off")
    save(figure, "protocol.svg")


def save(figure: Any, name: str) -> None:
    """Write an SVG that is the same each time, on white, so that it can be read in the dark as well."""
    mpl.rcParams["svg.hashsalt"] = name
    figure.savefig(DOCS / name, bbox_inches="tight", facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    engine()
    protocol()
