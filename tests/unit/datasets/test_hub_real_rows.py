"""Every dataset from the hub, against the directory of real rows and against the `datasets` library."""

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pytest

from peftbench.datasets import dataset_names, get_dataset, load_dataset
from peftbench.schema import DatasetSpec, HubSource
from tests.hub_server import HubServer, Repository
from tests.unit.datasets.cola_on_hub import as_parquet

REPOSITORY = Path(__file__).resolve().parents[3]


def real_repositories(shared: Path) -> dict[str, Repository]:
    """Every file of the catalogue for which there are real rows, as the hub would serve it."""
    found: dict[str, Repository] = {}
    for spec in map(get_dataset, dataset_names()):
        source = spec.source
        for split, (pattern, *_) in source.files.items():
            path = shared / "data" / spec.name / f"{split}.jsonl.gz"
            if not path.is_file() or source.revision is None:
                continue
            text = gzip.decompress(path.read_bytes())
            rows = [json.loads(line) for line in text.splitlines()]
            types = {"label": pyarrow.float32()} if spec.name == "stsb" else {}
            content = text if source.format == "json lines" else as_parquet(rows, **types)
            if source.repository not in found:
                found[source.repository] = Repository(source.revision, {source.revision: {}})
            found[source.repository].commits[source.revision][pattern.replace("*", "00000-of-00001")] = content
    return found


def as_served(spec: DatasetSpec) -> DatasetSpec:
    """The entry without the hashes of the files on the real hub."""
    bare = {**spec.source.model_dump(exclude={"sha256"}), "sha256": {}}
    return spec.model_copy(update={"source": HubSource.model_validate(bare)})


def loadable(spec: DatasetSpec, folder: Path) -> list[Any]:
    there = {role: (folder / spec.name / f"{spec.splits[role]}.jsonl.gz").is_file() for role in ("train", "test")}
    return (["train", "validation"] if there["train"] else []) + (["test"] if there["test"] else [])


@pytest.fixture
def real_hub(hub: HubServer, shared: Path) -> HubServer:
    hub.repositories = real_repositories(shared)
    return hub


@pytest.mark.shared
def test_hub_and_directory_give_the_same_content_for_every_dataset(real_hub: HubServer, shared: Path) -> None:
    for name in dataset_names():
        spec = as_served(get_dataset(name))
        splits = loadable(spec, shared / "data")
        downloaded = load_dataset(spec, allow_partial=True, splits=splits)
        mirrored = load_dataset(spec, allow_partial=True, splits=splits, data_dir=shared / "data")
        assert downloaded.facts.splits == mirrored.facts.splits, name
        assert downloaded.facts.source == "hub"


ORACLE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from datasets import load_dataset as oracle
from peftbench.datasets import get_dataset, load_dataset
from tests.unit.datasets.test_hub_real_rows import as_served
from pathlib import Path
for name, splits in json.loads(sys.argv[2]).items():
    spec = as_served(get_dataset(name))
    for role, parts in (("train", ["train", "validation"]), ("test", ["test"])):
        if set(parts) <= set(splits):
            source = spec.source
            builder = "json" if source.format == "json lines" else "parquet"
            files = [
                f"hf://datasets/{source.repository}@{source.revision}/{pattern}"
                for pattern in source.files[spec.splits[role]]
            ]
            rows = oracle(builder, data_files=files, split="train")
            theirs = load_dataset(spec, rows={role: rows}, splits=parts, allow_partial=True)
            ours = load_dataset(spec, splits=parts, allow_partial=True)
            assert ours.facts.source == "hub"
            assert ours.facts.splits == theirs.facts.splits, (name, role)
            print(name, role, len(rows))
"""


@pytest.mark.shared
def test_the_datasets_library_reads_the_same_rows(real_hub: HubServer, shared: Path, tmp_path: Path) -> None:
    names = ("cb", "stsb", "wsc", "record", "mmlu", "openbookqa", "hellaswag", "svamp", "conala", "gsm8k")
    wanted = {name: loadable(get_dataset(name), shared / "data") for name in names}
    environment = {
        **os.environ,
        "HF_ENDPOINT": real_hub.endpoint,
        "HF_HOME": str(tmp_path / "home"),
        "PEFTBENCH_CACHE": str(tmp_path / "locks"),
    }
    command = [sys.executable, "-c", ORACLE, str(REPOSITORY), json.dumps(wanted)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(done.stdout.splitlines()) == sum(len({"train", "test"} & set(splits)) for splits in wanted.values())
