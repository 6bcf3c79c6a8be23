"""How catalogue entries are found: lazily, with near names, from other packages, and with problems in words."""

import importlib.metadata
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from peftbench.datasets import add_dataset, catalog, dataset_names, get_dataset, read_spec
from peftbench.datasets.catalog import under_protocol
from peftbench.errors import ConfigError, UnknownName
from peftbench.registry import Registry

MNLI = Path(catalog.__file__).with_name("catalog") / "mnli.yaml"


@pytest.fixture(autouse=True)
def own_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Entries added by a test are gone after it."""
    fresh: Registry[Any] = Registry(
        "dataset",
        group="peftbench.datasets",
        built_in=lambda: {name: MNLI.with_name(f"{name}.yaml") for name in catalog._TABLE_4},
    )
    monkeypatch.setattr(catalog, "_entries", fresh)


def test_reading_one_entry_reads_one_file(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    monkeypatch.setattr(catalog, "read_spec", lambda path: read.append(path.name))
    dataset_names()
    assert read == []
    get_dataset("cb")
    assert read == ["cb.yaml"]


def test_an_entry_is_read_once() -> None:
    assert get_dataset("cb") is get_dataset("cb")


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(UnknownName, match="unknown dataset 'helaswag'; did you mean 'hellaswag'"):
        get_dataset("helaswag")


def test_catalogue_and_loader_bring_no_heavy_library() -> None:
    code = (
        "import sys, peftbench.datasets as d; [d.example_of(d.get_dataset(n)) for n in d.dataset_names()];"
        "heavy = {'torch', 'transformers', 'datasets', 'pyarrow', 'huggingface_hub', 'numpy', 'scipy'};"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_an_added_dataset_is_found_and_its_name_is_taken() -> None:
    mine = get_dataset("cb").model_copy(update={"name": "mine"})
    add_dataset(mine)
    assert get_dataset("mine") is mine
    assert dataset_names()[-1] == "mine"
    with pytest.raises(ConfigError, match="dataset 'mine' exists already"):
        add_dataset(mine)


def plugin(monkeypatch: pytest.MonkeyPatch, value: object) -> None:
    point = importlib.metadata.EntryPoint("theirs", "their_package:SPEC", "peftbench.datasets")
    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", lambda self: value)
    monkeypatch.setattr("peftbench.registry.entry_points", lambda group: [point] if "datasets" in group else [])


def test_a_dataset_of_another_package_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = get_dataset("cb").model_copy(update={"name": "theirs"})
    plugin(monkeypatch, theirs)
    assert get_dataset("theirs") is theirs
    assert dataset_names()[-1] == "theirs"


def test_something_else_from_another_package_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin(monkeypatch, {"name": "theirs"})
    with pytest.raises(ConfigError, match="'theirs' of an installed package is a dict, expected a DatasetSpec"):
        get_dataset("theirs")


def test_every_problem_of_a_catalogue_file_is_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    text = MNLI.read_text(encoding="utf-8")
    path.write_text(
        text.replace("version: 1", "version: one").replace("classes: 3", "clases: 3"), encoding="utf-8"
    )
    with pytest.raises(ConfigError) as caught:
        read_spec(path)
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 3
    for part in (
        "mine.yaml: version: Input should be a valid integer",
        "classes: Field required",
        "clases: Extra",
    ):
        assert part in problems


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [", "bad.yaml cannot be read as YAML"),
        ("just text", "bad.yaml: the file: Input should be an object"),
        ("name: 2020-01-01", "bad.yaml: Object of type date is not JSON serializable"),
    ],
)
def test_a_file_that_is_no_catalogue_entry_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        read_spec(path)


def test_a_missing_catalogue_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read"):
        read_spec(tmp_path / "none.yaml")


def test_yaml_is_read_by_its_version_1_2_where_no_is_a_word(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MNLI.read_text(encoding="utf-8").replace("metric: macro_f1", "metric: no"), encoding="utf-8")
    assert read_spec(path).metric == "no"


def test_the_corrected_protocol_is_the_entry_itself() -> None:
    assert under_protocol(get_dataset("wsc"), "corrected") is get_dataset("wsc")
