"""Files that are damaged or meant to hurt: one sentence each, all at once, and nothing is written."""

import copy
import json
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftbench.errors import ConfigError, DataError, PeftBenchError, UnknownName
from peftbench.importers import reading
from peftbench.importers.results import imported
from peftbench.importers.taking import import_results
from tests.unit.importers import shapes

GOOD = json.dumps(shapes.comparison())
DAMAGED = {
    "empty": (b"", "no JSON"),
    "half": (GOOD[: len(GOOD) // 2].encode(), "no JSON"),
    "binary": (bytes(range(256)) * 40, "no UTF-8 text"),
    "zeros": (b"\0" * 1000, "no JSON"),
    "UTF-16": (GOOD.encode("utf-16"), "no UTF-8 text"),
    "pickle": (b"\x80\x04\x95\x1f\x00\x00\x00\x00\x00\x00\x00\x8c\x02os\x94", "no UTF-8 text"),
    "NaN": (GOOD.replace("0.61", "NaN").encode(), "holds NaN"),
    "Infinity": (GOOD.replace("0.61", "Infinity").encode(), "holds Infinity"),
    "-Infinity": (GOOD.replace("0.61", "-Infinity").encode(), "holds -Infinity"),
    "beyond floats": (GOOD.replace("0.61", "1e400").encode(), "beyond all numbers"),
    "huge whole number": (GOOD.replace("9175040", "9" * 5000).encode(), "5,000 digits"),
    "two equal keys": (GOOD.replace('"run_info"', '"meta_info": {}, "run_info"').encode(), "'meta_info' twice"),
    "deep lists": (b"[" * 200_000 + b"]" * 200_000, "nested deeper"),
    "deep objects": (b'{"a":' * 90 + b"1" + b"}" * 90, "nested deeper"),
    "list": (b"[1, 2]", "is a list"),
    "number": (b"3", "is a int"),
    "null": (b"null", "is a NoneType"),
    "half a character": (GOOD.replace("llama-3.2-3B-rank32", "\\ud800").encode(), "lone surrogate"),
    "other JSON": (b'{"a": 1}', "no result of method_comparison"),
    "wrong types": (json.dumps({"run_info": [], "train_info": 3, "meta_info": None}).encode(), "is missing"),
}


def refused(kind, path, into, match, **more):
    with pytest.raises(PeftBenchError, match=match) as caught:
        import_results(kind, path, into, **more)
    assert not into.exists(), "nothing is written"
    return str(caught.value).splitlines()


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_one_sentence_with_its_name(tmp_path, name):
    content, said = DAMAGED[name]
    folder = tmp_path / "in"
    shapes.written(folder, GOOD, "good.json")
    (folder / "bad.json").write_bytes(content)
    lines = refused("hf-method-comparison", folder, tmp_path / "runs", said)
    assert all(line.startswith("bad.json") for line in lines[:-1])
    assert lines[-1] == "nothing was imported: 1 of 2 cannot be; --skip-damaged takes the 1 others"
    taken = import_results("hf-method-comparison", folder, tmp_path / "runs", skip_damaged=True)
    assert (len(taken.made.results), taken.units, taken.skipped) == (1, 2, 1)
    assert taken.made.skipped == taken.problems != ()


@pytest.mark.parametrize("name", [name for name in DAMAGED if name != "NaN"])
def test_the_harness_and_peft_factory_refuse_the_same(tmp_path, name):
    content, _ = DAMAGED[name]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "results_1.json").write_bytes(content)
    refused("lm-eval", tmp_path / "in", tmp_path / "runs", "results_1.json")
    folder = shapes.factory(tmp_path / "saves")
    (folder.parent / "train_qqp_42_1758000000" / "adapter_config.json").write_bytes(content)
    if name not in ("other JSON", "wrong types"):  # which are objects without the method
        refused("peft-factory", folder, tmp_path / "runs", "adapter_config.json")


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("run_info", "train_config", "model_id"), None, "run_info.train_config.model_id is missing"),
        (("run_info", "train_config", "model_id"), 3, "model_id is 3, expected a text"),
        (("run_info", "train_config", "model_id"), "x" * 501, "expected a text of 1 to 500"),
        (("run_info", "train_config", "seed"), -1, "seed is -1, expected a whole number"),
        (("run_info", "train_config", "seed"), True, "seed is True"),
        (("run_info", "peft_config"), "LORA", "peft_config is 'LORA', expected an object"),
        (("run_info", "peft_config"), {"peft_type": "LORA", "r": "x" * 30_000}, "30,0.. characters"),
        (("train_info", "num_trainable_params"), 1.5, "num_trainable_params is 1.5"),
        (("train_info", "cuda_memory_max"), "much", "cuda_memory_max is 'much'"),
        (("train_info", "train_time"), -3, "train_time is -3"),
        (("train_info", "metrics"), [], "test accuracy is missing"),
        (("train_info", "metrics"), [3], "test accuracy is missing"),
        (("train_info", "metrics"), {}, "expected a list"),
        (
            ("train_info", "metrics"),
            [{"test accuracy": 48.2}],
            "test accuracy is 48.2, expected a number from 0 to 1",
        ),
        (("train_info", "metrics"), [{"test accuracy": "0.4"}], "test accuracy is '0.4'"),
        (("meta_info", "dataset_info"), {"dreambooth": {}}, "only MetaMathQA is read"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(tmp_path, path, value, said):
    data = shapes.comparison()
    *inner, last = path
    table = data
    for key in inner:
        table = table[key]
    table[last] = value
    (line, total) = refused("hf-method-comparison", shapes.written(tmp_path / "in", data), tmp_path / "runs", said)
    assert line.startswith("result.json")
    assert total == "nothing was imported: 1 of 1 cannot be"


def test_every_problem_of_every_file_comes_at_once(tmp_path):
    first, second = shapes.comparison(), shapes.comparison()
    first["run_info"]["train_config"] = {"model_id": 1, "seed": "a"}
    second["train_info"]["train_time"] = []
    shapes.written(tmp_path / "in", first, "a.json")
    shapes.written(tmp_path / "in" / "b", second, "c.json")
    lines = refused("hf-method-comparison", tmp_path / "in", tmp_path / "runs", "a.json")
    assert [line.split(":")[0] for line in lines[:-1]] == ["a.json", "a.json", "b/c.json"]


def test_lines_are_named_by_number_and_told_up_to_a_limit(tmp_path):
    folder = shapes.factory(tmp_path / "saves")
    file = folder / "generated_predictions.jsonl"
    whole = file.read_text()
    for text, said in (
        (whole + '{"prompt": "x", "predi', "line 5 is no JSON"),
        (whole + '{"predict": 3, "label": "duplicate"}\n', "line 5: predict is 3, expected a text"),
        (whole + "[]\n", "line 5 is a list"),
        ('\n\n{"predict": "a"}\n', "line 3: label is None"),
        ("\n", "holds no predictions"),
        ("x\n" * 500, "490 more lines are wrong"),
    ):
        file.write_text(text)
        refused("peft-factory", folder, tmp_path / "runs", said)
    file.write_text(whole)
    (folder / "results.jsonl").write_text('{"f1": "0.8"}\n')
    refused("peft-factory", folder, tmp_path / "runs", "line 1: 'f1' is '0.8', expected a number")
    (folder / "results.jsonl").write_text('{"f1": 80.0}\n')
    refused("peft-factory", folder, tmp_path / "runs", "f1 is 80.0, expected a number up to 1")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: &a [*a]\n", "anchors and aliases"),
        ("seed: !!python/object/apply:os.system ['id']\n", "seed is \\['id'\\], expected a whole number"),
        ("seed: [\n", "not YAML"),
        ("seed: 1\nseed: 2\n", "stands twice"),
        ("- 1\n", "not a list of"),
        ("seed: many\n", "seed is 'many'"),
        ("seed: 1.0e+400\n", "seed is"),
        ("model_name_or_path: [x]\n", "model_name_or_path is"),
        ('model_name_or_path: "\\ud800"\n', "lone surrogate|not YAML"),
        ("x: " + "[" * 5000 + "\n", "nested deeper"),
    ],
)
def test_settings_of_an_evaluation_that_are_wrong(tmp_path, text, said):
    folder = shapes.factory(tmp_path / "saves")
    (folder / "eval.yaml").write_text(text)
    refused("peft-factory", folder, tmp_path / "runs", said)


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({}, "results is empty"),
        ([], "results is \\[\\], expected an object"),
        (None, "results is missing"),
        ({"gsm8k": {"alias": "gsm8k"}, "mmlu": None}, "result.json holds no result"),
        ({"gsm8k": 3}, "results.gsm8k is 3"),
        ({"gsm8k": {"acc,none": "high"}}, "gsm8k: acc,none is 'high'"),
        ({"gsm8k": {"acc,none": 0.5, "acc_stderr,none": -1}}, "acc_stderr,none is -1"),
        ({"gsm8k": {"acc,none": 0.5, "acc_stderr,none": 7}}, "acc_stderr,none is 7"),
        ({"gsm8k": {"acc,none": 1e200}}, "acc,none is 1e.200"),
        ({"x" * 501: {"acc,none": 1}}, "a task is called"),
        ({"gsm8k": {"x" * 101: 1}}, "a metric is called"),
    ],
)
def test_results_of_the_harness_that_are_wrong(tmp_path, results, said):
    refused("lm-eval", shapes.written(tmp_path / "in", shapes.harness(results=results)), tmp_path / "runs", said)


def test_links_pipes_and_folders_in_the_place_of_files(tmp_path):
    folder, outside = tmp_path / "in", shapes.written(tmp_path / "elsewhere", GOOD, "secret.json")
    shapes.written(folder, GOOD, "good.json")
    (folder / "link.json").symlink_to(outside)
    (folder / "loop").symlink_to(folder)
    os.mkfifo(folder / "pipe.json")
    (folder / "folder.json").mkdir()
    lines = refused("hf-method-comparison", folder, tmp_path / "runs", "link.json is a link or no plain file")
    assert [line.split(" ")[0] for line in lines[:-1]] == ["link.json", "pipe.json"]
    refused("hf-method-comparison", folder / "pipe.json", tmp_path / "runs", "no file and no folder")
    tree = shapes.factory(tmp_path / "saves")
    (tree / "eval.yaml").unlink()
    (tree / "eval.yaml").symlink_to(outside)
    refused("peft-factory", tree, tmp_path / "runs", "eval.yaml is a link")


def test_ten_thousand_files_folders_without_any_and_too_many(tmp_path, monkeypatch):
    folder = tmp_path / "in"
    shapes.written(folder, GOOD, "good.json")
    for number in range(10_000):
        (folder / f"{number}.txt").touch()
    taken = import_results("hf-method-comparison", folder, tmp_path / "a")
    assert taken.units == 1
    for number in range(2_000):
        (folder / f"{number}.txt").rename(folder / f"{number}.json")
    lines = refused("hf-method-comparison", folder, tmp_path / "runs", "and 1,980 more problems")
    assert len(lines) == reading.MOST_SAID + 2
    assert len(import_results("hf-method-comparison", folder, tmp_path / "a", skip_damaged=True).problems) == 2_000
    (tmp_path / "none" / "deep").mkdir(parents=True)
    for kind in ("hf-method-comparison", "peft-factory", "lm-eval"):
        refused(kind, tmp_path / "none", tmp_path / "runs", "there is nothing of")
        refused(kind, tmp_path / "nowhere", tmp_path / "runs", "does not exist")
    monkeypatch.setattr(reading, "MOST_FILES", 100)
    refused("hf-method-comparison", folder, tmp_path / "runs", "more than 100 files")


def test_files_that_are_too_large_are_not_read(tmp_path, monkeypatch):
    file = tmp_path / "in" / "a.json"
    file.parent.mkdir()
    with file.open("wb") as opened:
        opened.truncate(reading.MOST_BYTES + 1)  # a hole, which takes no room
    refused("hf-method-comparison", file, tmp_path / "runs", "more than 20 MB")
    folder = shapes.factory(tmp_path / "saves")
    monkeypatch.setattr(reading, "MOST_LINE_BYTES", 30)
    refused("peft-factory", folder, tmp_path / "runs", "line 1 has more than 0 MB")


def test_names_are_kept_and_shown_without_harm(tmp_path, capfd):
    from peftbench.cli import app

    folder = tmp_path / "in"
    names = ["\x1b[31mred.json", "a\nb.json", "‮nosj.json", "<script>.json", "x" * 200 + ".json", "- -rf.json"]
    for name in names:
        shapes.written(folder, GOOD, name)
    (folder / os.fsdecode(b"\xff\xfe.json")).write_text(GOOD)
    data = shapes.comparison()
    data["run_info"]["experiment_name"] = "\x1b]0;owned\x07=cmd|' /C calc'!A0"
    shapes.written(folder, data, "z.json")
    found = import_results("hf-method-comparison", folder, tmp_path / "runs").made
    assert {each.file for each in found.results} >= {*names, "\\udcff\\udcfe.json"}
    assert imported(tmp_path / "runs") == [found]
    for form in ("table", "csv", "json"):
        with pytest.raises(SystemExit) as end:
            app(
                ["results", str(tmp_path / "runs"), "--imported", "--format", form, "--columns", "file,experiment"]
            )
        assert end.value.code == 0
        out = capfd.readouterr().out
        assert "\x1b" not in out or form == "csv"  # which is written as bytes where there is no terminal
        assert "measured" not in out
    (folder / "\x1b[2Jbad.json").write_text("{")
    with pytest.raises(SystemExit) as end:
        app(["import", "results", "hf-method-comparison", str(folder), "--into", str(tmp_path / "b")])
    assert end.value.code == 2
    assert "\x1b" not in capfd.readouterr().err


def test_a_byte_order_mark_is_no_fault(tmp_path):
    file = tmp_path / "a.json"
    file.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert len(import_results("hf-method-comparison", file, tmp_path / "runs").made.results) == 1


def test_kinds_and_paths_that_do_not_fit(tmp_path):
    with pytest.raises(UnknownName, match="'lm-eval'"):
        import_results("lm_eval", tmp_path, tmp_path / "runs")
    with pytest.raises(ConfigError, match="paper takes nothing"):
        import_results("paper", tmp_path, tmp_path / "runs")
    with pytest.raises(ConfigError, match="lm-eval takes results_"):
        import_results("lm-eval", None, tmp_path / "runs")
    refused("lm-eval", tmp_path / "nowhere", tmp_path / "runs", "does not exist")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot write"):
        import_results("paper", None, tmp_path / "file")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(["", "N/A", "0.5", "\x00", "\ud800"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


def paths_of(value, path=()):
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths_of(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from paths_of(inner, (*path, number))


@pytest.mark.parametrize(
    ("kind", "shape"), [("hf-method-comparison", shapes.comparison()), ("lm-eval", shapes.harness())]
)
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_file_it_is_imported_or_refused_in_words(tmp_path_factory, kind, shape, data):
    changed = copy.deepcopy(shape)
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from([each for each in paths_of(changed) if each]))
        table = changed
        for key in path[:-1]:
            table = table[key]
        if isinstance(table, dict) and data.draw(st.booleans()):
            del table[path[-1]]
        else:
            table[path[-1]] = data.draw(VALUES)
    folder = tmp_path_factory.mktemp("hostile")
    file = folder / "results.json"
    file.write_text(json.dumps(changed))
    try:
        made = import_results(kind, file, folder / "runs").made
    except DataError as error:
        assert "results.json" in str(error)
        assert not (folder / "runs").exists()
    else:
        assert imported(folder / "runs") == [made]
        assert all(each.score is None or -100 <= each.score <= 100 for each in made.results)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_stands_in_a_tree_it_is_imported_or_refused_in_words(tmp_path_factory, data):
    root = tmp_path_factory.mktemp("tree")
    folder = shapes.factory(root / "saves")
    files = sorted(each for each in folder.parent.rglob("*") if each.is_file())
    for file in data.draw(st.lists(st.sampled_from(files), min_size=1, max_size=2, unique=True)):
        whole = file.read_bytes()
        choice = data.draw(st.integers(0, 3))
        if choice == 0:
            file.write_bytes(whole[: data.draw(st.integers(0, len(whole)))])
        elif choice == 1:
            file.write_text(json.dumps(data.draw(VALUES)))
        elif choice == 2:
            file.write_bytes(data.draw(st.binary(max_size=200)))
        else:
            file.unlink()
    try:
        made = import_results("peft-factory", root / "saves", root / "runs").made
    except DataError:
        assert not (root / "runs").exists()
    else:
        assert imported(root / "runs") == [made]
