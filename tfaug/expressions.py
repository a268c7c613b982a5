"""Read what is written on the command line: the function that makes a configuration, and values as Python writes them.

    PGD(epsilon=4/255)          a class of a table, with values by position or by name
    my.attacks.Square(3)        a class of the user's own module
    Flip() + CutMix(p=0.5)      several of them

The text is taken apart by `ast`, never evaluated.
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import functools
import inspect
import operator
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from tfaug.config import ConfigError, classes_of, find_class, import_module, is_number, near_name

_Config = TypeVar("_Config")
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SCALARS = (bool, int, float, str)
_ARITHMETIC = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv}


def load(spec: str, overrides: Sequence[str] = (), classes: Mapping[str, type] | None = None) -> Any:
    """Builds the configuration that `spec` names and applies `overrides`, see `assign`.

    Args:
      spec: `module:function`, for example `experiments.quickstart:digits`, or `folder/file.py:function`. The module is
        looked for in the current folder first and then among the experiments that are installed with tfaug.
        `module:function.arm` is an arm of the study that the function returns.
      overrides: assignments such as `phases.0.epochs=3`.
      classes: what a name stands for in an assignment, beside the dataclasses that the module knows.

    Returns:
      What the function returns: a frozen dataclass.

    Raises:
      ConfigError: if the module, the function or the arm is missing, or an override is wrong.
    """
    module_name, _, function_name = spec.rpartition(":")
    if not module_name or not function_name:
        raise ConfigError(f"--config is {spec!r}; allowed: MODULE:FUNCTION, as in experiments.quickstart:digits")
    function_name, dot, arm = function_name.partition(".")
    module = import_module(module_name, "--config")
    functions = [
        name
        for name, value in vars(module).items()
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    if function_name not in functions:
        hint = near_name(function_name, functions)
        raise ConfigError(f"{module_name} has no function {function_name!r}{hint}; it has: {', '.join(functions)}")
    config = getattr(module, function_name)()
    if dot:
        if not hasattr(config, "arm"):
            raise ConfigError(f"--config is {spec!r}, but {function_name} makes no study, which alone has arms")
        config = config.arm(arm)
    return assign(config, overrides, {**(classes or {}), **classes_of(module)})


def assign(config: _Config, assignments: Sequence[str], classes: Mapping[str, type] | None = None) -> _Config:
    """Returns `config` after some assignments, in order; see `override`.

    Where one is refused, as two numbers that go with each other and not each with the other's old value, all are made
    first and the whole is checked then.

    Raises:
      ConfigError: if that is refused too, of the first assignment that is refused.
    """
    try:
        return functools.reduce(lambda made, each: override(made, each, classes), assignments, config)
    except ConfigError as error:
        made = config
        try:
            for each in assignments:
                made = override(made, each, classes, _put)
            return _checked(made)
        except ConfigError:
            raise error from None


def _put(node: Any, **values: Any) -> Any:
    """Returns a frozen dataclass with other values, which nobody has checked."""
    node = copy.copy(node)
    for name, value in values.items():
        object.__setattr__(node, name, value)
    return node


def _checked(node: Any) -> Any:
    """Returns a value whose dataclasses have all been checked."""
    if isinstance(node, tuple):
        return tuple(_checked(item) for item in node)
    if not dataclasses.is_dataclass(node) or isinstance(node, type):
        return node
    fields = [field.name for field in dataclasses.fields(node) if field.init]
    return dataclasses.replace(node, **{name: _checked(getattr(node, name)) for name in fields})


def override(
    config: _Config,
    assignment: str,
    classes: Mapping[str, type] | None = None,
    replace: Callable[..., Any] = dataclasses.replace,
) -> _Config:
    """Returns `config` with one field replaced, or with one item more.

    Args:
      config: a frozen dataclass.
      assignment: `path=value`; the path goes through fields, positions of tuples and names of their items, as in
        `phases.0.epochs=3` or `phases.refine.epochs=3`; the position after the last adds an item. Values are read by
        the type of the field: whole numbers, numbers, `true` or `false`, text, `none` where the field may be None,
        tuples of these separated by commas, and else an expression of `classes`.
      classes: what a name stands for.
      replace: makes a dataclass with other values of another one.

    Raises:
      ConfigError: if the key is unknown (naming near keys), the value is of the wrong type or out of range.

    Example:
      >>> @dataclasses.dataclass(frozen=True)
      ... class Phase:
      ...     epochs: int = 1
      >>> override(Phase(), "epochs=3")
      Phase(epochs=3)
    """
    path, equals, text = assignment.partition("=")
    if not equals or not path:
        raise ConfigError(f"--set {assignment!r}; allowed: KEY=VALUE, as in phases.0.epochs=3")
    try:
        return _replace(config, path.strip().split("."), text.strip(), (), classes or {}, replace)
    except ConfigError as error:
        raise ConfigError(f"--set {assignment}: {error}") from None


def read_value(text: str, classes: Mapping[str, type], what: str = "value") -> Any:
    """Returns the one value that `text` writes: a number, also as 4/255, a text in quotes, a tuple, a call of a class.

    Args:
      text: as in Python.
      classes: what a name stands for; a dotted name is looked for in its module.
      what: what the errors call it.

    Raises:
      ConfigError: if it is no such text, or a class refuses its values.
    """
    return _read_with(text, what, lambda node: _value(node, classes))


def read_parts(
    text: str, classes: Mapping[str, type], values: Mapping[str, type] | None = None, what: str = "value"
) -> list[Any]:
    """Returns the objects that `text` writes, joined by ` + ` or by commas; a bare name takes all defaults.

    Args:
      text: such as `Flip() + CutMix(p=0.5)`, `(Flip, CutMix)` or `()`.
      classes: what the name of an object stands for.
      values: what a name stands for inside the brackets of a call; None for `classes`.
      what: what the errors call an object.

    Raises:
      ConfigError: if a bracket is open, a name or a field is unknown, a value is missing, given twice, of another kind
        or out of range. The message says what is allowed, and which name is near.
    """
    inside = classes if values is None else values
    return _read_with(text, what, lambda node: [_part(part, classes, inside, what) for part in _parts(node)])


def _read_with(text: str, what: str, read: typing.Callable[[ast.expr], Any]) -> Any:
    """Takes `text` apart and reads it; all that Python's own parser refuses is a ConfigError."""
    example = "as in RandAugment(n=2, m=9)"
    try:
        return read(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise ConfigError(f"{what} {text!r} cannot be read: {error.msg}; allowed: {example}") from None
    except ConfigError as error:
        raise ConfigError(f"{what} {text!r}: {error}") from None
    except (ValueError, MemoryError, RecursionError):  # a null byte; brackets too deep for Python's own parser
        raise ConfigError(f"{what} {text[:60]!r} cannot be read; allowed: {example}") from None


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


def _part(node: ast.expr, classes: Mapping[str, type], values: Mapping[str, type], what: str) -> Any:
    """Builds one object of a name or a call."""
    call = node if isinstance(node, ast.Call) else ast.Call(node, [], [])
    name = _dotted(call.func)
    if not name:
        article = "an" if what[0] in "aeio" else "a"
        raise ConfigError(f"{ast.unparse(node)} is not {article} {what}; allowed: a name or a call")
    return _call(call, name, classes, values)


def _dotted(node: ast.expr) -> str:
    """Returns the name that `a` or `a.b` writes, or an empty text."""
    if isinstance(node, ast.Name):
        return node.id
    first = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{first}.{node.attr}" if first and isinstance(node, ast.Attribute) else ""


def _call(node: ast.Call, name: str, allowed: Mapping[str, type], values: Mapping[str, type]) -> Any:
    """Calls what `name` stands for among `allowed`; its values may be any of `values`."""
    maker = find_class(name, allowed)
    fields = _fields(maker)
    takes = f"{name} has: {', '.join(fields)}" if fields else f"{name} has no fields"
    if len(node.args) > len(fields):
        raise ConfigError(f"{name} is given {len(node.args)} values by position; {takes}")
    given = {field: _value(value, values) for field, value in zip(fields, node.args, strict=False)}
    for keyword in node.keywords:
        if keyword.arg is None:
            raise ConfigError(f"{ast.unparse(keyword)} is not allowed; {takes}")
        if keyword.arg not in fields:
            raise ConfigError(f"{name} has no field {keyword.arg!r}{near_name(keyword.arg, fields)}; {takes}")
        if keyword.arg in given:
            raise ConfigError(f"{name} is given {keyword.arg!r} twice; {takes}")
        given[keyword.arg] = _value(keyword.value, values)
    missing = [key for key, field in fields.items() if field.default is field.empty and key not in given]
    if missing:
        raise ConfigError(f"{name} needs {', '.join(missing)}; {takes}")
    by_position = [given.pop(key) for key, field in fields.items() if field.kind is field.POSITIONAL_ONLY]
    try:
        return maker(*by_position, **given)
    except ConfigError:
        raise
    except (TypeError, ValueError) as error:  # a value of a kind that the class's own checks do not expect
        raise ConfigError(f"{ast.unparse(node)}: {error}; {takes}") from None


def _fields(maker: type) -> dict[str, inspect.Parameter]:
    """Returns what a maker takes by name; `**kwargs`, which a layer has, is not among it."""
    parameters = inspect.signature(maker).parameters
    return {name: field for name, field in parameters.items() if field.kind is not field.VAR_KEYWORD}


def _value(node: ast.expr, classes: Mapping[str, type]) -> Any:
    """Reads a value."""
    if isinstance(node, ast.Constant) and isinstance(node.value, (*_SCALARS, type(None))):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
        number = _value(node.operand, classes)
        if is_number(number):
            return -number if isinstance(node.op, ast.USub) else number
    if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
        numbers = [_value(side, classes) for side in (node.left, node.right)]
        if all(map(is_number, numbers)):
            try:
                return _ARITHMETIC[type(node.op)](*numbers)
            except ArithmeticError as error:
                raise ConfigError(f"{ast.unparse(node)}: {error}; allowed: a number") from None
    if isinstance(node, (ast.Tuple, ast.List)):
        return tuple(_value(item, classes) for item in node.elts)
    if isinstance(node, ast.Call) and _dotted(node.func):
        return _call(node, _dotted(node.func), classes, classes)
    if isinstance(node, ast.Name):
        known = [*classes, "True", "False", "None"]
        hint = near_name(node.id, known) or f"; a text stands in quotes, as in {node.id!r}"
        if node.id in known:
            hint = f"; allowed: a call, as in {node.id}(...)"
        raise ConfigError(f"the value {node.id} is unknown{hint}")
    raise ConfigError(
        f"{ast.unparse(node)} is not a value; allowed: a number, a text in quotes, True, False, None, a call such as "
        f"{next(iter(classes), 'Name')}(...) or a tuple of them"
    )


def _replace(
    node: Any,
    path: list[str],
    text: str,
    done: tuple[str, ...],
    classes: Mapping[str, type],
    replace: Callable[..., Any],
) -> Any:
    """Returns `node` with the leaf at `path` read from `text`."""
    key, rest = path[0], path[1:]
    where = ".".join((*done, key))
    if isinstance(node, tuple):
        index = _position(node, key, where, ".".join(done), adds=not rest)
        if rest:
            item = _replace(node[index], rest, text, (*done, key), classes, replace)
        else:
            item = _read_object(text, where, node[index] if index < len(node) else None, classes)
        return (*node[:index], item, *node[index + 1 :])
    aliases: Mapping[str, str] = getattr(node, "ALIASES", {})
    keys = [*_keys(node), *aliases]
    if key in aliases:
        return _replace(node, [*aliases[key].split("."), *rest], text, done, classes, replace)
    if key not in keys:
        whose = f"{type(node).__name__} has: {', '.join(keys) or 'no fields'}"
        whose = whose if dataclasses.is_dataclass(node) else f"{'.'.join(done)!r} is one value"
        raise ConfigError(f"unknown key {where!r}{near_name(key, keys)}; {whose}")
    value = getattr(node, key)
    if rest:
        if value is None:
            raise ConfigError(f"{where!r} is None here, so it has no fields to set")
        return replace(node, **{key: _replace(value, rest, text, (*done, key), classes, replace)})
    hint = typing.get_type_hints(type(node))[key]
    if dataclasses.is_dataclass(value) and text.lower() != "none":
        return replace(node, **{key: _read_object(text, where, value, classes, hint)})
    return replace(node, **{key: _read(text, hint, where, classes)})


def _position(node: tuple[Any, ...], key: str, where: str, whose: str, adds: bool) -> int:
    """Returns the place in a tuple that `key` means: a number, or the name of an item."""
    names = [str(getattr(item, "name", i)) for i, item in enumerate(node)]
    if key in names:
        return names.index(key)
    if not key.isdigit() or int(key) >= len(node) + adds:
        named = f", or {', '.join(names)}" if any(not name.isdigit() for name in names) else ""
        more = f"; {len(node)} adds one" if adds else ""
        raise ConfigError(f"{where!r} is not there; {whose} has the positions 0..{len(node) - 1}{named}{more}")
    return int(key)


def _read_object(text: str, where: str, old: Any, classes: Mapping[str, type], hint: Any = None) -> Any:
    """Reads what takes the place of a dataclass: another one, in the words of its kind where that has some."""
    if hasattr(hint, "from_text") and "(" not in text:
        return hint.from_text(text)
    group = f"{where!r} is a group; set one of its fields: {', '.join(_keys(old))}; or write it whole"
    try:
        value = read_value(text, classes)
    except ConfigError as error:
        if not old or "(" in text:
            raise
        raise ConfigError(f"{group} ({error})") from None
    if not dataclasses.is_dataclass(value):
        raise ConfigError(group if old else f"{where} cannot be set to {text!r}; allowed: a call, as in Flip()")
    return value


def _keys(node: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []


def _read(text: str, hint: Any, where: str, classes: Mapping[str, type]) -> Any:
    """Reads `text` as the type `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        objects = [argument for argument in arguments if argument not in (*_SCALARS, type(None))]
        for argument in () if objects and text.endswith(")") else arguments:
            if argument in _SCALARS:
                try:
                    return _read(text, argument, where, classes)
                except ConfigError:
                    continue
        return _read_part(text, where, classes)
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
        if arguments[-1] is Ellipsis and arguments[0] in _SCALARS:
            return tuple(_read(part, arguments[0], where, classes) for part in parts)
        if Ellipsis not in arguments and len(parts) == len(arguments):
            return tuple(_read(part, argument, where, classes) for part, argument in zip(parts, arguments, strict=True))
        if Ellipsis not in arguments:
            raise ConfigError(f"{where} has {len(arguments)} values, got {text!r}")
        try:
            return tuple(read_parts(text, classes))
        except ConfigError as error:
            raise ConfigError(f"{where} is a tuple of parts, as in (A(...), B(...)); {error}") from None
    if hint is bool:
        if text.lower() not in _WORDS:
            raise ConfigError(f"{where} is true or false, got {text!r}")
        return _WORDS[text.lower()]
    if hint is int:
        try:
            return int(text)
        except ValueError:
            raise ConfigError(f"{where} is a whole number, got {text!r}") from None
    if hint is float:
        return _read_float(text, where)
    if hint is str:
        return text
    return _read_part(text, where, classes)


def _read_part(text: str, where: str, classes: Mapping[str, type]) -> Any:
    """Reads one value of a field that holds objects."""
    try:
        return read_value(text, classes)
    except ConfigError as error:
        raise ConfigError(f"{where} cannot be set to {text!r}: {error}") from None


def _read_float(text: str, where: str) -> float:
    """Reads a number, also as a fraction."""
    try:
        return float(text)
    except ValueError:
        pass
    try:
        number = read_value(text, {})
    except ConfigError:
        number = None
    if not is_number(number):
        raise ConfigError(f"{where} is a number, got {text!r}")
    return float(number)
