"""Methods of Hugging Face PEFT in the engine, against PEFT itself and against what their papers say.

That each trains, resumes, exports and merges is in `tests/contract/test_methods.py`.
"""

import json

import peft
import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from pydantic import ValidationError

from peftbench.engine.runs import TrainingRun
from peftbench.engine.step import Batches, gradients
from peftbench.engine.train import train
from peftbench.errors import ConfigError
from peftbench.methods import build_adapter
from peftbench.methods.hf_refused import REFUSED
from peftbench.methods.hf_settings import HFSettings
from peftbench.methods.hf_table import ENTRIES
from peftbench.methods.specs import methods
from peftbench.records import TrainingConfig
from peftbench.testing import tiny_model, tiny_settings
from tests.oracle import answer_logits, batch_loss, disturb, engine_model, float64_throughout, some_samples

NAMES = [entry.name for entry in ENTRIES]


def built(name, model, seed=1, **changes):
    spec = methods.get(name)
    settings = tiny_settings(spec)
    settings = spec.settings.model_validate_json(json.dumps({**settings.model_dump(mode="json"), **changes}))
    return build_adapter(spec, model.module, settings, [seed])


def peft_config(adapter):
    """The configuration as somebody would write it who uses PEFT alone."""
    settings = adapter.settings
    own = {"targets", "ratio", "init_rows", "beta", "gamma"}
    given = {name: value for name, value in settings.model_dump().items() if name not in own}
    kind = peft.PEFT_TYPE_TO_CONFIG_MAPPING[settings.entry.peft_type]
    modules = [{"key": "k_proj", "value": "v_proj", "down": "down_proj"}[role] for role in settings.targets]
    more = {}
    if settings.entry.peft_type == "IA3":
        more = {"feedforward_modules": ["down_proj"]}
    if settings.entry.peft_type == "ADALORA":
        more = {"total_step": 100}
    if settings.entry.name == "kasa":
        more = {"kasa_config": {}}
    return kind(task_type="CAUSAL_LM", target_modules=modules, **more, **given, **settings.entry.fixed)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_trained_is_what_peft_trains(name):
    model = engine_model("llama", torch.float32)
    adapter = built(name, model)
    theirs = peft.get_peft_model(tiny_model("llama"), peft_config(adapter))
    count = theirs.get_nb_trainable_parameters()[0]
    if name == "lora_fa":
        count = sum(each.numel() for path, each in theirs.named_parameters() if "lora_B" in path)
    assert adapter.trainable_params == count


def test_the_table_names_every_method_of_the_installed_peft_once_or_says_why_not():
    offered = {entry.peft_type for entry in ENTRIES}
    refused = {each.peft_type for each in REFUSED if each.peft_type not in offered}
    assert offered | refused == {str(kind.value) for kind in peft.PEFT_TYPE_TO_CONFIG_MAPPING}
    assert len({*NAMES, *(each.name for each in REFUSED)}) == len(NAMES) + len(REFUSED)
    assert not {each.name for each in REFUSED} & set(methods.names())


def test_the_base_is_not_wrapped_and_its_config_is_not_touched():
    model = engine_model("llama", torch.float32)
    before = model.module.config.to_dict()
    for name in ("dora", "pissa", "osf"):
        adapter = built(name, model)
        assert not any(isinstance(each, BaseTunerLayer) for each in model.module.modules())
        assert any(isinstance(each, BaseTunerLayer) for each in adapter.wrapped.modules())
    assert model.module.config.to_dict() == before


def test_weights_are_shared_with_the_base_where_peft_leaves_them_alone():
    model = engine_model("llama", torch.float32)
    held = {value.data_ptr() for value in model.module.parameters()}
    for name, copied in (("dora", False), ("pissa", True)):
        inner = built(name, model).wrapped.base_model.model
        layers = [each.get_base_layer() for each in inner.modules() if isinstance(each, BaseTunerLayer)]
        layers = [each for each in layers if isinstance(each, torch.nn.Linear)]
        assert all((each.weight.data_ptr() not in held) == copied for each in layers)
        assert inner.model.layers[0].self_attn.q_proj.weight.data_ptr() in held


def a_run(samples, *, steps, rate=1e-2, **more):
    config = TrainingConfig(
        epochs=steps, batch_size=len(samples), learning_rate=rate, warmup_ratio=0.0, validations=1, **more
    )
    return TrainingRun(1, tuple(samples), tuple(samples), config)


def test_adalora_takes_the_steps_of_peft():
    """Penalty, clipping, AdamW, and ranks given up after each update: the same values after eight steps."""
    samples, steps = some_samples(3), 8
    with float64_throughout():
        model = engine_model("llama")
        adapter = built("adalora", model)
        theirs = peft.get_peft_model(
            tiny_model("llama", dtype=torch.float64), peft_config(adapter), autocast_adapter_dtype=False
        ).double()
        theirs.eval()
        theirs.base_model.rankallocator.set_total_step(steps)
        for path, parameter in theirs.named_parameters():
            parameter.requires_grad_("lora_" in path)
        pairs = {
            path: adapter.tensors[path.removeprefix("base_model.model.").replace(".default", "")]
            for path, parameter in theirs.named_parameters()
            if parameter.requires_grad
        }
        with torch.no_grad():
            for path, parameter in theirs.named_parameters():
                if path in pairs:
                    parameter.copy_(pairs[path][0])
        parameters = [each for each in theirs.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=1e-2, weight_decay=1e-5)
        losses = []
        for step in range(steps):
            ids = torch.tensor([[*samples[0].prompt, *samples[0].answer]])
            out = theirs(input_ids=ids, labels=ids)
            plain = torch.nn.functional.cross_entropy(out.logits[0, :-1], ids[0, 1:])
            loss = batch_loss(answer_logits(theirs, samples), samples) + out.loss - plain
            losses.append(loss.item())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            for group in optimizer.param_groups:
                group["lr"] = a_run(samples, steps=steps).learning_rate(step)
            optimizer.step()
            theirs.base_model.update_and_allocate(step + 1)
            optimizer.zero_grad()
        outcome = train(model, adapter, [a_run(samples, steps=steps)])[0]
    assert outcome.curve[0].train_loss == pytest.approx(sum(losses) / steps, rel=1e-6)
    values = dict(theirs.named_parameters())
    given_up = 0
    for path in pairs:
        ours = adapter.tensors[path.removeprefix("base_model.model.").replace(".default", "")][0]
        torch.testing.assert_close(ours, values[path], rtol=1e-5, atol=1e-7)
        given_up += int((ours == 0).sum()) if "lora_E" in path else 0
    assert given_up == 9 * (6 - 3), "the mean rank at the end is target_r"


def test_the_penalty_of_adalora_is_no_part_of_a_validation_loss():
    samples = some_samples(3)
    model = engine_model("llama")
    found = {}
    for weight in (1e-9, 5.0):
        run = a_run(samples, steps=2, rate=1e-30)
        found[weight] = train(model, built("adalora", model, orth_reg_weight=weight), [run])[0].curve[0]
    assert found[5.0].train_loss > found[1e-9].train_loss + 1
    assert found[5.0].validation_loss == pytest.approx(found[1e-9].validation_loss, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init_r": 3, "target_r": 3}, "target_r of AdaLoRA is 3, which must be less than init_r"),
        ({"tinit": 5, "tfinal": 5}, "too few of 8"),
    ],
)
def test_adalora_without_room_for_its_schedule_is_refused(changes, message):
    model = engine_model("llama", torch.float32)
    with pytest.raises(ConfigError, match=message):
        train(model, built("adalora", model, **changes), [a_run(some_samples(2), steps=8)])


def test_the_second_factor_of_lora_plus_moves_by_the_ratio():
    model = engine_model("llama")
    adapter = built("lora_plus", model, ratio=8.0)
    disturb(adapter)
    before = {name: tensor.detach().clone() for name, tensor in adapter.tensors.items()}
    train(model, adapter, [a_run(some_samples(2), steps=1, rate=1e-3, weight_decay=0.0)])
    for name, tensor in adapter.tensors.items():  # the first update of Adam is the rate itself
        step = float((tensor.detach() - before[name]).abs().median())
        assert step == pytest.approx(8e-3 if "lora_B" in name else 1e-3, rel=1e-3), name


def test_lora_fa_projects_the_gradient_of_the_second_factor():
    samples = some_samples(3)
    model = engine_model("llama")
    found = {}
    for name in ("hf_lora", "lora_fa"):
        adapter = built(name, model)
        with adapter.attached():
            gradients(model, adapter, Batches([samples], [(1, 0)], (), share=False))
        found[name] = adapter
    assert found["lora_fa"].tensors.keys() == {name for name in found["hf_lora"].tensors if "lora_B" in name}
    for name, tensor in found["lora_fa"].tensors.items():
        a = found["hf_lora"].tensors[name.replace("lora_B", "lora_A")][0]
        scale = 8 / 4
        expected = found["hf_lora"].tensors[name].grad[0] @ torch.linalg.inv(a @ a.T) / scale**2
        torch.testing.assert_close(tensor.grad[0], expected, rtol=1e-5, atol=1e-9)


def test_eva_begins_with_the_main_directions_of_the_inputs():
    samples = some_samples(12)
    model = engine_model("llama")
    adapter = built("eva", model, init_rows=12)
    start = {name: tensor.detach().clone() for name, tensor in adapter.tensors.items()}
    name = "model.layers.1.self_attn.k_proj"
    seen = []
    hook = model.module.get_submodule(name).register_forward_pre_hook(
        lambda _, x: seen.append(x[0].flatten(0, -2))
    )
    adapter.begin(model, [a_run(samples, steps=1)])
    hook.remove()
    a = adapter.tensors[f"{name}.lora_A.weight"][0]
    assert not torch.equal(a, start[f"{name}.lora_A.weight"][0])
    torch.testing.assert_close(a @ a.T, torch.eye(4, dtype=a.dtype), rtol=0, atol=1e-6)
    inputs = torch.cat(seen)
    inputs = inputs - inputs.mean(0)
    best = torch.linalg.svdvals(inputs)[:4].square().sum()
    assert float((inputs @ a.T).square().sum() / best) > 0.95
    with pytest.raises(ConfigError, match="needs more tokens than 1 training rows have"):
        built("eva", model, r=16, init_rows=1).begin(model, [a_run(samples, steps=1)])


@pytest.mark.parametrize("name", ["hf_lora", "vera", "hira", "miss", "randlora"])
def test_dropout_is_a_function_of_seed_step_and_place(name):
    entry = methods.get(name).settings.entry
    [key] = [each for each in entry.settings if each.endswith("dropout")]
    samples = some_samples(4)
    model = engine_model("llama")
    adapter = built(name, model, **{key: 0.4})
    assert not adapter.constant_over_batch()
    disturb(adapter)

    def found(passes=1, step=3, seed=1):
        for tensor in adapter.tensors.values():
            tensor.grad = None
        with adapter.attached():
            return gradients(model, adapter, Batches([samples], [(seed, step)], (), share=False), passes)

    first = found()
    torch.manual_seed(77)
    torch.testing.assert_close(found(), first, rtol=0, atol=0)
    torch.testing.assert_close(found(passes=2), first, rtol=1e-9, atol=0)
    assert abs(float(found(step=4) - first)) > 1e-6
    assert abs(float(found(seed=2) - first)) > 1e-6


@pytest.mark.parametrize("name", ["pvera", "poly"])
def test_what_a_layer_draws_in_training_belongs_to_the_run(name):
    samples = some_samples(3)
    model = engine_model("llama", torch.float32)
    adapter = built(name, model)
    disturb(adapter)

    def found(step):
        with adapter.attached():
            return float(gradients(model, adapter, Batches([samples], [(1, step)], (), share=False)))

    first, state = found(3), torch.get_rng_state()
    torch.manual_seed(5)
    assert found(3) == first
    assert found(4) != first
    torch.set_rng_state(state)


def test_a_setting_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError):
        methods.get("vera").settings.model_validate_json('{"rank": 4}')


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("c3a", {"block_size": 7}, r"refuses C3A with these settings: .*7"),
        ("road", {"group_size": 7}, "refuses ROAD with these settings"),
        ("shira", {"r": 1000}, "refuses SHIRA with these settings"),
        ("dora", {"targets": ["k_projj"]}, "target 'k_projj' matches no module"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_sentence(name, changes, message):
    with pytest.raises(ConfigError, match=message) as refused:
        built(name, engine_model("llama", torch.float32), **changes)
    assert "\n" not in str(refused.value)


def test_a_part_of_a_fused_projection_is_refused():
    with pytest.raises(ConfigError, match="cannot act on a part of the fused projection"):
        built("dora", engine_model("phi3", torch.float32))


def test_the_global_streams_are_left_as_they_were():
    import random

    import numpy as np

    model = engine_model("llama", torch.float32)
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    built("adamss", model)
    drawn = float(torch.rand(())), random.random(), float(np.random.rand())
    torch.manual_seed(3), random.seed(3), np.random.seed(3)
    assert drawn == (float(torch.rand(())), random.random(), float(np.random.rand()))


def test_every_setting_is_one_of_peft_and_has_its_meaning():
    for entry in ENTRIES:
        kind = peft.PEFT_TYPE_TO_CONFIG_MAPPING[entry.peft_type]
        known = {*kind.__dataclass_fields__, "ratio", "init_rows", "beta", "gamma"}
        assert entry.settings.keys() <= known, entry.name
        assert all(meaning.endswith(".") for _, _, meaning in entry.settings.values()), entry.name
        assert issubclass(methods.get(entry.name).settings, HFSettings)
