"""Methods named by file or brought by packages: what is loaded, what is refused, what they are known by."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

from peftbench.config import load_run_config, run_config
from peftbench.datasets import get_dataset, load_dataset
from peftbench.errors import ConfigError, UnknownName
from peftbench.grid import finished, load_grid
from peftbench.identity import cell_id, train_id
from peftbench.listing import method, rows_of
from peftbench.methods import build_adapter
from peftbench.methods.plugins import known_spec, load_file, spec_named, spec_of
from peftbench.methods.specs import methods
from peftbench.records import EvalRecord, RunResult
from peftbench.testing import tiny_model
from tests.own_methods import EXAMPLES, forgotten, text_of, write  # noqa: F401

RUN = {"model": "peftbench-tiny", "dataset": "sst2@mini"}


def test_a_file_defines_a_method_that_is_known_by_its_name_and_hash(tmp_path):
    file = write(tmp_path)
    spec = load_file(file)
    assert (spec.name, spec.code.path) == ("mine", str(file))
    assert methods.get("mine") is spec
    assert load_file(file) == spec
    shown = method(str(file), None, None, ["rank=3"])
    assert (shown["settings"]["rank"], shown["code"]["sha256"]) == (3, spec.code.sha256)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("raise ValueError('no such thing')\n", "ended with ValueError: no such thing, line 1; mend the file"),
        ("import sys\nsys.exit(3)\n", r"asked to end the process \(sys.exit, line 2\)"),
        ("def (:\n", "ended with SyntaxError: .*, line 1"),
        ("import no_such_module_here\n", "ended with ModuleNotFoundError: No module named 'no_such_module_here'"),
        ("x = 1\n", "must define one MethodSpec and defines none"),
        (text_of("one") + "two = method.model_copy(update={'name': 'two'})\n", "defines 2: one, two"),
        (text_of("lora"), "calls its method 'lora', which is a built-in one; choose another name"),
        (text_of("mine").replace("build=build", "build=None"), "has no build"),
        (
            text_of("mine").replace('name="mine"', 'name="Bad Name!"'),
            r"MethodSpec has name: String should match pattern .*, given 'Bad Name!', line",
        ),
        (
            text_of("mine").replace("identity_at_start=", "identity_at_begin="),
            "MethodSpec has identity_at_begin: Extra inputs are not permitted, line",
        ),
        (
            text_of("mine").replace('category="', 'category="hybrid '),
            "MethodSpec has category: Input should be 'base', .*, given 'hybrid ",
        ),
    ],
)
def test_a_file_that_is_no_method_is_refused_in_a_sentence(tmp_path, text, said):
    with pytest.raises(ConfigError, match=said) as caught:
        load_file(write(tmp_path, text=text))
    assert len(str(caught.value).splitlines()) == 1
    assert "mine" not in methods.names()


def test_what_a_file_prints_is_not_on_standard_output(tmp_path, capsys):
    load_file(write(tmp_path, text="print('hello')\n" + text_of("mine")))
    out, err = capsys.readouterr()
    assert (out, err) == ("", "hello\n")


def test_a_file_that_takes_long_to_be_loaded_is_told_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("peftbench.plugin_file.SLOW_SECONDS", 0.1)
    load_file(write(tmp_path, text="import time\ntime.sleep(1)\n" + text_of("mine")))
    assert "mine.py' is still being loaded after 0.1 s; if it never ends" in capsys.readouterr().err
    load_file(write(tmp_path, "quick"))
    assert capsys.readouterr().err == ""


def test_the_line_is_told_whatever_the_file_was_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, text=text_of("mine").replace("    targets = find", "    1 / 0\n    targets = find"))
    for name in ("mine.py", "./mine.py", str(tmp_path / "mine.py")):
        spec = load_file(name)
        with pytest.raises(ConfigError, match=r"build ended with ZeroDivisionError: division by zero, line \d+"):
            build_adapter(spec, tiny_model(), spec.settings(), [1])


def test_a_file_that_is_not_called_py_is_told_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, file="softy.txt")
    with pytest.raises(ConfigError, match="method file 'softy.txt' does not end in .py; call it softy.py"):
        spec_named("softy.txt")


def test_a_method_that_is_not_offered_says_why():
    with pytest.raises(ConfigError, match="method 'xlora' of Hugging Face PEFT is not offered: it mixes LoRA"):
        methods.get("xlora")
    assert "xlora" not in methods.names()


def test_a_method_that_ends_the_process_without_weights_is_not_taken_for_one_that_needs_them(tmp_path):
    text = text_of("mine").replace("    targets = find", "    import sys\n    sys.exit(4)\n    targets = find")
    with pytest.raises(ConfigError, match=r"build asked to end the process \(sys.exit, line \d+\)"):
        method(str(write(tmp_path, text=text)), "llama-3-8b", None, [])


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ConfigError, match="'no.py' does not exist"):
        load_file("no.py")
    with pytest.raises(ConfigError, match=r"--set method: .*no.py' does not exist"):
        load_run_config(None, None, [*(f"{k}={v}" for k, v in RUN.items()), "method=no.py"])


def test_two_files_may_not_have_one_name_but_one_may_be_edited(tmp_path):
    first = load_file(write(tmp_path))
    (tmp_path / "other").mkdir()
    assert load_file(write(tmp_path / "other")).code.sha256 == first.code.sha256  # the same method in two places
    with pytest.raises(ConfigError, match=r"calls its method 'mine', as does '.*mine.py'; choose another name"):
        load_file(write(tmp_path / "other", file="more.py", text=text_of("mine") + "# edited\n"))
    edited = load_file(write(tmp_path, text=text_of("mine") + "# edited\n"))
    assert edited.code.sha256 != first.code.sha256
    assert methods.get("mine") is edited


# ---------------------------------------------------------------------------------------------- configurations


def test_a_configuration_holds_the_name_and_what_the_code_was(tmp_path):
    file = write(tmp_path)
    config = run_config({**RUN, "method": {"name": str(file), "rank": 2}})
    assert config.method.name == "mine"
    assert config.method.settings == {"rank": 2}
    assert config.method.code == load_file(file).code
    assert str(config.method) == f"mine(rank=2, code={config.method.code.sha256[:8]})"
    assert run_config(json.loads(config.model_dump_json())) == config
    assert "code" not in run_config({**RUN, "method": "lora"}).model_dump()["method"]


def test_settings_of_a_file_are_checked_at_their_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "train.yaml").write_text(
        "model: peftbench-tiny\ndataset: rte\nmethod:\n  name: ./mine.py\n  rnk: 2\n"
        "training:\n  learning_rate: {./mine.py: 1e-3, lora: 1e-4}\n"
    )
    with pytest.raises(ConfigError, match=r"train.yaml:5:3: unknown key 'rnk'; did you mean 'rank'"):
        load_run_config(tmp_path / "train.yaml")
    config = load_run_config(tmp_path / "train.yaml", None, ["method=./mine.py", "method.rank=3"])
    assert config.method.settings == {"rank": 3}
    assert config.training.learning_rate == 1e-3


def test_an_edited_file_is_another_run_and_the_old_one_is_not_made_with_it(tmp_path):
    file = write(tmp_path)
    before = run_config({**RUN, "method": str(file)})
    write(tmp_path, text=text_of("mine") + "# edited\n")
    after = run_config({**RUN, "method": str(file)})
    dataset = get_dataset("sst2@mini")
    ids = {cell_id(each, dataset=dataset, method=spec_of(each.method)) for each in (before, after)}
    assert len(ids) == 2


def test_a_shared_prefix_is_another_training_wherever_a_method_may_draw(tmp_path):
    """Nobody knows what a user's method calls the chance of its dropout, or whether it has any."""
    file, dataset = write(tmp_path), get_dataset("sst2@mini")
    configs = {
        (name, when): run_config({**RUN, "method": str(name), "engine": {"shared_prefix": when}})
        for name in (file, "ia3")
        for when in ("always", "never")
    }
    data = load_dataset(dataset).facts
    ids = {
        key: train_id(
            each, dataset=dataset, method=spec_of(each.method), model_fingerprint="", dtype="", data=data
        )
        for key, each in configs.items()
    }
    assert ids[file, "always"] != ids[file, "never"]
    assert ids["ia3", "always"] == ids["ia3", "never"]


def test_a_record_is_not_made_again_with_another_file(tmp_path, monkeypatch):
    from peftbench.methods import plugins

    file = write(tmp_path)
    config = run_config({**RUN, "method": str(file)})
    monkeypatch.setattr(plugins, "_specs", {})  # another process
    methods._loaded().pop("mine")
    write(tmp_path, text=text_of("mine") + "# edited\n")
    assert known_spec(config.method) is None
    with pytest.raises(ConfigError, match=r"was \w{8} of '.*mine.py', which is now \w{8}; put that file back"):
        run_config(config)
    file.unlink()
    with pytest.raises(ConfigError, match=r"mine.py', which is not there; put that file back"):
        run_config(config)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    write(tmp_path / "here")
    assert run_config(config) == config  # the same text under its name where one is


def test_a_grid_names_files_and_knows_its_records_by_their_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    (tmp_path / "grid.yaml").write_text(
        "name: g\nmodels: [peftbench-tiny]\ndatasets: [sst2@mini]\nseeds: [1, 2]\n"
        "methods: [base, {name: mine.py, each: {rank: [2, 3]}}]\n"
        "exclude: [{methods: mine.py, seeds: 2}]\n"
        "overrides: [{methods: mine.py, set: {training: {epochs: 3}}}]\n"
    )
    _, cells = load_grid(tmp_path / "grid.yaml")
    assert [(str(cell.config.method).partition(", code")[0], cell.config.seed) for cell in cells] == [
        ("base", 1),
        ("mine(rank=2", 1),
        ("mine(rank=3", 1),
    ]
    assert {cell.config.training.epochs for cell in cells[1:]} == {3}
    records = [
        RunResult(folder="", config=cell.config, train=None, evaluation=EvalRecord.model_construct(status="done"))
        for cell in cells
    ]
    assert finished(cells, records).keys() == {cell.id for cell in cells}
    write(tmp_path, text=text_of("mine") + "# edited\n")
    _, again = load_grid(tmp_path / "grid.yaml")
    assert finished(again, records).keys() == {cells[0].id}


def test_two_files_of_one_name_in_a_grid_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    write(tmp_path, file="more.py", text=text_of("mine") + "# other\n")
    (tmp_path / "grid.yaml").write_text(
        "name: g\nmodels: [peftbench-tiny]\ndatasets: [sst2@mini]\nmethods: [mine.py, more.py]\n"
    )
    with pytest.raises(
        ConfigError, match=r"grid.yaml:4:20: method file 'more.py' calls its method 'mine', as does"
    ):
        load_grid(tmp_path / "grid.yaml")


# --------------------------------------------------------------------------------------------------- packages


class Point(importlib.metadata.EntryPoint):
    """An entry point whose package is not installed."""

    def load(self):
        value = OFFERED[self.value]
        return value() if callable(value) else value


OFFERED = {}


@pytest.fixture
def package(monkeypatch):
    """Installs entry points of methods: name, and what loading them gives or does."""

    def install(**offered):
        points = []
        for key, value in offered.items():
            name = key.rstrip("_")
            OFFERED[f"json:{key}"] = value
            points.append(Point(name, f"json:{key}", "peftbench.methods"))
        monkeypatch.setattr("peftbench.registry.entry_points", lambda group: points if "methods" in group else [])

    return install


def theirs(name):
    return methods.get("ia3").model_copy(update={"name": name})


def refuse():
    raise RuntimeError("its library is too old")


def test_a_method_of_a_package_is_loaded_when_it_is_asked_for_and_has_a_hash(package):
    asked = []
    package(theirs=lambda: asked.append(1) or theirs("theirs"))
    assert "theirs" in methods.names()
    assert asked == []
    config = run_config({**RUN, "method": "theirs"})
    assert asked == [1]
    assert config.method.code.path is None
    assert len(config.method.code.sha256) == 64
    changed = config.method.model_copy(update={"code": config.method.code.model_copy(update={"sha256": "0" * 64})})
    with pytest.raises(ConfigError, match="is not what it was for this run"):
        spec_of(changed)


def test_a_broken_package_costs_its_own_name_alone(package):
    package(broken=refuse, leaving=lambda: sys.exit(1))
    assert methods.get("lora").name == "lora"
    rows = {row["name"]: row for row in rows_of("methods")}
    assert rows["broken"]["category"] == "cannot be used"
    assert "RuntimeError: its library is too old" in rows["broken"]["summary"]
    assert "asked to end the process" in rows["leaving"]["summary"]
    assert rows["lora"]["category"] == "reparametrized"
    with pytest.raises(ConfigError, match=r"'broken' of package 'unknown' cannot be loaded .* mend or uninstall"):
        run_config({**RUN, "method": "broken"})
    with pytest.raises(UnknownName, match="did you mean 'lora'"):
        methods.get("lorra")
    assert run_config({**RUN, "method": "lora"}).method.name == "lora"


@pytest.mark.parametrize(
    ("offered", "said"),
    [
        ({"x": lambda: 3}, "is a int, expected a peftbench MethodSpec"),
        ({"x": lambda: theirs("y")}, "calls itself 'y'"),
        ({"x": lambda: theirs("x"), "x_": lambda: theirs("x")}, "both bring a method 'x'; uninstall one"),
    ],
)
def test_what_a_package_brings_must_be_one_method_of_that_name(package, offered, said):
    package(**offered)
    with pytest.raises(ConfigError, match=said):
        methods.get("x")


def test_a_package_cannot_take_the_name_of_a_built_in_method(package):
    package(lora=lambda: theirs("lora"))
    assert methods.get("lora").title == "LoRA"
    assert [row["summary"] for row in rows_of("methods") if row["name"] == "lora"][1].startswith(
        "'lora' of package 'unknown' has the name of a built-in method, which is used"
    )


def test_a_file_cannot_take_the_name_of_a_package(package, tmp_path):
    package(mine=lambda: theirs("mine"))
    with pytest.raises(ConfigError, match="calls its method 'mine', as does package 'unknown'"):
        load_file(write(tmp_path))


def test_nothing_heavy_is_loaded_before_a_method_is():
    code = (
        "import sys, peftbench.methodcheck, peftbench.drafts, peftbench.methods.plugins as p;"
        "p.spec_named('lora'); sys.exit(str('torch' in sys.modules) if 'torch' in sys.modules else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_the_examples_are_at_most_sixty_lines_long():
    found = {file.name: len(file.read_text().splitlines()) for file in EXAMPLES.glob("*.py")}
    assert len(found) == 3
    assert max([*found.values(), len(text_of("mine").splitlines())]) <= 60
    assert not any("peft " in file.read_text().replace("peftbench", "") for file in EXAMPLES.glob("*.py"))
