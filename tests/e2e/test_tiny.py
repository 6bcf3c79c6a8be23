"""The model that is shipped, the mini suite and the demo's way through several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from random import Random

import pytest
from bench.shuffled import shuffled

import peftbench
from peftbench import demo
from peftbench.datasets.mini import input_of, mini_names, mini_rows
from peftbench.datasets.mini.tasks import TASKS
from peftbench.engine.loading import Where, load_model, load_tokenizer, located
from peftbench.engine.tokens import chat_format
from peftbench.grid import load_grid
from peftbench.leaderboard import compare
from peftbench.records import TINY
from tests.conftest import REPOSITORY

FOLDER = Path(located(TINY))


def few(output, datasets=("sst2@mini", "boolq@mini"), methods=("base", "ln_tuning"), seeds=(1, 2), **training):
    """Runs of the demo, cut short."""
    return [
        config.model_copy(
            update={
                "training": config.training.model_copy(update={"epochs": 1, "validations": 1, **training}),
                "evaluation": config.evaluation.model_copy(update={"test_rows": 24}),
            }
        )
        for cell in load_grid(demo.GRID, [f"seeds={list(seeds)}"], run__output=str(output / "runs"))[1]
        for config in [cell.config]
        if config.dataset in datasets and config.method.name in methods
    ]


def test_the_model_is_small_whole_and_packed():
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 8e6
    model = load_model(TINY, None, Where("cpu", "float32"))
    assert model.packs
    assert 8e5 <= sum(parameter.numel() for parameter in model.module.parameters()) <= 1.2e6
    facts = json.loads((FOLDER / "pretraining.json").read_text())
    assert facts["parameters"] == sum(parameter.numel() for parameter in model.module.parameters())


@pytest.mark.parametrize(
    "text", ["naïve ☃ 雪", "( 18 + 3 ) = 21\n#### 21", "  two  spaces ", "<0x41> <|end|> <s>"]
)
def test_text_comes_back_from_its_tokens(text):
    tokenizer = load_tokenizer(TINY, None)
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text
    assert not set(ids) & set(tokenizer.all_special_ids)


def test_chat_begins_once_and_ends_with_the_end_of_turn():
    chat = chat_format(load_tokenizer(TINY, None))
    ids = chat.prompt_ids("hello")
    assert (chat.has_template, ids.count(chat.tokenizer.bos_token_id), ids[0]) == (True, 1, 1)
    assert chat.answer_ids("yes")[-1] == chat.tokenizer.eos_token_id == chat.end_of_turn


def test_the_script_gives_the_first_points_of_the_shipped_curve(tmp_path):
    script = str(REPOSITORY / "tools" / "pretrain_tiny.py")
    subprocess.run([sys.executable, script, str(tmp_path), "--steps", "50"], check=True, capture_output=True)
    found, shipped = ((folder / "curve.csv").read_text().splitlines()[:2] for folder in (tmp_path, FOLDER))
    (step, tokens, loss), (its_step, its_tokens, its_loss) = found[1].split(","), shipped[1].split(",")
    assert (step, tokens) == (its_step, its_tokens)
    assert float(loss) == pytest.approx(float(its_loss), abs=1e-3)
    vocabularies = [json.loads((folder / "tokenizer.json").read_text())["model"] for folder in (tmp_path, FOLDER)]
    assert vocabularies[0] == vocabularies[1]


@pytest.mark.parametrize("name", mini_names())
def test_no_row_of_the_suite_is_a_row_of_the_pretraining_text(name, monkeypatch):
    monkeypatch.syspath_prepend(str(REPOSITORY / "tools"))
    from tiny_corpus import _row

    task, random = name.removesuffix("@mini"), Random(0)
    kept = {input_of(row) for role in ("train", "test") for row in mini_rows(name, role)}
    drawn = {input_of(TASKS[task](random)) for _ in range(6000)}
    if task not in ("rte", "boolq", "stsb", "svamp", "gsm8k"):  # whose worlds are too large for that
        assert drawn & kept, "a stream that never meets the suite would prove nothing"
    assert not {input_of(_row(random, task)) for _ in range(6000)} & kept


def test_answers_of_other_rows_teach_nothing(tmp_path):
    [config] = few(tmp_path, ("sst2@mini",), ("lora",), (1,), epochs=3, learning_rate=1e-2)
    config = config.model_copy(update={"evaluation": config.evaluation.model_copy(update={"test_rows": None})})
    own = {"train": mini_rows("sst2@mini", "train"), "test": mini_rows("sst2@mini", "test")}
    right = peftbench.run(config, rows=own)
    wrong = peftbench.run(config, rows={**own, "train": shuffled(own["train"])})
    assert right.primary > 80
    assert wrong.primary < 65  # chance is 50 at best; its error on 128 rows is 4.4


def test_processes_give_what_one_process_gives_and_do_nothing_twice(tmp_path):
    alone = peftbench.run_many(few(tmp_path / "alone"))
    short = (
        *(
            "datasets=[sst2@mini, boolq@mini]",
            "methods=[base, ln_tuning]",
            "seeds=[1, 2]",
            "run.training.epochs=1",
        ),
        *("run.training.validations=1", "run.evaluation.test_rows=24"),
    )
    apart = demo.run_all(tmp_path / "apart", short, processes=2)
    assert [each.config.dataset for each in apart] == [each.config.dataset for each in alone]
    assert [each.primary for each in apart] == [each.primary for each in alone]
    assert [each.train and each.train.train_id for each in apart] == [
        each.train and each.train.train_id for each in alone
    ]
    written = {file: file.stat().st_mtime_ns for file in (tmp_path / "apart").rglob("*.json")}
    assert demo.run_all(tmp_path / "apart", short, processes=2) == apart
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "apart").rglob("*.json")} == written


def test_a_comparison_has_means_intervals_and_names_what_is_missing(tmp_path, capsys):
    results = peftbench.run_many(few(tmp_path))
    base, tuned = compare(results, replicates=200)
    assert (base.method, base.seeds, base.trainable_params) == ("base", 1, 0)
    assert (tuned.method, tuned.seeds) == ("ln_tuning", 2)
    of_tuned = [each for each in results if each.train is not None]
    assert tuned.mean.estimate == pytest.approx(sum(each.primary for each in of_tuned) / 4)
    assert tuned.mean.low <= tuned.mean.estimate <= tuned.mean.high
    assert tuned.missing == ()
    _, partial = compare([each for each in results if each is not of_tuned[-1]], replicates=10)
    assert (partial.mean, partial.lenient, partial.missing) == (None, None, ("boolq@mini, seed 2",))
    demo.print_comparison([base, partial], tmp_path)
    printed = capsys.readouterr().out
    assert "No mean where a run is missing or failed: ln_tuning: boolq@mini, seed 2." in printed


def test_a_demo_that_is_stopped_ends_soon_and_keeps_its_last_step(tmp_path):
    command = [sys.executable, "-m", "peftbench", "demo", "--output", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    validated = 0.0
    while process.poll() is None and not validated:  # the first validation is far from the last step of a job
        time.sleep(0.2)
        validated = max((file.stat().st_mtime for file in tmp_path.rglob("curve.jsonl")), default=0.0)
    time.sleep(1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to all processes
    try:
        _, told = process.communicate(timeout=60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, told
    assert "the same command goes on from there" in told.splitlines()[-1]
    steps = {int(folder.name.split("-")[1]) for folder in tmp_path.rglob("step-*")}
    assert any(step % 58 for step in steps), f"only validations were kept: {steps}"
