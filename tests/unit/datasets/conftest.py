"""Fixtures of the dataset tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from tests.hub_server import HubServer
from tests.unit.datasets.cola_on_hub import repository, use_endpoint


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """A server with one repository; this process downloads from it, into empty caches."""
    monkeypatch.delenv("PEFTBENCH_DATA", raising=False)
    monkeypatch.setenv("PEFTBENCH_CACHE", str(tmp_path / "ours"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "theirs"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with HubServer({"nyu-mll/glue": repository()}) as server:
        use_endpoint(monkeypatch, server.endpoint)
        yield server
