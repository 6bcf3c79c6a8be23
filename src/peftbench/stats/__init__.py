"""Statistics of scores: pure functions on arrays, numpy and scipy alone, no records, no metrics of their own.

`intervals` resamples seeds and test rows; `differences` compares two methods on the same rows; `ranks` compares
several over datasets; `profiles` looks at all runs at once; `stability` at seeds. docs/statistics.md says which
answers which question, and against what each was checked.
"""

from peftbench.stats.arrays import Reals
from peftbench.stats.differences import (
    PERMUTATIONS,
    Discordance,
    Permutation,
    holm,
    mcnemar,
    permutation_test,
    share_ahead,
    smallest_difference,
    vote,
)
from peftbench.stats.intervals import (
    CONFIDENCE,
    REPLICATES,
    Cell,
    Columns,
    Interval,
    Sums,
    interval_of,
    mean_interval,
    paired_draws,
    paired_means,
)
from peftbench.stats.profiles import (
    interquartile_mean,
    performance_profile,
    probability_of_improvement,
    stratified_interval,
)
from peftbench.stats.ranks import (
    FEWEST_DATASETS,
    Friedman,
    Procedure,
    RankDiagram,
    critical_difference,
    friedman,
    nemenyi,
    rank_diagram,
    rank_intervals,
    rank_rows,
    signed_rank,
    wilcoxon_holm,
)
from peftbench.stats.stability import Spread, equal_spread, spread

__all__ = [
    "CONFIDENCE",
    "FEWEST_DATASETS",
    "PERMUTATIONS",
    "REPLICATES",
    "Cell",
    "Columns",
    "Discordance",
    "Friedman",
    "Interval",
    "Permutation",
    "Procedure",
    "RankDiagram",
    "Reals",
    "Spread",
    "Sums",
    "critical_difference",
    "equal_spread",
    "friedman",
    "holm",
    "interquartile_mean",
    "interval_of",
    "mcnemar",
    "mean_interval",
    "nemenyi",
    "paired_draws",
    "paired_means",
    "performance_profile",
    "permutation_test",
    "probability_of_improvement",
    "rank_diagram",
    "rank_intervals",
    "rank_rows",
    "share_ahead",
    "signed_rank",
    "smallest_difference",
    "spread",
    "stratified_interval",
    "vote",
    "wilcoxon_holm",
]
