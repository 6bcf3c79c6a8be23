"""Scores from stored predictions, without torch: of a finished run, or of any outputs and gold answers."""

from pathlib import Path
from typing import get_args

from peftbench.datasets import dataset_given, get_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.disk import explained
from peftbench.errors import DataError, UnknownName
from peftbench.finished import read_record
from peftbench.metrics import score_rows
from peftbench.predictions import read_predictions
from peftbench.records import EvalRecord, Scores
from peftbench.schema import Frozen, Protocol
from peftbench.scoring import as_record, score_both
from peftbench.store import find_run, write_json


class Rescored(Frozen):
    """New scores of one stored evaluation."""

    evaluation: str
    """Folder of the evaluation."""
    metric: str
    metric_version: int
    rows: int
    unseen_only: bool
    """Whether test rows whose input stands in train were left out."""
    scores: dict[Protocol, Scores]


def score(
    dataset: str,
    predictions: list[str],
    references: list[str] | list[list[str]],
    protocol: Protocol = "corrected",
) -> dict[str, float]:
    """All scores of these outputs on 0 to 100, the dataset's primary one under `primary`.

    Beside them stand `invalid_rate` and `top_output_share`, shares from 0 to 1: of the outputs that are no
    answer of the required form, and of the most frequent output.
    `references` holds one gold answer or a list of them for each prediction. Raises `UnknownName` for a dataset
    or protocol that is not known, `DataError` for lengths that differ or a gold answer that cannot be one.
    """
    known = get_args(Protocol)
    if protocol not in known:
        raise UnknownName("protocol", protocol, known)
    golds = [(each,) if isinstance(each, str) else each for each in references]
    spec = under_protocol(dataset_given(dataset), protocol)
    scored = score_rows(spec, predictions, golds, protocol)
    return {**scored.values, "invalid_rate": scored.invalid_rate, "top_output_share": scored.top_output_share}


def rescore(path: Path, *, unseen_only: bool = False) -> list[Rescored]:
    """Score the stored predictions of a run, or of one of its evaluations, and keep the scores beside them."""
    run = find_run(path)
    below = path.resolve() != run.path.resolve()
    if below and not (path / "result.json").is_file():
        raise DataError(
            f"{str(path)!r} is no finished evaluation of run {run.path}; give the run or an eval- folder"
        )
    folders = [path] if below else run.evaluations()
    if not folders:
        raise DataError(f"run {run.path} has no finished evaluation; run `peftbench eval` first")
    return [_rescore(folder, unseen_only) for folder in folders]


def _rescore(folder: Path, unseen_only: bool) -> Rescored:
    record = read_record(EvalRecord, folder / "result.json")
    if record is None:
        raise DataError(f"evaluation {folder} is not finished: it has no result.json; evaluate again")
    rows = read_predictions(folder / "predictions.parquet", record.predictions_sha256)
    if len(rows) != record.tokens.rows:
        raise DataError(
            f"{folder / 'predictions.parquet'} holds {len(rows)} rows, its record {record.tokens.rows}; restore "
            "the file or evaluate again"
        )
    if unseen_only:
        if any(row.in_train is None for row in rows):
            raise DataError(
                f"evaluation {folder} did not load the train split, so it cannot say which test rows stand in it; "
                "evaluate a trained run"
            )
        rows = [row for row in rows if not row.in_train]
        if not rows:
            raise DataError(f"every test row of evaluation {folder} stands in train too, so none is left to score")
    spec = under_protocol(get_dataset(record.config.dataset), record.config.protocol)
    scored = score_both(spec, [row.text for row in rows], [row.references for row in rows])
    result = Rescored(
        evaluation=str(folder),
        metric=scored["corrected"].metric,
        metric_version=scored["corrected"].metric_version,
        rows=len(rows),
        unseen_only=unseen_only,
        scores={protocol: as_record(each) for protocol, each in scored.items()},
    )
    suffix = "-unseen" if unseen_only else ""
    with explained(folder):
        write_json(folder / f"scores-{result.metric_version}{suffix}.json", result.model_dump(mode="json"))
    return result
