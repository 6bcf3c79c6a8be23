"""Rows of results: each value from its record, bad records named, and a kept index that is never wrong."""

import json
import os
import shutil
from pathlib import Path

import pytest

from peftbench import finished, index
from peftbench.columns import COLUMNS, KINDS, SHOWN, arrow_schema, described
from peftbench.errors import DataError
from peftbench.index import KEPT_NAME, read_index
from peftbench.records import RECORD_VERSION, DataConfig
from peftbench.store import stored_results
from tests.synthetic import add_run, config_of, edit, evaluation_of, training_of


def rows(folder):
    return read_index(folder).table.to_pylist()


@pytest.fixture
def kept(monkeypatch):
    """Keep an index of any size at once."""
    monkeypatch.setattr(index, "KEPT_FROM", 1)
    monkeypatch.setattr(index, "REST_SECONDS", -1e9)


@pytest.fixture
def count_reads(monkeypatch):
    """The records that are read from here on."""
    read = []
    monkeypatch.setattr(
        index, "read_record", lambda model, file: read.append(file) or finished.read_record(model, file)
    )
    return read


def test_a_row_holds_what_the_records_say(tmp_path):
    folder = add_run(
        tmp_path, seed=7, primary=71.5, settings={"rank": 2, "alpha": 4}, data=DataConfig(train_rows=500)
    )
    [row] = rows(tmp_path)
    assert row == {
        "model": "models/small", "model_revision": None, "model_family": "llama", "model_fingerprint": "f" * 64,
        "dtype": "bfloat16", "quantization": None, "dataset": "rte", "protocol": "corrected", "method": "lora",
        "settings": '{"alpha": 4, "rank": 2}', "method_code": None, "seed": 7, "learning_rate": 5e-5, "epochs": 10, "batch_size": 4,
        "train_rows": 2241, "train_rows_limit": 500, "test_rows": 277, "test_rows_limit": None, "partial": False,
        "train_test_overlap_rows": 3, "metric": "macro_f1", "score": 71.5, "score_corrected": 71.5,
        "score_published": 70.5, "all_scores": row["all_scores"], "invalid_rate": 0.125, "hit_limit_rate": 0.0625,
        "top_output_share": 0.5, "trainable_params": 57_344, "adapter_params": 57_300, "adapter_bytes": 57_000,
        "best_validation_loss": 0.25, "best_step": 2805, "steps": 5610, "train_seconds": 90.5,
        "validation_seconds": 9.5, "train_total_seconds": 100.0, "generation_seconds": 4.5, "evaluation_seconds": 5.0,
        "train_tokens_per_second": 31_000.0, "generated_tokens_per_second": 410.0,
        "train_peak_memory_bytes": 4_100_000_000, "evaluation_peak_memory_bytes": 3_100_000_000,
        "memory_kind": "cuda allocated", "latency_prompt_tokens": 60, "first_token_seconds": 0.02,
        "next_token_seconds": 0.01, "merged_first_token_seconds": 0.015, "merged_next_token_seconds": 0.008,
        "train_energy_joules": 40_000.0, "evaluation_energy_joules": 2_000.0, "energy_source": "measured",
        "group_size": 1, "device": "NVIDIA H100 80GB HBM3", "peftbench_version": "0.1.0",
        "peftbench_commit": "0" * 40, "started_at": "2026-11-24T10:00:00+00:00",
        "evaluated_at": "2026-11-24T10:05:00+00:00", "status": "done", "failure_reason": None, "failure": None,
        "train_id": folder.name.removeprefix("seed7-"), "eval_id": "e" * 12,
        "folder": folder.relative_to(tmp_path).as_posix(),
    }  # fmt: skip
    assert json.loads(row["all_scores"])["accuracy"] == 71.5


def test_what_a_run_does_not_have_is_unknown_and_never_zero(tmp_path):
    add_run(tmp_path, "base")
    add_run(tmp_path, "ia3", primary=None)
    add_run(tmp_path, "lora", failed=True)
    base, trained, failed = rows(tmp_path)
    assert {
        base[name] for name in ("trainable_params", "learning_rate", "train_rows", "steps", "train_seconds")
    } == {None}
    assert (base["method"], base["score"], base["started_at"]) == ("base", 80.0, "2026-11-24T10:05:00+00:00")
    assert (trained["method"], trained["status"], trained["steps"]) == ("ia3", "done", 5610)
    assert {trained[name] for name in ("score", "eval_id", "invalid_rate", "test_rows", "evaluated_at")} == {None}
    assert (failed["status"], failed["failure_reason"], failed["score"]) == ("failed", "nonfinite", None)
    assert failed["failure"] == "the loss is not finite at step 7"


def test_the_score_is_the_one_of_the_runs_own_protocol(tmp_path):
    add_run(tmp_path, protocol="published")
    [row] = rows(tmp_path)
    assert (row["score"], row["score_corrected"], row["score_published"]) == (79.0, 80.0, 79.0)


def test_a_failed_evaluation_has_no_score_and_records_without_a_profile_are_read(tmp_path):
    add_run(tmp_path, evaluation={"status": "failed", "efficiency": None}, training={"efficiency": None})
    [row] = rows(tmp_path)
    assert (row["status"], row["score"], row["all_scores"]) == ("failed", None, None)
    assert (row["train_seconds"], row["energy_source"], row["train_total_seconds"]) == (None, None, 100.0)


def test_energy_is_called_estimated_if_a_part_of_it_is(tmp_path):
    record = evaluation_of(config_of(tmp_path), "a" * 12)
    profile = record.efficiency.model_copy(update={"energy_source": "estimated"})
    add_run(tmp_path, evaluation={"efficiency": profile})
    assert rows(tmp_path)[0]["energy_source"] == "estimated"


def test_every_evaluation_is_a_row_and_the_order_is_that_of_folders(tmp_path):
    for seed in (2, 1):
        folder = add_run(tmp_path, seed=seed)
        other = evaluation_of(config_of(tmp_path, seed=seed), folder.name[6:], 60.0, eval_id="0" * 12)
        (folder / "eval-000000000000").mkdir()
        (folder / "eval-000000000000" / "result.json").write_text(other.model_dump_json())
    assert [(row["seed"], row["score"]) for row in rows(tmp_path)] == [(1, 60.0), (1, 80.0), (2, 60.0), (2, 80.0)]
    folders = [result.folder for result in stored_results(tmp_path)]
    assert [str(tmp_path / row["folder"]) for row in rows(tmp_path)] == folders


def test_unfinished_runs_models_and_hidden_folders_are_no_rows(tmp_path):
    folder = add_run(tmp_path)
    for name, file in (("model", "config.json"), ("data", "train.json"), (".hidden/run", "train.json")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / file).write_text("{}")
    unfinished = add_run(tmp_path, seed=1)
    (unfinished / "train.json").unlink()
    next(unfinished.glob("eval-*/result.json")).unlink()
    (tmp_path / "again").symlink_to(tmp_path)
    found = read_index(tmp_path)
    assert [row["folder"] for row in found.table.to_pylist()] == [folder.relative_to(tmp_path).as_posix()]
    assert found.problems == ()


def test_a_run_itself_can_be_read(tmp_path):
    assert rows(add_run(tmp_path))[0]["folder"] == "."


DAMAGE = {
    "half written": lambda file: file.write_bytes(file.read_bytes()[:700]),
    "empty": lambda file: file.write_bytes(b""),
    "not text": lambda file: file.write_bytes(b"\xff\xfe\x00"),
    "a list": lambda file: file.write_text("[]"),
    "deep": lambda file: file.write_text("[" * 100_000),
    "unknown key": lambda file: edit(file, surprise=1),
    "missing key": lambda file: file.write_text(json.dumps({"record_version": 1})),
    "not a number": lambda file: file.write_text(file.read_text().replace('"seconds": 5.0', '"seconds": NaN')),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_record_is_named_and_hides_no_other(tmp_path, damage):
    add_run(tmp_path, seed=1, primary=61.0)
    bad = add_run(tmp_path, seed=2, primary=62.0)
    add_run(tmp_path, seed=3, primary=63.0)
    file = next(bad.glob("eval-*/result.json"))
    damage(file)
    found = read_index(tmp_path)
    # What is known of the training stays, without a score.
    assert [row["score"] for row in found.table.to_pylist()] == [61.0, None, 63.0]
    [problem] = found.problems
    assert str(file) in problem
    assert "newer" not in problem or "may be damaged" in problem
    assert "\n" not in problem
    (bad / "train.json").unlink()
    assert [row["seed"] for row in rows(tmp_path)] == [1, 3]


def test_a_damaged_training_leaves_its_evaluation(tmp_path):
    folder = add_run(tmp_path)
    (folder / "train.json").write_text("{")
    found = read_index(tmp_path)
    [row] = found.table.to_pylist()
    assert (row["score"], row["steps"]) == (80.0, None)
    assert len(found.problems) == 1


@pytest.mark.parametrize("changes", [{"record_version": RECORD_VERSION + 1}, {"record_version": 7, "surprise": 1}])
def test_a_record_of_a_newer_version_says_so(tmp_path, changes):
    folder = add_run(tmp_path)
    edit(folder / "train.json", **changes)
    found = read_index(tmp_path)
    assert found.problems == (
        f"{folder / 'train.json'} was written by a newer version of peftbench than this one; install that version "
        "to read it",
    )
    with pytest.raises(DataError, match="newer version of peftbench"):
        stored_results(tmp_path)


def test_a_number_that_no_table_can_hold_is_a_damaged_record(tmp_path):
    add_run(tmp_path, seed=2**63)
    add_run(tmp_path, seed=2**63 - 1)
    found = read_index(tmp_path)
    assert [row["seed"] for row in found.table.to_pylist()] == [2**63 - 1]
    assert "do not fit into a table: seed" in found.problems[0]


def test_a_record_or_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    folder = add_run(tmp_path)
    add_run(tmp_path, "ia3")

    def refuse(file, read=Path.read_bytes):
        if file == folder / "train.json":
            raise PermissionError(13, "Permission denied")
        return read(file)

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "train.json cannot be read (Permission denied)" in read_index(tmp_path).problems[0]

    def closed(path, listed=os.scandir):
        if Path(path) == tmp_path / "small" / "ia3":
            raise PermissionError(13, "Permission denied")
        return listed(path)

    monkeypatch.setattr(index.os, "scandir", closed)
    assert "ia3 cannot be listed (Permission denied)" in "".join(read_index(tmp_path).problems)


def test_a_folder_name_that_is_no_text_is_spelled_out(tmp_path):
    folder = add_run(tmp_path)
    odd = os.fsencode(tmp_path) + b"/odd\xff"
    try:
        folder.rename(os.fsdecode(odd))
    except OSError:
        pytest.skip("this file system takes no such name")
    assert rows(tmp_path)[0]["folder"] == "odd\\udcff"


@pytest.mark.parametrize(("name", "what"), [("nowhere", "does not exist"), ("file", "is not a folder")])
def test_a_folder_that_is_none(tmp_path, name, what):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=what):
        read_index(tmp_path / name)


def test_columns_have_a_kind_a_meaning_and_the_unit_in_their_name():
    assert arrow_schema().names == list(COLUMNS) == [each["name"] for each in described()]
    assert all(each["meaning"].endswith(".") for each in described())
    assert (KINDS["seed"], KINDS["score"], KINDS["partial"], KINDS["model_revision"]) == (
        "whole number", "number", "true or false", "text",
    )  # fmt: skip
    assert set(SHOWN) <= set(COLUMNS)


# ------------------------------------------------------------------------------------------------- the kept index


def test_a_kept_index_saves_reading_and_says_the_same(tmp_path, kept, count_reads):
    for seed in range(4):
        add_run(tmp_path, seed=seed)
    add_run(tmp_path, "base")
    add_run(tmp_path, "ia3", primary=None)
    first = read_index(tmp_path)
    assert len(count_reads) == 4 * 2 + 2 + 1
    count_reads.clear()
    assert read_index(tmp_path) == first
    assert count_reads == []
    add_run(tmp_path, seed=2, dataset="cb")
    assert read_index(tmp_path).table.num_rows == 7
    assert len(count_reads) == 2
    shutil.rmtree(tmp_path / "small" / "lora" / "cb")
    assert read_index(tmp_path) == first


def test_a_record_that_changed_is_read_again(tmp_path, kept):
    folder = add_run(tmp_path)
    file = next(folder.glob("eval-*/result.json"))
    edit(file)
    read_index(tmp_path)
    before, text = file.stat(), file.read_text()
    file.write_text(text.replace('"primary": 80.0', '"primary": 90.0'))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size
    assert rows(tmp_path)[0]["score"] == 90.0, "of the same size and with the time put back"
    (folder / "train.json").unlink()
    assert rows(tmp_path)[0]["steps"] is None


def test_a_damaged_record_is_named_each_time_and_read_once_it_is_mended(tmp_path, kept):
    for seed in (1, 2):
        folder = add_run(tmp_path, seed=seed)
    whole = (folder / "train.json").read_text()
    (folder / "train.json").write_text("{")
    for _ in range(3):
        found = read_index(tmp_path)
        assert len(found.problems) == 1
        assert found.table["steps"].to_pylist() == [5610, None]
    (folder / "train.json").write_text(whole)
    assert read_index(tmp_path).table["steps"].to_pylist() == [5610, 5610]
    file = next(folder.glob("eval-*/result.json"))
    evaluated = file.read_text()
    file.write_text("")
    for _ in range(3):
        found = read_index(tmp_path)
        assert (len(found.problems), found.table["score"].to_pylist()) == (1, [80.0, None])
    file.write_text(evaluated)
    assert (read_index(tmp_path).problems, rows(tmp_path)[1]["score"]) == ((), 80.0)


def test_an_index_that_came_with_a_folder_does_not_count(tmp_path, kept, count_reads):
    add_run(tmp_path / "here")
    first = read_index(tmp_path / "here")
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    assert (tmp_path / "there" / KEPT_NAME).exists()
    count_reads.clear()
    assert read_index(tmp_path / "there") == first
    assert len(count_reads) == 2


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", None], ids=repr)
def test_a_damaged_index_is_made_anew(tmp_path, kept, content):
    add_run(tmp_path)
    first = read_index(tmp_path)
    file = tmp_path / KEPT_NAME
    whole = file.read_bytes()
    middle = len(whole) // 3
    file.write_bytes(
        whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :] if content is None else content
    )
    assert read_index(tmp_path) == first


def test_rows_made_by_another_version_do_not_count(tmp_path, kept, count_reads, monkeypatch):
    add_run(tmp_path)
    read_index(tmp_path)
    count_reads.clear()
    monkeypatch.setattr(index, "_maker", lambda: b"another")
    read_index(tmp_path)
    assert len(count_reads) == 2


def test_a_file_that_may_still_change_is_not_kept(tmp_path, monkeypatch, count_reads):
    monkeypatch.setattr(index, "KEPT_FROM", 1)
    add_run(tmp_path)
    for _ in range(2):
        count_reads.clear()
        read_index(tmp_path)
        assert len(count_reads) == 2


def test_few_rows_keep_no_index(tmp_path, monkeypatch):
    monkeypatch.setattr(index, "REST_SECONDS", -1e9)
    add_run(tmp_path)
    read_index(tmp_path)
    assert not (tmp_path / KEPT_NAME).exists()


def test_a_folder_that_cannot_be_written_to_is_read(tmp_path, kept, monkeypatch):
    add_run(tmp_path)

    def full(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("peftbench.disk.tempfile.mkstemp", full)
    for _ in range(2):
        assert rows(tmp_path)[0]["score"] == 80.0
    assert not (tmp_path / KEPT_NAME).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_read(tmp_path, kept):
    add_run(tmp_path)
    tmp_path.chmod(0o555)
    try:
        assert rows(tmp_path)[0]["score"] == 80.0
    finally:
        tmp_path.chmod(0o755)


def test_the_records_themselves_are_not_touched(tmp_path, kept):
    folder = add_run(tmp_path)

    def files():
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}

    before = files()
    read_index(tmp_path)
    assert files() == before


def test_the_made_records_are_what_the_package_reads(tmp_path):
    """The records of these tests are real ones in form: they are read back as they were written."""
    config = config_of(tmp_path)
    record = training_of(config, "a" * 12)
    assert type(record).model_validate_json(record.model_dump_json()) == record
