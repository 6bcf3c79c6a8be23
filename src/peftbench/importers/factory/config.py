"""Training and evaluation files of LLaMA-Factory and PEFT-Factory turned into ours.

Every key is accounted for: taken, left out with the reason, or refused. A setting that cannot be expressed and
changes results is refused unless it is accepted by name. What is written was read back by our own reader before.
"""

import re
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from peftbench.config import apply_settings, checked, load_run_config
from peftbench.errors import ConfigError, suggestion
from peftbench.importers.factory.conversion import Conversion, Said
from peftbench.importers.factory.evaluation import account_for_the_rest, compare, convert_evaluation
from peftbench.importers.factory.file import FactoryFile, Missing, read_factory_file
from peftbench.importers.factory.keys import MUST_BE, known_keys
from peftbench.importers.factory.training import convert_training
from peftbench.importers.factory.writing import yaml_text
from peftbench.records import RunConfig
from peftbench.yamlfile import Source


@dataclass(frozen=True, slots=True)
class ConvertedConfig:
    """A converted configuration, checked, with what was said on the way."""

    config: RunConfig
    texts: dict[str, str]
    """Content of `train.yaml` and `eval.yaml`."""
    said: tuple[Said, ...]
    warnings: tuple[str, ...]
    """What would have gone wrong in the reference."""
    notes: tuple[str, ...]
    """What the user has to know or do."""

    def facts(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "config": self.config.model_dump(mode="json"),
            "keys": [asdict(said) for said in self.said],
            "gone_wrong_there": list(self.warnings),
            "to_know": list(self.notes),
        }


def convert_config(
    train: Path,
    evaluation: Path | None = None,
    *,
    variables: Sequence[str] = (),
    settings: Sequence[str] = (),
    accepted: Collection[str] = (),
    gpus: int = 1,
    as_published: bool = False,
) -> ConvertedConfig:
    """Convert a training file with the evaluation file that belongs to it, or an evaluation file of the base.

    `variables` (`NAME=value`) fill `${NAME}` in the files, `settings` (`key=value`, of ours) go over the outcome,
    `accepted` names keys whose loss is accepted, `gpus` multiplies the batch. With `as_published` the reference's
    rules and its variants of methods are taken. Raises `ConfigError` with every problem of both files.
    """
    if gpus < 1:
        raise ConfigError(f"--gpus is {gpus}, expected how many GPUs the reference trained on, at least 1")
    given, used = _variables(variables), set[str]()
    chosen = {key.strip(): value for key, _, value in (setting.partition("=") for setting in settings)}
    made = Conversion(frozenset(accepted), chosen, as_published)
    first = read_factory_file(train, given, used)
    other = read_factory_file(evaluation, given, used) if evaluation else None
    _check_order(first, other)
    if other is not None and evaluation is not None and other.name == first.name:
        first.name, other.name = (f"{each.absolute().parent.name}/{each.name}" for each in (train, evaluation))
        if first.name == other.name:
            raise ConfigError(f"{first.name} is given twice; give the training file and that of its evaluation")
    for key, path in _PATHS.items():
        if path in chosen and isinstance(first.values.get(key), Missing):
            first.values[key] = None
    trains = first.switch("do_train", True)
    convert_training(first, made, gpus, trains=trains)
    convert_evaluation(other or first, made, trains=other is None and trains)
    if other is not None:
        compare(first, other, made)
    for file in (first, other):
        if file is not None:
            account_for_the_rest(file, made, inert=file is other or not trains)
            made.problems += file.problems
    order = {(file.name, key): number for file in (first, other) if file for number, key in enumerate(file.values)}
    made.said.sort(key=lambda said: (said.file != first.name, order.get((said.file, said.key), len(order))))
    made.problems += [
        f"--var {name} stands in no file; there is {', '.join(sorted(used)) or 'none'}"
        for name in given.keys() - used
    ]
    known = {key for file in (first, other) if file for key in file.values} | set(MUST_BE) | set(_ABSENT)
    made.problems += [
        f"--accept {key} is no key of these files{suggestion(key, made.refusals)}"
        for key in accepted
        if key not in known
    ]
    if made.refusals:
        flags = " ".join(f"--accept {key}" for key in made.refusals)
        made.problems += [
            *made.refusals.values(),
            f"what cannot be expressed changes results; to go on without: {flags}",
        ]
    if made.problems:
        raise ConfigError(dict.fromkeys(made.problems))
    return _finished(made, settings)


# ------------------------------------------------------------------------------------------------ what is asked


def _variables(given: Sequence[str]) -> dict[str, str]:
    wrong = [each for each in given if not re.fullmatch(r"[A-Za-z_]\w*=.*", each)]
    if wrong:
        raise ConfigError([f"--var {each}: expected NAME=VALUE, such as SEED=42" for each in wrong])
    pairs = [each.partition("=")[::2] for each in given]
    if len(dict(pairs)) < len(pairs):
        raise ConfigError("--var names a variable twice; give each once")
    return dict(pairs)


_PATHS = {
    "seed": "seed", "num_train_epochs": "training.epochs", "learning_rate": "training.learning_rate",
    "per_device_train_batch_size": "training.batch_size", "model_name_or_path": "model", "dataset": "dataset",
    "eval_dataset": "dataset", "weight_decay": "training.weight_decay", "cutoff_len": "training.max_tokens",
}  # fmt: skip
"""Keys whose placeholder needs no value where ours is given."""
_ABSENT = {"val_size", "load_best_model_at_end", "do_sample", "eval_strategy"}


def _check_order(first: FactoryFile, other: FactoryFile | None) -> None:
    """Refuse what is no configuration of these tools, and files in the wrong order."""
    if not set(first.values) & (known_keys() - {"seed", "learning_rate", "dataset", "template"}):
        if {"model", "method"} & set(first.values):
            raise ConfigError(
                f"{first.name} is a file of peftbench already; `peftbench run {first.name}` takes it"
            )
        raise ConfigError(
            f"{first.name} has no key of LLaMA-Factory or PEFT-Factory, such as model_name_or_path or "
            "finetuning_type"
        )
    if other is None:
        if not first.switch("do_train", True) and first.given("adapter_name_or_path"):
            raise ConfigError(
                f"{first.name} evaluates a trained adapter, and runs are trained here; give the training file "
                "first, then this one"
            )
    elif not first.switch("do_train", True) and other.switch("do_train", True):
        raise ConfigError(f"{first.name} and {other.name} are swapped; give the training file first")
    elif other.switch("do_train", True) and not other.given("eval_dataset"):
        raise ConfigError(f"{other.name} trains as well; convert the two one by one")


# --------------------------------------------------------------------------------------------------- the files


def _finished(made: Conversion, settings: Sequence[str]) -> ConvertedConfig:
    source = Source("the converted file", made.values)
    apply_settings(source, settings, {})
    config = checked(RunConfig, source)
    values = {key: source.values[key] for key in RunConfig.model_fields if key in source.values}
    evaluation = values.pop("evaluation", {}) or {}
    names = sorted({said.file for said in made.said})
    head = f"# Converted from {' and '.join(name.encode('ascii', 'replace').decode() for name in names)}.\n"
    texts = head + yaml_text(values), head + yaml_text({"batch_size": 64, **evaluation})
    with tempfile.TemporaryDirectory() as folder:
        written = [Path(folder) / "train.yaml", Path(folder) / "eval.yaml"]
        for file, text in zip(written, texts, strict=True):
            file.write_text(text, encoding="utf-8")
        if load_run_config(written[0], written[1]) != config:
            raise AssertionError("a converted file does not say what was converted")
    unique = tuple(dict.fromkeys(made.warnings)), tuple(dict.fromkeys(made.notes))
    return ConvertedConfig(
        config, dict(zip(("train.yaml", "eval.yaml"), texts, strict=True)), tuple(made.said), *unique
    )
