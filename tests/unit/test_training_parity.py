"""Optimizer steps against Hugging Face Trainer with PEFT, from the same values and batches, in float64."""

import pytest
import torch
import torch.nn.functional as F
from transformers import Trainer, TrainingArguments, get_cosine_schedule_with_warmup

from peftbench.engine.loss import mean_of_batch_means, token_mean, validation_losses
from peftbench.engine.optimizer import learning_rate
from peftbench.engine.runs import TrainingRun
from peftbench.engine.train import train
from peftbench.records import TrainingConfig
from peftbench.testing import tiny_model
from tests.oracle import (
    SMALL,
    build,
    disturb,
    engine_model,
    float64_throughout,
    peft_model,
    some_samples,
    stock_model,
)

# A large decay and a small clip, so that a wrong decay group or a missing clip would show at once.
CONFIG = TrainingConfig(epochs=1, learning_rate=1e-2, weight_decay=0.1, max_grad_norm=0.3, validations=4)


class OrderedTrainer(Trainer):
    """Trainer on batches in a given order, with a loss in the model's own precision."""

    def _get_train_sampler(self, *_):
        return torch.utils.data.SequentialSampler(self.train_dataset)


def trainer_weights(wrapped, batches, folder):
    """The parameters after training by Trainer; every batch is padded on the right."""

    def collate(rows):
        longest = max(len(row["ids"]) for row in rows)
        ids = torch.tensor([row["ids"] + [0] * (longest - len(row["ids"])) for row in rows])
        mask = torch.tensor([[1] * len(row["ids"]) + [0] * (longest - len(row["ids"])) for row in rows])
        labels = torch.tensor([row["labels"] + [-100] * (longest - len(row["labels"])) for row in rows])
        return {"input_ids": ids, "attention_mask": mask, "labels": labels}

    def loss(outputs, labels, num_items_in_batch=None):
        logits = outputs.logits[:, -labels.shape[1] :]  # soft prompts put their own positions in front
        return F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100)

    rows = [
        {"ids": [*s.prompt, *s.answer], "labels": [-100] * len(s.prompt) + list(s.answer)}
        for b in batches
        for s in b
    ]
    arguments = TrainingArguments(
        output_dir=str(folder),
        num_train_epochs=1,
        per_device_train_batch_size=4,
        learning_rate=CONFIG.learning_rate,
        weight_decay=CONFIG.weight_decay,
        max_grad_norm=CONFIG.max_grad_norm,
        warmup_steps=CONFIG.warmup_ratio,  # below one it is a share, which Trainer itself turns into steps
        lr_scheduler_type="cosine",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        remove_unused_columns=False,
        disable_tqdm=True,
        logging_strategy="no",
    )
    trainer = OrderedTrainer(
        model=wrapped, args=arguments, train_dataset=rows, data_collator=collate, compute_loss_func=loss
    )
    wrapped.train()
    for module in wrapped.modules():
        if isinstance(module, torch.nn.Dropout):
            assert module.p == 0
    trainer.train()


@pytest.mark.parametrize(("method", "steps"), [*((method, 20) for method in SMALL), ("ia3", 23)])
def test_weights_after_training_equal_those_of_trainer(method, steps, tmp_path):
    """Of 23 steps a tenth is no whole number."""
    samples = some_samples(4 * steps + 3, seed=11)
    rows, held_out = tuple(samples[: 4 * steps]), tuple(samples[4 * steps :])
    run = TrainingRun(seed=3, train=rows, validation=held_out, config=CONFIG)
    with float64_throughout():
        model = engine_model("llama")
        adapter = build(method, model.module)
        disturb(adapter, size=0.02)
        wrapped, theirs = peft_model(method, stock_model("llama"), adapter)
        order = [run.batch(step) for step in range(steps)]
        trainer_weights(wrapped, order, tmp_path)
        start = {name: tensor.detach().clone() for name, tensor in adapter.tensors.items()}
        outcome = train(model, adapter, [run])[0]
    assert outcome.step == run.steps == steps
    assert outcome.failure is None
    for name, parameter in theirs.items():
        ours = adapter.tensors[name][0].detach().flatten()
        moved = float((ours - start[name][0].flatten()).abs().max())
        assert moved > 1e-4, f"{name} did not move"
        error = float((ours - parameter.detach().flatten()).abs().max())
        assert error < 1e-8, f"{name}: {error:.1e} after {run.steps} steps"


def test_learning_rates_equal_those_of_transformers():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.25)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=7, num_training_steps=61)
    for step in range(61):
        assert learning_rate(step, peak=0.25, total=61, warmup=7) == pytest.approx(
            schedule.get_last_lr()[0], abs=1e-15
        )
        optimizer.step()
        schedule.step()
    assert learning_rate(0, peak=1.0, total=10, warmup=0) == 1.0


@pytest.mark.parametrize("steps", [1, 9, 20, 23, 31])
def test_the_curve_shows_the_learning_rates_of_transformers(steps):
    samples = some_samples(steps + 1, seed=11)
    config = CONFIG.model_copy(update={"batch_size": 1, "validations": steps})
    run = TrainingRun(seed=3, train=tuple(samples[:steps]), validation=tuple(samples[steps:]), config=config)
    model = engine_model("llama")
    outcome = train(model, build("ia3", model.module), [run])[0]

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    arguments = TrainingArguments(warmup_steps=config.warmup_ratio, use_cpu=True)
    schedule = get_cosine_schedule_with_warmup(optimizer, arguments.get_warmup_steps(steps), steps)
    expected = []
    for _ in range(steps):
        expected.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert [point.learning_rate for point in outcome.curve] == pytest.approx(expected, abs=1e-15)


def test_the_mean_of_batch_means_is_the_evaluation_loss_of_trainer(tmp_path):
    """Eleven rows in batches of four: the last batch is smaller, which is where means differ."""
    from bench.peers import padded

    samples = some_samples(11, seed=21)
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=4, report_to=[], use_cpu=True, disable_tqdm=True,
        remove_unused_columns=False, prediction_loss_only=True,
    )  # fmt: skip
    stock = tiny_model("llama")
    trainer = Trainer(model=stock, args=arguments, eval_dataset=samples, data_collator=padded)
    theirs = trainer.evaluate()["eval_loss"]
    losses = validation_losses(engine_model("llama", torch.float32), None, [samples], max_tokens=50)[0]
    assert mean_of_batch_means(losses, samples, 4) == pytest.approx(theirs, rel=1e-6)
    assert abs(token_mean(losses, samples) - theirs) > 1e-5 * theirs
