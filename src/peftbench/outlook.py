"""What each method would cost and has scored, and which of them is best as far as resamples tell. Pure.

The best method is sought in paired resamples: the smallest set of methods that holds the best in 95 % of them is
the answer. One method alone in that set is told apart from the others; several are not.
"""

from collections.abc import Mapping
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from peftbench.efficiency.cost import Range
from peftbench.schema import Frozen, Protocol
from peftbench.stats import CONFIDENCE, Interval

Within = Literal["yes", "perhaps", "no"]


class Outlook(Frozen):
    """One method on the workload: its predicted costs, and the scores of its records."""

    method: str
    """Its name; with its settings where there are several of the name."""
    choice: str
    """Name and settings, those of the records where there are any."""
    trainable_params: int | None
    extra_forward_flops: int | None
    """Of 512 tokens, over the base model's."""
    peak_memory_bytes: int | None
    """The largest over the datasets: of a training step with long samples; of the base model its weights."""
    fits: bool | None
    """Whether that is within the device's memory for every dataset; None where either is not known."""
    several_passes: bool
    """Whether it fits only with the samples of a step one after the other."""
    why: tuple[str, ...]
    """Why it cannot be run there at all; empty where it can."""
    seconds: Range | None
    """One run on each dataset, one after the other: training, validation and evaluation."""
    joules: Range | None
    """Energy of the device alone in that time."""
    within_hours: Within | None
    """Whether that time is within the hours given: `perhaps` if its low bound alone is; None without hours."""
    performance: Interval | None
    """Mean score over the datasets, 0 to 100; None where a run is missing, or there are no records."""
    scores: dict[str, float]
    """Dataset to the mean score over seeds, of the runs that are there."""
    seeds: int
    """Seeds that each dataset should have; 0 without records."""
    missing: tuple[str, ...]
    """Runs that failed or are not there, as `dataset, seed`."""
    best_share: float | None = None
    """Share of the resamples, 0 to 1, in which it is the best of those compared; None if it is not compared."""

    @property
    def possible(self) -> bool:
        """Whether it can be run on the device, perhaps within the hours."""
        return not self.why and self.within_hours != "no"


class Verdict(Frozen):
    """Which of several methods is best, as far as their replicates tell."""

    shares: dict[str, float]
    """Method to the share of replicates, 0 to 1, in which it is the best, falling; a tie counts in parts."""
    leaders: tuple[str, ...]
    """The fewest methods among which the best is in 95 % of the replicates, by falling share."""
    above_base: float | None = None
    """Share of replicates in which the first of them scores above the base model; None where that was not run."""


class Recommendation(Frozen):
    """The answer, and all that it rests on."""

    title: str
    model: str
    device: str
    protocol: Protocol
    datasets: tuple[str, ...]
    """One run, with one seed, on each is what time and energy are of."""
    hours: float | None
    basis: str
    """What the costs rest on."""
    methods: tuple[Outlook, ...]
    base: Outlook | None
    verdict: Verdict | None
    """None where fewer than two methods can be compared, or their scores cannot be resampled."""
    notes: tuple[str, ...]
    answer: str
    """One sentence."""


def decide(
    draws: Mapping[str, NDArray[np.float64]],
    base: NDArray[np.float64] | None = None,
    *,
    confidence: float = CONFIDENCE,
) -> Verdict:
    """Which method is best in how many of the replicates; the same place is the same resample in all of them.

    Raises `ValueError` without a method.
    """
    if not draws:
        raise ValueError("no method was given; give at least one")
    names, values = list(draws), np.stack(list(draws.values()), axis=1)
    best = values == values.max(axis=1, keepdims=True)
    wins = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    shares = {names[number]: float(wins[number]) for number in np.argsort(-wins, kind="stable")}
    leaders: list[str] = []
    for name, share in shares.items():
        # Sums of shares are not exact in floating point.
        if sum(shares[each] for each in leaders) >= confidence - 1e-9 or not share:
            break
        leaders.append(name)
    above = None if base is None else float(np.mean(draws[leaders[0]] > base))
    return Verdict(shares=shares, leaders=tuple(leaders), above_base=above)
