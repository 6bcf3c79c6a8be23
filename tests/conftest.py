"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import settings

REPOSITORY = Path(__file__).resolve().parents[1]
settings.register_profile("peftbench", deadline=None)  # a time is never a test
settings.load_profile("peftbench")
torch.set_num_threads(1)  # several test processes share the cores, and waiting threads would starve one another


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real rows and of a small pre-trained model; skips, visibly, where it is absent."""
    folder = Path(os.environ.get("PEFTBENCH_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"real rows are not here: no folder {folder.name}/data beside the repository")
    return folder


@pytest.fixture(autouse=True, scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFTBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield
