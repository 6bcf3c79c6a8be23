"""Sentences about very many methods stay short, and numbers agree with their nouns."""

import pytest

from peftbench.errors import DataError, UnknownName
from peftbench.leaderboard import gather
from peftbench.selection import Shared, named, shared_by
from peftbench.store import stored_results
from tests.predicted import add


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    runs = tmp_path_factory.mktemp("many")
    for rank in range(1, 101):
        add(runs, "lora", "rte", 1, 0.7, rows=4, settings={"rank": rank})
    return stored_results(runs)


def test_very_many_settings_are_not_all_named(results):
    with pytest.raises(DataError, match="and 80 more; name one in full"):
        named(results, "lora")
    with pytest.raises(UnknownName, match="and 41 more") as refused:
        named(results, "zzz")
    assert len(str(refused.value)) < 1500


def test_one_dataset_and_one_seed_are_said_as_one(results):
    shared: Shared = shared_by(gather(results, protocol="corrected"), allow_missing=False)
    assert shared.size == "1 dataset, 1 seed"
