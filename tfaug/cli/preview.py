"""`tfaug preview --dataset=NAME --op=OP --out=FILE`: a contact sheet of what an op does to images."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import flags

from tfaug import files, startup
from tfaug.config import ConfigError, near_name

COMMANDS = {"preview": "draw what an op does to images: several draws, or a sweep of one of its fields"}

USAGE = (
    "tfaug preview (--op=OP | --config=MODULE:FUNCTION --phase=PHASE) --out=FILE [--dataset=NAME] "
    "[--sweep=FIELD=LOW..HIGH[:STEP]] [FLAGS]"
)
EXAMPLE = 'tfaug preview --dataset=photos --op="RandAugment(n=2, m=9)" --sweep=m=0..30:5 --out=grid.png'

FORMATS = ("png", "pdf", "svg")

FLAGS = flags.FlagValues()
flags.DEFINE_multi_string(
    "op", [], "an op as in Python, several joined by +; a block of rows for each --op", flag_values=FLAGS
)
flags.DEFINE_string(
    "config", "", "an experiment, MODULE:FUNCTION, of which --phase shows a phase, on its data", flag_values=FLAGS
)
flags.DEFINE_string("phase", "", "with --config: PHASE of the first training, or TRAINING/PHASE", flag_values=FLAGS)
flags.DEFINE_multi_string("set", [], "with --config: replace one setting, as in tfaug run", flag_values=FLAGS)
flags.DEFINE_string("out", "", f"the file to write; its suffix says how: {', '.join(FORMATS)}", flag_values=FLAGS)
flags.DEFINE_string(
    "dataset",
    "digits",
    "digits, photos, a TFDS name[:split], the path of an .npz file or of a folder of images, or a source as in Python",
    flag_values=FLAGS,
)
flags.DEFINE_string("data_dir", "", "the TFDS folder; TFDS_DATA_DIR where none is given", flag_values=FLAGS)
flags.DEFINE_string(
    "sweep",
    "",
    "a row for each value of a field: m=0..30, p=0..1:0.25, preset=a,b or progress=0..1:0.1",
    flag_values=FLAGS,
)
flags.DEFINE_integer("columns", 8, "images in a row, one batch together", 1, 64, flag_values=FLAGS)
flags.DEFINE_integer("rows", 3, "rows for an op without --sweep, each drawn anew", 1, 64, flag_values=FLAGS)
flags.DEFINE_integer("seed", 0, "of the draws; the same in all rows of a sweep", 0, flag_values=FLAGS)
flags.DEFINE_integer("image_px", 96, "the largest side of a shown image", 16, 1024, flag_values=FLAGS)
flags.DEFINE_enum("engine", "tfaug", ["tfaug", "keras_cv"], "who augments", flag_values=FLAGS)
flags.DEFINE_float(
    "progress_at", None, "how far training has gone, for ops that follow a schedule", 0.0, 1.0, flag_values=FLAGS
)


def main(command: str, arguments: Sequence[str]) -> int:
    """Checks the flags, draws the sheet and writes it, whole or not at all.

    Args:
      command: `preview`.
      arguments: what follows it on the command line.

    Returns:
      The exit status: 0 done.

    Raises:
      ConfigError, absl.flags.Error: if a flag, the op, the sweep or the data set is wrong; nothing is written then.
    """
    rest = FLAGS(["tfaug", *arguments], known_only=False)[1:]
    if rest:
        raise ConfigError(f"tfaug {command} takes flags alone; got {' '.join(rest)!r}")
    if not FLAGS.config and (FLAGS.phase or FLAGS.set):
        raise ConfigError("--phase and --set are of an experiment: allowed with --config=MODULE:FUNCTION")
    if FLAGS.config and FLAGS.op:
        raise ConfigError("--op and --config are both given; allowed: one of them")
    for name in ("out",) if FLAGS.config else ("op", "out"):
        if not FLAGS[name].value:
            raise ConfigError(f"--{name} is missing; as in: {EXAMPLE}")
    path = pathlib.Path(FLAGS.out).expanduser()
    kind = path.suffix.lower().removeprefix(".")
    if kind not in FORMATS:
        raise ConfigError(f"--out is {FLAGS.out!r}{near_name(kind, FORMATS)}; allowed suffixes: {', '.join(FORMATS)}")
    if path.is_dir():
        raise ConfigError(f"--out is {FLAGS.out!r}, which is a folder; allowed: a file")
    if FLAGS.sweep and FLAGS["rows"].present:
        raise ConfigError("--rows and --sweep are both given; a sweep has one row for each value: allowed: one of them")
    startup.import_tensorflow()
    startup.use_devices()

    from tfaug.preview import Preview, draw_preview

    ops, dataset, progress_at = tuple(FLAGS.op), FLAGS.dataset, FLAGS.progress_at
    if FLAGS.config:
        op, source = _of_phase()
        ops, dataset = (op,), FLAGS.dataset if FLAGS["dataset"].present else source
        progress_at = 0.5 if progress_at is None else progress_at
    preview = Preview(
        ops=ops,
        dataset=dataset,
        sweep=FLAGS.sweep,
        num_rows=FLAGS.rows,
        num_columns=FLAGS.columns,
        seed=FLAGS.seed,
        image_px=FLAGS.image_px,
        engine=FLAGS.engine,
        progress_at=progress_at,
        data_dir=FLAGS.data_dir,
    )
    content = draw_preview(preview, kind)
    try:
        with files.atomic_file(path) as partial:
            partial.write_bytes(content)
    except OSError as error:
        raise ConfigError(f"--out={FLAGS.out} cannot be written: {error.strerror or error}") from None
    print(path)
    return 0


def _of_phase() -> tuple[Any, Any]:
    """Returns what the phase that the flags name does to images, and the source of its experiment."""
    from tfaug import expressions
    from tfaug.augment import compose
    from tfaug.experiment import CLASSES

    experiment = expressions.load(FLAGS.config, FLAGS.set, CLASSES)
    training, _, phase = FLAGS.phase.rpartition("/")
    trainings = {each.name: each for each in experiment.trainings}
    if training and training not in trainings:
        raise ConfigError(
            f"--phase={FLAGS.phase}: there is no training {training!r}{near_name(training, trainings)}; "
            f"allowed: {', '.join(trainings)}"
        )
    phases = {each.name: each for each in (trainings[training] if training else experiment.trainings[0]).phases}
    if phase not in phases:
        raise ConfigError(f"--phase is {FLAGS.phase!r}{near_name(phase, phases)}; allowed: {', '.join(phases)}")
    return compose(phases[phase].augment), experiment.data.source
