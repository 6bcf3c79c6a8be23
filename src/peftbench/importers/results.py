"""Imported results: what they are, and the sealed files `imported/<name>.json` of a folder of runs that hold them.

They are never records of ours: no command takes them for measured, and whoever wants them asks for them.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from peftbench.disk import create_text, entries, explained
from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.finished import checked, seal
from peftbench.importers.reading import MEGABYTE, content
from peftbench.provenance import own_version, utc_now
from peftbench.redaction import redacted_json
from peftbench.schema import Frozen
from peftbench.store import safe_name

Source = Literal["paper", "hf-method-comparison", "peft-factory", "lm-eval"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Score = Annotated[float, Field(ge=-100, le=100)]
Whole = Annotated[int, Field(ge=0, lt=2**63)]

FOLDER = "imported"
_MOST_BYTES = 500 * MEGABYTE
_VERSION = 1


class ImportedResult(Frozen):
    """One score that somebody else printed or measured, flat as a row of a table; None is what is not known."""

    source: Source
    """Where it comes from; never `measured`."""
    file: str
    """Name of the file, below what was imported."""
    file_sha256: Sha256
    """Hash of that file."""
    tool: str
    """What made it."""
    tool_version: str | None = None
    """Version of the tool, with its commit where the file names one."""
    experiment: str | None = None
    """The source's own name of the run."""
    model: str | None = None
    """Base model, as the source names it."""
    model_revision: str | None = None
    """Commit of the base model."""
    dataset: str | None = None
    """Our name of the dataset, where training rows, test rows and task are the same; else none."""
    original_dataset: str
    """Name of the dataset in the source."""
    method: str | None = None
    """Our name of the method, or the source's in lower case where we have none."""
    settings: str | None = None
    """Settings of the method as the source gives them, JSON with sorted keys."""
    seed: Whole | None = None
    """Seed of the training."""
    metric: str
    """Metric as the source names it."""
    score: Score | None = None
    """The source's score, 0 to 100 (a correlation from -100); none where its scale is not known or it has none."""
    original_value: float | None = None
    """The number as it stands in the source."""
    original_scale: Literal["0 to 1", "0 to 100", "unknown"]
    """Scale of that number."""
    standard_error: Score | None = None
    """Standard error that the source gives, on the scale of the score."""
    all_scores: str | None = None
    """Everything that the source scored for this run, as JSON by name."""
    test_rows: Whole | None = None
    """Rows that the score is over."""
    score_corrected: Score | None = None
    """Our score of the source's predictions under the corrected rules."""
    score_published: Score | None = None
    """Our score of the source's predictions under the published rules."""
    invalid_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the source's predictions, 0 to 1, that are no answer of the required form."""
    scored_with: str | None = None
    """Metric of ours and its version."""
    predictions_sha256: Sha256 | None = None
    """Hash of the predictions that were scored."""
    trainable_params: Whole | None = None
    """Parameters that were trained."""
    train_peak_memory_bytes: Whole | None = None
    """Largest memory, as the source measured it."""
    train_seconds: float | None = None
    """Time of the training, as the source measured it."""
    device: str | None = None
    """Device of the training."""
    made_at: str | None = None
    """When it was made, as the source says."""
    notes: str = ""
    """What has to be known to read it."""


class ImportedSet(Frozen):
    """What one import took in: the content of one file."""

    record_version: int = _VERSION
    name: str
    source: Source
    imported_at: str
    peftbench_version: str
    content_sha256: Sha256
    """Hash of the results: the same import again has the same."""
    skipped: tuple[str, ...] = ()
    """What was wrong with files that were left out."""
    results: tuple[ImportedResult, ...]


class ImportedRow(ImportedResult):
    """An imported result as a row of a table over several sets."""

    imported_as: str
    """Name of the import."""
    imported_at: str
    """When it was imported; UTC, ISO 8601."""


def imported(folder: Path, problems: list[str] | None = None) -> list[ImportedSet]:
    """All imports of a folder of runs, by name.

    Raises `DataError` for a file that is damaged, unless `problems` is given, which then takes the sentence.
    """
    found = []
    for file in entries(folder / FOLDER):
        if file.suffix != ".json" or file.name.startswith("."):
            continue
        try:
            found.append(_read(file))
        except DataError as error:
            if problems is None:
                raise
            problems.append(str(error))
    return found


def imported_set(folder: Path, name: str) -> ImportedSet:
    """The import of this name; raises `UnknownName` or, if it is damaged, `DataError`."""
    names = [file.stem for file in entries(folder / FOLDER) if file.suffix == ".json"]
    if name not in names:
        raise UnknownName("import", name, names, f"{folder / FOLDER}: ")
    return _read(folder / FOLDER / f"{name}.json")


def imported_rows(folder: Path, problems: list[str]) -> list[ImportedRow]:
    """The results of all imports as rows."""
    return [
        ImportedRow(**result.model_dump(), imported_as=each.name, imported_at=each.imported_at)
        for each in imported(folder, problems)
        for result in each.results
    ]


def keep(
    results: Sequence[ImportedResult], source: Source, folder: Path, name: str | None, skipped: Sequence[str]
) -> tuple[ImportedSet, bool]:
    """Write results as an import, unless the same are there; gives what stands, and whether it is new.

    Without a name it is called after source and content. Raises `ConfigError` for a name that no file can have,
    and `DataError` if another import has the name or the disk refuses.
    """
    if name is not None and (safe_name(name) != name or len(name) > 100 or name == "config"):
        raise ConfigError(f"--name is {name!r}, expected up to 100 letters, digits, dots, dashes and underscores")
    plain = [result.model_dump(mode="json") for result in results]
    sha256 = hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()
    for each in imported(folder, []):
        if each.content_sha256 == sha256:
            return each, False
    made = ImportedSet(
        name=name or f"{source}-{sha256[:10]}",
        source=source,
        imported_at=utc_now(),
        peftbench_version=own_version(),
        content_sha256=sha256,
        skipped=tuple(skipped),
        results=tuple(results),
    )
    file = folder / FOLDER / f"{made.name}.json"
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        create_text(file, seal(json.loads(redacted_json(made.model_dump_json()))))
    stands = _read(file)
    if stands.content_sha256 != sha256:
        raise DataError(f"{file} holds another import; choose another --name")
    return stands, True


def _read(file: Path) -> ImportedSet:
    try:
        found = json.loads(content(file, str(file), _MOST_BYTES))
        if (
            isinstance(found, dict)
            and isinstance(version := found.get("record_version"), int)
            and version > _VERSION
        ):
            raise DataError(f"{file} was written by a newer version of peftbench; install that version to read it")
        if not isinstance(found, dict) or "sha256" not in found:
            raise DataError(f"{file} is no import of peftbench; remove it from that folder")
        return ImportedSet.model_validate_json(json.dumps(checked(found, file)))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise DataError(f"{file} cannot be understood: {where}: {first['msg']}; import it again") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} cannot be read as JSON ({error}); import it again") from error
