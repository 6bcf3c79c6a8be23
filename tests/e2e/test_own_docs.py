"""The tutorials of one's own dataset, metric and model: every block of commands runs, in order, in an empty folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.parametrize("name", ["own-dataset", "own-metric", "own-model"])
def test_the_blocks_of_a_tutorial_run(name, tmp_path):
    commands = tmp_path / "bin" / "peftbench"
    commands.parent.mkdir()
    commands.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m peftbench "$@"\n')
    commands.chmod(0o755)
    place = tmp_path / "scratch"
    place.mkdir()
    blocks = re.findall(r"^```sh\n(.*?)^```$", (DOCS / f"{name}.md").read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    path = f"{commands.parent}{os.pathsep}/usr/bin{os.pathsep}/bin"
    done = subprocess.run(
        ["sh", "-e", "-c", "\n".join(blocks)], cwd=place, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PATH": path, "PEFTBENCH_DATA": "", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    assert "should have foreseen" not in done.stderr
    told = done.stdout + done.stderr
    if name == "own-metric":
        assert "none is generated again" in told
    if name == "own-model":
        assert "matches no module of this falcon model" in told
        assert "trainable_params" in told
