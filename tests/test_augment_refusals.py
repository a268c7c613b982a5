"""What would give a wrong number is refused: labels, numbers of labels and images, and calls meant for another layer."""

from __future__ import annotations

import functools
import pathlib
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import tfaug
from tests import tiny
from tests.test_augment_conformance import KINDS, NUM_CLASSES, OPS, PIXEL_OPS, PROGRESS, SEED, make_batch
from tfaug import augment, losses, rng
from tfaug.augment import Augmentation, Batch, layers
from tfaug.schedules import Progress, Visit

NUM = 8
SHAPE = (NUM, 7, 10, 3)
RANGE = (0, 255)

MIXES_LABELS: dict[str, Augmentation] = {
    "CutMix": augment.CutMix(),
    "GradualSumAug": augment.GradualSumAug(n=2),
    "Mixup": augment.Mixup(),
    "SumAug": augment.SumAug(k=2),
    "Compose": augment.compose([augment.Flip(), augment.SumAug(k=2), augment.CutMix()]),
}
LEAVES_LABELS = [name for name in (*PIXEL_OPS, "SamplePairing") if name in KINDS]
MIXING_LAYERS: dict[str, Callable[[], Any]] = {
    "Augment": functools.partial(layers.Augment, "Flip() + Mixup()"),
    "CutMix": layers.CutMix,
    "MixUp": layers.MixUp,
    "SumAugmentation": layers.SumAugmentation,
}

CLASS_NUMBERS = np.arange(NUM) % 3
# Labels of every layout that cannot be mixed, and what the refusal says.
REFUSED: dict[str, tuple[Any, str]] = {
    "uint8 [B]": (CLASS_NUMBERS.astype(np.uint8), r"got uint8 \(8,\); .*tf.one_hot\(labels, num_classes\)"),
    "int64 [B, 1]": (CLASS_NUMBERS[:, None], r"got int64 \(8, 1\); .*tf.one_hot\(labels\[:, 0\], num_classes\)"),
    "float32 [B]": (CLASS_NUMBERS.astype(np.float32), r"tf.one_hot\(tf.cast\(labels, tf.int32\), num_classes\)"),
    "float32 [B, 1]": (CLASS_NUMBERS.astype(np.float32)[:, None], r"tf.cast\(labels\[:, 0\], tf.int32\)"),
    "float32 [B, 2, 2]": (np.zeros([NUM, 2, 2], np.float32), r"K of 2 or more; got float32 \(8, 2, 2\)"),
    "dict": ({"colour": np.eye(NUM), "animal": np.eye(NUM)}, r"one tensor; got a dict with \['animal', 'colour'\]"),
    "tuple": ((np.eye(NUM), np.eye(NUM)), "one tensor; got a tuple"),
    "ragged": (tf.ragged.constant([[1.0]] * NUM), "one tensor; got a RaggedTensor"),
    "6 of 8": (np.eye(6), "8 images and 6 labels"),
    "none": (
        None,
        r"labels too and got none: an op takes \(images, labels\), a layer a dict with 'images' and 'labels'",
    ),
}
ONE_HOT_INTEGERS = np.eye(NUM_CLASSES, dtype=np.int64)[CLASS_NUMBERS]


@pytest.mark.parametrize("layout", REFUSED)
@pytest.mark.parametrize("name", MIXES_LABELS)
def test_ops_that_mix_labels_refuse_what_cannot_be_mixed(name: str, layout: str) -> None:
    labels, message = REFUSED[layout]
    images = make_batch(SHAPE).images
    with pytest.raises(ValueError, match=message):
        MIXES_LABELS[name](images if labels is None else (images, labels), SEED, PROGRESS)


def test_ops_refuse_integer_rows_and_layers_take_them_as_one_hot() -> None:
    images = make_batch(SHAPE).images
    with pytest.raises(
        ValueError, match=r"got int64 \(8, 5\); tf.cast\(labels, tf.float32\) if their rows are one-hot"
    ):
        augment.Mixup()((images, ONE_HOT_INTEGERS), SEED)
    for make in MIXING_LAYERS.values():
        results = [
            make()({"images": images, "labels": rows}, seed=SEED) for rows in (ONE_HOT_INTEGERS, ONE_HOT_INTEGERS * 1.0)
        ]
        np.testing.assert_array_equal(results[0]["labels"], results[1]["labels"])


@pytest.mark.parametrize("name", LEAVES_LABELS)
def test_ops_that_leave_labels_alone_take_those_of_any_layout(name: str) -> None:
    images = make_batch(SHAPE).images
    assert not OPS[name].mixes_labels and OPS[name].mixes_images == (name == "SamplePairing")
    words = {"colour": CLASS_NUMBERS, "boxes": np.zeros([NUM, 2, 4], np.float32), "word": np.array([b"cat"] * NUM)}
    for labels in (
        CLASS_NUMBERS.astype(np.uint8),
        CLASS_NUMBERS[:, None],
        np.eye(NUM, dtype=np.float64),
        (CLASS_NUMBERS, np.eye(NUM, dtype=np.float16)),
        words,
    ):
        assert_untouched(OPS[name]((images, labels), SEED, PROGRESS).labels, labels)
    dataset = tf.data.Dataset.from_tensor_slices((images, words)).batch(NUM)
    mapped = dataset.map(lambda images, labels: OPS[name]((images, labels), rng.make_seed(SEED), PROGRESS))
    assert_untouched(next(iter(mapped))[1], words)
    with pytest.raises(ValueError, match="8 images and 6 labels"):
        OPS[name]((images, {"colour": np.arange(6)}), SEED, PROGRESS)


def assert_untouched(actual: Any, expected: Any) -> None:
    tf.nest.assert_same_structure(actual, expected)
    for one, other in zip(tf.nest.flatten(actual), tf.nest.flatten(expected), strict=True):
        assert one.dtype == tf.convert_to_tensor(other).dtype
        np.testing.assert_array_equal(one, other)


def test_ragged_labels_pass_and_a_label_for_all_images_does_not() -> None:
    images, boxes = make_batch(SHAPE).images, tf.ragged.constant([[1], [2, 3]] * (NUM // 2))
    assert augment.Flip()((images, boxes), SEED).labels is boxes
    with pytest.raises(ValueError, match="8 images and one label;"):
        augment.Flip()((images, 3), SEED)


def test_a_composition_mixes_what_one_of_its_ops_mixes() -> None:
    kinds = [(op.mixes_images, op.mixes_labels) for op in (augment.SamplePairing(), *MIXES_LABELS.values())]
    assert kinds == [(True, False)] + [(True, True)] * 5
    quiet = augment.compose([augment.Flip(), augment.compose([augment.SamplePairing()])])
    assert quiet.mixes_images and not quiet.mixes_labels
    np.testing.assert_array_equal(quiet((make_batch(SHAPE).images, CLASS_NUMBERS), SEED).labels, CLASS_NUMBERS)


# Numbers that are known only at run time. XLA drops assertions.


@functools.cache
def of_unknown_sizes(name: str, jit_compile: bool) -> Callable[..., Any]:
    spec = Batch(tf.TensorSpec([None, None, None, 3], tf.uint8), tf.TensorSpec([None, None]))
    step = Progress(tf.TensorSpec([], tf.int64), tf.TensorSpec([], tf.int64))
    op = {**OPS, **MIXES_LABELS}[name]
    return tf.function(op, input_signature=[spec, tf.TensorSpec([2], tf.int32), step], jit_compile=jit_compile)


def run_unknown(name: str, jit_compile: bool, labels: Any, num: int = NUM) -> Batch:
    images = make_batch((num, *SHAPE[1:])).images
    progress = Progress(*(tf.constant(number, tf.int64) for number in PROGRESS))
    return of_unknown_sizes(name, jit_compile)(
        Batch(images, tf.constant(labels, tf.float32)), rng.make_seed(SEED), progress
    )


both_compilers = pytest.mark.parametrize("jit_compile", [False, True])


@both_compilers
@pytest.mark.parametrize("name", [*MIXES_LABELS, "SamplePairing", "Flip"])
def test_wrong_labels_of_unknown_sizes_are_refused_at_run_time(name: str, jit_compile: bool) -> None:
    """That right ones give the same bits, the conformance tests say, under XLA too."""
    labels = make_batch(SHAPE).labels
    if not jit_compile:
        expected = {**OPS, **MIXES_LABELS}[name](make_batch(SHAPE), SEED, PROGRESS)
        np.testing.assert_array_equal(run_unknown(name, jit_compile, labels).labels, expected.labels)
    wrong = [labels[:6], labels[:1], tf.concat([labels, labels], 0)]
    if name in MIXES_LABELS:
        wrong.append(CLASS_NUMBERS[:, None])
    for rows in wrong:
        with pytest.raises(tf.errors.InvalidArgumentError, match="as.many.labels.as.images"):
            run_unknown(name, jit_compile, rows)


@pytest.mark.parametrize("name", MIXES_LABELS)
def test_wrong_numbers_in_tf_data_are_refused(name: str) -> None:
    """With more labels than images, so that no index points outside them."""
    images, labels = make_batch(SHAPE)
    parts = (tf.data.Dataset.from_tensor_slices(part).batch(NUM) for part in (images[:6], labels))
    dataset = tf.data.Dataset.zip(tuple(parts)).map(
        lambda images, labels: MIXES_LABELS[name]((images, labels), rng.make_seed(SEED), PROGRESS)
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match="as.many.labels.as.images"):
        next(iter(dataset))


@both_compilers
@pytest.mark.parametrize("name", MIXING_LAYERS)
def test_layers_refuse_wrong_labels_of_unknown_sizes(name: str, jit_compile: bool) -> None:
    made = MIXING_LAYERS[name]()
    spec = {"images": tf.TensorSpec([None, None, None, 3]), "labels": tf.TensorSpec([None, NUM_CLASSES])}
    function = tf.function(lambda inputs: made(inputs, seed=SEED), input_signature=[spec], jit_compile=jit_compile)
    images, labels = (tf.cast(part, tf.float32) for part in make_batch(SHAPE))
    expected = made({"images": images, "labels": labels}, seed=SEED)
    for key, value in function({"images": images, "labels": labels}).items():
        np.testing.assert_array_equal(value, expected[key])
    for rows in (labels[:6], tf.concat([labels, labels], 0)):
        with pytest.raises(tf.errors.InvalidArgumentError, match="as.many.labels.as.images"):
            function({"images": images, "labels": rows})


@both_compilers
@pytest.mark.parametrize("op", [augment.SumAug(4), augment.GradualSumAug(4)], ids=lambda op: type(op).__name__)
def test_fewer_images_than_a_sum_needs_are_refused_at_run_time(op: Augmentation, jit_compile: bool) -> None:
    spec = Batch(tf.TensorSpec([None, 7, 10, 3], tf.uint8), tf.TensorSpec([None, NUM_CLASSES]))
    function = tf.function(lambda batch: op(batch, SEED, PROGRESS), input_signature=[spec], jit_compile=jit_compile)
    assert len(function(make_batch((5, 7, 10, 3))).images) == 1
    for num in (3, 0):
        with pytest.raises(tf.errors.InvalidArgumentError):
            function(make_batch((num, 7, 10, 3)))
        with pytest.raises(ValueError, match=f"needs a batch of at least 4 images, got {num}"):
            op(make_batch((num, 7, 10, 3)), SEED, PROGRESS)


@both_compilers
def test_other_partners_of_unknown_numbers_are_refused_at_run_time(jit_compile: bool) -> None:
    """One number or row would else serve every image."""

    def flip(images: tf.Tensor, examples: tf.Tensor) -> tf.Tensor:
        return augment.Flip(alternate=True)(images, SEED, Visit(1, 2, rng.make_seed(SEED), tf.constant(0), examples))

    of_images, of_rows = tf.TensorSpec([None, 7, 10, 3], tf.uint8), tf.TensorSpec([None, NUM_CLASSES])
    images, rows = make_batch(SHAPE)
    for function, specs, name, given in (
        (flip, [of_images, tf.TensorSpec([None], tf.int32)], "examples.as.images", (images, tf.range(NUM))),
        (losses.soft_cross_entropy, [of_rows, of_rows], "rows.in.both", (rows, 2.0 * rows)),
        (losses.binary_cross_entropy, [of_rows, of_rows], "rows.in.both", (rows, 2.0 * rows)),
    ):
        compiled = tf.function(function, input_signature=specs, jit_compile=jit_compile)
        np.testing.assert_allclose(compiled(*given), function(*given), rtol=1e-6)
        for first, second in ((given[0], given[1][:1]), (given[0][:1], given[1])):
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"as.many.{name}"):
                compiled(first, second)


# Calls as users write them.


@pytest.mark.parametrize("layout", REFUSED)
@pytest.mark.parametrize("name", MIXING_LAYERS)
def test_layers_that_mix_refuse_what_cannot_be_mixed(name: str, layout: str) -> None:
    labels, message = REFUSED[layout]
    images = make_batch(SHAPE).images
    with pytest.raises(ValueError, match=message):
        MIXING_LAYERS[name]()(images if labels is None else {"images": images, "labels": labels}, seed=SEED)


@pytest.mark.parametrize("name", [*MIXING_LAYERS, "SamplePairing"])
def test_layers_that_mix_refuse_a_single_image_and_two_kinds_of_labels(name: str) -> None:
    made = MIXING_LAYERS.get(name, functools.partial(layers.Augment, "SamplePairing()"))()
    images, labels = make_batch(SHAPE)
    for inputs in (images[0], {"images": images[0], "labels": labels[0]}):
        with pytest.raises(ValueError, match="mixes the images of a batch, and is given one image"):
            made(inputs)
    with pytest.raises(ValueError, match="given 'labels' and 'targets'"):
        made({"images": images, "labels": labels, "targets": labels})


@pytest.mark.parametrize("make", [layers.RandomFlip, layers.Grayscale, functools.partial(layers.Augment, "Flip()")])
def test_layers_that_mix_nothing_leave_all_labels_as_they_are(make: Callable[[], Any]) -> None:
    images = make_batch(SHAPE).images
    labels = {"labels": CLASS_NUMBERS.astype(np.uint8), "targets": np.array([b"cat"] * NUM)}
    for inputs in (
        {"images": images, **labels},
        {"images": images[0], **{key: value[0] for key, value in labels.items()}},
    ):
        result = make()(inputs)
        for key in labels:
            assert tf.convert_to_tensor(result[key]).dtype == tf.convert_to_tensor(inputs[key]).dtype
            np.testing.assert_array_equal(result[key], inputs[key])


@pytest.mark.parametrize("name", ["RandomFlip", "CutMix", "Equalization"])
def test_pairs_and_labels_in_the_place_of_training_are_refused_with_the_way_to_write_it(name: str) -> None:
    made = {"RandomFlip": layers.RandomFlip(), "CutMix": layers.CutMix(), "Equalization": layers.Equalization(RANGE)}[
        name
    ]
    images, labels = make_batch(SHAPE)
    hint = r"labels go into a dict: layer\(\{'images': images, 'labels': labels\}\)"
    dataset = tf.data.Dataset.from_tensors((images, labels))
    calls: dict[str, Callable[[], Any]] = {
        "given a tuple of 2": lambda: made((images, labels)),
        "given a list of 2": lambda: made([images, labels]),
        r"got float32 \(8, 5\) as `training`": lambda: made(images, labels),
        r"got uint8 \(8,\) as `training`": lambda: made(images, training=CLASS_NUMBERS.astype(np.uint8)),
        r"got int32 \(\) as `training`": lambda: made(images[0], tf.constant(1)),
        "got dict as `training`": lambda: made(images, {"labels": labels}),
        r"got float32 \(8, 5\)": lambda: dataset.map(made),
        r"got float32 \(5,\)": lambda: dataset.unbatch().map(made),
    }
    for message, call in calls.items():
        with pytest.raises(ValueError, match=f"{message}.*{hint}"):
            call()
    mapped = dataset.map(lambda images, labels: made({"images": images, "labels": labels}))
    assert next(iter(mapped))["images"].shape == SHAPE


@both_compilers
@pytest.mark.parametrize("name", ["RandomFlip", "CutMix", "RandomCrop"])
def test_training_may_be_a_tensor(name: str, jit_compile: bool) -> None:
    made = {"RandomFlip": layers.RandomFlip(), "CutMix": layers.CutMix(), "RandomCrop": layers.RandomCrop(4, 4)}[name]
    images, labels = make_batch(SHAPE)
    inputs = {"images": images, "labels": labels}
    function = tf.function(lambda inputs, training: made(inputs, training=training, seed=SEED), jit_compile=jit_compile)
    for training in (True, False):
        expected = made(inputs, training=training, seed=SEED)
        for result in (
            function(inputs, tf.constant(training)),
            made(inputs, training=tf.constant(training), seed=SEED),
        ):
            for key in inputs:
                np.testing.assert_array_equal(result[key], expected[key])


@pytest.mark.parametrize("dtype", ["uint16", "int16", "int32", "int64"])
def test_wide_integers_are_refused_where_they_would_be_clipped(dtype: str) -> None:
    images = np.full([2, 7, 10, 3], 40 if dtype != "uint16" else 40_000).astype(dtype)
    for make in (layers.Equalization, layers.RandAugment, lambda value_range: layers.Augment("Cutout(2)", value_range)):
        with pytest.raises(ValueError, match=rf"given {dtype} images and works on values in \(0, 255\): cast .*, else"):
            make(RANGE)(images)
        assert make((0, 65_535))(images).shape == images.shape
    with pytest.raises(ValueError, match=rf"given {dtype} images and works on values in \(0, 255\)"):
        layers.RandomColorDegeneration(0.5)(images)
    for given in (images, images.astype(np.int8)):
        with pytest.raises(ValueError, match=f"given {given.dtype} images and makes uint8, which may not hold them"):
            layers.RandomFlip(dtype="uint8")(given)
    np.testing.assert_array_equal(layers.RandomFlip()(images), images)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A model with layers that Keras has too, of the same names and arguments."""
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    made = [layers.RandomZoom(0.2, seed=1), layers.RandomBrightness(0.2, seed=1), layers.RandomCrop(4, 4, seed=1)]
    tf.keras.Sequential([tf.keras.Input([7, 10, 3]), *made]).save(path)
    return path


OUR_LAYERS = """
loaded = tf.keras.models.load_model(sys.argv[1]).layers[-3:]
print({type(layer).__module__.rpartition(".")[0] for layer in loaded})
"""


def printed(code: str, path: pathlib.Path) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", code, path], cwd=tiny.ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    return ran.stdout.splitlines()


def test_a_saved_model_with_our_layers_is_refused_without_tfaug(saved: pathlib.Path) -> None:
    code = """
import sys
import tensorflow as tf
try:
    tf.keras.models.load_model(sys.argv[1])
except Exception as error:
    print("refused" if "tfaug.augment.layers" in str(error) else error)
import tfaug
"""
    assert printed(code + OUR_LAYERS, saved)[-2:] == ["refused", "{'tfaug.augment.layers'}"]


def test_a_saved_model_with_our_layers_needs_tfaug_alone_which_leaves_tensorflow_alone(saved: pathlib.Path) -> None:
    code = """
import sys
import tfaug
print("tensorflow" in sys.modules)
import tensorflow as tf
ours = {name: module for name, module in sys.modules.items() if name.startswith("tfaug.")}
print({".".join(name.split(".")[:2]) for name, module in ours.items() if hasattr(module, "tf")} - {*tfaug._AWAITED})
"""
    assert printed(code + OUR_LAYERS, saved)[-3:] == ["False", "set()", "{'tfaug.augment.layers'}"]


def test_the_layers_wait_for_a_part_that_is_half_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As is tfaug.rng where it is what imports TensorFlow."""
    imported: list[str] = []
    monkeypatch.setattr(tfaug, "_still_awaited", {"tensorflow", "tfaug.rng", "not.begun"})
    monkeypatch.setattr(tfaug.importlib, "import_module", imported.append)
    tfaug._import_layers(tf)
    assert imported == []
    tfaug._import_layers(rng)
    assert imported == ["tfaug.augment.layers"]
