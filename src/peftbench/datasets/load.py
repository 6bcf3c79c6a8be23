"""The one way to the rows of a dataset: find, check, prepare, sample, split, and say what was found.

Nothing is tokenised here, and no prompt is cut: lengths in tokens are the engine's business.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from peftbench.datasets.catalog import under_protocol
from peftbench.datasets.examples import PreparedRow, Role, instruction_for, prepared_rows
from peftbench.datasets.sources import RowsByRole, Source, choose_source, open_split
from peftbench.datasets.split import group_names, hold_out, sample, with_groups
from peftbench.errors import ConfigError, DataError
from peftbench.schema import DataFacts, DatasetSpec, Example, Protocol, SplitFacts

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = ("train", "validation", "test")

NOT_KNOWN_TO_BE_EXACT = (
    "Not known to be exact: the reference splits by the training seed, without strata.",
    "Not known to be exact: the reference cuts the tail of a prompt that is too long, assistant header included.",
    "Not known to be exact: the reference truncates the gold answers it scores against.",
    "Not known to be exact: the reference shows input fields without the names of their roles.",
    "Not known to be exact: the reference has instructions of its own, in its dataset_info.json.",
)
"""What `protocol: published` leaves open for every dataset (audit of the reference, sections 2 to 4)."""


@dataclass(frozen=True, slots=True)
class PreparedDataset:
    """The prepared splits of one dataset; a split that was not asked for is empty.

    `spec` is the catalogue entry as the protocol changes it. `overlapping_test_ids` names the test examples whose
    input stands in the source's train split too, so that they can be left out of a score; it is None where only
    one of the two was loaded.
    """

    spec: DatasetSpec
    train: tuple[Example, ...]
    validation: tuple[Example, ...]
    test: tuple[Example, ...]
    facts: DataFacts
    overlapping_test_ids: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class _SourceSplit:
    rows: list[PreparedRow]
    examples: list[Example]
    without_target: int
    files: dict[str, str]
    revision: str | None
    as_counted: bool


def load_dataset(
    spec: DatasetSpec,
    *,
    protocol: Protocol = "corrected",
    data_dir: Path | None = None,
    rows: RowsByRole | None = None,
    allow_partial: bool = False,
    train_rows: int | None = None,
    test_rows: int | None = None,
    split_seed: int = 0,
    splits: Collection[Split] = SPLITS,
) -> PreparedDataset:
    """Load and prepare a dataset.

    Rows come from `rows`, else from `data_dir` or the directory that `PEFTBENCH_DATA` names, else from the hub.
    Source rows must be as many as the catalogue counts unless `allow_partial`, or `rows` of your own are given.
    `train_rows` (validation included) and `test_rows` limit by a seeded sample. Only what `splits` names is
    loaded: `test` alone reads no training row, `train` alone leaves the validation rows out.

    Raises `ConfigError` for arguments and `DataError` for rows and files that are not as expected.
    """
    _check_arguments(protocol, train_rows, test_rows, splits)
    effective = under_protocol(spec, protocol)
    source = choose_source(spec, data_dir, rows)
    loaded: dict[Role, _SourceSplit] = {}
    if "train" in splits or "validation" in splits:
        loaded["train"] = _load(source, effective, "train", protocol, allow_partial)
    if "test" in splits:
        loaded["test"] = _load(source, effective, "test", protocol, allow_partial)
    overlapping = _overlap(loaded, source, effective)
    prepared: dict[Split, tuple[Example, ...]] = {}
    if "train" in loaded:
        taught = sample(loaded["train"].examples, train_rows, split_seed)
        prepared["train"], prepared["validation"] = _hold_out(effective, taught, split_seed)
    if "test" in loaded:
        prepared["test"] = sample(loaded["test"].examples, test_rows, split_seed)
    prepared = {name: prepared[name] for name in SPLITS if name in splits}
    facts = DataFacts(
        dataset=spec.name,
        version=spec.version,
        protocol=protocol,
        source=source.kind,
        revision=next((part.revision for part in loaded.values()), None),
        files={name: sha256 for part in loaded.values() for name, sha256 in part.files.items()},
        partial=not all(part.as_counted for part in loaded.values()),
        source_rows={role: len(part.rows) for role, part in loaded.items()},
        splits={name: SplitFacts(rows=len(part), sha256=content_hash(part)) for name, part in prepared.items()},
        train_test_overlap_rows=None if overlapping is None else len(overlapping),
        train_duplicate_rows=_repeated(loaded["train"].rows) if "train" in loaded else None,
        train_rows_without_target=loaded["train"].without_target if "train" in loaded else None,
        split_seed=split_seed,
        train_rows_limit=train_rows,
        test_rows_limit=test_rows,
        differences=_differences(spec) if protocol == "published" and not spec.own else (),
        entry=spec if spec.own else None,
    )
    test = prepared.get("test", ())
    return PreparedDataset(
        spec=effective,
        train=prepared.get("train", ()),
        validation=prepared.get("validation", ()),
        test=test,
        facts=facts,
        overlapping_test_ids=None if overlapping is None else _ids(overlapping) & {item.id for item in test},
    )


def _differences(spec: DatasetSpec) -> tuple[str, ...]:
    """What `published` does otherwise or may do otherwise; a prompt pack settles instructions and layout."""
    *others, layout, instructions = NOT_KNOWN_TO_BE_EXACT
    rule = spec.published
    if rule.instruction is None:
        return (*rule.differences, *others, layout, instructions)
    bare = rule.fields is not None and not any(field.label for field in rule.fields)
    return (*rule.differences, *others, *(() if bare else (layout,)))


def content_hash(examples: Iterable[Example]) -> str:
    """SHA-256 over the examples in order, each a line of canonical JSON; the same for any source of the rows."""
    digest = hashlib.sha256()
    for example in examples:
        content = (
            *(example.id, example.prompt.instruction, example.prompt.fields, example.target),
            *(example.references, example.group, example.stratum),
        )
        digest.update(json.dumps(content, separators=(",", ":")).encode() + b"\n")
    return digest.hexdigest()


def _check_arguments(
    protocol: Protocol, train_rows: int | None, test_rows: int | None, splits: Collection[Split]
) -> None:
    problems = [
        f"{name} is {limit}, expected at least {least}; give more rows or leave it out"
        for name, limit, least in (("train_rows", train_rows, 2), ("test_rows", test_rows, 1))
        if limit is not None and limit < least
    ]
    if protocol not in get_args(Protocol):
        problems.append(
            f"protocol is {protocol!r}, expected {' or '.join(get_args(Protocol))}; choose one of them"
        )
    if isinstance(splits, str) or not splits or not set(splits) <= set(SPLITS):
        problems.append(f"splits is {splits!r}, expected some of {', '.join(SPLITS)}; give a list of names")
    if problems:
        raise ConfigError(problems)


def _load(source: Source, spec: DatasetSpec, role: Role, protocol: Protocol, allow_partial: bool) -> _SourceSplit:
    opened = open_split(source, spec, role)
    rows = list(prepared_rows(spec, role, opened.rows, instruction=instruction_for(spec, protocol, role)))
    expected = spec.counts.train if role == "train" else spec.counts.test
    if not rows:
        raise DataError(f"the {role} split {spec.splits[role]!r} of {spec.name} holds no row; load another copy")
    if len(rows) != expected and not allow_partial and source.kind != "rows":
        raise DataError(
            f"the {role} split {spec.splits[role]!r} of {spec.name} holds {len(rows):,} rows, expected "
            f"{expected:,} as the benchmark counts; load the whole split, or set data.allow_partial: true, "
            "which is recorded"
        )
    names = group_names(spec.group_rule, [row.group or (row.input,) for row in rows])
    examples = [
        example for row, name in zip(rows, names, strict=True) for example in with_groups(row.examples, name)
    ]
    # A row without an answer teaches nothing; in the test split it is predicted and has no reference.
    used = [example for example in examples if example.target.strip()] if role == "train" else examples
    return _SourceSplit(
        rows=rows,
        examples=used,
        without_target=len(examples) - len(used),
        files=opened.files,
        revision=opened.revision,
        as_counted=len(rows) == expected,
    )


def _hold_out(
    spec: DatasetSpec, examples: Sequence[Example], seed: int
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    try:
        return hold_out(examples, seed)
    except DataError as error:
        raise DataError(f"{spec.name}: {error}") from error


# ------------------------------------------------------------------------------------------------ equal rows


def _overlap(loaded: dict[Role, _SourceSplit], source: Source, spec: DatasetSpec) -> list[PreparedRow] | None:
    """The test rows whose input stands in train too; equal rows in what the user brings are an error."""
    if len(loaded) < 2:
        return None
    trained = {row.input for row in loaded["train"].rows}
    overlapping = [row for row in loaded["test"].rows if row.input in trained]
    if source.kind == "rows" and overlapping:
        taught = {_content(row): row for row in reversed(loaded["train"].rows)}
        for row in overlapping:
            if (same := taught.get(_content(row))) is not None:
                raise DataError(
                    f"{spec.name}: row {row.examples[0].id} given for test equals row {same.examples[0].id} given "
                    "for train; remove it from one of them"
                )
    return overlapping


def _content(row: PreparedRow) -> tuple[object, ...]:
    return tuple((example.prompt.fields, example.target, example.references) for example in row.examples)


def _ids(rows: Iterable[PreparedRow]) -> frozenset[str]:
    return frozenset(example.id for row in rows for example in row.examples)


def _repeated(rows: Sequence[PreparedRow]) -> int:
    return len(rows) - len({row.input for row in rows})
