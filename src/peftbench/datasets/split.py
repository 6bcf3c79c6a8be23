"""Groups, row limits and the validation split.

Every choice follows the order of SHA-256 over a seed and a group's key, so it is the same on every machine and
in every version of Python and of its libraries, and needs no state.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from peftbench.errors import DataError
from peftbench.schema import Example

GroupRule = Literal["equal", "connected", "adjacent"]

VALIDATION_SHARE = 10
"""One row in so many of the training rows is held out (paper, section 4)."""


def group_names(rule: GroupRule, keys: Sequence[tuple[str, ...]]) -> list[str]:
    """Name the group of each row from the keys of all rows, in their order.

    `equal`: rows with the same key. `connected`: rows that share any key, also through other rows. `adjacent`:
    runs of rows with the same key.
    """
    if rule == "equal":
        return [key for (key,) in keys]
    if rule == "connected":
        return _components(keys)
    names: list[str] = []
    for number, (key,) in enumerate(keys):
        follows = number > 0 and keys[number - 1] == (key,)
        names.append(names[-1] if follows else f"{key}-{number}")
    return names


def _components(keys: Sequence[tuple[str, ...]]) -> list[str]:
    parent: dict[str, str] = {}

    def root(key: str) -> str:
        while (above := parent.setdefault(key, key)) != key:
            parent[key] = parent[above]  # halves the path for the next look-up
            key = above
        return key

    for first, *others in keys:
        for other in others:
            # The smallest key leads, so that the name depends on the rows and not on their order.
            low, high = sorted((root(first), root(other)))
            parent[high] = low
    return [root(first) for first, *_ in keys]


def sample(examples: Sequence[Example], rows: int | None, seed: int) -> tuple[Example, ...]:
    """Exactly `rows` of the examples, or all for None or where there are fewer, in their order.

    The strata keep their shares. Groups come in seeded order and give all they have, but no more than a tenth
    of the sample each while others are left, so that a tenth can be held out of any sample.
    """
    if rows is None or rows >= len(examples):
        return tuple(examples)
    open_places = _quotas(Counter(example.stratum for example in examples), rows)
    largest_part = max(1, rows // VALIDATION_SHARE)
    groups = _by_group(examples)
    chosen: set[int] = set()
    for first, last in ((0, largest_part), (largest_part, len(examples))):
        for name in _seeded(groups, "sample", seed):
            for place in groups[name][first:last]:
                if open_places[examples[place].stratum] > 0:
                    open_places[examples[place].stratum] -= 1
                    chosen.add(place)
    return tuple(example for place, example in enumerate(examples) if place in chosen)


def hold_out(examples: Sequence[Example], seed: int) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """Split into training and validation rows, a tenth but at least one row for validation, each in their order.

    Whole groups go to one side. Groups are taken in seeded order wherever that brings the strata closer to their
    shares, which are met to within one group. Raises `DataError` where the rows form a single group.
    """
    groups = _by_group(examples)
    if len(groups) < 2:
        raise DataError(
            f"{len(examples)} training rows form {len(groups)} group, expected at least two so that one can be "
            "held out for validation; load more rows"
        )
    wanted = max(1, (len(examples) + VALIDATION_SHARE // 2) // VALIDATION_SHARE)
    missing = Counter(_quotas(Counter(example.stratum for example in examples), wanted))
    held: set[str] = set()
    order = _seeded(groups, "validation", seed)
    for name in order:
        size = Counter(examples[place].stratum for place in groups[name])
        # Taking the group shortens the distance to the shares: |missing - size| < |missing|.
        if sum(count * (2 * missing[stratum] - count) for stratum, count in size.items()) > 0:
            missing.subtract(size)
            held.add(name)
    if not held:
        held.add(min(order, key=lambda name: len(groups[name])))
    train = tuple(example for example in examples if example.group not in held)
    return train, tuple(example for example in examples if example.group in held)


def with_groups(examples: Iterable[Example], name: str) -> list[Example]:
    """The examples, each a member of the named group."""
    return [replace(example, group=name) for example in examples]


def _by_group(examples: Sequence[Example]) -> dict[str, list[int]]:
    groups: dict[str, list[int]] = defaultdict(list)
    for place, example in enumerate(examples):
        groups[example.group].append(place)
    return groups


def _seeded(groups: Iterable[str], purpose: str, seed: int) -> list[str]:
    return sorted(groups, key=lambda name: hashlib.sha256(f"{purpose} {seed} {name}".encode()).digest())


def _quotas(counts: Mapping[str, int], total: int) -> dict[str, int]:
    """Share `total` among the strata in proportion to `counts`, by largest remainder, ties by name."""
    rows = sum(counts.values())
    quotas = {stratum: count * total // rows for stratum, count in counts.items()}
    by_remainder = sorted(counts, key=lambda stratum: (-(counts[stratum] * total % rows), stratum))
    for stratum in by_remainder[: total - sum(quotas.values())]:
        quotas[stratum] += 1
    return quotas
