"""A metric in a file: loaded once, held to what a metric must give, and every failure a sentence."""

import sys

import numpy as np
import pytest

from peftbench.datasets import dataset_given
from peftbench.drafts import new_metric
from peftbench.errors import ConfigError, MetricError, PeftBenchError
from peftbench.metriccheck import check_metric
from peftbench.metrics import metrics, score_rows
from peftbench.plugin_file import keep_file, load_kept, read_file, run_file
from tests.own_files import METRIC, put, put_metric

HEAD = "import numpy as np\nfrom peftbench.metrics import RowSums, mean_sums, means, metric, rights\n"


def load_file(path):
    return run_file(path, read_file(path), f"file {path.name}")


def scored(tmp_path, text, predictions=("repair", "x", ""), references=(("repair",),) * 3, protocol="corrected"):
    put_metric(tmp_path, text)
    spec = dataset_given(str(put(tmp_path, metric="./first_letter.py")))
    return score_rows(spec, predictions, references, protocol)


def of(body, combine='means(primary="right")', more=""):
    return f"{HEAD}@metric('m', {combine}{more})\ndef m(prediction, references, spec, protocol):\n    {body}\nMETRIC = m\n"


def test_a_metric_of_a_file_scores(tmp_path):
    found = scored(tmp_path, METRIC)
    assert found.metric.startswith("first_letter@")
    assert found.values == {"primary": pytest.approx(100 / 3)}
    assert found.invalid_rate == pytest.approx(1 / 3)


def test_the_file_is_read_once_and_leaves_nothing_beside_it(tmp_path, capsys):
    file = tmp_path / "plug.py"
    file.write_text("print('hello')\nvalue = 1\n")
    module = load_file(file)
    assert module.value == 1
    assert load_file(file) is module
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")
    assert [each.name for each in tmp_path.iterdir()] == ["plug.py"]
    assert str(tmp_path) not in sys.path
    file.write_text("value = 2\n")
    assert load_file(file).value == 2


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "raise ValueError('no')",
            "file plug.py ended with ValueError: no, line 1; mend the file",
        ),
        ("\nimport sys\nsys.exit(3)", "asked to end the process (sys.exit, line 3)"),
        ("def f(:", "ended with SyntaxError"),
        ("import not_there", "ended with ModuleNotFoundError: No module named 'not_there', line 1"),
        ("1/0", "ended with ZeroDivisionError: division by zero, line 1"),
        ("\0", "it is binary"),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_sentence(tmp_path, text, expected):
    file = tmp_path / "plug.py"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_file_of_python(tmp_path):
    for path, expected in ((tmp_path, "is a folder"), (tmp_path / "absent.py", "does not exist")):
        with pytest.raises(ConfigError, match=expected):
            load_file(path)
    odd = tmp_path / "my metric.py"
    odd.write_text("")
    with pytest.raises(ConfigError, match="cannot be imported under that name"):
        keep_file(odd)


def test_only_what_was_named_here_is_run_by_its_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "cache"))
    name = keep_file(put_metric(tmp_path))
    assert metrics.get(name).name == name
    (tmp_path / "first_letter.py").unlink()
    assert metrics.get(name).name == name
    [kept] = (tmp_path / "cache" / "python").iterdir()
    kept.write_text("raise SystemExit")  # somebody has been at it
    assert load_kept(name) is None
    with pytest.raises(ConfigError, match="never used on this machine, and code is not taken from records"):
        metrics.get(name)
    for hostile in ("../../evil@00000000", "first_letter@", "/tmp/x@12345678", "a b@12345678"):
        assert load_kept(hostile) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD, "first_letter.py has no METRIC"),
        ("METRIC = 3", "METRIC of first_letter.py is a int, expected a Metric"),
        (of("return {'valid': 1, 'right': 0}", more=", span=(1, 0)"), "span"),
        (of("return {'valid': 1, 'right': float('nan')}"), "counts 'right' as nan, expected a finite number"),
        (of("return {'valid': 1, 'right': float('inf')}"), "counts 'right' as inf"),
        (of("return {'valid': 1, 'right': 'yes'}"), "counts 'right' as 'yes'"),
        (of("return {'right': 1}"), "says valid is None for a row"),
        (of("return {'valid': 2, 'right': 1}"), "says valid is 2"),
        (of("return 1"), "gives a int for a row"),
        (of("return None"), "gives a NoneType for a row"),
        (of("return {'valid': 1, 'right': 2}"), "gives 'primary' as 200, expected a number from 0 to 100"),
        (of("return {'valid': 1, 'right': -1}"), "gives 'primary' as -100"),
        (of("raise KeyError(prediction)"), "metric first_letter, scoring a row, ended with KeyError: 'repair', line 5"),
        (of("raise SystemExit"), "asked to end the process (sys.exit, line 5)"),
        (of("exit()"), "asked to end the process"),
        (of("return {'valid': 1, **({'right': 1} if prediction else {})}"), "count the same of every row"),
        (of("return {'valid': 1, 'right': (1,) * len(prediction)}"), "count the same of every row"),
        (of("return {'valid': 1}", "lambda c, s, p: {'primary': float('nan')}"), "gives 'primary' as nan"),
        (of("return {'valid': 1}", "lambda c, s, p: {'primary': 1, 'other': 101}"), "gives 'other' as 101"),
        (of("return {'valid': 1}", "lambda c, s, p: {'other': 1}"), "with 'primary' among them"),
        (of("return {'valid': 1}", "lambda c, s, p: {'primary': c['valid']}"), "gives 'primary' as array"),
        (of("return {'valid': 1}", "lambda c, s, p: 1/0"), "ended with ZeroDivisionError"),
        (of("return {'valid': 1, 'right': 1}", more=", lenient='soft'"), "names 'soft' as its lenient score"),
    ],
)  # fmt: skip
def test_what_a_metric_gets_wrong_is_one_sentence(tmp_path, text, expected, capsys):
    with pytest.raises(PeftBenchError) as caught:
        scored(tmp_path, text)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_what_it_prints_is_thrown_away_and_a_correlation_may_be_negative(tmp_path, capsys):
    text = of("print('x'); return {'valid': 1}", "lambda c, s, p: {'primary': -40}", ", span=(-100, 100)")
    assert scored(tmp_path, text).values["primary"] == -40
    assert capsys.readouterr().out == ""


def test_lengths_of_right_and_sums_are_held_to(tmp_path):
    text = of("return {'valid': 1, 'right': 1}", more=", right=lambda c: [1], sums=RowSums(lambda c, s, p: np.ones((2, 1)),"
              " lambda t, s, p: t[:1, 0] * np.nan)")  # fmt: skip
    found = scored(tmp_path, text)
    chosen, spec = metrics.get(found.metric), dataset_given(str(tmp_path / "tickets.yaml"))
    with pytest.raises(MetricError, match="`right` of metric first_letter gives 1 for 3 rows"):
        chosen.right(found.columns)
    with pytest.raises(MetricError, match=r"`sums.terms` of metric first_letter gives 2 for 3 rows"):
        chosen.sums.terms(found.columns, spec, "corrected")
    with pytest.raises(MetricError, match="no finite number"):
        chosen.sums.primary(np.ones((1, 1)), spec, "corrected")


@pytest.mark.parametrize(
    ("name", "said"),
    [("class", "cannot be the name of a metric"), ("My", "cannot be the name"), ("macro_f1", "exists already")],
)
def test_a_name_that_cannot_be_is_refused(tmp_path, monkeypatch, name, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=said):
        new_metric(name)
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------------------------- check metric


def findings(tmp_path, text, dataset=None):
    found = check_metric(put_metric(tmp_path, text), dataset)
    return [each.severity for each in found.findings], " | ".join(f"{e.what}; {e.mend}" for e in found.findings)


def test_a_good_metric_has_nothing_to_be_mended(tmp_path):
    assert findings(tmp_path, METRIC) == ([], "")
    assert findings(tmp_path, METRIC, str(put(tmp_path / "d"))) == ([], "")


@pytest.mark.parametrize(
    ("text", "severity", "expected"),
    [
        (of("return {'valid': 1, 'right': 1 / len(prediction)}"), "problem", "ended with ZeroDivisionError"),
        (of("return {'valid': 1, 'right': 0}"), "problem", "gold answers themselves score 0.0, not 100"),
        (of("import random; return {'valid': 1, 'right': random.random()}"), "problem", "counted otherwise the second"),
        (of("import random\n    return {'valid': 1, 'right': prediction in references or random.random() < 0.5}"),
         "problem", "counted otherwise the second time"),
        (of("SEEN.append(1); return {'valid': 1, 'right': prediction in references, 'seen': len(SEEN)}\nSEEN = []"),
         "problem", "keep nothing between calls"),
        (of("return {'valid': 1, 'right': 1}", "lambda c, s, p: {'primary': 100 * c['right'][0] * (len(c) and 1)}",
            ", sums=mean_sums('valid')"), "notice", "no description"),
        (of("'''d'''; return {'valid': 1, 'right': prediction in references}",
            "lambda c, s, p: {'primary': 100.0 * c['right'][0]}"), "problem", "the order of rows changes the score"),
        (of("'''d'''\n    return {'valid': bool(prediction), 'right': prediction in references}",
            more=", sums=mean_sums('valid')"), "problem", "`sums` gives"),
        (of("'''d'''\n    return {'valid': 1, 'right': prediction in references}"), "notice", "it has no `sums`"),
        (of("print(1); return {'valid': 1, 'right': prediction in references}"), "notice", "it prints"),
        (of("return {'valid': 1, 'right': float(references[0]) == float(prediction)}"), "problem",
         "ended with ValueError: could not convert"),
        ("METRIC = 1", "problem", "expected a Metric"),
        ("raise RuntimeError('no')", "problem", "ended with RuntimeError"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_found(tmp_path, text, severity, expected):
    severities, told = findings(tmp_path, text)
    assert expected in told
    assert severity in severities


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("import os; os._exit(7)", "it ended the process with status 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "it ended the process with status -11"),
        ("print('{}'); return {'valid': 1, 'right': prediction in references}", "it prints"),
        ("while True:\n        try:\n            pass\n        except:\n            pass", "took over 2 s"),
    ],
)
def test_a_metric_that_ends_the_process_or_never_ends_is_told_of(tmp_path, monkeypatch, body, expected):
    monkeypatch.setattr("peftbench.metriccheck.SECONDS", 2)
    assert expected in findings(tmp_path, of(body))[1]


def test_a_loop_at_import_ends(tmp_path, monkeypatch):
    monkeypatch.setattr("peftbench.metriccheck.SECONDS", 1)
    severities, told = findings(
        tmp_path, "while True:\n    try:\n        pass\n    except Exception:\n        pass\n"
    )
    assert severities == ["problem"]
    assert "took over 1 s" in told
