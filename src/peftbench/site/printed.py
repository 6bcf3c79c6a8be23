"""The paper's printed tables, as the page shows them beside what was measured."""

from typing import Any


def printed_tables() -> list[dict[str, Any]]:
    """All tables, cells as they are printed."""
    return []
