"""The commands about grids: run, status, retry, stop, gc."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peftbench.cli_options import AsJson, DataDir, Device, Settings, Shard
from peftbench.terminal import print_json, reported

if TYPE_CHECKING:
    from peftbench.gridrun import Prepared
    from peftbench.gridview import View
    from peftbench.launch import LaunchOptions, Summary

grid_app = typer.Typer(no_args_is_help=True, help="Run a grid of many runs, and see how far it is.")

GridFile = Annotated[Path, typer.Argument(metavar="GRID", help="Grid file, or the name of a shipped grid.")]
Rehearse = Annotated[
    bool,
    typer.Option("--rehearse", help="Train nothing: leave records shaped like real ones, apart from them."),
]


UNFINISHED = 3
"""Status of a run that left cells without a failure: its hours were over, or another process has them."""


@grid_app.command("run")
def grid_run(
    context: typer.Context,
    grid: GridFile,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = None,
    shard: Shard = None,
    workers: Annotated[int | None, typer.Option(help="Processes; else one for each GPU or free core.")] = None,
    devices: Annotated[str | None, typer.Option(metavar="0,1", help="GPUs, one worker each.")] = None,
    max_hours: Annotated[float | None, typer.Option(help="Begin nothing new after so many hours.")] = None,
    patience: Annotated[float, typer.Option(help="Minutes without a sign after which a worker is ended.")] = 30.0,
    attempts: Annotated[int, typer.Option(help="Times that a cell may take its worker down.")] = 3,
    on: Annotated[
        str, typer.Option(help="here, slurm or ray; resources stand under `cluster` in the grid.")
    ] = "here",
    ray: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", metavar="ADDRESS", help="A Ray cluster; else one is started."),
    ] = None,
    rehearse: Rehearse = False,
) -> None:
    """Do what is left of a grid; the same command goes on after anything."""
    with reported():
        from peftbench.gridrun import local_options, prepare, where
        from peftbench.gridview import Planned, plan_arguments, print_submitted, print_summary, viewing

        source = context.get_parameter_source("ray")
        typed = source is not None and source.name == "COMMANDLINE"  # and does not only stand in the environment
        given = {"--workers": workers, "--devices": devices, "--max-hours": max_hours}
        where(on, {**given, "--ray": ray if typed else None})
        found = prepare(grid, settings or (), data_dir=data_dir, device=device, part=shard, rehearse=rehearse)
        options = local_options(
            found.cells,
            workers=workers,
            devices=devices,
            max_hours=max_hours,
            patience_minutes=patience,
            attempts=attempts,
            rehearse=rehearse,
        )
        if on == "slurm":
            from peftbench.slurm import submit

            print_submitted(submit(found, options).tasks, found)
            return
        heavy = found.pending and not rehearse
        planned = Planned(plan_arguments(grid, settings or (), data_dir, device, shard) if heavy else None)
        try:
            with viewing(found, planned) as view:
                summary = _run(on, found, options, view, ray, workers)
        finally:
            planned.close()
        print_summary(summary, found)
        if summary.asked:
            raise SystemExit(130)
        if summary.failed or found.failures:
            raise SystemExit(1)
        if summary.busy or summary.left:
            raise SystemExit(UNFINISHED)


def _run(
    on: str, found: "Prepared", options: "LaunchOptions", view: "View", ray: str | None, workers: int | None
) -> "Summary":
    if on == "ray":
        from peftbench.raycluster import run_on_ray

        return run_on_ray(found, options, view.tell, ray, workers)
    from peftbench.gridrun import run_grid

    return run_grid(found, options, view.tell)


@grid_app.command("status")
def grid_status(
    grid: GridFile,
    settings: Settings = None,
    shard: Shard = None,
    rehearse: Rehearse = False,
    as_json: AsJson = False,
) -> None:
    """Say how far a grid is, while it runs or after it died, and why cells failed."""
    with reported():
        from peftbench.gridrun import prepare, status_of
        from peftbench.gridview import print_status

        found = status_of(prepare(grid, settings or (), part=shard, rehearse=rehearse))
        print_json(found.model_dump(mode="json")) if as_json else print_status(found)


@grid_app.command("retry")
def grid_retry(
    grid: GridFile,
    settings: Settings = None,
    reason: Annotated[str | None, typer.Option(help="Only cells that failed for this, such as crashed.")] = None,
    rehearse: Rehearse = False,
) -> None:
    """Make failed cells pending again; `grid run` then does them."""
    with reported():
        from peftbench.console import shown
        from peftbench.gridrun import prepare, retry

        chosen = retry(prepare(grid, settings or (), rehearse=rehearse), reason)
        for failure in chosen:
            print(shown(f"{failure.label}: {failure.reason}"))
        print(f"{len(chosen)} cells are pending again." if chosen else "No cell failed.")


@grid_app.command("stop")
def grid_stop(
    grid: GridFile,
    settings: Settings = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="Take what waits out of SLURM's queue.")] = False,
    rehearse: Rehearse = False,
) -> None:
    """Ask all who work on a grid, here or elsewhere, to keep their last step and stop."""
    with reported():
        from peftbench.errors import DataError
        from peftbench.gridrun import prepare

        found = prepare(grid, settings or (), rehearse=rehearse)
        if not found.state.is_there():
            raise DataError(
                f"{found.name} has not been run in {found.state.output}, so that there is nothing to stop"
            )
        found.state.ask_to_stop()
        print("Asked to stop; `peftbench grid run` goes on.")
        if cancel:
            from peftbench.slurm import cancel_waiting

            tasks = cancel_waiting(found.state)
            print(f"SLURM's queue had {len(tasks)} tasks of it; those that waited are taken out.")


@grid_app.command("gc")
def grid_gc(
    grid: GridFile,
    settings: Settings = None,
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it they are only named.")] = False,
    rehearse: Rehearse = False,
    as_json: AsJson = False,
) -> None:
    """Name, and with --yes remove, what no run needs any more: old checkpoints, drafts, notes, logs."""
    with reported():
        from peftbench.gridrun import prepare, removable, remove
        from peftbench.gridview import print_removable
        from peftbench.slurm import over

        prepared = prepare(grid, settings or (), rehearse=rehearse)
        found = removable(prepared, over(prepared.state))
        if yes:
            remove(found)
        if as_json:
            print_json([each.model_dump(mode="json") for each in found])
        else:
            print_removable(found, removed=yes)
