"""Predicted live bytes against what the allocator counted while the same step ran on real tensors."""

import gc

import pytest
import torch
from transformers import AutoModelForCausalLM

from peftbench.efficiency.passes import Load, Training, stock_attention
from peftbench.efficiency.plan import predict
from peftbench.efficiency.profile import Peak
from peftbench.engine.model import LanguageModel
from peftbench.engine.runs import TrainingRun
from peftbench.engine.train import Group
from peftbench.methods import build_adapter
from peftbench.methods.specs import methods
from peftbench.records import EngineConfig, TrainingConfig
from peftbench.schema import MethodChoice
from peftbench.testing import tiny_config

WIDE = {"hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 4, "vocab_size": 4000}
SMALL_ENCODER = {"encoder_hidden": 96}


def compared(tmp_path, method, load, engine, family="llama", dtype=torch.float32):
    """(predicted, allocated) peak of a training step in bytes."""
    config = tiny_config(family, **(WIDE if family != "gpt2" else {"n_embd": 128, "n_layer": 4}))
    config.save_pretrained(tmp_path)
    choice = MethodChoice.model_validate(method)
    predicted = predict(
        str(tmp_path),
        None,
        choice,
        batch=load.batch,
        tokens=load.tokens,
        answer_tokens=load.answer_tokens,
        shared_tokens=load.shared_tokens,
        gradient_checkpointing=load.gradient_checkpointing,
        dtype=str(dtype).removeprefix("torch."),
        engine=engine,
        kernels="cpu",
    )
    gc.collect()
    with Peak() as before:  # model, adapter and optimizer, which the step finds there
        module = AutoModelForCausalLM.from_config(config, dtype=dtype).eval().requires_grad_(False)
        if engine == "padded":
            stock_attention(module)
        spec = methods.get(choice.name)
        training = Training(module, build_adapter(spec, module, choice.settings_for(spec), [0]), load, engine)
    held = [*module.parameters(), *module.buffers(), *training.held]
    kept = sum({each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in held}.values())
    assert before.bytes >= kept
    with Peak() as step:
        training.step()
    return predicted.peak_train_memory_bytes, kept + step.bytes


P_TUNING = {"name": "p_tuning", **SMALL_ENCODER}


@pytest.mark.parametrize(
    ("method", "load", "engine"),
    [
        ("lora", Load(4, 48, 4), "packed"),
        ("lora", Load(4, 160, 40), "packed"),
        ("lora", Load(4, 160, 4, gradient_checkpointing=True), "packed"),
        ("lora", Load(4, 96, 4), "padded"),
        ({"name": "lora", "dropout": 0.0}, Load(4, 160, 4, 100), "packed"),
        ("ia3", Load(4, 160, 4, 30), "packed"),
        ("ia3", Load(1, 200, 8), "padded"),
        ("ln_tuning", Load(8, 64, 4), "packed"),
        ("ln_tuning", Load(4, 96, 4, gradient_checkpointing=True), "padded"),
        ("prompt_tuning", Load(4, 96, 4, 20), "packed"),
        ("prompt_tuning", Load(4, 64, 4), "padded"),
        ("prefix_tuning", Load(4, 96, 4), "packed"),
        ("prefix_tuning", Load(4, 64, 4), "padded"),
        (P_TUNING, Load(4, 96, 4), "packed"),
        (P_TUNING, Load(4, 64, 4), "padded"),
    ],
    ids=str,
)
def test_the_peak_is_what_the_allocator_counts(tmp_path, method, load, engine):
    predicted, allocated = compared(tmp_path, method, load, engine)
    assert predicted == pytest.approx(allocated, rel=0.05)


@pytest.mark.parametrize("family", ["qwen3", "gemma2", "phi3", "gpt_neox", "gpt2"])
def test_the_peak_of_other_families(tmp_path, family):
    predicted, allocated = compared(tmp_path, "lora", Load(4, 96, 4), "packed", family)
    assert predicted == pytest.approx(allocated, rel=0.05)


def test_the_peak_under_a_bfloat16_base(tmp_path):
    predicted, allocated = compared(tmp_path, "ia3", Load(4, 96, 4), "packed", dtype=torch.bfloat16)
    assert predicted == pytest.approx(allocated, rel=0.05)


@pytest.mark.parametrize("again", [False, True])
def test_the_peak_of_the_training_loop_itself(tmp_path, again):
    """Not the step made for the comparison but that of a run, with its own samples."""
    load = Load(4, 120, 6, 20, again)
    predicted, _ = compared(tmp_path, "ia3", load, "packed")
    model = LanguageModel(AutoModelForCausalLM.from_config(tiny_config(**WIDE)))
    spec = methods.get("ia3")
    adapter = build_adapter(spec, model.module, MethodChoice(name="ia3").settings_for(spec), [0])
    samples = tuple(load.samples(4000))
    run = TrainingRun(0, samples, samples, TrainingConfig(epochs=1))
    group = Group(model, adapter, [run], engine=EngineConfig(gradient_checkpointing=again))
    optimizer = group.optimizer
    best = optimizer.values(0)
    held = [*model.module.parameters(), *model.module.buffers(), optimizer.flat, optimizer.first, optimizer.second]
    kept = sum({each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in [*held, best]}.values())
    from peftbench.engine import memory

    with memory.recomputing(model.module, on=again), adapter.attached(), Peak() as step:
        group.update()
    assert predicted == pytest.approx(kept + step.bytes, rel=0.05)
