"""TensorProto coding against TensorFlow's own, and messages that must not be believed."""

from __future__ import annotations

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tfaug.serving.codec import NUMPY_DTYPES, conform, from_proto, to_proto
from tfaug.serving.errors import ServingError
from tfaug.serving.stubs import meta_graph_pb2, tensor_pb2, types_pb2

RNG = np.random.default_rng(0)


def example(enum: int, shape: tuple[int, ...]) -> np.ndarray:
    """Make an array that uses a type's range."""
    dtype = NUMPY_DTYPES[enum]
    if enum == types_pb2.DT_STRING:
        array = np.empty(shape, dtype=object)
        array[...] = "größe".encode()
        return array
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return RNG.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    if dtype.kind == "b":
        return RNG.random(shape) < 0.5
    return (RNG.normal(size=shape) + (1j * RNG.normal(size=shape) if dtype.kind == "c" else 0)).astype(dtype)


@pytest.mark.parametrize("enum", NUMPY_DTYPES, ids=types_pb2.DataType.Name)
@pytest.mark.parametrize("shape", [(), (0, 3), (2, 3)], ids=str)
class TestEveryType:
    def test_tensorflow_reads_what_is_written(self, enum: int, shape: tuple[int, ...]) -> None:
        array = example(enum, shape)
        decoded = tf.make_ndarray(to_proto(array))
        assert decoded.dtype == array.dtype and decoded.shape == shape
        np.testing.assert_array_equal(decoded, array)

    def test_reads_both_encodings_of_tensorflow(self, enum: int, shape: tuple[int, ...]) -> None:
        array = example(enum, shape)
        packed = tf.make_tensor_proto(array, dtype=enum)
        listed = tensor_pb2.TensorProto(dtype=packed.dtype, tensor_shape=packed.tensor_shape)
        if enum == types_pb2.DT_STRING or array.size == 0:
            listed = packed
        elif array.dtype.kind == "c":
            values = listed.scomplex_val if enum == types_pb2.DT_COMPLEX64 else listed.dcomplex_val
            values.extend(part for value in array.ravel() for part in (value.real, value.imag))
        elif enum in (types_pb2.DT_HALF, types_pb2.DT_BFLOAT16):
            listed.half_val.extend(array.ravel().view(np.uint16).tolist())
        else:
            fields = {"f": "float_val", "d": "double_val", "?": "bool_val", "q": "int64_val", "l": "int64_val"}
            fields |= {"I": "uint32_val", "L": "uint64_val", "Q": "uint64_val"}
            getattr(listed, fields.get(array.dtype.char, "int_val")).extend(array.ravel().tolist())
        for proto in (packed, listed):
            decoded = from_proto(proto)
            assert decoded.dtype == array.dtype and decoded.shape == shape
            np.testing.assert_array_equal(decoded, array)


def test_odd_memory_layouts_and_byte_orders_are_sent_right() -> None:
    array = np.arange(12, dtype=">i4").reshape(3, 4)[:, ::2].T
    np.testing.assert_array_equal(from_proto(to_proto(array)), array)


def test_str_arrays_are_sent_as_utf8() -> None:
    assert from_proto(to_proto(np.array(["ä", "b"]))).tolist() == ["ä".encode(), b"b"]


def test_short_value_list_is_filled_with_its_last_value() -> None:
    proto = tf.make_tensor_proto(np.zeros((2, 3), np.float32))
    proto.ClearField("tensor_content")
    proto.float_val.extend([1.0, 2.0])
    np.testing.assert_array_equal(from_proto(proto), tf.make_ndarray(proto))
    np.testing.assert_array_equal(from_proto(proto), [[1, 2, 2], [2, 2, 2]])


def proto(enum: int, shape: list[int], **fields: object) -> tensor_pb2.TensorProto:
    """Make a message by hand."""
    message = tensor_pb2.TensorProto(dtype=enum, **fields)  # type: ignore[arg-type]
    message.tensor_shape.SetInParent()
    for size in shape:
        message.tensor_shape.dim.add(size=size)
    return message


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (proto(types_pb2.DT_FLOAT, [1 << 20, 1 << 20], float_val=[1.0]), "at most 1000 allowed"),
        (proto(types_pb2.DT_FLOAT, [2], tensor_content=b"1234567"), "needs 8 bytes of content, got 7"),
        (proto(types_pb2.DT_FLOAT, [2]), "needs 2 values, got 0"),
        (proto(types_pb2.DT_FLOAT, [1], float_val=[1.0, 2.0]), "needs 1 values, got 2"),
        (proto(types_pb2.DT_UINT8, [1], int_val=[256]), "allowed 0 to 255"),
        (proto(types_pb2.DT_FLOAT, [-1], float_val=[1.0]), r"known shape, got \[\?\]"),
        (proto(types_pb2.DT_STRING, [1], tensor_content=b"x"), "string_val"),
        (proto(types_pb2.DT_RESOURCE, [1]), "DT_RESOURCE"),
        (proto(types_pb2.DT_INVALID, [1]), "DT_INVALID"),
        (proto(types_pb2.DT_COMPLEX64, [1], scomplex_val=[1.0]), "DT_COMPLEX64|complex64"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_message_that_lies_about_itself_is_refused(message: tensor_pb2.TensorProto, says: str) -> None:
    with pytest.raises(ServingError, match=says) as caught:
        from_proto(message, max_bytes=1000)
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("array", [np.array([None]), np.array(["2020-01-01"], "M8[D]")], ids=["object", "date"])
def test_array_that_no_tensor_holds_is_refused(array: np.ndarray) -> None:
    with pytest.raises(ServingError, match="INVALID_ARGUMENT"):
        to_proto(array)


def info(enum: int, shape: list[int] | None) -> meta_graph_pb2.TensorInfo:
    """Make a signature's tensor; None is an unknown rank."""
    result = meta_graph_pb2.TensorInfo(name="x:0", dtype=enum)
    result.tensor_shape.unknown_rank = shape is None
    for size in shape or []:
        result.tensor_shape.dim.add(size=size)
    return result


def test_uint8_is_widened_for_float32_without_loss() -> None:
    array = np.arange(256, dtype=np.uint8)
    widened = conform(array, info(types_pb2.DT_FLOAT, [-1]), "x")
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, np.arange(256))


@pytest.mark.parametrize(
    ("sent", "enum"),
    [("float64", "FLOAT"), ("int32", "FLOAT"), ("int8", "FLOAT"), ("float32", "UINT8"), ("uint8", "INT32")],
)
def test_any_other_type_is_refused_and_both_types_are_named(sent: str, enum: str) -> None:
    target = types_pb2.DataType.Value(f"DT_{enum}")
    with pytest.raises(ServingError, match=f"'x' must be {NUMPY_DTYPES[target].name} .*, got {sent} \\[4\\]"):
        conform(np.zeros(4, sent), info(target, [-1]), "x")


def test_unknown_rank_takes_any_shape() -> None:
    array = np.zeros((1, 2, 3), np.int32)
    assert conform(array, info(types_pb2.DT_INT32, None), "x") is array
