"""`new method`: a commented file that works as it is, and a test for it."""

import keyword
import re
from importlib.resources import files
from pathlib import Path

from peftbench.disk import explained
from peftbench.errors import ConfigError
from peftbench.methods.specs import methods


def new_method(name: str, folder: Path) -> list[Path]:
    """Write NAME.py and test_NAME.py into a folder, which is made; returns them.

    Raises `ConfigError` for a name that is no name of a method or is taken, and if one of the files is there.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,49}", name) or keyword.iskeyword(name):
        raise ConfigError(
            f"{name!r} cannot be the name of a method; use lower-case letters, digits and underscores, "
            "beginning with a letter, such as my_method"
        )
    if name in methods:
        raise ConfigError(f"method {name!r} exists already (peftbench show method {name}); choose another name")
    wanted = {folder / f"{name}.py": "method.txt", folder / f"test_{name}.py": "test_method.txt"}
    for file in wanted:
        if file.exists() or file.is_symlink():
            raise ConfigError(
                f"{str(file)!r} is there already and is not overwritten; choose another name or --folder"
            )
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for file, template in wanted.items():
            text = files("peftbench").joinpath("templates", template).read_text(encoding="utf-8")
            with file.open("x", encoding="utf-8") as out:
                out.write(text.replace("NAME", name).replace("TITLE", name.replace("_", " ").capitalize()))
    return list(wanted)
