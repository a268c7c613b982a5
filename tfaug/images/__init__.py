"""Batched pixel kernels in integer arithmetic: PIL's operations on uint8 images, one parameter per image.

Every kernel takes `images` uint8 [B,H,W,C] with 1 or 3 channels, any height and any width, and returns the same.
Parameters are Python numbers or int32 tensors [B]. Nothing is random, nothing loops over images, all compiles under
XLA with an unknown batch size, and integers (fixed point, Q16: 65536 is 1) make the bits equal in eager, graph,
tf.data and XLA, on any device. Sides of up to 16,384 px, and 2**31 - 1 px in a batch, fit into these integers; larger
ones are refused where their size is known. The kernels that only move or cover pixels (`flip`, `pad_and_crop`,
`gather_pixels`, `cover`, `cutout`) take any dtype. Kernels of floats of any range, unrounded, stand apart:
`resample.resample_floats`, `filters.gaussian_filter`, `blends.luma`.

Against PIL: nearest warps, equalize, solarize, posterize and the grey levels are equal; autocontrast, blends and
bilinear warps may be one grey level off at rare places where PIL's own floating-point rounding decides. The tests in
tests/test_images_exact.py print how many. `add`, `add_solarize`, `contrast_channel` and `equalize_rarest` are
operations of keras-cv, rounded to whole grey levels.
"""

from tfaug.images.base import Q16, to_uint8
from tfaug.images.blends import (
    brightness,
    color,
    contrast,
    contrast_channel,
    factor_q20,
    grayscale,
    sharpness,
)
from tfaug.images.tables import (
    add,
    add_solarize,
    apply_tables,
    autocontrast,
    equalize,
    equalize_rarest,
    histogram,
    invert,
    posterize,
    solarize,
    solarize_add,
)
from tfaug.images.warps import (
    cover,
    cutout,
    flip,
    gather_columns,
    gather_pixels,
    gather_rows,
    pad_and_crop,
    rotation,
    shear_x,
    shear_y,
    translation,
    translation_fraction,
    warp,
    warp_bilinear,
)

__all__ = [
    "Q16",
    "add",
    "add_solarize",
    "apply_tables",
    "autocontrast",
    "brightness",
    "color",
    "contrast",
    "contrast_channel",
    "cover",
    "cutout",
    "equalize",
    "equalize_rarest",
    "factor_q20",
    "flip",
    "gather_columns",
    "gather_pixels",
    "gather_rows",
    "grayscale",
    "histogram",
    "invert",
    "pad_and_crop",
    "posterize",
    "rotation",
    "sharpness",
    "shear_x",
    "shear_y",
    "solarize",
    "solarize_add",
    "to_uint8",
    "translation",
    "translation_fraction",
    "warp",
    "warp_bilinear",
]
