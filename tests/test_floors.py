"""The tables of CONTRIBUTING.md are true: imports point down, and what a kind has is in one literal table."""

from __future__ import annotations

import ast
import pathlib
import re

import pytest

from tests import tiny
from tfaug.augment import AUGMENTATIONS, Augmentation, Compose, OneOf
from tfaug.data import SOURCES, Source
from tfaug.evaluate import ATTACKS, EVALUATORS, Attack, Evaluator
from tfaug.experiment import CLASSES
from tfaug.models import MODEL_CLASSES, Model
from tfaug.train.methods import METHODS, Method
from tfaug.train.order import ORDERS, Order, ScoringOrder
from tfaug.train.stop import STOPS, Stop
from tfaug.train.teachers import TEACHERS, Teacher

FLOORS = [
    (int(floor), re.findall(r"`([^`]+)`", places))
    for floor, places in re.findall(r"^\| (\d) \| (.*) \|$", (tiny.ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
]
FILES = [path.relative_to(tiny.ROOT) for path in sorted((tiny.ROOT / "tfaug").rglob("*.py"))]


def floor_of(path: pathlib.PurePath) -> int | None:
    """Returns the floor of a file: of the longest place of the table that it is or lies in."""
    found = [(len(place), floor) for floor, places in FLOORS for place in places if str(path).startswith(place)]
    return max(found)[1] if found else None


def imports_of(tree: ast.Module) -> set[str]:
    """Returns the modules of tfaug that a module imports when it is imported itself."""
    found, todo = set(), list(tree.body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, (ast.With, ast.Try)):
            todo += node.body
    return {name for name in found if name.startswith("tfaug.")}


def file_of(module: str) -> pathlib.PurePath | None:
    path = pathlib.PurePath(*module.split("."))
    return next(
        (each for each in (path.with_suffix(".py"), path / "__init__.py") if (tiny.ROOT / each).is_file()), None
    )


def test_every_file_has_a_floor():
    assert len(FLOORS) == 6
    assert [str(path) for path in FILES if floor_of(path) is None and path.name != "__init__.py"] == []
    missing = [place for _, places in FLOORS for place in places if not (tiny.ROOT / place).exists()]
    assert missing == []


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_down(path):
    floor = floor_of(path)
    if floor is None:
        return
    for module in imports_of(ast.parse((tiny.ROOT / path).read_text())):
        imported = file_of(module)
        if imported is not None and (below := floor_of(imported)) is not None:
            assert below <= floor, f"{path} (floor {floor}) imports {module} (floor {below})"


def below(base: type) -> set[type]:
    """Returns all classes of tfaug that are made of a base and are no base themselves."""
    found = set()
    for cls in base.__subclasses__():
        own = cls.__module__.startswith("tfaug.") and not cls.__name__.startswith("_") and cls is not ScoringOrder
        found |= below(cls) | ({cls} if own else set())
    return found


@pytest.mark.parametrize(
    ("base", "table"),
    [
        (Augmentation, {**AUGMENTATIONS, "Compose": Compose, "OneOf": OneOf}),
        (Attack, ATTACKS),
        (Evaluator, EVALUATORS),
        (Method, METHODS),
        (Model, MODEL_CLASSES),
        (Order, ORDERS),
        (Source, SOURCES),
        (Stop, STOPS),
        (Teacher, TEACHERS),
    ],
    ids=lambda each: each.__name__ if isinstance(each, type) else "",
)
def test_a_kind_is_in_its_table_and_known_to_the_command_line(base, table):
    assert set(table.values()) == below(base)
    assert set(table.values()) <= set(CLASSES.values())


def test_no_two_classes_have_one_name():
    """But for layers, which have the names that keras-cv gave them, and private ones."""
    found: dict[str, list[str]] = {}
    for path in [*FILES, *sorted((tiny.ROOT / "serving").rglob("*.py")), *sorted((tiny.ROOT / "tools").rglob("*.py"))]:
        if path.parent.name != "layers":
            for node in ast.parse((tiny.ROOT / path).read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(str(path))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}
