"""Ids of runs: a hash of what can change the weights, and one of what can change the predictions.

Paths, devices, threads, batching and what is computed together are not part of an id. Settings
equal to their default are left out, so
that a new setting with a default does not rename the runs that came before it.
"""

import hashlib
import json
from typing import Any

from peftbench.records import RunConfig
from peftbench.schema import DataFacts, DatasetSpec, MethodSpec

IDENTITY_VERSION = 1
"""Raised when the engine changes what a run with the same settings gives."""


def train_id(
    config: RunConfig,
    *,
    dataset: DatasetSpec,
    method: MethodSpec,
    model_fingerprint: str,
    dtype: str,
    data: DataFacts,
) -> str:
    """Id of a trained adapter, 12 hexadecimal digits. The base model has neither seed nor training nor rows."""
    training = config.training.model_dump(mode="json", exclude_defaults=True)
    common: dict[str, Any] = {
        "version": IDENTITY_VERSION,
        "model": model_fingerprint,
        "dtype": dtype,
        "dataset": _taught(dataset),
        "protocol": config.protocol,
        "method": _method(config, method),
    }
    if config.quantization is not None:
        common["quantization"] = config.quantization
    if method.build is None:
        return content_id({**common, "max_tokens": training.get("max_tokens")})
    if config.engine.shared_prefix == "always" and _may_draw(config, method):
        training["shared_prefix"] = "always"  # one draw for all samples: another training
    rows = [data.splits["train"].sha256, data.splits["validation"].sha256]
    settings = config.method.without_defaults(method).settings
    return content_id({**common, "settings": settings, "seed": config.seed, "training": training, "rows": rows})


def _method(config: RunConfig, method: MethodSpec) -> list[Any]:
    """What is known of a method's code: its version, and outside this package the hash of its file."""
    code = config.method.code or method.code
    return [method.name, method.version, *([code.sha256] if code else [])]


def _taught(dataset: DatasetSpec) -> list[Any]:
    """What of a dataset can change the weights beside its rows. The metric of a user's own cannot."""
    if dataset.own:
        return [dataset.name.partition("@")[0], "own", dataset.max_new_tokens]
    return [dataset.name, dataset.version]


def _may_draw(config: RunConfig, method: MethodSpec) -> bool:
    """Whether dropout is on; of a method of the user's own nobody knows what its setting is called."""
    settings = config.method.settings_for(method).model_dump()
    return method.code is not None or any(name.endswith("dropout") and value for name, value in settings.items())


def eval_id(train: str, *, test_sha256: str, max_new_tokens: int, own: str | None = None) -> str:
    """Id of an evaluation of `train`, 12 hexadecimal digits.

    `own` is the full name of a dataset of the user's own, which has the hash of its metric in it.
    """
    return content_id(
        {
            "version": IDENTITY_VERSION,
            "train": train,
            "rows": test_sha256,
            "max_new_tokens": max_new_tokens,
            **({} if own is None else {"dataset": own}),
        }
    )


def cell_id(config: RunConfig, *, dataset: DatasetSpec, method: MethodSpec) -> str:
    """Id of what is asked for, 12 hexadecimal digits, before rows or weights are seen.

    Two configurations with the same id ask for the same number; a record's own configuration has it too, so that
    finished cells are found without reading a row. A model is known by the last part of its name and its commit,
    so that records of several machines meet. The base model has neither seed nor training.
    """
    evaluation = config.evaluation.model_dump(mode="json", include={"test_rows", "max_new_tokens"})
    asked: dict[str, Any] = {
        "version": IDENTITY_VERSION,
        "model": [config.model.rstrip("/").split("/")[-1], config.model_revision],
        "dtype": config.dtype,
        "dataset": [dataset.name, dataset.version],
        "protocol": config.protocol,
        "method": _method(config, method),
        "allow_partial": config.data.allow_partial,
        "evaluation": {name: value for name, value in evaluation.items() if value is not None},
    }
    if config.quantization is not None:
        asked["quantization"] = config.quantization
    if config.evaluation.test_rows is not None or method.build:
        asked["split_seed"] = config.data.split_seed
    training = config.training.model_dump(mode="json", exclude_defaults=True)
    if method.build is None:
        return content_id({**asked, "max_tokens": training.get("max_tokens")})
    if config.engine.shared_prefix == "always":
        training["shared_prefix"] = "always"
    settings = config.method.without_defaults(method).settings
    asked |= {"settings": settings, "seed": config.seed, "training": training, "rows": config.data.train_rows}
    return content_id(asked)


def content_id(value: Any) -> str:
    """The first 12 hexadecimal digits of the SHA-256 of canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]
