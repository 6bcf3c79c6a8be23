"""Maps and break-evens of PSCP, against the formula itself, point by point."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.costtable import shipped_costs
from peftbench.errors import ConfigError
from peftbench.penalty import PAPER_COSTS, CostModel, Factor, pscp
from peftbench.sensitivity import COSTS, Candidate, break_even, exponent_map, reference_map, win_shares

PAPER = {each.method: each for each in shipped_costs("paper").candidates}
MEANS = {each.method: each for each in shipped_costs("paper-means").candidates}


def model(exponents=(1, 1, 1), references=(5e8, 1e13, 94e9)):
    pairs = zip(COSTS, references, exponents, strict=True)
    return CostModel(**{name: Factor(reference=c, importance=b) for name, c, b in pairs})


def score(each, costs=PAPER_COSTS, performance=None):
    return pscp(
        each.performance if performance is None else performance, each.params, each.flops, each.memory, costs
    ).score


positive = st.floats(1e-3, 1e3)
candidate = st.builds(
    lambda name, p, a, b, c: Candidate(name, p, a * 5e8, b * 1e13, c * 94e9),
    st.sampled_from("abc"), st.floats(1, 100), positive, positive, positive,
)  # fmt: skip


def with_draws(candidates, replicates=50):
    source = np.random.default_rng(1)
    return [
        Candidate(each.method, each.performance, each.params, each.flops, each.memory,
                  np.clip(source.normal(each.performance, 3, replicates), 0, 100))
        for each in candidates
    ]  # fmt: skip


@given(candidate, st.lists(st.floats(0, 4), min_size=3, max_size=3))
def test_the_weight_is_what_pscp_multiplies_by(each, exponents):
    costs = model(exponents)
    assert each.performance * each.weight(costs) == pytest.approx(score(each, costs), rel=1e-9)


@settings(max_examples=25)
@given(st.lists(candidate, min_size=1, max_size=4))
def test_the_winner_is_the_one_of_brute_force(candidates):
    candidates = with_draws(candidates)
    axes = ([0.0, 1.0, 4.0], [0.0, 0.5], [1.0, 2.5])
    found = exponent_map(candidates, model(), axes)
    factors = ([0.01, 1.0], [1.0, 10.0, 100.0], [0.1])
    scaled = reference_map(candidates, model((2, 1, 0.5)), factors)
    for each, values in ((found, axes), (scaled, factors)):
        assert each.winner.shape == each.lead.shape == each.share.shape == tuple(map(len, values))
        for place in itertools.product(*map(range, each.winner.shape)):
            point = [axis[number] for axis, number in zip(values, place, strict=True)]
            if each is found:
                costs = model(point)
            else:
                references = [c * by for c, by in zip((5e8, 1e13, 94e9), point, strict=True)]
                costs = model((2, 1, 0.5), references)
            scores = [score(one, costs) for one in candidates]
            winner = each.winner[place]
            assert scores[winner] == pytest.approx(max(scores), rel=1e-9)
            second = max([*scores[:winner], *scores[winner + 1 :]], default=0)
            assert each.lead[place] == pytest.approx(max(0, 1 - second / max(scores)), abs=1e-9)
            replicates = np.array([one.draws * one.weight(costs) for one in candidates])
            assert each.share[place] == pytest.approx(np.mean(replicates.argmax(axis=0) == winner), abs=0.021)


def test_shares_of_wins():
    sure = Candidate("sure", 50, 0, 0, 0, np.array([50.0, 50.0, 50.0, 50.0]))
    wild = Candidate("wild", 40, 0, 0, 0, np.array([40.0, 60.0, 30.0, 40.0]))
    assert win_shares([sure, wild]) == (0.75, 0.25)
    assert win_shares([sure, Candidate("none", 40, 0, 0, 0)]) is None
    # What costs as much as its reference has half of the score, and loses even the best of its draws.
    dear = Candidate("dear", 40, 5e8, 0, 0, wild.draws)
    assert win_shares([sure, dear]) == (1.0, 0.0)
    covered = exponent_map([sure, wild]).covers()
    assert covered == {"sure": (1.0, 0.0), "wild": (0.0, 0.0)}
    assert exponent_map([sure, wild]).covers(sure=0.75)["sure"] == (1.0, 1.0)


def test_where_several_are_equal_none_wins():
    for performance in (0.0, 50.0):
        draws = np.full(4, performance)
        alike = [Candidate(name, performance, 1e6, 0, 1e9, draws) for name in ("one", "two")]
        found = exponent_map(alike)
        assert win_shares(alike) == (0.0, 0.0)
        assert found.covers() == {"one": (0.0, 0.0), "two": (0.0, 0.0)}
        assert not found.lead.any()
    ahead = Candidate("ahead", 51, 1e6, 0, 1e9, np.array([50.0, 52.0, 50.0, 52.0]))
    assert win_shares([*alike, ahead]) == (0.0, 0.0, 0.5)
    assert exponent_map([*alike, ahead]).covers(sure=0.5)["ahead"] == (1.0, 1.0)


@given(candidate, candidate, st.floats(0.1, 10), st.floats(0.1, 100))
def test_units_do_not_matter(first, second, by, money):
    """Scores, costs and references times a constant leave maps and break-evens as they are."""

    def scaled(each):
        return Candidate(
            each.method, each.performance / by, each.params * money, each.flops * money, each.memory * money
        )

    costs, dearer = model(), model(references=(5e8 * money, 1e13 * money, 94e9 * money))
    plain, other = break_even(first, second, costs), break_even(scaled(first), scaled(second), dearer)
    if plain.together.at is not None and other.together.at is not None and plain.together.at < 1e6:
        assert other.together.at == pytest.approx(plain.together.at, rel=1e-5, abs=1e-5)
    lead = exponent_map([first, second], costs).lead
    assert exponent_map([scaled(first), scaled(second)], dearer).lead == pytest.approx(lead, rel=1e-6, abs=1e-9)


@given(candidate, candidate, st.lists(st.floats(0, 4), min_size=3, max_size=3))
def test_a_break_even_equals_the_scores_and_changes_the_leader(first, second, exponents):
    first, second = (Candidate(name, *[getattr(each, field) for field in ("performance", *COSTS)])
                     for name, each in (("one", first), ("two", second)))  # fmt: skip
    found = break_even(first, second, model(exponents))
    ways = [(found.together, lambda t: (t, t, t))]
    ways += [
        (found.alone[name], lambda t, place=place: [t if n == place else b for n, b in enumerate(exponents)])
        for place, name in enumerate(COSTS)
    ]
    for crossing, at in ways:

        def lead(t, at=at):
            return score(first, model(at(t))) - score(second, model(at(t)))

        if crossing.at is None:
            assert crossing.below == crossing.above
            for t in (0.0, 0.5, 2.0, 4.0):
                assert crossing.above is None or lead(t) * (1 if crossing.above == "one" else -1) >= -1e-9
        elif 1e-6 < crossing.at < 20:
            assert lead(crossing.at) == pytest.approx(0, abs=1e-7)
            assert {crossing.below, crossing.above} == {"one", "two"}
            sign = 1 if crossing.below == "one" else -1
            assert sign * lead(crossing.at * 0.9) >= -1e-9 >= sign * lead(crossing.at * 1.1) - 2e-9


def test_lora_passes_ln_tuning_below_about_0_94():
    """The paper says that equal importances cannot change the order."""
    found = break_even(PAPER["lora"], PAPER["ln_tuning"])
    assert found.together.at == pytest.approx(0.9387, abs=1e-4)
    assert (found.together.below, found.together.above) == ("lora", "ln_tuning")
    assert found.alone["params"].at == pytest.approx(0.933, abs=1e-3)
    assert found.alone["memory"].at == pytest.approx(0.277, abs=1e-3)
    assert (found.alone["flops"].at, found.alone["flops"].above) == (None, "ln_tuning")
    for t, leader in ((0.93, "lora"), (0.95, "ln_tuning")):
        scores = {name: score(each, model((t, t, t))) for name, each in PAPER.items()}
        assert max(scores, key=scores.get) == leader


def test_with_the_means_of_tables_1_and_2_the_two_are_all_but_equal():
    assert score(MEANS["lora"]) == pytest.approx(58.46, abs=0.005)
    assert score(MEANS["ln_tuning"]) == pytest.approx(58.50, abs=0.005)
    assert break_even(MEANS["lora"], MEANS["ln_tuning"]).together.at == pytest.approx(0.9745, abs=1e-3)


def test_a_break_even_has_the_interval_of_its_replicates():
    one = Candidate("one", 60, 5e8, 0, 0, np.linspace(55, 65, 1001))
    two = Candidate("two", 30, 0, 0, 0, np.full(1001, 30.0))
    found = break_even(one, two).alone["params"]  # one has 2 to the power of minus its importance left
    assert found.at == pytest.approx(1)
    assert (found.low, found.high) == (pytest.approx(np.log2(55.25 / 30)), pytest.approx(np.log2(64.75 / 30)))
    zero = Candidate("two", 30, 0, 0, 0, np.zeros(1001))
    assert break_even(one, zero).together.low is None
    same = break_even(two, two).together
    assert (same.at, same.below, same.above) == (None, None, None)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: exponent_map([]), "there is no method to compare"),
        (lambda: exponent_map([PAPER["lora"]], axes=([-1.0], [0.0], [0.0])), "expected numbers of at least 0"),
        (lambda: exponent_map([PAPER["lora"]], axes=([], [0.0], [0.0])), "expected numbers of at least 0"),
        (lambda: reference_map([PAPER["lora"]], axes=([0.0], [1.0], [1.0])), "expected numbers above 0"),
        (lambda: reference_map([PAPER["lora"]], axes=([float("nan")], [1.0], [1.0])), "expected numbers above 0"),
        (lambda: break_even(PAPER["lora"], Candidate("none", 0, 1, 1, 1)), "performance of none is 0"),
        (lambda: exponent_map([Candidate("x", float("nan"), 1, 1, 1)]), "performance of x is nan"),
        (lambda: exponent_map([PAPER["lora"]], CostModel(extra={"s": Factor(reference=1)})), "leave out s"),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_refused(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
