"""Models that cannot be packed: the same losses, gradients and answers as the stock model, one sample at a time."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench.engine.generate import generate
from peftbench.engine.loss import validation_losses
from peftbench.engine.padded import PaddedModel
from peftbench.engine.probe import in_the_engine
from peftbench.engine.step import Batches, gradients
from peftbench.engine.train import train
from peftbench.errors import ConfigError
from peftbench.records import EngineConfig
from peftbench.testing import tiny_model
from tests.oracle import SMALL, answer_logits, batch_loss, build, disturb, float64_throughout, some_samples
from tests.unit.test_train import a_run, losses, settings

ODD = {
    "mamba": {"state_size": 8, "expand": 2, "conv_kernel": 4},
    "falcon_h1": {
        "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "mamba_d_ssm": 32,
        "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8,
    },
    "gpt_oss": {
        "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "num_local_experts": 2, "num_experts_per_tok": 1,
    },
}  # fmt: skip


def odd_model(kind):
    config = AutoConfig.for_model(
        kind, vocab_size=261, hidden_size=32, num_hidden_layers=2, pad_token_id=0, bos_token_id=1, **ODD[kind]
    )
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    if kind != "gpt_oss":  # its experts know no float64
        model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(3)
    return model


def padded_llama():
    module = tiny_model("llama", dtype=torch.float64)
    module.set_attn_implementation("sdpa")
    return PaddedModel(module, "for the test")


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_model_takes_the_padded_path_and_gives_what_it_gives_alone(kind):
    samples = some_samples(5)
    with float64_throughout():
        stock = odd_model(kind)
        expected = answer_logits(stock, samples)
        model = in_the_engine(odd_model(kind))
        assert isinstance(model, PaddedModel)
        assert model.because
        found = validation_losses(model, None, [samples], max_tokens=60, share=False)[0]
        wanted = [
            batch_loss([logits], [sample]).item() * len(sample.answer)
            for logits, sample in zip(expected, samples, strict=True)
        ]
    assert found == pytest.approx(wanted, rel=1e-9 if kind == "falcon_h1" else 1e-5)


@pytest.mark.parametrize("kind", ODD)
def test_answers_of_an_odd_model_are_those_of_its_own_generate(kind):
    model = in_the_engine(odd_model(kind))
    prompts = [sample.prompt for sample in some_samples(6, seed=4)] + [some_samples(1, seed=4)[0].prompt]
    found = generate(model, None, prompts, max_new_tokens=5, stop_ids=frozenset({7}), batch_size=3)
    stock = odd_model(kind)
    for prompt, answer in zip(prompts, found, strict=True):
        ids = torch.tensor([prompt])
        alone = stock.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=5, do_sample=False, eos_token_id=7,
            pad_token_id=0,
        )[0, len(prompt) :].tolist()  # fmt: skip
        assert list(answer.ids) == (alone[: alone.index(7)] if 7 in alone else alone)


@pytest.mark.parametrize("method", SMALL)
def test_padded_and_packed_are_the_same_training(method):
    """Dropout included: the padded path draws for the tokens of the stream, wherever they stand."""
    from tests.oracle import engine_model

    with float64_throughout():
        packed_model, padded_model = engine_model("llama"), padded_llama()
        never = EngineConfig(shared_prefix="never")
        packed = train(
            packed_model, build(method, packed_model.module, [3], **settings(method)), [a_run()], engine=never
        )[0]
        for engine in (EngineConfig(), EngineConfig(micro_batch_size=1)):
            padded = train(
                padded_model, build(method, padded_model.module, [3], **settings(method)), [a_run()], engine=engine
            )[0]
            assert padded.shared_tokens == 0
            torch.testing.assert_close(padded.best, packed.best, rtol=1e-9, atol=1e-10)
            for ours, theirs in zip(losses(padded), losses(packed), strict=True):
                assert ours == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize("method", SMALL)
def test_padded_and_packed_give_the_same_answers(method):
    from tests.oracle import engine_model

    prompts = [sample.prompt for sample in some_samples(5, seed=8)]
    answers = []
    for model in (engine_model("llama"), padded_llama()):
        adapter = build(method, model.module)
        disturb(adapter)
        adapter = adapter.deployed(0)
        with adapter.attached():
            answers.append(generate(model, adapter, prompts, max_new_tokens=6, stop_ids=frozenset(), batch_size=4))
    assert answers[0] == answers[1]


def test_the_weights_of_an_odd_model_learn_under_lora():
    model = in_the_engine(odd_model("falcon_h1"))
    adapter = build("lora", model.module, targets=("k_proj", "v_proj"))
    disturb(adapter)
    samples = some_samples(3)
    with adapter.attached():
        gradients(model, adapter, Batches([samples], [(1, 0)], (), share=False))
    assert all(tensor.grad.abs().max() > 0 for tensor in adapter.tensors.values())


def test_a_prefix_has_no_place_in_a_model_without_keys_everywhere():
    model = in_the_engine(odd_model("falcon_h1"))
    adapter = build("prefix_tuning", model.module)
    with adapter.attached(), pytest.raises(ConfigError, match="choose another method than prefix_tuning"):
        gradients(model, adapter, Batches([some_samples(2)], [(1, 0)], (), share=False))


def untrained(config):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config).eval()


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("gptj", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64}),
        ("codegen", {"n_embd": 32, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_positions": 64}),
        ("diffllama", {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2}),
        ("roberta", {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "is_decoder": True}),
        ("stablelm", {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4}),
    ],
    ids=str,
)  # fmt: skip
def test_attention_that_never_asks_us_is_found_and_padded(kind, settings):
    """Their samples packed without a prefix may well look right; RoBERTa counts positions in its own way."""
    config = AutoConfig.for_model(kind, vocab_size=261, pad_token_id=0, bos_token_id=1, eos_token_id=2, **settings)
    stock, same = untrained(config), untrained(config)
    model = in_the_engine(same)
    assert isinstance(model, PaddedModel)
    samples = some_samples(4)
    found = validation_losses(model, None, [samples], max_tokens=60, share=False)[0]
    expected = answer_logits(stock, samples)
    wanted = [
        batch_loss([logits], [sample]).item() * len(sample.answer)
        for logits, sample in zip(expected, samples, strict=True)
    ]
    assert found == pytest.approx(wanted, rel=1e-4)


def test_a_padded_prefix_and_layers_computed_again_do_not_go_together():
    model = padded_llama()
    with pytest.raises(ConfigError, match=r"engine\.gradient_checkpointing=false for prefix_tuning"):
        train(
            model,
            build("prefix_tuning", model.module, [3]),
            [a_run()],
            engine=EngineConfig(gradient_checkpointing=True),
        )


@pytest.mark.parametrize(
    ("kind", "settings", "what"),
    [
        ("xlm", {"emb_dim": 32, "n_layers": 2, "n_heads": 4}, "looks at tokens that come later"),
        ("cpmant", {"hidden_size": 32, "num_attention_heads": 4, "dim_head": 8, "dim_ff": 48, "num_hidden_layers": 2}, "cannot be run here"),
    ],
    ids=["not causal", "no embeddings as input"],
)  # fmt: skip
def test_a_model_that_can_be_neither_packed_nor_padded_is_refused(kind, settings, what):
    with pytest.raises(ConfigError, match=what):
        in_the_engine(untrained(AutoConfig.for_model(kind, vocab_size=261, **settings)))


def test_methods_on_a_model_without_attention_heads():
    model = in_the_engine(odd_model("mamba"))
    adapter = build("lora", model.module, targets=("in_proj",))
    disturb(adapter)
    with adapter.attached():
        gradients(model, adapter, Batches([some_samples(3)], [(1, 0)], (), share=False))
    assert all(tensor.grad.abs().max() > 0 for tensor in adapter.tensors.values())
    with pytest.raises(ConfigError, match="a mamba model has no attention heads"):
        build("prefix_tuning", model.module)
