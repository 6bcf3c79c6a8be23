"""The command that looks at finished runs: which rows, in which form, where to."""

from pathlib import Path
from typing import Annotated

import typer

from peftbench.terminal import complain, reported


def results(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of runs.")] = Path("runs"),
    where: Annotated[
        list[str] | None,
        typer.Option(metavar="CONDITION", help="Such as method=lora,ia3 or 'score>=70'; several must all hold."),
    ] = None,
    columns: Annotated[str | None, typer.Option(metavar="A,B", help="Columns to show, in order.")] = None,
    sort: Annotated[str | None, typer.Option(metavar="A,-B", help="Order; -B has the largest first.")] = None,
    sql: Annotated[str | None, typer.Option(metavar="SELECT", help="A query over the table results.")] = None,
    form: Annotated[str | None, typer.Option("--format", help="table, csv, json or parquet.")] = None,
    output: Annotated[Path | None, typer.Option(help="File to write; its ending says the format.")] = None,
    imported: Annotated[
        bool, typer.Option("--imported", help="Show imported results of others, and no others.")
    ] = False,
) -> None:
    """Show finished runs, one row for each evaluation; `peftbench list columns` says what there is.

    The status is 1 if a record could not be read; the others are shown all the same.
    """
    with reported():
        from peftbench.query import ask
        from peftbench.tabular import format_for, put

        chosen = format_for(form, output)
        found = ask(
            folder, where or (), _names(columns), _names(sort), sql, brief=chosen == "table", imported=imported
        )
        put(found.table, chosen, output)
        for problem in found.problems:
            complain(problem)
        if found.problems:
            raise SystemExit(1)


def _names(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text is not None else []
