"""Logits and gradients of every native method against Hugging Face PEFT and against merged weights, in float64."""

import pytest
import torch
from torch import Tensor

from peftbench.engine.loss import sample_losses
from peftbench.engine.pack import common_prefix, pack
from peftbench.testing import FAMILIES
from tests.oracle import (
    SMALL,
    answer_logits,
    batch_loss,
    build,
    disturb,
    engine_model,
    float64_throughout,
    peft_model,
    some_samples,
    stock_model,
)

UNFUSED = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text")
RELATIVE = 1e-10


def close(ours: Tensor, theirs: Tensor, what: str) -> None:
    scale = float(theirs.detach().abs().max())
    assert scale > 0, f"{what}: the oracle gives nothing to compare with"
    error = float((ours - theirs).detach().abs().max()) / scale
    assert error < RELATIVE, f"{what}: relative error {error:.1e}"


def engine_pass(model, adapter, samples, *, share: bool):
    """Logits and gradients of run 0 through a packed stream."""
    stream = pack(
        [samples] * adapter.runs,
        shared=common_prefix(samples),
        share=share,
        embedded_tokens=adapter.embedded_tokens,
        first_position=adapter.virtual_tokens - adapter.embedded_tokens,
    )
    with adapter.attached():
        logits = model.logits(stream, adapter)
        loss = sample_losses(logits, stream).sum() / sum(len(sample.answer) for sample in samples)
        loss.backward()
    return logits[0].detach(), {name: tensor.grad[0] for name, tensor in adapter.tensors.items()}


@pytest.mark.parametrize("family", UNFUSED)
@pytest.mark.parametrize("method", SMALL)
@pytest.mark.parametrize("share", [False, True], ids=["packed", "shared"])
def test_logits_and_gradients_equal_those_of_peft(family, method, share):
    samples = some_samples()
    with float64_throughout():
        model = engine_model(family)
        adapter = build(method, model.module)
        disturb(adapter)
        logits, gradients = engine_pass(model, adapter, samples, share=share)

        wrapped, theirs = peft_model(method, stock_model(family), adapter)
        reference = answer_logits(wrapped, samples)
        batch_loss(reference, samples).backward()
    close(logits, torch.cat(reference).detach(), "logits")
    for name, parameter in theirs.items():
        close(gradients[name].flatten(), parameter.grad.flatten(), name)


def merged(method: str, module, tensors: dict[str, Tensor], adapter) -> dict[str, Tensor]:
    """The stock model's weights with one run of a weight-side method folded in."""
    weights = dict(module.named_parameters())
    if method == "ln_tuning":
        return {**weights, **tensors}
    folded = dict(weights)
    for target in [*adapter.targets, *getattr(adapter, "feedforward", [])]:
        transposed = type(target.module).__name__ == "Conv1D"
        weight = folded[f"{target.name}.weight"]
        weight = weight.T if transposed else weight  # (outputs, inputs)
        rows = torch.arange(weight.shape[0]) if target.outputs is None else target.outputs
        if method == "lora":
            change = (
                tensors[f"{target.key}.B"]
                @ tensors[f"{target.key}.A"]
                * (adapter.settings.alpha / adapter.settings.rank)
            )
            weight = weight.index_add(0, rows, change)
        elif f"{target.key}.input_scale" in tensors and target in adapter.feedforward:
            weight = weight * tensors[f"{target.key}.input_scale"]
        else:
            scale = torch.ones(weight.shape[0], dtype=weight.dtype).index_copy(
                0, rows, tensors[f"{target.key}.scale"]
            )
            weight = weight * scale[:, None]
            if f"{target.name}.bias" in folded:
                folded[f"{target.name}.bias"] = folded[f"{target.name}.bias"] * scale
        folded[f"{target.name}.weight"] = weight.T if transposed else weight
    return folded


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "ia3", "ia3_published", "ln_tuning"])
def test_weight_side_methods_equal_the_model_with_merged_weights(family, method):
    """Also for fused projections, which PEFT cannot target by role."""
    samples = some_samples(seed=3)
    with float64_throughout():
        model = engine_model(family)
        adapter = build(method, model.module)
        disturb(adapter)
        logits, gradients = engine_pass(model, adapter, samples, share=True)

        stock = stock_model(family)
        leaves = {name: tensor[0].detach().clone().requires_grad_() for name, tensor in adapter.tensors.items()}
        weights = merged(method, stock, leaves, adapter)

        def run(**inputs):
            return torch.func.functional_call(stock, weights, kwargs=inputs)

        reference = answer_logits(run, samples)
        batch_loss(reference, samples).backward()
    close(logits, torch.cat(reference).detach(), "logits")
    for name, leaf in leaves.items():
        close(gradients[name], leaf.grad, name)


@pytest.mark.parametrize("method", SMALL)
def test_runs_of_one_stream_do_not_touch_each_other(method):
    """Three runs with other seeds and other samples in one pass equal the same runs alone."""
    groups = [some_samples(count, seed=7) for count in (4, 2, 3)]
    with float64_throughout():
        model = engine_model("llama")
        adapter = build(method, model.module, seeds=(1, 2, 3))
        disturb(adapter)
        alone = []
        for run, samples in enumerate(groups):
            alone.append(engine_pass(model, adapter.select([run]), samples, share=True))
        stream = pack(
            groups,
            shared=common_prefix(groups[0]),
            embedded_tokens=adapter.embedded_tokens,
            first_position=adapter.virtual_tokens - adapter.embedded_tokens,
        )
        with adapter.attached():
            logits = model.logits(stream, adapter)
            sums = sample_losses(logits, stream).sum(1)
            counts = torch.tensor([sum(len(sample.answer) for sample in samples) for samples in groups])
            (sums / counts).sum().backward()
    for run, (expected, gradients) in enumerate(alone):
        close(logits[run, : len(expected)], expected, f"logits of run {run}")
        for name, gradient in gradients.items():
            close(adapter.tensors[name].grad[run], gradient, f"{name} of run {run}")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "ia3", "ln_tuning"])
def test_weight_side_methods_begin_as_the_base_model(family, method):
    samples = some_samples(seed=4)
    model = engine_model(family)
    adapter = build(method, model.module, **({"dropout": 0.05} if method == "lora" else {}))
    stream = pack([samples])
    with torch.no_grad():
        base = model.logits(stream, None)
        with adapter.attached():
            adapted = model.logits(stream, adapter)
    torch.testing.assert_close(adapted, base, rtol=1e-6, atol=1e-6)


def test_a_detached_adapter_leaves_no_trace():
    model = engine_model("llama")
    stream = pack([some_samples()])
    with torch.no_grad():
        before = model.logits(stream, None)
        for method in SMALL:
            adapter = build(method, model.module)
            disturb(adapter)
            with pytest.raises(KeyError), adapter.attached():
                raise KeyError("an error inside must not leave the adapter behind")
        assert torch.equal(model.logits(stream, None), before)


def test_two_adapters_at_once_are_refused():
    model = engine_model("llama")
    first, second = build("lora", model.module), build("ia3", model.module)
    with first.attached(), pytest.raises(RuntimeError, match="another adapter"), second.attached():
        pass
