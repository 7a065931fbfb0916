"""The changes that a mutant is made of: in one place of a function one thing is another, missing, or its contrary.

Left alone is what cannot make a difference: annotations, decorators, assertions (they never fail in the right program),
``zip(strict=...)``, texts, and whatever stands outside functions: limits, whose values are choices, and tables.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass

COMPARISONS = {ast.Lt: (ast.LtE, ast.GtE), ast.LtE: (ast.Lt, ast.Gt), ast.Gt: (ast.GtE, ast.LtE),
               ast.GtE: (ast.Gt, ast.Lt), ast.Eq: (ast.NotEq,), ast.NotEq: (ast.Eq,), ast.Is: (ast.IsNot,),
               ast.IsNot: (ast.Is,), ast.In: (ast.NotIn,), ast.NotIn: (ast.In,)}  # fmt: skip
SUMS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult, ast.Mod: ast.FloorDiv}
EXTREMES = {"min": "max", "max": "min", "any": "all", "all": "any"}
UNTOUCHED = ("annotation", "returns", "decorator_list", "defaults", "kw_defaults", "type_params")
"""Parts of a function that are no step of it."""
ALIKE = (ast.Attribute, ast.Subscript, ast.Call, ast.BinOp)
"""Arguments that are likely of one type when both are one of these; the type checker refuses most other swaps."""
STEPS = (ast.If, ast.For, ast.While, ast.With, ast.Try, ast.FunctionDef, ast.ExceptHandler, ast.Match, ast.match_case)
"""What holds other statements."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One function of ``policies`` in which one thing is another."""

    path: str
    """Of the module, from the root of the repository."""
    number: int
    """Among the changes of its module."""
    lines: tuple[int, int]
    """First and last line of the statement that is changed, without what it holds."""


def mutants(path: str, source: str) -> list[Mutant]:
    """Return every mutant of the module, in the order of its syntax tree."""
    return [Mutant(path, number, lines) for number, (lines, *_) in enumerate(_changes(ast.parse(source)))]


def changed(mutant: Mutant, source: str) -> tuple[ast.Module, str]:
    """Return the changed module, with the lines of the original, and what was changed, before and after."""
    tree = ast.parse(source)
    _, before, after, put = next(one for number, one in enumerate(_changes(tree)) if number == mutant.number)
    said = f"{_brief(before)}  ->  {_brief(after)}"
    put(ast.fix_missing_locations(ast.copy_location(after, before)))
    return tree, said


def _brief(node: ast.AST) -> str:
    return " ".join((f"if {ast.unparse(node.test)}" if isinstance(node, ast.If) else ast.unparse(node)).split())[:150]


Change = tuple[tuple[int, int], ast.AST, ast.AST, Callable[[ast.AST], None]]


def _changes(tree: ast.Module) -> Iterator[Change]:
    """Yield each change: its lines, what is there, what is there instead, and how to put it there."""
    functions = [one for one in tree.body if isinstance(one, ast.FunctionDef)]
    classes = [one for one in tree.body if isinstance(one, ast.ClassDef)]
    functions += [one for kind in classes for one in kind.body if isinstance(one, ast.FunctionDef)]
    for function in functions:
        yield from _below(function, (function.lineno, function.lineno))
        if function.returns is not None and "None" in ast.unparse(function.returns):
            yield from _returning_nothing(function)


def _returning_nothing(function: ast.FunctionDef) -> Iterator[Change]:
    """Yield the changes that the type checker would let pass: nothing is returned where nothing may be."""
    for one in ast.walk(function):
        if isinstance(one, ast.Return) and one.value is not None and not isinstance(one.value, ast.Constant):
            yield _lines(one), one.value, ast.Constant(None), _place(one, "value", None)


def _below(parent: ast.AST, lines: tuple[int, int]) -> Iterator[Change]:
    for name, value in ast.iter_fields(parent):
        if name in UNTOUCHED:
            continue
        for index, child in enumerate(value if isinstance(value, list) else [value]):
            if not isinstance(child, ast.AST) or isinstance(child, ast.Assert) or _is_strict(child):
                continue
            here = _lines(child) if isinstance(child, ast.stmt) else lines
            put = _place(parent, name, index if isinstance(value, list) else None)
            for other in alternatives(child):
                yield here, child, other, put
            yield from _below(child, here)


def _place(parent: ast.AST, name: str, index: int | None) -> Callable[[ast.AST], None]:
    if index is None:
        return lambda other: setattr(parent, name, other)
    return lambda other: getattr(parent, name).__setitem__(index, other)


def _is_strict(node: ast.AST) -> bool:
    return isinstance(node, ast.keyword) and node.arg == "strict"


def _lines(statement: ast.stmt) -> tuple[int, int]:
    if isinstance(statement, STEPS):
        first = statement.body[0] if hasattr(statement, "body") else statement.cases[0].pattern
        return statement.lineno, max(statement.lineno, first.lineno - 1)
    return statement.lineno, statement.end_lineno or statement.lineno


def alternatives(node: ast.AST) -> Iterator[ast.AST]:
    """Yield what could stand there instead of the node; nothing for one that is left alone."""
    match node:
        case ast.Compare():
            for index, one in enumerate(node.ops):
                for other in COMPARISONS[type(one)]:
                    yield _with(node, ops=[*node.ops[:index], other(), *node.ops[index + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in SUMS and not _is_text(node):
            yield _with(node, op=SUMS[type(op)]())
        case ast.BoolOp(op=op, values=values):
            yield _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
            for index in range(len(values)):
                left = [*values[:index], *values[index + 1 :]]
                yield _with(node, values=left) if len(left) > 1 else deepcopy(left[0])
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield deepcopy(node.operand)
        case ast.IfExp(body=body, orelse=orelse):
            yield _with(node, body=orelse, orelse=body)
        case ast.Constant(value=int(value)):
            yield from map(ast.Constant, [not value] if isinstance(value, bool) else [value + 1, value - 1])
    yield from _of_a_call(node)
    yield from _of_a_step(node)


def _of_a_call(node: ast.AST) -> Iterator[ast.AST]:
    if not isinstance(node, ast.Call):
        return
    if isinstance(node.func, ast.Name) and node.func.id in EXTREMES:
        yield _with(node, func=ast.Name(EXTREMES[node.func.id], ast.Load()))
        return
    if len(node.args) > 1 and type(node.args[0]) is type(node.args[1]) and isinstance(node.args[0], ALIKE):
        yield _with(node, args=[node.args[1], node.args[0], *node.args[2:]])


def _of_a_step(node: ast.AST) -> Iterator[ast.AST]:
    match node:
        case ast.If(test=test) if not isinstance(test, ast.Compare | ast.BoolOp | ast.UnaryOp):
            yield _with(node, test=ast.UnaryOp(ast.Not(), test))
        case ast.comprehension(ifs=ifs):
            for index in range(len(ifs)):
                yield _with(node, ifs=[*ifs[:index], *ifs[index + 1 :]])
        case ast.Expr(value=ast.Call()) | ast.AugAssign() | ast.Raise() | ast.Continue():
            yield ast.Pass()
        case ast.Break():
            yield ast.Continue()


def _is_text(node: ast.AST) -> bool:
    return any(isinstance(one, ast.JoinedStr) or (isinstance(one, ast.Constant) and isinstance(one.value, str))
               for one in ast.iter_child_nodes(node))  # fmt: skip


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """Return a copy in which some fields are others."""
    copied = deepcopy(node)
    for name, value in fields.items():
        setattr(copied, name, deepcopy(value))
    return copied
