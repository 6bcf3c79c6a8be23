"""What is shown of one run, one method, one dataset: plain data, made when it is asked for.

Texts of models come as they are; whoever shows them must not believe them. No path of this machine is among them
but the name of the model as it was given.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from peftbench.columns import COLUMNS
from peftbench.datasets import PreparedDataset, get_dataset, load_dataset
from peftbench.datasets.lengths import lengths_of
from peftbench.datasets.mini import is_mini
from peftbench.errors import PeftBenchError
from peftbench.listing import dataset as shown_dataset
from peftbench.methods.specs import methods as known_methods
from peftbench.metrics import metrics
from peftbench.records import RunResult
from peftbench.schema import Protocol
from peftbench.site.content import Content
from peftbench.site.payload import finite
from peftbench.site.shelf import Entry, Opened
from peftbench.stats import spread

PAGE_ROWS = 500
"""Predictions in one file."""
LONGEST_TEXT = 20_000
"""Characters of one text; what is longer is cut, and says so."""
_BINS = 24


def run(entry: Entry) -> dict[str, Any]:
    """One run: its configuration, records, curve."""
    result = entry.result
    rows = 0 if result.primary is None or entry.problem or not result.evaluation else result.evaluation.tokens.rows
    hidden: Any = {"output": True, "data": {"directory"}, "evaluation": {"run"}, "method": {"code": {"path"}}}
    return {
        "key": entry.key,
        "row": {name: _plain(getattr(entry.row, name)) for name in COLUMNS if name != "folder"},
        "config": result.config.model_dump(mode="json", exclude=hidden),
        "train": None if result.train is None else result.train.model_dump(mode="json", exclude={"config"}),
        "evaluation": None
        if result.evaluation is None
        else result.evaluation.model_dump(mode="json", exclude={"config"}),
        "curve": curve(Path(result.folder)),
        "predictions": {"rows": rows, "pages": -(-rows // PAGE_ROWS)} if rows else None,
        "notes": [entry.problem] if entry.problem else [],
    }


def _plain(value: Any) -> Any:
    return finite(value) if isinstance(value, float) else value


def curve(folder: Path) -> list[dict[str, Any]]:
    """The training curve of a run; lines that cannot be read are passed over."""
    try:
        with (folder / "curve.jsonl").open("rb") as opened:
            lines = opened.read(10_000_000).splitlines()
    except OSError:
        return []
    names = {"step": "step", "epoch": "epoch", "loss": "train_loss", "validation_loss": "validation_loss",
             "learning_rate": "learning_rate", "seconds": "seconds"}  # fmt: skip
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            point = json.loads(line)
            if isinstance(point["step"], int):
                found.append({"tokens": None, **{name: _number(point.get(own)) for name, own in names.items()}})
        except (ValueError, KeyError, TypeError, RecursionError):
            continue
    return found


def _number(value: object) -> float | None:
    return finite(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


# ------------------------------------------------------------------------------------------------ predictions


def predictions(entry: Entry, opened: Opened, page: int, data_dir: Path | None = None) -> dict[str, Any]:
    """One page of outputs, `PAGE_ROWS` each, with what each counts."""
    first = page * PAGE_ROWS
    right, score = _by_row(entry, opened)
    asked = prompts(entry.result, data_dir)
    rows = []
    for place, stored in enumerate(opened.stored[first : first + PAGE_ROWS], first):
        rows.append(
            {
                "id": stored.id,
                "prompt": _cut(asked.get(stored.id)),
                "text": _cut(stored.text),
                "references": [_cut(each) for each in stored.references],
                "right": right[place],
                "score": score[place],
                "valid": opened.scores.valid[place],
            }
        )
    return {"first": first, "rows": rows}


def _cut(text: str | None) -> str | None:
    if text is None or len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT]} [... {len(text) - LONGEST_TEXT:,} more characters]"


def _by_row(entry: Entry, opened: Opened) -> tuple[list[bool | None], list[float | None]]:
    """For each row whether it is right, and its score, each where the metric knows of such a thing."""
    metric, columns = metrics.get(opened.scores.metric), opened.scores.columns
    spec, protocol = get_dataset(entry.result.config.dataset), entry.result.config.protocol
    count = len(opened.stored)
    right: list[bool | None] = [None] * count
    score: list[float | None] = [None] * count
    scored = [place for place, stored in enumerate(opened.stored) if stored.references]
    if metric.right is not None:
        for place, value in zip(scored, metric.right(columns).tolist(), strict=True):
            right[place] = bool(value)
    elif metric.name == "token_f1" and metric.sums is not None:
        terms = metric.sums.terms(columns, spec, protocol)
        if terms is not None:
            found = metric.sums.primary(np.asarray(terms, dtype=float), spec, protocol)
            for place, value in zip(scored, found.tolist(), strict=True):
                score[place] = finite(value)
    return right, score


def prompts(result: RunResult, data_dir: Path | None) -> Mapping[str, str]:
    """Row to what was asked, where its rows are at hand and are the very ones; nothing is fetched."""
    if result.evaluation is None:
        return {}
    facts, config = result.evaluation.data, result.config
    found = _rows(config.dataset, config.protocol, config.evaluation.test_rows, config.data.split_seed, data_dir)
    wanted = facts.splits.get("test")
    if found is None or wanted is None or found.facts.splits["test"].sha256 != wanted.sha256:
        return {}
    return {example.id: example.prompt.text() for example in found.test}


@lru_cache(maxsize=4)
def _rows(
    dataset: str, protocol: Protocol, test_rows: int | None, split_seed: int, data_dir: Path | None
) -> PreparedDataset | None:
    """Test rows that are generated, or lie in the folder that was given."""
    if not is_mini(dataset) and data_dir is None:
        return None
    try:
        return load_dataset(
            get_dataset(dataset),
            protocol=protocol,
            data_dir=None if is_mini(dataset) else data_dir,
            allow_partial=True,
            test_rows=test_rows,
            split_seed=split_seed,
            splits=["test"],
        )
    except PeftBenchError:
        return None


# ---------------------------------------------------------------------------------------- methods, datasets


def method(content: Content, name: str) -> dict[str, Any]:
    """One method: its settings with their meaning, what it trained, how far it depends on its seed."""
    shown: dict[str, Any] = {"name": name, "title": name, "description": None, "settings": [], "source": None}
    spec = known_methods.known(name)
    if spec is not None:
        defaults = spec.settings().model_dump(mode="json")
        shown |= {
            "title": spec.title,
            "description": spec.summary,
            "settings": [
                {"name": key, "value": defaults[key], "meaning": info.description}
                for key, info in spec.settings.model_fields.items()
            ],
            "source": spec.source,
        }
        shown["starts_as_base"], shown["mergeable"] = spec.identity_at_start, spec.mergeable
    trained: dict[str, set[int]] = {}
    stability = []
    for group in content.groups:
        for label, each in group.methods.items():
            if each.results[0].config.method.name != name:
                continue
            counts = {run.train.trainable_params for run in each.results if run.train}
            trained.setdefault(group.model.name, set()).update(counts)
            spreads = {}
            for dataset, cell in each.cells.items():
                if len(cell.seeds) > 1:
                    found = spread(cell.scores())
                    spreads[dataset] = {
                        "deviation": finite(found.deviation),
                        "low": finite(found.low),
                        "high": finite(found.high),
                        "seeds": len(cell.seeds),
                    }
            stability.append({"group": group.id, "label": group.label, "method": label, "datasets": spreads})
    words = [
        f"{' or '.join(f'{count:,}' for count in sorted(each))} on {model}"
        for model, each in trained.items()
        if each
    ]
    return {**shown, "trainable": "; ".join(words) or None, "stability": stability}


def dataset(name: str, data_dir: Path | None = None) -> dict[str, Any]:
    """One dataset: its rules, an example as the model sees it, how long its prompts are."""
    try:
        spec = get_dataset(name)
    except PeftBenchError as error:
        return {
            "name": name,
            "spec": {},
            "example": None,
            "lengths": None,
            "quantiles": None,
            "notes": [str(error)],
        }
    told, example = {}, {}
    for protocol in ("corrected", "published"):
        try:
            found = shown_dataset(name, protocol)
        except PeftBenchError:
            continue
        example[protocol] = {"prompt": found.pop("prompt"), "target": found.pop("answer")}
        told[protocol] = found
    known = lengths_of(spec)
    return {
        "name": name,
        "spec": told.get("corrected", {}),
        "example": example or None,
        "lengths": _histogram(name, data_dir),
        "quantiles": None if known is None else known.model_dump(mode="json"),
        "notes": [],
    }


def _histogram(name: str, data_dir: Path | None) -> dict[str, Any] | None:
    rows = _rows(name, "corrected", None, 0, data_dir)
    if rows is None or not rows.test:
        return None
    lengths = [len(example.prompt.text()) for example in rows.test]
    counts, edges = np.histogram(lengths, bins=_BINS)
    return {
        "edges": edges.tolist(),
        "counts": counts.tolist(),
        "tokenizer": "characters",
        "of": f"prompts of {len(lengths):,} test rows",
    }
