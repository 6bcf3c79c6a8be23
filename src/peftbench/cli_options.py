"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as seed=7.")
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", envvar="PEFTBENCH_DATA", help="Folder of datasets; without it, the hub."),
]
Device = Annotated[str | None, typer.Option(help="Device, such as cpu or cuda:1.")]
Force = Annotated[bool, typer.Option("--force", help="Go on under another number of threads.")]
Shard = Annotated[str | None, typer.Option(metavar="I/N", help="Only part I of N of the cells.")]
Track = Annotated[
    list[str] | None,
    typer.Option(
        "--track", metavar="NAME", help="Copy curve and scores to tensorboard, wandb, mlflow or trackio."
    ),
]
TrainFile = Annotated[Path, typer.Argument(metavar="TRAIN.yaml", help="Training configuration.")]
