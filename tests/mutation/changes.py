"""The changes that a mutant is made of: one comparison, sum, condition, extreme or truth is another."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

COMPARISONS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
               ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In}  # fmt: skip
SUMS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult}
EXTREMES = {"min": "max", "max": "min", "any": "all", "all": "any"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One module of ``policies`` in which one thing is another."""

    path: str
    """Of the module, from the root of the repository."""
    line: int
    said: str
    """What was changed, before and after."""
    text: str
    """The whole module, changed."""
    function: int
    """Line at which the function that holds the change begins, its decorators included; 0 outside any."""


def mutants(path: str, source: str) -> Iterator[Mutant]:
    """Yield every mutant of the module, in the order of its syntax tree."""
    count = sum(1 for node in ast.walk(ast.parse(source)) if _change(node) is not None)
    for number in range(count):
        tree = ast.parse(source)
        node = [one for one in ast.walk(tree) if _change(one) is not None][number]
        change, before = _change(node), ast.unparse(node)
        assert change is not None
        change()
        said = f"{before}  ->  {ast.unparse(node)}"
        yield Mutant(path, node.lineno, said, ast.unparse(tree), _function(tree, node.lineno))  # type: ignore[attr-defined]  # every node that has a change has a line


def _function(tree: ast.Module, line: int) -> int:
    """Return where the innermost function around the line begins."""
    begins = [
        min([one.lineno, *(decorator.lineno for decorator in one.decorator_list)])
        for one in ast.walk(tree)
        if isinstance(one, ast.FunctionDef) and one.lineno <= line <= (one.end_lineno or one.lineno)
    ]
    return max(begins, default=0)


def _change(node: ast.AST) -> Callable[[], None] | None:
    """Return what changes the node, None for one that is left alone."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        return lambda: node.ops.__setitem__(0, COMPARISONS[type(node.ops[0])]())
    if isinstance(node, ast.BinOp) and type(node.op) in SUMS and not isinstance(node.right, ast.Constant):
        return lambda: setattr(node, "op", SUMS[type(node.op)]())
    if isinstance(node, ast.BoolOp):
        return lambda: setattr(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in EXTREMES:
        name = node.func
        return lambda: setattr(name, "id", EXTREMES[name.id])
    if isinstance(node, ast.Return) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, bool):
        value = node.value
        return lambda: setattr(value, "value", not value.value)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return lambda: setattr(node, "op", ast.Not()) or setattr(node, "operand", ast.UnaryOp(ast.Not(), node.operand))
    return None
