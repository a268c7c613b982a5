from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from tfaug.config import ConfigError
from tfaug.expressions import read_value
from tfaug.keras_versions import KERAS_3, tf_variables
from tfaug.models import MODEL_CLASSES, MODELS, LeNet, ResNet, StagedModel, Whitened, WideResNet, build_model
from tfaug.models.resnet import BasicBlock
from tfaug.models.stages import Conv, LayerMaker, folding, infer

MEAN, STD = [0.49, 0.48, 0.45], [0.25, 0.24, 0.26]
# Every family: test_models_families.py. Here is more of three of them; of these, the others differ in depth or width.
each_model = pytest.mark.parametrize("name", ["lenet", "resnet20", "whitened_small"])


def build(name, *, shape=(32, 32, 3), num_classes=10, seed=0, precision="fp32"):
    channels = shape[2]
    return build_model(
        MODELS[name],
        image_shape=shape,
        num_classes=num_classes,
        mean=MEAN[:channels],
        std=STD[:channels],
        precision=precision,
        seed=seed,
    )


@pytest.fixture(scope="module")
def models():
    return {name: build(name) for name in PARAMETERS}


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), np.uint8)


def resnet_parameters(depth, channels, num_classes):
    """Weights of the convolutions and the classifier, and two per normalised map, as He et al. describe them."""
    num_blocks = (depth - 2) // 6
    count = 9 * channels * 16 + 2 * 16
    inputs = 16
    for filters in (16, 32, 64):
        for _ in range(num_blocks):
            count += 9 * inputs * filters + 9 * filters * filters + 2 * 2 * filters
            if inputs != filters:  # projection shortcut
                count += inputs * filters + 2 * filters
            inputs = filters
    return count + (64 + 1) * num_classes


def lenet_parameters(height_px, channels, num_classes):
    """C1, C3, C5, F6 and the classifier, each with a bias; the input counts as 32 pixels where it is smaller."""
    side = ((max(height_px, 32) - 4) // 2 - 4) // 2
    widths = [16 * side * side, 120, 84, num_classes]
    convolutions = (25 * channels + 1) * 6 + (25 * 6 + 1) * 16
    return convolutions + sum((a + 1) * b for a, b in itertools.pairwise(widths))


def whitened_parameters(widths, channels, num_classes):
    """The bias of the 2 x 2 patches' 8 C projections; two convolutions and two shifts per width; a head without bias."""
    inputs = 8 * channels
    count = inputs
    for width in widths:
        count += 9 * inputs * width + 9 * width * width + 2 * width
        inputs = width
    return count + inputs * num_classes


PARAMETERS = {
    "resnet20": lambda shape, k: resnet_parameters(20, shape[2], k),
    "resnet32": lambda shape, k: resnet_parameters(32, shape[2], k),
    "lenet": lambda shape, k: lenet_parameters(shape[0], shape[2], k),
    "whitened": lambda shape, k: whitened_parameters((64, 256, 256), shape[2], k),
    "whitened_small": lambda shape, k: whitened_parameters((32, 64, 128), shape[2], k),
}
# Their square convolutions start as the identity, whatever the seed: see test_models_whitened.py.
DRAWN = [name for name in PARAMETERS if not name.startswith("whitened")]


def num_trainable(model):
    return sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)


@each_model
@pytest.mark.parametrize("shape, num_classes", [((32, 32, 3), 10), ((28, 28, 1), 10), ((32, 32, 3), 100)], ids=str)
def test_parameter_count_follows_the_formula_of_the_paper(name, shape, num_classes):
    assert num_trainable(build(name, shape=shape, num_classes=num_classes)) == PARAMETERS[name](shape, num_classes)


def test_parameter_counts_are_the_published_ones(models):
    # ResNet with projection shortcuts; LeNet-5 with full connections from S2 to C3, on one channel
    assert num_trainable(models["resnet20"]) == 272_474
    assert num_trainable(models["resnet32"]) == 466_906
    assert (
        num_trainable(build("lenet", shape=(32, 32, 1))) == num_trainable(build("lenet", shape=(28, 28, 1))) == 61_706
    )


@each_model
def test_logits_are_float32_and_the_same_for_uint8_and_float_images(name, models, images):
    from_bytes, from_floats = models[name](images), models[name](images.astype(np.float32))
    assert from_bytes.dtype == tf.float32 and from_bytes.shape == (4, 10)
    np.testing.assert_array_equal(from_bytes, from_floats)
    assert np.std(from_bytes, axis=0).min() > 0  # depends on the image


@each_model
def test_each_image_is_answered_apart_from_its_batch(name, models, images):
    np.testing.assert_allclose(models[name](images)[2:3], models[name](images[2:3]), rtol=1e-4, atol=1e-4)


@each_model
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_normalisation_is_inside_the_model_and_in_float32(name, precision, images):
    model = build(name, precision=precision)
    mixed = images * np.float32(0.3) + 0.1  # values that bfloat16 cannot hold
    normalised = model.forward(mixed, stop=model.stage_names[1])
    assert model.stage_names[0] == "normalize" and normalised.dtype == tf.float32
    expected = (mixed.astype(np.float64) / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    # calling the model does not round the images first either
    np.testing.assert_array_equal(model(mixed), model.forward(normalised, start=1))


@each_model
def test_running_the_stages_in_two_parts_gives_the_whole_at_every_cut(name, models, images):
    model = models[name]
    whole = model(images)
    for place, stage in enumerate(model.stage_names):
        for cut in (stage, place):
            parts = model.forward(model.forward(images, stop=cut), start=cut)
            np.testing.assert_array_equal(parts, whole)
    np.testing.assert_array_equal(
        model.forward(model.forward(images, stop=len(model.stages)), len(model.stages)), whole
    )


def test_stages_of_a_resnet_halve_the_image_and_double_the_maps(models, images):
    model = models["resnet20"]
    assert model.stage_names == ("normalize", "stem", "stage1", "stage2", "stage3", "head")
    sizes = [model.forward(images, stop=stop).shape[1:] for stop in ("stage1", "stage2", "stage3", "head")]
    assert sizes == [(32, 32, 16), (32, 32, 16), (16, 16, 32), (8, 8, 64)]


def test_wrong_stages_are_refused(models, images):
    model = models["lenet"]
    with pytest.raises(ValueError, match=r"stop is 'stage9'; allowed: 0..5, None or one of normalize, stage1"):
        model.forward(images, stop="stage9")
    with pytest.raises(ValueError, match="start is 6"):
        model.forward(images, start=6)
    with pytest.raises(ValueError, match="start 'stage2' comes after stop 'stage1'"):
        model.forward(images, start="stage2", stop="stage1")
    with pytest.raises(ValueError, match="different names"):
        StagedModel([tf.keras.layers.ReLU(name="a"), tf.keras.layers.ReLU(name="a")], name="twice")


@each_model
def test_bfloat16_computes_in_bfloat16_on_float32_variables_and_stays_near_float32(name, models, images):
    model = build(name, precision="bf16")
    assert {tf.as_dtype(variable.dtype) for variable in model.variables} == {tf.float32}
    assert model.forward(images, stop="stage2").dtype == tf.bfloat16
    rough, exact = model(images, training=True).numpy(), build(name)(images, training=True).numpy()
    assert rough.dtype == np.float32
    assert np.corrcoef(rough.ravel(), exact.ravel())[0, 1] > 0.995
    assert not np.array_equal(rough, exact)


def test_the_global_dtype_policy_changes_nothing(models, images):
    tf.keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        np.testing.assert_array_equal(build("resnet20")(images), models["resnet20"](images))
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


@pytest.mark.parametrize("name", DRAWN)
def test_initial_weights_depend_on_the_seed_alone(name, models):
    tf.random.set_seed(1234)
    np.random.seed(1234)
    tf.random.uniform([])
    again, other = build(name), build(name, seed=1)
    assert [v.name for v in again.variables] == [v.name for v in models[name].variables]
    for first, second in zip(models[name].get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    for first, second in zip(models[name].trainable_variables, other.trainable_variables, strict=True):
        if "kernel" in first.name:
            assert np.abs(np.corrcoef(np.ravel(first), np.ravel(second))[0, 1]) < 0.5


@pytest.mark.parametrize("name", DRAWN)
def test_no_two_layers_start_alike(name, models):
    starts = [v.numpy().ravel()[:20] for v in models[name].trainable_variables if "kernel" in v.name]
    scaled = np.stack([start / start.std() for start in starts])
    distances = np.abs(scaled[:, None] - scaled[None]).max(axis=2) + np.eye(len(scaled))
    assert distances.min() > 0.5


@pytest.mark.parametrize("name, mode", [("resnet32", "fan_out"), ("lenet", "fan_in")])
def test_initial_weights_are_kaiming_normal_and_the_rest_is_neutral(name, mode, models):
    num_kernels = 0
    for variable in models[name].variables:
        values = variable.numpy()
        if "kernel" in variable.name:
            num_kernels += 1
            fan = int(np.prod(values.shape[:-2])) * values.shape[-1 if mode == "fan_out" else -2]
            standard = values.ravel() / np.sqrt(2 / fan)
            assert abs(standard.mean()) < 5 / np.sqrt(values.size)
            assert abs(standard.std() - 1) < 5 / np.sqrt(2 * values.size)
        else:
            expected = 1.0 if "gamma" in variable.name or "moving_variance" in variable.name else 0.0
            np.testing.assert_array_equal(values, np.full_like(values, expected))
    assert num_kernels == {"resnet32": 1 + 2 * 15 + 2 + 1, "lenet": 5}[name]


@pytest.mark.parametrize("size_px, stride, pad_px", [(3, 1, None), (3, 2, None), (5, 1, 2), (5, 1, 0), (1, 2, None)])
def test_convolution_pads_all_sides_alike(size_px, stride, pad_px):
    layer = LayerMaker("fp32", 0, "fan_in").conv("conv", 2, size_px, stride, bias=True, pad_px=pad_px)
    inputs = np.random.default_rng(0).standard_normal((2, 8, 10, 3)).astype(np.float32)
    outputs = layer(inputs)
    layer.bias.assign([1.0, -2.0])
    outputs, kernel = layer(inputs), layer.kernel.numpy()
    pad = (size_px - 1) // 2 if pad_px is None else pad_px
    padded = np.pad(inputs, [(0, 0), (pad, pad), (pad, pad), (0, 0)])
    for image in range(2):
        for filter_ in range(2):
            full = sum(
                scipy.signal.correlate2d(padded[image, :, :, c], kernel[:, :, c, filter_], mode="valid")
                for c in range(3)
            )
            expected = full[::stride, ::stride] + [1.0, -2.0][filter_]
            np.testing.assert_allclose(outputs[image, :, :, filter_], expected, atol=1e-5)


@pytest.mark.parametrize("dtype, close", [("float32", 1e-5), ("bfloat16", 0.03)])
def test_the_norm_is_its_formula_in_training_and_after(dtype, close):
    layer = LayerMaker("fp32", 0, "fan_in").norm("norm")
    inputs = tf.cast(np.random.default_rng(0).normal([3, -50], [2, 20], (4, 5, 6, 2)), dtype)
    values = tf.cast(inputs, tf.float64).numpy()
    mean, variance = values.mean((0, 1, 2)), values.var((0, 1, 2))
    layer.build(inputs.shape)
    layer.gamma.assign([2.0, 0.5])
    layer.beta.assign([1.0, -1.0])
    outputs = layer(inputs, training=True)
    assert outputs.dtype == dtype
    wanted = (values - mean) / np.sqrt(variance + 1e-5) * [2.0, 0.5] + [1.0, -1.0]
    np.testing.assert_allclose(tf.cast(outputs, tf.float32), wanted, atol=close)
    # What is kept is the estimate of the population's variance.
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * variance * 120 / 119, rtol=1e-4)
    wanted = (values - 0.1 * mean) / np.sqrt(layer.moving_variance.numpy() + 1e-5) * [2.0, 0.5] + [1.0, -1.0]
    np.testing.assert_allclose(
        tf.cast(layer(inputs), tf.float32), wanted, rtol=0.01 if close > 0.01 else 1e-5, atol=close
    )


@pytest.mark.parametrize(
    ("model", "num_left"),
    [(ResNet(8), 0), (WideResNet(10, 1), 4), (LeNet(), 0)],
    ids=["resnet", "pre_activated", "plain"],
)
def test_folded_norms_are_the_same_function_with_the_same_gradients(model, num_left):
    """Of a network whose statistics have moved; a norm before its convolution stays."""
    network = build_model(model, image_shape=(32, 32, 3), num_classes=10, mean=MEAN, std=STD, seed=0)
    generator = np.random.default_rng(0)
    network.set_weights([w + generator.uniform(0.05, 0.3, w.shape) for w in network.get_weights()])
    images = generator.uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    weights, slope = network.trainable_variables, generator.normal(size=(4, 10)).astype(np.float32)

    @tf.function(autograph=False)
    def outputs():
        with tf.GradientTape() as tape:
            logits = infer(network, images)
        return logits, *tape.gradient(logits, weights, output_gradients=tf.constant(slope))

    plain = outputs()
    with folding():
        function = tf.function(outputs.python_function, autograph=False)
        folded = function()
    for one, other in zip(folded, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4 * np.abs(other).max())
    kinds = [operation.type for operation in function.get_concrete_function().graph.get_operations()]
    assert kinds.count("FusedBatchNormV3") == num_left


def test_each_replica_moves_its_own_statistics_and_their_mean_is_read():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = LayerMaker("fp32", 0, "fan_in").norm("norm")
        layer.build((None, 4, 4, 1))
    step = tf.function(lambda images: layer(images, training=True))
    given = strategy.experimental_distribute_values_from_function(
        lambda context: tf.fill([2, 4, 4, 1], [3.0, 5.0][context.replica_id_in_sync_group])
    )
    strategy.run(step, args=(given,))
    np.testing.assert_allclose(layer.moving_mean.numpy(), [0.4], rtol=1e-5)  # a tenth of (3 + 5) / 2
    np.testing.assert_allclose(layer.moving_variance.numpy(), [0.9], rtol=1e-5)


def test_a_block_whose_body_is_switched_off_is_a_rectified_shortcut():
    block = BasicBlock(LayerMaker("fp32", 0, "fan_out"), 3, 1, project=False, name="block")
    inputs = np.random.default_rng(0).standard_normal((2, 8, 8, 3)).astype(np.float32)
    assert np.abs(block(inputs) - np.maximum(inputs, 0)).max() > 0.1
    block.body.parts[-1].gamma.assign(np.zeros(3))
    np.testing.assert_array_equal(block(inputs), np.maximum(inputs, 0))


def test_training_uses_the_statistics_of_the_batch_and_evaluation_leaves_them_alone(images):
    model = build("resnet20")
    before = [v.numpy() for v in model.non_trainable_variables]
    evaluated = model(images, training=False)
    for old, new in zip(before, model.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(old, new)
    trained = model(images, training=True)
    assert all(np.any(old != new.numpy()) for old, new in zip(before, model.non_trainable_variables, strict=True))
    assert np.abs(trained - evaluated).max() > 0.1
    # the stem's running mean moves a tenth of the way to the mean of this batch
    convolved = model.stages[1].parts[0](model.forward(images, stop="stem"))
    moved = model.stages[1].parts[1].moving_mean
    np.testing.assert_allclose(moved, 0.1 * tf.reduce_mean(convolved, [0, 1, 2]), rtol=1e-3, atol=1e-5)


@each_model
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_few_steps_of_gradient_descent_learn_the_batch(name, precision):
    model = build(name, shape=(28, 28, 1), num_classes=3, precision=precision)
    images = np.random.default_rng(0).integers(0, 256, (12, 28, 28, 1), np.uint8)
    labels = np.arange(12) % 3
    optimizer = tf.keras.optimizers.SGD(0.02, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function(autograph=False)
    def step():
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
        return loss, [tf.reduce_max(tf.abs(gradient)) for gradient in gradients]

    first, sizes = step()
    assert min(float(size) for size in sizes) > 0  # every variable takes part
    for _ in range(30):
        last, _ = step()
    assert last < 0.1 * first


@each_model
@pytest.mark.parametrize(
    "suffix",
    [
        pytest.param("", marks=pytest.mark.skipif(KERAS_3, reason="Keras 3 saves weights as HDF5 alone")),
        ".weights.h5",
    ],
    ids=["checkpoint", "hdf5"],
)
def test_weights_survive_saving_and_loading(name, suffix, models, images, tmp_path):
    path = str(tmp_path / f"weights{suffix}")
    models[name].save_weights(path)
    other = build(name, seed=5)
    assert np.abs(other(images) - models[name](images)).max() > 1e-3
    other.load_weights(path)
    np.testing.assert_array_equal(other(images), models[name](images))


@each_model
def test_a_saved_model_answers_like_the_model(name, images, tmp_path):
    model = build(name, precision="bf16")

    class Served(tf.Module):
        def __init__(self):
            super().__init__()
            self.weights = tf_variables(model)  # not the model: saving a Keras model also traces every layer

        @tf.function(input_signature=[tf.TensorSpec([None, 32, 32, 3], tf.float32)])
        def predict(self, images):
            return {"logits": model(images, training=False)}

    served = Served()
    tf.saved_model.save(served, str(tmp_path), signatures={"serving_default": served.predict})
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    answers = loaded(images=tf.constant(images, tf.float32))["logits"]
    np.testing.assert_allclose(answers, served.predict(images.astype(np.float32))["logits"], rtol=1e-6)
    assert loaded(images=tf.zeros([1, 32, 32, 3]))["logits"].shape == (1, 10)  # any batch size


def test_replicas_start_from_the_same_weights_as_one_device(models, images):
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    strategy = tf.distribute.MirroredStrategy(devices)
    with strategy.scope():
        mirrored = build("resnet20")
    assert strategy.num_replicas_in_sync == len(devices) == 2
    for variable, weights in zip(tf_variables(mirrored), tf_variables(models["resnet20"]), strict=True):
        for copy in variable.values:
            np.testing.assert_array_equal(copy, weights)
    logits = strategy.run(tf.function(mirrored), args=(tf.constant(images),))
    for copy in strategy.experimental_local_results(logits):
        np.testing.assert_allclose(copy, models["resnet20"](images), rtol=1e-4, atol=1e-3)


def test_each_model_of_the_table_is_read_as_it_is_written():
    assert all(repr(model) == repr(read_value(repr(model), MODEL_CLASSES)) for model in MODELS.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(21), r"ResNet.depth is 21; allowed: 6 n \+ 2"),
        (lambda: ResNet(2), "ResNet.depth is 2; allowed: a whole number, 8 or more"),
        (lambda: Whitened(()), r"Whitened.widths is \(\); allowed"),
        (lambda: Whitened((64, 0)), r"Whitened.widths is \(64, 0\); allowed"),
        (lambda: read_value("Resnet(20)", MODEL_CLASSES), r"'Resnet' is unknown \(did you mean 'ResNet'\?\)"),
    ],
)
def test_a_wrong_model_is_refused_with_what_is_allowed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"image_shape": (32, 32)}, r"image_shape is \(32, 32\)"),
        ({"image_shape": (8, 32, 3)}, "12 or more"),
        ({"num_classes": 1}, "num_classes is 1; allowed: a whole number, 2 or more"),
        ({"mean": [0.5]}, r"mean is \[0.5\]; allowed: 3 finite numbers, one per channel"),
        ({"std": [0.2, 0.2, 0.0]}, "std is .* above 0"),
        ({"mean": [0.5, 0.5, np.nan]}, "mean is"),
        ({"precision": "fp16"}, "precision is 'fp16'; allowed: fp32, bf16"),
        ({"seed": -1}, "seed is -1; allowed: a whole number, 0 or more"),
    ],
)
def test_arguments_out_of_range_are_refused(changes, message):
    settings = {"image_shape": (32, 32, 3), "num_classes": 10, "mean": MEAN, "std": STD, "seed": 0}
    with pytest.raises(ValueError, match=message):
        build_model(LeNet(), **(settings | changes))


def test_smallest_allowed_images_work():
    for name in PARAMETERS:
        assert build(name, shape=(12, 12, 1))(np.zeros((2, 12, 12, 1), np.uint8)).shape == (2, 10)


def test_a_bias_is_made_only_where_asked():
    layer = Conv(2, 3, 1, 1, False, "zeros")
    layer(np.zeros((1, 4, 4, 1), np.float32))
    assert [tuple(variable.shape) for variable in layer.variables] == [(3, 3, 1, 2)]  # the kernel
