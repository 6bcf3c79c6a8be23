"""`peftbench new`: a commented file of your own to begin with, and a test for it."""

import typer

new_app = typer.Typer(no_args_is_help=True, help="Write the file of a method, dataset or metric of your own.")
