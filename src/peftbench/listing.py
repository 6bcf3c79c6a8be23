"""What `list` and `show` say, as plain data: names, facts, one rendered example, counted parameters.

Each function imports what it needs: a list has to be there at once.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from peftbench.datasets import dataset_given, dataset_names, example_of, get_dataset
from peftbench.datasets.catalog import under_protocol
from peftbench.datasets.examples import instruction_for
from peftbench.datasets.own import first_row
from peftbench.datasets.prompts import with_prompts
from peftbench.errors import ConfigError, DataError, NeedsWeights, UnknownName
from peftbench.schema import DatasetSpec, Prompt, Protocol

if TYPE_CHECKING:
    from peftbench.records import RunResult, TokenFacts
    from peftbench.store import RunFolder


def rows_of(kind: str) -> list[dict[str, Any]]:
    """One row for each of `datasets`, `methods`, `metrics`, `columns` or `tables`; raises `UnknownName`."""
    if kind == "datasets":
        specs = [get_dataset(name) for name in dataset_names()]
        return [
            {
                "name": spec.name,
                "area": spec.benchmark or spec.area,
                "task": spec.task,
                "classes": spec.classes,
                "train": spec.counts.train,
                "test": spec.counts.test,
                "metric": spec.metric,
            }
            for spec in specs
        ]
    if kind == "methods":
        return list(_methods())
    if kind == "columns":
        from peftbench.columns import described

        return [dict(each) for each in described()]
    if kind == "tables":
        from peftbench.importers.printed import printed_tables

        return [
            {"number": each.number, "rows": len(each.rows), "shows": each.caption} for each in printed_tables()
        ]
    if kind != "metrics":
        raise UnknownName("kind", kind, ("datasets", "methods", "metrics", "columns", "tables"))
    from peftbench.metrics import metrics

    return [{"name": metric.name, "summary": _first_line(metric.count.__doc__)} for metric in metrics]


def _methods() -> Iterator[dict[str, Any]]:
    """One row for each method; one of a package that cannot be used says why."""
    from peftbench.methods.specs import methods
    from peftbench.registry import package_of

    for name in methods.names():
        try:
            spec = methods.get(name)
        except ConfigError as error:
            yield {"name": name, "category": "cannot be used", "summary": str(error)}
            continue
        yield {"name": spec.name, "category": spec.category, "summary": spec.summary}
        for point in methods.packages().get(name, ()) if spec.code is None else ():
            why = f"{name!r} of package {package_of(point)!r} has the name of a built-in method, which is used"
            yield {"name": name, "category": "cannot be used", "summary": f"{why}; rename it in that package"}


def _first_line(text: str | None) -> str:
    return text.strip().splitlines()[0] if text and text.strip() else ""


def dataset(name: str, protocol: str) -> dict[str, Any]:
    """Everything about a dataset and one example as the model sees it; raises `UnknownName`."""
    known = get_args(Protocol)
    if protocol not in known:
        raise UnknownName("protocol", protocol, known)
    spec = dataset_given(name)
    if spec.example is None and (row := first_row(spec)) is not None:
        spec = spec.model_copy(update={"example": dict(row)})
    under = under_protocol(spec, protocol)  # type: ignore[arg-type]
    left_out = {"example", "published", "instruction", "fields", *(() if spec.own else ("own",))}
    shown = under.model_dump(mode="json", exclude=left_out, exclude_none=True)
    if spec.own and spec.example is None:  # no row is at hand
        shown["prompt"] = Prompt(spec.instruction, tuple((each.label, "...") for each in spec.fields)).text()
        shown["answer"] = ", ".join(spec.label_set) or "..."
    else:
        example = example_of(spec, protocol=protocol)  # type: ignore[arg-type]
        shown["prompt"], shown["answer"] = example.prompt.text(), example.target
    if spec.published.differences:
        shown["published differs"] = list(spec.published.differences)
    return shown


def table(number: str) -> dict[str, Any]:
    """A printed table of the paper, with its errata and with what contradicts it; raises `UnknownName`."""
    from dataclasses import asdict

    from peftbench.importers.agreement import disagreements
    from peftbench.importers.errata import errata
    from peftbench.importers.printed import printed_table

    found = printed_table(number)
    shown = asdict(found)
    shown["errata"] = []
    for entry in errata():
        if (name := entry.id) not in found.errata:
            continue
        touched = [row.label for row in found.rows if any(name in cell.errata for cell in row.cells)]
        columns = [
            column.label
            for place, column in enumerate(found.columns)
            if any(name in row.cells[place].errata for row in found.rows)
        ]
        parts = ([] if len(touched) == len(found.rows) else touched) + (
            [] if len(columns) == len(found.columns) else columns
        )
        said = ". ".join(
            filter(None, (entry.reference, f"Here: {entry.here}" if entry.here else "", entry.difference))
        )
        where = f"[{', '.join(parts)}] " if 0 < len(parts) <= 9 else ""
        shown["errata"].append({**asdict(entry), "rows": touched, "columns": columns, "said": where + said})
    shown["disagreements"] = [
        {**asdict(each), "said": f"printed {each.printed}, expected {each.expected}: {each.why}"}
        for each in disagreements()
        if each.table == found.name
    ]
    return shown


def printed(cell: dict[str, Any]) -> str | None:
    """A printed cell as text, underlined ones between underscores; None where its content is lost."""
    return (f"_{cell['text']}_" if cell["mark"] else cell["text"]) or None


def method(name: str, model: str | None, revision: str | None, changes: Sequence[str]) -> dict[str, Any]:
    """A method's settings with their meaning, and its trainable parameters on `model`, counted without weights."""
    from peftbench.config import checked_settings
    from peftbench.methods.plugins import spec_named

    spec = spec_named(name)
    settings = checked_settings(spec, changes)
    shown: dict[str, Any] = {
        "name": spec.name,
        "title": spec.title,
        "category": spec.category,
        "summary": spec.summary,
        "source": spec.source,
        "begins as the base model": spec.identity_at_start,
        "mergeable": spec.mergeable,
        "quantized bases": spec.quantized_base,
        "limits": spec.limits or None,
        **({"code": spec.code.model_dump(mode="json")} if spec.code else {}),
        "settings": settings.model_dump(mode="json"),
        "meaning of settings": {key: info.description for key, info in spec.settings.model_fields.items()},
    }
    if model is not None:
        from peftbench.efficiency.models import config_of
        from peftbench.engine.loading import weightless
        from peftbench.methods import build_adapter

        base = weightless(config_of(model, revision)[0], model)
        shown["model"] = base.config.model_type
        shown["base_params"] = sum(parameter.numel() for parameter in base.parameters())
        try:
            adapter = build_adapter(spec, base, settings, [0]) if spec.build else None
            shown["trainable_params"] = adapter.trainable_params if adapter else 0
        except NeedsWeights as unknown:
            shown["trainable_params"], shown["why it is not known"] = None, str(unknown)
    return shown


def prompts_of(run_folder: Path, lines: Sequence[str]) -> list[Prompt]:
    """The user's lines as prompts of the run's dataset.

    A JSON object names the dataset's fields. Any other line is the field of a dataset that has only one, and
    otherwise the whole message.
    """
    from peftbench.store import find_run

    found = find_run(run_folder)
    config = found.config()
    asked = with_prompts(get_dataset(config.dataset), config.data.prompts, config.protocol)
    if config.data.prompts is not None:
        _check_pack(found, config.data.prompts, asked.published.differences[-1])
    instruction = instruction_for(asked, config.protocol, "test")
    spec = under_protocol(asked, config.protocol).model_copy(update={"instruction": instruction})
    return [_prompt(spec, line, number + 1) for number, line in enumerate(lines)]


def _check_pack(run: "RunFolder", pack: str, told: str) -> None:
    """Raise `DataError` if a prompt pack is not the one whose hash stands in the records of a run."""
    from peftbench.finished import read_record
    from peftbench.records import EvalRecord

    evaluated = (read_record(EvalRecord, each / "result.json") for each in run.evaluations())
    records = [each for each in (run.train_record(), *evaluated) if each is not None]
    if records and not any(told in each.data.differences for each in records):
        raise DataError(
            f"prompt pack {pack!r} is not what it was when run {run.path} was made; put that file back"
        )


def _prompt(spec: DatasetSpec, line: str, number: int) -> Prompt:
    if line.lstrip().startswith("{"):
        try:
            given = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"line {number} begins like JSON but is none: {error}; mend it") from error
        columns = {field.label: field.column for field in spec.fields if field.label}
        columns |= {field.column: field.column for field in spec.fields}
        for key in given:
            if key not in columns:
                known = [field.label or field.column for field in spec.fields]
                raise UnknownName("field", key, known, f"line {number}: ")
        for key, value in given.items():
            if not isinstance(value, str | int | float) or isinstance(value, bool):
                raise DataError(f"line {number}: field {key!r} is {value!r}, expected a text")
        texts = {columns[key]: str(value) for key, value in given.items()}
        missing = [field.label or field.column for field in spec.fields if not texts.get(field.column)]
        if len(missing) == len(spec.fields):
            raise DataError(f"line {number} has none of the fields {', '.join(missing)}; give their texts")
        return Prompt(
            spec.instruction,
            tuple((field.label, texts[field.column]) for field in spec.fields if texts.get(field.column)),
        )
    if len(spec.fields) == 1:
        return Prompt(spec.instruction, ((spec.fields[0].label, line),))
    return Prompt("", (("", line),))


def result_pairs(result: "RunResult") -> dict[str, Any]:
    """The outcome of a run in a few lines."""
    pairs: dict[str, Any] = {
        "run": result.folder,
        "model": result.config.model,
        "method": str(result.config.method),
        "dataset": result.config.dataset,
        "status": result.status,
    }
    if result.train is not None:
        pairs["trainable parameters"] = f"{result.train.trainable_params:,} ({result.train.trainable_dtype})"
        pairs["best step"] = f"{result.train.best_step} of {result.train.steps}"
        best = result.train.best_validation_loss
        pairs["best validation loss"] = "none" if best is None else f"{best:.4f}"
        pairs["training"] = f"{result.train.seconds:.1f} s"
        pairs |= _rows(result.train.tokens["train"], "training")
    evaluation = result.evaluation
    if evaluation is not None and evaluation.status == "done":
        for protocol, scores in evaluation.scores.items():
            pairs[f"score ({protocol})"] = f"{scores.primary:.2f}"
        shares = {"invalid outputs": evaluation.invalid_rate, "most frequent output": evaluation.top_output_share}
        pairs |= {name: f"{100 * share:.1f} %" for name, share in shares.items() if share is not None}
        pairs |= _rows(evaluation.tokens, "test")
        overlap = evaluation.data.train_test_overlap_rows
        if overlap:
            pairs["test rows that stand in train"] = f"{overlap:,}; `peftbench score RUN --unseen` leaves them out"
        pairs["evaluation"] = f"{evaluation.seconds:.1f} s"
    return pairs


def _rows(facts: "TokenFacts", split: str) -> dict[str, str]:
    """What the token limit did to rows, if anything."""
    told = {"shortened": facts.cut_rows, "left out": facts.dropped_rows}
    text = ", ".join(f"{count:,} {what}" for what, count in told.items() if count)
    limit = f"of {facts.rows:,} to fit into {facts.limit_tokens:,} tokens"
    return {f"{split} rows": f"{text} {limit}"} if text else {}
