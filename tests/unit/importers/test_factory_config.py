"""Configurations of others become ours: equal in meaning, or said, or refused."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup

from peftbench.config import load_run_config, shipped
from peftbench.engine.optimizer import learning_rate
from peftbench.errors import ConfigError, PeftBenchError
from peftbench.importers.errata import errata
from peftbench.importers.factory.config import convert_config
from peftbench.importers.factory.keys import LEFT_OUT, METHOD_KEYS, MUST_BE, OTHER_KEYS, TASK_KEYS, known_keys
from peftbench.importers.factory.writing import write_files
from peftbench.methods.specs import methods
from tests.unit.importers.factory_files import evaluation, train, written


def converted(folder, theirs=None, other=None, **options):
    first = written(folder, train() if theirs is None else theirs)
    second = None if other is None else written(folder, other, "theirs_eval.yaml")
    return convert_config(first, second, **options)


def refused(folder, theirs, *expected, other=None, **options):
    with pytest.raises(ConfigError) as caught:
        converted(folder, theirs, other, **options)
    for text in expected:
        assert text in str(caught.value), str(caught.value)
    return caught.value.problems


def told(made, key):
    return [(said.verdict, said.text) for said in made.said if said.key == key]


def test_every_setting_arrives_with_its_meaning(tmp_path):
    made = converted(tmp_path)
    config = made.config
    assert (config.model, config.dataset, config.seed) == ("meta-llama/Meta-Llama-3-8B-Instruct", "rte", 42)
    assert (config.dtype, config.protocol, config.tracking) == ("bfloat16", "corrected", ())
    assert config.method.name == "lora"
    assert config.method.settings == {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["query", "down"]}
    training = config.training
    assert training.batch_size == 2 * 8
    assert config.engine.micro_batch_size == 2
    assert (training.epochs, training.learning_rate, training.weight_decay) == (5, 1e-3, 0.01)
    assert (training.warmup_ratio, training.validations, training.max_tokens) == (0.2, 10, 1024)
    assert training.max_grad_norm == 1.0


def test_what_is_written_is_read_back_by_our_own_reader(tmp_path):
    made = converted(tmp_path)
    files = write_files(made.texts, tmp_path / "out")
    assert [file.name for file in files] == ["train.yaml", "eval.yaml"]
    assert load_run_config(*files) == made.config
    assert load_run_config(files[0], shipped("eval.yaml")).training == made.config.training


def test_what_is_not_given_is_its_default_there_and_not_ours(tmp_path):
    settings = {
        "model_name_or_path": "meta-llama/Meta-Llama-3-8B-Instruct",
        "dataset": "rte",
        "template": "llama3",
    }
    problems = refused(tmp_path, settings, "lr_scheduler_type is not given")
    assert [each.split(": ")[1].split(" is")[0] for each in problems[:-1]] == [
        "val_size",
        "load_best_model_at_end",
        "lr_scheduler_type",
    ]
    flags = ("val_size", "load_best_model_at_end", "lr_scheduler_type")
    assert problems[-1].endswith(" ".join(f"--accept {key}" for key in flags))
    made = converted(tmp_path, settings, accepted=flags)
    training = made.config.training
    assert (training.batch_size, training.epochs, training.warmup_ratio) == (8, 3, 0.0)
    assert (training.weight_decay, training.learning_rate, made.config.dtype) == (0.0, 5e-5, "auto")
    assert made.config.method.settings["rank"] == 8
    assert made.config.method.settings["alpha"] == 16
    assert made.config.method.settings["targets"] == ["query", "key", "value", "output", "gate", "up", "down"]
    assert {said.verdict for said in made.said if said.key == "val_size"} == {"accepted"}
    assert told(made, "num_train_epochs") == [("default", "training.epochs: 3")]


@pytest.mark.parametrize("gpus", [1, 4])
def test_the_batch_is_that_of_all_gpus_and_passes(tmp_path, gpus):
    made = converted(tmp_path, gpus=gpus)
    assert made.config.training.batch_size == 16 * gpus
    made = converted(tmp_path, train(deepspeed="ds_z3.json"), gpus=gpus)
    assert any("--gpus" in note for note in made.notes) == (gpus == 1)
    assert refused(tmp_path, train(), "--gpus is 0", gpus=0)


def test_warmup_steps_become_a_share_that_gives_just_as_many(tmp_path):
    made = converted(tmp_path, train(warmup_steps=37, warmup_ratio=...))
    steps = 5 * math.ceil(0.9 * 2490 / 16)
    assert math.ceil(steps * made.config.training.warmup_ratio) == 37
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = get_cosine_schedule_with_warmup(optimizer, 37, steps)
    for step in range(steps):
        assert learning_rate(step, peak=1.0, total=steps, warmup=37) == pytest.approx(theirs.get_last_lr()[0])
        optimizer.step()
        theirs.step()


@pytest.mark.parametrize(
    ("changes", "validations"),
    [
        ({"eval_steps": 0.05}, 20),
        ({"eval_strategy": "epoch"}, 5),
        ({"eval_strategy": ..., "evaluation_strategy": "epoch"}, 5),
        ({"eval_steps": 100}, round(5 * math.ceil(0.9 * 2490 / 16) / 100)),
        ({"eval_steps": 100, "max_samples": 320}, 1),
    ],
)
def test_validations_are_as_many(tmp_path, changes, validations):
    assert converted(tmp_path, train(**changes)).config.training.validations == validations


@pytest.mark.parametrize(
    ("changes", "name", "settings"),
    [
        ({"use_dora": True}, "dora", {"r": 4, "lora_alpha": 8, "targets": ["query", "down"]}),
        ({"use_rslora": True, "lora_dropout": 0.1}, "rslora", {"r": 4, "lora_alpha": 8, "lora_dropout": 0.1, "targets": ["query", "down"]}),
        ({"loraplus_lr_ratio": 8.0}, "lora_plus", {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "ratio": 8.0, "targets": ["query", "down"]}),
        ({"pissa_init": True}, "pissa", {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0, "targets": ["query", "down"]}),
        ({"lora_target": "query_key_value"}, "lora", {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": ["query_key_value"]}),
        ({"finetuning_type": "oft", "oft_block_size": 16}, "oft", {"oft_block_size": 16, "targets": ["query", "key", "value", "output", "gate", "up", "down"]}),
        ({"finetuning_type": "full"}, "full", {}),
        ({"finetuning_type": "lntuning"}, "ln_tuning", {}),
        ({"finetuning_type": "peft", "peft_method": "lntuning"}, "ln_tuning", {}),
        ({"finetuning_type": "prompt-tuning", "num_virtual_tokens": 20}, "prompt_tuning", {"virtual_tokens": 20}),
        ({"finetuning_type": "prefix-tuning", "num_virtual_tokens": 8, "prefix_projection": True, "encoder_hidden_size": 64}, "prefix_tuning", {"virtual_tokens": 8, "projection": True, "encoder_hidden": 64}),
        ({"finetuning_type": "prefix-tuning", "num_virtual_tokens": 8}, "prefix_tuning", {"virtual_tokens": 8, "projection": False}),
        ({"finetuning_type": "p-tuning", "num_virtual_tokens": 8, "encoder_hidden_size": 64}, "p_tuning_mlp", {"virtual_tokens": 8, "encoder_hidden": 64}),
        ({"finetuning_type": "p-tuning", "num_virtual_tokens": 8, "encoder_reparameterization_type": "LSTM", "encoder_hidden_size": 64}, "p_tuning", {"virtual_tokens": 8, "encoder_hidden": 64, "encoder_layers": 2, "encoder_dropout": 0.0}),
        ({"finetuning_type": "bitfit"}, "bitfit", {"targets": ["query", "value"]}),
        ({"finetuning_type": "svft", "target_modules": ["k_proj"], "off_diag": 2}, "svft", {"targets": ["key"], "off_diagonals": 2}),
        ({"finetuning_type": "ia3", "target_modules": ["k_proj", "v_proj", "down_proj"], "feedforward_modules": ["down_proj"]}, "ia3", {"targets": ["key", "value"], "feedforward_targets": ["down"]}),
    ],
)  # fmt: skip
def test_methods_arrive_with_their_settings(tmp_path, changes, name, settings):
    method = converted(tmp_path, train(**changes)).config.method
    assert (method.name, method.settings) == (name, settings)
    method.settings_for(methods.get(name))


def test_every_kind_of_theirs_is_a_method_of_ours_or_refused(tmp_path):
    accepted = ["finetuning_type"]
    for kind in METHOD_KEYS:
        settings = train(finetuning_type=kind, num_virtual_tokens=4, encoder_hidden_size=8)
        if kind == "mtp":
            refused(tmp_path, settings, "shares a prompt among several tasks")
        else:
            assert converted(tmp_path, settings, accepted=accepted).config.method.name in methods.names()
    refused(tmp_path, train(finetuning_type="lorra"), "unknown finetuning_type 'lorra'; did you mean 'lora'?")


IA3 = {
    "finetuning_type": "ia3",
    "target_modules": ["k_proj", "v_proj", "down_proj"],
    "feedforward_modules": "down_proj",
}


def test_the_text_of_feedforward_modules_is_what_was_meant_and_said(tmp_path):
    made = converted(tmp_path, train(**IA3))
    assert made.config.method.settings == {"targets": ["key", "value"], "feedforward_targets": ["down"]}
    assert any("matches nothing" in warning and "ia3-feed-forward" in warning for warning in made.warnings)
    made = converted(tmp_path, train(**IA3), as_published=True)
    assert (made.config.method.name, made.config.protocol) == ("ia3_published", "published")
    assert made.config.method.settings == {"targets": ["key", "value", "down"]}
    made = converted(tmp_path, train(**{**IA3, "feedforward_modules": ".*down_proj"}))
    assert made.config.method.settings["feedforward_targets"] == ["down"]
    assert not any("matches nothing" in warning for warning in made.warnings)
    refused(tmp_path, train(**{**IA3, "feedforward_modules": ".*(up|down).*"}), "which is a pattern")
    refused(tmp_path, train(**{**IA3, "feedforward_modules": ["up_proj"]}), "not in target_modules")


def test_the_defects_that_a_file_meets_are_told_with_their_errata(tmp_path):
    known = {each.id for each in errata()}
    prompt = train(finetuning_type="prompt-tuning", num_virtual_tokens=10)
    made = converted(tmp_path, prompt)
    assert any("prompt-tuning-reset" in warning for warning in made.warnings)
    assert made.config.training.max_tokens == 1024 + 10
    assert converted(tmp_path, prompt, as_published=True).config.method.name == "prompt_tuning_published"
    made = converted(
        tmp_path,
        train(
            finetuning_type="p-tuning", num_virtual_tokens=10, encoder_hidden_size=8, dataset="winogrande",
            push_to_hub=True, push_to_hub_organization="someone", report_to=["wandb"], trust_remote_code=True,
            encoder_reparameterization_type="MLP",
        ),
        evaluation(
            finetuning_type="p-tuning", eval_dataset="winogrande", encoder_reparameterization_type="LSTM",
            num_virtual_tokens=10,
        ),
    )  # fmt: skip
    text = "\n".join(made.warnings)
    for part in (
        "p-tuning-encoder", "is MLP in training and LSTM in evaluation", "Both options carry".lower(), "to someone",
        "sent to wandb", "run its code", "eval_dataset winogrande is the training split",
    ):  # fmt: skip
        assert part in text, part
    assert made.config.tracking == ()
    named = {word for warning in made.warnings for word in warning.replace(",", " ").replace(")", " ").split()}
    assert named & known >= {"p-tuning-encoder", "long-prompts"}


def test_a_template_counts_where_it_is_another_than_the_models(tmp_path):
    made = converted(tmp_path)
    assert told(made, "template")[0][0] == "same"
    for model, template, expected in (
        ("meta-llama/Llama-3.2-1B-Instruct", "llama3", "begins with a system message"),
        ("someone/phi-3-mini", "gemma", "the model's name does not say"),
        ("someone/llama-3", "lama3", "not known here; did you mean 'llama3'"),
        ("someone/llama-3", "vicuna", "the chat template of the model's tokenizer"),
        ("Qwen/Qwen3-1.7B", "qwen3", "thinking is off"),
    ):
        refused(tmp_path, train(model_name_or_path=model, template=template), expected)
    off = converted(tmp_path, train(model_name_or_path="Qwen/Qwen3-1.7B", template="qwen3", enable_thinking=False))
    assert {verdict for verdict, _ in told(off, "template")} == {"same"}


def test_switches_that_go_wrong_there_are_told(tmp_path):
    other = evaluation(compute_pscp=True, compute_classification_metrics=True, eval_dataset="rte")
    made = converted(tmp_path, train(finetuning_type="prompt-tuning", num_virtual_tokens=4, quantization_bit=4), other, accepted=["quantization_bit"])  # fmt: skip
    text = "\n".join(made.warnings)
    for part in (
        "jieba",
        "which are lost then",
        "unknown class",
        "quantized base is refused",
        "task_type is missing",
    ):
        assert part in text, part


def test_four_bits_are_taken_and_eight_mean_something_else(tmp_path):
    made = converted(tmp_path, train(quantization_bit=4, double_quantization=True))
    assert (made.config.quantization, told(made, "quantization_bit")[0][0]) == ("nf4", "taken")
    assert told(made, "double_quantization")[0][0] == "left out"
    for changes in ({"quantization_type": "fp4"}, {"double_quantization": False}, {"quantization_method": "hqq"}):
        refused(tmp_path, train(quantization_bit=4, **changes), "nf4 or int8 by bitsandbytes, or not at all")
    refused(tmp_path, train(quantization_bit=8), "--set quantization=int8 keeps its weights alone")
    made = converted(tmp_path, train(quantization_bit=8), settings=["quantization=int8"])
    assert (made.config.quantization, told(made, "quantization_bit")[0][0]) == ("int8", "left out")


def test_an_evaluation_of_another_method_is_told(tmp_path):
    made = converted(tmp_path, train(**IA3), evaluation(finetuning_type="prompt-tuning", num_virtual_tokens=100))
    assert any("theirs_eval.yaml says prompt-tuning and theirs.yaml ia3" in warning for warning in made.warnings)
    made = converted(tmp_path, train(), evaluation(max_samples=50, max_new_tokens=7, learning_rate=5e-5))
    assert (made.config.evaluation.test_rows, made.config.evaluation.max_new_tokens) == (50, 7)
    assert ("left out", "evaluation trains nothing") in told(made, "learning_rate")
    refused(tmp_path, train(), "tested on the dataset", other=evaluation(eval_dataset="sst2_eval"))
    refused(tmp_path, train(), "do_sample is not given; answers are greedy", other=evaluation(do_sample=...))


def test_two_files_of_one_name_are_told_apart(tmp_path):
    first, second = (written(tmp_path / each, {"train": train(), "eval": evaluation()}[each], "config.yaml") for each in ("train", "eval"))  # fmt: skip
    made = convert_config(first, second)
    for file, settings_of in (("train/config.yaml", train()), ("eval/config.yaml", evaluation())):
        assert {said.key for said in made.said if said.file == file and said.verdict != "default"} == set(
            settings_of
        )


def test_the_base_model_needs_no_training_file(tmp_path):
    settings = evaluation(adapter_name_or_path=..., finetuning_type="full")
    made = converted(tmp_path, settings)
    assert (made.config.method.name, made.config.dataset) == ("base", "rte")
    refused(tmp_path, evaluation(), "evaluates a trained adapter")
    refused(tmp_path, evaluation(), "are swapped", other=train())


EXPRESSED = {
    "lr_scheduler_type": "linear",
    "optim": "adafactor",
    "quantization_bit": 8,
    "packing": True,
    "train_on_prompt": True,
    "neftune_noise_alpha": 5,
    "val_size": 0.2,
    "load_best_model_at_end": False,
    "adapter_name_or_path": "saves/before",
    "template": "alpaca",
    "data_seed": 7,
    "additional_target": "embed_tokens",
    "label_smoothing_factor": 0.1,
    "rope_scaling": "linear",
    "eval_dataset": "rte_eval",
    "use_galore": True,
}


@pytest.mark.parametrize("key", EXPRESSED)
def test_what_changes_the_result_is_refused_until_it_is_accepted(tmp_path, key):
    settings = train(**{key: EXPRESSED[key]})
    problems = refused(tmp_path, settings, f"{key} is ")
    assert problems[-1] == f"what cannot be expressed changes results; to go on without: --accept {key}"
    made = converted(tmp_path, settings, accepted=[key])
    assert [verdict for verdict, _ in told(made, key)] == ["accepted"]


def test_no_key_is_lost(tmp_path):
    settings = train(
        report_to="none", hub_token="hf_abcdefghijklmnop", plot_loss=True, lora_dropot=0.1, quantization_method="bnb",
        reduction_factor=4, save_steps=0.1, pure_bf16=False, compute_pscp=True,
    )  # fmt: skip
    refused(tmp_path, settings, "lora_dropot is 0.1", "not known here", "did you mean 'lora_dropout'")
    made = converted(tmp_path, settings, accepted=["lora_dropot"])
    assert [said.key for said in made.said if said.verdict != "default"] == list(settings)
    assert "hf_abcdefghijklmnop" not in str(made.facts())
    assert told(made, "reduction_factor") == [("left out", "lora does not read it")]
    refused(tmp_path, train(), "--accept nothing is no key of these files", accepted=["nothing"])


def test_the_tables_of_keys_do_not_contradict_each_other():
    listed = [*(key for keys in LEFT_OUT.values() for key in keys), *MUST_BE, *TASK_KEYS, *OTHER_KEYS]
    assert len(listed) == len(set(listed))
    assert set(listed) <= known_keys()
    for key, (same, default, here) in MUST_BE.items():
        assert here, key
        if key != "lr_scheduler_type":
            assert default in same, key


def test_settings_of_ours_stand_in_for_what_is_missing(tmp_path):
    settings = train(num_train_epochs=None, dataset="alpaca_en_demo", model_name_or_path=...)
    refused(
        tmp_path,
        settings,
        "is empty, as an unset ${EPOCHS} leaves it",
        "'alpaca_en_demo'",
        "model_name_or_path is missing",
    )
    chosen = ["training.epochs=2", "dataset=rte", "model=peftbench-tiny", "method.rank=2"]
    refused(tmp_path, settings, "--accept template", settings=chosen)
    made = converted(tmp_path, settings, settings=chosen, accepted=["template"])
    assert (made.config.training.epochs, made.config.dataset, made.config.model) == (2, "rte", "peftbench-tiny")
    assert made.config.method.settings["rank"] == 2
    refused(tmp_path, train(num_train_epochs=2.5), "epochs are whole")
    refused(tmp_path, train(max_steps=100), "measured in epochs")
    refused(tmp_path, train(), "unknown key 'training.epoch'", settings=["training.epoch=2"])


TEMPLATE = "seed: ${SEED}\n" + "".join(
    f"{key}: {value}\n"
    for key, value in {
        **{key: str(value).lower() if isinstance(value, bool) else value for key, value in train().items()},
        "dataset": "${DATASET}", "num_train_epochs": "$EPOCHS", "output_dir": "saves/${DATASET}/${TIME}",
    }.items()
    if key != "seed"
)  # fmt: skip


def test_placeholders_are_filled_by_name_and_never_from_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SEED", "7")
    problems = refused(tmp_path, TEMPLATE, "seed is the placeholder ${SEED}; give its value by --var SEED=...")
    assert len([each for each in problems if "placeholder" in each]) == 3, "what is left out needs no value"
    made = converted(tmp_path, TEMPLATE, variables=["SEED=123", "DATASET=rte", "EPOCHS=10"])
    assert (made.config.seed, made.config.dataset, made.config.training.epochs) == (123, "rte", 10)
    assert told(made, "output_dir")[0][0] == "left out"
    made = converted(tmp_path, TEMPLATE, variables=["DATASET=rte", "EPOCHS=10"], settings=["seed=5"])
    assert made.config.seed == 5
    refused(
        tmp_path,
        TEMPLATE,
        "--var OTHER stands in no file",
        variables=["OTHER=1", "SEED=1", "DATASET=rte", "EPOCHS=1"],
    )
    refused(tmp_path, TEMPLATE, "expected NAME=VALUE", variables=["SEED"])
    refused(tmp_path, "seed: ${oc.env:SEED}\nstage: sft\n", "resolved elsewhere")
    refused(tmp_path, "seed: 1\nstage: {{ stage }}\n", "theirs.yaml:2: {{ stage }} belongs to a template engine")
    refused(tmp_path, "{% if x %}\nseed: 1\n", "template engine")


BROKEN = {
    "empty": ("", "the file is empty"),
    "list": ("- a\n- b\n", "not a list of `key: value` lines"),
    "number": ("3\n", "not a list of"),
    "no YAML": ("a: [1,\n", "this is not YAML"),
    "binary": ("a\0b", "binary"),
    "twice": ("seed: 1\nstage: sft\nseed: 2\n", "key 'seed' stands twice"),
    "anchors": ("a: &a [1]\nb: *a\n", "anchors and aliases are not allowed"),
    "tag": ("seed: !!python/object:os.system 1\n", "tag"),
    "JSON5": ("{\n  // a comment\n  seed: 42,\n}\n", "theirs.yaml"),
    "huge": ("#" * 1_100_000, "MB"),
    "ours": ("model: x\ndataset: rte\nmethod: lora\n", "a file of peftbench already"),
    "another tool's": ("base_model: x\nadapter: lora\n", "no key of LLaMA-Factory"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence(tmp_path, name):
    text, expected = BROKEN[name]
    with pytest.raises(Exception, match=".") as caught:
        converted(tmp_path, text)
    assert expected in str(caught.value)
    assert caught.type.__module__ == "peftbench.errors"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rate: fast", "learning_rate is 'fast', expected a number"),
        ("learning_rate: [1]", "learning_rate is [1], expected a number"),
        ("learning_rate: .inf", "expected a number"),
        ("learning_rate: true", "learning_rate is True, expected a number"),
        ("seed: 1.5", "seed is 1.5, expected a whole number"),
        ("seed: -1", "seed is -1"),
        ("bf16: maybe", "bf16 is 'maybe', expected true or false"),
        ("dataset: {a: 1}", "expected names with commas between them"),
        ("dataset: rte,sst2", "dataset names 2 datasets, rte, sst2; a run has one"),
        ("dataset: [rte, sst2]", "a run has one"),
        ("dataset: rte_eval", "the test split of rte"),
        ("stage: dpo", "only supervised fine-tuning"),
        ("task_type: SEQ_CLS", "models are causal ones"),
        ("lora_rank: 0.5", "expected a whole number"),
        ("per_device_train_batch_size: -4", "batch_size"),
        ("cutoff_len: 0", "max_tokens"),
    ],
)
def test_a_wrong_value_is_one_sentence(tmp_path, line, expected):
    key = line.split(":")[0]
    text = "".join(f"{k}: {v!r}\n".replace("True", "true") for k, v in train().items() if k != key) + line + "\n"
    refused(tmp_path, text, expected)


@pytest.mark.parametrize("number", ["5e-5", "5.0e-5", "'5e-5'", '"0.00005"', "5E-05"])
def test_a_learning_rate_is_a_number_however_it_is_written(tmp_path, number):
    text = "".join(f"{k}: {v!r}\n".replace("True", "true") for k, v in train(learning_rate=...).items())
    made = converted(tmp_path, f"{text}learning_rate: {number}\n")
    assert made.config.training.learning_rate == 5e-5
    assert any("YAML 1.1" in note for note in made.notes) == (number[0] in "'\"")
    assert converted(tmp_path, text.replace("bf16: true", "bf16: yes")).config.dtype == "bfloat16"


def test_paths_that_make_sense_elsewhere_alone_are_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    accepted = ["template"]
    for model, expected in (("/data/models/llama", "another machine"), ("../models/llama/8b", "another folder")):
        made = converted(tmp_path, train(model_name_or_path=model), accepted=accepted)
        assert any(expected in note for note in made.notes), made.notes
    (tmp_path / "own" / "model").mkdir(parents=True)
    made = converted(tmp_path, train(model_name_or_path="own/model"), accepted=accepted)
    assert made.notes == ()
    revision = "0123456789abcdef0123456789abcdef01234567"
    assert converted(tmp_path, train(model_revision=revision)).config.model_revision == revision
    made = converted(tmp_path, train(model_revision="main"))
    assert made.config.model_revision is None
    assert any("needs its commit" in note for note in made.notes)


def test_adapters_take_their_width_from_the_model(tmp_path):
    settings = train(finetuning_type="bn-adapter", reduction_factor=16, non_linearity="swish")
    made = converted(tmp_path, settings, accepted=["finetuning_type"])
    assert made.config.method.settings == {"hidden": 4096 // 16, "activation": "silu"}
    unknown = {**settings, "model_name_or_path": "someone/else-llama-3"}
    refused(tmp_path, unknown, "--set method.hidden=NUMBER", accepted=["finetuning_type"])
    folder = tmp_path / "model-llama-3"
    written(folder, '{"hidden_size": 64}', "config.json")
    made = converted(tmp_path, {**settings, "model_name_or_path": str(folder)}, accepted=["finetuning_type"])
    assert made.config.method.settings["hidden"] == 4


def test_nothing_is_overwritten_by_surprise(tmp_path):
    made = converted(tmp_path)
    out = tmp_path / "out"
    write_files(made.texts, out)
    with pytest.raises(ConfigError, match="is there already"):
        write_files(made.texts, out)
    write_files(made.texts, out, force=True)
    own = written(tmp_path / "own", train(), "train.yaml")
    with pytest.raises(ConfigError, match="one of the files that are converted"):
        write_files(made.texts, tmp_path / "own", force=True, inputs=[own])
    assert not Path(tmp_path / "own" / "eval.yaml").exists()


VALUE = st.one_of(
    st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(allow_nan=False), st.text(max_size=8),
    st.lists(st.text(max_size=5), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)  # fmt: skip


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    changes=st.dictionaries(st.sampled_from(sorted(known_keys())), VALUE, max_size=4),
    kind=st.sampled_from(sorted(METHOD_KEYS)),
)
def test_any_value_of_any_key_is_taken_or_refused_in_words(tmp_path, changes, kind):
    theirs = train(finetuning_type=kind, num_virtual_tokens=4, encoder_hidden_size=8) | changes
    other = evaluation(finetuning_type=kind) | changes
    try:
        made = converted(tmp_path, theirs, other, accepted={**theirs, **other})
    except PeftBenchError as error:
        assert str(error)
    else:
        for file, given_there in (("theirs.yaml", theirs), ("theirs_eval.yaml", other)):
            of_file = [said for said in made.said if said.file == file and said.verdict != "default"]
            assert {said.key for said in of_file} == set(given_there)
            # What was accepted can be taken as the nearest there is; nothing else is told twice.
            once = [said.key for said in of_file if said.verdict != "accepted"]
            assert len(once) == len(set(once))
