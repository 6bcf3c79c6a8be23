"""The command `peftbench recommend`: its options, and how an answer and what it rests on are printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peftbench.cli_options import AsJson, DataDir, Settings
from peftbench.terminal import print_json, reported

if TYPE_CHECKING:  # loaded when the command runs
    from peftbench.outlook import Outlook, Recommendation


def recommend(
    model: Annotated[str, typer.Option(help="Model folder, hub id, or a name such as llama-3-8b.")],
    device: Annotated[str | None, typer.Option(help="Device, such as a100-40; without it, the one here.")] = None,
    hours: Annotated[float | None, typer.Option(help="Most hours for one run on each dataset together.")] = None,
    records: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of finished runs of this model, such as runs.")
    ] = None,
    dataset: Annotated[
        list[str] | None, typer.Option(help="Dataset, may be repeated; without it, those of the records, or six.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method beside the paper's and the records', may be repeated.")
    ] = None,
    model_revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    protocol: Annotated[str, typer.Option(help="corrected or published.")] = "corrected",
    settings: Settings = None,
    data_dir: DataDir = None,
    online: Annotated[
        bool, typer.Option("--online", help="Ask the hub for dimensions, access and columns.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which method to take on a model and device, how sure that is, and what each would cost; runs nothing."""
    with reported():
        from peftbench.console import observing
        from peftbench.recommending import recommend as ask

        with observing() as observer:
            found = ask(
                model,
                device,
                revision=model_revision,
                hours=hours,
                records=records,
                datasets=dataset or (),
                more_methods=method or (),
                settings=settings or (),
                protocol=protocol,
                data_dir=data_dir,
                online=online,
                observer=observer,
            )
        print_json(found.model_dump(mode="json")) if as_json else show(found)


def show(found: Recommendation) -> None:
    """Print a recommendation: a table of methods, what is to be said of it, and the answer as the last line."""
    from peftbench.console import print_table, shown

    heads = [
        "trainable",
        "extra GFLOP",
        "memory",
        "fits",
        "time",
        "energy",
        "in time",
        "score",
        "95 %",
        "seeds",
        "best in",
    ]
    rows = [_row(each) for each in (*found.methods, *([found.base] if found.base else []))]
    # A column without a value says nothing: scores where there are no records, hours where none were given.
    used = [0, *(place for place in range(1, len(rows[0])) if any(row[place] is not None for row in rows))]
    columns = [["method", *heads][place] for place in used]
    print_table(found.title, columns, [[row[place] for place in used] for row in rows], right=columns[1:])
    print(shown(f"Costs are {found.basis}."))
    for text in (*_reasons(found), *found.notes):
        print(shown(text))
    print(shown(f"Answer: {found.answer}."))


def _row(each: Outlook) -> list[str | None]:
    from peftbench.answering import ends, percent
    from peftbench.console import bytes_text, kwh_text, seconds_text

    fits = (
        None if each.fits is None else "in several passes" if each.several_passes else "yes" if each.fits else "no"
    )
    return [
        each.method,
        None if each.trainable_params is None else f"{each.trainable_params:,}",
        None if each.extra_forward_flops is None else f"{each.extra_forward_flops / 1e9:,.3f}",
        bytes_text(each.peak_memory_bytes),
        fits,
        seconds_text(each.seconds),
        kwh_text(each.joules),
        each.within_hours,
        None if each.performance is None else f"{each.performance.estimate:.1f}",
        ends(each.performance),
        str(each.seeds) if each.seeds else None,
        None if each.best_share is None else percent(each.best_share),
    ]


def _reasons(found: Recommendation) -> list[str]:
    """Why methods cannot be run, and which runs are missing, each reason once with the methods that it is of."""
    reasons: dict[str, list[str]] = {}
    for each in found.methods:
        for why in each.why:
            reasons.setdefault(why, []).append(each.method)
    lines = [f"Cannot be run, {', '.join(names)}: {why}" for why, names in reasons.items()]
    if any(each.seeds for each in found.methods):
        lines += [f"Missing of {each.method}: {'; '.join(each.missing)}" for each in found.methods if each.missing]
    return lines
