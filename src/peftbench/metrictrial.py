"""A process that tries one metric and writes what it finds as lines of JSON.

    python -m peftbench.metrictrial ASKED FILE

ASKED is JSON with the full name of a `metric` that was kept, `golds` to try and the `spec` of their dataset.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import ConfigError, MetricError
from peftbench.findings import Finding, halves, notice, problem
from peftbench.metrics import Metric, metrics
from peftbench.metrics.own import metric_in
from peftbench.plugin_file import load_kept
from peftbench.schema import DatasetSpec

ODD_OUTPUTS = (
    *("", " ", "\n", "yes", "No.", "12", "-3.5", "1,000", "1e999", "nan", "inf", "0/0", "((((", "\\", "%s {x}"),
    *("</s>", "<|eot_id|>", "a\nb", '{"a": 1}', "\x00\x1b[31m", "\u202eabc", "naïve 答案 🙂", "x " * 20_000),
)
"""What models have been seen to give, and what they might."""


def main() -> None:
    """Try the metric that the arguments name."""
    asked = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    with Path(sys.argv[2]).open("a", encoding="utf-8") as out:
        print(json.dumps({"stage": "ready"}), file=out, flush=True)
        findings, scores = _found(asked["metric"], asked["golds"], asked["spec"])
        told = {"stage": "done", "findings": [asdict(each) for each in findings], "scores": scores}
        print(json.dumps(told), file=out, flush=True)


def _found(name: str, golds: list[list[str]], spec: dict[str, Any]) -> tuple[list[Finding], dict[str, float]]:
    findings, scores = list[Finding](), dict[str, float]()
    try:
        module = load_kept(name)
        assert module is not None
        raw, chosen = metric_in(module, name), metrics.get(name)
        dataset = DatasetSpec.model_validate_json(json.dumps(spec))
        findings.extend(_tried(raw, chosen, [*map(tuple, golds)], dataset, scores))
    except (ConfigError, MetricError) as error:
        findings.append(problem(*halves(str(error))))
    return findings, scores


def _tried(
    raw: Metric, chosen: Metric, golds: Sequence[tuple[str, ...]], spec: DatasetSpec, scores: dict[str, float]
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
    yield from _combined(chosen, perfect, counts, spec, scores)


def _combined(
    chosen: Metric, perfect: Sequence[Any], odd: Sequence[Any], spec: DatasetSpec, scores: dict[str, float]
) -> Iterator[Finding]:
    best = _score(chosen, perfect, spec)
    scores["gold answers"] = best
    if best < chosen.span[1] - 1e-6 and len(perfect) > 1:
        yield problem(f"gold answers themselves score {best:.1f}, not {chosen.span[1]:g}", "count them as right")
    mixed = [*perfect, *odd]
    columns = _columns(mixed)
    forward, backward = _score(chosen, mixed, spec), _score(chosen, mixed[::-1], spec)
    scores["gold answers and odd outputs"] = forward
    scores["odd outputs"] = _score(chosen, odd, spec)
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


if __name__ == "__main__":
    main()
