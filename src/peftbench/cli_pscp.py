"""The command `peftbench pscp`: its options, and how a trade-off is printed, as tables and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from peftbench.terminal import print_json, reported

if TYPE_CHECKING:  # loaded when the command runs
    from peftbench.sensitivity import Crossing
    from peftbench.stats import Interval
    from peftbench.tradeoff import Tradeoff


def pscp(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE", help="Folder of runs, a table of costs (CSV, JSON), or paper or paper-means."
        ),
    ],
    exponents: Annotated[
        str | None, typer.Option(metavar="P,F,M", help="Importances, such as 1,1,2 or memory=2; 1 each without.")
    ] = None,
    references: Annotated[
        str,
        typer.Option(metavar="P,F,M", help="5e8,10,94, or paper, median, geometric-mean, or median,tflops=0.5."),
    ] = "paper",
    memory: Annotated[str, typer.Option(help="Of runs: measured, or predicted for --device.")] = "measured",
    device: Annotated[str | None, typer.Option(help="Device to predict memory for, such as h100.")] = None,
    model: Annotated[str | None, typer.Option(help="Which model, where the runs are of several.")] = None,
    protocol: Annotated[str | None, typer.Option(help="Which protocol, where the runs are of several.")] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Compare on what all methods have; the result is marked.")
    ] = False,
    imported: Annotated[
        str | None, typer.Option(metavar="NAME", help="An import of the folder in place of its runs.")
    ] = None,
    maps: Annotated[
        list[Path] | None,
        typer.Option("--map", metavar="FILE", help="Sensitivity map as .svg, .png, .pdf, .csv or .json."),
    ] = None,
    break_even: Annotated[
        bool, typer.Option("--break-even", help="Show where any two methods change places.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Weigh performance against cost: PSCP with its interval, and how far the order depends on its settings."""
    with reported():
        from peftbench import figures, tradeoff
        from peftbench.console import observing

        for file in maps or ():
            figures.check_name(file)  # before anything is computed
        with observing() as observer:
            found = tradeoff.weigh(
                source,
                exponents=exponents,
                references=references,
                memory=memory,
                device=device,
                model=model,
                protocol=protocol,
                allow_missing=allow_missing,
                imported=imported,
                observer=observer,
            )
        print_json(as_data(found)) if as_json else show(found, break_even)
        for file in maps or ():
            figures.write_maps(file, found.maps(slices=figures.is_drawn(file)), found.title)


def show(found: Tradeoff, break_even: bool) -> None:
    """Print a trade-off as tables."""
    from peftbench.console import print_table

    headings = ["method", "P", "95 %", "params", "extra TFLOP", "memory", "x params", "x FLOPs", "x memory"]
    headings += ["PSCP", "95 %  ", "wins"]
    rows: list[list[str | None]] = []
    for each in found.methods:
        cost, penalised = each.candidate, each.penalised
        factors = (penalised.params_penalty, penalised.flops_penalty, penalised.memory_penalty)
        rows.append(
            [
                cost.method + (" *" if each.missing else ""),
                f"{cost.performance:.2f}",
                _ends(each.performance),
                f"{cost.params:,.0f}",
                f"{cost.flops / 1e12:,.4g}",
                _bytes(cost.memory),
                *(f"{factor:.2f}" for factor in factors),
                f"{each.score.estimate:.2f}",
                _ends(each.score),
                None if each.wins is None else _percent(each.wins),
            ]
        )
    if found.base is not None:
        rows.append(["base", f"{found.base:.2f}", *[None] * 10])
    costs = found.costs
    used = [place for place in range(len(headings)) if any(row[place] is not None for row in rows)]
    headings, rows = [headings[place] for place in used], [[row[place] for place in used] for row in rows]
    print_table(found.title, headings, rows, right=headings[1:])
    b = [f"{factor.importance:g}" for factor in (costs.params, costs.flops, costs.memory)]
    print(
        f"References: {costs.params.reference:,.0f} parameters, {costs.flops.reference / 1e12:,.4g} TFLOP, "
        f"{_bytes(costs.memory.reference)}. Importances: {', '.join(b)}. The base model has no PSCP: it is not "
        "trained."
    )
    for note in found.notes:
        print(note)
    print(_coverage(found))
    if break_even and not found.break_evens():
        print("There are no two methods that score more than 0, so that there is no break-even.")
    elif break_even:
        columns = ["together", "params alone", "FLOPs alone", "memory alone"]
        pairs = [
            [f"{each.first}, {each.second}", *map(_crossing, (each.together, *each.alone.values()))]
            for each in found.break_evens()
        ]
        print()
        print_table(
            "Importance at which two methods score the same, and who leads above it", ["", *columns], pairs
        )


def as_data(found: Tradeoff) -> dict[str, Any]:
    """A trade-off as plain data; memory in bytes, FLOPs in single ones, shares from 0 to 1."""
    from dataclasses import asdict

    exponents, references = found.maps()
    return {
        "title": found.title,
        "costs": found.costs.model_dump(mode="json"),
        "methods": [
            {
                "method": each.candidate.method,
                "performance": asdict(each.performance),
                "trainable_params": each.candidate.params,
                "extra_flops": each.candidate.flops,
                "memory_bytes": each.candidate.memory,
                "penalties": {
                    "params": each.penalised.params_penalty,
                    "flops": each.penalised.flops_penalty,
                    "memory": each.penalised.memory_penalty,
                },
                "pscp": asdict(each.score),
                "wins": each.wins,
                "missing": list(each.missing),
            }
            for each in found.methods
        ],
        "base_performance": found.base,
        "notes": list(found.notes),
        "break_even": [asdict(each) for each in found.break_evens()],
        "map": {
            each.over: {
                method: {"wins": share, "wins_surely": surely} for method, (share, surely) in each.covers().items()
            }
            for each in (exponents, references)
        },
    }


def _coverage(found: Tradeoff) -> str:
    """How much of either map each method wins."""
    exponents, references = found.maps()
    parts = []
    for each, what in ((exponents, "importances from 0 to 4"), (references, "references from 1/100 to 100 times")):
        wins = [
            f"{method} wins {_percent(share)}" + ("" if surely is None else f" ({_percent(surely)} surely)")
            for method, (share, surely) in each.covers().items()
            if share > 0
        ]
        parts.append(f"Over {what}: {', '.join(wins) or 'no method is ahead of all others'}.")
    return "\n".join(parts)


def _percent(share: float) -> str:
    return "under 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _crossing(crossing: Crossing) -> str:
    if crossing.at is None:
        return "alike" if crossing.above is None else f"{crossing.above} always"
    ends = "" if crossing.low is None or crossing.high is None else f" ({crossing.low:.2f} to {crossing.high:.2f})"
    return f"{crossing.at:.2f}{ends}, {crossing.above}"


def _ends(interval: Interval) -> str | None:
    return None if interval.low is None or interval.high is None else f"{interval.low:.2f} to {interval.high:.2f}"


def _bytes(value: float) -> str:
    return f"{value / 1e9:,.2f} GB" if value >= 1e9 else f"{value / 1e6:,.2f} MB"
