"""Typed, frozen configuration: checks, classes by their names, JSON and back, and what makes two of them the same.

A configuration is a tree of frozen dataclasses, each beside what it configures; tuples hold the parts that repeat.
Nothing here knows what a phase or a model is: `tfaug.expressions` reads them, by a table of classes.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import hashlib
import importlib
import inspect
import itertools
import json
import numbers
import pathlib
import sys
import textwrap
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# The largest float32, in which fields are computed with: what is beyond it is refused, as infinity and NaN are.
LARGEST = (2 - 2.0**-23) * 2.0**127


# Metadata of a field that says where things lie on a machine: it is not part of an identity.
PLACE: Mapping[str, Any] = types.MappingProxyType({"place": True})
# Metadata of a field that names a function for `find_function`: its source is part of an identity.
FUNCTION: Mapping[str, Any] = types.MappingProxyType({"function": True})


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


def setting_text(value: Any) -> str:
    """Writes one setting for people: a fraction of 255 as that, yes and no.

    Example:
      >>> setting_text(8 / 255), setting_text(0.5), setting_text(False), setting_text("abc")
      ('8/255', '0.5', 'no', 'abc')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float) and 0 < value < 1 and abs(value * 255 - round(value * 255)) < 1e-3:
        return f"{round(value * 255)}/255"
    return f"{value:g}" if isinstance(value, float) else str(value)


def near_name(name: str, allowed: Iterable[str]) -> str:
    """Returns ` (did you mean 'x'?)` for the allowed name nearest to `name`, or an empty text where none is near."""
    near = difflib.get_close_matches(name, list(allowed), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def check_kind(owner: object, name: str, kind: type | tuple[type, ...], allowed: str, several: bool = False) -> None:
    """Checks that the field `name` of dataclass `owner` is a frozen dataclass of a kind, or a tuple of such.

    Args:
      owner: the dataclass.
      name: of its field; a list becomes a tuple.
      kind: the class or classes that it may be an instance of.
      allowed: what the error allows.
      several: whether it is a tuple of them.

    Raises:
      ConfigError: if it is not, naming the class, the field, the value, what is allowed and, for a class of the user's
        own that is no frozen dataclass, how it becomes one.
    """
    value = getattr(owner, name)
    field = f"{type(owner).__name__}.{name}"
    if several and not isinstance(value, (tuple, list)):
        raise ConfigError(f"{field} is {value!r}; allowed: a tuple of {allowed}, as in (A(),)")
    for i, item in enumerate(value if several else [value]):
        where = f"{field}[{i}]" if several else field
        if not isinstance(item, kind):
            call = f": it is a class; write {item.__name__}()" if isinstance(item, type) else ""
            raise ConfigError(f"{where} is {item!r}{call}; allowed: {allowed}")
        check_frozen(type(item), where)
    if several:
        object.__setattr__(owner, name, tuple(value))


def check_frozen(cls: type, where: str) -> None:
    """Raises a ConfigError, which names the fix, if a class is no frozen dataclass, whose objects say what they are."""
    parameters = vars(cls).get("__dataclass_params__")
    if parameters is None or not parameters.frozen:
        raise ConfigError(
            f"{where} is of the class {cls.__qualname__}, which is no frozen dataclass, so its settings would be in no "
            f"fingerprint; write @dataclasses.dataclass(frozen=True) above `class {cls.__name__}`"
        )


def import_module(name: str, who: str) -> types.ModuleType:
    """Imports a module from the current folder, or from the experiments inside the installed package.

    Args:
      name: `package.module`, or a path of a file, `folder/file.py`.
      who: what asks for it, for the error.

    Raises:
      ConfigError: if there is none, naming near ones.
    """
    folder = pathlib.Path.cwd()
    path = pathlib.Path(name)
    if name.endswith(".py"):
        if not path.is_file():
            raise ConfigError(f"{who} names the file {name!r}, which does not exist")
        path = path.resolve()
        # Inside the current folder a file is the module that `import` would find; elsewhere its folder is the root.
        root = folder if path.is_relative_to(folder) else path.parent
        folder, name = root, ".".join(path.relative_to(root).with_suffix("").parts)
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    for candidate in (name, f"tfaug.{name}"):
        try:
            return importlib.import_module(candidate)
        except ModuleNotFoundError as error:
            if error.name is None or not (candidate == error.name or candidate.startswith(error.name + ".")):
                raise  # The module exists, and something that it imports does not.
        except (ValueError, TypeError):  # an empty part, as in `a..b`
            break
    near = near_name(name, _modules_beside(name, folder))
    raise ConfigError(
        f"{who} names the module {name!r}{near}, which is neither in this folder nor installed with tfaug"
    )


def _modules_beside(name: str, folder: pathlib.Path) -> list[str]:
    """Lists the modules that lie where `name` was looked for."""
    package, _, _ = name.rpartition(".")
    prefix = f"{package}." if package else ""
    found = set()
    for root in (folder, pathlib.Path(__file__).parent, pathlib.Path(__file__).parent.parent):
        for path in root.joinpath(*package.split(".")).glob("*.py"):
            found.add(prefix + path.stem)
    return sorted(found)


def classes_of(module: types.ModuleType) -> dict[str, type]:
    """Returns the dataclasses that a module defines or imports, by their names in it."""
    known = vars(module).items()
    return {name: value for name, value in known if isinstance(value, type) and dataclasses.is_dataclass(value)}


def find_class(name: str, classes: Mapping[str, type]) -> type:
    """Returns the class that a name stands for: one of a table, or `module.Class` of the user's own.

    Raises:
      ConfigError: if there is none, naming near ones, or it is no frozen dataclass.
    """
    if name in classes:
        return classes[name]
    module_name, _, class_name = name.rpartition(".")
    if not module_name:
        raise ConfigError(f"{name!r} is unknown{near_name(name, classes)}; allowed: {', '.join(classes)}")
    module = import_module(module_name, f"{name!r}")
    cls = vars(module).get(class_name)
    if not isinstance(cls, type):
        raise ConfigError(f"{module_name} has no class {class_name!r}{near_name(class_name, classes_of(module))}")
    check_frozen(cls, f"{name!r}")
    return cls


def find_function(name: str, who: str) -> Callable[..., Any]:
    """Returns the function that `module.function` names, of the user's own, or `tf.a.b` of TensorFlow's.

    Raises:
      ConfigError: if there is none, naming near ones.
    """
    module_name, _, function_name = name.rpartition(".")
    if not module_name:
        raise ConfigError(f"{who} is {name!r}; allowed: MODULE.FUNCTION, as in my_module.build")
    if name.startswith(_TENSORFLOW):
        found: Any = importlib.import_module("tensorflow")
        for part in name.split(".")[1:-1]:
            found = getattr(found, part, None)
        known = dir(found)
        found = getattr(found, function_name, None)
    else:
        names = vars(import_module(module_name, who))
        found, known = names.get(function_name), [key for key, value in names.items() if callable(value)]
    if not callable(found):
        hint = near_name(function_name, known)
        raise ConfigError(f"{who} is {name!r}, but {module_name} has no function {function_name!r}{hint}")
    return found  # type: ignore[no-any-return]


_TENSORFLOW = "tf."


def class_name(cls: type) -> str:
    """Returns the name by which `find_class` finds a class: of tfaug's own the bare one, of others with the module."""
    return cls.__name__ if _is_own(cls) else f"{cls.__module__}.{cls.__qualname__}"


def _is_own(cls: type) -> bool:
    return cls.__module__.startswith("tfaug.") and not cls.__module__.startswith("tfaug.experiments.")


def to_dict(config: Any) -> Any:
    """Returns `config` as JSON values; a dataclass becomes its fields plus `class`, its name."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        fields = {field.name: to_dict(getattr(config, field.name)) for field in dataclasses.fields(config)}
        return {"class": class_name(type(config)), **fields}
    if isinstance(config, (tuple, list)):
        return [to_dict(item) for item in config]
    return config


def from_dict(value: Any, classes: Mapping[str, type]) -> Any:
    """Returns the configuration that `to_dict` made `value` of.

    Args:
      value: JSON values; lists become tuples.
      classes: what a name stands for; `module.Class` is looked for in its module.

    Raises:
      ConfigError: if a class or a field is not there any more, or a value is not allowed.

    Example:
      >>> from tfaug.schedules import SCHEDULES, Linear
      >>> from_dict(to_dict(Linear(0, 1)), SCHEDULES)
      Linear(initial=0.0, final=1.0)
    """
    if isinstance(value, list):
        return tuple(from_dict(item, classes) for item in value)
    if not isinstance(value, dict):
        return value
    if "class" not in value:
        raise ConfigError(f"a group of settings names no class: {', '.join(value)}")
    cls = find_class(value["class"], classes)
    fields = {key: from_dict(item, classes) for key, item in value.items() if key != "class"}
    known = [field.name for field in dataclasses.fields(cls)]
    if unknown := [key for key in fields if key not in known]:
        near = near_name(unknown[0], known)
        raise ConfigError(f"{value['class']} has no field {unknown[0]!r}{near}; it has: {', '.join(known)}")
    return cls(**fields)


def identity(config: Any) -> Any:
    """Returns what makes `config` the same as another: JSON values, without fields at their defaults and `PLACE`s.

    A class that is not tfaug's own brings the syntax tree of its source, and so does a function that a `FUNCTION`
    names, so one that is edited is another one; comments and blank lines do not count, nor what it calls elsewhere.

    Raises:
      ConfigError: if it holds what is no frozen dataclass, number, text or tuple.
    """
    if isinstance(config, (tuple, list)):
        return [identity(item) for item in config]
    if config is None or isinstance(config, (bool, int, float, str)):
        return config
    cls = type(config)
    check_frozen(cls, repr(config))
    fields = {
        field.name: _identity_of_field(field, getattr(config, field.name))
        for field in dataclasses.fields(cls)
        if not field.metadata.get("place") and not _is_default(field, getattr(config, field.name))
    }
    source = {} if _is_own(cls) else {"source": _source_hash(cls)}
    return {"class": cls.__name__, **source, **fields}


def _identity_of_field(field: dataclasses.Field[Any], value: Any) -> Any:
    """Returns the identity of a field's value; with the function's source where it names one of the user's own."""
    if not field.metadata.get("function") or value.startswith(_TENSORFLOW):
        return identity(value)
    return [value, _source_hash(find_function(value, field.name))]


def _is_default(field: dataclasses.Field[Any], value: Any) -> bool:
    """Whether a field holds its default, a whole number being equal to its float."""
    if field.default_factory is not dataclasses.MISSING:
        return bool(field.default_factory() == value)
    return field.default is not dataclasses.MISSING and bool(field.default == value)


def _source_hash(made: type | Callable[..., Any]) -> str:
    """Returns 16 hexadecimal digits of the source of a function, or of a class and its bases that are not tfaug's.

    It is "" where there is no source.
    """
    texts = []
    for base in made.__mro__ if isinstance(made, type) else (made,):
        if base is object or (isinstance(base, type) and _is_own(base)):
            continue
        try:
            tree = ast.parse(textwrap.dedent(inspect.getsource(base)))
        except (OSError, TypeError, SyntaxError):  # typed at a prompt
            return ""
        texts.append(ast.dump(tree))
    return hash_of(texts)


def hash_of(value: Any) -> str:
    """Returns 16 hexadecimal digits that change when `value`, JSON values, does."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def fingerprint(config: Any) -> str:
    """Returns 16 hexadecimal digits that change when a field of `config` does, or a class of the user's own."""
    return hash_of(identity(config))


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lists the fields in which two results of `to_dict` differ, as `path: old -> new`, a line each."""
    if isinstance(old, dict) and isinstance(new, dict) and old.get("class") == new.get("class"):
        keys = [*old, *(key for key in new if key not in old)]
        return [line for key in keys for line in differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list) and path:
        both = itertools.zip_longest(old, new, fillvalue=_ABSENT)
        return [line for i, (a, b) in enumerate(both) for line in differences(a, b, f"{path}.{i}")]
    return [] if old == new else [f"{path}: {_written(old)} -> {_written(new)}"]


_ABSENT = object()


def _written(value: Any) -> str:
    """Writes a result of `to_dict` as Python would."""
    if isinstance(value, dict):
        fields = (f"{key}={_written(item)}" for key, item in value.items() if key != "class")
        return f"{value.get('class', 'dict')}({', '.join(fields)})"
    if isinstance(value, list):
        return f"({', '.join(map(_written, value))}{',' if len(value) == 1 else ''})"
    return "nothing" if value is _ABSENT else repr(value)
