"""Trainable parameters: the paper's numbers on a weightless Llama-3-8B, and a table over all families."""

import json
from pathlib import Path

import pytest
import torch
from peft.utils.constants import TRANSFORMERS_MODELS_TO_LNTUNING_TARGET_MODULES_MAPPING as THEIR_NORMS
from transformers import LlamaConfig

from peftbench.engine.adapter import find_norms, find_targets
from peftbench.engine.loading import weightless
from peftbench.engine.roles import ROLES
from peftbench.errors import ConfigError, NeedsWeights
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.schema import MethodChoice
from peftbench.testing import FAMILIES, tiny_config, tiny_model
from tests.oracle import SMALL, build

LLAMA_3_8B = LlamaConfig(
    vocab_size=128256,
    hidden_size=4096,
    intermediate_size=14336,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    max_position_embeddings=8192,
    tie_word_embeddings=False,
)

# Tables 1 and 2 of the paper; IA3 and the MLP encoder as they should have been counted, and as they were.
PAPER = {
    "ia3": 524_288,
    "ia3_published": 196_608,
    "prompt_tuning": 409_600,
    "prompt_tuning_published": 409_600,
    "prefix_tuning": 34_177_536,
    "p_tuning": 53_130_752,
    "p_tuning_mlp": 7_296_512,
    "lora": 14_680_064,
    "ln_tuning": 266_240,
}
TABLE = json.loads((Path(__file__).parents[1] / "golden" / "parameter_counts.json").read_text())


@pytest.fixture(scope="module")
def llama_3_8b():
    return weightless(LLAMA_3_8B)


def test_the_base_model_has_the_parameters_that_the_paper_states(llama_3_8b):
    assert sum(parameter.numel() for parameter in llama_3_8b.parameters()) == 8_030_261_248
    assert all(parameter.is_meta for parameter in llama_3_8b.parameters())


@pytest.mark.parametrize("method", PAPER)
def test_trainable_parameters_on_llama_3_8b(llama_3_8b, method):
    spec = methods.get(method)
    adapter = build_adapter(spec, llama_3_8b, MethodChoice(name=method).settings_for(spec), [0])
    assert adapter.trainable_params == PAPER[method]


# By hand, with the default settings: 32 layers of width 4,096 with keys and values of 1,024, feed-forward 14,336.
BY_HAND = {
    "bitfit": 32 * (4096 + 1024),  # the reference's number
    "svft": 32 * ((3 * 4096 - 2) + (3 * 1024 - 2)),
    "adapter": 32 * 2 * (2 * 4096 * 64 + 64 + 4096),
    "parallel_adapter": 32 * (2 * 4096 * 64 + 64 + 4096),
    "full": 8_030_261_248,
    "last_layers": 2 * 4096 * (4096 + 1024) + 3 * 4096 * 14336 + 3 * 4096,
    "hf_lora": 14_680_064,
    "dora": 14_680_064 + 32 * (1024 + 1024 + 4096),
    "lora_fa": 32 * 16 * (1024 + 1024 + 4096),
    "adalora": 32 * 12 * (2 * (4096 + 1024) + 14336 + 4096 + 3),
    "hf_ia3": 524_288,
    "vera": 32 * (3 * 256 + 1024 + 1024 + 4096),
    "road": 32 * (1024 + 1024 + 4096),
    "beft": 32 * 1024,
    "fourierft": 32 * 3 * 1000,
    "waveft": 32 * 3 * 2592,
    "c3a": 32 * (2 * 4096 * 1024 + 14336 * 4096) // 256,
    "hra": 32 * 8 * (4096 + 4096 + 14336),
    "oft": 32 * (4096 + 4096 + 14336) // 32 * (32 * 31 // 2),
    "loha": 32 * 2 * 8 * (2 * (4096 + 1024) + 14336 + 4096),
    "miss": 32 * 64 * (1024 + 1024 + 4096),
}


@pytest.mark.parametrize("method", BY_HAND)
def test_trainable_parameters_of_other_methods_are_those_reckoned_by_hand(llama_3_8b, method):
    spec = methods.get(method)
    adapter = build_adapter(spec, llama_3_8b, MethodChoice(name=method).settings_for(spec), [0])
    assert adapter.trainable_params == BY_HAND[method]


def test_every_method_of_the_paper_and_every_native_one_is_counted():
    native = {spec.name for spec in methods if spec.build and not hasattr(spec.settings, "entry")}
    assert native <= PAPER.keys() | BY_HAND.keys()


@pytest.mark.parametrize("method", ["boft", "shira", "unilora", "frod", "adamss"])
def test_what_cannot_be_counted_without_weights_is_not_guessed(llama_3_8b, method):
    spec = methods.get(method)
    with pytest.raises(NeedsWeights, match="known only with the model's weights"):
        build_adapter(spec, llama_3_8b, MethodChoice(name=method).settings_for(spec), [0])


@pytest.mark.parametrize("family", FAMILIES)
def test_counts_of_every_family_are_those_of_the_table(family):
    """The table is arithmetic by hand: see its `formula`."""
    model = tiny_model(family)
    for method in SMALL:
        assert build(method, model).trainable_params == TABLE["counts"][family][method], method


@pytest.mark.parametrize("family", FAMILIES)
def test_ln_tuning_finds_every_norm_of_hidden_width(family):
    model = tiny_model(family)
    names = [name for name, _ in find_norms(model)]
    everywhere = [
        name
        for name, module in model.named_modules()
        if "norm" in type(module).__name__.lower() and not name.endswith(("q_norm", "k_norm"))
    ]
    assert names == everywhere
    per_layer = {"gemma2": 4, "gemma3_text": 4}.get(family, 2)
    assert len(names) == 3 * per_layer + 1
    biased = family in ("gpt2", "gpt_neox")
    adapter = build("ln_tuning", model)
    assert len(adapter.tensors) == len(names) * (2 if biased else 1)
    assert adapter.undecayed == set(adapter.tensors)


@pytest.mark.parametrize("family", ["qwen3", "gemma3_text"])
def test_norms_of_queries_and_keys_are_not_trained_even_where_a_head_is_as_wide_as_the_model(family):
    model = tiny_model(family, head_dim=32)
    scaling = {name for name, _ in model.named_modules() if name.endswith(("q_norm", "k_norm"))}
    assert {tuple(model.get_submodule(name).weight.shape) for name in scaling} == {(model.config.hidden_size,)}
    trained = {name.rpartition(".")[0] for name in build("ln_tuning", model).tensors}
    assert trained
    assert not trained & scaling
    assert trained == {name for name, _ in find_norms(tiny_model(family))}


def test_the_norms_that_hugging_face_skips_by_default_are_those_of_the_table():
    skipped = {}
    for family in FAMILIES:
        theirs = THEIR_NORMS.get(family)
        if theirs is None:
            skipped[family] = "no default: the method refuses to start"
            continue
        names = [name for name, _ in find_norms(tiny_model(family))]
        missing = {name for name in names if not any(name.endswith(their) for their in theirs)}
        skipped[family] = sorted(
            {".".join(part for part in name.split(".") if not part.isdigit()) for name in missing}
        )
    assert skipped == TABLE["norms_skipped_by_hugging_face"]


@pytest.mark.parametrize("family", FAMILIES)
def test_roles_cover_the_outputs_of_a_fused_projection_once(family):
    model = tiny_model(family)
    known = [role for role in ROLES if not (role == "gate" and family in ("gpt2", "gpt_neox"))]
    seen: dict[str, list[int]] = {}
    for target in find_targets(model, known):
        width = target.out_features if target.outputs is None else None
        seen.setdefault(target.name, []).extend(range(width) if width else target.outputs.tolist())
    assert len(seen) == 3 * {"phi3": 4, "gpt2": 4, "gpt_neox": 4}.get(family, 7)
    for name, outputs in seen.items():
        module = model.get_submodule(name)
        total = module.weight.shape[1] if type(module).__name__ == "Conv1D" else module.weight.shape[0]
        assert sorted(outputs) == list(range(total)), name


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (("k_projj",), r"target 'k_projj' matches no module .* name roles .* self_attn.k_proj"),
        (("mlp",), r"target 'mlp' matches no module"),
        (("key", "norm"), r"target 'norm' matches no module"),
    ],
)
def test_a_target_that_matches_no_module_is_an_error(targets, message):
    with pytest.raises(ConfigError, match=message):
        build("lora", tiny_model(), targets=targets)
    with pytest.raises(ConfigError, match=message):
        build("ia3", tiny_model(), feedforward_targets=targets)


def test_a_role_that_a_family_does_not_have_is_an_error():
    with pytest.raises(ConfigError, match="'gate' matches no module of this gpt2 model"):
        build("lora", tiny_model("gpt2"), targets=("gate",))


def test_targets_can_be_named_by_the_ending_of_their_path():
    model = tiny_model()
    by_role = [target.name for target in find_targets(model, ["key", "down"])]
    by_name = [target.name for target in find_targets(model, ["self_attn.k_proj", "down_proj"])]
    assert by_role == by_name
    assert len(by_role) == 6


@pytest.mark.parametrize("method", SMALL)
def test_trainables_are_float32_under_a_bfloat16_base_and_move(method):
    from peftbench.engine.model import LanguageModel
    from peftbench.engine.runs import TrainingRun
    from peftbench.engine.train import train
    from peftbench.records import TrainingConfig
    from tests.oracle import some_samples

    model = LanguageModel(tiny_model(dtype=torch.bfloat16))
    adapter = build(method, model.module)
    assert {tensor.dtype for tensor in adapter.tensors.values()} == {torch.float32}
    start = {name: tensor.detach().clone() for name, tensor in adapter.tensors.items()}
    samples = tuple(some_samples(12, seed=2))
    # The paper's rate, at which bfloat16 weights near one would not move at all.
    run = TrainingRun(1, samples[:8], samples[8:], TrainingConfig(epochs=10, learning_rate=5e-5))
    outcome = train(model, adapter, [run])[0]
    assert outcome.status == "done"
    assert outcome.best.dtype == torch.float32
    for name, tensor in adapter.tensors.items():
        moved = (tensor - start[name]).abs() > 0
        assert moved.float().mean() > 0.25, name  # half of a head behind a ReLU may be still


def test_the_table_covers_every_family_and_says_how_it_was_reckoned():
    assert TABLE["counts"].keys() == FAMILIES.keys()
    assert tiny_config().hidden_size == 32
