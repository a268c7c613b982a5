"""Measure tfaug's speed beside that of its peers, in one process, on two cores and in turns.

    python tools/bench.py augment --json=build/bench.json
    python tools/bench.py augment --json=build/bench.json --sizes=32 --ops=CutMix --engines=tfaug,copy --rounds=9
    python tools/bench.py training --json=build/training.json
    python tools/bench.py train --json=build/train.json --models=resnet20,wrn_16_4 --precisions=fp32 --steps=8
    python tools/bench.py kerases --json=build/kerases.json
    python tools/bench.py ordering --json=build/ordering.json
    python tools/bench.py ops --json=build/ops.json --sizes=32,224
    python tools/bench.py table build/bench.json build/training.json build/ops.json --pages=README.md,docs/speed.md

`augment` times RandAugment(2, 9), CutMix, Mixup and Sum-Augmentation (k = 2) on uint8 images that lie in memory, by:

    tfaug           the op compiled by XLA: in `Dataset.map` (path `host`), and one call after the other (`device`)
    keras           the layer of Keras 3 in `Dataset.map` (`host`), and called alone in a graph (`alone`)
    keras_cv        keras-cv's own layer in `Dataset.map` (`host`), and called alone in a graph (`alone`)
    albumentations  two of its transforms per image, by threads or by processes (RandAugment only, as all that follow)
    dali            DALI's RandAugment on the CPU
    kornia          kornia's RandAugment on PyTorch's CPU kernels: one operation for the whole batch
    plain_tf_data   the RandAugment that a user would write with TensorFlow's kernels, image by image, in `Dataset.map`
    copy            a memory copy of the same batch, a loop over its values (the least that XLA's own code can
                    do), and where the op returns float32 a copy into that

The peers come with `pip install tfaug[bench]`; one that is not there is named in the header and left out. An engine
with several settings of threads is measured with the fastest of them, found by a short trial; the row names it.
Neither Keras nor keras-cv has Sum-Augmentation: there MixUp is the peer, although it blends with weights and does not
halve the batch.

`training` times the training step of ResNet-20 in bf16, batches of 128, without augmentation and with flip, crop,
RandAugment(2, 9) and CutMix on the host and on the device. `train` times the training step, through `fit`, next to
plain Keras `fit` of the same network on the same batches, flipped and cropped on the host. `kerases` times the step
without augmentation, through `fit`, under Keras 3 and under tf-keras, each in a process of its own (needs tf-keras).
`ordering` times a step that tries K batches (Max Loss Delta; ResNet-20, batches of 128) against K + 1 plain
steps. `ops` times each pixel operation and each augmentation next to a copy, with the bytes that it moves and the
operations that XLA's program computes per value.

`table` prints what these have written as Markdown; with `--pages` it puts each table into the pages that have a place
for it, between the lines `<!-- bench: NAME -->` and `<!-- bench end -->`.

Speeds count the images that go in. Each number is the median over the rounds; in each round each engine has its turn,
so that a slow moment of the machine does not fall on one of them alone. A ratio is the quotient of two medians.
"""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Sequence

from absl import app, flags

from tfaug import files
from tfaug.startup import import_tensorflow

import_tensorflow()
import tensorflow as tf  # noqa: E402
from benchmarks import augmenting, fitting, header, kerases, operations, ordering, tables, training  # noqa: E402

from tfaug.models.stages import POLICIES  # noqa: E402

COMMANDS = ("augment", "training", "train", "kerases", "ordering", "ops", "table")
NUM_CORES = 2

_JSON = flags.DEFINE_string("json", None, "file for the header and the rows")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "turns of each engine; the medians are taken over them", lower_bound=1)
_SECONDS = flags.DEFINE_float("seconds", 0.5, "least length of a turn (augment, ops)", lower_bound=0)
_STEPS = flags.DEFINE_integer("steps", 20, "steps in a turn (training, train, kerases, ordering)", lower_bound=1)
_SIZES = flags.DEFINE_list("sizes", ["32", "64", "224"], "heights and widths of the images, in pixels")
_ENGINES = flags.DEFINE_list("engines", list(augmenting.ENGINES), "who is measured (augment)")
_OPS = flags.DEFINE_list("ops", [], "what is measured (augment, ops); empty: everything")
_MODELS = flags.DEFINE_list("models", ["resnet20", "resnet18", "wrn_16_4"], "networks (train)")
_PRECISIONS = flags.DEFINE_list("precisions", list(POLICIES), "of the networks (train, ordering)")
_PAGES = flags.DEFINE_list("pages", [], "Markdown files to put the tables into (table); empty: they are printed")
_QUICK = flags.DEFINE_bool("quick", False, "a small run to see that it works: 2 rounds of a few images; no speeds")


def main(argv: Sequence[str]) -> None:
    """Runs what the command line names."""
    if len(argv) < 2 or argv[1] not in COMMANDS or (argv[1] == "table") != (len(argv) > 2):
        allowed = ", ".join(COMMANDS)
        raise app.UsageError(
            f"got {' '.join(argv[1:]) or 'no command'!r}; allowed: {allowed} and, for table, its files"
        )
    if argv[1] == "table":
        write_tables(argv[2:], _PAGES.value)
        return
    if not all(size.isdigit() and int(size) >= 16 for size in _SIZES.value):
        raise app.UsageError(f"--sizes={','.join(_SIZES.value)}; allowed: whole numbers of pixels, 16 or more")
    _check("engines", _ENGINES.value, augmenting.ENGINES)
    sizes = [int(size) for size in _SIZES.value]
    rounds, seconds = (min(_ROUNDS.value, 2), 0.0) if _QUICK.value else (_ROUNDS.value, _SECONDS.value)
    header.limit_cores(NUM_CORES)
    # Each op is traced once; TensorFlow takes their like-named functions for one that is traced again and again.
    tf.get_logger().addFilter(lambda record: "triggered tf.function retracing" not in record.getMessage())
    if argv[1] == "augment":
        _check("ops", _OPS.value, tuple(augmenting.CASES))
        ops = _OPS.value or list(augmenting.CASES)
        result = augmenting.bench(sizes, _ENGINES.value, ops, rounds, seconds, _QUICK.value)
        table = augmenting.format_rows(result["rows"])
    elif argv[1] == "training":
        result = training.bench(rounds, 2 if _QUICK.value else _STEPS.value, _QUICK.value)
        table = training.format_rows(result["rows"])
    elif argv[1] == "train":
        _check("models", _MODELS.value, fitting.MODELS)
        _check("precisions", _PRECISIONS.value, tuple(POLICIES))
        num_steps = 2 if _QUICK.value else _STEPS.value
        result = fitting.bench(_MODELS.value, _PRECISIONS.value, rounds, num_steps, _QUICK.value)
        table = fitting.format_rows(result["rows"])
    elif argv[1] == "kerases":
        result = kerases.bench(rounds, 2 if _QUICK.value else _STEPS.value, _QUICK.value)
        table = kerases.format_rows(result["rows"])
    elif argv[1] == "ordering":
        result = ordering.bench(_PRECISIONS.value, rounds, 2 if _QUICK.value else _STEPS.value, _QUICK.value)
        table = ordering.format_rows(result["rows"])
    else:
        _check("ops", _OPS.value, (*operations.OPERATIONS, *operations.augment.AUGMENTATIONS))
        result = operations.bench(sizes, _OPS.value, rounds, seconds, _QUICK.value)
        table = operations.format_rows(result["rows"])
    for peer, found in result["header"]["peers"].items():
        print(f"{peer}: {found}", file=sys.stderr)
    print(table)
    if _JSON.value:
        files.write_json(_JSON.value, {"command": argv[1], **result})


def write_tables(paths: Sequence[str], pages: Sequence[str]) -> None:
    """Prints the tables of measured files, or puts them into the pages that have a place for them.

    Args:
      paths: of files that the other commands wrote.
      pages: Markdown files; none prints the tables.

    Raises:
      app.UsageError: naming a page's place that no table has, and those allowed.
    """
    found: dict[str, str] = {}
    for path in paths:
        found |= tables.make_tables(files.read_json(path))
    if not pages:
        print("\n\n".join(f"{name}:\n\n{table}" for name, table in found.items()))
    for page in map(pathlib.Path, pages):
        text, missing = tables.fill(page.read_text(), found)
        _check(f"pages: {page}", missing, tables.NAMES)
        for name in missing:
            print(f"{page}: {name} is left as it was: no file here has it", file=sys.stderr)
        with files.atomic_file(page) as partial:
            partial.write_text(text)


def _check(flag: str, values: Sequence[str], allowed: Sequence[str]) -> None:
    """Refuses values of a flag that are not allowed."""
    unknown = [value for value in values if value not in allowed]
    if unknown:
        raise app.UsageError(f"--{flag} has {', '.join(unknown)}; allowed: {', '.join(allowed)}")


if __name__ == "__main__":
    app.run(main)
