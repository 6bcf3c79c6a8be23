"""Text of models, datasets and names made harmless for each format: what is shown is what was meant, as text.

Control and direction characters are spelled out first, everywhere, so that no text hides or turns around another.
"""

import html
import re

from peftbench.console import shown
from peftbench.tabular import harmless

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "_": r"\_",
    "%": r"\%",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",
    "]": "{]}",
    "*": r"{*}",
    "±": r"\(\pm\)",
    "×": r"\(\times\)",
    "…": r"\ldots{}",
    "–": r"\textendash{}",
}
_MARKDOWN = re.compile(r"([\\`*_\[\]|~!#$@]|(?<=\w)[:.](?=\S))")


def one_line(text: str) -> str:
    """Text on one line, without control and direction characters."""
    return " ".join(shown(text).split())


def shortened(text: str, longest: int) -> str:
    """Text on one line, cut in the middle where it has more than so many characters."""
    line = one_line(text)
    half = longest // 2 - 1
    return line if len(line) <= longest else f"{line[:half]} … {line[-half:]}"


def for_markdown(text: str) -> str:
    """Text that stays text inside a line of Markdown, in a table too: no mark-up, HTML, link or mention."""
    return html.escape(_MARKDOWN.sub(_markdown, one_line(text)), quote=False)


def _markdown(found: re.Match[str]) -> str:
    mark, text, place = found[0], found.string, found.start()
    before, after = text[:place], text[place + 1 :]
    if mark == "_" and before[-1:].isalnum() and after[:1].isalnum():
        return mark  # inside a word it is only an underscore
    if mark in ":." and not re.search(r"(?i)(https?|ftp|mailto|xmpp|www)$", before):
        return mark
    return f"\\{mark}"


def for_latex(text: str) -> str:
    """Text that stays text in LaTeX; letters that pdflatex cannot set are named by their number."""
    escaped = "".join(_latex(character) for character in one_line(text))
    return re.sub("-(?=-)", "-{}", escaped)  # two hyphens would become a dash


def _latex(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    # Letters of Western and Central Europe, which the usual fonts have.
    if " " <= character <= "~" or ("\u00c0" <= character <= "\u017e" and character.isalpha()):
        return character
    return f"{{[}}U+{ord(character):04X}{{]}}"


def for_html(text: str) -> str:
    """Text that stays text in HTML, inside an element or a quoted attribute."""
    return html.escape(one_line(text), quote=True)


def for_csv(text: str) -> str:
    """Text that no spreadsheet takes for a formula."""
    return harmless(one_line(text))
