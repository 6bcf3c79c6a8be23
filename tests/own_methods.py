"""Methods of one's own for tests: texts of their files, and what forgets them again."""

from importlib.resources import files
from pathlib import Path

import pytest

from peftbench.methods import plugins
from peftbench.methods.specs import methods

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples" / "methods"


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """What a test loads from files is gone after it."""
    monkeypatch.setattr(methods, "_values", dict(methods._loaded()))
    monkeypatch.setattr(plugins, "_specs", {})


def text_of(name: str) -> str:
    """What `peftbench new method` writes."""
    text = files("peftbench").joinpath("templates", "method.txt").read_text(encoding="utf-8")
    return text.replace("NAME", name).replace("TITLE", name)


def write(
    folder: Path, name: str = "mine", *, file: str | None = None, text: str | None = None, **edits: str
) -> Path:
    """The file of a method; `edits` are put behind the settings of its spec."""
    body = text_of(name) if text is None else text
    for key, value in edits.items():
        body = body.replace("    mergeable=True,\n", f"    mergeable=True,\n    {key}={value},\n")
    path = folder / (file or f"{name}.py")
    path.write_text(body, encoding="utf-8")
    return path
