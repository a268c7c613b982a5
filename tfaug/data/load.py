"""Load image-classification data: decoded once, kept as uint8, every example with its id.

The test set never chooses anything: a validation part is held out from the training examples for that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import itertools
import json
import logging as python_logging
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from tqdm import tqdm

from tfaug.config import ConfigError, check_range, check_whole, near_name
from tfaug.data import digits
from tfaug.data.split import Split, balanced_subset, stratified_split
from tfaug.extras import explained
from tfaug.files import atomic_file, one_line

PARTS = ("train", "validation", "test")

_CACHE_FORMAT = 2
_ARRAYS = tuple(field.name for field in dataclasses.fields(Split))
_BATCH = 1024  # images decoded at a time
# What numpy raises for a file that is no .npz, is cut short, was changed or holds Python objects.
_DAMAGED = (OSError, EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """Says which data to train and test on.

    Attributes:
      name: 'digits' (bundled, no network), a TFDS image-classification set such as 'cifar10', 'mnist', 'cifar100',
        'cifar10_1/v6' (a config) or 'cifar10:3.0.2' (a version), or a folder holding one prepared set.
      data_dir: the TFDS folder; '' is the environment's TFDS_DATA_DIR, else TFDS's own default.
      train_split: the TFDS split to train and validate on; slices such as 'train[:80%]' serve sets with one split only.
      test_split: the TFDS split to test on.
      validation_split: the TFDS split to make every choice on, for sets that have one; '' holds a part of the training
        examples out.
      validation_fraction: the share of the training examples held out for every choice, 0.001..0.5, unless
        `validation_split` is named. 0 is refused: without it choices would fall on the test set.
      split_seed: which examples are held out (and which form the subset), 0 or more.
      num_train_examples: 0 trains on all that are not held out, else on a class-balanced subset of that many of them.
        The held-out part does not depend on it.
      shifted: the shifted test set (see `load_test_set`); '' for none.
    """

    name: str = "digits"
    data_dir: str = ""
    train_split: str = "train"
    test_split: str = "test"
    validation_split: str = ""
    validation_fraction: float = 0.1
    split_seed: int = 0
    num_train_examples: int = 0
    shifted: str = ""

    def __post_init__(self) -> None:
        check_range(self, "validation_fraction", 0.001, 0.5)
        check_whole(self, "split_seed", 0, 2**63 - 1)
        check_whole(self, "num_train_examples", 0)
        for field in ("name", "train_split", "test_split"):
            if not getattr(self, field):
                raise ConfigError(f"DataConfig.{field} is ''; allowed: a name")
        if self.name == "digits_corrupted":
            raise ConfigError("DataConfig.name is 'digits_corrupted', a test set only; allowed: 'digits', a TFDS name")


@dataclasses.dataclass(frozen=True, eq=False)
class ImageData:
    """Holds a data set in its three parts.

    Attributes:
      name: the name it was asked for by.
      train, validation, test: its parts.
      class_names: one name a class.
      mean, std: of each channel of the train part, in 0..1; a constant channel has std 1/255, so dividing is safe.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        height, width, channels = self.train.images.shape[1:]
        return height, width, channels


def user_cache_dir() -> pathlib.Path:
    """Returns the folder in which decoded data may be shared by all runs of a user.

    Returns:
      The environment's TFAUG_CACHE_DIR, else XDG_CACHE_HOME/tfaug, else ~/.cache/tfaug.
    """
    own, shared = os.environ.get("TFAUG_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    folder = own or (f"{shared}/tfaug" if shared else "~/.cache/tfaug")
    return pathlib.Path(folder).expanduser()


class Parts(NamedTuple):
    """Some parts of a data set.

    Attributes:
      splits: what each part's name stands for.
      class_names: one name a class.
      source: the name and version of the set that they were read from, as in 'cifar10/3.0.2'.
    """

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    source: str


def load_data(config: DataConfig, cache_dir: str | os.PathLike[str] | None = None) -> ImageData:
    """Loads the data of a config: train, validation and test part, class names, mean and deviation.

    Reading is deterministic: records in the order in which they are stored, never shuffled here. An example keeps the
    set's own `id`; where the set has none (MNIST), its place in the order of reading is made into one: 'train_00017' is
    example 17, counted from 0, of the records of split 'train'.

    A set of augmented copies, as `tfaug data augment` writes them, keeps its soft labels in `Split.probs`; the labels
    are then the classes of the largest share. Where its validation part is held out of the training examples, all
    copies of one original go to the same part.

    Args:
      config: which data.
      cache_dir: a folder in which decoded TFDS splits are kept for the next call; None keeps nothing. A cache file that
        is damaged, or that was made from other records, is made again. `digits` needs no cache.

    Returns:
      The data, images as uint8.

    Raises:
      ConfigError: if the set is unknown, absent and not to be downloaded, damaged, or no classification set of uint8
        images of one fixed size; if two of its parts overlap; or if a part of the asked size cannot be made.
    """
    splits, class_names, _ = load_parts(config, PARTS, cache_dir)
    mean, std = _mean_and_std(splits["train"].images)
    return ImageData(config.name, splits["train"], splits["validation"], splits["test"], class_names, mean, std)


def load_parts(config: DataConfig, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
    """Loads the named parts of a config's data, reading no more than they need; see `load_data`.

    Args:
      config: which data.
      parts: some of `PARTS`.
      cache_dir: as in `load_data`.

    Raises:
      ConfigError: as `load_data`, of the parts that are asked for.
    """
    parts = tuple(parts)
    if not parts or not set(parts) <= set(PARTS):
        raise ConfigError(f"parts are {', '.join(parts) or 'none'}; allowed: {', '.join(PARTS)}")
    splits: dict[str, Split] = {}
    wants_train = "train" in parts or ("validation" in parts and not config.validation_split)
    if config.name == "digits":
        if config.validation_split:
            raise ConfigError(
                f"DataConfig.validation_split is {config.validation_split!r}, but 'digits' has no such split; allowed: "
                "'', which holds validation_fraction of the training examples out"
            )
        (whole, splits["test"]), class_names, source = digits.load_digits(), digits.CLASS_NAMES, "digits"
    else:
        builder = _find_builder(config.name, config.data_dir)
        _check_disjoint(builder, config, parts)
        keys = _find_features(builder, config.name)
        class_names, source = _class_names(builder, keys), builder.info.full_name
        if wants_train:
            whole = _read_split(builder, config.train_split, keys, cache_dir)
        for part, split in (("validation", config.validation_split), ("test", config.test_split)):
            if part in parts and split:
                splits[part] = _read_split(builder, split, keys, cache_dir)
    if wants_train:
        if config.validation_split:
            kept = np.arange(len(whole))
        else:
            kept, held_out = _hold_out(whole, config)
            splits["validation"] = whole.take(held_out)
        splits["train"] = whole.take(_subset(whole, kept, config))
    return Parts({part: splits[part] for part in parts}, class_names, source)


def load_test_set(
    spec: str,
    data_dir: str = "",
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    like: ImageData | None = None,
) -> Split:
    """Loads a further test set.

    Args:
      spec: 'digits_corrupted' (see `tfaug.data.digits`); a TFDS name with, if wanted, its split, 'cifar10_1' or
        'cifar10_1/v6:test' (the split is 'test' unless named); or the path of an .npz file with `images` uint8
        [N, H, W, C] and `labels` integers [N], and `ids` strings [N] if it has them (else FILE_00000, ...).
      data_dir: the TFDS folder, as in `DataConfig`.
      cache_dir: as in `load_data`.
      like: the data that the model was trained on; the test set must have its image shape and its classes.

    Returns:
      The test set.

    Raises:
      ConfigError: if the spec is unknown or the file is not as above, or the set does not fit `like`.
    """
    class_names: tuple[str, ...] | None = None
    if spec == "digits_corrupted":
        split, class_names = digits.load_corrupted_digits(), digits.CLASS_NAMES
    elif spec == "digits":
        split, class_names = digits.load_digits()[1], digits.CLASS_NAMES
    elif spec.endswith(".npz"):
        split = _read_npz(pathlib.Path(spec).expanduser())
    else:
        name, split_name = _parse_spec(spec, "test set")
        builder = _find_builder(name, data_dir)
        keys = _find_features(builder, name)
        split = _read_split(builder, split_name or "test", keys, cache_dir)
        class_names = _class_names(builder, keys)
    if like is not None:
        _check_like(spec, split, class_names, like)
    return split


def load_first(spec: str, num: int, data_dir: str = "") -> Parts:
    """Loads the first examples of a TFDS split and decodes no others.

    Args:
      spec: a TFDS name with, if wanted, its split, as in `load_test_set`; 'train' unless named, or the set's first
        split where it has no 'train'.
      num: how many, 1 or more; fewer where the split has no more.
      data_dir: the TFDS folder, as in `DataConfig`.

    Returns:
      The examples in the order of their records, under the name of their split, with the class names.

    Raises:
      ConfigError: if the set or its split is unknown, or is not as `load_data` needs it.
    """
    name, split = _parse_spec(spec, "data set")
    builder = _find_builder(name, data_dir)
    keys = _find_features(builder, name)
    sizes = {part: info.num_examples for part, info in builder.info.splits.items()}
    split = split or ("train" if "train" in sizes else next(iter(sizes)))
    if split not in sizes:
        hint = near_name(split, sizes)
        raise ConfigError(f"data set {name!r} has no split {split!r}{hint}; allowed: {', '.join(sizes)}")
    first = _decode_split(builder, f"{split}[:{min(num, sizes[split])}]", keys)
    return Parts({split: first}, _class_names(builder, keys), builder.info.full_name)


def shifted_description(spec: str) -> str:
    """Returns one sentence that says what a shifted test set is, and what a gap on it does not show.

    Args:
      spec: as in `load_test_set`.

    Example:
      >>> shifted_description("digits_corrupted").startswith("digits_corrupted:")
      True
    """
    name = pathlib.PurePath(spec).name
    if spec == "digits_corrupted":
        return (
            "digits_corrupted: an artificial corruption of digits' own test set (rotation within "
            f"{digits.ROTATION_DEG:g} degrees, Gaussian blur of {digits.BLUR_SIGMA_PX:g} pixels, contrast times "
            f"{digits.CONTRAST:g}, Gaussian noise of {digits.NOISE_STD:g} grey levels), not a second collection of "
            "digits."
        )
    if name == "cinic10_imagenet.npz":
        return (
            "CINIC-10 ImageNet sample, n = 2,000: ImageNet photographs shrunk to 32x32 in CIFAR-10's classes; it is "
            "not CIFAR-10.1, and the gap on it holds natural shift, wider class concepts and label noise at once."
        )
    if re.fullmatch(r"cifar10_1(/v[46])?(:[\d.*]+)?(:test)?", spec):
        version = "v6 (n = 2,000)" if "/v6" in spec else "v4 (n = 2,021)"
        return (
            f"CIFAR-10.1 {version}: new photographs gathered by the recipe of CIFAR-10's own test set; the gap on it "
            "holds natural shift and sampling error."
        )
    kind = "file" if spec.endswith(".npz") else "TFDS set"
    return (
        f"{name if spec.endswith('.npz') else spec}: a second test set given as a {kind}; how it was collected is not "
        "known here, so the gap on it may hold shift, other class concepts, label noise and sampling error."
    )


def _parse_spec(spec: str, what: str) -> tuple[str, str]:
    """'NAME[/CONFIG][:VERSION][:SPLIT]' -> the TFDS name, the split or ''; a version is digits, dots and stars."""
    match = re.fullmatch(r"([^:\[]+(?::[\d.*]+)?)(?::(\D.*))?", spec)
    if match is None:
        own = "'digits_corrupted'" if what == "test set" else "'digits'"
        raise ConfigError(f"{what} is {spec!r}; allowed: {own}, a TFDS name[:split], a path to an .npz file")
    return match[1], match[2] or ""


@contextlib.contextmanager
def _reading(name: str, folder: str | os.PathLike[str] | None) -> Iterator[None]:
    """Names the set, and the folder it is in, where its files are damaged or absent."""
    try:
        yield
    except (ConfigError, ModuleNotFoundError):
        raise
    except Exception as error:  # of the system, TensorFlow, TFDS or protobuf
        raise ConfigError(
            f"data set {name!r} cannot be read from {folder or 'the default TFDS folder'} ({one_line(error)}); "
            "allowed: a set whose files are whole: prepare it again, or name another folder"
        ) from error


def _find_builder(name: str, data_dir: str) -> Any:
    """The TFDS builder of a prepared set; a registered set that is absent is downloaded and prepared."""
    with explained():
        import tensorflow_datasets as tfds  # imported late: it costs a second, and digits need none of it

    own = pathlib.Path(name).expanduser()
    if (own / "dataset_info.json").is_file():
        with _reading(name, own):
            return tfds.builder_from_directory(str(own))
    folder = data_dir or os.environ.get("TFDS_DATA_DIR") or None
    folder = os.path.expanduser(folder) if folder else None
    if folder and "://" not in folder and not os.path.isdir(folder):
        raise ConfigError(
            f"the folder of data sets, {folder!r}, does not exist; allowed: one that does, where an absent set is put"
        )
    with _reading(name, folder):
        try:
            builder = tfds.builder(name, data_dir=folder)
        except tfds.core.DatasetNotFoundError:
            known = [*tfds.list_builders(with_community_datasets=False), "digits"]
            near = difflib.get_close_matches(name.lower(), known, n=3)
            guess = f" (did you mean {' or '.join(map(repr, near))}?)" if near else ""
            hint = _prepared_hint(name, folder) or guess
            raise ConfigError(
                f"data set {name!r} is unknown to tensorflow-datasets and not prepared in "
                f"{folder or 'its default folder'}{hint}; allowed: 'digits', a TFDS name, a prepared set in data_dir"
            ) from None  # TFDS's own message lists every set it knows
        except json.JSONDecodeError:  # a ValueError
            raise
        except (ValueError, AssertionError) as error:  # a malformed name, or a config or version that it does not have
            raise ConfigError(f"data set {name!r}{_prepared_hint(name, folder)}: {one_line(error)}") from error
        if builder.is_prepared():
            return builder
        older = _prepared_versions(pathlib.Path(builder.data_path).parent)
        if older and ":" not in name:
            logging.info("%s is prepared as %s: using that", name, older[-1])
            return tfds.builder_from_directory(str(older[-1]))
    logging.info("%s is not in %s: downloading it", name, builder.data_dir)
    try:
        with _few_retries():
            builder.download_and_prepare()
    except Exception as error:
        raise ConfigError(
            f"data set {name!r} is not in {folder or 'the default TFDS folder'}{_prepared_hint(name, folder)} and "
            f"could not be downloaded ({type(error).__name__}: {one_line(error)}); "
            "name a folder that has it in data_dir or TFDS_DATA_DIR, or use 'digits', which needs no network"
        ) from error
    return builder


@contextlib.contextmanager
def _few_retries() -> Iterator[None]:
    """Lets TFDS ask for a file three times within a second, and not eleven times, with a warning each, in 200 s."""
    from tensorflow_datasets.core.download import downloader

    logger = python_logging.getLogger("urllib3")
    before, level = downloader.MAX_RETRIES, logger.level
    downloader.MAX_RETRIES = 2
    logger.setLevel(python_logging.ERROR)
    try:
        yield
    finally:
        downloader.MAX_RETRIES = before
        logger.setLevel(level)


def _prepared_versions(folder: pathlib.Path) -> list[pathlib.Path]:
    """The folders in that of a set that hold a prepared version of it, the newest last."""
    found = [path.parent for path in folder.glob("*/dataset_info.json")]
    numbered = [path for path in found if re.fullmatch(r"\d+\.\d+\.\d+", path.name)]
    return sorted(numbered, key=lambda path: [int(part) for part in path.name.split(".")])


def _prepared_hint(name: str, folder: str | None) -> str:
    """Which versions of a set are prepared in the folder, in brackets; '' if there are none."""
    found = _prepared_versions(pathlib.Path(folder) / name.split(":")[0]) if folder else []
    return f" (prepared there: {', '.join(path.name for path in found)})" if found else ""


class _Keys(NamedTuple):
    """The names of the features of a set; None: it has no such feature."""

    image: str
    label: str
    id: str | None
    probs: str | None
    original_id: str | None


def _find_features(builder: Any, name: str) -> _Keys:
    """Finds the features that hold the image, the label and what else an example may have."""
    with explained():
        import tensorflow_datasets as tfds

    features = builder.info.features
    if not isinstance(features, tfds.features.FeaturesDict):
        raise ConfigError(f"data set {name!r} has {features} instead of named features; allowed: an image and a label")

    def find(kind: type, common: str) -> str:
        keys = [key for key, feature in features.items() if isinstance(feature, kind)]
        supervised = [key for key in (builder.info.supervised_keys or ()) if key in keys]
        if len(supervised) == 1:
            return supervised[0]
        if common in keys or len(keys) == 1:
            return common if common in keys else keys[0]
        described = ", ".join(f"{key}: {type(feature).__name__}" for key, feature in sorted(features.items()))
        raise ConfigError(
            f"data set {name!r} has no one {kind.__name__} feature ({described}); allowed: image classification"
        )

    image_key, label_key = find(tfds.features.Image, "image"), find(tfds.features.ClassLabel, "label")
    image = features[image_key]
    if np.dtype(image.np_dtype) != np.uint8 or None in image.shape or len(image.shape) != 3:
        raise ConfigError(
            f"data set {name!r}: feature {image_key!r} is {np.dtype(image.np_dtype).name} {list(image.shape)}; "
            "allowed: uint8 images [H, W, C] of one fixed size"
        )

    def optional(key: str, shape: tuple[int, ...], dtype: Any) -> str | None:
        found = key in features and features[key].shape == shape and features[key].np_dtype == dtype
        return key if found and key not in (image_key, label_key) else None

    return _Keys(
        image_key,
        label_key,
        id="id" if "id" in features and features["id"].shape == () else None,
        probs=optional("label", (features[label_key].num_classes,), np.float32),
        original_id=optional("original_id", (), np.object_),
    )


def _class_names(builder: Any, keys: _Keys) -> tuple[str, ...]:
    """The label feature's names; numbers where the set names none."""
    label = builder.info.features[keys.label]
    return tuple(label.names or map(str, range(label.num_classes)))


def _instructions(builder: Any, split: str) -> list[tuple[str, int, int]]:
    """Which records a split reads: (file, first, number), after checking that the split exists."""
    try:
        info = builder.info.splits[split]
    except (KeyError, ValueError) as error:
        raise ConfigError(
            f"data set {builder.info.full_name!r} has no split {split!r}; allowed: {', '.join(builder.info.splits)}, "
            "or a slice of one, such as 'train[:80%]'"
        ) from error
    if not info.num_examples:
        raise ConfigError(f"data set {builder.info.full_name!r}: split {split!r} is empty; allowed: 1 example or more")
    return [
        (part.filename, part.skip, part.examples_in_shard - part.skip if part.take < 0 else part.take)
        for part in info.file_instructions
    ]


def _check_disjoint(builder: Any, config: DataConfig, parts: tuple[str, ...]) -> None:
    """Refuses parts whose splits share records."""
    fields = {"train": "train_split", "validation": "validation_split", "test": "test_split"}
    if "validation" in parts and not config.validation_split:
        fields["validation"] = "train_split"  # the part held out
    wanted = dict.fromkeys(fields[part] for part in PARTS if part in parts)
    for one, two in itertools.combinations(wanted, 2):
        first, second = getattr(config, one), getattr(config, two)
        for (file, start, number), (other_file, other_start, other_number) in itertools.product(
            _instructions(builder, first), _instructions(builder, second)
        ):
            shared = min(start + number, other_start + other_number) - max(start, other_start)
            if file == other_file and shared > 0:
                raise ConfigError(
                    f"data set {config.name!r}: {one} {first!r} and {two} {second!r} share {shared} examples; allowed: "
                    "splits without a common example"
                )


def _read_split(builder: Any, split: str, keys: _Keys, cache_dir: str | os.PathLike[str] | None) -> Split:
    """Reads a split from the cache if that holds exactly it, else from the records, filling the cache."""
    import tensorflow as tf

    with _reading(builder.info.full_name, builder.data_dir):
        records = [
            [os.path.basename(path), first, number, tf.io.gfile.stat(path).length]
            for path, first, number in _instructions(builder, split)
        ]
    key = json.dumps([_CACHE_FORMAT, builder.info.full_name, split, keys, records])
    if cache_dir is None:
        return _decode_split(builder, split, keys)
    path = pathlib.Path(cache_dir) / (re.sub(r"[^\w.-]+", "_", f"{builder.info.full_name}-{split}") + ".npz")
    cached = _read_cache(path, key)
    if cached is not None:
        return cached
    decoded = _decode_split(builder, split, keys)
    arrays = {name: rows for name in _ARRAYS if (rows := getattr(decoded, name)) is not None}
    try:
        with atomic_file(path) as partial:
            np.savez(partial, key=np.array(key), **arrays)
    except OSError as error:
        logging.warning("%s is not kept for the next call: %s", path, error)
    return decoded


def _read_cache(path: pathlib.Path, key: str) -> Split | None:
    """What the cache file holds if it is whole (zip checks every byte) and of this key; else None."""
    try:
        with np.load(path, allow_pickle=False) as file:
            if str(file["key"]) == key:
                return Split(**{name: file[name] for name in _ARRAYS if name in file.files})
        logging.info("%s was made from other records: making it again", path)
    except FileNotFoundError:
        pass
    except _DAMAGED as error:
        logging.warning("%s is damaged (%s): making it again", path, error)
    return None


def _decode_split(builder: Any, split: str, keys: _Keys) -> Split:
    """Decodes a split from its records, in their order."""
    import tensorflow as tf

    with explained():
        import tensorflow_datasets as tfds

    options = tf.data.Options()
    options.deterministic = True
    # One file after the other: the order of reading is the order of the records.
    read_config = tfds.ReadConfig(options=options, interleave_cycle_length=1, try_autocache=False)
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=read_config)
    num_examples = sum(number for _, _, number in _instructions(builder, split))
    num_classes = builder.info.features[keys.label].num_classes
    name = f"{builder.info.full_name} {split}"
    logging.info("decoding %s: %d images", name, num_examples)
    images = np.empty((num_examples, *builder.info.features[keys.image].shape), np.uint8)
    labels = np.empty(num_examples, np.int64)
    probs = None if keys.probs is None else np.empty((num_examples, num_classes), np.float32)
    texts: dict[str, list[str]] = {key: [] for key in (keys.id, keys.original_id) if key is not None}
    start = 0
    # On a terminal a bar appears once decoding has taken two seconds.
    bar = tqdm(total=num_examples, desc=f"decoding {name}", unit=" images", delay=2, disable=None)
    with bar, _reading(name, builder.data_dir):
        wanted = [key for key in keys if key is not None]
        for batch in dataset.map(lambda row: {key: row[key] for key in wanted}).batch(_BATCH).as_numpy_iterator():
            stop = start + len(batch[keys.label])
            images[start:stop] = batch[keys.image]
            labels[start:stop] = batch[keys.label]
            if probs is not None:
                probs[start:stop] = batch[keys.probs]
            for key, values in texts.items():
                values.extend(v.decode() if isinstance(v, bytes) else str(v) for v in batch[key])
            bar.update(stop - start)
            start = stop
    if start != num_examples:
        raise ConfigError(f"{name} holds {start} examples where its index says {num_examples}; prepare it again")
    if num_examples and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ConfigError(
            f"{name} has labels {labels.min()}..{labels.max()}; allowed: 0..{num_classes - 1} (-1 means unlabelled)"
        )
    if probs is not None:
        labels = probs.argmax(axis=1).astype(np.int64)
    if keys.id is None:
        ids = np.array([f"{split}_{i:05d}" for i in range(num_examples)])
    else:
        ids = np.array(texts[keys.id], dtype=np.str_)
    original_ids = None if keys.original_id is None else np.array(texts[keys.original_id], dtype=np.str_)
    return Split(images, labels, ids, probs, original_ids)


def _hold_out(whole: Split, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    """Which training examples to keep and which to hold out; copies of one original stay together."""
    if whole.original_ids is None:
        first = group = np.arange(len(whole))
    else:
        _, first, group = np.unique(whole.original_ids, return_index=True, return_inverse=True)
    num_validation = round(len(first) * config.validation_fraction)
    if num_validation < 1:
        raise ConfigError(
            f"DataConfig.validation_fraction is {config.validation_fraction:g} of {len(first)} training examples: "
            "nothing to validate on; allowed: a fraction that gives 1 example or more"
        )
    _, held_out = stratified_split(whole.labels[first], num_validation, seed=config.split_seed)
    is_held_out = np.isin(group, held_out)
    return np.flatnonzero(~is_held_out), np.flatnonzero(is_held_out)


def _subset(whole: Split, kept: np.ndarray, config: DataConfig) -> np.ndarray:
    """The positions among `kept` that are to be trained on."""
    if not config.num_train_examples:
        return kept
    try:
        return kept[balanced_subset(whole.labels[kept], config.num_train_examples, seed=config.split_seed)]
    except ValueError as error:
        raise ConfigError(f"DataConfig.num_train_examples: {error}") from error


def _mean_and_std(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in 0..1, from exact integer sums."""
    total = np.zeros(images.shape[-1], np.int64)
    squares = np.zeros(images.shape[-1], np.int64)
    for start in range(0, len(images), _BATCH):
        batch = images[start : start + _BATCH].astype(np.uint16)  # 255^2 fits
        total += batch.sum(axis=(0, 1, 2), dtype=np.int64)
        squares += (batch * batch).sum(axis=(0, 1, 2), dtype=np.int64)
    number = images[..., 0].size
    mean = total / number
    std = np.sqrt(np.maximum(squares / number - mean**2, 1.0))
    return tuple((mean / 255).tolist()), tuple((std / 255).tolist())


def _read_npz(path: pathlib.Path) -> Split:
    """Reads and checks an .npz test set."""
    wanted = "allowed: an .npz file with `images` uint8 [N, H, W, C] and `labels` integers [N], 0 or more"
    try:
        with np.load(path, allow_pickle=False) as file:
            missing = {"images", "labels"} - set(file.files)
            if missing:
                raise ConfigError(
                    f"{path} has no {' and no '.join(sorted(missing))}, only {', '.join(file.files)}; {wanted}"
                )
            images, labels = file["images"], file["labels"]
            ids = file["ids"] if "ids" in file.files else None
    except FileNotFoundError as error:
        raise ConfigError(f"test set {path} does not exist; {wanted}") from error
    except ConfigError:
        raise
    except _DAMAGED as error:
        raise ConfigError(f"{path} cannot be read ({error}); {wanted}") from error
    if images.dtype != np.uint8 or images.ndim != 4:
        raise ConfigError(f"{path}: images are {images.dtype} {list(images.shape)}; {wanted}")
    if labels.dtype.kind not in "ui" or labels.ndim != 1:
        raise ConfigError(f"{path}: labels are {labels.dtype} {list(labels.shape)}; {wanted}")
    if not len(images) == len(labels) > 0:
        raise ConfigError(
            f"{path} has {len(images)} images and {len(labels)} labels; allowed: as many of both, 1 or more"
        )
    if labels.min() < 0:
        raise ConfigError(f"{path}: the smallest label is {labels.min()}; {wanted}")
    if ids is None:
        ids = np.array([f"{path.stem}_{i:05d}" for i in range(len(labels))])
    try:
        return Split(images, labels.astype(np.int64), ids)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from error


def _check_like(spec: str, split: Split, class_names: tuple[str, ...] | None, like: ImageData) -> None:
    """Refuses a test set of other images or classes than the data trained on."""
    shape = split.images.shape[1:]
    if shape != like.image_shape:
        got, allowed = f"images {list(shape)}", f"{list(like.image_shape)}"
    elif class_names is not None and class_names != like.class_names:
        got, allowed = f"classes {_shorten(class_names)}", _shorten(like.class_names)
    elif split.labels.max(initial=0) >= like.num_classes:
        got, allowed = f"labels up to {split.labels.max()}", f"0..{like.num_classes - 1}"
    else:
        return
    raise ConfigError(f"test set {spec!r} has {got}; allowed: {allowed}, as in {like.name!r}")


def _shorten(class_names: tuple[str, ...]) -> str:
    """The first class names and how many there are."""
    shown = ", ".join(class_names[:3])
    return f"{shown}, ... ({len(class_names)})" if len(class_names) > 3 else shown
