"""All methods of a set of records: ranks over datasets, which are told apart, how far each depends on its seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from peftbench.errors import DataError
from peftbench.leaderboard import gather
from peftbench.observer import Observer
from peftbench.records import RunResult
from peftbench.selection import of_one, shared_by
from peftbench.stats import (
    FEWEST_DATASETS,
    REPLICATES,
    Interval,
    Procedure,
    RankDiagram,
    Reals,
    Spread,
    equal_spread,
    interquartile_mean,
    interval_of,
    paired_draws,
    performance_profile,
    rank_diagram,
    rank_intervals,
    rank_rows,
    spread,
    stratified_interval,
)


@dataclass(frozen=True, slots=True)
class Standing:
    """One method among the others."""

    method: str
    mean: Interval
    """Mean over datasets of the mean over seeds; seeds and test rows are resampled."""
    rank: Interval
    """Mean rank over datasets, 1 is best; the estimate is that of the scores as they are."""
    profile: dict[int, float]
    """Share of the runs that score above 0, 10, ... 90."""
    middle: Interval | None
    """Interquartile mean over all runs, seeds resampled; None where datasets differ in their number of seeds."""
    seeds: dict[str, Spread | None]
    """Dataset to the spread over seeds; None for one seed, which has none."""

    @property
    def deviation(self) -> float | None:
        """Mean over datasets of the standard deviation over seeds; None where a dataset has one seed."""
        found = [each.deviation for each in self.seeds.values() if each is not None]
        return float(np.mean(found)) if len(found) == len(self.seeds) else None


@dataclass(frozen=True, slots=True)
class Standings:
    """Methods by mean rank."""

    title: str
    methods: tuple[Standing, ...]
    diagram: RankDiagram | None
    """Which are told apart over datasets; None for one dataset."""
    equal_spread: dict[str, float]
    """Dataset to p that the methods depend on their seeds alike; only where two have several seeds."""
    notes: tuple[str, ...]


def standings(
    results: Sequence[RunResult],
    *,
    model: str | None = None,
    protocol: str | None = None,
    allow_missing: bool = False,
    procedure: Procedure = "wilcoxon-holm",
    replicates: int = REPLICATES,
    observer: Observer | None = None,
) -> Standings:
    """Rank the methods of finished runs, the base model too where it is there; predictions are read.

    With `allow_missing` ranks are over the datasets that all methods have. Raises `DataError` or `UnknownName`
    for what cannot be compared: a single method, missing runs, different rows.
    """
    observer = observer or Observer()
    kept = of_one(results, model, protocol)
    gathered = gather(kept, protocol=kept[0].config.protocol)
    if len(gathered) < 2:
        raise DataError(f"the runs are of one method, {gathered[0].method}; ranks need at least two")
    shared = shared_by(gathered, allow_missing=allow_missing)
    observer.phase("resampling seeds and test rows", total=replicates)
    draws = paired_draws(shared.cells, replicates=replicates, advance=observer.advance)
    runs = [{dataset: cell.scores() for dataset, cell in cells.items()} for cells in shared.cells]
    scores = np.array([[each[dataset].mean() for each in runs] for dataset in shared.datasets])
    mean_ranks = rank_rows(scores).mean(axis=0)
    means = None if draws is None else np.mean(list(draws.values()), axis=0)
    ranks = None if draws is None else rank_intervals(np.stack(list(draws.values()), axis=1))
    found = []
    for place in np.argsort(mean_ranks, kind="stable"):
        rank = Interval(float(mean_ranks[place]), None, None)
        if ranks is not None:
            rank = Interval(rank.estimate, ranks[place].low, ranks[place].high)
        found.append(
            Standing(
                method=shared.names[place],
                mean=interval_of(float(scores[:, place].mean()), None if means is None else means[:, place]),
                rank=rank,
                profile=_profile(list(runs[place].values())),
                middle=_middle(list(runs[place].values()), replicates),
                seeds={name: spread(each) if len(each) > 1 else None for name, each in runs[place].items()},
            )
        )
    several = {dataset: [each[dataset] for each in runs if len(each[dataset]) > 1] for dataset in shared.datasets}
    count = len(shared.datasets)
    record = kept[0].train or kept[0].evaluation
    assert record is not None
    return Standings(
        title=f"{record.model.label}, {kept[0].config.protocol}; {shared.size}",
        methods=tuple(found),
        diagram=rank_diagram(shared.names, scores, procedure=procedure) if count > 1 else None,
        equal_spread={name: equal_spread(each) for name, each in several.items() if len(each) > 1},
        notes=(*_few_datasets(count, procedure), *shared.notes()),
    )


def _middle(runs: Sequence[Reals], replicates: int) -> Interval | None:
    if len({len(each) for each in runs}) > 1:
        return None
    return stratified_interval(interquartile_mean, np.stack(runs, axis=1), replicates=replicates)


def _profile(runs: Sequence[Reals]) -> dict[int, float]:
    thresholds = range(0, 100, 10)
    # Each dataset weighs the same, however many of its seeds are there.
    shares = np.mean([performance_profile(each[:, None], list(thresholds)) for each in runs], axis=0)
    return dict(zip(thresholds, shares.tolist(), strict=True))


def _few_datasets(count: int, procedure: Procedure) -> list[str]:
    if count == 1:
        return ["One dataset: whether the order holds on others cannot be tested."]
    if count < FEWEST_DATASETS and procedure == "wilcoxon-holm":
        return [f"Fewer than {FEWEST_DATASETS} datasets tell no two methods apart at 0.05, whatever the scores."]
    return []
