"""From source rows to prepared rows: columns checked, fields and labels by the catalogue entry.

Groups that depend on other rows, limits and the validation split are the business of `split`.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from numbers import Integral, Real
from typing import Any, Literal

from peftbench.datasets.catalog import under_protocol
from peftbench.datasets.files import Row
from peftbench.datasets.prepare import prepare_function
from peftbench.errors import DataError
from peftbench.schema import ColumnType, DatasetSpec, Example, Prompt, Protocol

Role = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class PreparedRow:
    """The examples that one source row gives; `input` and `group` are keys of what stands in it.

    `input` is the same for two rows that ask the same thing. `group` holds one key for each column by which the
    rows are grouped, or one for all of them, as the group rule needs it.
    """

    examples: tuple[Example, ...]
    input: str
    group: tuple[str, ...]


def prepared_rows(
    spec: DatasetSpec, role: Role, rows: Iterable[object], *, instruction: str | None = None
) -> Iterator[PreparedRow]:
    """Prepare the rows of one split in their order.

    `spec` is the entry under its protocol, `instruction` stands in for its own. Raises `DataError` with dataset,
    split, row (counted from 0) and column for a row that is not what the catalogue says.
    """
    split = spec.splits[role]
    asked = spec.instruction if instruction is None else instruction
    for number, row in enumerate(rows):
        try:
            yield prepared_row(spec, row, f"{split}-{number}", asked)
        except DataError as error:
            raise DataError(
                f"{spec.name}, split {split!r}, row {number}: {error}; mend that row or load another copy"
            ) from error


def prepared_row(spec: DatasetSpec, row: object, id: str, instruction: str) -> PreparedRow:
    """Prepare one row under this id; raises `DataError` that says what is wrong but not where."""
    checked = _checked(row, spec)
    reshape = prepare_function(spec.prepare) if spec.prepare else None
    shaped: list[Row] = [*reshape(checked)] if reshape else [checked]
    suffixes = [""] if len(shaped) == 1 else [f"-{part}" for part in range(len(shaped))]
    examples = tuple(
        _example(spec, item, f"{id}{suffix}", instruction) for item, suffix in zip(shaped, suffixes, strict=True)
    )
    inputs = spec.inputs or tuple(field.column for field in spec.fields)
    return PreparedRow(examples, _key(shaped[0], inputs), _group_keys(spec, shaped[0]))


def example_of(spec: DatasetSpec, protocol: Protocol = "corrected", role: Role = "test") -> Example:
    """The catalogue's invented row as an example, without loading anything; raises `DataError` without one."""
    if spec.example is None:
        raise DataError(f"dataset {spec.name} has no example row; add one under `example` in its entry")
    effective = under_protocol(spec, protocol)
    [row] = prepared_rows(effective, role, [spec.example], instruction=instruction_for(spec, protocol, role))
    return replace(row.examples[0], id="example")


def instruction_for(spec: DatasetSpec, protocol: Protocol, role: Role) -> str:
    """The instruction of a split; under `published` it can be a prompt pack's, or another one in training."""
    if protocol == "corrected":
        return spec.instruction
    rule = spec.published
    asked = spec.instruction if rule.instruction is None else rule.instruction
    return rule.train_instruction if role == "train" and rule.train_instruction is not None else asked


def _example(spec: DatasetSpec, row: Row, id: str, instruction: str) -> Example:
    texts = [(field.label, _text(row, field.column).strip()) for field in spec.fields]
    prompt = Prompt(instruction, tuple((label, text) for label, text in texts if text))
    target = _text(row, spec.target)
    if spec.labels is not None:
        if target not in spec.labels:
            raise DataError(f"column {spec.target!r} is {target!r}, expected one of {', '.join(spec.labels)}")
        target = spec.labels[target]
        return Example(id, prompt, target, (target,), stratum=target)
    return Example(id, prompt, target, _references(row, spec.references or spec.target))


def _references(row: Row, column: str) -> tuple[str, ...]:
    value = _value(row, column)
    texts = value if isinstance(value, list | tuple) else [_text(row, column)]
    return tuple(text for text in dict.fromkeys(texts) if text.strip())


# --------------------------------------------------------------------------------------------------- columns


def _checked(row: object, spec: DatasetSpec) -> Row:
    if not isinstance(row, Mapping):
        raise DataError(f"it is a {type(row).__name__}, expected a mapping of column names to values")
    for column, kind in spec.columns.items():
        if column not in row:
            raise DataError(f"column {column!r} is missing, found {', '.join(map(str, row)) or 'no column'}")
        value = row[column]
        if value is None:
            if column not in spec.nullable:
                raise DataError(f"column {column!r} is null, expected {_EXPECTED[kind]}")
        elif not _is(kind, value):
            raise DataError(f"column {column!r} is {_shown(value)}, expected {_EXPECTED[kind]}")
    return row


_EXPECTED: Mapping[ColumnType, str] = {
    "text": "text",
    "integer": "an integer",
    "number": "a finite number",
    "texts": "a list of texts",
    "any": "a value",
}


def _is(kind: ColumnType, value: object) -> bool:
    match kind:
        case "text":
            return isinstance(value, str)
        case "integer":
            return isinstance(value, Integral) and not isinstance(value, bool)
        case "number":
            return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)
        case "texts":
            return isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        case "any":
            return True


def _shown(value: object) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 40 else f'{text[:40]}...'}"


def _value(row: Row, path: str) -> Any:
    if path in row:
        return row[path]
    value: Any = row
    for step in path.split("."):
        try:
            value = value[int(step)] if isinstance(value, list | tuple) else value[step]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise DataError(f"column {path!r} has no part {step!r}, found {_shown(value)}") from error
    return value


_HALF_CHARACTER = re.compile("[\ud800-\udfff]")
"""What JSON can spell and no tokenizer can read."""


def _text(row: Row, path: str) -> str:
    value = _value(row, path)
    if value is None:
        return ""
    if isinstance(value, str):
        if not value.isascii() and _HALF_CHARACTER.search(value):
            raise DataError(
                f"column {path!r} is text with half a character (a lone surrogate), expected whole ones"
            )
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Integral):
        return str(int(value))
    if isinstance(value, float) and isfinite(value):
        return repr(value)
    raise DataError(f"column {path!r} is {_shown(value)}, expected text or a number")


# ------------------------------------------------------------------------------------------------------ keys


def _group_keys(spec: DatasetSpec, row: Row) -> tuple[str, ...]:
    if not spec.group:
        return ()
    if spec.group_rule == "connected":
        return tuple(_key(row, (column,)) for column in spec.group)
    return (_key(row, spec.group, spec.group_characters),)


def _key(row: Row, columns: Iterable[str], characters: int | None = None) -> str:
    """One short text for the texts in these columns, the same where they differ in case and white space only."""
    texts = [" ".join(_text(row, column)[:characters].lower().split()) for column in columns]
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()[:16]
