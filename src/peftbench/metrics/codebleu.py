"""CodeBLEU for Python: words, words with keywords weighted, syntax and data flow, pooled over a corpus.

Ren et al. 2020, https://arxiv.org/abs/2009.10297, each part weighing 0.25. Rows are counted one by one and
combined from sums, so that any selection of them can be scored. Code is compared, never run.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from peftbench.errors import DataError
from peftbench.metrics.dataflow import Flow, data_flow, is_silent
from peftbench.metrics.labels import published_text, trim
from peftbench.metrics.scoring import Columns, Counts, RowSums, metric
from peftbench.schema import DatasetSpec, Protocol

if TYPE_CHECKING:
    from tree_sitter import Node, Parser

ORDERS = (1, 2, 3, 4)
KEYWORDS = frozenset(keyword.kwlist) | {"match", "case", "type"}
OTHER_WORD_WEIGHT = 0.2
SMOOTHING = 0.1
"""Stands in for the matches of an order that has none: method 1 of Chen and Cherry 2014, aclanthology W14-3346."""
PUBLISHED_REFERENCE_WORDS = 2

SUMMED = {
    "words": 1,
    "reference_words": 1,
    **dict.fromkeys(("ngram_match", "ngram_total", "weighted_match", "weighted_total"), len(ORDERS)),
    **dict.fromkeys(("syntax_match", "syntax_total", "flow_match", "flow_total", "rows"), 1),
}
"""Sums that CodeBLEU is computed from, and how many numbers each has."""

_FENCED = re.compile(r"^[ \t]*```[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)


# ----------------------------------------------------------------------------------------------- the metric


def _combine(columns: Columns, _spec: DatasetSpec, protocol: Protocol) -> dict[str, float]:
    values = _pooled(columns, as_published=protocol == "published")
    return {
        "primary": values.pop("codebleu"),
        **values,
        "exact_match": 100 * float(columns["exact"].mean()),
        "parses": 100 * float(columns["valid"].mean()),
    }


def _terms(columns: Columns, _spec: DatasetSpec, protocol: Protocol) -> NDArray[np.float64]:
    added = _row_sums(columns, as_published=protocol == "published")
    return np.concatenate([np.atleast_2d(added[name].T).T for name in SUMMED], axis=1).astype(float)


def _primary(totals: NDArray[np.float64], _spec: DatasetSpec, protocol: Protocol) -> NDArray[np.float64]:
    parts = np.split(totals, np.cumsum([*SUMMED.values()])[:-1], axis=1)
    sums = {name: part if part.shape[1] > 1 else part[:, 0] for name, part in zip(SUMMED, parts, strict=True)}
    return _of_sums(sums, as_published=protocol == "published")["codebleu"]


@metric("codebleu", _combine, sums=RowSums(_terms, _primary))
def python_codebleu(
    prediction: str, references: tuple[str, ...], _spec: DatasetSpec, protocol: Protocol
) -> Counts:
    """CodeBLEU of Python code; counts what the output shares with the gold answer of highest CodeBLEU.

    The output is the content of its first fenced block, if it has one, and valid if it parses as Python. Under
    `published` fences stay, both sides are in lower case, and only the first gold answer counts.
    """
    published = protocol == "published"
    read = published_text if published else fenced_code
    code, golds = read(prediction), [read(reference) for reference in references]
    given = _analyse(code, as_published=published)
    compared = golds[:1] if published else golds
    counts = [_compare(given, _analyse(gold, as_published=published)) for gold in compared]
    best = counts[0] if len(counts) == 1 else max(counts, key=lambda count: _sentence_score(count))
    return {"valid": given.parses, "exact": code in compared, **best}


def fenced_code(output: str) -> str:
    """The content of the first block between code fences (an open one ends with the text), else all of it."""
    text = trim(output)
    block = _FENCED.search(text)
    return block.group(1).strip() if block else text


def corpus_codebleu(
    predictions: Sequence[str], references: Sequence[str], *, as_published: bool = False
) -> dict[str, float]:
    """CodeBLEU and its four parts, on 0 to 100, of Python code against one gold answer each, text as it is.

    `as_published` gives the numbers of PyPI codebleu 0.7.0, where they do not depend on the hash seed: a data
    flow of 0 counts as 1; a sample too short for an order of n-grams adds 1 to its total; a string at the start
    of a statement is taken for a docstring; and the weighted part, a recall, is shortened as if every gold
    answer had two words. Otherwise `data_flow` is left out, and its weight goes to the other parts, where the
    gold answers have none. Raises `DataError` for nothing to score.
    """
    if not predictions or len(predictions) != len(references):
        raise DataError(
            f"{len(predictions)} predictions and {len(references)} references were given; "
            f"give as many, at least one"
        )
    pairs = [
        [_analyse(code, as_published=as_published) for code in pair]
        for pair in zip(predictions, references, strict=True)
    ]
    counts = [_compare(given, gold) for given, gold in pairs]
    columns = {name: np.array([count[name] for count in counts]) for name in counts[0]}
    return _pooled(columns, as_published=as_published)


# ------------------------------------------------------------------------------------- one program, one pair


@dataclass(frozen=True, slots=True)
class _Program:
    """What CodeBLEU looks at: words split at white space, their n-grams by order, subtrees by hash, flows."""

    words: int
    ngrams: tuple[Counter[tuple[str, ...]], ...]
    subtrees: list[bytes]
    flows: Counter[Flow]
    parses: bool


def _analyse(code: str, *, as_published: bool) -> _Program:
    code = code.strip()
    words = code.split()
    source = code.encode("utf-8", "replace")
    root = _parse(source)
    seen = _parse(_without_leading_strings(source, root)) if as_published else root
    return _Program(
        words=len(words),
        ngrams=tuple(Counter(zip(*(words[start:] for start in range(order)), strict=False)) for order in ORDERS),
        subtrees=_subtrees(seen),
        flows=Counter(data_flow(seen)),
        parses=bool(code) and not root.has_error,
    )


def _compare(given: _Program, gold: _Program) -> Counts:
    shared = [ours & theirs for ours, theirs in zip(given.ngrams, gold.ngrams, strict=True)]
    subtrees = set(given.subtrees) if given.words else set()
    return {
        "words": given.words,
        "reference_words": gold.words,
        "ngram_match": tuple(ngrams.total() for ngrams in shared),
        "ngram_total": tuple(ngrams.total() for ngrams in given.ngrams),
        "weighted_match": tuple(_weight(ngrams) for ngrams in shared),
        "weighted_total": tuple(_weight(ngrams) for ngrams in gold.ngrams),
        "syntax_match": sum(subtree in subtrees for subtree in gold.subtrees),
        "syntax_total": len(gold.subtrees),
        "flow_match": (given.flows & gold.flows).total(),
        "flow_total": gold.flows.total(),
    }


def _weight(ngrams: Counter[tuple[str, ...]]) -> float:
    """Number of n-grams; a single word that is no keyword counts a fifth (Ren et al. 2020, section 3.1)."""
    light = sum(count for ngram, count in ngrams.items() if len(ngram) == 1 and ngram[0] not in KEYWORDS)
    return ngrams.total() - (1 - OTHER_WORD_WEIGHT) * light


def _sentence_score(count: Counts) -> float:
    return _pooled({name: np.array([value]) for name, value in count.items()}, as_published=False)["codebleu"]


# ------------------------------------------------------------------------------------------------- syntax


@lru_cache(maxsize=1)
def _parser() -> Parser:
    import tree_sitter_python
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_python.language()))


def _parse(code: bytes) -> Node:
    return _parser().parse(code).root_node


def _subtrees(root: Node) -> list[bytes]:
    """A hash of each subtree but leaves, by types and roles; names, literals and operators do not count."""
    found: list[bytes] = []
    above: list[tuple[Node, str, list[bytes]]] = []
    cursor = root.walk()
    while True:
        node = cursor.node
        assert node is not None
        above.append((node, cursor.field_name or "", []))
        if not is_silent(node) and cursor.goto_first_child():
            continue
        while True:
            node, role, parts = above.pop()
            if not is_silent(node):
                label = f"{role} missing {node.type}" if node.is_missing else node.type
                subtree = blake2b(b"\0".join([label.encode(), *parts]), digest_size=16).digest()
                if node.child_count or not above:
                    found.append(subtree)
                if above and (node.is_named or node.is_missing):
                    above[-1][2].append(role.encode() + subtree)
            if cursor.goto_next_sibling():
                break
            if not cursor.goto_parent():
                return found


def _without_leading_strings(code: bytes, root: Node) -> bytes:
    kept, end = [], 0
    pending = [root]
    while pending:
        node = pending.pop()
        if node.type == "expression_statement":
            first = node
            while first.type != "string" and first.child_count:
                first = first.children[0]
            if first.type == "string":
                kept.append(code[end : first.start_byte])
                end = first.end_byte
        pending.extend(reversed(node.children))
    return b"".join([*kept, code[end:]])


# ------------------------------------------------------------------------------------------------ pooling


def _pooled(columns: Mapping[str, NDArray[Any]], *, as_published: bool) -> dict[str, float]:
    """CodeBLEU and its parts, on 0 to 100, from the sums of the rows' counts; no data flow where there is none."""
    added = _row_sums(columns, as_published=as_published)
    found = _of_sums({name: each.sum(axis=0)[None] for name, each in added.items()}, as_published=as_published)
    return {name: float(value[0]) for name, value in found.items() if not np.isnan(value[0])}


def _row_sums(columns: Mapping[str, NDArray[Any]], *, as_published: bool) -> dict[str, NDArray[Any]]:
    """What each row adds to the sums in `SUMMED`, (rows,) or (rows, 4)."""
    added = {name: columns[name] for name in SUMMED if name != "rows"}
    if as_published:
        added |= {name: np.maximum(columns[name], 1) for name in ("ngram_total", "weighted_total")}
    return {**added, "rows": np.ones(len(columns["words"]), dtype=np.int64)}


def _of_sums(sums: Mapping[str, NDArray[Any]], *, as_published: bool) -> dict[str, NDArray[np.float64]]:
    """CodeBLEU and its parts, (selections,) each, from sums, (selections,) or (selections, 4); NaN for no flow."""
    orders = (sums["ngram_total"] > 0) | (sums["weighted_total"] > 0)  # an order that neither side has is left out
    precision = _mean_share(sums["ngram_match"], sums["ngram_total"], orders)
    recall = _mean_share(sums["weighted_match"], sums["weighted_total"], orders)
    if as_published:
        recall = recall * _brevity(sums["words"], PUBLISHED_REFERENCE_WORDS * sums["rows"])
    flows = sums["flow_total"] > 0
    flow = np.where(flows, sums["flow_match"] / np.where(flows, sums["flow_total"], 1), 0)
    parts = {
        "ngram": precision * _brevity(sums["words"], sums["reference_words"]),
        "weighted_ngram": recall,
        "syntax": sums["syntax_match"] / sums["syntax_total"],
    }
    whole = sum(parts.values()) + flow
    if as_published:
        codebleu = (whole + (flow == 0)) / 4
    else:
        codebleu = whole / (len(parts) + flows)
        flow = np.where(flows, flow, np.nan)
    return {name: 100 * value for name, value in {"codebleu": codebleu, **parts, "data_flow": flow}.items()}


def _mean_share(match: NDArray[Any], total: NDArray[Any], orders: NDArray[Any]) -> NDArray[np.float64]:
    """Geometric mean of match / total over the orders, (selections, 4) each; 0 where not even one word matches."""
    shares = np.where(match > 0, match, SMOOTHING) / np.where(total > 0, total, 1)
    means = np.where(orders, np.log(shares), 0).sum(axis=1) / np.maximum(orders.sum(axis=1), 1)
    return np.where(match[:, 0] > 0, np.exp(means), 0.0)


def _brevity(words: NDArray[Any], reference_words: NDArray[Any]) -> NDArray[np.float64]:
    """BLEU's penalty for being short (Papineni et al. 2002); 1 where the output has at least as many words."""
    longer = np.minimum(0.0, 1 - reference_words / np.maximum(words, 1))
    return np.where(words > 0, np.exp(longer), 0.0)
