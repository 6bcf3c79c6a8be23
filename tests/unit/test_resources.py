"""What a grid asks of a cluster: common resources, those of one model, and what is said of mistakes."""

from pathlib import Path

import pytest

from peftbench.errors import ConfigError
from peftbench.grid import load_grid
from peftbench.resources import Cluster, Resources

GRID = "name: small\nmodels: [peftbench-tiny, a/big]\nmethods: [ia3]\ndatasets: [cb]\n"


def loaded(tmp_path, text):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID.replace("a/big", str(tmp_path / "big")) + text)
    return load_grid(file)[0].cluster


def test_what_a_model_does_not_say_is_common(tmp_path):
    big = str(tmp_path / "big")
    cluster = loaded(
        tmp_path,
        f"cluster: {{gpus: 1, memory_gb: 64, setup: [module load cuda], models: {{{big}: {{gpus: 4, memory_gb: null}}}}}}\n",
    )
    assert cluster.setup == ("module load cuda",)
    assert cluster.of("peftbench-tiny") == Resources(gpus=1, memory_gb=64)
    assert cluster.of(big) == Resources(gpus=4)


def test_it_changes_no_cell(tmp_path):
    file = tmp_path / "grid.yaml"
    file.write_text(GRID.replace(", a/big", ""))
    assert load_grid(file)[1] == load_grid(file, ["cluster.gpus=3"])[1]
    assert load_grid(file)[0].cluster == Cluster()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cluster: {gpu: 1}", "did you mean 'gpus'"),
        ("cluster: {minutes: 0}", "cluster.minutes"),
        ("cluster: {stop_seconds: 1}", "cluster.stop_seconds"),
        ("cluster: {partition: 'a b'}", "cluster.partition"),
        ("cluster: {models: {peftbench-tyni: {gpus: 2}}}", "'peftbench-tyni' is not among the grid's models; did you mean 'peftbench-tiny'?"),
        ("cluster: {models: {peftbench-tiny: {tasks: 2}}}", "tasks"),
    ],
)  # fmt: skip
def test_mistakes_have_a_place(tmp_path, text, expected):
    with pytest.raises(ConfigError) as told:
        loaded(tmp_path, text + "\n")
    assert expected in str(told.value), str(told.value)
    assert "grid.yaml:5" in str(told.value), str(told.value)


def test_a_shipped_grid_asks_for_nothing():
    assert load_grid(Path("subset"))[0].cluster == Cluster()
