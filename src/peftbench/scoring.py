"""Stored predictions under both scoring rules, as they stand in records."""

from collections.abc import Sequence

from peftbench.metrics import Scores as Scored
from peftbench.metrics import score_rows
from peftbench.records import Scores
from peftbench.schema import DatasetSpec, Protocol

PROTOCOLS: tuple[Protocol, ...] = ("corrected", "published")


def score_both(
    spec: DatasetSpec, predictions: Sequence[str], references: Sequence[Sequence[str]]
) -> dict[Protocol, Scored]:
    """The same predictions under each scoring rule; raises `DataError` as `score_rows` does."""
    return {protocol: score_rows(spec, predictions, references, protocol) for protocol in PROTOCOLS}


def as_record(scored: Scored) -> Scores:
    """Scores as a record keeps them, without the counts of single rows."""
    return Scores(
        primary=scored.values["primary"],
        values=scored.values,
        absent_classes=scored.absent_classes,
        scored_rows=scored.scored_rows,
        unscored_rows=scored.unscored_rows,
    )
