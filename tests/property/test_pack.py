"""The index plan of a stream: every token of every sample stands where it should, for any mixture of lengths."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.engine.pack import NOTHING, Sample, common_prefix, pack

token = st.integers(0, 50)
ids = st.lists(token, min_size=1, max_size=9).map(tuple)
answers = st.lists(token, max_size=4).map(tuple)


@st.composite
def groups(draw):
    shared = draw(st.lists(token, max_size=5).map(tuple))
    sample = st.builds(lambda own, answer: Sample(shared + own, answer), ids, answers)
    rows = draw(st.lists(st.lists(sample, min_size=1, max_size=4), min_size=1, max_size=3))
    return shared, rows


@given(groups(), st.booleans(), st.integers(0, 3), st.integers(0, 3))
@settings(max_examples=300, deadline=None)
def test_every_sample_is_read_back_from_the_stream(group, share, embedded, offset):
    shared, rows = group
    stream = pack(rows, shared=shared, share=share, embedded_tokens=embedded, first_position=offset)
    runs, total = stream.token_ids.shape
    assert stream.shared == (embedded + len(shared) if share else 0)
    own = stream.own.view(runs, stream.samples, stream.longest)
    flat_ids, flat_positions = stream.token_ids.flatten(), stream.positions.flatten()
    virtual = [-1 - i for i in range(embedded)]
    for k, row in enumerate(rows):
        head = stream.token_ids[k, : stream.shared].tolist()
        for s, sample in enumerate(row):
            index = own[k, s, : stream.own_lengths[k][s]]
            assert (index // total == k).all(), "a sample lies in its own row"
            read = head + flat_ids[index].tolist()
            assert read == [*virtual, *sample.prompt, *sample.answer[:-1]]
            positions = stream.positions[k, : stream.shared].tolist() + flat_positions[index].tolist()
            assert positions == list(range(offset, offset + len(read)))
        assert stream.row_tokens[k] == stream.shared + sum(stream.own_lengths[k])


@given(groups(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_scattering_undoes_gathering(group, share):
    shared, rows = group
    stream = pack(rows, shared=shared, share=share)
    runs, total = stream.token_ids.shape
    gathered = torch.arange(runs * total).index_select(0, stream.own)
    back = gathered.index_select(0, stream.back).view(runs, total - stream.shared)
    for k in range(runs):
        length = stream.row_tokens[k]
        expected = torch.arange(k * total + stream.shared, k * total + length)
        assert torch.equal(back[k, : length - stream.shared], expected)


@given(groups(), st.booleans())
@settings(max_examples=200, deadline=None)
def test_answers_are_predicted_from_the_token_before_them(group, share):
    shared, rows = group
    stream = pack(rows, shared=shared, share=share)
    runs, total = stream.token_ids.shape
    where = stream.answer_rows.view(runs, -1)
    for k, row in enumerate(rows):
        found = {s: [] for s in range(len(row))}
        for place, target, s in zip(
            where[k].tolist(), stream.answer_ids[k].tolist(), stream.answer_samples[k].tolist(), strict=True
        ):
            if target != NOTHING:
                found[s].append((place, target))
        for s, sample in enumerate(row):
            assert [target for _, target in found[s]] == list(sample.answer)
            own = stream.own.view(runs, stream.samples, -1)[k, s, : stream.own_lengths[k][s]].tolist()
            if sample.answer:
                assert [place for place, _ in found[s]] == own[-len(sample.answer) :]


@given(st.lists(st.builds(Sample, ids, answers), max_size=6))
def test_the_common_prefix_is_common_longest_and_leaves_something_over(samples):
    prefix = common_prefix(samples)
    assert all(sample.prompt[: len(prefix)] == prefix for sample in samples)
    assert all(len(sample.prompt) > len(prefix) for sample in samples)
    if samples:
        longer = {sample.prompt[: len(prefix) + 1] for sample in samples}
        shortest = min(len(sample.prompt) for sample in samples)
        assert len(longer) > 1 or shortest == len(prefix) + 1


def test_a_prompt_without_the_shared_prefix_is_refused():
    with pytest.raises(ValueError, match="does not begin with the shared prefix"):
        pack([[Sample((1, 2, 3), (4,))]], shared=(2,))
    with pytest.raises(ValueError, match="nothing after it"):
        pack([[Sample((1, 2), (4,))]], shared=(1, 2))
