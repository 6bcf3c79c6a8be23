"""`check dataset`: what is wrong with rows is counted, named and told with the fix."""

import pytest

from peftbench.datasetcheck import check_dataset
from peftbench.errors import ConfigError, DataError
from peftbench.findings import failed
from peftbench.testing import save_tiny_model
from tests.own_files import put, put_metric, rows, write_rows


def found_in(tmp_path, train=None, test=None, *, without=(), **changes):
    return check_dataset(str(put(tmp_path, train, test, without=without, **changes)))


def one(found, text, severity="problem"):
    [finding] = [each for each in found.findings if text in each.what]
    assert finding.severity == severity
    assert finding.mend
    return finding


def test_a_good_dataset_has_no_finding_and_shows_one_row_of_each_label(tmp_path):
    found = found_in(tmp_path)
    assert found.findings == []
    assert found.facts["rows"] == {"train": 40, "test": 16}
    assert found.facts["labels"]["train"] == {"billing": 20, "repair": 20}
    assert found.facts["score of the gold answers"] == 100
    assert found.rendered["repair"].endswith("Ticket: Ticket 0: the screen.\n-> repair")
    assert set(found.rendered) == {"repair", "billing"}


def test_leaks_are_counted_exactly_and_but_for_case_and_punctuation(tmp_path):
    train = rows(40)
    near = [{**train[20 + i], "text": train[20 + i]["text"].replace(":", " -").upper()} for i in range(2)]
    found = found_in(tmp_path, train, [*train[:3], *near, *rows(16, 100)])
    exact = one(found, "the input stands in train as well, such as test-0 = train-0 ('Ticket 0: the screen.')")
    assert (exact.count, exact.rows) == (3, ("test-0", "test-1", "test-2"))
    assert "test-1 = train-1" in exact.what
    assert "test-2 = train-2" not in exact.what  # two are shown
    assert one(found, "but for case and punctuation").count == 2
    assert failed(found.findings)


def test_test_rows_that_are_the_training_rows(tmp_path):
    assert one(found_in(tmp_path, rows(40), rows(40)), "stands in train as well").count == 40


def test_rows_that_stand_twice_and_contradict_one_another_are_noticed(tmp_path):
    train = [*rows(40), rows(1)[0], {**rows(1)[0], "label": "billing"}]
    found = found_in(tmp_path, train)
    assert one(found, "the same input stands there before", "notice").count == 2
    assert one(found, "more than one answer", "notice").count == 1
    assert not failed(found.findings)


def test_labels_that_are_not_there_rare_or_nearly_always_there(tmp_path):
    train = [*(each for each in rows(80) if each["label"] == "repair"), *rows(4)]
    found = found_in(tmp_path, train, labels=["billing", "repair", "sales"])
    one(found, "no training row has label 'sales'")
    one(found, "no test row has label 'sales'", "notice")
    one(found, "only 2 training rows have label 'billing'", "notice")
    one(found, "95 % of the rows have label 'repair'", "notice")


def test_rows_of_one_kind_of_fault_are_one_finding(tmp_path):
    wrong = [{"text": i, "label": "repair"} for i in range(7)]
    others = [{"text": "a", "label": "sales"}, {"text": "b", "label": float("nan")}, {"label": "repair"}]
    found = found_in(tmp_path, [*rows(40), *wrong, *others])
    assert one(found, "column 'text' is int 0, expected text").rows[0] == "train-40"
    assert one(found, "column 'text' is int 0, expected text").count == 7
    assert one(found, "expected one of billing, repair").rows == ("train-47",)
    assert one(found, "float nan").rows == ("train-48",)
    assert one(found, "column 'text' is missing").rows == ("train-49",)


def test_empty_inputs_and_answers_and_characters_that_steer(tmp_path):
    train = [*rows(40), {"text": "  ", "label": "repair"}, {"text": "\x1b[31m red", "label": "repair"},
             {"text": "a \u202eb", "label": "repair"}, {"text": "שלום 答案", "label": "repair"}]  # fmt: skip
    found = found_in(tmp_path, train)
    assert one(found, "every field of the prompt is empty").rows == ("train-40",)
    assert one(found, "control or direction characters", "notice").rows == ("train-41", "train-42")
    open_answers = put(
        tmp_path / "open", [*rows(40), {"text": "c", "label": ""}], metric="token_f1", without=("labels",)
    )
    assert one(check_dataset(str(open_answers)), "the answer is empty", "notice").rows == ("train-40",)


def test_empty_splits_and_rows_that_cannot_be_parted(tmp_path):
    one(found_in(tmp_path, test=[]), "the test split holds no row")
    one(found_in(tmp_path / "b", train=[rows(1)[0]] * 5), "all rows belong together")


def test_rows_too_long_for_a_model_are_counted(tmp_path):
    model = save_tiny_model(str(tmp_path / "model"))  # 512 tokens, one a character
    train = [*rows(40), {"text": "x" * 600, "label": "repair"}, {"text": "y" * 1_000_000, "label": "billing"}]
    file = put(tmp_path, train, max_new_tokens=6)
    found = check_dataset(str(file), model=model)
    assert one(found, "longer than 512 tokens", "notice").rows == ("train-40", "train-41")
    assert one(found, "train: the answer is longer than max_new_tokens, 6").count == 21
    assert found.facts["context of the model"] == 512
    assert found.facts["longest row in tokens"] > 1_000_000
    found = check_dataset(str(put(tmp_path, instruction="x" * 600)), model=model)
    assert one(found, "train: instruction and answer alone exceed").count == 40
    with pytest.raises(ConfigError, match="model"):
        check_dataset(str(file), model=str(tmp_path / "absent"))


def test_gold_answers_that_the_metric_cannot_score(tmp_path):
    found = found_in(tmp_path, metric="last_number", without=("labels",))
    one(found, "the metric cannot score the gold answers: row 0: the reference of tickets@")
    put_metric(tmp_path, "from peftbench.metrics import means, metric\n@metric('m', means(primary='right'))\n"
               "def m(p, r, s, q):\n    return {'valid': 1, 'right': p == 'repair'}\nMETRIC = m\n", "half")  # fmt: skip
    assert one(found_in(tmp_path, metric="./half.py"), "the gold answers themselves score 50.0, not 100")
    put_metric(tmp_path, "1/0", "half")
    one(found_in(tmp_path, metric="./half.py"), "'half.py' ended with ZeroDivisionError")


def test_what_is_left_to_fill_in_is_told(tmp_path):
    found = found_in(tmp_path, licence="TODO", instruction="")
    one(found, "licence still says TODO")
    one(found, "the instruction is empty", "notice")
    one(found_in(tmp_path / "b", licence="not stated"), "no licence is stated", "notice")


def test_problems_of_the_entry_are_findings_and_a_file_that_is_not_there_is_an_error(tmp_path):
    found = found_in(tmp_path, target="x", colour="red")
    assert [each.severity for each in found.findings] == ["problem"]
    assert "unknown key 'colour'" in found.findings[0].what
    file = put(tmp_path / "csv", files={"train": "a.csv", "test": "test.jsonl"})
    (tmp_path / "csv" / "a.csv").write_text('text,label\n"a,b\n')
    one(check_dataset(str(file)), "cannot be read as CSV")
    with pytest.raises(ConfigError, match="does not exist"):
        check_dataset(str(tmp_path / "absent.yaml"))
    with pytest.raises(DataError):
        check_dataset("sst2", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["sst2", "svamp", "stsb", "wsc"])
def test_datasets_of_the_catalogue_can_be_checked(name, shared):
    found = check_dataset(name, data_dir=shared / "data")
    assert found.facts["rows"]["train"] > 0
    assert found.facts["score of the gold answers"] > 99
    for each in found.findings:
        assert each.severity == "notice" or "stands in train as well" in each.what, each


def test_the_mini_suite_has_nothing_to_be_mended():
    assert not failed(check_dataset("svamp@mini").findings)


def test_a_line_of_json_that_is_none_ends_its_split(tmp_path):
    file = put(tmp_path)
    with (tmp_path / "train.jsonl").open("a") as opened:
        opened.write('{"text": "cut')
    found = check_dataset(str(file))
    one(found, "line 41 of train.jsonl is not JSON in UTF-8")
    assert found.facts["rows"]["train"] == 40
    write_rows(tmp_path / "train.jsonl", [[1]])
    one(check_dataset(str(file)), "is a JSON list, expected an object")
