"""Rows of the index that are asked for: conditions, columns, order, and the same as a pandas DataFrame."""

import math
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from peftbench.columns import KINDS, SHOWN, Kind, arrow_schema, kinds_of
from peftbench.errors import ConfigError, DataError, NotInstalled, UnknownName
from peftbench.index import Index, read_index
from peftbench.sql import run_sql

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SHOWN_IMPORTED = ("source", "imported_as", "model", "original_dataset", "method", "experiment", "seed", "metric",
                  "score", "standard_error", "score_corrected")  # fmt: skip
"""The columns of imported results in a table on a terminal, where none are asked for."""

UNKNOWN = "none"
"""Stands for what is not known, in conditions."""


def results(folder: str | Path = "runs", where: str | Sequence[str] = ()) -> "pd.DataFrame":
    """All finished runs below a folder, one row for each evaluation and for each training without one.

    Columns carry their unit in the name (`_seconds`, `_bytes`, `_joules`); scores lie between 0 and 100, rates and
    shares between 0 and 1. `peftbench list columns` says what each one is. What is not known is missing. `where`
    keeps the rows that meet all conditions, such as `["method=lora,ia3", "score>=70"]`. A record that cannot be
    read is left out with a warning.

    Raises `DataError` if the folder is not there or holds no finished run, `UnknownName` for a column that is not
    known, `ConfigError` for another mistake in a condition, and `NotInstalled` without pandas, which comes with
    `pip install peftbench[query]`.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise NotInstalled(error.name) from None
    import pyarrow as pa

    conditions = parse_where((where,) if isinstance(where, str) else where)
    found = read(folder)
    for problem in found.problems:
        warnings.warn(f"left out: {problem}", stacklevel=2)
    # Whole numbers stay whole where some are missing.
    kinds = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype(), pa.string(): pd.StringDtype()}
    frame: pd.DataFrame = select(found.table, conditions).to_pandas(types_mapper=kinds.get)
    return frame


def read(folder: str | Path) -> Index:
    """The index of a folder; raises `DataError` if there is no finished run in it, not even a damaged one."""
    found = read_index(Path(folder))
    if not found.table.num_rows and not found.problems:
        raise DataError(
            f"no run below {str(folder)!r} has finished; make one with `peftbench run`, or name its folder"
        )
    return found


def ask(
    folder: Path,
    where: Sequence[str],
    columns: Sequence[str],
    sort: Sequence[str],
    sql: str | None,
    *,
    brief: bool,
    imported: bool = False,
) -> Index:
    """The rows below a folder that meet the conditions, or the answer of an SQL query over them.

    With `imported` the rows are the imported results of the folder, which have columns of their own, and no
    others.

    Without `columns` all are given, or those of a table on a terminal if it is to be `brief`. Mistakes in names
    are found before a record is read; the errors are those of `results` and `run_sql`.
    """
    kinds = KINDS
    if imported:
        from peftbench.importers.results import ImportedRow

        kinds = kinds_of(ImportedRow)
    conditions = parse_where(where, kinds)
    check_columns(columns, "--columns: ", kinds)
    check_columns([name.removeprefix("-") for name in sort], "--sort: ", kinds)
    if sql is not None and (columns or sort):
        raise ConfigError("--columns and --sort do not go with --sql; say them in the SELECT")
    found = read_imported(folder) if imported else read(folder)
    if sql is not None:
        return Index(run_sql(select(found.table, conditions), sql), found.problems)
    shown = (SHOWN_IMPORTED if imported else SHOWN) if brief else ()
    chosen = select(found.table, conditions, columns or shown, sort)
    if brief and not columns and not imported and chosen["quantization"].null_count == len(chosen):
        chosen = chosen.drop_columns(["quantization"])
    return Index(chosen, found.problems)


def read_imported(folder: Path) -> Index:
    """The imported results of a folder as rows; raises `DataError` if nothing was imported into it."""
    import pyarrow as pa

    from peftbench.importers.results import ImportedRow, imported_rows

    problems: list[str] = []
    rows = [row.model_dump() for row in imported_rows(folder, problems)]
    if not rows and not problems:
        raise DataError(f"nothing was imported into {str(folder)!r}; do so with `peftbench import results`")
    return Index(pa.Table.from_pylist(rows, schema=arrow_schema(ImportedRow)), tuple(problems))


@dataclass(frozen=True)
class Condition:
    """A column, a comparison, and what it is compared with."""

    column: str
    operator: str
    values: tuple[str | float | bool | None, ...]
    """Several where the operator is = or !=."""


_FORM = re.compile(r"\s*(\w+)\s*(!=|<=|>=|==|=|<|>)(.*)", re.DOTALL)


def parse_where(texts: Sequence[str], kinds: Mapping[str, Kind] = KINDS) -> list[Condition]:
    """Conditions such as `method=lora,ia3`, `seed!=42`, `score>=70`, `best_step=none`.

    Raises `UnknownName` for a column that is not known, and `ConfigError` for what cannot be compared.
    """
    return [_condition(text, kinds) for text in texts]


def _condition(text: str, kinds: Mapping[str, Kind]) -> Condition:
    matched = _FORM.fullmatch(text)
    if matched is None:
        raise ConfigError(
            f"condition {text!r} is none; write a column, one of = != < <= > >= and a value, such as method=lora"
        )
    column, operator, given = matched[1], matched[2].replace("==", "="), matched[3].strip()
    check_columns([column], f"condition {text!r}: ", kinds)
    kind = kinds[column]
    parts = [part.strip() for part in given.split(",")]
    if operator not in ("=", "!="):
        if given == UNKNOWN:
            raise ConfigError(f"condition {text!r}: what is not known has no order; use = or !=")
        if kind == "true or false":
            raise ConfigError(f"condition {text!r}: {column} is true or false; use = or !=")
        return Condition(column, operator, (_value(column, kind, given, text),))
    if kind == "text" and len(parts) > 1:
        parts.append(given)  # a text may have commas of its own, as settings do
    return Condition(column, operator, tuple(_value(column, kind, part, text) for part in parts))


def check_columns(names: Sequence[str], where: str = "", kinds: Mapping[str, Kind] = KINDS) -> None:
    """Raise `UnknownName`, which offers the nearest names, for the first that is no column."""
    for name in names:
        if name not in kinds:
            raise UnknownName("column", name, kinds, where)


def _value(column: str, kind: Kind, given: str, text: str) -> str | float | bool | None:
    if given == UNKNOWN:
        return None
    if kind == "text":
        return given
    if kind == "true or false":
        if given not in ("true", "false"):
            raise ConfigError(f"condition {text!r}: {column} is true or false, not {given!r}")
        return given == "true"
    try:
        number = float(given)
    except ValueError:
        number = math.nan
    if not math.isfinite(number) or not given.isascii() or "_" in given:
        raise ConfigError(f"condition {text!r}: {column} is a number, not {given!r}")
    if kind == "whole number" and re.fullmatch(r"[+-]?\d{1,18}", given):
        return int(given)  # a float of so many digits is not exact
    return number


def select(
    table: "pa.Table", conditions: Sequence[Condition] = (), columns: Sequence[str] = (), sort: Sequence[str] = ()
) -> "pa.Table":
    """The rows that meet all conditions, in the order of `sort` (`-column` for the largest first), these columns.

    What is not known meets no comparison but `=none` and `!=` with another value, and comes last in any order.
    """
    import pyarrow.compute as pc

    for condition in conditions:
        table = table.filter(_met(table[condition.column], condition))
    if sort:
        keys = [(key.removeprefix("-"), "descending" if key.startswith("-") else "ascending") for key in sort]
        table = table.take(pc.sort_indices(table, sort_keys=keys))
    return table.select(list(columns)) if columns else table


def _met(cells: Any, condition: Condition) -> Any:
    """Which of the cells meet a condition."""
    import pyarrow as pa
    import pyarrow.compute as pc

    compare = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}.get(
        condition.operator, pc.equal
    )
    found = pa.array([False] * len(cells), pa.bool_())
    for value in condition.values:
        if value is None:
            met = pc.is_null(cells)
        else:
            # Arrow refuses to compare a whole number beyond 2 to the 53 with a fraction.
            exact = not (isinstance(value, float) and pa.types.is_integer(cells.type))
            met = compare(cells if exact else cells.cast(pa.float64(), safe=False), pa.scalar(value))
        found = pc.or_(found, pc.fill_null(met, False))
    return pc.invert(found) if condition.operator == "!=" else found
