"""The commands about costs: what a method, a run or a grid takes, predicted and measured."""

from pathlib import Path
from typing import Annotated

import typer

from peftbench.cli_options import AsJson, DataDir, Device, Settings, Shard
from peftbench.terminal import print_json, print_pairs, reported


def profile(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="Model folder, config.json, hub id, or a name such as llama-3-8b."),
    ],
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Method, such as lora.")],
    predict_only: Annotated[
        bool, typer.Option("--predict-only", help="Measure nothing; no weights needed.")
    ] = False,
    batch: Annotated[int, typer.Option(help="Samples of a training step.")] = 4,
    tokens: Annotated[int, typer.Option(help="Tokens of each sample, prompt and answer.")] = 512,
    answer_tokens: Annotated[int, typer.Option(help="How many of them are learned.")] = 8,
    shared_tokens: Annotated[int, typer.Option(help="Tokens that all prompts begin with.")] = 0,
    dtype: Annotated[str, typer.Option(help="Precision of the frozen base.")] = "auto",
    quantization: Annotated[
        str | None, typer.Option(help="Keep the base's projections as nf4 or int8 (bitsandbytes).")
    ] = None,
    engine: Annotated[str, typer.Option(help="packed or padded.")] = "packed",
    gradient_checkpointing: Annotated[bool, typer.Option(help="Compute activations again.")] = False,
    device: Annotated[str | None, typer.Option(help="Predict for this device, such as a100-40.")] = None,
    model_revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    settings: Settings = None,
    timeline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw memory over a training step: .svg, .png, .pdf, .csv.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a method costs on a model: predicted from dimensions, and measured here."""
    with reported():
        from peftbench import costing
        from peftbench.timeline import check_timeline, write_timeline

        if timeline is not None:
            check_timeline(timeline)

        found = costing.profile(
            model,
            model_revision,
            method,
            settings or (),
            device=device,
            measured=not predict_only,
            batch=batch,
            tokens=tokens,
            answer_tokens=answer_tokens,
            shared_tokens=shared_tokens,
            dtype=dtype,
            quantization=quantization,
            engine=engine,
            gradient_checkpointing=gradient_checkpointing,
        )
        if timeline is not None:
            write_timeline(timeline, found.predicted)
        if as_json:
            print_json(found.as_json())
            return
        from peftbench.console import print_table

        title, headings, rows = found.table()
        print_table(title, headings, rows, right=headings[1:])


def plan(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Grid file, shipped grid, or TRAIN.yaml.")],
    settings: Settings = None,
    device: Annotated[str | None, typer.Option(help="Plan for this device, such as a100-40.")] = None,
    data_dir: DataDir = None,
    shard: Shard = None,
    price: Annotated[float | None, typer.Option(help="Money for an hour of the device.")] = None,
    carbon: Annotated[float | None, typer.Option(help="Kilograms of CO2 for a kWh where it runs.")] = None,
    online: Annotated[bool, typer.Option("--online", help="Ask the hub for access, commits and columns.")] = False,
    cells: Annotated[bool, typer.Option("--cells", help="A row for each cell.")] = False,
    as_json: AsJson = False,
) -> None:
    """Say what a grid or a run will cost, what is done of it, and what in it cannot be; runs nothing."""
    with reported():
        from peftbench.planning import plan_file, print_plan, totals

        found = plan_file(file, settings or (), device=device, data_dir=data_dir, part=shard, online=online)
        whole = totals(found, price=price, carbon=carbon)
        if as_json:
            print_json({**found.model_dump(mode="json"), "totals": whole.model_dump(mode="json")})
        else:
            print_plan(found, whole, every_cell=cells)
        if found.count("impossible"):
            raise SystemExit(2)
        if found.unreadable:
            raise SystemExit(1)


def calibrate(device: Device = None, as_json: AsJson = False) -> None:
    """Measure the rates of the device at hand, which predictions of time then use in place of a data sheet's."""
    with reported():
        from peftbench.efficiency.calibrate import calibrate as measure

        found = measure(device or "auto").model_dump(mode="json")
        print_json(found) if as_json else print_pairs(found)
