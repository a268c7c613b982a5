"""Overrides, checks, the fingerprint and the loading of experiments."""

from __future__ import annotations

import dataclasses

import pytest

from tfaug import config as configs
from tfaug.config import ConfigError


@dataclasses.dataclass(frozen=True)
class Leaf:
    rate: float = 0.5
    rounds: int = 3
    sizes: tuple[int, ...] = (1, 2)
    pair: tuple[int, float] = (1, 0.5)
    note: str = ""
    limit: int | None = None
    fast: bool = False

    def __post_init__(self) -> None:
        configs.check_range(self, "rate", 0, 1)


@dataclasses.dataclass(frozen=True)
class Tree:
    leaf: Leaf = Leaf()
    leaves: tuple[Leaf, ...] = (Leaf(), Leaf(rounds=4))
    nothing: Leaf | None = None


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        ("leaf.rate=0.25", lambda t: t.leaf.rate == 0.25),
        ("leaf.rate=1", lambda t: t.leaf.rate == 1.0 and isinstance(t.leaf.rate, float)),
        ("leaves.1.rounds=7", lambda t: t.leaves[1].rounds == 7 and t.leaves[0].rounds == 3),
        ("leaf.sizes=4,5,6", lambda t: t.leaf.sizes == (4, 5, 6)),
        ("leaf.pair=2,0.25", lambda t: t.leaf.pair == (2, 0.25)),
        ("leaf.note=a=b", lambda t: t.leaf.note == "a=b"),
        ("leaf.limit=9", lambda t: t.leaf.limit == 9),
        ("leaf.limit=none", lambda t: t.leaf.limit is None),
        ("leaf.fast=true", lambda t: t.leaf.fast is True),
        ("leaf.fast=0", lambda t: t.leaf.fast is False),
    ],
)
def test_an_override_reads_the_value_by_the_type_of_its_field(assignment, read):
    assert read(configs.override(Tree(leaf=Leaf(limit=1, fast="0" in assignment)), assignment))


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("leaf.rat=0.5", ["leaf.rat", "did you mean 'rate'", "rounds"]),
        ("leave.rate=0.5", ["leave", "did you mean"]),
        ("leaf.rate=1.5", ["Leaf.rate", "1.5", "0..1"]),
        ("leaf.rate=nan", ["Leaf.rate", "nan", "0..1"]),
        ("leaf.rounds=2.5", ["leaf.rounds", "whole number", "2.5"]),
        ("leaf.rounds=many", ["leaf.rounds", "whole number", "many"]),
        ("leaf.fast=maybe", ["leaf.fast", "true or false", "maybe"]),
        ("leaf.pair=1", ["leaf.pair"]),
        ("leaf.sizes=1,x", ["leaf.sizes", "whole number", "x"]),
        ("leaf=3", ["group", "rate"]),
        ("leaves.5.rounds=2", ["leaves.5", "0..1"]),
        ("leaves.0=2", ["leaves.0", "group"]),
        ("leaf.rate.deeper=2", ["leaf.rate.deeper", "one value"]),
        ("nothing.rate=1", ["nothing", "None"]),
        ("leaf.rate", ["KEY=VALUE"]),
    ],
)
def test_a_wrong_override_names_what_was_wrong_and_what_is_allowed(assignment, named):
    with pytest.raises(ConfigError) as error:
        configs.override(Tree(), assignment)
    for part in named:
        assert part in str(error.value)


def test_the_fingerprint_changes_with_every_field_and_only_with_the_fields():
    changed = [
        Tree(),
        *(configs.override(Tree(), a) for a in ("leaf.rate=0.25", "leaves.1.rounds=7", "leaf.note=x", "leaf.sizes=3")),
    ]
    assert len({configs.fingerprint(tree) for tree in changed}) == len(changed)
    assert configs.fingerprint(Tree()) == configs.fingerprint(Tree())


def test_two_types_with_equal_fields_have_different_fingerprints():
    @dataclasses.dataclass(frozen=True)
    class One:
        value: int = 1

    @dataclasses.dataclass(frozen=True)
    class Other:
        value: int = 1

    assert configs.fingerprint(One()) != configs.fingerprint(Other())


def test_differences_name_the_fields():
    old, new = configs.to_dict(Tree()), configs.to_dict(configs.override(Tree(), "leaves.1.rounds=7"))
    assert configs.differences(old, new) == ["leaves.1.rounds: 4 -> 7"]


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("experiments.quickstart", ["MODULE:FUNCTION"]),
        ("experiments.nowhere:digits", ["experiments.nowhere"]),
        ("experiments.quickstart:digit", ["digit", "did you mean 'digits'", "cifar10"]),
    ],
)
def test_a_wrong_config_spec_names_what_is_there(spec, named):
    with pytest.raises(ConfigError) as error:
        configs.load(spec)
    for part in named:
        assert part in str(error.value)


def test_an_import_error_inside_an_experiment_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_study.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        configs.load("broken_study:run")


def test_an_experiment_of_ones_own_is_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_study.py").write_text(
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n  a: int = 1\ndef go(): return C()\n"
    )
    monkeypatch.chdir(tmp_path)
    assert configs.load("my_study:go", ["a=5"]).a == 5


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar10_one_phase"])
def test_every_experiment_that_is_installed_can_be_built(name: str) -> None:
    experiment = configs.load(f"experiments.quickstart:{name}", ["seed=1"])
    assert experiment.seed == 1
    assert configs.fingerprint(experiment) == configs.fingerprint(
        configs.load(f"experiments.quickstart:{name}", ["seed=1"])
    )


def test_the_table_of_experiments_is_whole() -> None:
    with pytest.raises(ConfigError, match="it has: digits, cifar10, cifar10_one_phase$"):
        configs.load("experiments.quickstart:nothing")
