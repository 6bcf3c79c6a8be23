"""SQL over a table of results: one SELECT in a database of its own, without files, network and settings."""

import time
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from typing import TYPE_CHECKING

from peftbench.errors import ConfigError, NotInstalled

if TYPE_CHECKING:
    import pyarrow as pa
    from duckdb import DuckDBPyConnection

TABLE = "results"
MOST_ROWS = 1_000_000
"""Largest answer; a mistaken join ends in a sentence and not in the machine's memory."""
MOST_SECONDS = 60.0
OLDEST = 2
"""First version of DuckDB whose locks hold against all that the tests try."""

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
    else than one SELECT, for SQL that fails or would touch files, settings or extensions, and for an answer of
    more than a million rows or one that takes more than a minute.
    """
    try:
        import duckdb
    except ModuleNotFoundError as error:
        raise NotInstalled(error.name) from None
    if int(duckdb.__version__.partition(".")[0]) < OLDEST:  # in 1.5 a SELECT could still turn on a log file
        raise ConfigError(
            f"duckdb {duckdb.__version__} is too old; update it: pip install --upgrade peftbench[query]"
        )
    import pyarrow as pa

    with duckdb.connect(":memory:", config=_LOCKED) as database, ThreadPoolExecutor(1) as worker:
        database.register(TABLE, table)  # a view: there is no table that a statement could change
        database.execute("SET lock_configuration = true")
        # DuckDB does not hear Ctrl-C while it computes, so it computes beside the thread that does. That thread is
        # begun with nothing to do: one whose beginning Ctrl-C cut short would not be known to the pool.
        worker.submit(int).result()
        try:
            answer, deadline = worker.submit(_answer, database, text), time.monotonic() + MOST_SECONDS
            while not wait([answer], 0.1).done:  # a Ctrl-C just before a wait is heard only after it
                if time.monotonic() > deadline:
                    raise TimeoutError
            return answer.result()
        except (duckdb.Error, pa.ArrowException, UnicodeError) as error:
            told = " ".join(part for line in str(error).splitlines()[:2] for part in line.split())
            raise ConfigError(f"--sql cannot be answered: {told}") from error
        except TimeoutError:
            raise ConfigError(f"--sql takes more than {MOST_SECONDS:.0f} seconds; ask for less") from None
        finally:
            end = worker.submit(int)  # its turn comes when nothing computes, wherever Ctrl-C came in between
            while not end.done():  # the answer may not have begun to compute yet
                with suppress(duckdb.Error):  # for an instant a connection can be too busy to be interrupted
                    database.interrupt()
                wait([end], 0.05)


def _answer(database: "DuckDBPyConnection", text: str) -> "pa.Table":
    import pyarrow as pa

    text.encode()  # DuckDB takes no half of a character
    statements = database.extract_statements(text)
    kinds = [statement.type.name for statement in statements]
    if kinds != ["SELECT"]:
        raise ConfigError(
            f"--sql takes one SELECT over the table {TABLE}, and this is {' and '.join(kinds) or 'nothing'}"
        )
    reader = database.sql(statements[0]).to_arrow_reader(100_000)
    batches, rows = [], 0
    for batch in reader:
        batches.append(batch)
        rows += batch.num_rows
        if rows > MOST_ROWS:
            raise ConfigError(f"--sql answers with more than {MOST_ROWS:,} rows; add a LIMIT")
    return pa.Table.from_batches(batches, reader.schema)
