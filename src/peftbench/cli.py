"""The command line: a few lines for each command, everything behind it loaded when the command runs.

Exit status: 0 done, 1 a run failed or a record cannot be read, 2 the input is wrong, 130 stopped by Ctrl-C. Errors
that the user can mend are one sentence on standard error; `--debug` adds the traceback.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from peftbench.cli_check import check_app
from peftbench.cli_compare import compare, ranks
from peftbench.cli_cost import calibrate, plan, profile
from peftbench.cli_grid import grid_app
from peftbench.cli_import import import_app
from peftbench.cli_new import new_app
from peftbench.cli_options import AsJson, DataDir, Device, Force, Settings, Track, TrainFile
from peftbench.cli_pscp import pscp
from peftbench.cli_query import results
from peftbench.cli_recommend import recommend
from peftbench.cli_report import report
from peftbench.cli_site import site_app
from peftbench.terminal import DEBUG, complain, debugging, print_json, print_pairs, reported, run_once

app = typer.Typer(
    name="peftbench",
    help="Which parameter-efficient fine-tuning method, on this model, under this budget, how surely?",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
show_app = typer.Typer(no_args_is_help=True, help="Show one dataset, method or printed table in full.")
app.add_typer(show_app, name="show")
app.add_typer(new_app, name="new")
app.add_typer(check_app, name="check")
app.add_typer(grid_app, name="grid")
app.add_typer(import_app, name="import")
app.add_typer(site_app, name="site")


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
) -> None:
    """Options of every command."""
    DEBUG.set(debug)


@app.command("list")
def list_names(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="datasets, methods, metrics, columns or tables.")],
    as_json: AsJson = False,
) -> None:
    """List the datasets, methods, metrics, the columns of results, or the printed tables of the paper."""
    with reported():
        from peftbench import listing

        rows = listing.rows_of(kind)
        if as_json:
            print_json(rows)
            return
        from peftbench.console import print_table

        print_table("", list(rows[0]), [list(row.values()) for row in rows])
        if kind == "datasets":
            from peftbench.datasets.mini import mini_names

            print(f"Small, generated on the spot: {', '.join(mini_names())}")


@show_app.command("dataset")
def show_dataset(
    name: str,
    protocol: Annotated[str, typer.Option(help="corrected or published.")] = "corrected",
    as_json: AsJson = False,
) -> None:
    """Show a dataset: where it comes from, its rules, and one rendered example."""
    from peftbench import listing

    with reported():
        shown = listing.dataset(name, protocol)
        print_json(shown) if as_json else print_pairs(shown)


@show_app.command("method")
def show_method(
    name: str,
    model: Annotated[
        str | None, typer.Option(help="config.json, model folder or hub id: count trainable parameters there.")
    ] = None,
    model_revision: Annotated[str | None, typer.Option(help="Commit of a hub id.")] = None,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Show a method: its settings, and with a model the parameters it would train, counted without weights."""
    from peftbench import listing

    with reported():
        shown = listing.method(name, model, model_revision, settings or [])
        print_json(shown) if as_json else print_pairs(shown)


@show_app.command("table")
def show_table(
    number: Annotated[str, typer.Argument(metavar="NUMBER", help="Such as 2 or 9a; `peftbench list tables`.")],
    as_json: AsJson = False,
) -> None:
    """Show a table as the paper prints it, and beside it what the errata say of its cells."""
    from peftbench import listing

    with reported():
        shown = listing.table(number)
        if as_json:
            print_json(shown)
            return
        from peftbench.console import print_table

        columns = [column["label"] for column in shown["columns"]]
        rows = [[row["label"], *(listing.printed(cell) for cell in row["cells"])] for row in shown["rows"]]
        print_table(f"Table {shown['number']}: {shown['caption']}", ["", *columns], rows, right=columns)
        print("\n".join(["", *shown["notes"], "", "What the errata say:"]))
        print_pairs({each["id"]: each["said"] for each in shown["errata"]})
        if shown["disagreements"]:
            print("\nWhat other printed numbers contradict:")
            print_pairs({f"{each['method']}, {each['column']}": each["said"] for each in shown["disagreements"]})


@app.command()
def train(
    train_file: TrainFile,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = None,
    force: Force = False,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Train one adapter and keep its best weights; a stopped training goes on."""
    _run(train_file, None, settings, data_dir, device, force, as_json, evaluate=False, track=track)


@app.command()
def run(
    train_file: TrainFile,
    eval_file: Annotated[
        Path | None, typer.Argument(metavar="EVAL.yaml", help="Evaluation configuration.")
    ] = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = None,
    force: Force = False,
    seeds: Annotated[
        str | None, typer.Option(metavar="1,2,3", help="Several seeds in place of the file's, trained together.")
    ] = None,
    track: Track = None,
    as_json: AsJson = False,
) -> None:
    """Train, predict and score one run, or one for each seed; what is finished is not done again."""
    _run(
        train_file, eval_file, settings, data_dir, device, force, as_json, evaluate=True, seeds=seeds, track=track
    )


@app.command("eval")
def evaluate(
    eval_file: Annotated[Path, typer.Argument(metavar="EVAL.yaml", help="Evaluation configuration.")],
    run_folder: Annotated[Path | None, typer.Option("--run", help="Folder of the run to evaluate.")] = None,
    settings: Settings = None,
    data_dir: DataDir = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Evaluate the trained adapter of a run."""
    with reported():
        from peftbench.config import load_evaluation_config, run_config
        from peftbench.console import observing
        from peftbench.datasets import dataset_given
        from peftbench.errors import ConfigError
        from peftbench.execute import evaluate_run
        from peftbench.metrics import metrics
        from peftbench.store import find_run

        evaluation = load_evaluation_config(eval_file, settings or (), run=str(run_folder) if run_folder else None)
        if evaluation.run is None:
            raise ConfigError(f"{eval_file.name}: no run is named; set run: <folder> there or pass --run <folder>")
        config = find_run(Path(evaluation.run)).config().model_copy(update={"evaluation": evaluation})
        if config.dataset_file is not None:  # as it is now; whether it is still the run's is checked
            now = dataset_given(config.dataset_file, by_user=False)
            metrics.get(now.metric)  # before the model is loaded
            config = config.model_copy(update={"dataset": now.name})
        config = run_config(_placed(config, data_dir, device))
        with observing() as observer:
            result = evaluate_run(Path(evaluation.run), config, observer=observer)
        if as_json:
            print_json(json.loads(result.model_dump_json()))
        else:
            _print_result(result)


@app.command()
def score(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run or of one evaluation.")],
    unseen: Annotated[bool, typer.Option(help="Leave out test rows whose input stands in train.")] = False,
    as_json: AsJson = False,
) -> None:
    """Score stored predictions again, under both scoring rules; nothing is recomputed."""
    with reported():
        from peftbench.rescore import rescore

        scores = rescore(run_folder, unseen_only=unseen)
        if as_json:
            print_json([each.model_dump(mode="json") for each in scores])
            return
        from peftbench.console import print_table

        for each in scores:
            names = list(dict.fromkeys(name for found in each.scores.values() for name in found.values))
            rows = [[name, *(_number(found.values.get(name)) for found in each.scores.values())] for name in names]
            print_table(each.evaluation, ["score", *each.scores], rows, right=list(each.scores))


@app.command()
def predict(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    lines: Annotated[
        Path | None, typer.Option("--lines", help="Text file, one prompt a line; without it, standard input.")
    ] = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Answer your own lines of text with the model of a run: a message each, or a JSON object of its fields."""
    with reported():
        from peftbench.console import observing, shown
        from peftbench.execute import predict as answer
        from peftbench.listing import prompts_of

        given = _lines(lines)
        prompts = prompts_of(run_folder, given)
        with observing() as observer:
            answers = answer(run_folder, prompts, device=device, observer=observer)
        for line, text in zip(given, answers, strict=True):
            print(json.dumps({"input": line, "output": text}, ensure_ascii=False) if as_json else shown(text))


for command in (recommend, results, report, compare, ranks, profile, plan, calibrate, pscp):
    app.command()(command)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder of the demo's runs.")] = Path("runs/demo"),
    method: Annotated[
        list[str] | None, typer.Option(metavar="FILE|NAME", help="A further method, also several.")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="That of the further methods.")] = 1e-2,
    settings: Settings = None,
    as_json: AsJson = False,
) -> None:
    """Compare the base model and six methods on four small tasks with the model that is shipped."""
    with reported():
        from peftbench.demo import show, with_methods

        show(output, [*with_methods(method or (), learning_rate), *(settings or ())], as_json=as_json)


@app.command()
def version() -> None:
    """Print the version."""
    from peftbench.provenance import own_version

    print(own_version())


def main() -> None:
    """Entry point of the `peftbench` command."""
    run_once(app)


def _run(
    train_file: Path,
    eval_file: Path | None,
    settings: list[str] | None,
    data_dir: Path | None,
    device: str | None,
    force: bool,
    as_json: bool,
    *,
    evaluate: bool,
    seeds: str | None = None,
    track: list[str] | None = None,
) -> None:
    with reported():
        from peftbench.config import load_run_config

        # Every mistake in the files is found before torch is loaded.
        config = load_run_config(
            train_file,
            eval_file,
            settings or (),
            data__directory=str(data_dir) if data_dir else None,
            device=device,
            tracking=track or None,
        )
        configs = [config.model_copy(update={"seed": seed}) for seed in _seeds(seeds)] if seeds else [config]
        from peftbench.console import observing
        from peftbench.execute import run_many

        with observing() as observer:
            results = run_many(configs, observer=observer, force=force, evaluate=evaluate, debug=debugging())
        if as_json:
            found = [json.loads(result.model_dump_json()) for result in results]
            print_json(found if seeds else found[0])
        for number, result in enumerate(results):
            if not as_json:
                print("\n" if number else "", end="")
                _print_result(result)
        _exit_with(results)


def _seeds(text: str) -> list[int]:
    from peftbench.errors import ConfigError

    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() for part in parts):
        raise ConfigError(f"--seeds is {text!r}, expected whole numbers from 0 with commas, such as 42,123,456")
    return [int(part) for part in parts]


def _placed(config: Any, data_dir: Path | None, device: str | None) -> Any:
    """The configuration of a run with the folder of its rows and the device given here."""
    if data_dir is not None:
        config = config.model_copy(update={"data": config.data.model_copy(update={"directory": str(data_dir)})})
    return config if device is None else config.model_copy(update={"device": device})


def _print_result(result: Any) -> None:
    from peftbench.listing import result_pairs

    print_pairs(result_pairs(result))


def _exit_with(results: list[Any]) -> None:
    """Status 1, and why, if a run failed."""
    failures = [
        (result.folder, record.failure)
        for result in results
        for record in (result.train, result.evaluation)
        if record is not None and record.failure is not None
    ]
    for folder, failure in failures:
        complain(f"the run failed: {failure.message}; its record is in {folder}")
    if failures:
        raise SystemExit(1)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _lines(file: Path | None) -> list[str]:
    from peftbench.errors import DataError

    try:
        text = sys.stdin.read() if file is None else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the lines in {str(file)!r} cannot be read: {error}; give a UTF-8 text file") from error
    lines = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not lines:
        raise DataError("there is no line to answer; give a file with one prompt a line")
    return lines
