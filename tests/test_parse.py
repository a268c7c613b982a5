"""`parse_op` reads what Python would write, evaluates nothing, and says what is allowed."""

from __future__ import annotations

import dataclasses

import pytest

from tfaug import augment
from tfaug.augment import AUGMENTATIONS, Compose, CutMix, Flip, Mixup, OneOf, PadCrop, RandAugment, SumAug, parse_op
from tfaug.augment.base import Augmentation
from tfaug.config import ConfigError
from tfaug.schedules import Cosine, Linear, Step


@dataclasses.dataclass(frozen=True)
class Probe(Augmentation):
    """Has a field that must be given and keeps whatever it gets."""

    value: object
    other: object = None


@pytest.mark.parametrize(
    ("text", "op"),
    [
        ("RandAugment(n=2, m=9)", RandAugment(2, 9)),
        ("RandAugment(3, 5)", RandAugment(3, 5)),
        ("RandAugment(3, m=5)", RandAugment(3, 5)),
        ("  RandAugment( m = 5.5 ,\n n = 1 )  ", RandAugment(1, 5.5)),
        ("RandAugment(preset='paper_cifar', fill=0)", RandAugment(preset="paper_cifar", fill=0)),
        ("Flip", Flip()),
        ("Flip()", Flip()),
        ("Flip(1e-3)", Flip(0.001)),
        ("augment.Flip(1/4)", Flip(0.25)),
        ("PadCrop(4) + Flip() + CutMix(p=0.5)", Compose((PadCrop(4), Flip(), CutMix(p=0.5)))),
        ("PadCrop + (Flip + Mixup)", Compose((PadCrop(), Flip(), Mixup()))),
        ("Compose(())", Compose(())),
        ("Compose()", Compose(())),
        ("Compose((Flip(), Compose([SumAug(k=3)])))", Compose((Flip(), Compose((SumAug(3),))))),
        ("Flip(), CutMix()", Compose((Flip(), CutMix()))),
        ("(Flip(), CutMix())", Compose((Flip(), CutMix()))),
        ("[Flip, CutMix() + Mixup(0.2),]", Compose((Flip(), CutMix(), Mixup(0.2)))),
        ("Flip(),", Flip()),
        ("OneOf((Flip(), CutMix()), [2, 1])", OneOf((Flip(), CutMix()), (2, 1))),
        (
            "OneOf((Mixup(), Compose((Flip(), CutMix())))) + Flip()",
            Compose((OneOf((Mixup(), Compose((Flip(), CutMix())))), Flip())),
        ),
        ("Compose(ops=(Flip(),)) + SumAug()", Compose((Compose((Flip(),)), SumAug()))),
    ],
)
def test_an_op_is_read_as_python_would(text, op):
    assert parse_op(text) == op


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-3", -3),
        ("+2.5", 2.5),
        ("-1e3", -1000.0),
        ("True", True),
        ("None", None),
        ("'a + b'", "a + b"),
        ('"(0, 1"', "(0, 1"),
        ("(0.02, -0.4)", (0.02, -0.4)),
        ("(4/255, 2 - 3*2)", (4 / 255, -4)),
        ("[1, (2, 'x')]", (1, (2, "x"))),
        ("()", ()),
        ("Linear(0, 30)", Linear(0, 30)),
        ("Cosine(initial=0.5, final=-0.0)", Cosine(initial=0.5, final=0.0)),
        ("Step(1, (0.25, 0.5), factor=0.1)", Step(1, (0.25, 0.5), 0.1)),
        ("(Linear(), Flip(p=1))", (Linear(), Flip(1))),
    ],
)
def test_a_value_is_read_as_python_would(text, value):
    for call in (f"Probe({text})", f"Probe(other={text}, value=0)"):
        op = parse_op(call, {"Probe": Probe, "Flip": Flip})
        got = op.other if "other=" in call else op.value
        assert got == value and type(got) is type(value)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_op_is_read_from_its_own_repr_and_from_its_name(name):
    op = AUGMENTATIONS[name]()
    assert parse_op(repr(op)) == op == parse_op(name)


def test_a_composed_op_is_read_from_its_own_repr():
    op = Compose(
        (PadCrop(2), RandAugment(1, 30), OneOf((Flip(1.0), Mixup()), (1, 3.5)), Compose((Flip(1.0), SumAug(2))))
    )
    assert parse_op(repr(op)) == op


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", ["no op is given", "RandAugment", "CutMix"]),
        ("   ", ["no op is given"]),
        ("RandAugment(n=2, m=9", ["'RandAugment(n=2, m=9'", "never closed", "as in RandAugment(n=2, m=9)"]),
        ("RandAugment(n=2 m=9)", ["cannot be read", "as in"]),
        ("RandAugment(n=2, n=3)", ["'n' twice"]),
        ("Flip() +", ["cannot be read"]),
        ("Flip() * 2", ["Flip() * 2 is not an op"]),
        ("Flip() - CutMix()", ["is not an op"]),
        ("()", ["no op is given"]),
        ("(Flip(), 3)", ["3 is not an op"]),
        ("(*(Flip(),),)", ["is not an op"]),
        ("OneOf()", ["OneOf needs ops", "OneOf has: ops, weights"]),
        ("OneOf(Flip(), CutMix())", ["OneOf.ops is Flip(p=0.5", "a tuple of ops"]),
        ("3", ["3 is not an op"]),
        ("nowhere.Flip()", ["'nowhere.Flip' names the module 'nowhere'", "neither in this folder nor installed"]),
        ("augment.Flap()", ["augment has no class 'Flap'", "did you mean 'Flip'"]),
        ("pathlib.Path('x')", ["Path, which is no frozen dataclass", "@dataclasses.dataclass(frozen=True)"]),
        ("RandAugmnt(n=2)", ["'RandAugmnt' is unknown", "did you mean 'RandAugment'", "allowed: ", "CutMix"]),
        ("Flip() + Cutmix()", ["'Cutmix' is unknown", "did you mean 'CutMix'"]),
        ("Linear(0, 1)", ["'Linear' is unknown", "allowed: "]),
        ("CutMix(p=Liner(0, 1))", ["'Liner' is unknown", "did you mean 'Linear'", "Cosine"]),
        ("CutMix(p=Linear(0, end=1))", ["Linear has no field 'end'", "initial, final"]),
        ("CutMix(p=Linear)", ["the value Linear is unknown", "Linear(...)"]),
        ("RandAugment(mm=9)", ["RandAugment has no field 'mm'", "did you mean 'm'", "RandAugment has: n, m"]),
        ("RandAugment(2, 9, n=3)", ["'n' twice", "RandAugment has: n, m"]),
        ("Mixup(0.1, 0.2, 3)", ["Mixup is given 3 values", "Mixup has: alpha, p"]),
        ("RandAugment(preset=paper_cifar)", ["paper_cifar is unknown", "in quotes", "'paper_cifar'"]),
        ("RandAugment(preset='paper_cifr')", ["paper_cifr", "did you mean 'paper_cifar'"]),
        ("Flip(p=true)", ["true is unknown", "did you mean 'True'"]),
        ("Flip(p='a')", ["Flip.p is 'a'", "0..1"]),
        ("Flip(p=-0.5)", ["Flip.p is -0.5", "0..1"]),
        ("Flip(p=-True)", ["-True is not a value"]),
        ("Flip(p=1/0)", ["1 / 0: division by zero"]),
        ("Flip(p=2**-1)", ["2 ** (-1) is not a value"]),
        ("Flip(p=1/'2')", ["1 / '2' is not a value"]),
        ("Flip(p=b'x')", ["is not a value"]),
        ("Flip(p=2j)", ["is not a value"]),
        ("Flip(p={1})", ["is not a value"]),
        ("Flip(p=[x for x in (1,)])", ["is not a value"]),
        ("Flip(*(1,))", ["*(1,) is not a value"]),
        ("Flip(**{'p': 1})", ["**{'p': 1} is not allowed", "Flip has: p"]),
        ("Compose((Flip, 3))", ["the value Flip is unknown", "Flip(...)"]),
        ("Compose((Flip(), 3))", ["Compose.ops[1] is 3"]),
        ("Compose(Flip())", ["Compose.ops is Flip(p=0.5", "a tuple of ops"]),
        ("Flip(\0)", ["cannot be read"]),
        ("(" * 5000 + "Flip()" + ")" * 5000, ["cannot be read"]),
        ("Flip(p=" + "-" * 5000 + "1)", ["cannot be read"]),
    ],
    ids=lambda value: str(value)[:40].replace("\0", "0") if isinstance(value, str) else "",
)
def test_a_wrong_op_is_refused_with_what_is_allowed(text, named):
    with pytest.raises(ConfigError) as caught:
        parse_op(text)
    for part in named:
        assert part in str(caught.value)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_a_missing_value_is_named():
    with pytest.raises(ConfigError, match="Probe needs value; Probe has: value, other"):
        parse_op("Probe(other=1)", {"Probe": Probe})


def test_an_error_inside_the_op_names_the_call():
    @dataclasses.dataclass(frozen=True)
    class Fragile(Augmentation):
        scale: tuple[float, float] = (0.1, 0.2)

        def __post_init__(self):
            low, _ = self.scale
            assert low

    with pytest.raises(ConfigError, match=r"Fragile\(scale=3\): cannot unpack .*; Fragile has: scale"):
        parse_op("Fragile(scale=3)", {"Fragile": Fragile})


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('touch {0}')", "Flip(p=open('{0}', 'w'))", "Flip(p=(lambda: open('{0}', 'w'))())"],
)
def test_nothing_is_evaluated(text, tmp_path):
    target = tmp_path / "made"
    with pytest.raises(ConfigError):
        parse_op(text.format(target))
    assert not target.exists()


def test_many_ops_are_joined_in_order():
    op = augment.parse_op(" + ".join(f"PadCrop({i})" for i in range(200)))
    assert [part.pad_px for part in op.ops] == list(range(200))
