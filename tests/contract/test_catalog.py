"""Every catalogue entry, those of other packages included, keeps the promises made for datasets."""

import csv
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from statistics import mean

import pytest

from peftbench.datasets import dataset_names, example_of, get_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.datasets.examples import Role
from peftbench.schema import DatasetSpec, Protocol

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
CATALOG = REPOSITORY / "src" / "peftbench" / "datasets" / "catalog"
OPEN_ANSWERS = ("gsm8k", "svamp", "conala", "codealpacapy", "apps")
PROTOCOLS: tuple[Protocol, ...] = ("corrected", "published")
ROLES: tuple[Role, ...] = ("train", "test")

with (GOLDEN / "table4.tsv").open(newline="") as _file:
    TABLE_4 = list(csv.DictReader(_file, delimiter="\t"))
with (GOLDEN / "pins.tsv").open(newline="") as _file:
    PINS = {name: row for row in csv.DictReader(_file, delimiter="\t") for name in row["datasets"].split()}
NAMES = [row["name"] for row in TABLE_4]

every_dataset = pytest.mark.parametrize("name", NAMES)


def as_in_table_4(spec: DatasetSpec) -> dict[str, str]:
    return {
        "name": spec.name,
        "area": spec.area,
        "benchmark": spec.benchmark or "-",
        "task": spec.task,
        "classes": "-" if spec.classes is None else str(spec.classes),
        "train": str(spec.counts.train),
        "test": str(spec.counts.test),
        "labels": " ".join(f"{key}={word}" for key, word in (spec.labels or {"": ""}).items())
        if spec.labels
        else "-",
    }


def test_the_catalogue_is_table_4_in_its_order() -> None:
    assert dataset_names()[:27] == NAMES
    assert [as_in_table_4(get_dataset(name)) for name in NAMES] == TABLE_4


def test_there_are_twelve_tasks_and_a_file_for_each_dataset() -> None:
    assert len({row["task"] for row in TABLE_4}) == 12
    assert sorted(path.stem for path in CATALOG.iterdir()) == sorted(NAMES)


@every_dataset
def test_files_are_pinned_as_public_sources_attest(name: str) -> None:
    source = get_dataset(name).source
    assert source.repository == PINS[name]["repository"]
    assert source.revision == PINS[name]["revision"]
    assert source.attested == PINS[name]["attested"]


@every_dataset
def test_every_split_has_files_and_every_hash_a_file(name: str) -> None:
    spec = get_dataset(name)
    for protocol in PROTOCOLS:
        assert set(under_protocol(spec, protocol).splits.values()) <= set(spec.source.files)
    named = {path for patterns in spec.source.files.values() for path in patterns}
    assert set(spec.source.sha256) <= named
    assert all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in spec.source.sha256.values())
    readable = spec.source.format is not None or all(path.endswith((".parquet", ".jsonl")) for path in named)
    assert readable


@every_dataset
def test_licence_citation_and_lengths_are_stated(name: str) -> None:
    spec = get_dataset(name)
    assert spec.licence
    assert re.search(r"\b(19|20)\d\d\b", spec.citation)
    assert spec.lengths is not None
    assert spec.version >= 1


@every_dataset
def test_the_instruction_is_short_and_names_every_label(name: str) -> None:
    spec = get_dataset(name)
    assert 1 <= len(re.findall(r"[.!?](?=\s|$)", spec.instruction)) <= 2
    for label in spec.label_set:
        assert re.search(rf"(?<!\w){re.escape(label)}(?!\w)", spec.instruction)


@every_dataset
def test_classes_labels_and_metrics_fit_one_another(name: str) -> None:
    spec = get_dataset(name)
    if spec.labels is not None:
        assert len(spec.label_set) == spec.classes
        assert spec.metric == "macro_f1"
        special = {"cola": "matthews", "mrpc": "f1_second_label", "qqp": "f1_second_label"}
        special["multirc"] = "f1_second_label"
        assert spec.official_metric == special.get(name, "accuracy")
    else:
        metrics = {"stsb": "pearson", "record": "token_f1", "gsm8k": "last_number", "svamp": "equation_answer"}
        assert spec.classes is None
        assert spec.metric == metrics.get(name, "codebleu")
        assert spec.official_metric is None


@every_dataset
def test_answers_have_the_room_that_the_benchmark_gives_them(name: str) -> None:
    spec = get_dataset(name)
    room = {"stsb": 16, "record": 48, "svamp": 64, "gsm8k": 512, "conala": 512, "codealpacapy": 512, "apps": 512}
    assert spec.max_new_tokens == room.get(name, 32)
    assert under_protocol(spec, "published").max_new_tokens == 1024


@every_dataset
@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("role", ROLES)
def test_the_example_row_fills_every_field(name: str, protocol: Protocol, role: Role) -> None:
    spec = get_dataset(name)
    fields = under_protocol(spec, protocol).fields
    example = example_of(spec, protocol, role)
    may_be_empty = {"Starter code"}
    assert [label for label, _ in example.prompt.fields] == [
        field.label for field in fields if field.label not in may_be_empty
    ]
    assert example.target
    assert example.references


@pytest.mark.parametrize("name", OPEN_ANSWERS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_prompt_never_holds_an_open_answer(name: str, protocol: Protocol) -> None:
    example = example_of(get_dataset(name), protocol)
    for answer in (example.target, *example.references):
        assert answer not in example.prompt.text()


@every_dataset
def test_differences_are_named_exactly_where_the_published_rule_changes_rows(name: str) -> None:
    rule = get_dataset(name).published
    changes = rule.model_dump(exclude_defaults=True, exclude={"differences", "max_new_tokens", "counts"})
    assert bool(changes) == bool(rule.differences)


GROUPS = {
    "mnli": ("premise",),
    "qqp": ("question1", "question2"),
    "stsb": ("sentence1",),
    "rte": ("sentence1",),
    "multirc": ("paragraph",),
    "record": ("passage",),
    "boolq": ("passage",),
    "wsc": ("text",),
    "cb": ("premise",),
    "mmlu": ("question",),
    "piqa": ("goal",),
    "siqa": ("context",),
    "hellaswag": ("source_id",),
    "winogrande": ("option1", "option2"),
    "openbookqa": ("question_stem",),
    "math_qa": ("Problem",),
    "conala": ("question_id",),
    "apps": ("problem_id",),
}


@every_dataset
def test_rows_are_grouped_as_the_benchmark_says(name: str) -> None:
    spec = get_dataset(name)
    assert spec.group == GROUPS.get(name, ())
    assert spec.group_rule == {"qqp": "connected", "winogrande": "adjacent"}.get(name, "equal")
    assert spec.group_characters == (200 if name == "mmlu" else None)


def rendered(spec: DatasetSpec) -> str:
    """The example under both protocols and for both splits, as golden files hold it."""
    parts = []
    for protocol in PROTOCOLS:
        for role in ROLES:
            example = example_of(spec, protocol, role)
            answers = "\n".join(
                [f"target: {example.target!r}", *(f"reference: {r!r}" for r in example.references)]
            )
            parts.append(f"======== {protocol}, {role}\n{example.prompt.text()}\n--------\n{answers}\n")
    return "".join(parts)


@every_dataset
def test_prompts_are_as_they_were_written_down(name: str) -> None:
    assert rendered(get_dataset(name)) == (GOLDEN / "prompts" / f"{name}.txt").read_text(encoding="utf-8")


# ------------------------------------------------------------------------------------- against the real rows


def rows_of(shared: Path, name: str) -> list[dict[str, object]]:
    rows = []
    for path in sorted((shared / "data" / name).glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows += [json.loads(line) for line in file]
    return rows


@pytest.mark.shared
@every_dataset
def test_the_example_row_is_invented(name: str, shared: Path) -> None:
    spec = get_dataset(name)
    assert spec.example is not None
    for column in {field.column.partition(".")[0] for field in spec.fields} & set(spec.example):
        value = spec.example[column]
        if isinstance(value, str) and len(value) > 20:
            assert all(row.get(column) != value for row in rows_of(shared, name))


@pytest.mark.shared
def test_the_mean_training_label_is_that_of_the_training_rows(shared: Path) -> None:
    with gzip.open(shared / "data" / "stsb" / "train.jsonl.gz", "rt", encoding="utf-8") as file:
        labels = [json.loads(line)["label"] for line in file]
    assert len(labels) == 5749
    assert get_dataset("stsb").mean_train_label == pytest.approx(mean(labels), abs=5e-7)


@pytest.mark.shared
def test_lengths_are_those_measured_on_the_real_rows(shared: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "tools" / "measure_lengths.py"), str(shared / "data"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
