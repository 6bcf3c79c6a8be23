"""`ERRATA.md` as the page shows it: each section with title, paragraphs as plain text and rows of its table."""

import re
from typing import Any

from peftbench.importers.errata import errata_text

_LINK = re.compile(r"\[([^\]]*)\]\([^)]*\)")
_ANCHOR = re.compile(r'<a id="([^"]+)"></a>')


def errata() -> list[dict[str, Any]]:
    """The sections in the order of the file, the introduction first; `ids` are those of rows that have one."""
    found: list[dict[str, Any]] = []
    for block in re.split(r"\n\s*\n|\n(?=#)", errata_text()):
        lines = block.strip().splitlines()
        if not lines:
            continue
        if lines[0].startswith("#"):
            title = plain(lines.pop(0).lstrip("#"))
            found.append(
                {"id": slug(title), "title": title, "paragraphs": [], "columns": [], "rows": [], "ids": []}
            )
        table = [line for line in lines if line.startswith("|")]
        text = " ".join(line for line in lines if not line.startswith("|"))
        if text:
            found[-1]["paragraphs"].append(plain(text))
        for line in table:
            cells = line.strip().strip("|").split("|")
            if set(line) <= set("|- :"):
                continue
            if not found[-1]["columns"]:
                found[-1]["columns"] = [plain(cell) for cell in cells]
                continue
            anchor = _ANCHOR.search(line)
            found[-1]["ids"].append(anchor[1] if anchor else None)
            found[-1]["rows"].append([plain(cell) for cell in cells])
    return found


def slug(title: str) -> str:
    """A title as an id."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")


def plain(markdown: str) -> str:
    """Markdown of one line without its marks."""
    text = _LINK.sub(r"\1", _ANCHOR.sub("", markdown))
    return re.sub(r"[`*]", "", text).strip()
