"""Ids of runs: the same for what gives the same numbers, another for what can change them, and stable for ever."""

import pytest

from peftbench.config import run_config
from peftbench.datasets import get_dataset
from peftbench.identity import cell_id, content_id, eval_id, train_id
from peftbench.methods.specs import methods
from peftbench.schema import DataFacts, SplitFacts

BASE = {"model": "some/folder", "dataset": "rte", "method": "lora"}


def facts(**sha256):
    splits = {name: SplitFacts(rows=1, sha256=sha256.get(name, name)) for name in ("train", "validation", "test")}
    return DataFacts(
        dataset="rte", version=1, protocol="corrected", source="hub", revision="0" * 40, files={}, partial=False,
        source_rows={}, splits=splits, train_test_overlap_rows=0, train_duplicate_rows=0, split_seed=0,
        train_rows_without_target=0, train_rows_limit=None, test_rows_limit=None,
    )  # fmt: skip


def id_of(changes=None, *, fingerprint="sha256:0", dtype="float32", data=None):
    config = run_config({**BASE, **(changes or {})})
    return train_id(
        config,
        dataset=get_dataset(config.dataset),
        method=methods.get(config.method.name),
        model_fingerprint=fingerprint,
        dtype=dtype,
        data=data or facts(),
    )


def test_an_id_never_changes():
    """A change here means that every finished run would be done again: raise IDENTITY_VERSION instead."""
    assert id_of() == "cfb08e0aab8a"
    assert eval_id("0" * 12, test_sha256="test", max_new_tokens=32) == "f785db880971"


@pytest.mark.parametrize(
    "changes",
    [
        {"output": "elsewhere"},
        {"device": "cpu"},
        {"threads": 3},
        {"keep_checkpoints": True},
        {"tracking": ["wandb"], "tracking_project": "mine"},
        {"data": {"directory": "there", "allow_partial": True}},
        {"evaluation": {"test_rows": 3, "batch_size": 2}},
        {"method": {"name": "lora", "rank": 16}},
        {"training": {"epochs": 10, "learning_rate": 5e-5}},
        {"model": "other/folder"},
    ],
    ids=str,
)
def test_what_cannot_change_the_weights_does_not_change_the_id(changes):
    assert id_of(changes) == id_of()


def test_quantization_asks_for_another_number():
    plain, nf4, int8 = (
        run_config({**BASE, **({"quantization": each} if each else {})}) for each in (None, "nf4", "int8")
    )
    dataset, method = get_dataset("rte"), methods.get("lora")
    assert len({cell_id(each, dataset=dataset, method=method) for each in (plain, nf4, int8)}) == 3
    base = methods.get("base")
    asked = [run_config({**BASE, "method": "base", **each}) for each in ({}, {"quantization": "nf4"})]
    assert len({cell_id(each, dataset=dataset, method=base) for each in asked}) == 2


def test_the_order_of_keys_does_not_change_the_id():
    backwards = {key: BASE[key] for key in reversed(BASE)}
    assert content_id({"a": 1, "b": 2}) == content_id({"b": 2, "a": 1})
    assert id_of(backwards) == id_of()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 43},
        {"protocol": "published"},
        {"method": "ia3"},
        {"method": {"name": "lora", "rank": 8}},
        {"training": {"epochs": 9}},
        {"training": {"learning_rate": 1e-4}},
        {"training": {"max_tokens": 1024}},
        {"training": {"validations": 10}},
    ],
    ids=str,
)
def test_what_can_change_the_weights_changes_the_id(changes):
    assert id_of(changes) != id_of()


def test_model_precision_and_rows_change_the_id():
    ids = {
        id_of(),
        id_of(fingerprint="sha256:1"),
        id_of(dtype="bfloat16"),
        id_of(data=facts(train="other")),
        id_of(data=facts(validation="other")),
    }
    assert len(ids) == 5
    assert id_of(data=facts(test="other")) == id_of()


def test_the_base_model_has_no_seed_no_training_and_no_training_rows():
    base = {"method": "base"}
    assert id_of(base) == id_of({**base, "seed": 7, "training": {"epochs": 3}}, data=facts(train="other"))
    assert id_of(base) != id_of({**base, "training": {"max_tokens": 1024}})
    assert id_of(base) != id_of()


def test_an_evaluation_has_its_own_id():
    first = eval_id("t", test_sha256="x", max_new_tokens=32)
    assert first != eval_id("u", test_sha256="x", max_new_tokens=32)
    assert first != eval_id("t", test_sha256="y", max_new_tokens=32)
    assert first != eval_id("t", test_sha256="x", max_new_tokens=64)
