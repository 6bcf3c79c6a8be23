"""The figures of a report: stability (Figure 4), scores as a heat map, score against cost, means with intervals.

The critical-difference diagram is drawn by `diagrams`. Each is written as SVG and PNG. Needs the extra `figures`.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from peftbench.candidates import Costs
from peftbench.disk import draft_of, explained
from peftbench.errors import NotInstalled
from peftbench.figures import plain
from peftbench.penalty import GIGA, TERA
from peftbench.report.escaping import one_line, shortened
from peftbench.report.layout import label
from peftbench.report.score_tables import stability_datasets
from peftbench.report.sheet import Estimate, Method, Sheet
from peftbench.schema import Protocol
from peftbench.stats import Interval, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = (".svg", ".png")
_INK, _GREY, _LIGHT = "#0072B2", "#444444", "#BBBBBB"
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#000000")
"""Colours that people with any common colour blindness can tell apart (Okabe and Ito 2008)."""
_LONGEST = 34
"""Characters of a name in a figure."""
_SHAPES = "osD^vP*X<>ph"


@dataclass(frozen=True, slots=True)
class Standing:
    """A method's mean over all datasets with its interval."""

    method: Method
    mean: Interval


def name(text: str) -> str:
    """A name as matplotlib takes it for a text and not for mathematics."""
    return plain(shortened(text, _LONGEST))


@contextmanager
def without_font_warnings() -> Iterator[None]:
    """Say nothing of letters that the font lacks; they are drawn as boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def stability(stem: Path, sheet: Sheet, rule: Protocol) -> list[Path]:
    """Standard deviation over seeds, a panel for each dataset, with its interval by chi-square."""
    datasets = stability_datasets(sheet)
    methods = [each for each in sheet.methods if each.trained]
    with _figure(
        stem,
        f"Standard deviation of the score over seeds\n{_said(sheet, rule)}; bars are 95 % intervals",
        (2.6 + 1.35 * min(len(datasets), 7), (0.34 * len(methods) + 0.75) * -(-len(datasets) // 7) + 0.7),
    ) as (figure, files):
        lines, across = -(-len(datasets) // 7), min(len(datasets), 7)
        panels: Any = figure.subplots(lines, across, squeeze=False, sharey=True)
        for panel, dataset in zip(panels.flat, datasets, strict=False):
            found = [sheet.score(each, dataset, rule) for each in methods]
            _stability_panel(panel, found, [sheet.scores.get((each.name, dataset, rule), ()) for each in methods])
            panel.set_title(name(label(dataset)), fontsize=9)
        for panel in list(panels.flat)[len(datasets) :]:
            panel.axis("off")
        panels[0][0].set_yticks(range(len(methods)), [name(each.title) for each in methods])
        panels[0][0].set_ylim(len(methods) - 0.5, -0.5)
        figure.supxlabel("standard deviation, points", fontsize=9)
    return files


def heat_map(stem: Path, sheet: Sheet, rule: Protocol) -> list[Path]:
    """Mean scores, methods by datasets; what is missing is hatched."""
    from matplotlib.colors import Normalize
    from matplotlib.patches import Rectangle

    found = [[sheet.score(method, each, rule) for each in sheet.datasets] for method in sheet.methods]
    values = [[each.value for each in row] for row in found]
    size = (3.1 + 0.46 * len(sheet.datasets), 1.5 + 0.34 * len(sheet.methods))
    with _figure(stem, f"Mean score over seeds\n{_said(sheet, rule)}", size) as (figure, files):
        panel: Any = figure.subplots()
        shown = np.array([[np.nan if each is None else each for each in row] for row in values])
        scale = Normalize(0, 100)
        image = panel.imshow(shown, cmap="cividis", norm=scale, aspect="auto")
        for place in np.ndindex(shown.shape):
            value = values[place[0]][place[1]]
            if value is None:
                corner = (place[1] - 0.5, place[0] - 0.5)
                panel.add_patch(Rectangle(corner, 1, 1, facecolor="white", edgecolor=_LIGHT, hatch="////", lw=0))
                continue
            ink, star = "white" if value < 55 else "black", "*" * found[place[0]][place[1]].noted
            panel.text(place[1], place[0], f"{value:.0f}{star}", ha="center", va="center", fontsize=7.5, color=ink)
        panel.set_xticks(
            range(len(sheet.datasets)),
            [name(label(each)) for each in sheet.datasets],
            rotation=45,
            ha="right",
            rotation_mode="anchor",
        )
        panel.set_yticks(range(len(sheet.methods)), [name(each.title) for each in sheet.methods])
        panel.tick_params(length=0)
        figure.colorbar(image, ax=panel, label="score", fraction=0.05, pad=0.015)
    return files


def score_against_cost(
    stem: Path, sheet: Sheet, standings: Sequence[Standing], costs: Mapping[str, Costs], basis: str
) -> list[Path]:
    """Mean score with its interval over each cost; up and to the left is better."""
    chosen = [each for each in standings if each.method.name in costs]
    axes = [
        ("trainable parameters", [costs[each.method.name].params for each in chosen]),
        ("extra TFLOP of a forward pass", [max(0.0, costs[each.method.name].flops / TERA) for each in chosen]),
        ("memory of training, GB", [costs[each.method.name].memory / GIGA for each in chosen]),
    ]
    said = _said(sheet, sheet.protocol)
    title = f"Score against cost, up and to the left is better\n{said}; bars are 95 % intervals"
    below = -(-len(chosen) // 4) * 0.24
    with _figure(stem, title, (10.5, 3.9 + below), basis) as (figure, files):
        from matplotlib.transforms import ScaledTranslation

        panels: Any = figure.subplots(1, len(axes), sharey=True)
        drawn = []
        for panel, (what, values) in zip(panels, axes, strict=True):
            for place, (each, value) in enumerate(zip(chosen, values, strict=True)):
                bars = panel.errorbar(
                    [value],
                    [each.mean.estimate],
                    yerr=_bars(each.mean),
                    fmt=_SHAPES[place % len(_SHAPES)],
                    color=_COLOURS[place % len(_COLOURS)],
                    markeredgecolor="white",
                    markeredgewidth=0.6,
                    markersize=8,
                    capsize=2,
                    label=name(each.method.title),
                )
                # Methods that cost the same stand beside one another, so that none hides another.
                alike = [other for other, cost in enumerate(values) if cost == value]
                drawn.append((bars, 7 * (alike.index(place) - (len(alike) - 1) / 2)))
            least = min((value for value in values if value > 0), default=0)
            if least and max(values) > 20 * least:
                _log_axis(panel, least, max(values), with_zero=min(values) <= 0)
            panel.margins(x=0.12)
            panel.set_xlabel(what)
            panel.grid(color="#EEEEEE")
            panel.set_axisbelow(True)
        for panel in panels:  # as wide as the values ask for, before some are moved
            panel.set(xlim=panel.get_xlim(), ylim=panel.get_ylim())
        for bars, aside in drawn:
            for artist in bars.get_children():
                moved = ScaledTranslation(aside / 72, 0, figure.dpi_scale_trans)
                artist.set_transform(artist.get_transform() + moved)
        panels[0].set_ylabel("mean score")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(4, len(handles)), frameon=False)
    return files


def forest(stem: Path, sheet: Sheet, standings: Sequence[Standing]) -> list[Path]:
    """Mean scores with intervals, the best above; the line is the base model."""
    order = sorted(standings, key=lambda each: -each.mean.estimate)
    count, said = len(sheet.averaged(sheet.datasets)), _said(sheet, sheet.protocol)
    title = f"Mean score over {count} datasets\n{said}; bars are 95 % intervals"
    with _figure(stem, title, (7.5, 1.5 + 0.32 * len(order))) as (figure, files):
        panel: Any = figure.subplots()
        for place, each in enumerate(order):
            panel.errorbar(
                [each.mean.estimate], [place], xerr=_bars(each.mean), fmt="o", color=_INK, capsize=3, markersize=5
            )
            panel.annotate(
                f"{each.mean.estimate:.1f}",
                (1, place),
                xycoords=("axes fraction", "data"),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
            )
            if not each.method.trained:
                panel.axvline(each.mean.estimate, color=_GREY, linestyle="--", linewidth=0.8, zorder=0)
        panel.set_yticks(range(len(order)), [name(each.method.title) for each in order])
        panel.set_ylim(len(order) - 0.5, -0.5)
        panel.set_xlabel("mean score")
        panel.grid(axis="x", color="#EEEEEE")
        panel.set_axisbelow(True)
    return files


@contextmanager
def _figure(
    stem: Path, title: str, size: tuple[float, float], below: str = ""
) -> Iterator[tuple[Any, list[Path]]]:
    """A figure to draw on, written when the block ends; raises `NotInstalled` without matplotlib."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise NotInstalled(error.name, "figures need", "figures") from None
    files = [stem.with_name(stem.name + kind) for kind in KINDS]
    settings: Any = {
        "svg.hashsalt": "peftbench",
        "font.size": 9,
        "hatch.linewidth": 0.6,
        "axes.unicode_minus": False,
    }
    with matplotlib.rc_context(settings), without_font_warnings():
        figure = Figure(figsize=size, layout="constrained")
        heading = "\n".join(plain(line) for line in title.split("\n"))
        figure.suptitle(f"{heading}\n{plain(one_line(below))}" if below else heading, fontsize=9)
        yield figure, files
        for file in files:
            with explained(file), draft_of(file) as draft:
                date = {"Date": None} if file.suffix == ".svg" else None
                figure.savefig(draft, format=file.suffix[1:], dpi=150, metadata=date)


def _stability_panel(panel: "Axes", estimates: Sequence[Estimate], scores: Sequence[Sequence[float]]) -> None:
    """One dataset; what is missing is said, and what is over fewer seeds, as was asked for, is hollow."""
    spreads = [
        None if found.deviation is None else spread(each) for found, each in zip(estimates, scores, strict=True)
    ]
    # An interval of few seeds may be many times as long as its estimate; the axis is for the estimates.
    end = 2.2 * max((each.deviation for each in spreads if each is not None), default=0.0) or 1.0
    for place, (each, found) in enumerate(zip(spreads, estimates, strict=True)):
        if each is None:
            why = "one seed" if found.value is not None else f"{found.missing} missing"
            panel.text(0.03 * end, place, why, va="center", color=_GREY, fontsize=7.5)
            continue
        panel.plot(
            [each.low, min(each.high, end)], [place, place], color=_LIGHT, linewidth=3, solid_capstyle="butt"
        )
        if each.high > end:
            panel.plot([end], [place], marker=">", color=_LIGHT, markersize=6, clip_on=False)
        face = "white" if found.noted else _INK
        panel.plot([each.deviation], [place], marker="o", color=_INK, markerfacecolor=face, markersize=5)
    panel.set_xlim(-0.04 * end, end)
    panel.grid(axis="x", color="#EEEEEE")
    panel.set_axisbelow(True)
    panel.locator_params(axis="x", nbins=3)


def _log_axis(panel: "Axes", least: float, most: float, *, with_zero: bool) -> None:
    """A logarithmic axis; 0 has a place of its own on the left."""
    if not with_zero:
        panel.set_xscale("log")
        return
    panel.set_xscale("symlog", linthresh=least)
    powers = range(int(np.ceil(np.log10(least) + 0.2)), int(np.floor(np.log10(most))) + 1)
    panel.set_xticks([0, *(10.0**power for power in powers)])


def _bars(interval: Interval) -> list[list[float]] | None:
    if interval.low is None or interval.high is None:
        return None
    return [
        [max(0.0, interval.estimate - interval.low)],
        [max(0.0, interval.high - interval.estimate)],
    ]


def _said(sheet: Sheet, rule: Protocol) -> str:
    said = f"{shortened(sheet.model, _LONGEST)}, {rule} scoring"
    said += ", the set is not complete" * bool(sheet.gaps(sheet.datasets))
    return said if rule == sheet.protocol else f"{said} of {sheet.protocol} runs"
