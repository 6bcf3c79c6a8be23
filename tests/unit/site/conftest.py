"""A page that was not built from `web/`, and records to show on it."""

import pytest

from peftbench.site import build
from tests.predicted import fill


@pytest.fixture(autouse=True)
def placeholder(tmp_path_factory, monkeypatch):
    """Tests of what Python makes need no built page."""
    folder = tmp_path_factory.mktemp("assets")
    (folder / "index.html").write_text("<!doctype html><title>page</title><script src=app.js></script>")
    (folder / "app.js").write_text("'use strict';")
    (folder / "app.css").write_text("body {}")
    monkeypatch.setattr(build, "ASSETS", folder)


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """Four methods on five datasets with two seeds, predictions included."""
    return fill(tmp_path_factory.mktemp("site") / "runs", seeds=(1, 2))
