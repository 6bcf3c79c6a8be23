"""Results of lm-evaluation-harness: `results_<time>.json`, one result for each task, metric and filter."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from peftbench.datasets import dataset_names, get_dataset
from peftbench.importers.reading import MOST_TEXT, Values, content, files_below, json_object, short
from peftbench.importers.results import ImportedResult

_RATIOS = {"acc", "acc_norm", "acc_mutual_info", "acc_bytes", "exact_match", "em", "f1", "mcc"}
_PERCENTS = {"bleu", "chrf", "ter"}
_NO_METRICS = {"alias", "name", "sample_len", "sample_count", " "}
_OURS = {"mathqa": "math_qa", "wsc.fixed": "wsc"}


def units(path: Path, problems: list[str]) -> Sequence[Path]:
    """The files of results below a folder."""
    return files_below(path, lambda name: re.fullmatch(r"results(_.*)?\.json", name) is not None, problems)


def read(file: Path, name: str, problems: list[str]) -> list[ImportedResult]:
    """The results of a file; raises `DataError` if it is no JSON, and adds to `problems` what is wrong in it."""
    raw = content(file, name)
    values = Values(name, json_object(raw, name, nan=True), problems)
    tasks = values.table("results", needed=True)
    if tasks is not None and not tasks:
        values.wrong("results is empty; there is nothing to import")
    arguments = _arguments(values)
    adapter = next((arguments[key] for key in ("peft", "delta") if arguments.get(key)), None)
    version = " ".join(filter(None, (values.text("lm_eval_version"), values.text("git_hash"))))
    shared: dict[str, Any] = {
        "source": "lm-eval",
        "file": name,
        "file_sha256": hashlib.sha256(raw).hexdigest(),
        "tool": "lm-evaluation-harness",
        "tool_version": version or None,
        "experiment": values.text("model_name"),
        "model": arguments.get("pretrained") or arguments.get("model") or values.text("model_name"),
        "model_revision": values.text("config", "model_sha"),
        "method": None if adapter else "base",
        "settings": json.dumps({"adapter": adapter}) if adapter else json.dumps({}),
        "made_at": _date(values.number("date", least=0, most=4e9)),
    }
    results = []
    for task in tasks or {}:
        scores = values.table("results", task)
        if len(task) > MOST_TEXT or not task:
            values.wrong(f"a task is called {short(task)}, expected a name of 1 to {MOST_TEXT} characters")
        elif scores is not None:
            facts, notes = _task(values, task)
            for metric, score in _metrics(Values(f"{name}: {task}", scores, problems), scores, task):
                told = [*notes, *score.pop("notes")]
                results.append(shared | facts | score | {"metric": metric, "notes": " ".join(told)})
    return [] if problems else [ImportedResult(**each) for each in results]


def _task(values: Values, task: str) -> tuple[dict[str, Any], list[str]]:
    """Dataset and rows of a task, and what has to be known of it."""
    asked, rows = (values.whole("n-samples", task, key) for key in ("original", "effective"))
    shots, version = ((values.table(key) or {}).get(task) for key in ("n-shot", "versions"))
    ours = _OURS.get(task, task)
    same = ours in dataset_names() and rows == asked == get_dataset(ours).counts.test
    parts = values.rows("group_subtasks", task) or []
    # Groups have a blank for shots, and versions are numbers or words.
    notes = [f"{shots}-shot."] if isinstance(shots, int) else []
    if isinstance(version, str | int | float) and len(str(version)) <= 50:
        notes.append(f"Version {version} of the task.")
    if parts:
        notes.append(f"Over {len(parts)} tasks.")
    if asked is not None and rows is not None and rows < asked:
        notes.append(f"On {rows:,} of {asked:,} rows.")
    # Same name and same test rows; the prompts are the harness's own.
    return {"dataset": ours if same else None, "original_dataset": task, "test_rows": rows}, notes


def _metrics(values: Values, scores: dict[str, Any], task: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each metric of a task with its score; older files have no filter behind the comma."""
    for key, given in scores.items():
        base, _, rest = key.partition(",")
        if key in _NO_METRICS or base.endswith("_stderr"):
            continue
        if not 0 < len(key) <= 100:
            values.wrong(f"a metric is called {short(key)}, expected a name of 1 to 100 characters")
            continue
        value = None if given == "N/A" else values.number(key, least=-1e12, most=1e12)
        spread = f"{base}_stderr,{rest}" if rest else f"{base}_stderr"
        # The scorer of SQuAD gives percents under names that elsewhere are shares.
        scale = "unknown" if task.startswith("squad") else _scale(base, value)
        factor = {"0 to 1": 100.0, "0 to 100": 1.0}.get(scale)
        most = 1e300 if factor is None else 100 / factor
        error = None if scores.get(spread) == "N/A" else values.number(spread, least=0, most=most)
        yield (
            key,
            {
                "score": None if value is None or factor is None else factor * value,
                "standard_error": None if error is None or factor is None else factor * error,
                "original_value": value,
                "original_scale": scale,
                "notes": ["The file has no number for it."] if value is None else [],
            },
        )


def _scale(metric: str, value: float | None) -> str:
    """The scale of a metric, where its name and its value leave no doubt."""
    if (metric in _RATIOS or metric.startswith("pass@")) and (value is None or -1 <= value <= 1):
        return "0 to 1"
    return "0 to 100" if metric in _PERCENTS and (value is None or 0 <= value <= 100) else "unknown"


def _arguments(values: Values) -> dict[str, str]:
    """The model's arguments, which are one text or an object."""
    table = values.table("config") or {}
    given = table.get("model_args")
    if isinstance(given, str):
        parts = (part.partition("=") for part in given.split(","))
        found: dict[str, Any] = {key.strip(): value for key, equals, value in parts if equals}
    else:
        found = values.table("config", "model_args") or {}
    # Others may hold passwords, and none of them is needed.
    kept = {key: found[key] for key in ("pretrained", "model", "peft", "delta") if isinstance(found.get(key), str)}
    for key, value in kept.items():
        if len(value) > MOST_TEXT:
            values.wrong(f"config.model_args: {key} is {short(value)}, expected a text of 1 to {MOST_TEXT}")
    return {key: value for key, value in kept.items() if value}


def _date(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
