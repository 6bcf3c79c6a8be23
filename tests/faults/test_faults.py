"""The quick part of `make faults`, in a process of its own: processes are forked there, which threads would not bear."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.__main__ import PARTS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs fork and /proc")
@pytest.mark.parametrize("part", PARTS)
def test_nothing_is_lost_duplicated_or_wrong(part):
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults", "--quick", part],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)
