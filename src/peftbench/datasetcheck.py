"""Whether a dataset can be trained on and scored: entry, rows, labels, leaks, lengths, prompts, gold answers.

Rows are read as a run reads them, one by one, so that everything is found at once. Nothing is changed or fetched
beyond what a run would fetch.
"""

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peftbench.datasets import dataset_given
from peftbench.datasets.examples import PreparedRow, Role, instruction_for, prepared_row
from peftbench.datasets.lengths import measured
from peftbench.datasets.own import is_path
from peftbench.datasets.sources import choose_source, open_split
from peftbench.datasets.split import group_names
from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.findings import Finding, halves, notice, problem
from peftbench.metrics import metrics, score_rows
from peftbench.schema import DatasetSpec, Example

ROLES: tuple[Role, ...] = ("train", "test")
FEW_ROWS = 5
"""A label with fewer training rows is hardly learned."""
LOPSIDED = 0.9
"""Share of one label from which always answering it looks good."""
MOST_SCORED = 2_000
"""Gold answers that are scored against themselves."""
GOOD_GOLD = 99.0
"""Score of the gold answers from which on the metric is said to read them."""
LONGEST_SHOWN = 600
MAX_TOKENS = 2048
"""Most tokens of a row by default (`training.max_tokens`)."""


@dataclass
class CheckedDataset:
    """What was found, and what was looked at."""

    dataset: str
    findings: list[Finding]
    facts: dict[str, Any] = field(default_factory=dict)
    rendered: dict[str, str] = field(default_factory=dict)
    """For each label, or once, a prompt with its answer."""


def check_dataset(
    name: str, *, data_dir: Path | None = None, model: str | None = None, revision: str | None = None
) -> CheckedDataset:
    """Check a dataset by its name or by the path of its entry; with `model`, also how many rows fit into it.

    Raises `ConfigError` or `DataError` where there is nothing to look at: no such file, no rows, no model.
    """
    if is_path(name) and not Path(name).is_file():
        dataset_given(name)  # which says so
    try:
        spec = dataset_given(name)
    except ConfigError as error:
        if not is_path(name):
            raise
        return CheckedDataset(name, [problem(*halves(each)) for each in error.problems])
    except DataError as error:
        return CheckedDataset(name, [problem(*halves(str(error)))])
    found = CheckedDataset(spec.name, list(_of_entry(spec)))
    rows: dict[Role, list[PreparedRow]] = {}
    for role in ROLES:
        rows[role] = _read(spec, role, data_dir, found)
    examples = {role: [each for row in rows[role] for each in row.examples] for role in ROLES}
    found.facts |= {
        "title": spec.title,
        "licence": spec.licence,
        "metric": spec.metric,
        "rows": {role: len(rows[role]) for role in ROLES},
    }
    for role in ROLES:
        found.findings += _texts(examples[role], role)
    found.findings += _labels(spec, examples, found)
    found.findings += _equal_rows(rows, examples)
    if examples["train"]:
        found.findings += _trainable(spec, rows["train"])
        taught = [each for each in examples["train"] if each.target.strip()]
        lengths = measured(taught or examples["train"], "train, whole")
        found.facts["prompt characters"] = lengths.prompt_characters.model_dump()
        found.facts["answer characters"] = lengths.target_characters.model_dump()
    if model is not None:
        found.findings += _fitting(spec, examples, model, revision, found)
    found.findings += _gold_answers(spec, examples["test"], found)
    found.rendered = _rendered(examples["train"] or examples["test"])
    return found


def _of_entry(spec: DatasetSpec) -> Iterator[Finding]:
    for key in ("title", "licence", "instruction", "task", "citation"):
        if "TODO" in getattr(spec, key):
            yield problem(f"{key} still says TODO", f"write the {key}")
    if spec.licence.lower().startswith("not stated"):
        yield notice("no licence is stated", "find out under which terms the rows may be used, and name them")
    if not spec.instruction.strip():
        yield notice("the instruction is empty", "say what is asked; a model that was not trained cannot guess it")
    if spec.labels is not None and spec.metric == "token_f1":
        yield notice("answers are labels, but scored by shared words", "take metric: macro_f1")
    try:
        metrics.get(spec.metric)
    except (ConfigError, UnknownName) as error:
        yield problem(*halves(str(error)))


# -------------------------------------------------------------------------------------------------- reading


def _read(spec: DatasetSpec, role: Role, data_dir: Path | None, found: CheckedDataset) -> list[PreparedRow]:
    """The rows of a split that can be prepared; what is wrong with the others goes to the findings."""
    opened = open_split(choose_source(spec, data_dir, None), spec, role)
    rows: list[PreparedRow] = []
    wrong: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    asked, count = instruction_for(spec, "corrected", role), 0
    try:
        for count, row in enumerate(opened.rows, start=1):
            id_ = f"{spec.splits[role]}-{count - 1}"
            try:
                rows.append(prepared_row(spec, row, id_, asked))
            except DataError as error:
                text = str(error)
                wrong[_kind(text)].append((id_, text))
    except DataError as error:
        found.findings.append(problem(*halves(str(error))))
    for each in wrong.values():
        found.findings.append(problem(each[0][1], "mend these rows", [id_ for id_, _ in each]))
    if not count:
        found.findings.append(problem(f"the {role} split holds no row", "put rows into its file"))
    expected = spec.counts.train if role == "train" else spec.counts.test
    if count and count != expected:
        found.findings.append(
            notice(
                f"the {role} split holds {count:,} rows of the {expected:,} that are counted",
                "load the whole split, or set data.allow_partial: true",
            )
        )
    return rows


def _kind(message: str) -> tuple[str, str]:
    """What is alike in messages about rows: column and expectation, not the value."""
    return message.partition(" is ")[0].partition(", found")[0], message.rpartition(", expected")[2][:60]


def _texts(examples: Sequence[Example], role: Role) -> Iterator[Finding]:
    def having(test: Any) -> list[str]:
        return [each.id for each in examples if test(each)]

    if ids := having(lambda each: not each.prompt.fields):
        yield problem(f"{role}: every field of the prompt is empty", "remove these rows or fill them", ids)
    labels = Counter(label for each in examples for label, _ in each.prompt.fields)
    for label, number in labels.items():
        if empty := len(examples) - number - (len(ids) if ids else 0):
            yield notice(f"{role}: field {label!r} is empty and left out", "see whether that is meant", (), empty)
    if ids := having(lambda each: not each.target.strip()):
        then = "they are left out of training" if role == "train" else "they are predicted and not scored"
        yield notice(f"{role}: the answer is empty", then, ids)
    if ids := having(lambda each: any(_steers(text) for _, text in each.prompt.fields)):
        yield notice(
            f"{role}: control or direction characters in the text", "remove them if they mean nothing", ids
        )


def _steers(text: str) -> bool:
    return (not text.isascii() and any(unicodedata.category(each) in ("Cc", "Cf") for each in text)) or bool(
        re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text)
    )


# ------------------------------------------------------------------------------------- labels and equal rows


def _labels(spec: DatasetSpec, examples: dict[Role, list[Example]], found: CheckedDataset) -> Iterator[Finding]:
    if not spec.label_set:
        return
    counts = {role: Counter(each.target for each in examples[role]) for role in ROLES}
    found.facts["labels"] = {role: {each: counts[role][each] for each in spec.label_set} for role in ROLES}
    for label in spec.label_set:
        taught = counts["train"][label]
        if examples["train"] and not taught:
            yield problem(
                f"no training row has label {label!r}", "remove it from labels, or add rows that have it"
            )
        elif taught and taught < FEW_ROWS:
            yield notice(
                f"only {taught} training rows have label {label!r}", "add rows, or join it with another label"
            )
        if examples["test"] and not counts["test"][label]:
            yield notice(f"no test row has label {label!r}", "it counts towards no score; add rows that have it")
    for role in ROLES:
        [(label, most)] = counts[role].most_common(1) or [("", 0)]
        if examples[role] and most / len(examples[role]) > LOPSIDED:
            share = 100 * most / len(examples[role])
            yield notice(f"{role}: {share:.0f} % of the rows have label {label!r}", "read macro-F1, not accuracy")


def _equal_rows(rows: dict[Role, list[PreparedRow]], examples: dict[Role, list[Example]]) -> Iterator[Finding]:
    """Leaks from train to test, and rows that stand twice in one split."""
    taught: dict[str, str] = {}
    answers: dict[str, set[str]] = defaultdict(set)
    twice: list[str] = []
    for row in rows["train"]:
        first = row.examples[0]
        if taught.setdefault(row.input, first.id) != first.id:
            twice.append(first.id)
        answers[row.input].add(first.target)
    if twice:
        yield notice("train: the same input stands there before", "remove them if they are copies", twice)
    if split := sum(len(each) > 1 for each in answers.values()):
        yield notice("train: inputs have more than one answer", "see which of them is right", (), split)
    exact = [(row.examples[0], taught[row.input]) for row in rows["test"] if row.input in taught]
    if exact:
        yield problem(
            f"test: the input stands in train as well, such as {_pairs(exact)}",
            "remove them from one of the two, or read `peftbench score RUN --unseen`",
            [each.id for each, _ in exact],
        )
    leaked = {each.id for each, _ in exact}
    alike = {key: each.id for each in reversed(examples["train"]) if (key := _plain(each))}
    near = [
        (each, alike[_plain(each)]) for each in examples["test"] if each.id not in leaked and _plain(each) in alike
    ]
    if near:
        yield problem(
            f"test: the input stands in train as well but for case and punctuation, such as {_pairs(near)}",
            "remove them from one of the two",
            [each.id for each, _ in near],
        )


def _pairs(leaks: Sequence[tuple[Example, str]]) -> str:
    return " and ".join(f"{each.id} = {other} ({_short(each)!r})" for each, other in leaks[:2])


def _short(example: Example) -> str:
    text = " ".join(text for _, text in example.prompt.fields)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _plain(example: Example) -> str:
    """The words of the fields; empty where there are none."""
    return " ".join(re.findall(r"\w+", " ".join(text for _, text in example.prompt.fields).casefold()))


def _trainable(spec: DatasetSpec, rows: Sequence[PreparedRow]) -> Iterator[Finding]:
    """Whether some rows can be held out for validation: whole groups go to one side."""
    if len(set(group_names(spec.group_rule, [row.group or (row.input,) for row in rows]))) < 2:
        yield problem(
            "train: all rows belong together, so that none can be held out for validation",
            "add rows with other inputs, or mend `group`",
        )


# ------------------------------------------------------------------------------------------ length and scores


def _fitting(
    spec: DatasetSpec,
    examples: dict[Role, list[Example]],
    model: str,
    revision: str | None,
    found: CheckedDataset,
) -> Iterator[Finding]:
    from peftbench.engine.base import tokenizer_and_context

    chat, context = tokenizer_and_context(model, revision)
    limit = min(MAX_TOKENS, context or MAX_TOKENS)
    found.facts["context of the model"] = "not known" if context is None else context
    longest = 0
    for role in ROLES:
        over, hopeless, cut_answers = list[str](), list[str](), list[str]()
        for each in examples[role]:
            prompt, answer = len(chat.prompt_ids(each.prompt.text())), len(chat.answer_ids(each.target))
            longest = max(longest, prompt + answer)
            if prompt + answer > limit:
                least = len(chat.prompt_ids(each.prompt.instruction)) + answer
                (hopeless if least > limit else over).append(each.id)
            if answer - 1 > spec.max_new_tokens:
                cut_answers.append(each.id)
        if over:
            mend = "take a model with a longer context, raise training.max_tokens, or shorten the texts"
            yield notice(f"{role}: longer than {limit:,} tokens, so that a field loses its middle", mend, over)
        if hopeless:
            yield problem(
                f"{role}: instruction and answer alone exceed {limit:,} tokens", "shorten them", hopeless
            )
        if cut_answers:
            yield problem(
                f"{role}: the answer is longer than max_new_tokens, {spec.max_new_tokens}",
                "raise max_new_tokens in the entry",
                cut_answers,
            )
    found.facts["longest row in tokens"] = longest


def _gold_answers(spec: DatasetSpec, examples: Sequence[Example], found: CheckedDataset) -> Iterator[Finding]:
    """Whether the metric gives gold answers full marks."""
    some = [each for each in examples if each.references][:MOST_SCORED]
    if not some:
        return
    golds = [each.references for each in some]
    try:
        scored = score_rows(spec, [each[0] for each in golds], golds, "corrected")
        right = metrics.get(spec.metric).right
        told = None if right is None else right(scored.columns).tolist()
    except (ConfigError, UnknownName):
        return  # told of the entry
    except DataError as error:
        what, mend = halves(str(error))
        yield problem(f"the metric cannot score the gold answers: {what}", mend)
        return
    score = scored.values["primary"]
    found.facts["score of the gold answers"] = round(score, 2)
    ids = [
        each.id
        for number, each in enumerate(some)
        if not scored.valid[number] or (told is not None and not told[number])
    ]
    if score < GOOD_GOLD:
        mend = "mend these answers, or take a metric that reads them"
        yield problem(f"the gold answers themselves score {score:.1f}, not 100", mend, ids)
    elif ids:
        yield problem("the metric takes gold answers for invalid or wrong", "mend these answers", ids)


def _rendered(examples: Sequence[Example]) -> dict[str, str]:
    """One prompt with its answer for each label, or the first."""
    chosen: dict[str, Example] = {}
    for each in examples:
        chosen.setdefault(each.stratum, each)
    return {
        label or "example": f"{_cut(each.prompt.text())}\n-> {_cut(each.target)}" for label, each in chosen.items()
    }


def _cut(text: str) -> str:
    rest = len(text) - LONGEST_SHOWN
    return text if rest <= 0 else f"{text[:LONGEST_SHOWN]} [... {rest:,} more characters]"
