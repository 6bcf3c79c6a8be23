"""Which method PSCP prefers where: over importances, over references, and where two methods change places.

Pure arithmetic on performances and costs. With importance b, PSCP is P * exp(-sum of b * log(1 + m / C)), so that
the scores of two methods cross where a linear equation says (equation 3 of the paper).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import ConfigError
from peftbench.penalty import PAPER_COSTS, CostModel

COSTS = ("params", "flops", "memory")
"""The three costs, in the order of axes and arrays."""

Reals = NDArray[np.float64]

Axes = tuple[Sequence[float], Sequence[float], Sequence[float]]
"""Values for each of the three costs."""
_STEPS, _FINE = 17, 65


def exponent_axes(*, slices: bool = False) -> Axes:
    """Importances from 0 to 4; with `slices` a few of FLOPs and many of the others, for a figure."""
    many = np.linspace(0, 4, _FINE if slices else _STEPS).tolist()
    return many, [0.0, 1.0, 2.0, 4.0] if slices else many, many


def reference_axes(*, slices: bool = False) -> Axes:
    """Factors of the references from 1/100 to 100; with `slices` a few of FLOPs and many of the others."""
    many = (10.0 ** np.linspace(-2, 2, _FINE if slices else _STEPS)).tolist()
    return many, [0.01, 0.1, 1.0, 10.0] if slices else many, many


@dataclass(frozen=True, slots=True)
class Candidate:
    """One method: how well it does, and what it costs."""

    method: str
    performance: float
    """Mean score, 0 to 100."""
    params: float
    """Trainable parameters."""
    flops: float
    """FLOPs of a forward pass over those of the base model; below 0 they count as 0."""
    memory: float
    """Peak memory of training in bytes."""
    draws: Reals | None = None
    """Replicates of the performance; the same place is the same draw of rows in all candidates. None without."""

    def exponents(self, costs: CostModel) -> Reals:
        """By how much an importance of 1 lowers the logarithm of the score, for each cost."""
        return np.log1p([max(0.0, getattr(self, name)) / getattr(costs, name).reference for name in COSTS])

    def weight(self, costs: CostModel) -> float:
        """The product of all penalties, in (0, 1]: what PSCP multiplies the performance by."""
        return float(np.exp(-_importances(costs) @ self.exponents(costs)))


@dataclass(frozen=True, slots=True)
class SensitivityMap:
    """Which candidate has the highest PSCP at each point of a grid."""

    over: Literal["exponents", "references"]
    axes: tuple[tuple[float, ...], ...]
    """Values along the three axes, in the order of `COSTS`: importances, or factors of the references."""
    here: tuple[float, ...]
    """Where the cost model itself lies."""
    methods: tuple[str, ...]
    winner: NDArray[np.int64]
    """Number of the winning method at each point; the first of several that are equal."""
    share: Reals | None
    """Share of replicates, 0 to 1, in which the winner wins alone too; None without replicates."""
    lead: Reals
    """By what part of its score the winner is ahead of the second; 1 where there is no second with a score,
    0 where several are equal."""

    def covers(self, sure: float = 0.95) -> dict[str, tuple[float, float | None]]:
        """Method to the share of the grid that it wins, and that it wins in at least `sure` of the replicates.

        Where several are equal none of them wins.
        """
        found: dict[str, tuple[float, float | None]] = {}
        for number, method in enumerate(self.methods):
            wins = (self.winner == number) & (self.lead > 0)
            surely = None if self.share is None else float(np.mean(wins & (self.share >= sure)))
            found[method] = (float(np.mean(wins)), surely)
        return found


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where two scores are equal as an importance grows from 0."""

    at: float | None
    """The importance; None where one method leads for all importances of at least 0, or both are the same."""
    low: float | None
    """Percentile interval from the replicates, on the line continued below 0; None without replicates."""
    high: float | None
    below: str | None
    """Who leads below; None where both are equal for all importances."""
    above: str | None
    """Who leads above; the same as below where nothing is crossed."""


@dataclass(frozen=True, slots=True)
class BreakEven:
    """At which importances two methods score the same."""

    first: str
    second: str
    together: Crossing
    """All three importances, kept equal."""
    alone: dict[str, Crossing]
    """One importance, the others as the cost model has them."""


def win_shares(candidates: Sequence[Candidate], costs: CostModel = PAPER_COSTS) -> tuple[float, ...] | None:
    """Share of replicates, 0 to 1, in which each candidate alone has the highest PSCP; None without."""
    _checked(candidates, costs)
    draws = _draws(candidates)
    if draws is None:
        return None
    return tuple(_alone_best(draws * [each.weight(costs) for each in candidates]).mean(axis=0).tolist())


def exponent_map(
    candidates: Sequence[Candidate], costs: CostModel = PAPER_COSTS, axes: Axes | None = None
) -> SensitivityMap:
    """Who wins at the importances on `axes`, without them `exponent_axes()`, with the references of `costs`.

    Raises `ConfigError` without candidates and for importances below 0.
    """
    axes = axes or exponent_axes()
    if not all(axes) or not all(0 <= value < float("inf") for values in axes for value in values):
        raise ConfigError(f"importances are {axes}, expected numbers of at least 0 for each cost")
    _checked(candidates, costs)
    exponents = np.array([each.exponents(costs) for each in candidates]).T
    parts = [np.multiply.outer(values, exponents[place]) for place, values in enumerate(axes)]
    return _mapped("exponents", candidates, axes, _importances(costs), parts)


def reference_map(
    candidates: Sequence[Candidate], costs: CostModel = PAPER_COSTS, axes: Axes | None = None
) -> SensitivityMap:
    """Who wins where the references of `costs` are multiplied by the factors on `axes`, with its importances.

    Without `axes` they are `reference_axes()`. Raises `ConfigError` without candidates and for factors that are
    not above 0.
    """
    axes = axes or reference_axes()
    if not all(axes) or not all(0 < factor < float("inf") for factors in axes for factor in factors):
        raise ConfigError(f"factors of references are {axes}, expected numbers above 0 for each cost")
    _checked(candidates, costs)
    ratios = np.expm1([each.exponents(costs) for each in candidates]).T
    parts = [
        importance * np.log1p(np.divide.outer(ratios[place], factors).T)
        for place, (importance, factors) in enumerate(zip(_importances(costs), axes, strict=True))
    ]
    return _mapped("references", candidates, axes, np.ones(len(COSTS)), parts)


def break_even(first: Candidate, second: Candidate, costs: CostModel = PAPER_COSTS) -> BreakEven:
    """The importances at which two methods score the same, in closed form.

    Raises `ConfigError` where a performance is not above 0: such a score has no logarithm.
    """
    for each in (first, second):
        if not each.performance > 0:
            raise ConfigError(
                f"performance of {each.method} is {each.performance!r}, expected more than 0 for a break-even"
            )
    _checked((first, second), costs)
    difference = first.exponents(costs) - second.exponents(costs)
    importances = _importances(costs)
    ahead, ahead_draws = float(np.log(first.performance / second.performance)), _log_ratios(first, second)

    def crossing(slope: float, fixed: float) -> Crossing:
        draws = None if ahead_draws is None else ahead_draws - fixed
        return _crossing(first.method, second.method, ahead - fixed, slope, draws)

    alone = {}
    for place, name in enumerate(COSTS):
        others = float(difference @ importances - difference[place] * importances[place])
        alone[name] = crossing(float(difference[place]), others)
    return BreakEven(first.method, second.method, crossing(float(difference.sum()), 0.0), alone)


def _crossing(first: str, second: str, ahead: float, slope: float, draws: Reals | None) -> Crossing:
    """Where `ahead - importance * slope`, by which the logarithm of the first score is ahead, is 0."""
    if slope == 0:
        leader = None if ahead == 0 else (first if ahead > 0 else second)
        return Crossing(None, None, None, leader, leader)
    low, high = (None, None) if draws is None else np.percentile(draws / slope, [2.5, 97.5]).tolist()
    above = second if slope > 0 else first  # in the end the cheaper one leads
    if ahead / slope < 0:
        return Crossing(None, low, high, above, above)
    return Crossing(ahead / slope or 0.0, low, high, second if above == first else first, above)


def _log_ratios(first: Candidate, second: Candidate) -> Reals | None:
    if first.draws is None or second.draws is None or min(first.draws.min(), second.draws.min()) <= 0:
        return None
    return np.log(first.draws / second.draws)


def _mapped(
    over: Literal["exponents", "references"],
    candidates: Sequence[Candidate],
    axes: Axes,
    here: Reals,
    parts: Sequence[Reals],
) -> SensitivityMap:
    """The map from what each cost takes off the logarithm of the scores, arrays (values, candidates)."""
    logs = parts[0][:, None, None] + parts[1][None, :, None] + parts[2][None, None, :]
    flat = np.exp(-logs.reshape(-1, len(candidates)))
    scores = flat * np.array([each.performance for each in candidates])
    winner = scores.argmax(axis=1)
    best = np.take_along_axis(scores, winner[:, None], axis=1)[:, 0]
    lead = np.ones(len(scores))
    if len(candidates) > 1:
        second = np.partition(scores, -2, axis=1)[:, -2]
        lead = np.clip(1 - np.divide(second, best, out=np.ones_like(best), where=best > 0), 0, 1)
    draws, share = _draws(candidates), None
    if draws is not None:
        # One point at a time: all at once would be points times replicates times methods.
        share = np.array(
            [np.mean(_alone_best(draws * row)[:, best]) for row, best in zip(flat, winner, strict=True)]
        )
    shape = logs.shape[:-1]
    return SensitivityMap(
        over=over,
        axes=tuple(map(tuple, axes)),
        here=tuple(here.tolist()),
        methods=tuple(each.method for each in candidates),
        winner=winner.reshape(shape),
        share=None if share is None else share.reshape(shape),
        lead=lead.reshape(shape),
    )


def _draws(candidates: Sequence[Candidate]) -> Reals | None:
    """Replicates of all candidates, an array (replicates, candidates); None where one has none."""
    found = [each.draws for each in candidates if each.draws is not None]
    return np.stack(found, axis=1) if len(found) == len(candidates) else None


def _alone_best(scores: Reals) -> NDArray[np.bool_]:
    """Which score of each row is above all others of it."""
    best = scores == scores.max(axis=1, keepdims=True)
    return np.asarray(best & (best.sum(axis=1, keepdims=True) == 1), dtype=np.bool_)


def _importances(costs: CostModel) -> Reals:
    return np.array([getattr(costs, name).importance for name in COSTS])


def _checked(candidates: Sequence[Candidate], costs: CostModel) -> None:
    if not candidates:
        raise ConfigError("there is no method to compare; give at least one")
    if costs.extra:
        raise ConfigError(f"the map is over {', '.join(COSTS)}; leave out {', '.join(costs.extra)}")
    for each in candidates:
        for name in ("performance", *COSTS):
            if not np.isfinite(getattr(each, name)):
                raise ConfigError(f"{name} of {each.method} is {getattr(each, name)!r}, expected a finite number")
