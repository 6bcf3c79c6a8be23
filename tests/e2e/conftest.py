"""What several of these tests begin with."""

import pytest

from tests.e2e.grids import GRID


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a grid of 14 cells, the working directory."""
    (tmp_path / "grid.yaml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PEFTBENCH_DATA", raising=False)
    return tmp_path
