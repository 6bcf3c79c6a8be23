"""`peftbench check`: whether a method, dataset or metric of your own keeps what it promises, said in words."""

import typer

check_app = typer.Typer(no_args_is_help=True, help="Check a method, dataset or metric of your own.")
