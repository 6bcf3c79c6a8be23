"""Dropout: how much it zeroes, what it leaves, and what decides the draw."""

import dataclasses

import pytest
import torch

from peftbench.engine.adapter import RunNoise, dropped
from peftbench.engine.loss import sample_losses
from peftbench.engine.pack import pack
from peftbench.engine.runs import TrainingRun
from peftbench.engine.train import train
from peftbench.records import TrainingConfig
from tests.oracle import build, disturb, engine_model, some_samples

TOKENS, WIDTH = 400, 50
WHOLE = ((0, TOKENS),)


def noise(seed=3, step=7, tokens=TOKENS, spans=WHOLE, samples=()):
    return RunNoise(seed=seed, step=step, tokens=tokens, spans=spans, samples=samples)


def drawn(*runs, probability=0.2, place="layer.0", x=None):
    x = torch.ones(len(runs), TOKENS, WIDTH, dtype=torch.float64) if x is None else x
    return dropped(x, probability, runs, place)


@pytest.mark.parametrize("probability", [0.05, 0.2, 0.7])
def test_the_share_that_is_zeroed_is_the_probability_and_the_mean_stays(probability):
    source = torch.Generator().manual_seed(1)
    x = 1 + torch.rand(1, TOKENS, WIDTH, generator=source, dtype=torch.float64)
    found = drawn(noise(), probability=probability, x=x)
    zeroed = found == 0
    assert float(zeroed.double().mean()) == pytest.approx(probability, abs=0.015)
    torch.testing.assert_close(found[~zeroed], x[~zeroed] / (1 - probability), rtol=1e-15, atol=0)
    assert float(found.mean()) == pytest.approx(float(x.mean()), rel=0.05)


def test_the_same_seed_step_and_place_draw_the_same_and_any_other_draws_differently():
    first = drawn(noise())
    torch.manual_seed(99)
    assert torch.equal(first, drawn(noise()))
    for other in (drawn(noise(step=8)), drawn(noise(seed=4)), drawn(noise(), place="layer.1")):
        kept_by_both = float(((first != 0) & (other != 0)).double().mean())
        assert kept_by_both == pytest.approx(0.8**2, abs=0.02)


def test_each_run_draws_its_own_whatever_row_it_is_in():
    alone = [drawn(noise(seed=seed))[0] for seed in (3, 4)]
    assert not torch.equal(*alone)
    together = drawn(noise(seed=4), noise(seed=3))
    assert torch.equal(together[0], alone[1])
    assert torch.equal(together[1], alone[0])


def test_spans_of_a_step_draw_what_the_whole_step_draws():
    whole = drawn(noise())[0]
    for spans in (((0, 150),), ((150, TOKENS),), ((0, 20), (150, 170)), ((0, 0), (30, 31))):
        expected = torch.cat([whole[start:end] for start, end in spans])
        part = dropped(torch.ones(1, len(expected), WIDTH).double(), 0.2, [noise(spans=spans)], "layer.0")
        assert torch.equal(part[0], expected), spans


def test_padding_behind_the_tokens_of_a_run_is_left_alone():
    short = dataclasses.replace(noise(), tokens=100, spans=((0, 60),))
    found = drawn(short, noise())
    assert (found[0, :60] == 0).any()
    assert (found[0, 60:] == 1).all()
    assert (found[1, 60:] == 0).any()


def one_row_over_and_over(dropout, seed=3):
    """The training loss of each step where nothing but dropout can change it: one row, and values that stay."""
    samples = some_samples(2, seed=21)
    config = TrainingConfig(epochs=6, batch_size=1, learning_rate=1e-30, validations=6)
    model = engine_model("llama")
    adapter = build("lora", model.module, dropout=dropout)
    disturb(adapter)
    outcome = train(model, adapter, [TrainingRun(seed, (samples[0],), (samples[1],), config)])[0]
    return [point.train_loss for point in outcome.curve]


def test_training_draws_by_the_seed_of_the_run():
    assert not set(one_row_over_and_over(dropout=0.3)) & set(one_row_over_and_over(dropout=0.3, seed=4))
    assert one_row_over_and_over(dropout=0.0) == one_row_over_and_over(dropout=0.0, seed=4)


def test_training_draws_anew_in_every_step():
    assert len(set(one_row_over_and_over(dropout=0.3))) == 6
    assert len(set(one_row_over_and_over(dropout=0.0))) == 1


def test_dropout_in_the_lstm_is_drawn_for_each_sample_of_a_step():
    """Two samples that are the same have other soft prompts; a part of the step has those of the whole."""
    model = engine_model("llama")
    adapter = build("p_tuning", model.module, seeds=(1, 2), encoder_dropout=0.5)
    assert not adapter.constant_over_batch()
    assert build("p_tuning_mlp", model.module, encoder_dropout=0.5).constant_over_batch(), "it has no dropout"
    sample = some_samples(1)[0]

    def losses(*samples_of_runs):
        rows = [[sample] * len(numbers) for numbers in samples_of_runs]
        adapter.hear(
            [noise(seed=seed, samples=numbers) for seed, numbers in zip((3, 4), samples_of_runs, strict=True)]
        )
        stream = pack(rows, share=False, embedded_tokens=adapter.embedded_tokens)
        return sample_losses(model.logits(stream, adapter), stream)

    with adapter.attached(), torch.no_grad():
        whole = losses((0, 1, 2), (0,))
        assert len(set(whole[0].tolist())) == 3
        torch.testing.assert_close(losses((1, 2), (0,))[0], whole[0, 1:], rtol=1e-12, atol=0)
        torch.testing.assert_close(losses((), (0,))[1, :1], whole[1, :1], rtol=1e-12, atol=0)
