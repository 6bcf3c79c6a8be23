"""`peftbench check`: whether a method, dataset or metric of your own keeps what it promises, said in words."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from peftbench.cli_options import AsJson, DataDir, Settings
from peftbench.terminal import print_json, print_pairs, reported

check_app = typer.Typer(no_args_is_help=True, help="Check a method, dataset or metric of your own.")


@check_app.command("method")
def check_method(
    name: Annotated[str, typer.Argument(metavar="FILE|NAME", help="File of a method, or the name of one.")],
    settings: Settings = None,
    seconds: Annotated[float, typer.Option(help="How long the check may take.")] = 300.0,
    as_json: AsJson = False,
) -> None:
    """Put a method through the contract on tiny models: what it keeps, what it breaks, how to mend that."""
    with reported():
        from peftbench.console import shown
        from peftbench.methodcheck import check_method, sentences

        found = check_method(name, settings or (), seconds=seconds)
        if as_json:
            print_json({**asdict(found), "kept": found.kept})
        else:
            print("\n".join(map(shown, sentences(found))))
        if not found.kept:
            raise SystemExit(1)


@check_app.command("dataset")
def check_dataset(
    name: Annotated[str, typer.Argument(metavar="FILE|NAME", help="YAML file of an entry, or a dataset's name.")],
    data_dir: DataDir = None,
    model: Annotated[str | None, typer.Option(help="Model folder or hub id: how many rows fit into it.")] = None,
    model_revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    as_json: AsJson = False,
) -> None:
    """Check a dataset: columns, labels, leaks between splits, lengths, prompts, licence, gold answers."""
    with reported():
        from peftbench import datasetcheck
        from peftbench.findings import failed, print_findings

        found = datasetcheck.check_dataset(name, data_dir=data_dir, model=model, revision=model_revision)
        if as_json:
            print_json(asdict(found))
        else:
            print_pairs({"dataset": found.dataset, **found.facts})
            print_pairs({f"prompt and answer, {label}": text for label, text in found.rendered.items()})
            print_findings(found.findings, found.dataset)
        if failed(found.findings):
            raise SystemExit(1)


@check_app.command("metric")
def check_metric(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Python file whose METRIC is tried.")],
    dataset: Annotated[
        str | None, typer.Option(help="Dataset, by name or by its entry, whose gold answers are tried.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Try a metric on odd outputs, and make its file known to commands that read records."""
    with reported():
        from peftbench import metriccheck
        from peftbench.findings import failed, print_findings

        found = metriccheck.check_metric(file, dataset)
        if as_json:
            print_json(asdict(found))
        else:
            print_pairs(
                {"metric": found.metric, **{f"score of {key}": round(v, 2) for key, v in found.scores.items()}}
            )
            print_findings(found.findings, found.metric)
        if failed(found.findings):
            raise SystemExit(1)
