"""Which versions are loaded, what a broken model says, warm-up, and finding models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tfaug.serving.codec import to_proto
from tfaug.serving.errors import ServingError
from tfaug.serving.models import (
    WARMUP_FILE,
    LoadedModel,
    ModelLoadError,
    ModelSource,
    ModelTable,
    find_versions,
    load_models,
    read_config_file,
)
from tfaug.serving.stubs import model_pb2, prediction_log_pb2


@pytest.fixture(scope="module")
def table(tiny: tuple[Path, dict[int, Any]]) -> ModelTable:
    """Both versions, with a label."""
    return load_models([ModelSource("tiny", tiny[0], num_latest=0, labels={"stable": 1})], lambda line: None)


def make_versions(base: Path, *names: str) -> Path:
    """Make empty folders."""
    for name in names:
        (base / name).mkdir()
    return base


def test_highest_version_is_by_number_not_by_spelling(tmp_path: Path) -> None:
    base = make_versions(tmp_path, "9", "10", "tmp-11", "v12", "13 ")
    (base / "99").write_text("a file, not a version")
    assert find_versions(ModelSource("m", base)) == {10: base / "10"}


def test_version_policies(tmp_path: Path) -> None:
    base = make_versions(tmp_path, "1", "2", "3")
    assert list(find_versions(ModelSource("m", base, num_latest=2))) == [2, 3]
    assert list(find_versions(ModelSource("m", base, num_latest=0))) == [1, 2, 3]
    assert list(find_versions(ModelSource("m", base, versions=(3, 1)))) == [1, 3]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ({"versions": (7,)}, r"has the versions \[1, 2\], not \[7\]"),
        ({"labels": {"old": 1}}, r"loaded versions \[2\] only, got {'old': 1}"),
    ],
)
def test_version_that_is_not_there_is_refused(tmp_path: Path, source: dict, says: str) -> None:
    with pytest.raises(ModelLoadError, match=says):
        find_versions(ModelSource("m", make_versions(tmp_path, "1", "2"), **source))


def test_missing_and_misplaced_folders_are_explained(tmp_path: Path, tiny: tuple[Path, object]) -> None:
    with pytest.raises(ModelLoadError, match=r"'m': the base path .*nowhere is not a folder"):
        find_versions(ModelSource("m", tmp_path / "nowhere"))
    with pytest.raises(ModelLoadError, match=r"holds no integer-named version folder$"):
        find_versions(ModelSource("m", tmp_path))
    with pytest.raises(ModelLoadError, match="is a SavedModel itself, so move it to"):
        find_versions(ModelSource("m", tiny[0] / "1"))


@pytest.mark.parametrize("damage", ["empty folder", "garbage graph", "no variables"])
def test_corrupt_model_is_a_one_line_error(damage: str, tmp_path: Path, tiny: tuple[Path, object]) -> None:
    broken = tmp_path / "1"
    broken.mkdir()
    if damage == "garbage graph":
        (broken / "saved_model.pb").write_bytes(b"garbage")
    if damage == "no variables":
        (broken / "saved_model.pb").write_bytes((tiny[0] / "1" / "saved_model.pb").read_bytes())
    with pytest.raises(ModelLoadError) as caught:
        load_models([ModelSource("m", tmp_path)], lambda line: None)
    assert str(caught.value).startswith(f"model 'm': cannot load {broken}: ")
    assert "\n" not in str(caught.value)


def write_config(path: Path, text: str) -> Path:
    """Write a config file."""
    path.write_text(text)
    return path


def test_config_file_with_policies_and_labels(tmp_path: Path) -> None:
    path = write_config(
        tmp_path / "models.config",
        """
        model_config_list {
          config { name: "a" base_path: "/a" model_platform: "tensorflow" }
          config { name: "b" base_path: "/b" model_version_policy { latest { num_versions: 2 } } }
          config { name: "c" base_path: "/c" model_version_policy { all {} } }
          config {
            name: "d" base_path: "/d"
            model_version_policy { specific { versions: 3 versions: 5 } }
            version_labels { key: "stable" value: 3 }
          }
        }
        """,
    )
    assert read_config_file(path) == [
        ModelSource("a", Path("/a")),
        ModelSource("b", Path("/b"), num_latest=2),
        ModelSource("c", Path("/c"), num_latest=0),
        ModelSource("d", Path("/d"), versions=(3, 5), labels={"stable": 3}),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "lists no model"),
        ("model_config_list { confg {} }", "is not a model_config_list text proto: .*confg"),
        ("model_config_list { config { name: 'a' } }", "needs a name and a base_path"),
        ("model_config_list { " + "config { name: 'a' base_path: '/a' } " * 2 + "}", "names the model 'a' twice"),
        ("model_config_list { config { name: 'a' base_path: '/a' model_platform: 'onnx' } }", "must be 'tensorflow'"),
    ],
)
def test_config_file_mistakes_are_explained(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(ModelLoadError, match=says):
        read_config_file(write_config(tmp_path / "models.config", text))


def test_missing_config_file_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"cannot read the model config file .*: No such file"):
        read_config_file(tmp_path / "models.config")


def test_models_are_found_by_version_label_or_as_the_latest(table: ModelTable) -> None:
    assert table.find("tiny").version == 10
    assert table.find("tiny", 1).version == 1
    assert table.find("tiny", label="stable").version == 1
    assert table.find_spec(model_pb2.ModelSpec(name="tiny", version_label="stable")).version == 1
    assert [model.version for model in table.versions("tiny")] == [10, 1]
    with pytest.raises(ServingError, match=r"version label: canary\. Allowed: stable") as caught:
        table.find("tiny", label="canary")
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT


def test_each_version_runs_its_own_weights(
    table: ModelTable, tiny: tuple[Path, dict[int, Any]], images: np.ndarray
) -> None:
    for version, model in tiny[1].items():
        outputs = table.find("tiny", version).run("", {"images": images})
        for name, expected in model.default(images).items():
            np.testing.assert_array_equal(outputs[name], expected.numpy())


def test_only_the_asked_outputs_are_returned(table: ModelTable, images: np.ndarray) -> None:
    assert set(table.find("tiny").run("", {"images": images}, ["probs"])) == {"probs"}


def test_time_limit_ends_a_run_that_would_take_hours(table: ModelTable) -> None:
    with pytest.raises(ServingError) as caught:
        table.find("tiny").run("slow", {"steps": np.int32(2**31 - 1)}, timeout_s=0.2)
    assert caught.value.code == grpc.StatusCode.DEADLINE_EXCEEDED


def test_run_whose_time_is_up_does_not_start(table: ModelTable) -> None:
    with pytest.raises(ServingError, match="deadline passed before the model ran"):
        table.find("tiny").run("slow", {"steps": np.array(1, np.int32)}, timeout_s=-1.0)


def test_error_inside_the_model_is_one_line_with_its_code(table: ModelTable) -> None:
    with pytest.raises(ServingError, match="index must be below 10") as caught:
        table.find("tiny").run("fails", {"index": np.array([10], np.int32)})
    assert caught.value.code == grpc.StatusCode.INVALID_ARGUMENT
    assert "\n" not in caught.value.message


class CountingModel(tf.Module):
    """Counts its calls, to show that warm-up requests really ran."""

    def __init__(self) -> None:
        super().__init__()
        self.count = tf.Variable(0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
    def call(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"count": self.count.assign_add(1)}


@pytest.fixture()
def counting(tmp_path: Path) -> Path:
    """A base path with a counting model and an empty warm-up folder."""
    model = CountingModel()
    tf.saved_model.save(model, str(tmp_path / "1"), signatures={"serving_default": model.call})
    (tmp_path / "1" / WARMUP_FILE).parent.mkdir()
    return tmp_path


def warmup_record(**inputs: np.ndarray) -> bytes:
    """Make one record of a warm-up file."""
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.name = "another"  # the file may have been written under another name
    for name, array in inputs.items():
        log.predict_log.request.inputs[name].CopyFrom(to_proto(array))
    return log.SerializeToString()


def write_warmup(base: Path, *records: bytes) -> None:
    """Write a warm-up file."""
    with tf.io.TFRecordWriter(str(base / "1" / WARMUP_FILE)) as writer:
        for record in records:
            writer.write(record)


def test_warmup_requests_run_before_the_first_client(counting: Path) -> None:
    write_warmup(counting, *[warmup_record(x=np.zeros(size, np.float32)) for size in (1, 2, 3)])
    lines: list[str] = []
    table = load_models([ModelSource("m", counting)], lines.append)
    assert table.find("m").run("", {"x": np.zeros(1, np.float32)})["count"] == 4
    assert len(lines) == 1 and lines[0].startswith("loaded m version 1 in ") and "3 warm-up requests" in lines[0]


@pytest.mark.parametrize(
    ("records", "says"),
    [
        ([b"\xff not a message"], "is corrupt"),
        ([prediction_log_pb2.PredictionLog().SerializeToString()], "record 0 is a None, expected a predict_log"),
        ([warmup_record(y=np.zeros(1, np.float32))], r"warm-up request 0 of .* failed: INVALID_ARGUMENT"),
        ([warmup_record(x=np.zeros(1, np.float32))] * 1001, "holds more than 1000 records"),
    ],
    ids=["garbage", "other kind", "wrong input", "too many"],
)
def test_bad_warmup_file_stops_the_load(counting: Path, records: list[bytes], says: str) -> None:
    write_warmup(counting, *records)
    with pytest.raises(ModelLoadError, match=says):
        load_models([ModelSource("m", counting)], lambda line: None)


def test_cut_warmup_file_stops_the_load(counting: Path) -> None:
    write_warmup(counting, warmup_record(x=np.zeros(1, np.float32)))
    path = counting / "1" / WARMUP_FILE
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(ModelLoadError, match="is corrupt"):
        load_models([ModelSource("m", counting)], lambda line: None)


def test_default_of_a_signature_fills_a_missing_input(tiny: tuple[Path, Any]) -> None:
    model = LoadedModel("m", 1, tiny[0] / "1")
    x = np.array([[1.0, 2.0]], np.float32)
    with pytest.raises(ServingError, match=r"Missing but required: {seed}"):
        model.run("pair", {"x": x})
    # TensorFlow writes defaults only for functions with tensor-valued default arguments; the message is the same.
    model.signatures["pair"].defaults["seed"].CopyFrom(to_proto(np.array([10], np.int64)))
    assert model.run("pair", {"x": x})["sum"] == 13.0
    assert model.run("pair", {"x": x, "seed": np.array([20], np.int64)})["sum"] == 23.0
