"""The mini suite: eight generated tasks under real entries, whose answers follow from their texts."""

import ast
import re
from collections import Counter

import pytest

from peftbench.datasets import get_dataset, load_dataset
from peftbench.datasets.mini import COUNTS, input_of, mini_names, mini_rows
from peftbench.datasets.mini import tasks as world
from peftbench.errors import UnknownName
from peftbench.metrics.answers import evaluate
from peftbench.rescore import score

CONTENT = {
    "sst2@mini": ["0bf6f5d794de", "30820174652d", "92248eecb019"],
    "rte@mini": ["bc48c0a1b130", "9ca59c259178", "b418e1ec5a64"],
    "copa@mini": ["904418f70420", "c34dc1b067e9", "fcd9cf4c9a19"],
    "boolq@mini": ["64c129285492", "58af79079db9", "0bdfe55022e6"],
    "stsb@mini": ["bcb4d1d3e85d", "eec6175bf7fe", "6100e559679a"],
    "svamp@mini": ["ca7f34d67365", "6740c5556dd7", "f765f1e5fa09"],
    "gsm8k@mini": ["12433c87c1c2", "bb0e4b4f269a", "ab7131995631"],
    "conala@mini": ["0000b1e6116c", "b87ebaa5432d", "ccc891d657ee"],
}
"""First characters of the content hashes of train, validation and test."""


def both(name):
    return [*mini_rows(name, "train"), *mini_rows(name, "test")]


def test_every_metric_but_one_and_every_area_is_covered():
    specs = [get_dataset(name) for name in mini_names()]
    assert {spec.metric for spec in specs} == {
        "macro_f1", "pearson", "equation_answer", "last_number", "codebleu",
    }  # fmt: skip
    assert {spec.area for spec in specs} == {"NLU and reasoning", "math", "code generation"}
    assert all(spec.name.endswith("@mini") for spec in specs)


@pytest.mark.parametrize("name", mini_names())
def test_rows_pass_through_the_real_entry(name):
    real, data = get_dataset(name.removesuffix("@mini")), load_dataset(get_dataset(name))
    assert data.facts.source == "generated"
    assert not data.facts.partial
    assert (len(data.train) + len(data.validation), len(data.test)) == (COUNTS.train, COUNTS.test)
    assert (data.facts.train_test_overlap_rows, data.facts.train_duplicate_rows) == (0, 0)
    assert {example.prompt.instruction for example in data.test} == {real.instruction}
    perfect = [example.references[0] for example in data.test]
    assert score(name, perfect, perfect)["primary"] == pytest.approx(100)


@pytest.mark.parametrize("name", mini_names())
def test_no_two_rows_ask_the_same(name):
    inputs = Counter(input_of(row) for row in both(name))
    assert inputs.most_common(1)[0][1] == 1


@pytest.mark.parametrize("name", mini_names())
def test_rows_are_the_same_every_time(name):
    assert mini_rows(name, "test") == mini_rows(name, "test")
    facts = load_dataset(get_dataset(name)).facts
    found = [facts.splits[split].sha256[:12] for split in ("train", "validation", "test")]
    assert found == CONTENT[name], f"rows changed; raise mini.VERSION and write {found}"


@pytest.mark.parametrize("name", ["sst2@mini", "rte@mini", "copa@mini", "boolq@mini"])
def test_no_label_wins_by_its_number(name):
    labels = Counter(row["label"] for row in both(name))
    assert len(labels) == 2
    assert max(labels.values()) <= 0.6 * sum(labels.values())


def test_sentiment_follows_from_the_last_judgement():
    for row in both("sst2@mini"):
        last = re.split(r" but | and ", row["sentence"])[-1]
        word = last.split()[-1]
        turned = " not " in f" {last} " or last.startswith("nobody")
        assert row["label"] == int((word in world.PLEASANT) != turned), row


def test_conclusions_follow_from_the_text():
    for row in both("rte@mini"):
        facts = dict(re.findall(r"(\w+) has a (\w+ \w+)", row["sentence1"]))
        who, thing = re.fullmatch(r"(\w+) has a (.+)\.", row["sentence2"]).groups()
        follows = thing in (facts[who], facts[who].split()[1])
        assert row["label"] == int(not follows), row


def test_the_cause_or_the_effect_that_is_asked_for():
    for row in both("copa@mini"):
        chosen = row["choice2" if row["label"] else "choice1"]
        pair = (chosen, row["premise"]) if row["question"] == "cause" else (row["premise"], chosen)
        assert pair in world.CAUSES


def test_questions_are_answered_by_the_passage():
    for row in both("boolq@mini"):
        assert row["label"] == int(
            row["question"].split()[-1] in re.findall(r"\w+", row["passage"].split(" -- ")[1])
        )


def test_likeness_counts_equal_parts():
    groups = {word: group for part in world._SCENE for group in part for word in group}
    for row in both("stsb@mini"):
        parts = [[word for word in row[side].split() if word in groups] for side in ("sentence1", "sentence2")]
        assert len(parts[0]) == len(parts[1]) == 5
        like = sum(
            1 if a == b else world.CLOSE if groups[a] == groups[b] else 0 for a, b in zip(*parts, strict=True)
        )
        assert row["label"] == pytest.approx(like), row


def test_arithmetic_is_right():
    for row in both("svamp@mini"):
        assert evaluate(row["Equation"]) == int(row["Answer"])
        assert set(re.findall(r"\d+", row["question_concat"])) == set(re.findall(r"(\d+)\.0", row["Equation"]))
    for row in both("gsm8k@mini"):
        steps = re.findall(r"<<(.+?)=(\d+)>>", row["answer"])
        assert [evaluate(left) for left, _ in steps] == [int(right) for _, right in steps]
        assert row["answer"].endswith(f"#### {steps[-1][1]}")
        assert steps[1][0].startswith(steps[0][1])


def test_code_parses():
    for row in both("conala@mini"):
        ast.parse(row["snippet"])


def test_a_task_that_is_not_in_the_suite():
    with pytest.raises(UnknownName, match="mini task 'cola@mini'"):
        get_dataset("cola@mini")


def test_rows_of_ones_own_take_the_place_of_generated_ones():
    rows = {"train": mini_rows("sst2@mini", "train")[:20], "test": mini_rows("sst2@mini", "test")[:4]}
    data = load_dataset(get_dataset("sst2@mini"), rows=rows)
    assert (data.facts.source, len(data.test)) == ("rows", 4)
