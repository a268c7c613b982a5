"""Typed, frozen configuration: checks, overrides such as `phases.0.epochs=3`, JSON and the fingerprint.

A configuration is a tree of frozen dataclasses that stand beside the component that reads them; tuples hold the parts
that repeat. Nothing here knows what a phase or a model is.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import json
import numbers
import pathlib
import sys
import types
import typing
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

_Config = TypeVar("_Config")
# The largest float32, in which fields are computed with: what is beyond it is refused, as infinity and NaN are.
LARGEST = (2 - 2.0**-23) * 2.0**127
_WORDS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}


class ConfigError(ValueError):
    """A configuration is wrong; the message names the field, the value and what is allowed."""


def to_python(value: Any) -> Any:
    """Returns a number of numpy as Python's int or float, also in a tuple or a list; anything else as it is."""
    if type(value) in (tuple, list):
        return type(value)(to_python(item) for item in value)
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        return value
    return int(value) if isinstance(value, numbers.Integral) else float(value)


def is_number(value: Any, whole: bool = False) -> bool:
    """Whether a value of `to_python` is an int or, unless it has to be whole, a float; True and False are neither."""
    return isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)


def read_number(name: str, value: Any, low: float, high: float = LARGEST, whole: bool = False) -> Any:
    """Returns a number of Python or numpy, both of which every configuration takes, as Python's.

    Args:
      name: what the error calls it, such as `PadCrop.pad_px`.
      value: an int or, unless it has to be whole, a float; 2.0 is not whole.
      low: the lowest number allowed.
      high: the highest.
      whole: whether it has to be whole.

    Raises:
      ConfigError: if it is no number, or not in low..high, naming the value and what is allowed.
    """
    number = to_python(value)
    if not is_number(number, whole) or not low <= number <= high:
        raise ConfigError(f"{name} is {value!r}; allowed: {_allowed(low, high, whole)}")
    return number


def _allowed(low: float, high: float, whole: bool) -> str:
    """Returns what an error allows; limits that are whole have all their digits."""
    if low == -LARGEST:
        return "a finite number"
    first, last = (f"{number:g}" if isinstance(number, float) else str(number) for number in (low, high))
    if whole:
        return f"a whole number, {first} or more" if high == LARGEST else f"a whole number, {first}..{last}"
    return f"{first} or more, finite" if high == LARGEST else f"{first}..{last}"


def check_range(owner: object, name: str, low: float, high: float = LARGEST) -> None:
    """Checks that the field `name` of dataclass `owner` is a number in low..high, and makes it one of Python's.

    Raises:
      ConfigError: if it is not, naming the class, the field, the value and the range.
    """
    object.__setattr__(owner, name, read_number(f"{type(owner).__name__}.{name}", getattr(owner, name), low, high))


def check_whole(owner: object, name: str, low: int, high: float = LARGEST) -> None:
    """Checks a field as `check_range` does, which must be a whole number.

    Raises:
      ConfigError: if it is not, naming the class, the field, the value and the range.
    """
    value = read_number(f"{type(owner).__name__}.{name}", getattr(owner, name), low, high, whole=True)
    object.__setattr__(owner, name, value)


def check_choice(owner: object, name: str, allowed: Iterable[Any]) -> None:
    """Checks that the field `name` of dataclass `owner` is one of `allowed`, and makes it that one (not numpy's equal).

    Raises:
      ConfigError: if it is not, naming the nearest allowed value where there is one.
    """
    value, allowed = getattr(owner, name), list(allowed)
    if value not in allowed:
        hint = near_name(str(value), [str(a) for a in allowed])
        raise ConfigError(f"{type(owner).__name__}.{name} is {value!r}{hint}; allowed: {', '.join(map(str, allowed))}")
    object.__setattr__(owner, name, allowed[allowed.index(value)])


def near_name(name: str, allowed: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the allowed name nearest to `name`, or an empty text where none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def load(spec: str, overrides: Sequence[str] = ()) -> Any:
    """Builds the configuration that `spec` names and applies `overrides`, in order.

    Args:
      spec: `module:function`, for example `experiments.quickstart:digits`. The module is looked for in the current
        folder first and then among the experiments that are installed with tfaug.
      overrides: assignments such as `phases.0.epochs=3`.

    Returns:
      What the function returns: a frozen dataclass.

    Raises:
      ConfigError: if the module or the function is missing, or an override is wrong.
    """
    module_name, _, function_name = spec.partition(":")
    if not module_name or not function_name:
        raise ConfigError(f"--config is {spec!r}; allowed: MODULE:FUNCTION, as in experiments.quickstart:digits")
    module = _import(module_name)
    functions = [
        name
        for name, value in vars(module).items()
        if isinstance(value, types.FunctionType) and value.__module__ == module.__name__ and not name.startswith("_")
    ]
    if function_name not in functions:
        hint = near_name(function_name, functions)
        raise ConfigError(f"{module_name} has no function {function_name!r}{hint}; it has: {', '.join(functions)}")
    config = getattr(module, function_name)()
    for assignment in overrides:
        config = override(config, assignment)
    return config


def _import(name: str) -> types.ModuleType:
    """Imports a module from the current folder, or from the experiments inside the installed package."""
    folder = str(pathlib.Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    for candidate in (name, f"tfaug.{name}"):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError as error:
            if error.name is None or not (candidate == error.name or candidate.startswith(error.name + ".")):
                raise  # The module exists, and something that it imports does not.
    raise ConfigError(f"--config names the module {name!r}, which is neither in this folder nor installed with tfaug")


def override(config: _Config, assignment: str) -> _Config:
    """Returns `config` with one field replaced.

    Args:
      config: a frozen dataclass.
      assignment: `path=value`; the path goes through dataclass fields and tuple positions, as in `phases.0.epochs=3`.
        Values are read by the type of the field: whole numbers, numbers, `true` or `false`, text, `none` where the
        field may be None, and tuples of these separated by commas.

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
        return _replace(config, path.strip().split("."), text.strip(), done=())
    except ConfigError as error:
        raise ConfigError(f"--set {assignment}: {error}") from None


def _replace(node: Any, path: list[str], text: str, done: tuple[str, ...]) -> Any:
    """Returns `node` with the leaf at `path` read from `text`."""
    key, rest = path[0], path[1:]
    where = ".".join((*done, key))
    if isinstance(node, tuple):
        if not key.isdigit() or int(key) >= len(node):
            raise ConfigError(f"{where!r} is not there; {'.'.join(done)} has the positions 0..{len(node) - 1}")
        if not rest:
            raise ConfigError(f"{where!r} is a group; set one of its fields: {', '.join(_keys(node[int(key)]))}")
        index = int(key)
        return (*node[:index], _replace(node[index], rest, text, (*done, key)), *node[index + 1 :])
    keys = _keys(node)
    if key not in keys:
        whose = f"{type(node).__name__} has: {', '.join(keys)}" if keys else f"{'.'.join(done)!r} is one value"
        raise ConfigError(f"unknown key {where!r}{near_name(key, keys)}; {whose}")
    value = getattr(node, key)
    if rest:
        if value is None:
            raise ConfigError(f"{where!r} is None here, so it has no fields to set")
        return dataclasses.replace(node, **{key: _replace(value, rest, text, (*done, key))})
    if dataclasses.is_dataclass(value):
        raise ConfigError(f"{where!r} is a group; set one of its fields: {', '.join(_keys(value))}")
    hint = typing.get_type_hints(type(node))[key]
    return dataclasses.replace(node, **{key: _read(text, hint, where)})


def _keys(node: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(node)] if dataclasses.is_dataclass(node) else []


def _read(text: str, hint: Any, where: str) -> Any:
    """Reads `text` as the type `hint`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if type(None) in arguments and text.lower() == "none":
            return None
        scalars = [a for a in arguments if a in (bool, int, float, str)]
        for argument in scalars:
            try:
                return _read(text, argument, where)
            except ConfigError:
                continue
        raise ConfigError(f"{where} cannot be set to {text!r}")
    if origin is tuple:
        parts = [part.strip() for part in text.strip("()[]").split(",") if part.strip()]
        if arguments[-1] is Ellipsis and arguments[0] in (bool, int, float, str):
            return tuple(_read(part, arguments[0], where) for part in parts)
        if Ellipsis not in arguments and len(parts) == len(arguments):
            return tuple(_read(part, argument, where) for part, argument in zip(parts, arguments, strict=True))
        raise ConfigError(f"{where} is a tuple of parts; set a field of one of them, as in {where}.0.NAME=VALUE")
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
        try:
            return float(text)
        except ValueError:
            raise ConfigError(f"{where} is a number, got {text!r}") from None
    if hint is str:
        return text
    raise ConfigError(f"{where} cannot be set from the command line")


def to_dict(config: Any) -> Any:
    """Returns `config` as JSON values; a dataclass becomes its fields plus `class`, its name."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"class": type(config).__name__, **fields}
    if isinstance(config, (tuple, list)):
        return [to_dict(item) for item in config]
    return config


def fingerprint(config: Any) -> str:
    """Returns 16 hexadecimal digits that change when any field of `config` does."""
    text = json.dumps(to_dict(config), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lists the fields in which two results of `to_dict` differ, as `path: old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        return [
            line for i, (a, b) in enumerate(zip(old, new, strict=True)) for line in differences(a, b, f"{path}.{i}")
        ]
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]
