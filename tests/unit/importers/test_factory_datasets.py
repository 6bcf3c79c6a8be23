"""`dataset_info.json` becomes entries and prompts of ours; what cannot be expressed is named with its reason."""

import csv
import json
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from peftbench.datasets import dataset_given, dataset_names, get_dataset, load_dataset
from peftbench.datasets.prompts import with_prompts
from peftbench.errors import ConfigError, PeftBenchError
from peftbench.importers.factory.datasets import convert_datasets
from peftbench.importers.factory.writing import write_files, yaml_text
from tests.unit.importers.factory_files import MOODS, TEST_MOODS, alpaca, described, moods, on_hub, written


def outcomes(made):
    return {each.name: (each.verdict, each.text) for each in made.outcomes}


def out(folder, file, **options):
    made = convert_datasets(file, **options)
    write_files(made.texts, folder)
    return made


def asked_there(instruction, *texts):
    """How the reference makes a prompt: parts that are not empty, each on a line."""
    return "\n".join(part for part in (instruction, *texts) if part)


def test_local_rows_become_an_entry_that_asks_as_they_do(tmp_path):
    made = out(tmp_path / "out", moods(tmp_path))
    assert [each.verdict for each in made.outcomes] == ["entry", "entry"]
    spec = dataset_given(str(tmp_path / "out" / "mood.yaml"))
    assert spec.counts.model_dump() == {"train": 30, "test": 6}
    assert (spec.metric, spec.label_set) == ("macro_f1", ("plain", "sour", "sweet"))
    data = load_dataset(spec)
    assert len(data.train) + len(data.validation) == 30
    expected = [(asked_there("Say how it sounds.", row["text"], row["hint"]), row["mood"]) for row in TEST_MOODS]
    assert [(each.prompt.text(), each.target) for each in data.test] == expected
    assert not data.facts.partial


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "parquet"])
def test_rows_are_the_same_from_every_kind_of_file(tmp_path, ending):
    name = f"rows.{ending}"
    file = moods(tmp_path, mood=alpaca(file_name=name))
    if ending == "json":
        (tmp_path / name).write_text(json.dumps(MOODS))
    elif ending == "jsonl":
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in MOODS))
    elif ending == "csv":
        with (tmp_path / name).open("w", newline="") as opened:
            writer = csv.DictWriter(opened, MOODS[0])
            writer.writeheader()
            writer.writerows(MOODS)
    else:
        parquet.write_table(pyarrow.Table.from_pylist(MOODS), tmp_path / name)
    made = convert_datasets(file)
    assert [json.loads(line) for line in made.texts["mood/train.jsonl"].splitlines()] == MOODS


def test_a_conversation_of_one_question_becomes_a_row(tmp_path):
    turns = [
        [{"role": "user", "content": f"What is {n} and {n}?"}, {"role": "assistant", "content": f"It is {2 * n}."}]
        for n in range(8)
    ]
    (tmp_path / "talk.json").write_text(json.dumps([{"messages": each} for each in turns[:6]]))
    (tmp_path / "talk_eval.json").write_text(json.dumps([{"messages": each} for each in turns[6:]]))
    tags = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}
    entry = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": tags}
    entries = {name: {**entry, "file_name": f"{name}.json"} for name in ("talk", "talk_eval")}
    out(tmp_path / "out", described(tmp_path, entries))
    data = load_dataset(dataset_given(str(tmp_path / "out" / "talk.yaml")))
    assert [(each.prompt.text(), each.target) for each in data.test] == [
        ("What is 6 and 6?", "It is 12."),
        ("What is 7 and 7?", "It is 14."),
    ]
    assert data.spec.metric == "token_f1"
    longer = [{"messages": [*turns[0], *turns[1]]}]
    (tmp_path / "talk.json").write_text(json.dumps(longer))
    made = convert_datasets(tmp_path / "dataset_info.json")
    assert "a row is one question with one answer" in outcomes(made)["talk"][1]


def test_an_entry_of_ours_gives_its_prompts_alone(tmp_path, shared):
    entries = {"rte": on_hub("train", instruction="Learn this."), "rte_eval": on_hub("validation")}
    made = out(tmp_path / "out", described(tmp_path, entries))
    assert list(made.texts) == ["prompts.yaml"]
    assert outcomes(made)["rte"] == ("prompts", "it is our rte, train split; its prompts are in prompts.yaml")
    pack = tmp_path / "out" / "prompts.yaml"
    rte = with_prompts(get_dataset("rte"), pack, "published")
    found = {
        protocol: load_dataset(rte, protocol=protocol, data_dir=shared / "data", allow_partial=True)
        for protocol in ("published", "corrected")
    }
    ours = {
        protocol: load_dataset(get_dataset("rte"), protocol=protocol, data_dir=shared / "data", allow_partial=True)
        for protocol in ("published", "corrected")
    }
    for split, instruction in (("train", "Learn this."), ("test", entries["rte_eval"]["instruction"])):
        for theirs, mine in zip(
            getattr(found["published"], split), getattr(ours["published"], split), strict=True
        ):
            assert theirs.prompt.text() == asked_there(instruction, *(text for _, text in mine.prompt.fields))
            assert (theirs.id, theirs.target) == (mine.id, mine.target)
    assert found["corrected"].facts.splits == ours["corrected"].facts.splits, "corrected is asked as ever"
    differences = found["published"].facts.differences
    assert any("prompts.yaml, SHA-256" in each for each in differences)
    assert not any("instructions of its own" in each or "names of their roles" in each for each in differences)
    assert any("instructions of its own" in each for each in ours["published"].facts.differences)
    assert found["published"].facts.splits["test"].sha256 != ours["published"].facts.splits["test"].sha256


def test_prompts_need_their_protocol_their_dataset_and_their_columns(tmp_path):
    entries = {"rte": on_hub("train"), "rte_eval": on_hub("validation")}
    out(tmp_path / "out", described(tmp_path, entries))
    pack = tmp_path / "out" / "prompts.yaml"
    with pytest.raises(ConfigError, match="prompts of others need `protocol: published`"):
        with_prompts(get_dataset("rte"), pack, "corrected")
    with pytest.raises(PeftBenchError, match="unknown dataset 'cola'"):
        with_prompts(get_dataset("cola"), pack, "published")
    with pytest.raises(ConfigError, match="does not exist"):
        with_prompts(get_dataset("rte"), tmp_path / "none.yaml", "published")
    assert with_prompts(get_dataset("rte"), None, "corrected") == get_dataset("rte")
    broken = {
        "a: [": "this is not YAML",
        "- 1": "is not a list of `key: value` lines",
        "source: x\nprompts: {rte: {train_instruction: a}}": "prompts.rte.test_instruction. is missing",
        "source: x\nprompts: {rte: {train_instruction: a, test_instruction: b, fields: [{label: '', column: z}]}}": "has no column 'z'",
    }  # fmt: skip
    for text, expected in broken.items():
        with pytest.raises(ConfigError, match=expected):
            with_prompts(get_dataset("rte"), written(tmp_path, text, "pack.yaml"), "published")


def test_the_datasets_of_the_benchmark_are_known_by_their_hub_names(tmp_path):
    entries = {}
    for name in dataset_names():
        spec = get_dataset(name)
        splits = {**spec.splits, **spec.published.splits}
        prepared = {"hf_hub_url": "kinit/peft-factory", "subset": name, "columns": {"prompt": "inputs", "response": "targets"}}  # fmt: skip
        entries[name] = {**prepared, "split": splits["train"]}
        entries[f"{name}_eval"] = {**prepared, "split": splits["test"]}
    entries["boolq"] = {"hf_hub_url": "super_glue", "subset": "boolq", "columns": {"prompt": "question", "query": "passage", "response": "label"}}  # fmt: skip
    entries["boolq_eval"] = {**entries["boolq"], "split": "validation"}
    made = out(tmp_path / "out", described(tmp_path, entries))
    assert {verdict for verdict, _ in outcomes(made).values()} == {"prompts"}
    assert list(made.texts) == ["prompts.yaml"]
    for name in dataset_names():
        asked = with_prompts(get_dataset(name), tmp_path / "out" / "prompts.yaml", "published")
        bare = asked.published.fields is not None and not any(field.label for field in asked.published.fields)
        assert bare == (name == "boolq"), "the text of a prepared column is not known"
    assert any("a script made it" in note for note in made.notes)


def test_another_configuration_or_split_of_a_repository_is_not_ours(tmp_path):
    entries = {
        "rte": on_hub("train"), "rte_eval": on_hub("test"), "ax": on_hub("train", subset="ax"),
        "again": on_hub("train"),
    }  # fmt: skip
    made = convert_datasets(described(tmp_path, entries))
    found = outcomes(made)
    assert "its split test is neither train nor validation" in found["rte_eval"][1]
    assert "no entry is its test split" in found["rte"][1]
    assert "the same split of our rte as rte" in found["again"][1]
    assert "its test rows are missing: there is no ax_eval" in found["ax"][1]


def test_a_dataset_on_the_hub_is_an_entry_of_guesses_that_says_so(tmp_path):
    entry = {"hf_hub_url": "someone/far", "columns": {"prompt": "q", "response": "a"}}
    file = described(tmp_path, {"far": entry, "far-dev": {**entry, "split": "dev"}})
    assert not convert_datasets(file).texts
    made = convert_datasets(file, tests=["far=far-dev"])
    assert "repository: someone/far" in made.texts["far.yaml"]
    assert '"data/dev-*.parquet"' in made.texts["far.yaml"]
    assert made.texts["far.yaml"].count("TODO") == 3
    assert any("fill what says TODO" in note for note in made.notes)
    entry = tmp_path / "far.yaml"
    entry.write_text(made.texts["far.yaml"])
    with pytest.raises(ConfigError, match="hub.revision is .TODO."):
        dataset_given(str(entry))


LEFT_OUT = {
    "ranking": (alpaca(ranking=True), "rank answers"),
    "chosen": (alpaca(columns={"prompt": "a", "chosen": "b", "rejected": "c"}), "better and a worse"),
    "tools": (alpaca(columns={"prompt": "a", "response": "b", "tools": "t"}), "holds tools"),
    "images": (alpaca(columns={"prompt": "a", "response": "b", "images": "i"}), "holds images"),
    "system": (alpaca(columns={"prompt": "a", "response": "b", "system": "s"}), "system message"),
    "history": (alpaca(columns={"prompt": "a", "response": "b", "history": "h"}), "earlier turns"),
    "kto": (alpaca(columns={"prompt": "a", "response": "b", "kto_tag": "k"}), "judgements"),
    "script": ({"script_url": "x"}, "no code of a dataset is run"),
    "modelscope": ({"ms_hub_url": "a/b"}, "another hub"),
    "cloud": ({"cloud_file_name": "s3://a"}, "in a cloud"),
    "nowhere": ({}, "neither hf_hub_url nor file_name"),
    "pre-training": (alpaca(columns={"prompt": "text"}), "no column of answers"),
    "hub conversations": ({"hf_hub_url": "a/b", "formatting": "sharegpt"}, "conversations on the hub"),
    "formatting": (alpaca(formatting="parquet"), "expected alpaca or sharegpt"),
    "list": ([1], "it is a list"),
    "number": (alpaca(instruction=3), "instruction is 3, expected a text"),
    "columns": (alpaca(columns=["a"]), "columns is ['a'], expected an object of texts"),
    "absent": (alpaca(file_name="none.json"), "is not there"),
    "outside": (alpaca(file_name="../mood.json"), "lies outside"),
    "absolute": (alpaca(file_name="/etc/passwd"), "lies outside"),
    "long name": (alpaca(file_name="x" * 400 + ".json"), "is not there"),
    "odd name": (alpaca(file_name="x\0.json"), "no name of a file"),
    "folder": (alpaca(file_name="sub"), "is a folder"),
    "arrow": (alpaca(file_name="x.arrow"), "ends in none of"),
    "no column": (alpaca(columns={"prompt": "text", "response": "other"}), "have other columns"),
    "one file": (alpaca(file_name="mood_eval.jsonl"), "are the same file"),
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_what_cannot_be_expressed_is_left_out_with_its_reason(tmp_path, name):
    entry, expected = LEFT_OUT[name]
    (tmp_path / "sub").mkdir()
    (tmp_path / "x.arrow").write_bytes(b"x")
    made = convert_datasets(moods(tmp_path, mood=entry))
    assert outcomes(made)["mood"][0] == "left out"
    assert expected in outcomes(made)["mood"][1]
    assert not made.texts


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "no JSON"),
        (b"[1]", "is a list"),
        (b"{}", "is empty"),
        (b'{"a": 1, "a": 2}', "'a' twice"),
        (b"{a: 1}", "no JSON"),
        (b"seed: 1\n", "no JSON"),
        (b"[" * 100_000, "nested deeper"),
        (b"\xff\xfe", "no UTF-8"),
    ],
)
def test_a_broken_description_is_one_sentence(tmp_path, content, expected):
    (tmp_path / "dataset_info.json").write_bytes(content)
    with pytest.raises(PeftBenchError, match=expected):
        convert_datasets(tmp_path / "dataset_info.json")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("[1]", "expected an object"),
        ("[{}]", "has no column 'text'"),
        ('[{"text": "a", "hint": null, "mood": null}]', "column 'mood' is None"),
        ('[{"text": "a", "hint": null, "mood": [1]}]', "expected a text"),
        ("[]", "holds no row"),
        ("[1", "cannot be read"),
    ],
)
def test_broken_rows_are_one_sentence(tmp_path, rows, expected):
    file = moods(tmp_path)
    (tmp_path / "mood.json").write_text(rows)
    assert expected in outcomes(convert_datasets(file))["mood"][1]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (b"text,hint,mood,mood\na,b,c,d\n", "names column 'mood' twice"),
        (b"text,hint,mood\na,b,sweet, and sour\n", "line 2 of mood.csv has 4 columns, its head 3"),
        (b'text,hint,mood\na,b,"c\n', "cannot be read as CSV"),
        (b"text,hint,mood\n\xff,b,c\n", "is not UTF-8"),
        (b"", "is empty"),
    ],
)
def test_a_broken_csv_is_one_sentence(tmp_path, rows, expected):
    file = moods(tmp_path, mood=alpaca(file_name="mood.csv"))
    (tmp_path / "mood.csv").write_bytes(rows)
    assert expected in outcomes(convert_datasets(file))["mood"][1]


def test_options_that_cannot_be_are_one_sentence(tmp_path):
    file = moods(tmp_path)
    for options, expected in (
        ({"only": ["moody"]}, "unknown entry 'moody'; did you mean 'mood'"),
        ({"tests": ["mood"]}, "expected NAME=ENTRY"),
        ({"tests": ["mood=none"]}, "unknown entry 'none'"),
        ({"pack": "../p.yaml"}, "without a folder"),
    ):
        with pytest.raises(PeftBenchError, match=expected):
            convert_datasets(file, **options)
    assert set(outcomes(convert_datasets(file, only=["mood"]))) == {"mood", "mood_eval"}


def test_a_name_of_ours_is_not_taken_by_another_dataset(tmp_path):
    moods(tmp_path)
    entries = {
        "RTE": alpaca(),
        "RTE_eval": alpaca(file_name="mood_eval.jsonl"),
        "my data": alpaca(),
        "my_data": alpaca(),
    }
    file = described(tmp_path, entries)
    made = convert_datasets(file, tests=["my data=RTE_eval", "my_data=RTE_eval"])
    assert "own_rte.yaml" in made.texts
    assert "another entry is called my_data" in outcomes(made)["my_data"][1]


TEXT = st.text(max_size=30)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.dictionaries(TEXT, st.one_of(TEXT, st.integers(), st.booleans(), st.none(), st.lists(TEXT))))
def test_any_texts_survive_being_written(values):
    from ruamel.yaml import YAML

    if any("\ud800" <= each <= "\udfff" for each in str(values)) or not values:
        return
    assert YAML(typ="safe", pure=True).load(yaml_text({"of": values})) == {"of": values}


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=10)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)
KEY = st.sampled_from(
    ["hf_hub_url", "file_name", "columns", "tags", "split", "subset", "formatting", "instruction", "x"]
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    entries=st.dictionaries(st.text(max_size=8), st.dictionaries(KEY, JSON, max_size=5), min_size=1, max_size=3)
)
def test_any_description_is_told_or_refused_and_never_breaks(tmp_path, entries):
    text = json.dumps(entries)
    if "\\ud" in text:
        return
    file = written(tmp_path, text, "dataset_info.json")
    made = convert_datasets(file)
    assert {each.name for each in made.outcomes} == set(entries)
    assert Path(file).read_text() == text
