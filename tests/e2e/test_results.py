"""`peftbench results` as a user meets it: every format read back by another reader, and bad input in one sentence."""

# ruff: noqa: F811  (fixtures are named as arguments)

import csv
import io
import json
import os
import signal
import subprocess
import sys
from datetime import date
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import peftbench
from peftbench import tabular
from peftbench.columns import COLUMNS, SHOWN
from peftbench.index import KEPT_FROM, KEPT_NAME, read_index
from tests.e2e.test_cli import call, call_process, finished, refused, world  # noqa: F401  (fixtures)
from tests.synthetic import add_run, edit

METHODS = ("base", "ia3", "lora")

PLAIN = [name for name in SHOWN if name != "quantization"]
"""What is shown where no base is quantized."""


@pytest.fixture
def runs(tmp_path):
    """Three methods on two datasets; one run was only trained and one failed."""
    folder = tmp_path / "runs"
    for number, dataset in enumerate(("cb", "rte")):
        for place, method in enumerate(METHODS):
            add_run(folder, method, dataset, primary=50.0 + 10 * place + number)
    add_run(folder, "lora", seed=7, primary=None)
    add_run(folder, "lora", seed=8, failed=True)
    return folder


def shown(*arguments):
    code, out, err = call("results", *arguments)
    assert code == 0, err
    assert err == ""
    return out


def cells(text):
    return [line.split() for line in text.splitlines()]


def test_a_table_shows_the_main_columns(runs):
    lines = cells(shown(runs))
    assert lines[0] == PLAIN
    assert len(lines) == 1 + 8
    assert [
        "models/small",
        "rte",
        "lora",
        "{}",
        "42",
        "corrected",
        "71",
        "0.125",
        "57344",
        "0.25",
        "done",
    ] in lines
    assert ["models/small", "rte", "base", "{}", "42", "corrected", "51", "0.125", "-", "-", "done"] in lines


def test_conditions_columns_and_order(runs):
    out = shown(runs, "--where", "method=lora,ia3", "--where", "score>=61", "--columns", "method, dataset,score",
                "--sort", "-score")  # fmt: skip
    assert cells(out) == [
        ["method", "dataset", "score"], ["lora", "rte", "71"], ["lora", "cb", "70"], ["ia3", "rte", "61"],
    ]  # fmt: skip
    assert cells(shown(runs, "--where=score=none", "--columns=seed,status")) == [
        ["seed", "status"], ["7", "done"], ["8", "failed"],
    ]  # fmt: skip
    assert cells(shown(runs, "--where", "seed=99")) == [PLAIN]


def test_the_folder_is_runs_where_none_is_given(runs, monkeypatch):
    monkeypatch.chdir(runs.parent)
    assert shown() == shown(runs)


def expected(runs):
    return read_index(runs).table.to_pylist()


def of_text(text, kind):
    if text == "":
        return None
    if pa.types.is_boolean(kind):
        return {"true": True, "false": False}[text]
    return int(text) if pa.types.is_integer(kind) else float(text) if pa.types.is_floating(kind) else text


def test_csv_is_read_back_by_csv(runs, tmp_path):
    out = shown(runs, "--format", "csv")
    schema = read_index(runs).table.schema
    found = [
        {name: of_text(row[name], schema.field(name).type) for name in row}
        for row in csv.DictReader(io.StringIO(out))
    ]
    assert found == expected(runs)
    assert shown(runs, "--output", tmp_path / "out.csv") == ""
    assert (tmp_path / "out.csv").read_text() == out


def test_json_is_read_back_by_json(runs, tmp_path):
    assert json.loads(shown(runs, "--format", "json")) == expected(runs)
    assert json.loads(shown(runs, "--format", "json", "--where", "seed=99")) == []
    shown(runs, "--output", tmp_path / "out.JSON")
    assert json.loads((tmp_path / "out.JSON").read_text()) == expected(runs)


def test_parquet_is_read_back_by_pyarrow(runs, tmp_path):
    shown(runs, "--output", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.to_pylist() == expected(runs)
    assert found.schema.field("seed").metadata == {
        b"meaning": b"Seed of the run; without meaning for the base model."
    }
    shown(runs, "--format", "parquet", "--output", tmp_path / "other")
    assert pq.read_table(tmp_path / "other") == found
    done = subprocess.run([sys.executable, "-m", "peftbench", "results", runs, "--format", "parquet"],
                          capture_output=True, check=True)  # fmt: skip
    assert pq.read_table(io.BytesIO(done.stdout)) == found


def test_sql_in_every_format(runs):
    query = "SELECT method, avg(score) AS mean FROM results WHERE score > 0 GROUP BY method ORDER BY mean DESC"
    assert cells(shown(runs, "--sql", query)) == [
        ["method", "mean"], ["lora", "70.5"], ["ia3", "60.5"], ["base", "50.5"],
    ]  # fmt: skip
    assert shown(runs, "--sql", query, "--format", "csv") == "method,mean\nlora,70.5\nia3,60.5\nbase,50.5\n"
    assert json.loads(shown(runs, "--sql", query, "--format", "json"))[0] == {"method": "lora", "mean": 70.5}
    odd = ("SELECT [1, 2] AS l, {'a': DATE '2026-11-25'} AS s, 1.50::DECIMAL(4,2) AS d, 'x'::BLOB AS b, "
           "'nan'::DOUBLE AS n, 1 = 1 AS t, DATE '2026-11-25' AS day, (2::HUGEINT)::DOUBLE AS h")  # fmt: skip
    assert json.loads(shown(runs, "--sql", odd, "--format", "json")) == [
        {"l": [1, 2], "s": {"a": "2026-11-25"}, "d": "1.50", "b": "78", "n": None, "t": True, "day": "2026-11-25",
         "h": 2.0}
    ]  # fmt: skip
    assert shown(runs, "--sql", odd, "--format", "csv").splitlines()[1] == (
        '"[1, 2]","{""a"": ""2026-11-25""}",1.50,78,nan,true,2026-11-25,2.0'
    )
    two = "SELECT 1 AS a, 2 AS a"
    assert shown(runs, "--sql", two, "--format", "csv") == "a,a\n1,2\n"
    refused("two columns have the same name", "results", runs, "--sql", two, "--format", "json")
    refused("two columns have the same name", "results", runs, "--sql", two, "--format", "parquet")


FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1+1", "＠x"]


@pytest.mark.parametrize("text", FORMULAS, ids=ascii)
def test_no_cell_of_a_csv_file_is_a_formula(text):
    table = pa.table({text: [text, f"a{text}"], "number": [-1, 2], "fraction": [-0.5, None]})
    [head, first, second] = csv.reader(io.StringIO(tabular._csv(table), newline=""))
    assert head == [f"'{text}", "number", "fraction"]
    assert first == [f"'{text}", "-1", "-0.5"]
    assert second == [f"a{text}", "2", ""]


def test_text_of_records_cannot_steer_a_terminal(tmp_path, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    table = pa.table({"a": ["\x1b[2J\u202e\x9b1m\nnext", None], "day": [date(2026, 11, 25)] * 2})
    for form in ("table", "csv", "json"):
        monkeypatch.setattr(sys, "stdout", Terminal())
        tabular.put(table, form, None)
        told = sys.stdout.getvalue()
        assert not {"\x1b[2J", "\u202e", "\x9b"} & set(told), form
        assert "\x1b[2J" not in told
        assert "\\x1b[2J" in told or "\\u001b[2J" in told
    with pytest.raises(peftbench.ConfigError, match="not for a terminal; name a file by --output"):
        tabular.format_for("parquet", None)


def test_decimals_and_negative_numbers_stay_numbers_in_a_csv_file():
    table = pa.table({"d": pa.array([Decimal("-1.50")]), "i": [-3]})
    assert tabular._csv(table) == "d,i\n-1.50,-3\n"


def test_from_python(runs):
    frame = peftbench.results(runs, where=["method=lora", "score>0"])
    assert list(frame.columns) == list(COLUMNS)
    assert frame.sort_values("score").score.tolist() == [70.0, 71.0]
    assert peftbench.results(runs, where="dataset=cb").groupby("method").score.mean().to_dict() == {
        "base": 50.0, "ia3": 60.0, "lora": 70.0,
    }  # fmt: skip


def test_a_real_run_is_a_row(finished, world):
    result, _ = finished
    [row] = json.loads(shown(world / "runs", "--format", "json"))
    assert (row["method"], row["settings"], row["seed"]) == ("lora", '{"rank": 2}', 42)
    assert row["score"] == result["evaluation"]["scores"]["corrected"]["primary"]
    assert row["score_published"] == result["evaluation"]["scores"]["published"]["primary"]
    assert row["best_validation_loss"] == result["train"]["best_validation_loss"]
    assert row["train_peak_memory_bytes"] == result["train"]["peak_memory_bytes"]
    assert row["train_seconds"] == result["train"]["efficiency"]["train_seconds"]
    assert (row["test_rows"], row["partial"]) == (12, True)
    assert str(world / "runs" / row["folder"]) == result["folder"]


def test_bad_records_are_named_and_the_others_shown(runs):
    edit(next(runs.glob("small/ia3/cb/*/eval-*/result.json")), record_version=99)
    half = next(runs.glob("small/lora/rte/seed42-*/train.json"))
    half.write_bytes(half.read_bytes()[:300])
    code, out, err = call("results", runs, "--format", "csv")
    assert code == 1
    assert len(out.splitlines()) == 1 + 8
    [newer, damaged] = err.splitlines()
    assert newer.startswith("peftbench: ")
    assert "result.json was written by a newer version of peftbench than this one" in newer
    assert "train.json is not a record of this version" in damaged
    code, out, err = call("results", runs, "--sql", "SELECT count(*) AS n FROM results", "--format", "json")
    assert (code, json.loads(out), len(err.splitlines())) == (1, [{"n": 8}], 2)


def test_a_folder_of_bad_records_alone(tmp_path):
    folder = add_run(tmp_path, "base")
    next(folder.glob("eval-*/result.json")).write_text("{}")
    code, out, err = call("results", tmp_path)
    assert code == 1
    assert cells(out) == [PLAIN]
    assert "is not a record of this version" in err


def test_folders_that_hold_no_run(tmp_path, monkeypatch):
    refused("does not exist; give a folder that holds runs", "results", tmp_path / "nowhere")
    refused("has finished; make one with `peftbench run`, or name its folder", "results", tmp_path)
    (tmp_path / "file").touch()
    refused("is not a folder; give a folder that holds runs", "results", tmp_path / "file")
    monkeypatch.chdir(tmp_path)
    refused("'runs' does not exist", "results")


def test_mistakes_in_what_is_asked(runs, tmp_path):
    for expected, *options in (
        ("condition 'metod=lora': unknown column 'metod'; did you mean 'method'", "--where", "metod=lora"),
        ("condition 'score>x': score is a number", "--where", "score>x"),
        ("condition 'lora' is none", "--where", "lora"),
        ("--columns: unknown column 'sede'; did you mean 'seed'", "--columns", "method,sede"),
        ("--columns: unknown column ''", "--columns", "method,"),
        ("--sort: unknown column 'scor'; did you mean 'score'", "--sort", "-scor"),
        ("unknown format 'cvs'; did you mean 'csv'", "--format", "cvs"),
        ("end it in .csv, .json or .parquet", "--output", tmp_path / "out.txt"),
        ("end it in .csv, .json or .parquet", "--output", tmp_path / "out.csv", "--format", "table"),
        ("out.csv: No such file or directory", "--output", tmp_path / "nowhere" / "out.csv"),
        ("--sql takes one SELECT over the table results, and this is DROP", "--sql", "DROP TABLE results"),
        ("--sql cannot be answered: Permission Error", "--sql", f"SELECT * FROM read_text('{runs}')"),
        ("--columns and --sort do not go with --sql", "--sql", "SELECT 1", "--sort", "seed"),
    ):
        refused(expected, "results", runs, *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs"]


def test_a_file_is_replaced_whole_or_not_at_all(runs, tmp_path):
    file = tmp_path / "out.csv"
    file.write_text("before")
    refused("--sql cannot be answered", "results", runs, "--sql", "SELEC", "--output", file)
    assert file.read_text() == "before"
    shown(runs, "--sql", "SELECT 1 AS a", "--output", file)
    assert file.read_text() == "a\n1\n"
    refused("cannot write", "results", runs, "--output", tmp_path / "runs", "--format", "csv")


def test_list_columns_says_what_there_is():
    code, out, _ = call("list", "columns", "--json")
    assert code == 0
    assert [each["name"] for each in json.loads(out)] == list(COLUMNS)


def test_a_large_folder_is_indexed_beside_its_records(tmp_path, monkeypatch):
    monkeypatch.setattr("peftbench.disk.sync", lambda path: None)
    for seed in range(KEPT_FROM):
        add_run(tmp_path, "base", seed=0, dataset=f"d{seed}")
    first = shown(tmp_path, "--format", "csv")
    monkeypatch.setattr("peftbench.index.REST_SECONDS", -1e9)
    assert shown(tmp_path, "--format", "csv") == first
    assert (tmp_path / KEPT_NAME).is_file()
    monkeypatch.setattr("peftbench.index.read_record", None)
    assert shown(tmp_path, "--format", "csv") == first


def test_a_query_without_end_hears_ctrl_c(runs):
    query = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT max(n) FROM t"
    told = (
        "import peftbench.sql, sys\nanswer = peftbench.sql._answer\ndef told(*given):\n    print('begun', flush=True)\n"
        "    return answer(*given)\npeftbench.sql._answer = told\nfrom peftbench.cli import app\napp(sys.argv[1:])"
    )
    process = subprocess.Popen([sys.executable, "-c", told, "results", runs, "--sql", query],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
    try:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()  # else a failure leaves it computing for ever
    assert (process.returncode, out) == (130, "")
    assert err.startswith("peftbench: stopped")


def test_the_command_in_a_process_of_its_own_loads_no_torch(runs):
    code = (
        "import sys\nfrom peftbench.cli import app\ntry:\n    app(['results', sys.argv[1], '--sql', "
        "'SELECT count(*) AS n FROM results'])\nexcept SystemExit as end:\n    assert not end.code\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, runs], capture_output=True, text=True, env={**os.environ})
    assert done.stdout.split() == ["n", "8", "[]"], done.stderr
    status, out, err = call_process("results", runs, "--columns", "seed", "--where", "seed=7")
    assert (status, out.split(), err) == (0, ["seed", "7"], "")
