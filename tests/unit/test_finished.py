"""Records and what belongs to them: the first one stands, what lies beside it is its own, and damage is named."""

import errno
import json
import os
import shutil

import pytest
import torch

from peftbench.disk import create_text
from peftbench.engine import checkpoint
from peftbench.errors import DataError
from peftbench.finished import complete, read_record, write_record
from peftbench.parts import content, prepare, settle, sha256_of
from peftbench.records import CurvePoint, EvalRecord, TrainRecord
from peftbench.store import RunFolder, stored_results
from tests.synthetic import add_run, config_of, edit, evaluation_of, training_of


def prepared(file, text):
    return prepare(file, lambda draft: draft.write_text(text))


def names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("links", [None, errno.EPERM, errno.ENOTSUP])
def test_the_first_text_stands(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError(links, os.strerror(links))

    if links is not None:
        monkeypatch.setattr(os, "link", refuse)
    create_text(tmp_path / "file", "first\n")
    create_text(tmp_path / "file", "second\n")
    assert (tmp_path / "file").read_text() == "first\n"
    assert names(tmp_path) == ["file"]


def test_a_link_whose_answer_was_lost_counts(tmp_path, monkeypatch):
    real = os.link

    def lost(*arguments):
        real(*arguments)
        raise FileExistsError(errno.EEXIST, "File exists")

    monkeypatch.setattr(os, "link", lost)
    record = training_of(config_of(tmp_path), "a" * 12, adapter_sha256=None)
    assert write_record(tmp_path / "train.json", record) == record


def test_a_refused_link_is_said(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DataError, match="cannot write .*Input/output error"):
        write_record(tmp_path / "train.json", training_of(config_of(tmp_path), "a" * 12))
    assert names(tmp_path) == []


def test_what_is_prepared_is_placed_by_whoever_comes_and_once(tmp_path):
    file = tmp_path / "part"
    first, second = prepared(file, "one"), prepared(file, "two")
    assert not file.exists()
    assert content(file, first) == b"one", "before it is placed"
    assert settle(file, second)
    assert settle(file, second)
    assert (content(file, second), sha256_of(file)) == (b"two", second)
    assert settle(file, first), "what is there under its name does not matter"
    assert content(file, second) is None
    assert not settle(file, second)


def test_parts_of_who_came_second_are_not_left(tmp_path):
    """Both prepare, one record stands, and its own adapter lies beside it, in whatever order the rest goes."""
    folder, file = RunFolder(tmp_path), tmp_path / "train.json"
    config = config_of(tmp_path)
    made = []
    for writer in (1, 2):
        hashes, size = folder.write_adapter({"by": writer}, {"by": torch.tensor([float(writer)])})
        made.append(training_of(config, "a" * 12, adapter_bytes=size, seconds=float(writer), **hashes))
    assert not complete(file, made[0].model_copy(update={"adapter_sha256": "0" * 64}))
    shutil.rmtree(tmp_path / "adapter")
    for writer in (1, 2):
        folder.write_adapter({"by": writer}, {"by": torch.tensor([float(writer)])})
    assert write_record(file, made[1]) == made[1]
    assert write_record(file, made[0]) == made[1]
    assert json.loads((folder.adapter / "adapter_config.json").read_text()) == {"by": 2}
    assert names(tmp_path) == ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", "train.json"]


def test_a_damaged_part_makes_a_record_incomplete_and_the_same_part_heals_it(tmp_path):
    folder, file = RunFolder(tmp_path), tmp_path / "train.json"
    hashes, _ = folder.write_adapter({"rank": 2}, {"x": torch.ones(3)})
    record = write_record(file, training_of(config_of(tmp_path), "a" * 12, **hashes))
    assert complete(file, record)
    for damaged in sorted(folder.adapter.glob("adapter_*")):
        damaged.write_bytes(damaged.read_bytes() + b" ")
        assert not complete(file, record)
        folder.write_adapter({"rank": 2}, {"x": torch.ones(3)})
        assert write_record(file, record) == record
        assert complete(file, record)


@pytest.mark.parametrize("name", ["train.json", "result.json", "config.json"])
def test_a_changed_digit_is_found(tmp_path, name):
    file = next(add_run(tmp_path).rglob(name))
    text = file.read_text()
    file.write_text(text.replace('"seed": 42', '"seed": 43'))
    with pytest.raises(DataError, match="does not have the content that it was written with"):
        stored_results(tmp_path)
    file.write_text(json.dumps(json.loads(text)))
    stored_results(tmp_path)  # laid out anew, with the same values
    edit(file)
    stored_results(tmp_path)  # as written by an earlier version


def test_a_record_of_another_run_or_evaluation_is_refused(tmp_path):
    first, second = add_run(tmp_path, seed=1), add_run(tmp_path, seed=2)
    for name, what in (("train.json", "another run"), ("eval-eeeeeeeeeeee/result.json", "another run")):
        own = (first / name).read_bytes()
        shutil.copy(second / name, first / name)
        with pytest.raises(DataError, match=f"is the record of {what}"):
            read_record(TrainRecord if name == "train.json" else EvalRecord, first / name)
        (first / name).write_bytes(own)
    (first / "eval-0").mkdir()
    shutil.copy(first / "eval-eeeeeeeeeeee" / "result.json", first / "eval-0")
    with pytest.raises(DataError, match="is the record of another evaluation"):
        stored_results(tmp_path)


def test_records_without_a_description_of_their_run_are_named(tmp_path):
    folder = add_run(tmp_path)
    (folder / "config.json").write_text("{}")
    with pytest.raises(DataError, match="does not say whose records lie beside it"):
        stored_results(tmp_path)


def test_an_earlier_evaluation_without_its_predictions_is_incomplete(tmp_path):
    record = evaluation_of(config_of(tmp_path), "a" * 12)
    file = tmp_path / "result.json"
    assert not complete(file, record)
    (tmp_path / "predictions.parquet").touch()
    assert complete(file, record)


def test_a_curve_grows_by_step_and_a_finished_one_stays(tmp_path):
    def point(step):
        return CurvePoint(
            step=step, epoch=1.0, learning_rate=0.1, train_loss=1.0, validation_loss=1.0,
            validation_loss_of_batches=1.0, grad_norm=1.0, peak_memory_bytes=None, seconds=1.0,
        )  # fmt: skip

    folder, file = RunFolder(tmp_path), tmp_path / "curve.jsonl"

    def steps():
        return [json.loads(line)["step"] for line in file.read_text().splitlines()]

    for step in (2, 4, 6, 4):  # as after a kill behind the checkpoint of step 2
        folder.add_to_curve(point(step))
    assert steps() == [2, 4]
    file.write_text(file.read_text() + '{"step": 5')
    folder.add_to_curve(point(6))
    assert steps() == [2, 4, 6]
    (tmp_path / "train.json").touch()
    folder.add_to_curve(point(8))
    assert steps() == [2, 4, 6]


@pytest.mark.parametrize("error", [OSError(errno.ENOLCK, "No locks available"), NotImplementedError()])
def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch, error):
    from filelock import FileLock

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with RunFolder(tmp_path).training_alone():
        pass


# --------------------------------------------------------------------------------------------------- checkpoints


def save(folder, step):
    checkpoint.save(folder, step, {"flat": torch.full((4,), float(step))}, {"step": step})


def test_a_checkpoint_under_the_name_of_another_step_is_damaged(tmp_path):
    save(tmp_path, 2)
    save(tmp_path, 4)
    older, newer = sorted(tmp_path.iterdir())
    shutil.rmtree(newer)
    older.rename(newer)
    found = checkpoint.load_newest(tmp_path)
    assert (found.tensors, len(found.damaged)) == ({}, 1)
    assert "it is that of step 2" in found.damaged[0]


def test_a_checkpoint_that_is_overtaken_while_it_is_written_is_given_up(tmp_path, monkeypatch):
    real = checkpoint.save_file

    def overtaken(tensors, file):
        real(tensors, file)
        if "000000004" in str(file):
            monkeypatch.setattr(checkpoint, "save_file", real)
            save(tmp_path, 6)

    save(tmp_path, 2)
    monkeypatch.setattr(checkpoint, "save_file", overtaken)
    save(tmp_path, 4)
    assert [each.name[:14] for each in sorted(tmp_path.iterdir())] == ["step-000000002", "step-000000006"]


def test_a_checkpoint_is_written_again_where_the_folder_was_taken_away(tmp_path, monkeypatch):
    real, folder = checkpoint.save_file, tmp_path / "checkpoint"

    def cleared(tensors, file):
        real(tensors, file)
        monkeypatch.setattr(checkpoint, "save_file", real)
        shutil.rmtree(folder)

    monkeypatch.setattr(checkpoint, "save_file", cleared)
    save(folder, 4)
    assert checkpoint.load_newest(folder).step == 4


def test_a_checkpoint_that_goes_away_while_it_is_read_is_not_called_damaged(tmp_path, monkeypatch):
    save(tmp_path, 2)
    [old] = tmp_path.iterdir()
    real = checkpoint._problem

    def late(folder):
        if folder == old and old.exists():
            shutil.rmtree(old)
            save(tmp_path, 4)
        return real(folder)

    monkeypatch.setattr(checkpoint, "_problem", late)
    found = checkpoint.load_newest(tmp_path)
    assert (found.step, found.damaged) == (4, ())
