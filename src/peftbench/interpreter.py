"""Further processes of the interpreter that runs here.

They find the packages that this process finds, and take no module from the working directory, which may be
anyone's.
"""

import os
import sys
from pathlib import Path

PYTHON = (sys.executable, "-P")
"""Begin of a command."""


def module_path() -> dict[str, str]:
    """What is to stand in the environment of such a process."""
    paths = [str(Path(__file__).parents[1]), *(path for path in sys.path if path)]
    return {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}
