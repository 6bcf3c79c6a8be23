"""Groups, samples and the validation split on made-up examples, and their stability on written-down ones."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from peftbench.datasets.split import group_names, hold_out, sample
from peftbench.errors import DataError
from peftbench.schema import Example, Prompt

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "split.json"


def examples(*members: tuple[str, str]) -> list[Example]:
    """One example for each (group, stratum)."""
    return [
        Example(f"train-{number}", Prompt("", ()), stratum, (stratum,), group, stratum)
        for number, (group, stratum) in enumerate(members)
    ]


def ids(chosen: Sequence[Example]) -> list[str]:
    return [example.id for example in chosen]


def strata(chosen: Sequence[Example]) -> Counter[str]:
    return Counter(example.stratum for example in chosen)


def mixed(rows: int) -> list[Example]:
    """Groups of one to four rows, three strata in the shares 1 : 2 : 3."""
    members = []
    for number in range(rows):
        members.append((f"g{number * 7 % 101 // 2}-{number % 5}", "abbccc"[number % 6]))
    return examples(*members)


# -------------------------------------------------------------------------------------------------- groups


def test_equal_keys_are_one_group() -> None:
    assert group_names("equal", [("x",), ("y",), ("x",)]) == ["x", "y", "x"]


def test_rows_that_are_linked_through_others_are_one_group_whatever_their_order() -> None:
    links = [("a", "b"), ("c", "d"), ("b", "e"), ("f", "f"), ("e", "d")]
    names = group_names("connected", links)
    assert names == ["a", "a", "a", "f", "a"]
    backwards = group_names("connected", links[::-1])
    assert backwards == names[::-1]


def test_a_chain_of_many_rows_is_one_group() -> None:
    links = [(f"{number:06}", f"{number + 1:06}") for number in range(20_000)]
    assert set(group_names("connected", links[::-1])) == {"000000"}


def test_only_neighbours_with_equal_keys_are_twins() -> None:
    names = group_names("adjacent", [("x",), ("x",), ("y",), ("x",), ("y",), ("y",)])
    assert names[0] == names[1]
    assert names[4] == names[5]
    assert len(set(names)) == 4


# ----------------------------------------------------------------------------------------- validation split


def test_a_tenth_is_held_out_and_nothing_is_lost_or_reordered() -> None:
    rows = mixed(600)
    train, validation = hold_out(rows, seed=0)
    assert sorted(ids(train) + ids(validation)) == sorted(ids(rows))
    assert ids(train) == [name for name in ids(rows) if name in set(ids(train))]
    assert abs(len(validation) - 60) <= 4


def test_whole_groups_go_to_one_side() -> None:
    train, validation = hold_out(mixed(600), seed=3)
    assert not {example.group for example in train} & {example.group for example in validation}


def test_single_rows_are_held_out_in_the_exact_shares_of_their_labels() -> None:
    rows = examples(*((f"{number}", "abbccc"[number % 6]) for number in range(1200)))
    assert strata(hold_out(rows, seed=1)[1]) == {"a": 20, "b": 40, "c": 60}


def test_every_stratum_is_met_to_within_one_group() -> None:
    members = [(f"{stratum}{number // 7}", stratum) for stratum in "ab" for number in range(350)]
    held = strata(hold_out(examples(*members), seed=5)[1])
    assert all(abs(held[stratum] - 35) < 7 for stratum in "ab")


@pytest.mark.parametrize("rows", [2, 3, 9])
def test_at_least_one_row_is_held_out(rows: int) -> None:
    train, validation = hold_out(examples(*((f"{number}", "") for number in range(rows))), seed=0)
    assert (len(train), len(validation)) == (rows - 1, 1)


def test_the_smallest_group_is_held_out_where_all_are_too_large() -> None:
    members = [("large", "")] * 30 + [("small", "")] * 20
    train, validation = hold_out(examples(*members), seed=0)
    assert (len(train), len(validation)) == (30, 20)


def test_rows_of_a_single_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="3 training rows form 1 group, expected at least two"):
        hold_out(examples(("x", "a"), ("x", "b"), ("x", "a")), seed=0)


def test_another_seed_holds_out_other_rows() -> None:
    assert ids(hold_out(mixed(600), seed=0)[1]) != ids(hold_out(mixed(600), seed=1)[1])


# ------------------------------------------------------------------------------------------------- samples


@pytest.mark.parametrize("rows", [1, 7, 60, 599])
def test_a_sample_has_exactly_the_rows_asked_for_in_their_order(rows: int) -> None:
    population = mixed(600)
    chosen = sample(population, rows, seed=0)
    assert len(chosen) == rows
    assert ids(chosen) == [name for name in ids(population) if name in set(ids(chosen))]


def test_a_limit_above_the_rows_changes_nothing() -> None:
    population = mixed(20)
    assert sample(population, 20, seed=0) == sample(population, 99, seed=0) == tuple(population)


def test_a_sample_keeps_the_shares_of_the_labels() -> None:
    assert strata(sample(mixed(600), 60, seed=2)) == {"a": 10, "b": 20, "c": 30}


def test_a_sample_is_not_the_first_rows_and_depends_on_the_seed() -> None:
    population = mixed(600)
    first, second = (set(ids(sample(population, 60, seed=seed))) for seed in (0, 1))
    assert first != second
    assert len(first & set(ids(population[:60]))) < 30


def test_a_sample_takes_groups_whole_where_they_are_small() -> None:
    population = examples(*((f"{number // 2}", "") for number in range(1000)))
    counts = Counter(example.group for example in sample(population, 100, seed=0))
    assert sum(count == 2 for count in counts.values()) >= 49


def test_a_tenth_of_a_sample_of_large_groups_can_still_be_held_out() -> None:
    population = examples(*((f"{number // 60}", "") for number in range(6000)))
    chosen = sample(population, 50, seed=0)
    assert max(Counter(example.group for example in chosen).values()) == 5
    assert len(hold_out(chosen, seed=0)[1]) == 5


def test_a_sample_of_few_large_groups_is_still_as_large_as_asked() -> None:
    population = examples(*((f"{number // 300}", "") for number in range(600)))
    assert len(sample(population, 50, seed=0)) == 50


def test_choices_are_the_ones_written_down() -> None:
    population = mixed(200)
    now = {
        "validation, seed 0": ids(hold_out(population, seed=0)[1]),
        "validation, seed 1": ids(hold_out(population, seed=1)[1]),
        "sample of 20, seed 0": ids(sample(population, 20, seed=0)),
    }
    assert now == json.loads(GOLDEN.read_text())
