"""Read an op as it is written in Python: `RandAugment(n=2, m=9)`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from tfaug.augment.base import Augmentation, Compose
from tfaug.config import ConfigError, near_name
from tfaug.schedules import SCHEDULES


def parse(text: str, ops: Mapping[str, type[Augmentation]]) -> Augmentation:
    """Builds the op that `text` describes; nothing else is evaluated.

    Args:
      text: a call with literal arguments, of positions or of names; several joined by ` + ` are composed in order. An
        argument may be a schedule: `CutMix(p=Linear(0, 1))`.
      ops: what a name stands for.

    Raises:
      ConfigError: if the text is not a call of an op, or an argument is unknown, missing or out of range.

    Example:
      >>> from tfaug.augment import AUGMENTATIONS
      >>> parse("Flip() + CutMix(p=0.5)", AUGMENTATIONS)
      Compose(ops=(Flip(p=0.5), CutMix(alpha=1.0, p=0.5)))
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        raise ConfigError(f"--op {text!r} is not an expression: {error.msg}; as in RandAugment(n=2, m=9)") from None
    parts: list[ast.expr] = []
    while isinstance(tree, ast.BinOp) and isinstance(tree.op, ast.Add):
        parts.insert(0, tree.right)
        tree = tree.left
    built = [_call(part, ops, text) for part in [tree, *parts]]
    return built[0] if len(built) == 1 else Compose(tuple(built))


def _call(node: ast.expr, makers: Mapping[str, type], text: str) -> Any:
    """Calls the maker that `node` names with its literal arguments."""
    if isinstance(node, ast.Name):
        node = ast.Call(node, [], [])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ConfigError(f"--op {text!r}: {ast.unparse(node)!r} is not a call; as in RandAugment(n=2, m=9)")
    name = node.func.id
    if name not in makers:
        raise ConfigError(f"--op {text!r}: {name!r} is unknown{near_name(name, makers)}; allowed: {', '.join(makers)}")
    try:
        args = [_value(argument, text) for argument in node.args]
        kwargs = {str(keyword.arg): _value(keyword.value, text) for keyword in node.keywords}
        return makers[name](*args, **kwargs)
    except TypeError as error:
        message = str(error).replace(f"{name}.__init__()", name)
        raise ConfigError(f"--op {text!r}: {message}") from None


def _value(node: ast.expr, text: str) -> Any:
    """Reads a literal or a schedule."""
    if isinstance(node, ast.Call):
        return _call(node, SCHEDULES, text)
    try:
        return ast.literal_eval(node)
    except ValueError:
        raise ConfigError(f"--op {text!r}: {ast.unparse(node)!r} is not a number, text or tuple") from None
