"""The commands `peftbench site build` and `peftbench site serve`: their options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peftbench.cli_options import DataDir
from peftbench.terminal import complain, reported

site_app = typer.Typer(
    no_args_is_help=True, help="See the results: a page as a folder, or served on this machine."
)
Runs = Annotated[
    list[Path] | None, typer.Option("--runs", metavar="FOLDER", help="Folder of runs; may be given several times.")
]
Title = Annotated[str, typer.Option(help="What the page is called.")]


@site_app.command()
def build(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to make; one made before is replaced.")],
    runs: Runs = None,
    title: Title = "Runs",
    data_dir: DataDir = None,
) -> None:
    """Make a folder that opens in a browser, from a disk or any static host."""
    with reported():
        from peftbench.console import observing
        from peftbench.site.build import build as build_page

        with observing() as observer:
            found = build_page(out, runs or [Path("runs")], title=title, data_dir=data_dir, observer=observer)
        for problem in found.problems:
            complain(f"left out: {problem}")
        what = f"{_counted(len(found.entries), 'run')} in {_counted(len(found.groups), 'group')}"
        print(f"{what}: {out / 'index.html'}")


@site_app.command()
def serve(
    runs: Runs = None,
    host: Annotated[
        str, typer.Option(help="Address to listen at; other than loopback needs --token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any that is free.")] = 8787,
    token: Annotated[
        str | None, typer.Option(envvar="PEFTBENCH_TOKEN", help="What a visitor must know; auto makes one.")
    ] = None,
    title: Title = "Runs",
    data_dir: DataDir = None,
) -> None:
    """Show the same page on this machine, with what is running now; Ctrl-C ends it."""
    with reported():
        import sys

        from peftbench.console import observing
        from peftbench.site.serve import serve as serve_page

        def tell(line: str) -> None:
            print(line, file=sys.stdout if line.startswith("http") else sys.stderr, flush=True)

        try:
            with observing() as observer:
                serve_page(
                    runs or [Path("runs")],
                    host=host,
                    port=port,
                    token=token,
                    title=title,
                    data_dir=data_dir,
                    tell=tell,
                    observer=observer,
                )
        except KeyboardInterrupt:
            return


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
