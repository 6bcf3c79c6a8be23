"""What a set of records has to show: each table and figure, computed when it is asked for and at most once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from peftbench.diagrams import write_diagram
from peftbench.efficiency.devices import Device
from peftbench.errors import DataError, NotInstalled, PeftBenchError, UnknownName
from peftbench.observer import Observer
from peftbench.records import RunResult
from peftbench.report import drawing
from peftbench.report.cost_tables import Priced, cost_table, importance_table, priced
from peftbench.report.escaping import shortened
from peftbench.report.layout import CAPTIONS
from peftbench.report.score_tables import leaderboard, score_table, stability_table
from peftbench.report.sheet import Sheet, sheet_of
from peftbench.report.tables import Table
from peftbench.standings import Standings, standings
from peftbench.stats import Interval

FIGURES = {
    "figure4": "Figure 4: standard deviation of the score over seeds, each dataset and method.",
    "heatmap": "Mean score of each method on each dataset.",
    "forest": "Mean score over all datasets with its 95 % interval.",
    "ranks": "Critical-difference diagram: mean ranks, and which methods are not told apart.",
    "costs": "Mean score with its interval against trainable parameters, extra FLOPs and memory.",
}
"""Names of figures and what they show."""


@dataclass(frozen=True)
class Options:
    """What is asked of a report."""

    model: str | None = None
    protocol: str | None = None
    allow_missing: bool = False
    device: Device | None = None
    """What memory is predicted for; None takes the measured."""
    references: str = "paper"


@dataclass
class Report:
    """A set of records and what has been computed of it, each at most once."""

    results: Sequence[RunResult]
    options: Options
    observer: Observer = field(default_factory=Observer)
    _sheet: Sheet | None = None
    _prices: Priced | PeftBenchError | None = None
    _standings: Standings | PeftBenchError | None = None

    @property
    def title(self) -> str:
        """What the report is on."""
        return f"Report on {self.sheet.model}, {self.sheet.protocol}"

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of the tables, the leaderboard first."""
        return ("leaderboard", *(name for name in CAPTIONS if name != "leaderboard"))

    @property
    def figures(self) -> Mapping[str, str]:
        """Names of the figures, and what each shows."""
        return FIGURES

    @property
    def sheet(self) -> Sheet:
        """All scores; raises what `sheet_of` does."""
        if self._sheet is None:
            asked = self.options
            self._sheet = sheet_of(
                self.results, model=asked.model, protocol=asked.protocol, allow_missing=asked.allow_missing
            )
        return self._sheet

    @property
    def prices(self) -> Priced:
        """Costs of the methods; raises what `priced` does, which loads torch."""
        if self._prices is None:
            try:
                found = priced(self.sheet, device=self.options.device, references=self.options.references)
                self._prices = found
            except PeftBenchError as error:
                self._prices = error
            except ModuleNotFoundError as error:
                self._prices = NotInstalled(error.name, "predicted FLOPs need", "train")
        if isinstance(self._prices, PeftBenchError):
            raise self._prices
        return self._prices

    @property
    def standings(self) -> Standings:
        """Means and ranks with intervals, from predictions; raises what `peftbench.standings` does."""
        if self._standings is None:
            try:
                asked = self.options
                self._standings = standings(
                    self.results,
                    model=asked.model,
                    protocol=asked.protocol,
                    allow_missing=asked.allow_missing,
                    observer=self.observer,
                )
            except PeftBenchError as error:
                self._standings = error
        if isinstance(self._standings, PeftBenchError):
            raise self._standings
        return self._standings

    def table(self, name: str) -> Table:
        """One table; raises `UnknownName`, or `DataError` where the records do not allow it."""
        if name not in CAPTIONS:
            raise UnknownName("table", name, CAPTIONS)
        if name == "leaderboard":
            intervals, why = self.intervals()
            return leaderboard(self.sheet, intervals, why)
        if name in ("1", "2"):
            return score_table(self.sheet, name)
        if name == "11":
            return stability_table(self.sheet)
        return (
            cost_table(self.sheet, self.prices) if name == "3" else importance_table(self.sheet, self.prices, name)
        )

    def intervals(self) -> tuple[dict[str, tuple[Interval, Interval]] | None, str]:
        """Method to the intervals of mean and mean rank, or why there are none."""
        try:
            return {each.method: (each.mean, each.rank) for each in self.standings.methods}, ""
        except PeftBenchError as error:
            return None, str(error)

    def draw(self, name: str, folder: Path) -> list[Path]:
        """One figure as SVG and PNG; raises `DataError` where the records do not allow it."""
        sheet, stem = self.sheet, folder / name
        if name == "figure4":
            if not any(len(found) > 1 for found in sheet.scores.values()):
                raise DataError("every run has one seed; a standard deviation needs at least two")
            return drawing.stability(stem, sheet, sheet.protocol)
        if name == "heatmap":
            return drawing.heat_map(stem, sheet, sheet.protocol)
        if name == "ranks":
            if self.standings.diagram is None:
                raise DataError("the runs are of one dataset; ranks over datasets need at least two")
            titles = {each.name: shortened(each.title, 22) for each in sheet.methods}
            called = tuple(titles.get(each, each) for each in self.standings.diagram.methods)
            files = [stem.with_name(f"{stem.name}{kind}") for kind in drawing.KINDS]
            with drawing.without_font_warnings():
                for file in files:
                    write_diagram(file, replace(self.standings.diagram, methods=called), self.standings.title)
            return files
        means = {each.method: each.mean for each in self.standings.methods}
        chosen = [drawing.Standing(each, means[each.name]) for each in sheet.methods if each.name in means]
        if name == "forest":
            return drawing.forest(stem, sheet, chosen)
        return drawing.score_against_cost(stem, sheet, chosen, self.prices.costs, self.prices.basis)
