"""For tests, also of packages that add methods: small models, and the contract that every method keeps."""

from peftbench.methods.plugins import load_file as load_method
from peftbench.testing.contract import BrokenPromise
from peftbench.testing.models import (
    CHAT_TEMPLATE,
    FAMILIES,
    SPECIAL_TOKENS,
    VOCABULARY,
    save_tiny_model,
    tiny_config,
    tiny_model,
    tiny_tokenizer,
)
from peftbench.testing.promises import METHOD_CONTRACT, broken_promises
from peftbench.testing.trial import TINY_SETTINGS, Trial, tiny_settings

__all__ = [
    "CHAT_TEMPLATE",
    "FAMILIES",
    "METHOD_CONTRACT",
    "SPECIAL_TOKENS",
    "TINY_SETTINGS",
    "VOCABULARY",
    "BrokenPromise",
    "Trial",
    "broken_promises",
    "load_method",
    "save_tiny_model",
    "tiny_config",
    "tiny_model",
    "tiny_settings",
    "tiny_tokenizer",
]
