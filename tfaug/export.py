"""Export a model as a versioned SavedModel that answers plainly, with a mirror view, and by test-time Sum-Augmentation.

The graph holds a fixed bank of training images. In Sum-Augmentation a query is mixed with images of the bank in
several draws, and the answer is the mean of the draws' predictions. Which images are drawn follows from a 64-bit seed
per row by integer hashing alone: no random op and no state, so an answer depends on its image (and seed) only, not on
the batch, the replica or the order.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

import tfaug
from tfaug import rng
from tfaug.config import LARGEST, ConfigError, check_choice, check_range, check_whole, is_number, to_python
from tfaug.extras import explained
from tfaug.files import atomic_directory, read_json, refuse_pattern, write_json
from tfaug.images import to_uint8
from tfaug.keras_versions import tf_variables
from tfaug.losses import NUM_CHECKED, check_logits
from tfaug.models.stages import POLICIES, infer
from tfaug.shapes import held_to

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
INFO_FILE = "assets.extra/tfaug.json"
# Rows that go through the model at once: bounds the memory of a large batch with many draws.
_ROWS_PER_STEP = 256
# Forward passes per image of the answers without sums; a sum costs one for each draw.
PASSES = {"plain": 1, "mirror": 2}
_TINY = float(np.finfo(np.float32).tiny)


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """Settings of what a model may answer with at test time; where there are several, `tfaug.views` chooses.

    Args:
      draws: n, mixed copies of each query whose predictions are averaged, each 1 or more, ascending; one value leaves
        nothing to choose.
      num_inputs: k, images in each sum, the query included; 2 or more.
      weights: the query's share a of each sum, each 0 < a <= 1, ascending; the k-1 partners share the rest equally.
        The paper's weight lam of the query against 1 for each partner is a = lam / (lam + k - 1); a = 1/k is the plain
        average, a = 1 mixes nothing.
      bank_size: training images kept in the graph, M, at least k - 1.
      mirror: also answer with the mean over the image and its left-right mirror image; for classes that a mirror does
        not change (not for digits).
      num_examples: validation images on which the settings are compared, a seeded class-stratified subset; all where
        there are fewer. It takes 1 + 2 mirror + max(draws) len(weights) forward passes per image.
      seed: chooses the bank, the validation images, and with the image's seed the partners.
      precision: of the exported model's arithmetic, `fp32` or `bf16` (faster where the server's processor has
        instructions for it); its weights, inputs and outputs are float32 either way.
    """

    draws: tuple[int, ...] = (8, 64)
    num_inputs: int = 2
    weights: tuple[float, ...] = (1 / 2, 2 / 3, 0.8)
    bank_size: int = 256
    mirror: bool = False
    num_examples: int = 1000
    seed: int = 0
    precision: str = "fp32"

    def __post_init__(self) -> None:
        _check_ascending(self, "draws", True, 1, LARGEST, "whole numbers of 1 or more")
        check_whole(self, "num_inputs", 2)
        _check_ascending(self, "weights", False, _TINY, 1.0, "numbers above 0 and up to 1")
        check_whole(self, "bank_size", self.num_inputs - 1)
        check_whole(self, "num_examples", 1)
        check_whole(self, "seed", 0, 2**31 - 1)
        check_choice(self, "precision", POLICIES)


def _check_ascending(owner: object, name: str, whole: bool, low: float, high: float, allowed: str) -> None:
    """Checks that a field is a tuple of one or more ascending numbers in low..high, and makes them Python's."""
    given = getattr(owner, name)
    values = to_python(given)
    fine = isinstance(values, tuple) and len(values) > 0
    fine = fine and all(is_number(value, whole) and low <= value <= high for value in values)
    if not fine or any(a >= b for a, b in itertools.pairwise(values)):
        raise ConfigError(f"{type(owner).__name__}.{name} is {given!r}; allowed: {allowed}, one or more, ascending")
    object.__setattr__(owner, name, values)


@dataclasses.dataclass(frozen=True)
class ViewChoice:
    """What one exported version answers with.

    Args:
      num_draws: n of its sums, 1 or more.
      weight: a of its sums, 0 < a <= 1.
      default: the signature whose answers `serving_default` gives: `plain`, `mirror` or `sum_aug`.
    """

    num_draws: int
    weight: float
    default: str = "sum_aug"

    def __post_init__(self) -> None:
        check_whole(self, "num_draws", 1)
        check_range(self, "weight", _TINY, 1.0)
        check_choice(self, "default", (*PASSES, "sum_aug"))


def select_bank(images: np.ndarray, config: ExportConfig) -> np.ndarray:
    """Draws the bank from the training images without replacement, seeded.

    Args:
      images: uint8 [N,H,W,C] training images.
      config: `bank_size` and `seed` are used.

    Returns:
      uint8 [M,H,W,C] with M = min(bank_size, N), in drawn order.
    """
    chosen = np.random.Generator(np.random.Philox(key=config.seed)).permutation(len(images))[: config.bank_size]
    return images[chosen]


class ServedModel(tf.Module):
    """A model with its test-time views inside its graph: mirror images and Sum-Augmentation.

    With the query's share a, k inputs, n draws and partners p from the bank,

        x_j   = a x + (1 - a) / (k - 1) * sum_{m=1..k-1} bank[p(seed, j, m)]       j = 1..n
        probs = 1/n sum_j softmax(f(x_j)),     logits = log probs

    so softmax(logits) = probs. The paper's code averages logits and takes its partners from the test batch itself;
    here the mean is of the predictions, and the partners come from training images, so that no answer depends on its
    batch. All of a row's n (k-1) partners differ where the bank is that large; otherwise those of one draw differ.
    Draw j does not depend on n: the first n of more draws are the draws of n.

    The mirror answer is the same mean over two predictions, f(x) and f(x reversed from left to right).

    No images, B = 0, get no answers, [0,K].

    Args:
      model: called as `model(images, training=False)` with float32 [B,H,W,C] in 0..255; returns logits [B,K], K of 2 or
        more.
      bank_images: uint8 [M,H,W,C].
      config: `num_inputs`, `seed` and `mirror` are used; of the bank, M counts.
      choice: n, a and the default.

    Raises:
      ValueError: if the model gives another shape, or probabilities (see `tfaug.losses.check_logits`).

    Source: sum, section 3.7 (test-time Sum-Augmentation).
    """

    def __init__(self, model: Any, bank_images: np.ndarray, config: ExportConfig, choice: ViewChoice) -> None:
        super().__init__(name="served_model")
        self._config, self._choice = config, choice
        size, *shape = bank_images.shape
        self._shape = tuple(shape)
        # Kept out of the tracked attributes: tracking a Keras model would also save every layer's own functions.
        self._call = lambda images: tf.cast(infer(model, images), tf.float32)
        self._num_classes = check_logits(self._call(tf.cast(bank_images[:NUM_CHECKED], tf.float32))).shape[1]
        self._weights = tf_variables(model)
        self._bank = tf.Variable(bank_images, trainable=False, name="bank_images")
        # Steps that visit each of the M images once before any image twice.
        self._strides = np.array([s for s in range(1, max(size, 2)) if math.gcd(s, size) == 1], np.int64)
        images = tf.TensorSpec([None, *shape], tf.float32)
        seed = tf.TensorSpec([None], tf.int64)
        self.content_seeds = tf.function(self._content_seeds, input_signature=[images], autograph=False)
        self.choose_partners = tf.function(self._choose_partners, input_signature=[seed], autograph=False)
        # One traced function each, which all signatures call: the model is not in the file once for each of them.
        self._plain_prediction = tf.function(self._predict_plain, input_signature=[images], autograph=False)
        self._mirror_prediction = tf.function(self._predict_mirror, input_signature=[images], autograph=False)
        self._draw_predictions = tf.function(
            self._predict_draws, input_signature=[images, seed, tf.TensorSpec([], tf.float32)], autograph=False
        )

    @property
    def num_classes(self) -> int:
        """K."""
        return self._num_classes

    def make_signatures(self) -> dict[str, Any]:
        """Builds the functions to serve, by signature name."""

        def seeded(images: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
            images = tf.cast(images, tf.float32)
            return mean_prediction(self._draw_predictions(images, seed, tf.constant(self._choice.weight, tf.float32)))

        def sum_aug(images: tf.Tensor) -> dict[str, tf.Tensor]:
            images = tf.cast(images, tf.float32)
            return seeded(images, self.content_seeds(images))

        def mirror(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._mirror_prediction(tf.cast(images, tf.float32))

        def plain(images: tf.Tensor) -> dict[str, tf.Tensor]:
            return self._plain_prediction(tf.cast(images, tf.float32))

        functions: dict[str, Any] = {
            "plain": plain,
            "sum_aug": sum_aug,
            **({"mirror": mirror} if self._config.mirror else {}),
        }
        functions = {"serving_default": functions[self._choice.default], **functions, "sum_aug_seeded": seeded}
        seed = tf.TensorSpec([None], tf.int64, "seed")
        signatures: dict[str, Any] = {}
        for suffix, dtype in (("", tf.float32), ("_uint8", tf.uint8)):
            images = tf.TensorSpec([None, *self._shape], dtype, "images")
            for name, function in functions.items():
                inputs = [images, seed] if function is seeded else [images]
                signatures[name + suffix] = tf.function(function, input_signature=inputs, autograph=False)
        return signatures

    def answer(self, images: np.ndarray, mode: str) -> np.ndarray:
        """Returns what `plain` or `mirror` answers, probs float32 [B,K], to uint8 or float32 [B,H,W,C] images."""
        function = {"plain": self._plain_prediction, "mirror": self._mirror_prediction}[mode]
        return function(tf.constant(images, tf.float32))["probs"].numpy()

    def answer_with_sums(self, images: np.ndarray, weight: float, draws: Sequence[int]) -> list[np.ndarray]:
        """Returns what `sum_aug` answers at a weight and for several n at most `num_draws`, from one set of passes.

        Args:
          images: uint8 or float32 [B,H,W,C].
          weight: a.
          draws: each n.

        Returns:
          probs float32 [B,K] for each n.
        """
        images = tf.constant(images, tf.float32)
        seeds = self.content_seeds(images)
        log_probs = self._draw_predictions(images, seeds, tf.constant(weight, tf.float32))
        return [mean_prediction(log_probs[:, :n])["probs"].numpy() for n in draws]

    def _content_seeds(self, images: tf.Tensor) -> tf.Tensor:
        """Hashes each image to int64 [B]: the sum of its pixels, rounded to 0..255, times odd weights of the places."""
        num_values = math.prod(self._shape)
        pixels = tf.cast(to_uint8(images), tf.int64)
        positions = tf.bitwise.bitwise_or(rng.mix64((tf.range(num_values, dtype=tf.int64) + 1) * rng.GOLDEN_64), 1)
        return tf.reduce_sum(tf.reshape(pixels, [-1, num_values]) * positions, axis=1)

    def _choose_partners(self, seed: tf.Tensor) -> tf.Tensor:
        """Returns the bank indices int64 [B,n,k-1] that rows of `seed` are mixed with."""
        size = self._bank.shape[0]
        state = rng.mix64(seed + rng.mix64(tf.constant(self._config.seed, tf.int64)))
        start = tf.math.floormod(rng.shift_right_64(rng.mix64(state + rng.GOLDEN_64), 1), size)
        choice = tf.math.floormod(rng.shift_right_64(rng.mix64(state - rng.GOLDEN_64), 1), len(self._strides))
        stride = tf.gather(tf.constant(self._strides), choice)
        num_partners = self._config.num_inputs - 1
        steps = tf.range(self._choice.num_draws * num_partners, dtype=tf.int64)
        # Each factor is below M, so the products stay far from overflow.
        indices = tf.math.floormod(start[:, None] + stride[:, None] * tf.math.floormod(steps, size)[None, :], size)
        return tf.reshape(indices, [-1, self._choice.num_draws, num_partners])

    def _predict_plain(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Predicts the images as they are."""
        logits = self._call(images)
        return {"logits": logits, "probs": tf.nn.softmax(logits)}

    def _predict_mirror(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Averages the predictions of the images and of their left-right mirror images."""
        log_probs = tf.nn.log_softmax(self._call(tf.concat([images, tf.reverse(images, [2])], axis=0)))
        return mean_prediction(tf.stack(tf.split(log_probs, 2), axis=1))

    def _predict_draws(self, images: tf.Tensor, seed: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
        """Mixes every row with its partners, some rows at a time; returns log-probabilities [B,n,K]."""
        num_draws = self._choice.num_draws
        seed = held_to(seed, [tf.shape(images)[0]], "as many seeds as images")
        partners = tf.reshape(self.choose_partners(seed), [-1, self._config.num_inputs - 1])
        num_rows = tf.shape(partners)[0]

        def step(first: tf.Tensor, log_probs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            last = tf.minimum(first + _ROWS_PER_STEP, num_rows)
            queries = tf.gather(images, tf.range(first, last) // num_draws)
            sums = tf.reduce_mean(tf.cast(tf.gather(self._bank, partners[first:last]), tf.float32), axis=1)
            mixed = weight * queries + (1.0 - weight) * sums
            return last, tf.concat([log_probs, tf.nn.log_softmax(self._call(mixed))], axis=0)

        first, log_probs = tf.constant(0), tf.zeros([0, self._num_classes])
        _, log_probs = tf.while_loop(
            lambda first, _: first < num_rows,
            step,
            (first, log_probs),
            shape_invariants=(first.shape, tf.TensorShape([None, self._num_classes])),
            parallel_iterations=1,
        )
        return tf.reshape(log_probs, [-1, num_draws, self._num_classes])


def mean_prediction(log_probs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Averages predictions: log-probabilities [B,n,K] -> logits and probs [B,K], logits = log of the mean of probs."""
    logits = tf.reduce_logsumexp(log_probs, axis=1) - math.log(log_probs.shape[1])
    return {"logits": logits, "probs": tf.nn.softmax(logits)}


def _write_warmup(path: pathlib.Path, signatures: Iterable[str], images: np.ndarray) -> None:
    """Writes one predict request per signature in TensorFlow Serving's warm-up format."""
    with explained():
        from tensorflow_serving.apis import prediction_log_pb2

    path.parent.mkdir(parents=True, exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name in signatures:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = name
            batch = images if name.endswith("_uint8") else images.astype(np.float32)
            request.inputs["images"].CopyFrom(tf.make_tensor_proto(batch))
            if name.startswith("sum_aug_seeded"):
                request.inputs["seed"].CopyFrom(tf.make_tensor_proto(np.arange(len(batch), dtype=np.int64)))
            writer.write(log.SerializeToString())


def _check_images(name: str, images: np.ndarray, image_shape: Sequence[int]) -> None:
    """Refuses anything but uint8 [N,H,W,C] with N of 1 or more."""
    if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1:] != tuple(image_shape) or not len(images):
        raise ValueError(
            f"{name} is {images.dtype} {list(images.shape)}; allowed: uint8 {[1, *image_shape]} with 1 or more rows"
        )


def _versions(directory: pathlib.Path) -> list[int]:
    """The version numbers already in `directory`, ascending."""
    return sorted(int(p.name) for p in directory.glob("*") if p.is_dir() and p.name.isdecimal())


def latest_version(directory: str | os.PathLike[str]) -> pathlib.Path | None:
    """Returns the folder of the highest version under `directory`, None if there is none."""
    directory = pathlib.Path(directory)
    versions = _versions(directory)
    return directory / str(versions[-1]) if versions else None


def export_model(
    directory: str | os.PathLike[str],
    model: Any,
    *,
    bank_images: np.ndarray,
    config: ExportConfig,
    choice: ViewChoice | None = None,
    warmup_images: np.ndarray,
    image_shape: Sequence[int],
    class_names: Sequence[str] = (),
    weights_sha256: str = "",
    test_time: Mapping[str, Any] | None = None,
    beside: Mapping[str, Any] | None = None,
) -> pathlib.Path:
    """Writes the model as DIRECTORY/VERSION, whole or not at all, with VERSION one above the highest there.

    Signatures: `plain` (the model's own answer), `mirror` (mean with the mirror image, where the config has it),
    `sum_aug` (test-time Sum-Augmentation, seeded by each image's content), `sum_aug_seeded` (the same, seeded by the
    input `seed`, int64 [B]; another number of them than of images is refused) and `serving_default`, which answers as
    one of the first three: `choice.default`, which the file tfaug.json beside the model names. They take `images` as
    float32 [B,H,W,C] in 0..255; each with the suffix `_uint8` takes uint8. Outputs: `logits` and `probs`, float32
    [B,K], with probs = softmax(logits).

    Args:
      directory: the model's base path, as TensorFlow Serving takes it.
      model: see `ServedModel`. A model compiled by XLA inside its call does not run on a stock server's CPU.
      bank_images: uint8 [M,H,W,C] training images, M at least k - 1; see `select_bank`.
      config: settings of the test-time views.
      choice: which of them, see `tfaug.views`; None where the config has one n and one a, and sums are the default.
      warmup_images: uint8 [N,H,W,C], sent through each signature when a server loads the version; 1 or more, few.
      image_shape: (H, W, C).
      class_names: names of the K classes, stored beside the model.
      weights_sha256: identity of the weights, stored beside the model.
      test_time: JSON values that say how the choice was made, stored beside the model.
      beside: more JSON values to store there.

    Returns:
      The folder of the new version.

    Raises:
      ValueError: if an array's type or shape is not as above, the model gives no logits, `class_names` are not K, there
        is no choice where the config has several settings, it is a mirror view that the config does not have, or
        TensorFlow would see a pattern in the path (see `tfaug.files.refuse_pattern`).
    """
    refuse_pattern("the export's folder", directory)
    if choice is None:
        if len(config.draws) > 1 or len(config.weights) > 1:
            raise ValueError(
                f"no choice among draws {config.draws} and weights {config.weights}; allowed: one of each, or a choice"
            )
        choice = ViewChoice(config.draws[0], config.weights[0])
    if choice.default == "mirror" and not config.mirror:
        raise ValueError("the default is 'mirror' with mirror=False; allowed: plain, sum_aug")
    _check_images("bank_images", bank_images, image_shape)
    _check_images("warmup_images", warmup_images, image_shape)
    if len(bank_images) < config.num_inputs - 1:
        raise ValueError(
            f"bank_images holds {len(bank_images)} images; allowed: at least {config.num_inputs - 1}, "
            f"the partners of a sum of num_inputs={config.num_inputs}"
        )
    served = ServedModel(model, bank_images, config, choice)
    if class_names and len(class_names) != served.num_classes:
        raise ValueError(
            f"class_names holds {len(class_names)} names; allowed: {served.num_classes}, the model's classes"
        )
    directory = pathlib.Path(directory)
    target = directory / str(max(_versions(directory), default=0) + 1)
    signatures = served.make_signatures()
    with atomic_directory(target) as partial:
        tf.saved_model.save(served, str(partial), signatures=signatures)
        _write_warmup(partial / WARMUP_FILE, signatures, warmup_images)
        write_json(
            partial / INFO_FILE,
            {
                "tfaug": tfaug.__version__,
                "config": {**dataclasses.asdict(config), "bank_size": len(bank_images)},
                "choice": dataclasses.asdict(choice),
                "test_time": test_time,
                "image_shape": list(image_shape),
                "class_names": list(class_names),
                "weights_sha256": weights_sha256,
                **(beside or {}),
            },
        )
    return target


class ExportedModel:
    """An exported version loaded in this process, called with numpy arrays as the served one is."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.info: dict[str, Any] = read_json(path / INFO_FILE)
        self._module = tf.saved_model.load(str(path))

    @property
    def signature_names(self) -> list[str]:
        """The signatures' names, sorted."""
        return sorted(self._module.signatures)

    def predict(self, inputs: Mapping[str, Any], signature: str = "serving_default") -> dict[str, np.ndarray]:
        """Runs one signature; inputs are converted to its types.

        Raises:
          ValueError: if there is no such signature, or its inputs are named otherwise.
        """
        if signature not in self.signature_names:
            raise ValueError(f"no signature {signature!r}; allowed: {', '.join(self.signature_names)}")
        function = self._module.signatures[signature]
        specs = function.structured_input_signature[1]
        if set(inputs) != set(specs):
            raise ValueError(f"inputs are {sorted(inputs)}; allowed for {signature!r}: {sorted(specs)}")
        tensors = {name: tf.constant(np.asarray(value), specs[name].dtype) for name, value in inputs.items()}
        return {name: value.numpy() for name, value in function(**tensors).items()}

    def logits(self, images: tf.Tensor) -> tf.Tensor:
        """The plain logits [B,K] of images float32 [B,H,W,C], also inside a graph."""
        return self._module.signatures["plain"](images=images)["logits"]

    def content_seeds(self, images: np.ndarray) -> np.ndarray:
        """The seeds int64 [B] that `sum_aug` derives from `images`."""
        return self._module.content_seeds(tf.constant(images, tf.float32)).numpy()

    def choose_partners(self, seed: np.ndarray) -> np.ndarray:
        """The bank indices int64 [B,n,k-1] that rows of `seed` are mixed with."""
        return self._module.choose_partners(tf.constant(seed, tf.int64)).numpy()


def latest_info(directory: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns what stands beside the newest version of a model; {} where there is none."""
    newest = latest_version(pathlib.Path(directory))
    return read_json(newest / INFO_FILE) if newest is not None and (newest / INFO_FILE).is_file() else {}


def load_exported(path: str | os.PathLike[str]) -> ExportedModel:
    """Loads an exported model: a version's folder, or a base path, whose highest version is taken.

    Raises:
      ValueError: if `path` holds no exported model, or TensorFlow would see a pattern in it.
    """
    path = pathlib.Path(path)
    refuse_pattern("the export's folder", path)
    found = path if (path / INFO_FILE).is_file() else latest_version(path)
    if found is None or not (found / INFO_FILE).is_file():
        raise ValueError(f"{path} holds no model exported by tfaug; allowed: a folder with {INFO_FILE}, or its parent")
    try:
        return ExportedModel(found)
    except json.JSONDecodeError as error:
        raise ValueError(f"{found / INFO_FILE} is not JSON: {error}") from error
