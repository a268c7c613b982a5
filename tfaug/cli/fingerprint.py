"""`tfaug fingerprint --op=OP` and `tfaug fingerprint --check`: the SHA-256 of what an op makes of fixed images."""

from __future__ import annotations

from collections.abc import Sequence

from absl import flags

import tfaug
from tfaug import startup
from tfaug.config import ConfigError
from tfaug.workdir import installed_versions

COMMANDS = {"fingerprint": "print the SHA-256 of what an op makes of fixed images, or compare all with the release's"}

USAGE = "tfaug fingerprint --op=OP [--seed=SEED] [FLAGS]  or  tfaug fingerprint --check [--xla] [--write=FILE]"
EXAMPLE = 'tfaug fingerprint --op="RandAugment(n=2, m=9)" --seed=0'

FLAGS = flags.FlagValues()
flags.DEFINE_string(
    "op", "", "an op as in Python, or ops joined by +; ManifoldMixup(...) or layers.NAME(...) too", flag_values=FLAGS
)
flags.DEFINE_integer("seed", 0, "of the draws, at most 64 bits", flag_values=FLAGS)
flags.DEFINE_string("shape", "16x32x32x3", "of the images that the op gets, BxHxWxC", flag_values=FLAGS)
flags.DEFINE_string("dtype", "uint8", "of the images, uint8 or float32", flag_values=FLAGS)
flags.DEFINE_string("progress", "3/10", "STEP/TOTAL_STEPS, for ops that follow a schedule", flag_values=FLAGS)
flags.DEFINE_bool("xla", False, "compile the ops", flag_values=FLAGS)
flags.DEFINE_bool(
    "check", False, "compare every op, preset, policy and layer with the table that is installed", flag_values=FLAGS
)
flags.DEFINE_string("write", "", "with --check: a file for the table as it is here", flag_values=FLAGS)

_OF_ONE = ("op", "seed", "shape", "dtype", "progress")


def main(command: str, arguments: Sequence[str]) -> int:
    """Checks the flags and prints one digest, or those that differ from the table's.

    Args:
      command: `fingerprint`.
      arguments: what follows it on the command line.

    Returns:
      The exit status: 0 done, 1 a digest differs.

    Raises:
      ConfigError, absl.flags.Error: if a flag or the op is wrong.
    """
    FLAGS.unparse_flags()  # nothing is left of an earlier call in this process
    rest = FLAGS(["tfaug", *arguments], known_only=False)[1:]
    if rest:
        raise ConfigError(f"tfaug {command} takes flags alone; got {' '.join(rest)!r}")
    given = [name for name in _OF_ONE if FLAGS[name].present]
    if FLAGS.check and given:
        raise ConfigError(f"--check is of the whole table, and --{given[0]} is given; allowed: one of them")
    if not FLAGS.check and not FLAGS.op:
        raise ConfigError(f"--op is missing; as in: {EXAMPLE}; or give --check")
    if FLAGS.write and not FLAGS.check:
        raise ConfigError("--write is given without --check; allowed: both")
    startup.import_tensorflow()
    startup.use_devices()

    from tfaug.fingerprint import Case, fingerprint

    if FLAGS.check:
        return _check()
    case = Case(FLAGS.op, FLAGS.seed, FLAGS.shape, FLAGS.dtype, FLAGS.progress)
    print(fingerprint(case, FLAGS.xla), case)
    return 0


def _check() -> int:
    """Compares every digest with the table's, and writes the table anew if that is asked."""
    from tfaug.fingerprint import compare, read_table, write_table

    here, num_different = {}, 0
    for case, digest, expected in compare(read_table(), FLAGS.xla):
        here[case] = digest
        if digest != expected:
            num_different += 1
            print(f"differs: {case}\n  here {digest}\n  tfaug {tfaug.__version__} {expected}", flush=True)
    if FLAGS.write:
        try:
            write_table(here, FLAGS.write)
        except OSError as error:
            raise ConfigError(f"--write={FLAGS.write} cannot be written: {error.strerror or error}") from None
    versions = installed_versions()
    libraries = ", ".join(f"{name} {versions[name]}" for name in ("tensorflow", "numpy", "python") if name in versions)
    how = "compiled by XLA" if FLAGS.xla else "eager"
    equal = f"{len(here) - num_different} of {len(here)} digests"
    print(f"{equal} are those of tfaug {tfaug.__version__} ({libraries}, {how})")
    return 1 if num_different else 0
