"""Records of what is finished: sealed by a hash of themselves, and the first complete one stands.

What belongs to a record is prepared before it and placed after it (`parts`), so that the one moment that decides
is the creation of the record's file. No lock is needed for that, and a network file system can do it.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from peftbench.datasets.own import remember
from peftbench.disk import create_text, explained, write_text
from peftbench.errors import DataError
from peftbench.parts import settle, sweep
from peftbench.records import RECORD_VERSION, EvalRecord, RunConfig, TrainRecord
from peftbench.redaction import redacted_json
from peftbench.schema import DatasetSpec

M = TypeVar("M", bound=BaseModel)
R = TypeVar("R", TrainRecord, EvalRecord)


def write_record(file: Path, record: R, *, over: R | None = None) -> R:
    """Write a record once, and give back the one that stands there: this one, or that of who came before.

    `over` is a record that does not count any more, because it failed for want of memory or because what belongs
    to it is lost: where it still stands, it is replaced. Raises `DataError` if the disk refuses.
    """
    text = seal(json.loads(redacted_json(record.model_dump_json())))
    with explained(file):
        if over is not None and read_record(type(record), file) == over:
            write_text(file, text)
        else:
            create_text(file, text)
        stands = read_record(type(record), file)
        if stands is None:
            raise FileNotFoundError(2, "another process deleted it", str(file))
        if complete(file, stands):
            tidy(file, stands)
    return stands


def first_of(model: type[R], file: Path, write: Callable[[], R]) -> R:
    """What `write` gives or, where it fails because another process has finished it and tidied up, what stands.

    Raises `DataError` as `write` does where nothing complete stands.
    """
    try:
        return write()
    except DataError:
        stands = read_record(model, file)
        if stands is None or not complete(file, stands):
            raise
        return stands


def tidy(file: Path, record: TrainRecord | EvalRecord) -> None:
    """Delete what killed processes and late ones have left beside a record that stands."""
    others = (
        [file.with_name("config.json"), file.with_name("curve.jsonl")] if isinstance(record, TrainRecord) else []
    )
    for each in (file, *_parts(file, record), *others):
        sweep(each)


def complete(file: Path, record: TrainRecord | EvalRecord) -> bool:
    """Whether all that a record in `file` names is there as it was written; what was prepared is put in place.

    Raises `DataError` if the disk refuses.
    """
    parts = _parts(file, record)
    with explained(file.parent):
        found = [sha256 is None or settle(part, sha256) for part, sha256 in parts.items()]
    # Records of earlier versions have no hash of their predictions, and yet are nothing without them.
    return all(found) and (isinstance(record, TrainRecord) or next(iter(parts)).exists())


def _parts(file: Path, record: TrainRecord | EvalRecord) -> dict[Path, str | None]:
    """Files that belong to a record, and what it says of their content; None where it says nothing."""
    if isinstance(record, EvalRecord):
        return {file.with_name("predictions.parquet"): record.predictions_sha256}
    adapter = file.with_name("adapter")
    return {
        adapter / "adapter_model.safetensors": record.adapter_sha256,
        adapter / "adapter_config.json": record.adapter_config_sha256,
    }


def read_record(model: type[R], file: Path) -> R | None:
    """A finished record, or None where there is none.

    Raises `DataError` if it cannot be read or understood, does not have the content that it was written with, or
    is that of another run or evaluation.
    """
    if not file.is_file():
        return None
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror or error}); make it readable") from error
    record = _model(model, text, file)
    if record.data.entry is not None:
        remember(record.data.entry)
    if record.record_version > RECORD_VERSION:
        raise DataError(_of_newer_version(file))
    _check_place(record, file)
    return record


def read_config(file: Path) -> RunConfig:
    """The configuration in the `config.json` of a run; raises `DataError` if it is not as it was written."""
    try:
        found = json.loads(file.read_bytes())
        content = checked(found, file)
        if content.get("entry") is not None:
            remember(DatasetSpec.model_validate_json(json.dumps(content["entry"])))
        return RunConfig.model_validate_json(json.dumps(content.get("config")))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise _not_understood(file, error) from error


def seal(content: Mapping[str, Any]) -> str:
    """The text of a file with this content and, last, the hash of the content."""
    sha256 = hashlib.sha256(_compact(content).encode()).hexdigest()
    return json.dumps({**content, "sha256": sha256}, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def checked(content: dict[str, Any], file: Path) -> dict[str, Any]:
    """The content of a sealed file without its hash; raises `DataError` if the two do not belong together.

    Files of earlier versions have no hash.
    """
    rest = {name: value for name, value in content.items() if name != "sha256"}
    _check_seal(_compact(rest), content, file)
    return rest


def _check_seal(text: str, content: Mapping[str, Any], file: Path) -> None:
    if "sha256" in content and hashlib.sha256(text.encode()).hexdigest() != content["sha256"]:
        raise DataError(
            f"{file} does not have the content that it was written with: it is damaged or was edited; restore it, "
            "or delete it and run the same command again"
        )


def _compact(content: Mapping[str, Any]) -> str:
    """What the hash is taken of: a file that was only indented anew is still the same."""
    return json.dumps(content, separators=(",", ":"))


def _model(model: type[M], text: bytes, file: Path) -> M:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _not_understood(file, error) from error
    if isinstance(found, dict) and "sha256" in found:
        version = found.get("record_version")
        if isinstance(version, int) and version > RECORD_VERSION:
            raise DataError(_of_newer_version(file))  # whose seal may be another
        compact = _compact({name: value for name, value in found.items() if name != "sha256"})
        _check_seal(compact, found, file)
        text = compact.encode()
    try:
        return model.model_validate_json(text)
    except ValidationError as error:
        version = found.get("record_version") if isinstance(found, dict) else None
        if isinstance(version, int) and version > RECORD_VERSION:
            raise DataError(_of_newer_version(file)) from error
        raise _not_understood(file, error) from error


def _not_understood(file: Path, error: Exception) -> DataError:
    what = "the file: it is no JSON of the expected form"
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the file"
        what = f"{key}: {first['msg']}"
    return DataError(
        f"{file} is not a record of this version: {what}; it may be damaged or from a newer version of peftbench"
    )


def _of_newer_version(file: Path) -> str:
    return f"{file} was written by a newer version of peftbench than this one; install that version to read it"


def _check_place(record: TrainRecord | EvalRecord, file: Path) -> None:
    """Raise `DataError` if a record was put where another one belongs."""
    run = file.parent
    if isinstance(record, EvalRecord):
        wanted, place = f"eval-{record.eval_id}", run.name
        if place != wanted and run.resolve().name != wanted:
            raise DataError(f"{file} is the record of another evaluation ({wanted}, not {place}); put it there")
        run = run.parent if place == wanted else run.resolve().parent
    described: Any = None
    with suppress(OSError, ValueError, RecursionError):  # whoever needs config.json itself will say so
        described = json.loads((run / "config.json").read_bytes())
    found = described.get("train_id") if isinstance(described, dict) else None
    if found not in (None, record.train_id):
        raise DataError(f"{file} is the record of another run ({record.train_id}, not {found}); put it there")
