"""The course of predicted memory over a training step: a figure, which needs the extra `figures`, or data."""

import csv
import io
from pathlib import Path
from typing import get_args

from peftbench.disk import draft_of, explained, write_text
from peftbench.efficiency.cost import Kind, Prediction
from peftbench.errors import ConfigError

_COLOURS = {
    "weights": "#999999",
    "adapters": "#0072B2",
    "gradients": "#56B4E9",
    "optimizer": "#CC79A7",
    "activations": "#E69F00",
    "logits": "#D55E00",
}
"""Told apart by people with any common colour blindness (Okabe and Ito 2008)."""


def check_timeline(file: Path) -> None:
    """Raise `ConfigError` for a file whose ending is not one that a timeline can be written as."""
    if file.suffix.lower() not in (".svg", ".png", ".pdf", ".csv"):
        raise ConfigError(f"the timeline's file is {file.name!r}, expected it to end in .svg, .png, .pdf or .csv")


def write_timeline(file: Path, prediction: Prediction) -> None:
    """Write live bytes by kind over the operators of a training step: drawn, or one row a point (.csv).

    Raises `ConfigError` for another ending, for the base model, which is not trained, and where matplotlib is not
    installed; `DataError` where the file cannot be written.
    """
    check_timeline(file)
    if not prediction.memory_timeline:
        raise ConfigError(f"method {prediction.method.name!r} is not trained, so that there is no training step")
    kinds = [kind for kind in get_args(Kind) if any(point.bytes[kind] for point in prediction.memory_timeline)]
    with explained(file):
        if file.suffix.lower() == ".csv":
            out = io.StringIO()
            rows = csv.writer(out, lineterminator="\n")
            rows.writerow(["operator", *(f"{kind}_bytes" for kind in kinds), "total_bytes"])
            for point in prediction.memory_timeline:
                rows.writerow([point.operator, *(point.bytes[kind] for kind in kinds), point.total_bytes])
            write_text(file, out.getvalue())
            return
        _draw(file, prediction, kinds)


def _draw(file: Path, prediction: Prediction, kinds: list[Kind]) -> None:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ConfigError(
            "matplotlib is not installed; install what draws figures: pip install peftbench[figures], or take the "
            "timeline as data: --timeline memory.csv"
        ) from error
    points = prediction.memory_timeline
    peak = max(points, key=lambda point: point.total_bytes)
    with matplotlib.rc_context({"svg.hashsalt": "peftbench", "font.size": 9}):
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        axes.stackplot(
            [point.operator for point in points],
            [[point.bytes[kind] / 1e9 for point in points] for kind in kinds],
            labels=kinds,
            colors=[_COLOURS[kind] for kind in kinds],
            step="mid",
        )
        axes.annotate(
            f"{peak.total_bytes / 1e9:.2f} GB",
            (peak.operator, peak.total_bytes / 1e9),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
        )
        axes.set_ylim(0, peak.total_bytes / 1e9 * 1.12)
        axes.set_xlim(points[0].operator, points[-1].operator)
        axes.set_xlabel("operators of one training step: forward, backward, optimizer")
        axes.set_ylabel("live memory, GB")
        again = ", layers computed again" if prediction.gradient_checkpointing else ""
        model = prediction.model.rstrip("/").split("/")[-1]
        axes.set_title(
            f"{prediction.method} on {model}, {prediction.dtype}, {prediction.batch} x {prediction.tokens} "
            f"tokens, {prediction.engine}{again}; predicted".replace("$", r"\$"),
            fontsize=9,
        )
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower center", ncols=len(kinds), frameon=False, reverse=False)
        with draft_of(file) as draft:
            kind = file.suffix.lower()[1:]
            figure.savefig(draft, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
