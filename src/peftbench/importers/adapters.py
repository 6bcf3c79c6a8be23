"""What an `adapter_config.json` of Hugging Face PEFT says of its method: our name for it, and its settings."""

import json
from typing import Any

_OURS = {
    "IA3": "ia3",
    "LORA": "lora",
    "LN_TUNING": "ln_tuning",
    "PREFIX_TUNING": "prefix_tuning",
    "PROMPT_TUNING": "prompt_tuning",
}
_NOT_SETTINGS = {"auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version",
                 "revision", "task_type"}  # fmt: skip
MOST_SETTINGS = 20_000
"""Longest settings, in characters of their JSON."""


def method_of(config: dict[str, Any]) -> str | None:
    """Our name of the method, else the source's in lower case; None if none is named."""
    kind = config.get("peft_type")
    if not isinstance(kind, str) or not 0 < len(kind) <= 100:
        return None
    if kind == "P_TUNING":
        return "p_tuning" if config.get("encoder_reparameterization_type") == "LSTM" else "p_tuning_mlp"
    return _OURS.get(kind, kind.lower())


def settings_of(config: dict[str, Any]) -> str:
    """The settings, as JSON with sorted keys; what is null, empty or no setting is left out."""
    told = {
        key: value for key, value in config.items() if key not in _NOT_SETTINGS and value not in (None, {}, [])
    }
    return json.dumps(told, sort_keys=True, ensure_ascii=False)
