"""The model card of a trained adapter: front matter for the Hugging Face hub, and what a reader has to know.

Everything in it comes from the run's records and predictions; nothing is uploaded.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from peftbench.console import bytes_text, seconds_text
from peftbench.datasets import get_dataset
from peftbench.datasets.own import bare
from peftbench.errors import DataError, UnknownName
from peftbench.leaderboard import gather
from peftbench.methods.plugins import known_spec
from peftbench.metrics import metrics
from peftbench.records import EvalRecord, RunResult, TrainRecord
from peftbench.report.escaping import for_markdown, one_line
from peftbench.report.layout import method_title
from peftbench.schema import DatasetSpec, HubSource, MethodChoice, Protocol
from peftbench.stats import Interval, mean_interval
from peftbench.store import stored_results

RULES: tuple[Protocol, Protocol] = ("corrected", "published")
_HUB_METRICS = {"macro_f1": "f1", "token_f1": "f1", "pearson": "pearsonr", "codebleu": "codebleu"}
"""Names of the hub's metrics; the others here are accuracies."""


def model_card(folder: Path) -> str:
    """The card of a run, of its adapter or of one of its evaluations, named by its folder.

    Raises `DataError` where the run is not finished, is of the base model, was evaluated more than once and the
    folder does not say which, or where its predictions are not as they were written.
    """
    run = _finished(folder)
    assert run.train is not None
    assert run.evaluation is not None
    spec = get_dataset(run.config.dataset)
    intervals = {rule: _interval(run, rule) for rule in RULES}
    text = [
        *_yaml_lines(_front_matter(run, run.train, run.evaluation, spec)),
        "",
        *_introduction(run, run.train, spec),
        *_scores(run.evaluation, intervals),
        *_settings(run.train),
        *_cost(run.train, run.evaluation),
        *_loading(run.train),
        *_provenance(run.train, run.evaluation),
    ]
    return "\n".join(text) + "\n"


def _finished(folder: Path) -> RunResult:
    """The one finished evaluation that a folder means."""
    if not folder.exists():
        raise DataError(f"{str(folder)!r} does not exist; give the folder of a run or of its adapter")
    inside = folder.name == "adapter" or folder.name.startswith("eval-")
    root = folder.parent if inside else folder
    if not (root / "config.json").is_file():
        raise DataError(
            f"{str(folder)!r} is no run and no adapter of one; give a folder such as "
            "runs/<model>/<method>/<dataset>/seed42-<id>"
        )
    found = stored_results(root)
    if folder.name.startswith("eval-"):
        found = [each for each in found if each.evaluation and f"eval-{each.evaluation.eval_id}" == folder.name]
    done = [each for each in found if each.primary is not None]
    if not done:
        failed = any(each.status == "failed" for each in found)
        why = "has failed" if failed else "is not finished: it has not been trained and evaluated"
        raise DataError(f"the run in {str(root)!r} {why}; a card needs its scores, which `peftbench run` makes")
    if done[0].train is None:
        raise DataError(f"{str(root)!r} is of the base model, which has no adapter; give the run of a method")
    if len(done) > 1:
        names = ", ".join(f"eval-{each.evaluation.eval_id}" for each in done if each.evaluation)
        raise DataError(f"the run in {str(root)!r} has several evaluations, {names}; give the folder of one")
    return done[0]


def _interval(run: RunResult, rule: Protocol) -> Interval:
    """The score under a rule with its interval over test rows, from the predictions."""
    [gathered] = gather([run], protocol=rule)
    return mean_interval(gathered.cells)


def _front_matter(run: RunResult, train: TrainRecord, evaluation: EvalRecord, spec: DatasetSpec) -> dict[str, Any]:
    # Generated rows are on no hub, whatever entry of the catalogue they follow.
    elsewhere = evaluation.data.source == "generated" or not isinstance(spec.source, HubSource)
    repository = run.config.dataset if elsewhere else spec.hub.repository
    dataset: dict[str, Any] = {"type": repository, "name": spec.title, "split": spec.splits["test"]}
    if evaluation.data.revision:
        dataset["revision"] = evaluation.data.revision
    own = bare(evaluation.metric) if spec.own else "accuracy"
    kind = _HUB_METRICS.get(evaluation.metric, own)
    scored = [
        {
            "type": kind,
            "value": evaluation.scores[rule].primary,
            "name": f"{_metric_title(evaluation.metric)}, {rule} scoring (0 to 100)",
            "verified": False,
        }
        for rule in RULES
        if rule in evaluation.scores
    ]
    name = f"{method_title(str(run.config.method))} on {run.config.dataset}"
    found: dict[str, Any] = {
        "base_model": _base_model(train),
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["peft", "peftbench", run.config.method.name.replace("_", "-")],
        **({} if elsewhere else {"datasets": [repository]}),
        "metrics": [kind],
        "model-index": [
            {
                "name": name,
                "results": [
                    {
                        "task": {"type": "text-generation", "name": spec.task},
                        "dataset": dataset,
                        "metrics": scored,
                    }
                ],
            }
        ],
    }
    if run.config.model_revision is not None:
        found["base_model_relation"] = "adapter"
    return found


def _base_model(train: TrainRecord) -> str:
    """The id of a model on the hub; of a folder its name alone, since a path says nothing to others."""
    return train.config.model if train.config.model_revision is not None else train.model.name


def _yaml_lines(front: Mapping[str, Any]) -> Iterator[str]:
    yield "---"
    yield from _yaml(front, 0)
    yield "---"


def _yaml(value: Mapping[str, Any] | Sequence[Any], depth: int) -> Iterator[str]:
    """Block YAML; every text is in double quotes, so that no reader takes it for anything else."""
    pad = "  " * depth
    pairs = value.items() if isinstance(value, Mapping) else ((None, each) for each in value)
    for key, item in pairs:
        head = f"{pad}-" if key is None else f"{pad}{key}:"
        if not isinstance(item, dict | list):
            text = json.dumps(one_line(item) if isinstance(item, str) else item, ensure_ascii=False)
            yield f"{head} {text}"
            continue
        lines = list(_yaml(item, depth + 1))
        if key is None:  # the first key of an item stands behind its dash
            yield f"{head} {lines[0].lstrip()}"
            yield from lines[1:]
        else:
            yield head
            yield from lines


def _introduction(run: RunResult, train: TrainRecord, spec: DatasetSpec) -> list[str]:
    method = for_markdown(method_title(str(run.config.method)))
    limits = [
        f"- {text}"
        for said, text in (
            (
                train.data.partial,
                "Trained on a part of the dataset: the source had fewer rows than the benchmark.",
            ),
            (
                train.data.train_rows_limit is not None,
                f"Trained on a sample of at most {train.data.train_rows_limit or 0:,} rows.",
            ),
        )
        if said
    ]
    return [
        f"# {method} for {for_markdown(_base_model(train))} on {for_markdown(run.config.dataset)}",
        "",
        f"An adapter for {_linked(train, spec)}, {for_markdown(spec.task.lower())}, trained and measured by "
        f"peftbench {train.provenance.peftbench} under its {run.config.protocol} protocol.",
        *(["", *limits] if limits else []),
        "",
    ]


def _linked(train: TrainRecord, spec: DatasetSpec) -> str:
    title = for_markdown(spec.title)
    if train.data.source == "generated":
        return f"generated rows in the manner of {title}"
    if not isinstance(spec.source, HubSource):
        return f"{title}, files of its user's"
    return f"[{title}](https://huggingface.co/datasets/{spec.hub.repository})"


def _scores(evaluation: EvalRecord, intervals: Mapping[Protocol, Interval]) -> list[str]:
    title = _metric_title(evaluation.metric)
    lines = ["## Scores", "", f"| scoring | {title} | 95 % interval | lenient |", "|---|---:|---:|---:|"]
    for rule in RULES:
        if rule not in evaluation.scores:
            continue
        found, interval = evaluation.scores[rule], intervals[rule]
        ends = "–" if interval.low is None else f"{interval.low:.1f} to {interval.high:.1f}"
        lenient = found.values.get(_lenient(evaluation.metric))
        lines.append(f"| {rule} | {found.primary:.1f} | {ends} | {'–' if lenient is None else f'{lenient:.1f}'} |")
    rows = f"{evaluation.tokens.rows:,} test rows"
    if evaluation.data.test_rows_limit is not None:
        rows += ", a sample"
    if evaluation.data.partial:
        rows += ", of partial data"
    assert evaluation.invalid_rate is not None  # it was scored
    assert evaluation.top_output_share is not None
    return [
        *lines,
        "",
        f"On {rows}, from 0 to 100. The interval resamples test rows; it does not say what another seed would "
        "give. Lenient: the same outputs, read with the least care for their form. Invalid outputs: "
        f"{100 * evaluation.invalid_rate:.1f} %; most frequent output: {100 * evaluation.top_output_share:.1f} %; "
        f"ended at the limit of {evaluation.max_new_tokens} tokens: {100 * evaluation.hit_limit_rate:.1f} %.",
        "",
    ]


def _settings(train: TrainRecord) -> list[str]:
    training, method = train.config.training, train.config.method
    pairs = {
        "method": method_title(method.name),
        **{key.replace("_", " "): _plain(value) for key, value in _all_settings(method).items()},
        "seed": train.config.seed,
        "learning rate": f"{training.learning_rate:g}, cosine with {100 * training.warmup_ratio:g} % warm-up",
        "epochs": training.epochs,
        "batch size": training.batch_size,
        "weight decay": f"{training.weight_decay:g}",
        "steps": f"{train.steps:,}; the weights are of step {train.best_step or 0:,}, the lowest validation loss",
        "precision": f"base {train.model.precision}, adapter {train.trainable_dtype}",
        "training rows": f"{train.data.splits['train'].rows:,}" if "train" in train.data.splits else "not known",
    }
    lines = [f"| {for_markdown(key)} | {for_markdown(str(value))} |" for key, value in pairs.items()]
    return ["## Settings", "", "| | |", "|---|---|", *lines, ""]


def _all_settings(method: MethodChoice) -> dict[str, Any]:
    """Settings with their defaults; those that were given alone, where the method is not known any more."""
    spec = known_spec(method)
    return dict(method.settings) if spec is None else method.settings_for(spec).model_dump(mode="json")


def _plain(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _cost(train: TrainRecord, evaluation: EvalRecord) -> list[str]:
    profile, answered = train.efficiency, evaluation.efficiency
    pairs = {
        "trainable parameters": f"{train.trainable_params:,}",
        "size of the weights": bytes_text(train.adapter_bytes),
        "training": seconds_text(train.seconds),
        "peak memory of training": bytes_text(profile.train_peak_memory_bytes if profile else None),
        "answers": seconds_text(answered.generation_seconds if answered else None),
        "first token, then each": None
        if answered is None or answered.first_token_seconds is None
        else f"{seconds_text(answered.first_token_seconds)}, {seconds_text(answered.next_token_seconds)}",
        "energy of training": None
        if profile is None or profile.energy_joules is None
        else f"{profile.energy_joules / 3.6e6:.3g} kWh, {profile.energy_source}",
        "device": train.provenance.device,
    }
    lines = [f"| {key} | {for_markdown(value)} |" for key, value in pairs.items() if value is not None]
    shared = ["", "Passes were shared with other runs, so that memory is not known."] * (train.group_size > 1)
    return ["## Cost", "", "| | |", "|---|---|", *lines, *shared, ""]


_KEPT = {
    "nf4": 'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True',
    "int8": "load_in_8bit=True",
}
"""How transformers is told of what `engine.quantized` makes."""


def _loading(train: TrainRecord) -> list[str]:
    revision = train.config.model_revision
    name = json.dumps(one_line(_base_model(train) if revision else f"path/to/{train.model.name}"))
    name = name.replace("<", "\\u003c")  # the same to Python, and no HTML to whoever shows code as it is
    at = f", revision={json.dumps(revision)}" if revision else ""
    names, kept, note = "AutoModelForCausalLM, AutoTokenizer", [], []
    if train.model.quantization is not None:
        names += ", BitsAndBytesConfig"
        kept = ["", f"kept = BitsAndBytesConfig({_KEPT[train.model.quantization]})"]
        note = ["transformers computes a quantized base a little otherwise than it was trained on here.", ""]
    base = f"{at}, quantization_config=kept" if kept else at
    return [
        "## How to load it",
        "",
        "```python",
        "from peft import PeftModel",
        f"from transformers import {names}",
        *kept,
        "",
        f"base = AutoModelForCausalLM.from_pretrained({name}{base})",
        f"tokenizer = AutoTokenizer.from_pretrained({name}{at})",
        'model = PeftModel.from_pretrained(base, "path/to/this/adapter")',
        "```",
        "",
        *note,
        f"It expects the prompt of `peftbench show dataset {train.config.dataset}`.",
        "",
    ]


def _provenance(train: TrainRecord, evaluation: EvalRecord) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in sorted(train.provenance.packages.items()))
    splits = evaluation.data.splits
    pairs = {
        "run": train.train_id,
        "evaluation": evaluation.eval_id,
        "peftbench": f"{train.provenance.peftbench}, commit {train.provenance.commit or 'not known'}",
        "base model": f"{_base_model(train)}, {train.model.family}, fingerprint {train.model.fingerprint}",
        "dataset": f"{train.data.dataset}, version {train.data.version}, "
        f"revision {train.data.revision or 'none'}, from {train.data.source}",
        "test rows": f"SHA-256 {splits['test'].sha256}" if "test" in splits else "not known",
        "weights": f"SHA-256 {train.adapter_sha256 or 'not known'}",
        "predictions": f"SHA-256 {evaluation.predictions_sha256 or 'not known'}",
        "Python": f"{train.provenance.python}; {packages}",
        "started": train.provenance.started_at,
    }
    lines = [f"| {key} | {for_markdown(value)} |" for key, value in pairs.items()]
    return ["## Where it comes from", "", "| | |", "|---|---|", *lines]


def _metric_title(metric: str) -> str:
    return metric.replace("_", " ")


def _lenient(metric: str) -> str:
    try:
        return metrics.get(metric).lenient
    except UnknownName:
        return ""
