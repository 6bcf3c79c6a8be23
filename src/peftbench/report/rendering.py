"""A table as Markdown, LaTeX, CSV or HTML; each says what is missing and what it was made from.

Best is bold and second underlined where the format can: not in CSV, which carries unrounded numbers.
"""

import base64
import csv
import hashlib
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Literal

from peftbench.report.escaping import for_csv, for_html, for_latex, for_markdown
from peftbench.report.tables import Cell, Column, Panel, Row, Table

Format = Literal["markdown", "latex", "csv", "html"]
ENDINGS: dict[Format, str] = {"markdown": ".md", "latex": ".tex", "csv": ".csv", "html": ".html"}

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem;
  color: #1a1a1a; background: #fff; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.9rem; margin: 0.5rem 0; border-top: 2px solid;
  border-bottom: 2px solid; }
caption { text-align: left; font-weight: 600; padding: 0.4rem 0; }
th, td { padding: 0.2rem 0.6rem; text-align: left; white-space: nowrap; }
th[scope=row] { font-weight: normal; }
thead tr:last-child th { border-bottom: 1px solid; }
th[scope=colgroup] { text-align: center; border-bottom: 1px solid; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.none { color: #5f5f5f; font-style: italic; }
nav { columns: 2; }
.facts, .notes { font-size: 0.85rem; color: #444; }
figure { margin: 1rem 0; }
img { max-width: 100%; height: auto; background: #fff; }
@media (prefers-color-scheme: dark) {
  body { color: #e8e8e8; background: #161616; }
  .facts, .notes, .none { color: #b5b5b5; }
  a { color: #8ab8ff; }
}
"""


def render(table: Table, form: Format) -> str:
    """The table as a whole file of this format."""
    if form == "markdown":
        return markdown(table)
    if form == "latex":
        return latex(table)
    return as_csv(table) if form == "csv" else page(f"{table.title}: {table.caption}", html_table(table))


def markdown(table: Table) -> str:
    """GitHub's Markdown; underlining is HTML's `u`, for which Markdown has no mark."""
    lines = [f"**{for_markdown(table.title)}.** {for_markdown(table.caption)}", ""]
    for panel in table.panels:
        if panel.title:
            lines += [f"{for_markdown(panel.title)}:", ""]
        lines.append(_pipes([for_markdown(_full(panel, column)) for column in panel.columns]))
        lines.append(_pipes(["---:" if column.number else "---" for column in panel.columns]))
        lines += [_pipes([_marked(cell, for_markdown(_text(cell)), "**{}**", "<u>{}</u>") for cell in row.cells])
                  for row in panel.rows]  # fmt: skip
        lines.append("")
    lines += [f"- {for_markdown(note)}" for note in table.notes]
    lines += [f"- {for_markdown(name)}: {for_markdown(text)}." for name, text in table.provenance]
    return "\n".join(lines).rstrip("\n") + "\n"


def latex(table: Table) -> str:
    """A floating table for a document that loads booktabs and graphicx; what it was made from is in comments."""
    lines = [r"% \usepackage{booktabs,graphicx}"]
    lines += [f"% {for_latex(name)}: {for_latex(text)}" for name, text in table.provenance]
    lines += [r"\begin{table*}", r"\centering", rf"\caption{{{for_latex(table.caption)}}}"]
    lines.append(rf"\label{{tab:{table.stem}}}")
    if len(table.panels) > 4:
        lines.append(r"\footnotesize")  # so that they fit on one page
    for panel in table.panels:
        if panel.title:
            lines.append(rf"\par\smallskip {for_latex(panel.title)}\par\smallskip")
        lines += _tabular(panel)
    if table.notes:
        lines.append(r"\par\smallskip\parbox{\textwidth}{\footnotesize")
        lines += [for_latex(note) + r"\par" for note in table.notes]
        lines.append("}")
    return "\n".join([*lines, r"\end{table*}"]) + "\n"


def _tabular(panel: Panel) -> list[str]:
    """One part, made narrower where it is wider than the page."""
    kinds = "".join("r" if column.number else "l" for column in panel.columns)
    lines = [r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%"]
    lines += [rf"\begin{{tabular}}{{{kinds}}}", r"\toprule"]
    spans = _spans(panel.columns)
    if any(group for group, _ in spans):
        heads, rules, place = [], [], 1
        for group, count in spans:
            heads.append(rf"\multicolumn{{{count}}}{{c}}{{{for_latex(group)}}}" if group else " & " * (count - 1))
            if group:
                rules.append(rf"\cmidrule(lr){{{place}-{place + count - 1}}}")
            place += count
        lines += [" & ".join(heads) + r" \\", " ".join(rules)]
    lines += [" & ".join(for_latex(column.heading) for column in panel.columns) + r" \\", r"\midrule"]
    for row in panel.rows:
        cells = [
            _marked(cell, for_latex(_text(cell)), r"\textbf{{{}}}", r"\underline{{{}}}") for cell in row.cells
        ]
        lines.append(" & ".join(cells) + r" \\")
    return [*lines, r"\bottomrule", r"\end{tabular}}"]


def as_csv(table: Table) -> str:
    """One line a method and part: unrounded numbers, empty where there are none, and why in the column `note`."""
    parts = len(table.panels) > 1
    columns = list(dict.fromkeys(column for panel in table.panels for column in _data_columns(panel)))
    out: list[str] = []
    # Some versions of csv quote only what the end of a line is made of: both marks, until the line is kept.
    write = csv.writer(SimpleNamespace(write=out.append), lineterminator="\r\n").writerow
    write([*(["part"] if parts else []), *columns, "note", "records"])
    for panel in table.panels:
        for row in panel.rows:
            values = _data(panel, row)
            line = [for_csv(panel.title)] if parts else []
            write([*line, *(values.get(each, "") for each in columns), for_csv(row.note), for_csv(table.source)])
    return "".join(line.removesuffix("\r\n") + "\n" for line in out)


def _data_columns(panel: Panel) -> list[str]:
    return [key for column in panel.columns for key in _keys(column)]


def _keys(column: Column) -> tuple[str, ...]:
    return (column.key, f"{column.key}_sd") if column.spread else (column.key,)


def _data(panel: Panel, row: Row) -> dict[str, object]:
    found: dict[str, object] = {}
    for column, cell in zip(panel.columns, row.cells, strict=True):
        value = for_csv(cell.value) if isinstance(cell.value, str) else cell.value
        found[column.key] = "" if value is None else value
        if column.spread:
            found[f"{column.key}_sd"] = "" if cell.deviation is None else cell.deviation
    return found


def html_table(table: Table) -> str:
    """The table as a section of a page."""
    lines = [f'<section id="{for_html(table.stem)}">', f"<h2>{for_html(table.title)}</h2>"]
    lines.append(f"<p>{for_html(table.caption)}</p>")
    for panel in table.panels:
        lines.append('<div class="wide" tabindex="0"><table>')
        if panel.title:
            lines.append(f"<caption>{for_html(panel.title)}</caption>")
        lines.append("<thead>")
        spans = _spans(panel.columns)
        if any(group for group, _ in spans):
            heads = [
                f'<th scope="colgroup" colspan="{count}">{for_html(group)}</th>' if group
                else f'<td colspan="{count}"></td>' for group, count in spans
            ]  # fmt: skip
            lines.append(f"<tr>{''.join(heads)}</tr>")
        heads = [f'<th scope="col"{_class(column)}>{for_html(column.heading)}</th>' for column in panel.columns]
        lines += [f"<tr>{''.join(heads)}</tr>", "</thead>", "<tbody>"]
        for row in panel.rows:
            cells = [_html_cell(cell, column) for cell, column in zip(row.cells, panel.columns, strict=True)]
            lines.append(f"<tr>{''.join(cells)}</tr>")
        lines.append("</tbody></table></div>")
    lines.append(_html_list("notes", table.notes))
    facts = [f"{name}: {text}." for name, text in table.provenance]
    return "\n".join([*lines, _html_list("facts", facts), "</section>"]) + "\n"


def page(title: str, body: str) -> str:
    """A page by itself: no script, nothing loaded, one style sheet that its policy names by hash."""
    style = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{style}'; img-src data:; base-uri 'none'; form-action 'none'"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{for_html(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n"
    )


def _html_cell(cell: Cell, column: Column) -> str:
    text = _marked(cell, for_html(_text(cell)), "<strong>{}</strong>", "<u>{}</u>")
    if not column.number:
        return f'<th scope="row">{text}</th>'
    return f'<td class="number none">{text}</td>' if cell.value is None else f'<td class="number">{text}</td>'


def _html_list(kind: str, lines: Sequence[str]) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{for_html(line)}</li>" for line in lines)}</ul>' if lines else ""


def _class(column: Column) -> str:
    return ' class="number"' if column.number else ""


def _text(cell: Cell) -> str:
    return f"{cell.text} *" if cell.noted else cell.text


def _marked(cell: Cell, escaped: str, best: str, second: str) -> str:
    if cell.mark is None:
        return escaped
    return (best if cell.mark == "best" else second).format(escaped)


def _full(panel: Panel, column: Column) -> str:
    """A heading with that of its group, where headings alone would not tell the group's columns from others."""
    headings = [each.heading for each in panel.columns]
    of_group = [each.heading for each in panel.columns if each.group == column.group]
    alike = column.group and any(headings.count(each) > 1 for each in of_group)
    return f"{column.group}: {column.heading}" if alike else column.heading


def _spans(columns: Sequence[Column]) -> list[tuple[str, int]]:
    """Headings above columns, each with how many follow one another under it."""
    spans: list[tuple[str, int]] = []
    for column in columns:
        if spans and spans[-1][0] == column.group:
            spans[-1] = (column.group, spans[-1][1] + 1)
        else:
            spans.append((column.group, 1))
    return spans


def _pipes(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
