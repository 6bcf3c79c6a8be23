"""What is written beside a run, row by row, against the source rows, the tokenizer and Hugging Face."""

import dataclasses
import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import peftbench
from peftbench.datasets import get_dataset, load_dataset
from peftbench.engine import checkpoint
from peftbench.engine.adapter import AdapterFiles
from peftbench.engine.base import load_base
from peftbench.engine.loading import choose_device, read_adapter
from peftbench.engine.loss import token_mean, validation_losses
from peftbench.execute import predict
from peftbench.finished import write_record
from peftbench.methods import load_adapter
from peftbench.methods.specs import methods
from peftbench.parts import settle
from peftbench.predictions import read_predictions, write_predictions
from peftbench.testing import save_tiny_model
from tests.e2e.test_cli import call, rows
from tests.synthetic import edit

NEW_TOKENS = 6
RANK_2 = {"rank": 2}
SEEN = 7
"""Which of the test rows asks what a training row asks; it has another label, or it would be refused."""
TEST = rows(12, 100)
TEST[SEEN] = {**rows(40)[5], "label": 0, "idx": TEST[SEEN]["idx"]}
ROWS = {"train": rows(40), "test": TEST}


def configured(model, output, method="lora", settings=RANK_2, **changes):
    return {
        "model": str(model), "dataset": "rte", "method": {"name": method, **settings},
        "data": {"allow_partial": True}, "training": {"epochs": 1, "validations": 3}, "threads": 1,
        "output": str(output), **changes,
    }  # fmt: skip


def prompts_of(model, own=ROWS):
    """Token ids of the test prompts as the tokenizer's own chat template gives them."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    loaded = load_dataset(get_dataset("rte"), rows=own, allow_partial=True)
    messages = [[{"role": "user", "content": example.prompt.text()}] for example in loaded.test]
    rendered = [tokenizer.apply_chat_template(m, tokenize=False, add_generation_prompt=True) for m in messages]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in rendered]


def answers_of(module, prompts):
    """New tokens by `generate` of transformers, which reads the model's own generation settings."""
    answers = []
    for ids in prompts:
        asked = torch.tensor([ids])
        out = module.generate(
            input_ids=asked, attention_mask=torch.ones_like(asked), max_new_tokens=NEW_TOKENS, do_sample=False
        )
        answers.append(out[0, len(ids) :].tolist())
    return answers


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A model whose generation settings name a second end token, which about half of its answers hold."""
    folder = tmp_path_factory.mktemp("models") / "model"
    save_tiny_model(str(folder))
    free = answers_of(AutoModelForCausalLM.from_pretrained(folder), prompts_of(folder))
    held = Counter(token for answer in free for token in set(answer))
    extra = min(sorted(held), key=lambda token: abs(held[token] - len(free) / 2))
    settings = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [2, extra]}))
    return folder


@pytest.fixture(scope="module")
def finished(model, tmp_path_factory):
    output = tmp_path_factory.mktemp("runs")
    return peftbench.run(configured(model, output, evaluation={"max_new_tokens": NEW_TOKENS}), rows=ROWS)


def stored(result):
    folder = Path(result.folder) / f"eval-{result.evaluation.eval_id}"
    return read_predictions(folder / "predictions.parquet", result.evaluation.predictions_sha256)


def test_each_prediction_names_its_row_its_prompt_and_its_gold_answer(finished, model):
    predictions = stored(finished)
    assert [row.id for row in predictions] == [f"validation-{number}" for number in range(12)]
    expected = [hashlib.sha256(json.dumps(ids).encode()).hexdigest() for ids in prompts_of(model)]
    assert [row.prompt_sha256 for row in predictions] == expected
    labels = ("entailment", "not_entailment")
    assert [row.references for row in predictions] == [(labels[row["label"]],) for row in TEST]


def test_exactly_the_test_row_that_stands_in_train_is_marked(finished):
    assert [row.id for row in stored(finished) if row.in_train] == [f"validation-{SEEN}"]
    assert all(row.in_train is False for number, row in enumerate(stored(finished)) if number != SEEN)
    assert finished.evaluation.data.train_test_overlap_rows == 1


def test_what_is_stored_of_each_answer_is_what_transformers_and_peft_generate(finished, model):
    """The end token that only generation_config.json names ends an answer here as it does there."""
    stops = set(json.loads((model / "generation_config.json").read_text())["eos_token_id"])
    tokenizer = AutoTokenizer.from_pretrained(model)
    module = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(model), Path(finished.folder) / "adapter"
    )
    found = answers_of(module.eval(), prompts_of(model))
    answers = [answer[:-1] if answer[-1] in stops else answer for answer in found]
    predictions = stored(finished)
    assert [row.hit_limit for row in predictions] == [answer[-1] not in stops for answer in found]
    assert [row.new_tokens for row in predictions] == [len(answer) for answer in answers]
    assert [row.text for row in predictions] == [
        tokenizer.decode(answer, skip_special_tokens=True) for answer in answers
    ]
    assert 2 <= sum(row.hit_limit for row in predictions) <= 10, "some must stop and some must not"


def test_the_rows_of_the_base_model_are_not_said_to_be_unseen(finished, model, tmp_path):
    config = {**configured(model, tmp_path), "method": "base", "evaluation": {"max_new_tokens": 1}}
    assert {row.in_train for row in stored(peftbench.run(config, rows=ROWS))} == {None}


def test_score_unseen_leaves_out_exactly_the_row_that_stands_in_train(finished, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(finished.folder, folder)
    file = next(folder.glob("eval-*")) / "predictions.parquet"
    other = {"entailment": "not_entailment", "not_entailment": "entailment"}
    told = [
        dataclasses.replace(row, text=row.references[0] if number % 3 else other[row.references[0]])
        for number, row in enumerate(read_predictions(file, None))
    ]
    sha256 = write_predictions(file, told)
    assert settle(file, sha256)
    edit(file.with_name("result.json"), predictions_sha256=sha256)
    scores = {}
    for kept, options in ((told, []), ([*told[:SEEN], *told[SEEN + 1 :]], ["--unseen"])):
        code, out, err = call("score", folder, *options, "--json")
        assert code == 0, err
        [scored] = json.loads(out)
        assert scored["rows"] == len(kept)
        for protocol in ("corrected", "published"):
            expected = peftbench.score(
                "rte", [row.text for row in kept], [list(row.references) for row in kept], protocol
            )
            values = scored["scores"][protocol]["values"]
            assert values == {name: expected[name] for name in values}
        scores[len(kept)] = scored["scores"]["corrected"]["primary"]
    assert 0 < scores[11] < scores[12] < 100, "the row that is left out was answered rightly"


def test_a_finished_run_is_not_touched_when_it_is_asked_for_again(finished):
    def files():
        every = sorted(path for path in Path(finished.folder).rglob("*") if path.is_file())
        return {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in every}

    before = files()
    assert {"train.json", "result.json", "predictions.parquet"} <= {path.name for path in before}
    assert peftbench.run(finished.config, rows=ROWS) == finished
    assert files() == before


def test_the_first_record_stands_unless_it_is_the_one_to_be_made_again(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "run")
    files = (tmp_path / "run" / "train.json", next((tmp_path / "run").glob("eval-*")) / "result.json")
    for file, record in zip(files, (finished.train, finished.evaluation), strict=True):
        first = file.read_bytes()
        later = record.model_copy(update={"seconds": record.seconds + 1})
        assert write_record(file, later) == record
        assert write_record(file, later, over=later) == record, "another one than was judged stands there"
        assert file.read_bytes() == first
        assert write_record(file, later, over=record) == later
        assert json.loads(file.read_text())["seconds"] == record.seconds + 1


def test_the_soft_prompt_counts_against_the_limit_of_test_rows_and_of_own_prompts(model, tmp_path):
    long = [{**row, "sentence1": " ".join([row["sentence1"]] * 9)} for row in TEST[:3]]
    own = {"train": rows(40), "test": [*long, *TEST[3:5]]}
    config = configured(
        model, tmp_path, "prompt_tuning", {"virtual_tokens": 20}, training={"epochs": 1, "max_tokens": 270}
    )
    result = peftbench.run(config, rows=own)
    tokens, reserve = result.evaluation.tokens, get_dataset("rte").max_new_tokens
    assert tokens.limit_tokens == result.train.tokens["train"].limit_tokens == 270 - 20
    assert (tokens.rows, tokens.cut_rows) == (5, 3)
    assert 270 - 20 - reserve - 3 <= tokens.longest_tokens <= 270 - 20 - reserve
    prompts = [example.prompt for example in load_dataset(get_dataset("rte"), rows=own, allow_partial=True).test]
    assert predict(Path(result.folder), prompts) == [row.text for row in stored(result)]


def test_own_prompts_are_cut_as_test_rows_are_whatever_the_length_of_an_answer(model, tmp_path):
    own = {"train": rows(40), "test": [{**row, "sentence1": " ".join([row["sentence1"]] * 9)} for row in TEST[:3]]}
    changes = {"training": {"epochs": 1, "max_tokens": 250}, "evaluation": {"max_new_tokens": NEW_TOKENS}}
    result = peftbench.run(configured(model, tmp_path, **changes), rows=own)
    assert result.evaluation.tokens.cut_rows == 3
    prompts = [example.prompt for example in load_dataset(get_dataset("rte"), rows=own, allow_partial=True).test]
    assert predict(Path(result.folder), prompts) == [row.text for row in stored(result)]


def spoiled(method, settings, model, output):
    """A run that learns and then blows up: the rate rises until the decay overshoots at every step."""
    training = {
        "epochs": 2, "learning_rate": 2e-2, "weight_decay": 250.0, "warmup_ratio": 0.9, "validations": 18,
    }  # fmt: skip
    config = configured(model, output, method, settings, training=training, keep_checkpoints=True)
    result = peftbench.run(config, rows=ROWS, evaluate=False)
    curve = [json.loads(line) for line in (Path(result.folder) / "curve.jsonl").read_text().splitlines()]
    assert 1 <= result.train.best_step < result.train.steps == curve[-1]["step"]
    assert curve[-1]["validation_loss"] > result.train.best_validation_loss + 0.01
    return result


def exported(result, base):
    config, spec = result.config, methods.get(result.config.method.name)
    files = AdapterFiles(*read_adapter(Path(result.folder) / "adapter"))
    return load_adapter(spec, base.model.module, config.method.settings_for(spec), files, config.seed)


@pytest.mark.parametrize(
    ("method", "settings"),
    [("lora", RANK_2), ("ia3", {}), ("p_tuning", {"virtual_tokens": 5, "encoder_hidden": 12})],
)
def test_the_exported_adapter_has_the_lowest_validation_loss_and_not_the_last(method, settings, model, tmp_path):
    result = spoiled(method, settings, model, tmp_path)
    base = load_base(str(model), None, choose_device("cpu", "float32"))
    adapter = exported(result, base)
    held_out = load_dataset(get_dataset("rte"), rows=ROWS, allow_partial=True).validation
    samples = base.encode(
        held_out,
        max_tokens=2048,
        virtual_tokens=adapter.virtual_tokens,
        answer_tokens=32,
        learn=True,
        place="here",
    ).samples
    with adapter.attached():
        [found] = validation_losses(base.model, adapter, [samples], max_tokens=4096)
    assert token_mean(found, samples) == pytest.approx(result.train.best_validation_loss, rel=1e-5)


def test_the_exported_values_are_the_best_ones_of_the_checkpoint(model, tmp_path):
    result = spoiled("lora", RANK_2, model, tmp_path)
    kept = checkpoint.load_newest(Path(result.folder) / "checkpoint")
    assert kept.step == result.train.steps
    adapter = exported(result, load_base(str(model), None, choose_device("cpu", "float32")))
    values = torch.cat([tensor[0].detach().flatten() for tensor in adapter.tensors.values()])
    assert torch.equal(values, kept.tensors["best"])
    assert not torch.equal(values, kept.tensors["flat"])
