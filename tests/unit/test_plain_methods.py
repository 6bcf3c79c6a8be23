"""Methods of plain torch modules: whatever stands where, they keep the contract, and mistakes are sentences."""

import pytest
import torch
from torch import nn

from peftbench.engine.adapter import find_norms, find_targets, heads_of
from peftbench.errors import ConfigError, NeedsWeights
from peftbench.methods import build_adapter
from peftbench.methods.additions import Additions
from peftbench.methods.plugins import load_file
from peftbench.methods.specs import NoSettings, methods
from peftbench.schema import MethodSpec
from peftbench.testing import broken_promises, tiny_model
from tests.own_methods import EXAMPLES, forgotten  # noqa: F401


def spec(build, **claims):
    told = {"identity_at_start": False, "mergeable": False, **claims}
    return MethodSpec(
        name="mine", version=1, title="Mine", category="selective", summary="", source="", settings=NoSettings,
        build=build, **told,
    )  # fmt: skip


class Low(nn.Module):
    """A low-rank change, with what is said."""

    def __init__(self, inputs, outputs, dropout=0.0, shared=None):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.down = shared if shared is not None else nn.Linear(inputs, 3, bias=False)
        self.up = nn.Linear(3, outputs)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)
        self.register_buffer("signs", torch.randn(3).sign())

    def forward(self, x, base):
        return base(x) + self.up(self.signs * self.down(self.dropout(x)))


def with_dropout(model, settings):
    return Additions(around={t: Low(t.in_features, t.out_features, 0.3) for t in find_targets(model, ("query",))})


def with_shared_factor(model, settings):
    shared = nn.Linear(32, 3, bias=False)
    return Additions(
        around={t: Low(32, t.out_features, shared=shared) for t in find_targets(model, ("query", "value"))}
    )


class Scale(nn.Module):
    """Scales what a norm or a feed-forward part gives."""

    def __init__(self, width):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))

    def forward(self, x, base):
        return base(x) * self.scale


def of_norms(model, settings):
    return Additions(around={name: Scale(32) for name, _ in find_norms(model)})


def of_feed_forward(model, settings):
    return Additions(around={"model.layers.1.mlp": Scale(32)})


class Encoded(nn.Module):
    """A soft prompt or a prefix through a small network with dropout."""

    def __init__(self, tokens, width, shape=None):
        super().__init__()
        self.table, self.shape = nn.Parameter(torch.randn(tokens, 8)), shape
        self.network = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, width))

    def forward(self):
        made = self.network(self.table)
        if self.shape is None:
            return made
        return made.unflatten(1, self.shape).movedim(0, 3)  # (layers, 2, heads, tokens, width)


def a_soft_prompt(model, settings):
    return Additions(soft_prompt=Encoded(5, 32))


def a_prefix(model, settings):
    heads = heads_of(model.config)
    shape = (heads.layers, 2, heads.key_value_heads, heads.width)
    return Additions(prefix=Encoded(5, heads.layers * 2 * heads.key_value_width, shape))


@pytest.mark.parametrize(
    ("build", "claims"),
    [
        (with_dropout, {"identity_at_start": True}),
        (with_shared_factor, {"identity_at_start": True, "mergeable": True}),
        (of_norms, {"identity_at_start": True}),
        (of_feed_forward, {"identity_at_start": True, "fuses": False}),
        (a_soft_prompt, {}),
        (a_prefix, {}),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_modules_of_any_kind_keep_the_contract(build, claims):
    assert broken_promises(spec(build, **claims), NoSettings()) == {}


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.stem)
def test_the_examples_keep_what_they_promise(file):
    assert broken_promises(load_file(file)) == {}


@pytest.mark.parametrize("family", ["gpt2", "phi3", "gpt_neox"])
def test_parts_of_fused_projections_are_acted_on_alone(family):
    model = tiny_model(family)
    adapter = build_adapter(spec(with_shared_factor), model, NoSettings(), [1])
    with torch.no_grad():
        for name, each in adapter.tensors.items():
            each.add_(0.1 if ".up.bias" in name else 0.0)
    target = find_targets(model, ("query",))[0]
    x = torch.randn(1, 4, 32)
    plain = target.module(x)
    with adapter.attached():
        moved = target.module(x) - plain
    acted = torch.cat([t.outputs for t in find_targets(model, ("query", "value")) if t.module is target.module])
    assert torch.allclose(moved[..., acted], torch.tensor(0.1), atol=1e-5)
    others = [i for i in range(plain.shape[-1]) if i not in acted.tolist()]
    assert others
    assert not moved[..., others].any()


def shared_factor_by_hand(adapter, run, x, out):
    values = {name: each[run] for name, each in adapter.tensors.items()}
    [down] = [each for name, each in values.items() if "down" in name]
    start = "model.layers.0.self_attn.q_proj"
    signs = adapter.export(run).tensors[f"{start}.signs"]
    return out + (x @ down.T * signs) @ values[f"{start}.up.weight"].T + values[f"{start}.up.bias"]


def test_each_run_has_values_of_its_own():
    model = tiny_model()
    adapter = build_adapter(spec(with_shared_factor), model, NoSettings(), [1, 2])
    with torch.no_grad():
        for each in adapter.tensors.values():
            each.add_(torch.randn(each.shape))
    module, x = model.get_submodule("model.layers.0.self_attn.q_proj"), torch.randn(2, 4, 32)
    plain = module(x)
    with adapter.attached():
        out = module(x)
    for run in range(2):
        assert torch.allclose(out[run], shared_factor_by_hand(adapter, run, x[run], plain[run]), atol=1e-5)


def trains_the_base(model, settings):
    model.get_submodule("model.layers.0.self_attn.q_proj").weight.requires_grad_(True)
    return of_norms(model, settings)


class Wrong(nn.Module):
    """Gives something that it should not."""

    def __init__(self, gives):
        super().__init__()
        self.weight, self.gives = nn.Parameter(torch.ones(1)), gives

    def forward(self, x, base):
        return self.gives(x, base(x))


def around(name, module, **more):
    return lambda model, settings: Additions(around={name: module}, **more)


Q = "model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("build", "said"),
    [
        (trains_the_base, "asks to train the base's own model.layers.0.self_attn.q_proj.weight; train a copy"),
        (lambda model, settings: None, "build gave a NoneType, expected Additions"),
        (lambda model, settings: Additions(), "adds nothing; give"),
        (around(Q, nn.Identity()), "trains nothing: its modules hold no nn.Parameter"),
        (around("layers.9.q", Scale(32)), "acts on 'layers.9.q', which this llama model does not have; find_targets"),
        (around("model.layers.0.self_attn", Scale(32)), "a LlamaAttention with several inputs; act on projections"),
        (of_feed_forward, "acts on 'model.layers.1.mlp' as a whole, .* set fuses=False"),
        (lambda model, settings: Additions(soft_prompt=Encoded(5, 31)), r"shape \(5, 31\), expected .*, 32\)"),
        (lambda model, settings: Additions(prefix=Encoded(5, 32)), r"its prefix has shape \(5, 32\), expected \(3 layers"),
        (lambda model, settings: 1 / 0, "build ended with ZeroDivisionError: division by zero; mend the method"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_a_sentence(build, said):
    model = tiny_model().requires_grad_(False)
    with pytest.raises(ConfigError, match=said) as caught:
        build_adapter(spec(build), model, NoSettings(), [1])
    assert len(str(caught.value).splitlines()) == 1
    assert not any(each.requires_grad for each in model.parameters())


@pytest.mark.parametrize("gives", [0, 0.5, torch.tensor(0.5), torch.tensor([[0.5]], dtype=torch.float64)])
def test_a_penalty_is_a_tensor_or_a_plain_number(gives):
    build = lambda m, s: Additions(around={find_targets(m, ("query",))[0]: Scale(32)}, penalty=lambda: gives)  # noqa: E731
    adapter = build_adapter(spec(build), tiny_model(), NoSettings(), [1, 2])
    assert adapter.penalty().tolist() == [float(gives)] * 2
    assert adapter.penalty().dtype == torch.float32


@pytest.mark.parametrize(
    ("gives", "said"),
    [
        (lambda x, out: out[..., :3] * 1, r"the module of .*q_proj gave shape \(4, 3\), expected \(4, 32\)"),
        (lambda x, out: None, "gave a NoneType, expected a tensor"),
        (lambda x, out: x @ torch.ones(3, 3), "the module of .*q_proj ended with RuntimeError"),
    ],
)
def test_what_a_module_does_wrong_is_a_sentence(gives, said):
    model = tiny_model()
    build = lambda m, s: Additions(around={find_targets(m, ("query",))[0]: Wrong(gives)})  # noqa: E731
    adapter = build_adapter(spec(build), model, NoSettings(), [1])
    with adapter.attached(), pytest.raises(ConfigError, match=said):
        model.get_submodule(Q)(torch.randn(1, 4, 32))


def test_a_method_that_looks_at_weights_says_that_it_needs_them():
    def build(model, settings):
        weight = model.get_submodule(Q).weight
        return Additions(around={Q: Scale(int(weight.sum().item()) % 7 + 32)})

    with torch.device("meta"):
        model = tiny_model()
    with pytest.raises(NeedsWeights, match="known only with the model's weights"):
        build_adapter(spec(build), model, NoSettings(), [0])


def test_an_adapter_of_other_settings_is_not_loaded():
    from peftbench.methods import load_adapter

    model = tiny_model()
    files = build_adapter(spec(a_soft_prompt), model, NoSettings(), [1]).export(0)
    with pytest.raises(ConfigError, match="the adapter is not one of method 'mine' with these settings"):
        load_adapter(spec(of_norms), model, NoSettings(), files, 1)


def test_a_class_of_adapters_is_a_build_too():
    from peftbench.methods.native import LoRA

    lora = methods.get("lora")
    own = lora.model_copy(update={"name": "own_lora", "build": LoRA})
    assert broken_promises(own, lora.settings(rank=4, alpha=8, dropout=0.0)) == {}
