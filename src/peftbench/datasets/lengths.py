"""How long the prompts and answers of a dataset are, in characters: measured, or as its entry has it."""

from collections.abc import Sequence
from functools import cache

from peftbench.datasets.catalog import get_dataset
from peftbench.datasets.load import load_dataset
from peftbench.datasets.mini import is_mini
from peftbench.errors import DataError
from peftbench.schema import DatasetSpec, Example, LengthQuantiles, Lengths, LocalSource


def lengths_of(spec: DatasetSpec) -> Lengths | None:
    """Lengths as the entry has them; of rows that are generated or lie beside it their own; None if unknown."""
    if is_mini(spec.name) or isinstance(spec.source, LocalSource):
        return _of_rows(spec.name)
    return spec.lengths


@cache
def _of_rows(name: str) -> Lengths | None:
    try:
        data = load_dataset(get_dataset(name), splits=["train", "validation"])
    except DataError:  # loading them for a run says so
        return None
    return measured((*data.train, *data.validation), "train, whole")


def measured(examples: Sequence[Example], measured_on: str) -> Lengths:
    """Lengths over prepared rows; `measured_on` says which."""
    return Lengths(
        prompt_characters=_quantiles([len(example.prompt.text()) for example in examples]),
        target_characters=_quantiles([len(example.target) for example in examples]),
        measured_rows=len(examples),
        measured_on=measured_on,
    )


def _quantiles(lengths: list[int]) -> LengthQuantiles:
    ordered = sorted(lengths)
    rank = -(-95 * len(ordered) // 100)  # nearest rank, rounded up
    return LengthQuantiles(median=ordered[(len(ordered) - 1) // 2], p95=ordered[rank - 1], longest=ordered[-1])
