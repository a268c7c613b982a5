"""Static augmented copies: every image augmented a fixed number of times, once, and written as a TFDS data set.

Everything is a function of the configuration. A part of n examples is put in an order that is drawn from the seed and
the number of the copy, and cut into blocks of 1,000 (the last one has up to 1,999). A block is augmented as one batch
with the seed folded from (seed, split, copy, number of the block), so ops that mix images mix within it. Five blocks
make a file. So neither the machine, nor the number of workers, nor Apache Beam changes a byte.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import io
import os
import pathlib
import re
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

import tfaug
from tfaug import files, rng
from tfaug.augment import SALIENCY, Augmentation, Batch, parse_op
from tfaug.config import ConfigError, check_whole, fingerprint, near_name, to_dict
from tfaug.data.load import DataConfig, load_parts
from tfaug.data.sources.base import PARTS
from tfaug.data.split import Split, shuffled_order
from tfaug.extras import explained
from tfaug.images import to_uint8
from tfaug.schedules import SCHEDULES

VERSION = "1.0.0"
ORIGINAL = -1  # the number of the "copy" that is the original itself
BLOCK_SIZE = 1000
_BLOCKS_PER_FILE = 5


@dataclasses.dataclass(frozen=True)
class Named:
    """A set of copies that a paper used.

    Attributes:
      name: how the data set is called, after the name of its source.
      op: the op as it is written in Python; '' where the originals are all there is.
      copies: how many of each example.
      originals: whether the originals are part of the set.
      num_train_examples: how many originals, as many of every class; 0 for all.
      splits: which parts have copies where none is named.
    """

    name: str
    op: str
    copies: int = 1
    originals: bool = False
    num_train_examples: int = 0
    splits: tuple[str, ...] = ()


def _gap(n: int, m: int) -> Named:
    """A RandAugment set of `gap`: the TPU code's list, whose constants are ImageNet's, on 32x32 images."""
    return Named(f"ra_n{n}_m{m}", f"RandAugment(n={n}, m={m}, preset='efficientnet_tpu')")


def _saliency(name: str, op: Augmentation | None) -> Named:
    """A set of `saliency`: 100 digits, ten of each class, and ten copies of each if there is an op."""
    text, copies = (repr(op), 10) if op else ("", 0)
    return Named(f"saliency_{name}", text, copies, originals=True, num_train_examples=100, splits=("train",))


# `gap` calls a CutMix set CM(alpha) and mixed every image.
NAMED: dict[str, Named] = {
    "RA(1,20)": _gap(1, 20),
    "RA(2,5)": _gap(2, 5),
    "RA(2,20)": _gap(2, 20),
    "RA(3,20)": _gap(3, 20),
    "CM(1)": Named("cm_alpha1", "CutMix(alpha=1.0, p=1.0)"),
    "CM(.5)": Named("cm_alpha0_5", "CutMix(alpha=0.5, p=1.0)"),
    "CM(.25)": Named("cm_alpha0_25", "CutMix(alpha=0.25, p=1.0)"),
    "saliency_orig": _saliency("orig", None),
    "saliency_scale": _saliency("scale", SALIENCY[0]),
    "saliency_crop": _saliency("crop", SALIENCY[1]),
    "saliency_erase": _saliency("erase", SALIENCY[2]),
    "saliency_elastic": _saliency("elastic", SALIENCY[3]),
    "saliency_blur": _saliency("blur", SALIENCY[4]),
}


@dataclasses.dataclass(frozen=True)
class CopiesConfig:
    """Says which copies to write.

    Attributes:
      data: the originals.
      op: the op, as `tfaug.augment.parse_op` reads it; '' where `copies` is 0.
      splits: parts of `PARTS`; () for all. A source that is one part (`Source.one_part`), such as an .npz file, is
        written whole, as 'test' unless another one is named.
      copies: how many of each example, 1 or more; or 0 with `originals`.
      originals: whether the originals are written too, before the copies.
      seed: of every draw, 0..2^63 - 1.
      max_examples: 0, or how many examples of each part to take, for a try.
      name: of the data set to write; '' makes one of the source's name and the op.
      named: the key of `NAMED` that the op comes from; ''.

    Raises:
      ConfigError: if a field is out of range, or the op is none or depends on the step of a training.
    """

    data: DataConfig
    op: str
    splits: tuple[str, ...] = ()
    copies: int = 1
    originals: bool = False
    seed: int = 0
    max_examples: int = 0
    name: str = ""
    named: str = ""

    def __post_init__(self) -> None:
        check_whole(self, "copies", 0 if self.originals and not self.op else 1)
        check_whole(self, "seed", 0, 2**63 - 1)
        check_whole(self, "max_examples", 0)
        for split in self.splits:
            if split not in PARTS:
                raise ConfigError(f"split is {split!r}{near_name(split, PARTS)}; allowed: {', '.join(PARTS)}")
        if len(set(self.splits)) < len(self.splits):
            raise ConfigError(f"splits are {', '.join(self.splits)}; allowed: each once")
        if self.name and not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ConfigError(f"name is {self.name!r}; allowed: a-z, 0-9 and _, a letter first, as TFDS asks")
        if self.copies:
            schedule = _find_schedule(self.parsed_op)
            if schedule:
                raise ConfigError(
                    f"op {self.op!r} has the schedule {schedule}, but copies have no training step; allowed: a number"
                )

    @property
    def parsed_op(self) -> Augmentation:
        """The op itself."""
        return parse_op(self.op)

    @property
    def dataset_name(self) -> str:
        """The name of the data set to write: `name`, else the source's name and the op's text, and the copies."""
        if self.name:
            return self.name
        what = NAMED[self.named].name if self.named else self.op.replace("=", "")
        usual = NAMED[self.named].copies if self.named else 1
        slug = _slug(f"{self.data.source.short_name} {what}") + (f"_x{self.copies}" if self.copies != usual else "")
        return slug if slug[:1].isalpha() else f"set_{slug}"


def make_config(op: str, data: DataConfig, *, copies: int | None = None, **fields: Any) -> CopiesConfig:
    """Makes the configuration of an op or of one of the sets of `NAMED`.

    Args:
      op: a key of `NAMED`, such as 'RA(1,20)' or 'saliency_blur', or an op such as 'RandAugment(n=2, m=9)'.
      data: the originals.
      copies: None is 1, or what the named set has.
      **fields: further fields of `CopiesConfig`.

    Raises:
      ConfigError: as `CopiesConfig`; or if the op is not given.

    Example:
      >>> from tfaug.data import Tfds
      >>> make_config("RA(1,20)", DataConfig(Tfds("cifar10"))).dataset_name
      'cifar10_ra_n1_m20'
      >>> make_config("RandAugment(n=1, m=20)", DataConfig(Tfds("cifar10"))).dataset_name
      'cifar10_randaugment_n1_m20'
    """
    keys = {key.replace(" ", "").replace("0.", "."): key for key in NAMED}
    key = keys.get(op.replace(" ", "").replace("0.", "."))
    if key is None:
        if not op.strip():
            raise ConfigError(f"op is missing; allowed: as in 'RandAugment(n=1, m=20)', or one of {', '.join(NAMED)}")
        return CopiesConfig(data, op, copies=1 if copies is None else copies, **fields)
    named = NAMED[key]
    if named.num_train_examples and not data.num_train_examples:
        data = dataclasses.replace(data, num_train_examples=named.num_train_examples)
    fields["splits"] = fields.get("splits") or (() if data.source.one_part else named.splits)
    fields["originals"] = named.originals or fields.get("originals", False)
    return CopiesConfig(data, named.op, copies=named.copies if copies is None else copies, named=key, **fields)


class Block(NamedTuple):
    """A batch: the examples start..stop - 1 of the order of one copy; `ORIGINAL` is no copy but the originals."""

    copy: int
    number: int
    start: int
    stop: int


class Shard(NamedTuple):
    """A file: number `number` of the `total` of a split, and its blocks."""

    split: str
    number: int
    total: int
    blocks: tuple[Block, ...]


class ShardReport(NamedTuple):
    """What was written to a file; unchanged: copies equal to their original; blank: copies of one colour."""

    split: str
    num_examples: int
    num_bytes: int
    num_unchanged: int
    num_blank: int


@dataclasses.dataclass(frozen=True)
class Written:
    """What `write_copies` wrote.

    Attributes:
      path: the folder of the data set.
      name: what `tfds.load` knows it by, with the folder above `name/version` as its `data_dir`.
      metadata: as in `builder.info.metadata`.
    """

    path: pathlib.Path
    name: str
    metadata: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
    """The originals."""

    splits: dict[str, Split]
    class_names: tuple[str, ...]
    description: dict[str, Any]


def write_copies(
    config: CopiesConfig, out: str | os.PathLike[str], *, beam_options: Sequence[str] | None = None
) -> Written:
    """Writes a TFDS data set of augmented copies; `tfds.load(name, data_dir=out)` reads it without tfaug.

    Features: `image` uint8 (images that an op returns as float32 are rounded half to even); `label` float32 [K], the
    soft label; `original_label`, the class of the original; `id`, `ID_copy_0` or `ID_original`; `original_id`; `copy`,
    the number of the copy from 0, -1 for an original. The folder appears when it is whole, and not before.

    Args:
      config: which copies.
      out: the folder of data sets; the copies go to OUT/NAME/1.0.0.
      beam_options: None works in this process; else the options of an Apache Beam pipeline, as in
        ('runner=DirectRunner', 'direct_num_workers=2'). The workers have to see `out` and the source under the same
        paths.

    Returns:
      Where the data set is, and its metadata.

    Raises:
      ConfigError: if the set exists, the source cannot be loaded, the op does not fit its images or changes none of
        them, or Apache Beam is asked for and absent.

    Source: the static data sets of `gap`, section 3 (RandAugment and CutMix copies of CIFAR-10), and of `saliency`.
    """
    out = pathlib.Path(out).expanduser().resolve()
    target = out / config.dataset_name / VERSION
    if target.exists():
        if not target.is_dir() or any(target.iterdir()):
            raise ConfigError(f"{target} exists already and is never overwritten; allowed: another --out or --name")
        target.rmdir()
    if beam_options is not None and importlib.util.find_spec("apache_beam") is None:
        raise ConfigError("--beam needs Apache Beam, which is not installed; allowed: pip install 'tfaug[beam]' first")
    if config.data.source.one_part and (len(config.splits) > 1 or config.data.num_train_examples):
        got = f"num_train_examples is {config.data.num_train_examples}; allowed: 0"
        if len(config.splits) > 1:
            got = f"splits are {', '.join(config.splits)}; allowed: one"
        raise ConfigError(f"{got}, because {config.data.source!r} is one part, of which all is written")
    config = _with_absolute_paths(config)
    try:
        source = _load_source(config)
        shape = _check_op(config, source)
        shards = list(_plan(config, source))
        with files.atomic_directory(target) as folder:
            run = _run_here if beam_options is None else functools.partial(_run_beam, options=tuple(beam_options))
            reports = run(config, folder, shards)
            metadata = _make_metadata(config, source, reports)
            counts = metadata["splits"].values()
            if config.copies and all(split["num_unchanged"] == split["num_copies"] for split in counts):
                raise ConfigError(f"op {config.op!r} changes none of the images; allowed: an op that does")
            _write_metadata(folder, config, source, shape, reports, metadata)
    finally:
        _load_source.cache_clear()  # the source may be another one at the next call
    return Written(target, config.dataset_name, metadata)


def _slug(text: str) -> str:
    """`text` in lower case with one `_` for everything that is no letter or digit."""
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _find_schedule(value: Any) -> str:
    """The first schedule in a tree of dataclasses and tuples, as text; '' if there is none."""
    if isinstance(value, tuple(SCHEDULES.values())):
        return repr(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts: Iterable[Any] = (getattr(value, field.name) for field in dataclasses.fields(value))
    else:
        parts = value if isinstance(value, tuple) else ()
    return next((found for part in parts if (found := _find_schedule(part))), "")


def _with_absolute_paths(config: CopiesConfig) -> CopiesConfig:
    """The config with the folders that this process would use, so that workers elsewhere use the same."""
    data = dataclasses.replace(config.data, source=config.data.source.resolved())
    return dataclasses.replace(config, data=data)


@functools.lru_cache(maxsize=1)
def _load_source(config: CopiesConfig) -> _Source:
    """Loads the originals; a worker that writes several files loads them once."""
    data, source = config.data, config.data.source
    settings: dict[str, Any] = {}
    if source.one_part:
        loaded = source.test_set()
        splits = {(config.splits or ("test",))[0]: loaded.splits["test"]}
    else:
        loaded = load_parts(data, config.splits or PARTS)
        splits = loaded.splits
        settings = {name: getattr(data, name) for name in ("validation_fraction", "split_seed", "num_train_examples")}
    if config.max_examples:
        splits = {name: split.take(np.arange(min(config.max_examples, len(split)))) for name, split in splits.items()}
    return _Source(splits, loaded.class_names, {"source": source.short_name, **loaded.details, **settings})


def _check_op(config: CopiesConfig, source: _Source) -> tuple[int, ...]:
    """Returns the shape of the images to write; the op is traced, not run."""
    shape = next(iter(source.splits.values())).images.shape[1:]
    if not config.copies:
        return shape
    try:
        traced = _augment_function(config.parsed_op).get_concrete_function(
            tf.TensorSpec([2, *shape], tf.uint8),
            tf.TensorSpec([2, len(source.class_names)], tf.float32),
            tf.TensorSpec([2], tf.int32),
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(f"op {config.op!r} does not fit images {list(shape)}: {str(error).strip()}") from error
    images, labels = traced.output_shapes
    written = tuple(images[1:])
    if config.originals and written != shape:
        raise ConfigError(
            f"op {config.op!r} makes images {list(written)} of {list(shape)}; allowed with originals: an op that keeps "
            "their shape"
        )
    if labels[1:] != [len(source.class_names)]:
        raise ConfigError(f"op {config.op!r} makes labels {list(labels)}; allowed: as many classes as before")
    return written


def _plan(config: CopiesConfig, source: _Source) -> Iterator[Shard]:
    """The files of the data set, in order."""
    for name, split in source.splits.items():
        num_blocks = max(len(split) // BLOCK_SIZE, 1)
        ends = [*range(BLOCK_SIZE, num_blocks * BLOCK_SIZE, BLOCK_SIZE), len(split)]
        copies = (*([ORIGINAL] if config.originals else []), *range(config.copies))
        blocks = [
            Block(copy, number, start, stop)
            for copy in copies
            for number, (start, stop) in enumerate(zip([0, *ends], ends, strict=False))
        ]
        groups = [tuple(blocks[i : i + _BLOCKS_PER_FILE]) for i in range(0, len(blocks), _BLOCKS_PER_FILE)]
        for number, group in enumerate(groups):
            yield Shard(name, number, len(groups), group)


@functools.lru_cache(maxsize=4)
def _augment_function(op: Augmentation) -> Any:
    """The compiled op: (images, labels, seed) -> (images as uint8, labels)."""

    @tf.function(jit_compile=True, autograph=False)
    def augment(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        batch = op(Batch(images, labels), seed)
        return to_uint8(batch.images), batch.labels

    return augment


def _augment_block(config: CopiesConfig, split: Split, name: str, block: Block, num_classes: int) -> tuple[Any, ...]:
    """The rows, images and labels of a block."""
    order = shuffled_order(len(split), seed=config.seed, counter=block.copy + 1)
    rows = order[block.start : block.stop]
    images, labels = split.images[rows], split.label_rows(num_classes)[rows]
    if block.copy == ORIGINAL:
        return rows, images, labels
    seed = rng.make_seed(config.seed)
    for number in (zlib.crc32(name.encode()), block.copy, block.number):
        seed = rng.fold_in(seed, number)
    # The bits are the same on every device; the images are needed on this one.
    with tf.device("/CPU:0"):
        augmented, soft = _augment_function(config.parsed_op)(tf.constant(images), tf.constant(labels), seed)
    return rows, augmented.numpy(), soft.numpy()


def _features(shape: tuple[int, ...], class_names: tuple[str, ...]) -> Any:
    """The features of the data set."""
    with explained():
        import tensorflow_datasets as tfds

    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=shape, dtype=np.uint8, encoding_format="png"),
            "label": tfds.features.Tensor(shape=(len(class_names),), dtype=np.float32),
            "original_label": tfds.features.ClassLabel(names=list(class_names)),
            "id": tfds.features.Text(),
            "original_id": tfds.features.Text(),
            "copy": tfds.features.Scalar(dtype=np.int64),
        }
    )


def _write_shard(
    config: CopiesConfig, folder: str, shard: Shard, done: Callable[[int], object] = lambda _: None
) -> ShardReport:
    """Writes one file, whole or not at all; `done` hears of every block's number of examples."""
    source = _load_source(config)
    split, num_classes = source.splits[shard.split], len(source.class_names)
    num_examples = num_unchanged = num_blank = 0
    name = f"{config.dataset_name}-{shard.split}.tfrecord-{shard.number:05d}-of-{shard.total:05d}"
    path = pathlib.Path(folder) / name
    with files.atomic_file(path) as partial, tf.io.TFRecordWriter(str(partial)) as writer:
        for block in shard.blocks:
            rows, images, labels = _augment_block(config, split, shard.split, block, num_classes)
            features = _features(images.shape[1:], source.class_names)
            for record in _serialize(features, split.take(rows), images, labels, block.copy):
                writer.write(record)
            num_examples += len(rows)
            if block.copy != ORIGINAL:
                num_blank += int((images == images[:, :1, :1]).all(axis=(1, 2, 3)).sum())
                num_unchanged += _count_unchanged(split, rows, images, labels)
            done(len(rows))
    return ShardReport(shard.split, num_examples, path.stat().st_size, num_unchanged, num_blank)


def _count_unchanged(split: Split, rows: np.ndarray, images: np.ndarray, labels: np.ndarray) -> int:
    """How many copies are their original, label and all."""
    if images.shape[1:] != split.images.shape[1:]:
        return 0
    same_label = (labels == split.label_rows(labels.shape[1])[rows]).all(axis=1)
    return int(((images == split.images[rows]).all(axis=(1, 2, 3)) & same_label).sum())


def _serialize(features: Any, originals: Split, images: np.ndarray, labels: np.ndarray, copy: int) -> Iterator[bytes]:
    """The records of the copies of `originals`."""
    suffix = "original" if copy == ORIGINAL else f"copy_{copy}"
    # TFDS would encode one image after the other, in one thread.
    encoded = tf.data.Dataset.from_tensor_slices(images).map(tf.io.encode_png, tf.data.AUTOTUNE, deterministic=True)
    for i, png in enumerate(encoded.as_numpy_iterator()):
        original_id = str(originals.ids[i])
        record = features.serialize_example(
            {
                "image": io.BytesIO(png),
                "label": labels[i],
                "original_label": int(originals.labels[i]),
                "id": f"{original_id}_{suffix}",
                "original_id": original_id,
                "copy": copy,
            }
        )
        # TFDS leaves the order of the features within a record to chance.
        yield tf.train.Example.FromString(record).SerializeToString(deterministic=True)


def _run_here(config: CopiesConfig, folder: pathlib.Path, shards: Sequence[Shard]) -> list[ShardReport]:
    """Writes the files one after the other."""
    total = sum(block.stop - block.start for shard in shards for block in shard.blocks)
    with tqdm(total=total, desc=f"writing {config.dataset_name}", unit=" images", disable=None) as bar:
        return [_write_shard(config, str(folder), shard, bar.update) for shard in shards]


def _run_beam(
    config: CopiesConfig, folder: pathlib.Path, shards: Sequence[Shard], *, options: Sequence[str]
) -> list[ShardReport]:
    """Writes the files in an Apache Beam pipeline; each leaves a report beside the data, as workers return nothing."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    logging.info("writing %s in %d files through Apache Beam", config.dataset_name, len(shards))
    with tempfile.TemporaryDirectory(prefix=".reports-", dir=folder) as reports:
        flags = PipelineOptions([f"--{option.lstrip('-')}" for option in options])
        with beam.Pipeline(options=flags) as pipeline:
            (
                pipeline
                | "Files" >> beam.Create(range(len(shards)))
                | "Spread" >> beam.Reshuffle()
                | "Write" >> beam.Map(functools.partial(_write_numbered, config, str(folder), reports, shards))
            )
        paths = [pathlib.Path(reports) / f"{number}.json" for number in range(len(shards))]
        return [ShardReport(*files.read_json(path)) for path in paths]


def _write_numbered(config: CopiesConfig, folder: str, reports: str, shards: Sequence[Shard], number: int) -> None:
    """Writes a file and its report: the step of the Beam pipeline."""
    files.write_json(pathlib.Path(reports) / f"{number}.json", _write_shard(config, folder, shards[number]))


def _make_metadata(config: CopiesConfig, source: _Source, reports: Sequence[ShardReport]) -> dict[str, Any]:
    """What the data set says about itself: how it was made, and counts."""
    op = config.parsed_op if config.copies else None
    splits = {}
    for name, split in source.splits.items():
        own = [report for report in reports if report.split == name]
        splits[name] = {
            "num_originals": len(split),
            "num_copies": len(split) * config.copies,
            "num_unchanged": sum(report.num_unchanged for report in own),
            "num_blank": sum(report.num_blank for report in own),
        }
    return {
        "op": config.op,
        "op_config": to_dict(op),
        "op_fingerprint": fingerprint(op),
        "named": config.named,
        "seed": config.seed,
        "copies": config.copies,
        "originals_included": config.originals,
        "max_examples": config.max_examples,
        "block_size": BLOCK_SIZE,
        **source.description,
        "splits": splits,
        "tfaug_version": tfaug.__version__,
    }


def _write_metadata(
    folder: pathlib.Path,
    config: CopiesConfig,
    source: _Source,
    shape: tuple[int, ...],
    reports: Sequence[ShardReport],
    metadata: dict[str, Any],
) -> None:
    """Writes dataset_info.json, features.json and metadata.json: from then on the folder is a TFDS data set."""
    with explained():
        import tensorflow_datasets as tfds

    split_infos = []
    for name in source.splits:
        own = [report for report in reports if report.split == name]
        lengths, num_bytes = [report.num_examples for report in own], sum(report.num_bytes for report in own)
        split_infos.append(tfds.core.SplitInfo(name=name, shard_lengths=lengths, num_bytes=num_bytes))
    copies = "1 augmented copy" if config.copies == 1 else f"{config.copies} augmented copies"
    what = f"{copies} of each example" if config.copies else "Examples"
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=_features(shape, source.class_names),
        split_infos=split_infos,
        version=VERSION,
        check_data=False,
        description=f"{what} of {metadata['source']}. Op: {config.op or 'none'}. Seed: {config.seed}.",
        supervised_keys=("image", "label"),
        metadata=tfds.core.MetadataDict(metadata),
    )
