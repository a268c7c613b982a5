"""`tfaug preview --dataset=NAME --op=OP --out=FILE`: a contact sheet of what an op does to images."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

from absl import flags

from tfaug import files, startup
from tfaug.config import ConfigError, near_name

COMMANDS = {"preview": "draw what an op does to images: several draws, or a sweep of one of its fields"}

USAGE = "tfaug preview --op=OP --out=FILE [--dataset=NAME] [--sweep=FIELD=LOW..HIGH[:STEP]] [FLAGS]"
EXAMPLE = 'tfaug preview --dataset=photos --op="RandAugment(n=2, m=9)" --sweep=m=0..30:5 --out=grid.png'

FORMATS = ("png", "pdf", "svg")

FLAGS = flags.FlagValues()
flags.DEFINE_multi_string(
    "op", [], "an op as in Python, several joined by +; a block of rows for each --op", flag_values=FLAGS
)
flags.DEFINE_string("out", "", f"the file to write; its suffix says how: {', '.join(FORMATS)}", flag_values=FLAGS)
flags.DEFINE_string(
    "dataset", "digits", "digits, photos, a TFDS name[:split], or the path of an .npz file", flag_values=FLAGS
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
    for name in ("op", "out"):
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

    preview = Preview(
        ops=tuple(FLAGS.op),
        dataset=FLAGS.dataset,
        sweep=FLAGS.sweep,
        num_rows=FLAGS.rows,
        num_columns=FLAGS.columns,
        seed=FLAGS.seed,
        image_px=FLAGS.image_px,
        engine=FLAGS.engine,
        progress_at=FLAGS.progress_at,
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
