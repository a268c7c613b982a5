"""tools/bench.py: what it writes and what its peers compute, never how fast anything was."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import json
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

from tfaug.augment.operations import apply_densely

HAS_KERAS_3 = importlib.metadata.version("keras").startswith("3.")  # Also where tf.keras is tf-keras.
TOOLS = pathlib.Path(__file__).parent.parent / "tools"
sys.path.append(str(TOOLS))  # As Python does for `python tools/bench.py`.

import bench  # noqa: E402
from benchmarks import (  # noqa: E402
    augmenting,
    fitting,
    kerases,
    operations,
    ordering,
    peers,
    plain,
    tables,
    timing,
    training,
)

ENGINE_PATHS = {
    ("tfaug", "host"),
    ("tfaug", "device"),
    ("keras_cv", "host"),
    ("keras_cv", "alone"),
    ("copy_uint8", "host"),
    ("copy_uint8", "device"),
    ("loop_uint8", "host"),
    ("loop_uint8", "device"),
} | ({("keras", "host"), ("keras", "alone")} if HAS_KERAS_3 else set())


@pytest.fixture(scope="module")
def quick_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """Runs the program as a user does, smallest setting; returns its JSON and its standard output."""
    path = tmp_path_factory.mktemp("bench") / "new" / "bench.json"
    engines = "--engines=tfaug,keras,keras_cv,copy"
    command = [sys.executable, str(TOOLS / "bench.py"), "augment", f"--json={path}", "--quick", "--sizes=16", engines]
    process = subprocess.run(
        [*command, "--ops=CutMix,SumAug"], capture_output=True, text=True, check=False, cwd=path.parent.parent
    )
    assert process.returncode == 0, process.stderr
    assert [file.name for file in path.parent.iterdir()] == ["bench.json"]  # Nothing half-written is left.
    return json.loads(path.read_text()), process.stdout


# -- augment -----------------------------------------------------------------------------------------------------------


def test_every_op_has_a_row_for_every_engine(quick_run: tuple[dict[str, Any], str]) -> None:
    rows = quick_run[0]["rows"]
    found = {
        name: {(row["engine"], row["path"]) for row in rows if row["op"] == name} for name in {r["op"] for r in rows}
    }
    assert found["CutMix"] == ENGINE_PATHS
    assert found["SumAug(2)"] == ENGINE_PATHS | {("copy_float32", "host"), ("copy_float32", "device")}
    assert {(row["size"], row["batch"], row["n"]) for row in rows} == {(16, 16, 2)}
    notes = {row["engine"]: row["note"] for row in rows if row["op"] == "SumAug(2)"}
    assert "its MixUp" in notes["keras_cv"] and "float32 out" in notes["tfaug"]
    assert not HAS_KERAS_3 or ("its MixUp" in notes["keras"] and "XLA does not compile it (no " in notes["keras"])


def test_rand_augment_has_peers_that_have_nothing_else() -> None:
    rows = augmenting.bench([16], ["plain_tf_data", "dali", "copy"], ["RandAugment"], 2, 0.0, quick=True)["rows"]
    found = {(row["engine"], row["path"]) for row in rows} - {("dali", "host")}
    assert found == {
        ("plain_tf_data", "host"),
        *((f"{kind}_uint8", path) for kind in ("copy", "loop") for path in ("host", "device")),
    }


def test_ratios_are_quotients_of_the_rows_medians(quick_run: tuple[dict[str, Any], str]) -> None:
    rows = quick_run[0]["rows"]
    medians = {(row["op"], row["engine"], row["path"]): row["images_per_second"] for row in rows}
    for row in rows:
        assert 0 < row["min_images_per_second"] <= row["images_per_second"] <= row["max_images_per_second"]
        for peer in ("keras", "keras_cv") if HAS_KERAS_3 else ("keras_cv",):
            fastest = max(medians[row["op"], peer, path] for path in ("host", "alone"))
            assert row[f"ratio_to_{peer}"] == pytest.approx(row["images_per_second"] / fastest, rel=1e-9)
        path = "host" if row["path"] == "host" else "device"
        for copy in augmenting.COPIES:
            speed = medians.get((row["op"], copy, path))
            expected = None if speed is None else pytest.approx(speed / row["images_per_second"], rel=1e-9)
            assert row[f"time_over_{copy}"] == expected


def test_the_header_states_machine_versions_and_missing_peers(quick_run: tuple[dict[str, Any], str]) -> None:
    header = quick_run[0]["header"]
    assert header["hardware"]["processor"] and 1 <= header["hardware"]["num_cores"] <= 2
    assert {"tensorflow", "tfaug", "python", "numpy"} <= set(header["versions"])
    assert header["peers"]["keras_cv"] == "0.9.0"
    assert header["versions"]["tf.keras"].startswith(("keras 2.", "keras 3.", "tf_keras 2."))
    assert header["peers"]["keras"].startswith("3." if HAS_KERAS_3 else "not installed: AttributeError: ")
    assert header["settings"]["rounds"] == 2 and header["malloc"]


def test_the_table_on_the_terminal_holds_every_row(quick_run: tuple[dict[str, Any], str]) -> None:
    result, output = quick_run
    assert len([line for line in output.splitlines() if "   16    16 " in line]) == len(result["rows"])


def test_rows_hold_medians_spread_and_ratios() -> None:
    """Hand-derived: medians 6, 2, 3 and 12; the outlier of 100 moves nothing but the spread."""
    speeds = {
        ("tfaug", "host"): [5.0, 100.0, 6.0],
        ("keras_cv", "host"): [2.0, 1.0, 3.0],
        ("keras_cv", "alone"): [3.0, 3.0, 3.0],
        ("copy_uint8", "host"): [12.0, 12.0, 12.0],
    }
    engines = {key: timing.Engine(*key, {}, "a note") for key in speeds}
    batches = {key: 4 if key[0] == "keras_cv" else 8 for key in speeds}
    rows = augmenting.make_rows("op", 32, batches, engines, dict.fromkeys(speeds, "a setting"), speeds)
    assert [row["batch"] for row in rows] == [8, 4, 4, 8]
    ours, peer, alone, copy = rows
    assert (ours["images_per_second"], ours["ratio_to_keras_cv"], ours["time_over_copy_uint8"]) == (6.0, 2.0, 2.0)
    assert (ours["min_images_per_second"], ours["max_images_per_second"], ours["n"]) == (5.0, 100.0, 3)
    assert (ours["time_over_copy_float32"], ours["setting"], ours["note"]) == (None, "a setting", "a note")
    assert (peer["ratio_to_keras_cv"], peer["time_over_copy_uint8"]) == (pytest.approx(2 / 3), 6.0)
    assert (alone["ratio_to_keras_cv"], alone["time_over_copy_uint8"]) == (1.0, None)  # No copy on the device.
    assert copy["time_over_copy_uint8"] == 1.0


def test_rows_without_a_peer_have_no_ratio() -> None:
    engine = timing.Engine("tfaug", "host", {})
    (row,) = augmenting.make_rows(
        "op", 32, {engine.key: 8}, {engine.key: engine}, {engine.key: ""}, {engine.key: [5.0]}
    )
    assert row["ratio_to_keras"] is None and row["ratio_to_keras_cv"] is None and row["time_over_copy_uint8"] is None


def test_a_peer_that_fails_is_named_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(images: np.ndarray) -> list[timing.Engine]:
        raise RuntimeError("no such kernel")

    def find(case: augmenting.BenchCase, images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        steady = timing.Engine("tfaug", "host", {"a setting": lambda: timing.Timer(lambda num: 0.5 * num)})
        return {"tfaug": lambda: [steady], "kornia": lambda: fail(images)}

    monkeypatch.setattr(augmenting, "find_engines", find)
    monkeypatch.setattr(peers, "find_peers", lambda names: dict.fromkeys(names, "1.0"))
    result = augmenting.bench([16], ["tfaug", "kornia"], ["CutMix"], rounds=2, seconds=0.0, quick=True)
    assert result["header"]["peers"] == {"kornia": "1.0; failed at CutMix, 16 x 16: RuntimeError: no such kernel"}
    assert [(row["engine"], row["images_per_second"]) for row in result["rows"]] == [("tfaug", 32.0)]


# -- timing ------------------------------------------------------------------------------------------------------------


def fake_timer(name: str, seconds: float, calls: list[Any]) -> timing.Timer:
    """Returns a timer whose clock shows `seconds` a batch."""

    def run(num_batches: int) -> float:
        calls.append((name, num_batches))
        return seconds * num_batches

    return timing.Timer(run, lambda: calls.append((name, "closed")))


def test_engines_take_turns_and_speeds_count_all_images() -> None:
    """1/4 and 1/16 s a batch, so 8 batches (the fewest) and 16 make a turn of 1 s."""
    calls: list[Any] = []
    timers = {"a": fake_timer("a", 1 / 4, calls), "b": fake_timer("b", 1 / 16, calls)}
    rounds: list[int] = []
    speeds = timing.measure(timers, {"a": 8, "b": 4}, rounds=2, seconds=1.0, on_round=lambda: rounds.append(len(calls)))
    assert speeds == {"a": [32.0, 32.0], "b": [64.0, 64.0]}
    assert calls[-4:] == [("a", 8), ("b", 16)] * 2
    assert rounds == [len(calls) - 2, len(calls)]


def test_the_fastest_setting_is_kept_and_the_others_are_closed() -> None:
    calls: list[Any] = []
    speeds = {"slow": 1.0, "fast": 0.1, "middle": 0.5}
    makers = {name: functools.partial(fake_timer, name, value, calls) for name, value in speeds.items()}
    name, timer = timing.make_timers(timing.Engine("peer", "host", makers), trial=4)
    assert name == "fast" and timer.run(10) == 1.0
    assert [call for call in calls if call[1] == "closed"] == [("slow", "closed"), ("middle", "closed")]
    assert timing.make_timers(timing.Engine("peer", "host", makers), trial=0)[0] == "slow"  # The first, untried.


# -- peers -------------------------------------------------------------------------------------------------------------


def test_a_peer_that_cannot_be_imported_is_listed_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        peers,
        "_NEEDS",
        {
            "absent": (("no_such_module",), ("numpy",)),
            "old": (("numpy.random.no_such_name",), ("numpy",)),
            "numpy": (("numpy.random", "numpy.abs"), ("numpy",)),
        },
    )
    found = peers.find_peers(("absent", "old", "numpy"))
    assert found["old"] == "not installed: AttributeError: module 'numpy.random' has no attribute 'no_such_name'"
    assert found["absent"] == "not installed: ModuleNotFoundError: No module named 'no_such_module'"
    assert found["numpy"] == np.__version__


@pytest.mark.parametrize("name", ["albumentations", "dali", "kornia"])
def test_every_setting_of_an_installed_peer_runs(name: str) -> None:
    if peers.find_peers((name,))[name].startswith("not installed"):
        pytest.skip(f"needs {name}, of the extra tfaug[bench]")
    (engine,) = peers.rand_augment_engines(augmenting.make_images(6, 32)[0])[name]()
    for make in engine.settings.values():
        timer = make()
        assert timer.run(3) > 0
        timer.close()


@pytest.mark.skipif(not HAS_KERAS_3, reason="needs the layers of Keras 3")
def test_the_layers_of_keras_do_what_ours_do() -> None:
    """RandAugment: 2 operations at 9 / 30 of full strength; mixes: alpha 1, and labels that say what was mixed."""
    layer = augmenting.keras_layer(augmenting.CASES["RandAugment"].peer_op)
    settings = (layer.num_ops, layer.factor, tuple(layer.value_range), layer.interpolation)
    assert settings == (2, (0, pytest.approx(0.3)), (0, 255), "nearest")
    # Each image has one value, so that a mixed image's mean tells the share of its partner.
    values = np.arange(0, 256, 16)
    images = tf.constant(np.broadcast_to(values[:, None, None, None], [16, 32, 32, 3]).astype(np.uint8))
    # Boxes are not whole: the weight is off by up to a row and a column.
    for name, tolerance in (("CutMix", 2 * 255 / 32), ("Mixup", 0.1)):
        layer = augmenting.keras_layer(augmenting.CASES[name].peer_op)
        mix = tf.function(lambda layer=layer: layer({"images": images, "labels": tf.eye(16)}))
        results = [mix() for _ in range(8)]
        labels = np.concatenate([result["labels"] for result in results])
        means = np.concatenate([np.mean(result["images"], axis=(1, 2, 3)) for result in results])
        np.testing.assert_allclose(labels @ values, means, atol=tolerance)
        # A weight of Beta(1, 1) lies within 0.1..0.9 in 80 of 100 draws; with Beta(0.2, 0.2), in 40.
        assert np.mean((labels > 0.1) & (labels < 0.9), axis=None) * 8 > 0.55


@pytest.mark.skipif(not HAS_KERAS_3, reason="needs the layers of Keras 3")
def test_every_setting_of_keras_runs() -> None:
    engines = augmenting._keras(augmenting.CASES["RandAugment"], *augmenting.make_images(8, 16))
    settings = {setting: make for engine in engines for setting, make in engine.settings.items()}
    assert len(settings) == 5 and all(make().run(2) > 0 for make in settings.values())


def test_a_keras_layer_that_xla_compiles_is_told_from_one_that_it_does_not() -> None:
    refuse = tf.function(lambda x: tf.raw_ops.StatelessRandomGammaV3(
        shape=[2], key=[1], counter=[1, 2], alg=1, alpha=x), jit_compile=True)  # fmt: skip
    assert augmenting._refusal(tf.function(lambda x: x + 1, jit_compile=True), tf.ones([2])) == ""
    assert augmenting._refusal(refuse, tf.ones([2])).startswith("XLA does not compile it (")


@functools.cache
def example_images() -> np.ndarray:
    """Returns windows of photographs, noise and a grey image, uint8 [10, 32, 32, 3]."""
    generator = np.random.default_rng(0)
    photos = [np.asarray(photo)[::4, ::4] for photo in sklearn.datasets.load_sample_images().images]
    windows = [photo[y : y + 32, y : y + 32] for photo in photos for y in (0, 20, 40, 60)]
    noise = generator.integers(90, 140, [1, 32, 32, 3])
    return np.concatenate([windows, noise, np.full([1, 32, 32, 3], 77)]).astype(np.uint8)


@pytest.mark.parametrize("name", plain.OPERATIONS)
def test_the_plain_operations_are_ours(name: str) -> None:
    """Within one grey level; warps likewise, but for places where float32 falls on the other side of a pixel border."""
    images, operation = example_images(), operations.operation_of(name)
    function, values = plain.OPERATIONS[name]
    # Whole values are compared as our kernels take them.
    taken = [int(value) if name in ("solarize", "posterize") else value for value in operation.values]
    assert taken == pytest.approx(values)
    for index, value in enumerate(values):
        theirs = np.stack([function(tf.constant(image), tf.constant(value)).numpy() for image in images])
        zeros = tf.zeros([len(images), 1], tf.int32)
        ours = apply_densely(tf.constant(images), [operation], zeros, zeros + index, fill=plain.FILL).numpy()
        far = np.abs(theirs.astype(int) - ours) > 1
        warps = name in ("rotate", "shear_x", "shear_y", "translate_x", "translate_y")
        assert theirs.dtype == np.uint8 and far.mean() <= (0.003 if warps else 0.0)
        assert name == "identity" or (theirs != images).mean() > 0.1


def test_the_plain_rand_augment_draws_two_operations_and_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of two operations adds 1, the other 16 or 64 by its sign: sums of two draws, 1/2, 1/4 and 1/4."""

    def signed(image: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
        return image + tf.where(value > 0, tf.constant(16, tf.uint8), tf.constant(64, tf.uint8))

    table = {"one": (lambda image, value: image + 1, (0.0,)), "signed": (signed, (2.0, -2.0))}
    monkeypatch.setattr(plain, "OPERATIONS", table)
    images = tf.zeros([512, 1, 1, 3], tf.uint8)
    batch = next(iter(plain.dataset(images, 2, prefetch=True))).numpy()[:, 0, 0, 0]
    found = {value: np.mean(batch == value) for value in np.unique(batch)}
    expected = {2: 1 / 4, 17: 1 / 4, 65: 1 / 4, 32: 1 / 16, 80: 1 / 8, 128: 1 / 16}
    assert set(found) == set(expected)
    # Five standard deviations of a share of 512 draws.
    assert all(abs(found[value] - share) < 5 * (share * (1 - share) / 512) ** 0.5 for value, share in expected.items())


# -- ops ---------------------------------------------------------------------------------------------------------------


def test_ops_have_rows_next_to_a_copy() -> None:
    result = operations.bench([16], ["invert", "equalize", "SumAug"], rounds=2, seconds=0.0, quick=True)
    copy, equalize, invert, sums = result["rows"]
    assert [row["op"] for row in result["rows"]] == ["copy", "equalize", "invert", "SumAug"]
    assert [row["kind"] for row in result["rows"]] == ["copy", "operation", "operation", "augmentation"]
    assert (copy["bytes"], invert["bytes"], equalize["bytes"]) == (2 * 768, 2 * 768, 3 * 768)
    assert sums["bytes"] == 768 + 4 * 768 / 2  # Half as many images, in float32.
    assert (copy["operations_per_value"], invert["operations_per_value"]) == (0.0, 1.0)
    for row in result["rows"]:
        assert row["time_over_copy"] == pytest.approx(row["microseconds"] / copy["microseconds"], rel=1e-9)
        assert row["gigabytes_per_second"] == pytest.approx(row["bytes"] / row["microseconds"] / 1e3, rel=1e-9)
    assert result["header"]["settings"]["skipped"] == {}
    assert len(operations.format_rows(result["rows"]).splitlines()) == 5


def test_every_operation_has_a_strength() -> None:
    found = operations.find_functions([])
    assert set(operations.OPERATIONS) | {"copy"} <= set(found)
    fixed = {"identity", "autocontrast", "equalize", "equalize_rarest", "invert"}
    assert {name for name in operations.OPERATIONS if operations.operation_of(name).values == (0.0,)} == fixed


def test_operations_are_counted_in_the_programs_text() -> None:
    """By hand: an addition of 12 values and a comparison of 4, over 4 values; data that moves is not counted."""
    text = """
      %fused (p: u8[4]) -> u8[4] {
        %p = u8[4]{0} parameter(0)
        %b = s32[3,4]{1,0} broadcast(u8[4]{0} %p), dimensions={1}
        %add.1 = s32[3,4]{1,0} add(s32[3,4]{1,0} %b, s32[3,4]{1,0} %b)
        ROOT %compare.5 = pred[4]{0} compare(u8[4]{0} %p, u8[4]{0} %p), direction=GE
      }
    """
    assert operations.count_operations(text, 4) == 4.0


# -- training ----------------------------------------------------------------------------------------------------------


def test_training_takes_steps_with_and_without_augmentation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "AUGMENTATIONS", {"none": None, "device": "device"})  # Each takes seconds to trace.
    result = training.bench(rounds=1, num_steps=1, quick=True)
    rows = {row["augmentation"]: row for row in result["rows"]}
    assert set(rows) == {"none", "device"} and all(row["seconds"] > 0 for row in result["rows"])
    assert rows["device"]["ratio_to_none"] == pytest.approx(rows["device"]["seconds"] / rows["none"]["seconds"])
    assert "RandAugment" in result["header"]["settings"]["augmentation"]
    assert len(training.format_rows(result["rows"]).splitlines()) == 3


def test_an_order_takes_steps_beside_plain_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ordering, "NUM_CANDIDATES", (2,))
    result = ordering.bench(["bf16"], rounds=1, num_steps=1, quick=True)
    assert [row["name"] for row in result["rows"]] == ["plain step, bf16", "Max Loss Delta, K = 2, bf16"]
    assert all(row["seconds"] > 0 for row in result["rows"])


def test_ordering_rows_are_over_as_many_plain_steps() -> None:
    """Hand-derived: K = 3 takes 4 and 6 s, medians 5 over 4 times 2; by round 4/4 and 6/12."""
    plain_row, row = ordering.make_rows("lenet", "fp32", 16, {0: [1.0, 3.0], 3: [4.0, 6.0]})
    assert (plain_row["ratio_to_separate"], row["steps"], row["ratio_to_separate"]) == (1.0, 2.5, 0.625)
    assert (row["min_ratio"], row["max_ratio"]) == (0.5, 1.0)
    found = tables.make_tables({"command": "ordering", "header": HEADER, "rows": [row]})
    assert found["ordering"].splitlines()[-1] == (
        "| Max Loss Delta, K = 3, fp32 | 5,000.0 (4,000.0 to 6,000.0) | 2.5 | 0.62 (0.50 to 1.00) |"
    )


def test_training_rows_are_ratios_to_the_step_without_augmentation() -> None:
    """Hand-derived: medians 2 and 2.5; by round 3/1, 2.5/2 and 2/4."""
    none, host = training.make_rows("lenet", 16, {"none": [1.0, 2.0, 4.0], "host": [3.0, 2.5, 2.0]})
    assert (none["ratio_to_none"], host["ratio_to_none"]) == (1.0, 1.25)
    assert (host["seconds"], host["min_ratio"], host["max_ratio"], host["n"]) == (2.5, 0.5, 3.0, 3)


# -- train -------------------------------------------------------------------------------------------------------------


def test_keras_and_we_learn_the_same_from_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight steps of two independent implementations, but for the decay, which Keras leaves out of the momentum."""
    pairs, make = [], fitting.FittedPair
    monkeypatch.setattr(fitting, "FittedPair", lambda *args: pairs.append(make(*args)) or pairs[-1])
    result = fitting.bench(["resnet20"], ["fp32"], rounds=1, num_steps=1, quick=True)
    (row,), (pair,) = result["rows"], pairs
    assert (row["name"], row["model"], row["precision"], row["batch"]) == ("lenet, fp32", "lenet", "fp32", 16)
    assert row["ratio_to_keras"] == pytest.approx(row["images_per_second"] / row["keras_images_per_second"])
    assert row["keras_images_per_second"] > 0 and "PadCrop" in result["header"]["settings"]["augmentation"]
    assert len(fitting.format_rows(result["rows"]).splitlines()) == 2
    initial = training.make_network("lenet", "fp32").trainable_variables
    ours, keras = (pair.networks[name].trainable_variables for name in ("tfaug", "keras"))
    for before, own, theirs in zip(initial, ours, keras, strict=True):
        moved = np.linalg.norm(own.numpy() - before.numpy())
        assert moved > 0 and np.linalg.norm(own.numpy() - theirs.numpy()) < 0.01 * moved


def test_the_row_of_a_network_compares_it_with_keras() -> None:
    """Hand-derived: medians 30 and 20; by round 30/20, 60/15 and 10/40."""
    row = fitting.make_row("lenet", "bf16", 16, {"tfaug": [30.0, 60.0, 10.0], "keras": [20.0, 15.0, 40.0]})
    assert (row["images_per_second"], row["keras_images_per_second"], row["ratio_to_keras"]) == (30.0, 20.0, 1.5)
    assert (row["min_ratio"], row["max_ratio"], row["n"]) == (0.25, 4.0, 3)
    found = tables.make_tables({"command": "train", "header": HEADER, "rows": [row]})
    assert found["train"].splitlines()[-1] == "| lenet, bf16 | 30 (10 to 60) | 20 (15 to 40) | 1.50 (0.25 to 4.00) |"


# -- kerases -----------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="needs tf-keras beside Keras 3")
def test_both_kerases_take_steps_in_processes_of_their_own() -> None:
    rows = kerases.bench(rounds=1, num_steps=1, quick=True)["rows"]
    assert [row["keras"] for row in rows] == ["tf-keras", "Keras 3"] and all(row["seconds"] > 0 for row in rows)
    assert len(kerases.format_rows(rows).splitlines()) == 3


def test_the_rows_of_the_kerases_are_ratios_to_tf_keras() -> None:
    """Hand-derived: medians 2 and 2.5; by round 3/1, 2.5/2 and 2/4; of the threads 4 and 3."""
    old, new = kerases.make_rows(
        {"tf-keras": [(1.0, 4.0), (2.0, 3.0), (4.0, 6.0)], "Keras 3": [(3.0, 3.0), (2.5, 2.0), (2.0, 4.0)]}
    )
    assert (old["ratio"], new["ratio"], new["thread_ratio"], new["thread_seconds"]) == (1.0, 1.25, 0.75, 3.0)
    assert (new["seconds"], new["min_ratio"], new["max_ratio"], new["n"]) == (2.5, 0.5, 3.0, 3)


# -- tables ------------------------------------------------------------------------------------------------------------


def speed_row(op: str, engine: str, path: str, speed: float, size: int = 32) -> dict[str, Any]:
    """Returns a row of `augment`, 100 times as fast as Keras where that has 1, and without keras-cv."""
    spread = {"images_per_second": speed, "min_images_per_second": speed / 2, "max_images_per_second": 2 * speed}
    copies = {f"time_over_{copy}": 2.0 for copy in augmenting.COPIES}
    where = {"op": op, "engine": engine, "path": path, "size": size, "setting": f"{engine}'s best"}
    return where | spread | copies | {"ratio_to_keras": speed / 20, "ratio_to_keras_cv": None}


HEADER = {
    "hardware": {"num_cores": 2, "processor": "a processor"},
    "versions": {"python": "3.13.0", "tensorflow": "2.21.0", "keras": "3.15.1", "tf.keras": "keras 3.15.1"},
    "peers": {"keras": "3.15.1", "dali": "not installed: ModuleNotFoundError: No module named 'nvidia'"},
    "settings": {"rounds": 5},
}


def test_tables_of_speeds() -> None:
    """The faster path of a peer, ours in tf.data; 2,000 images a second are 100 times the 20 of Keras."""
    op = "RandAugment(2, 9)"
    rows = [
        speed_row(op, "tfaug", "host", 2000.0),
        speed_row(op, "tfaug", "device", 1000.0),
        speed_row(op, "keras", "host", 10.0),
        speed_row(op, "keras", "alone", 20.0),
        speed_row(op, "copy_uint8", "host", 9e6),
        speed_row("SumAug(2)", "tfaug", "host", 500.0),
        speed_row("SumAug(2)", "tfaug", "host", 50.0, size=224),
    ]
    found = tables.make_tables({"command": "augment", "header": HEADER, "rows": rows})
    assert found["augment-measured"] == (
        "2 cores of a processor; Python 3.13.0, TensorFlow 2.21.0, Keras 3.15.1; DALI not installed; "
        "medians of 5 interleaved rounds."
    )
    assert found["speed"].splitlines() == [
        "|  | 32 x 32, images/s | x Keras | x keras-cv | 224 x 224, images/s | x Keras | x keras-cv |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| **RandAugment(2, 9)** | 2,000 (1,000 to 4,000) | 100 |  |  |  |  |",
        "| **SumAug(2)** (peers: MixUp) | 500 (250 to 1,000) | 25.0 |  | 50 (25 to 100) | 2.5 |  |",
        "| *RandAugment by Keras* | 20 (10 to 40) | 1.0 |  |  |  |  |",
    ]
    assert found["rand-augment"].splitlines()[2:] == [
        "| **tfaug**, in `tf.data` | tfaug's best | 2,000 (1,000 to 4,000) | 100 |  |  |  |  |",
        "| **tfaug**, one call at a time | tfaug's best | 1,000 (500 to 2,000) | 50.0 |  |  |  |  |",
        "| Keras, in `tf.data` | keras's best | 10 (5 to 20) | 0.5 |  |  |  |  |",
        "| Keras, called alone | keras's best | 20 (10 to 40) | 1.0 |  |  |  |  |",
    ]
    assert found["mixing"].splitlines()[2:] == [
        "| SumAug(2), host | 32 | 500 (250 to 1,000) | 25.0 |  | 2.0 | 2.0 | 2.0 |",
        "| SumAug(2), host | 224 | 50 (25 to 100) | 2.5 |  | 2.0 | 2.0 | 2.0 |",
    ]


def test_tables_of_training_and_operations() -> None:
    """Equalize takes 15 us and each of the other 13 operations 1: 28 in all, 4 on a seventh of the images."""
    rows = training.make_rows("lenet", 16, {"none": [0.1, 0.2, 0.4], "host": [0.3, 0.25, 0.2]})
    found = tables.make_tables({"command": "training", "header": HEADER, "rows": rows})
    assert found["training"].splitlines()[2:] == [
        "| none | 200.0 (100.0 to 400.0) | 1.00 (1.00 to 1.00) |",
        "| host | 250.0 (200.0 to 300.0) | 1.25 (0.50 to 3.00) |",
    ]
    speeds = {name: [1e6 / (15 if name == "equalize" else 1)] for name in ("copy", "RandAugment", *plain.OPERATIONS)}
    counts = {name: {"bytes": 6000, "operations_per_value": 1.5} for name in speeds}
    found = tables.make_tables(
        {"command": "ops", "header": HEADER, "rows": operations.make_rows(10, 8, speeds, counts)}
    )
    assert "| equalize | 15.00 | 15.0 | 6 | 0.4 | 1.5 |" in found["operations"].splitlines()
    values = [line.split(" | ")[-1].rstrip(" |") for line in found["parts"].splitlines()[2:]]
    assert values == ["1.0", "4.0", "6.0", "53.6", "50.0", "3.3", "10.0"]


def test_tables_go_to_their_places_in_a_page(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, page = tmp_path / "training.json", tmp_path / "page.md"
    rows = training.make_rows("lenet", 16, {"none": [0.1]})
    file.write_text(json.dumps({"command": "training", "header": HEADER, "rows": rows}))
    text = "a\n<!-- bench: {} -->\nold\n<!-- bench end -->\nb\n<!-- bench: speed -->\nkept\n<!-- bench end -->\n"
    page.write_text(text.format("training"))
    bench.write_tables([str(file)], [str(page)])
    table = tables.make_tables(json.loads(file.read_text()))["training"]
    assert page.read_text() == text.format("training").replace("old", table)
    assert "speed is left as it was" in capsys.readouterr().err
    bench.write_tables([str(file)], [])
    assert table in capsys.readouterr().out
    page.write_text(text.format("trainings"))
    with pytest.raises(bench.app.UsageError, match="page.md has trainings; allowed: augment-measured, speed"):
        bench.write_tables([str(file)], [str(page)])
    assert page.read_text() == text.format("trainings")


def test_the_pages_have_a_place_for_every_table() -> None:
    page = "".join((TOOLS.parent / "docs" / name).read_text() for name in ("speed.md", "orders.md"))
    assert sorted([*tables.fill(page, {})[1], "speed"]) == sorted(tables.NAMES)  # README has that one.


# -- the command line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "allowed: augment, training, train, kerases, ordering, ops, table"),
        (["table"], "got 'table'; allowed: .* for table, its files"),
        (["augment", "bench.json"], "got 'augment bench.json'"),
        (["speed"], "got 'speed'"),
        (["augment", "--sizes=8"], "--sizes=8; allowed"),
        (["augment", "--engines=tfaug,torchvision"], "--engines has torchvision; allowed: tfaug"),
        (["augment", "--ops=Equalise"], "--ops has Equalise; allowed: RandAugment"),
        (["train", "--models=resnet20,resnet21"], "--models has resnet21; allowed: .*resnet20"),
        (["train", "--models=shake_26_2x32d"], "--models has shake_26_2x32d; allowed: "),
        (["train", "--precisions=fp16"], "--precisions has fp16; allowed: fp32, bf16"),
        (["ops", "--ops=Equalise"], "--ops has Equalise; allowed: identity"),
    ],
)
def test_wrong_arguments_are_refused(arguments: list[str], message: str) -> None:
    bench.flags.FLAGS.unparse_flags()
    positional = bench.flags.FLAGS(["bench.py", *arguments])
    with pytest.raises(bench.app.UsageError, match=message):
        bench.main(positional)
    for name in ("sizes", "engines", "ops", "models", "precisions"):
        bench.flags.FLAGS[name].unparse()
