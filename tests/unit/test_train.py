"""The training loop: stops, damaged checkpoints, failures, validation, groups of runs."""

import dataclasses
import json
import math
import shutil

import pytest
import torch

from peftbench.engine import checkpoint
from peftbench.engine.loss import mean_of_batch_means, token_mean, validation_losses
from peftbench.engine.runs import TrainingRun
from peftbench.engine.train import train
from peftbench.errors import ConfigError
from peftbench.observer import Observer
from peftbench.records import TrainingConfig
from tests.oracle import SIX, answer_logits, batch_loss, build, engine_model, some_samples, stock_model

CONFIG = TrainingConfig(epochs=2, learning_rate=1e-2, validations=5)
SAMPLES = some_samples(26, seed=21)


class Stop(Exception):
    """Stands for a kill: nothing of the loop runs after it."""


class StopAt(Observer):
    def __init__(self, step):
        self.at = step

    def step(self, run, step, steps, loss):
        if step == self.at:
            raise Stop


def a_run(folder=None, seed=3, **changes):
    config = CONFIG.model_copy(update=changes)
    return TrainingRun(
        seed, tuple(SAMPLES[:19]), tuple(SAMPLES[19:]), config, identity=f"run-{seed}", checkpoints=folder
    )


def settings(method):
    return {"lora": {"dropout": 0.2}, "p_tuning": {"encoder_dropout": 0.2}}.get(method, {})


def trained(method, run, observer=None, dtype=torch.float32):
    model = engine_model("llama", dtype)
    adapter = build(method, model.module, seeds=[run.seed], **settings(method))
    return train(model, adapter, [run], observer=observer)[0], adapter


def losses(outcome):
    return [
        (p.step, p.train_loss, p.validation_loss, p.validation_loss_of_batches, p.grad_norm) for p in outcome.curve
    ]


@pytest.mark.parametrize("method", SIX)
def test_a_killed_run_ends_with_the_same_bits(method, tmp_path):
    whole, whole_adapter = trained(method, a_run(tmp_path / "whole"))
    assert whole.step == 10
    assert [p.step for p in whole.curve] == [2, 4, 6, 8, 10]
    for step in range(1, 11):
        folder = tmp_path / f"killed-{step}"
        with pytest.raises(Stop):
            trained(method, a_run(folder), StopAt(step))
        with pytest.raises(Stop):  # and once more, at the last step
            trained(method, a_run(folder), StopAt(10))
        again, adapter = trained(method, a_run(folder))
        assert losses(again) == losses(whole), step
        assert torch.equal(again.best, whole.best), step
        assert again.best_step == whole.best_step
        for name, tensor in whole_adapter.tensors.items():
            assert torch.equal(tensor, adapter.tensors[name]), (step, name)
        shutil.rmtree(folder)
    assert again.resumed >= 1


def test_the_lstm_and_the_mlp_are_in_the_checkpoint(tmp_path):
    for method in ("p_tuning", "prefix_tuning"):
        _, adapter = trained(method, a_run(tmp_path / method))
        saved = checkpoint.load_newest(tmp_path / method)
        assert saved.tensors["flat"].numel() == adapter.trainable_params
        names = {name for name, _ in saved.state["layout"]}
        assert {name.split(".")[0] for name in names} >= {"embedding", "lstm" if method == "p_tuning" else "mlp"}


def damage(folder, how):
    tensors, state = folder / "state.safetensors", folder / "state.json"
    if how == "flip":
        content = bytearray(tensors.read_bytes())
        content[len(content) // 2] ^= 1
        tensors.write_bytes(content)
    elif how == "truncate":
        tensors.write_bytes(tensors.read_bytes()[:-5])
    elif how == "delete":
        tensors.unlink()
    elif how == "edit state":
        content = json.loads(state.read_text())
        state.write_text(json.dumps({**content, "best_step": 1}))
    elif how == "no manifest":
        (folder / "MANIFEST.json").unlink()


@pytest.mark.parametrize("how", ["flip", "truncate", "delete", "edit state", "no manifest"])
def test_a_damaged_checkpoint_is_reported_and_the_one_before_is_used(how, tmp_path):
    whole, _ = trained("lora", a_run())
    with pytest.raises(Stop):
        trained("lora", a_run(tmp_path), StopAt(7))
    before, newest = sorted(tmp_path.iterdir())
    assert (before.name[:14], newest.name[:14]) == ("step-000000004", "step-000000006")
    damage(newest, how)
    again, _ = trained("lora", a_run(tmp_path))
    assert f"{newest.name} is damaged" in again.notes[0]
    assert losses(again) == losses(whole)
    assert torch.equal(again.best, whole.best)


def test_with_all_checkpoints_damaged_the_run_begins_anew_and_says_so(tmp_path):
    whole, _ = trained("lora", a_run())
    with pytest.raises(Stop):
        trained("lora", a_run(tmp_path), StopAt(7))
    for each in tmp_path.iterdir():
        damage(each, "flip")
    again, _ = trained("lora", a_run(tmp_path))
    assert len(again.notes) == 2
    assert losses(again) == losses(whole)


def test_a_half_written_checkpoint_is_not_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(
        checkpoint, "sync", lambda path: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(OSError, match="No space"):
        trained("lora", a_run(tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_of_another_run_are_refused(tmp_path):
    trained("lora", a_run(tmp_path))
    with pytest.raises(ConfigError, match="belong to another run"):
        trained("lora", dataclasses.replace(a_run(tmp_path), identity="other"))


def test_another_number_of_threads_is_refused_unless_forced(tmp_path):
    threads = torch.get_num_threads()
    with pytest.raises(Stop):
        trained("lora", a_run(tmp_path), StopAt(7))
    try:
        torch.set_num_threads(threads + 1)
        with pytest.raises(ConfigError, match=f"set threads: {threads}"):
            trained("lora", a_run(tmp_path))
        model = engine_model("llama", torch.float32)
        adapter = build("lora", model.module, seeds=[3], **settings("lora"))
        outcome = train(model, adapter, [a_run(tmp_path)], force_resume=True)[0]
        assert outcome.status == "done"
    finally:
        torch.set_num_threads(threads)


def test_the_lowest_validation_loss_is_kept_and_the_earlier_one_on_a_tie(monkeypatch):
    from peftbench.engine import train as module

    means = iter([3.0, 2.0, 2.5, 2.0, 2.2])
    monkeypatch.setattr(module, "token_mean", lambda *_: next(means))
    outcome, adapter = trained("lora", a_run())
    assert (outcome.best_step, outcome.best_loss) == (4, 2.0)
    last = torch.cat([tensor[0].detach().flatten() for tensor in adapter.tensors.values()])
    assert not torch.equal(outcome.best, last)


@pytest.mark.parametrize(("steps", "count"), [(40, 20), (7, 20), (1, 20), (101, 20), (20, 20), (3, 1)])
def test_validation_comes_at_ceil_of_k_twentieths_and_after_the_last_step(steps, count):
    run = dataclasses.replace(a_run(epochs=1, validations=count, batch_size=1), train=tuple(SAMPLES[:1] * steps))
    assert run.steps == steps
    assert run.validation_steps == {math.ceil(k * steps / count) for k in range(1, count + 1)}
    assert steps in run.validation_steps
    assert min(run.validation_steps) >= 1


def test_both_validation_losses_equal_those_of_the_stock_model():
    validation = SAMPLES[:11]
    stock = stock_model("llama")
    with torch.no_grad():
        expected = float(batch_loss(answer_logits(stock, validation), validation))
        batches = [validation[i : i + 4] for i in range(0, 11, 4)]
        # A batch counts by its rows: Trainer repeats the loss of a batch for each of them before it takes the mean.
        of_batches = (
            sum(len(batch) * float(batch_loss(answer_logits(stock, batch), batch)) for batch in batches) / 11
        )
    for max_tokens in (1, 40, 10_000):
        found = validation_losses(engine_model("llama"), None, [validation], max_tokens=max_tokens)[0]
        assert token_mean(found, validation) == pytest.approx(expected, rel=1e-12)
        assert mean_of_batch_means(found, validation, 4) == pytest.approx(of_batches, rel=1e-12)
    assert abs(expected - of_batches) > 1e-6, "the two means must differ for this test to say anything"


def test_validation_of_runs_with_different_rows_gives_each_its_own():
    model = engine_model("llama")
    rows = [SAMPLES[:9], SAMPLES[3:5], SAMPLES[10:17]]
    together = validation_losses(model, None, rows, max_tokens=60)
    for run, samples in enumerate(rows):
        alone = validation_losses(model, None, [samples], max_tokens=60)[0]
        assert together[run] == pytest.approx(alone, rel=1e-12)


@pytest.mark.parametrize("bad_step", [1, 2, 5])  # the second is one after which the run is validated
def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(bad_step, monkeypatch):
    from peftbench.engine import step as module

    real, calls = module.sample_losses, []

    def broken(*args):
        calls.append(1)
        return real(*args) * (math.nan if len(calls) == bad_step else 1)

    monkeypatch.setattr(module, "sample_losses", broken)
    outcome, _ = trained("lora", a_run())
    assert outcome.failure is not None
    assert (outcome.failure.reason, outcome.failure.step) == ("nonfinite", bad_step)
    assert "training loss became nan" in outcome.failure.message, "a run that broke is not validated"
    assert outcome.step == bad_step
    assert all(math.isfinite(point.train_loss) for point in outcome.curve)


def test_a_validation_loss_that_is_not_finite_ends_the_run(monkeypatch):
    from peftbench.engine import train as module

    monkeypatch.setattr(module, "token_mean", lambda *_: math.inf)
    outcome, _ = trained("lora", a_run())
    assert outcome.failure is not None
    assert outcome.failure.step == 2
    assert outcome.best is None


@pytest.mark.parametrize("method", SIX)
def test_runs_trained_together_equal_the_same_runs_alone(method):
    """Other seeds, learning rates and lengths; one ends early and one fails; in float64 to 1e-10."""
    runs = [
        a_run(seed=3),
        a_run(seed=4, learning_rate=3e-3),
        a_run(seed=5, epochs=1),
        a_run(seed=6, learning_rate=1e300),
    ]
    model = engine_model("llama")
    adapter = build(method, model.module, seeds=[run.seed for run in runs], **settings(method))
    together = train(model, adapter, runs)
    assert [outcome.status for outcome in together] == ["done", "done", "done", "failed"]
    for run, fused in zip(runs[:3], together, strict=False):
        alone, _ = trained(method, run, dtype=torch.float64)
        assert alone.step == fused.step == run.steps
        torch.testing.assert_close(fused.best, alone.best, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(losses(fused), losses(alone), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-10)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning"])
def test_a_run_that_goes_on_in_a_group_equals_the_run_alone_and_so_do_the_others(method, tmp_path):
    """One goes on after four steps beside two that begin; checkpoints of all of them stay apart."""
    with pytest.raises(Stop):
        trained(method, a_run(tmp_path / "3", seed=3), StopAt(5), dtype=torch.float64)
    runs = [a_run(tmp_path / str(seed), seed=seed, epochs=epochs) for seed, epochs in ((4, 2), (3, 2), (5, 1))]
    model = engine_model("llama")
    together = train(model, build(method, model.module, [4, 3, 5], **settings(method)), runs)
    assert [outcome.resumed for outcome in together] == [0, 1, 0]
    for run, fused in zip(runs, together, strict=True):
        alone, _ = trained(method, dataclasses.replace(run, checkpoints=None), dtype=torch.float64)
        torch.testing.assert_close(fused.best, alone.best, rtol=1e-10, atol=1e-10)
        for ours, theirs in zip(losses(fused), losses(alone), strict=True):
            assert ours == pytest.approx(theirs, rel=1e-10)


def test_order_and_dropout_belong_to_the_seed_alone():
    first, _ = trained("lora", a_run(seed=3))
    torch.manual_seed(12345)
    again, _ = trained("lora", a_run(seed=3))
    other, _ = trained("lora", a_run(seed=4))
    assert losses(first) == losses(again)
    assert losses(first) != losses(other)
    orders = {tuple(map(id, a_run(seed=seed).batch(0))) for seed in range(5)}
    assert len(orders) == 5
    seen = [id(sample) for step in range(5) for sample in a_run().batch(step)]
    assert sorted(seen) == sorted(id(sample) for sample in SAMPLES[:19]), "an epoch shows every row once"


def test_each_epoch_has_an_order_of_its_own():
    run = a_run(epochs=4)
    epochs = [
        [id(sample) for step in range(5 * epoch, 5 * (epoch + 1)) for sample in run.batch(step)]
        for epoch in range(4)
    ]
    assert len({tuple(order) for order in epochs}) == 4
    assert all(sorted(order) == sorted(epochs[0]) for order in epochs)
    assert [id(sample) for sample in run.batch(7)] == epochs[1][8:12]


def test_peak_memory_of_each_interval_is_in_the_curve():
    outcome, _ = trained("lora", a_run())
    peaks = [point.peak_memory_bytes for point in outcome.curve]
    assert all(peak is None or peak > 10_000_000 for peak in peaks)
    assert outcome.peak_memory_bytes == (None if peaks[0] is None else max(peaks))
