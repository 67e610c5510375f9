"""Trees and their sequences, AST and OAST of Python functions, and the rewrites that make clones."""

import ast
import inspect
import random
import sys
from collections.abc import Callable
from typing import Any

import pytest

from tests.repos.trainings import REPOS

sys.path.append(str(REPOS / "MRT-OAST"))

import transformations
from python_trees import optimised_tree, plain_tree, syntax_children
from trees import parse, postorder, preorder, render

SOURCE = """
def f(values, limit):
    total = 0
    seen = []
    names = {}
    for value in values:
        if value < limit and value != 3:
            total += value
            seen.append(value)
        elif value == limit:
            names[value] = -value
        else:
            continue
    count = 0
    while count < 5:
        count += 1
        if count > len(seen):
            break
    label = "many" if total >= 10 else "few"
    return [label, total, seen, names, count]
"""


def function(source: str = SOURCE) -> ast.FunctionDef:
    node = ast.parse(source).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


def compiled(node: ast.FunctionDef) -> Callable[..., Any]:
    module = ast.Module([node], [])
    names: dict[str, Any] = {}
    exec(compile(ast.fix_missing_locations(module), "rewritten", "exec"), names)
    made: Callable[..., Any] = names[node.name]
    return made


def test_sequences_of_a_tree_in_brackets() -> None:
    tree = parse("A [ B C [ D E ] ]")
    assert preorder(tree) == ["A", "B", "C", "D", "E"]
    assert postorder(tree) == ["B", "D", "E", "C", "A"]
    assert render(tree) == "A [ B C [ D E ] ]"


@pytest.mark.parametrize("text", ["", "A B", "A [ B", "A ]", "[ A ]", "A [ [ B ] ]"])
def test_what_is_no_tree_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"tree|bracket"):
        parse(text)


def test_children_are_those_of_the_standard_library_in_its_order() -> None:
    nodes = list(ast.walk(ast.parse(inspect.getsource(ast))))
    assert len(nodes) > 5000
    assert all(syntax_children(node) == list(ast.iter_child_nodes(node)) for node in nodes)


def test_the_optimised_tree_has_fewer_nodes_that_say_more() -> None:
    plain, optimised = preorder(plain_tree(function())), preorder(optimised_tree(function()))
    assert len(optimised) < 0.85 * len(plain)
    said = {"Compare:Lt", "AugAssign:Add", "BoolOp:And", "UnaryOp:USub", "Constant:int", "Constant:str", "Call:append"}
    assert said | {"Selection", "Loop", "Call:len"} <= set(optimised)
    assert not {"Expr", "Load", "Store", "arguments", "If", "For", "While", "Add"} & set(optimised)


def test_loops_and_selections_are_of_one_kind() -> None:
    first = optimised_tree(function("def f(a):\n    for b in a:\n        a"))
    assert render(first) == "Function [ arg Loop [ Name Name Name ] ]"
    call = optimised_tree(function("def f(a):\n    a.append(len(a))\n    a.other()"))
    assert render(call) == "Function [ arg Call:append [ Name Call:len [ Name ] ] Call [ Attribute [ Name ] ] ]"
    choice = optimised_tree(function("def f(a):\n    return 1 if a else 2"))
    assert render(choice) == "Function [ arg Return [ Selection [ Name Constant:int Constant:int ] ] ]"


def test_renaming_changes_no_tree() -> None:
    renamed = SOURCE.replace("total", "summe").replace("value", "wert").replace("seen", "liste")
    assert optimised_tree(function(renamed)) == optimised_tree(function())


def test_rewritten_functions_differ_and_do_the_same() -> None:
    expected = [compiled(function())(range(n), 4) for n in (0, 3, 9)]
    shapes = set()
    for seed in range(40):
        node = function()
        transformations.rewrite(node, random.Random(seed))
        shapes.add(render(optimised_tree(node)))
        made = compiled(node)
        assert [made(range(n), 4) for n in (0, 3, 9)] == expected, ast.unparse(node)
    assert len(shapes) > 30


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("def f(a, b):\n    return a < b", "b > a"),
        ("def f(a, b):\n    if a in b:\n        return 1\n    else:\n        return 2", "if a not in b:"),
        ("def f(a, b):\n    for c in a:\n        b(c)", "while (c := next("),
        ("def f(a, b):\n    while a():\n        b()", "for value_1 in iter(int, 1):"),
        ("def f(a, b):\n    a += b", "a = a + b"),
        ("def f(a, b):\n    return a(b)", "return value_1"),
        ("def f(a, b):\n    return 1 if not a else b", "= b if a else 1"),
    ],
)
def test_each_rewrite(source: str, part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformations, "APPLY", 1.0)
    monkeypatch.setattr(transformations, "DEAD_CODE", 0.0)
    node = function(source)
    transformations.rewrite(node, random.Random(1))
    assert part in ast.unparse(ast.fix_missing_locations(node))


def test_only_independent_assignments_change_places() -> None:
    source = "def f():\n    a = 1\n    b = 2\n    c = a\n    d = g()\n    e = 3\n    return e"
    orders = set()
    for seed in range(60):
        node = function(source)
        transformations.rewrite(node, random.Random(seed))
        written = [
            statement.targets[0].id
            for statement in node.body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        ]
        orders.add("".join(name for name in written if len(name) == 1))
    assert orders == {"abcde", "bacde"}
