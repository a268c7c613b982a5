"""Every family of models, a small one of each: parameters, gradients, replicas, precision, SavedModel; and what it costs."""

from __future__ import annotations

import re

import numpy as np
import pytest
import scipy.signal
import tensorflow as tf

from tests import tiny
from tfaug import cli, files, rng
from tfaug.config import ConfigError
from tfaug.keras_versions import tf_variables
from tfaug.models import (
    MODEL_CLASSES,
    MODELS,
    AlexNet,
    BasicConv,
    DenseNet,
    KerasModel,
    LeNet,
    PreActResNet,
    ResNet,
    ResNeXt,
    SaliencyCNN,
    ShakeShake,
    Whitened,
    WideResNet,
    build_model,
    drawing,
)
from tfaug.models.cost import cost_of, num_parameters
from tfaug.models.preact import PreActBlock, PreActBottleneck
from tfaug.models.resnet import Bottleneck, stem_of
from tfaug.models.resnext import GroupedBottleneck
from tfaug.models.shake import ShakeBlock, mix_branches
from tfaug.models.stages import Dropout, LayerMaker

SHAPE, NUM_CLASSES, NUM_IMAGES = (12, 12, 3), 5, 6
SMALL = {
    "AlexNet": AlexNet(),
    "BasicConv": BasicConv(),
    "DenseNet": DenseNet(10, 3),
    "KerasModel": KerasModel("tests.test_models_keras.graph"),
    "LeNet": LeNet(),
    "PreActResNet": PreActResNet(8),
    "ResNeXt": ResNeXt(11, 2, 4),
    "ResNet": ResNet(8),
    "SaliencyCNN": SaliencyCNN((4, 6)),
    "ShakeShake": ShakeShake(8, 5),
    "Whitened": Whitened((8, 8)),
    "WideResNet": WideResNet(10, 2, dropout=0.3),
}
each_family = pytest.mark.parametrize("family", SMALL)
SEED = rng.make_seed(3)


def build(model, shape=SHAPE, num_classes=NUM_CLASSES, precision="fp32", seed=0):
    middle = [0.4, 0.5, 0.6][: shape[2]]
    settings = {"image_shape": shape, "num_classes": num_classes, "mean": middle, "std": middle}
    return build_model(model, **settings, precision=precision, seed=seed)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, *SHAPE), np.uint8)


@pytest.fixture(scope="module")
def networks():
    """Builds each when it is asked for, once."""
    made = {}

    def network(family):
        if family not in made:
            made[family] = build(SMALL[family])
        return made[family]

    return network


def test_every_class_has_a_small_one():
    assert {name: type(model) for name, model in SMALL.items()} == MODEL_CLASSES


def test_a_name_of_the_table_is_the_models_own():
    assert [name for name, model in MODELS.items() if model.name != name] == ["whitened_small"]


# -- parameters ----------------------------------------------------------------------------------------------------


def conv(size_px, inputs, outputs):
    return size_px**2 * inputs * outputs


def norm(maps):
    return 2 * maps


def plain_residual(widths, num_blocks, stem_px, channels, num_classes):
    """He et al. 2016, with projections: two 3x3 convolutions a block."""
    count, inputs = conv(stem_px, channels, widths[0]) + norm(widths[0]), widths[0]
    for filters, blocks in zip(widths, num_blocks, strict=True):
        for _ in range(blocks):
            count += conv(3, inputs, filters) + conv(3, filters, filters) + 2 * norm(filters)
            count += 0 if inputs == filters else conv(1, inputs, filters) + norm(filters)
            inputs = filters
    return count + (inputs + 1) * num_classes


def narrow_residual(num_blocks, stem_px, channels, num_classes, inner=lambda filters: filters, groups=1):
    """1x1, 3x3 and 1x1 convolutions a block, from `inner` to 4 times the filters: He et al., and Xie et al. with groups."""
    count, inputs = conv(stem_px, channels, 64) + norm(64), 64
    for stage, blocks in enumerate(num_blocks):
        filters = 64 * 2**stage
        middle, outputs = inner(filters), 4 * filters
        for _ in range(blocks):
            count += conv(1, inputs, middle) + conv(3, middle, middle) // groups + conv(1, middle, outputs)
            count += 2 * norm(middle) + norm(outputs)
            count += 0 if inputs == outputs else conv(1, inputs, outputs) + norm(outputs)
            inputs = outputs
    return count + (inputs + 1) * num_classes


def preact(stem, widths, num_blocks, channels, num_classes, narrow=False):
    """Norms before convolutions: of the inputs, and one at the end; shortcuts without."""
    count, inputs = conv(3, channels, stem), stem
    for filters, blocks in zip(widths, num_blocks, strict=True):
        outputs = 4 * filters if narrow else filters
        for _ in range(blocks):
            count += norm(inputs) + (0 if inputs == outputs else conv(1, inputs, outputs))
            if narrow:
                count += conv(1, inputs, filters) + conv(3, filters, filters) + conv(1, filters, outputs)
                count += 2 * norm(filters)
            else:
                count += conv(3, inputs, filters) + norm(filters) + conv(3, filters, filters)
            inputs = outputs
    return count + norm(inputs) + (inputs + 1) * num_classes


def wide(depth, width, channels, num_classes):
    widths = [16 * width, 32 * width, 64 * width]
    return preact(16, widths, [(depth - 4) // 6] * 3, channels, num_classes)


def dense(depth, growth, channels, num_classes):
    maps, layers = 2 * growth, (depth - 4) // 6
    count = conv(3, channels, maps)
    for stage in range(3):
        for _ in range(layers):
            count += norm(maps) + conv(1, maps, 4 * growth) + norm(4 * growth) + conv(3, 4 * growth, growth)
            maps += growth
        count += norm(maps)
        if stage < 2:
            count += conv(1, maps, maps // 2)
            maps //= 2
    return count + (maps + 1) * num_classes


def shake(depth, width, channels, num_classes):
    count, inputs = conv(3, channels, 16) + norm(16), 16
    for filters in (width, 2 * width, 4 * width):
        for _ in range((depth - 2) // 6):
            count += 2 * (conv(3, inputs, filters) + conv(3, filters, filters) + 2 * norm(filters))
            count += 0 if inputs == filters else conv(1, inputs, filters) + norm(filters)
            inputs = filters
    return count + (inputs + 1) * num_classes


def alexnet(channels, num_classes):
    sizes = [(11, channels, 64), (5, 64, 192), (3, 192, 384), (3, 384, 256), (3, 256, 256)]
    return sum(conv(*size) + size[2] for size in sizes) + 257 * num_classes


THREE, FOUR = (16, 32, 64), (64, 128, 256, 512)
OF_18, OF_34, OF_50, OF_101, OF_152 = (2, 2, 2, 2), (3, 4, 6, 3), (3, 4, 6, 3), (3, 4, 23, 3), (3, 8, 36, 3)
OURS = {
    "AlexNet": alexnet(3, 5),
    "BasicConv": 16 * (4 * 3 + 1) + norm(16) + 32 * (4 * 16 + 1) + norm(32) + 33 * 5,
    "DenseNet": dense(10, 3, 3, 5),
    "PreActResNet": preact(16, THREE, (1, 1, 1), 3, 5),
    "ResNeXt": narrow_residual((1, 1, 1), 3, 3, 5, lambda filters: 2 * 4 * filters // 64, groups=2),
    "ResNet": plain_residual(THREE, (1, 1, 1), 3, 3, 5),
    "SaliencyCNN": 4 * (9 * 3 + 1) + 6 * (9 * 4 + 1) + (3 * 3 * 6 + 1) * 5,
    "ShakeShake": shake(8, 5, 3, 5),
    "WideResNet": wide(10, 2, 3, 5),
}


@pytest.mark.parametrize("family", OURS)
def test_a_small_one_has_the_parameters_of_the_formula(family, networks):
    assert num_parameters(networks(family)) == OURS[family]


def test_the_formulas_give_the_published_numbers():
    # torchvision's documentation, 1,000 classes, 3 channels
    assert plain_residual(FOUR, OF_18, 7, 3, 1000) == 11_689_512
    assert plain_residual(FOUR, OF_34, 7, 3, 1000) == 21_797_672
    assert narrow_residual(OF_50, 7, 3, 1000) == 25_557_032
    assert narrow_residual(OF_101, 7, 3, 1000) == 44_549_160
    assert narrow_residual(OF_152, 7, 3, 1000) == 60_192_808
    # He et al. 2016, table 6, in millions, where the shortcuts have no parameters
    projections = conv(1, 16, 32) + norm(32) + conv(1, 32, 64) + norm(64)
    for depth, millions in ((20, 0.27), (32, 0.46), (44, 0.66), (56, 0.85), (110, 1.7)):
        count = plain_residual(THREE, [(depth - 2) // 6] * 3, 3, 3, 10) - projections
        assert round(count / 1e6, 1 if depth == 110 else 2) == millions
    assert round(preact(16, THREE, (18, 18, 18), 3, 10) / 1e6, 1) == 1.7  # He et al. 2016b, table 4
    # Zagoruyko and Komodakis 2016, tables 4 and 5; Xie et al. 2017, table 7; Huang et al. 2017, table 2; Gastaldi 2017
    millions = [wide(28, 10, 3, 10), wide(40, 4, 3, 10), wide(16, 4, 3, 10)]
    assert [round(count / 1e6, 1) for count in millions] == [36.5, 8.9, 2.7]
    for groups, expected in ((8, 34.4), (16, 68.2)):  # 68.155, which the paper cuts off to 68.1
        inner = lambda filters, groups=groups: groups * filters  # noqa: E731
        assert round(narrow_residual((3, 3, 3), 3, 3, 10, inner, groups) / 1e6, 1) == expected
    assert round(dense(100, 12, 3, 10) / 1e6, 1) == 0.8
    assert [round(shake(26, width, 3, 10) / 1e6, 1) for width in (32, 96)] == [2.9, 26.2]
    assert alexnet(3, 10) == 2_472_266


# The page is what `tfaug models` prints, so its numbers are those of the networks as they are built.
ON_THE_PAGE = {
    "alexnet": alexnet(3, 10),
    "densenet_bc_100_12": dense(100, 12, 3, 10),
    "preact18": preact(64, FOUR, OF_18, 3, 10),
    "preact56": preact(16, THREE, (9, 9, 9), 3, 10),
    "preact101": preact(64, FOUR, OF_101, 3, 10, narrow=True),
    "resnet18": plain_residual(FOUR, OF_18, 3, 3, 10),
    "resnet18_imagenet": plain_residual(FOUR, OF_18, 7, 3, 10),
    "resnet20": plain_residual(THREE, (3, 3, 3), 3, 3, 10),
    "resnet32": plain_residual(THREE, (5, 5, 5), 3, 3, 10),
    "resnet44": plain_residual(THREE, (7, 7, 7), 3, 3, 10),
    "resnet50": narrow_residual(OF_50, 3, 3, 10),
    "resnet50_imagenet": narrow_residual(OF_50, 7, 3, 10),
    "resnet56": plain_residual(THREE, (9, 9, 9), 3, 3, 10),
    "resnet101": narrow_residual(OF_101, 3, 3, 10),
    "resnet101_imagenet": narrow_residual(OF_101, 7, 3, 10),
    "resnet110": plain_residual(THREE, (18, 18, 18), 3, 3, 10),
    "resnext_29_4x64d": narrow_residual((3, 3, 3), 3, 3, 10, lambda filters: 4 * filters, groups=4),
    "shake_26_2x32d": shake(26, 32, 3, 10),
    "shake_26_2x96d": shake(26, 96, 3, 10),
    "wrn_16_4": wide(16, 4, 3, 10),
    "wrn_28_10": wide(28, 10, 3, 10),
    "wrn_40_4": wide(40, 4, 3, 10),
}


def test_the_page_has_every_name_with_its_parameters():
    page = (tiny.ROOT / "docs" / "models.md").read_text()
    rows = re.findall(r"^\| (\w+) +\| +([\d,]+) \| +([\d,]+) \|$", page, re.MULTILINE)
    counts = {name: int(count.replace(",", "")) for name, count, _ in rows}
    assert list(counts) == list(MODELS)
    assert {name: counts[name] for name in ON_THE_PAGE} == ON_THE_PAGE
    flops = {name: int(count.replace(",", "")) for name, _, count in rows}
    assert flops["resnet20"] == residual_flops(32, 3, THREE, (3, 3, 3), 10)
    assert flops["resnet18"] == residual_flops(32, 3, FOUR, OF_18, 10)


def residual_flops(side_px, channels, widths, num_blocks, num_classes):
    """Two for each multiplication with its addition, of convolutions and the classifier."""
    total, inputs = conv(3, channels, widths[0]) * side_px**2, widths[0]
    for filters, blocks in zip(widths, num_blocks, strict=True):
        for _ in range(blocks):
            side_px = side_px if inputs == filters else side_px // 2
            total += (conv(3, inputs, filters) + conv(3, filters, filters)) * side_px**2
            total += 0 if inputs == filters else conv(1, inputs, filters) * side_px**2
            inputs = filters
    return 2 * (total + inputs * num_classes)


def test_flops_of_a_residual_and_of_a_grouped_network_by_hand():
    assert cost_of(ResNet(8), (16, 16, 1), 5)[1] == residual_flops(16, 1, THREE, (1, 1, 1), 5)
    total, side_px, inputs = conv(3, 3, 64) * 16**2, 16, 64
    for filters in (64, 128, 256):
        inner, outputs, before_px = 8 * filters // 64, 4 * filters, side_px
        side_px = side_px if filters == 64 else side_px // 2
        total += conv(1, inputs, inner) * before_px**2
        total += (conv(3, inner, inner) // 2 + conv(1, inner, outputs) + conv(1, inputs, outputs)) * side_px**2
        inputs = outputs
    assert cost_of(ResNeXt(11, 2, 4), (16, 16, 3), 5)[1] == 2 * (total + inputs * 5)


# -- conformance ---------------------------------------------------------------------------------------------------


def gradients_of(network, images, labels, seed):
    with tf.GradientTape() as tape, drawing(seed):
        logits = network(images, training=True)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    return logits, tape.gradient(loss, network.trainable_variables)


@each_family
def test_a_replica_is_one_device_on_its_half_and_every_variable_is_trained(family, networks, images):
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        mirrored = build(SMALL[family])
    labels = np.arange(NUM_IMAGES) % NUM_CLASSES
    halves, half_labels = np.split(images, 2), np.split(labels, 2)
    seeds = [rng.fold_in(SEED, replica) for replica in range(2)]

    def value(of):
        each = [tf.constant(part) for part in of]
        return strategy.experimental_distribute_values_from_function(
            lambda context: each[context.replica_id_in_sync_group]
        )

    arguments = value(halves), value(half_labels), value(seeds)
    step = tf.function(lambda *given: gradients_of(mirrored, *given), autograph=False)
    logits, gradients = strategy.run(step, args=arguments)
    network = networks(family)
    before = [variable.numpy() for variable in tf_variables(network)]
    expected = gradients_of(network, halves[1], half_labels[1], seeds[1])
    for variable, held in zip(tf_variables(network), before, strict=True):
        variable.assign(held)  # the statistics of a batch have moved
    np.testing.assert_allclose(strategy.experimental_local_results(logits)[1], expected[0], atol=1e-3)
    for each, wanted in zip(gradients, expected[1], strict=True):
        scale = np.abs(wanted).max()
        assert scale > 0
        np.testing.assert_allclose(strategy.experimental_local_results(each)[1], wanted, atol=2e-3 * scale)


@each_family
def test_bfloat16_has_float32_variables_and_logits_and_a_saved_model_answers_the_same(
    family, networks, images, tmp_path
):
    network = build(SMALL[family], precision="bf16")
    assert {tf.as_dtype(variable.dtype) for variable in network.variables} == {tf.float32}
    for variable, exact in zip(network.trainable_variables, networks(family).trainable_variables, strict=True):
        np.testing.assert_array_equal(variable.numpy(), exact.numpy())
    rough, exact = network(images), networks(family)(images)
    assert rough.dtype == exact.dtype == tf.float32 and rough.shape == (NUM_IMAGES, NUM_CLASSES)
    assert not np.array_equal(rough, exact)
    np.testing.assert_allclose(rough, exact, atol=0.05 * np.abs(exact).max())

    served = tf.Module()
    served.weights = tf_variables(network)
    predict = tf.function(lambda images: {"logits": network(images, training=False)}, autograph=False)
    specification = tf.TensorSpec([None, *SHAPE], tf.float32)
    tf.saved_model.save(served, str(tmp_path), signatures=predict.get_concrete_function(specification))
    loaded = tf.saved_model.load(str(tmp_path)).signatures["serving_default"]
    answers = loaded(images=tf.constant(images, tf.float32))["logits"]
    np.testing.assert_allclose(answers, rough, atol=0.02 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("family", "mode"),
    [("PreActResNet", "fan_out"), ("WideResNet", "fan_in"), ("ResNeXt", "fan_out"), ("DenseNet", "fan_out")],
)
def test_initial_weights_have_the_fan_of_the_papers_code(family, mode, networks):
    """definitions of `gap`: fan_in for wide residual networks, fan_out for the rest; classifiers likewise."""
    ratios = []
    for variable in networks(family).trainable_variables:
        values = variable.numpy()
        if values.ndim < 2:
            assert set(values) <= {0.0, 1.0}
            continue
        fan = int(np.prod(values.shape[:-2])) * values.shape[-1 if mode == "fan_out" else -2]
        ratios += (values / np.sqrt(2 / fan)).ravel().tolist()
    assert abs(np.std(ratios) - 1) < 5 / np.sqrt(2 * len(ratios))


# -- blocks --------------------------------------------------------------------------------------------------------


def switch_off(layer):
    """Sets a norm to give zeros."""
    layer.gamma.assign(tf.zeros_like(layer.gamma))


@pytest.fixture
def features():
    return np.random.default_rng(1).standard_normal((3, 8, 8, 64)).astype(np.float32)


@pytest.mark.parametrize(
    ("block_class", "settings"), [(Bottleneck, {}), (GroupedBottleneck, {"cardinality": 2, "group_width": 4})]
)
def test_a_bottleneck_whose_body_is_off_is_a_rectified_shortcut(block_class, settings, features):
    block = block_class(LayerMaker("fp32", 0, "fan_out"), 16, 1, False, "block", **settings)
    assert np.abs(block(features) - np.maximum(features, 0)).max() > 0.1
    switch_off(block.body.parts[-1])
    np.testing.assert_array_equal(block(features), np.maximum(features, 0))


@pytest.mark.parametrize(("block_class", "filters"), [(PreActBlock, 64), (PreActBottleneck, 16)])
def test_a_preactivation_block_leaves_its_shortcut_alone(block_class, filters, features):
    make = LayerMaker("fp32", 0, "fan_out")
    block = block_class(make, filters, 1, False, "block")
    assert np.abs(block(features) - features).max() > 0.1
    switch_off(block.body.parts[-3])  # the last norm
    np.testing.assert_array_equal(block(features), features)
    # where the shape changes the shortcut is a convolution of what the first rectifier gives
    block = block_class(make, filters, 2, True, "strided")
    block(features)
    switch_off(block.body.parts[-3])
    active = np.maximum(features / np.sqrt(1 + 1e-5), 0)[:, ::2, ::2]
    np.testing.assert_allclose(block(features), active @ block.shortcut.kernel.numpy()[0, 0], atol=1e-4)


def test_a_grouped_convolution_sees_its_group_alone(features):
    layer = LayerMaker("fp32", 0, "fan_out").conv("conv", 8, 3, 2, groups=4)
    outputs, kernel = layer(features).numpy(), layer.kernel.numpy()
    assert kernel.shape == (3, 3, 16, 8)
    padded = np.pad(features[0], [(1, 1), (1, 1), (0, 0)])
    for filter_ in range(8):
        first = filter_ // 2 * 16
        planes = [
            scipy.signal.correlate2d(padded[:, :, first + i], kernel[:, :, i, filter_], mode="valid") for i in range(16)
        ]
        np.testing.assert_allclose(outputs[0, :, :, filter_], sum(planes)[::2, ::2], atol=1e-4)


def test_the_imagenet_stem_halves_twice(features):
    stem = stem_of(LayerMaker("fp32", 0, "fan_out"), "imagenet", 5)
    pooled = stem(features).numpy()
    convolved = np.maximum(stem.parts[0](features).numpy() / np.sqrt(1 + 1e-5), 0)
    assert convolved.shape == (3, 4, 4, 5) and pooled.shape == (3, 2, 2, 5)
    padded = np.pad(convolved, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for row in range(2):
        for column in range(2):
            window = padded[:, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
            np.testing.assert_allclose(pooled[:, row, column], window.max((1, 2)), rtol=1e-5)


# -- layers that draw ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("xla", [False, True], ids=["plain", "xla"])
def test_dropout_is_its_formula(xla, features):
    layer = Dropout(0.25, place=7, name="dropout")
    np.testing.assert_array_equal(layer(features), features)

    @tf.function(jit_compile=xla, autograph=False)
    def train(inputs, seed):
        with drawing(seed):
            return layer(inputs, training=True)

    kept = rng.uniform(rng.fold_in(SEED, 7), features.shape).numpy() >= 0.25
    np.testing.assert_allclose(train(features, SEED), np.where(kept, features / 0.75, 0), rtol=1e-6)
    assert abs(kept.mean() - 0.75) < 5 * np.sqrt(0.25 * 0.75 / kept.size)
    assert np.any(train(features, SEED) != train(features, rng.fold_in(SEED, 0)))
    maps = Dropout(0.5, place=0, over=(1, 2), name="maps")
    with drawing(SEED):
        answers = maps(tf.ones([3, 8, 8, 64]), training=True).numpy()
    assert (answers == answers[:, :1, :1]).all() and set(np.unique(answers)) == {0.0, 2.0}


def test_layers_draw_apart_and_not_without_a_seed(networks, images):
    block = PreActBlock(LayerMaker("fp32", 0, "fan_in"), 4, 1, False, "block", 0.5)
    assert isinstance(block.body.parts[3], Dropout)  # after the rectifier between the convolutions
    make = LayerMaker("fp32", 0, "fan_in")
    with drawing(SEED):
        first, second = (make.dropout(name, 0.5)(tf.ones([40, 40]), training=True).numpy() for name in "ab")
    assert 0.4 < (first == second).mean() < 0.6
    with pytest.raises(ValueError, match="the layer 'dropout' draws in training and has no seed; allowed: network"):
        networks("WideResNet")(images, training=True)
    with drawing(SEED), pytest.raises(RuntimeError), drawing(rng.fold_in(SEED, 1)):
        raise RuntimeError
    with pytest.raises(ValueError, match="has no seed"):
        networks("ShakeShake")(images, training=True)


def test_branches_are_mixed_by_one_weight_forward_and_by_another_backward():
    generator = np.random.default_rng(0)
    first, second, upstream = generator.standard_normal((3, 4, 2, 2, 3)).astype(np.float32)
    forward, backward = generator.random((2, 4, 1, 1, 1)).astype(np.float32)
    inputs = tf.constant(first), tf.constant(second)

    @tf.function(jit_compile=True)
    def mixed(*inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = mix_branches(*inputs, forward, backward)
        return outputs, *tape.gradient(outputs, inputs, output_gradients=upstream)

    outputs, *slopes = mixed(*inputs)
    np.testing.assert_allclose(outputs, forward * first + (1 - forward) * second, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(slopes[0], backward * upstream, rtol=1e-6)
    np.testing.assert_allclose(slopes[1], (1 - backward) * upstream, rtol=1e-6)


def test_each_image_is_shaken_by_independent_weights_in_the_two_passes():
    block = ShakeBlock(LayerMaker("fp32", 0, "fan_out"), 3, 1, False, "block")
    inputs = np.random.default_rng(0).standard_normal((300, 4, 4, 3)).astype(np.float32)
    plain = block(inputs).numpy()
    branches = [branch(inputs).numpy() for branch in (block.first, block.second)]
    np.testing.assert_allclose(plain, inputs + sum(branches) / 2, atol=1e-5)
    with drawing(SEED):
        outputs = block(inputs, training=True)
    first, second = (branch(inputs, training=True).numpy() for branch in (block.first, block.second))
    mixed = (outputs.numpy() - inputs - second) / (first - second)
    forward = np.median(mixed, axis=(1, 2, 3))
    seed = rng.fold_in(SEED, 0)
    drawn = [rng.uniform(rng.fold_in(seed, i), [300, 1, 1, 1]).numpy().ravel() for i in (0, 1)]
    np.testing.assert_allclose(forward, drawn[0], atol=1e-3)
    # what flows back to the first branch's last shift from one map is the sum of the backward weights
    with tf.GradientTape() as tape, drawing(SEED):
        total = tf.reduce_sum(block(inputs, training=True)[..., 0])
    slope = tape.gradient(total, block.first.trainable_variables[-1])
    np.testing.assert_allclose(slope.numpy(), [16 * drawn[1].sum(), 0, 0], rtol=1e-4)
    assert abs(np.corrcoef(*drawn)[0, 1]) < 5 / np.sqrt(300)
    assert all(abs(each.mean() - 0.5) < 5 / np.sqrt(12 * 300) for each in drawn)


def test_the_shortcut_of_a_shaken_block_is_two_shifted_halves(features):
    block = ShakeBlock(LayerMaker("fp32", 0, "fan_out"), 6, 2, True, "block")
    block(features)
    for branch in (block.first, block.second):
        switch_off(branch.parts[-1])
    active = np.maximum(features, 0)
    shifted = np.pad(active[:, 1:, 1:], [(0, 0), (0, 1), (0, 1), (0, 0)])
    halves = [
        each[:, ::2, ::2] @ half.kernel.numpy()[0, 0]
        for each, half in zip((active, shifted), block.halves, strict=True)
    ]
    np.testing.assert_allclose(block(features), np.concatenate(halves, -1) / np.sqrt(1 + 1e-5), atol=1e-4)


# -- refusals, and the command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ResNet(21), r"ResNet.depth is 21; allowed: 6 n \+ 2, as 20, .*; 18, 34, 50, 101, 152"),
        (lambda: ResNet(20, "imagenet"), r"ResNet\(20\).stem is 'imagenet'; allowed: 'cifar'"),
        (lambda: ResNet(18, "cifr"), r"ResNet.stem is 'cifr' \(did you mean 'cifar'\?\); allowed: cifar, imagenet"),
        (lambda: PreActResNet(19), "PreActResNet.depth is 19; allowed"),
        (lambda: WideResNet(28.5), "WideResNet.depth is 28.5; allowed: a whole number"),
        (lambda: WideResNet(20), r"WideResNet.depth is 20; allowed: 6 n \+ 4"),
        (lambda: WideResNet(16, 4, dropout=1.0), "WideResNet.dropout is 1.0; allowed: 0..0.99"),
        (lambda: ResNeXt(28), r"ResNeXt.depth is 28; allowed: 9 n \+ 2"),
        (lambda: DenseNet(99), r"DenseNet.depth is 99; allowed: 6 n \+ 4"),
        (lambda: DenseNet(100, 12, 0), "DenseNet.compression is 0; allowed: 0.01..1"),
        (lambda: ShakeShake(27), r"ShakeShake.depth is 27; allowed: 6 n \+ 2"),
        (lambda: SaliencyCNN((4,)), r"SaliencyCNN.widths is \(4,\); allowed: two whole numbers"),
    ],
)
def test_a_wrong_model_is_refused_with_what_is_allowed(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_command_prints_and_writes_the_models_that_are_asked_for(capsys, tmp_path):
    flags = ["--image=28x28x1", "--classes=2", "--model=basic_conv", "--model=SaliencyCNN((4, 6))"]
    assert cli.main(["models", *flags, f"--json={tmp_path / 'rows.json'}"]) == 0
    rows = files.read_json(tmp_path / "rows.json")
    convolutions = 27 * 27 * 16 * 4 + 26 * 26 * 32 * 4 * 16
    assert rows[0] == {"name": "basic_conv", "parameters": 2_322, "flops_per_image": 2 * (convolutions + 32 * 2)}
    assert [row["name"] for row in rows] == ["basic_conv", "SaliencyCNN((4, 6))"]
    assert "| basic_conv          |       2,322 |" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--image=32x32", "--image is '32x32'; allowed: HEIGHTxWIDTHxCHANNELS"),
        ("--model=resnt20", "--model is 'resnt20' (did you mean 'resnet20'?)"),
        ("--model=Flip()", "--model is 'Flip()'"),
        ("--model=ResNet(21)", "ResNet.depth is 21"),
        ("--classes=1", "num_classes is 1"),
        ("--image=8x8x3", "height and width of 12 or more"),
    ],
)
def test_the_command_refuses(flag, said, capsys):
    assert cli.main(["models", *(["--model=lenet"] if "--model" not in flag else []), flag]) == 2
    assert said in capsys.readouterr().err
