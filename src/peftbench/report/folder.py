"""A folder of all tables and figures that there can be, with an index of what is there and what is not."""

import csv
import io
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar, get_args

from peftbench.disk import explained, write_text
from peftbench.errors import ConfigError, DataError, DiskError, NotInstalled, UnknownName
from peftbench.report.escaping import for_csv, for_html, for_markdown, one_line
from peftbench.report.layout import TITLES
from peftbench.report.rendering import ENDINGS, Format, html_table, page, render
from peftbench.report.sheet import Sheet
from peftbench.report.tables import Table

T = TypeVar("T")


class Source(Protocol):
    """Whatever has tables and figures to show: records, or the paper."""

    @property
    def title(self) -> str:
        """What the report is on."""

    @property
    def sheet(self) -> Sheet:
        """Its scores."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Names of its tables."""

    @property
    def figures(self) -> Mapping[str, str]:
        """Names of its figures, and what each shows."""

    def table(self, name: str) -> Table:
        """One table; raises a `PeftBenchError` where there cannot be one."""

    def draw(self, name: str, folder: Path) -> list[Path]:
        """One figure, drawn into files of a folder; raises as `table` does."""


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


def write_report(source: Source, folder: Path, formats: Sequence[Format]) -> Written:
    """Write every table and figure that the records allow, and an index; files of these names are replaced.

    Raises `DataError` or `UnknownName` where the records cannot be set side by side at all, and `DiskError` where
    the disk refuses.
    """
    sheet = source.sheet  # what is wrong with the records is said before anything is written
    with explained(folder):
        folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, str] = {}
    missing: dict[str, str] = {}
    tables: dict[str, Table] = {}
    for name in source.tables:
        found = _tried(lambda name=name: source.table(name), TITLES[name], missing)  # type: ignore[misc]
        if found is None:
            continue
        tables[name] = found
        for form in formats:
            file = folder / f"{found.stem}{ENDINGS[form]}"
            _write(file, render(found, form))
            files[file.name] = f"{found.title}: {found.caption}"
    for name, what in source.figures.items():
        drawn = _tried(lambda name=name: source.draw(name, folder), f"{name}.svg", missing)  # type: ignore[misc]
        files |= {file.name: what for file in drawn or ()}
    if sheet.runs:
        _write(folder / "runs.csv", _runs(sheet))
        files["runs.csv"] = "The runs behind all of it: id, method, dataset, seed, scores, folder."
    written = Written(files, missing)
    _write(folder / "README.md", index_markdown(source, written))
    if "html" in formats:
        _write(folder / "index.html", index_page(source, written, tables, folder))
    return written


def index_markdown(source: Source, written: Written) -> str:
    """What each file is, what is missing and why, and what all was made from."""
    lines = [f"# {for_markdown(source.title)}", "", *_facts(source.sheet), "", "## Files", ""]
    lines += ["| what it is | files |", "|---|---|"]
    for what, files in written.by_content().items():
        lines.append(f"| {for_markdown(what)} | {', '.join(f'[{file}]({file})' for file in files)} |")
    if written.missing:
        lines += ["", "## Not there, and why", "", "| what | why |", "|---|---|"]
        lines += [f"| {for_markdown(what)} | {for_markdown(why)} |" for what, why in written.missing.items()]
    return "\n".join(lines) + "\n"


def index_page(source: Source, written: Written, tables: Mapping[str, Table], folder: Path) -> str:
    """One page with all tables and figures; figures are inside it, so that the page stands by itself."""
    parts = [f"<h1>{for_html(source.title)}</h1>"]
    jumps = [f'<li><a href="#{table.stem}">{for_html(table.title)}</a></li>' for table in tables.values()]
    parts.append(f'<nav><ul>{"".join(jumps)}<li><a href="#figures">Figures</a></li></ul></nav>')
    parts += [html_table(table) for table in tables.values()]
    parts.append('<h2 id="figures">Figures</h2>')
    for name, what in source.figures.items():
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
    return page(source.title, "\n".join(parts) + "\n")


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
