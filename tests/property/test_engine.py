"""Whatever is packed, shared, fused or split: the gradients are those of the stock model, one sample at a time."""

import functools
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.engine import attention
from peftbench.engine.pack import Sample, common_prefix
from peftbench.engine.padded import PaddedModel
from peftbench.engine.step import Batches, gradients
from peftbench.testing import tiny_model
from tests.oracle import build, disturb, engine_model, float64_throughout

token = st.integers(5, 260)
METHODS = ("lora", "ia3", "ln_tuning", "prompt_tuning", "p_tuning", "prefix_tuning")


@functools.cache
def models(family):
    stock = tiny_model(family, dtype=torch.float64)
    stock.set_attn_implementation("sdpa")
    return engine_model(family), PaddedModel(stock, "it is the oracle")


@st.composite
def groups(draw):
    prefix = draw(st.lists(token, max_size=6).map(tuple))
    own = st.lists(token, min_size=1, max_size=12).map(tuple)
    answer = st.lists(token, min_size=1, max_size=5).map(tuple)
    sample = st.builds(lambda a, b: Sample(prefix + a, b), own, answer)
    return draw(st.lists(st.lists(sample, min_size=1, max_size=4), min_size=1, max_size=3))


@pytest.mark.parametrize("family", ["llama", "mistral"])
@given(
    rows=groups(), method=st.sampled_from(METHODS), share=st.booleans(), passes=st.integers(1, 4),
    known=st.integers(0, 6), apart=st.booleans(),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_mixture_has_the_gradients_of_one_sample_at_a_time(family, rows, method, share, passes, known, apart):
    """`apart` is the attention of long samples on a CPU, one call each."""
    shared = common_prefix([sample for row in rows for sample in row])[:known]
    with float64_throughout():
        model, stock = models(family)
        adapter = build(method, model.module, seeds=range(len(rows)))
        disturb(adapter)
        with adapter.attached(), mock.patch.object(attention, "_uneven", return_value=apart):
            losses = gradients(model, adapter, Batches(rows, [(0, 0)] * len(rows), shared, share), passes)
        for run, row in enumerate(rows):
            alone = build(method, stock.module, seeds=[0])
            alone.load_state(0, adapter.state(run))
            answers = sum(len(sample.answer) for sample in row)
            loss = 0.0
            total = {name: torch.zeros_like(tensor) for name, tensor in alone.tensors.items()}
            for sample in row:
                for tensor in alone.tensors.values():
                    tensor.grad = None
                with alone.attached():
                    one = gradients(stock, alone, Batches([[sample]], [(0, 0)], (), share=False))
                share_of_row = len(sample.answer) / answers
                loss += one.item() * share_of_row
                for name, tensor in alone.tensors.items():
                    total[name] += tensor.grad * share_of_row
            assert losses[run].item() == pytest.approx(loss, rel=1e-10)
            scale = max(float(each.abs().max()) for each in total.values())
            for name, expected in total.items():
                error = float((adapter.tensors[name].grad[run] - expected[0]).abs().max())
                assert error <= 1e-10 * scale, (name, run, error / scale)
