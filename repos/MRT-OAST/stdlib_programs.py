"""Finds functions in the source of Python's own standard library and writes clones of them; it trains nothing.

The library is read where Python is installed, and only as text: no module of it is imported. Which functions there
are depends on the Python version, so that is part of the data's name.
"""

import ast
import pickle
import platform
import random
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from python_trees import TREES, syntax_children
from transformations import rewrite
from trees import Node, preorder, render

FEWEST_NODES, MOST_NODES = 30, 600
SEED = 20_250_427


def library() -> Path:
    """The folder of the standard library."""
    return Path(sysconfig.get_path("stdlib"))


def library_name() -> str:
    """What the data are called."""
    return f"python-stdlib-{platform.python_version()}"


def find_functions(folder: Path, every_module: int = 1) -> list[ast.FunctionDef]:
    """The functions of FEWEST_NODES to MOST_NODES nodes in each `every_module`-th module, by name of the module."""
    functions: list[ast.FunctionDef] = []
    for path in sorted(folder.glob("*.py"))[::every_module]:
        functions += _functions_of(path)
    return functions


def clone_groups(
    functions: list[ast.FunctionDef], ast_type: str, variants: int, longest: int | None = None
) -> list[list[Node]]:
    """For each function its tree and those of up to `variants` rewritten ones, all different.

    Left out are functions that no rewrite changes, those whose tree another one has too, and those with a tree of
    more than `longest` nodes.
    """
    draw = random.Random(SEED)
    groups: dict[str, list[Node]] = {}
    for function in functions:
        tree = TREES[ast_type](function)
        name = render(tree)
        if name not in groups and (longest is None or len(preorder(tree)) <= longest):
            groups[name] = [tree, *_other_trees(function, tree, ast_type, variants, draw)]
    return [trees for trees in groups.values() if len(trees) > 1]


def _functions_of(path: Path) -> Iterator[ast.FunctionDef]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and FEWEST_NODES <= _size(node) <= MOST_NODES:
            node.body = _without_docstring(node.body)
            yield node


def _size(node: ast.AST) -> int:
    """Its nodes with itself; of more than MOST_NODES not all are counted."""
    count, open_nodes = 0, [node]
    while open_nodes and count <= MOST_NODES:
        count += 1
        open_nodes += syntax_children(open_nodes.pop())
    return count


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    described = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[1:] or body if described else body


def _other_trees(
    function: ast.FunctionDef, first: Node, ast_type: str, variants: int, draw: random.Random
) -> list[Node]:
    frozen = pickle.dumps(function)
    trees = [first]
    for _ in range(variants):
        copy = pickle.loads(frozen)
        rewrite(copy, draw)
        tree = TREES[ast_type](copy)
        if tree not in trees:
            trees.append(tree)
    return trees[1:]
