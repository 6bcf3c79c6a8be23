"""Predicted parameters and FLOPs: Llama-3-8B by hand, and what is said where nothing can be predicted."""

import time

import pytest

from peftbench.efficiency.models import shipped_models
from peftbench.efficiency.plan import predict
from peftbench.engine.loading import weightless
from peftbench.errors import ConfigError, UnknownName
from peftbench.schema import MethodChoice

TERA, GIGA = 1e12, 1e9

# Llama-3-8B by hand, 512 tokens, multiply-add = 2, attention in full, logits everywhere: the multiplied weights
# are 7,504,658,432 (all but the token embeddings and norms), one layer's attention 4 x 4096 x queries x keys.
BASE = 7.822 * TERA
FORWARD = {  # method: (trainable, stored, used at inference, attached TFLOPs, difference to the base in GFLOPs)
    "base": (0, 0, 0, 7.822, 0),
    "ia3": (524_288, 524_288, 524_288, 7.822, 0),
    "lora": (14_680_064, 14_680_064, 14_680_064, 7.837, 15.032),
    "ln_tuning": (266_240, 266_240, 266_240, 7.822, 0),
    "prompt_tuning": (409_600, 409_600, 409_600, 9.382, 1559),
    "p_tuning": (53_130_752, 409_600, 409_600, 9.382, 1559),
    "prefix_tuning": (34_177_536, 2_097_152, 2_097_152, 7.831, 8.590),
}
MERGEABLE = {"base", "ia3", "lora", "ln_tuning"}


def a_prediction(method, model="llama-3-8b", **changes):
    given = {"batch": 4, "tokens": 512, "dtype": "bfloat16", "engine": "packed", "gradient_checkpointing": False}
    return predict(model, None, MethodChoice.model_validate(method), **{**given, **changes})


@pytest.fixture(scope="module")
def predictions():
    found = {}
    for method in FORWARD:
        begun = time.process_time()
        found[method] = a_prediction(method)
        assert time.process_time() - begun < 10, method
    return found


@pytest.mark.parametrize("method", FORWARD)
def test_llama_3_8b_costs_what_it_costs_by_hand(predictions, method):
    trainable, stored, inference, teraflops, extra = FORWARD[method]
    found = predictions[method]
    assert (found.trainable_params, found.adapter_params, found.inference_params) == (trainable, stored, inference)
    assert found.base_params == 8_030_261_248
    assert found.base_forward_flops == pytest.approx(BASE, rel=1e-3)
    assert found.forward_flops == pytest.approx(teraflops * TERA, rel=1e-3)
    assert found.extra_forward_flops == pytest.approx(extra * GIGA, rel=1e-2)
    assert found.adapter_bytes == 4 * stored
    assert found.estimated


@pytest.mark.parametrize("method", FORWARD)
def test_what_is_merged_costs_nothing_more(predictions, method):
    found = predictions[method]
    if method in MERGEABLE:
        assert (found.merged_forward_flops, found.merged_inference_params) == (found.base_forward_flops, 0)
    else:
        assert (found.merged_forward_flops, found.merged_inference_params) == (None, None)


def test_work_that_is_no_matrix_product_has_a_field_of_its_own(predictions):
    ia3, base = predictions["ia3"], predictions["base"]
    assert ia3.forward_flops == base.forward_flops
    scaled = 32 * 512 * (1024 + 1024 + 14336)
    assert ia3.forward_elementwise_flops - base.forward_elementwise_flops == pytest.approx(scaled, rel=0.01)


def test_a_base_model_trains_nothing(predictions):
    base = predictions["base"]
    assert base.step is None
    assert base.peak_train_memory_bytes is None
    assert base.memory_timeline == ()


@pytest.mark.parametrize("method", [name for name in FORWARD if name != "base"])
def test_memory_is_told_apart_by_kind(predictions, method):
    found = predictions[method]
    kinds = found.peak_train_memory
    assert sum(kinds.values()) == found.peak_train_memory_bytes
    assert kinds["weights"] == pytest.approx(2 * 8_030_261_248, rel=1e-4)
    assert kinds["optimizer"] == pytest.approx(8 * found.trainable_params, rel=0.02)  # two moments in float32
    assert kinds["adapters"] == pytest.approx(8 * found.trainable_params, rel=0.01)  # the newest and the best
    assert max(point.total_bytes for point in found.memory_timeline) == found.peak_train_memory_bytes
    gradients = max(point.bytes["gradients"] for point in found.memory_timeline)
    if method != "prompt_tuning":  # whose only gradient comes last and never beside the most
        assert gradients == pytest.approx(4 * found.trainable_params, rel=0.01)


@pytest.mark.parametrize("engine", ["packed", "padded"])
def test_layers_computed_again_take_less_memory_and_more_work(engine):
    plain, again = (a_prediction("lora", engine=engine, gradient_checkpointing=on) for on in (False, True))
    assert again.peak_train_memory_bytes < 0.7 * plain.peak_train_memory_bytes
    assert again.step.matmul_flops == pytest.approx(1.5 * plain.step.matmul_flops, rel=0.03)
    assert again.forward_flops == plain.forward_flops


def test_logits_are_made_where_the_engine_makes_them():
    packed, padded = (a_prediction("ia3", engine=engine) for engine in ("packed", "padded"))
    logits = {p.engine: max(point.bytes["logits"] for point in p.memory_timeline) for p in (packed, padded)}
    assert logits["padded"] >= 4 * 512 * 128_256 * (2 + 4 + 4)  # as they come, and twice in float32 for the loss
    assert logits["packed"] <= 4 * 8 * 128_256 * (2 + 4 + 4 + 4)
    assert padded.step.matmul_flops > 1.05 * packed.step.matmul_flops


def test_what_samples_share_is_computed_once():
    alone, shared = (a_prediction("ia3", shared_tokens=count) for count in (0, 256))
    assert shared.step.matmul_flops == pytest.approx(5 / 8 * alone.step.matmul_flops, rel=0.05)
    lora = [a_prediction("lora", shared_tokens=count).step.matmul_flops for count in (0, 256)]
    assert lora[0] == lora[1]  # its dropout forbids it
    without = {"name": "lora", "dropout": 0.0}
    assert a_prediction(without, shared_tokens=256).step.matmul_flops < 0.7 * lora[0]


def test_scores_of_attention_are_kept_by_plain_kernels_alone():
    fused, plain = (a_prediction("ia3", kernels=kernels) for kernels in ("fused", "unfused"))
    scores = 32 * 4 * 32 * 511 * 511 * 2
    assert plain.peak_train_memory_bytes - fused.peak_train_memory_bytes > scores
    assert plain.forward_flops == fused.forward_flops


@pytest.mark.parametrize("name", sorted(shipped_models()))
def test_shipped_dimensions_give_the_parameters_that_the_makers_state(name):
    model = shipped_models()[name]
    found = a_prediction("base", name, tokens=16)
    assert found.base_params == model.params
    assert found.estimated
    for hub in model.hub:
        assert a_prediction("base", hub, tokens=16).base_params == model.params


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 0}, "batch is too small"),
        ({"tokens": 1}, "tokens is too small; give at least 2"),
        ({"answer_tokens": 0}, "answer_tokens is too small"),
        ({"shared_tokens": 504}, "shared_tokens is 504, expected fewer than the 504 tokens of a prompt"),
        ({"dtype": "int4"}, "dtype is 'int4', expected one of float32, bfloat16"),
    ],
)
def test_sizes_that_cannot_be_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        a_prediction("lora", **changes)


def test_an_unknown_model_is_told_with_the_nearest_name():
    with pytest.raises(UnknownName, match=r"unknown model 'llama-3-8'; did you mean 'llama-3-8b'"):
        a_prediction("lora", "llama-3-8")


def test_an_unknown_hub_model_needs_its_commit_and_is_told_what_is_here():
    with pytest.raises(ConfigError, match=r"without a revision.*need no files are those of llama-3-8b, "):
        a_prediction("lora", "owner/model")


def test_an_architecture_that_is_not_known_is_one_sentence(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "nonsense", "hidden_size": 8}')
    with pytest.raises(ConfigError, match="nonsense") as caught:
        a_prediction("lora", str(tmp_path))
    assert "\n" not in str(caught.value)


def test_a_stock_model_computes_no_layers_again_behind_a_prefix():
    with pytest.raises(ConfigError, match="prefix of keys and values when layers are computed again"):
        a_prediction("prefix_tuning", engine="padded", gradient_checkpointing=True)
    assert a_prediction("prefix_tuning", gradient_checkpointing=True).peak_train_memory_bytes


def test_a_method_that_needs_values_says_so_and_what_is_known_all_the_same(monkeypatch):
    from peftbench.methods.native import IA3

    def needs_values(self, model, settings, seeds):
        raise ValueError("the weights are looked at\nin two lines")

    monkeypatch.setattr(IA3, "__init__", needs_values)
    with pytest.raises(ConfigError) as caught:
        a_prediction("ia3")
    assert str(caught.value) == (
        "method 'ia3' on 'llama-3-8b' cannot be traced without weights (ValueError: the weights are looked at); "
        "what is known is the base model, 8,030,261,248 parameters and 7.822 TFLOPs for 512 tokens"
    )


def test_a_target_that_is_not_there_is_the_users_own_sentence():
    with pytest.raises(ConfigError, match="target 'kay' matches no module of this llama model"):
        a_prediction({"name": "lora", "targets": ["kay"]})


def test_models_of_other_layers_cannot_be_packed(tmp_path):
    from transformers import MambaConfig

    MambaConfig(vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4).save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match="cannot be packed"):
        a_prediction("base", str(tmp_path), tokens=16)


def test_a_configuration_of_ones_own_is_not_estimated(tmp_path):
    from peftbench.testing import tiny_config

    tiny_config().save_pretrained(tmp_path)
    found = a_prediction("lora", str(tmp_path), tokens=16)
    assert not found.estimated
    model = weightless(tiny_config())
    assert found.base_params == sum(parameter.numel() for parameter in model.parameters())
