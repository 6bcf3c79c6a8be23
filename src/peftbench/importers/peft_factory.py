"""Output trees of PEFT-Factory: `<method>/<model>/eval_<dataset>[_<seed>]_<time>/`, with `train_...` beside it.

What its own script scored is taken over, and where predictions and labels are there, our metrics score them under
both rules. A missing row of the test set cannot be seen there, so the number of rows is kept.
"""

import hashlib
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peftbench.datasets import dataset_names, get_dataset
from peftbench.errors import ConfigError, DataError
from peftbench.importers.adapters import MOST_SETTINGS, method_of, settings_of
from peftbench.importers.reading import (
    MEGABYTE,
    MOST_LINES_BYTES,
    Values,
    check_json,
    content,
    files_below,
    json_lines,
    json_object,
    short,
)
from peftbench.importers.results import ImportedResult
from peftbench.schema import DatasetSpec
from peftbench.scoring import score_both
from peftbench.yamlfile import read_yaml

SCORES, PREDICTIONS = "results.jsonl", "generated_predictions.jsonl"
_FOLDER = re.compile(r"eval_(?P<dataset>.+?)(?:_(?P<seed>\d{1,8}))?_(?P<time>\d{9,12})")
_METHODS = {  # what its configurations call them
    "ia3": "ia3", "lora": "lora", "lntuning": "ln_tuning", "prompt-tuning": "prompt_tuning",
    "prefix-tuning": "prefix_tuning", "p-tuning": "p_tuning",
}  # fmt: skip
_ERRATA = {
    "prompt_tuning": "prompt-tuning-reset", "ia3": "ia3-feed-forward", "p_tuning": "p-tuning-encoder",
    "p_tuning_mlp": "p-tuning-encoder",
}  # fmt: skip


def units(path: Path, problems: list[str]) -> Sequence[Path]:
    """The folders of evaluations."""
    found = files_below(path, lambda name: name in (SCORES, PREDICTIONS), problems)
    return list(dict.fromkeys(file.parent for file in found))


def read(folder: Path, name: str, problems: list[str]) -> list[ImportedResult]:
    """The one result of a folder; raises `DataError` for a file that cannot be read, and adds what is wrong."""
    given = _settings(folder / "eval.yaml", f"{name}/eval.yaml", problems)
    matched = _FOLDER.fullmatch(folder.name)
    dataset = (given.text("eval_dataset") or "").removesuffix("_eval") or (matched["dataset"] if matched else None)
    if dataset is None:
        problems.append(
            f"{name} does not say of which dataset it is: neither eval.yaml nor the folder's name does"
        )
        return []
    trained = _training(folder, given.text("adapter_name_or_path"))
    adapter = (
        _object(trained / "adapter_config.json", f"{name}: adapter_config.json", problems) if trained else None
    )
    kind = given.text("finetuning_type") or ""
    plain = kind == "full" and given.text("adapter_name_or_path") is None
    method = (method_of(adapter) if adapter else None) or _METHODS.get(kind) or ("base" if plain else kind or None)
    settings = settings_of(adapter) if adapter else None
    if settings is not None and len(settings) > MOST_SETTINGS:
        problems.append(f"{name}: adapter_config.json has more than {MOST_SETTINGS:,} characters of settings")
    notes = [f"See ERRATA.md, {_ERRATA[method]}."] if method in _ERRATA else []
    told, predicted = (_bytes(folder / file, f"{name}/{file}") for file in (SCORES, PREDICTIONS))
    scored = _scores(told or b"", f"{name}/{SCORES}", problems)
    metric = _primary(scored, dataset)
    value = scored.get(metric) if metric else None
    if told is None:
        notes.append(f"There is no {SCORES}.")
    elif value is None:
        notes.append(f"{SCORES} is empty or has no number for the score.")
    elif abs(value) > 1:
        problems.append(f"{name}/{SCORES}: {metric} is {value!r}, expected a number up to 1")
        value = None
    seconds = _seconds(trained, f"{name}: training", problems) if trained else None
    seed = given.whole("seed")
    said = Values(f"{name}: adapter_config.json", adapter or {}, problems)
    peft = said.text("peft_version")
    facts: dict[str, Any] = {
        "source": "peft-factory",
        "file": f"{name}/{PREDICTIONS if told is None else SCORES}",
        "file_sha256": hashlib.sha256((predicted if told is None else told) or b"").hexdigest(),
        "tool": "PEFT-Factory",
        "tool_version": f"peft {peft}" if peft else None,
        "experiment": Path(name).name,
        "model": given.text("model_name_or_path"),
        "dataset": dataset if dataset in dataset_names() else None,
        "original_dataset": dataset,
        "method": method,
        "settings": settings,
        "seed": seed if seed is not None else int(matched["seed"]) if matched and matched["seed"] else None,
        "metric": metric or "none",
        "score": None if value is None else 100 * value,
        "original_value": value,
        "original_scale": "0 to 1",
        "all_scores": json.dumps(scored, sort_keys=True) if scored else None,
        "train_seconds": seconds,
    }
    if predicted is None:
        notes.append(f"There is no {PREDICTIONS}, so that nothing could be scored again.")
    else:
        facts |= _rescored(predicted, f"{name}/{PREDICTIONS}", facts["dataset"], notes, problems)
    return [] if problems else [ImportedResult(**facts, notes=" ".join(notes))]


def _bytes(file: Path, name: str) -> bytes | None:
    """The content of a file of lines, None where there is none; raises `DataError` if it cannot be read."""
    return content(file, name, MOST_LINES_BYTES) if file.is_file() else None


def _rescored(raw: bytes, name: str, dataset: str | None, notes: list[str], problems: list[str]) -> dict[str, Any]:
    """What our metrics say of stored predictions."""
    outputs: list[str] = []
    golds: list[str] = []
    for row in json_lines(raw, name, _no_prediction, problems):
        outputs.append(row["predict"])
        golds.append(row["label"])
    if problems:
        return {}
    if not outputs:
        problems.append(f"{name} holds no predictions")
        return {}
    facts: dict[str, Any] = {"test_rows": len(outputs)}
    if dataset is None:
        notes.append("Not scored again: it is no dataset of ours.")
        return facts
    spec = get_dataset(dataset)
    if len(outputs) != spec.counts.test:
        notes.append(f"{len(outputs):,} predictions; the benchmark counts {spec.counts.test:,} test rows.")
    try:
        both = score_both(spec, outputs, [(_gold(spec, gold),) for gold in golds])
    except DataError as error:
        notes.append(f"Not scored again: {error}.")
        return facts
    found = both["corrected"]
    return facts | {
        "score_corrected": found.values["primary"],
        "score_published": both["published"].values["primary"],
        "invalid_rate": found.invalid_rate,
        "scored_with": f"{found.metric} {found.metric_version}",
        "predictions_sha256": hashlib.sha256(raw).hexdigest(),
    }


def _no_prediction(row: dict[str, Any]) -> str | None:
    """What is wrong with a line of predictions."""
    for key in ("predict", "label"):
        if not isinstance(row.get(key), str):
            return f"{key} is {short(row.get(key))}, expected a text"
    return None


def _gold(spec: DatasetSpec, text: str) -> str:
    """The label as stored there, in our case of it: its data says False where ours says false."""
    cased = {label.casefold(): label for label in spec.label_set}
    return cased.get(text.strip().casefold(), text)


def _scores(raw: bytes, name: str, problems: list[str]) -> dict[str, float | None]:
    """Every number of the lines of scores; NaN, which a constant output gives, is None."""
    found: dict[str, float | None] = {}
    for row in json_lines(raw, name, _no_numbers, problems, nan=True):
        found |= row
    return found


def _no_numbers(row: dict[str, Any]) -> str | None:
    """What is wrong with a line of scores."""
    for key, value in row.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if len(key) > 100 or not (value is None or number):
            return f"{short(key)} is {short(value)}, expected a number"
    return None


def _primary(scored: dict[str, float | None], dataset: str) -> str | None:
    """Which of the scores its tables show, by the rule of the script that gathers them."""
    last = {"gsm8k": "accuracy", "svamp": "accuracy", "conala": "codebleu", "codealpacapy": "codebleu",
            "apps": "codebleu"}  # fmt: skip
    order = ("macro_f1", "pearsonr", last.get(dataset, "f1"))
    return next((name for name in order if name in scored), None)


def _training(folder: Path, adapter: str | None) -> Path | None:
    """The folder of the training beside that of the evaluation; the path that is named counts by its last part."""
    names = [Path(adapter).name] if adapter else []
    names.append(folder.name.replace("eval_", "train_", 1))
    for name in names:
        found = folder.parent / name
        # os.path, because pathlib raises for a name that is too long.
        if name not in ("", ".", "..") and found != folder and os.path.isdir(found) and not os.path.islink(found):  # noqa: PTH112, PTH114
            return found
    return None


def _seconds(folder: Path, name: str, problems: list[str]) -> float | None:
    """How long the training took, by whichever of its files says so."""
    for file in ("train_results.json", "all_results.json"):
        found = _object(folder / file, f"{name}, {file}", problems)
        if found and "train_runtime" in found:
            return Values(f"{name}, {file}", found, problems).number("train_runtime", least=0)
    state = _object(folder / "trainer_state.json", f"{name}, trainer_state.json", problems) or {}
    history = state.get("log_history")
    last = history[-1] if isinstance(history, list) and history and isinstance(history[-1], dict) else {}
    return Values(f"{name}, trainer_state.json", last, problems).number("train_runtime", least=0)


def _object(file: Path, name: str, problems: list[str]) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        return json_object(content(file, name, 100 * MEGABYTE), name, nan=True)
    except DataError as error:
        problems.append(str(error))
        return None


def _settings(file: Path, name: str, problems: list[str]) -> Values:
    """What `eval.yaml` says; an unset variable of its template has left null there."""
    found: dict[str, Any] = {}
    if file.is_symlink():
        problems.append(f"{name} is a link; put a copy there")
    elif file.is_file():
        try:
            source = read_yaml(file)
            found = source.values
            problems += [f"{name}: {problem}" for problem in source.problems]
        except ConfigError as error:
            problems += [f"{name}: {problem}" for problem in error.problems]
        check_json(found, name)
    return Values(name, found, problems)
