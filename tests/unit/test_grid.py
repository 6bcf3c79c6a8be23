"""Grid files: what they expand to, that it is stable, and what is said of a file that cannot be."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peftbench.errors import ConfigError, UnknownName
from peftbench.grid import Grid, expand, finished, is_grid, load_grid, shard, shipped_grids
from peftbench.records import RunConfig

SEEDS = (42, 123, 456, 789, 101112)


def written(tmp_path, text) -> Path:
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    return file


SMALL = "name: small\nmodels: [peftbench-tiny]\nmethods: [base, ia3]\ndatasets: [cb, copa]\nseeds: [1, 2]\n"


def test_every_shipped_grid_has_the_cells_that_it_is_known_for():
    sizes = {name: len(load_grid(Path(name))[1]) for name in shipped_grids()}
    # low-resource: COPA, SVAMP, CoLA, SST-2, HellaSwag, WSC at four sizes, CB at 16, 64 and all of its 250.
    assert sizes == {"demo": 76, "subset": 42, "paper": 837, "stability": 7 * 6 * 5, "low-resource": 27 * 6 * 5}


def test_the_papers_grid_is_the_paper():
    _, cells = load_grid(Path("paper"))
    base = [cell for cell in cells if cell.config.method.name == "base"]
    assert len(base) == 27
    assert {cell.config.seed for cell in cells if cell not in base} == set(SEEDS)
    assert all(cell.config.training == RunConfig.model_validate_json(
        '{"model": "x", "dataset": "cb", "method": "lora"}').training for cell in cells)  # fmt: skip
    assert {cell.config.output for cell in cells} == {"runs/paper"}


def test_a_limit_above_what_a_dataset_has_is_all_of_it():
    _, cells = load_grid(Path("low-resource"))
    limits = {}
    for cell in cells:
        limits.setdefault(cell.config.dataset, set()).add(cell.config.data.train_rows)
    assert limits["cb"] == {16, 64, None}
    assert limits["sst2"] == {16, 64, 256, 1024}
    assert limits["svamp"] == {16, 64, 256, None}


def test_lists_under_each_are_crossed_and_settings_hold_for_all(tmp_path):
    text = SMALL.replace("ia3", "{name: lora, alpha: 32, each: {rank: [4, 8], dropout: [0.0, 0.1]}}")
    _, cells = load_grid(written(tmp_path, text))
    found = [cell.config.method.settings for cell in cells if cell.config.method.name == "lora"]
    assert len(found) == 2 * 2 * 2 * 2
    assert {(each["rank"], each["dropout"]) for each in found} == {(4, 0.0), (4, 0.1), (8, 0.0), (8, 0.1)}
    assert {each["alpha"] for each in found} == {32}


def test_the_order_is_that_of_the_file_and_nothing_comes_twice(tmp_path):
    _, cells = load_grid(written(tmp_path, SMALL.replace("[1, 2]", "[1, 2, 1]")))
    names = [str(cell) for cell in cells]
    assert names == [
        "base on cb", "ia3 on cb, seed 1", "ia3 on cb, seed 2",
        "base on copa", "ia3 on copa, seed 1", "ia3 on copa, seed 2",
    ]  # fmt: skip


def test_overrides_and_exclusions_meet_what_they_name(tmp_path):
    text = SMALL + (
        "run: {training: {epochs: 3, learning_rate: {ia3: 1e-2}}}\n"
        "exclude: [{methods: base, datasets: cb}]\n"
        "overrides:\n"
        "  - {datasets: cb, set: {training: {epochs: 7}}}\n"
        "  - {seeds: 2, methods: [ia3], set: {training: {batch_size: 8}, evaluation: {test_rows: 5}}}\n"
    )
    _, cells = load_grid(written(tmp_path, text))
    found = {str(cell): cell.config for cell in cells}
    assert "base on cb" not in found
    assert found["ia3 on cb, seed 1"].training.epochs == 7
    assert found["ia3 on copa, seed 1"].training.epochs == 3
    assert found["ia3 on cb, seed 2"].training.batch_size == 8
    assert found["ia3 on cb, seed 2"].evaluation.test_rows == 5
    assert found["ia3 on cb, seed 1"].training.learning_rate == 1e-2


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.sampled_from(["base", "ia3", "lora", "ln_tuning"]), min_size=1, max_size=3, unique=True),
    st.lists(st.integers(0, 99), min_size=1, max_size=3, unique=True),
    st.sampled_from(["ia3", "prompt_tuning"]), st.integers(100, 200),
)  # fmt: skip
def test_adding_a_method_or_a_seed_adds_cells_and_changes_none(names, seeds, method, seed):
    def cells(names, seeds):
        grid = Grid.model_validate({
            "name": "g", "models": ({"model": "peftbench-tiny"},), "methods": tuple(names), "datasets": ("cb", "wsc"),
            "seeds": tuple(seeds), "train_rows": (16, None),
        })  # fmt: skip
        return {cell.id: cell.config for cell in expand(grid)}

    before, after = cells(names, seeds), cells([*names, method], [*seeds, seed])
    assert before.items() <= after.items()
    assert cells(names, seeds) == before


@pytest.mark.parametrize("name", ["paper", "low-resource", "demo"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_shards_part_the_cells_and_each_has_some_of_every_method(name, count):
    _, cells = load_grid(Path(name))
    parts = [shard(cells, f"{i + 1}/{count}") for i in range(count)]
    assert sorted(cell.id for part in parts for cell in part) == sorted(cell.id for cell in cells)
    if len(cells) > 100:
        assert max(map(len, parts)) < 1.3 * min(map(len, parts))
        assert all({c.config.method.name for c in part} == {c.config.method.name for c in cells} for part in parts)
    for part in parts:  # seeds stay together
        keys = {(cell.group, str(cell.config.method)) for cell in part if cell.config.method.name != "base"}
        wanted = [cell for cell in cells if (cell.group, str(cell.config.method)) in keys]
        assert len(wanted) == sum(cell.config.method.name != "base" for cell in part)


@pytest.mark.parametrize("text", ["0/2", "3/2", "x/2", "1/", "1", "-1/2", "1/0", "١/٢"])
def test_a_shard_that_is_none(text):
    with pytest.raises(ConfigError, match="--shard"):
        shard([], text)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ("[cb, copa]", "[cb, copaa]"),
            "grid.yaml:4:16: unknown dataset 'copaa'; did you mean 'copa' or 'conala'?",
        ),
        (
            ("[base, ia3]", "[base, ia]"),
            "grid.yaml:3:17: unknown method 'ia'; did you mean 'ia3' or 'ia3_published'?",
        ),
        (("ia3", "{name: lora, rnak: 3}"), "grid.yaml:3:30: unknown key 'rnak'; did you mean 'rank'?"),
        (("ia3", "{name: lora, each: {rank: [4, x]}}"), "grid.yaml:3:37: rank is 'x', expected a whole number"),
        (("ia3", "{name: lora, each: {rank: []}}"), "each.rank"),
        (("[1, 2]", "[]"), "seeds is [], expected at least one value"),
        (("[1, 2]", "1"), "seeds is 1, expected a list, such as [one, another]"),
        (("[1, 2]", "[-1]"), "seeds.0 is -1"),
        (("[peftbench-tiny]", "[a/x, b/x]"), "two models are called 'x'"),
        (("name: small", "name: ../x"), "name"),
        (("seeds", "sedes"), "unknown key 'sedes'; did you mean 'seeds'?"),
        (("name: small", "name: small\nmodel: x"), "unknown key 'model'"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path, change, expected):
    with pytest.raises(ConfigError) as caught:
        load_grid(written(tmp_path, SMALL.replace(*change)))
    assert any(expected in problem for problem in caught.value.problems), caught.value.problems
    assert not any("Tuple" in problem or "String" in problem for problem in caught.value.problems)


def test_what_follows_from_a_mistake_is_not_told(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_grid(written(tmp_path, SMALL.replace("[1, 2]", "[-1]")))
    [problem] = caught.value.problems
    assert "seeds.0 is -1" in problem


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("run: {seed: 3}", "run.seed is set by the grid's 'seeds'"),
        ("run: {data: {train_rows: 3}}", "run.data.train_rows is set by the grid's 'train_rows'"),
        ("run: {training: {epoch: 3}}", "unknown key 'training.epoch'; did you mean 'epochs'?"),
        ("exclude: [{datasets: rte}]", "'rte' is not among the grid's datasets"),
        ("exclude: [{seeds: 99}]", "exclude.0 meets no cell"),
        ("overrides: [{methods: base, seeds: 2, set: {threads: 1}}]", "overrides.0 meets no cell"),
        ("overrides: [{methods: ia3, set: {training: {epochs: 0}}}]", "training.epochs is 0"),
        ("exclude: [{models: peftbench-tiny}]", "no cell is left"),
    ],
)
def test_mistakes_in_rules_are_named_with_their_place(tmp_path, more, expected):
    with pytest.raises(ConfigError) as caught:
        load_grid(written(tmp_path, SMALL + more + "\n"))
    assert any(expected in problem and problem.startswith("grid.yaml:6:") for problem in caught.value.problems), (
        caught.value.problems
    )


def test_a_file_of_one_run_and_an_unknown_name_are_told_apart(tmp_path):
    file = tmp_path / "train.yaml"
    file.write_text("model: m\ndataset: cb\nmethod: ia3\n")
    assert not is_grid(file)
    with pytest.raises(ConfigError, match="describes one run, not a grid"):
        load_grid(file)
    with pytest.raises(UnknownName, match="unknown grid 'papr'; did you mean 'paper'"):
        load_grid(Path("papr"))
    assert is_grid(Path("paper"))


def test_settings_reach_into_a_grid(tmp_path):
    grid, cells = load_grid(written(tmp_path, SMALL), ["seeds=[7]", "run.training.epochs=2"])
    assert grid.seeds == (7,)
    assert {cell.config.training.epochs for cell in cells} == {2}


def test_nothing_is_finished_without_records(tmp_path):
    _, cells = load_grid(written(tmp_path, SMALL))
    assert finished(cells, []) == {}
