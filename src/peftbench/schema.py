"""The nouns of the project and their parts, as frozen models.

Dataset, Method and Metric are described here (runs in `records`); behaviour lives in the layers above. Sizes
carry their unit in the name. What is not known is `None`, never 0 or -1.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

Protocol = Literal["corrected", "published"]
Area = Literal["NLU and reasoning", "math", "code generation"]
Benchmark = Literal["GLUE", "SuperGLUE", "others"]
ColumnType = Literal["text", "integer", "number", "texts", "any"]
Category = Literal[
    "base", "additive, adapter", "additive, soft prompt", "reparametrized", "selective", "reference"
]


class Frozen(BaseModel):
    """A model that cannot be changed, refuses unknown keys and converts no types on the quiet."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


# ---------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked: an instruction and the input fields, each `(label, text)`."""

    instruction: str
    fields: tuple[tuple[str, str], ...]

    def text(self) -> str:
        """The user's message: the instruction, then each field on a line of its own behind its label."""
        lines = [self.instruction] if self.instruction else []
        lines += [f"{label}: {text}" if label else text for label, text in self.fields]
        return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Example:
    """One prepared row of a dataset.

    `target` is what training teaches, `references` what a prediction is scored against (none where the dataset
    has no gold answer for this row). Rows of one `group` stay on one side of the validation split; `stratum` is
    the label by which the split is balanced, empty where there is none.
    """

    id: str
    prompt: Prompt
    target: str
    references: tuple[str, ...]
    group: str = ""
    stratum: str = ""


# ------------------------------------------------------------------------------------------------- datasets


class HubSource(Frozen):
    """Where the rows lie on the Hugging Face hub; one pinned commit, files by pattern."""

    repository: str
    """`owner/name` of the dataset repository."""
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None
    """The pinned commit, or None where no public source attests one (then the lock file keeps the first)."""
    attested: Literal["several projects", "one project", "not attested"]
    """Where the pin comes from: seen in two or more public projects, in one, or nowhere."""
    files: dict[str, tuple[str, ...]]
    """Split name to file patterns inside the repository, Parquet or JSON Lines by their ending."""
    sha256: dict[str, str] = {}
    """File path to content hash, for the files whose hash is known from public sources."""
    format: Literal["parquet", "json lines"] | None = None
    """How the files are to be read where their ending does not tell the truth."""
    second_ways: tuple[str, ...] = ()
    """Other public copies, named to the user when the pin stops resolving and never followed silently."""


class LocalSource(Frozen):
    """Rows in files of the user's, beside the entry that names them."""

    files: dict[Literal["train", "test"], str]
    """Each split's file, relative to the folder of the entry: JSON Lines, CSV or Parquet by its ending."""
    sha256: dict[Literal["train", "test"], str]
    """Hash of the bytes of each file."""
    delimiter: str = ","
    """What parts the columns of a CSV file."""


class InputField(Frozen):
    """One line of the prompt: the role shown to the model, and the column it comes from."""

    label: str
    column: str
    """A column name; `choices.0` and `choices.text.0` reach into lists and mappings."""


class LengthQuantiles(Frozen):
    """Lengths in characters over the rows that could be measured."""

    median: int
    p95: int
    longest: int


class Lengths(Frozen):
    """How long prompts (instruction and fields) and targets are."""

    prompt_characters: LengthQuantiles
    target_characters: LengthQuantiles
    measured_rows: int
    measured_on: str
    """Split, and whether it was whole or a part."""


class Counts(Frozen):
    """Rows of the two splits as Table 4 of the paper prints them."""

    train: int
    test: int


class PublishedRule(Frozen):
    """What `protocol: published` does differently with the rows of one dataset (see `ERRATA.md`)."""

    splits: dict[Literal["train", "test"], str] = {}
    fields: tuple[InputField, ...] | None = None
    prepare: str | None = None
    counts: Counts | None = None
    """Rows of the two splits where `splits` names others than Table 4 counts."""
    instruction: str | None = None
    """Instruction in place of ours; only a prompt pack has one."""
    train_instruction: str | None = None
    """Instruction in training where it differs from the one in evaluation."""
    max_new_tokens: int = 1024
    differences: tuple[str, ...] = ()
    """One sentence for each difference, shown with the dataset and kept in records."""


class DatasetSpec(Frozen):
    """One of the benchmark's datasets: everything about it that is not code."""

    name: Annotated[str, Field(pattern=r"^[a-z0-9_@-]+$")]
    version: int
    title: str
    area: Area
    benchmark: Benchmark | None = None
    """The group inside the area NLU and reasoning."""
    task: str
    """One of the twelve tasks of Table 4."""
    classes: int | None
    """Number of classes as Table 4 prints it; None for open answers and generation."""
    counts: Counts
    licence: str
    """As stated by the makers, or `not stated`, with what a user has to know."""
    citation: str
    source: HubSource | LocalSource
    splits: dict[Literal["train", "test"], str]
    """Which of the source's splits the benchmark trains on and tests on."""
    columns: dict[str, ColumnType]
    """Columns that must be there, with their types; checked on every row."""
    nullable: tuple[str, ...] = ()
    """Columns that may be null."""
    instruction: str
    fields: tuple[InputField, ...]
    target: str
    """Column of the answer, of the source or made by `prepare`."""
    references: str | None = None
    """Column of the gold answers, one text or several; None where the target is the gold answer."""
    labels: dict[str, str] | None = None
    """Stored value (as text) to label word, in the order of the label set; None where answers are open."""
    inputs: tuple[str, ...] = ()
    """Columns that make two rows the same input where they are equal; empty for all columns of the prompt."""
    group: tuple[str, ...] = ()
    """Columns whose equal values keep rows on one side of the validation split; empty for the row's input."""
    group_rule: Literal["equal", "connected", "adjacent"] = "equal"
    """Rows belong together that are equal in all of `group`, that are linked through equal values in any of its
    columns, or that are equal in all of it and follow one another."""
    group_characters: int | None = None
    """Only so many first characters of `group` count."""
    prepare: str | None = None
    """Name of a function in `datasets/prepare.py`, or `module:function`, for rows that need reshaping first."""
    metric: str
    """Name of the metric whose primary score this dataset reports."""
    official_metric: Literal["accuracy", "matthews", "f1_second_label"] | None = None
    """The score that the dataset's own benchmark reports, for label datasets."""
    mean_train_label: float | None = None
    """Mean of the training labels of a regression dataset; stands in for an invalid output."""
    max_new_tokens: int
    lengths: Lengths | None = None
    example: dict[str, Any] | None = None
    """One invented row in the shape of the source, to show the prompt without loading anything."""
    published: PublishedRule = PublishedRule()
    own: bool = False
    """Whether it is a user's own, read from an entry outside the package; `name` then ends in a hash of it."""

    @property
    def hub(self) -> HubSource:
        """Where the rows lie on the hub; only for a dataset of which they do."""
        assert isinstance(self.source, HubSource)
        return self.source

    @property
    def label_set(self) -> tuple[str, ...]:
        """The label words in their fixed order, each once; empty where answers are open."""
        return tuple(dict.fromkeys(self.labels.values())) if self.labels else ()


class SplitFacts(Frozen):
    """What one prepared split holds."""

    rows: int
    sha256: str
    """Content hash over the prepared examples in order; the same rows give the same hash from any source."""


class DataFacts(Frozen):
    """Where the rows of a run came from and what was found in them; kept in its record."""

    dataset: str
    version: int
    protocol: Protocol
    source: Literal["hub", "directory", "files", "rows", "generated"]
    revision: str | None
    """Commit on the hub; None for other sources."""
    files: dict[str, str]
    """File (as named in its source, never an absolute path) to SHA-256 of its bytes."""
    partial: bool
    """True where the counts of Table 4 were not met and the user allowed it."""
    source_rows: dict[Literal["train", "test"], int]
    """Rows of the source before any row limit and before the validation split."""
    splits: dict[Literal["train", "validation", "test"], SplitFacts]
    train_test_overlap_rows: int | None
    """Test rows whose input stands in the source's train split too; None where only one split was loaded."""
    train_duplicate_rows: int | None
    """Rows of the source's train split whose input stood there before; None where train was not loaded."""
    train_rows_without_target: int | None = None
    """Rows of the source's train split left out because they have no answer to learn from."""
    split_seed: int
    train_rows_limit: int | None
    test_rows_limit: int | None
    entry: DatasetSpec | None = None
    """The entry of a dataset that is not in the catalogue; without it nobody could read the record."""
    differences: tuple[str, ...] = ()
    """Under `published`: what is done as in the reference, and what is not known to be exact."""


# -------------------------------------------------------------------------------------------------- methods


Quantization = Literal["nf4", "int8"]
"""How a frozen base's projections may be kept, by bitsandbytes."""


class MethodCode(Frozen):
    """Where the code of a method lies that is not part of this package, and what it was."""

    path: str | None
    """The file, as it was named; None for a method of an installed package."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    """Content hash of the file. An edited method is another method, and its runs are other runs."""


class MethodSpec(Frozen):
    """A fine-tuning method: its name, its settings and where the code lies that builds it."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    version: int
    """Raised when the code changes what a run with the same settings gives."""
    title: str
    category: Category
    summary: str
    source: str
    """Paper of the method, and where the default settings come from."""
    settings: type[Frozen]
    """Model of the settings; its defaults are section 4 of the paper."""
    build: str | Callable[..., Any] | None
    """What builds it, itself or as `module:name`; None for the base model. It takes (model, settings) and gives
    `Additions`, or is an `Adapter` class, made from (model, settings, seeds)."""
    identity_at_start: bool = False
    """Whether the adapted model equals the base model before the first step."""
    mergeable: bool = False
    """Whether the trained adapter can be folded into the weights of the base model."""
    fuses: bool = True
    """Whether several of its runs can be trained in one pass over the base."""
    quantized_base: bool = True
    """Whether it can stand on a base whose weights are kept in 4 or 8 bits."""
    limits: str = ""
    """What has to be known to use it, in a sentence or two."""
    parameters: Callable[[Any, Any], int] | None = None
    """The formula of its trainable parameters, from (configuration of the model, settings), if it states one."""
    code: MethodCode | None = None
    """Set when it is loaded from a file or an installed package; None for methods of this package."""

    def merges_into(self, quantization: Quantization | None) -> bool:
        """Whether its adapter can be folded into a base kept like this; a quantized sum would be another model."""
        return self.mergeable and quantization is None


class MethodChoice(Frozen):
    """A method by name, with the settings that differ from its defaults."""

    name: str
    settings: dict[str, Any] = {}
    code: MethodCode | None = None
    """What the method was, where it is not part of this package; filled in when a configuration is checked."""

    @model_validator(mode="before")
    @classmethod
    def _from_short_forms(cls, value: object) -> object:
        # `lora`, `{name: lora, rank: 8}` and `{name: lora, settings: {rank: 8}}` mean what they seem to mean.
        if isinstance(value, str):
            return {"name": value}
        if isinstance(value, Mapping) and "name" in value and "settings" not in value:
            rest = {key: item for key, item in value.items() if key != "name"}
            return {"name": value["name"], "settings": rest}
        return value

    @model_serializer(mode="wrap")
    def _without_empty_code(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {key: value for key, value in plain(self).items() if key != "code" or value is not None}

    def __str__(self) -> str:
        told = {"code": self.code.sha256[:8]} if self.code else {}
        changed = ", ".join(f"{key}={value}" for key, value in (self.settings | told).items())
        return f"{self.name}({changed})" if changed else self.name

    def settings_for(self, spec: MethodSpec) -> Frozen:
        """The full settings, defaults included."""
        return spec.settings.model_validate_json(json.dumps(self.settings))

    def without_defaults(self, spec: MethodSpec) -> Self:
        """The same choice with only the settings that differ from the defaults, for ids."""
        settings = self.settings_for(spec)
        return type(self)(
            name=self.name, code=self.code, settings=settings.model_dump(mode="json", exclude_defaults=True)
        )
