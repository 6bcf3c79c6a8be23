"""`ERRATA.md` as data: nothing of it is lost, and no mark of Markdown is left."""

import re

from peftbench.site.errata import errata, plain
from tests.conftest import REPOSITORY


def test_every_line_of_the_file_is_there():
    text = (REPOSITORY / "ERRATA.md").read_text("utf-8")
    found = errata()
    assert [each["title"] for each in found] == [
        plain(title) for title in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    ]
    rows = [line for line in text.splitlines() if line.startswith("|") and not set(line) <= set("|- ")]
    assert sum(len(each["rows"]) + bool(each["columns"]) for each in found) == len(rows)
    assert all(len(row) == len(each["columns"]) for each in found for row in each["rows"])
    assert len({each["id"] for each in found}) == len(found)
    shown = [
        *(text for each in found for text in each["paragraphs"]),
        *(cell for each in found for row in each["rows"] for cell in row),
    ]
    assert not any("](" in each or "**" in each or "<a " in each for each in shown)
    words = set(re.findall(r"[A-Za-z]{4,}", plain(re.sub(r'<a id="[^"]*"></a>|\]\([^)]*\)', "", text))))
    assert words <= set(
        re.findall(
            r"[A-Za-z]{4,}",
            " ".join(
                [*shown, *(each["title"] for each in found), *(head for each in found for head in each["columns"])]
            ),
        )
    )
