"""The JSON of TensorFlow Serving's REST API: rows (`instances`) or columns (`inputs`) in, arrays, and JSON out."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from .codec import NUMPY_DTYPES, complete_empty, dtype_name, format_info, spec_shape
from .errors import invalid
from .stubs import meta_graph_pb2, types_pb2

_MAX_RANK = 32  # numpy's limit


def parse_body(body: bytes) -> dict[str, Any]:
    """Parse a request body, NaN and Infinity included.

    Raises:
        ServingError: INVALID_ARGUMENT for anything but a JSON object with one of `instances` and `inputs`.
    """
    try:
        request = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(request, dict):
        raise invalid(f"the request body must be a JSON object, got {_kind(request)}")
    if ("instances" in request) == ("inputs" in request):
        raise invalid(f"the request must have exactly one of the keys 'instances' and 'inputs', got {sorted(request)}")
    if not isinstance(request.get("signature_name", ""), str):
        raise invalid(f"'signature_name' must be a string, got {_kind(request['signature_name'])}")
    return request


def decode_inputs(request: Mapping[str, Any], signature: meta_graph_pb2.SignatureDef) -> dict[str, np.ndarray]:
    """Turn a parsed body into arrays of the signature's types.

    Args:
        request: What `parse_body` returned.
        signature: The signature that will run.

    Returns:
        Input name -> array. Names that the signature lacks are passed on as they are, for the model to refuse.

    Raises:
        ServingError: INVALID_ARGUMENT with what was sent and what is allowed.
    """
    columns = _rows_to_columns(request["instances"], signature) if "instances" in request else request["inputs"]
    if not isinstance(columns, dict) or set(columns) == {"b64"}:
        columns = {_only_input(signature): columns}
    arrays = {}
    for name, value in columns.items():
        info = signature.inputs.get(name) if name in signature.inputs else None
        arrays[name] = np.empty(0, object) if info is None else _to_array(value, info, name)
    return arrays


def _rows_to_columns(instances: Any, signature: meta_graph_pb2.SignatureDef) -> dict[str, Any]:
    """Turn a list of rows into one list per input."""
    if not isinstance(instances, list) or not instances:
        what = "an empty list" if instances == [] else _kind(instances)
        raise invalid(f"'instances' must be a list of at least one instance, got {what}")
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in instances]
    if not any(named):
        return {_only_input(signature): instances}
    if not all(named):
        raise invalid("'instances' must be all objects or all values, got both")
    names = set(instances[0])
    for index, row in enumerate(instances):
        if set(row) != names:
            raise invalid(f"instance {index} has the keys {sorted(row)}, instance 0 has {sorted(names)}")
    return {name: [row[name] for row in instances] for name in instances[0]}


def _only_input(signature: meta_graph_pb2.SignatureDef) -> str:
    """Return the name a plain value is for."""
    names = sorted(signature.inputs)
    if len(names) != 1:
        raise invalid(f"a value without a name fits a signature with one input; this one has {{{', '.join(names)}}}")
    return names[0]


def _to_array(value: Any, info: meta_graph_pb2.TensorInfo, name: str) -> np.ndarray:
    """Turn nested lists into an array of the signature's type."""
    if info.dtype == types_pb2.DT_STRING:
        return _to_strings(value, name)
    if info.dtype not in NUMPY_DTYPES or NUMPY_DTYPES[info.dtype].kind == "c":
        raise invalid(f"input {name!r} is {dtype_name(info.dtype)}, which JSON cannot carry")
    dtype = NUMPY_DTYPES[info.dtype]
    try:
        array = np.asarray(value)
    except (ValueError, OverflowError):
        raise invalid(f"input {name!r}: the nested lists must all have the same lengths") from None
    if array.size == 0 and array.dtype.kind == "f":  # an empty list has no type of its own
        return complete_empty(array.astype(dtype), spec_shape(info))
    accepted = {"b": "b", "i": "iu", "u": "iu"}.get(dtype.kind, "iuf")
    if array.dtype.kind not in accepted:
        got = {"b": "booleans", "f": "fractions", "U": "strings"}.get(array.dtype.kind, "mixed or too large values")
        raise invalid(f"input {name!r} must be {format_info(info)}, got {got}")
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise invalid(
                f"input {name!r} must be {dtype.name} ({limits.min} to {limits.max}), "
                f"got values from {array.min()} to {array.max()}"
            )
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype)
    except FloatingPointError:
        raise invalid(f"input {name!r} holds a number too large for {dtype.name}") from None


def _to_strings(value: Any, name: str) -> np.ndarray:
    """Turn nested lists of strings and {"b64": ...} into an object array of bytes."""
    shape: list[int] = []
    probe = value
    while isinstance(probe, list):
        shape.append(len(probe))
        probe = probe[0] if probe else None
    if len(shape) > _MAX_RANK:
        raise invalid(f"input {name!r} has {len(shape)} nested lists; at most {_MAX_RANK} allowed")
    flat: list[bytes] = []

    def walk(item: Any, depth: int) -> None:
        if depth < len(shape):
            if not isinstance(item, list) or len(item) != shape[depth]:
                raise invalid(f"input {name!r}: the nested lists must all have the same lengths")
            for child in item:
                walk(child, depth + 1)
        else:
            flat.append(_to_bytes(item, name))

    walk(value, 0)
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)


def _to_bytes(item: Any, name: str) -> bytes:
    """Decode one string."""
    if isinstance(item, str):
        return item.encode()
    if isinstance(item, dict) and set(item) == {"b64"} and isinstance(item["b64"], str):
        try:
            return base64.b64decode(item["b64"], validate=True)
        except binascii.Error as error:
            raise invalid(f"input {name!r}: the b64 value is not base64: {error}") from None
    raise invalid(f'input {name!r} must hold strings or {{"b64": "..."}} objects, got {_kind(item)}')


def encode_outputs(outputs: Mapping[str, np.ndarray], row_format: bool) -> dict[str, Any]:
    """Turn a model's outputs into the body of an answer.

    Args:
        outputs: Output name -> array.
        row_format: True for {"predictions": [...]}, one entry per row; False for {"outputs": ...}, one per output.
            With a single output its name is left out, as TensorFlow Serving does.

    Raises:
        ServingError: INVALID_ARGUMENT where rows are wanted and the outputs do not have as many of them.
    """
    lists = {name: _to_lists(name, array) for name, array in outputs.items()}
    if not row_format:
        return {"outputs": next(iter(lists.values())) if len(lists) == 1 else lists}
    sizes = {name: list(array.shape) for name, array in outputs.items()}
    if len({shape[0] if shape else None for shape in sizes.values()}) != 1 or not all(sizes.values()):
        raise invalid(f"rows need outputs with the same first dimension, got {sizes}: ask with 'inputs' instead")
    if len(lists) == 1:
        return {"predictions": next(iter(lists.values()))}
    return {"predictions": [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]}


def _to_lists(name: str, array: np.ndarray) -> Any:
    """Turn an array into nested lists; bytes as {"b64": ...} where the name ends in _bytes or they are no UTF-8."""
    if array.dtype != object:
        if array.dtype.kind == "c":
            raise invalid(f"output {name!r} is {array.dtype.name}, which JSON cannot carry")
        return array.tolist() if array.dtype.kind != "V" else array.astype(np.float32).tolist()

    def convert(item: Any) -> Any:
        if isinstance(item, list):
            return [convert(child) for child in item]
        item = item.encode() if isinstance(item, str) else item
        if not name.endswith("_bytes"):
            try:
                return item.decode()
            except UnicodeDecodeError:
                pass
        return {"b64": base64.b64encode(item).decode()}

    return convert(array.tolist())


def _kind(value: Any) -> str:
    """Name a JSON value's type."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")
