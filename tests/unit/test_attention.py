"""What the packed engine refuses, in words, and what of a family's attention it honours."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from peftbench.engine.attention import Layout, stream_attention
from peftbench.engine.pack import Sample, pack
from peftbench.engine.probe import CannotBePacked, packable
from peftbench.errors import ConfigError
from peftbench.testing import FAMILIES, tiny_model
from tests.oracle import answer_logits, engine_model, float64_throughout, some_samples, stock_model


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_packed(family):
    packable(tiny_model(family))
    packable(tiny_model(family, dtype=torch.bfloat16))


SMALL = {"vocab_size": 99, "hidden_size": 32, "num_hidden_layers": 2, "pad_token_id": 0, "bos_token_id": 1}


@pytest.mark.parametrize(
    ("kind", "reason", "settings"),
    [
        ("mamba", "it has .*Conv1d", {"state_size": 8, "expand": 2, "conv_kernel": 4}),
        ("falcon_h1", "it has Conv1d, hybrid", {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "mamba_d_ssm": 32,
                       "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}),
        ("gpt_oss", "does not know .*s_aux", {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
                     "num_local_experts": 2, "num_experts_per_tok": 1}),
    ],
    ids=["state space", "attention and state space", "attention sinks"],
)  # fmt: skip
def test_a_model_that_mixes_tokens_in_another_way_is_refused(kind, reason, settings):
    config = AutoConfig.for_model(kind, **{**SMALL, **settings})
    torch.manual_seed(0)
    with pytest.raises(CannotBePacked, match=reason):
        packable(AutoModelForCausalLM.from_config(config).float())


def test_what_has_no_name_is_found_by_the_probe():
    """A model of a known family whose blocks secretly look at the token before, across the border of samples."""
    model = tiny_model()
    layer = model.model.layers[1].mlp
    plain = layer.forward
    layer.forward = lambda x: plain(x) + 0.1 * x.roll(1, dims=1)
    with pytest.raises(CannotBePacked, match="its own logits differ from those of a packed stream"):
        packable(model)


def test_a_sliding_layer_that_hides_its_window_is_refused():
    model = tiny_model("qwen3", layer_types=["sliding_attention"] * 3, sliding_window=8, use_sliding_window=True)
    for layer in model.model.layers:
        layer.self_attn.sliding_window = None
    with pytest.raises(CannotBePacked, match="a sliding window that it does not pass on"):
        packable(model)


def test_a_window_for_all_layers_that_none_passes_on_is_refused():
    sizes = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 2}
    config = AutoConfig.for_model("phimoe", sliding_window=6, **SMALL, **sizes)
    with pytest.raises(CannotBePacked, match="a sliding window that it does not pass on"):
        packable(AutoModelForCausalLM.from_config(config).eval())


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe"])
def test_a_mixture_of_experts_can_be_packed(kind):
    experts = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    heads = {"intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    config = AutoConfig.for_model(kind, **{**SMALL, "vocab_size": 261}, **heads, **experts)
    torch.manual_seed(0)
    stock = AutoModelForCausalLM.from_config(config).eval()
    samples = some_samples(4)
    with torch.no_grad():
        expected = torch.cat(answer_logits(stock, samples))
        found = packable(stock).logits(pack([samples], shared=samples[0].prompt[:5]), None)[0]
    assert (found - expected).abs().max() < 1e-5 * expected.abs().max()


def attend(**options):
    module = torch.nn.Module()
    module.is_causal = options.pop("module_is_causal", True)
    module.layer_idx = 0
    x = torch.randn(1, 2, 3, 4)
    stream = pack([some_samples(1)])
    return stream_attention(module, x, x, x, options.pop("mask", None), layout=Layout(stream), **options)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"s_aux": torch.zeros(2)}, "s_aux"),
        ({"position_bias": torch.zeros(2)}, "position_bias"),
        ({"something_new": 1}, "something_new"),
        ({"dropout": 0.1}, "dropout"),
        ({"mask": torch.zeros(1)}, "not causal"),
        ({"is_causal": False}, "not causal"),
        ({"module_is_causal": False}, "not causal"),
        ({"head_mask": torch.zeros(2)}, "head_mask"),
    ],
)
def test_an_unknown_kind_of_attention_is_refused_and_named(options, what):
    with pytest.raises(ConfigError, match=f"does not know .*{what}"):
        attend(**options)


@pytest.mark.parametrize("family", ["mistral", "gemma2", "gemma3_text", "phi3"])
@pytest.mark.parametrize("window", [1, 3, 8])
def test_a_sliding_window_hides_what_lies_before_it(family, window):
    """Short windows, so that they end inside the shared prefix, at its border and inside a sample."""
    samples = some_samples(4, seed=8)
    with float64_throughout(), torch.no_grad():
        expected = torch.cat(answer_logits(stock_model(family, sliding_window=window), samples))
        model = engine_model(family, sliding_window=window)
        shared = samples[0].prompt[:5]
        for head in ((), shared):
            found = model.logits(pack([samples], shared=head), None)[0]
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        wide = engine_model(family, sliding_window=100).logits(pack([samples]), None)[0]
    assert float((wide - expected).abs().max()) > 1e-3, "the window must matter for this test to say anything"


def test_soft_capping_is_honoured():
    samples = some_samples(3, seed=9)
    with float64_throughout(), torch.no_grad():
        for cap in (0.05, 50.0):
            expected = torch.cat(answer_logits(stock_model("gemma2", attn_logit_softcapping=cap), samples))
            found = engine_model("gemma2", attn_logit_softcapping=cap).logits(pack([samples]), None)[0]
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_long_samples_of_unlike_lengths_are_attended_one_by_one_with_the_same_logits(family):
    from peftbench.engine import attention

    samples = [
        *some_samples(2, seed=2),
        Sample(some_samples(1, seed=2)[0].prompt[:5] + tuple(range(5, 205)), (9, 8)),
    ]
    model = engine_model(family)
    stream = pack([samples, samples[1:]], shared=samples[0].prompt[:5])
    assert attention._uneven(stream, torch.device("cpu"))
    assert not attention._uneven(stream, torch.device("cuda"))
    with float64_throughout():
        found = model.logits(stream, None)[0]
        expected = torch.cat(answer_logits(stock_model(family), samples))
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()
