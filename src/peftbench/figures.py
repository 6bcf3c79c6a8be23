"""Sensitivity maps as a figure and as data.

The figure has a row of panels for the importances and one for the references: colour is the method with the
highest PSCP, hatching says where that is not sure. Needs the extra `figures`; data needs nothing.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peftbench.disk import draft_of, explained, write_text
from peftbench.errors import ConfigError
from peftbench.sensitivity import COSTS, SensitivityMap

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SURE, AHEAD = 0.95, 0.01
"""Below this share of replicates, or without replicates below this lead, a point is hatched."""
_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Colours that people with any common colour blindness can tell apart (Okabe and Ito 2008)."""
_OTHER = "#999999"
"""What methods share that win too little for a colour of their own."""
_DRAWN, _DATA = (".svg", ".png", ".pdf"), (".csv", ".json")


def check_name(file: Path) -> None:
    """Raise `ConfigError` for a file whose ending is not one that a map can be written as."""
    if file.suffix.lower() not in _DRAWN + _DATA:
        raise ConfigError(f"the map's file is {file.name!r}, expected it to end in {', '.join(_DRAWN + _DATA)}")


def is_drawn(file: Path) -> bool:
    """Whether a file of this name is a figure, which is drawn from slices."""
    return file.suffix.lower() in _DRAWN


def write_maps(file: Path, maps: Sequence[SensitivityMap], title: str) -> None:
    """Write maps as the ending of `file` says: drawn (.svg, .png, .pdf), or one row a point (.csv, .json).

    Raises `ConfigError` for another ending and where matplotlib is not installed, `DataError` where the file
    cannot be written.
    """
    check_name(file)
    kind = file.suffix.lower()
    with explained(file):
        if is_drawn(file):
            _draw(file, kind[1:], maps, title)
            return
        rows = [row for each in maps for row in points(each)]
        if kind == ".json":
            write_text(file, json.dumps(rows, indent=1, allow_nan=False) + "\n")
            return
        out = io.StringIO()
        writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(file, out.getvalue())


def points(each: SensitivityMap) -> Iterator[dict[str, Any]]:
    """Each point of a map: the three importances or factors of references, who wins, how surely, by how much."""
    for place in np.ndindex(each.winner.shape):
        yield {
            "over": each.over,
            **{name: each.axes[axis][place[axis]] for axis, name in enumerate(COSTS)},
            "winner": each.methods[each.winner[place]],
            "share": None if each.share is None else float(each.share[place]),
            "lead": float(each.lead[place]),
        }


def _draw(file: Path, kind: str, maps: Sequence[SensitivityMap], title: str) -> None:
    try:
        import matplotlib
        from matplotlib.figure import Figure
        from matplotlib.lines import Line2D
        from matplotlib.patches import Patch
    except ModuleNotFoundError as error:
        raise ConfigError(
            "matplotlib is not installed; install what draws figures: pip install peftbench[figures], or take the "
            "map as data: --map map.csv"
        ) from error
    methods, colours = maps[0].methods, _colours(maps)
    with matplotlib.rc_context({"svg.hashsalt": "peftbench", "hatch.linewidth": 0.6, "font.size": 9}):
        figure = Figure(figsize=(10.5, 6.2), layout="constrained")
        figure.get_layout_engine().set(hspace=0.08)  # type: ignore[union-attr, call-arg]
        grid: Any = figure.subplots(len(maps), len(maps[0].axes[1]), squeeze=False, sharey="row")
        for row, each in zip(grid, maps, strict=True):
            for place, panel in enumerate(row):
                _panel(panel, each, place, colours)
            row[0].set_ylabel(_label(each, "memory"))
        figure.suptitle(f"Which method has the highest PSCP?\n{plain(title)}", fontsize=10)
        handles: list[Any] = [
            Patch(facecolor=colour, label=plain(methods[number]))
            for number, colour in colours.items()
            if colour != _OTHER
        ]
        if _OTHER in colours.values():
            handles.append(Patch(facecolor=_OTHER, label="other methods"))
        doubt = (
            f"less than {100 * AHEAD:.0f} % ahead of the second"
            if maps[0].share is None
            else f"wins in less than {100 * SURE:.0f} % of the replicates"
        )
        handles.append(Patch(facecolor="white", edgecolor="#444444", hatch="////", label=doubt))
        handles.append(
            Line2D([], [], marker="+", color="black", linestyle="none", markersize=9, label="as in the table")
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
        with draft_of(file) as draft:
            figure.savefig(draft, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)


def _colours(maps: Sequence[SensitivityMap]) -> dict[int, str]:
    """A colour for each method that wins somewhere; those that win least share one where there are too many."""
    areas = {
        number: sum(float(np.mean(each.winner == number)) for each in maps)
        for number in range(len(maps[0].methods))
    }
    won = [number for number, area in areas.items() if area > 0]
    own = sorted(won, key=lambda number: -areas[number])[: len(_PALETTE)]
    chosen = dict(zip(sorted(own), _PALETTE, strict=False))
    return {number: chosen.get(number, _OTHER) for number in won}


def plain(text: str) -> str:
    """Text as it is, not as mathematics, and not hidden from the legend for how it begins."""
    printable = "".join(character if character.isprintable() else "?" for character in text)
    return f" {printable}".replace("$", r"\$") if printable.startswith("_") else printable.replace("$", r"\$")


def _panel(panel: "Axes", each: SensitivityMap, place: int, colours: dict[int, str]) -> None:
    """One heat map over params and memory, at one value of FLOPs."""
    winner = each.winner[:, place, :].T
    doubt = (each.lead[:, place, :] < AHEAD if each.share is None else each.share[:, place, :] < SURE).T
    x, y = _edges(each, 0), _edges(each, 2)
    for number, colour in colours.items():
        # Edges of the same colour close the seams that anti-aliasing leaves between neighbours.
        panel.add_collection(_cells(winner == number, x, y, facecolor=colour, edgecolor=colour, linewidth=0.3))
    panel.add_collection(_cells(doubt, x, y, facecolor="none", edgecolor="white", linewidth=0, hatch="////"))
    if each.over == "references":
        panel.set_xscale("log")
        panel.set_yscale("log")
    value = each.axes[1][place]
    if np.isclose(value, each.here[1]):
        panel.plot(each.here[0], each.here[2], marker="+", color="black", markersize=10, markeredgewidth=1.5)
    panel.set_xlim(x[0], x[-1])
    panel.set_ylim(y[0], y[-1])
    panel.minorticks_off()
    panel.set_title(_label(each, "FLOPs", f"{value:g}"), fontsize=9)
    panel.set_xlabel(_label(each, "parameters"))


def _cells(where: Any, x: Any, y: Any, **looks: Any) -> Any:
    """The true cells of a grid with these edges, neighbours joined to rectangles: a small file without seams."""
    from matplotlib.collections import PatchCollection
    from matplotlib.patches import Rectangle

    found, growing = [], dict[tuple[int, int], int]()  # columns of a rectangle to the line where it begins
    for line in range(len(where) + 1):
        row = where[line] if line < len(where) else np.zeros(where.shape[1], dtype=bool)
        steps = np.flatnonzero(np.diff(np.concatenate([[False], row, [False]]).astype(int))).tolist()
        here = set(zip(steps[::2], steps[1::2], strict=True))
        for ended in [each for each in growing if each not in here]:
            begin = growing.pop(ended)
            left, right = x[ended[0]], x[ended[1]]
            found.append(Rectangle((left, y[begin]), right - left, y[line] - y[begin]))
        for each in sorted(here):
            growing.setdefault(each, line)
    return PatchCollection(found, **looks)


def _edges(each: SensitivityMap, axis: int) -> Any:
    """Edges of cells around the values of an axis, halfway between them; by ratio for references."""
    values = np.array(each.axes[axis])
    if each.over == "references":
        values = np.log(values)
    middles = (values[1:] + values[:-1]) / 2
    edges = np.concatenate([[values[0] - (middles[0] - values[0])], middles, [2 * values[-1] - middles[-1]]])
    return np.exp(edges) if each.over == "references" else edges


def _label(each: SensitivityMap, name: str, value: str = "") -> str:
    what = "importance of" if each.over == "exponents" else "reference of"
    return f"{what} {name} {'' if each.over == 'exponents' else '× '}{value}".strip()
