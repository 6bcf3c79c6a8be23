"""Cells that train nothing: each takes some milliseconds and leaves records in the shape of real ones.

To try a grid, a cluster and its file system before hours are spent, and to test what runs grids. What comes out
depends on the cell alone, so that it can be checked. Accidents can be rehearsed as well. Nothing heavy is loaded.
"""

import hashlib
import os
import signal
import time
from collections.abc import Sequence

from peftbench.cellwork import Job
from peftbench.errors import DataError, DiskError
from peftbench.finished import first_of, read_record, write_record
from peftbench.identity import content_id
from peftbench.methods.plugins import spec_of
from peftbench.observer import Observer
from peftbench.predictions import Prediction, write_predictions
from peftbench.provenance import utc_now
from peftbench.records import (
    EvalRecord,
    ModelFacts,
    Provenance,
    RunResult,
    Scores,
    TokenFacts,
    TrainRecord,
)
from peftbench.schema import DataFacts, SplitFacts
from peftbench.store import RunFolder

STEPS = 5
ROWS = 4
SECONDS_VARIABLE = "PEFTBENCH_REHEARSAL_SECONDS"
"""Environment variable: seconds that a rehearsed cell takes; 0.02 without it."""


ACCIDENTS_VARIABLE = "PEFTBENCH_REHEARSAL_ACCIDENTS"
"""Environment variable: cells and what befalls them, such as `3f2a=crash,90ab=hang`; see `_accident`."""


def rehearse_cells(jobs: Sequence[Job], observer: Observer) -> None:
    """Leave the records of each job, in the order given; those that are there are read back."""
    pause = float(os.environ.get(SECONDS_VARIABLE, "0.02")) / STEPS
    observer.phase("rehearsing", len(jobs) * STEPS)
    accidents = dict(each.split("=") for each in os.environ.get(ACCIDENTS_VARIABLE, "").split(",") if each)
    for number, job in enumerate(jobs):
        _accident(accidents.get(job.cell, ""))
        for step in range(STEPS):
            time.sleep(pause)
            observer.step(number, number * STEPS + step + 1, len(jobs) * STEPS, 1 / (step + 1))
        observer.ended(number, _recorded(job))


def _accident(kind: str) -> None:
    """What may befall a cell: a process that dies or stands still, an error of the user, of the disk, of ours."""
    if kind == "crash":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        time.sleep(1e6)
    if kind == "refused":
        raise DataError("these rows are not there; put them there")
    if kind == "disk":
        raise DiskError("cannot write here: No space left on device; make room")
    if kind == "memory":
        raise MemoryError("there is no more memory")
    if kind:
        raise RuntimeError(f"rehearsed {kind}")


def expected_score(cell: str) -> float:
    """The score that the cell of this id gets, from 0 to 100."""
    return int(hashlib.sha256(cell.encode()).hexdigest()[:8], 16) / 0xFFFFFFFF * 100


def _recorded(job: Job) -> RunResult:
    config = job.config
    train_id = content_id({"rehearsal": job.cell})
    folder = RunFolder.of(config, config.model.rstrip("/").split("/")[-1], train_id)
    folder.open(train_id, config)
    trained = folder.train_record()
    if trained is None and spec_of(config.method).build is not None:
        (folder.checkpoints / "step-1").mkdir(parents=True, exist_ok=True)
        record, file = _training(job, train_id), folder.path / "train.json"
        trained = first_of(TrainRecord, file, lambda: write_record(file, record))
        folder.remove_checkpoints()
    evaluation = content_id({"rehearsed": train_id})
    result = folder.evaluation(evaluation) / "result.json"
    rows = [Prediction(str(i), "", f"{job.cell} {i}", (f"{i}",), True, False, 1, False) for i in range(ROWS)]

    def write() -> EvalRecord:
        sha256 = write_predictions(result.with_name("predictions.parquet"), rows)
        return write_record(result, _evaluation(job, train_id, evaluation, sha256))

    done = read_record(EvalRecord, result) or first_of(EvalRecord, result, write)
    return RunResult(folder=str(folder.path), config=config, train=trained, evaluation=done)


_TOKENS = TokenFacts(rows=ROWS, cut_rows=0, dropped_rows=0, longest_tokens=1, limit_tokens=1)


def _training(job: Job, train_id: str) -> TrainRecord:
    return TrainRecord(
        train_id=train_id,
        status="done",
        config=job.config,
        model=_model(job),
        data=_data(job),
        tokens={"train": _TOKENS, "validation": _TOKENS},
        trainable_params=0,
        trainable_dtype="float32",
        adapter_params=None,
        adapter_bytes=None,
        shared_prefix_tokens=0,
        steps=STEPS,
        best_step=STEPS,
        best_validation_loss=expected_score(job.cell) / 100,
        peak_memory_bytes=None,
        memory_kind=None,
        seconds=0.0,
        provenance=_provenance(),
    )


def _evaluation(job: Job, train_id: str, eval_id: str, predictions_sha256: str) -> EvalRecord:
    scores = Scores(
        primary=expected_score(job.cell),
        values={"primary": expected_score(job.cell)},
        scored_rows=ROWS,
        unscored_rows=0,
    )
    return EvalRecord(
        eval_id=eval_id,
        train_id=train_id,
        predictions_sha256=predictions_sha256,
        status="done",
        config=job.config,
        model=_model(job),
        data=_data(job),
        tokens=_TOKENS,
        scores={"corrected": scores, "published": scores},
        metric="rehearsal",
        metric_version=1,
        invalid_rate=0.0,
        top_output_share=0.0,
        hit_limit_rate=0.0,
        max_new_tokens=1,
        peak_memory_bytes=None,
        seconds=0.0,
        provenance=_provenance(),
    )


def _model(job: Job) -> ModelFacts:
    name = job.config.model.rstrip("/").split("/")[-1]
    return ModelFacts(
        name=name,
        fingerprint="rehearsal",
        family="rehearsal",
        dtype="float32",
        parameters=0,
        context_tokens=None,
        chat_template=False,
    )


def _data(job: Job) -> DataFacts:
    split = SplitFacts(rows=ROWS, sha256="0" * 64)
    return DataFacts(
        dataset=job.config.dataset,
        version=1,
        protocol=job.config.protocol,
        source="generated",
        revision=None,
        files={},
        partial=True,
        source_rows={"train": ROWS, "test": ROWS},
        splits={"train": split, "validation": split, "test": split},
        train_test_overlap_rows=None,
        train_duplicate_rows=None,
        split_seed=job.config.data.split_seed,
        train_rows_limit=job.config.data.train_rows,
        test_rows_limit=job.config.evaluation.test_rows,
    )


def _provenance() -> Provenance:
    return Provenance(
        peftbench="rehearsal",
        commit=None,
        python="",
        platform="",
        packages={},
        device="none",
        threads=1,
        started_at=utc_now(),
    )
