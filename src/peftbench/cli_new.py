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
        from peftbench.drafts import new_method as write

        file, test = write(name, folder)
        print(f"{file} and {test} are written; change both, then: peftbench check method {file}")


@new_app.command("dataset")
def new_dataset(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the dataset, and of its file here.")],
    train: Annotated[
        Path | None, typer.Option("--from", metavar="ROWS", help="File of training rows, to guess columns from.")
    ] = None,
    test: Annotated[Path | None, typer.Option("--test", metavar="ROWS", help="File of test rows.")] = None,
) -> None:
    """Write the entry of a dataset of your own, with its columns guessed from a file of rows."""
    with reported():
        from peftbench.drafts import new_dataset as write

        for file in write(name, train, test):
            print(f"{file} is written; fill what says TODO, then: peftbench check dataset {file}")


@new_app.command("metric")
def new_metric(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the metric, and of its files here.")],
) -> None:
    """Write a metric of your own and its test."""
    with reported():
        from peftbench.drafts import new_metric as write

        file, test = write(name)
        print(f"{file} and {test} are written; change both, then: peftbench check metric {file}")
