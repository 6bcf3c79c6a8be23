"""The command `peftbench report`: its options, and where its tables go."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from peftbench.terminal import reported


def report(
    source: Annotated[
        str, typer.Argument(metavar="RUNS", help="Folder of runs, or paper: its printed tables.")
    ] = "runs",
    output: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write all tables and figures with an index; with --card, the card."),
    ] = None,
    table: Annotated[
        str | None, typer.Option(metavar="NAME", help="Print one: 1, 2, 3, 9, 10, 11 or leaderboard.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="Some of markdown,latex,csv,html; markdown is printed.")
    ] = None,
    card: Annotated[
        bool, typer.Option("--card", help="RUNS is one run or its adapter: write its model card.")
    ] = False,
    model: Annotated[str | None, typer.Option(help="Which model, where the runs are of several.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Which protocol, where the runs are of several.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Means over what all methods have; they are marked.")
    ] = False,
    references: Annotated[
        str, typer.Option(metavar="P,F,M", help="Of PSCP: 5e8,10,94, or paper, median, geometric-mean.")
    ] = "paper",
    device: Annotated[
        str | None, typer.Option(help="Predict memory for this device, such as h100, in place of the measured.")
    ] = None,
) -> None:
    """Tables and figures of the paper from runs, as Markdown, LaTeX, CSV and HTML; model cards."""
    with reported():
        from dataclasses import replace

        from peftbench.console import observing
        from peftbench.efficiency.devices import find_device
        from peftbench.errors import ConfigError
        from peftbench.report.folder import Source, formats_of, write_report
        from peftbench.report.of_runs import Options, Report
        from peftbench.report.paper import PaperReport
        from peftbench.report.rendering import render
        from peftbench.sensitivity import Candidate
        from peftbench.store import stored_results
        from peftbench.tradeoff import cost_model

        options = Options(model, protocol, allow_missing, None, references)
        if card:
            if table or form or device or options != Options():
                raise ConfigError("--card goes with --output alone; leave the other options out")
            _card(Path(source), output)
            return
        if table is not None and output is not None:
            raise ConfigError("--table prints one table and --output writes all; give one of them")
        formats = formats_of(form or ("markdown,latex,csv,html" if output else "markdown"))
        if output is None and len(formats) > 1:
            raise ConfigError(
                f"--format {form} has {len(formats)} formats and a table is printed in one; name one"
            )
        # What is wrong with the options is said before the work.
        named = None if device is None else find_device(device, calibrated=False)
        cost_model(None, references, [Candidate("", 0, 1, 1, 1)])
        options = replace(options, device=named)
        with observing() as observer:
            found: Source = PaperReport()
            if source != "paper":
                found = Report(stored_results(Path(source)), options, observer)
            elif options != Options():
                raise ConfigError(
                    "paper has its own model and costs; --model, --protocol, --allow-missing, --references and "
                    "--device are for a folder of runs"
                )
            if output is None:
                text = render(found.table(table or found.tables[0]), formats[0])
            else:
                written = write_report(found, output, formats)
        if output is None:
            print(text, end="")
            return
        print(f"{len(written.files)} files in {output}; {output / 'README.md'} says what they are")
        for what, why in written.missing.items():
            print(f"not there: {what}: {why}")


def _card(folder: Path, output: Path | None) -> None:
    from peftbench.disk import explained, write_text
    from peftbench.report.card import model_card

    text = model_card(folder)
    if output is None:
        print(text, end="")
        return
    file = output / "README.md" if output.is_dir() else output
    with explained(file):
        write_text(file, text)
    print(f"written to {file}")
