"""Hostile text in every format: it stays text, and what it says can be read back."""

import csv
import io
import re
from html.parser import HTMLParser

import pytest

from peftbench.report.escaping import for_csv, for_html, for_latex, for_markdown, one_line
from peftbench.report.rendering import as_csv, html_table, latex, markdown, page
from peftbench.report.tables import Cell, Column, Panel, Row, Table

PIECES = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "' onmouseover='x",
    "javascript:alert(1)", "[a](javascript:alert(1))", "![a](http://example.org/x.png)", "<!-- -->", "&lt;b&gt;", "&#60;",
    "</td></tr></table>", "</style><script>", "]]>", "{{7*7}}", "${7*7}", "$x^2$", "$$x$$", r"\(x\)", r"\[x\]",
    r"\input{/etc/passwd}", r"\write18{ls}", r"\end{document}", r"\csname x\endcsname", "%comment", "a & b", "#1", "a_b",
    "_a_", "__a__", "a^b", "~", "{", "}", "}}{{", "\\", "\\\\", "--", "---", "``x''", "<<x>>", "?`", "!`", "[", "]", "*", "**b**",
    "`code`", "```", "~~s~~", "| a | b |", "|---|", "# heading", "- item", "1. item", "> quote", "https://example.org",
    "www.example.org", "someone@example.org", "@someone", "=1+1", "+1", "-1", "@SUM(A1)", "=cmd|'/c calc'!A0", "\t=1", "\r=1",
    "＝1+1", "－1", '=HYPERLINK("http://x")', '"', '""', ",", ";", "a,b", 'a"b', "a\nb", "a\r\nb", "a\tb", "\x1b[31mred\x1b[0m",
    "\x07", "\x00", "\x7f", "\u202e reversed", "\u2066x\u2069", "\u200b", "\u200d", "\ufeff", "\u2028", "\u2029", "é", "ß",
    "Ł", "±", "×", "–", "…", "中文", "🙂", "عربي", "עברית", "a" * 500, " ", "", "  a  ", "NaN", "null", "true", "=", "+", "-",
    "^", "^^M", "_", "&", "<", ">", "$", "#", "%", "@", "!", "'", "`", "a|b", r"a\|b", "&amp;", "&", "&&", "<>", "<a>",
    "<a href=x>", "<%= 1 %>", "{% x %}", "{#x#}", "#{x}", "%s", "%n", "$(ls)", "`ls`", "; ls", "../../x", "file:///x",
    "data:text/html,x", "vbscript:x", "\\u0041", "\\x41", "\\begin{x}", "\\def\\x{}", "\\\\[1em]", "\\verb|x|", "\\hline",
    "x\\", "*a", "[a]", "[^1]", "[x]: y", ":smile:", "a  b", "\u00a0x", "\u0301", "ﬁ", "\U000e0041", "\ud800",
)  # fmt: skip


def table_of(text):
    columns = (
        Column("method", text or "heading", number=False),
        Column("score", "x", group=text),
        Column("b", "b"),
    )
    row = Row(
        (Cell(one_line(text), text), Cell("1.5", 1.5, mark="best"), Cell(one_line(text) or "-", None)), note=text
    )
    return Table("1", text, text, (Panel(text, columns, (row, row)),), (text,), ((text, text),), text)


def test_there_are_enough_of_them():
    assert len(set(PIECES)) >= 150


@pytest.mark.parametrize("text", PIECES, ids=ascii)
def test_latex_has_no_special_character_that_was_not_meant(text):
    escaped = for_latex(text)
    # What is left when every command and group that escaping makes has been taken away.
    rest = re.sub(r"\\text[a-z]+\{\}|\\char34\{\}|\\ldots\{\}|\\\(\\(pm|times)\\\)|\\[{}$&#_%]", "", escaped)
    rest = re.sub(r"\{[\[\]*]\}|-\{\}", "", rest)
    assert not re.search(r"[\\{}$&#_%^~<>|\"\[\]*`]|--", rest), escaped
    assert escaped.isprintable()
    assert all(character <= "~" or "\u00c0" <= character <= "\u017e" for character in escaped)
    whole = latex(table_of(text))
    assert whole.count(r"\begin{") == whole.count(r"\end{") == 2
    bare = re.sub(r"\\[{}]", "", whole)
    assert bare.count("{") == bare.count("}")
    body = whole.split(r"\midrule")[1].split(r"\bottomrule")[0]
    assert [len(re.findall(r"(?<!\\)&", line)) for line in body.strip().splitlines()] == [2, 2]


class Text(HTMLParser):
    def __init__(self):
        super().__init__()
        self.text, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def parsed(html):
    parser = Text()
    parser.feed(html)
    parser.close()
    return "".join(parser.text), parser.tags


@pytest.mark.parametrize("text", PIECES, ids=ascii)
def test_html_parses_to_the_same_text_and_no_other_elements(text):
    assert parsed(f"<p>{for_html(text)}</p>")[0] == one_line(text)
    assert parsed(f'<p title="{for_html(text)}">')[1] == [("p", {"title": one_line(text)})]
    whole = page(text, html_table(table_of(text)))
    said, tags = parsed(whole)
    allowed = {"html", "head", "meta", "title", "style", "body", "section", "h2", "p", "div", "table", "caption",
               "thead", "tr", "th", "td", "tbody", "strong", "ul", "li"}  # fmt: skip
    assert {tag for tag, _ in tags} <= allowed
    assert not any(
        name.startswith("on") or name in ("style", "href", "src") for _, attrs in tags for name in attrs
    )
    assert one_line(text) in said


@pytest.mark.parametrize("text", PIECES, ids=ascii)
def test_csv_can_be_read_back_and_holds_no_formula(text):
    rows = list(csv.reader(io.StringIO(as_csv(table_of(text)), newline="")))
    assert (
        rows[0] == ["method", "score", "b", "note", "records"] if not text else rows[0][-2:] == ["note", "records"]
    )
    plain = one_line(text)
    for row in rows[1:]:
        assert row[-2].removeprefix("'") == plain.removeprefix("'")
        assert row[-4] == "1.5"
        assert row[-3] == ""
        for cell in row:
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝", "＋", "－", "＠"))
    assert for_csv(text).removeprefix("'") == plain.removeprefix("'")


@pytest.mark.parametrize("text", PIECES, ids=ascii)
def test_markdown_stays_text(text):
    markdown_it = pytest.importorskip("markdown_it")
    parse = markdown_it.MarkdownIt("commonmark").enable(["table", "strikethrough"])
    assert parsed(parse.renderInline(for_markdown(text)))[0] == one_line(text)
    assert not parsed(parse.renderInline(for_markdown(text)))[1]
    tables = [token for token in parse.parse(markdown(table_of(text))) if token.type == "tr_open"]
    assert len(tables) == 3
    raw = [token.content for token in parse.parseInline(for_markdown(text))[0].children if token.type != "text"]
    assert not [each for each in raw if "<" in each]
