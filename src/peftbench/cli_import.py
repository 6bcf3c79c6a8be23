"""The commands `peftbench import ...`: what others have made is taken in, marked as theirs."""

from pathlib import Path
from typing import Annotated

import typer

from peftbench.cli_options import AsJson
from peftbench.terminal import complain, print_json, print_pairs, reported

import_app = typer.Typer(no_args_is_help=True, help="Take in what others have made.")


@import_app.command("results")
def import_results(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="paper, hf-method-comparison, peft-factory or lm-eval.")
    ],
    path: Annotated[Path | None, typer.Argument(metavar="PATH", help="File or folder; none for paper.")] = None,
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs to keep them in.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the import; without one, kind and content.")] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out files that cannot be read, and say which.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import results of others; they stay apart from measured ones (`peftbench results --imported`)."""
    with reported():
        from peftbench.importers.taking import import_results as take

        taken = take(kind, path, into, name=name, skip_damaged=skip_damaged)
        made = taken.made
        for problem in taken.problems:
            complain(problem)
        facts = {
            "import": made.name,
            "results": len(made.results),
            "files": taken.units,
            "left out": taken.skipped,
            "new": taken.new,
        }
        if as_json:
            print_json(facts)
            return
        facts["new"] = "yes" if taken.new else f"no, the same was imported at {made.imported_at}"
        print_pairs(facts)
