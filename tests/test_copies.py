"""Static augmented copies: what the records hold, that every byte is a function of the config, and all or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
import tqdm

from tfaug import augment, cli
from tfaug.config import ConfigError, fingerprint
from tfaug.data import DataConfig, Digits, Npz, Split, Tfds, copies, load_data
from tfaug.data.copies import NAMED, CopiesConfig, make_config, write_copies
from tfaug.data.sources import digits

DIGITS = DataConfig(Digits())
FLIP = "Flip(p=1.0)"


def _read(folder: pathlib.Path, name: str, split: str) -> dict[str, np.ndarray]:
    """All examples of a written split, in the order of its files."""
    builder = tfds.builder(name, data_dir=folder)
    config = tfds.ReadConfig(interleave_cycle_length=1, try_autocache=False)
    return tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1, read_config=config))


def _sums(folder: pathlib.Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def _texts(values: np.ndarray) -> list[str]:
    return [value.decode() for value in values]


@pytest.fixture()
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 8 examples, two of them a file."""
    monkeypatch.setattr(copies, "BLOCK_SIZE", 8)
    monkeypatch.setattr(copies, "_BLOCKS_PER_FILE", 2)


@pytest.fixture(scope="module")
def flipped(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """Two copies of 40 digits of each part, mirrored, after the originals."""
    folder = tmp_path_factory.mktemp("flipped")
    write_copies(make_config(FLIP, DIGITS, copies=2, originals=True, max_examples=40, name="flipped"), folder)
    return folder


# ---------------------------------------------------------------------------------------------------- what is written


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_each_copy_is_the_augmented_image_of_its_original(flipped: pathlib.Path, part: str) -> None:
    data = load_data(DIGITS)
    source: Split = getattr(data, part).take(np.arange(40))
    rows = _read(flipped, "flipped", part)
    assert rows["copy"].tolist() == [-1] * 40 + [0] * 40 + [1] * 40
    place = {name: i for i, name in enumerate(source.ids)}
    originals = np.array([place[name] for name in _texts(rows["original_id"])])
    for copy in (-1, 0, 1):
        assert sorted(originals[rows["copy"] == copy]) == list(range(40))
    assert originals[40:80].tolist() != originals[80:].tolist()  # each copy has an order of its own
    suffixes = ["original"] * 40 + ["copy_0"] * 40 + ["copy_1"] * 40
    assert _texts(rows["id"]) == [f"{source.ids[i]}_{end}" for i, end in zip(originals, suffixes, strict=True)]
    mirrored = rows["copy"] >= 0
    np.testing.assert_array_equal(rows["image"][~mirrored], source.images[originals[~mirrored]])
    np.testing.assert_array_equal(rows["image"][mirrored], source.images[originals[mirrored]][:, :, ::-1])
    np.testing.assert_array_equal(rows["original_label"], source.labels[originals])
    np.testing.assert_array_equal(rows["label"], np.eye(10, dtype=np.float32)[source.labels[originals]])


def test_mixed_copies_have_the_soft_label_of_their_pixels(tmp_path: pathlib.Path) -> None:
    config = make_config("CM(1)", DIGITS, splits=("test",), max_examples=64)
    name = write_copies(config, tmp_path).name
    assert name == "digits_cm_alpha1"
    rows = _read(tmp_path, name, "test")
    np.testing.assert_allclose(rows["label"].sum(axis=1), 1, atol=1e-6)
    _, test = digits.load_digits()
    place = {name: i for i, name in enumerate(test.ids)}
    originals = test.images[[place[name] for name in _texts(rows["original_id"])]]
    kept = (rows["image"] == originals).all(axis=-1).mean(axis=(1, 2))
    weight = rows["label"][np.arange(64), rows["original_label"]]
    assert (kept >= weight - 1e-6).sum() >= 60  # a partner of the same class adds to the weight, not to the pixels
    assert ((weight > 0) & (weight < 1)).sum() >= 40
    assert rows["image"].dtype == np.uint8


def test_the_metadata_say_how_the_set_was_made(flipped: pathlib.Path) -> None:
    info = tfds.builder("flipped", data_dir=flipped).info
    op = augment.Flip(p=1.0)
    told = dict(info.metadata)
    assert told["op"] == FLIP and told["op_config"] == {"class": "Flip", **dataclasses.asdict(op)}
    assert told["op_fingerprint"] == fingerprint(op)
    assert (told["seed"], told["copies"], told["originals_included"], told["source"]) == (0, 2, True, "digits")
    assert (told["validation_fraction"], told["split_seed"]) == (0.1, 0)
    assert set(told["splits"]) == {"train", "validation", "test"}
    for counts in told["splits"].values():
        # No digit is its own mirror image or of one colour.
        assert counts == {"num_originals": 40, "num_copies": 80, "num_unchanged": 0, "num_blank": 0}
    assert info.supervised_keys == ("image", "label")
    assert info.features["original_label"].names == list("0123456789")
    assert info.splits["train"].num_examples == 120


def test_tfds_loads_the_set_without_tfaug(flipped: pathlib.Path) -> None:
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        f"data = tfds.load('flipped', data_dir={str(flipped)!r}, split='train', as_supervised=True)\n"
        "image, label = next(iter(tfds.as_numpy(data)))\n"
        "assert not [name for name in sys.modules if name.startswith('tfaug')]\n"
        "print(image.shape, image.dtype, label.shape, label.dtype, len(data))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240, cwd=flipped)
    assert done.stdout.split("\n")[0] == "(32, 32, 3) uint8 (10,) float32 120", done.stderr


def test_blank_and_unchanged_copies_are_counted(tmp_path: pathlib.Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, [6, 8, 8, 1], np.uint8)
    images[0] = 7  # stays blank and unchanged
    images[1] = images[1][:, ::-1] // 2 + images[1] // 2
    images[1][:, 4:] = images[1][:, :4][:, ::-1]  # its own mirror image
    np.savez(tmp_path / "six.npz", images=images, labels=np.arange(6))
    written = write_copies(make_config(FLIP, DataConfig(Npz(str(tmp_path / "six.npz")))), tmp_path / "out")
    assert written.metadata["splits"] == {
        "test": {"num_originals": 6, "num_copies": 6, "num_unchanged": 2, "num_blank": 1}
    }


def test_an_npz_file_is_one_part_with_its_own_ids_and_classes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "second test.npz"
    images = np.arange(5 * 4 * 6, dtype=np.uint8).reshape(5, 4, 6, 1)
    np.savez(path, images=images, labels=np.array([0, 1, 2, 1, 0]), ids=np.array(list("abcde")))
    written = write_copies(make_config(FLIP, DataConfig(Npz(path, num_classes=4))), tmp_path / "out")
    assert written.name == "second_test_flip_p1_0"
    assert written.metadata["source"] == "second test.npz"  # and not the folder, which differs between machines
    assert written.metadata["source_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    rows = _read(tmp_path / "out", written.name, "test")
    assert sorted(_texts(rows["original_id"])) == list("abcde")
    assert rows["label"].shape == (5, 4) and rows["image"].shape == (5, 4, 6, 1)
    named = make_config(FLIP, DataConfig(Npz(path)), splits=("train",), name="other")
    assert list(write_copies(named, tmp_path / "out").metadata["splits"]) == ["train"]


def test_a_set_of_originals_needs_no_op(tmp_path: pathlib.Path) -> None:
    written = write_copies(make_config("saliency_orig", DIGITS), tmp_path)
    assert written.name == "digits_saliency_orig" and written.metadata["op"] == ""
    rows = _read(tmp_path, written.name, "train")
    assert np.bincount(rows["original_label"]).tolist() == [10] * 10 and set(rows["copy"]) == {-1}
    train = load_data(dataclasses.replace(DIGITS, num_train_examples=100)).train
    assert sorted(_texts(rows["original_id"])) == train.ids.tolist()


def test_copies_of_soft_labels_start_from_the_soft_labels(tmp_path: pathlib.Path) -> None:
    mixed = write_copies(make_config("CutMix()", DIGITS, splits=("test",), max_examples=64, name="mixed"), tmp_path)
    config = make_config(FLIP, DataConfig(Tfds(str(mixed.path))), splits=("test",))
    assert config.dataset_name == "mixed_flip_p1_0"  # named by the set, not by the folders above it
    write_copies(config, tmp_path)
    before, after = (_read(tmp_path, name, "test") for name in ("mixed", "mixed_flip_p1_0"))
    place = {name: i for i, name in enumerate(_texts(before["id"]))}
    rows = [place[name] for name in _texts(after["original_id"])]
    np.testing.assert_array_equal(after["label"], before["label"][rows])
    np.testing.assert_array_equal(after["image"], before["image"][rows][:, :, ::-1])


# ---------------------------------------------------------------------------------------------------- determinism


def test_the_same_config_gives_the_same_bytes_and_another_seed_others(
    tmp_path: pathlib.Path, small_blocks: None
) -> None:
    sums = []
    for run, seed in enumerate((3, 3, 4)):
        config = make_config("CutMix() + PadCrop()", DIGITS, copies=2, seed=seed, max_examples=24, name="mixed")
        sums.append(_sums(write_copies(config, tmp_path / str(run)).path))
    records = [name for name in sums[0] if ".tfrecord-" in name]
    # 24 examples are three blocks of 8; two copies are six blocks, so three files a part.
    assert len(records) == 9 and "mixed-train.tfrecord-00002-of-00003" in records
    assert sums[0] == sums[1]
    assert all(sums[0][name] != sums[2][name] for name in records)


def test_a_part_alone_gives_the_records_that_it_gives_among_others(tmp_path: pathlib.Path, small_blocks: None) -> None:
    config = make_config("CutMix()", DIGITS, max_examples=20, name="mixed")
    whole = _sums(write_copies(config, tmp_path / "whole").path)
    alone = _sums(write_copies(dataclasses.replace(config, splits=("test",)), tmp_path / "alone").path)
    records = {name: value for name, value in alone.items() if ".tfrecord-" in name}
    assert records and records.items() <= whole.items()


def test_no_two_blocks_copies_or_parts_share_their_draws(tmp_path: pathlib.Path, small_blocks: None) -> None:
    image = np.arange(1, 65, dtype=np.uint8).reshape(1, 8, 8, 1)
    np.savez(tmp_path / "same.npz", images=np.repeat(image, 24, axis=0), labels=np.zeros(24, int))
    seen = []
    for part in ("train", "test"):
        config = make_config(
            "PadCrop()", DataConfig(Npz(str(tmp_path / "same.npz"))), splits=(part,), copies=2, name=part
        )
        write_copies(config, tmp_path / "out")
        images = _read(tmp_path / "out", part, part)["image"]
        seen += [block.tobytes() for block in np.split(images, 6)]
    # 81 crops: that two blocks of eight agree by chance has a probability of 81^-8 each.
    assert len(set(seen)) == 12


def test_beam_writes_the_same_bytes(tmp_path: pathlib.Path, small_blocks: None) -> None:
    pytest.importorskip("apache_beam", reason="Apache Beam is not installed (pip install tfaug[beam])")
    config = make_config("CutMix()", DIGITS, copies=2, originals=True, max_examples=20, name="mixed")
    here = write_copies(config, tmp_path / "here")
    beam = write_copies(config, tmp_path / "beam", beam_options=("runner=DirectRunner", "direct_num_workers=1"))
    assert _sums(here.path) == _sums(beam.path)
    assert here.metadata == beam.metadata


def test_beam_is_asked_for_by_name_where_it_is_absent(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(ConfigError, match=r"not installed; allowed: pip install 'tfaug\[beam\]'"):
        write_copies(make_config(FLIP, DIGITS), tmp_path, beam_options=())


# ---------------------------------------------------------------------------------------------------- all or nothing


def test_killed_half_way_it_leaves_nothing_that_loads_and_the_same_command_completes(tmp_path: pathlib.Path) -> None:
    arguments = ["--dataset=digits", f"--op={FLIP}", "--split=test", "--max_examples=200", "--copies=20"]
    arguments += ["--name=killed", f"--out={tmp_path}"]
    command = [sys.executable, "-m", "tfaug.cli", "data", "augment", *arguments]
    writer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        first_file = "killed/.partial-*/killed-test.tfrecord-00000-of-00004"
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob(first_file)):
            assert writer.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        assert writer.wait() == -signal.SIGKILL  # it was still writing
    assert list(tmp_path.glob("killed/.partial-*"))
    assert not (tmp_path / "killed" / "1.0.0").exists()
    with pytest.raises(tfds.core.DatasetNotFoundError):
        tfds.load("killed", data_dir=tmp_path)
    assert cli.main(["data", "augment", *arguments]) == 0
    assert len(tfds.load("killed", data_dir=tmp_path, split="test")) == 4000
    assert [path.name for path in (tmp_path / "killed").iterdir()] == ["1.0.0"]


def test_an_op_that_changes_nothing_is_refused_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"op 'Flip\(p=0\.0\)' changes none of the images; allowed: an op that does"):
        write_copies(make_config("Flip(p=0.0)", DIGITS, max_examples=8), tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_written_set_is_never_overwritten(flipped: pathlib.Path) -> None:
    before = _sums(flipped)
    with pytest.raises(ConfigError, match=r"flipped/1\.0\.0 exists already and is never overwritten; allowed: another"):
        write_copies(make_config("PadCrop()", DIGITS, name="flipped"), flipped)
    assert _sums(flipped) == before


# ---------------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"copies": 0}, r"CopiesConfig\.copies is 0; allowed: a whole number, 1 or more"),
        ({"seed": -1}, r"CopiesConfig\.seed is -1; allowed: a whole number, 0\.\."),
        ({"max_examples": -1}, r"CopiesConfig\.max_examples is -1; allowed: a whole number, 0 or more"),
        ({"splits": ("trian",)}, r"split is 'trian' \(did you mean 'train'\?\); allowed: train, validation, test"),
        ({"splits": ("test", "test")}, r"splits are test, test; allowed: each once"),
        ({"name": "Two words"}, r"name is 'Two words'; allowed: a-z, 0-9 and _"),
        ({"op": "Flop()"}, r"'Flop' is unknown"),
        ({"op": ""}, r"op is missing; allowed: as in .* RA\(1,20\)"),
        (
            {"op": "CutMix(p=Linear(0, 1))"},
            r"has the schedule Linear\(initial=0, final=1\), but copies have no training",
        ),
        ({"op": "Flip() + CutMix(p=Linear(0, 1))"}, r"has the schedule Linear"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(**{"op": FLIP, "data": DIGITS, **wrong})


def test_what_does_not_fit_the_images_is_refused_before_anything_is_written(tmp_path: pathlib.Path) -> None:
    np.savez(tmp_path / "tiny.npz", images=np.zeros([4, 4, 4, 3], np.uint8), labels=np.arange(4))
    data = DataConfig(Npz(str(tmp_path / "tiny.npz")))
    with pytest.raises(ConfigError, match=r"does not fit images \[4, 4, 3\]: .*translates by 6\.\d+ px"):
        write_copies(make_config("RandAugment(n=1, m=20)", data), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"num_classes is 3; allowed: more than the largest label, 3"):
        few = dataclasses.replace(data.source, num_classes=3)
        write_copies(make_config(FLIP, DataConfig(few)), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"allowed: one, because Npz\(.*\) is one part"):
        write_copies(make_config(FLIP, data, splits=("train", "test")), tmp_path / "out")
    with pytest.raises(ConfigError, match=r"unknown to tensorflow-datasets .*did you mean 'cifar10'"):
        write_copies(make_config(FLIP, DataConfig(Tfds("cifar1O", str(tmp_path)))), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def _saliency(kind: type[augment.Augmentation]) -> augment.Augmentation:
    """The op of `augment.SALIENCY` of a class."""
    (op,) = (op for op in augment.SALIENCY if type(op) is kind)
    return op


_NAMED_OPS: dict[str, augment.Augmentation] = {
    "RA(1,20)": augment.RandAugment(1, 20, preset="efficientnet_tpu"),
    "RA(2,5)": augment.RandAugment(2, 5, preset="efficientnet_tpu"),
    "RA(2,20)": augment.RandAugment(2, 20, preset="efficientnet_tpu"),
    "RA(3,20)": augment.RandAugment(3, 20, preset="efficientnet_tpu"),
    "CM(1)": augment.CutMix(alpha=1.0, p=1.0),
    "CM(.5)": augment.CutMix(alpha=0.5, p=1.0),
    "CM(.25)": augment.CutMix(alpha=0.25, p=1.0),
    "saliency_scale": _saliency(augment.RandomScale),
    "saliency_crop": _saliency(augment.RandomCrop),
    "saliency_erase": _saliency(augment.RandomErasing),
    "saliency_elastic": _saliency(augment.ElasticDistortion),
    "saliency_blur": _saliency(augment.GaussianBlur),
}


@pytest.mark.parametrize("key", NAMED)
def test_every_named_set_is_an_op_of_its_own_name(key: str) -> None:
    config = make_config(key, DataConfig(Tfds("mnist")))
    named = NAMED[key]
    assert config.dataset_name == f"mnist_{named.name}"
    assert config.named == key and config.op == named.op
    if named.op:
        assert config.parsed_op == _NAMED_OPS[key]
    saliency = key.startswith("saliency")
    assert config.originals is saliency and config.data.num_train_examples == (100 if saliency else 0)
    assert config.copies == (1 if not saliency else 0 if key == "saliency_orig" else 10)


def test_names_are_found_however_they_are_spaced_and_say_what_differs() -> None:
    assert make_config("RA(1, 20)", DIGITS) == make_config("RA(1,20)", DIGITS)
    assert make_config("CM(0.5)", DIGITS) == make_config("CM(.5)", DIGITS)
    assert len({named.name for named in NAMED.values()}) == len(NAMED)
    assert (
        make_config("RandAugment(n=1, m=20)", DataConfig(Tfds("cifar10"))).dataset_name == "cifar10_randaugment_n1_m20"
    )
    assert make_config("CM(1)", DataConfig(Tfds("cifar10_1/v6")), copies=3).dataset_name == "cifar10_1_v6_cm_alpha1_x3"
    assert CopiesConfig(DataConfig(Npz("/x/10.npz")), FLIP).dataset_name == "set_10_flip_p1_0"


def test_the_command_line_writes_and_says_where(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        copies, "tqdm", lambda **settings: tqdm.tqdm(**{**settings, "disable": False})
    )  # as on a terminal
    arguments = ["data", "augment", "--dataset=digits", "--split=train,test", f"--op={FLIP}", f"--out={tmp_path}"]
    assert cli.main([*arguments, "--max_examples=40", "--seed=5"]) == 0
    out = capsys.readouterr()
    assert "train: 40 originals, 40 copies, of which 0 unchanged and 0 blank" in out.out
    assert f"tfds.load('digits_flip_p1_0', data_dir='{tmp_path}')" in out.out
    assert "writing digits_flip_p1_0" in out.err and "80/80" in out.err
    assert cli.main(arguments) == 2
    assert "exists already and is never overwritten" in capsys.readouterr().err
    for missing in ("--dataset=", "--op=", "--out="):
        assert cli.main([*(a for a in arguments if not a.startswith(missing)), missing]) == 2
        assert f"{missing[:-1]} is missing" in capsys.readouterr().err
    assert "data augment" in cli.usage()


# ---------------------------------------------------------------------------------------------------- training on copies


def test_load_data_reads_soft_labels_and_the_named_validation_split(tmp_path: pathlib.Path) -> None:
    write_copies(make_config("CutMix()", DIGITS, max_examples=40, name="mixed"), tmp_path)
    config = DataConfig(Tfds("mixed", str(tmp_path), validation_split="validation"))
    cold, warm = (load_data(config, cache_dir=tmp_path / "cache") for _ in range(2))
    for data in (cold, warm):
        for part in ("train", "validation", "test"):
            split: Split = getattr(data, part)
            rows = _read(tmp_path, "mixed", part)
            assert split.probs is not None and split.original_ids is not None
            np.testing.assert_array_equal(split.label_rows(10), rows["label"])
            np.testing.assert_array_equal(split.labels, rows["label"].argmax(axis=1))
            assert split.original_ids.tolist() == _texts(rows["original_id"])
            half = split.take(np.arange(0, 40, 2))
            np.testing.assert_array_equal(half.label_rows(10), rows["label"][::2])
    assert cold.class_names == tuple("0123456789")
    with pytest.raises(ValueError, match="the soft labels have 10 classes; allowed: 3"):
        cold.train.label_rows(3)


def test_copies_of_one_original_are_not_split_between_training_and_validation(flipped: pathlib.Path) -> None:
    data = load_data(DataConfig(Tfds("flipped", str(flipped)), validation_fraction=0.25))
    assert (len(data.train), len(data.validation)) == (90, 30)
    assert data.train.original_ids is not None and data.validation.original_ids is not None
    assert not set(data.train.original_ids) & set(data.validation.original_ids)


def test_a_validation_split_must_exist_and_share_no_example(flipped: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"train_split 'train' and validation_split 'train\[:9\]' share 9 examples"):
        load_data(DataConfig(Tfds("flipped", str(flipped), validation_split="train[:9]")))
    # Without soft labels the rows are one-hot.
    train = load_data(DIGITS).train
    np.testing.assert_array_equal(train.label_rows(10), tf.one_hot(train.labels, 10).numpy())


# ---------------------------------------------------------------------------------------------------- real data


def _shared(name: str) -> str:
    """The TFDS folder, if it holds the set."""
    folder = os.environ.get("TFDS_DATA_DIR") or ""
    if not folder or not list(pathlib.Path(folder, name).glob("*/dataset_info.json")):
        pytest.skip(f"TFDS_DATA_DIR names no folder that holds {name}")
    return folder


def test_ra_1_20_leaves_the_papers_share_of_cifar_images_blank(tmp_path: pathlib.Path) -> None:
    data = DataConfig(Tfds("cifar10", _shared("cifar10")))
    written = write_copies(make_config("RA(1,20)", data, splits=("test",), max_examples=1000), tmp_path)
    assert written.name == "cifar10_ra_n1_m20" and written.metadata["source"].startswith("cifar10/3.")
    # 18.8 % by the definition of the ops; 3.7 points are three deviations of 1,000 draws.
    assert abs(written.metadata["splits"]["test"]["num_blank"] / 1000 - 0.188) < 0.037
    ids = _texts(_read(tmp_path, written.name, "test")["original_id"])
    assert len(set(ids)) == 1000 and all(name.startswith("test_") for name in ids)


def test_the_saliency_sets_have_100_digits_and_ten_copies_of_each(tmp_path: pathlib.Path) -> None:
    data = DataConfig(Tfds("mnist", _shared("mnist")))
    erased = write_copies(make_config("saliency_erase", data), tmp_path)
    assert erased.name == "mnist_saliency_erase" and list(erased.metadata["splits"]) == ["train"]
    rows = _read(tmp_path, erased.name, "train")
    assert len(rows["id"]) == len(set(_texts(rows["id"]))) == 1100
    assert np.bincount(rows["original_label"][:100]).tolist() == [10] * 10
    assert rows["copy"].tolist() == [copy for copy in range(-1, 10) for _ in range(100)]
    names, counts = np.unique(_texts(rows["original_id"]), return_counts=True)
    assert set(names) == set(_texts(rows["original_id"][:100])) and set(counts.tolist()) == {11}
