"""Loading from a directory and from Python: integrity, limits, facts, and what is said when something is wrong."""

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from peftbench.datasets import get_dataset, load_dataset
from peftbench.datasets.load import NOT_KNOWN_TO_BE_EXACT, content_hash
from peftbench.errors import ConfigError, DataError
from peftbench.schema import Counts, DatasetSpec, Example, Prompt

Row = dict[str, Any]


def cola(train: int = 40, test: int = 10) -> tuple[DatasetSpec, dict[Any, list[Row]]]:
    """CoLA with invented rows, counted as many as they are."""
    spec = get_dataset("cola").model_copy(update={"counts": Counts(train=train, test=test)})
    rows = {
        role: [{"sentence": f"{role} sentence {number}", "label": number % 2} for number in range(count)]
        for role, count in (("train", train), ("test", test))
    }
    return spec, rows


def write_lines(path: Path, rows: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())


def write_parquet(path: Path, rows: list[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def mirror(folder: Path, rows: dict[Any, list[Row]], ending: str = ".jsonl.gz") -> Path:
    for role, split in (("train", "train"), ("test", "validation")):
        if role in rows:
            path = folder / "cola" / f"{split}{ending}"
            write_parquet(path, rows[role]) if ending == ".parquet" else write_lines(path, rows[role])
    return folder


# ------------------------------------------------------------------------------------------- three sources


@pytest.mark.parametrize("ending", [".jsonl.gz", ".jsonl", ".parquet"])
def test_a_directory_and_python_give_the_same_examples(tmp_path: Path, ending: str) -> None:
    spec, rows = cola()
    given = load_dataset(spec, rows=rows)
    read = load_dataset(spec, data_dir=mirror(tmp_path, rows, ending))
    assert (given.train, given.validation, given.test) == (read.train, read.validation, read.test)
    assert given.facts.splits == read.facts.splits
    assert (given.facts.source, read.facts.source) == ("rows", "directory")
    assert given.facts.files == {}
    assert set(read.facts.files) == {f"cola/train{ending}", f"cola/validation{ending}"}


def test_the_directory_can_be_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec, rows = cola()
    monkeypatch.setenv("PEFTBENCH_DATA", str(mirror(tmp_path, rows)))
    assert load_dataset(spec).facts.source == "directory"


def test_rows_and_a_directory_together_are_refused(tmp_path: Path) -> None:
    spec, rows = cola()
    with pytest.raises(ConfigError, match="both rows and data_dir are given"):
        load_dataset(spec, rows=rows, data_dir=tmp_path)


def test_a_generator_of_rows_will_do() -> None:
    spec, rows = cola()
    streamed = {role: (row for row in some) for role, some in rows.items()}
    assert load_dataset(spec, rows=streamed).facts == load_dataset(spec, rows=rows).facts


def test_an_absent_split_says_what_is_missing_and_where_it_was_looked_for(tmp_path: Path) -> None:
    spec, rows = cola()
    mirror(tmp_path, {"test": rows["test"]})
    with pytest.raises(
        DataError, match=r"train split 'train' of cola is absent: .*train\.jsonl\.gz.*put one there"
    ):
        load_dataset(spec, data_dir=tmp_path, allow_partial=True)
    assert len(load_dataset(spec, data_dir=tmp_path, splits=["test"]).test) == 10
    with pytest.raises(DataError, match="rows for cola are given for test, but train is wanted"):
        load_dataset(spec, rows={"test": rows["test"]})


def test_the_same_split_twice_is_refused(tmp_path: Path) -> None:
    spec, rows = cola()
    mirror(mirror(tmp_path, rows), rows, ".jsonl")
    with pytest.raises(DataError, match="are the same split twice"):
        load_dataset(spec, data_dir=tmp_path)


@pytest.mark.parametrize(
    ("ending", "damage", "words"),
    [
        (".jsonl", lambda data: data[:-20], r"line 40 of cola/train.jsonl is not JSON in UTF-8"),
        (".jsonl", lambda data: data + b"\xff\n", r"line 41 of cola/train.jsonl is not JSON in UTF-8"),
        (
            ".jsonl",
            lambda data: data + b"[1]\n",
            r"line 41 of cola/train.jsonl is a JSON list, expected an object",
        ),
        (".jsonl", lambda data: data + b"[" * 100_000, r"line 41 of cola/train.jsonl is not JSON"),
        (".jsonl.gz", lambda data: data[:-30], r"cola/train.jsonl.gz cannot be read beyond line"),
        (".jsonl.gz", lambda data: b"plain", r"cola/train.jsonl.gz cannot be read beyond line 0"),
        (".parquet", lambda data: data[:-30], r"cola/train.parquet is not a whole Parquet file"),
        (".parquet", lambda data: b"", r"cola/train.parquet is not a whole Parquet file"),
    ],
)
def test_damaged_files_are_named(
    tmp_path: Path, ending: str, damage: Callable[[bytes], bytes], words: str
) -> None:
    spec, rows = cola()
    path = mirror(tmp_path, rows, ending) / "cola" / f"train{ending}"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=words):
        load_dataset(spec, data_dir=tmp_path, allow_partial=True)


def test_blank_lines_are_no_rows(tmp_path: Path) -> None:
    spec, rows = cola()
    path = mirror(tmp_path, rows, ".jsonl") / "cola" / "train.jsonl"
    path.write_bytes(b"\n" + path.read_bytes() + b"  \n")
    assert load_dataset(spec, data_dir=tmp_path).facts.source_rows == {"train": 40, "test": 10}


# ------------------------------------------------------------------------------------------------ integrity


@pytest.mark.parametrize("role", ["train", "test"])
def test_other_counts_than_the_benchmarks_are_an_error_unless_allowed(role: Any, tmp_path: Path) -> None:
    spec, rows = cola()
    rows[role].pop()
    folder = mirror(tmp_path, rows)
    with pytest.raises(DataError, match=rf"the {role} split .* of cola holds (39|9) rows, expected (40|10)"):
        load_dataset(spec, data_dir=folder)
    assert load_dataset(spec, data_dir=folder, allow_partial=True).facts.partial
    assert load_dataset(spec, rows=rows).facts.partial, (
        "rows of one's own are as many as they are, and it is recorded"
    )


def test_whole_splits_are_not_partial_even_where_that_is_allowed() -> None:
    spec, rows = cola()
    assert not load_dataset(spec, rows=rows, allow_partial=True).facts.partial


def test_an_empty_split_is_an_error() -> None:
    spec, rows = cola()
    with pytest.raises(DataError, match="test split 'validation' of cola holds no row"):
        load_dataset(spec, rows={**rows, "test": []}, allow_partial=True)


def test_equal_rows_in_train_and_test_of_the_users_data_are_an_error_naming_the_first() -> None:
    spec, rows = cola()
    rows["test"][4] = dict(rows["train"][7])
    rows["test"][6] = dict(rows["train"][1])
    rows["train"][8] = dict(rows["train"][7])
    with pytest.raises(DataError, match="row validation-4 given for test equals row train-7 given for train"):
        load_dataset(spec, rows=rows)


def test_overlap_in_a_directory_is_counted_and_named_and_duplicates_too(tmp_path: Path) -> None:
    spec, rows = cola()
    rows["test"][4] = dict(rows["train"][7])
    rows["train"][9]["sentence"] = " TRAIN sentence  8"
    data = load_dataset(spec, data_dir=mirror(tmp_path, rows))
    assert data.overlapping_test_ids == frozenset({"validation-4"})
    assert (data.facts.train_test_overlap_rows, data.facts.train_duplicate_rows) == (1, 1)
    few = load_dataset(spec, data_dir=tmp_path, test_rows=1)
    assert few.facts.train_test_overlap_rows == 1
    assert few.overlapping_test_ids == frozenset({"validation-4"} & {few.test[0].id})


def test_the_same_input_with_another_answer_is_overlap_but_no_equal_row() -> None:
    spec, rows = cola()
    rows["test"][4] = {**rows["train"][7], "label": 0}
    assert load_dataset(spec, rows=rows).overlapping_test_ids == frozenset({"validation-4"})


# ---------------------------------------------------------------------------------------- splits and limits


def test_the_test_split_alone_reads_no_training_row() -> None:
    spec, rows = cola()
    data = load_dataset(spec, rows={"test": rows["test"]}, splits=["test"])
    assert (len(data.train), len(data.validation), len(data.test)) == (0, 0, 10)
    assert data.overlapping_test_ids is None
    assert data.facts.train_test_overlap_rows is None
    assert data.facts.train_duplicate_rows is None
    assert set(data.facts.splits) == {"test"}
    assert data.facts.source_rows == {"test": 10}


def test_train_alone_leaves_out_validation_and_test() -> None:
    spec, rows = cola()
    data = load_dataset(spec, rows={"train": rows["train"]}, splits=["train"])
    whole = load_dataset(spec, rows=rows)
    assert (data.train, data.validation, data.test) == (whole.train, (), ())


def test_limits_are_samples_and_validation_is_a_tenth_of_the_sample() -> None:
    spec, rows = cola(train=400)
    data = load_dataset(spec, rows=rows, train_rows=50, test_rows=4)
    assert (len(data.train), len(data.validation), len(data.test)) == (45, 5, 4)
    assert (data.facts.train_rows_limit, data.facts.test_rows_limit) == (50, 4)
    assert data.facts.source_rows == {"train": 400, "test": 10}
    assert [item.id for item in data.test] != [f"validation-{number}" for number in range(4)]
    other = load_dataset(spec, rows=rows, train_rows=50, test_rows=4, split_seed=1)
    for drawn in (lambda some: {item.id for item in (*some.train, *some.validation)}, lambda some: some.test):
        assert drawn(other) != drawn(data)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"train_rows": 1}, "train_rows is 1, expected at least 2"),
        ({"test_rows": 0}, "test_rows is 0, expected at least 1"),
        ({"protocol": "corected"}, "protocol is 'corected', expected corrected or published"),
        ({"splits": []}, "expected some of train, validation, test"),
        ({"splits": ["dev"]}, "expected some of train, validation, test"),
        ({"splits": "test"}, "give a list of names"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, Any], words: str) -> None:
    spec, rows = cola()
    with pytest.raises(ConfigError, match=words):
        load_dataset(spec, rows=rows, **arguments)


def test_a_training_row_without_an_answer_is_left_out_and_counted_and_a_test_row_is_kept() -> None:
    spec = get_dataset("codealpacapy").model_copy(update={"counts": Counts(train=4, test=2)})
    rows: dict[Any, list[Row]] = {
        "train": [{"prompt": f"p{number}", "response": "" if number == 2 else "x"} for number in range(4)],
        "test": [{"prompt": "q0", "response": " "}, {"prompt": "q1", "response": "y"}],
    }
    data = load_dataset(spec, rows=rows)
    assert data.facts.train_rows_without_target == 1
    assert len(data.train) + len(data.validation) == 3
    assert [item.references for item in data.test] == [(), ("y",)]


def test_a_dataset_whose_rows_form_one_group_is_named() -> None:
    spec = get_dataset("rte").model_copy(update={"counts": Counts(train=3, test=1)})
    row = {"sentence1": "same", "sentence2": "other", "label": 0}
    with pytest.raises(DataError, match="rte: 3 training rows form 1 group"):
        load_dataset(spec, rows={"train": [row] * 3}, splits=["train"])


# --------------------------------------------------------------------------------------------------- groups


def groups(name: str, *changes: Row) -> list[str]:
    """The groups, numbered as they appear, of the example row of a dataset with these changes."""
    spec = get_dataset(name)
    rows = [{**(spec.example or {}), **change} for change in changes]
    data = load_dataset(spec, rows={"test": rows}, splits=["test"], allow_partial=True)
    names = [item.group for item in data.test]
    return [str(list(dict.fromkeys(names)).index(group)) for group in names]


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("sst2", [{"sentence": "Fine ."}, {"sentence": "bad ."}, {"sentence": "fine  ."}], "010"),
        ("mnli", [{"hypothesis": "a"}, {"hypothesis": "b"}, {"premise": "p"}], "001"),
        ("conala", [{"intent": "x"}, {"question_id": 2}, {"snippet": "y"}], "010"),
        ("hellaswag", [{"ctx": "x"}, {"source_id": "2"}, {"ctx": "y"}], "010"),
        ("mmlu", [{"question": "q" * 200 + end} for end in "xy"] + [{"question": "q" * 199 + "x"}], "001"),
        ("qqp", [{"question1": a, "question2": b} for a, b in ("ab", "cd", "eb", "de", "fg")], "00001"),
        ("winogrande", [{"option1": a, "option2": "o"} for a in "xxyxyy"], "001233"),
    ],
)
def test_rows_that_belong_together_are_one_group(name: str, changes: list[Row], expected: str) -> None:
    assert "".join(groups(name, *changes)) == expected


# -------------------------------------------------------------------------------------------------- protocol


def test_the_published_protocol_names_its_differences_and_what_is_not_known_to_be_exact() -> None:
    spec, rows = cola()
    assert load_dataset(spec, rows=rows).facts.differences == ()
    assert load_dataset(spec, rows=rows, protocol="published").facts.differences == NOT_KNOWN_TO_BE_EXACT
    assert len(NOT_KNOWN_TO_BE_EXACT) == 5
    winogrande = get_dataset("winogrande")
    row = winogrande.example or {}
    data = load_dataset(
        winogrande,
        rows={"train": [row, {**row, "sentence": "an other _"}, {**row, "option1": "x"}]},
        protocol="published",
        allow_partial=True,
        splits=["train", "validation"],
    )
    assert data.facts.differences == (*winogrande.published.differences, *NOT_KNOWN_TO_BE_EXACT)
    assert all(item.prompt.instruction == "" for item in (*data.train, *data.validation))
    assert data.spec.max_new_tokens == 1024


def test_published_mnli_is_tested_on_the_mismatched_split(tmp_path: Path) -> None:
    spec = get_dataset("mnli")
    row = spec.example or {}
    write_lines(tmp_path / "mnli" / "validation_mismatched.jsonl", [row] * 9832)
    data = load_dataset(spec, data_dir=tmp_path, protocol="published", splits=["test"])
    assert not data.facts.partial
    assert data.test[0].id == "validation_mismatched-0"


# ------------------------------------------------------------------------------------------------------ hash


def test_the_content_hash_sees_every_part_of_an_example() -> None:
    example = Example("a", Prompt("i", (("l", "t"),)), "t", ("r",), "g", "s")
    others = [
        Example("b", Prompt("i", (("l", "t"),)), "t", ("r",), "g", "s"),
        Example("a", Prompt("j", (("l", "t"),)), "t", ("r",), "g", "s"),
        Example("a", Prompt("i", (("l", "u"),)), "t", ("r",), "g", "s"),
        Example("a", Prompt("i", (("l", "t"),)), "u", ("r",), "g", "s"),
        Example("a", Prompt("i", (("l", "t"),)), "t", (), "g", "s"),
        Example("a", Prompt("i", (("l", "t"),)), "t", ("r",), "h", "s"),
        Example("a", Prompt("i", (("l", "t"),)), "t", ("r",), "g", "\ud800"),
    ]
    hashes = [content_hash([item]) for item in (example, *others)]
    assert len(set(hashes)) == len(hashes)
    assert content_hash([example, others[0]]) != content_hash([others[0], example])
