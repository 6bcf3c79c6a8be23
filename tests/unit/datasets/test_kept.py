"""Prepared datasets are read once as long as nothing that decides them has changed, and again when it has."""

import json
import os

import pytest

from peftbench import DataError
from peftbench.datasets import get_dataset, kept, load_dataset
from peftbench.recent import Recent
from tests.e2e.test_cli import rows
from tests.hub_server import HubServer
from tests.unit.datasets.cola_on_hub import cola

RTE = get_dataset("rte")
SETTINGS = {
    "allow_partial": True,
    "split_seed": 0,
    "splits": ["train", "validation", "test"],
    "protocol": "corrected",
}


def write(folder, split, part):
    (folder / "rte").mkdir(parents=True, exist_ok=True)
    (folder / "rte" / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "data", "train", rows(40))
    write(tmp_path / "data", "validation", rows(12, 100))
    return tmp_path / "data"


def load(datasets, folder, *, spec=RTE, rows=None, **changes):
    return datasets.load(spec, data_dir=folder, rows=rows, **{**SETTINGS, **changes})


def test_the_same_rows_are_read_once(folder, monkeypatch):
    datasets = kept.KeptDatasets()
    first = load(datasets, folder)
    assert first == load_dataset(RTE, data_dir=folder, **SETTINGS)
    monkeypatch.setattr(kept, "load_dataset", None)
    assert load(datasets, folder) is first
    monkeypatch.chdir(folder.parent)
    assert load(datasets, folder.relative_to(folder.parent)) is first
    monkeypatch.setenv("PEFTBENCH_DATA", str(folder))
    assert load(datasets, None) is first


@pytest.mark.parametrize(
    "change",
    [
        {"split_seed": 1},
        {"train_rows": 20},
        {"test_rows": 5},
        {"protocol": "published"},
        {"splits": ["test"]},
        {"spec": RTE.model_copy(update={"instruction": "Say something else."})},
    ],
)
def test_each_setting_makes_another_dataset(change, folder):
    datasets = kept.KeptDatasets()
    first = load(datasets, folder)
    other = load(datasets, folder, **change)
    assert other != first
    given = {**SETTINGS, **change}
    assert other == load_dataset(given.pop("spec", RTE), data_dir=folder, **given)
    assert load(datasets, folder) is first


def test_a_changed_file_is_read_again(folder):
    datasets, file = kept.KeptDatasets(), folder / "rte" / "train.jsonl"
    first, status = load(datasets, folder), file.stat()
    file.write_text(file.read_text().replace("sleeps", "dreams"))  # as long as before
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))  # and as old
    second = load(datasets, folder)
    assert second == load_dataset(RTE, data_dir=folder, **SETTINGS) != first
    file.unlink()
    with pytest.raises(DataError, match="the train split 'train' of rte is absent"):
        load(datasets, folder)


def test_another_folder_is_read(folder, tmp_path):
    datasets = kept.KeptDatasets()
    first = load(datasets, folder)
    write(tmp_path / "other", "train", rows(50, 200))
    write(tmp_path / "other", "validation", rows(12, 100))
    assert load(datasets, tmp_path / "other").facts.source_rows == {"train": 50, "test": 12}
    assert load(datasets, folder) is first


def test_files_that_change_while_they_are_read_are_not_kept(folder, monkeypatch):
    datasets = kept.KeptDatasets()

    def slowly(*given, **more):
        made = load_dataset(*given, **more)
        write(folder, "train", rows(50, 200))
        return made

    with monkeypatch.context() as patch:
        patch.setattr(kept, "load_dataset", slowly)
        assert load(datasets, folder).facts.source_rows["train"] == 40
    assert load(datasets, folder).facts.source_rows["train"] == 50


def test_rows_of_ones_own_are_kept_for_one_call_only():
    own = {"train": rows(40), "test": rows(12, 100)}
    datasets = kept.kept_for(own)
    first = load(datasets, None, rows=own)
    assert load(datasets, None, rows=own) is first
    own["train"].append(rows(1, 300)[0])
    assert len(load(kept.kept_for(own), None, rows=own).facts.source_rows) == 2
    assert load(kept.kept_for(own), None, rows=own).facts.source_rows["train"] == 41
    assert kept.kept_for(None) is kept.kept_for(None)


def test_the_hub_is_asked_once(hub: HubServer):
    datasets = kept.KeptDatasets()
    spec = cola()
    first = load(datasets, None, spec=spec)
    second = load(datasets, None, spec=spec)  # what the first download found out is held to from now on
    asked = len(hub.requests)
    assert load(datasets, None, spec=spec) is second
    assert second == first
    assert len(hub.requests) == asked


def test_the_least_recently_used_goes_first():
    recent = Recent(3, 10)
    for name in "abc":
        recent.put([name], name, 1)
    assert recent.get(["a"]) == "a"
    recent.put(["d"], "d", 1)
    assert [recent.get([name]) for name in "abcd"] == ["a", None, "c", "d"]
    recent.put(["e"], "e", 9)
    assert [recent.get([name]) for name in "acde"] == [None, None, "d", "e"]
    recent.put(["f"], "f", 99)  # too much, but what was made last stays
    assert [recent.get([name]) for name in "def"] == [None, None, "f"]
    recent.put(["f"], "g", 1)
    assert recent.get(["f"]) == "g"
