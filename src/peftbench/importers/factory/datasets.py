"""`dataset_info.json` turned into catalogue entries of ours and a prompt pack.

An entry that is one of our datasets gives its prompts alone. Of another one with local rows the rows are counted
and written as JSON Lines; of one on the hub nothing is fetched, so that its entry holds guesses, which are named.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from peftbench.datasets.catalog import dataset_names, under_protocol
from peftbench.datasets.own import Entry
from peftbench.errors import ConfigError, DataError, UnknownName
from peftbench.importers.factory.descriptions import PREPARED, Description, description, ours, read_descriptions
from peftbench.importers.factory.rows import local_rows
from peftbench.importers.factory.writing import yaml_text
from peftbench.schema import DatasetSpec

TODO = "TODO"
"""What nobody knows without a look at the hub; an entry with it is refused, and says what to fill in."""

MOST_LABELS = 20
LONGEST_LABEL = 40
Rows = list[dict[str, str | None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one entry."""

    name: str
    verdict: Literal["prompts", "entry", "left out"]
    text: str


@dataclass
class ConvertedDatasets:
    """Files by their names, and what was said of each entry."""

    texts: dict[str, str] = field(default_factory=dict)
    outcomes: list[Outcome] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"entries": [asdict(each) for each in self.outcomes], "to_know": list(dict.fromkeys(self.notes))}


def convert_datasets(
    file: Path, *, only: Collection[str] = (), tests: Sequence[str] = (), pack: str = "prompts.yaml"
) -> ConvertedDatasets:
    """Convert the entries of a `dataset_info.json`, or `only` those of these names.

    The test rows of `NAME` are those of `NAME_eval`, or of the entry that `tests` (`NAME=ENTRY`) names. Raises
    `DataError` for a file that is none, `UnknownName` for a name that is not in it.
    """
    if not re.fullmatch(r"[\w.-]+\.ya?ml", pack):
        raise ConfigError(f"--prompts {pack}: expected the name of a file that ends in .yaml, without a folder")
    entries = read_descriptions(file)
    pairs = _pairs(tests, entries)
    for name in only:
        if name not in entries:
            raise UnknownName("entry", name, entries, f"{file.name}: ")
    made = ConvertedDatasets()
    wanted = {name for name in entries if not only or name in only or name.removesuffix("_eval") in only}
    wanted |= {pairs[name] for name in wanted if name in pairs}
    found: dict[str, Description] = {}
    for name in entries:
        if name in wanted:
            told = description(name, entries[name], made.notes)
            if isinstance(told, str):
                made.outcomes.append(Outcome(name, "left out", told))
            else:
                found[name] = told
    same = {name: spec for name, each in found.items() if (spec := ours(each))}
    _prompts(found, same, made, pack, file.name)
    _entries({name: each for name, each in found.items() if name not in same}, pairs, file, made)
    order = list(entries)
    made.outcomes.sort(key=lambda outcome: order.index(outcome.name))
    return made


def _pairs(tests: Sequence[str], entries: Mapping[str, Any]) -> dict[str, str]:
    pairs = {name.removesuffix("_eval"): name for name in entries if name.endswith("_eval")}
    for test in tests:
        train, equals, other = test.partition("=")
        if not equals:
            raise ConfigError(f"--test {test}: expected NAME=ENTRY, the entry with the test rows of NAME")
        for name in (train, other):
            if name not in entries:
                raise UnknownName("entry", name, entries, f"--test {test}: ")
        pairs[train] = other
    return pairs


# ------------------------------------------------------------------------------------------------- prompt pack


def _prompts(
    found: Mapping[str, Description],
    same: Mapping[str, DatasetSpec],
    made: ConvertedDatasets,
    pack: str,
    source: str,
) -> None:
    """The prompts of entries that are datasets of ours."""
    prompts: dict[str, Any] = {}
    for spec in {spec.name: spec for spec in same.values()}.values():
        roles: dict[str, Description] = {}
        for name, each in found.items():
            if name in same and same[name].name == spec.name:
                _role(each, spec, roles, made)
        if set(roles) == {"train", "test"}:
            prompts[spec.name] = _asked(spec, roles["train"], roles["test"], made)
            for role, each in roles.items():
                text = f"it is our {spec.name}, {role} split; its prompts are in {pack}"
                made.outcomes.append(Outcome(each.name, "prompts", text))
        else:
            for role, each in roles.items():
                other = "test" if role == "train" else "train"
                text = f"it is our {spec.name}, {role} split, and no entry is its {other} split"
                made.outcomes.append(Outcome(each.name, "left out", text))
    if prompts:
        made.texts[pack] = yaml_text({"source": source, "prompts": prompts})
        made.notes.append(
            f"To ask as {pack} does: `--set protocol=published --set data.prompts=FOLDER/{pack}` with its folder."
        )


def _role(each: Description, spec: DatasetSpec, roles: dict[str, Description], made: ConvertedDatasets) -> None:
    """Which split an entry of one of our datasets is, for that protocol; of two for one the nearer name counts."""
    splits = under_protocol(spec, "published").splits
    role = next((role for role, split in splits.items() if split == each.split), None)
    before = roles.get(role or "")
    if role is None:
        text = (
            f"it is our {spec.name}, but its split {each.split} is neither {splits['train']} nor {splits['test']}"
        )
        made.outcomes.append(Outcome(each.name, "left out", text))
    elif before is None:
        roles[role] = each
    else:
        nearest, other = sorted((before, each), key=lambda one: one.name not in (spec.name, f"{spec.name}_eval"))
        roles[role] = nearest
        text = f"it is the same split of our {spec.name} as {nearest.name}"
        made.outcomes.append(Outcome(other.name, "left out", text))


def _asked(spec: DatasetSpec, train: Description, test: Description, made: ConvertedDatasets) -> dict[str, Any]:
    if train.instruction != test.instruction:
        made.notes.append(
            f"{spec.name}: the instruction in training is another one than in evaluation; both are kept"
        )
    columns = [column for column in (train.prompt, train.query) if column]
    asked: dict[str, Any] = {"train_instruction": train.instruction, "test_instruction": test.instruction}
    if (train.prompt, train.query) != (test.prompt, test.query):
        made.notes.append(f"{spec.name}: training and evaluation show other columns; the fields stay ours")
    elif all(column in spec.columns for column in columns):
        asked["fields"] = [{"label": "", "column": column} for column in columns]
    else:
        where = (
            f"a script made it, and it lies in {PREPARED}" if (train.hub or "").lower() == PREPARED else "not ours"
        )
        made.notes.append(
            f"{spec.name}: the text below the instruction is its column {columns[0]!r} ({where}); the fields "
            "stay those of `protocol: published` here, with the names of their roles"
        )
    return asked


# ------------------------------------------------------------------------------------------------ new entries


def _entries(
    found: Mapping[str, Description], pairs: Mapping[str, str], file: Path, made: ConvertedDatasets
) -> None:
    """Entries for datasets that are not ours, each with its test rows."""
    tests = {pairs[name]: name for name in found if name in pairs}
    for name, train in found.items():
        if name in tests:
            continue
        test = found.get(pairs.get(name, ""))
        if test is None:
            why = f"its test rows are missing: there is no {name}_eval; name them by --test {name}=ENTRY"
            made.outcomes.append(Outcome(name, "left out", why))
            continue
        try:
            entry, rows = _entry(train, test, file, made)
        except DataError as error:
            made.outcomes += [Outcome(each.name, "left out", str(error)) for each in (train, test)]
            continue
        called = entry["name"]
        if f"{called}.yaml" in made.texts:
            why = f"another entry is called {called} here already; rename one of them"
            made.outcomes += [Outcome(each.name, "left out", why) for each in (train, test)]
            continue
        made.texts[f"{called}.yaml"] = entry_text(entry)
        for role, of_role in rows.items():
            lines = (json.dumps(row, ensure_ascii=False) for row in of_role)
            made.texts[f"{called}/{role}.jsonl"] = "".join(f"{line}\n" for line in lines)
        made.outcomes += [
            Outcome(train.name, "entry", f"{called}.yaml, training rows"),
            Outcome(test.name, "entry", f"{called}.yaml, test rows"),
        ]


def _entry(
    train: Description, test: Description, file: Path, made: ConvertedDatasets
) -> tuple[dict[str, Any], dict[str, Rows]]:
    """A catalogue entry, and its rows by role where they are here; raises `DataError` if the two do not fit."""
    if (train.prompt, train.query, train.response) != (test.prompt, test.query, test.response):
        raise DataError(f"{train.name} and {test.name} have other columns; give both the same")
    if (train.hub is None) != (test.hub is None):
        raise DataError(
            f"one of {train.name} and {test.name} is on the hub and the other is not; take both from one place"
        )
    name = re.sub(r"[^a-z0-9_-]+", "_", train.name.lower()).strip("_") or "dataset"
    name = f"own_{name}" if name in dataset_names() else name
    columns = [column for column in (train.prompt, train.query) if column]
    entry: dict[str, Any] = {
        "name": name,
        "title": train.name,
        "area": "NLU and reasoning",
        "task": "Question answering",
        "licence": "not stated; described in dataset_info.json",
        "citation": "not stated",
        "columns": dict.fromkeys((*columns, train.response), "text"),
        "instruction": test.instruction,
        "fields": [{"label": "", "column": column} for column in columns],
        "target": train.response,
    }
    if train.query:
        entry["nullable"] = [train.query]
    if train.instruction != test.instruction:
        made.notes.append(f"{name}: the instruction in training is another one there; that of the test is taken")
    if re.search(r"\{[^{}]*\}", f"{train.instruction}{test.instruction}"):
        made.notes.append(
            f"{name}: braces in its instruction are shown to the model as they stand, there and here"
        )
    rows: dict[str, Rows] = {}
    if train.hub is None:
        if train.file == test.file:
            raise DataError(
                f"{train.name} and {test.name} are the same file, so that the test rows would be trained on"
            )
        rows = {"train": local_rows(train, file.parent), "test": local_rows(test, file.parent)}
        entry |= _of_rows(rows, train.response, name, made)
        entry["files"] = {role: f"{name}/{role}.jsonl" for role in ("train", "test")}
    else:
        if train.hub != test.hub or (train.split == test.split and train.subset == test.subset):
            raise DataError(f"{train.name} and {test.name} are not two splits of one dataset on the hub")
        hub = {"repository": train.hub, "revision": TODO, "train": [_pattern(train)], "test": [_pattern(test)]}
        entry |= {"metric": "token_f1", "max_new_tokens": 512}
        entry["hub"] = {**hub, "counts": {"train": TODO, "test": TODO}}
        made.notes.append(
            f"{name}: nothing was fetched, so that counts are missing, and the names of its files, the metric "
            "token_f1 and the longest answer are guesses; look at them, and fill what says TODO"
        )
    _check(entry)
    return entry, rows


def _of_rows(rows: Mapping[str, Rows], response: str, name: str, made: ConvertedDatasets) -> dict[str, Any]:
    """What the rows themselves say: counts, and whether answers are labels."""
    answers = {role: [row[response] or "" for row in of_role] for role, of_role in rows.items()}
    labels = list(dict.fromkeys(answers["train"]))
    few = len(labels) <= MOST_LABELS and 4 * len(labels) <= len(answers["train"])
    closed = few and set(answers["test"]) <= set(labels) and all(0 < len(each) <= LONGEST_LABEL for each in labels)
    told: dict[str, Any] = {}
    if all(re.fullmatch(r"-?\d+", each) for each in labels):
        made.notes.append(
            f"{name}: its answers are whole numbers, and the reference drops rows whose answer is one and is "
            "not text"
        )
    if closed and len(labels) > 1:
        made.notes.append(f"{name}: its {len(labels)} different answers are taken as labels, scored by macro_f1")
        return {**told, "labels": {each: each for each in sorted(labels)},
                "metric": "macro_f1", "max_new_tokens": 32}  # fmt: skip
    made.notes.append(
        f"{name}: its answers are open, scored by token_f1; another metric is one word in {name}.yaml"
    )
    return {**told, "metric": "token_f1", "max_new_tokens": 512}


def _pattern(found: Description) -> str:
    """The usual name of a split's files on the hub."""
    return f"{found.folder or found.subset or 'data'}/{found.split}-*.parquet"


def _check(entry: Mapping[str, Any]) -> None:
    """Hold an entry to the model of entries, what is not known of a dataset on the hub apart."""
    known = dict(entry)
    if "hub" in entry:
        known["hub"] = {**entry["hub"], "revision": "0" * 40, "counts": {"train": 1, "test": 1}}
    try:
        Entry.model_validate_json(json.dumps(known))
    except ValueError as error:
        first = " ".join(str(error).split())[:200]
        raise DataError(f"{entry['title']} gives no valid entry ({first})") from error
    if YAML(typ="safe", pure=True).load(entry_text(entry)) != entry:
        raise DataError(f"{entry['title']} has names that no entry can hold; rename its columns")


def entry_text(entry: Mapping[str, Any]) -> str:
    """A catalogue entry as the text of its file."""
    return yaml_text(entry)
