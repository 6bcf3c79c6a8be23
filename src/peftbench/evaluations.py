"""The record of an evaluation from outputs that are there, whether just generated or kept from before.

Outputs of a user's own dataset are kept whatever its metric does: where the metric fails the record says so, and
once it is mended they are scored without being generated again.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from peftbench.errors import DataError
from peftbench.finished import complete, first_of, read_record, write_record
from peftbench.predictions import Prediction, read_predictions, write_predictions
from peftbench.records import EvalRecord, Failure
from peftbench.schema import DatasetSpec
from peftbench.scoring import as_record, score_both
from peftbench.store import RunFolder


def metric_failed(record: EvalRecord) -> bool:
    """Whether outputs are there and only their scores are not."""
    return record.failure is not None and record.failure.reason == "metric"


def kept_outputs(folder: RunFolder, test_sha256: str, max_new_tokens: int) -> list[EvalRecord]:
    """Evaluations of this run over the same test rows, named by their hash, with outputs of the same length."""
    found = [read_record(EvalRecord, each / "result.json") for each in reversed(folder.evaluations())]
    return [
        each
        for each in found
        if each is not None
        and each.data.splits["test"].sha256 == test_sha256
        and each.max_new_tokens == max_new_tokens
        and complete(folder.evaluation(each.eval_id) / "result.json", each)
    ]


def outputs_of(folder: RunFolder, record: EvalRecord) -> list[Prediction]:
    """The outputs that belong to a record; raises `DataError` where they cannot be read."""
    file = folder.evaluation(record.eval_id) / "predictions.parquet"
    return read_predictions(file, record.predictions_sha256)


def write_scored(
    file: Path, record: EvalRecord, rows: Sequence[Prediction], spec: DatasetSpec, before: EvalRecord | None
) -> EvalRecord:
    """Score outputs, write them with their record to `file`, and return the record that stands there.

    The scores in `record` are put in. `before` is a record that stands in `file` and does not count. Raises
    `DataError` where outputs cannot be scored, unless the dataset is the user's own: then the record says so.
    """
    if "@" in spec.metric:  # code of the user's, which could end the process or never end
        waiting = _failed(record, spec, "its outputs are not scored yet; run the same command again to score them")
        before = _write(file, waiting, rows, before)
        if not metric_failed(before):
            return before
    return _write(file, *_scored(record, rows, spec), before)


def _write(file: Path, record: EvalRecord, rows: Sequence[Prediction], before: EvalRecord | None) -> EvalRecord:
    def write() -> EvalRecord:
        sha256 = write_predictions(file.with_name("predictions.parquet"), rows)
        # What was damaged may just have been made as it was, and then its record is right again.
        void = before is not None and (metric_failed(before) or not complete(file, before))
        whole = record.model_copy(update={"predictions_sha256": sha256})
        return write_record(file, whole, over=before if void else None)

    return first_of(EvalRecord, file, write)


def _failed(record: EvalRecord, spec: DatasetSpec, message: str) -> EvalRecord:
    failure = Failure(reason="metric", message=message, step=None)
    return record.model_copy(update={"status": "failed", "failure": failure, "scores": {}, "metric": spec.metric})


def _scored(
    record: EvalRecord, rows: Sequence[Prediction], spec: DatasetSpec
) -> tuple[EvalRecord, Sequence[Prediction]]:
    try:
        scored = score_both(spec, [row.text for row in rows], [row.references for row in rows])
    except DataError as error:
        if not spec.own:
            raise
        return _failed(record, spec, str(error)), [replace(row, valid=None) for row in rows]
    own = scored[record.config.protocol]
    found = {
        "status": "done",
        "failure": None,
        "scores": {protocol: as_record(each) for protocol, each in scored.items()},
        "metric": own.metric,
        "metric_version": own.metric_version,
        "invalid_rate": own.invalid_rate,
        "top_output_share": own.top_output_share,
    }
    valid = zip(rows, own.valid, strict=True)
    return record.model_copy(update=found), [replace(row, valid=each) for row, each in valid]
