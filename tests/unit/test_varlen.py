"""The variable-length kernel: what it is given, with a kernel written after torch's description in its place."""

from contextlib import contextmanager
from unittest import mock

import pytest
import torch

from peftbench.engine import varlen
from peftbench.engine.pack import Sample, pack
from peftbench.engine.step import Batches, gradients
from peftbench.testing import FAMILIES
from tests.oracle import build, disturb, engine_model, float64_throughout, some_samples
from tests.unit.test_methods_parity import close

CPU = torch.device("cpu")


def kernel(query, key, value, query_ends, key_ends, most_queries, most_keys, *, scale=None, window_size=(-1, -1),
           enable_gqa=False, shift=0, beside=0):  # fmt: skip
    """`varlen_attn` one sequence at a time; `shift` and `beside` make it wrong."""
    assert query_ends.dtype == key_ends.dtype == torch.int32
    assert int(query_ends[-1]) == len(query)
    assert int(key_ends[-1]) == len(key) == len(value)
    assert most_queries == int(query_ends.diff().max())
    assert most_keys == int(key_ends.diff().max())
    assert enable_gqa == (query.shape[1] != key.shape[1])
    left, right = window_size
    assert right == 0, "causal"
    out = []
    for i in range(len(query_ends) - 1):
        q = query[query_ends[i] : query_ends[i + 1]].transpose(0, 1)
        k, v = (x[key_ends[i] : key_ends[i + 1]].transpose(0, 1) for x in (key, value))
        here = torch.arange(q.shape[1])[:, None] + k.shape[1] - q.shape[1] - shift
        there = torch.arange(k.shape[1])[None, :]
        seen = there <= here
        if left >= 0:
            seen &= here - there <= left + beside
        out.append(
            torch.nn.functional.scaled_dot_product_attention(
                q[None], k[None], v[None], attn_mask=seen, scale=scale, enable_gqa=enable_gqa
            )[0].transpose(0, 1)
        )
    return torch.cat(out)


@contextmanager
def used():
    """Every pass that may takes the kernel; gives the options of each call."""
    calls = []

    def counted(*args, **options):
        calls.append(options)
        return kernel(*args, **options)

    with mock.patch.object(varlen, "kernel_for", return_value=counted):
        yield calls


def gradients_of(family, method, share, **changes):
    """Losses and gradients of three runs with other samples."""
    groups = [some_samples(count, seed=7) for count in (4, 1, 3)]
    model = engine_model(family, **changes)
    adapter = build(method, model.module, seeds=(1, 2, 3))
    disturb(adapter)
    with adapter.attached():
        batches = Batches(groups, [(0, 0)] * 3, groups[0][0].prompt[:5], share)
        losses = gradients(model, adapter, batches)
    return {"losses": losses, **{name: tensor.grad for name, tensor in adapter.tensors.items()}}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["lora", "prompt_tuning", "prefix_tuning"])
@pytest.mark.parametrize("share", [False, True], ids=["packed", "shared"])
def test_gradients_are_those_of_padded_attention(family, method, share):
    """Windows of 3 end in the prefix, at its border and inside a sample."""
    window = {"sliding_window": 3} if "sliding_window" in FAMILIES[family] else {}
    with float64_throughout():
        expected = gradients_of(family, method, share, **window)
        with used() as calls:
            found = gradients_of(family, method, share, **window)
    for name in expected:
        close(found[name], expected[name], name)
    capped = family == "gemma2"
    assert bool(calls) == (not capped), "a soft cap is not for this kernel"
    assert any(options["window_size"] == (2, 0) for options in calls) == (bool(window) and not capped)


def test_what_each_sample_sees():
    """Two runs, three keys before the samples of each: positions in the stream and behind those keys."""
    rows = [[Sample((1, 2, 3), ()), Sample((1, 4), ())], [Sample((1, 5, 6, 7), ())]]
    plan = varlen.sequences(pack(rows, shared=(1,)), before=3)
    assert plan.queries.tolist() == [1, 2, 3, 5, 6, 7]  # rows of four tokens, the first of them shared
    assert plan.keys.tolist() == [0, 1, 2, 7, 8, 0, 1, 2, 9, 3, 4, 5, 11, 12, 13]
    assert plan.query_ends.tolist() == [0, 2, 3, 6]
    assert plan.key_ends.tolist() == [0, 5, 9, 15]
    assert (plan.most_queries, plan.most_keys) == (3, 6)


def test_a_kernel_is_used_only_on_a_gpu_and_in_half_precision():
    x = torch.zeros(1, 2, 3, 4)
    assert varlen.kernel_for(x, x) is None
    assert varlen.kernel_for(x.bfloat16(), x.bfloat16()) is None


@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (4, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_kernel_that_gives_something_else_is_not_used(heads, key_heads, dtype):
    def right(wrong):
        return varlen.is_right(wrong, CPU, dtype, heads, key_heads, 8)

    def raises(*_, **__):
        raise RuntimeError("no kernel image is available")

    assert right(kernel)
    with torch.inference_mode():
        assert right(kernel)
    assert not right(lambda *a, **o: kernel(*a, **o, shift=3)), "its last query stands elsewhere"
    assert not right(lambda *a, **o: kernel(*a, **o, beside=1)), "its window is one longer"
    assert not right(lambda *a, **o: kernel(*a, **{**o, "scale": 1.0})), "it scales otherwise"
    assert not right(lambda q, k, v, *a, **o: kernel(q, k.detach(), v, *a, **o)), "its gradient lacks keys"
    assert not right(lambda q, k, v, *a, **o: kernel(q, 2 * k - k.detach(), v, *a, **o)), "it is twice as large"
    assert not right(lambda *a, **o: kernel(*a, **o) * torch.nan)
    assert not right(raises)


def test_torch_takes_what_its_kernel_is_given():
    """On tensors without values, where the kernel gives nothing but shapes."""
    attention = pytest.importorskip("torch.nn.attention.varlen")
    stream = pack([some_samples(3), some_samples(2)], device="meta")
    runs, total = stream.token_ids.shape
    query = torch.empty(runs, 4, total, 8, dtype=torch.bfloat16, device="meta")
    key = torch.empty(runs, 2, total, 8, dtype=torch.bfloat16, device="meta")
    before = (key[:, :, :3], key[:, :, :3])
    plan = varlen.sequences(stream, 3)
    out = varlen.attend(attention.varlen_attn, query, key, key, before, plan, scale=0.3, window=4)
    assert out.shape == (runs, total, 4, 8)
