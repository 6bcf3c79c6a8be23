"""Prompt packs: instructions and layouts of others for datasets of ours, used under `protocol: published`.

A pack is one YAML file, `prompts: {dataset: {train_instruction, test_instruction, fields}}`, as
`peftbench import datasets` writes it. It says how a row is asked and never which rows there are.
"""

import json
from pathlib import Path

from pydantic import ValidationError

from peftbench.datasets.files import sha256_of
from peftbench.datasets.mini import SUFFIX
from peftbench.errors import ConfigError, UnknownName
from peftbench.schema import DatasetSpec, Frozen, InputField, Protocol
from peftbench.yamlfile import read_yaml, sentences


class PublishedPrompt(Frozen):
    """How one dataset is asked."""

    train_instruction: str
    test_instruction: str
    fields: tuple[InputField, ...] | None = None
    """Lines below the instruction, an empty label for a text alone; None leaves those of the dataset."""


class PromptPack(Frozen):
    """How several datasets are asked."""

    source: str
    """Where it is from, for people."""
    prompts: dict[str, PublishedPrompt]


def with_prompts(spec: DatasetSpec, pack: str | Path | None, protocol: Protocol) -> DatasetSpec:
    """The dataset, asked as the pack has it; itself without a pack.

    Raises `ConfigError` for another protocol than `published`, for a pack that cannot be read or does not have the
    dataset, and for a field whose column the dataset has not.
    """
    if pack is None:
        return spec
    if protocol != "published":
        raise ConfigError(
            f"data.prompts is given and protocol is {protocol}; prompts of others need `protocol: published`"
        )
    pack = Path(pack)
    prompts = _read(pack).prompts
    name = spec.name.removesuffix(SUFFIX)  # a generated task has the columns of its dataset
    if name not in prompts:
        raise UnknownName("dataset", name, prompts, f"{pack.name}: ")
    asked, rule = prompts[name], spec.published
    for field in asked.fields or ():
        if field.column.split(".")[0] not in spec.columns:
            raise ConfigError(
                f"{pack.name}: {spec.name} has no column {field.column!r}; it has {', '.join(spec.columns)}"
            )
    said = f"Prompts are those of {pack.name}, SHA-256 {sha256_of(pack)[:16]}."
    return spec.model_copy(
        update={
            "published": rule.model_copy(
                update={
                    "instruction": asked.test_instruction,
                    "train_instruction": asked.train_instruction,
                    "fields": rule.fields if asked.fields is None else asked.fields,
                    "differences": (*rule.differences, said),
                }
            )
        }
    )


def _read(pack: Path) -> PromptPack:
    source = read_yaml(pack, "prompt pack", "what `peftbench import datasets` writes")
    try:
        return PromptPack.model_validate_json(json.dumps(source.values))
    except ValidationError as error:
        raise ConfigError(sentences(error, PromptPack, source)) from error
