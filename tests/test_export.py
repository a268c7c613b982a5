"""The exported SavedModel against numpy, against the model in Python, and as a stock server loads it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tfaug.config import ConfigError
from tfaug.export import (
    INFO_FILE,
    WARMUP_FILE,
    ExportConfig,
    ExportedModel,
    ViewChoice,
    export_model,
    latest_version,
    load_exported,
    select_bank,
)

SHAPE = (6, 5, 3)
CONFIG = ExportConfig(draws=(4,), num_inputs=3, weights=(0.6,), bank_size=16, mirror=True, seed=7)
SIGNATURES = sorted(
    name + suffix
    for name in ("mirror", "plain", "serving_default", "sum_aug", "sum_aug_seeded")
    for suffix in ("", "_uint8")
)
# A convolution may sum in another order for another batch size: a few units in the last place of float32.
ROUNDING = 2e-6


def make_images(num: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (num, *SHAPE)).astype(np.uint8)


class Network(tf.Module):
    """A convolution, a ReLU and a linear layer with fixed weights, called as the product's models are."""

    def __init__(self, num_classes: int = 5) -> None:
        super().__init__()
        generator = np.random.default_rng(1)
        self.kernel = tf.Variable(generator.normal(0, 0.5, (3, 3, 3, 4)).astype(np.float32))
        self.dense = tf.Variable(generator.normal(0, 0.6, (4 * 4 * 3, num_classes)).astype(np.float32))

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        features = tf.nn.relu(tf.nn.conv2d(tf.cast(images, tf.float32) / 128.0 - 1.0, self.kernel, 1, "VALID"))
        return tf.reshape(features, [-1, self.dense.shape[0]]) @ self.dense


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


@pytest.fixture(scope="module")
def bank() -> np.ndarray:
    return make_images(16, seed=3)


def export(
    folder: pathlib.Path,
    network: Network,
    bank: np.ndarray,
    config: ExportConfig = CONFIG,
    choice: ViewChoice | None = None,
) -> pathlib.Path:
    return export_model(
        folder,
        network,
        bank_images=bank,
        config=config,
        choice=choice,
        warmup_images=make_images(2, 9),
        image_shape=SHAPE,
    )


@pytest.fixture(scope="module")
def exported(tmp_path_factory, network, bank) -> ExportedModel:
    return load_exported(export(tmp_path_factory.mktemp("export") / "model", network, bank))


def splitmix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64 on uint64."""
    x = np.asarray(x, np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def seeds_by_numpy(images: np.ndarray) -> np.ndarray:
    pixels = np.clip(np.rint(images), 0, 255).astype(np.uint64).reshape(len(images), -1)
    positions = splitmix(np.arange(1, pixels.shape[1] + 1, dtype=np.uint64) * GOLDEN) | np.uint64(1)
    return (pixels * positions).sum(axis=1, dtype=np.uint64).view(np.int64)


def partners_by_numpy(seeds: np.ndarray, config: ExportConfig, bank_size: int) -> np.ndarray:
    state = splitmix(seeds.view(np.uint64) + splitmix(np.array([config.seed])))
    start = (splitmix(state + GOLDEN) >> np.uint64(1)) % np.uint64(bank_size)
    strides = np.array([s for s in range(1, bank_size) if np.gcd(s, bank_size) == 1], np.uint64)
    stride = strides[(splitmix(state - GOLDEN) >> np.uint64(1)) % np.uint64(len(strides))]
    steps = np.arange(config.draws[0] * (config.num_inputs - 1), dtype=np.uint64)
    flat = (start[:, None] + stride[:, None] * steps) % np.uint64(bank_size)
    return flat.astype(np.int64).reshape(len(seeds), config.draws[0], -1)


def test_all_signatures_are_there_with_their_types(exported):
    assert exported.signature_names == SIGNATURES
    loaded = tf.saved_model.load(str(exported.path))
    for name in SIGNATURES:
        inputs = loaded.signatures[name].structured_input_signature[1]
        assert inputs["images"].dtype == (tf.uint8 if name.endswith("_uint8") else tf.float32)
        assert inputs["images"].shape.as_list() == [None, *SHAPE]
        assert ("seed" in inputs) == name.startswith("sum_aug_seeded")
        outputs = loaded.signatures[name].structured_outputs
        assert {key: (spec.dtype, spec.shape[-1]) for key, spec in outputs.items()} == {
            "logits": (tf.float32, 5),
            "probs": (tf.float32, 5),
        }


@pytest.mark.parametrize("signature", SIGNATURES)
def test_no_images_get_no_answers(exported, signature):
    inputs = {"images": make_images(0)} | ({"seed": []} if signature.startswith("sum_aug_seeded") else {})
    answer = exported.predict(inputs, signature)
    assert {name: value.shape for name, value in answer.items()} == {"logits": (0, 5), "probs": (0, 5)}


@pytest.mark.parametrize(
    ("last", "message"),
    [
        (tf.nn.softmax, "so probabilities; allowed: logits"),
        (lambda logits: logits[:, :1], r"the model gives \[8, 1\]; allowed: logits \[B, K\], K of 2 or more"),
        (lambda logits: logits[:, 0], r"the model gives \[8\]; allowed"),
    ],
)
def test_model_that_gives_no_logits_is_refused(tmp_path, network, bank, last, message):
    with pytest.raises(ValueError, match=message):
        export(tmp_path / "m", lambda images, training: last(network(images)), bank)
    assert not (tmp_path / "m").exists()


def test_content_seeds_and_partners_match_numpy(exported):
    images = make_images(40)
    seeds = exported.content_seeds(images)
    np.testing.assert_array_equal(seeds, seeds_by_numpy(images))
    np.testing.assert_array_equal(exported.choose_partners(seeds), partners_by_numpy(seeds, CONFIG, 16))


def test_content_seed_follows_the_rounded_pixels(exported):
    image = make_images(1).astype(np.float32)
    image[0, 0, 0] = [0.0, 255.0, 100.0]
    near = image.copy()
    near[0, 0, 0] = [-0.4, 255.4, 99.7]
    other = image.copy()
    other[0, 0, 0, 2] = 101.0
    swapped = image.copy()
    swapped[0, 0, 0, :2] = swapped[0, 0, 0, 1::-1]
    seeds = [int(exported.content_seeds(x)[0]) for x in (image, near, other, swapped)]
    assert seeds[0] == seeds[1]
    assert len(set(seeds)) == 3


def test_default_answer_is_the_mean_prediction_over_mixed_draws(exported, network, bank):
    images = make_images(9)
    partners = partners_by_numpy(seeds_by_numpy(images), CONFIG, 16)
    probs = np.zeros((9, 5))
    for draw in range(4):
        others = bank[partners[:, draw]].astype(np.float64).sum(axis=1)
        mixed = 0.6 * images + 0.4 / 2 * others
        probs += scipy.special.softmax(network(mixed.astype(np.float32)).numpy().astype(np.float64), axis=1) / 4
    answer = exported.predict({"images": images})
    np.testing.assert_allclose(answer["probs"], probs, atol=5e-6)
    np.testing.assert_allclose(answer["logits"], np.log(probs), atol=5e-5)
    # The mixing matters: the plain answer is another one.
    assert np.abs(answer["probs"] - exported.predict({"images": images}, "plain")["probs"]).max() > 0.05


def test_plain_answer_is_the_models(exported, network):
    images = make_images(9)
    answer = exported.predict({"images": images}, "plain")
    np.testing.assert_allclose(answer["logits"], network(images).numpy(), atol=ROUNDING * 10)
    np.testing.assert_allclose(answer["probs"], scipy.special.softmax(answer["logits"], axis=1), atol=ROUNDING)


def test_mirror_answer_is_the_mean_of_two_plain_ones(exported):
    images = make_images(9)
    first, second = (exported.predict({"images": x}, "plain")["probs"] for x in (images, images[:, :, ::-1]))
    answer = exported.predict({"images": images}, "mirror")
    np.testing.assert_allclose(answer["probs"], (first.astype(np.float64) + second) / 2, atol=ROUNDING)
    np.testing.assert_allclose(answer["logits"], np.log((first.astype(np.float64) + second) / 2), atol=2e-5)
    assert np.abs(first - second).max() > 0.05


@pytest.mark.parametrize("default", ["plain", "mirror", "sum_aug"])
def test_the_default_is_the_chosen_answer_and_sums_have_the_chosen_setting(tmp_path, network, bank, exported, default):
    config = dataclasses.replace(CONFIG, draws=(2, 4), weights=(0.3, 0.6))
    model = load_exported(export(tmp_path / "m", network, bank, config, ViewChoice(4, 0.6, default)))
    images = make_images(7)
    answers = {name: model.predict({"images": images}, name)["probs"] for name in (default, "serving_default")}
    np.testing.assert_array_equal(answers["serving_default"], answers[default])
    np.testing.assert_allclose(
        model.predict({"images": images}, "sum_aug")["probs"],
        exported.predict({"images": images})["probs"],
        atol=ROUNDING,
    )
    assert model.info["choice"] == {"num_draws": 4, "weight": 0.6, "default": default}


def test_several_settings_need_a_choice_and_a_mirror_default_needs_mirror_views(tmp_path, network, bank):
    with pytest.raises(ValueError, match=r"no choice among draws \(2, 4\) and weights \(0\.6,\); allowed: one of each"):
        export(tmp_path / "m", network, bank, dataclasses.replace(CONFIG, draws=(2, 4)))
    with pytest.raises(ValueError, match="default is 'mirror' with mirror=False; allowed: plain, sum_aug"):
        export(tmp_path / "m", network, bank, dataclasses.replace(CONFIG, mirror=False), ViewChoice(4, 0.6, "mirror"))
    with pytest.raises(ConfigError, match=r"ViewChoice\.default is 'sum'.*allowed: plain, mirror, sum_aug"):
        ViewChoice(4, 0.6, "sum")
    assert not (tmp_path / "m").exists()


def test_without_mirror_views_there_is_no_such_signature(tmp_path, network, bank):
    model = load_exported(export(tmp_path / "m", network, bank, dataclasses.replace(CONFIG, mirror=False)))
    assert model.signature_names == [name for name in SIGNATURES if not name.startswith("mirror")]


@pytest.mark.parametrize("name", ["serving_default", "plain", "mirror", "sum_aug", "sum_aug_seeded"])
def test_uint8_and_float_give_the_same_bits(exported, name):
    inputs = {"images": make_images(7)}
    if name == "sum_aug_seeded":
        inputs["seed"] = np.arange(7)
    as_float, as_uint8 = exported.predict(inputs, name), exported.predict(inputs, f"{name}_uint8")
    for key in ("logits", "probs"):
        np.testing.assert_array_equal(as_float[key], as_uint8[key])


def test_seeded_answer_with_the_content_seeds_is_the_default_one(exported):
    images = make_images(7)
    seeds = exported.content_seeds(images)
    default = exported.predict({"images": images})
    seeded = exported.predict({"images": images, "seed": seeds}, "sum_aug_seeded")
    np.testing.assert_array_equal(seeded["probs"], default["probs"])
    other = exported.predict({"images": images, "seed": seeds + 1}, "sum_aug_seeded")
    assert (np.abs(other["probs"] - default["probs"]).max(axis=1) > 1e-4).all()


@pytest.mark.parametrize("name", ["serving_default_uint8", "sum_aug_seeded_uint8", "plain_uint8", "mirror_uint8"])
def test_answer_depends_on_its_image_and_seed_not_on_its_batch(exported, name):
    # 90 images in 4 draws are 360 rows, more than go through the model at once.
    images, seeds = make_images(90), np.arange(90) * 12345

    def ask(rows: np.ndarray) -> np.ndarray:
        inputs = {"images": images[rows]}
        if name.startswith("sum_aug_seeded"):
            inputs["seed"] = seeds[rows]
        return exported.predict(inputs, name)["probs"]

    whole = ask(np.arange(90))
    backwards = ask(np.arange(90)[::-1])
    np.testing.assert_allclose(backwards[::-1], whole, atol=ROUNDING)
    for row in (0, 41, 63, 64, 89):
        np.testing.assert_allclose(ask(np.array([row]))[0], whole[row], atol=ROUNDING)


def test_partners_are_the_same_alone_and_in_any_batch(exported):
    images = make_images(30)
    whole = exported.choose_partners(exported.content_seeds(images))
    for row in range(30):
        alone = exported.choose_partners(exported.content_seeds(images[row : row + 1]))
        np.testing.assert_array_equal(alone[0], whole[row])


def test_partners_differ_within_a_row_and_cover_the_bank_evenly(exported):
    partners = exported.choose_partners(np.arange(4000))
    flat = partners.reshape(4000, -1)
    assert all(len(set(row)) == 8 for row in flat.tolist())
    counts = np.bincount(flat[:, 0], minlength=16)
    assert scipy.stats.chisquare(counts).pvalue > 1e-3
    pairs = np.bincount(flat[:, 0] * 16 + flat[:, 1], minlength=256).reshape(16, 16)
    # An odd step joins an even place to an odd one: 128 ordered pairs, all of them met.
    assert (pairs > 0).sum() == 128


def test_partners_of_one_draw_differ_when_the_bank_is_smaller_than_all_draws(tmp_path, network, bank):
    config = dataclasses.replace(CONFIG, draws=(9,), num_inputs=4)
    model = load_exported(export(tmp_path / "m", network, bank[:6], config))
    partners = model.choose_partners(np.arange(50))
    assert partners.shape == (50, 9, 3)
    assert all(len(set(draw)) == 3 for row in partners.tolist() for draw in row)
    assert partners.min() == 0 and partners.max() == 5


def test_whole_weight_on_the_query_is_the_plain_prediction(tmp_path, network, bank):
    config = ExportConfig(draws=(2,), num_inputs=2, weights=(1.0,), bank_size=1)
    model = load_exported(export(tmp_path / "m", network, bank[:1], config))
    images = make_images(5)
    plain = model.predict({"images": images}, "plain")["probs"]
    np.testing.assert_allclose(model.predict({"images": images})["probs"], plain, atol=ROUNDING)


def test_empty_batch_gets_an_empty_answer(exported):
    assert exported.predict({"images": make_images(0)})["probs"].shape == (0, 5)


def test_graph_holds_no_xla_function_and_no_random_op(exported):
    graph = (
        saved_model_pb2.SavedModel.FromString((exported.path / "saved_model.pb").read_bytes()).meta_graphs[0].graph_def
    )
    functions = graph.library.function
    assert len(functions) > 5
    assert not [f.signature.name for f in functions if f.attr["_XlaMustCompile"].b]
    ops = {node.op for f in functions for node in f.node_def} | {node.op for node in graph.node}
    assert "Conv2D" in ops
    assert not {op for op in ops if "Random" in op or "Xla" in op}


def test_loads_and_answers_in_a_graph_session(exported):
    images = make_images(70)
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(exported.path))
        signature = meta.signature_def["serving_default_uint8"]
        assert signature.method_name == "tensorflow/serving/predict"
        probs = session.run(signature.outputs["probs"].name, {signature.inputs["images"].name: images})
    np.testing.assert_allclose(probs, exported.predict({"images": images})["probs"], atol=ROUNDING)


def test_warmup_file_holds_a_request_for_every_signature(exported):
    records = [
        prediction_log_pb2.PredictionLog.FromString(record.numpy()).predict_log.request
        for record in tf.data.TFRecordDataset(str(exported.path / WARMUP_FILE))
    ]
    assert sorted(request.model_spec.signature_name for request in records) == SIGNATURES
    for request in records:
        name = request.model_spec.signature_name
        inputs = {key: tf.make_ndarray(value) for key, value in request.inputs.items()}
        np.testing.assert_array_equal(inputs["images"], make_images(2, 9))
        assert inputs["images"].dtype == (np.uint8 if name.endswith("_uint8") else np.float32)
        assert exported.predict(inputs, name)["probs"].shape == (2, 5)


def test_info_says_what_the_export_is(tmp_path, network, bank):
    path = export_model(
        tmp_path,
        network,
        bank_images=bank,
        config=CONFIG,
        warmup_images=bank[:1],
        image_shape=SHAPE,
        class_names=list("abcde"),
        weights_sha256="f00",
        test_time={"rule": "by hand"},
    )
    info = json.loads((path / INFO_FILE).read_text())
    assert info["class_names"] == list("abcde")
    assert info["weights_sha256"] == "f00"
    assert info["image_shape"] == list(SHAPE)
    assert info["config"] == json.loads(json.dumps(dataclasses.asdict(CONFIG)))
    assert info["choice"] == {"num_draws": 4, "weight": 0.6, "default": "sum_aug"}
    assert info["test_time"] == {"rule": "by hand"}


def test_version_is_one_above_the_highest_and_nothing_is_overwritten(tmp_path, network, bank):
    assert latest_version(tmp_path / "none") is None
    (tmp_path / "notes").mkdir()
    first = export(tmp_path, network, bank)
    assert first == tmp_path / "1"
    before = (first / "saved_model.pb").stat()
    (tmp_path / "9").mkdir()
    assert export(tmp_path, network, bank) == tmp_path / "10" == latest_version(tmp_path)
    assert (first / "saved_model.pb").stat() == before


def test_failed_export_leaves_nothing_behind(tmp_path, bank):
    class Broken(Network):
        def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
            if not tf.executing_eagerly():
                raise RuntimeError("cannot be traced")
            return super().__call__(images, training)

    with pytest.raises(RuntimeError, match="cannot be traced"):
        export(tmp_path, Broken(), bank)
    assert not list(tmp_path.iterdir())


def test_model_in_bfloat16_gives_float32_answers(tmp_path):
    from tfaug.models import LeNet, build_model

    shape = (28, 28, 1)
    images = np.random.default_rng(0).integers(0, 256, (6, *shape)).astype(np.uint8)
    settings: dict[str, Any] = {"image_shape": shape, "num_classes": 10, "mean": [0.5], "std": [0.3], "seed": 0}
    model = build_model(LeNet(), precision="bf16", **settings)
    path = export_model(
        tmp_path,
        model,
        bank_images=images,
        config=ExportConfig(draws=(8,), weights=(0.5,)),
        warmup_images=images[:1],
        image_shape=shape,
    )
    answer = load_exported(path).predict({"images": images}, "plain")
    assert answer["logits"].dtype == np.float32
    full = build_model(LeNet(), precision="fp32", **settings)
    np.testing.assert_allclose(answer["probs"], tf.nn.softmax(full(images)), atol=0.02)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"bank_images": make_images(16)[:, :5]},
            r"bank_images is uint8 \[16, 5, 5, 3\]; allowed: uint8 \[1, 6, 5, 3\]",
        ),
        ({"bank_images": make_images(16).astype(np.float32)}, "bank_images is float32"),
        ({"bank_images": make_images(0)}, r"bank_images is uint8 \[0, 6, 5, 3\]"),
        ({"bank_images": make_images(1)}, "bank_images holds 1 images; allowed: at least 2"),
        ({"warmup_images": make_images(0)}, "warmup_images is uint8"),
        ({"class_names": ["a", "b"]}, "class_names holds 2 names; allowed: 5"),
    ],
)
def test_wrong_arrays_are_refused_before_anything_is_written(tmp_path, network, changes, message):
    arguments = {"bank_images": make_images(16), "warmup_images": make_images(1), **changes}
    with pytest.raises(ValueError, match=message):
        export_model(tmp_path / "m", network, config=CONFIG, image_shape=SHAPE, **arguments)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"draws": ()},
        {"draws": (0, 8)},
        {"draws": (8, 8)},
        {"draws": (64, 8)},
        {"draws": (8.0,)},
        {"draws": 8},
        {"num_inputs": 1},
        {"weights": (0.0,)},
        {"weights": (0.5, 1.01)},
        {"weights": (float("nan"),)},
        {"num_examples": 0},
        {"bank_size": 0},
        {"num_inputs": 4, "bank_size": 2},
        {"seed": -1},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused(changes):
    with pytest.raises(ConfigError, match=rf"ExportConfig\.{list(changes)[-1]} is .*allowed: "):
        ExportConfig(**changes)


def test_bank_is_a_seeded_choice_without_replacement():
    images = np.arange(50, dtype=np.uint8)[:, None, None, None]
    chosen = select_bank(images, ExportConfig(bank_size=20, seed=1)).ravel()
    assert len(set(chosen.tolist())) == 20
    np.testing.assert_array_equal(chosen, select_bank(images, ExportConfig(bank_size=20, seed=1)).ravel())
    assert set(chosen) != set(select_bank(images, ExportConfig(bank_size=20, seed=2)).ravel())
    assert sorted(select_bank(images, ExportConfig(bank_size=256)).ravel()) == list(range(50))


def test_loading_and_asking_wrongly_is_refused_by_name(tmp_path, exported):
    with pytest.raises(ValueError, match="holds no model exported by tfaug"):
        load_exported(tmp_path)
    with pytest.raises(ValueError, match="no signature 'predict'; allowed: mirror, mirror_uint8, plain"):
        exported.predict({"images": make_images(1)}, "predict")
    with pytest.raises(
        ValueError, match=r"inputs are \['images'\]; allowed for 'sum_aug_seeded': \['images', 'seed'\]"
    ):
        exported.predict({"images": make_images(1)}, "sum_aug_seeded")


@pytest.mark.parametrize("num_seeds", [1, 2, 4])
def test_another_number_of_seeds_than_of_images_is_refused(exported, num_seeds):
    with pytest.raises(tf.errors.InvalidArgumentError, match="as many seeds as images"):
        exported.predict({"images": make_images(3), "seed": np.arange(num_seeds)}, "sum_aug_seeded")
