"""numpy arrays to TensorProto and back, without running TensorFlow."""

from __future__ import annotations

import math
from typing import Any

import ml_dtypes
import numpy as np

from .errors import invalid
from .stubs import meta_graph_pb2, tensor_pb2, types_pb2

# DataType number -> numpy type. Strings are object arrays of bytes.
NUMPY_DTYPES: dict[int, np.dtype[Any]] = {
    types_pb2.DT_FLOAT: np.dtype(np.float32),
    types_pb2.DT_DOUBLE: np.dtype(np.float64),
    types_pb2.DT_HALF: np.dtype(np.float16),
    types_pb2.DT_BFLOAT16: np.dtype(ml_dtypes.bfloat16),
    types_pb2.DT_INT8: np.dtype(np.int8),
    types_pb2.DT_INT16: np.dtype(np.int16),
    types_pb2.DT_INT32: np.dtype(np.int32),
    types_pb2.DT_INT64: np.dtype(np.int64),
    types_pb2.DT_UINT8: np.dtype(np.uint8),
    types_pb2.DT_UINT16: np.dtype(np.uint16),
    types_pb2.DT_UINT32: np.dtype(np.uint32),
    types_pb2.DT_UINT64: np.dtype(np.uint64),
    types_pb2.DT_BOOL: np.dtype(np.bool_),
    types_pb2.DT_COMPLEX64: np.dtype(np.complex64),
    types_pb2.DT_COMPLEX128: np.dtype(np.complex128),
    types_pb2.DT_STRING: np.dtype(object),
}
_ENUMS = {dtype: enum for enum, dtype in NUMPY_DTYPES.items()}
_VALUE_FIELDS: dict[int, str] = {
    types_pb2.DT_FLOAT: "float_val",
    types_pb2.DT_DOUBLE: "double_val",
    types_pb2.DT_HALF: "half_val",
    types_pb2.DT_BFLOAT16: "half_val",
    types_pb2.DT_INT8: "int_val",
    types_pb2.DT_INT16: "int_val",
    types_pb2.DT_INT32: "int_val",
    types_pb2.DT_INT64: "int64_val",
    types_pb2.DT_UINT8: "int_val",
    types_pb2.DT_UINT16: "int_val",
    types_pb2.DT_UINT32: "uint32_val",
    types_pb2.DT_UINT64: "uint64_val",
    types_pb2.DT_BOOL: "bool_val",
    types_pb2.DT_COMPLEX64: "scomplex_val",
    types_pb2.DT_COMPLEX128: "dcomplex_val",
    types_pb2.DT_STRING: "string_val",
}


def dtype_name(enum: int) -> str:
    """Return a data type's plain name: 'float32', 'string', or TensorFlow's own for a type without arrays."""
    if enum == types_pb2.DT_STRING:
        return "string"
    if enum in NUMPY_DTYPES:
        return NUMPY_DTYPES[enum].name
    try:
        return types_pb2.DataType.Name(enum)
    except ValueError:
        return f"type {enum}"


def to_proto(array: np.ndarray) -> tensor_pb2.TensorProto:
    """Encode an array; numbers go as raw little-endian bytes, the fast form every server and client reads.

    Args:
        array: Any shape; numbers, booleans, or strings (str is sent as UTF-8, bytes as they are).

    Returns:
        The message.

    Raises:
        ServingError: INVALID_ARGUMENT for an array that no TensorFlow type holds.
    """
    array = np.asarray(array)
    if array.dtype.kind in "USO":
        flat = [value.encode() if isinstance(value, str) else value for value in array.ravel().tolist()]
        wrong = sorted({type(value).__name__ for value in flat if not isinstance(value, bytes)})
        if wrong:
            raise invalid(f"an object array may hold str and bytes only, got {', '.join(wrong)}")
        proto = tensor_pb2.TensorProto(dtype=types_pb2.DT_STRING, string_val=flat)
    else:
        native = array.dtype.newbyteorder("=")
        if native not in _ENUMS:
            allowed = ", ".join(dtype_name(enum) for enum in NUMPY_DTYPES)
            raise invalid(f"arrays of {array.dtype} cannot be sent; allowed: {allowed}")
        # A scalar or an odd layout is made contiguous by tobytes itself.
        proto = tensor_pb2.TensorProto(dtype=_ENUMS[native], tensor_content=array.astype(native, copy=False).tobytes())
    proto.tensor_shape.SetInParent()
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


def from_proto(proto: tensor_pb2.TensorProto, *, max_bytes: int = 1 << 30, name: str = "tensor") -> np.ndarray:
    """Decode a tensor, in either of its two encodings.

    A list of values shorter than the shape is filled up with its last value, as TensorFlow does; `max_bytes` keeps a
    message of a few bytes from claiming all memory that way.

    Args:
        proto: The message.
        max_bytes: Largest array to make, in bytes.
        name: What to call it in an error.

    Returns:
        An array of the message's own type; strings as an object array of bytes.

    Raises:
        ServingError: INVALID_ARGUMENT for an unknown type, an unknown shape, or content that does not fill the shape.
    """
    if proto.dtype not in NUMPY_DTYPES:
        raise invalid(f"{name} has the type {dtype_name(proto.dtype)}, which cannot be sent")
    dtype = NUMPY_DTYPES[proto.dtype]
    shape = tuple(dim.size for dim in proto.tensor_shape.dim)
    if proto.tensor_shape.unknown_rank or any(size < 0 for size in shape):
        raise invalid(f"{name} must have a known shape, got {format_shape(proto.tensor_shape)}")
    count = math.prod(shape)
    if count * dtype.itemsize > max_bytes:
        raise invalid(
            f"{name} of shape {list(shape)} needs {count * dtype.itemsize} bytes; at most {max_bytes} allowed"
        )
    if proto.tensor_content:
        if proto.dtype == types_pb2.DT_STRING:
            raise invalid(f"{name} sends strings as tensor_content; they go into string_val")
        if len(proto.tensor_content) != count * dtype.itemsize:
            raise invalid(
                f"{name} of shape {list(shape)} and type {dtype_name(proto.dtype)} needs {count * dtype.itemsize} "
                f"bytes of content, got {len(proto.tensor_content)}"
            )
        # A copy, because the message's buffer is read-only and may go away.
        return np.frombuffer(proto.tensor_content, dtype=dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    values = getattr(proto, _VALUE_FIELDS[proto.dtype])
    try:
        flat = _values_to_array(values, proto.dtype, dtype)
    except (OverflowError, ValueError) as error:
        raise invalid(f"{name} holds a value that {dtype_name(proto.dtype)} cannot: {error}") from None
    if len(flat) > count or (len(flat) == 0 and count > 0):
        raise invalid(f"{name} of shape {list(shape)} needs {count} values, got {len(flat)}")
    if len(flat) < count:
        flat = np.concatenate([flat, np.repeat(flat[-1:], count - len(flat))])
    return flat.reshape(shape)


def _values_to_array(values: Any, enum: int, dtype: np.dtype[Any]) -> np.ndarray:
    """Turn a repeated field into a flat array."""
    if enum == types_pb2.DT_STRING:
        flat = np.empty(len(values), dtype=object)
        flat[:] = list(values)
        return flat
    if enum in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):  # bit patterns
        return _integers(values, np.dtype(np.uint16)).view(dtype)
    if enum in (types_pb2.DT_COMPLEX64, types_pb2.DT_COMPLEX128):  # real and imaginary parts take turns
        part = np.float32 if enum == types_pb2.DT_COMPLEX64 else np.float64
        return np.asarray(values, dtype=part).view(dtype)
    if dtype.kind in "iu":
        return _integers(values, dtype)
    return np.asarray(values, dtype=dtype)


def _integers(values: Any, dtype: np.dtype[Any]) -> np.ndarray:
    """Convert to an integer type, refusing what does not fit."""
    wide = np.asarray(values, dtype=np.uint64 if dtype == np.uint64 else np.int64)
    limits = np.iinfo(dtype)
    if wide.size and (wide.min() < limits.min or wide.max() > limits.max):
        raise ValueError(f"values from {wide.min()} to {wide.max()}; allowed {limits.min} to {limits.max}")
    return wide.astype(dtype)


def spec_shape(info: meta_graph_pb2.TensorInfo) -> tuple[int | None, ...] | None:
    """Return a signature's shape: None for an unknown rank, None entries for free dimensions."""
    if info.tensor_shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim)


def complete_empty(array: np.ndarray, shape: tuple[int | None, ...] | None) -> np.ndarray:
    """Give an array made from an empty list the dimensions that JSON cannot say: [] for [?, 3] becomes [0, 3]."""
    if array.size or shape is None or array.ndim >= len(shape):
        return array
    return array.reshape(array.shape + tuple(size or 0 for size in shape[array.ndim :]))


def format_shape(shape: Any) -> str:
    """Write a TensorShapeProto for a person: [?, 32, 32, 3]."""
    if shape.unknown_rank:
        return "of unknown rank"
    return "[" + ", ".join("?" if dim.size < 0 else str(dim.size) for dim in shape.dim) + "]"


def format_info(info: meta_graph_pb2.TensorInfo) -> str:
    """Write a signature's tensor for a person: float32 [?, 32, 32, 3]."""
    return f"{dtype_name(info.dtype)} {format_shape(info.tensor_shape)}"


def conform(array: np.ndarray, info: meta_graph_pb2.TensorInfo, name: str) -> np.ndarray:
    """Check an array against a signature's tensor, and widen uint8 to float32 where the signature wants that.

    The widening is an extension to TensorFlow Serving: images are uint8 by nature, every uint8 is exactly a float32,
    and a quarter of the bytes travel. No other type is converted.

    Raises:
        ServingError: INVALID_ARGUMENT with what was sent and what is allowed.
    """
    expected = NUMPY_DTYPES.get(info.dtype)
    if expected is None:
        raise invalid(f"input {name!r} is {format_info(info)}, a type this server cannot feed")
    shape = spec_shape(info)
    fits = shape is None or (
        len(shape) == array.ndim
        and all(want is None or want == got for want, got in zip(shape, array.shape, strict=True))
    )
    widen = array.dtype == np.uint8 and info.dtype == types_pb2.DT_FLOAT
    if not fits or (array.dtype != expected and not widen):
        got = "string" if array.dtype == object else array.dtype.name
        also = " (uint8 is accepted too)" if info.dtype == types_pb2.DT_FLOAT else ""
        raise invalid(
            f"input {name!r} must be {format_info(info)}{also}, got {got} [{', '.join(map(str, array.shape))}]"
        )
    return array.astype(np.float32) if widen else array
