"""Rewrites a Python function into one that does the same in another way; it works on syntax trees in place.

Each rewrite is applied at each place where it fits with probability APPLY. Names are not changed: the trees that the
model reads have none. The results are read and never run.
"""

import ast
import random

APPLY = 0.6
DEAD_CODE = 0.15

_FLIPPED = {ast.Lt: ast.Gt, ast.Gt: ast.Lt, ast.LtE: ast.GtE, ast.GtE: ast.LtE, ast.Eq: ast.Eq, ast.NotEq: ast.NotEq}
_NEGATED = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}


def rewrite(function: ast.AST, draw: random.Random) -> None:
    """Apply all rewrites to `function`, in place."""
    _Rewriter(draw).visit(function)


def negated(test: ast.expr) -> ast.expr:
    """The opposite of a condition, as short as it can be said without changing what NaN does."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return test.operand
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and type(test.ops[0]) in _NEGATED:
        return ast.Compare(test.left, [_NEGATED[type(test.ops[0])]()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


class _Rewriter(ast.NodeTransformer):
    """Visits children first, so that what a rewrite makes is not rewritten again."""

    def __init__(self, draw: random.Random) -> None:
        self._draw = draw
        self._made = 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            statements = getattr(node, name, None)
            if isinstance(statements, list) and statements:
                setattr(node, name, self._block(statements))
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """`a < b` becomes `b > a`."""
        self.generic_visit(node)
        if len(node.ops) == 1 and type(node.ops[0]) in _FLIPPED and self._chosen():
            return ast.Compare(node.comparators[0], [_FLIPPED[type(node.ops[0])]()], [node.left])
        return node

    def visit_If(self, node: ast.If) -> ast.AST:
        """Both branches change places, the condition turns into its opposite."""
        self.generic_visit(node)
        if node.orelse and self._chosen():
            return ast.If(negated(node.test), node.orelse, node.body)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """As visit_If."""
        self.generic_visit(node)
        return ast.IfExp(negated(node.test), node.orelse, node.body) if self._chosen() else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        """`x += y` becomes `x = x + y`."""
        self.generic_visit(node)
        if isinstance(node.target, ast.Name) and self._chosen():
            return ast.Assign([node.target], ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value))
        return node

    def visit_Return(self, node: ast.Return) -> ast.AST | list[ast.stmt]:
        """`return x()` becomes `v = x()` and `return v`."""
        self.generic_visit(node)
        if node.value is None or isinstance(node.value, ast.Name | ast.Constant) or not self._chosen():
            return node
        name = self._name()
        return [ast.Assign([ast.Name(name, ast.Store())], node.value), ast.Return(ast.Name(name, ast.Load()))]

    def visit_For(self, node: ast.For) -> ast.AST | list[ast.stmt]:
        """A for loop becomes a while loop that asks the iterator until it has no more."""
        self.generic_visit(node)
        if node.orelse or not isinstance(node.target, ast.Name) or not self._chosen():
            return node
        source, end = self._name(), self._name()
        step = ast.NamedExpr(node.target, _call("next", ast.Name(source, ast.Load()), ast.Name(end, ast.Load())))
        return [
            ast.Assign([ast.Name(source, ast.Store())], _call("iter", node.iter)),
            ast.Assign([ast.Name(end, ast.Store())], _call("object")),
            ast.While(ast.Compare(step, [ast.IsNot()], [ast.Name(end, ast.Load())]), node.body, []),
        ]

    def visit_While(self, node: ast.While) -> ast.AST:
        """A while loop becomes an endless for loop that breaks when the condition fails."""
        self.generic_visit(node)
        if node.orelse or not self._chosen():
            return node
        endless = _call("iter", ast.Name("int", ast.Load()), ast.Constant(1))
        leave = ast.If(negated(node.test), [ast.Break()], [])
        return ast.For(ast.Name(self._name(), ast.Store()), endless, [leave, *node.body], [])

    def _block(self, statements: list[ast.stmt]) -> list[ast.stmt]:
        if not isinstance(statements[0], ast.stmt):
            return statements
        result: list[ast.stmt] = []
        for run in _independent_runs(statements):
            if len(run) > 1 and self._chosen():
                self._draw.shuffle(run)
            result += run
        if self._draw.random() < DEAD_CODE:
            result.insert(self._draw.randrange(len(result)), self._dead_code())
        return result

    def _dead_code(self) -> ast.stmt:
        unused = ast.Assign([ast.Name(self._name(), ast.Store())], ast.Constant(self._draw.randrange(10)))
        if self._draw.random() < 0.5:
            return unused
        return ast.If(ast.Constant(False), [unused], [])

    def _name(self) -> str:
        self._made += 1
        return f"value_{self._made}"

    def _chosen(self) -> bool:
        return self._draw.random() < APPLY


def _call(name: str, *arguments: ast.expr) -> ast.Call:
    return ast.Call(ast.Name(name, ast.Load()), list(arguments), [])


def _independent_runs(statements: list[ast.stmt]) -> list[list[ast.stmt]]:
    """Neighbouring simple assignments of which none reads or writes what another writes, as one list each."""
    runs: list[list[ast.stmt]] = []
    written: set[str] = set()
    read: set[str] = set()
    for statement in statements:
        names = _simple_assignment(statement)
        if names is not None and runs and written and not ({names[0]} & (written | read) or names[1] & written):
            runs[-1].append(statement)
        else:
            runs.append([statement])
            written, read = set(), set()
        if names is None:
            written, read = set(), set()
        else:
            written, read = written | {names[0]}, read | names[1]
    return runs


def _simple_assignment(statement: ast.stmt) -> tuple[str, set[str]] | None:
    """(name written, names read) of `name = value` without calls and other side effects, else None."""
    if not isinstance(statement, ast.Assign) or len(statement.targets) != 1:
        return None
    target = statement.targets[0]
    if not isinstance(target, ast.Name):
        return None
    effects = (ast.Call, ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr)
    nodes = list(ast.walk(statement.value))
    if any(isinstance(node, effects) for node in nodes):
        return None
    return target.id, {node.id for node in nodes if isinstance(node, ast.Name)}
