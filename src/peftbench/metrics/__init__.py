"""From predictions to scores: the benchmark's metrics and the one function that applies them.

A metric counts row by row and combines counts, so that a score can be computed again on any selection of rows
and from stored predictions alone. Intervals, ranks and records are made elsewhere.
"""

from peftbench.metrics.scoring import Metric, Scores, means, metric, metrics, score_rows

__all__ = ["Metric", "Scores", "means", "metric", "metrics", "score_rows"]
