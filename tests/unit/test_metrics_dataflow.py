import pytest
import tree_sitter_python
from tree_sitter import Language, Parser

from peftbench.metrics import dataflow
from peftbench.metrics.dataflow import COMPUTED, READ, data_flow

PARSER = Parser(Language(tree_sitter_python.language()))


def flows(code: str):
    return data_flow(PARSER.parse(code.encode()).root_node)


def test_a_computed_value_comes_from_all_words_of_the_right_side():
    # 0 = a, 1 = 2, 2 = x; the words a and 2 give a value and take none
    assert flows("x = a + 2") == [(2, COMPUTED, (0, 1)), (0, READ, ()), (1, READ, ())]


def test_a_word_that_is_read_comes_from_where_it_was_set():
    assert flows("x = 1\nprint(x)") == [(1, COMPUTED, (0,)), (0, READ, ()), (1, READ, (1,))]


def test_words_that_give_and_take_nothing_are_left_out():
    assert flows("print(x)") == []
    assert flows("print(1)\nx = 2") == [(1, COMPUTED, (0,)), (0, READ, ())]


def test_sides_with_as_many_parts_are_compared_part_by_part():
    assert flows("a, b = 1, 2") == [(1, COMPUTED, (0,)), (3, COMPUTED, (2,)), (0, READ, ()), (2, READ, ())]
    assert flows("a, b = c") == [(1, COMPUTED, (0,)), (2, COMPUTED, (0,)), (0, READ, ())]


def test_an_annotation_alone_sets_nothing():
    assert flows("x: int") == []


def test_a_default_gives_its_parameter_a_value():
    assert flows("def f(n=1): pass") == [(1, READ, (0,)), (0, READ, ())]


def test_the_second_round_of_a_loop_sees_the_first():
    once = flows("s = 0\ns = s + t\nt = s")
    twice = flows("s = 0\nwhile 1:\n    s = s + t\n    t = s")
    t_is_read = (2, READ, ())
    assert t_is_read in once
    assert t_is_read not in twice
    assert (2, READ, (2,)) in twice


def test_a_loop_inside_a_loop_runs_again_for_each_round():
    # the empty list is given on only by the inner loop's second round: the outer round begins with another x
    code = "for a in b:\n    x = 1\n    for c in d:\n        f(x)\n        x = []"
    assert [flow for flow in flows(code) if flow[1:] == (COMPUTED, ())]


def test_a_source_is_named_once_in_a_loop_and_as_often_as_it_is_read_outside():
    assert flows("a = b + b")[0] == (1, COMPUTED, (0, 0))
    assert flows("while 1:\n    a = b + b")[0] == (1, COMPUTED, (0,))


def test_the_else_of_a_loop_is_followed():
    assert flows("for a in b:\n    pass\nelse:\n    c = a")[-2:] == [(2, COMPUTED, (1,)), (1, READ, (1,))]


def test_after_a_choice_a_value_may_come_from_either_branch():
    # both empty lists are given on to the last line
    code = "if c:\n    x = []\nelse:\n    x = ()\nf(x)"
    assert [flow[1:] for flow in flows(code)] == [(COMPUTED, ()), (COMPUTED, ()), (READ, (0,))]


def test_a_choice_with_an_else_hides_what_was_before_and_one_without_does_not():
    with_else = "x = []\nif c:\n    x = 1\nelse:\n    x = 2\nf(x)"
    without = "x = []\nif c:\n    x = 1\nelif d:\n    x = 2\nf(x)"
    assert (COMPUTED, ()) not in [flow[1:] for flow in flows(with_else)]
    assert (COMPUTED, ()) in [flow[1:] for flow in flows(without)]


def test_a_branch_does_not_see_what_the_branch_before_it_set():
    # y is new in the else branch, so nothing is handed on to it
    code = "if c:\n    y = 1\nelse:\n    f(y)"
    assert [flow[1:] for flow in flows(code)] == [(COMPUTED, (0,)), (READ, ())]


def test_a_choice_inside_a_choice_hands_its_values_outwards():
    code = "if a:\n    if b:\n        x = []\nf(x)"
    assert [flow[1:] for flow in flows(code)] == [(COMPUTED, ()), (READ, (0,))]


def test_what_a_choice_inside_a_branch_sets_is_not_seen_by_the_next_branch():
    code = "if a:\n    if b:\n        y = 1\nelse:\n    f(y)"
    assert [flow[1:] for flow in flows(code)] == [(COMPUTED, (0,)), (READ, ())]


def test_a_comprehension_sets_its_variable_first():
    assert flows("[f(n) for n in m]") == [(0, READ, (0,)), (0, COMPUTED, (1,)), (1, READ, ())]


@pytest.mark.parametrize("code", ["# only this", '"""only this"""', "", "\\\n"])
def test_what_does_nothing_has_no_flow(code: str):
    assert flows(code) == []


def test_a_program_beyond_the_limit_of_work_has_no_flows(monkeypatch):
    code = "x = 1\n" * 50
    assert len(flows(code)) == 100
    monkeypatch.setattr(dataflow, "WORK_LIMIT", 100)
    assert flows(code) == []


def test_renaming_does_not_change_the_flows():
    code = "def f(n):\n    r = 1\n    for i in range(n):\n        r = r * i\n    return r"
    renamed = "def g(z):\n    a = 1\n    for b in range(z):\n        a = a * b\n    return a"
    assert flows(code) == flows(renamed)
