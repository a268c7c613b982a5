"""What all augmentations have in common, tested op by op: see tfaug.augment.base for the contract."""

from __future__ import annotations

import dataclasses
import functools
import typing
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tfaug import augment, rng
from tfaug.augment import AUGMENTATIONS, Augmentation, Batch, Compose, OneOf
from tfaug.augment.base import Sometimes
from tfaug.config import ConfigError
from tfaug.data.pipeline import step_seed
from tfaug.schedules import Linear, Progress, Schedule
from tfaug.train.strategy import mirrored_strategy

NUM_CLASSES = 5
SEED = 7
PROGRESS = Progress(3, 10)  # Given to every op; GradualSumAug cannot do without.

# Each op at a setting in which all its parts are at work.
OPS: dict[str, Augmentation] = {
    "AutoAugment": augment.AutoAugment("imagenet", p=0.9),
    "AutoContrast": augment.AutoContrast(p=0.5),
    "Brightness": augment.Brightness(p=0.9),
    "ChannelShuffle": augment.ChannelShuffle(p=0.9),
    "Contrast": augment.Contrast(p=0.9),
    "CropAndResize": augment.CropAndResize(p=0.9),
    "CutMix": augment.CutMix(alpha=0.7, p=0.8),
    "Cutout": augment.Cutout(size_px=5, num_holes=2, min_size_px=2, p=0.9),
    "Desaturate": augment.Desaturate(p=0.9),
    "ElasticDistortion": augment.ElasticDistortion(p=0.9),
    "Equalize": augment.Equalize(p=0.5),
    "Flip": augment.Flip(p=0.5),
    "GaussianBlur": augment.GaussianBlur(p=0.9),
    "GaussianFilter": augment.GaussianFilter((3, 4), p=0.9),
    "GradualSumAug": augment.GradualSumAug(n=3),
    "Grayscale": augment.Grayscale(p=0.5),
    "Mixup": augment.Mixup(alpha=0.4, p=0.8),
    "PadCrop": augment.PadCrop(pad_px=2),
    "Posterize": augment.Posterize(bits=3, p=0.5),
    "RandAugment": augment.RandAugment(n=2, m=9.0),
    "RandomCrop": augment.RandomCrop(size_px=6),
    "RandomCutout": augment.RandomCutout(p=0.9),
    "RandomErasing": augment.RandomErasing(p=0.9, fill="noise"),
    "RandomResizedCrop": augment.RandomResizedCrop(p=0.9),
    "RandomScale": augment.RandomScale(p=0.9),
    "Rotate": augment.Rotate(p=0.9),
    "SamplePairing": augment.SamplePairing(weight=0.3, p=0.8),
    "Shear": augment.Shear(fill_mode="wrap", p=0.9),
    "Smooth": augment.Smooth(p=0.9),
    "Solarize": augment.Solarize((100, 200), (5, 60), p=0.9),
    "SumAug": augment.SumAug(k=3),
    "Translate": augment.Translate(fill_mode="nearest", p=0.9),
    "Zoom": augment.Zoom((-0.3, 0.3), (-0.2, 0.9), fill_mode="constant", p=0.9),
    "OneOf": OneOf((augment.CutMix(), augment.Mixup(0.4), Compose((augment.Flip(), augment.CutMix()))), (1, 2, 1)),
    "Compose": Compose((augment.PadCrop(2), augment.Flip(), augment.SumAug(2), augment.Mixup(), augment.CutMix())),
}
SOMETIMES = tuple(name for name, op in OPS.items() if isinstance(op, Sometimes))
FIXED = ("AutoContrast", "Equalize", "Grayscale", "Posterize")  # Ops that draw nothing but whether they are applied.
# Where the op itself makes no difference, one of those that share their sample and apply stands for all.
KINDS = [name for name in OPS if name not in (*SOMETIMES, "CropAndResize") or name == "Brightness"]
# RandAugment's operations, which all of its tests compile; what is Zoom's with other matrices, and a part of Desaturate.
COMPILED_ELSEWHERE = ("AutoContrast", "Equalize", "Posterize", "Smooth", "Solarize")
COMPILED_ELSEWHERE += ("Rotate", "Shear", "Translate", "Grayscale")
COMPILED = [name for name in OPS if name not in COMPILED_ELSEWHERE]
IDLE = ("Equalize",)  # Images of fewer than 256 px stay as they are.

# The strength-0 form of each op.
IDENTITIES: dict[str, Augmentation] = {
    "AutoAugment": augment.AutoAugment("imagenet", p=0.0),
    "CropAndResize": augment.CropAndResize(p=0.0),
    "CutMix": augment.CutMix(p=0.0),
    "Cutout": augment.Cutout(size_px=0),
    "ElasticDistortion": augment.ElasticDistortion(alpha_px=0.0),
    "Flip": augment.Flip(p=0.0),
    "GaussianBlur": augment.GaussianBlur(p=0.0),
    "GradualSumAug": augment.GradualSumAug(n=1),
    "Mixup": augment.Mixup(p=0.0),
    "PadCrop": augment.PadCrop(pad_px=0),
    "RandAugment": augment.RandAugment(n=0),
    "RandomCrop": augment.RandomCrop(size_px=(9, 13)),
    "RandomErasing": augment.RandomErasing(p=0.0),
    "RandomResizedCrop": augment.RandomResizedCrop(p=0.0),
    "RandomScale": augment.RandomScale(scale=(1.0, 1.0)),
    "SamplePairing": augment.SamplePairing(p=0.0),
    "SumAug": augment.SumAug(k=1),
    "OneOf": OneOf((augment.Flip(p=0.0), augment.CutMix(p=0.0))),
    "Compose": Compose(()),
    **{name: type(OPS[name])(p=0.0) for name in SOMETIMES},  # type: ignore[call-arg]
}

MIXING_OPS = (
    "CutMix",
    "GradualSumAug",
    "Mixup",
    "SamplePairing",
    "SumAug",
    "OneOf",
    "Compose",
)  # Images of several others.
PIXEL_OPS = tuple(name for name in OPS if name not in MIXING_OPS)  # uint8 in, uint8 out; the labels pass.
COPYING_OPS = (*PIXEL_OPS, "CutMix")  # The images keep their type; of the others, they become float32.
MOVING_OPS = ("ChannelShuffle", "CropAndResize", "Cutout", "Desaturate", "Flip", "GaussianFilter", "Grayscale")
MOVING_OPS += ("PadCrop", "RandomCutout", "Rotate", "Shear", "Translate", "Zoom")
LEVEL_OPS = tuple({*PIXEL_OPS} - {*MOVING_OPS})  # Of floats they make whole grey levels, fill with one, or clip.
SUMMING_OPS = ("GradualSumAug", "SumAug")  # The batch gets smaller.

# Odd, non-square, one channel and three, and a size that is a power of two.
SHAPES = {"odd": (14, 9, 13, 3), "grey": (6, 8, 8, 1)}


def make_batch(shape: tuple[int, int, int, int], dtype: str = "uint8", seed: int = 0) -> Batch:
    """Returns random images of `shape` with one-hot labels; float images have fractions."""
    generator = np.random.default_rng([shape[0], seed] if seed else shape[0])
    images = generator.integers(0, 256, shape).astype(dtype)
    if dtype == "float32":
        images = np.minimum(images + generator.random(shape, np.float32), np.float32(255))
    labels = np.eye(NUM_CLASSES, dtype=np.float32)[generator.integers(0, NUM_CLASSES, shape[0])]
    return Batch(tf.constant(images), tf.constant(labels))


@functools.cache
def eager(name: str, shape: str = "odd") -> Batch:
    """Returns what the op makes of the batch of that shape, computed eagerly."""
    return OPS[name](make_batch(SHAPES[shape]), SEED, PROGRESS)


def in_function(op: Augmentation, batch: Batch) -> Batch:
    return tf.function(op)(batch, rng.make_seed(SEED), PROGRESS)


@functools.cache
def compiled(op: Augmentation) -> Callable[..., Batch]:
    """Returns the op compiled by XLA; kept, so that tests that use it with the same shapes share the program."""
    return tf.function(op, jit_compile=True)


def in_xla(op: Augmentation, batch: Batch) -> Batch:
    return compiled(op)(batch, rng.make_seed(SEED), PROGRESS)


def in_tf_data(op: Augmentation, batch: Batch) -> Batch:
    """Maps over a batch whose size is known, with the seed folded from the step as a training run does it."""
    pairs = tf.data.Dataset.from_tensors(tuple(batch))
    return next(iter(pairs.map(lambda images, labels: op(Batch(images, labels), rng.make_seed(SEED), PROGRESS))))


def in_tf_data_of_unknown_size(op: Augmentation, batch: Batch) -> Batch:
    pairs = tf.data.Dataset.from_tensor_slices(tuple(batch)).batch(len(batch.images))
    assert pairs.element_spec[0].shape[0] is None
    return next(iter(pairs.map(lambda images, labels: op(Batch(images, labels), rng.make_seed(SEED), PROGRESS))))


def in_xla_of_unknown_size(op: Augmentation, batch: Batch) -> Batch:
    """Traces with unknown batch, height and width, as a serving signature may; XLA compiles for those that come."""
    spec = Batch(
        tf.TensorSpec([None, None, None, batch.images.shape[-1]], tf.uint8), tf.TensorSpec([None, NUM_CLASSES])
    )
    step = Progress(tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64))
    function = tf.function(op, input_signature=[spec, tf.TensorSpec([2], tf.int32), step], jit_compile=True)
    return function(batch, rng.make_seed(SEED), Progress(*(tf.constant(number, tf.int64) for number in PROGRESS)))


def in_xla_inside_tf_data(op: Augmentation, batch: Batch) -> Batch:
    pairs = tf.data.Dataset.from_tensors(tuple(batch))
    return next(
        iter(pairs.map(lambda images, labels: compiled(op)(Batch(images, labels), rng.make_seed(SEED), PROGRESS)))
    )


MODES: dict[str, Callable[[Augmentation, Batch], Batch]] = {
    "tf_function": in_function,
    "tf_data": in_tf_data,
    "xla": in_xla,
    "tf_data_of_unknown_size": in_tf_data_of_unknown_size,
}


def assert_same_bits(actual: Batch, expected: Batch) -> None:
    assert actual.images.dtype == expected.images.dtype
    np.testing.assert_array_equal(actual.images.numpy(), expected.images.numpy())
    np.testing.assert_array_equal(actual.labels.numpy(), expected.labels.numpy())


def test_the_table_holds_every_augmentation() -> None:
    defined = {op.__name__: op for op in Augmentation.__subclasses__() if op.__module__.startswith("tfaug.")}
    assert defined == {**AUGMENTATIONS, "Compose": Compose, "OneOf": OneOf}
    assert set(OPS) == set(IDENTITIES) == set(PIXEL_OPS) | set(MIXING_OPS) == set(defined)
    for name, op in defined.items():
        assert type(OPS[name]) is op and type(IDENTITIES[name]) is op
        assert getattr(augment, name) is op


@pytest.mark.parametrize("name", OPS)
def test_an_op_is_a_frozen_dataclass_with_typed_fields(name: str) -> None:
    op: Any = OPS[name]
    assert op == dataclasses.replace(op) and hash(op) == hash(dataclasses.replace(op))
    field = dataclasses.fields(op)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(op, field, getattr(op, field))
    assert set(typing.get_type_hints(type(op))) >= {field.name for field in dataclasses.fields(op)}


@pytest.mark.parametrize(
    ("name", "mode"), [(name, mode) for name in OPS for mode in MODES if name in KINDS or mode == "xla"]
)
def test_every_mode_gives_the_same_bits_for_the_same_seed(name: str, mode: str) -> None:
    assert_same_bits(MODES[mode](OPS[name], make_batch(SHAPES["odd"])), eager(name))


@functools.cache
def two_replicas() -> tf.distribute.Strategy:
    strategy = mirrored_strategy()
    assert strategy.num_replicas_in_sync == 2
    return strategy


# One of a kind: moves, fills, mixes images and labels, changes their number, draws an op for each image, holds others.
@pytest.mark.parametrize("name", ["Flip", "Cutout", "CutMix", "SumAug", "RandAugment", "Compose"])
def test_each_replica_of_a_training_step_gives_the_bits_of_its_share(name: str) -> None:
    """As the learner does it: the op is compiled inside the step, and the replica is folded into the seed."""
    strategy, step = two_replicas(), 5
    shares = [make_batch(SHAPES["odd"], seed=replica) for replica in range(2)]

    def replica_step(batch: Batch) -> Batch:
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        return compiled(OPS[name])(batch, step_seed(rng.make_seed(SEED), step, replica), PROGRESS)

    given = strategy.experimental_distribute_values_from_function(
        lambda context: shares[context.replica_id_in_sync_group]
    )
    results = tf.function(lambda batch: strategy.run(replica_step, args=(batch,)), autograph=False)(given)
    images, labels = (strategy.experimental_local_results(part) for part in results)
    for replica, share in enumerate(shares):
        expected = OPS[name](share, step_seed(rng.make_seed(SEED), step, replica), PROGRESS)
        assert_same_bits(Batch(images[replica], labels[replica]), expected)


def scheduled_fields(op: Augmentation) -> list[str]:
    """Returns the fields of an op that may be a schedule."""
    hints = typing.get_type_hints(type(op))
    return [name for name, hint in hints.items() if set(typing.get_args(Schedule)) <= set(typing.get_args(hint))]


SCHEDULED = {name: fields for name in KINDS if (fields := scheduled_fields(OPS[name]))}
AT_WORK = {  # Settings at which those fields count.
    **OPS,
    "Cutout": augment.Cutout(size_px=5, p=0.9),
    "GaussianBlur": augment.GaussianBlur(sigma_px=1.5, p=0.9),
    "SumAug": augment.SumAug(coefficients="beta"),
}
TABULATED = ("alpha",)  # A schedule's value is rounded to one of a few for which there are tables.


def rising(op: Augmentation, field: str) -> Linear:
    """Returns a schedule from an eighth of the field's value to the value itself."""
    value = getattr(op, field)
    assert value > 0, f"the table's {op} needs a {field} above 0"
    return Linear(value / 8, value)


def test_the_fields_that_may_be_schedules_are_found() -> None:
    assert SCHEDULED["CutMix"] == ["alpha", "p"] and SCHEDULED["RandAugment"] == ["m"]


@pytest.mark.parametrize(("name", "field"), [(name, field) for name, fields in SCHEDULED.items() for field in fields])
def test_a_schedule_gives_at_each_step_the_bits_of_the_constant(name: str, field: str) -> None:
    op: Any = AT_WORK[name]
    batch, schedule = make_batch(SHAPES["odd"]), rising(op, field)
    scheduled = dataclasses.replace(op, **{field: schedule})
    with pytest.raises(ValueError, match=rf"{type(op).__name__}\.{field} is a schedule"):
        scheduled(batch, SEED)
    if field in TABULATED:
        return
    for step in range(2):
        constant = round(schedule.value(step, 2) * 2**16) / 2**16  # Values of a schedule are such multiples.
        expected = dataclasses.replace(op, **{field: constant})(batch, SEED, Progress(step, 2))
        assert_same_bits(scheduled(batch, SEED, Progress(step, 2)), expected)


@pytest.mark.parametrize("name", SCHEDULED)
def test_schedules_give_the_same_bits_under_xla_with_a_step_known_only_there(name: str) -> None:
    op: Any = AT_WORK[name]
    scheduled = dataclasses.replace(op, **{field: rising(op, field) for field in SCHEDULED[name]})
    batch, results = make_batch(SHAPES["odd"]), []
    for step in range(2):
        at = Progress(tf.constant(step, tf.int64), tf.constant(2, tf.int64))
        results.append(compiled(scheduled)(batch, rng.make_seed(SEED), at))
        assert_same_bits(results[-1], scheduled(batch, SEED, Progress(step, 2)))
    assert not np.array_equal(results[0].images, results[1].images)


@pytest.mark.parametrize("name", COMPILED)
def test_grey_images_give_the_same_bits_under_xla(name: str) -> None:
    assert_same_bits(in_xla_of_unknown_size(OPS[name], make_batch(SHAPES["grey"])), eager(name, "grey"))


@pytest.mark.parametrize("name", MIXING_OPS)
def test_float_images_and_soft_labels_give_the_same_bits_under_xla(name: str) -> None:
    """Their products round, and XLA fuses a product and a sum where it can."""
    images, labels = make_batch(SHAPES["odd"], "float32")
    soft = tf.nn.softmax(labels + tf.random.stateless_uniform(labels.shape, [1, 2]))
    batch = Batch(images, soft)
    assert_same_bits(in_xla(OPS[name], batch), OPS[name](batch, SEED, PROGRESS))


@pytest.mark.parametrize("name", OPS)
def test_the_same_seed_repeats_and_another_differs(name: str) -> None:
    batch = make_batch(SHAPES["odd"])
    assert_same_bits(OPS[name](batch, rng.make_seed(SEED), PROGRESS), eager(name))
    other = OPS[name](batch, SEED + 1, PROGRESS).images
    assert np.array_equal(other, eager(name).images) == (name in IDLE)


@pytest.mark.parametrize("name", OPS)
def test_the_call_is_sample_then_apply(name: str) -> None:
    op, batch = OPS[name], make_batch(SHAPES["odd"])
    choice = op.sample(rng.make_seed(SEED), SHAPES["odd"], PROGRESS)
    assert_same_bits(op.apply(batch, choice), eager(name))
    of_tensors = op.sample(rng.make_seed(SEED), tuple(tf.constant(size) for size in SHAPES["odd"]), PROGRESS)
    assert choice.keys() == of_tensors.keys()
    for key in choice:
        np.testing.assert_array_equal(choice[key].numpy(), of_tensors[key].numpy())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", OPS)
def test_shape_type_range_and_label_sums_are_kept(name: str, shape: str) -> None:
    result = eager(name, shape)
    size, *image_size = OPS[name].output_shape(SHAPES[shape])
    assert result.images.shape == (size, *image_size) and result.labels.shape == (size, NUM_CLASSES)
    assert result.images.dtype == (tf.uint8 if name in COPYING_OPS else tf.float32)
    assert result.labels.dtype == tf.float32
    assert result.images.numpy().min() >= 0 and result.images.numpy().max() <= 255
    assert result.labels.numpy().min() >= 0
    np.testing.assert_allclose(result.labels.numpy().sum(1), 1, rtol=0, atol=2**-23)


@pytest.mark.parametrize("value", [0, 255])
@pytest.mark.parametrize("name", MIXING_OPS[:-1])
def test_mixing_images_of_one_value_gives_that_value(name: str, value: int) -> None:
    """Weights that do not sum to 1, or a rounding past 255, would show."""
    images, labels = make_batch(SHAPES["odd"])
    result = OPS[name](Batch(tf.fill(images.shape, tf.constant(value, tf.uint8)), labels), SEED, PROGRESS)
    np.testing.assert_array_equal(result.images.numpy(), value)


@pytest.mark.parametrize("name", KINDS)
def test_xla_inside_tf_data_gives_the_same_bits_for_a_batch_of_one(name: str) -> None:
    """A batch of few for the ops that need more than one image."""
    size = 4 if name in (*SUMMING_OPS, "Compose") else 1
    batch = make_batch((size, 7, 10, 3))
    expected = OPS[name](batch, SEED, PROGRESS)
    assert expected.images.shape == OPS[name].output_shape((size, 7, 10, 3))
    for mode in (in_tf_data_of_unknown_size, in_xla_inside_tf_data):
        assert_same_bits(mode(OPS[name], batch), expected)


@pytest.mark.parametrize("name", ["CutMix", "Mixup", "OneOf", "SamplePairing"])
def test_mixing_a_batch_of_one_changes_nothing(name: str) -> None:
    batch = make_batch((1, 7, 10, 3))
    result = OPS[name](batch, SEED, PROGRESS)
    np.testing.assert_array_equal(result.images, tf.cast(batch.images, tf.float32))
    np.testing.assert_array_equal(result.labels, batch.labels)


@pytest.mark.parametrize("name", SOMETIMES)
def test_an_image_is_changed_as_the_choice_says_or_stays(name: str) -> None:
    batch, always = make_batch((64, 20, 16, 3)), type(OPS[name])()
    sometimes = dataclasses.replace(always, p=0.25)  # type: ignore[type-var]
    choice = sometimes.sample(rng.make_seed(SEED), (64, 20, 16, 3))
    applied = choice["applied"].numpy()
    assert 6 <= applied.sum() <= 28 and "applied" not in always.sample(rng.make_seed(SEED), (64, 20, 16, 3))
    expected = np.where(applied[:, None, None, None], always(batch, SEED).images, batch.images)
    np.testing.assert_array_equal(sometimes(batch, SEED).images, expected)
    changed = np.any(expected != batch.images.numpy(), axis=(1, 2, 3))
    assert (changed <= applied).all() and changed.sum() > applied.sum() / 3
    floats = Batch(tf.cast(batch.images, tf.float32), batch.labels)
    np.testing.assert_array_equal(np.round(sometimes(floats, SEED).images), expected)


@pytest.mark.parametrize("name", [name for name in SOMETIMES if name not in FIXED])
def test_whether_an_image_is_changed_does_not_go_with_how(name: str) -> None:
    op = dataclasses.replace(OPS[name], p=0.5)  # type: ignore[type-var]
    choice = op.sample(rng.make_seed(SEED), (4000, 24, 24, 3))
    applied = choice.pop("applied").numpy()
    for drawn in choice.values():
        for values in drawn.numpy().reshape(4000, -1).T:
            assert np.std(values) == 0 or abs(np.corrcoef(values, applied)[0, 1]) < 0.06


@pytest.mark.parametrize("name", IDENTITIES)
def test_strength_zero_is_the_identity(name: str) -> None:
    batch = make_batch(SHAPES["odd"])
    result = IDENTITIES[name](batch, SEED, PROGRESS)
    np.testing.assert_array_equal(result.images.numpy(), batch.images.numpy())
    np.testing.assert_array_equal(result.labels.numpy(), batch.labels.numpy())


@pytest.mark.parametrize("name", OPS)
def test_the_input_is_never_changed(name: str) -> None:
    """Arrays may share their memory with the tensors made of them, so their values are compared with a copy's."""
    images, labels = (part.numpy() for part in make_batch(SHAPES["odd"]))
    before = images.copy(), labels.copy()
    batch = Batch(tf.convert_to_tensor(images), tf.convert_to_tensor(labels))
    for result in (OPS[name]((images, labels), SEED, PROGRESS), in_xla(OPS[name], batch)):
        assert np.array_equal(result.images.numpy(), before[0]) == (name in IDLE)
    np.testing.assert_array_equal(images, before[0])
    np.testing.assert_array_equal(labels, before[1])
    np.testing.assert_array_equal(batch.images.numpy(), before[0])


@pytest.mark.parametrize("name", [name for name in OPS if name not in ("Flip", "SamplePairing", *FIXED, *SUMMING_OPS)])
def test_each_image_gets_a_choice_of_its_own(name: str) -> None:
    """A batch of two images in turn: one choice for all would leave at most four different results."""
    images = tf.tile(make_batch((2, 9, 13, 3)).images, [16, 1, 1, 1])
    labels = tf.tile(tf.one_hot([0, 1], NUM_CLASSES), [16, 1])
    results = OPS[name](Batch(images, labels), SEED, PROGRESS).images.numpy()
    assert len(np.unique(results.reshape(len(results), -1), axis=0)) > 4


def test_each_image_is_flipped_by_itself() -> None:
    images = tf.tile(make_batch((1, 9, 13, 3)).images, [40, 1, 1, 1])
    flipped = [np.array_equal(image, images[0, :, ::-1]) for image in augment.Flip()(images, SEED).numpy()]
    assert 5 < sum(flipped) < 35


@pytest.mark.parametrize("name", PIXEL_OPS)
def test_a_part_of_the_batch_with_its_part_of_the_choice_gives_the_same_pixels(name: str) -> None:
    op, batch, rows = OPS[name], make_batch(SHAPES["odd"]), [4, 1, 13]
    choice = op.sample(rng.make_seed(SEED), SHAPES["odd"], PROGRESS)
    part = Batch(tf.gather(batch.images, rows), tf.gather(batch.labels, rows))
    result = op.apply(part, {key: tf.gather(value, rows) for key, value in choice.items()})
    np.testing.assert_array_equal(result.images.numpy(), eager(name).images.numpy()[rows])
    np.testing.assert_array_equal(result.labels.numpy(), batch.labels.numpy()[rows])


@pytest.mark.parametrize("name", PIXEL_OPS)
def test_pixel_ops_take_images_alone_and_leave_the_labels(name: str) -> None:
    batch = make_batch(SHAPES["odd"])
    alone = OPS[name](batch.images, SEED, PROGRESS)
    assert isinstance(alone, tf.Tensor)
    np.testing.assert_array_equal(alone.numpy(), eager(name).images.numpy())
    np.testing.assert_array_equal(eager(name).labels.numpy(), batch.labels.numpy())


@pytest.mark.parametrize("name", [name for name in MIXING_OPS if name != "SamplePairing"])
def test_mixing_ops_ask_for_labels(name: str) -> None:
    with pytest.raises(ValueError, match="mixes labels too"):
        OPS[name](make_batch(SHAPES["odd"]).images, SEED, PROGRESS)


@pytest.mark.parametrize("scale", [255, 1], ids=["unit range", "grey levels"])
@pytest.mark.parametrize("name", OPS)
def test_floats_of_0_to_1_are_warned_of_where_grey_levels_count(name: str, scale: int) -> None:
    images, labels = make_batch(SHAPES["odd"], "float32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        OPS[name](Batch(images / scale, labels), SEED, PROGRESS)
    said = [str(warning.message) for warning in caught if "floats in 0..1" in str(warning.message)]
    assert bool(said) == (scale == 255 and name in LEVEL_OPS), caught


@pytest.mark.parametrize("name", OPS)
def test_an_op_that_counts_in_no_levels_commutes_with_scaling_and_leaves_what_is_below_0(name: str) -> None:
    op, (images, labels) = OPS[name], make_batch(SHAPES["odd"], "float32")
    choice = op.sample(rng.make_seed(SEED), SHAPES["odd"], PROGRESS)
    applied = [op.apply(Batch(images * scale, labels), choice).images.numpy() / scale for scale in (1, 2**-8, -(2**-8))]
    same = [np.array_equal(part, applied[0]) for part in applied[1:]]
    assert same == [not op.counts_in_levels] * 2
    assert op.counts_in_levels == (name in LEVEL_OPS)
    moved = op.apply(Batch(tf.fill(images.shape, -8.0), labels), choice).images
    assert op.counts_in_levels or op.fills_with_black == bool(np.any(moved.numpy() > -7.9))


def test_black_and_white_is_not_warned_of_and_a_covering_in_grey_is() -> None:
    images = make_batch(SHAPES["odd"], "float32").images / 255
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        augment.RandAugment()(tf.round(images), SEED)
    for op in (augment.Cutout(fill=128), augment.RandomErasing(fill=128)):
        with pytest.warns(UserWarning, match="floats in 0..1"):
            op(images, SEED)


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros([4, 8, 8, 3], np.int32), None, "uint8 or float32 in 0..255, got int32"),
        (np.zeros([8, 8, 3], np.uint8), None, r"\[B, H, W, C\], got the shape \(8, 8, 3\)"),
        (np.zeros([4, 8, 8, 3], np.uint8), np.zeros([3, 2], np.float32), "4 images and 3 labels"),
    ],
)
def test_a_wrong_batch_is_refused_by_name(images: np.ndarray, labels: np.ndarray | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        augment.Flip()(images if labels is None else (images, labels), SEED)


def test_a_batch_of_three_parts_and_a_seed_of_another_shape_are_refused() -> None:
    images, labels = make_batch(SHAPES["grey"])
    with pytest.raises(ValueError, match="got 3 parts"):
        augment.Flip()((images, labels, labels), SEED)
    with pytest.raises(ValueError, match=r"int32 \[2\] .*got int32 \(3,\)"):
        augment.Flip()(images, tf.constant([1, 2, 3]))
    with pytest.raises(ValueError, match="got float32"):
        augment.Flip()(images, tf.constant([1.0, 2.0]))


def test_compose_applies_its_ops_in_order_each_with_its_own_folded_seed() -> None:
    ops = (augment.Mixup(), augment.SumAug(2), augment.CutMix())
    batch = make_batch(SHAPES["odd"])
    expected = batch
    for i, op in enumerate(ops):
        expected = op(expected, rng.fold_in(rng.make_seed(SEED), i))
    assert_same_bits(augment.compose(ops)(batch, SEED), expected)
    reverse = augment.compose(reversed(ops))(batch, SEED)
    assert not np.array_equal(reverse.images, expected.images)


def test_a_composition_inside_a_composition_keeps_its_choices_apart() -> None:
    inner = Compose((augment.Flip(), augment.Mixup()))
    outer = Compose((inner, augment.Mixup()))
    batch, seed = make_batch(SHAPES["odd"]), rng.make_seed(SEED)
    expected = augment.Mixup()(inner(batch, rng.fold_in(seed, 0)), rng.fold_in(seed, 1))
    assert_same_bits(outer(batch, seed), expected)


def test_compose_tells_the_size_that_its_ops_leave() -> None:
    assert Compose((augment.SumAug(2), augment.Flip(), augment.SumAug(3))).output_shape((13, 4, 4, 1))[0] == 2


@pytest.mark.parametrize("ops", [[augment.Flip()], (augment.Flip,), (lambda batch, seed: batch,)])
def test_compose_refuses_what_is_not_a_tuple_of_ops(ops: object) -> None:
    with pytest.raises(ConfigError, match=r"Compose\.ops"):
        Compose(ops)  # type: ignore[arg-type]
