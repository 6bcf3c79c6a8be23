"""`dataset_info.json`: what each entry says, and why an entry cannot be one of ours.

Rows are looked at elsewhere; this module knows the file alone.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peftbench.datasets.catalog import dataset_names, get_dataset
from peftbench.errors import DataError
from peftbench.importers.reading import check_json, content, json_object, short
from peftbench.schema import DatasetSpec

_KEYS = {
    "hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name", "file_sha1",
    "formatting",
    "ranking", "subset", "split", "folder", "num_samples", "columns", "tags", "instruction",
}  # fmt: skip
_ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
_COLUMNS = {
    "tools": "tools, which models are not offered here",
    "images": "images, and models have text alone",
    "videos": "videos, and models have text alone",
    "audios": "audio, and models have text alone",
    "system": "a system message for each row, and prompts have none",
    "history": "earlier turns of a conversation, and a row is one question with one answer",
    "chosen": "pairs of a better and a worse answer, and training is supervised",
    "rejected": "pairs of a better and a worse answer, and training is supervised",
    "kto_tag": "judgements of answers, and training is supervised",
}
_ROLE_TAGS = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
_HUBS = {
    "glue": "nyu-mll/glue", "super_glue": "aps/super_glue", "gsm8k": "openai/gsm8k", "piqa": "baber/piqa",
    "ybisk/piqa": "baber/piqa", "social_i_qa": "allenai/social_i_qa", "hellaswag": "rowan/hellaswag",
    "winogrande": "allenai/winogrande", "openbookqa": "allenai/openbookqa", "math_qa": "allenai/math_qa",
}  # fmt: skip
"""Names under which a repository of ours was or is also found on the hub, to its name here, in lower case."""
PREPARED = "kinit/peft-factory"
"""Where the reference keeps rows that a script of its own made of ours, one subset for each dataset."""


@dataclass(frozen=True, slots=True)
class Description:
    """One entry that may become one of ours."""

    name: str
    hub: str | None
    subset: str | None
    split: str
    folder: str | None
    file: str | None
    instruction: str
    prompt: str
    query: str | None
    response: str
    messages: str | None
    """Column of a conversation, which stands in for prompt and response."""
    tags: dict[str, str]


def read_descriptions(file: Path) -> dict[str, Any]:
    """All entries by name, unchecked; raises `DataError` for a file that is no JSON object."""
    found = json_object(content(file, file.name), file.name)
    check_json(found, file.name)
    if not found:
        raise DataError(f"{file.name} is empty; give the dataset_info.json of LLaMA-Factory or PEFT-Factory")
    return found


def description(name: str, entry: Any, notes: list[str]) -> Description | str:
    """An entry as a description, or why it cannot be one; what is to be known of it is added to `notes`."""
    if not isinstance(entry, dict):
        return f"it is a {type(entry).__name__}, expected an object with hf_hub_url or file_name"
    if strange := sorted(set(entry) - _KEYS):
        notes.append(f"{name}: {', '.join(short(key) for key in strange)} is not known here and was left out")
    texts, wrong = {}, []
    for key in _KEYS - {"ranking", "num_samples", "columns", "tags"}:
        value = entry.get(key)
        if value is not None and not (isinstance(value, str) and len(value) <= 20_000):
            wrong.append(f"{key} is {short(value)}, expected a text")
        texts[key] = value if isinstance(value, str) and value != "" else None
    for key in ("columns", "tags"):
        table = entry.get(key, {})
        if not isinstance(table, dict) or not all(isinstance(each, str) for each in table.values()):
            wrong.append(f"{key} is {short(table)}, expected an object of texts")
    if wrong:
        return "; ".join(wrong)
    if entry.get("num_samples") is not None:
        notes.append(f"{name}: num_samples is left out; data.train_rows takes a sample")
    columns, formatting = entry.get("columns"), texts["formatting"] or "alpaca"
    if why := _cannot(entry, texts, columns or {}, formatting):
        return why
    if formatting == "alpaca":
        known = _ALPACA if columns is None else columns
        messages = None
        if "prompt" not in known or "response" not in known:
            return (
                "it has no column of answers, as for pre-training"
                if "prompt" in known
                else "it names no column prompt"
            )
    else:
        known = {"prompt": "question", "response": "answer"}
        messages = (columns or {}).get("messages", "conversations")
    return Description(
        name=name, hub=texts["hf_hub_url"], subset=texts["subset"], split=texts["split"] or "train",
        folder=texts["folder"], file=texts["file_name"], instruction=texts["instruction"] or "",
        prompt=known["prompt"], query=known.get("query"), response=known["response"], messages=messages,
        tags={**_ROLE_TAGS, **entry.get("tags", {})},
    )  # fmt: skip


def _cannot(entry: dict[str, Any], texts: dict[str, str | None], columns: dict[str, str], form: str) -> str | None:
    """Why an entry cannot be expressed, if it cannot."""
    if form not in ("alpaca", "sharegpt", "openai"):
        return f"its formatting is {form!r}, expected alpaca or sharegpt"
    if entry.get("ranking"):
        return "its rows rank answers (ranking), and training is supervised"
    for column, why in _COLUMNS.items():
        if column in columns:
            return f"its column {column} holds {why}"
    if texts["hf_hub_url"] is None:
        if texts["script_url"]:
            return "its rows come from a script (script_url), and no code of a dataset is run"
        if texts["ms_hub_url"] or texts["om_hub_url"]:
            return "its rows lie on another hub than Hugging Face's; download them and name the file in file_name"
        if texts["cloud_file_name"]:
            return "its rows lie in a cloud (cloud_file_name); download them and name the file in file_name"
        if texts["file_name"] is None:
            return "it names neither hf_hub_url nor file_name"
    elif form != "alpaca":
        return (
            "it holds conversations on the hub, and without the rows it is not known whether each is one "
            "question with one answer; download them and name the file in file_name"
        )
    return None


def ours(found: Description) -> DatasetSpec | None:
    """The dataset of ours that an entry is, by its name on the hub."""
    if found.hub is None:
        return None
    hub = found.hub.lower()
    if hub == PREPARED:
        return get_dataset(found.subset) if found.subset in dataset_names() else None
    hub = _HUBS.get(hub, hub)
    for name in dataset_names():
        spec = get_dataset(name)
        if spec.hub.repository.lower() == hub and _subset(spec) in (None, found.subset):
            return spec
    return None


def _subset(spec: DatasetSpec) -> str | None:
    """The configuration on the hub that a dataset of ours is, where its files say so."""
    first = next(iter(spec.hub.files.values()))[0]
    folder = first.split("/")[0] if "/" in first else ""
    return None if folder in ("", "data", "default") else folder
