"""The critical-difference diagram as a figure (Demšar 2006, section 3.2.4) and as data.

Methods hang from an axis of mean ranks, the best on the left; bars join those that are not told apart. Needs the
extra `figures`; data needs nothing.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.disk import draft_of, explained, write_text
from peftbench.errors import ConfigError
from peftbench.figures import plain
from peftbench.stats import RankDiagram

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_DRAWN, _DATA = (".svg", ".png", ".pdf"), (".json",)
_GREY = "#444444"


def check_diagram_name(file: Path) -> None:
    """Raise `ConfigError` for a file whose ending is not one that a diagram can be written as."""
    if file.suffix.lower() not in _DRAWN + _DATA:
        raise ConfigError(
            f"the diagram's file is {file.name!r}, expected it to end in {', '.join(_DRAWN + _DATA)}"
        )


def write_diagram(file: Path, diagram: RankDiagram, title: str) -> None:
    """Write a diagram as the ending of `file` says: drawn (.svg, .png, .pdf), or its numbers (.json).

    Raises `ConfigError` for another ending and where matplotlib is not installed, `DataError` where the file
    cannot be written.
    """
    check_diagram_name(file)
    with explained(file):
        if file.suffix.lower() in _DATA:
            write_text(file, json.dumps(asdict(diagram), indent=1, allow_nan=False) + "\n")
            return
        _draw(file, file.suffix.lower()[1:], diagram, title)


def _draw(file: Path, kind: str, diagram: RankDiagram, title: str) -> None:
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ConfigError(
            "matplotlib is not installed; install what draws figures: pip install peftbench[figures], or take the "
            "diagram as data: --diagram ranks.json"
        ) from error
    count = len(diagram.methods)
    depth = (max(_levels(diagram), default=-1) + 1) * 0.22 + (count + 1) // 2 * 0.3 + 0.15
    with matplotlib.rc_context({"svg.hashsalt": "peftbench", "font.size": 9}):
        figure = Figure(figsize=(7.5, depth + 1.15), layout="constrained")
        panel: Any = figure.subplots()
        figure.suptitle(f"Mean rank over datasets, 1 is best\n{plain(title)}\n{_said(diagram)}", fontsize=9)
        _panel(panel, diagram, depth)
        with draft_of(file) as draft:
            figure.savefig(draft, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)


def _said(diagram: RankDiagram) -> str:
    """How the bars came about, in one line."""
    test = "Nemenyi" if diagram.procedure == "nemenyi" else "Wilcoxon with Holm"
    return (
        f"Friedman p {p_text(diagram.friedman_p)}; a bar joins methods that {test} does not tell apart at "
        f"{diagram.alpha:g}"
    )


def p_text(p: float) -> str:
    """A p-value with as many digits as can be read."""
    return "under 0.0001" if p < 0.0001 else f"{p:.4f}" if p < 0.01 else f"{p:.2f}"


def _levels(diagram: RankDiagram) -> list[int]:
    """The height of each bar, counted downwards: as high as it can be without meeting another."""
    ends: list[float] = []
    found = []
    for first, last in diagram.groups:
        begin = diagram.mean_ranks[first]
        level = next((place for place, end in enumerate(ends) if end + 0.2 < begin), len(ends))
        ends[level : level + 1] = [diagram.mean_ranks[last]]
        found.append(level)
    return found


def _panel(panel: "Axes", diagram: RankDiagram, depth: float) -> None:
    """Axis at height 0, bars below it, then the names, each at the end of a line from its rank."""
    count = len(diagram.methods)
    panel.set_xlim(0.3 - 0.18 * count, count + 0.7 + 0.18 * count)
    panel.set_ylim(-depth, 0.75 if diagram.critical else 0.4)
    panel.axis("off")
    panel.plot([1, count], [0, 0], color="black", linewidth=1)
    for tick in range(1, count + 1):
        panel.plot([tick, tick], [0, 0.07], color="black", linewidth=1)
        panel.text(tick, 0.12, str(tick), ha="center", va="bottom")
    levels = _levels(diagram)
    below = (max(levels, default=-1) + 1) * 0.22 + 0.2
    half = (count + 1) // 2
    for place, (method, rank) in enumerate(zip(diagram.methods, diagram.mean_ranks, strict=True)):
        left = place < half
        line = place if left else count - 1 - place
        height = -below - 0.3 * line
        end = 0.75 if left else count + 0.25
        panel.plot([rank, rank, end], [0, height, height], color=_GREY, linewidth=0.8)
        label = f"{plain(method)}  {rank:.2f}" if left else f"{rank:.2f}  {plain(method)}"
        panel.text(end + (-0.08 if left else 0.08), height, label, ha="right" if left else "left", va="center")
    for level, (first, last) in zip(levels, diagram.groups, strict=True):
        height = -0.14 - 0.22 * level
        ends = [diagram.mean_ranks[first] - 0.04, diagram.mean_ranks[last] + 0.04]
        panel.plot(ends, [height, height], color="#0072B2", linewidth=3.5, solid_capstyle="butt")
    if diagram.critical is not None:
        panel.plot([1, 1 + diagram.critical], [0.5, 0.5], color=_GREY, linewidth=1.5)
        for end in (1, 1 + diagram.critical):
            panel.plot([end, end], [0.45, 0.55], color=_GREY, linewidth=1.5)
        panel.text(
            1 + diagram.critical / 2, 0.57, f"critical difference {diagram.critical:.2f}", ha="center", va="bottom"
        )
