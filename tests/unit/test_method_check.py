"""`check method`: ten and more methods that are broken on purpose, and what is said of each."""

import json
import re
import subprocess
import sys
import time

import pytest

from peftbench.errors import ConfigError
from peftbench.methodcheck import Report, check_method, sentences
from peftbench.methods.plugins import load_file
from peftbench.testing.promises import findings
from tests.broken_methods import BEGIN, BROKEN, DOCS, END, checked, row, write_broken
from tests.own_methods import EXAMPLES, forgotten, text_of, write  # noqa: F401

AT_IMPORT = [name for name, (promise, _) in BROKEN.items() if promise == "loaded"]


def without_numbers(text):
    return re.sub(r"\d[\d.,e+-]*", "N", text)


def documented(name):
    """The line of a broken method in the table of the documentation."""
    table = DOCS.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    [line] = [each for each in table.splitlines() if each.startswith(f"| `{name}` |")]
    return without_numbers(line)


@pytest.mark.parametrize("name", [name for name in BROKEN if name not in AT_IMPORT])
def test_a_broken_promise_is_found_and_said_as_documented(tmp_path, name):
    spec = load_file(write_broken(name, tmp_path))
    report = Report(name, promises=list(findings(spec, spec.settings())))
    assert documented(name) == without_numbers(row(name, report))
    broken = [each for each in report.promises if each["status"] == "broken"]
    assert all(each["found"] and "\n" not in each["found"] for each in broken)


@pytest.mark.parametrize("name", AT_IMPORT)
def test_what_goes_wrong_at_import_is_one_sentence(tmp_path, name):
    report = checked(name, tmp_path)
    assert documented(name) == without_numbers(row(name, report))
    assert [each["status"] for each in report.promises] == ["broken"]
    assert report.kept is False


def test_one_error_is_told_once(tmp_path):
    text = text_of("mine").replace("        return base(x)", "        return {}['layer 3']")
    spec = load_file(write(tmp_path, text=text))
    found = list(findings(spec, spec.settings()))
    [broken] = [each for each in found if each["status"] == "broken"]
    assert "ended with KeyError: 'layer 3', line" in broken["found"]
    assert broken["mend"] is None, "it says itself how it is mended"
    assert sum(each["found"] == "the same error" for each in found) > 5


def test_a_method_that_hangs_in_a_check_is_ended(tmp_path):
    text = text_of("mine").replace(
        "        return base(x)", "        while len(x) < 1000:\n            pass\n        return base(x)"
    )
    begun = time.monotonic()
    report = check_method(str(write(tmp_path, text=text)), seconds=15)
    assert time.monotonic() - begun < 30
    last = report.promises[-1]
    assert last["status"] == "broken"
    assert last["found"].startswith("it took more than 15 s while this was checked: ")


def test_a_file_that_kills_the_process_is_told_from_one_that_raises(tmp_path):
    report = check_method(str(write(tmp_path, text="import os\nos._exit(7)\n")))
    assert report.promises[0]["found"] == "it ended the process with status 7"


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "peftbench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=cwd)


def test_the_command_says_all_and_keeps_its_json_free_of_prints(tmp_path):
    text = "print('loading')\n" + text_of("mine").replace(
        "        return base(x)", "        print(1)\n        return base(x)"
    )
    write(tmp_path, text=text)
    done = run("check", "method", "mine.py", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["method"], found["kept"], found["code"]["path"]) == ("mine", True, "mine.py")
    assert {each["status"] for each in found["promises"]} == {"kept", "not claimed"}
    assert set(found["families"].values()) == {None}
    assert found["notes"] == ["it prints ('loading'), which is kept off standard output"]


def test_a_name_or_file_that_there_is_not_is_a_mistake_of_the_input(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; give the path of a Python file"):
        check_method(str(tmp_path / "no.py"))
    done = run("check", "method", "lorra")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean 'lora'" in done.stderr


def test_sentences_say_what_was_found_and_how_it_is_mended():
    lines = sentences(
        Report(
            "mine",
            promises=[
                {"promise": "a", "status": "kept", "expected": "one", "found": None, "mend": None},
                {"promise": "b", "status": "broken", "expected": "two", "found": "three", "mend": "four"},
                {
                    "promise": "c",
                    "status": "not claimed",
                    "expected": "five",
                    "found": None,
                    "mend": "claimed by six",
                },
            ],
            families={"llama": None, "gpt2": "no such module"},
        )
    )
    assert lines == [
        "kept         one",
        "broken       two",
        "               found: three",
        "               mend:  four",
        "not claimed  five (claimed by six)",
        "Models on which it is built: llama",
        "  not on gpt2: no such module",
        "mine: 1 kept, 1 broken, 1 not claimed.",
    ]


def test_a_method_of_one_family_says_so_for_the_others(tmp_path):
    from peftbench.testing.promises import families

    text = text_of("mine").replace('("query", "value")', '("q_proj",)')
    spec = load_file(write(tmp_path, text=text))
    found = families(spec, spec.settings())
    assert found["llama"] is None
    assert found["gpt2"].startswith("target 'q_proj' matches no module of this gpt2 model; name roles")


# ------------------------------------------------------------------------------------------------- new method


def test_what_new_writes_passes_its_own_test_and_is_not_overwritten(tmp_path):
    done = run("new", "method", "my_own", cwd=tmp_path)
    assert done.stdout == (
        "my_own.py and test_my_own.py are written; change both, then: peftbench check method my_own.py\n"
    )
    assert "NAME" not in (tmp_path / "my_own.py").read_text() + (tmp_path / "test_my_own.py").read_text()
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_my_own.py"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert "2 passed" in tested.stdout, tested.stdout
    (tmp_path / "my_own.py").unlink()
    again = run("new", "method", "my_own", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert "'test_my_own.py' is there already and is not overwritten" in again.stderr
    assert not (tmp_path / "my_own.py").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora", "method 'lora' exists already"),
        ("../x", "cannot be the name of a method; use lower-case letters"),
        ("Mine", "cannot be the name"),
        ("class", "cannot be the name"),
        ("torch", "'torch' is the name of a Python module, which the file would hide"),
        ("statistics", "is the name of a Python module"),
        ("x" * 51, "cannot be the name"),
    ],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, name, said):
    from peftbench.drafts import new_method

    with pytest.raises(ConfigError, match=said):
        new_method(name, tmp_path)
    assert not list(tmp_path.iterdir())
