"""Tables of scores from a sheet: Tables 1, 2 and 11 of the paper and the leaderboard."""

from collections.abc import Mapping, Sequence

import numpy as np

from peftbench.errors import DataError
from peftbench.report.layout import (
    CAPTIONS,
    GROUPS,
    STABILITY,
    TABLES,
    TITLES,
    entry,
    group_of,
    label,
    metric_of,
)
from peftbench.report.sheet import RULES, Estimate, Method, Sheet
from peftbench.report.tables import Cell, Column, Panel, Row, Table, number_cell, text_cell, with_marks
from peftbench.schema import Protocol
from peftbench.stats import Interval

MARKS = "Best of a column in bold, second underlined; what is equal as printed is marked alike."
NO_SEED = "With one seed there is no standard deviation over seeds: sd stands as –."
METHOD = Column("method", "Method", number=False)


def estimate_cell(found: Estimate, digits: int) -> Cell:
    """A mean, or how many runs are missing from it."""
    instead = f"{found.missing} missing" if found.missing else "–"
    return number_cell(found.value, digits, instead=instead, noted=found.noted)


def rule_title(rule: Protocol) -> str:
    """How a part under one scoring rule is called."""
    return f"{rule.capitalize()} scoring"


def missing_note(method: Method, datasets: Sequence[str]) -> str:
    """The runs that a method lacks on these datasets, for its row."""
    lacking = [gap for gap in method.missing if gap.partition(",")[0] in datasets]
    return f"missing: {'; '.join(lacking)}" if lacking else ""


def with_facts(sheet: Sheet, datasets: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """The provenance of a sheet with the test rows of these datasets."""
    rows = ", ".join(f"{label(each)} {sheet.rows[each]}" for each in datasets if each in sheet.rows)
    return (*sheet.provenance, ("Test rows", rows)) if rows else sheet.provenance


def gap_notes(sheet: Sheet, datasets: Sequence[str]) -> tuple[str, ...]:
    """What is missing, if anything is."""
    gaps = sheet.gaps(datasets)
    return (gaps,) if gaps else ()


def score_table(sheet: Sheet, name: str, rules: Sequence[Protocol] = RULES) -> Table:
    """Table 1 or 2: a row for each method, a column for each dataset, a part for each scoring rule.

    Raises `DataError` where the sheet has none of its datasets.
    """
    groups = TABLES[name]
    datasets = [each for each in sheet.datasets if group_of(each) in groups]
    if not datasets:
        raise DataError(f"the runs are of none of the datasets of Table {name}: {', '.join(_listed(groups))}")
    columns = [METHOD, Column("trainable_params", "Trainable params", digits=0)]
    columns += [
        Column(_key(each), label(each), f"{group_of(each)} ({_metrics(datasets, group_of(each))})", best="highest")
        for each in datasets
    ]
    panels = []
    for rule in rules:
        rows = [
            Row(
                cells=(
                    text_cell(method.title),
                    number_cell(method.params, 0),
                    *(estimate_cell(sheet.score(method, each, rule), 1) for each in datasets),
                ),
                note=missing_note(method, datasets),
            )
            for method in sheet.methods
        ]
        panels.append(Panel(rule_title(rule), tuple(columns), with_marks(columns, rows)))
    there = {entry(each) for each in datasets}
    absent = [label(each) for group in groups for each in GROUPS[group] if each not in there]
    return Table(
        name=name,
        title=TITLES[name],
        caption=CAPTIONS[name],
        panels=tuple(panels),
        notes=(
            f"Means over seeds, 0 to 100. {MARKS}",
            "What comes closest to the paper is the published scoring of runs under the published protocol; these "
            f"are {sheet.protocol}.",
            *_seed_notes(sheet),
            *([f"Not among the records: {', '.join(absent)}."] if absent else []),
            *gap_notes(sheet, datasets),
        ),
        provenance=with_facts(sheet, datasets),
        source=sheet.digest,
    )


def stability_datasets(sheet: Sheet) -> list[str]:
    """The datasets of the paper's stability experiments in its order; where there is none, all."""
    found = [each for name in STABILITY for each in sheet.datasets if entry(each) == name]
    return found or list(sheet.datasets)


def stability_table(sheet: Sheet) -> Table:
    """Table 11: mean and standard deviation over seeds, without the base model, which has no seed.

    Raises `DataError` where no method has been trained.
    """
    datasets = stability_datasets(sheet)
    trained = [each for each in sheet.methods if each.trained]
    if not trained:
        raise DataError("the runs are of the base model alone, which has no seeds; give those of a method too")
    columns = [METHOD, *(Column(_key(each), label(each), spread=True) for each in datasets)]
    columns.append(Column("mean_deviation", "Mean sd", best="lowest", digits=2))
    panels = []
    for rule in RULES:
        rows = []
        for method in trained:
            found = [sheet.score(method, each, rule) for each in datasets]
            rows.append(
                Row(
                    cells=(text_cell(method.title), *map(_spread_cell, found), _mean_deviation(found)),
                    note=missing_note(method, datasets),
                )
            )
        panels.append(Panel(rule_title(rule), tuple(columns), with_marks(columns, rows)))
    absent = [label(each) for each in STABILITY if each not in {entry(each) for each in datasets}]
    others = [label(each) for each in sheet.datasets if each not in datasets]
    one_seed = max(each.seeds for each in trained) == 1
    return Table(
        name="11",
        title=TITLES["11"],
        caption=CAPTIONS["11"],
        panels=tuple(panels),
        notes=(
            "Mean ± standard deviation over seeds, with seeds - 1 in the denominator. Lowest mean standard "
            "deviation in bold, second underlined. The base model has no seeds.",
            *([NO_SEED] if one_seed else []),
            *([f"Not among the records: {', '.join(absent)}."] if absent else []),
            *([f"Left out, as in the paper: {', '.join(others)}."] if others else []),
            *gap_notes(sheet, datasets),
        ),
        provenance=with_facts(sheet, datasets),
        source=sheet.digest,
    )


def leaderboard(
    sheet: Sheet,
    intervals: Mapping[str, tuple[Interval, Interval]] | None = None,
    why_none: str = "",
) -> Table:
    """Mean scores over groups of datasets and over all, a part for each scoring rule.

    `intervals` has for each method those of its mean and of its mean rank under the protocol's own rule, or
    `why_none` says why there are none.
    """
    groups = [group for group in GROUPS if any(group_of(each) == group for each in sheet.datasets)]
    of_group = {group: [each for each in sheet.datasets if group_of(each) == group] for group in groups}
    panels = []
    for rule in RULES:
        own = intervals if rule == sheet.protocol else None
        columns = [METHOD, Column("trainable_params", "Trainable params", digits=0)]
        columns += [
            Column(
                f"{group.lower().replace(' ', '_')}_mean",
                f"{group} ({len(sheet.averaged(of_group[group]))})",
                best="highest",
            )
            for group in groups
        ]
        columns.append(Column("mean", f"All ({len(sheet.averaged(sheet.datasets))})", best="highest"))
        if own is not None:
            columns += [
                Column("mean_low", "from", "95 % of all"),
                Column("mean_high", "to", "95 % of all"),
                Column("mean_rank", "Mean rank", best="lowest", digits=2),
                Column("mean_rank_low", "from", "95 % of rank", digits=2),
                Column("mean_rank_high", "to", "95 % of rank", digits=2),
            ]
        rows = []
        for method in sheet.methods:
            cells = [text_cell(method.title), number_cell(method.params, 0)]
            cells += [estimate_cell(sheet.mean(method, of_group[group], rule), 1) for group in groups]
            cells.append(estimate_cell(sheet.mean(method, sheet.datasets, rule), 1))
            if own is not None:
                mean, rank = own[method.name]
                cells += [number_cell(mean.low, 1), number_cell(mean.high, 1)]
                cells += [number_cell(each, 2) for each in (rank.estimate, rank.low, rank.high)]
            rows.append(Row(tuple(cells), missing_note(method, sheet.datasets)))
        panels.append(Panel(rule_title(rule), tuple(columns), with_marks(columns, rows)))
    panels.sort(key=lambda each: each.title != rule_title(sheet.protocol))
    return Table(
        name="leaderboard",
        title=TITLES["leaderboard"],
        caption=CAPTIONS["leaderboard"],
        panels=tuple(panels),
        notes=(
            f"Means over datasets of the means over seeds, 0 to 100; in brackets the number of datasets. {MARKS}",
            "Intervals resample seeds and test rows; ranks are over datasets, 1 is best."
            if intervals
            else f"No intervals: {why_none}.",
            *_seed_notes(sheet),
            *gap_notes(sheet, sheet.datasets),
        ),
        provenance=with_facts(sheet, sheet.datasets),
        source=sheet.digest,
    )


def _spread_cell(found: Estimate) -> Cell:
    if found.value is None:
        return estimate_cell(found, 1)
    deviation = "–" if found.deviation is None else f"{found.deviation:.1f}"
    return Cell(f"{found.value:.1f} ± {deviation}", found.value, found.deviation, noted=found.noted)


def _mean_deviation(found: Sequence[Estimate]) -> Cell:
    """The mean standard deviation over datasets; none where one of them has none."""
    missing = sum(each.missing for each in found if each.value is None)
    deviations = [each.deviation for each in found if each.deviation is not None]
    if missing or len(deviations) < len(found):
        return Cell(f"{missing} missing" if missing else "–")
    return number_cell(float(np.mean(deviations)), 2, noted=any(each.noted for each in found))


def _seed_notes(sheet: Sheet) -> list[str]:
    seeds = sorted({each.seeds for each in sheet.methods if each.trained})
    return ["One seed each: nothing here says what another seed would give."] if seeds == [1] else []


def _metrics(datasets: Sequence[str], group: str) -> str:
    found = dict.fromkeys(metric_of(each) for each in datasets if group_of(each) == group)
    return "/".join(each for each in found if each)


def _listed(groups: Sequence[str]) -> list[str]:
    return [label for group in groups for label in GROUPS[group].values()]


def _key(dataset: str) -> str:
    return "".join(character if character.isalnum() else "_" for character in dataset)
