"""The numpy clients: both give the SavedModel's answers, split long arrays, and say what went wrong."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from tfaug.serving.client import Client, RestClient, RunningServer, ServingError, start_server


@pytest.fixture(params=["grpc", "rest", "rest gzip"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    """Each kind of client."""
    if request.param == "grpc":
        made: Client | RestClient = Client(server.grpc_target, max_message_mb=4)
    else:
        made = RestClient(server.rest_url, compress=request.param == "rest gzip")
    with made:
        yield made


def test_answers_are_the_saved_models(client: Any, tiny: tuple[Path, Any], images: np.ndarray) -> None:
    answer = client.predict("tiny", {"images": images})
    for name, expected in tiny[1][10].default(images).items():
        assert answer[name].dtype == np.float32
        np.testing.assert_array_equal(answer[name], expected.numpy())
    assert set(answer) == {"logits", "probs"}
    assert set(client.predict("tiny", {"images": images}, version=10, outputs=["probs"])) == {"probs"}


def test_uint8_images_and_bytes(client: Any, images: np.ndarray) -> None:
    pixels = images.astype(np.uint8)
    as_uint8 = client.predict("tiny", {"images": pixels}, signature="default_uint8")["probs"]
    np.testing.assert_array_equal(client.predict("tiny", {"images": pixels})["probs"], as_uint8)
    text = np.array([b"\xff", b"ab"], dtype=object)
    echo = client.predict("tiny", {"text": text}, signature="echo")
    assert echo["text"].tolist() == echo["raw_bytes"].tolist() == [b"\xff", b"ab"]


@pytest.mark.parametrize("batch_size", [1, 3, 5, 100])
def test_pieces_are_joined_in_order_and_progress_counts_rows(client: Any, batch_size: int) -> None:
    x = np.arange(10, dtype=np.float32).reshape(5, 2)
    seed = np.arange(5, dtype=np.int64) * 100
    done: list[int] = []
    answer = client.predict(
        "tiny", {"x": x, "seed": seed}, signature="pair", batch_size=batch_size, progress=done.append
    )
    np.testing.assert_array_equal(answer["sum"], x.sum(axis=1) + seed)
    assert sum(done) == 5 and len(done) == -(-5 // batch_size)


def test_rows_too_large_for_one_message_are_split_further(server: RunningServer) -> None:
    rows = np.random.default_rng(0).normal(size=(300_000, 2)).astype(np.float32)
    seed = np.zeros(300_000, np.int64)  # 16 bytes a row: 4.8 MB, the server takes 4 MiB
    done: list[int] = []
    with Client(server.grpc_target, max_message_mb=4) as client:
        answer = client.predict(
            "tiny", {"x": rows, "seed": seed}, signature="pair", batch_size=10**6, progress=done.append
        )
    assert answer["sum"].shape == (300_000,)
    assert len(done) == 2 and sum(done) == 300_000


def test_empty_arrays_give_empty_answers(client: Any) -> None:
    answer = client.predict("tiny", {"images": np.zeros((0, 2, 2, 3), np.float32)})
    assert answer["probs"].shape == (0, 3) and answer["probs"].dtype == np.float32
    answer = client.predict("tiny", {"x": np.zeros((0, 2), np.float32), "seed": np.zeros(0, np.int64)}, "pair")
    assert answer["sum"].shape == (0,)


def test_outputs_without_rows_cannot_be_asked_in_pieces(client: Any) -> None:
    x = np.ones(5, np.float32)
    assert client.predict("tiny", {"x": x}, signature="whole")["total"] == 5.0
    with pytest.raises(ServingError, match=r"'total' of shape \[\] has not one row for each of the 2 sent"):
        client.predict("tiny", {"x": x}, signature="whole", batch_size=2)


def test_batch_size_below_one_is_refused(client: Any) -> None:
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        client.predict("tiny", {"x": np.ones(5, np.float32)}, signature="whole", batch_size=0)


def test_metadata_status_and_health_in_plain_python(client: Any) -> None:
    metadata = client.metadata("tiny")
    assert (metadata["name"], metadata["version"]) == ("tiny", 10)
    signature = metadata["signatures"]["serving_default"]
    assert signature["inputs"] == {"images": {"dtype": "float32", "shape": (None, 2, 2, 3)}}
    assert signature["outputs"]["probs"] == {"dtype": "float32", "shape": (None, 3)}
    assert metadata["signatures"]["echo"]["inputs"] == {"text": {"dtype": "string", "shape": (None,)}}
    assert client.status("tiny") == client.status("tiny", version=10) == {10: "AVAILABLE"}
    assert client.healthy()


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        ({"model": "x"}, "NOT_FOUND", r"Servable not found for request: Latest\(x\)"),
        ({"version": 3}, "NOT_FOUND", r"Servable not found for request: Specific\(tiny, 3\)"),
        ({"signature": "nope"}, "FAILED_PRECONDITION", 'signature key "nope" not found'),
        ({"inputs": {"image": np.zeros(1)}}, "INVALID_ARGUMENT", "Missing but required: {images}"),
        ({"outputs": ["prob"]}, "INVALID_ARGUMENT", "prob"),
    ],
)
def test_errors_carry_code_and_place(
    client: Any, images: np.ndarray, change: dict[str, Any], code: str, says: str
) -> None:
    with pytest.raises(ServingError, match=says) as caught:
        client.predict(**({"model": "tiny", "inputs": {"images": images}} | change))
    assert caught.value.code == grpc.StatusCode[code]


def test_nobody_listening_is_said_so() -> None:
    with socket.socket() as taken:  # bound but not listening: nobody else can listen there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for client in (Client(address, timeout_s=5.0), RestClient(f"http://{address}", timeout_s=5.0)):
            assert not client.healthy()
            with pytest.raises(ServingError, match=address) as caught:
                client.status("tiny")
            assert caught.value.code == grpc.StatusCode.UNAVAILABLE


def test_silent_server_is_a_deadline_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        for client in (Client(address, timeout_s=0.3), RestClient(f"http://{address}", timeout_s=0.3)):
            with pytest.raises(ServingError) as caught:
                client.status("tiny")
            assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_deadline_of_the_client_ends_a_long_call(server: RunningServer) -> None:
    with Client(server.grpc_target, timeout_s=0.3) as client, pytest.raises(ServingError) as caught:
        client.predict("tiny", {"steps": np.array(2**31 - 1, np.int32)}, signature="slow")
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_start_server_passes_on_why_the_server_did_not_start(tmp_path: Path) -> None:
    with pytest.raises(ServingError) as caught, start_server({"m": tmp_path / "nowhere"}):
        pass
    assert caught.value.message == (
        "the server ended with status 1 before it was ready:\n"
        f"error: model 'm': the base path {tmp_path / 'nowhere'} is not a folder"
    )


def test_start_server_needs_a_model() -> None:
    with pytest.raises(ValueError, match="at least one model"), start_server({}):
        pass
