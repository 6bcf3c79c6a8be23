"""Tables of PSCP from a sheet and costs: Tables 3, 9 and 10 of the paper."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from peftbench.candidates import Costs, costs_of
from peftbench.efficiency.devices import Device
from peftbench.errors import DataError
from peftbench.penalty import GIGA, TERA, CostModel, pscp
from peftbench.report.layout import CAPTIONS, SLICES, TITLES
from peftbench.report.score_tables import (
    METHOD,
    estimate_cell,
    gap_notes,
    missing_note,
    rule_title,
    with_facts,
)
from peftbench.report.sheet import RULES, Estimate, Sheet
from peftbench.report.tables import Cell, Column, Panel, Row, Table, number_cell, text_cell, with_marks
from peftbench.schema import Protocol
from peftbench.sensitivity import Candidate
from peftbench.tradeoff import cost_model


@dataclass(frozen=True, slots=True)
class Priced:
    """What the methods of a sheet cost, and how costs weigh."""

    costs: Mapping[str, Costs]
    basis: str
    """Where memory and FLOPs come from, in words."""
    weights: CostModel


def priced(sheet: Sheet, *, device: Device | None, references: str) -> Priced:
    """The costs of a sheet's trained methods by their records; loads torch.

    Raises `DataError` where they are not known or not comparable, `ConfigError` for references that are none.
    """
    records = {
        method.name: [
            run.train
            for run in sheet.runs
            if run.train is not None and run.primary is not None and _is(str(run.config.method), method.name)
        ]
        for method in sheet.methods
        if method.trained
    }
    records = {name: runs for name, runs in records.items() if runs}
    if not records:
        raise DataError("the runs are of the base model alone, which has no PSCP; give those of a method too")
    costs, basis = costs_of(records, device)
    candidates = [Candidate(name, 0, each.params, each.flops, each.memory) for name, each in costs.items()]
    return Priced(costs, f"FLOPs are predicted; {basis}", cost_model(None, references, candidates))


def cost_table(sheet: Sheet, prices: Priced, rules: Sequence[Protocol] = RULES) -> Table:
    """Table 3, a part for each scoring rule."""
    panels = [_panel(sheet, prices, rule, rule_title(rule), prices.weights) for rule in rules]
    return _table("3", sheet, prices, panels, ())


def importance_table(sheet: Sheet, prices: Priced, name: str) -> Table:
    """Table 9 or 10: Table 3 under other importances, by the scoring rule of the runs' own protocol."""
    panels = []
    for place, importances in enumerate(SLICES[name]):
        weights = weights_of(prices.weights, importances)
        said = ", ".join(f"{each:g}" for each in importances)
        title = f"({'abcdef'[place]}) importance of parameters, FLOPs, memory: {said}"
        panels.append(_panel(sheet, prices, sheet.protocol, title, weights))
    return _table(name, sheet, prices, panels, (f"Scores by the {sheet.protocol} scoring.",))


def weights_of(weights: CostModel, importances: Sequence[float]) -> CostModel:
    """The same references under other importances of parameters, FLOPs and memory."""
    named = zip(("params", "flops", "memory"), importances, strict=True)
    update = {cost: getattr(weights, cost).model_copy(update={"importance": each}) for cost, each in named}
    return weights.model_copy(update=update)


def _panel(sheet: Sheet, prices: Priced, rule: Protocol, title: str, weights: CostModel) -> Panel:
    columns = [
        METHOD,
        Column("performance", "P", best="highest"),
        Column("trainable_params", "Params", "Cost", digits=0),
        Column("extra_tflops", "Extra TFLOP", "Cost"),
        Column("memory_gb", "Memory, GB", "Cost"),
        Column("params_penalty", "Params", "Penalty", digits=2),
        Column("flops_penalty", "FLOPs", "Penalty", digits=2),
        Column("memory_penalty", "Memory", "Penalty", digits=2),
        Column("pscp", "PSCP", best="highest", digits=2),
    ]
    rows = []
    for method in sheet.methods:
        cost = prices.costs.get(method.name)
        if cost is None:
            continue
        mean = sheet.mean(method, sheet.datasets, rule)
        found = pscp(mean.value or 0.0, cost.params, cost.flops, cost.memory, weights)
        score = Estimate(None if mean.value is None else found.score, mean.missing, mean.noted)
        rows.append(
            Row(
                cells=(
                    text_cell(method.title),
                    estimate_cell(mean, 1),
                    number_cell(int(cost.params), 0),
                    _significant(cost.flops / TERA),
                    _significant(cost.memory / GIGA),
                    *(
                        number_cell(each, 2)
                        for each in (found.params_penalty, found.flops_penalty, found.memory_penalty)
                    ),
                    estimate_cell(score, 2),
                ),
                note=missing_note(method, sheet.datasets),
            )
        )
    return Panel(title, tuple(columns), with_marks(columns, rows))


def _table(name: str, sheet: Sheet, prices: Priced, panels: list[Panel], notes: tuple[str, ...]) -> Table:
    weights = prices.weights
    return Table(
        name=name,
        title=TITLES[name],
        caption=CAPTIONS[name],
        panels=tuple(panels),
        notes=(
            f"P is the mean over {len(sheet.averaged(sheet.datasets))} datasets of the means over seeds. The base "
            "model has no PSCP: it is not trained. Best P and PSCP in bold, second underlined; what is equal as "
            "printed is marked alike.",
            f"References: {weights.params.reference:,.0f} parameters, {weights.flops.reference / TERA:,.4g} "
            f"TFLOP, {weights.memory.reference / GIGA:,.4g} GB. {prices.basis}.",
            *notes,
            *gap_notes(sheet, sheet.datasets),
        ),
        provenance=with_facts(sheet, sheet.datasets),
        source=sheet.digest,
    )


def _significant(value: float) -> Cell:
    return Cell(f"{value:,.3g}", value)


def _is(method: str, name: str) -> bool:
    return name in (method, method.partition("(")[0])
