"""What the documentation site takes from the code: a page of all commands, and links to files outside `docs/`."""

import re
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
MOVED = {"ERRATA.md": "errata.md", "DECISIONS.md": "decisions.md", "CHANGELOG.md": "changelog.md"}
SHIM = "https://unpkg.com/iframe-worker/shim"
COMMANDS = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Called for each page: fill in the commands, and lead links to the repository's files to their pages."""
    markdown = re.sub(
        r'^--8<-- "(\w+\.md)"$', lambda found: (ROOT / found[1]).read_text("utf-8"), markdown, flags=re.M
    )
    up = "" if page.file.src_uri.startswith("reference/") else "reference/"
    for name, target in MOVED.items():
        markdown = re.sub(rf"\]\((\.\./)*{re.escape(name)}", f"]({up}{target}", markdown)
    # Included files lie at the top of the repository and link from there.
    if page.file.src_uri.startswith("reference/"):
        markdown = markdown.replace("](docs/", "](../")
        markdown = re.sub(r"\]\((?:bench|src|configs|README)[^)]*\)", "]", markdown)
    return markdown.replace(COMMANDS, commands() if COMMANDS in markdown else "")


def on_post_page(output: str, page: Any, **_: Any) -> str:
    """Called for each finished page: the theme would fetch its shim for workers from another host."""
    return output.replace(SHIM, "../" * page.file.dest_uri.count("/") + "assets/worker.js")


def on_post_template(output_content: str, **_: Any) -> str:
    """Called for pages that are no document, such as that of a wrong address."""
    return output_content.replace(SHIM, "assets/worker.js")


def commands() -> str:
    """Every command with its arguments and options, as Markdown."""
    from peftbench.cli import app

    return "\n".join(_described(typer.main.get_command(app), "peftbench", None))


def _described(command: Any, name: str, parent: typer.Context | None) -> list[str]:
    context = typer.Context(command, info_name=name.split()[-1], parent=parent)
    lines: list[str] = []
    if hasattr(command, "commands"):
        for each, found in command.commands.items():
            if not found.hidden:
                lines += _described(found, f"{name} {each}", context)
        return lines
    usage = command.collect_usage_pieces(context)
    lines += [f"## {name}", "", command.help or "", "", "```text", f"{name} {' '.join(usage)}", "```", ""]
    rows = [record for record in (each.get_help_record(context) for each in command.get_params(context)) if record]
    if rows:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| `{_cell(first)}` | {_cell(second).replace('<', '&lt;')} |" for first, second in rows]
        lines.append("")
    return lines


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
