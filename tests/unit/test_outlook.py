"""Which of several methods is best as far as replicates tell, and how the answer is said."""

import numpy as np
import pytest

from peftbench.answering import answer_of, cheapest, percent
from peftbench.efficiency.cost import Range
from peftbench.outlook import Outlook, decide
from peftbench.stats import interval_of

SOURCE = np.random.default_rng(0)
NOISE = SOURCE.normal(size=1000)


def outlook(method, draws=None, *, seconds=(60.0, 240.0), peak=10**9, why=(), hours=None, seeds=2, scored=True):
    return Outlook(
        method=method, choice=method, trainable_params=1, extra_forward_flops=0, peak_memory_bytes=peak,
        fits=not why, several_passes=False, why=tuple(why), seconds=Range(low=seconds[0], high=seconds[1]),
        joules=None, within_hours=hours, scores={}, seeds=seeds, missing=(),
        performance=None if draws is None else interval_of(float(np.mean(draws)), draws),
    )  # fmt: skip


def said(methods, draws, **changes):
    able = {each.method: draws[each.method] for each in methods if each.possible and each.method in draws}
    given = {"model": "m", "device": "h100", "hours": None, "remedy": None, "base": None, **changes}
    return answer_of(methods, decide(able) if able else None, **given)


def test_a_clear_winner_is_alone():
    found = decide({"a": 70 + NOISE, "b": 80 + NOISE, "c": 60 + NOISE})
    assert found.leaders == ("b",)
    assert found.shares == {"b": 1, "a": 0, "c": 0}
    assert found.above_base is None
    assert decide({"a": 70 + NOISE}, 70 + NOISE - np.where(np.arange(1000) < 900, 1, -1)).above_base == 0.9


def test_methods_that_are_equal_share_every_replicate():
    found = decide({"a": 70 + NOISE, "b": 70 + NOISE, "c": 60 + NOISE})
    assert found.shares == {"a": 0.5, "b": 0.5, "c": 0}
    assert found.leaders == ("a", "b")


@pytest.mark.parametrize(("wins", "leaders"), [(950, ("a",)), (949, ("a", "b")), (50, ("b",)), (51, ("b", "a"))])
def test_the_best_is_among_the_leaders_in_95_of_100(wins, leaders):
    first = np.where(np.arange(1000) < wins, 1.0, 0.0)
    assert decide({"a": first, "b": 1 - first}).leaders == leaders


def test_several_that_are_seldom_the_best_are_not_left_out_one_by_one():
    place = np.arange(1000)
    draws = {"a": place < 930, "b": (place >= 930) & (place < 965), "c": place >= 965}
    assert decide({name: each.astype(float) for name, each in draws.items()}).leaders == ("a", "b")


def test_nothing_to_decide_is_a_mistake():
    with pytest.raises(ValueError, match="no method was given"):
        decide({})


def test_the_winner_is_named_with_its_interval():
    draws = {"a": 70 + NOISE, "b": 80 + NOISE}
    text = said([outlook(name, each) for name, each in draws.items()], draws)
    low, high = np.percentile(draws["b"], [2.5, 97.5])
    assert text.startswith(
        f"b ({np.mean(draws['b']):.1f} with 95 % interval {low:.1f} to {high:.1f}), the best in 100 %"
    )
    assert "it takes 60 s to 4 min and 1.00 GB" in text


def test_those_that_cannot_be_told_apart_are_compared_by_cost():
    other = SOURCE.normal(size=1000)
    draws = {"a": 70.3 + NOISE, "b": 70 + other}
    text = said([outlook("a", draws["a"], peak=2 * 10**9), outlook("b", draws["b"], seconds=(80, 300))], draws)
    assert text.startswith("cannot tell a and b apart (a, 70.")
    assert "of these a takes the least time (60 s to 4 min) and b the least memory (1.00 GB)" in text
    assert "seed" not in text


def test_one_seed_the_base_model_and_hours_are_said():
    draws = {"a": 70 + NOISE}
    base = outlook("base", 70 + NOISE)
    method = outlook("a", draws["a"], seeds=1, hours="perhaps")
    verdict = decide(draws, 70 + NOISE)
    text = answer_of([method], verdict, model="m", device="h100", hours=0.05, remedy=None, base=base)
    assert "the only method that can be run on h100 within 0.05 h" in text
    assert "it may take more than the 0.05 h" in text
    assert "scores above the base model (70.0), which needs no training, in only 0 % of the resamples" in text
    assert "one seed, so that this says nothing of how much seeds differ" in text


def test_what_scored_more_and_is_out_of_reach_is_named():
    draws = {"a": 70 + NOISE, "b": 80 + NOISE, "c": 60 + NOISE}
    methods = [outlook("a", draws["a"]), outlook("b", draws["b"], why=["too large"]), outlook("c", draws["c"])]
    text = said(methods, draws)
    assert text.startswith("a (")
    assert text.endswith("; b scored 80.0, but cannot be run there")


def test_a_method_without_records_keeps_a_single_one_from_being_the_answer():
    draws = {"a": 70 + NOISE}
    text = said([outlook("a", draws["a"]), outlook("b", seeds=0)], draws)
    assert text.startswith("cannot tell, because only a (70.")
    assert "and b could be run as well" in text
    draws["c"] = 60 + NOISE
    text = said([outlook("a", draws["a"]), outlook("b", seeds=0), outlook("c", draws["c"])], draws)
    assert text.startswith("a (70.")
    assert "b could be run as well, but lacks records of some dataset" in text


def test_without_records_without_rows_and_without_room():
    text = said([outlook("a", seeds=0), outlook("b", seeds=0)], {})
    assert text.startswith("cannot tell, because there are no records of scores for m; ")
    assert "a and b can be run on h100, of which a takes the least time and memory" in text
    assert said([outlook("a")], {}).startswith(
        "cannot tell, because none of the methods that can be run has records"
    )
    unsampled = [outlook(name).model_copy(update={"performance": interval_of(70.0, None)}) for name in "ab"]
    assert "because there is nothing to resample" in said(unsampled, {})
    full = [outlook("a", why=["x"])]
    assert said(full, {}, remedy="take an h200") == "none, because no method can be run on h100; take an h200"
    late = [outlook("a", hours="no"), outlook("b", why=["x"], hours="no")]
    assert said(late, {}, hours=0.01).startswith(
        "none, because none of the methods that fit is done within 0.01 h; a needs"
    )


def test_words_for_shares_and_unknown_costs():
    assert [percent(each) for each in (0, 0.001, 0.5, 0.999, 1)] == [
        "0 %",
        "under 1 %",
        "50 %",
        "over 99 %",
        "100 %",
    ]
    unknown = outlook("a").model_copy(update={"seconds": None})
    assert cheapest([unknown]) == "it takes a time that is not known and 1.00 GB"
