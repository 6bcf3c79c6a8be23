"""From predictions to scores: the benchmark's metrics and the one function that applies them.

A metric counts row by row and combines counts, so that a score can be computed again on any selection of rows
and from stored predictions alone. Intervals, ranks and records are made elsewhere.
"""

from peftbench.metrics.scoring import (
    Metric,
    RowSums,
    Scores,
    mean_sums,
    means,
    metric,
    metrics,
    rights,
    score_rows,
)

__all__ = ["Metric", "RowSums", "Scores", "mean_sums", "means", "metric", "metrics", "rights", "score_rows"]
