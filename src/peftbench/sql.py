"""SQL over a table of results: one SELECT in a database of its own, without files, network and settings."""

from typing import TYPE_CHECKING

from peftbench.errors import ConfigError, NotInstalled

if TYPE_CHECKING:
    import pyarrow as pa

TABLE = "results"
MOST_ROWS = 1_000_000
"""Largest answer; a mistaken join ends in a sentence and not in the machine's memory."""

_LOCKED: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": "false",  # files, network, loading of extensions
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
    "allow_persistent_secrets": "false",
    "python_enable_replacements": "false",  # a name in the SQL never means a variable of this process
    "temp_directory": "",  # what does not fit into memory fails, and is not written to the disk
    "memory_limit": "2GB",
}


def run_sql(table: "pa.Table", text: str) -> "pa.Table":
    """The answer of one SELECT over `table`, which it calls `results`.

    The table can be read and not be changed. Raises `NotInstalled` without DuckDB, and `ConfigError` for anything
    else than one SELECT, for SQL that fails, that would touch files, settings or extensions, and for an answer of
    more than a million rows.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise NotInstalled(error.name) from None
    import pyarrow as pa

    with duckdb.connect(":memory:", config=_LOCKED) as database:
        database.register(TABLE, table)  # a view: there is no table that a statement could change
        database.execute("SET lock_configuration = true")
        try:
            text.encode()
            statements = database.extract_statements(text)
            kinds = [statement.type.name for statement in statements]
            if kinds != ["SELECT"]:
                what = " and ".join(kinds) or "nothing"
                raise ConfigError(f"--sql takes one SELECT over the table {TABLE}, and this is {what}")
            reader = database.sql(statements[0]).to_arrow_reader(100_000)
            batches, rows = [], 0
            for batch in reader:
                batches.append(batch)
                rows += batch.num_rows
                if rows > MOST_ROWS:
                    raise ConfigError(f"--sql answers with more than {MOST_ROWS:,} rows; add a LIMIT")
            return pa.Table.from_batches(batches, reader.schema)
        except (duckdb.Error, pa.ArrowException, UnicodeError) as error:
            told = " ".join(part for line in str(error).splitlines()[:2] for part in line.split())
            raise ConfigError(f"--sql cannot be answered: {told}") from error
