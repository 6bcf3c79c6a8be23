"""Configuration files: the shipped ones are the defaults, and every mistake is one sentence with its place."""

import json
import os
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from peftbench.config import load_evaluation_config, load_run_config, read_yaml, run_config
from peftbench.errors import ConfigError, PeftBenchError
from peftbench.records import EvaluationConfig, RunConfig
from peftbench.schema import MethodChoice

CONFIGS = Path(__file__).parents[2] / "configs"
GOOD = "model: some/model\ndataset: rte\nmethod: lora\n"


def written(tmp_path, text, name="train.yaml") -> Path:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


def problems(tmp_path, text, *sets, evaluation=None):
    with pytest.raises(ConfigError) as caught:
        load_run_config(
            written(tmp_path, text), written(tmp_path, evaluation, "eval.yaml") if evaluation else None, sets
        )
    return list(caught.value.problems)


def test_the_shipped_files_are_the_defaults():
    config = load_run_config(CONFIGS / "train.yaml", CONFIGS / "eval.yaml")
    assert config == RunConfig(
        model="meta-llama/Meta-Llama-3-8B-Instruct", dataset="rte", method=MethodChoice(name="lora")
    )
    values = read_yaml(CONFIGS / "train.yaml").values
    assert values.keys() == RunConfig.model_fields.keys() - {"evaluation", "dataset_file"}, (
        "the file shows every key"
    )
    for section in ("data", "training"):
        assert values[section].keys() == type(getattr(config, section)).model_fields.keys()
    assert read_yaml(CONFIGS / "eval.yaml").values.keys() == EvaluationConfig.model_fields.keys()


def test_the_defaults_are_section_4_of_the_paper():
    training = RunConfig(model="m", dataset="rte", method=MethodChoice(name="lora")).training
    assert training.model_dump() == {
        "epochs": 10,
        "batch_size": 4,
        "learning_rate": 5e-5,
        "warmup_ratio": 0.1,
        "weight_decay": 1e-5,
        "max_grad_norm": 1.0,
        "validations": 20,
        "max_tokens": 2048,
    }


def test_numbers_are_those_of_yaml_1_2(tmp_path):
    text = GOOD + "training: {learning_rate: 5e-5, epochs: 012}\nmodel_revision: null\noutput: no\n"
    config = load_run_config(written(tmp_path, text))
    assert config.training.learning_rate == 5e-5
    assert config.training.epochs == 12
    assert config.output == "no"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD + "sed: 1\n", "train.yaml:4:1: unknown key 'sed'; did you mean 'seed'?"),
        (GOOD + "training:\n  epoch: 3\n", "train.yaml:5:3: unknown key 'training.epoch'; did you mean 'epochs'?"),
        (GOOD + "seed: 1\nseed: 2\n", "train.yaml:5:1: key 'seed' stands twice, first at train.yaml:4:1; keep one"),
        (GOOD + "training: {learning_rate: '5e-5'}\n", "is '5e-5', expected a number; write it without quotes"),
        (GOOD + "training: {epochs: 2.5}\n", "train.yaml:4:12: training.epochs is 2.5, expected a whole number"),
        (GOOD + "training: {epochs: 0}\n", "training.epochs is 0, expected greater than or equal to 1"),
        (GOOD + "training: {epochs: true}\n", "training.epochs is true, expected a whole number"),
        (GOOD + "training: {learning_rate: .inf}\n", "training.learning_rate is '.inf', expected a number"),
        (GOOD + "training: 3\n", "train.yaml:4:1: training is 3, expected keys with values below it"),
        (GOOD + "data: {allow_partial: yes}\n", "data.allow_partial is 'yes', expected true or false"),
        (GOOD + "output: 5\n", "output is 5, expected a text; write it in quotes"),
        (GOOD + "seed:\n", "seed is null, expected a whole number"),
        (GOOD + "protocol: publishd\n", "protocol is 'publishd', expected 'corrected' or 'published'"),
        (GOOD + "model_revision: main\n", "model_revision is 'main', expected the 40 hexadecimal digits of a commit"),
        ("model: m\ndataset: rtee\nmethod: lora\n", "train.yaml:2:1: unknown dataset 'rtee'; did you mean 'rte'?"),
        ("model: m\ndataset: rte\nmethod: lorra\n", "train.yaml:3:1: unknown method 'lorra'; did you mean 'lora' or 'olora'?"),
        (
            "model: m\ndataset: rte\nmethod:\n  name: lora\n  rnk: 8\n",
            "train.yaml:5:3: unknown key 'rnk'; did you mean 'rank'? (a setting of method 'lora')",
        ),
        (
            "model: m\ndataset: rte\nmethod: {name: lora, rank: 0}\n",
            "rank is 0, expected greater than or equal to 1 (a setting of method 'lora')",
        ),
        ("dataset: rte\nmethod: lora\n", "train.yaml: key 'model' is missing: Folder of a Hugging Face model"),
        ("", "train.yaml: the file is empty"),
        ("# only a comment\n", "train.yaml: the file is empty"),
        ("- a\n- b\n", "train.yaml: the file is not a list of `key: value` lines"),
        (b"\x7fELF\x02\x01\x01\x00\xff\xfe", "train.yaml: the file is binary"),
        (b"model: a\0b\n", "train.yaml: the file is binary"),
        ("model: [\n", "this is not YAML"),
        ("model: a\n\tdataset: b\n", "this is not YAML"),
        ("model: &x a\ndataset: *x\n", "train.yaml:1:8: anchors and aliases are not allowed"),
        ("model: !!python/object:os.system x\n", "train.yaml:1:8: tag"),
        ("a: " + "[" * 60 + "]" * 60, "nested deeper than 20 levels"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested deeper than 20 levels"),
        ("a: 1\n---\nb: 2\n", "not a list of `key: value` lines"),
        ("x" * 1_000_001, "more than 1,000,000 bytes, which no configuration has"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_sentence_with_its_place(tmp_path, text, expected):
    found = problems(tmp_path, text)
    assert any(expected in problem for problem in found), found
    assert all("\n" not in problem for problem in found)


def test_all_mistakes_of_all_files_come_at_once(tmp_path):
    found = problems(
        tmp_path,
        "model: m\ndataset: nope\nmethod: {name: ia3, rank: 2}\nseed: -1\ntraining:\n  epochs: x\n",
        "training.batch_size=0",
        "nonsense",
        evaluation="test_row: 5\nbatch_size: 0\n",
    )
    places = sorted(problem.split(": ")[0].split(" is ")[0] for problem in found)
    assert places == [
        "--set nonsense",
        "--set training.batch_size",
        "eval.yaml:1:1",
        "eval.yaml:2:1",
        "train.yaml:2:1",
        "train.yaml:3:21",
        "train.yaml:4:1",
        "train.yaml:6:3",
    ]


def test_a_mistake_in_a_setting_is_found_there_and_not_in_the_file(tmp_path):
    text = GOOD.replace("lora", "{name: lora, rank: 2}")
    assert problems(tmp_path, text, "trainig.epochs=1")[0].startswith(
        "--set trainig.epochs: unknown key 'trainig'"
    )
    assert problems(tmp_path, text, "method=lorra")[0].startswith("--set method: unknown method 'lorra'")


def test_a_pipe_is_read_like_a_file(tmp_path):
    pipe = tmp_path / "train.yaml"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=(GOOD + "seed: 7\n",), daemon=True)
    writer.start()
    assert load_run_config(pipe).seed == 7
    writer.join()


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere.yaml' does not exist; give the path"):
        load_run_config(tmp_path / "nowhere.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load_run_config(tmp_path)


def test_settings_override_the_file_and_options_override_both(tmp_path):
    file = written(tmp_path, GOOD + "seed: 1\ntraining: {epochs: 2}\n")
    config = load_run_config(
        file, None, ["seed=7", "training.epochs=3", "method.rank=4", "data.train_rows=50"], data__directory="there"
    )
    assert (config.seed, config.training.epochs, config.data.train_rows, config.data.directory) == (
        7,
        3,
        50,
        "there",
    )
    assert config.method == MethodChoice(name="lora", settings={"rank": 4})
    assert load_run_config(file, None, ["method=ia3"]).method.name == "ia3"
    assert load_run_config(file, None, ["model_revision="]).model_revision is None


def test_the_evaluation_file_stands_under_evaluation(tmp_path):
    evaluation = written(tmp_path, "test_rows: 5\n", "eval.yaml")
    assert load_run_config(written(tmp_path, GOOD), evaluation).evaluation.test_rows == 5
    assert load_evaluation_config(evaluation, ["batch_size=2"]).batch_size == 2
    text = GOOD + "evaluation: {test_rows: 3}\n"
    assert load_run_config(written(tmp_path, text)).evaluation.test_rows == 3
    assert "is given here and by eval.yaml" in problems(tmp_path, text, evaluation="test_rows: 5\n")[0]


def test_a_configuration_given_in_python_is_checked_alike():
    config = run_config({"model": "m", "dataset": "rte", "method": {"name": "lora", "rank": 4}})
    assert run_config(config) == config
    with pytest.raises(ConfigError, match="unknown key 'epochs'"):
        run_config({"model": "m", "dataset": "rte", "method": "lora", "epochs": 3})
    with pytest.raises(ConfigError, match="unknown method 'lorra'"):
        run_config(config.model_copy(update={"method": MethodChoice(name="lorra")}))


def test_a_configuration_survives_json():
    config = run_config({"model": "m", "dataset": "rte", "method": {"name": "lora", "targets": ["key"]}})
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    assert run_config(json.loads(config.model_dump_json())) == config


@given(st.binary(max_size=80) | st.text(max_size=80).map(str.encode))
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_bytes_whatever_end_in_a_traceback(tmp_path, content):
    try:
        load_run_config(written(tmp_path, content))
    except PeftBenchError as error:
        assert str(error)


def test_the_two_files_in_the_wrong_order_are_noticed(tmp_path):
    (tmp_path / "t.yaml").write_text("model: x\ndataset: rte\nmethod: lora\n")
    (tmp_path / "e.yaml").write_text("max_new_tokens: 6\n")
    with pytest.raises(ConfigError, match=r"e\.yaml and t\.yaml are swapped; give the training file first"):
        load_run_config(tmp_path / "e.yaml", tmp_path / "t.yaml")


RATES = GOOD + "training:\n  learning_rate:\n    lora: 5e-3\n    ia3: 3e-2\n"


def test_a_file_may_give_one_learning_rate_for_each_method(tmp_path):
    file = written(tmp_path, RATES)
    assert load_run_config(file).training.learning_rate == 5e-3
    assert load_run_config(file, None, ["method=ia3"]).training.learning_rate == 3e-2
    assert load_run_config(file, None, ["method={name: ia3, targets: [key]}"]).training.learning_rate == 3e-2
    assert load_run_config(file, None, ["training.learning_rate=1e-4"]).training.learning_rate == 1e-4
    assert load_run_config(file, None, ["method=base"]).training == RunConfig.model_fields["training"].default


def test_a_method_without_a_learning_rate_and_a_rate_without_a_method(tmp_path):
    [problem] = problems(tmp_path, RATES, "method=ln_tuning")
    assert problem.startswith(
        "train.yaml:5:3: there is no learning rate for method 'ln_tuning', only for lora, ia3"
    )
    [problem] = problems(tmp_path, RATES.replace("ia3", "ia4"))
    assert problem.startswith("train.yaml:7:5: ")
    assert "'ia4'" in problem
    assert "ia3" in problem


def test_the_tuned_file_has_a_rate_for_each_method_of_the_demo():
    from peftbench.demo import demo_grid

    for method in [entry.name for entry in demo_grid().methods]:
        assert load_run_config(CONFIGS / "train_tuned.yaml", None, [f"method={method}"]).model == "peftbench-tiny"
