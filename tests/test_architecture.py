"""Rules of the code base that no linter knows: what may be imported where, what is never called, how long a file is."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

import peftbench

SOURCE = Path(peftbench.__file__).parent
ROOT = SOURCE.parents[1]
FILES = sorted(SOURCE.rglob("*.py"))
HEAVY = {"torch", "transformers", "peft"}
MAY_IMPORT_HEAVY = (
    "engine/",
    "follower.py",
    "methods/additions.py",
    "methods/native.py",
    "methods/plain.py",
    "methods/slots.py",
    "methods/soft_prompts.py",
    "methods/selective.py",
    "methods/bottleneck.py",
    "methods/svft.py",
    "methods/hf.py",
    "methods/hf_schedules.py",
    "methods/hf_shadow.py",
    "methods/peft_format.py",
    "efficiency/kernels.py",
    "efficiency/passes.py",
    "efficiency/plan.py",
    "efficiency/profile.py",
    "efficiency/trace.py",
    "testing/",
)
WRITTEN = [
    path
    for pattern in ("*.md", "docs/*.md", "*.toml", "*.cff", "Makefile", "configs/*.yaml", "configs/grids/*", "src/**/*.py", "src/**/*.yaml", "src/**/*.json", "tests/**/*.py",
                    "src/**/*.csv", "tools/*.py", "bench/**/*.py", ".ci/run")
    for path in ROOT.glob(pattern)
]  # fmt: skip


def name_of(path):
    return path.relative_to(SOURCE).as_posix()


def module_level_imports(tree):
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0]


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_torch_is_imported_at_module_level_in_few_places_only(path):
    found = HEAVY & set(module_level_imports(ast.parse(path.read_text())))
    if found:
        assert name_of(path).startswith(MAY_IMPORT_HEAVY), f"{name_of(path)} imports {found}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_file_opens_with_its_job_and_is_at_most_400_lines_long(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    described = ast.get_docstring(ast.parse(text))
    assert described, "a module says what it is for"
    assert len(described.splitlines()) <= 8


FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
FORBIDDEN_ATTRIBUTES = {
    ("torch", "load"),
    ("os", "system"),
    ("os", "popen"),
    ("yaml", "load"),
    ("pickle", "loads"),
}


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_nothing_runs_what_comes_from_outside(path):
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, f"line {node.lineno}"
            if isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name):
                assert (node.func.value.id, node.func.attr) not in FORBIDDEN_ATTRIBUTES, f"line {node.lineno}"
            for keyword in node.keywords:
                switched_on = isinstance(keyword.value, ast.Constant) and keyword.value.value is True
                assert not (keyword.arg in ("shell", "trust_remote_code") and switched_on), f"line {node.lineno}"
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            assert not {"pickle", "dill", "cloudpickle", "marshal", "shelve"} & set(names), f"line {node.lineno}"


def test_no_module_is_a_grab_bag():
    assert not {path.stem for path in FILES} & {"utils", "helpers", "common", "manager", "handler", "misc"}


@pytest.mark.parametrize("path", WRITTEN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_path_of_a_machine_stands_in_the_project(path):
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        for folder in ("/work" + "/", "/ro" + "ot/", "/ho" + "me/", "/User" + "s/"):
            assert folder not in line, f"line {number}"


def fresh(code):
    """Run code in a new process and return the last line of what it prints."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip().splitlines()[-1]


LOADED = "import json, sys; print(json.dumps([n for n in ('torch', 'transformers', 'peft') if n in sys.modules]))"


@pytest.mark.parametrize(
    "code",
    [
        "import peftbench",
        "import peftbench; peftbench.pscp(50, 1, 1, 1); peftbench.CostModel()",
        "import peftbench; peftbench.score('rte', ['entailment'], ['entailment'])",
        "import peftbench; peftbench.score('conala', ['x = 1'], ['x = 2'])",
        "import peftbench; peftbench.RunConfig, peftbench.RunResult, peftbench.DatasetSpec, peftbench.MethodSpec",
        "from peftbench.config import run_config; run_config({'model': 'm', 'dataset': 'rte', 'method': 'lora'})",
        "import peftbench.rescore, peftbench.listing, peftbench.console, peftbench.store",
        "from peftbench import figures, tradeoff; tradeoff.weigh('paper').maps()",
        "import peftbench.gridview, peftbench.worker, peftbench.rehearsal; from peftbench.gridrun import prepare, status_of;"
        "from pathlib import Path; status_of(prepare(Path('demo')))",
        "from peftbench.query import read, results; import peftbench.tabular, peftbench.sql, pandas, duckdb",
        "import peftbench.costing; from peftbench.efficiency.devices import find_device; find_device('h200')",
        "from peftbench.listing import rows_of; [rows_of(kind) for kind in ('datasets', 'methods', 'metrics')]",
        "from peftbench.importers.taking import import_results; import tempfile; from pathlib import Path;"
        "import_results('paper', None, Path(tempfile.mkdtemp()))",
        "from peftbench.listing import dataset, method; dataset('cb', 'published'); method('lora', None, None, [])",
    ],
)
def test_torch_is_not_loaded_by(code):
    assert json.loads(fresh(f"{code}\n{LOADED}")) == []


def test_commands_that_only_look_do_not_load_torch():
    for arguments in (
        ["--help"],
        ["list", "datasets"],
        ["list", "metrics", "--json"],
        ["show", "method", "lora"],
        ["pscp", "paper"],
        ["results", "--help"],
        ["list", "columns"],
        ["report", "paper"],
        ["report", "paper", "--table", "3", "--format", "csv"],
        ["list", "tables"],
        ["show", "table", "9a"],
        ["import", "results", "--help"],
    ):
        code = (
            "import sys\nfrom peftbench.cli import app\n"
            f"try:\n    app({arguments})\nexcept SystemExit as end:\n    assert not end.code\n{LOADED}"
        )
        assert json.loads(fresh(code)) == [], arguments


WITHOUT_EXTRAS = """
import re, sys
from importlib import metadata

allowed, left = set(), ["peftbench"]
while left:
    name = re.sub("[-_.]+", "-", left.pop()).lower()
    if name not in allowed:
        allowed.add(name)
        try:
            needs = metadata.requires(name) or ()
        except metadata.PackageNotFoundError:  # needed on another system only
            needs = ()
        left += [re.match("[A-Za-z0-9._-]+", need)[0] for need in needs if "extra ==" not in need]
packages = metadata.packages_distributions().items()
others = {top for top, owners in packages if not {re.sub("[-_.]+", "-", each).lower() for each in owners} & allowed}

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in others:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])

sys.meta_path.insert(0, Refuse)
from peftbench.cli import app
try:
    app(sys.argv[1:])
except SystemExit as end:
    print(end.code or 0)
"""


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["list", "datasets"], 0, ""),
        (["list", "metrics", "--json"], 0, ""),
        (["show", "dataset", "conala"], 0, ""),
        (["show", "method", "lora"], 0, ""),
        (["pscp", "paper", "--break-even"], 0, ""),
        (["pscp", "paper", "--map", "map.svg"], 2, "install what draws figures: pip install peftbench[figures]"),
        (["score", "nowhere"], 2, "'nowhere' does not exist; give a folder"),
        (["list", "columns"], 0, ""),
        (["report", "paper", "--table", "3", "--format", "latex"], 0, ""),
        (["report", "nowhere"], 2, "'nowhere' is not a folder; give one that holds runs"),
        (["show", "table", "2"], 0, ""),
        (["import", "results", "lm-eval", "nowhere"], 2, "'nowhere' does not exist; give what is to be imported"),
        (["results", "nowhere"], 2, "'nowhere' does not exist; give a folder that holds runs"),
        (["run", "configs/train.yaml"], 2, "is not installed; install what trains and predicts"),
        (
            ["show", "method", "lora", "--model", "configs"],
            2,
            "is not installed; install what trains and predicts",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_the_package_without_its_extras_looks_and_scores(arguments, status, message):
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRAS, *arguments], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout.strip().splitlines()[-1] == str(status), done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_every_public_name_can_be_imported_twice_in_a_fresh_process():
    """No public name is hidden by a module of the same name once that module has been imported."""
    for name in peftbench.__all__:
        code = (
            f"import peftbench\nfirst = peftbench.{name}\nfrom peftbench import {name}\n"
            f"assert first is {name} is peftbench.{name}\nimport types\n"
            f"assert not isinstance({name}, types.ModuleType)\nprint('fine')"
        )
        assert fresh(code) == "fine", name
    modules = {path.stem for path in SOURCE.glob("*.py")} | {
        path.name for path in SOURCE.iterdir() if path.is_dir()
    }
    assert not modules & set(peftbench.__all__)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        peftbench.nonsense  # noqa: B018
    assert dir(peftbench) == peftbench.__all__
