"""peftbench: which parameter-efficient fine-tuning method, on this model, under this budget, how surely.

The public names are loaded when first used, so that importing the package costs nothing.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Libraries read these when they are imported; they report nothing of this process to anyone.
for _switch in ("HF_HUB_DISABLE_TELEMETRY", "DISABLE_TELEMETRY", "DO_NOT_TRACK"):
    os.environ.setdefault(_switch, "1")
os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # not each of its retries; how it ended is told in one sentence

if TYPE_CHECKING:
    from peftbench.errors import ConfigError, DataError, PeftBenchError, UnknownName
    from peftbench.execute import run, run_many
    from peftbench.penalty import CostModel, Factor, pscp
    from peftbench.query import results
    from peftbench.records import EngineConfig, EvaluationConfig, RunConfig, RunResult, TrainingConfig
    from peftbench.rescore import score
    from peftbench.schema import DatasetSpec, MethodSpec

_HOME = {
    "ConfigError": "errors",
    "CostModel": "penalty",
    "DataError": "errors",
    "DatasetSpec": "schema",
    "EngineConfig": "records",
    "EvaluationConfig": "records",
    "Factor": "penalty",
    "MethodSpec": "schema",
    "PeftBenchError": "errors",
    "RunConfig": "records",
    "RunResult": "records",
    "TrainingConfig": "records",
    "UnknownName": "errors",
    "pscp": "penalty",
    "results": "query",
    "run": "execute",
    "run_many": "execute",
    "score": "rescore",
}

__all__ = [
    "ConfigError",
    "CostModel",
    "DataError",
    "DatasetSpec",
    "EngineConfig",
    "EvaluationConfig",
    "Factor",
    "MethodSpec",
    "PeftBenchError",
    "RunConfig",
    "RunResult",
    "TrainingConfig",
    "UnknownName",
    "pscp",
    "results",
    "run",
    "run_many",
    "score",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'peftbench' has no attribute {name!r}")
    return getattr(import_module(f"peftbench.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__
