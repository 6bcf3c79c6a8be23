"""Datasets outside the package: read, named by their content, and refused in a sentence where something is wrong."""

import csv
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from peftbench.config import run_config
from peftbench.datasets import dataset_given, get_dataset, load_dataset
from peftbench.datasets.own import folder_of, named, remember
from peftbench.errors import ConfigError, DataError, PeftBenchError, UnknownName
from peftbench.grid import load_grid
from peftbench.identity import cell_id, eval_id, train_id
from peftbench.methods.specs import methods
from peftbench.schema import DatasetSpec
from tests.own_files import ENTRY, METRIC, put, put_metric, rows, write_rows


def spec_of(file):
    return dataset_given(str(file))


def refused(file, expected, kind=PeftBenchError):
    with pytest.raises(kind) as caught:
        load_dataset(spec_of(file))
    assert expected in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1 or isinstance(caught.value, ConfigError)
    return str(caught.value)


def test_rows_of_an_entry_become_examples(tmp_path):
    data = load_dataset(spec_of(put(tmp_path)))
    assert (len(data.train), len(data.validation), len(data.test)) == (36, 4, 16)
    first = data.test[0]
    assert first.prompt.text() == f"{ENTRY['instruction']}\nTicket: Ticket 100: the fan."
    assert (first.target, first.references) == ("repair", ("repair",))
    assert data.facts.source == "files"
    assert set(data.facts.files) == {"train.jsonl", "test.jsonl"}
    assert data.facts.entry == data.spec
    assert data.facts.partial is False


def test_all_formats_of_the_same_rows_give_the_same_examples(tmp_path):
    expected = load_dataset(spec_of(put(tmp_path / "jsonl"))).facts.splits
    folder = tmp_path / "others"
    for ending, options in (
        (".csv", {}),
        (".csv", {"delimiter": ";"}),
        (".tsv", {"delimiter": "\t"}),
        (".parquet", {}),
    ):
        file = put(folder, files={"train": f"train{ending}", "test": f"test{ending}"}, **options)
        for split, content in (("train", rows(40)), ("test", rows(16, 100))):
            if ending == ".parquet":
                pq.write_table(pa.Table.from_pylist(content), folder / f"{split}.parquet")
                continue
            with (folder / f"{split}{ending}").open("w", newline="", encoding="utf-8-sig") as opened:  # with a BOM
                writer = csv.DictWriter(opened, list(content[0]), delimiter=options.get("delimiter", ","))
                writer.writeheader()
                writer.writerows(content)
        assert load_dataset(spec_of(file)).facts.splits == expected, ending


def test_numbers_and_truths_of_a_csv_are_what_the_entry_says(tmp_path):
    file = put(tmp_path, files={"train": "a.csv", "test": "b.csv"}, columns={"text": "text", "label": "integer"},
               labels={"0": "billing", "1": "repair"})  # fmt: skip
    for name, start in (("a.csv", 0), ("b.csv", 100)):
        lines = [f'"Ticket, {start + i}\nsecond line",{i % 2}' for i in range(12)]
        (tmp_path / name).write_text("text,label\n" + "\n".join(lines) + "\n")
    assert {each.target for each in load_dataset(spec_of(file)).test} == {"billing", "repair"}
    truths = [{"text": f"t{i}", "label": i % 2 == 0} for i in range(20)]
    more = [{"text": f"u{i}", "label": i % 2 == 0} for i in range(4)]
    file = put(
        tmp_path / "b",
        truths,
        more,
        columns={"text": "text", "label": "any"},
        labels={"true": "yes", "false": "no"},
    )
    assert [each.target for each in load_dataset(spec_of(file)).test] == ["yes", "no", "yes", "no"]


# ------------------------------------------------------------------------------------------------------ its name


def test_what_can_change_a_score_is_in_the_name_and_nothing_else(tmp_path):
    def name(folder="same", **changes):
        return spec_of(put(tmp_path / folder, **changes)).name

    first = name()
    assert first.startswith("tickets@")
    assert name("elsewhere") == first
    assert name(title="Tickets", citation="me, 2026", task="routing", licence="MIT") == first
    found = {
        name(instruction="Which one?"),
        name(labels=["repair", "billing"]),
        name(metric="token_f1"),
        name(max_new_tokens=9),
        name(test=rows(15, 100)),
        name(train=rows(41)),
        name(fields=[{"label": "Text", "column": "text"}]),
    }
    assert len(found | {first}) == 8


def test_a_metric_changes_the_evaluation_and_not_the_training(tmp_path):
    file = put(tmp_path, metric="./first_letter.py")
    found = []
    for text in (METRIC, METRIC.replace("first letter is right", "first letter is the same")):
        put_metric(tmp_path, text)
        config = run_config({"model": "m", "dataset": str(file), "method": "lora"})
        spec, method = get_dataset(config.dataset), methods.get("lora")
        data = load_dataset(spec)
        made = {"model_fingerprint": "f", "dtype": "float32", "data": data.facts}
        train = train_id(config, dataset=spec, method=method, **made)
        found.append((config.dataset, cell_id(config, dataset=spec, method=method), train,
                      eval_id(train, test_sha256="t", max_new_tokens=8, own=spec.name)))  # fmt: skip
    (name, cell, train, evaluation), (name_2, cell_2, train_2, evaluation_2) = found
    assert name != name_2
    assert cell != cell_2
    assert train == train_2
    assert evaluation != evaluation_2


def test_a_changed_row_changes_the_training(tmp_path):
    ids = set()
    for content in (rows(40), rows(39)):
        spec = spec_of(put(tmp_path, content))
        config = run_config({"model": "m", "dataset": str(tmp_path / "tickets.yaml"), "method": "lora"})
        made = {"model_fingerprint": "f", "dtype": "float32", "data": load_dataset(spec).facts}
        ids.add(train_id(config, dataset=spec, method=methods.get("lora"), **made))
    assert len(ids) == 2


def test_a_configuration_keeps_the_full_name_and_the_path(tmp_path):
    file = put(tmp_path)
    config = run_config({"model": "m", "dataset": str(file), "method": "lora"})
    assert config.dataset == spec_of(file).name
    assert config.dataset_file == str(file)
    assert run_config(config) == config
    write_rows(tmp_path / "train.jsonl", rows(30))
    with pytest.raises(ConfigError, match="its entry, rows or metric have changed"):
        run_config(config)


def test_an_entry_of_a_record_is_believed_only_under_its_own_name(tmp_path):
    spec = spec_of(put(tmp_path))
    again = DatasetSpec.model_validate_json(spec.model_dump_json())
    assert remember(again) == spec
    for forged in (again.model_copy(update={"name": "sst2"}), again.model_copy(update={"instruction": "other"}),
                   get_dataset("sst2")):  # fmt: skip
        with pytest.raises(DataError, match="not the one that its name was made from"):
            remember(forged)


def test_rows_of_a_record_alone_cannot_be_read(tmp_path):
    spec = spec_of(put(tmp_path, instruction="Only here."))
    stranger = remember(spec.model_copy(update={"name": spec.name}))
    assert folder_of(stranger) == tmp_path
    with pytest.raises(DataError, match="nobody said where that is"):
        folder_of(spec.model_copy(update={"name": "tickets@00000000"}))


# ------------------------------------------------------------------------------------------------- wrong entries


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": "sst2"}, "name 'sst2' is that of a dataset that exists"),
        ({"name": "sst2@mini"}, "name"),
        ({"name": "My Tickets"}, "name"),
        ({"files": {"train": "train.jsonl", "test": "train.jsonl"}}, "train and test are the same file"),
        ({"files": {"train": "absent.jsonl", "test": "test.jsonl"}}, "'absent.jsonl' does not exist"),
        ({"files": {"train": ".", "test": "test.jsonl"}}, "'.' is a folder"),
        ({"files": {"train": "/etc/passwd", "test": "test.jsonl"}}, "is not a path inside the folder of tickets.yaml"),
        ({"files": {"train": "../train.jsonl", "test": "test.jsonl"}}, "is not a path inside the folder"),
        ({"files": {"train": "tickets.yaml", "test": "test.jsonl"}}, "ends in neither .parquet"),
        ({"target": "lable"}, "column 'lable' is not among columns (text, label)"),
        ({"fields": []}, "at least one"),
        ({"labels": ["billing"]}, "labels holds 1"),
        ({"labels": ["Yes", "yes"]}, "two labels differ in case alone"),
        ({"metric": "macro_f2"}, "unknown metric 'macro_f2'"),
        ({"metric": "./absent.py"}, "metric file './absent.py' does not exist"),
        ({"metric": "pearson"}, "pearson needs mean_train_label"),
        ({"hub": {"repository": "a/b", "revision": "0" * 40, "train": ["a.parquet"], "test": ["b.parquet"],
                  "counts": {"train": 2, "test": 2}}}, "give one of `files` and `hub`"),
        ({"colums": {}}, "unknown key 'colums'; did you mean 'columns'"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_entry_is_said(tmp_path, changes, expected):
    file = put(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        run_config({"model": "m", "dataset": str(file), "method": "lora"})
    assert expected in str(caught.value)


def test_every_problem_is_told_at_once_with_its_place(tmp_path):
    file = put(tmp_path, target="x", labels=["a"], metric="pearson")
    file.write_text(
        "\n".join(f"{key}: {json.dumps(value)}" for key, value in json.loads(file.read_text()).items())
    )
    with pytest.raises(ConfigError) as caught:
        spec_of(file)
    assert len(caught.value.problems) == 3
    assert all(each.startswith("tickets.yaml:") for each in caught.value.problems)


def test_a_licence_and_a_pinned_commit_must_be_named(tmp_path):
    hub = {"repository": "a/b", "train": ["a.parquet"], "test": ["b.parquet"], "counts": {"train": 2, "test": 2}}
    file = put(tmp_path, without=("licence", "files"), hub=hub)
    with pytest.raises(ConfigError) as caught:
        spec_of(file)
    text = str(caught.value)
    assert "key 'licence' is missing" in text
    assert "key 'hub.revision' is missing: pin the commit" in text
    assert "git ls-remote" in text
    file = put(tmp_path, without=("files",), hub={**hub, "revision": "c" * 40})
    assert spec_of(file).hub.revision == "c" * 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\nname: b\n", "key 'name' stands twice"),
        ("a: &x [1]\nb: [*x, *x]\n", "anchors and aliases are not allowed"),
        ("- 1\n", "see docs/own-dataset.md"),
        ("a: !!python/object:os.system 1\n", "not allowed"),
        ("a: [", "this is not YAML"),
        ("\x00", "binary"),
    ],
)
def test_a_file_that_is_no_entry(tmp_path, text, expected):
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="x.yaml") as caught:
        spec_of(file)
    assert expected in str(caught.value)


def test_paths_that_are_none(tmp_path):
    for path, expected in ((tmp_path / "absent.yaml", "does not exist"), (f"{tmp_path}/", "is a folder"),
                           (tmp_path / "rows.jsonl", "describe it in an entry")):  # fmt: skip
        with pytest.raises(ConfigError) as caught:
            spec_of(path)
        assert expected in str(caught.value)


def test_two_datasets_of_one_name_are_not_put_into_one_grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "a")
    put(tmp_path / "b", rows(20))
    grid = tmp_path / "grid.yaml"
    grid.write_text("name: g\nmodels: [m]\nmethods: [lora]\ndatasets: [a/tickets.yaml, b/tickets.yaml, rte]\n")
    with pytest.raises(ConfigError, match="two datasets are called 'tickets'"):
        load_grid(grid)
    put(tmp_path / "b")  # the same as the first
    _, cells = load_grid(grid)
    assert [cell.config.dataset.partition("@")[0] for cell in cells] == ["tickets", "rte"]
    assert cells[0].config.dataset_file == "a/tickets.yaml"


# --------------------------------------------------------------------------------------------------- wrong rows


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"text,label\n\xff\xfe,repair\n", "a.csv is not UTF-8 text: byte 0xff after line 1; save it as UTF-8"),
        (b"text;label\na;repair\n", "looks parted by ';'; set delimiter: \";\""),
        (b"text,label\na,repair,more\n", "line 2 of a.csv has 3 columns, its head 2"),
        (b"text,label\n\"a,repair\n", "cannot be read as CSV"),
        (b"text,text\na,b\n", "names column 'text' twice"),
        (b"", "a.csv is empty"),
        (b"text,lable\na,repair\nb,billing\n", "column 'label' is missing, found text, lable"),
        (b"text,label\na,repair\nb,Billing\n", "column 'label' is 'Billing', expected one of billing, repair"),
        (b"text,label\n", "holds no row"),
    ],
)  # fmt: skip
def test_a_csv_that_cannot_be_used(tmp_path, content, expected):
    file = put(tmp_path, files={"train": "a.csv", "test": "test.jsonl"})
    (tmp_path / "a.csv").write_bytes(content)
    refused(file, expected)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": 3, "label": "repair"}, "row 40: column 'text' is int 3, expected text"),
        ({"text": None, "label": "repair"}, "column 'text' is null"),
        ({"text": "a", "label": float("nan")}, "column 'label' is float nan, expected text"),
        ({"text": "\ud800", "label": "repair"}, "half a character"),
        ({"label": "repair"}, "column 'text' is missing"),
    ],
)
def test_a_row_that_cannot_be_used(tmp_path, row, expected):
    refused(put(tmp_path, [*rows(40), row]), expected, DataError)


def test_a_parquet_file_that_is_none(tmp_path):
    file = put(tmp_path, files={"train": "a.parquet", "test": "test.jsonl"})
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    refused(file, "a.parquet is not a whole Parquet file")


def test_a_million_characters_and_odd_ones_pass(tmp_path):
    odd = [{"text": "x " * 500_000, "label": "repair"}, {"text": "\u202eabc \x1b[31m שלום", "label": "billing"}]
    data = load_dataset(spec_of(put(tmp_path, [*rows(40), *odd])))
    assert max(len(each.prompt.text()) for each in (*data.train, *data.validation)) > 999_000


def test_a_file_that_changes_while_it_is_in_use_is_noticed(tmp_path):
    spec = spec_of(put(tmp_path))
    write_rows(tmp_path / "test.jsonl", rows(3, 100))
    with pytest.raises(DataError, match="changed while it was in use"):
        load_dataset(spec)


def test_a_dataset_of_the_hub_is_loaded_at_its_commit(tmp_path, hub):
    from tests.unit.datasets.cola_on_hub import COMMIT, TEST, TRAIN

    where = {"repository": "nyu-mll/glue", "train": [TRAIN], "test": [TEST], "counts": {"train": 400, "test": 100}}
    changes = {
        "columns": {"sentence": "text", "label": "integer"},
        "fields": [{"label": "Sentence", "column": "sentence"}],
        "labels": {"0": "no", "1": "yes"},
    }
    file = put(tmp_path / "entry", without=("files",), hub={**where, "revision": COMMIT}, **changes)
    data = load_dataset(spec_of(file))
    assert (len(data.train), len(data.validation), len(data.test)) == (360, 40, 100)
    assert data.facts.revision == COMMIT
    assert data.facts.source == "hub"
    mirror = tmp_path / "mirror" / "tickets"
    mirror.mkdir(parents=True)
    for split, count in (("train", 400), ("test", 100)):
        content = [{"sentence": f"{split} sentence {i}", "label": i % 2, "idx": i} for i in range(count)]
        write_rows(mirror / f"{split}.jsonl", content)
    again = load_dataset(spec_of(file), data_dir=tmp_path / "mirror")
    assert again.facts.splits == data.facts.splits
    other = put(tmp_path / "entry", without=("files",), hub={**where, "revision": "d" * 40}, **changes)
    assert spec_of(other).name != data.spec.name
    with pytest.raises(DataError, match="that commit is not there"):
        load_dataset(spec_of(other))


def test_a_path_is_no_name_so_that_a_record_opens_no_file(tmp_path):
    file = put(tmp_path)
    with pytest.raises(UnknownName):
        get_dataset(str(file))
    for odd in ("x\0.yaml", "no/\0/such.yaml"):
        with pytest.raises(PeftBenchError):
            dataset_given(odd)


def test_a_new_setting_with_a_default_renames_no_dataset(tmp_path):
    class Later(DatasetSpec):
        further: str | None = None

    spec = spec_of(put(tmp_path))
    assert named(Later.model_validate_json(spec.model_dump_json())).name == spec.name == "tickets@806b30ce"
    swapped = spec.model_copy(update={"labels": dict(reversed(spec.labels.items()))})
    assert named(swapped).name != spec.name


def test_what_follows_from_an_entry_is_not_for_a_record_to_say(tmp_path, monkeypatch):
    monkeypatch.setattr("peftbench.datasets.own._known", {})
    spec = spec_of(put(tmp_path))
    monkeypatch.setattr("peftbench.datasets.own._known", {})
    forged = spec.model_copy(update={"published": spec.published.model_copy(update={"max_new_tokens": 1})})
    assert remember(forged).published == spec.published
