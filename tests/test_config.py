"""Overrides, checks, the fingerprint and the loading of experiments."""

from __future__ import annotations

import dataclasses
import json
import re

import pytest

import tfaug
from tests import tiny
from tfaug import config as configs
from tfaug import expressions
from tfaug.augment import Flip, RandAugment, parse_op
from tfaug.config import ConfigError
from tfaug.data import Augmented, Digits, Npz, Tfds
from tfaug.evaluate.attacks import FGSM, PGD
from tfaug.experiment import CLASSES
from tfaug.experiment import plans as experiments_plan
from tfaug.models import ResNet
from tfaug.schedules import Constant, Linear
from tfaug.train.methods import Distill, Supervised
from tfaug.train.phase import Phase
from tfaug.train.plateau import ReduceOnPlateau
from tfaug.train.stop import EarlyStop
from tfaug.train.teachers import FromWorkdir


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
    assert read(expressions.override(Tree(leaf=Leaf(limit=1, fast="0" in assignment)), assignment))


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
        expressions.override(Tree(), assignment)
    for part in named:
        assert part in str(error.value)


def test_the_fingerprint_changes_with_every_field_and_only_with_the_fields():
    changed = [
        Tree(),
        *(
            expressions.override(Tree(), a)
            for a in ("leaf.rate=0.25", "leaves.1.rounds=7", "leaf.note=x", "leaf.sizes=3")
        ),
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
    old, new = configs.to_dict(Tree()), configs.to_dict(expressions.override(Tree(), "leaves.1.rounds=7"))
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
        expressions.load(spec)
    for part in named:
        assert part in str(error.value)


def test_an_import_error_inside_an_experiment_is_not_hidden(tmp_path, monkeypatch):
    (tmp_path / "broken_study.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        expressions.load("broken_study:run")


def test_an_experiment_of_ones_own_is_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "my_study.py").write_text(
        "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n  a: int = 1\ndef go(): return C()\n"
    )
    monkeypatch.chdir(tmp_path)
    assert expressions.load("my_study:go", ["a=5"]).a == 5


@dataclasses.dataclass(frozen=True)
class Pair:
    low: int = 3
    high: int = 5

    def __post_init__(self) -> None:
        if not self.low < self.high < self.low + 4:
            raise ConfigError(f"low is {self.low} and high {self.high}; allowed: high 1 to 3 above")


@dataclasses.dataclass(frozen=True)
class Pairs:
    pairs: tuple[Pair, ...] = (Pair(), Pair())


def test_values_that_go_with_each_other_alone_are_checked_together():
    """Neither may stand beside the other's old value; what is refused together is, by the first that is refused."""
    for order in (["pairs.1.low=30", "pairs.1.high=32"], ["pairs.1.high=32", "pairs.1.low=30"]):
        assert expressions.assign(Pairs(), order).pairs == (Pair(), Pair(30, 32))
    with pytest.raises(ConfigError, match=r"--set pairs.1.low=30: low is 30 and high 5"):
        expressions.assign(Pairs(), ["pairs.1.low=30", "pairs.1.high=40"])
    with pytest.raises(ConfigError, match=r"--set pairs.1.low=30: low is 30 and high 5"):
        expressions.assign(Pairs(), ["pairs.1.low=30"])
    with pytest.raises(ConfigError, match="unknown key 'pairs.0.middle'"):
        expressions.assign(Pairs(), ["pairs.0.low=4", "pairs.0.middle=1"])
    longer = ["phases.0.stop=EarlyStop(9)", "phases.0.epochs=20"]
    phase = expressions.assign(TINY, longer, CLASSES).trainings[0].phases[0]
    assert (phase.stop, phase.epochs) == (EarlyStop(9), 20)


TINY = tiny.run()


@pytest.mark.parametrize(
    ("assignment", "read"),
    [
        (
            "phases.0.augment=Flip() + RandAugment(n=2, m=9)",
            lambda e: e.trainings[0].phases[0].augment == (Flip(), RandAugment(2, 9)),
        ),
        ("phases.0.augment=()", lambda e: e.trainings[0].phases[0].augment == ()),
        ("trainings.0.phases.0.augment=Flip", lambda e: e.trainings[0].phases[0].augment == (Flip(),)),
        ("phases.refine.epochs=9", lambda e: e.trainings[0].phases[1].epochs == 9),
        ("trainings.0.model=ResNet(26)", lambda e: e.trainings[0].model == ResNet(26)),
        ("model=ResNet(26)", lambda e: e.trainings[0].model == ResNet(26)),
        ("phases.0.schedule=Linear(0.1, 1/8)", lambda e: e.trainings[0].phases[0].schedule == Linear(0.1, 0.125)),
        ("phases.1.schedule=none", lambda e: e.trainings[0].phases[1].schedule is None),
        ("data.augment_validation=Flip()", lambda e: e.data.augment_validation == Flip()),
        ("data.source=Augmented(Digits(), Flip())", lambda e: e.data.source == Augmented(Digits(), Flip())),
        ("phases.0.plateau=ReduceOnPlateau(0)", lambda e: e.trainings[0].phases[0].plateau == ReduceOnPlateau(0)),
        ("phases.0.stop=EarlyStop(1)", lambda e: e.trainings[0].phases[0].stop == EarlyStop(1)),
        (
            "phases.2=Phase('more', 1, Constant(0.1))",
            lambda e: e.trainings[0].phases[2] == Phase("more", 1, Constant(0.1)),
        ),
        ("trainings.student.method.alpha=0.25", lambda e: e.trainings[1].method == Distill(alpha=0.25)),
        ("trainings.student.method=Supervised()", lambda e: e.trainings[1].method == Supervised()),
        (
            'trainings.1.method.teacher=FromWorkdir("a b")',
            lambda e: e.trainings[1].method.teacher == FromWorkdir("a b"),
        ),
        (
            "evaluate.attacks=(FGSM(), PGD(epsilon=8/255))",
            lambda e: e.evaluate.attacks == (FGSM(), PGD(epsilon=8 / 255)),
        ),
        ("test_sets.shifted.source=cifar10_1/v6", lambda e: e.test_sets[0].source == Tfds("cifar10_1/v6")),
        ("data.source=Tfds('mnist')", lambda e: e.data.source == Tfds("mnist")),
        ("test_sets.0.source=a/b.npz", lambda e: e.test_sets[0].source == Npz("a/b.npz")),
        ("export.weights=1/2, 0.75", lambda e: e.export.weights == (0.5, 0.75)),
    ],
)
def test_an_assignment_reads_every_class_that_an_experiment_may_hold(assignment, read):
    assert read(expressions.override(TINY, assignment, CLASSES))


@pytest.mark.parametrize(
    ("assignment", "named"),
    [
        ("phases.0.augment=Flop()", ["phases.0.augment", "'Flop' is unknown", "did you mean 'Flip'"]),
        ("phases.0.augment=SGD()", ["Phase.augment[0] is SGD", "allowed: ops"]),
        ("phases.0.augment=Flip(p=2)", ["Flip.p is 2", "0..1"]),
        ("phases.0.schedule=Flip()", ["Phase.schedule is Flip", "OneCycle"]),
        ("phases.last.epochs=2", ["phases.last", "0..1, or train, refine"]),
        ("phases.5=Phase('x', 1, Constant(1))", ["phases.5", "2 adds one"]),
        ("trainings.0.model=LeNet", ["trainings.0.model", "LeNet(...)"]),
        ("trainings.0.model.depth=20", ["unknown key", "depth"]),
        ("trainings.1.method=Distill('nobody')", ["asks the teacher 'nobody'", "trainings before it: teacher"]),
        ("trainings.0.method=Distill('student')", ["training teacher asks the teacher 'student'"]),
        ("data.source=open('x')", ["data.source"]),
        ("phases.0.order=os.system('x')", ["os has no class 'system'"]),
    ],
)
def test_a_wrong_assignment_is_refused_with_what_is_allowed(assignment, named):
    with pytest.raises(ConfigError) as error:
        expressions.override(TINY, assignment, CLASSES)
    for part in named:
        assert part in str(error.value)


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar10_one_phase"])
def test_an_experiment_is_read_back_from_what_is_written_of_it(name):
    experiment = expressions.load(f"experiments.quickstart:{name}")
    written = json.loads(json.dumps(configs.to_dict(experiment)))
    assert configs.from_dict(written, CLASSES) == experiment
    assert experiments_plan(experiment) == experiments_plan(configs.from_dict(written, CLASSES))


def test_what_cannot_be_read_back_is_named():
    for value, named in (
        ({"class": "Flop"}, "'Flop' is unknown (did you mean 'Flip'?)"),
        ({"class": "Flip", "q": 1}, "Flip has no field 'q'"),
        ({"p": 1}, "names no class: p"),
    ):
        with pytest.raises(ConfigError, match=re.escape(named)):
            configs.from_dict(value, CLASSES)


def test_every_class_of_an_experiment_is_named_in_one_place():
    assert {name: getattr(tfaug, name) for name in CLASSES} == CLASSES


def test_an_identity_leaves_out_fields_at_their_defaults_and_places():
    assert configs.identity(Leaf()) == configs.identity(Leaf(rate=1 / 2))
    assert set(configs.identity(Leaf(rounds=4))) == {"class", "source", "rounds"}
    assert configs.identity(Flip()) == {"class": "Flip"} and configs.identity(Flip(0.25)) == {
        "class": "Flip",
        "p": 0.25,
    }
    assert configs.identity(Tfds("mnist")) == configs.identity(Tfds("mnist", data_dir="/elsewhere"))


OP = """
import dataclasses
from tfaug.augment import Augmentation

@dataclasses.dataclass(frozen=True)
class Darken(Augmentation):
    share: float = 0.5

    def apply(self, batch, choice):
        return batch._replace(images=batch.images // 2)
"""


def test_the_source_of_a_class_of_ones_own_is_part_of_its_identity(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    found = []
    for i, text in enumerate((OP, OP.replace("// 2", "//  2  # half\n"), OP.replace("// 2", "// 3"))):
        (tmp_path / f"own_op_{i}.py").write_text(text)
        found.append(configs.identity(parse_op(f"own_op_{i}.Darken()")))
    assert found[0] == found[1] != found[2]
    assert configs.from_dict(configs.to_dict(parse_op("own_op_0.Darken(0.25)")), {}) == parse_op(
        "own_op_0.Darken(0.25)"
    )
    (tmp_path / "own_op_3.py").write_text(OP.replace("@dataclasses.dataclass(frozen=True)", ""))
    with pytest.raises(
        ConfigError, match=r"Darken, which is no frozen dataclass.*write @dataclasses\.dataclass\(frozen"
    ):
        parse_op("own_op_3.Darken()")


def test_a_file_is_named_as_its_module_is(tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "study_of_files.py").write_text("from tests.tiny import run\ndef go(): return run()\n")
    monkeypatch.chdir(tmp_path)
    found = [expressions.load(f"{name}:go") for name in ("mine/study_of_files.py", "mine.study_of_files")]
    assert found[0] == found[1] == expressions.load(f"{tmp_path}/mine/study_of_files.py:go")
    with pytest.raises(ConfigError, match=r"the file 'mine/study\.py', which does not exist"):
        expressions.load("mine/study.py:go")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("experiments.quickstrat", "experiments.quickstart"),
        ("study_of_fils", "study_of_files"),
        ("mine.study_of_fils", "mine.study_of_files"),
    ],
)
def test_a_near_module_is_suggested(name, near, tmp_path, monkeypatch):
    (tmp_path / "mine").mkdir()
    for folder in (tmp_path, tmp_path / "mine"):
        (folder / "study_of_files.py").write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=re.escape(f"did you mean {near!r}")):
        expressions.load(f"{name}:go")


def test_differences_are_named_field_by_field():
    old = configs.to_dict(TINY)
    new = configs.to_dict(
        dataclasses.replace(TINY, seed=3, trainings=(dataclasses.replace(TINY.trainings[0], model=ResNet(20)),))
    )
    lines = configs.differences(old, new)
    assert lines[0] == "trainings.0.model: LeNet() -> ResNet(depth=20, stem='cifar')"
    assert lines[1].startswith("trainings.1: Training(name='student', model=LeNet(), phases=(Phase(name='distill'")
    assert lines[1].endswith(" -> nothing") and lines[2] == "seed: 0 -> 3" and len(lines) == 3


@pytest.mark.parametrize("name", ["digits", "cifar10", "cifar10_one_phase"])
def test_every_experiment_that_is_installed_can_be_built(name: str) -> None:
    experiment = expressions.load(f"experiments.quickstart:{name}", ["seed=1"])
    assert experiment.seed == 1
    assert configs.fingerprint(experiment) == configs.fingerprint(
        expressions.load(f"experiments.quickstart:{name}", ["seed=1"])
    )


def test_the_table_of_experiments_is_whole() -> None:
    with pytest.raises(
        ConfigError, match="it has: digits, cifar10, cifar10_one_phase, digits_study, quickstart_study$"
    ):
        expressions.load("experiments.quickstart:nothing")
