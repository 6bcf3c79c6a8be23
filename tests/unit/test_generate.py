"""Greedy generation: the tokens of Hugging Face, whatever the batch, the order and the shared prefix."""

import pytest
import torch

from peftbench.engine.generate import generate
from peftbench.engine.pack import Sample, common_prefix
from peftbench.testing import FAMILIES
from tests.oracle import SMALL, build, disturb, engine_model, peft_model, some_samples, stock_model

PROMPTS = [sample.prompt for sample in some_samples(9, seed=31)]
STOP = frozenset({2})


def ours(model, adapter, *, prompts=PROMPTS, batch_size=4, new=12, stop=STOP, share=True):
    shared = common_prefix([Sample(prompt, ()) for prompt in prompts]) if share else ()

    def run():
        return generate(
            model, adapter, prompts, max_new_tokens=new, stop_ids=stop, batch_size=batch_size, shared=shared
        )

    if adapter is None:
        return run()
    with adapter.attached():
        return run()


def greedy(module, prompt, new=12, stop=STOP):
    """One prompt by full passes of the stock model, without any cache: the slowest and plainest way."""
    ids, answer = list(prompt), []
    for _ in range(new):
        with torch.no_grad():
            logits = module(input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids))).logits
        token = int(logits[0, -1].argmax())
        if token in stop:
            return tuple(answer), False
        answer.append(token)
        ids.append(token)
    return tuple(answer), True


@pytest.mark.parametrize("family", FAMILIES)
def test_the_base_model_says_what_the_stock_model_says(family):
    stock = stock_model(family)
    expected = [greedy(stock, prompt) for prompt in PROMPTS]
    found = ours(engine_model(family), None)
    assert [(each.ids, each.hit_limit) for each in found] == expected
    assert len({ids for ids, _ in expected}) > 5, "the prompts must lead to different answers"


@pytest.mark.parametrize("method", SMALL)
def test_an_adapted_model_says_what_peft_says(method):
    model = engine_model("llama")
    adapter = build(method, model.module)
    disturb(adapter, size=0.3)
    wrapped, _ = peft_model(method, stock_model("llama"), adapter)
    expected = [greedy(wrapped, prompt) for prompt in PROMPTS]
    found = ours(model, adapter.deployed(0))
    assert [(each.ids, each.hit_limit) for each in found] == expected
    base = ours(model, None)
    assert [each.ids for each in base] != [each.ids for each in found], "the adapter must change something"


@pytest.mark.parametrize("method", [None, "lora", "prompt_tuning", "prefix_tuning"])
def test_batch_size_order_and_sharing_do_not_change_an_answer_in_float32(method):
    model = engine_model("llama", torch.float32)
    adapter = None
    if method:
        adapter = build(method, model.module)
        disturb(adapter, size=0.3)
        adapter = adapter.deployed(0)
    expected = ours(model, adapter, batch_size=1, share=False)
    for batch_size in (1, 2, 3, 9):
        assert ours(model, adapter, batch_size=batch_size) == expected
        backwards = ours(model, adapter, prompts=PROMPTS[::-1], batch_size=batch_size)
        assert backwards[::-1] == expected
    assert ours(model, adapter, prompts=PROMPTS[3:4]) == expected[3:4]


def test_generation_stops_at_any_stop_token_and_leaves_it_out():
    model = engine_model("llama")
    free = ours(model, None, stop=frozenset())
    assert all(len(each.ids) == 12 and each.hit_limit for each in free)
    stops = frozenset({free[0].ids[3], free[1].ids[0]})
    stopped = ours(model, None, stop=stops)
    for each, whole in zip(stopped, free, strict=True):
        end = next((i for i, token in enumerate(whole.ids) if token in stops), None)
        assert each.ids == whole.ids[:end]
        assert each.hit_limit == (end is None)
    assert stopped[1].ids == ()


def test_the_context_of_the_model_is_never_passed():
    model = engine_model("gpt2", n_positions=30)  # learned positions: one too many would be an error
    found = ours(model, None, new=50, stop=frozenset())
    for prompt, each in zip(PROMPTS, found, strict=True):
        assert len(prompt) + len(each.ids) == 31
        assert each.hit_limit


def test_prefix_tokens_count_against_the_context():
    model = engine_model("gpt2", n_positions=60)
    adapter = build("prompt_tuning", model.module).deployed(0)
    found = ours(model, adapter, new=100, stop=frozenset())
    assert [7 + len(prompt) + len(each.ids) for prompt, each in zip(PROMPTS, found, strict=True)] == [61] * 9


def test_progress_counts_every_prompt():
    model, counted = engine_model("llama"), []
    generate(model, None, PROMPTS, max_new_tokens=1, stop_ids=STOP, batch_size=4, progress=counted.append)
    assert sum(counted) == len(PROMPTS)
