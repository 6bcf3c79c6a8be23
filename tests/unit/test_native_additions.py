"""BitFit, SVFT, bottleneck adapters, full fine-tuning and the last layers, against their formulas.

That each trains, resumes, exports and merges is in `tests/contract/test_methods.py`.
"""

import pytest
import torch
import torch.nn.functional as F

from peftbench.engine.adapter import find_targets
from peftbench.errors import ConfigError
from peftbench.methods import load_adapter
from peftbench.methods.specs import methods
from peftbench.testing import FAMILIES
from peftbench.testing.trial import logits_of, with_weights
from tests.oracle import answer_logits, batch_loss, build, disturb, engine_model, float64_throughout, some_samples
from tests.oracle import stock_model as stock
from tests.unit.test_methods_parity import close, engine_pass

SMALL = {
    "bitfit": {},
    "svft": {"rank": 6},
    "adapter": {"hidden": 5},
    "parallel_adapter": {"hidden": 5},
    "full": {},
    "last_layers": {"layers": 2},
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", SMALL)
def test_each_begins_as_the_base_in_every_family_and_trains_all_that_it_names(family, method):
    samples = some_samples()
    model = engine_model(family)
    adapter = build(method, model.module, **SMALL[method])
    torch.testing.assert_close(logits_of(model, adapter, samples), logits_of(model, None, samples))
    disturb(adapter, size=0.02)
    _, gradients = engine_pass(model, adapter, samples, share=True)
    assert gradients.keys() == adapter.tensors.keys()
    assert all(gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["bitfit", "svft", "full", "last_layers"])
def test_merged_weights_give_the_same_logits_in_every_family(family, method):
    samples = some_samples()
    model = engine_model(family)
    adapter = build(method, model.module, **SMALL[method])
    disturb(adapter, size=0.02)
    expected = logits_of(model, adapter, samples)
    found = logits_of(with_weights(engine_model(family), adapter.merged(0)), None, samples)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", [*SMALL, "svft, full rank"])
def test_each_is_read_back_from_its_files_in_every_family(family, method):
    samples = some_samples()
    model = engine_model(family)
    name, _, full = method.partition(",")
    settings = {} if full else SMALL[name]
    adapter = build(name, model.module, **settings)
    disturb(adapter, size=0.02)
    loaded = load_adapter(methods.get(name), model.module, adapter.settings, adapter.export(0), 1)
    expected = logits_of(model, adapter, samples)
    torch.testing.assert_close(logits_of(model, loaded, samples), expected, rtol=1e-9, atol=1e-9)


def test_what_needs_whole_weights_says_so_where_they_are_in_shares():
    module = engine_model("llama").module
    module.model.layers[0].self_attn.q_proj.weight.device_mesh = "of several processes"
    for method in ("svft", "full", "dora"):
        with pytest.raises(ConfigError, match=r"needs whole weights; run it with engine\.processes=1"):
            build(method, module)


@pytest.mark.parametrize("method", ["full", "last_layers"])
@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen2", "gemma3_text"])
def test_what_trains_the_models_own_weights_has_the_gradients_of_the_model(family, method):
    samples = some_samples()
    with float64_throughout():
        model = engine_model(family)
        adapter = build(method, model.module, **SMALL[method])
        logits, gradients = engine_pass(model, adapter, samples, share=True)
        reference_model = stock(family).requires_grad_(True)
        reference = answer_logits(reference_model, samples)
        batch_loss(reference, samples).backward()
    close(logits, torch.cat(reference).detach(), "logits")
    theirs = dict(reference_model.named_parameters())
    assert method != "full" or gradients.keys() == theirs.keys()
    for name, gradient in gradients.items():
        close(gradient, theirs[name].grad, name)


def test_the_last_layers_are_the_last_blocks_and_the_final_norm():
    names = build("last_layers", engine_model("llama").module, layers=1).tensors
    assert {name.rsplit(".", 3)[0] if "layers" in name else name for name in names} >= {"model.norm.weight"}
    assert all(name.startswith("model.layers.2.") or name == "model.norm.weight" for name in names)
    with pytest.raises(ConfigError, match="the model has 3 layers, not 4"):
        build("last_layers", engine_model("llama").module, layers=4)


def test_bitfit_keeps_and_trains_the_bias_that_the_base_has():
    """Qwen2 has biases on queries and values, Llama has none."""
    for family in ("qwen2", "llama"):
        model = engine_model(family)
        adapter = build("bitfit", model.module)
        for target in find_targets(model.module, ("query", "value")):
            value = adapter.tensors[f"{target.key}.bias"][0]
            own = target.module.bias
            assert (own is not None) == (family == "qwen2")
            torch.testing.assert_close(value.detach(), torch.zeros_like(value) if own is None else own.detach())
        assert adapter.undecayed == set(adapter.tensors)


def test_bitfit_has_the_gradients_of_biases():
    samples = some_samples()
    with float64_throughout():
        model = engine_model("llama")
        adapter = build("bitfit", model.module)
        disturb(adapter)
        logits, gradients = engine_pass(model, adapter, samples, share=True)
        module = stock("llama")
        for name, tensor in adapter.tensors.items():
            layer = module.get_submodule(name.removesuffix(".bias"))
            layer.bias = torch.nn.Parameter(tensor[0].detach().clone())
        reference = answer_logits(module, samples)
        batch_loss(reference, samples).backward()
    close(logits, torch.cat(reference).detach(), "logits")
    for name, gradient in gradients.items():
        close(gradient, module.get_submodule(name.removesuffix(".bias")).bias.grad, name)


@pytest.mark.parametrize("off_diagonals", [0, 1, 3])
@pytest.mark.parametrize("rank", [None, 6])
def test_svft_adds_a_banded_matrix_between_the_singular_vectors(rank, off_diagonals):
    model = engine_model("llama")
    adapter = build("svft", model.module, rank=rank, off_diagonals=off_diagonals)
    disturb(adapter)
    merged = adapter.merged(0)
    for target in adapter.targets:
        weight = target.module.weight.detach()
        left, _, right = torch.linalg.svd(weight, full_matrices=False)
        k = rank or min(weight.shape)
        inner = left[:, :k].T @ (merged[f"{target.name}.weight"] - weight) @ right[:k].T
        wide = torch.ones(k, k, dtype=torch.bool)
        band = wide.triu(-off_diagonals) & wide.tril(off_diagonals)
        assert inner[band].abs().min() > 1e-6, "every entry of the band is trained"
        torch.testing.assert_close(inner[~band], torch.zeros_like(inner[~band]), rtol=0, atol=1e-9)
        outside = merged[f"{target.name}.weight"] - weight - left[:, :k] @ inner @ right[:k]
        torch.testing.assert_close(outside, torch.zeros_like(outside), rtol=0, atol=1e-9)
    entries = sum(tensor[0].numel() for tensor in adapter.tensors.values())
    assert entries == adapter.trainable_params


def test_a_sequential_adapter_is_the_formula_of_its_paper():
    model = engine_model("llama")
    adapter = build("adapter", model.module, hidden=5, activation="gelu", scale=0.5)
    disturb(adapter)
    name = "model.layers.1.mlp.down_proj"
    module = model.module.get_submodule(name)
    x = torch.randn(1, 3, module.in_features, dtype=torch.float64)
    value = {key: adapter.tensors[f"{name}.adapter_{key}"][0] for key in ("down.weight", "down.bias", "up.weight")}
    up_bias = adapter.tensors[f"{name}.adapter_up.bias"][0]
    with torch.no_grad():
        y = module(x)
        hidden = F.gelu(y @ value["down.weight"].T + value["down.bias"])
        with adapter.attached():
            found = module(x)
    torch.testing.assert_close(found, y + 0.5 * (hidden @ value["up.weight"].T + up_bias))


def test_a_parallel_adapter_takes_the_input_of_the_feed_forward_part():
    model = engine_model("llama")
    adapter = build("parallel_adapter", model.module, hidden=5)
    disturb(adapter)
    name = "model.layers.0.mlp"
    module = model.module.get_submodule(name)
    x = torch.randn(1, 3, 32, dtype=torch.float64)
    down, up = (adapter.tensors[f"{name}.adapter_{part}.weight"][0] for part in ("down", "up"))
    down_bias, up_bias = (adapter.tensors[f"{name}.adapter_{part}.bias"][0] for part in ("down", "up"))
    with torch.no_grad():
        y = module(x)
        with adapter.attached():
            found = module(x)
    torch.testing.assert_close(found, y + 4 * (F.relu(x @ down.T + down_bias) @ up.T + up_bias))
