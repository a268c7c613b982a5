"""Draw the pictures of docs/augmentations.md: `python tools/docs_pictures.py [NAME ...]`.

Each is a sheet of `tfaug preview`, at seed 0, from scikit-learn's two sample photographs and handwritten digits, stored
with a palette. Equal versions of the libraries give equal files. Without a name all pictures are drawn again.
"""

from __future__ import annotations

import io
import pathlib
import sys
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from tfaug import files, startup
from tfaug.config import near_name

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "docs" / "img"
_COLORS = 224  # of a picture's palette
_SMALL_PX = 56
_MAGNITUDES = (0.0, 7.5, 15.0, 22.5, 30.0)


class Showcase(NamedTuple):
    """What a picture shows; the fields are those of `tfaug.preview.Preview`."""

    ops: tuple[str, ...]
    sweep: str = ""
    dataset: str = "photos"
    num_rows: int = 1
    num_columns: int = 6
    image_px: int = 96
    progress_at: float | None = None


OPERATIONS = "operations"
# The picture's name -> what it shows; beside them there is `operations`.
SHOWCASES: dict[str, Showcase] = {
    "flip": Showcase(("Flip(p=1)", "Flip(p=1, axis='vertical')")),
    "pad-crop": Showcase(("PadCrop(pad_px=24)", "PadCrop(pad_px=24, padding='reflect')")),
    "random-crop": Showcase(("RandomCrop(size_px=64, resize=True)",)),
    "random-resized-crop": Showcase(("RandomResizedCrop(scale=(0.08, 1))",)),
    "random-scale": Showcase(("RandomScale(scale=(0.6, 1.4))",)),
    "crop-and-resize": Showcase(("CropAndResize(area=(0.2, 1))",), image_px=_SMALL_PX),
    "rotate": Showcase(("Rotate()",), image_px=_SMALL_PX),
    "shear": Showcase(("Shear()",), image_px=_SMALL_PX),
    "translate": Showcase(("Translate((-0.3, 0.3), (-0.3, 0.3), fill_mode='constant')",), image_px=_SMALL_PX),
    "zoom": Showcase(("Zoom()",), image_px=_SMALL_PX),
    "auto-contrast": Showcase(("AutoContrast()",), image_px=_SMALL_PX),
    "equalize": Showcase(("Equalize()",), image_px=_SMALL_PX),
    "posterize": Showcase(("Posterize(bits=2)",), image_px=_SMALL_PX),
    "solarize": Showcase(("Solarize()",), image_px=_SMALL_PX),
    "brightness": Showcase(("Brightness()",), image_px=_SMALL_PX),
    "contrast": Showcase(("Contrast()",), image_px=_SMALL_PX),
    "desaturate": Showcase(("Desaturate()",), image_px=_SMALL_PX),
    "grayscale": Showcase(("Grayscale(p=0.5)",), image_px=_SMALL_PX),
    "channel-shuffle": Showcase(("ChannelShuffle()",), image_px=_SMALL_PX),
    "gaussian-filter": Showcase(("GaussianFilter(size_px=7, sigma_px=(0, 3))",), image_px=_SMALL_PX),
    "smooth": Showcase(("Smooth((1, 1))",), image_px=_SMALL_PX),
    "gaussian-blur": Showcase(("GaussianBlur(sigma_px=2)",), sweep="sigma_px=0.5,1,2,4"),
    "elastic-distortion": Showcase(("ElasticDistortion()",), dataset="digits", num_columns=8, image_px=64, num_rows=2),
    "cutout": Showcase(("Cutout(size_px=32)", "Cutout(size_px=24, num_holes=3)")),
    "random-cutout": Showcase(("RandomCutout()",), image_px=_SMALL_PX),
    "random-erasing": Showcase(("RandomErasing(p=1)",)),
    "mixup": Showcase(("Mixup(alpha=1)",)),
    "cutmix": Showcase(("CutMix(alpha=1)",)),
    "sample-pairing": Showcase(("SamplePairing()",)),
    "sum-aug": Showcase(("SumAug(k=2)", "SumAug(k=4)"), num_columns=8, image_px=72),
    "gradual-sum-aug": Showcase(("GradualSumAug(n=4)",), sweep="progress=0..1:0.25", num_columns=8, image_px=72),
    "rand-augment": Showcase(("RandAugment(n=2, m=9)",), num_rows=3),
    "rand-augment-presets": Showcase(
        ("RandAugment(n=1, m=12)",), sweep="preset=paper_cifar,efficientnet_tpu,torchvision,keras_cv", num_columns=8
    ),
    "rand-augment-sweep": Showcase(("RandAugment(n=1, m=9)",), sweep="m=0..30:6", num_columns=7),
    "auto-augment": Showcase(("AutoAugment()",), sweep="policy=cifar10,cifar10_full,imagenet"),
    "recipe": Showcase(("PadCrop(12) + Flip() + RandAugment(n=2, m=5) + Cutout(size_px=32)",), num_rows=2),
}


def draw(name: str) -> bytes:
    """Returns the PNG of one picture."""
    from tfaug.preview import Preview, draw_preview

    content = draw_operations() if name == OPERATIONS else draw_preview(Preview(**SHOWCASES[name]._asdict()))
    drawn = Image.open(io.BytesIO(content))
    buffer = io.BytesIO()
    drawn.quantize(_COLORS, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()


def draw_operations() -> bytes:
    """Draws every operation of RandAugment's preset `paper_cifar` over the magnitude, on one photograph."""
    import tensorflow as tf

    from tfaug.augment.operations import OPERATIONS as UNITS
    from tfaug.augment.operations import Operation, apply_operations
    from tfaug.augment.policies import PRESETS
    from tfaug.preview import load_pictures
    from tfaug.report import sheet

    image = load_pictures("photos", 3).images[2]
    rows = [sheet.SheetRow("original", image[None])]
    for name, strength in PRESETS["paper_cifar"].items():
        values = tuple(float(strength.value(m)) for m in _MAGNITUDES) if UNITS[name] else (0.0,)
        images = tf.repeat(tf.constant(image)[None], len(values), axis=0)
        index = tf.zeros([len(values), 1], tf.int32), tf.range(len(values))[:, None]
        augmented = apply_operations(images, [Operation(name, values)], *index).numpy()
        rows.append(sheet.SheetRow(name, augmented, [[f"{value:.3g}"] for value in values] if UNITS[name] else ()))
    heading = f"paper_cifar at m = {', '.join(f'{m:g}' for m in _MAGNITUDES)}"
    layout = sheet.lay_out(heading, [sheet.SheetBlock("", rows)], 72)
    return sheet.draw_sheet(layout, "png")


def main(names: Sequence[str]) -> int:
    """Draws the named pictures, or all of them, and removes what no showcase names."""
    known = (*SHOWCASES, OPERATIONS)
    for name in names:
        if name not in known:
            print(
                f"no picture is called {name!r}{near_name(name, known)}; allowed: {', '.join(known)}", file=sys.stderr
            )
            return 2
    startup.import_tensorflow()
    for name in names or known:
        with files.atomic_file(FOLDER / f"{name}.png") as partial:
            partial.write_bytes(draw(name))
        print(f"{name}.png: {(FOLDER / f'{name}.png').stat().st_size / 1000:.0f} kB", flush=True)
    for path in FOLDER.glob("*.png"):
        if path.stem not in known:
            path.unlink()
    total = sum(path.stat().st_size for path in FOLDER.glob("*.png"))
    print(f"{total / 1e6:.2f} MB in all")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
