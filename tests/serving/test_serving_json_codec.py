"""Rows and columns of the REST API, by hand-derived examples."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from tfaug.serving.errors import ServingError
from tfaug.serving.json_codec import decode_inputs, encode_outputs, parse_body
from tfaug.serving.stubs import meta_graph_pb2, types_pb2


def signature(**inputs: int) -> meta_graph_pb2.SignatureDef:
    """Make a signature with inputs of these types and unknown rank."""
    result = meta_graph_pb2.SignatureDef()
    for name, enum in inputs.items():
        result.inputs[name].dtype = enum
        result.inputs[name].tensor_shape.unknown_rank = True
    return result


FLOAT = signature(x=types_pb2.DT_FLOAT)
PAIR = signature(x=types_pb2.DT_FLOAT, seed=types_pb2.DT_INT64)
TEXT = signature(text=types_pb2.DT_STRING)


def decode(body: Any, of: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    """Parse and decode."""
    return decode_inputs(parse_body(json.dumps(body).encode()), of)


@pytest.mark.parametrize(
    "body",
    [
        {"instances": [[1, 2.5], [3, 4]]},
        {"instances": [{"x": [1, 2.5]}, {"x": [3, 4]}]},
        {"inputs": [[1, 2.5], [3, 4]]},
        {"inputs": {"x": [[1, 2.5], [3, 4]]}},
    ],
    ids=["rows", "named rows", "column", "named column"],
)
def test_all_four_forms_say_the_same(body: Any) -> None:
    (array,) = decode(body, FLOAT).values()
    assert array.dtype == np.float32
    assert array.tolist() == [[1.0, 2.5], [3.0, 4.0]]


def test_two_inputs_as_rows_and_as_columns() -> None:
    for body in (
        {"instances": [{"x": [1], "seed": 7}, {"x": [2], "seed": 2**62}]},
        {"inputs": {"x": [[1], [2]], "seed": [7, 2**62]}},
    ):
        arrays = decode(body, PAIR)
        assert arrays["x"].tolist() == [[1.0], [2.0]]
        assert arrays["seed"].dtype == np.int64 and arrays["seed"].tolist() == [7, 2**62]


def test_strings_and_base64_become_bytes() -> None:
    for body in ({"instances": ["ä", {"b64": "/wA="}]}, {"inputs": {"text": ["ä", {"b64": "/wA="}]}}):
        assert decode(body, TEXT)["text"].tolist() == ["ä".encode(), b"\xff\x00"]
    assert decode({"inputs": {"b64": "/wA="}}, TEXT)["text"].tolist() == b"\xff\x00"  # one scalar, not a named column
    assert decode({"inputs": [["a"], ["b"]]}, TEXT)["text"].shape == (2, 1)


def test_nan_and_infinity_are_read_and_written() -> None:
    request = parse_body(b'{"instances": [NaN, Infinity, -Infinity]}')
    array = decode_inputs(request, FLOAT)["x"]
    assert math.isnan(array[0]) and array[1:].tolist() == [math.inf, -math.inf]
    assert json.dumps(encode_outputs({"y": array}, row_format=True)) == '{"predictions": [NaN, Infinity, -Infinity]}'


@pytest.mark.parametrize(
    ("body", "of", "says"),
    [
        ([1], FLOAT, "must be a JSON object, got a list"),
        ({}, FLOAT, "exactly one of the keys 'instances' and 'inputs'"),
        ({"instances": [1], "inputs": [1]}, FLOAT, "exactly one of the keys"),
        ({"instances": [1], "signature_name": 3}, FLOAT, "'signature_name' must be a string, got a number"),
        ({"instances": []}, FLOAT, "at least one instance, got an empty list"),
        ({"instances": {"x": 1}}, FLOAT, "at least one instance, got an object"),
        ({"instances": [{"x": 1}, 2]}, FLOAT, "all objects or all values"),
        ({"instances": [{"x": 1, "seed": 1}, {"x": 1}]}, PAIR, r"instance 1 has the keys \['x'\]"),
        ({"instances": [1, 2]}, PAIR, "this one has {seed, x}"),
        ({"instances": [[1], [2, 3]]}, FLOAT, "same lengths"),
        ({"instances": ["1"]}, FLOAT, "must be float32 of unknown rank, got strings"),
        ({"instances": [True]}, FLOAT, "got booleans"),
        ({"instances": [1e39]}, FLOAT, "too large for float32"),
        ({"inputs": {"x": [1], "seed": [1.5]}}, PAIR, "'seed' must be int64 .* got fractions"),
        ({"inputs": {"x": [1], "seed": [2**63]}}, PAIR, "got values from 9223372036854775808"),
        ({"instances": [300]}, signature(x=types_pb2.DT_UINT8), r"uint8 \(0 to 255\), got values from 300"),
        ({"instances": [1]}, signature(x=types_pb2.DT_BOOL), "must be bool"),
        ({"instances": [1]}, signature(x=types_pb2.DT_COMPLEX64), "JSON cannot carry"),
        ({"instances": [1]}, TEXT, "must hold strings or .* got a number"),
        ({"instances": [{"b64": "?"}]}, TEXT, "not base64"),
        ({"instances": [["a"], ["b", "c"]]}, TEXT, "same lengths"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refusals_say_what_was_sent_and_what_is_allowed(body: Any, of: Any, says: str) -> None:
    with pytest.raises(ServingError, match=says):
        decode(body, of)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000], ids=["empty", "cut", "not UTF-8", "deep"])
def test_broken_json_is_refused(body: bytes) -> None:
    with pytest.raises(ServingError, match="JSON Parse error"):
        parse_body(body)


def test_outputs_as_rows_and_columns() -> None:
    one = {"y": np.array([[1.5], [2.5]], np.float32)}
    two = one | {"n": np.array([3, 4])}
    assert encode_outputs(one, row_format=True) == {"predictions": [[1.5], [2.5]]}
    assert encode_outputs(one, row_format=False) == {"outputs": [[1.5], [2.5]]}
    assert encode_outputs(two, row_format=True) == {"predictions": [{"y": [1.5], "n": 3}, {"y": [2.5], "n": 4}]}
    assert encode_outputs(two, row_format=False) == {"outputs": {"y": [[1.5], [2.5]], "n": [3, 4]}}


def test_bytes_outputs_are_base64_by_name_or_need() -> None:
    values = np.array([b"a", b"\xff"], dtype=object)
    assert encode_outputs({"y": values}, row_format=True) == {"predictions": ["a", {"b64": "/w=="}]}
    assert encode_outputs({"y_bytes": values}, row_format=True) == {"predictions": [{"b64": "YQ=="}, {"b64": "/w=="}]}


@pytest.mark.parametrize("shapes", [((), (2,)), ((3,), (2,)), ((),)], ids=str)
def test_rows_of_outputs_without_common_rows_are_refused(shapes: tuple[tuple[int, ...], ...]) -> None:
    with pytest.raises(ServingError, match="same first dimension"):
        encode_outputs({f"y{i}": np.zeros(shape) for i, shape in enumerate(shapes)}, row_format=True)
