"""Data sets of TFDS, prepared or downloaded; read record by record, in their order."""

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
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from absl import logging
from tqdm import tqdm

from tfaug.config import PLACE, ConfigError, near_name
from tfaug.data.cache import cached_split
from tfaug.data.sources.base import PARTS, POOL_SIZE, Parts, Source, take_in_turn
from tfaug.data.split import Split
from tfaug.extras import explained
from tfaug.files import one_line

_CACHE_FORMAT = 2
_BATCH = 1024  # images decoded at a time


@dataclasses.dataclass(frozen=True)
class Tfds(Source):
    """An image-classification set of TFDS: uint8 images of one fixed size, each with a label.

    Reading is deterministic: records in the order in which they are stored, never shuffled here. An example keeps the
    set's own `id`; where the set has none (MNIST), its place in the order of reading is made into one: 'train_00017' is
    example 17, counted from 0, of the records of split 'train'. A set of augmented copies, as `tfaug data augment`
    writes them, keeps its soft labels in `Split.probs`; the labels are then the classes of the largest share.

    Attributes:
      name: 'cifar10', 'mnist', 'cifar100', 'cifar10_1/v6' (a config) or 'cifar10:3.0.2' (a version); or a folder that
        holds one prepared set. A registered set that is not prepared is downloaded.
      data_dir: the TFDS folder; '' is the environment's TFDS_DATA_DIR, else TFDS's own default.
      train_split: the split to train and validate on; slices such as 'train[:80%]' serve sets with one split only.
      test_split: the split to test on.
      validation_split: the split to make every choice on, for sets that have one; '' holds a part of the training
        examples out.

    Raises:
      ConfigError: if a name is empty.
    """

    name: str
    data_dir: str = dataclasses.field(default="", metadata=PLACE)
    train_split: str = "train"
    test_split: str = "test"
    validation_split: str = ""

    def __post_init__(self) -> None:
        for field in ("name", "train_split", "test_split"):
            if not getattr(self, field):
                raise ConfigError(f"Tfds.{field} is ''; allowed: a name")

    @property
    def short_name(self) -> str:
        """The name; of a folder, what the set in it is called; with the split where there is but one."""
        name = pathlib.Path(self.name).expanduser().resolve().parent.name if self._is_folder else self.name
        return f"{name}:{self.test_split}" if self.test_split == self.train_split else name

    @property
    def parts(self) -> tuple[str, ...]:
        return PARTS if self.validation_split else ("train", "test")

    @property
    def _is_folder(self) -> bool:
        """Whether it is named by the folder that holds it, .../NAME/VERSION."""
        return (pathlib.Path(self.name).expanduser() / "dataset_info.json").is_file()

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        """Loads parts; see `Source.load`. A cache file that is damaged or of other records is made again.

        Raises:
          ConfigError: if the set is unknown, absent and not to be downloaded, damaged, or no classification set of
            uint8 images of one fixed size; or if two of the parts share records.
        """
        builder = _find_builder(self.name, self.data_dir)
        named = {part: getattr(self, f"{part}_split") for part in parts}
        _check_disjoint(builder, self.name, named)
        keys = _find_features(builder, self.name)
        splits = {part: _read_split(builder, split, keys, cache_dir) for part, split in named.items()}
        settings = {name: getattr(self, name) for name in ("train_split", "test_split", "validation_split")}
        return Parts(splits, _class_names(builder, keys), {"source": builder.info.full_name, **settings})

    def first(self, num: int) -> Parts:
        """Loads a few images; see `Source.first`. Of the split no more than its first 512 records are read.

        Raises:
          ConfigError: as `load`.
        """
        builder = _find_builder(self.name, self.data_dir)
        keys = _find_features(builder, self.name)
        split = self.train_split
        if split == "train" and split not in builder.info.splits:
            split = next(iter(builder.info.splits))
        pool = _decode_split(builder, split, keys, POOL_SIZE)
        return Parts({split: take_in_turn(pool, num)}, _class_names(builder, keys))

    def describe(self) -> str:
        if self.test_split == "test" and (match := re.fullmatch(r"cifar10_1(/v[46])?(:[\d.*]+)?", self.name)):
            version = "v6 (n = 2,000)" if match[1] == "/v6" else "v4 (n = 2,021)"
            return (
                f"CIFAR-10.1 {version}: new photographs gathered by the recipe of CIFAR-10's own test set; the gap on "
                "it holds natural shift and sampling error."
            )
        split = "" if self.test_split in ("test", self.train_split) else f":{self.test_split}"
        return self._describe_unknown(self.short_name + split, "TFDS set")

    def resolved(self) -> Tfds:
        name = str(pathlib.Path(self.name).expanduser().resolve()) if self._is_folder else self.name
        folder = self.data_dir or os.environ.get("TFDS_DATA_DIR", "")
        if folder and "://" not in folder:
            folder = str(pathlib.Path(folder).expanduser().resolve())
        return dataclasses.replace(self, name=name, data_dir=folder)


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
            if os.path.isdir(name):
                guess = f" (a folder of images is written './{name}')"
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
        hint = near_name(split, builder.info.splits)
        raise ConfigError(
            f"data set {builder.info.full_name!r} has no split {split!r}{hint}; allowed: "
            f"{', '.join(builder.info.splits)}, or a slice of one, such as 'train[:80%]'"
        ) from error
    if not info.num_examples:
        raise ConfigError(f"data set {builder.info.full_name!r}: split {split!r} is empty; allowed: 1 example or more")
    return [
        (part.filename, part.skip, part.examples_in_shard - part.skip if part.take < 0 else part.take)
        for part in info.file_instructions
    ]


def _check_disjoint(builder: Any, name: str, splits: dict[str, str]) -> None:
    """Refuses parts whose splits share records."""
    for (one, first), (two, second) in itertools.combinations(splits.items(), 2):
        for (file, start, number), (other_file, other_start, other_number) in itertools.product(
            _instructions(builder, first), _instructions(builder, second)
        ):
            shared = min(start + number, other_start + other_number) - max(start, other_start)
            if file == other_file and shared > 0:
                raise ConfigError(
                    f"data set {name!r}: {one}_split {first!r} and {two}_split {second!r} share {shared} examples; "
                    "allowed: splits without a common example"
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
    name = f"{builder.info.full_name}-{split}"
    return cached_split(cache_dir, name, key, lambda: _decode_split(builder, split, keys))


def _decode_split(builder: Any, split: str, keys: _Keys, limit: int | None = None) -> Split:
    """Decodes a split from its records, in their order; no more than the first `limit` of them."""
    import tensorflow as tf

    with explained():
        import tensorflow_datasets as tfds

    options = tf.data.Options()
    options.deterministic = True
    # One file after the other: the order of reading is the order of the records.
    read_config = tfds.ReadConfig(options=options, interleave_cycle_length=1, try_autocache=False)
    num_examples = sum(number for _, _, number in _instructions(builder, split))
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=read_config)
    if limit is not None and limit < num_examples:
        num_examples, dataset = limit, dataset.take(limit)
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
