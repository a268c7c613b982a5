"""`tfaug data augment --dataset=NAME --op=OP --out=DIR`: augmented copies of a data set, written once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from absl import flags

from tfaug import startup
from tfaug.config import ConfigError

COMMANDS = {"data augment": "write augmented copies of a data set, soft labels and all, as a TFDS data set"}

USAGE = "tfaug data augment --dataset=NAME --op=OP --out=DIR [--split=SPLIT,...]"
EXAMPLE = 'tfaug data augment --dataset=cifar10 --split=train --op="RandAugment(n=1, m=20)" --seed=0 --out=build/copies'

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "dataset",
    None,
    "a TFDS name, 'digits', the path of an .npz file or of a folder of images, or a source as in Python",
    flag_values=FLAGS,
)
flags.DEFINE_string("data_dir", "", "the TFDS folder of --dataset; TFDS_DATA_DIR if not given", flag_values=FLAGS)
flags.DEFINE_list("split", [], "train, validation or test, or several of them; all if not given", flag_values=FLAGS)
flags.DEFINE_string(
    "op",
    None,
    "an op as in Python, or ops joined by +; or a paper's set: RA(1,20), RA(2,5), RA(2,20), RA(3,20), CM(1), CM(.5), "
    "CM(.25), saliency_orig, saliency_scale, saliency_crop, saliency_erase, saliency_elastic, saliency_blur",
    flag_values=FLAGS,
)
flags.DEFINE_integer("copies", None, "copies of each example; 1, or what the paper's set has", flag_values=FLAGS)
flags.DEFINE_bool("originals", False, "write the originals too", flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "of every draw", flag_values=FLAGS)
flags.DEFINE_string("out", None, "the folder of data sets to write to, the data_dir of tfds.load", flag_values=FLAGS)
flags.DEFINE_string("name", "", "of the data set; made of --dataset and --op if not given", flag_values=FLAGS)
flags.DEFINE_string("train_split", "", "the TFDS split of the training examples; train if not given", flag_values=FLAGS)
flags.DEFINE_string("test_split", "", "the TFDS split of the test examples; test if not given", flag_values=FLAGS)
flags.DEFINE_string(
    "validation_split", "", "the TFDS split to validate on; held out of --train_split if not given", flag_values=FLAGS
)
flags.DEFINE_float("validation_fraction", 0.1, "the share of the training examples held out", flag_values=FLAGS)
flags.DEFINE_integer("split_seed", 0, "which examples are held out", flag_values=FLAGS)
flags.DEFINE_integer(
    "num_train_examples", 0, "a class-balanced subset of so many training examples; 0 for all", flag_values=FLAGS
)
flags.DEFINE_integer("num_classes", 0, "of an .npz file; 0 for the largest label + 1", flag_values=FLAGS)
flags.DEFINE_integer("max_examples", 0, "the first so many of each split, for a try; 0 for all", flag_values=FLAGS)
flags.DEFINE_bool("beam", False, "work through Apache Beam (pip install tfaug[beam])", flag_values=FLAGS)
flags.DEFINE_list(
    "beam_options", [], "options of its pipeline, as in runner=DirectRunner,direct_num_workers=2", flag_values=FLAGS
)


def main(command: str, arguments: Sequence[str]) -> int:
    """Checks the flags and writes the copies.

    Args:
      command: one of `COMMANDS`.
      arguments: what follows it on the command line.

    Returns:
      The exit status: 0 done.

    Raises:
      ConfigError, absl.flags.Error: if the flags are wrong, or the data set exists.
      OSError: if the files cannot be written.
    """
    FLAGS.unparse_flags()  # nothing is left of an earlier call in this process
    rest = FLAGS(["tfaug", *arguments], known_only=False)[1:]
    if rest:
        raise ConfigError(f"tfaug {command} takes flags alone; got {' '.join(rest)!r}")
    for name in ("dataset", "op", "out"):
        if not FLAGS[name].value:
            raise ConfigError(f"--{name} is missing; as in: {EXAMPLE}")
    if FLAGS.beam_options and not FLAGS.beam:
        raise ConfigError("--beam_options are given without --beam; allowed: both")
    startup.import_tensorflow()
    startup.use_devices()

    from tfaug.data import DataConfig, read_source
    from tfaug.data.copies import make_config, write_copies

    settings = _values("data_dir", "train_split", "test_split", "validation_split", "num_classes")
    source = read_source(FLAGS.dataset, **settings)
    data = DataConfig(source, **_values("validation_fraction", "split_seed", "num_train_examples"))
    fields = _values("copies", "originals", "seed", "max_examples", "name")
    config = make_config(FLAGS.op, data, splits=tuple(FLAGS.split), **fields)
    written = write_copies(config, FLAGS.out, beam_options=FLAGS.beam_options if FLAGS.beam else None)
    for split, counts in written.metadata["splits"].items():
        originals = f"{counts['num_originals']:,} originals"
        whole = f"{originals}, {counts['num_copies']:,} copies" if counts["num_copies"] else originals
        print(f"{split}: {whole}, of which {counts['num_unchanged']:,} unchanged and {counts['num_blank']:,} blank")
    print(f"\ntfds.load({written.name!r}, data_dir={str(written.path.parent.parent)!r})")
    return 0


def _values(*names: str) -> dict[str, Any]:
    """The values of flags by their names."""
    return {name: FLAGS[name].value for name in names}
