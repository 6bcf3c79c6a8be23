"""Find one learning rate for each method, for `peftbench-tiny` on the demo's tasks; the budget is equal for all.

    python tools/tune_tiny.py OUT    prints the table, writes docs/learning-rates.csv and .svg

Rates are compared by the best validation loss alone; no test row is read. The seed is none of the demo's.
"""

import csv
import math
import sys
from collections import defaultdict
from pathlib import Path

from peftbench import demo, run_many
from peftbench.console import observing
from peftbench.grid import load_grid
from peftbench.records import RunConfig

ROOT = Path(__file__).resolve().parents[1]
RATES = (5e-5, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1)
SEED = 7


def at(config: RunConfig, rate: float) -> RunConfig:
    """The same run with another learning rate."""
    return config.model_copy(update={"training": config.training.model_copy(update={"learning_rate": rate})})


def main() -> None:
    """Sweep, choose, and write table, data and figure."""
    output = Path(sys.argv[1])
    _, cells = load_grid(
        demo.GRID, [f"seeds=[{SEED}]", "exclude=[{methods: base}]"], run__output=str(output / "runs")
    )
    runs = [at(cell.config, rate) for cell in cells for rate in RATES]
    with observing() as observer:
        results = run_many(runs, observer=observer, evaluate=False)
    losses: dict[str, dict[float, dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for result in results:
        assert result.train is not None
        loss = result.train.best_validation_loss
        rate = result.config.training.learning_rate
        losses[result.config.method.name][rate][result.config.dataset] = math.inf if loss is None else loss
    means = {
        method: {rate: sum(map(math.log, each.values())) / len(each) for rate, each in of_method.items()}
        for method, of_method in losses.items()
    }
    best = {method: min(each, key=each.__getitem__) for method, each in means.items()}
    write_table(losses, means, best)
    draw(means, best)
    for method, rate in best.items():
        print(f"{method}: {rate:g}")


def write_table(losses, means, best) -> None:  # type: ignore[no-untyped-def]
    """The mean of each rate as Markdown, and every loss as CSV."""
    lines = ["| method | " + " | ".join(f"{rate:g}" for rate in RATES) + " |", "|---" * (len(RATES) + 1) + "|"]
    for method, each in means.items():
        shown = [
            f"**{math.exp(each[rate]):.3f}**" if rate == best[method] else f"{math.exp(each[rate]):.3f}"
            for rate in RATES
        ]
        lines.append(f"| {method} | " + " | ".join(shown) + " |")
    print("\n".join(lines))
    with (ROOT / "docs" / "learning-rates.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("method", "learning_rate", "dataset", "best_validation_loss"))
        for method, of_method in losses.items():
            for rate, each in of_method.items():
                rows.writerows((method, f"{rate:g}", dataset, f"{loss:.5f}") for dataset, loss in each.items())


def draw(means, best) -> None:  # type: ignore[no-untyped-def]
    """Validation loss over the learning rate, a line for each method."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "peftbench"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for (method, each), marker in zip(means.items(), "osD^vP", strict=True):
        values = [math.exp(each[rate]) for rate in RATES]
        [line] = axes.plot(RATES, values, marker=marker, markersize=4, label=method)
        chosen = (best[method], math.exp(each[best[method]]))
        axes.plot(*chosen, marker="o", markersize=11, mfc="none", color=line.get_color())
    label = "best validation loss\n(geometric mean of four tasks)"
    axes.set(xscale="log", yscale="log", xlabel="learning rate", ylabel=label)
    axes.grid(alpha=0.3, which="both")
    axes.legend(title="circled: the rate chosen", fontsize=8, title_fontsize=8)
    figure.savefig(ROOT / "docs" / "learning-rates.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
