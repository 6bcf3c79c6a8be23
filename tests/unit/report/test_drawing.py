"""Figures hold what they are of: all points inside their axes, no text over another, with odd names and many methods."""

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from peftbench.candidates import Costs
from peftbench.datasets import dataset_names
from peftbench.report import drawing
from peftbench.report.layout import dataset_order
from peftbench.report.sheet import RULES, Method, Sheet
from peftbench.stats import Interval

pytest.importorskip("matplotlib")

NAMES = (
    "Base", "IA3", "Prompt Tuning", "Prefix Tuning", "P-Tuning", "LoRA", "LNTuning", "LoRA(rank=8, alpha=32, dropout=0.1)",
    "_hidden $x^2$ & <b>bold</b>", "A" * 500, "مرحبا بالعالم", "名前の長いメソッド 100%",
)  # fmt: skip


def sheet_of(names=NAMES, datasets=None, seeds=5):
    source = np.random.default_rng(0)
    methods = tuple(
        Method(name, name, seeds if place else 1, place > 0, 10**place) for place, name in enumerate(names)
    )
    datasets = tuple(sorted(datasets or dataset_names(), key=dataset_order))
    scores = {
        (method.name, dataset, rule): tuple(source.uniform(5, 95) + source.normal(0, 3, method.seeds))
        for method in methods
        for dataset in datasets
        for rule in RULES
    }
    del scores[names[1], datasets[0], "corrected"]
    return Sheet("a-model/with_a_$trange%name-" + "x" * 60, "corrected", methods, datasets, scores)


@pytest.fixture
def figures(monkeypatch):
    """The figures that are written, as matplotlib has them after they were laid out."""
    from matplotlib.figure import Figure

    kept, save = [], Figure.savefig

    def keep(self, *arguments, **options):
        save(self, *arguments, **options)
        if options["format"] == "png":
            kept.append(self)

    monkeypatch.setattr(Figure, "savefig", keep)
    return kept


def boxes(texts, renderer):
    return [
        (each.get_text(), each.get_window_extent(renderer))
        for each in texts
        if each.get_visible() and each.get_text()
    ]


def check(figure):
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    whole = figure.bbox.padded(1)
    headings = []
    for axes in figure.axes:
        if not axes.axison:
            continue
        for line in axes.lines:
            if line.get_transform() == axes.transData:
                x, y = line.get_data()
                assert min(axes.get_xlim()) <= min(x)
                assert max(x) <= max(axes.get_xlim()) * (1 + 1e-9)
                assert min(axes.get_ylim()) <= min(y) <= max(y) <= max(axes.get_ylim())
        assert axes.lines or axes.images or axes.collections
        headings += [axes.title]
        for place, labels in enumerate((axes.get_xticklabels(), axes.get_yticklabels())):
            if any(label.get_rotation() for label in labels):
                continue  # slanting boxes meet where the texts do not
            low, high = sorted((axes.get_xlim(), axes.get_ylim())[place])
            # Ticks beyond the ends of an axis are there and are not drawn.
            labels = [label for label in labels if low <= label.get_position()[place] <= high]
            found = boxes(labels, canvas.get_renderer())
            for (first, ours), (second, theirs) in combinations(found, 2):
                assert not ours.overlaps(theirs), (first, second)
            assert all(whole.x0 <= box.x0 and box.x1 <= whole.x1 for _, box in found), found
    found = boxes([*headings, figure._suptitle], canvas.get_renderer())
    for (first, ours), (second, theirs) in combinations(found, 2):
        assert not ours.overlaps(theirs), (first, second)


@pytest.mark.parametrize("count", [3, 12])
@pytest.mark.filterwarnings("ignore:Glyph")
def test_figures_hold_their_points_and_no_text_lies_over_another(figures, tmp_path, count):
    sheet = sheet_of(NAMES[:count])
    source = np.random.default_rng(1)
    means = source.uniform(30, 90, count)
    standings = [
        drawing.Standing(method, Interval(mean, mean - 3, mean + 4))
        for method, mean in zip(sheet.methods, means, strict=True)
    ]
    costs = {
        method.name: Costs(
            10.0 ** source.integers(4, 8), [0, 0, 1.6e12, 1e10][place % 4], source.uniform(20, 50) * 1e9
        )
        for place, method in enumerate(sheet.methods[1:])
    }
    drawing.stability(tmp_path / "a", sheet, "corrected")
    drawing.heat_map(tmp_path / "b", sheet, "corrected")
    drawing.forest(tmp_path / "c", sheet, standings)
    drawing.score_against_cost(tmp_path / "d", sheet, standings, costs, "where costs are from")
    assert len(figures) == 4
    for figure in figures:
        check(figure)
    for panel in figures[3].axes:  # every mean lies between the ends of the axis
        low, high = panel.get_ylim()
        assert all(low < each.mean.estimate < high for each in standings[1:])
    for panel, cost in zip(figures[3].axes, ("params", "flops", "memory"), strict=True):
        low, high = panel.get_xlim()
        scale = {"params": 1, "flops": 1e12, "memory": 1e9}[cost]
        assert all(low <= getattr(each, cost) / scale <= high for each in costs.values())


def test_a_missing_cell_is_hatched_and_never_a_number(figures, tmp_path):
    sheet = sheet_of(NAMES[:3], ("rte", "cb"))
    drawing.heat_map(tmp_path / "map", sheet, "corrected")
    panel = figures[0].axes[0]
    numbers = [each.get_text() for each in panel.texts]
    assert len(numbers) == 5
    assert len(panel.patches) == 1
    assert panel.patches[0].get_hatch()
    shown = {f"{np.mean(sheet.scores[m.name, d, 'corrected']):.0f}" for m in sheet.methods for d in sheet.datasets
             if (m.name, d, "corrected") in sheet.scores}  # fmt: skip
    assert set(numbers) == shown


def test_the_deviations_that_are_drawn_are_those_of_numpy(figures, tmp_path):
    sheet = sheet_of(NAMES[:3], ("cb", "wsc"))
    drawing.stability(tmp_path / "sd", sheet, "published")
    for panel, dataset in zip(figures[0].axes, ("cb", "wsc"), strict=True):
        dots = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "o"]
        assert dots == pytest.approx(
            [np.std(sheet.scores[m.name, dataset, "published"], ddof=1) for m in sheet.methods[1:]]
        )


@pytest.mark.parametrize("allowed", [False, True])
def test_a_deviation_over_fewer_seeds_is_missing_or_hollow(figures, tmp_path, allowed):
    whole = sheet_of(NAMES[:4], ("cb",))
    lora, key = whole.methods[3], (NAMES[3], "cb", "corrected")
    methods = (*whole.methods[:3], replace(lora, missing=("cb, seed 5",)))
    scores = {**whole.scores, key: whole.scores[key][:4]}
    sheet = replace(whole, methods=methods, scores=scores, allow_missing=allowed)
    drawing.stability(tmp_path / "sd", sheet, "corrected")
    panel = figures[0].axes[0]
    dots = [line for line in panel.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() == "white" for dot in dots] == ([False, True] if allowed else [False])
    said = [each.get_text() for each in panel.texts]
    assert said == (["5 missing"] if allowed else ["5 missing", "1 missing"])
    assert "the set is not complete" in figures[0]._suptitle.get_text()
    drawing.heat_map(tmp_path / "map", sheet, "corrected")
    starred = [each.get_text() for each in figures[1].axes[0].texts if "*" in each.get_text()]
    assert len(starred) == allowed
