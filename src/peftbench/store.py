"""Folders of runs: what lies where, written whole or not at all.

    <output>/<model>/<method>/<dataset>/seed<k>-<train_id>/
        config.json  checkpoint/  adapter/  curve.jsonl  train.json
        eval-<eval_id>/  predictions.parquet  result.json  scores-<version>.json

`train.json` and `result.json` decide: a record is complete or absent, and the first one stands, whoever else makes
the same. Folders of several machines merge by copying.
"""

import errno
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from peftbench.datasets.own import bare, remembered
from peftbench.disk import below, create_text, explained, write_draft, write_tensors, write_text
from peftbench.errors import Busy, DataError
from peftbench.finished import checked, read_config, read_record, seal
from peftbench.parts import prepare
from peftbench.records import CurvePoint, EvalRecord, RunConfig, RunResult, TrainRecord
from peftbench.redaction import redacted_json


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, config: RunConfig, model_label: str, train_id: str) -> "RunFolder":
        """Where the run of this configuration and id lies; the base model has no seed."""
        name = train_id if config.method.name == "base" else f"seed{config.seed}-{train_id}"
        dataset = bare(config.dataset) if config.dataset_file else config.dataset  # its hash is not of the weights
        parts = (safe_name(model_label), config.method.name, dataset, name)
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
        with explained(self.path):
            if not described.exists():
                self.path.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # who has finished this run meanwhile may have tidied up
                    written = {"train_id": train_id, "config": config.model_dump(mode="json")}
                    if (own := remembered(config.dataset)) is not None:
                        written["entry"] = own.model_dump(mode="json")
                    create_text(described, seal(json.loads(redacted_json(json.dumps(written)))))
        found = self.train_id()
        if found != train_id:
            raise DataError(
                f"folder {self.path} holds another run ({found}, not {train_id}); choose another output folder"
            )

    def keep_method(self, text: str) -> None:
        """Keep the text of the file that the run's method was loaded from, to be read; it is not run from here."""
        file = self.path / "method.py"
        with explained(self.path), suppress(FileNotFoundError):
            if not file.exists():
                create_text(file, text)

    def train_id(self) -> str:
        """Id of the run that lies here."""
        described = self.path / "config.json"
        return str(checked(_json(described), described).get("train_id"))

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
        return read_config(described)

    def train_record(self) -> TrainRecord | None:
        """The finished training, or None."""
        return read_record(TrainRecord, self.path / "train.json")

    def write_curve(self, points: Iterable[BaseModel]) -> None:
        """Replace the training curve by these points."""
        lines = "".join(point.model_dump_json() + "\n" for point in points)
        with explained(self.path):
            write_text(self.path / "curve.jsonl", lines)

    def add_to_curve(self, point: CurvePoint) -> None:
        """Put a point on the curve of a training that goes on, behind the points of earlier steps.

        Not where the training was finished by another process, whose curve stands.
        """
        file, before = self.path / "curve.jsonl", ""
        with explained(self.path):
            if (self.path / "train.json").exists():
                return
            with suppress(FileNotFoundError):
                before = file.read_text(encoding="utf-8", errors="replace")
            # A run that goes on makes points again that the attempt before it had made.
            kept = [line for line in before.splitlines(keepends=True) if _step_of(line) < point.step]
            try:
                write_text(file, "".join(kept) + point.model_dump_json() + "\n")
            except FileNotFoundError:
                if not (self.path / "train.json").exists():  # or else who has finished this run has tidied up
                    raise

    @contextmanager
    def training_alone(self) -> Iterator[None]:
        """Keep other processes of this machine from training this run; raises `Busy` if one does.

        It saves work and nothing depends on it: a file system may keep no locks, or not between machines. Nothing
        that could outlive a killed process takes the place of a lock.
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

    def write_adapter(self, config: Mapping[str, Any], tensors: Mapping[str, Any]) -> tuple[dict[str, str], int]:
        """Store an adapter in the format of Hugging Face PEFT, to be in place once its record stands.

        Returns the hashes for the record, by its fields, and the bytes of the file of tensors.
        """
        sizes: list[int] = []

        def write(draft: Path) -> None:
            write_tensors(draft, tensors)
            sizes.append(draft.stat().st_size)

        text = json_text(dict(config))
        with explained(self.adapter):
            hashes = {
                "adapter_sha256": prepare(self.adapter_file, write),
                "adapter_config_sha256": prepare(
                    self.adapter / "adapter_config.json",
                    lambda draft: write_draft(draft, text),
                ),
            }
        return hashes, sizes[0]

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
    for described in sorted(each for each in below(folder) if each.name == "config.json"):
        try:
            results += results_of(described)
        except DataError as error:
            if problems is None:
                raise
            problems.append(str(error))
    return results


def results_of(described: Path) -> list[RunResult]:
    """What was finished in the folder of one `config.json`; raises `DataError` for what cannot be understood."""
    run = RunFolder(described.parent)
    if "train_id" not in _json(described):
        if (run.path / "train.json").exists() or any(run.path.glob("eval-*/result.json")):
            raise DataError(f"{described} does not say whose records lie beside it; restore it")
        return []
    run.train_id()  # whose check of the file is wanted
    trained, path = run.train_record(), str(run.path)
    done = [read_record(EvalRecord, each / "result.json") for each in sorted(run.path.glob("eval-*"))]
    found = [each for each in done if each is not None]
    if not found and trained is not None:
        return [RunResult(folder=path, config=trained.config, train=trained, evaluation=None)]
    return [RunResult(folder=path, config=each.config, train=trained, evaluation=each) for each in found]


def write_json(file: Path, value: Any) -> None:
    """Write JSON whole or not at all, without known secrets."""
    write_text(file, json_text(value))


def json_text(value: Any) -> str:
    """JSON as it is written here, without known secrets; raises `ValueError` for what JSON has no form of."""
    return redacted_json(json.dumps(value, indent=1, allow_nan=False)) + "\n"


def safe_name(name: str) -> str:
    """A name as one part of a path: letters, digits, dot, dash and underscore, not beginning with a dot."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", name).lstrip(".-") or "model"


def _json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}); restore it or choose another folder") from error
    return value if isinstance(value, dict) else {}


def _step_of(line: str) -> float:
    """The step of a line of a curve; of a damaged line beyond all others."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return float("inf")
