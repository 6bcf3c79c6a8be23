"""All datasets from the directory of real rows: what is there loads, and what is whole is as it always was."""

import json
from pathlib import Path
from typing import Any

import pytest

from peftbench.datasets import dataset_names, get_dataset, load_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.schema import DatasetSpec

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "content_hashes.json"

WHOLE = ("stsb", "mrpc", "rte", "cola", "wic", "wsc", "cb", "copa", "openbookqa", "gsm8k", "svamp", "conala")


def there(spec: DatasetSpec, folder: Path) -> list[Any]:
    """The splits that can be loaded from the rows at hand."""
    found = {role: (folder / spec.name / f"{spec.splits[role]}.jsonl.gz").is_file() for role in ("train", "test")}
    return (["train", "validation"] if found["train"] else []) + (["test"] if found["test"] else [])


@pytest.mark.shared
@pytest.mark.parametrize("protocol", ["corrected", "published"])
@pytest.mark.parametrize("name", dataset_names())
def test_every_dataset_loads_what_is_there(name: str, protocol: Any, shared: Path) -> None:
    spec = get_dataset(name)
    splits = there(under_protocol(spec, protocol), shared / "data")
    assert splits
    data = load_dataset(
        spec, data_dir=shared / "data", allow_partial=True, splits=splits, protocol=protocol, train_rows=100
    )
    assert set(data.facts.splits) == set(splits)
    everything = (*data.train, *data.validation, *data.test)
    assert len({item.id for item in everything}) == len(everything)
    assert not {item.group for item in data.train} & {item.group for item in data.validation}
    assert all(item.prompt.fields or name == "conala" for item in everything)
    assert all(item.target for item in (*data.train, *data.validation))


@pytest.mark.shared
@pytest.mark.parametrize("name", WHOLE)
def test_whole_datasets_are_as_counted_and_prepared_as_they_always_were(name: str, shared: Path) -> None:
    data = load_dataset(get_dataset(name), data_dir=shared / "data")
    assert not data.facts.partial
    wanted = (data.facts.source_rows["train"] + 5) // 10
    largest = max(sum(item.group == other.group for item in data.train) for other in data.train[:50])
    assert abs(len(data.validation) - wanted) <= max(largest, 5)
    now = {split: facts.sha256 for split, facts in data.facts.splits.items()}
    assert now == json.loads(GOLDEN.read_text())[name]


@pytest.mark.shared
@pytest.mark.parametrize(
    "name", ["qnli", "sst2", "multirc", "boolq", "mmlu", "piqa", "siqa", "winogrande", "math_qa"]
)
def test_whole_test_splits_load_without_leave_to_be_partial(name: str, shared: Path) -> None:
    data = load_dataset(get_dataset(name), data_dir=shared / "data", splits=["test"])
    assert len(data.test) == get_dataset(name).counts.test


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "overlap", "duplicates"), [("cola", 16, 21), ("stsb", 6, 44), ("openbookqa", 12, 126), ("wsc", 0, 29)]
)
def test_known_overlaps_and_duplicates_are_found(name: str, overlap: int, duplicates: int, shared: Path) -> None:
    data = load_dataset(get_dataset(name), data_dir=shared / "data")
    assert (data.facts.train_test_overlap_rows, data.facts.train_duplicate_rows) == (overlap, duplicates)
    assert len(data.overlapping_test_ids or ()) == overlap


@pytest.mark.shared
def test_real_labels_are_held_out_in_their_shares(shared: Path) -> None:
    for name in ("mrpc", "rte", "wic", "cb", "copa", "cola", "openbookqa"):
        data = load_dataset(get_dataset(name), data_dir=shared / "data")
        for label in data.spec.label_set:
            whole = sum(item.target == label for item in (*data.train, *data.validation))
            held = sum(item.target == label for item in data.validation)
            assert abs(held - whole / 10) < 2, (name, label)
