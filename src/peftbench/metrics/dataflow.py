"""The data-flow graph of a Python program: where the value of each word comes from.

The graph is the one that CodeBLEU compares (Ren et al. 2020, section 3.3, after Guo et al. 2021, GraphCodeBERT).
It is read off a tree-sitter tree; nothing is parsed here. It follows words, not scopes: attribute names and
literals are words too, all functions share one set of names, and each branch counts whether it is taken or not.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

WORK_LIMIT = 2_000_000
READ, COMPUTED = "read", "computed"

Flow = tuple[int, str, tuple[int, ...]]
"""A variable's number, how it gets its value, and the numbers of the variables that the value comes from."""


class _Mark(Enum):
    """Where the path through a program divides, meets again and turns back."""

    CHOICE = auto()
    OTHERWISE = auto()
    """The next branch begins, with the values from before the choice."""
    JOIN = auto()
    """All branches end, one of which is always taken."""
    JOIN_OR_SKIP = auto()
    """All branches end; maybe none was taken."""
    LOOP = auto()
    AGAIN = auto()
    """A loop ends; it runs twice, so that values of one round reach the next."""


@dataclass(frozen=True, slots=True)
class _Write:
    """Every word of `targets` gets a value that is made from all words of `sources` (positions)."""

    kind: str
    targets: range
    sources: range


_Step = int | _Write | _Mark
"""One step of the program in the order in which it runs; a number is the position of a word that is read."""


def is_silent(node: Node) -> bool:
    """Whether a node does nothing: a comment, a joined line, or a string that stands alone (a docstring)."""
    if node.type == "expression_statement":
        return [child.type for child in node.children] == ["string"]
    return node.type in ("comment", "line_continuation")


def data_flow(root: Node) -> list[Flow]:
    """Return the flows of a program in the order of its text, variables numbered as they appear.

    A word that takes no value from another word and gives none to any is left out. A program that needs more
    than `WORK_LIMIT` elementary steps (a dozen nested loops around much code, one value handed down a chain of
    thousands of names) has no flows: the limit bounds the time and lies far above an answer of 1,024 tokens.
    """
    words = list(_words(root))
    names = [node.text.decode("utf-8", "replace") if node.text else "" for node in words]
    graph = _Graph(names, [node.type == "identifier" for node in words])
    graph.run(list(_steps(root, [node.start_byte for node in words])))
    return graph.flows()


# ------------------------------------------------------------------------------------------- tree to steps


def _is_leaf(node: Node) -> bool:
    return node.child_count == 0 or node.type == "string"


def _is_word(node: Node) -> bool:
    return node.is_named and node.start_byte < node.end_byte


def _words(root: Node) -> Iterator[Node]:
    pending = [root]
    while pending:
        node = pending.pop()
        if is_silent(node):
            continue
        if not _is_leaf(node):
            pending.extend(reversed(node.children))
        elif _is_word(node):
            yield node


def _steps(root: Node, starts: Sequence[int]) -> Iterator[_Step]:
    pending: list[Node | _Step] = [root]
    while pending:
        item = pending.pop()
        if isinstance(item, int | _Write | _Mark):
            yield item
        elif not is_silent(item):
            pending.extend(reversed(_parts(item, starts)))


def _parts(node: Node, starts: Sequence[int]) -> Sequence[Node | _Step]:
    """What a node does, one level deep: its own steps, and its children where their steps belong."""
    if _is_leaf(node):
        return [bisect_left(starts, node.start_byte)] if _is_word(node) else []
    left, right = node.child_by_field_name("left"), node.child_by_field_name("right")
    match node.type:
        case "assignment" | "augmented_assignment":
            return [right, *_writes(left, right, starts)] if left and right else []
        case "for_in_clause" if left:
            right = node.children[-1]
            return [right, _write(COMPUTED, left, right, starts)]
        case "for_statement" if left and right:
            body = [child for child in node.children if child.start_byte >= right.end_byte]
            return [_Mark.LOOP, right, *_writes(left, right, starts), *body, _Mark.AGAIN]
        case "while_statement":
            return [_Mark.LOOP, *node.children, _Mark.AGAIN]
        case "if_statement":
            parts: list[Node | _Step] = [_Mark.CHOICE]
            for child in node.children:
                parts += [_Mark.OTHERWISE, child] if child.type in ("elif_clause", "else_clause") else [child]
            has_else = node.children[-1].type == "else_clause"
            return [*parts, _Mark.JOIN if has_else else _Mark.JOIN_OR_SKIP]
        case "default_parameter":
            name, value = node.child_by_field_name("name"), node.child_by_field_name("value")
            return [value, _write(READ, name, value, starts)] if name and value else node.children
    # The variables of a comprehension get their values before its element is computed.
    return sorted(node.children, key=lambda child: child.type != "for_in_clause")


def _write(kind: str, left: Node, right: Node, starts: Sequence[int]) -> _Write:
    def span(node: Node) -> range:
        return range(bisect_left(starts, node.start_byte), bisect_left(starts, node.end_byte))

    return _Write(kind, span(left), span(right))


def _writes(left: Node, right: Node, starts: Sequence[int]) -> list[_Write]:
    """Part from part where both sides have as many parts (`a, b = b, a`), else the whole from the whole."""
    lefts, rights = ([part for part in side.children if part.type != ","] for side in (left, right))
    if not lefts or len(lefts) != len(rights):
        return [_write(COMPUTED, left, right, starts)]
    return [_write(COMPUTED, *pair, starts) for pair in zip(lefts, rights, strict=True)]


# ------------------------------------------------------------------------------------------ steps to flows


@dataclass(slots=True)
class _Choice:
    """A choice that is open: the values to go back to, and what each branch so far has set."""

    before: dict[str, frozenset[int] | None] = field(default_factory=dict)
    outcomes: list[dict[str, frozenset[int]]] = field(default_factory=list)


class _Graph:
    """Runs the steps of a program and keeps where each word got its value.

    `values` has for each name the positions of the words that may have set it, `taken` for each position how and
    from which names it got its value, `given` the positions that a value was taken from.
    """

    def __init__(self, names: Sequence[str], identifiers: Sequence[bool]) -> None:
        self.names, self.identifiers = names, identifiers
        self.values: dict[str, frozenset[int]] = {}
        self.choices: list[_Choice] = []
        self.taken: dict[int, tuple[str, tuple[str, ...]]] = {}
        self.given: set[int] = set()
        self.work = 0

    def run(self, steps: Sequence[_Step]) -> None:
        at = 0
        loops: list[tuple[int, bool]] = []
        while at < len(steps):
            step = steps[at]
            at += 1
            self.work += 1
            if self.work > WORK_LIMIT:
                self.taken.clear()
                return
            match step:
                case int():
                    self._read(step)
                case _Write():
                    self._write(step)
                case _Mark.CHOICE:
                    self.choices.append(_Choice())
                case _Mark.OTHERWISE:
                    self._end_branch()
                case _Mark.JOIN | _Mark.JOIN_OR_SKIP:
                    self._join(may_skip=step is _Mark.JOIN_OR_SKIP)
                case _Mark.LOOP:
                    loops.append((at, True))
                case _Mark.AGAIN:
                    start, first_round = loops.pop()
                    if first_round:
                        loops.append((start, False))
                        at = start

    def flows(self) -> list[Flow]:
        numbers: dict[str, int] = {}
        flows = []
        for position, (kind, sources) in sorted(self.taken.items()):
            if sources or position in self.given:
                origins = tuple([numbers.setdefault(name, len(numbers)) for name in sources])
                flows.append((numbers.setdefault(self.names[position], len(numbers)), kind, origins))
        return flows

    def _read(self, position: int) -> None:
        name = self.names[position]
        if name in self.values:
            self._take(position, READ, (name,), self.values[name])
        else:
            self._take(position, READ, (), ())
            if self.identifiers[position]:
                self._set(name, frozenset((position,)))

    def _write(self, step: _Write) -> None:
        names = tuple(self.names[step.sources.start : step.sources.stop])
        for target in step.targets:
            self._take(target, step.kind, names, step.sources)
            self._set(self.names[target], frozenset((target,)))

    def _take(self, position: int, kind: str, names: tuple[str, ...], givers: Collection[int]) -> None:
        if position in self.taken:  # a second round of a loop adds to the first
            names = tuple(dict.fromkeys(self.taken[position][1] + names))
        self.taken[position] = (kind, names)
        self.given.update(givers)
        self.work += len(names) + len(givers)

    def _set(self, name: str, positions: frozenset[int]) -> None:
        if self.choices:
            self.choices[-1].before.setdefault(name, self.values.get(name))
        self.values[name] = positions

    def _end_branch(self) -> None:
        choice = self.choices[-1]
        choice.outcomes.append({name: self.values[name] for name in choice.before})
        for name, positions in choice.before.items():
            if positions is None:
                del self.values[name]
            else:
                self.values[name] = positions
        choice.before = {}

    def _join(self, *, may_skip: bool) -> None:
        self._end_branch()
        outcomes = self.choices.pop().outcomes + ([{}] if may_skip else [])
        for name in dict.fromkeys(name for outcome in outcomes for name in outcome):
            unchanged = self.values.get(name, frozenset())
            merged = frozenset[int]().union(*(outcome.get(name, unchanged) for outcome in outcomes))
            self._set(name, merged)
            self.work += len(merged) + len(outcomes)
