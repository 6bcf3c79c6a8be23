"""Folders of runs: what lies where, written whole or not at all.

    <output>/<model>/<method>/<dataset>/seed<k>-<train_id>/
        config.json  checkpoint/  adapter/  curve.jsonl  train.json
        eval-<eval_id>/  predictions.parquet  result.json  scores-<version>.json

`train.json` and `result.json` are written last: a record is complete or absent, and a finished one is never
changed. Folders of several machines merge by copying.
"""

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from peftbench.disk import draft_of, explained, write_tensors, write_text
from peftbench.errors import Busy, DataError
from peftbench.records import RECORD_VERSION, EvalRecord, RunConfig, RunResult, TrainRecord
from peftbench.redaction import redacted_json

M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Prediction:
    """One stored output."""

    id: str
    prompt_sha256: str
    """Hash of the prompt's token ids as they went into the model."""
    text: str
    references: tuple[str, ...]
    valid: bool | None
    """Whether the output is an answer of the required form; None where there is no gold answer to score it by."""
    hit_limit: bool
    """Whether it ended only because no more tokens were allowed."""
    new_tokens: int
    in_train: bool | None
    """Whether the same input stands in the source's train split; None where that was not loaded."""


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, model_label: str, train_id: str) -> "RunFolder":
        """Where the run of this configuration and id lies; the base model has no seed."""
        name = train_id if config.method.name == "base" else f"seed{config.seed}-{train_id}"
        parts = (safe_name(model_label), config.method.name, config.dataset, name)
        return cls(Path(config.output).joinpath(*parts))

    @property
    def adapter(self) -> Path:
        """Folder of the trained adapter, in the format of Hugging Face PEFT."""
        return self.path / "adapter"

    @property
    def adapter_file(self) -> Path:
        """File of the trained weights."""
        return self.adapter / "adapter_model.safetensors"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints of a training that has not ended."""
        return self.path / "checkpoint"

    def open(self, train_id: str, config: RunConfig) -> None:
        """Make the folder, or check that it is this run's; raises `DataError` if it is not or cannot be made."""
        described = self.path / "config.json"
        if described.exists():
            found = _json(described).get("train_id")
            if found != train_id:
                raise DataError(
                    f"folder {self.path} holds another run ({found}, not {train_id}); choose another output folder"
                )
            return
        with explained(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(described, {"train_id": train_id, "config": config.model_dump(mode="json")})

    def train_id(self) -> str:
        """Id of the run that lies here."""
        return str(_json(self.path / "config.json").get("train_id"))

    def remove_checkpoints(self) -> None:
        """Delete the checkpoints of a finished training."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def set_failure_aside(self) -> None:
        """Take the record of a failed training out of the way, so that it is tried again."""
        record = self.train_record()
        if record is not None and record.status == "failed":
            target = self.path / f"train-failed-{len(list(self.path.glob('train-failed-*.json'))) + 1}.json"
            with explained(target):
                (self.path / "train.json").rename(target)

    def config(self) -> RunConfig:
        """The configuration that the run was made with."""
        described = self.path / "config.json"
        if not described.is_file():
            raise DataError(f"{str(self.path)!r} is not the folder of a run: it has no config.json")
        return _model(RunConfig, json.dumps(_json(described).get("config")), described)

    def train_record(self) -> TrainRecord | None:
        """The finished training, or None."""
        return read_record(TrainRecord, self.path / "train.json")

    def write_curve(self, points: Iterable[BaseModel]) -> None:
        """Replace the training curve by these points."""
        lines = "".join(point.model_dump_json() + "\n" for point in points)
        with explained(self.path):
            write_text(self.path / "curve.jsonl", lines)

    def add_to_curve(self, point: BaseModel) -> None:
        """Add a point to the curve of a training that goes on."""
        with explained(self.path), (self.path / "curve.jsonl").open("a", encoding="utf-8") as file:
            file.write(point.model_dump_json() + "\n")

    @contextmanager
    def training_alone(self) -> Iterator[None]:
        """Keep other processes from training this run; raises `Busy` if one does.

        Where the file system keeps no locks two may train it: that costs time, and the first record stands.
        Nothing that could outlive a killed process takes the place of a lock.
        """
        import fcntl

        file = self.path / ".training.lock"
        with explained(self.path):
            handle = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                    raise Busy(
                        f"run {self.path} is being trained by another process; wait for it, or choose another "
                        "output"
                    ) from None
            try:
                yield
            finally:
                file.unlink(missing_ok=True)
        finally:
            os.close(handle)

    def write_adapter(self, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> int:
        """Write an adapter in the format of Hugging Face PEFT; returns the bytes of its tensors' file."""
        with explained(self.adapter):
            self.adapter.mkdir(parents=True, exist_ok=True)
            write_tensors(self.adapter_file, tensors)
            write_json(self.adapter / "adapter_config.json", dict(config))
        return self.adapter_file.stat().st_size

    def adapter_sha256(self) -> str | None:
        """SHA-256 of the stored weights; None where there are none."""
        if not self.adapter_file.is_file():
            return None
        with self.adapter_file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()

    def evaluation(self, eval_id: str) -> Path:
        """Folder of one evaluation."""
        return self.path / f"eval-{eval_id}"

    def evaluations(self) -> list[Path]:
        """Folders of the finished evaluations, the newest last."""
        return sorted(
            (file.parent for file in self.path.glob("eval-*/result.json")),
            key=lambda folder: (folder / "result.json").stat().st_mtime,
        )


def find_run(path: Path) -> RunFolder:
    """The run at `path`, which is its folder or lies below it; raises `DataError` if there is none."""
    for folder in (path, *path.absolute().parents) if path.exists() else ():
        if (folder / "config.json").is_file() and "train_id" in _json(folder / "config.json"):
            return RunFolder(folder)
    what = "does not exist" if not path.exists() else "is not the folder of a run"
    raise DataError(f"{str(path)!r} {what}; give a folder such as runs/<model>/<method>/<dataset>/seed42-<id>")


def stored_results(folder: Path, problems: list[str] | None = None) -> list[RunResult]:
    """What was finished below a folder, one result for each evaluation, in the order of paths.

    A training without an evaluation is a result without one. Raises `DataError` where the folder is not there, and
    where a record cannot be understood unless `problems` is given, which then takes the sentence.
    """
    if not folder.is_dir():
        raise DataError(f"{str(folder)!r} is not a folder; give one that holds runs, such as runs")
    results = []
    for described in sorted(folder.rglob("config.json")):
        try:
            results += _results_of(described)
        except DataError as error:
            if problems is None:
                raise
            problems.append(str(error))
    return results


def _results_of(described: Path) -> list[RunResult]:
    if described.parent.name in ("adapter", "checkpoint") or "train_id" not in _json(described):
        return []
    run = RunFolder(described.parent)
    trained, path = run.train_record(), str(run.path)
    done = [read_record(EvalRecord, each / "result.json") for each in sorted(run.path.glob("eval-*"))]
    found = [each for each in done if each is not None]
    if not found and trained is not None:
        return [RunResult(folder=path, config=trained.config, train=trained, evaluation=None)]
    return [RunResult(folder=path, config=each.config, train=trained, evaluation=each) for each in found]


def read_record(model: type[M], file: Path) -> M | None:
    """A finished record, or None where there is none; raises `DataError` if it cannot be understood."""
    if not file.is_file():
        return None
    try:
        text = file.read_bytes()
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error
    record = _model(model, text, file)
    if getattr(record, "record_version", RECORD_VERSION) > RECORD_VERSION:
        raise DataError(_of_newer_version(file))
    return record


def write_record(file: Path, record: TrainRecord | EvalRecord, *, again: bool = False) -> None:
    """Write a record once; one that is there stays, unless it is to be made `again`."""
    if again or not file.exists():
        with explained(file):
            write_text(file, redacted_json(record.model_dump_json(indent=1)) + "\n")


def write_predictions(file: Path, rows: Iterable[Prediction]) -> None:
    """Store outputs as Parquet, one row each."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {
        "id": pa.string(),
        "prompt_sha256": pa.string(),
        "text": pa.string(),
        "references": pa.list_(pa.string()),
        "valid": pa.bool_(),
        "hit_limit": pa.bool_(),
        "new_tokens": pa.int32(),
        "in_train": pa.bool_(),
    }
    stored = list(rows)
    columns = [pa.array([getattr(row, name) for row in stored], type=kind) for name, kind in kinds.items()]
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        with draft_of(file) as draft:
            pq.write_table(pa.table(columns, names=list(kinds)), draft, compression="zstd")


def read_predictions(file: Path) -> list[Prediction]:
    """Stored outputs in the order of the test rows; raises `DataError` if the file cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        rows = pq.read_table(file).to_pylist()
        return [Prediction(**{**row, "references": tuple(row["references"])}) for row in rows]
    except FileNotFoundError as error:
        raise DataError(f"{file} is missing; evaluate the run again") from error
    except (pa.ArrowException, OSError, TypeError, KeyError) as error:
        raise DataError(
            f"{file} cannot be read as predictions ({type(error).__name__}); evaluate again"
        ) from error


def write_json(file: Path, value: Any) -> None:
    """Write JSON whole or not at all, without known secrets."""
    write_text(file, redacted_json(json.dumps(value, indent=1, allow_nan=False)) + "\n")


def safe_name(name: str) -> str:
    """A name as one part of a path: letters, digits, dot, dash and underscore, not beginning with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".-") or "model"


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}); restore it or choose another folder") from error
    return value if isinstance(value, dict) else {}


def _model(model: type[M], text: str | bytes, file: Path) -> M:
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        if _version(text) > RECORD_VERSION:
            raise DataError(_of_newer_version(file)) from error
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DataError(
            f"{file} is not a record of this version: {key}: {first['msg']}; it may be damaged or from a newer "
            "version of peftbench"
        ) from error


def _version(text: str | bytes) -> int:
    """The version that a record gives itself, 0 where it says none."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return 0
    found = value.get("record_version") if isinstance(value, dict) else None
    return found if isinstance(found, int) else 0


def _of_newer_version(file: Path) -> str:
    return f"{file} was written by a newer version of peftbench than this one; install that version to read it"
