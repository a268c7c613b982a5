"""RandAugment(2, 9) of albumentations' transforms, and a process that applies it to its share of a batch.

The process imports no TensorFlow. It reads a number of batches a line and answers with a line when they are done.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np


def make_transform() -> Any:
    """Returns two of the transforms nearest to RandAugment's at m = 9, drawn with replacement."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # It would ask the network for its newest version.
    import albumentations
    import cv2

    warp = {"interpolation": cv2.INTER_NEAREST, "border_mode": cv2.BORDER_CONSTANT, "fill": 128, "p": 1}
    return albumentations.SomeOf(
        [
            albumentations.NoOp(p=1),
            albumentations.AutoContrast(p=1),
            albumentations.Equalize(p=1),
            albumentations.Solarize(threshold_range=(0.3, 0.3), p=1),
            albumentations.ColorJitter((1, 1), (1, 1), (0.64, 0.64), (0, 0), p=1),
            albumentations.Posterize(num_bits=5, p=1),
            albumentations.RandomBrightnessContrast((0, 0), (-0.36, -0.36), p=1),
            albumentations.RandomBrightnessContrast((-0.36, -0.36), (0, 0), p=1),
            albumentations.Sharpen(p=1),
            albumentations.Rotate(limit=9, **warp),
            albumentations.Affine(shear={"x": (-5, 5)}, **warp),
            albumentations.Affine(shear={"y": (-5, 5)}, **warp),
            albumentations.Affine(translate_px={"x": (-3, 3)}, **warp),
            albumentations.Affine(translate_px={"y": (-3, 3)}, **warp),
        ],
        n=2,
        replace=True,
        p=1,
    )


def augment(transform: Any, images: np.ndarray, out: np.ndarray) -> None:
    """Writes the transform of each of `images` to `out`."""
    for index, image in enumerate(images):
        out[index] = transform(image=image)["image"]


def main(path_in: str, path_out: str, num: str, size: str, share: str) -> None:
    """Serves half `share` (0 or 1) of the `num` images of `path_in` until its standard input ends."""
    import cv2

    cv2.setNumThreads(1)
    shape = (int(num), int(size), int(size), 3)
    rows = slice(int(num) // 2) if share == "0" else slice(int(num) // 2, None)
    images = np.array(np.memmap(path_in, np.uint8, "r", shape=shape)[rows])
    out = np.memmap(path_out, np.uint8, "r+", shape=shape)[rows]
    transform = make_transform()
    for line in sys.stdin:
        for _ in range(int(line)):
            augment(transform, images, out)
        print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
