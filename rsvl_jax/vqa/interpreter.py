"""Runs programs that nobody has read: a small part of Python's expressions, and nothing else.

A program is some lines `name = expression` and a last line, the expression that is the answer.
Expressions are numbers, texts, True and False, names, comparisons, and, or, not, x if y else z,
+, -, *, / and // of numbers, and calls of the primitives by position. There are no loops,
attributes, subscripts, comprehensions, keywords or definitions, so a program ends after as many
steps as it has nodes; lengths, depths and numbers are limited before anything is run.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

from rsvl_jax.errors import UserError

LONGEST = 2000  # characters
MOST_NODES = 300
DEEPEST = 30
LONGEST_TEXT = 200
LARGEST = 1e15

_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}
_COMPARISONS: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Refused(UserError):
    """A program that is not run, or not to its end."""


def run(program: str, functions: Mapping[str, Callable[..., Any]]) -> Any:
    """The value of a program's last line: a bool, a number or a text.

    functions: the only ones that it can call. Raises Refused for what is no such program, and
    UserError for what the functions refuse.
    """
    lines = _parsed(program)
    machine = _Machine(functions)
    for line in lines[:-1]:
        machine.assign(line)
    last = lines[-1]
    if not isinstance(last, ast.Expr):
        raise Refused("the last line must be an expression, the answer")
    value = machine.value(last.value)
    if not isinstance(value, bool | int | float | str):
        raise Refused("the answer must be a truth, a number or a text: use exists, count, area ...")
    return value


def named(program: str, function: str) -> list[str]:
    """Texts that a program calls a function with, as far as they are written out in the call."""
    calls = (node for line in _parsed(program) for node in ast.walk(line))
    found = []
    for call in calls:
        match call:
            case ast.Call(func=ast.Name(id=name), args=[ast.Constant(value=str() as text)]):
                found += [text] * (name == function)
    return list(dict.fromkeys(found))


def _parsed(program: str) -> list[ast.stmt]:
    if not isinstance(program, str) or not program.strip():
        raise Refused("the program is empty")
    if len(program) > LONGEST:
        raise Refused(f"the program has {len(program)} characters, more than {LONGEST}")
    if program.count("(") + program.count("[") + program.count("-") > MOST_NODES:
        raise Refused(f"the program has more than {MOST_NODES} parts")
    try:
        tree = ast.parse(program.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Refused(f"the program cannot be parsed: {str(error).splitlines()[0]}") from error
    if _depth(tree) > DEEPEST:
        raise Refused(f"the program is nested more than {DEEPEST} deep")
    if sum(1 for _ in ast.walk(tree)) > MOST_NODES:
        raise Refused(f"the program has more than {MOST_NODES} parts")
    if not tree.body:
        raise Refused("the program is empty")
    return tree.body


def _depth(tree: ast.AST) -> int:
    """Levels of nodes, counted without recursion."""
    level, depth = [tree], 0
    while level and depth <= DEEPEST:
        level, depth = [child for node in level for child in ast.iter_child_nodes(node)], depth + 1
    return depth


class _Machine:
    """Names and what they stand for."""

    def __init__(self, functions: Mapping[str, Callable[..., Any]]):
        self._functions = functions
        self._names: dict[str, Any] = {}

    def assign(self, line: ast.stmt) -> None:
        """A line but the last."""
        match line:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                if name in self._functions or name.startswith("_"):
                    raise Refused(f"{said(name)} cannot be assigned to")
                self._names[name] = self.value(value)
            case _:
                raise Refused(f"{type(line).__name__} is not allowed: write name = expression")

    def value(self, node: ast.expr) -> Any:
        """Of an expression."""
        match node:
            case ast.Constant(value=bool() | int() | float() | str() as value):
                return _limited(value)
            case ast.Name(id=name):
                if name not in self._names:
                    raise Refused(f"unknown name {said(name)}")
                return self._names[name]
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self._compare(op, self.value(left), self.value(right))
            case ast.BoolOp(op=op, values=values):
                stop = isinstance(op, ast.Or)
                return next((stop for v in values if _truth(self.value(v)) is stop), not stop)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return not _truth(self.value(operand))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -_number(self.value(operand))
            case ast.BinOp(left=left, op=op, right=right):
                return self._arithmetic(op, self.value(left), self.value(right))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self.value(body if _truth(self.value(test)) else orelse)
        raise Refused(f"{type(node).__name__} is not allowed in a program")

    def _call(self, name: str, arguments: list[ast.expr]) -> Any:
        if name not in self._functions:
            known = ", ".join(self._functions)
            raise Refused(f"unknown function {said(name)}: use {known}")
        values = [self.value(argument) for argument in arguments]
        try:
            return self._functions[name](*values)
        except TypeError as error:
            raise Refused(f"{name} takes other arguments: {error}") from error

    def _compare(self, op: ast.cmpop, left: Any, right: Any) -> bool:
        if type(op) not in _COMPARISONS:
            raise Refused(f"the comparison {type(op).__name__} is not allowed")
        if isinstance(left, str) and isinstance(right, str) and isinstance(op, ast.Eq | ast.NotEq):
            return _COMPARISONS[type(op)](left, right)
        return bool(_COMPARISONS[type(op)](_number(left), _number(right)))

    def _arithmetic(self, op: ast.operator, left: Any, right: Any) -> Any:
        if type(op) not in _ARITHMETIC:
            raise Refused(f"the operator {type(op).__name__} is not allowed")
        try:
            return _limited(_ARITHMETIC[type(op)](_number(left), _number(right)))
        except ZeroDivisionError as error:
            raise Refused("division by zero") from error


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"a truth is wanted, not {said(value)}: use exists(...) or a comparison")
    return value


def _number(value: Any) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"a number is wanted, not {said(value)}: use count(...) or area(...)")
    return value


def _limited(value: Any) -> Any:
    if isinstance(value, str) and len(value) > LONGEST_TEXT:
        raise Refused(f"a text of {len(value)} characters, more than {LONGEST_TEXT}")
    if isinstance(value, int | float) and not abs(value) <= LARGEST:
        raise Refused(f"a number beyond {LARGEST:g}")
    return value


def said(value: Any) -> str:
    """A value in a message: short, and in one line."""
    return "things" if isinstance(value, list) else repr(value)[:60]
