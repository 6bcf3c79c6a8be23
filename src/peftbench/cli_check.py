"""`peftbench check`: whether a method, dataset or metric of your own keeps what it promises, said in words."""

from dataclasses import asdict
from typing import Annotated

import typer

from peftbench.cli_options import AsJson, Settings
from peftbench.terminal import print_json, reported

check_app = typer.Typer(no_args_is_help=True, help="Check a method, dataset or metric of your own.")


@check_app.command("method")
def check_method(
    name: Annotated[str, typer.Argument(metavar="FILE|NAME", help="File of a method, or the name of one.")],
    settings: Settings = None,
    seconds: Annotated[float, typer.Option(help="How long the check may take.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Put a method through the contract on tiny models: what it keeps, what it breaks, how to mend that."""
    with reported():
        from peftbench.console import shown
        from peftbench.methodcheck import check_method, sentences

        found = check_method(name, settings or (), seconds=seconds)
        if as_json:
            print_json({**asdict(found), "kept": found.kept})
        else:
            print("\n".join(map(shown, sentences(found))))
        if not found.kept:
            raise SystemExit(1)
