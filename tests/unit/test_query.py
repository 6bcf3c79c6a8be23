"""Conditions, columns and order of results, and SQL that can read one table and nothing else."""

import math
import sys
import time
from datetime import datetime

import pyarrow as pa
import pytest

from peftbench import sql
from peftbench.columns import COLUMNS, arrow_schema
from peftbench.errors import ConfigError, DataError, NotInstalled, UnknownName
from peftbench.query import Condition, ask, parse_where, results, select
from peftbench.sql import run_sql
from tests.synthetic import add_run


def table_of(*rows):
    empty = dict.fromkeys(COLUMNS)
    return pa.Table.from_pylist([{**empty, **row} for row in rows], schema=arrow_schema())


TABLE = table_of(
    {"method": "lora", "seed": 1, "score": 70.5, "settings": "{}", "partial": False, "started_at": "2026-11-24"},
    {"method": "lora", "seed": 2, "score": 80.0, "settings": '{"alpha": 4, "rank": 2}', "partial": True},
    {"method": "ia3", "seed": 1, "score": None, "settings": "{}", "partial": False, "best_step": 9},
    {"method": "base", "seed": 2**53 + 1, "score": 0.0, "partial": False, "model": "a,b"},
)


def kept(*conditions):
    """Which of the four rows are kept."""
    numbered = TABLE.append_column("number", pa.array(range(4)))
    return select(numbered, parse_where(conditions))["number"].to_pylist()


@pytest.mark.parametrize(
    ("conditions", "rows"),
    [
        ([], [0, 1, 2, 3]),
        (["method=lora"], [0, 1]),
        (["method==lora"], [0, 1]),
        ([" method = lora "], [0, 1]),
        (["method!=lora"], [2, 3]),
        (["method=lora,ia3"], [0, 1, 2]),
        (["method=lora , ia3"], [0, 1, 2]),
        (["method!=lora,ia3"], [3]),
        (["method=LORA"], []),
        (["seed=1"], [0, 2]),
        (["seed=1.0"], [0, 2]),
        (["seed=1,2"], [0, 1, 2]),
        (["seed=1", "method=lora"], [0]),
        ([f"seed={2**53 + 1}"], [3]),
        ([f"seed={2**53}"], []),
        (["seed>1"], [1, 3]),
        (["seed>=1.5"], [1, 3]),
        (["seed=1.5"], []),
        (["seed<1e300"], [0, 1, 2, 3]),
        (["seed>99999999999999999999"], []),
        (["score>=70.5"], [0, 1]),
        (["score>70.5"], [1]),
        (["score<70.5"], [3]),
        (["score<=7.05e1"], [0, 3]),
        (["score=-0"], [3]),
        (["score=none"], [2]),
        (["score!=none"], [0, 1, 3]),
        (["score!=80"], [0, 2, 3]),
        (["score=80,none"], [1, 2]),
        (["partial=true"], [1]),
        (["partial=false"], [0, 2, 3]),
        (['settings={"alpha": 4, "rank": 2}'], [1]),
        (["model=a,b"], [3]),
        (["started_at>=2026-11-24"], [0]),
        (["started_at=none"], [1, 2, 3]),
    ],
    ids=str,
)
def test_conditions_keep_the_rows_that_meet_all(conditions, rows):
    assert kept(*conditions) == rows


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("method", "is none; write a column, one of = != < <= > >= and a value, such as method=lora"),
        ("", "is none; write a column"),
        ("=lora", "is none; write a column"),
        ("method~lora", "is none; write a column"),
        ("method; DROP TABLE results", "is none; write a column"),
        ("score>=high", "score is a number, not 'high'"),
        ("score>=", "score is a number, not ''"),
        ("score>=nan", "score is a number, not 'nan'"),
        ("score=inf", "score is a number, not 'inf'"),
        ("seed=1_000", "seed is a number, not '1_000'"),
        ("seed=１", "seed is a number, not '１'"),
        ("score>70,80", "score is a number, not '70,80'"),
        ("score<none", "what is not known has no order; use = or !="),
        ("partial>true", "partial is true or false; use = or !="),
        ("partial=1", "partial is true or false, not '1'"),
    ],
)
def test_a_condition_that_is_none(condition, message):
    with pytest.raises(ConfigError) as error:
        parse_where([condition])
    assert message in str(error.value)
    assert repr(condition) in str(error.value)


def test_a_column_that_is_not_known_offers_the_nearest(tmp_path):
    with pytest.raises(UnknownName, match="unknown column 'metod'; did you mean 'method'"):
        parse_where(["metod=lora"])
    add_run(tmp_path)
    for columns, sort in ((["sede"], []), ([], ["-sede"])):
        with pytest.raises(UnknownName, match="unknown column 'sede'; did you mean 'seed'"):
            ask(tmp_path, [], columns, sort, None, brief=False)


def test_whole_numbers_are_compared_exactly():
    assert parse_where([f"seed={2**53 + 1}"]) == [Condition("seed", "=", (2**53 + 1,))]


def test_the_order_is_stable_and_the_unknown_comes_last():
    def order(*keys):
        return [(row["method"], row["seed"]) for row in select(TABLE, [], [], keys).to_pylist()]

    lora_1, lora_2, ia3, base = [(row["method"], row["seed"]) for row in TABLE.to_pylist()]
    assert order("score") == [base, lora_1, lora_2, ia3]
    assert order("-score") == [lora_2, lora_1, base, ia3]
    assert order("method") == [base, ia3, lora_1, lora_2]
    assert order("seed", "-method") == [lora_1, ia3, lora_2, base]
    assert select(TABLE, [], ["seed", "method"]).column_names == ["seed", "method"]


# ---------------------------------------------------------------------------------------------------------- pandas


def test_a_data_frame_has_the_types_of_the_columns(tmp_path):
    add_run(tmp_path, seed=1)
    add_run(tmp_path, "base")
    frame = results(tmp_path)
    assert list(frame.columns) == list(COLUMNS)
    assert {str(frame.dtypes[name]) for name in ("seed", "trainable_params")} == {"Int64"}
    assert (str(frame.dtypes["score"]), str(frame.dtypes["partial"])) == ("float64", "boolean")
    assert frame.set_index("method").trainable_params["lora"] == 57_344
    assert frame.set_index("method").trainable_params.isna()["base"]
    assert math.isnan(frame.set_index("method").train_seconds["base"])
    assert results(tmp_path, "method=base").method.tolist() == ["base"]
    assert results(str(tmp_path), ["method=base", "score<80"]).empty


def test_a_data_frame_warns_of_what_it_leaves_out(tmp_path):
    add_run(tmp_path, "base")
    folder = add_run(tmp_path)
    (folder / "train.json").write_text("{")
    with pytest.warns(UserWarning, match=r"left out: .*train.json is not a record of this version") as caught:
        assert len(results(tmp_path)) == 2
    assert caught[0].filename == __file__


def test_a_folder_without_runs(tmp_path):
    with pytest.raises(DataError, match="has finished; make one with `peftbench run`"):
        results(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        results(tmp_path / "nowhere")


def test_without_pandas_or_duckdb_it_says_what_to_install(tmp_path, monkeypatch):
    add_run(tmp_path)
    for package in ("pandas", "duckdb"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(NotInstalled, match=r"pandas is not installed; .*: pip install peftbench\[query\]"):
        results(tmp_path)
    with pytest.raises(NotInstalled, match=r"duckdb is not installed; .*: pip install peftbench\[query\]"):
        ask(tmp_path, [], [], [], "SELECT 1", brief=False)


# ------------------------------------------------------------------------------------------------------------- SQL


def test_sql_sees_the_table_and_its_types():
    found = run_sql(
        TABLE, "SELECT method, avg(score) AS mean, count(*) AS runs FROM results GROUP BY 1 ORDER BY 1"
    )
    assert found.to_pylist() == [
        {"method": "base", "mean": 0.0, "runs": 1}, {"method": "ia3", "mean": None, "runs": 1},
        {"method": "lora", "mean": 75.25, "runs": 2},
    ]  # fmt: skip
    assert run_sql(TABLE, "SELECT CAST(started_at AS DATE) AS d FROM results LIMIT 1;").to_pylist()[0]["d"] == (
        datetime(2026, 11, 24).date()
    )
    assert run_sql(
        TABLE, "WITH x AS (FROM results) SELECT settings ->> 'rank' AS r FROM x WHERE seed = 2"
    ).to_pylist() == [{"r": "2"}]
    assert run_sql(TABLE.slice(0, 0), "SELECT * FROM results").num_rows == 0


def test_no_column_is_a_reserved_word():
    found = run_sql(TABLE, f"SELECT {', '.join(COLUMNS)} FROM results")
    assert found.column_names == list(COLUMNS)
    assert found.to_pylist() == TABLE.to_pylist()


def test_conditions_come_before_sql(tmp_path):
    add_run(tmp_path)
    add_run(tmp_path, "ia3")
    found = ask(tmp_path, ["method=ia3"], [], [], "SELECT count(*) AS n FROM results", brief=False)
    assert found.table.to_pylist() == [{"n": 1}]
    for columns, sort in ((["seed"], []), ([], ["seed"])):
        with pytest.raises(ConfigError, match="do not go with --sql"):
            ask(tmp_path, [], columns, sort, "SELECT 1", brief=False)


SECRET = "an unlikely secret"
HOSTILE = [
    "SELECT * FROM read_csv('{file}')",
    "SELECT * FROM read_text('{file}')",
    "SELECT * FROM read_blob('{file}')",
    "SELECT * FROM read_json('{file}')",
    "SELECT * FROM read_parquet('{file}')",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM sniff_csv('{file}')",
    "SELECT * FROM '{file}'",
    'SELECT * FROM "{file}"',
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM query('SELECT * FROM read_text(''{file}'')')",
    "SELECT * FROM query_table('{file}')",
    "SELECT * FROM json_execute_serialized_sql(json_serialize_sql('SELECT * FROM read_text(''{file}'')'))",
    "SELECT (SELECT content FROM read_text('{file}'))",
    "WITH x AS (SELECT * FROM read_text('{file}')) SELECT * FROM x",
    "SELECT * FROM results UNION ALL BY NAME SELECT * FROM read_text('{file}')",
    "SELECT * FROM 'https://localhost:9/x.csv'",
    "SELECT * FROM 's3://bucket/x.parquet'",
    "SELECT getenv('HOME')",
    "SELECT * FROM TABLE_OF_THIS_PROCESS",
    "SELECT * FROM os",
    "COPY results TO '{folder}/out.csv'",
    "COPY (SELECT 1) TO '{folder}/out.parquet' (FORMAT parquet)",
    "COPY results FROM '{file}'",
    "EXPORT DATABASE '{folder}/out'",
    "IMPORT DATABASE '{folder}/out'",
    "ATTACH '{folder}/out.db'",
    "ATTACH ':memory:' AS other",
    "DETACH memory",
    "USE memory",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{folder}/x.duckdb_extension'",
    "PRAGMA database_list",
    "PRAGMA enable_external_access=true",
    "SET enable_external_access = true",
    "SET lock_configuration = false",
    "RESET enable_external_access",
    "SET temp_directory = '{folder}'",
    "SET VARIABLE x = 1",
    "CALL pragma_version()",
    "CALL enable_logging(storage = 'file', storage_config = {{'path': '{folder}/log'}})",
    "SELECT * FROM enable_logging(storage = 'file', storage_config = {{'path': '{folder}/log'}})",
    "SELECT * FROM enable_profiling(save_location = '{folder}/profile')",
    "EXPLAIN ANALYZE SELECT * FROM results",
    "PREPARE x AS SELECT 1",
    "CREATE TABLE other AS SELECT 1",
    "CREATE MACRO m(a) AS a",
    "CREATE SECRET s (TYPE s3)",
    "INSERT INTO results SELECT * FROM results",
    "UPDATE results SET score = 100",
    "DELETE FROM results",
    "DROP VIEW results",
    "ALTER VIEW results RENAME TO other",
    "WITH x AS (DELETE FROM results RETURNING *) SELECT * FROM x",
    "WITH x AS (INSERT INTO results SELECT * FROM results RETURNING *) SELECT * FROM x",
    "BEGIN",
    "VACUUM",
    "SELECT 1; SELECT 2",
    "SELECT 1; DELETE FROM results",
    "SELECT 1; -- harmless\nCOPY results TO '{folder}/out.csv'",
    "",
    "-- only a remark",
    ";",
    "SELEC 1",
    "SELECT sore FROM results",
    "SELECT ?",
    "SELECT '\ud800'",
    "SELECT * FROM range(2000000)",
    "SELECT list(a.range) FROM range(100000) a, range(100000) b",
]  # fmt: skip
TABLE_OF_THIS_PROCESS = TABLE


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:60]))
def test_sql_that_is_more_than_a_look_at_the_table_is_refused(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sql._LOCKED, "memory_limit", "200MB")
    file = tmp_path / "secret.csv"
    file.write_text(SECRET)
    with pytest.raises(ConfigError, match="--sql ") as error:
        run_sql(TABLE, text.format(file=file, folder=tmp_path))
    assert "\n" not in str(error.value)
    assert SECRET not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"], "nothing was written"
    assert TABLE.num_rows == 4


def test_settings_are_locked_in_this_version_of_duckdb(tmp_path):
    """What the lock rests on, seen from inside: a version that renames a setting fails here."""
    names = "'enable_external_access', 'lock_configuration', 'autoload_known_extensions', 'autoinstall_known_extensions'"
    found = run_sql(TABLE, f"SELECT name, value FROM duckdb_settings() WHERE name IN ({names})").to_pylist()
    assert {row["name"]: row["value"] for row in found} == {
        "enable_external_access": "false", "lock_configuration": "true", "autoload_known_extensions": "false",
        "autoinstall_known_extensions": "false",
    }  # fmt: skip


def test_an_old_duckdb_is_refused(monkeypatch):
    monkeypatch.setattr("duckdb.__version__", "1.5.6")
    with pytest.raises(ConfigError, match=r"duckdb 1\.5\.6 is too old; update it: pip install"):
        run_sql(TABLE, "SELECT 1")


def test_an_answer_may_be_as_long_as_the_limit(monkeypatch):
    monkeypatch.setattr(sql, "MOST_ROWS", 4)
    assert run_sql(TABLE, "SELECT * FROM results").num_rows == 4
    with pytest.raises(ConfigError, match="more than 4 rows; add a LIMIT"):
        run_sql(TABLE, "SELECT * FROM range(5)")


ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"


@pytest.mark.parametrize("query", [ENDLESS, "SELECT count(*) FROM range(1000000) a, range(1000000) b"])
def test_a_query_without_end_is_stopped(monkeypatch, query):
    monkeypatch.setattr(sql, "MOST_SECONDS", 0.2)
    begun = time.monotonic()
    with pytest.raises(ConfigError, match="--sql takes more than 0 seconds; ask for less"):
        run_sql(TABLE, query)
    assert time.monotonic() - begun < 20


def test_two_queries_know_nothing_of_one_another():
    run_sql(TABLE, "SELECT 1")
    assert run_sql(TABLE.slice(0, 1), "SELECT count(*) AS n FROM results").to_pylist() == [{"n": 1}]
