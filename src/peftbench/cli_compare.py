"""The commands `peftbench compare` and `peftbench ranks`: their options, and how they print."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from peftbench.cli_options import AsJson
from peftbench.terminal import print_json, reported

if TYPE_CHECKING:  # loaded when the command runs
    from peftbench.comparison import Comparison, Difference
    from peftbench.standings import Standings
    from peftbench.stats import Interval

Folder = Annotated[Path, typer.Argument(metavar="RUNS", help="Folder of runs.")]
Model = Annotated[str | None, typer.Option(help="Which model, where the runs are of several.")]
Protocol = Annotated[str | None, typer.Option(help="Which protocol, where the runs are of several.")]
AllowMissing = Annotated[
    bool, typer.Option("--allow-missing", help="Compare on what all methods have; the result says so.")
]


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A method, such as lora or 'lora(rank=8)'.")],
    second: Annotated[str, typer.Argument(metavar="B", help="The method to compare it with.")],
    folder: Folder = Path("runs"),
    model: Model = None,
    protocol: Protocol = None,
    allow_missing: AllowMissing = False,
    as_json: AsJson = False,
) -> None:
    """Compare two methods on the same test rows: by how much they differ, and how sure that is."""
    with reported():
        from dataclasses import asdict

        from peftbench.comparison import compare_two
        from peftbench.console import observing
        from peftbench.store import stored_results

        results = stored_results(folder)
        with observing() as observer:
            found = compare_two(
                results,
                first,
                second,
                model=model,
                protocol=protocol,
                allow_missing=allow_missing,
                observer=observer,
            )
        print_json(asdict(found)) if as_json else show_comparison(found)


def ranks(
    folder: Folder = Path("runs"),
    model: Model = None,
    protocol: Protocol = None,
    allow_missing: AllowMissing = False,
    procedure: Annotated[str, typer.Option(help="wilcoxon-holm or nemenyi.")] = "wilcoxon-holm",
    diagram: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Critical-difference diagram as .svg, .png, .pdf or .json."),
    ] = None,
    stability: Annotated[
        bool, typer.Option("--stability", help="Show the standard deviation over seeds of each dataset.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Rank all methods over datasets: which are told apart, and how far each depends on its seed."""
    with reported():
        from dataclasses import asdict

        from peftbench.console import observing
        from peftbench.diagrams import check_diagram_name, write_diagram
        from peftbench.errors import DataError, UnknownName
        from peftbench.standings import standings
        from peftbench.store import stored_results

        if procedure not in ("wilcoxon-holm", "nemenyi"):
            raise UnknownName("procedure", procedure, ("wilcoxon-holm", "nemenyi"))
        if diagram is not None:
            check_diagram_name(diagram)  # before anything is computed
        results = stored_results(folder)
        with observing() as observer:
            found = standings(
                results,
                model=model,
                protocol=protocol,
                allow_missing=allow_missing,
                procedure="nemenyi" if procedure == "nemenyi" else "wilcoxon-holm",
                observer=observer,
            )
        print_json(asdict(found)) if as_json else show_standings(found, stability)
        if diagram is not None:
            if found.diagram is None:
                raise DataError("the runs are of one dataset; a diagram of ranks needs at least two")
            write_diagram(diagram, found.diagram, found.title)


def show_comparison(found: Comparison) -> None:
    """Print a comparison as a table, and what has to be known to read it."""
    from peftbench.console import print_table
    from peftbench.stats import FEWEST_DATASETS

    headings = ["dataset", found.first, found.second, "difference", "95 %", "ahead", "p", "p, Holm"]
    headings += ["McNemar", "McNemar, Holm", "detectable"]
    rows = [_difference_cells(name, each) for name, each in found.datasets.items()]
    rows.append(_difference_cells("mean", found.overall))
    print_table(found.title, headings, rows, right=headings[1:])
    over = f"fewer than {FEWEST_DATASETS} datasets are too few"
    if found.over_datasets is not None:
        over = f"p {_p(found.over_datasets)}"
    print(f"Over datasets like these (signed ranks): {over}.")
    share = _percent(found.improvement)
    print(f"Probability that a single run of {found.first} scores above one of {found.second}: {share}.")
    print(
        "Difference: first minus second; its interval resamples seeds and test rows, the same rows for both.\n"
        "ahead: share of the replicates in which the first leads. p: outputs swapped row by row, which is about\n"
        "these trained models. McNemar: rows right or wrong by the vote of the seeds. detectable: smallest true\n"
        "difference that 80 of 100 such comparisons would find."
    )
    for note in found.notes:
        print(note)


def show_standings(found: Standings, stability: bool) -> None:
    """Print ranks as a table, which methods are told apart, and with `stability` how far seeds matter."""
    from peftbench.console import print_table

    headings = ["method", "mean rank", "95 %", "mean", "95 % ", "middle half", "95 %  ", "sd over seeds"]
    rows: list[list[str | None]] = [
        [
            each.method,
            f"{each.rank.estimate:.2f}",
            _ends(each.rank),
            f"{each.mean.estimate:.2f}",
            _ends(each.mean),
            None if each.middle is None else f"{each.middle.estimate:.2f}",
            None if each.middle is None else _ends(each.middle),
            None if each.deviation is None else f"{each.deviation:.2f}",
        ]
        for each in found.methods
    ]
    print_table(found.title, headings, rows, right=headings[1:])
    if found.diagram is not None:
        names, test = found.diagram.methods, found.diagram.procedure
        print(f"Friedman over {found.diagram.datasets} datasets: p {_p(found.diagram.friedman_p)}.")
        together = ["; ".join(names[first : last + 1]) for first, last in found.diagram.groups]
        print(f"Not told apart at 0.05 ({test}): {' | '.join(together) or 'none'}.")
    for note in found.notes:
        print(note)
    if stability:
        print()
        if not any(spread for each in found.methods for spread in each.seeds.values()):
            print("Every cell has one seed: how far seeds matter cannot be known. Run more of them.")
            return
        methods = [each.method for each in found.methods]
        lines: list[list[str | None]] = []
        for dataset, p in ((name, found.equal_spread.get(name)) for name in found.methods[0].seeds):
            spreads = [each.seeds[dataset] for each in found.methods]
            cells = [
                None if one is None else f"{one.deviation:.2f} ({one.low:.2f} to {one.high:.2f})"
                for one in spreads
            ]
            lines.append([dataset, *cells, None if p is None else _p(p)])
        title = "Standard deviation over seeds with its 95 % interval; p that all methods vary alike"
        print_table(title, ["dataset", *methods, "p"], lines, right=[*methods, "p"])


def _difference_cells(name: str, each: Difference) -> list[str | None]:
    return [
        name,
        f"{each.first:.2f}",
        f"{each.second:.2f}",
        f"{each.difference.estimate:+.2f}",
        _ends(each.difference, signed=True),
        None if each.ahead is None else _share(each.ahead),
        _p(each.p),
        None if each.holm is None else _p(each.holm),
        None if each.right is None else _p(each.right.p),
        None if each.right_holm is None else _p(each.right_holm),
        None if each.detectable is None else f"{each.detectable:.2f}",
    ]


def _p(p: float) -> str:
    from peftbench.diagrams import p_text

    return p_text(p)


def _share(share: float) -> str:
    """A share of the replicates, of which none in a thousand is not never."""
    return "over 99.9 %" if share > 0.9995 else "under 0.1 %" if share < 0.0005 else _percent(share)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _ends(interval: Interval, *, signed: bool = False) -> str | None:
    if interval.low is None or interval.high is None:
        return None
    form = "+.2f" if signed else ".2f"
    return f"{interval.low:{form}} to {interval.high:{form}}"
