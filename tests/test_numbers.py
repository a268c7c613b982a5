"""Numbers of every configuration and layer: Python's and numpy's are taken, what is no number of the field is refused.

The fields are found by their annotations, so a new configuration or layer is tested by itself.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import importlib
import inspect
import json
import pkgutil
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfaug
from tests.test_augment_layers import LAYERS, keras_cv
from tfaug import augment, rng
from tfaug.augment import layers
from tfaug.config import LARGEST, ConfigError, fingerprint, is_number, to_dict, to_python
from tfaug.data import Augmented, DataConfig, Folder, Npz, Tfds
from tfaug.data.copies import CopiesConfig
from tfaug.evaluate.attacks import FGSM
from tfaug.experiment import Experiment, TestSet
from tfaug.export import ViewChoice
from tfaug.fingerprint import Case
from tfaug.models import LeNet, build_model
from tfaug.preview import Preview
from tfaug.schedules import Constant
from tfaug.study import Column, Figure, Published, Table
from tfaug.train.methods import Distill
from tfaug.train.phase import Phase, Training
from tfaug.train.teachers import FromEndpoint, FromSavedModel, FromWorkdir

PHASE = Phase("main", epochs=1, schedule=Constant(0.1))

# What cannot be made without arguments.
EXAMPLES: dict[type, Any] = {
    type(example): example
    for example in (
        PHASE,
        Augmented(Tfds("cifar10"), augment.Flip()),
        Case("Flip()"),
        ViewChoice(num_draws=1, weight=0.5),
        CopiesConfig(DataConfig(), "Flip()"),
        Experiment("e", model=LeNet(), phases=(PHASE,)),
        FromEndpoint("localhost:1", "m"),
        FromSavedModel("x"),
        FromWorkdir("x", phase=0),
        TestSet("shifted", Tfds("cifar10")),
        Training("t", LeNet(), (PHASE,)),
        Folder("images"),
        Npz("a.npz"),
        Tfds("cifar10"),
        Preview(("Flip()",)),
        augment.OneOf((augment.Flip(), augment.PadCrop()), weights=(1.0, 2.0)),
        Column("c"),
        Figure("f"),
        Published("a", "c", 1.0),
        Table("t"),
        augment.Zoom(width=(-0.5, 1.0)),
    )
}

# Dataclasses with numbers that nobody configures: what was computed, read from files that we wrote, or a constant.
NOT_CONFIGURED = {
    *("Axis", "Named", "PhaseFolder", "Plan", "Predictions", "Row", "Run", "Study", "StudyFolder", "TrainingCost"),
    *("TrainingFolder", "Trial", "Written"),
}


def find_configs() -> list[type]:
    """Returns the frozen dataclasses of the package, but for the report's and the command line's, which have none."""
    found = set()
    for module in pkgutil.walk_packages(tfaug.__path__, "tfaug."):
        if not module.name.startswith(("tfaug.report", "tfaug.cli", "tfaug.serving", "tfaug.experiments")):
            values = vars(importlib.import_module(module.name)).values()
            kinds = {value for value in values if inspect.isclass(value) and dataclasses.is_dataclass(value)}
            found |= {kind for kind in kinds if kind.__module__ == module.name and kind.__dataclass_params__.eq}
    public = [kind for kind in found if not kind.__name__.startswith("_") and kind.__name__ not in NOT_CONFIGURED]
    return sorted(public, key=lambda kind: kind.__name__)


def kinds_of(hint: Any) -> set[Any]:
    """Returns what an annotation allows: `int`, `float`, `str`, and `(int,)` or `(float,)` for tuples of them."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return set().union(*(kinds_of(argument) for argument in arguments))
    if origin in (tuple, collections.abc.Sequence):
        return {(arguments[0],)} if arguments[0] in (int, float) else set()
    return {hint} & {int, float, str}


CONFIGS = find_configs()
FIELDS = [
    (kind, name, kinds)
    for kind in CONFIGS
    for name, hint in typing.get_type_hints(kind).items()
    if typing.get_origin(hint) is not typing.ClassVar and (kinds := kinds_of(hint)) - {str}
]
each_number = pytest.mark.parametrize(
    ("kind", "name", "whole"),
    [
        pytest.param(kind, name, float not in kinds, id=f"{kind.__name__}.{name}")
        for kind, name, kinds in FIELDS
        if kinds & {int, float}
    ],
)
each_tuple = pytest.mark.parametrize(
    ("kind", "name", "whole"),
    [
        pytest.param(kind, name, (float,) not in kinds, id=f"{kind.__name__}.{name}")
        for kind, name, kinds in FIELDS
        if kinds & {(int,), (float,)}
    ],
)


def example(kind: type) -> Any:
    return EXAMPLES[kind] if kind in EXAMPLES else kind()


def numbers_of_numpy(number: float, whole: bool) -> Iterator[Any]:
    """Yields numpy's numbers of the same value, or nearly."""
    if float(number).is_integer():
        yield from (kind(number) for kind in (np.int32, np.int64, np.int16 if number < 0 else np.uint16))
    if not whole:
        yield from (kind(number) for kind in (np.float16, np.float32, np.float64, np.longdouble))


def no_numbers(whole: bool) -> list[Any]:
    wrong = [np.nan, np.inf, -np.inf, np.float32(np.nan), np.float64(np.inf), True, np.True_, "7x", 10.0**39, 1j]
    return [*wrong, 2.5, 2.0, np.float64(2.0), np.float32(2.5)] if whole else wrong


def test_the_table_holds_every_configuration() -> None:
    assert {*augment.AUGMENTATIONS.values(), FGSM, Experiment, Distill, DataConfig} <= set(CONFIGS)
    assert len(FIELDS) > 80


@each_number
def test_a_number_of_numpy_becomes_pythons(kind: type, name: str, whole: bool) -> None:
    before = getattr(example(kind), name)
    number = before if is_number(before) else 1 if whole else 0.5
    as_python = dataclasses.replace(example(kind), **{name: number})
    for given in numbers_of_numpy(number, whole):
        config = dataclasses.replace(example(kind), **{name: given})
        kept = getattr(config, name)
        assert type(kept) is (int if isinstance(given, np.integer) else float) and kept == to_python(given)
        assert "np." not in repr(config) and json.dumps(to_dict(config))
        if type(kept) is type(number) and kept == number:
            assert fingerprint(config) == fingerprint(as_python) and config == as_python


@each_number
def test_what_is_no_number_of_the_field_is_refused_by_name(kind: type, name: str, whole: bool) -> None:
    for value in no_numbers(whole):
        with pytest.raises(ConfigError) as error:
            dataclasses.replace(example(kind), **{name: value})
        said = str(error.value)
        assert f"{kind.__name__}.{name} is {value!r}" in said and "; allowed: " in said
        assert not whole or "whole" in said


@each_tuple
def test_numbers_in_a_tuple_are_read_alike(kind: type, name: str, whole: bool) -> None:
    before = getattr(example(kind), name)
    numbers = before if isinstance(before, tuple) else (3, 4)
    for given in zip(*(numbers_of_numpy(number, whole) for number in numbers), strict=False):
        config = dataclasses.replace(example(kind), **{name: given})
        kept = getattr(config, name)
        assert kept == to_python(given) and all(type(number) in (int, float) for number in kept)
        assert "np." not in repr(config) and json.dumps(to_dict(config))
    for value in no_numbers(whole):
        wrong = (*numbers[:-1], value)
        with pytest.raises(ConfigError) as error:
            dataclasses.replace(example(kind), **{name: wrong})
        assert f"{kind.__name__}.{name} is {wrong!r}" in str(error.value)


def test_no_number_of_float32_is_beyond_the_largest() -> None:
    assert np.finfo(np.float32).max == LARGEST and np.float32(LARGEST) == LARGEST


@pytest.mark.parametrize("value", [True, None, "a", (1, "b"), [True], np.True_, tf.constant(1), np.array(3)])
def test_what_is_no_number_stays_as_it_is_and_is_none(value: Any) -> None:
    assert to_python(value) is value or to_python(value) == value
    assert not is_number(to_python(value))


def test_a_choice_of_numpys_type_becomes_pythons() -> None:
    op = augment.Flip(axis=np.str_("vertical"), alternate=np.False_)
    assert repr(op) == "Flip(p=0.5, axis='vertical', alternate=False)"
    assert augment.parse_op(repr(augment.RandAugment(np.int64(3), np.float64(4.0)))) == augment.RandAugment(3, 4.0)


# Layers.


def arguments_of(name: str) -> dict[str, set[Any]]:
    """Returns the numbers among the constructor's arguments and what each allows."""
    hints = typing.get_type_hints(getattr(layers, name).__init__)
    found = {argument: kinds_of(hint) for argument, hint in hints.items()}
    return {argument: kinds for argument, kinds in found.items() if kinds - {str}}


ARGUMENTS = [(name, argument, kinds) for name in LAYERS for argument, kinds in arguments_of(name).items()]
each_argument = pytest.mark.parametrize(
    ("name", "argument", "kinds"), [pytest.param(*case, id=f"{case[0]}.{case[1]}") for case in ARGUMENTS]
)


def given_to(name: str) -> dict[str, Any]:
    """Returns the arguments of the layer in the table, with a seed."""
    bound = inspect.signature(getattr(layers, name)).bind(*LAYERS[name].args, **LAYERS[name].keywords, seed=1)
    bound.apply_defaults()
    return {key: value for key, value in bound.arguments.items() if key != "kwargs"} | bound.arguments.get("kwargs", {})


@each_argument
def test_a_layer_takes_numbers_of_numpy_and_keeps_pythons(name: str, argument: str, kinds: set[Any]) -> None:
    arguments, make = given_to(name), getattr(layers, name)
    whole = not kinds & {float, (float,)}
    value = arguments[argument]
    value = (1 if whole else 0.5) if value is None or isinstance(value, str) else value
    values = value if isinstance(value, (tuple, list)) else (value,)
    for some in zip(*(numbers_of_numpy(number, whole) for number in values), strict=False):
        given = some if isinstance(value, (tuple, list)) else some[0]
        made = make(**{**arguments, argument: given})
        kept = made.get_config()[argument]
        assert kept == to_python(given) and "np." not in repr(kept)
        assert json.dumps(tf.keras.layers.serialize(made))


@each_argument
def test_a_layer_refuses_what_is_no_number_of_the_argument(name: str, argument: str, kinds: set[Any]) -> None:
    arguments, make = given_to(name), getattr(layers, name)
    before, whole = arguments[argument], not kinds & {float, (float,)}
    for value in no_numbers(whole):
        wrong = (*before[:-1], value) if isinstance(before, (tuple, list)) else value
        with pytest.raises(ConfigError) as error:
            make(**{**arguments, argument: wrong})
        assert f"{argument} is {wrong!r}; allowed: " in str(error.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: layers.RandomRotation(-0.1), "RandomRotation.factor is -0.1; allowed: a finite number or"),
        (lambda: layers.RandomTranslation(-0.1, 0), "height_factor is -0.1; allowed: a number or .* in -1..1"),
        (lambda: layers.RandomBrightness(-0.1), "RandomBrightness.factor is -0.1; allowed: "),
        (lambda: layers.RandomContrast((0, 255), 3), r"RandomContrast.factor is 3; allowed: a, or \(a, b\)"),
        (lambda: layers.RandomContrast((0, 255), (0.1, 0.2, 0.3)), r"factor is \(0.1, 0.2, 0.3\); allowed: "),
        (lambda: layers.RandomZoom(1.5), "RandomZoom.height_factor is 1.5; allowed: a number or .* in -1..1"),
        (lambda: layers.RandomSharpness(-0.1, (0, 255)), "RandomSharpness.factor is -0.1; allowed: "),
        (lambda: layers.RandomGaussianBlur(0, 1), "RandomGaussianBlur.kernel_size is 0; allowed: px, or"),
        (lambda: layers.RandAugment((0, 255), magnitude=(0.1, 0.2)), r"RandAugment.magnitude is \(0.1, 0.2\); allowed"),
        (lambda: layers.AutoAugment((0, 255), rate=2), "AutoAugment.rate is 2; allowed: 0..1"),
        (lambda: layers.RandomErasing((0, 255), rate=2), "RandomErasing.rate is 2; allowed: 0..1"),
        (lambda: layers.Grayscale(3.0), "Grayscale.output_channels is 3.0; allowed: 1, 3"),
        (lambda: layers.Equalization(5), r"Equalization.value_range is 5; allowed: \(lowest, highest\)"),
        (lambda: layers.RandomFlip(seed=2**64), "RandomFlip.seed is 18446744073709551616; allowed: a whole number, -"),
    ],
)
def test_an_error_shows_the_value_that_was_passed(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# Seeds.

IMAGES = tf.zeros([2, 4, 4, 1], tf.uint8)
SEEDS: dict[str, Callable[[Any], Any]] = {
    "make_seed": rng.make_seed,
    "op": lambda seed: augment.PadCrop(1)(IMAGES, seed),
    "layer": lambda seed: layers.RandomFlip(seed=seed),
    "layer's call": lambda seed: layers.RandomFlip()(IMAGES, seed=seed),
    "network": lambda seed: build_model(
        LeNet(), image_shape=(28, 28, 1), num_classes=2, mean=[0.1], std=[0.3], seed=seed
    ),
}


@pytest.mark.parametrize("take", SEEDS.values(), ids=SEEDS)
@pytest.mark.parametrize("seed", [1.5, 2.0, True, np.float32(1), float("nan")], ids=repr)
def test_a_seed_that_is_not_whole_is_refused_by_name(take: Callable[[Any], Any], seed: Any) -> None:
    with pytest.raises(ValueError) as error:
        take(seed)
    said, as_tensor = str(error.value), "a seed is an integer or int32 [2] (tfaug.rng), got float32 ()"  # by Keras
    assert f"seed is {seed!r}; allowed: a whole number, " in said or as_tensor in said


def test_an_op_needs_a_seed() -> None:
    with pytest.raises(ConfigError, match="seed is None; allowed: a whole number, "):
        augment.PadCrop(1)(IMAGES, None)


def test_a_seed_of_numpy_is_pythons() -> None:
    noise = tf.cast(rng.bits(rng.make_seed(1), [8, 9, 9, 3]) % 256, tf.uint8)
    np.testing.assert_array_equal(augment.PadCrop(4)(noise, np.int64(5)), augment.PadCrop(4)(noise, 5))
    first, second = (layers.RandomCrop(4, 4, seed=seed) for seed in (5, np.uint8(5)))
    np.testing.assert_array_equal(first(noise), second(noise))
    np.testing.assert_array_equal(first(noise, seed=np.int16(7)), second(noise, seed=7))
    for seed in (-3, 2**40 + 7):
        np.testing.assert_array_equal(rng.as_seed(tf.constant(seed, tf.int64)), rng.make_seed(seed))


@pytest.mark.parametrize("data", [1.5, True, tf.constant(2.0)], ids=["1.5", "True", "tensor"])
def test_a_seed_is_folded_with_whole_numbers_alone(data: Any) -> None:
    with pytest.raises(ValueError, match="fold_in takes a whole number, got"):
        rng.fold_in(rng.make_seed(1), data)


# The largest factors that whole multiples of 2**-16 px hold in images of 16,384 px a side.

SIDE = 16384


def reached(made: Any, **choice: float) -> np.ndarray:
    """Returns the places that an axis reads in the corners of the largest image, in px, and checks that int32 holds
    them with half a pixel to spare."""
    values = {name: tf.constant([value], tf.float32) for name, value in choice.items()}
    a, b, c, d, e, f = (int(tf.reshape(value, [])) for value in next(iter(made._op._matrices(values, SIDE, SIDE))))
    y, x = np.array([[0, 0], [SIDE - 1, SIDE - 1]]), np.array([[0, SIDE - 1], [0, SIDE - 1]])
    places = np.stack([d * x + e * y + f, a * x + b * y + c])
    assert np.abs(places).max() + 2**15 < 2**31
    return places / 2**16


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_shear_fits_into_the_largest_image(sign: int) -> None:
    _, x = reached(layers.RandomShear(1.0), x=sign)
    np.testing.assert_array_equal(x, [[0, SIDE - 1], [sign * (SIDE - 1), (1 + sign) * (SIDE - 1)]])
    with pytest.raises(AssertionError):
        reached(layers.RandomShear(1.0), x=1.001)
    with pytest.raises(ConfigError, match=r"RandomShear.y_factor is 1.001; allowed: .* in 0..1"):
        layers.RandomShear(None, 1.001)


@pytest.mark.parametrize("factor", [-1.0, 2.0])
def test_the_largest_zoom_fits_into_the_largest_image(factor: float) -> None:
    _, x = reached(layers.RandomZoom(1.0, 0.5), height=1.0, width=factor)
    middle = (SIDE - 1) / 2
    np.testing.assert_allclose(x, [[middle - (1 + factor) * middle, middle + (1 + factor) * middle]] * 2, atol=1)
    with pytest.raises(ConfigError, match=r"RandomZoom.width_factor is \(0, 2.001\); allowed: .* in -1..2"):
        layers.RandomZoom(0.1, (0, 2.001))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: augment.PadCrop(16385), "PadCrop.pad_px is 16385; allowed: a whole number, 0..16384"),
        (lambda: layers.RandomCrop(16385, 1), "RandomCrop.height is 16385; allowed: a whole number, 1..16384"),
        (lambda: layers.RandomShear(np.inf), "RandomShear.x_factor is inf; allowed: .* in 0..1"),
    ],
)
def test_sizes_beyond_the_largest_image_are_refused(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(("factor", "same"), [(-0.4, 0.4), ((-0.4, -0.5), (-0.5, -0.4)), ((0.3, -0.1), (-0.1, 0.3))])
def test_a_zoom_takes_negative_factors_and_limits_in_any_order_as_kerascv_does(factor: Any, same: Any) -> None:
    theirs = keras_cv.layers.RandomZoom(factor, factor)
    ours = layers.RandomZoom(factor, factor)
    limits = sorted((theirs.height_lower, theirs.height_upper))
    assert [*ours._op.height] == [*ours._op.width] == limits
    draws = [made.sample_choice(rng.make_seed(3), (50, 4, 4, 1))["height"] for made in (ours, layers.RandomZoom(same))]
    np.testing.assert_array_equal(*draws)
    assert ours.get_config()["height_factor"] == factor
