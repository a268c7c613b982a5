"""Kernels that read images between their pixels, at places of each image's own: zoom, crop and resize, distort.

A place is an int32 in Q16 pixels: 0 is the centre of the first row or column, 65536 that of the second.
"""

from __future__ import annotations

import tensorflow as tf

from tfaug import rng
from tfaug.images.base import MAX_SIDE_PX, Q16, IntOrTensor, check_images, size_of
from tfaug.images.warps import gather_pixels, take_columns

# Of a place's fraction the highest 11 bits are used: 8 bits of grey and twice 11 bits of weight stay below 2**31.
_WEIGHT_BITS = 11

_FAR_Q16 = 32766 * Q16

_SHARE_BITS = 24  # of a share of a side, as rng.uniform draws them

INTERPOLATIONS = ("bilinear", "nearest")
FILL_MODES = ("reflect", "wrap", "constant", "nearest")


def resample(images: tf.Tensor, y_q16: tf.Tensor, x_q16: tf.Tensor) -> tf.Tensor:
    """Returns out[b,i,j] = the value of image b at row y_q16[b,i,j] and column x_q16[b,i,j], bilinear.

    The four pixels around the place weigh by their nearness, in steps of 2**-11; the sum is rounded half up. Beyond the
    centre of an outermost pixel its value goes on.

    Args:
      images: uint8 [B,H,W,C].
      y_q16: int32 [B,H',W'], Q16 px.
      x_q16: int32 [B,H',W'], Q16 px.

    Returns:
      uint8 [B,H',W',C].

    Raises:
      ValueError: if the images are not uint8 [B,H,W,C].
    """
    check_images(images)
    batch, height, width, channels = (size_of(images, axis) for axis in range(4))
    top, bottom, down = _around(y_q16, height)
    left, right, across = _around(x_q16, width)
    pixels, row = tf.reshape(images, [-1, channels]), tf.reshape(tf.range(batch) * height, [-1, 1, 1])

    def at(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.cast(tf.gather(pixels, (row + y) * width + x), tf.int32)

    upper = _mix(at(top, left), at(top, right), across[..., tf.newaxis])
    lower = _mix(at(bottom, left), at(bottom, right), across[..., tf.newaxis])
    return _round(_mix(upper, lower, down[..., tf.newaxis]))


def resample_grid(
    images: tf.Tensor, y_q16: tf.Tensor, x_q16: tf.Tensor, interpolation: str = "bilinear", fill: int | None = None
) -> tf.Tensor:
    """Returns out[b,i,j] = the value of image b at row y_q16[b,i] and column x_q16[b,j]: `resample` in half the time.

    `nearest` takes the nearest pixel, at a tie the one below or to the right. Neither way smooths where the picture
    shrinks: with `window_places` it is PIL's `Image.transform(size, EXTENT, box)`, not `Image.resize`; PIL cuts the
    fraction of a bilinear value off, where it is rounded here.

    Args:
      images: uint8 [B,H,W,C].
      y_q16: int32 [B,H'], Q16 px.
      x_q16: int32 [B,W'], Q16 px.
      interpolation: `nearest` or `bilinear`.
      fill: grey level 0..255 of places outside the image; None goes on with the outermost pixels.

    Returns:
      uint8 [B,H',W',C].

    Raises:
      ValueError: if the images are not uint8 [B,H,W,C], or the interpolation is unknown.

    Example:
      >>> row = tf.constant([[[[10], [20], [40]]]], tf.uint8)
      >>> resample_grid(row, tf.constant([[0]]), tf.constant([[0, 32768, 98304]]))[0, 0, :, 0].numpy().tolist()
      [10, 15, 30]
    """
    check_images(images)
    height, width = size_of(images, 1), size_of(images, 2)
    if interpolation == "nearest":
        y, x = tf.clip_by_value(_nearest(y_q16), 0, height - 1), tf.clip_by_value(_nearest(x_q16), 0, width - 1)
        out = gather_pixels(images, y[:, :, tf.newaxis], x[:, tf.newaxis, :], 0)
    elif interpolation == "bilinear":
        top, bottom, down = _around(y_q16, height)
        left, right, across = _around(x_q16, width)
        upper, lower = (tf.cast(tf.gather(images, y, batch_dims=1), tf.int32) for y in (top, bottom))
        rows = _mix(upper, lower, down[:, :, tf.newaxis, tf.newaxis])
        before, after = (take_columns(rows, x) for x in (left, right))
        out = _round(_mix(before, after, across[:, tf.newaxis, :, tf.newaxis]))
    else:
        raise ValueError(f"interpolation is {interpolation!r}; allowed: nearest, bilinear")
    if fill is None:
        return out
    inside_y, inside_x = (
        (_nearest(place) >= 0) & (_nearest(place) < size) for place, size in ((y_q16, height), (x_q16, width))
    )
    inside = inside_y[:, :, tf.newaxis] & inside_x[:, tf.newaxis, :]
    return tf.where(inside[..., tf.newaxis], out, tf.constant(fill, tf.uint8))


def resample_floats(
    images: tf.Tensor, y_q16: tf.Tensor, x_q16: tf.Tensor, interpolation: str, fill_mode: str, fill: float = 0.0
) -> tf.Tensor:
    """Returns what `resample` returns, of floats of any range and unrounded, with weights in steps of 2**-16.

    It is not the sampler of `resample`, nor of `warp_bilinear`: those round to grey levels, each as its own source
    does, and their bits are kept.

    Args:
      images: [B,H,W,C], of any dtype.
      y_q16: int32, broadcasts to [B,H',W'], Q16 px.
      x_q16: likewise.
      interpolation: one of `INTERPOLATIONS`.
      fill_mode: what stands outside the image, one of `FILL_MODES`: `reflect` (d c b a | a b c d | d c b a), `wrap`,
        `nearest`, or `constant` for `fill`.
      fill: a number.

    Returns:
      float32 [B,H',W',C].
    """
    images = tf.cast(images, tf.float32)
    height, width = size_of(images, 1), size_of(images, 2)

    def pixels(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        return gather_pixels(images, _inside(row, height, fill_mode), _inside(column, width, fill_mode), fill)

    if interpolation == "nearest":
        return pixels(_nearest(y_q16), _nearest(x_q16))
    (top, down), (left, right) = (
        (tf.bitwise.right_shift(place, 16), tf.cast(tf.bitwise.bitwise_and(place, Q16 - 1), tf.float32) * (1 / Q16))
        for place in (y_q16, x_q16)
    )
    right = right[..., tf.newaxis]
    upper = rng.mix(pixels(top, left), pixels(top, left + 1), right)
    lower = rng.mix(pixels(top + 1, left), pixels(top + 1, left + 1), right)
    return rng.mix(upper, lower, down[..., tf.newaxis])


def _inside(index: tf.Tensor, size: IntOrTensor, fill_mode: str) -> tf.Tensor:
    """Returns the pixel that stands for `index`, which may lie outside 0..size-1; with `constant` there is none."""
    if fill_mode == "reflect":
        index = tf.math.floormod(index, 2 * size)
        return tf.minimum(index, 2 * size - 1 - index)
    if fill_mode == "wrap":
        return tf.math.floormod(index, size)
    return tf.clip_by_value(index, 0, size - 1) if fill_mode == "nearest" else index


def share_of_side(share: tf.Tensor, size: IntOrTensor, unit: int = Q16, up: bool = False) -> tf.Tensor:
    """Returns `share`, float32, of `size` px in 1/unit px, int32: in whole numbers, rounded to the nearest or up."""
    share = tf.cast(tf.round(share * 2.0**_SHARE_BITS), tf.int64) * tf.cast(size, tf.int64) * unit
    share += 2**_SHARE_BITS - 1 if up else 2 ** (_SHARE_BITS - 1)
    return tf.cast(tf.bitwise.right_shift(share, tf.constant(_SHARE_BITS, tf.int64)), tf.int32)


def window_places(start_px: tf.Tensor, size_px: tf.Tensor, num: IntOrTensor) -> tf.Tensor:
    """Returns the places at which `num` pixels spread over a window read the image, along one axis.

    Place i is start + (i + 1/2) size / num - 1/2, rounded down to a multiple of 2**-16.

    Args:
      start_px: int32 [B], the window's first row or column.
      size_px: int32 [B], how many there are in it.
      num: how many places, up to 16,384.

    Returns:
      int32 [B,num], Q16 px.

    Raises:
      ValueError: if there are more places, as far as their number is known when the call is traced.
    """
    if isinstance(num, int) and num > MAX_SIDE_PX:
        raise ValueError(f"a side is resampled to {num} px; allowed: up to {MAX_SIDE_PX:,} px")
    ahead = (2 * tf.range(num) + 1) * size_px[:, tf.newaxis]
    whole, rest = ahead // (2 * num), ahead % (2 * num)
    return (start_px[:, tf.newaxis] + whole) * Q16 + rest * Q16 // (2 * num) - Q16 // 2


def zoom_places(inverse_q16: tf.Tensor, num: IntOrTensor) -> tf.Tensor:
    """Returns the places at which an axis of `num` pixels, magnified about its middle, reads the image.

    Place i is (i + 1/2 - num / 2) / factor + num / 2 - 1/2.

    Args:
      inverse_q16: int32 [B], 1 / factor in Q16.
      num: size of the axis.

    Returns:
      int32 [B,num], Q16 px; beyond 32,766 px, which is outside any image, 32,766 px.
    """
    num = tf.cast(num, tf.int64)
    twice = (2 * tf.range(num) + 1 - num) * tf.cast(inverse_q16, tf.int64)[:, tf.newaxis] + (num - 1) * Q16
    return tf.cast(tf.clip_by_value(twice // 2, -_FAR_Q16, _FAR_Q16), tf.int32)


def _nearest(place: tf.Tensor) -> tf.Tensor:
    """Returns the pixel in which a place lies."""
    return tf.bitwise.right_shift(place + Q16 // 2, 16)


def _around(place: tf.Tensor, size: IntOrTensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the pixels before and after a place, held to the image, and the weight of the second, 0..2047."""
    first = tf.bitwise.right_shift(place, 16)
    weight = tf.bitwise.right_shift(place & (Q16 - 1), 16 - _WEIGHT_BITS)
    return tf.clip_by_value(first, 0, size - 1), tf.clip_by_value(first + 1, 0, size - 1), weight


def _mix(first: tf.Tensor, second: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Returns first + weight (second - first) times 2**11."""
    return first * 2**_WEIGHT_BITS + (second - first) * weight


def _round(total: tf.Tensor) -> tf.Tensor:
    """Returns Q22 values as uint8, rounded half up."""
    return tf.cast(tf.bitwise.right_shift(total + 2 ** (2 * _WEIGHT_BITS - 1), 2 * _WEIGHT_BITS), tf.uint8)
