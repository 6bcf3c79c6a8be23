"""Kinds of values in configuration files, and what is said of a value that is none of its kind."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from peftbench.errors import suggestion

Positive = Annotated[int, Field(ge=1)]


def _device(text: str) -> str:
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise ValueError("auto, cpu, mps, cuda or cuda:<number>")
    return text


Device = Annotated[str, AfterValidator(_device)]
Dtype = Literal["auto", "float32", "bfloat16", "float16", "float64"]


def _commit(text: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{40}", text):
        raise ValueError("the 40 hexadecimal digits of a commit; a branch or a tag could move")
    return text


Commit = Annotated[str, AfterValidator(_commit)]


def _plain_text(text: str) -> str:
    if len(text) > 1000 or any(ord(c) < 32 or 0xD800 <= ord(c) < 0xE000 for c in text):
        raise ValueError("a name or path of at most 1,000 characters, none of them a control character")
    return text


Name = Annotated[str, AfterValidator(_plain_text)]

TRACKERS = ("tensorboard", "wandb", "mlflow", "trackio")


def _tracker(name: str) -> str:
    if name not in TRACKERS:
        raise ValueError(f"the name of a tracker{suggestion(name, TRACKERS)}")
    return name


def _project(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", name):
        raise ValueError("a name of at most 100 letters, digits, dots, dashes and underscores")
    return name


def _names(given: object) -> object:
    """One name stands for a list of one; what is strict takes a list for no tuple."""
    return (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list) else given


Project = Annotated[str, AfterValidator(_project)]
Trackers = Annotated[tuple[Annotated[str, AfterValidator(_tracker)], ...], BeforeValidator(_names)]
