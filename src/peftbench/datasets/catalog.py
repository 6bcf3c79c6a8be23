"""The registry of datasets: one YAML file each, read when its name is asked for.

Other packages add theirs through the entry-point group `peftbench.datasets`, whose values are `DatasetSpec`
objects (`read_spec` makes one from a file). This module knows names and facts; it loads no rows.
"""

import json
from functools import cache
from pathlib import Path

from pydantic import ValidationError

from peftbench.datasets.mini import SUFFIX, is_mini, mini_spec
from peftbench.datasets.own import is_path, own_dataset, remembered
from peftbench.errors import ConfigError, UnknownName
from peftbench.registry import Registry
from peftbench.schema import DatasetSpec, Protocol

_FOLDER = Path(__file__).with_name("catalog")

# The order of Table 4 of the paper, so that lists and tables need no order of their own.
_TABLE_4 = (
    *("mnli", "qqp", "qnli", "sst2", "stsb", "mrpc", "rte", "cola"),
    *("multirc", "record", "boolq", "wic", "wsc", "cb", "copa"),
    *("mmlu", "piqa", "siqa", "hellaswag", "winogrande", "openbookqa"),
    *("math_qa", "gsm8k", "svamp"),
    *("conala", "codealpacapy", "apps"),
)

_entries: Registry[DatasetSpec | Path] = Registry(
    "dataset",
    group="peftbench.datasets",
    built_in=lambda: {name: _FOLDER / f"{name}.yaml" for name in _TABLE_4},
)


def dataset_names() -> list[str]:
    """All names in the order of Table 4, those of other packages last; opens no catalogue file."""
    return _entries.names()


def get_dataset(name: str) -> DatasetSpec:
    """The dataset of this name, reading its catalogue file once; raises `UnknownName` with the nearest names.

    `<name>@mini` is the task of the mini suite that is generated under the entry `<name>`, `<name>@<hash>` one of
    the user's own that was named or recorded before. A path is no name: records are foreign, and open no file.
    """
    if (own := remembered(name)) is not None:
        return own
    if is_mini(name):
        return mini_spec(get_dataset(name.removesuffix(SUFFIX)))
    if "@" in name and name not in _entries:
        raise UnknownName("dataset", name, (), "datasets of one's own are named by the path of their YAML file: ")
    entry = _entries.get(name)
    if isinstance(entry, Path):
        return read_spec(entry)
    if not isinstance(entry, DatasetSpec):
        raise ConfigError(
            f"dataset {name!r} of an installed package is a {type(entry).__name__}, expected a DatasetSpec; "
            "make one with peftbench.datasets.read_spec"
        )
    return entry


def dataset_given(name: str, *, by_user: bool = True) -> DatasetSpec:
    """The dataset that a user names: as `get_dataset`, or by the path of the YAML file of one's own.

    Without `by_user` it is a record that names it, which does not allow its metric to be run. Raises
    `UnknownName`, and `ConfigError` with every problem of the file.
    """
    if is_path(name):
        return own_dataset(Path(name), taken=frozenset(dataset_names()), by_user=by_user)
    return get_dataset(name)


def add_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Add a dataset for this process; raises `ConfigError` where its name is taken."""
    _entries.add(spec.name, spec)
    return spec


@cache
def read_spec(path: Path) -> DatasetSpec:
    """Read a dataset from a catalogue file (YAML 1.2); raises `ConfigError` with every problem found."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, YAMLError) as error:
        detail = " ".join(str(error).split())
        raise ConfigError(f"{path.name} cannot be read as YAML ({detail}); mend the file") from error
    try:
        # Through JSON, because strict validation takes a list for a tuple only there.
        return DatasetSpec.model_validate_json(json.dumps(data))
    except (TypeError, ValidationError) as error:
        found = error.errors() if isinstance(error, ValidationError) else []
        problems = [
            f"{path.name}: {'.'.join(map(str, item['loc'])) or 'the file'}: {item['msg']}; see DatasetSpec"
            for item in found
        ]
        raise ConfigError(problems or f"{path.name}: {error}; use plain text, numbers and lists") from error


def under_protocol(spec: DatasetSpec, protocol: Protocol) -> DatasetSpec:
    """The dataset as the protocol wants it: itself, or with its `published` rule put in place of its own.

    `train_instruction` is left in `published`, because it holds for one of the two splits only.
    """
    if protocol == "corrected":
        return spec
    rule = spec.published
    return spec.model_copy(
        update={
            "splits": {**spec.splits, **rule.splits},
            "fields": spec.fields if rule.fields is None else rule.fields,
            "prepare": rule.prepare or spec.prepare,
            "counts": rule.counts or spec.counts,
            "max_new_tokens": rule.max_new_tokens,
        }
    )
