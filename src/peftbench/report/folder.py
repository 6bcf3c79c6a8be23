"""A folder of all tables and figures that records allow, with an index of what is there and what is not."""

import csv
import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar, get_args

from peftbench.diagrams import write_diagram
from peftbench.disk import explained, write_text
from peftbench.efficiency.devices import Device
from peftbench.errors import ConfigError, DataError, DiskError, NotInstalled, PeftBenchError, UnknownName
from peftbench.observer import Observer
from peftbench.records import RunResult
from peftbench.report import drawing
from peftbench.report.cost_tables import Priced, cost_table, importance_table, priced
from peftbench.report.escaping import for_csv, for_html, for_markdown, one_line, shortened
from peftbench.report.layout import CAPTIONS, TITLES
from peftbench.report.rendering import ENDINGS, Format, html_table, page, render
from peftbench.report.score_tables import leaderboard, score_table, stability_table
from peftbench.report.sheet import Sheet, sheet_of
from peftbench.report.tables import Table
from peftbench.standings import Standings, standings
from peftbench.stats import Interval

T = TypeVar("T")
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


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, and why the rest was not."""

    files: dict[str, str]
    """Name of a file to what it is."""
    missing: dict[str, str]
    """What is not there, and why."""

    def by_content(self) -> dict[str, list[str]]:
        """What it is to the names of its files, one for each format."""
        found: dict[str, list[str]] = {}
        for file, what in self.files.items():
            found.setdefault(what, []).append(file)
        return found


def formats_of(text: str) -> tuple[Format, ...]:
    """The formats in `markdown,html`; raises `UnknownName` or `ConfigError`."""
    known = get_args(Format)
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        if name not in known:
            raise UnknownName("format", name, known)
    if not names:
        raise ConfigError(f"--format is {text!r}, expected some of {', '.join(known)}, with commas")
    return tuple(dict.fromkeys(names))  # type: ignore[arg-type]


def write_report(report: Report, folder: Path, formats: Sequence[Format]) -> Written:
    """Write every table and figure that the records allow, and an index; files of these names are replaced.

    Raises `DataError` or `UnknownName` where the records cannot be set side by side at all, and `DiskError` where
    the disk refuses.
    """
    sheet = report.sheet  # what is wrong with the records is said before anything is written
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    missing: dict[str, str] = {}
    tables: dict[str, Table] = {}
    for name in ("leaderboard", *(each for each in CAPTIONS if each != "leaderboard")):
        found = _tried(lambda name=name: report.table(name), TITLES[name], missing)  # type: ignore[misc]
        if found is None:
            continue
        tables[name] = found
        for form in formats:
            file = folder / f"{found.stem}{ENDINGS[form]}"
            _write(file, render(found, form))
            files[file.name] = f"{found.title}: {found.caption}"
    for name, what in FIGURES.items():
        drawn = _tried(lambda name=name: report.draw(name, folder), f"{name}.svg", missing)  # type: ignore[misc]
        files |= {file.name: what for file in drawn or ()}
    _write(folder / "runs.csv", _runs(sheet))
    files["runs.csv"] = "The runs behind all of it: id, method, dataset, seed, scores, folder."
    written = Written(files, missing)
    _write(folder / "README.md", index_markdown(sheet, written))
    if "html" in formats:
        _write(folder / "index.html", index_page(sheet, written, tables, folder))
    return written


def index_markdown(sheet: Sheet, written: Written) -> str:
    """What each file is, what is missing and why, and what all was made from."""
    lines = [f"# Report on {for_markdown(sheet.model)}, {sheet.protocol}", "", *_facts(sheet), "", "## Files", ""]
    lines += ["| what it is | files |", "|---|---|"]
    for what, files in written.by_content().items():
        lines.append(f"| {for_markdown(what)} | {', '.join(f'[{file}]({file})' for file in files)} |")
    if written.missing:
        lines += ["", "## Not there, and why", "", "| what | why |", "|---|---|"]
        lines += [f"| {for_markdown(what)} | {for_markdown(why)} |" for what, why in written.missing.items()]
    return "\n".join(lines) + "\n"


def index_page(sheet: Sheet, written: Written, tables: Mapping[str, Table], folder: Path) -> str:
    """One page with all tables and figures; figures are inside it, so that the page stands by itself."""
    parts = [f"<h1>Report on {for_html(sheet.model)}, {sheet.protocol}</h1>"]
    jumps = [f'<li><a href="#{table.stem}">{for_html(table.title)}</a></li>' for table in tables.values()]
    parts.append(f'<nav><ul>{"".join(jumps)}<li><a href="#figures">Figures</a></li></ul></nav>')
    parts += [html_table(table) for table in tables.values()]
    parts.append('<h2 id="figures">Figures</h2>')
    for name, what in FIGURES.items():
        if f"{name}.svg" in written.files:
            data = b64encode((folder / f"{name}.svg").read_bytes()).decode()
            image = f'<img alt="{for_html(what)}" src="data:image/svg+xml;base64,{data}">'
            parts.append(f"<figure>{image}<figcaption>{for_html(what)}</figcaption></figure>")
    if written.missing:
        items = "".join(f"<li>{for_html(what)}: {for_html(why)}</li>" for what, why in written.missing.items())
        parts.append(f"<h2>Not there, and why</h2>\n<ul>{items}</ul>")
    links = "".join(
        f"<li>{for_html(what)} {', '.join(map(_link, files))}</li>" for what, files in written.by_content().items()
    )
    parts.append(f"<h2>Files</h2>\n<ul>{links}</ul>")
    return page(f"Report on {sheet.model}", "\n".join(parts) + "\n")


def _link(file: str) -> str:
    return f'<a href="{for_html(file)}">{for_html(file)}</a>'


def _tried(make: Callable[[], T], what: str, missing: dict[str, str]) -> T | None:
    """What `make` gives, or None and the reason; only the disk's refusal ends the report."""
    try:
        return make()
    except DiskError:
        raise
    except (ConfigError, DataError, NotInstalled, UnknownName) as error:
        missing[what] = str(error)
        return None


def _facts(sheet: Sheet) -> list[str]:
    return [f"- {for_markdown(name)}: {for_markdown(text)}" for name, text in sheet.provenance]


def _runs(sheet: Sheet) -> str:
    out = io.StringIO()
    write = csv.writer(out, lineterminator="\n").writerow
    write(["train_id", "eval_id", "method", "dataset", "seed", "published", "corrected", "test_rows", "folder"])
    for run in sheet.runs:
        record, evaluation = run.train or run.evaluation, run.evaluation
        assert record is not None
        scores = {} if evaluation is None else evaluation.scores
        primary = [scores[rule].primary if rule in scores else "" for rule in ("published", "corrected")]
        write(
            [
                record.train_id,
                "" if evaluation is None else evaluation.eval_id,
                for_csv(str(run.config.method)),
                for_csv(run.config.dataset),
                run.config.seed if run.train is not None else "",
                *primary,
                "" if evaluation is None else evaluation.tokens.rows,
                for_csv("/".join(Path(one_line(run.folder)).parts[-4:])),
            ]
        )
    return out.getvalue()


def _write(file: Path, text: str) -> None:
    with explained(file):
        write_text(file, text)
