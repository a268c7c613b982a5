"""Read an op as it is written in Python: `RandAugment(n=2, m=9)`. The text is taken apart, never evaluated."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Mapping
from typing import Any

from tfaug.augment.base import Augmentation, Compose, OneOf
from tfaug.config import ConfigError, near_name
from tfaug.schedules import SCHEDULES

_EXAMPLE = "as in RandAugment(n=2, m=9)"


def parse(text: str, ops: Mapping[str, type[Augmentation]]) -> Augmentation:
    """Builds the op that `text` describes.

    The text is one op, or several joined by ` + ` or by commas, which are composed in order. An op is a name, or a call
    with values by position or by name; a bare name takes all defaults. A value is a number, a text in quotes, True,
    False, None, a schedule such as `Linear(0, 1)`, an op, or a tuple or list of values. So `parse(repr(op), ops)` is
    `op` again.

    Args:
      text: for example `PadCrop(4) + Flip() + CutMix(p=Linear(0, 1))`.
      ops: what a name stands for; `Compose` and `OneOf` are known beside them.

    Returns:
      The op; a `Compose` where several are joined.

    Raises:
      ConfigError: if the text is no such op: a bracket is open, a name or a field is unknown, a value is missing, given
        twice, of another kind or out of range. The message says what is allowed, and which name is near.

    Example:
      >>> from tfaug.augment import AUGMENTATIONS
      >>> parse("PadCrop(4) + CutMix(p=0.5)", AUGMENTATIONS)
      Compose(ops=(PadCrop(pad_px=4), CutMix(alpha=1.0, p=0.5)))
    """
    makers = {**ops, "Compose": Compose, "OneOf": OneOf}
    try:
        parts = _parts(ast.parse(text.strip(), mode="eval").body) if text.strip() else []
        if not parts:
            raise ConfigError(f"no op is given; allowed: {', '.join(makers)}")
        built = [_op(part, makers) for part in parts]
    except SyntaxError as error:
        raise ConfigError(f"op {text!r} cannot be read: {error.msg}; allowed: {_EXAMPLE}") from None
    except ConfigError as error:
        raise ConfigError(f"op {text!r}: {error}") from None
    except (ValueError, MemoryError, RecursionError):  # a null byte; brackets too deep for Python's own parser
        raise ConfigError(f"op {text[:60]!r} cannot be read; allowed: {_EXAMPLE}") from None
    return built[0] if len(built) == 1 else Compose(tuple(built))


def _parts(node: ast.expr) -> list[ast.expr]:
    """Returns what stands between the `+` signs and the commas, left to right."""
    todo, parts = [node], []
    while todo:
        node = todo.pop()
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            todo += [node.right, node.left]
        elif isinstance(node, (ast.Tuple, ast.List)):
            todo += reversed(node.elts)
        else:
            parts.append(node)
    return parts


def _op(node: ast.expr, makers: Mapping[str, type]) -> Augmentation:
    """Builds one op."""
    if isinstance(node, ast.Name):
        node = ast.Call(node, [], [])
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        raise ConfigError(f"{ast.unparse(node)} is not an op; allowed: a name or a call, {_EXAMPLE}")
    return _call(node, node.func.id, makers, makers)


def _call(node: ast.Call, name: str, allowed: Mapping[str, type], ops: Mapping[str, type]) -> Any:
    """Calls what `name` stands for among `allowed`; its values may be any of `ops`."""
    if name not in allowed:
        raise ConfigError(f"{name!r} is unknown{near_name(name, allowed)}; allowed: {', '.join(allowed)}")
    maker = allowed[name]
    fields = _fields(maker)
    takes = f"{name} has: {', '.join(fields)}" if fields else f"{name} has no fields"
    if len(node.args) > len(fields):
        raise ConfigError(f"{name} is given {len(node.args)} values by position; {takes}")
    values = {field: _value(value, ops) for field, value in zip(fields, node.args, strict=False)}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ConfigError(f"{ast.unparse(keyword)} is not allowed; {takes}")
        if keyword.arg not in fields:
            raise ConfigError(f"{name} has no field {keyword.arg!r}{near_name(keyword.arg, fields)}; {takes}")
        if keyword.arg in values:
            raise ConfigError(f"{name} is given {keyword.arg!r} twice; {takes}")
        values[keyword.arg] = _value(keyword.value, ops)
    missing = [key for key, field in fields.items() if field.default is field.empty and key not in values]
    if missing:
        raise ConfigError(f"{name} needs {', '.join(missing)}; {takes}")
    try:
        return maker(**values)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:  # a value of a kind that the op's own checks do not expect
        raise ConfigError(f"{ast.unparse(node)}: {error}; {takes}") from None


def _fields(maker: type) -> dict[str, inspect.Parameter]:
    """Returns what a maker takes by name; `**kwargs`, which a layer has, is not among it."""
    parameters = inspect.signature(maker).parameters
    return {name: field for name, field in parameters.items() if field.kind is not field.VAR_KEYWORD}


def _value(node: ast.expr, ops: Mapping[str, type]) -> Any:
    """Reads a value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (bool, int, float, str, type(None))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand, ops)
        if isinstance(number, (int, float)) and not isinstance(number, bool):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(item, ops) for item in node.elts)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return _call(node, node.func.id, {**SCHEDULES, **ops}, ops)
    if isinstance(node, ast.Name):
        known = [*SCHEDULES, *ops, "True", "False", "None"]
        hint = near_name(node.id, known) or f"; a text stands in quotes, as in {node.id!r}"
        if node.id in known:
            hint = f"; allowed: a call, as in {node.id}(...)"
        raise ConfigError(f"the value {node.id} is unknown{hint}")
    raise ConfigError(
        f"{ast.unparse(node)} is not a value; allowed: a number, a text in quotes, True, False, None, a schedule "
        f"({', '.join(SCHEDULES)}), an op or a tuple of them"
    )
