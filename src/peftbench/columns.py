"""A finished run as one flat row: what every column of a query means, and how it is taken from the records."""

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_type_hints

from pydantic import Field, ValidationError

from peftbench.errors import DataError
from peftbench.records import EvalRecord, RunResult, TrainRecord
from peftbench.schema import Frozen

if TYPE_CHECKING:
    import pyarrow as pa

Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # what a column of a table can hold
Kind = Literal["text", "whole number", "number", "true or false"]

SHOWN = ("model", "quantization", "dataset", "method", "settings", "seed", "protocol", "score", "invalid_rate",
         "trainable_params", "best_validation_loss", "status")  # fmt: skip
"""The columns of a table on a terminal, where none are asked for; `quantization` only where there is some."""


class ResultRow(Frozen):
    """One evaluation with the training behind it, or a training that was not evaluated.

    None is what is not known or was not part of the run, as the training of the base model. No name is a reserved
    word of SQL.
    """

    model: str
    """Folder or hub id of the base model, as it was given."""
    model_revision: str | None
    """Commit on the hub; none for a folder."""
    model_family: str
    """Architecture, such as llama."""
    model_fingerprint: str
    """Hub id and revision, or a hash over the files of the folder."""
    dtype: str
    """Precision of the frozen base model."""
    quantization: str | None
    """How its projections are kept, nf4 or int8; none where in `dtype`."""
    dataset: str
    """Name of the dataset."""
    protocol: str
    """Rules of data, prompts and decoding: corrected or published."""
    method: str
    """Name of the method."""
    settings: str
    """Settings of the method that were given, as JSON with sorted keys; {} where all are defaults."""
    method_code: str | None
    """Content hash of the file of a method of your own, whose text lies beside the run; none for another."""
    seed: Whole
    """Seed of the run; without meaning for the base model."""
    learning_rate: float | None
    """Highest learning rate."""
    epochs: Whole | None
    """Passes over the training rows."""
    batch_size: Whole | None
    """Samples of a training step."""
    train_rows: Whole | None
    """Rows that were trained on."""
    train_rows_limit: Whole | None
    """Limit of training rows that was asked for, validation included; none takes all."""
    test_rows: Whole | None
    """Rows that were answered."""
    test_rows_limit: Whole | None
    """Limit of test rows that was asked for; none takes all."""
    partial: bool
    """Whether the source had other rows than the benchmark counts."""
    train_test_overlap_rows: Whole | None
    """Test rows whose input stands in the source's train split too."""
    metric: str | None
    """Metric of the score."""
    score: float | None
    """Primary score under the run's own protocol, 0 to 100."""
    score_corrected: float | None
    """Primary score under the corrected scoring rules, 0 to 100."""
    score_published: float | None
    """Primary score under the published scoring rules, 0 to 100."""
    all_scores: str | None
    """All scores under the run's own protocol, as JSON by name, 0 to 100."""
    invalid_rate: float | None
    """Share of scored outputs, 0 to 1, that are no answer of the required form."""
    hit_limit_rate: float | None
    """Share of outputs, 0 to 1, that ended only at the limit of tokens."""
    top_output_share: float | None
    """Share of the most frequent output, 0 to 1."""
    trainable_params: Whole | None
    """Parameters that were trained."""
    adapter_params: Whole | None
    """Parameters that are stored for use."""
    adapter_bytes: Whole | None
    """Size of the file of the stored weights."""
    best_validation_loss: float | None
    """Lowest validation loss, of the weights that were kept."""
    best_step: Whole | None
    """Step of the lowest validation loss."""
    steps: Whole | None
    """Training steps."""
    train_seconds: float | None
    """Wall time of training steps alone; of passes with other runs an equal share."""
    validation_seconds: float | None
    """Wall time of validation and checkpoints."""
    train_total_seconds: float | None
    """Wall time of the whole training."""
    generation_seconds: float | None
    """Wall time of all answers, prompts included."""
    evaluation_seconds: float | None
    """Wall time of the whole evaluation."""
    train_tokens_per_second: float | None
    """Tokens learned from by `train_seconds`."""
    generated_tokens_per_second: float | None
    """Answer tokens by `generation_seconds`."""
    train_peak_memory_bytes: Whole | None
    """Largest memory during training; none where several runs shared it."""
    evaluation_peak_memory_bytes: Whole | None
    """Largest memory during evaluation."""
    memory_kind: str | None
    """What the peaks are: cuda allocated, or process resident."""
    latency_prompt_tokens: Whole | None
    """Length of the prompt that the latencies are of."""
    first_token_seconds: float | None
    """From the prompt to the first answer token, adapter attached, batch of one."""
    next_token_seconds: float | None
    """Each further token, adapter attached, batch of one."""
    merged_first_token_seconds: float | None
    """First token with a merged adapter."""
    merged_next_token_seconds: float | None
    """Each further token with a merged adapter."""
    train_energy_joules: float | None
    """Energy of the training."""
    evaluation_energy_joules: float | None
    """Energy of the evaluation."""
    energy_source: str | None
    """measured; estimated if a part of the energy is."""
    group_size: Whole | None
    """Most runs that shared a training pass with this one, itself included."""
    device: str
    """Device of the training; of the evaluation for the base model."""
    peftbench_version: str
    """Version of the package that made the evaluation, or the training if there is none."""
    peftbench_commit: str | None
    """Commit of its source tree, +dirty if files were changed; none outside a checkout."""
    started_at: str
    """When the training began, or the evaluation of the base model; UTC, ISO 8601."""
    evaluated_at: str | None
    """When the evaluation began; UTC, ISO 8601."""
    status: str
    """done, or failed if a part of the run is."""
    failure_reason: str | None
    """nonfinite or out_of_memory."""
    failure: str | None
    """What failed, in words."""
    train_id: str
    """Id of the training."""
    eval_id: str | None
    """Id of the evaluation; none where there was none."""
    folder: str
    """Folder of the run, relative to the folder that was read."""


COLUMNS = tuple(ResultRow.model_fields)
_NAMES: dict[type, Kind] = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def kinds_of(rows: type[Frozen]) -> dict[str, Kind]:
    """What each column holds, for flat rows of this model."""
    return {name: _NAMES[_plain(hint)] for name, hint in get_type_hints(rows).items() if name in rows.model_fields}


def _plain(hint: Any) -> type:
    """The type of a field that may be unknown or one of a few texts."""
    first = (get_args(hint) or (hint,))[0]
    return str if isinstance(first, str) else first


KINDS: dict[str, Kind] = kinds_of(ResultRow)
"""What each column holds."""


def described(rows: type[Frozen] = ResultRow) -> list[dict[str, str]]:
    """Name, kind and meaning of every column."""
    return [
        {"name": name, "kind": kind, "meaning": rows.model_fields[name].description or ""}
        for name, kind in kinds_of(rows).items()
    ]


def arrow_schema(rows: type[Frozen] = ResultRow) -> "pa.Schema":
    """The columns as Arrow types, each with its meaning beside it."""
    import pyarrow as pa

    types = {"text": pa.string(), "whole number": pa.int64(), "number": pa.float64(), "true or false": pa.bool_()}
    return pa.schema(
        [
            pa.field(each["name"], types[each["kind"]], metadata={"meaning": each["meaning"]})
            for each in described(rows)
        ]
    )


def row_of(result: RunResult, folder: str) -> ResultRow:
    """The row of one finished run; `folder` is what the row calls it.

    Raises `DataError` if a number is too large for a table.
    """
    config, train, evaluation = result.config, result.train, result.evaluation
    first, last = train or evaluation, evaluation or train
    assert first is not None
    assert last is not None
    failure = next((part.failure for part in (train, evaluation) if part and part.failure), None)
    values: dict[str, Any] = dict.fromkeys(COLUMNS)
    values |= {
        "model": config.model,
        "model_revision": config.model_revision,
        "model_family": last.model.family,
        "model_fingerprint": last.model.fingerprint,
        "dtype": last.model.dtype,
        "quantization": last.model.quantization,
        "dataset": config.dataset,
        "protocol": config.protocol,
        "method": config.method.name,
        "settings": json.dumps(config.method.settings, sort_keys=True, ensure_ascii=False),
        "method_code": config.method.code.sha256 if config.method.code else None,
        "seed": config.seed,
        "partial": any(part.data.partial for part in (train, evaluation) if part),
        "train_test_overlap_rows": last.data.train_test_overlap_rows,
        "device": first.provenance.device,
        "peftbench_version": last.provenance.peftbench,
        "peftbench_commit": last.provenance.commit,
        "started_at": first.provenance.started_at,
        "status": result.status,
        "failure_reason": failure.reason if failure else None,
        "failure": failure.message if failure else None,
        "train_id": last.train_id,
        "folder": folder,
    }
    values |= _of_train(train) if train else {}
    values |= _of_evaluation(evaluation) if evaluation else {}
    profiles = [part.efficiency for part in (train, evaluation) if part and part.efficiency]
    values["memory_kind"] = (train.memory_kind if train else None) or next(
        (each.memory_kind for each in profiles if each.memory_kind), None
    )
    sources = {each.energy_source for each in profiles}
    values["energy_source"] = next((each for each in ("estimated", "measured") if each in sources), None)
    try:
        return ResultRow(**values)
    except ValidationError as error:
        column = error.errors()[0]["loc"][0]
        raise DataError(
            f"the records in {result.folder} do not fit into a table: {column}: {error.errors()[0]['msg']}; they "
            "may be damaged"
        ) from error


def _of_train(record: TrainRecord) -> dict[str, Any]:
    """The columns of a training."""
    training, profile, split = record.config.training, record.efficiency, record.data.splits.get("train")
    same = ("trainable_params", "adapter_params", "adapter_bytes", "best_validation_loss", "best_step", "steps",
            "group_size")  # fmt: skip
    measured = ("train_seconds", "validation_seconds", "train_tokens_per_second")
    return {
        **{name: getattr(record, name) for name in same},
        **{name: getattr(training, name) for name in ("learning_rate", "epochs", "batch_size")},
        **{name: getattr(profile, name, None) for name in measured},
        "train_rows": split.rows if split else None,
        "train_rows_limit": record.data.train_rows_limit,
        "train_total_seconds": record.seconds,
        "train_peak_memory_bytes": record.peak_memory_bytes,
        "train_energy_joules": profile.energy_joules if profile else None,
    }


def _of_evaluation(record: EvalRecord) -> dict[str, Any]:
    """The columns of an evaluation; a failed one has no scores."""
    profile, scores = record.efficiency, record.scores if record.status == "done" else {}
    own, corrected, published = (scores.get(each) for each in (record.config.protocol, "corrected", "published"))
    same = ("metric", "hit_limit_rate", "eval_id")
    scored = ("invalid_rate", "top_output_share") if record.status == "done" else ()
    measured = ("generation_seconds", "generated_tokens_per_second", "latency_prompt_tokens",
                "first_token_seconds", "next_token_seconds", "merged_first_token_seconds",
                "merged_next_token_seconds")  # fmt: skip
    return {
        **{name: getattr(record, name) for name in (*same, *scored)},
        **{name: getattr(profile, name, None) for name in measured},
        "score": own.primary if own else None,
        "score_corrected": corrected.primary if corrected else None,
        "score_published": published.primary if published else None,
        "all_scores": json.dumps(own.values, sort_keys=True) if own else None,
        "test_rows": record.tokens.rows,
        "test_rows_limit": record.data.test_rows_limit,
        "evaluation_seconds": record.seconds,
        "evaluation_peak_memory_bytes": record.peak_memory_bytes,
        "evaluation_energy_joules": profile.energy_joules if profile else None,
        "evaluated_at": record.provenance.started_at,
    }
