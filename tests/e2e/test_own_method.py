"""A method of one's own from its file to the page: runs, records, workers, the demo's table."""

import json
from pathlib import Path

import pytest

import peftbench
from peftbench import demo
from peftbench.errors import ConfigError
from peftbench.execute import predict
from peftbench.leaderboard import compare
from peftbench.methods import plugins
from peftbench.methods.specs import methods
from peftbench.planning import plan_file
from peftbench.schema import Prompt
from peftbench.site.build import build
from tests.own_methods import EXAMPLES, forgotten, text_of, write  # noqa: F401

PROMPTS = [Prompt("", (("", "a fine film"),))]


@pytest.fixture
def in_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    return tmp_path


def config(**changes):
    return {
        "model": "peftbench-tiny",
        "dataset": "sst2@mini",
        "method": {"name": "./mine.py", "rank": 2},
        "data": {"train_rows": 40},
        "training": {"epochs": 1, "validations": 2, "learning_rate": 1e-2},
        "evaluation": {"test_rows": 12},
        "device": "cpu",
        "threads": 1,
        **changes,
    }


def forget():
    """What another process knows: nothing."""
    plugins._specs.clear()
    methods._loaded().pop("mine", None)


def test_a_run_is_that_of_its_file_and_an_edited_file_makes_another(in_folder):
    first = peftbench.run(config())
    folder = Path(first.folder)
    assert folder.parts[:4] == ("runs", "peftbench-tiny", "mine", "sst2@mini")
    assert (folder / "method.py").read_text() == text_of("mine")
    recorded = json.loads((folder / "train.json").read_text())["config"]["method"]
    assert recorded == {
        "name": "mine",
        "settings": {"rank": 2},
        "code": {"path": "./mine.py", "sha256": methods.get("mine").code.sha256},
    }
    [row] = peftbench.results("runs").to_dict("records")
    assert (row["method"], row["method_code"]) == ("mine", recorded["code"]["sha256"])
    assert peftbench.run(config()) == first  # read back

    forget()
    assert len(predict(folder, PROMPTS)) == 1
    forget()
    write(in_folder, text=text_of("mine").replace("base(x) + ", "base(x) + 2 * "))
    with pytest.raises(ConfigError, match=r"method 'mine' was \w{8} of './mine.py', which is now"):
        predict(folder, PROMPTS)
    other = peftbench.run(config())
    assert other.folder != first.folder
    names = {row.method for row in compare([first, other], replicates=10)}
    assert names == {str(first.config.method), str(other.config.method)}
    assert all(name.startswith("mine(rank=2, code=") for name in names)


def test_seeds_share_a_pass_and_are_what_they_are_alone(in_folder):
    engine = {"tokens_per_step": 2000}
    alone = peftbench.run(config(seed=2, output="alone"))
    together = peftbench.run_many([config(seed=seed, engine=engine) for seed in (1, 2)])
    assert [each.train.group_size for each in together] == [2, 2]
    assert together[1].train.train_id == alone.train.train_id
    assert together[1].train.best_validation_loss == pytest.approx(alone.train.best_validation_loss, abs=1e-4)


def test_the_examples_are_in_the_table_of_the_demo_and_on_its_page(tmp_path, capsys):
    settings = [
        *demo.with_methods([str(file) for file in sorted(EXAMPLES.glob("*.py"))], 1e-2),
        "exclude=[{methods: [ia3, prompt_tuning, p_tuning, prefix_tuning, ln_tuning]}]",
        *("datasets=[sst2@mini]", "seeds=[42]", "run.training.epochs=1", "run.training.validations=1"),
        "run.evaluation.test_rows=12",
    ]
    results = demo.run_all(tmp_path, settings, processes=1)
    own = ["gated_lora", "mixed_prompt", "scaled_weights"]
    assert [each.config.method.name for each in results] == ["base", "lora", *own]
    assert {each.config.training.learning_rate for each in results[2:]} == {1e-2}
    demo.print_comparison(compare(results, replicates=10), tmp_path, settings)
    printed = capsys.readouterr().out
    for name in own:
        [row] = [line for line in printed.splitlines() if line.startswith(f"{name} ")]
        assert "MB" in row
    assert "gated_lora, mixed_prompt, scaled_weights: added, at the learning rate that was given" in printed

    build(tmp_path / "page", [tmp_path / "runs"])
    page = {file.stem for file in (tmp_path / "page" / "data" / "method").glob("*.js")}
    assert {*own, "lora"} <= page
    index = (tmp_path / "page" / "data" / "index.js").read_text()
    assert all(f'"{name}"' in index for name in own)
    assert str(EXAMPLES) not in "".join(file.read_text() for file in (tmp_path / "page").rglob("*.js"))


def test_a_method_that_the_demo_has_is_not_added():
    with pytest.raises(ConfigError, match="the demo has method 'lora' already"):
        demo.with_methods(["lora"], 1e-2)


def test_costs_are_predicted_as_for_a_built_in_method(in_folder):
    (in_folder / "grid.yaml").write_text(
        "name: g\nmodels: [peftbench-tiny]\nmethods: [lora, ./mine.py]\ndatasets: [sst2@mini]\nseeds: [1]\n"
        "run: {device: cpu}\n"
    )
    found = plan_file(Path("grid.yaml"))
    lora, mine = found.cells
    assert mine.method.startswith("mine(code=")
    assert 0 < mine.trainable_params < lora.trainable_params
    assert mine.peak_memory_bytes > 0
