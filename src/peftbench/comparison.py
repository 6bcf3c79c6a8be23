"""Two methods of a set of records: by how much they differ on each dataset and over all, and how sure that is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from peftbench.datasets import get_dataset
from peftbench.errors import DataError
from peftbench.leaderboard import gather
from peftbench.metrics import metrics
from peftbench.observer import Observer
from peftbench.records import RunResult
from peftbench.selection import named, of_one, shared_by
from peftbench.stats import (
    FEWEST_DATASETS,
    PERMUTATIONS,
    REPLICATES,
    Cell,
    Discordance,
    Interval,
    Reals,
    holm,
    interval_of,
    mcnemar,
    paired_draws,
    permutation_test,
    probability_of_improvement,
    share_ahead,
    signed_rank,
    smallest_difference,
    vote,
)

ALPHA, POWER = 0.05, 0.8


@dataclass(frozen=True, slots=True)
class Difference:
    """Two methods on one dataset, or on the mean over datasets."""

    first: float
    second: float
    difference: Interval
    """First minus second; seeds and test rows are resampled, the same rows for both."""
    ahead: float | None
    """Share of replicates in which the first is ahead, ties half; None without replicates."""
    p: float
    """Of the permutation test, by rows."""
    holm: float | None
    """The same, corrected for all datasets; None for the mean over them."""
    right: Discordance | None
    """Rows that one alone gets right by the vote of its seeds; None where a row is not right or wrong."""
    right_holm: float | None
    detectable: float | None
    """Smallest true difference that 80 of 100 such comparisons would find; None where nothing varies."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The first of two methods against the second."""

    title: str
    first: str
    second: str
    datasets: dict[str, Difference]
    overall: Difference
    over_datasets: float | None
    """p of the signed-rank test with the datasets as the sample; None where they are too few for it."""
    improvement: float
    """Probability that a single run of the first scores above one of the second, averaged over datasets."""
    notes: tuple[str, ...]


def compare_two(
    results: Sequence[RunResult],
    first: str,
    second: str,
    *,
    model: str | None = None,
    protocol: str | None = None,
    allow_missing: bool = False,
    replicates: int = REPLICATES,
    permutations: int = PERMUTATIONS,
    observer: Observer | None = None,
) -> Comparison:
    """Compare two methods of finished runs; predictions are read from the runs' folders.

    With `allow_missing` the comparison is over the datasets that both have. Raises `DataError` or `UnknownName`
    for what cannot be compared: methods that are not there, missing runs, different rows.
    """
    observer = observer or Observer()
    of_model = of_one(results, model, protocol)
    chosen = [named(of_model, name) for name in (first, second)]
    if chosen[0] == chosen[1]:
        raise DataError(f"{first!r} and {second!r} are the same method; name two")
    gathered = gather([*chosen[0], *chosen[1]], protocol=of_model[0].config.protocol)
    shared = shared_by(gathered, allow_missing=allow_missing)
    ours, theirs = shared.cells
    observer.phase("resampling seeds and test rows", total=replicates)
    draws = paired_draws(shared.cells, replicates=replicates, advance=observer.advance)
    observer.phase("swapping outputs", total=permutations * (len(shared.datasets) + 1))

    def difference(datasets: Sequence[str]) -> Difference:
        drawn = None if draws is None else np.mean([draws[each] for each in datasets], axis=0)
        pairs = [(ours[each], theirs[each]) for each in datasets]
        return _difference(pairs, drawn, permutations, observer)

    found = {dataset: difference([dataset]) for dataset in shared.datasets}
    rights = {dataset: _right(dataset, ours[dataset], theirs[dataset]) for dataset in shared.datasets}
    raised = holm([each.p for each in found.values()])
    votes = {dataset: each for dataset, each in rights.items() if each is not None}
    raised_votes = dict(zip(votes, holm([each.p for each in votes.values()]), strict=True)) if votes else {}
    for (dataset, each), p in zip(list(found.items()), raised, strict=True):
        of_votes = raised_votes.get(dataset)
        found[dataset] = replace(
            each,
            holm=float(p),
            right=rights[dataset],
            right_holm=None if of_votes is None else float(of_votes),
        )
    over = None
    if len(found) >= FEWEST_DATASETS:
        over = signed_rank([each.difference.estimate for each in found.values()])
    return Comparison(
        title=f"{shared.names[0]} against {shared.names[1]}: {_facts(of_model[0])}; {shared.size}",
        first=shared.names[0],
        second=shared.names[1],
        datasets=found,
        overall=difference(shared.datasets),
        over_datasets=over,
        improvement=_improvement(ours, theirs),
        notes=(*_uneven(ours, theirs), *shared.notes()),
    )


def _difference(
    pairs: Sequence[tuple[Cell, Cell]], drawn: Reals | None, permutations: int, observer: Observer
) -> Difference:
    first, second = (float(np.mean([pair[which].estimate() for pair in pairs])) for which in (0, 1))
    test = permutation_test(pairs, replicates=permutations, advance=observer.advance)
    apart = None if drawn is None else drawn[:, 0] - drawn[:, 1]
    error = 0.0 if apart is None else float(np.std(apart, ddof=1))
    return Difference(
        first=first,
        second=second,
        difference=interval_of(first - second, apart),
        ahead=None if drawn is None else share_ahead(drawn[:, 0], drawn[:, 1]),
        p=test.p,
        holm=None,
        right=None,
        right_holm=None,
        detectable=smallest_difference(error, alpha=ALPHA, power=POWER) if error > 0 else None,
    )


def _right(dataset: str, first: Cell, second: Cell) -> Discordance | None:
    right = metrics.get(get_dataset(dataset).metric).right
    if right is None:
        return None
    return mcnemar(*(vote(np.array([right(columns) for columns in cell.seeds])) for cell in (first, second)))


def _improvement(first: dict[str, Cell], second: dict[str, Cell]) -> float:
    # Datasets may have different numbers of seeds where runs are missing, so they are taken one by one.
    pairs = [(first[each].scores()[:, None], second[each].scores()[:, None]) for each in first]
    return float(np.mean([probability_of_improvement(*pair) for pair in pairs]))


def _uneven(first: dict[str, Cell], second: dict[str, Cell]) -> list[str]:
    if all(len(first[each].seeds) == len(second[each].seeds) for each in first):
        return []
    return ["The numbers of seeds differ, so that p is approximate: outputs of the fewer are taken several times."]


def _facts(result: RunResult) -> str:
    record = result.train or result.evaluation
    assert record is not None
    return f"{record.model.label}, {result.config.protocol}"
