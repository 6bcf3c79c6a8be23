"""`peftbench new`: a commented file of your own to begin with, and a test for it."""

from pathlib import Path
from typing import Annotated

import typer

from peftbench.terminal import reported

new_app = typer.Typer(no_args_is_help=True, help="Write the file of a method, dataset or metric of your own.")


@new_app.command("method")
def new_method(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name, such as my_method.")],
    folder: Annotated[Path, typer.Option(help="Where the files go.")] = Path(),
) -> None:
    """Write the commented file of a method that works as it is, and a test for it."""
    with reported():
        from peftbench.methodnew import new_method

        for file in new_method(name, folder):
            print(file)
        print(f"Next: peftbench check method {folder / name}.py")
