"""What holds of every split and sample, whatever the groups and labels."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from peftbench.datasets.split import group_names, hold_out, sample
from peftbench.schema import Example, Prompt

seeds = st.integers(0, 2**31)
members = st.lists(st.tuples(st.integers(0, 12), st.sampled_from("abc")), min_size=1, max_size=120)
links = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=60)


def examples(rows: list[tuple[int, str]]) -> list[Example]:
    return [
        Example(f"train-{number}", Prompt("", ()), stratum, (stratum,), f"g{group}", stratum)
        for number, (group, stratum) in enumerate(rows)
    ]


def distance(rows: list[Example], held: tuple[Example, ...]) -> float:
    """Squared distance, over the strata, of what is held out from a tenth."""
    whole, part = (Counter(example.stratum for example in some) for some in (rows, held))
    return sum((whole[stratum] / 10 - part[stratum]) ** 2 for stratum in whole)


@given(members.filter(lambda rows: len({group for group, _ in rows}) > 1), seeds)
def test_a_split_loses_nothing_and_breaks_no_group(rows: list[tuple[int, str]], seed: int) -> None:
    population = examples(rows)
    train, validation = hold_out(population, seed)
    assert train
    assert validation
    assert Counter(train + validation) == Counter(population)
    assert not {item.group for item in train} & {item.group for item in validation}


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from("abc")), min_size=2, max_size=60), seeds)
def test_groups_of_one_label_meet_every_share_to_within_one_group(
    groups: list[tuple[int, str]], seed: int
) -> None:
    population = examples([(name, label) for name, (size, label) in enumerate(groups) for _ in range(size)])
    held = Counter(item.stratum for item in hold_out(population, seed)[1])
    for label in "abc":
        sizes = [size for size, other in groups if other == label]
        assert abs(held[label] - sum(sizes) / 10) <= max(sizes, default=0) + 1


@given(members.filter(lambda rows: len({group for group, _ in rows}) > 1), seeds)
def test_no_group_left_in_train_would_have_brought_the_shares_closer_by_more_than_rounding(
    rows: list[tuple[int, str]], seed: int
) -> None:
    population = examples(rows)
    train, validation = hold_out(population, seed)
    largest = max(Counter(item.group for item in population).values())
    for group in {item.group for item in train}:
        more = (*validation, *(item for item in train if item.group == group))
        if len({item.group for item in train}) > 1:
            # Shares are whole numbers of rows, up to one row for each of three strata away from a tenth.
            assert distance(population, more) >= distance(population, validation) - 6 * largest


@given(members, st.integers(1, 150), seeds)
def test_a_sample_has_the_size_asked_for_and_the_shares_of_the_whole(
    rows: list[tuple[int, str]], size: int, seed: int
) -> None:
    population = examples(rows)
    chosen = sample(population, size, seed)
    assert len(chosen) == min(size, len(population))
    assert len(set(chosen)) == len(chosen)
    whole, part = (Counter(item.stratum for item in some) for some in (population, chosen))
    for stratum in whole:
        assert abs(part[stratum] - whole[stratum] * len(chosen) / len(population)) < 1


@given(links)
def test_connected_groups_are_the_components_of_the_graph(pairs: list[tuple[int, int]]) -> None:
    names = group_names("connected", [(f"{low:02}", f"{high:02}") for low, high in pairs])
    component = {node: {node} for pair in pairs for node in pair}
    for low, high in pairs:
        merged = component[low] | component[high]
        for node in merged:
            component[node] = merged
    assert names == [f"{min(component[low]):02}" for low, _ in pairs]
