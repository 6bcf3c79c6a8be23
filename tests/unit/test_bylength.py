"""Costs by length of samples: interpolated ones stay close to those predicted at the length itself."""

import pytest

from peftbench.bylength import Costs, sample_lengths
from peftbench.datasets import get_dataset, load_dataset
from peftbench.efficiency.devices import find_device, roofline
from peftbench.efficiency.plan import predict
from peftbench.engine.base import _chat
from peftbench.records import RunConfig
from peftbench.schema import MethodChoice

DEVICE = find_device("a100-40", calibrated=False)


def config(method, **changes):
    return RunConfig(model="qwen3-0.6b", dataset="rte", method=MethodChoice(name=method), **changes)


@pytest.mark.parametrize("method", ["lora", "prompt_tuning", "ln_tuning"])
@pytest.mark.parametrize("tokens", [90, 300])
def test_between_two_lengths_costs_are_close_to_a_line(method, tokens):
    costs = Costs(config(method), DEVICE, online=False)
    direct = predict("qwen3-0.6b", None, MethodChoice(name=method), batch=4, tokens=tokens, dtype="bfloat16",
                     engine="packed")  # fmt: skip
    peak, fits, split = costs.memory(tokens)
    assert peak == pytest.approx(direct.peak_train_memory_bytes, rel=0.05)
    assert (fits, split) == (True, False)
    cost, wanted = costs.at(tokens)[1], roofline(direct, DEVICE)
    for name in ("step_seconds", "answer_prefill_seconds", "next_token_seconds"):
        near, exact = getattr(cost, name), getattr(wanted, name)
        assert near.low == pytest.approx(exact.low, rel=0.1), name
        assert near.high == pytest.approx(exact.high, rel=0.1), name


def test_more_samples_or_less_room_are_never_cheaper():
    costs = Costs(config("lora"), DEVICE, online=False)
    lengths = (16, 40, 64, 200, 700, 2048)
    peaks = [costs.memory(length)[0] for length in lengths]
    steps = [costs.at(length)[1].step_seconds.high for length in lengths]
    assert peaks == sorted(peaks)
    assert steps == sorted(steps)


def test_lengths_of_the_mini_suite_are_measured_with_the_models_own_tokenizer():
    costs = Costs(RunConfig(model="peftbench-tiny", dataset="sst2@mini", method=MethodChoice(name="ia3")), DEVICE,
                  online=False)  # fmt: skip
    spec = get_dataset("sst2@mini")
    chat = _chat("peftbench-tiny")
    rows = load_dataset(spec, splits=["train"]).train
    true = sorted(len(chat.prompt_ids(row.prompt.text())) + len(chat.answer_ids(row.target)) for row in rows)
    assert sample_lengths(spec, costs).median == pytest.approx(true[len(true) // 2], rel=0.2)
