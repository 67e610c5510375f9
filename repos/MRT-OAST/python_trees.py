"""From Python functions to labelled trees: the plain syntax tree (AST) and the optimised one (OAST).

The OAST says more with fewer nodes: nodes that only wrap another one vanish; operators, types of constants and names
of well-known functions move into the label; all selections are one kind of node, and so are all loops. Neither tree
carries the names of variables, so renaming them changes nothing.
"""

import ast
import builtins
from collections.abc import Callable

from trees import Node

_CONTEXTS = (ast.Load, ast.Store, ast.Del)
_WRAPPERS = (ast.Expr, ast.keyword, ast.Starred, ast.FormattedValue, ast.withitem, ast.match_case, ast.MatchValue)
_KINDS = {
    "FunctionDef": "Function",
    "AsyncFunctionDef": "Function",
    "Lambda": "Function",
    "If": "Selection",
    "IfExp": "Selection",
    "Match": "Selection",
    "For": "Loop",
    "AsyncFor": "Loop",
    "While": "Loop",
    "ListComp": "Comprehension",
    "SetComp": "Comprehension",
    "DictComp": "Comprehension",
    "GeneratorExp": "Comprehension",
    "AnnAssign": "Assign",
    "NamedExpr": "Assign",
    "AsyncWith": "With",
    "YieldFrom": "Yield",
    "TryStar": "Try",
}
_OPERATORS = (ast.operator, ast.unaryop, ast.boolop, ast.cmpop)
_LEFT_OUT = (*_CONTEXTS, *_OPERATORS)
_KNOWN_CALLS = frozenset(
    name
    for owner in (builtins, str, bytes, list, dict, set)
    for name in dir(owner)
    if not name.startswith("_") and name.islower()
)


def syntax_children(node: ast.AST) -> list[ast.AST]:
    """What `ast.iter_child_nodes` gives, in half the time."""
    children: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, ast.AST):
            children.append(value)
        elif isinstance(value, list):
            children += [item for item in value if isinstance(item, ast.AST)]
    return children


def plain_tree(node: ast.AST) -> Node:
    """The AST: the class of every syntax node, without contexts."""
    children = [plain_tree(child) for child in syntax_children(node) if not isinstance(child, _CONTEXTS)]
    return Node(type(node).__name__, children)


def optimised_tree(node: ast.AST) -> Node:
    """The OAST of a function."""
    below: list[Node] = []
    for child in _parts(node):
        if not isinstance(child, _LEFT_OUT):
            below += _flattened(child)
    return Node(_label(node), below)


TREES: dict[str, Callable[[ast.AST], Node]] = {"OAST": optimised_tree, "AST": plain_tree}


def _parts(node: ast.AST) -> list[ast.AST]:
    """What is below a node; the name of a known function is in its call's label and needs no node of its own."""
    parts = syntax_children(node)
    if _known_name(node) is not None:
        parts[:1] = [parts[0].value] if isinstance(parts[0], ast.Attribute) else []
    return parts


def _known_name(node: ast.AST) -> str | None:
    if not isinstance(node, ast.Call):
        return None
    match node.func:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name in _KNOWN_CALLS:
            return name
    return None


def _flattened(node: ast.AST) -> list[Node]:
    """The node, or what is below it when it only wraps something."""
    tree = optimised_tree(node)
    if isinstance(node, _WRAPPERS) and tree.children:
        return tree.children
    if isinstance(node, ast.arguments):
        return tree.children
    return [tree]


def _label(node: ast.AST) -> str:
    kind = type(node).__name__
    kind = _KINDS.get(kind, kind)
    match node:
        case ast.BinOp(op=operator) | ast.UnaryOp(op=operator) | ast.BoolOp(op=operator) | ast.AugAssign(op=operator):
            return f"{kind}:{type(operator).__name__}"
        case ast.Compare(ops=operators):
            return f"{kind}:{type(operators[0]).__name__}"
        case ast.Constant(value=value):
            return f"{kind}:{type(value).__name__}"
    known = _known_name(node)
    return kind if known is None else f"{kind}:{known}"
