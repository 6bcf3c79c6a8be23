"""The comparison that comes with the package: the shipped grid `demo`, run, weighed and printed.

No network, no GPU, no account. Settings of section 4 of the paper are made for a model of eight billion
parameters; the grid scales what would otherwise take hours, and the output names everything that it changes.
"""

import json
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path

from peftbench.cellwork import Event
from peftbench.config import shipped
from peftbench.console import observing, print_table
from peftbench.efficiency.cost import Prediction
from peftbench.efficiency.plan import predict
from peftbench.errors import ConfigError, DataError
from peftbench.grid import Grid, load_grid
from peftbench.gridrun import look, prepare, run_grid
from peftbench.launch import LaunchOptions
from peftbench.leaderboard import Row, compare
from peftbench.methods.plugins import spec_named, spec_of
from peftbench.penalty import CostModel, pscp
from peftbench.records import TINY, RunConfig, RunResult, TrainingConfig
from peftbench.schema import MethodChoice

GRID = shipped("grids") / "demo.yaml"
PROCESSES = 4
"""At most; each loads torch anew, which costs more than it saves where there are many."""
TOKENS = 80
"""Prompt and answer of a sample of the four tasks, about; what memory is predicted for."""


@cache
def demo_grid() -> Grid:
    """The grid file of the demo."""
    return load_grid(GRID)[0]


def configs(output: Path, settings: Sequence[str] = ()) -> list[RunConfig]:
    """The runs of the demo; the base model, which is not trained, is evaluated once a task."""
    return [cell.config for cell in load_grid(GRID, settings, run__output=str(output / "runs"))[1]]


def with_methods(names: Sequence[str], learning_rate: float) -> list[str]:
    """Settings of the demo's grid by which it has further methods, by name or file, at one learning rate.

    Raises `ConfigError` or `UnknownName` for a method that there is not, or that the demo has.
    """
    if not names:
        return []
    entries = [{"name": entry.name, "settings": entry.settings} for entry in demo_grid().methods]
    rates = []
    for name in names:
        spec = spec_named(name)
        if spec.name in [entry["name"] for entry in entries]:
            raise ConfigError(f"the demo has method {spec.name!r} already; give another with --method")
        entries.append({"name": name, "settings": {}})
        rates.append(f"run.training.learning_rate.{spec.name}={learning_rate}")
    return [f"methods={json.dumps(entries)}", *rates]


def show(output: Path, settings: Sequence[str] = (), *, as_json: bool = False) -> list[RunResult]:
    """Make the runs, print the comparison, and return the results; finished runs are read back.

    `settings` change the grid. Raises `KeyboardInterrupt` if it was stopped, and `DataError` if a run failed.
    """
    begun = time.monotonic()
    results = run_all(output, settings)
    if as_json:
        print(json.dumps([json.loads(result.model_dump_json()) for result in results], indent=1))
    else:
        print_comparison(compare(results), output, settings)
        print(f"Time: {time.monotonic() - begun:.0f} s")
    return results


def run_all(output: Path, settings: Sequence[str] = (), processes: int | None = None) -> list[RunResult]:
    """The results of all cells in their order, made by several processes where they are not there yet."""
    found = prepare(GRID, settings, output=output / "runs")
    options = LaunchOptions(workers=processes or min(PROCESSES, os.cpu_count() or 1))
    with observing() as observer:
        observer.phase(f"{len(found.cells)} runs in {options.workers} processes", total=len(found.cells))
        observer.advance(len(found.done))

        def tell(_: str, event: Event) -> None:
            if event.kind == "ended":
                observer.advance(1)
            elif event.kind == "note" and event.message:
                observer.note(0, event.message)

        summary = run_grid(found, options, tell)
    if summary.stopped:
        raise KeyboardInterrupt
    found = look(found.name, found.cells, found.state)
    if found.failures:
        first = next(iter(found.failures.values()))
        raise DataError(
            f"{len(found.failures)} runs failed, first {first.label}: {first.message}; `peftbench grid "
            f"retry demo --set run.output={output / 'runs'}` lets them be tried again"
        )
    return [found.done[cell.id] for cell in found.cells]


# ------------------------------------------------------------------------------------------------- the table


def predicted_costs(chosen: Iterable[MethodChoice], training: TrainingConfig) -> dict[str, Prediction]:
    """What each method costs on the model, before anything is run."""
    return {
        str(choice): predict(
            TINY,
            None,
            choice,
            batch=training.batch_size,
            tokens=TOKENS,
            dtype="float32",
            engine="packed",
            kernels="cpu",
        )
        for choice in chosen
        if spec_of(choice).build
    }


def print_comparison(rows: Sequence[Row], output: Path, settings: Sequence[str] = ()) -> None:
    """The comparison as a table, and what has to be known to read it."""
    grid, wanted = load_grid(GRID, settings)[0], configs(output, settings)
    training, seeds = wanted[-1].training, len(grid.seeds)
    costs = predicted_costs({str(each.method): each.method for each in wanted}.values(), training)
    columns = (
        "method",
        *grid.datasets,
        "mean",
        "95 % interval",
        "lenient",
        "invalid",
        "trainable",
        "memory",
        "PSCP",
        "seconds",
    )
    print_table("", columns, [_cells(row, grid.datasets, costs) for row in rows], right=columns[1:])
    missing = [f"{row.method}: {', '.join(row.missing)}" for row in rows if row.missing]
    if missing:
        print(f"No mean where a run is missing or failed: {'; '.join(missing)}.")
    print(
        f"""
{TINY} on generated rows, {seeds} seeds: what is true here need not be true of a model of another size.
Scores from 0 to 100: macro-F1 (sst2, boolq), accuracy (svamp), CodeBLEU (conala); their mean, with the interval
of a bootstrap over test rows and seeds, of whose variance it finds {seeds - 1}/{seeds}.
Lenient: the same outputs, read with the least care for their form.
Memory: predicted, of a training step of one run with {training.batch_size} samples of {TOKENS} tokens.
PSCP: the mean under soft penalties for trainable parameters, extra FLOPs and memory, each relative to the median
of the methods.
Learning rates: one for each method, found on training and validation rows (docs/learning-rates.md).
Preset `demo`: {training.epochs} epochs, {training.validations} validations, and unlike section 4 of the paper"""
    )
    own = {entry.name for entry in demo_grid().methods}
    if further := [each.method.name for each in wanted if each.method.name not in own]:
        print(f"  {', '.join(dict.fromkeys(further))}: added, at the learning rate that was given")
    for entry in grid.methods:
        if entry.settings:
            changed = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in entry.settings.items())
            print(f"  {entry.name:14}{changed}")
    print(f"Records: {output / 'runs'}")


def _cells(row: Row, datasets: Sequence[str], costs: Mapping[str, Prediction]) -> tuple[str | None, ...]:
    interval, cost = row.mean, costs.get(row.method)
    memory = cost.peak_train_memory_bytes if cost else None
    return (
        row.method.partition("(")[0],
        *(f"{row.scores[dataset]:.1f}" if dataset in row.scores else None for dataset in datasets),
        None if interval is None else f"{interval.estimate:.1f}",
        None if interval is None or interval.low is None else f"{interval.low:.1f} to {interval.high:.1f}",
        None if row.lenient is None else f"{row.lenient:.1f}",
        None if row.invalid_rate is None else f"{100 * row.invalid_rate:.0f} %",
        f"{row.trainable_params:,}",
        None if memory is None else f"{memory / 1e6:.0f} MB",
        None if interval is None or cost is None else f"{_pscp(interval.estimate, cost, costs):.1f}",
        f"{row.seconds:.0f}",
    )


def _pscp(performance: float, cost: Prediction, costs: Mapping[str, Prediction]) -> float:
    """The paper's references are made for models a thousand times larger; here they are medians of the table."""
    references = CostModel.from_costs(map(_three, costs.values()))
    own = _three(cost)
    return pscp(performance, own["params"], own["flops"], own["memory"], references).score


def _three(cost: Prediction) -> dict[str, float]:
    return {
        "params": cost.trainable_params,
        "flops": cost.extra_forward_flops,
        "memory": cost.peak_train_memory_bytes or 0,
    }
