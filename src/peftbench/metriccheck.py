"""Whether a metric in a Python file does what a metric must, tried on odd outputs and told in words."""

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.datasets import dataset_given, load_dataset
from peftbench.errors import ConfigError, MetricError
from peftbench.findings import Finding, halves, notice, problem
from peftbench.metrics import Metric, metrics
from peftbench.metrics.own import metric_in
from peftbench.plugin_file import keep_file, load_kept
from peftbench.schema import Counts, DatasetSpec, InputField, LocalSource

SECONDS = 20
"""How long importing and scoring a few rows may take."""
ODD_OUTPUTS = (
    *("", " ", "\n", "yes", "No.", "12", "-3.5", "1,000", "1e999", "nan", "inf", "0/0", "((((", "\\", "%s {x}"),
    *("</s>", "<|eot_id|>", "a\nb", '{"a": 1}', "\x00\x1b[31m", "\u202eabc", "naïve 答案 🙂", "x " * 20_000),
)
"""What models have been seen to give, and what they might."""
REFERENCES = ("yes", "12", "3.5", "a b c", "x = 1", "( 8 - 3 ) = 5")
"""Gold answers to try where no dataset brings its own."""


@dataclass
class CheckedMetric:
    """What was found, and the scores that were seen."""

    metric: str
    """Full name, with the hash of the file."""
    findings: list[Finding]
    scores: dict[str, float] = field(default_factory=dict)


class _TookTooLong(BaseException):
    """Nothing that a metric could catch by catching every `Exception`."""


def check_metric(file: Path, dataset: str | None = None) -> CheckedMetric:
    """Try the metric in a file; `dataset`, a name or the path of an entry, brings gold answers and labels.

    Raises `ConfigError` where the file cannot be read, and `DataError` where the dataset cannot.
    """
    name = keep_file(file)
    golds, spec = _golds(dataset, name)
    found = CheckedMetric(name, [])
    try:
        with _at_most(SECONDS):
            module = load_kept(name)
            assert module is not None
            raw, chosen = metric_in(module, name), metrics.get(name)
            found.findings += _tried(raw, chosen, golds, spec, found)
    except (ConfigError, MetricError) as error:
        found.findings.append(problem(*halves(str(error))))
    except _TookTooLong:
        found.findings.append(
            problem(
                f"importing the file and scoring a few rows took over {SECONDS} s", "make it end, and be quicker"
            )
        )
    return found


def _golds(dataset: str | None, name: str) -> tuple[list[tuple[str, ...]], DatasetSpec]:
    if dataset is not None:
        data = load_dataset(dataset_given(dataset), allow_partial=True, splits=["test"])
        return [each.references for each in data.test if each.references][:50], data.spec
    spec = DatasetSpec(
        name="example",
        version=1,
        title="example",
        area="NLU and reasoning",
        task="example",
        classes=None,
        counts=Counts(train=2, test=1),
        licence="none",
        citation="none",
        source=LocalSource(files={}, sha256={}),
        splits={"train": "train", "test": "test"},
        columns={"text": "text"},
        instruction="",
        fields=(InputField(label="Text", column="text"),),
        target="text",
        metric=name,
        max_new_tokens=16,
        own=True,
    )
    return [(each,) for each in REFERENCES], spec


def _tried(
    raw: Metric, chosen: Metric, golds: Sequence[tuple[str, ...]], spec: DatasetSpec, found: CheckedMetric
) -> Iterator[Finding]:
    if not (raw.count.__doc__ or "").strip():
        yield notice("the function that counts a row has no description", "say in a line what is counted")
    readable = []
    why = ""
    for gold in golds:
        try:
            chosen.count(gold[0], gold, spec, "corrected")
            readable.append(gold)
        except MetricError as error:
            why = str(error)
    if not readable:
        what, mend = halves(why)
        yield problem(
            f"it scores no gold answer that was tried; the last one: {what}", f"{mend}, or name a --dataset"
        )
        return
    if len(readable) < len(golds):
        told = f"{len(golds) - len(readable)} of {len(golds)} gold answers cannot be read: {halves(why)[0]}"
        yield notice(told, "see that those of your dataset can be; --dataset brings them")
    said = StringIO()
    with redirect_stdout(said):
        raw.count(readable[0][0], readable[0], spec, "corrected")
    if said.getvalue():
        yield notice("it prints", "remove the print; what it says is thrown away")
    odd = [(output, readable[0]) for output in ODD_OUTPUTS]
    counts = []
    for output, gold in odd:
        try:
            counts.append(chosen.count(output, gold, spec, "corrected"))
        except MetricError as error:
            what, mend = halves(str(error))
            yield problem(
                f"{what}, for the output {output[:20]!r}", "an odd output is a wrong one, never an error"
            )
    if len(counts) < len(odd):
        return
    perfect = [chosen.count(gold[0], gold, spec, "corrected") for gold in readable]
    again = [chosen.count(output, gold, spec, "corrected") for output, gold in reversed(odd)]
    again += [chosen.count(gold[0], gold, spec, "corrected") for gold in reversed(readable)]
    if again != [*reversed(counts), *reversed(perfect)]:
        yield problem(
            "the same row is counted otherwise the second time", "keep nothing between calls, draw nothing"
        )
        return
    yield from _combined(chosen, perfect, counts, spec, found)


def _combined(
    chosen: Metric, perfect: Sequence[Any], odd: Sequence[Any], spec: DatasetSpec, found: CheckedMetric
) -> Iterator[Finding]:
    best = _score(chosen, perfect, spec)
    found.scores["gold answers"] = best
    if best < chosen.span[1] - 1e-6 and len(perfect) > 1:
        yield problem(f"gold answers themselves score {best:.1f}, not {chosen.span[1]:g}", "count them as right")
    mixed = [*perfect, *odd]
    columns = _columns(mixed)
    forward, backward = _score(chosen, mixed, spec), _score(chosen, mixed[::-1], spec)
    found.scores["gold answers and odd outputs"] = forward
    found.scores["odd outputs"] = _score(chosen, odd, spec)
    _score(chosen, mixed[:1], spec)
    if abs(forward - backward) > 1e-6:
        yield problem(
            f"the order of rows changes the score ({forward:g}, {backward:g})", "score rows in any order"
        )
    if chosen.sums is not None and (terms := chosen.sums.terms(columns, spec, "corrected")) is not None:
        total = np.asarray(terms, dtype=float).sum(axis=0, keepdims=True)
        by_sums = float(chosen.sums.primary(total, spec, "corrected")[0])
        if abs(by_sums - forward) > 1e-6:
            yield problem(
                f"`sums` gives {by_sums:g} where the rows together give {forward:g}",
                "make both the same, or leave `sums` out, which makes intervals slower",
            )
    if chosen.sums is None:
        yield notice("it has no `sums`", "intervals take longer without; mean_sums(...) serves means")
    if chosen.right is not None:
        chosen.right(columns)


def _columns(counts: Sequence[Any]) -> dict[str, NDArray[Any]]:
    if len({tuple(sorted(each)) for each in counts}) > 1:
        raise MetricError("it counts other things for some rows than for others; count the same of every row")
    return {key: np.array([each[key] for each in counts]) for key in counts[0]}


def _score(chosen: Metric, counts: Sequence[Any], spec: DatasetSpec) -> float:
    return chosen.combine(_columns(counts), spec, "corrected")["primary"]


@contextmanager
def _at_most(seconds: int) -> Iterator[None]:
    """Raise `_TookTooLong` in the block after so many seconds, where signals can be had."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def over(_: int, __: Any) -> None:
        raise _TookTooLong

    before = signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
