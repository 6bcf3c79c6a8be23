"""The commands `peftbench import ...`: what others have made is taken in, marked as theirs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from peftbench.cli_options import AsJson, Settings
from peftbench.terminal import complain, print_json, print_pairs, reported

import_app = typer.Typer(no_args_is_help=True, help="Take in what others have made.")


@import_app.command("results")
def import_results(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="paper, hf-method-comparison, peft-factory or lm-eval.")
    ],
    path: Annotated[Path | None, typer.Argument(metavar="PATH", help="File or folder; none for paper.")] = None,
    into: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of runs to keep them in.")] = Path("runs"),
    name: Annotated[str | None, typer.Option(help="Name of the import; without one, kind and content.")] = None,
    skip_damaged: Annotated[
        bool, typer.Option("--skip-damaged", help="Leave out files that cannot be read, and say which.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Import results of others; they stay apart from measured ones (`peftbench results --imported`)."""
    with reported():
        from peftbench.importers.taking import import_results as take

        taken = take(kind, path, into, name=name, skip_damaged=skip_damaged)
        made = taken.made
        for problem in taken.problems:
            complain(problem)
        facts = {
            "import": made.name,
            "results": len(made.results),
            "files": taken.units,
            "left out": taken.skipped,
            "new": taken.new,
        }
        if as_json:
            print_json(facts)
            return
        facts["new"] = "yes" if taken.new else f"no, the same was imported at {made.imported_at}"
        print_pairs(facts)


Output = Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files are written.")]
Replace = Annotated[bool, typer.Option("--force", help="Replace files that are there.")]


@import_app.command("config")
def import_config(
    train: Annotated[Path, typer.Argument(metavar="TRAIN.yaml", help="Its training file.")],
    evaluation: Annotated[Path | None, typer.Argument(metavar="EVAL.yaml", help="Its evaluation file.")] = None,
    output: Output = Path("converted"),
    variables: Annotated[
        list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="Fill ${NAME} in the files.")
    ] = None,
    accept: Annotated[
        list[str] | None, typer.Option(metavar="KEY", help="Go on without a key that cannot be expressed.")
    ] = None,
    gpus: Annotated[int, typer.Option(help="GPUs it was for, which multiply the batch.")] = 1,
    published: Annotated[
        bool, typer.Option("--published", help="Its rules and its variants of methods, defects included.")
    ] = False,
    settings: Settings = None,
    force: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Turn files of LLaMA-Factory or PEFT-Factory into ours, and say what became of each key."""
    with reported():
        from peftbench.importers.factory.config import convert_config
        from peftbench.importers.factory.writing import write_files

        converted = convert_config(
            train,
            evaluation,
            variables=variables or [],
            settings=settings or [],
            accepted=accept or [],
            gpus=gpus,
            as_published=published,
        )
        inputs = [train, *([evaluation] if evaluation else [])]
        written = write_files(converted.texts, output, force=force, inputs=inputs)
        if as_json:
            print_json({**converted.facts(), "files": [file.as_posix() for file in written]})
            return
        from peftbench.console import print_table
        from peftbench.importers.factory.conversion import plain

        for name in dict.fromkeys(said.file for said in converted.said):
            rows = [
                (said.key, plain(said.value) if said.given else None, said.verdict, said.text)
                for said in converted.said
                if said.file == name
            ]
            print_table(name, ["key", "value", "verdict", "what became of it"], rows)
        _print_list("what would have gone wrong there", converted.warnings)
        _print_list("to know", converted.notes)
        _print_list("written", [file.as_posix() for file in written])


def _print_list(title: str, lines: Sequence[str]) -> None:
    """Sentences below a title, if there are any."""
    from peftbench.console import shown

    if lines:
        print(f"\n{title}:")
        print("".join(f"- {shown(line)}\n" for line in lines), end="")


@import_app.command("datasets")
def import_datasets(
    file: Annotated[Path, typer.Argument(metavar="dataset_info.json", help="The file that describes datasets.")],
    output: Output = Path("converted"),
    prompts: Annotated[str, typer.Option(metavar="NAME", help="Name of the prompt pack.")] = "prompts.yaml",
    only: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Only this entry.")] = None,
    tests: Annotated[
        list[str] | None, typer.Option("--test", metavar="NAME=ENTRY", help="Entry with the test rows of NAME.")
    ] = None,
    force: Replace = False,
    as_json: AsJson = False,
) -> None:
    """Turn datasets of LLaMA-Factory or PEFT-Factory into entries of ours and a prompt pack."""
    with reported():
        from peftbench.errors import DataError
        from peftbench.importers.factory.datasets import convert_datasets
        from peftbench.importers.factory.writing import write_files

        converted = convert_datasets(file, only=only or [], tests=tests or [], pack=prompts)
        if not converted.texts:
            lines = [f"{each.name}: {each.text}" for each in converted.outcomes[:20]]
            raise DataError("\n".join([*lines, f"none of {len(converted.outcomes):,} entries can be taken"]))
        written = write_files(converted.texts, output, force=force, inputs=[file])
        if as_json:
            print_json({**converted.facts(), "files": [each.as_posix() for each in written]})
            return
        from peftbench.console import print_table

        print_table(
            "",
            ["entry", "verdict", "what became of it"],
            [(each.name, each.verdict, each.text) for each in converted.outcomes],
        )
        _print_list("to know", converted.facts()["to_know"])
        _print_list("written", [each.as_posix() for each in written])
