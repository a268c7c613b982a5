"""The running server, asked with the official stubs and with plain HTTP, against the SavedModel called directly."""

from __future__ import annotations

import gzip
import http.client
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)
from tfaug.serving.client import RunningServer
from tfaug.serving.health import HealthCheckRequest, HealthCheckResponse

TIMEOUT_S = 60.0


@pytest.fixture(scope="module")
def channel(server: RunningServer) -> Iterator[grpc.Channel]:
    """A plain channel without a message limit of its own."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(server.grpc_target, options=options) as opened:
        yield opened


@pytest.fixture(scope="module")
def prediction(channel: grpc.Channel) -> Any:
    """The official stub."""
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def model_service(channel: grpc.Channel) -> Any:
    """The official stub."""
    return model_service_pb2_grpc.ModelServiceStub(channel)


def predict_request(
    inputs: dict[str, Any], *, model: str = "tiny", signature: str = "", version: int | None = None, **fields: Any
) -> predict_pb2.PredictRequest:
    """Make a request the way TensorFlow Serving's tutorials do."""
    request = predict_pb2.PredictRequest(**fields)
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def post(server: RunningServer, path: str, body: bytes | dict, **headers: str) -> tuple[int, Any]:
    """Send a POST; return status and parsed answer."""
    return ask(server, "POST", path, json.dumps(body).encode() if isinstance(body, dict) else body, headers)


def ask(
    server: RunningServer, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Send a request; return status and parsed answer."""
    connection = http.client.HTTPConnection(server.rest_url.removeprefix("http://"), timeout=TIMEOUT_S)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        assert response.headers.get_content_type() == "application/json"
        return response.status, json.load(response)
    finally:
        connection.close()


class TestGrpcPredict:
    @pytest.mark.parametrize("signature", ["", "serving_default"])
    def test_answers_what_the_saved_model_answers(
        self, prediction: Any, tiny: tuple[Path, Any], images: np.ndarray, signature: str
    ) -> None:
        response = prediction.Predict(predict_request({"images": images}, signature=signature), timeout=TIMEOUT_S)
        expected = tf.saved_model.load(str(tiny[0] / "10")).signatures["serving_default"](images=tf.constant(images))
        assert set(response.outputs) == set(expected) == {"logits", "probs"}
        for name, tensor in expected.items():
            np.testing.assert_array_equal(tf.make_ndarray(response.outputs[name]), tensor.numpy())
        spec = response.model_spec
        assert (spec.name, spec.version.value, spec.signature_name) == ("tiny", 10, "serving_default")

    def test_values_travel_as_float_val_too(self, prediction: Any, tiny: tuple[Path, Any], images: np.ndarray) -> None:
        request = predict_request({"images": images})
        request.inputs["images"].ClearField("tensor_content")
        request.inputs["images"].float_val.extend(images.ravel().tolist())
        logits = tf.make_ndarray(prediction.Predict(request, timeout=TIMEOUT_S).outputs["logits"])
        np.testing.assert_array_equal(logits, tiny[1][10].default(images)["logits"].numpy())

    def test_uint8_images_answer_as_their_float_twins(self, prediction: Any, images: np.ndarray) -> None:
        pixels = images.astype(np.uint8)
        answers = [
            tf.make_ndarray(prediction.Predict(request, timeout=TIMEOUT_S).outputs["logits"])
            for request in (
                predict_request({"images": pixels}),
                predict_request({"images": pixels.astype(np.float32)}),
                predict_request({"images": pixels}, signature="default_uint8"),
            )
        ]
        np.testing.assert_array_equal(answers[0], answers[1])
        np.testing.assert_array_equal(answers[0], answers[2])

    def test_two_inputs_strings_and_scalars(self, prediction: Any) -> None:
        request = predict_request({"x": [[1.0, 2.0]], "seed": np.array([4], np.int64)}, signature="pair")
        assert tf.make_ndarray(prediction.Predict(request, timeout=TIMEOUT_S).outputs["sum"]).tolist() == [7.0]
        request = predict_request({"text": [b"\xff", "ä".encode()]}, signature="echo")
        outputs = prediction.Predict(request, timeout=TIMEOUT_S).outputs
        assert list(outputs["text"].string_val) == list(outputs["raw_bytes"].string_val) == [b"\xff", "ä".encode()]

    def test_empty_batch_gives_an_empty_answer(self, prediction: Any) -> None:
        response = prediction.Predict(
            predict_request({"images": np.zeros((0, 2, 2, 3), np.float32)}), timeout=TIMEOUT_S
        )
        assert tf.make_ndarray(response.outputs["probs"]).shape == (0, 3)

    def test_output_filter_is_honoured(self, prediction: Any, images: np.ndarray) -> None:
        request = predict_request({"images": images}, output_filter=["probs"])
        assert set(prediction.Predict(request, timeout=TIMEOUT_S).outputs) == {"probs"}

    @pytest.mark.parametrize(
        ("change", "code", "says"),
        [
            ({"model": "x"}, "NOT_FOUND", r"^Servable not found for request: Latest\(x\)$"),
            ({"version": 7}, "NOT_FOUND", r"^Servable not found for request: Specific\(tiny, 7\)$"),
            ({"version": 1}, "NOT_FOUND", r"Specific\(tiny, 1\)"),  # on disk, but not the highest
            ({"model": ""}, "INVALID_ARGUMENT", "names no model"),
            ({"signature": "nope"}, "FAILED_PRECONDITION", '^Serving signature key "nope" not found.* echo, '),
            ({"inputs": {}}, "INVALID_ARGUMENT", "Missing but required: {images}"),
            (
                {"inputs": {"image": [1.0]}},
                "INVALID_ARGUMENT",
                r"Sent extra: {image}. Missing but required: {images}. Allowed: {images: float32 \[\?, 2, 2, 3\]}",
            ),
            ({"inputs": {"images": np.zeros((1, 2, 2, 3))}}, "INVALID_ARGUMENT", "must be float32 .* got float64"),
            ({"inputs": {"images": ["x"]}}, "INVALID_ARGUMENT", "must be float32 .* got string"),
            (
                {"inputs": {"images": np.zeros((1, 28, 28, 1), np.float32)}},
                "INVALID_ARGUMENT",
                r"must be float32 \[\?, 2, 2, 3\] .* got float32 \[1, 28, 28, 1\]",
            ),
            ({"inputs": {"images": np.zeros((2, 2, 3), np.float32)}}, "INVALID_ARGUMENT", r"got float32 \[2, 2, 3\]"),
            ({"output_filter": ["prob"]}, "INVALID_ARGUMENT", "not found in signature: prob.*{logits, probs}"),
            ({"output_filter": ["probs", "probs"]}, "INVALID_ARGUMENT", "duplicate output tensor alias"),
            (
                {"signature": "fails", "inputs": {"index": np.array([11], np.int32)}},
                "INVALID_ARGUMENT",
                "index must be below 10",
            ),
            (
                {"signature": "large", "inputs": {"size": np.array(-1, np.int32)}},
                "INVALID_ARGUMENT",
                "-1",
            ),
        ],
        ids=lambda value: repr(value)[:40] if isinstance(value, dict) else "",
    )
    def test_error_codes(
        self, prediction: Any, images: np.ndarray, change: dict[str, Any], code: str, says: str
    ) -> None:
        request = predict_request(**({"inputs": {"images": images}} | change))
        with pytest.raises(grpc.RpcError) as caught:
            prediction.Predict(request, timeout=TIMEOUT_S)
        assert caught.value.code().name == code
        assert re.search(says, caught.value.details()), caught.value.details()

    def test_long_error_still_arrives(self, prediction: Any, images: np.ndarray) -> None:
        request = predict_request({f"ä{i:05d}": [1.0] for i in range(3000)})
        with pytest.raises(grpc.RpcError) as caught:
            prediction.Predict(request, timeout=TIMEOUT_S)
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "Sent: {ä00000" in caught.value.details()

    def test_message_over_the_limit_is_refused_and_the_server_lives(
        self, prediction: Any, images: np.ndarray, max_message_mb: int
    ) -> None:
        too_large = np.zeros(((max_message_mb << 20) // 48 + 1, 2, 2, 3), np.float32)
        with pytest.raises(grpc.RpcError) as caught:
            prediction.Predict(predict_request({"images": too_large}), timeout=TIMEOUT_S)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        prediction.Predict(predict_request({"images": images}), timeout=TIMEOUT_S)

    def test_answer_over_the_limit_is_refused(self, prediction: Any, max_message_mb: int) -> None:
        def ask_for(size: int) -> Any:
            request = predict_request({"size": np.array(size, np.int32)}, signature="large")
            return prediction.Predict(request, timeout=TIMEOUT_S)

        assert len(ask_for((max_message_mb << 20) - 1000).outputs["zeros"].tensor_content) > 4_000_000
        with pytest.raises(grpc.RpcError) as caught:
            ask_for((max_message_mb << 20) + 1)
        assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED

    def test_deadline_ends_the_call_and_frees_the_server(self, prediction: Any, images: np.ndarray) -> None:
        endless = predict_request({"steps": np.array(2**31 - 1, np.int32)}, signature="slow")
        calls = [prediction.Predict.future(endless, timeout=0.5) for _ in range(40)]  # more than there are threads
        for call in calls:
            assert call.exception().code() == grpc.StatusCode.DEADLINE_EXCEEDED
        prediction.Predict(predict_request({"images": images}), timeout=TIMEOUT_S)

    def test_many_clients_each_get_their_own_answer(
        self, server: RunningServer, prediction: Any, tiny: tuple[Path, Any]
    ) -> None:
        batches = [np.full((1 + i % 3, 2, 2, 3), i, np.float32) for i in range(64)]

        def over_grpc(batch: np.ndarray) -> np.ndarray:
            response = prediction.Predict(predict_request({"images": batch}), timeout=TIMEOUT_S)
            return tf.make_ndarray(response.outputs["logits"])

        def over_rest(batch: np.ndarray) -> np.ndarray:
            code, answer = post(server, "/v1/models/tiny:predict", {"inputs": batch.tolist()})
            assert code == 200
            return np.array(answer["outputs"]["logits"], np.float32)

        with ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(over_grpc, batches)), list(pool.map(over_rest, batches))
        for batch, *logits in zip(batches, *answers, strict=True):
            expected = tiny[1][10].default(batch)["logits"].numpy()
            np.testing.assert_array_equal(logits[0], expected)
            np.testing.assert_array_equal(logits[1], expected)


class TestGrpcMetadataStatusHealth:
    def test_metadata_holds_the_signatures(self, prediction: Any) -> None:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "tiny"
        response = prediction.GetModelMetadata(request, timeout=TIMEOUT_S)
        assert (response.model_spec.name, response.model_spec.version.value) == ("tiny", 10)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        assert response.metadata["signature_def"].Unpack(signatures)
        names = {"serving_default", "pair", "echo", "whole", "slow", "fails", "large", "default_uint8"}
        assert set(signatures.signature_def) == names
        definition = signatures.signature_def["serving_default"]
        assert definition.method_name == "tensorflow/serving/predict"
        assert [dim.size for dim in definition.inputs["images"].tensor_shape.dim] == [-1, 2, 2, 3]
        assert definition.inputs["images"].dtype == tf.float32.as_datatype_enum

    @pytest.mark.parametrize(
        ("model", "fields", "code"),
        [
            ("tiny", [], "INVALID_ARGUMENT"),
            ("tiny", ["weights"], "INVALID_ARGUMENT"),
            ("x", ["signature_def"], "NOT_FOUND"),
        ],
    )
    def test_metadata_error_codes(self, prediction: Any, model: str, fields: list[str], code: str) -> None:
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
        request.model_spec.name = model
        with pytest.raises(grpc.RpcError) as caught:
            prediction.GetModelMetadata(request, timeout=TIMEOUT_S)
        assert caught.value.code().name == code

    def test_status_lists_the_loaded_version(self, model_service: Any) -> None:
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = "tiny"
        (status,) = model_service.GetModelStatus(request, timeout=TIMEOUT_S).model_version_status
        assert (status.version, status.state) == (10, get_model_status_pb2.ModelVersionStatus.AVAILABLE)
        assert status.status.error_code == 0 and status.status.error_message == ""
        request.model_spec.version.value = 1
        with pytest.raises(grpc.RpcError) as caught:
            model_service.GetModelStatus(request, timeout=TIMEOUT_S)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        request.model_spec.Clear()
        request.model_spec.name = "x"
        with pytest.raises(grpc.RpcError) as caught:
            model_service.GetModelStatus(request, timeout=TIMEOUT_S)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND
        assert caught.value.details() == "Could not find any versions of model x"

    def test_calls_that_are_not_offered_say_so(self, prediction: Any, model_service: Any) -> None:
        for method, request in (
            (prediction.Classify, classification_pb2.ClassificationRequest()),
            (prediction.Regress, regression_pb2.RegressionRequest()),
            (prediction.MultiInference, inference_pb2.MultiInferenceRequest()),
            (model_service.HandleReloadConfigRequest, model_management_pb2.ReloadConfigRequest()),
        ):
            with pytest.raises(grpc.RpcError, match="not offered by this server; it answers Predict") as caught:
                method(request, timeout=TIMEOUT_S)
            assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED

    def test_health_check_by_its_wire_format(self, channel: grpc.Channel) -> None:
        check = channel.unary_unary("/grpc.health.v1.Health/Check")  # raw bytes: field 1 = service, answer 1 = SERVING
        for service in (b"", b"grpc.health.v1.Health", b"tensorflow.serving.PredictionService", b"ModelService"):
            request = b"\x0a" + bytes([len(service)]) + service if service else b""
            assert check(request, timeout=TIMEOUT_S) == b"\x08\x01"
        with pytest.raises(grpc.RpcError) as caught:
            check(b"\x0a\x01x", timeout=TIMEOUT_S)
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND

    def test_health_watch_says_the_state_at_once(self, channel: grpc.Channel) -> None:
        watch = channel.unary_stream(
            "/grpc.health.v1.Health/Watch",
            request_serializer=HealthCheckRequest.SerializeToString,
            response_deserializer=HealthCheckResponse.FromString,
        )
        for service, status in (("", "SERVING"), ("x", "SERVICE_UNKNOWN")):
            stream = watch(HealthCheckRequest(service=service), timeout=TIMEOUT_S)
            assert next(stream).status == HealthCheckResponse.ServingStatus.Value(status)
            stream.cancel()


class TestRest:
    def test_rows_and_columns_answer_what_the_saved_model_answers(
        self, server: RunningServer, tiny: tuple[Path, Any], images: np.ndarray
    ) -> None:
        expected = {name: tensor.numpy() for name, tensor in tiny[1][10].default(images).items()}
        for path in ("/v1/models/tiny:predict", "/v1/models/tiny/versions/10:predict"):
            code, answer = post(server, path, {"instances": images.tolist()})
            assert code == 200 and len(answer["predictions"]) == len(images)
            for name, array in expected.items():
                rows = np.array([row[name] for row in answer["predictions"]], np.float32)
                np.testing.assert_array_equal(rows, array)
            body = {"signature_name": "serving_default", "inputs": {"images": images.tolist()}}
            code, answer = post(server, path, body)
            assert code == 200 and set(answer["outputs"]) == set(expected)
            for name, array in expected.items():
                np.testing.assert_array_equal(np.array(answer["outputs"][name], np.float32), array)

    def test_one_output_is_not_named(self, server: RunningServer) -> None:
        rows = {"signature_name": "pair", "instances": [{"x": [1, 2], "seed": 4}, {"x": [0, 0], "seed": -1}]}
        assert post(server, "/v1/models/tiny:predict", rows) == (200, {"predictions": [7.0, -1.0]})
        columns = {"signature_name": "pair", "inputs": {"x": [[1, 2], [0, 0]], "seed": [4, -1]}}
        assert post(server, "/v1/models/tiny:predict", columns) == (200, {"outputs": [7.0, -1.0]})

    def test_bytes_go_in_and_come_out_as_base64(self, server: RunningServer) -> None:
        body = {"signature_name": "echo", "instances": [{"b64": "YWI="}, "cd"]}
        predictions = [
            {"text": "ab", "raw_bytes": {"b64": "YWI="}},
            {"text": "cd", "raw_bytes": {"b64": "Y2Q="}},
        ]
        assert post(server, "/v1/models/tiny:predict", body) == (200, {"predictions": predictions})

    def test_nan_and_infinity_go_both_ways(self, server: RunningServer) -> None:
        body = b'{"signature_name": "whole", "inputs": [NaN, Infinity, 1]}'
        code, answer = post(server, "/v1/models/tiny:predict", body)
        assert code == 200
        np.testing.assert_array_equal(answer["outputs"]["x"], [np.nan, np.inf, 1.0])
        assert np.isnan(answer["outputs"]["total"])

    def test_gzip_bodies_are_read(self, server: RunningServer) -> None:
        body = gzip.compress(b'{"signature_name": "whole", "inputs": [1, 2]}')
        code, answer = post(server, "/v1/models/tiny:predict", body, **{"Content-Encoding": "gzip"})
        assert (code, answer["outputs"]) == (200, {"total": 3.0, "x": [1.0, 2.0]})

    def test_status_and_metadata(self, server: RunningServer, prediction: Any) -> None:
        available = {"version": "10", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
        for path in ("/v1/models/tiny", "/v1/models/tiny/versions/10"):
            assert ask(server, "GET", path) == (200, {"model_version_status": [available]})
            code, answer = ask(server, "GET", path + "/metadata")
            assert code == 200
            assert answer["model_spec"] == {"name": "tiny", "signature_name": "", "version": "10"}
            definition = answer["metadata"]["signature_def"]["signature_def"]["serving_default"]
            images = definition["inputs"]["images"]
            assert images["dtype"] == "DT_FLOAT"
            assert [dim["size"] for dim in images["tensor_shape"]["dim"]] == ["-1", "2", "2", "3"]
            assert images["tensor_shape"]["unknown_rank"] is False
            assert definition["method_name"] == "tensorflow/serving/predict"

    @pytest.mark.parametrize(
        ("method", "path", "body", "code", "says"),
        [
            ("POST", "x:predict", {"instances": [1]}, 404, "Servable not found for request: Latest(x)"),
            ("POST", "tiny/versions/7:predict", {"instances": [1]}, 404, "Specific(tiny, 7)"),
            ("POST", "tiny/labels/a:predict", {"instances": [1]}, 400, "Unrecognized servable version label: a"),
            ("POST", "tiny:predict", {"instances": [1], "signature_name": "nope"}, 400, 'key "nope" not found'),
            ("POST", "tiny:predict", {"inputs": {"image": [1]}}, 400, "Missing but required: {images}"),
            ("POST", "tiny:predict", {"instances": [[1]]}, 400, "must be float32 [?, 2, 2, 3]"),
            ("POST", "tiny:predict", {}, 400, "exactly one of the keys"),
            ("POST", "tiny:predict", b"{", 400, "JSON Parse error"),
            ("POST", "tiny:predict", {"inputs": [12], "signature_name": "fails"}, 400, "index must be below 10"),
            ("POST", "tiny:predict", {"instances": [1], "signature_name": "whole"}, 400, "same first dimension"),
            ("POST", "tiny:classify", {"examples": []}, 501, "not offered by this server"),
            ("POST", "tiny:regress", {"examples": []}, 501, "not offered by this server"),
            ("POST", "tiny:explain", {}, 400, "Malformed request: POST /v1/models/tiny:explain"),
            ("POST", "tiny", {}, 400, "Malformed request: POST /v1/models/tiny"),
            ("GET", "tiny:predict", None, 400, "Malformed request: GET"),
            ("GET", "x", None, 404, "Could not find any versions of model x"),
            ("GET", "tiny/versions/7", None, 404, "Could not find version 7 of model tiny"),
            ("GET", "x/metadata", None, 404, "Servable not found for request: Latest(x)"),
            ("GET", "../../", None, 404, "models are below /v1/models/"),
        ],
    )
    def test_error_codes(self, server: RunningServer, method: str, path: str, body: Any, code: int, says: str) -> None:
        data = json.dumps(body).encode() if isinstance(body, dict) else body
        path = "/" if path == "../../" else f"/v1/models/{path}"
        got, answer = ask(server, method, path, data)
        assert got == code and list(answer) == ["error"]
        assert says in answer["error"]

    def test_body_over_the_limit_is_refused_also_when_it_arrives_small(
        self, server: RunningServer, max_message_mb: int
    ) -> None:
        body = b" " * (max_message_mb << 20) + b'{"instances": [1]}'
        for data, headers in ((body, {}), (gzip.compress(body), {"Content-Encoding": "gzip"})):
            code, answer = post(server, "/v1/models/tiny:predict", data, **headers)
            assert code == 413 and "larger than" in answer["error"]

    def test_broken_gzip_is_refused(self, server: RunningServer) -> None:
        code, answer = post(server, "/v1/models/tiny:predict", b"not gzip", **{"Content-Encoding": "gzip"})
        assert code == 400 and "error" in answer
