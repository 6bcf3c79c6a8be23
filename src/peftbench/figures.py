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
_PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
"""Colours that people with any common colour blindness can tell apart (Okabe and Ito 2008)."""
_DRAWN, _DATA = (".svg", ".png", ".pdf"), (".csv", ".json")


def check_name(file: Path) -> None:
    """Raise `ConfigError` for a file whose ending is not one that a map can be written as."""
    if file.suffix.lower() not in _DRAWN + _DATA:
        raise ConfigError(f"the map's file is {file.name!r}, expected it to end in {', '.join(_DRAWN + _DATA)}")


def write_maps(file: Path, maps: Sequence[SensitivityMap], title: str) -> None:
    """Write maps as the ending of `file` says: drawn (.svg, .png, .pdf), or one row a point (.csv, .json).

    Raises `ConfigError` for another ending and where matplotlib is not installed, `DataError` where the file
    cannot be written.
    """
    check_name(file)
    kind = file.suffix.lower()
    with explained(file):
        if kind in _DRAWN:
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
    methods = maps[0].methods
    won = [number for number in range(len(methods)) if any((each.winner == number).any() for each in maps)]
    colours = {number: _PALETTE[place % len(_PALETTE)] for place, number in enumerate(won)}
    with matplotlib.rc_context({"svg.hashsalt": "peftbench", "hatch.linewidth": 0.6, "font.size": 9}):
        figure = Figure(figsize=(10.5, 6.2), layout="constrained")
        grid: Any = figure.subplots(len(maps), 4, squeeze=False)
        for row, each in zip(grid, maps, strict=True):
            for panel, place in zip(row, _slices(each), strict=True):
                _panel(panel, each, place, colours)
            row[0].set_ylabel(_label(each, "memory"))
        figure.suptitle(f"Which method has the highest PSCP?\n{title}", fontsize=10)
        handles = [Patch(facecolor=colours[number], label=methods[number]) for number in won]
        doubt = (
            f"less than {AHEAD:.0%} ahead of the second"
            if maps[0].share is None
            else f"wins in less than {SURE:.0%} of the replicates"
        )
        handles.append(Patch(facecolor="white", edgecolor="black", hatch="////", label=doubt))
        handles.append(
            Line2D([], [], marker="+", color="black", linestyle="none", markersize=9, label="as in the table")
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
        with draft_of(file) as draft:
            figure.savefig(draft, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)


def _slices(each: SensitivityMap) -> list[int]:
    """Which values of the FLOPs axis get a panel."""
    wanted = (0, 1, 2, 4) if each.over == "exponents" else (0.01, 0.1, 1, 10)
    values = np.array(each.axes[1])
    return [int(np.abs(values - value).argmin()) for value in wanted]


def _panel(panel: "Axes", each: SensitivityMap, place: int, colours: dict[int, str]) -> None:
    from matplotlib.colors import ListedColormap

    winner = each.winner[:, place, :].T
    doubt = (each.lead[:, place, :] < AHEAD if each.share is None else each.share[:, place, :] < SURE).T
    numbers = np.vectorize(list(colours).index)(winner)
    x, y = _edges(each, 0), _edges(each, 2)
    cells = ListedColormap(list(colours.values()))
    panel.pcolormesh(x, y, numbers, cmap=cells, vmin=-0.5, vmax=len(colours) - 0.5, rasterized=False)
    hatched = np.ma.masked_where(~doubt, np.ones(doubt.shape))
    panel.pcolor(x, y, hatched, hatch="////", alpha=0.0)
    if each.over == "references":
        panel.set_xscale("log")
        panel.set_yscale("log")
    value = each.axes[1][place]
    if np.isclose(value, 1):
        panel.plot(1, 1, marker="+", color="black", markersize=9)
    panel.set_title(f"{_label(each, 'FLOPs')} {value:g}", fontsize=9)
    panel.set_xlabel(_label(each, "params"))


def _edges(each: SensitivityMap, axis: int) -> Any:
    """Edges of cells around the values of an axis, halfway between them; by ratio for references."""
    values = np.array(each.axes[axis])
    if each.over == "references":
        values = np.log(values)
    middles = (values[1:] + values[:-1]) / 2
    edges = np.concatenate([[values[0] - (middles[0] - values[0])], middles, [2 * values[-1] - middles[-1]]])
    return np.exp(edges) if each.over == "references" else edges


def _label(each: SensitivityMap, name: str) -> str:
    return f"importance of {name}" if each.over == "exponents" else f"reference of {name}, times"
