"""Files that a conversion makes: settings as YAML, and nothing overwritten by surprise."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from peftbench.disk import explained, write_text
from peftbench.errors import ConfigError


def write_files(
    texts: Mapping[str, str], folder: Path, *, force: bool = False, inputs: Sequence[Path] = ()
) -> list[Path]:
    """Write files by their names below a folder; those that are there stay unless `force`, `inputs` always.

    Raises `ConfigError` before anything is written, and `DiskError` if the disk refuses.
    """
    files = {folder / name: text for name, text in texts.items()}
    for file in files:
        if any(file.exists() and each.exists() and file.samefile(each) for each in inputs):
            raise ConfigError(f"{file} is one of the files that are converted; choose another folder by --output")
        if file.is_dir() or (not force and (file.exists() or file.is_symlink())):
            raise ConfigError(
                f"{file} is there already; choose another folder by --output, or --force to replace it"
            )
    with explained(folder):
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            write_text(file, text)
    return list(files)


def yaml_text(values: Mapping[str, Any], indent: str = "") -> str:
    """Settings as YAML, block by block; values as JSON, which YAML 1.2 reads alike."""
    lines = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = yaml_text(value, indent + "  ")
            lines.append(f"{indent}{_scalar(key)}:\n{inner}" if value else f"{indent}{_scalar(key)}: {{}}\n")
        else:
            lines.append(f"{indent}{_scalar(key)}: {_scalar(value)}\n")
    return "".join(lines)


def _scalar(value: Any) -> str:
    plain = isinstance(value, str) and re.fullmatch(r"[A-Za-z][\w./-]*", value, re.ASCII)
    if plain and value.lower() not in ("true", "false", "null", "yes", "no", "on", "off", "y", "n"):
        return str(value)
    text = json.dumps(value, ensure_ascii=False)
    # YAML allows no characters that cannot be printed; JSON's way to write them is YAML's as well.
    return "".join(each if each.isprintable() else _escaped(ord(each)) for each in text)


def _escaped(code: int) -> str:
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
