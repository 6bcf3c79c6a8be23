import gzip
import json
import os
import random
import subprocess
import sys

import pytest

from peftbench.errors import DataError
from peftbench.metrics import score_rows
from peftbench.metrics.codebleu import corpus_codebleu, fenced_code
from tests.golden.metrics import dataset

PARTS = {
    "codebleu": "codebleu",
    "ngram": "ngram_match_score",
    "weighted_ngram": "weighted_ngram_match_score",
    "syntax": "syntax_match_score",
    "data_flow": "dataflow_match_score",
}
FUNCTION = "def area(width, height):\n    size = width * height\n    return size"


@pytest.fixture(scope="module")
def reference_rows(shared):
    with gzip.open(shared / "data/codebleu_reference/scores.jsonl.gz") as lines:
        return [json.loads(line) for line in lines]


def scores(predictions, references, protocol="corrected"):
    return score_rows(dataset("codebleu"), predictions, references, protocol)


def test_every_row_on_which_codebleu_0_7_0_agrees_with_itself_gives_its_five_numbers(reference_rows):
    stable = [row for row in reference_rows if row["stable_over_hash_seeds"] and row["stable_over_versions"]]
    assert len(stable) == 55
    for row in stable:
        ours = corpus_codebleu([row["prediction"]], [row["reference"]], as_published=True)
        assert {name: ours[name] / 100 for name in PARTS} == pytest.approx(
            {name: row[theirs] for name, theirs in PARTS.items()}, abs=1e-9
        )


def test_the_rows_on_which_it_does_not_agree_with_itself_are_close(reference_rows):
    for row in reference_rows:
        ours = corpus_codebleu([row["prediction"]], [row["reference"]], as_published=True)
        assert ours["codebleu"] / 100 == pytest.approx(row["codebleu"], abs=0.032)


def test_published_lower_cases_first_and_then_counts_the_same(reference_rows):
    for row in reference_rows:
        lowered = corpus_codebleu([row["prediction"].lower()], [row["reference"].lower()], as_published=True)
        assert (
            scores([row["prediction"]], [[row["reference"]]], "published").values["primary"] == lowered["codebleu"]
        )


def test_a_corpus_is_scored_by_its_sums_and_not_by_the_mean_of_its_rows():
    predictions, references = ["a b c d e f g h", "x"], ["a b c d e f g h", "y z"]
    pooled = corpus_codebleu(predictions, references)
    # words 8 of 9, pairs 7 of 7, ...; 9 words against 10: exp(1 - 10 / 9)
    assert pooled["ngram"] == pytest.approx(100 * (8 / 9) ** 0.25 * 2.718281828459045 ** (1 - 10 / 9))


@pytest.mark.parametrize("short", ["x", "f(x)", "return x", "a = b"])
def test_a_perfect_answer_too_short_for_long_ngrams_scores_100(short: str):
    assert scores([short], [[short]]).values["primary"] == 100
    assert scores([short, FUNCTION], [[short], [FUNCTION]]).values["primary"] == 100


def test_keywords_weigh_five_times_as_much_as_other_words():
    # the gold has one to three words in a row; of its single words, weighing 1.4, one is found: 1 or 0.2
    keyword = corpus_codebleu(["return"], ["return\n\n a b"], as_published=False)["weighted_ngram"]
    name = corpus_codebleu(["a"], ["return\n\n a b"], as_published=False)["weighted_ngram"]
    soft = corpus_codebleu(["match"], ["match\n\n a b"], as_published=False)["weighted_ngram"]
    assert soft == keyword
    assert keyword / name == pytest.approx(5 ** (1 / 3))


def test_without_a_data_flow_in_the_references_its_weight_goes_to_the_other_parts():
    values = scores(["a.total(axis=1)"], [["a.sum(axis=0)"]]).values
    assert "data_flow" not in values
    assert values["primary"] == pytest.approx((values["ngram"] + values["weighted_ngram"] + values["syntax"]) / 3)
    with_flow = scores(["a.total(axis=1)", FUNCTION], [["a.sum(axis=0)"], [FUNCTION]]).values
    parts = ("ngram", "weighted_ngram", "syntax", "data_flow")
    assert with_flow["primary"] == pytest.approx(sum(with_flow[part] for part in parts) / 4)


def test_a_missing_data_flow_is_no_gift_under_corrected():
    outputs = ["", *[FUNCTION] * 9]
    references = [[FUNCTION]] * 10
    assert scores([""] * 10, references).values["primary"] == 0
    assert scores([""] * 10, references, "published").values["primary"] == 25
    assert scores([""], [["# only a comment"]]).values["primary"] == 0
    assert 0 < scores(outputs, references).values["primary"] < 100
    assert scores(outputs[:1] * 9 + outputs[1:2], references, "published").values["primary"] < 25  # not monotone


def test_each_sample_takes_its_best_gold_answer_and_counts_are_pooled_then():
    golds = ["x = 1", FUNCTION, FUNCTION.replace("size", "total")]
    assert scores([FUNCTION, "x = 1"], [golds, golds]).values["primary"] == 100
    alone = scores([FUNCTION, "x = 2"], [[FUNCTION], ["x = 1"]]).values["primary"]
    assert scores([FUNCTION, "x = 2"], [golds, golds]).values["primary"] == pytest.approx(alone)


def test_comments_docstrings_and_joined_lines_do_not_count_in_trees_and_flows():
    plain = "def f(a):\n    b = a + 1\n    return b"
    told = 'def f(a):\n    """Add one."""\n    # to a\n    b = a + \\\n        1  # so\n    return b'
    for prediction, gold in ((told, plain), (plain, told)):
        values = corpus_codebleu([prediction], [gold])
        assert (values["syntax"], values["data_flow"]) == (100, 100)


def test_a_string_that_begins_a_statement_is_code_and_only_published_drops_it():
    with_string, without = "', '.join(names)", "comma.join(names)"
    assert corpus_codebleu([with_string], [with_string])["syntax"] == 100
    ours = corpus_codebleu([without], [with_string])["syntax"]
    assert ours != corpus_codebleu([without], [with_string], as_published=True)["syntax"]


def test_renaming_the_variables_keeps_trees_and_flows():
    renamed = FUNCTION.replace("width", "w").replace("height", "h").replace("size", "s").replace("area", "a")
    values = corpus_codebleu([renamed], [FUNCTION])
    assert (values["syntax"], values["data_flow"]) == (100, 100)
    assert values["ngram"] < 50


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("x = 1", "x = 1"),
        ("```\nx = 1\n```", "x = 1"),
        ("Sure:\n```python\nx = 1\ny = 2\n```\nThat is\n```\nz\n```", "x = 1\ny = 2"),
        ("```py\nx = 1", "x = 1"),
        ("  ```python\n  x = 1\n  ```", "x = 1"),
        ("```\n```", ""),
        ("use ```x``` here", "use ```x``` here"),
        ("x = 1<|eot_id|>", "x = 1"),
        ("", ""),
    ],
)
def test_the_first_fenced_block_is_the_code(output: str, code: str):
    assert fenced_code(output) == code


@pytest.mark.parametrize(
    ("output", "parses"),
    [("x = 1", True), ("", False), ("def f(:", False), ("The answer is x.", False), ("# x", True)],
)
def test_an_output_is_valid_if_it_parses(output: str, parses: bool):
    result = scores([output], [["x = 1"]])
    assert result.valid == (parses,)
    assert result.values["parses"] == 100 * parses


def test_nothing_to_compare_is_an_error():
    with pytest.raises(DataError, match="0 predictions and 0 references"):
        corpus_codebleu([], [])
    with pytest.raises(DataError, match="1 predictions and 2 references"):
        corpus_codebleu(["x"], ["x", "y"])


def test_scores_do_not_depend_on_the_hash_seed(reference_rows):
    rows = [[row["prediction"], row["reference"]] for row in reference_rows]
    program = (
        "import json, sys\n"
        "from peftbench.metrics.codebleu import corpus_codebleu\n"
        "for prediction, reference in json.load(sys.stdin):\n"
        "    for published in (True, False):\n"
        "        print(corpus_codebleu([prediction], [reference], as_published=published))\n"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(rows),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "4242")
    }
    assert len(outputs) == 1
    assert outputs.pop().count("codebleu") == 2 * len(rows)


@pytest.mark.parametrize(
    "output",
    [
        "(" * 500_000 + ")" * 500_000,
        "-" * 100_000 + "1",
        "a." * 50_000 + "b",
        "a=" * 50_000 + "1",
        "".join(" " * depth + "for a in b:\n" for depth in range(600)) + " " * 600 + "a = b\n",
        "".join(" " * depth + "if a:\n" for depth in range(600)) + " " * 600 + "a = b\n",
        "".join(f"if a{i}:\n x = {i}\n" for i in range(10_000)) + "print(x)\n" * 2_000,
        "x = y + 1\n" * 20_000,
        "".join(random.Random(0).choices("ab ()[]{}:=+-\n\t\"'#", k=100_000)),
        "```" * 50_000,
        "</s>" * 50_000,
        "\ud800\x00\ufeff" * 1000,
    ],
    ids=[
        "brackets",
        "signs",
        "attributes",
        "chain",
        "loops",
        "ifs",
        "many ifs",
        "lines",
        "noise",
        "fences",
        "marks",
        "odd",
    ],
)
def test_deep_and_huge_outputs_are_scored(output: str):
    for protocol in ("corrected", "published"):
        assert 0 <= scores([output], [[FUNCTION]], protocol).values["primary"] < 60


def test_real_gold_answers_are_perfect(shared):
    for path, field in (("conala/test.jsonl.gz", "snippet"), ("codealpacapy/train.jsonl.gz", "response")):
        with gzip.open(shared / "data" / path) as lines:
            golds = [json.loads(line)[field] for line in lines]
        values = scores(golds, [[gold] for gold in golds]).values
        assert values["primary"] == 100
        assert values["exact_match"] == 100
