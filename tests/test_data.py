"""tfaug/data: splits and orders, digits, TFDS sets, the cache, test sets from files; real CIFAR-10 if at hand."""

from __future__ import annotations

import hashlib
import itertools
import os
import pathlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from scipy import ndimage
from sklearn import datasets
from sklearn.svm import SVC

from tfaug.config import ConfigError
from tfaug.data import (
    CorruptedDigits,
    DataConfig,
    Digits,
    ImageData,
    Npz,
    Split,
    Tfds,
    balanced_subset,
    load,
    load_data,
    load_test_set,
    read_source,
    stratified_split,
    user_cache_dir,
)
from tfaug.data.sources import digits
from tfaug.data.sources import tfds as tfds_source

# ---------------------------------------------------------------------------------------------------- splits and orders


def test_stratified_split_gives_each_class_its_share_by_largest_remainder() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 2], [7, 9, 4]))
    kept, held_out = stratified_split(labels, 6, seed=3)
    # shares of 6: 2.1, 2.7, 1.2 -> 2, 2, 1 and the one still missing goes to class 1
    assert np.bincount(labels[held_out]).tolist() == [2, 3, 1]
    assert sorted([*kept, *held_out]) == list(range(20))
    assert (np.diff(kept) > 0).all() and (np.diff(held_out) > 0).all()


def test_stratified_split_holds_out_every_example_of_a_class_equally_often() -> None:
    labels = np.array([0] * 6 + [1] * 4)
    counts = np.zeros(10)
    for seed in range(2000):
        counts[stratified_split(labels, 5, seed=seed)[1]] += 1
    np.testing.assert_allclose(counts / 2000, 0.5, atol=0.045)  # four deviations of a share of 1/2 in 2,000 draws


@pytest.mark.parametrize("num_held_out", [0, 4, -1])
def test_stratified_split_refuses_an_empty_part(num_held_out: int) -> None:
    with pytest.raises(ValueError, match=r"num_held_out is -?\d of 4 examples; allowed: 1\.\.3"):
        stratified_split(np.array([0, 0, 1, 1]), num_held_out, seed=0)


def test_balanced_subset_takes_equal_numbers_and_grows_by_inclusion() -> None:
    labels = np.random.default_rng(1).permutation(np.repeat([0, 1, 2], [10, 20, 30]))
    small, large = balanced_subset(labels, 7, seed=4), balanced_subset(labels, 27, seed=4)
    assert np.bincount(labels[small]).tolist() == [3, 2, 2]
    assert np.bincount(labels[large]).tolist() == [9, 9, 9]
    assert set(small) < set(large)
    assert (np.diff(large) > 0).all()
    assert balanced_subset(labels, 7, seed=5).tolist() != small.tolist()


def test_balanced_subset_refuses_more_than_the_smallest_class_has() -> None:
    with pytest.raises(ValueError, match=r"needs 3 of class 1, which has 2; allowed: 1\.\.4"):
        balanced_subset(np.array([0, 0, 0, 0, 1, 1]), 6, seed=0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"images": np.zeros((2, 4, 4, 3), np.float32)}, r"images are float32 \[2, 4, 4, 3\]; allowed: uint8"),
        ({"images": np.zeros((2, 4, 4), np.uint8)}, r"images are uint8 \[2, 4, 4\]"),
        ({"labels": np.zeros(2, np.int32)}, r"labels are int32 \[2\]; allowed: int64"),
        ({"ids": np.array([b"a", b"b"])}, r"ids are \|S1 \[2\]; allowed: str"),
        ({"labels": np.zeros(3, np.int64)}, "2 images, 3 labels and 2 ids; allowed: as many of each"),
    ],
)
def test_split_refuses_arrays_that_do_not_belong_together(wrong: dict[str, np.ndarray], message: str) -> None:
    good: dict[str, Any] = {
        "images": np.zeros((2, 4, 4, 3), np.uint8),
        "labels": np.zeros(2, np.int64),
        "ids": np.array(["a", "b"]),
    }
    with pytest.raises(ValueError, match=message):
        Split(**{**good, **wrong})


# ---------------------------------------------------------------------------------------------------- digits


@pytest.fixture(scope="module")
def digit_data() -> ImageData:
    return load_data(DataConfig())


def test_digits_are_scikit_learns_images_enlarged_as_pillow_would(digit_data: ImageData) -> None:
    bundled = datasets.load_digits()
    for split in (digit_data.train, digit_data.validation, digit_data.test):
        rows = [int(name.removeprefix("digits_")) for name in split.ids]
        np.testing.assert_array_equal(split.labels, bundled.target[rows])
        for row, image in list(zip(rows, split.images, strict=True))[:40]:
            small = Image.fromarray((bundled.images[row] * 255 / 16).astype(np.float32), mode="F")
            wanted = np.asarray(small.resize((32, 32), Image.Resampling.BILINEAR))
            assert np.abs(image[..., 0] - wanted).max() <= 0.5 + 1e-4
            assert (image == image[..., :1]).all()


def test_digits_parts_are_disjoint_whole_and_stratified(digit_data: ImageData) -> None:
    parts = (digit_data.train, digit_data.validation, digit_data.test)
    assert [len(part) for part in parts] == [1293, 144, 360]
    assert sorted(itertools.chain(*(part.ids for part in parts))) == [f"digits_{i:04d}" for i in range(1797)]
    counts = np.bincount(datasets.load_digits().target)
    for part in parts:
        assert np.abs(np.bincount(part.labels) - counts * len(part) / 1797).max() <= 1.0


def test_split_seed_moves_the_validation_part_and_never_the_test_part(digit_data: ImageData) -> None:
    other = load_data(DataConfig(split_seed=1))
    assert other.test.ids.tolist() == digit_data.test.ids.tolist()
    assert set(other.validation.ids) != set(digit_data.validation.ids)
    assert load_data(DataConfig()).validation.ids.tolist() == digit_data.validation.ids.tolist()


def test_digits_handed_out_cannot_be_changed_for_the_next_caller(digit_data: ImageData) -> None:
    with pytest.raises(ValueError, match="read-only"):
        digit_data.test.images[0] = 0


def test_mean_and_std_are_those_of_the_train_part_alone(digit_data: ImageData) -> None:
    scaled = digit_data.train.images.astype(np.float64) / 255
    np.testing.assert_allclose(digit_data.mean, scaled.mean(axis=(0, 1, 2)), rtol=1e-10)
    np.testing.assert_allclose(digit_data.std, scaled.std(axis=(0, 1, 2)), rtol=1e-10)


def test_num_train_examples_takes_a_balanced_subset_and_leaves_the_rest_alone(digit_data: ImageData) -> None:
    small = load_data(DataConfig(num_train_examples=100))
    assert np.bincount(small.train.labels).tolist() == [10] * 10
    assert set(small.train.ids) < set(digit_data.train.ids)
    assert small.validation.ids.tolist() == digit_data.validation.ids.tolist()
    assert small.mean != digit_data.mean
    with pytest.raises(ConfigError, match=r"DataConfig\.num_train_examples: .* allowed: 1\.\."):
        load_data(DataConfig(num_train_examples=1290))


def test_corrupted_digits_cost_a_plain_model_part_of_its_accuracy(digit_data: ImageData) -> None:
    corrupted = load_test_set(CorruptedDigits(), like=digit_data)
    assert corrupted.ids.tolist() == digit_data.test.ids.tolist()
    assert corrupted.labels.tolist() == digit_data.test.labels.tolist()
    model = SVC().fit(digit_data.train.images[..., 0].reshape(1293, -1) / 255.0, digit_data.train.labels)
    clean, shifted = (
        model.score(split.images[..., 0].reshape(360, -1) / 255.0, split.labels)
        for split in (digit_data.test, corrupted)
    )
    assert clean > 0.97
    assert 0.7 < shifted < 0.92


def test_the_corruption_is_the_same_every_time_and_its_parts_are_as_documented(
    digit_data: ImageData, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = digit_data.test.images[:30]
    np.testing.assert_array_equal(digits.corrupt(images), digits.corrupt(images))
    monkeypatch.setattr(digits, "ROTATION_DEG", 0.0)
    noisy = digits.corrupt(images)
    monkeypatch.setattr(digits, "NOISE_STD", 0.0)
    clean = digits.corrupt(images)
    blurred = ndimage.gaussian_filter(images.astype(np.float64), (0, 1.5, 1.5, 0), mode="mirror", radius=5)
    assert np.abs(clean - (127.5 + 0.75 * (blurred - 127.5))).max() <= 0.5 + 1e-3
    noise = noisy.astype(np.float64) - clean
    assert noise[clean > 60].std() == pytest.approx(15.0, rel=0.03)
    assert (noise == noise[..., :1]).all()


# ------------------------------------------------------------------------------------------------------- sets of TFDS


def _store(folder: pathlib.Path, name: str, splits: dict[str, list[dict[str, Any]]], **other: Any) -> pathlib.Path:
    """Writes a prepared TFDS set, seven examples a file if not told otherwise, of which no builder code exists."""
    features = {"image": tfds.features.Image(shape=(4, 5, 3)), "label": tfds.features.ClassLabel(num_classes=3)}
    features = {**features, **other.pop("features", {})}
    path = folder / name / other.pop("version", "1.0.0")
    path.mkdir(parents=True)
    identity = tfds.core.dataset_info.DatasetIdentity(
        name=name, version=tfds.core.Version(path.name), data_dir=str(path), module_name=""
    )
    info = tfds.core.DatasetInfo(
        builder=identity, features=tfds.features.FeaturesDict(features), supervised_keys=("image", "label")
    )
    writer = tfds.core.SequentialWriter(info, max_examples_per_shard=other.pop("per_file", 7))
    writer.initialize_splits(list(splits))
    writer.add_examples(splits)
    writer.close_all()
    return path


def _examples(num_examples: int, first: int = 0) -> list[dict[str, Any]]:
    """Example i is an image whose first pixel is i; labels 0, 1, 2, 0, ..."""
    draws = np.random.default_rng(first)
    rows: list[dict[str, Any]] = [
        {"image": draws.integers(0, 256, (4, 5, 3), np.uint8), "label": i % 3} for i in range(num_examples)
    ]
    for i, row in enumerate(rows):
        row["image"][0, 0] = first + i
    return rows


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("tfds")
    _store(folder, "plain", {"train": _examples(30), "test": _examples(9, first=100)})
    return folder


def test_the_first_records_of_a_split_are_read_and_no_others(
    stored: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tfds_source, "POOL_SIZE", 4)
    [(part, split)] = Tfds("plain", str(stored)).first(100).splits.items()
    assert part == "train" and split.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3]  # of the classes 0, 1, 2, 0
    assert Tfds("plain", str(stored)).first(2).splits["train"].ids.tolist() == ["train_00000", "train_00001"]
    [(part, split)] = read_source("plain:1.0.0:test", data_dir=str(stored)).first(2).splits.items()
    assert part == "test" and split.images[:, 0, 0, 0].tolist() == [100, 101]
    with pytest.raises(ConfigError, match=r"no split 'tset' \(did you mean 'test'\?\); allowed: train, test"):
        read_source("plain:tset", data_dir=str(stored)).first(4)


def test_a_set_without_a_train_split_shows_its_first_one(tmp_path: pathlib.Path) -> None:
    _store(tmp_path, "tests", {"test": _examples(3)})
    assert list(Tfds("tests", str(tmp_path)).first(2).splits) == ["test"]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the splits that were decoded from records."""
    names: list[str] = []
    decode = tfds_source._decode_split

    def spy(builder: Any, split: str, keys: Any) -> Split:
        names.append(split)
        return decode(builder, split, keys)

    monkeypatch.setattr(tfds_source, "_decode_split", spy)
    yield names


def test_a_prepared_set_without_builder_code_loads_in_the_order_of_its_records(stored: pathlib.Path) -> None:
    data = load_data(DataConfig(Tfds("plain", str(stored)), validation_fraction=0.2))
    assert (len(data.train), len(data.validation), len(data.test)) == (24, 6, 9)
    assert (data.image_shape, data.num_classes, data.class_names) == ((4, 5, 3), 3, ("0", "1", "2"))
    for split, name in ((data.train, "train"), (data.validation, "train"), (data.test, "test")):
        place = split.images[:, 0, 0, 0].astype(int) - (100 if name == "test" else 0)
        assert split.ids.tolist() == [f"{name}_{i:05d}" for i in place]
        assert split.labels.tolist() == (place % 3).tolist()
    assert data.test.images[:, 0, 0, 0].tolist() == list(range(100, 109))
    assert np.bincount(data.validation.labels).tolist() == [2, 2, 2]


def test_files_are_read_one_after_the_other(tmp_path: pathlib.Path) -> None:
    # TFDS would by default take turns of 16 examples between files.
    _store(tmp_path, "large", {"train": _examples(3), "test": _examples(50)}, per_file=20)
    assert load_test_set(Tfds("large", str(tmp_path))).images[:, 0, 0, 0].tolist() == list(range(50))


def test_the_folder_of_a_set_serves_as_its_name_and_tfds_data_dir_as_the_default(
    stored: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_folder = load_data(DataConfig(Tfds(str(stored / "plain" / "1.0.0"))))
    monkeypatch.setenv("TFDS_DATA_DIR", str(stored))
    by_name = load_data(DataConfig(Tfds("plain")))
    np.testing.assert_array_equal(by_folder.train.images, by_name.train.images)


def test_a_set_with_one_split_is_cut_by_slices_that_may_not_overlap(stored: pathlib.Path) -> None:
    config: dict[str, Any] = {"name": "plain", "data_dir": str(stored), "train_split": "train[:18]"}
    data = load_data(DataConfig(Tfds(**config, test_split="train[18:]")))
    assert data.test.images[:, 0, 0, 0].tolist() == list(range(18, 30))
    assert data.test.ids[0] == "train[18:]_00000"
    with pytest.raises(ConfigError, match=r"'train\[:18\]' and test_split 'train\[17:\]' share 1 examples"):
        load_data(DataConfig(Tfds(**config, test_split="train[17:]")))


def test_an_id_of_the_set_is_kept(tmp_path: pathlib.Path) -> None:
    rows = [{**row, "id": f"img{i * i}"} for i, row in enumerate(_examples(6))]
    _store(tmp_path, "named", {"train": rows, "test": rows[:3]}, features={"id": tfds.features.Text()})
    assert load_test_set(Tfds("named", str(tmp_path))).ids.tolist() == ["img0", "img1", "img4"]
    assert load_test_set(read_source("named:train[4:]", data_dir=str(tmp_path))).ids.tolist() == ["img16", "img25"]


def test_a_prepared_version_is_used_before_anything_is_downloaded(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError("no network here")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(ConfigError, match=r"'mnist' is not in .* could not be downloaded \(OSError: no network here\)"):
        load_data(DataConfig(Tfds("mnist", str(tmp_path))))
    splits = {"train": _examples(9), "test": _examples(3)}
    _store(tmp_path, "mnist", splits, version="2.10.0")
    _store(tmp_path, "mnist", {**splits, "test": _examples(6)}, version="2.9.0")
    assert len(load_data(DataConfig(Tfds("mnist", str(tmp_path)))).test) == 3


def test_the_cache_answers_the_second_call_with_the_same_arrays(
    stored: pathlib.Path, tmp_path: pathlib.Path, decoded: list[str]
) -> None:
    config = DataConfig(Tfds("plain", str(stored)))
    first = load_data(config, cache_dir=tmp_path / "new")
    assert decoded == ["train", "test"]
    second = load_data(config, cache_dir=tmp_path / "new")
    assert decoded == ["train", "test"]
    for part in ("train", "validation", "test"):
        for array in ("images", "labels", "ids"):
            one, two = (getattr(getattr(data, part), array) for data in (first, second))
            assert one.dtype == two.dtype
            np.testing.assert_array_equal(one, two)
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "plain_1.0.0-test.npz",
        "plain_1.0.0-train.npz",
    ]


def _cut_short(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _flip_a_pixel(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _not_a_zip(path: pathlib.Path) -> None:
    path.write_text("something else")


def _other_key(path: pathlib.Path) -> None:
    with np.load(path) as file:
        arrays = dict(file)
    np.savez(path, **{**arrays, "images": arrays["images"] + 1, "key": np.array("another set")})


@pytest.mark.parametrize("damage", [_cut_short, _flip_a_pixel, _not_a_zip, _other_key])
def test_a_damaged_or_foreign_cache_is_made_again(
    damage: Any, stored: pathlib.Path, tmp_path: pathlib.Path, decoded: list[str]
) -> None:
    wanted = load_test_set(Tfds("plain", str(stored), test_split="train"), cache_dir=tmp_path)
    damage(tmp_path / "plain_1.0.0-train.npz")
    for _ in range(2):
        again = load_test_set(Tfds("plain", str(stored), test_split="train"), cache_dir=tmp_path)
        np.testing.assert_array_equal(again.images, wanted.images)
    assert decoded == ["train", "train"]


def test_a_cache_of_records_that_were_since_replaced_is_made_again(tmp_path: pathlib.Path, decoded: list[str]) -> None:
    for folder, first in (("a", 0), ("b", 50)):
        _store(tmp_path / folder, "same", {"train": _examples(6), "test": _examples(5 + (first > 0), first=first)})
        got = load_test_set(Tfds("same", str(tmp_path / folder)), cache_dir=tmp_path / "cache")
        assert got.images[0, 0, 0, 0] == first
    assert decoded == ["test", "test"]


@pytest.mark.parametrize(
    ("image", "value", "message"),
    [
        (tfds.features.Image(shape=(None, None, 3)), (4, 5, 3), r"'image' is uint8 \[None, None, 3\]; allowed: uint8"),
        (tfds.features.Image(shape=(4, 5, 1), dtype=np.uint16), (4, 5, 1), r"'image' is uint16 \[4, 5, 1\]; allowed"),
        (
            tfds.features.Tensor(shape=(4, 5, 3), dtype=np.uint8),
            (4, 5, 3),
            r"no one Image feature \(image: Tensor, label: ",
        ),
    ],
)
def test_images_that_are_not_uint8_of_one_size_are_refused(
    image: Any, value: tuple[int, ...], message: str, tmp_path: pathlib.Path
) -> None:
    rows = [{"image": np.zeros(value, image.np_dtype), "label": 0}] * 3
    _store(tmp_path, "odd", {"train": rows, "test": rows}, features={"image": image})
    with pytest.raises(ConfigError, match=message):
        load_data(DataConfig(Tfds("odd", str(tmp_path))))


def test_examples_without_a_label_are_refused(tmp_path: pathlib.Path) -> None:
    rows = _examples(4)
    rows[2]["label"] = -1
    _store(tmp_path, "hidden", {"test": rows})
    with pytest.raises(ConfigError, match=r"test has labels -1\.\.1; allowed: 0\.\.2 \(-1 means unlabelled\)"):
        load_test_set(Tfds("hidden", str(tmp_path)))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cifar1O", r"'cifar1O' is unknown to tensorflow-datasets .* \(did you mean 'cifar10' or "),
        ("two words", "data set 'two words': Parsing builder name string two words failed"),
        ("cifar10_1/v9", "data set 'cifar10_1/v9': .*BuilderConfig v9 not found"),
        ("plain:valid", r"no split 'valid'; allowed: train, test, or a slice"),
        ("plain:test[:0]", r"split 'test\[:0\]' is empty; allowed: 1 example or more"),
        (":test", r"data set is ':test'; allowed: digits, .* an \.npz file"),
    ],
)
def test_a_wrong_name_or_split_is_refused_with_what_is_allowed(spec: str, message: str, stored: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=message):
        load_test_set(read_source(spec, data_dir=str(stored)))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"validation_fraction": 0.0}, r"DataConfig\.validation_fraction is 0\.0; allowed: 0\.001\.\.0\.5"),
        ({"validation_fraction": 0.6}, r"DataConfig\.validation_fraction is 0\.6"),
        ({"validation_fraction": float("nan")}, r"DataConfig\.validation_fraction is nan"),
        ({"num_train_examples": -1}, r"DataConfig\.num_train_examples is -1; allowed: a whole number, 0 or more"),
        ({"split_seed": -1}, r"DataConfig\.split_seed is -1"),
        ({"source": "cifar10"}, r"DataConfig\.source is 'cifar10'; allowed: a source, as in Digits\(\)"),
        ({"source": Digits}, r"DataConfig\.source is <class .*Digits'>.*; allowed: a source"),
    ],
)
def test_a_config_out_of_range_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DataConfig(**wrong)


def test_a_fraction_that_holds_nothing_out_is_refused(stored: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"validation_fraction is 0\.01 of 30 training examples: nothing to validate"):
        load_data(DataConfig(Tfds("plain", str(stored)), validation_fraction=0.01))


def test_a_constant_channel_gets_a_deviation_to_divide_by() -> None:
    mean, std = load._mean_and_std(np.full((2, 4, 4, 1), 51, np.uint8))
    assert (mean, std) == ((0.2,), (1 / 255,))


def test_user_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.delenv("TFAUG_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert user_cache_dir() == pathlib.Path("/home/someone/.cache/tfaug")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert user_cache_dir() == pathlib.Path("/cache/tfaug")
    monkeypatch.setenv("TFAUG_CACHE_DIR", "~/mine")
    assert user_cache_dir() == pathlib.Path("/home/someone/mine")


# --------------------------------------------------------------------------------------------- test sets from files


def _npz(path: pathlib.Path, **changes: Any) -> str:
    """Writes a test set of four digit-like images; a change of None leaves an array out."""
    arrays = {"images": np.arange(4 * 32 * 32 * 3, dtype=np.uint8).reshape(4, 32, 32, 3), "labels": np.arange(4) + 6}
    arrays.update(changes)
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return str(path)


def test_an_npz_test_set_is_read_as_it_is(tmp_path: pathlib.Path, digit_data: ImageData) -> None:
    split = load_test_set(Npz(_npz(tmp_path / "mine.npz", labels=np.array([1, 2, 3, 9], np.uint8))), like=digit_data)
    np.testing.assert_array_equal(split.images.ravel(), np.arange(4 * 3072, dtype=np.uint8))
    assert (split.labels.dtype, split.labels.tolist()) == (np.int64, [1, 2, 3, 9])
    assert split.ids.tolist() == ["mine_00000", "mine_00001", "mine_00002", "mine_00003"]
    named = load_test_set(Npz(_npz(tmp_path / "named.npz", ids=np.array(["a", "b", "c", "d"]))))
    assert named.ids.tolist() == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, "has no labels, only images; allowed: an .npz file with `images` uint8"),
        ({"images": np.zeros((4, 32, 32, 3))}, r"images are float64 \[4, 32, 32, 3\]"),
        ({"images": np.zeros((4, 32, 32), np.uint8)}, r"images are uint8 \[4, 32, 32\]"),
        ({"labels": np.zeros(4)}, r"labels are float64 \[4\]"),
        ({"labels": np.eye(4, dtype=np.uint8)}, r"labels are uint8 \[4, 4\]"),
        ({"labels": np.zeros(3, int)}, "has 4 images and 3 labels"),
        ({"images": np.zeros((0, 32, 32, 3), np.uint8), "labels": np.zeros(0, int)}, "0 images .* 1 or more"),
        ({"labels": np.array([0, -1, 0, 0])}, "the smallest label is -1"),
        ({"labels": np.array([0, 10, 0, 0])}, r"labels up to 10; allowed: 0\.\.9, as in 'digits'"),
        ({"images": np.zeros((4, 28, 28, 1), np.uint8)}, r"images \[28, 28, 1\]; allowed: \[32, 32, 3\]"),
        ({"ids": np.arange(4)}, r"ids are int64 \[4\]; allowed: str"),
        ({"images": np.array([{}] * 4)}, "Object arrays cannot be loaded"),
    ],
)
def test_an_npz_test_set_that_is_wrong_is_refused(
    changes: dict[str, Any], message: str, tmp_path: pathlib.Path, digit_data: ImageData
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_test_set(Npz(_npz(tmp_path / "wrong.npz", **changes)), like=digit_data)


def test_an_npz_that_is_absent_or_no_npz_is_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.npz does not exist; allowed"):
        load_test_set(Npz(str(tmp_path / "absent.npz")))
    (tmp_path / "text.npz").write_text("no zip")
    with pytest.raises(ConfigError, match=r"text\.npz cannot be read"):
        load_test_set(Npz(str(tmp_path / "text.npz")))


def test_a_test_set_of_other_classes_is_refused(tmp_path: pathlib.Path, digit_data: ImageData) -> None:
    rows = [{"image": np.zeros((32, 32, 3), np.uint8), "label": i} for i in range(10)]
    features = {
        "image": tfds.features.Image(shape=(32, 32, 3)),
        "label": tfds.features.ClassLabel(names=list("abcdefghij")),
    }
    _store(tmp_path, "letters", {"test": rows}, features=features)
    with pytest.raises(ConfigError, match=r"classes a, b, c, ... \(10\); allowed: 0, 1, 2, ... \(10\), as in 'digits'"):
        load_test_set(Tfds("letters", str(tmp_path)), like=digit_data)


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        (
            "digits_corrupted",
            ["digits_corrupted", "own test set", "20 degrees", "1.5 pixels", "0.75", "15 grey levels"],
        ),
        (
            "some/where/cinic10_imagenet.npz",
            ["CINIC-10 ImageNet sample, n = 2,000", "not CIFAR-10.1", "natural shift", "wider class", "label noise"],
        ),
        ("cifar10_1", ["CIFAR-10.1 v4 (n = 2,021)"]),
        ("cifar10_1/v6:test", ["CIFAR-10.1 v6 (n = 2,000)"]),
        ("svhn_cropped:test", ["svhn_cropped:test", "not known here"]),
        ("some/where/cifar10_1.npz", ["cifar10_1.npz", "file", "not known here"]),
    ],
)
def test_a_description_is_one_sentence_that_claims_no_more_than_is_known(spec: str, parts: list[str]) -> None:
    sentence = read_source(spec).describe()
    assert [part for part in parts if part not in sentence] == []
    assert sentence.endswith(".") and "\n" not in sentence and "/" not in sentence.replace("v4/", "")


# ---------------------------------------------------------------------------------------------------------- real data


def _shared_data() -> pathlib.Path:
    folder = os.environ.get("TFAUG_SHARED_DATA")
    if not folder:
        pytest.skip("TFAUG_SHARED_DATA names no folder with tfds/ and npz/")
    return pathlib.Path(folder)


def _tfds_dir(name: str) -> str:
    folder = os.environ.get("TFDS_DATA_DIR") or str(_shared_data() / "tfds")
    if not (pathlib.Path(folder) / name).is_dir():
        pytest.skip(f"{name} is not prepared in {folder}")
    return folder


def _sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def cifar10_test() -> Split:
    return load_test_set(Tfds("cifar10", _tfds_dir("cifar10")))


def test_cifar10_read_by_id_is_the_published_test_set_bit_for_bit(cifar10_test: Split) -> None:
    assert sorted(cifar10_test.ids) == [f"test_{i:05d}" for i in range(10000)]
    order = np.argsort(cifar10_test.ids)
    assert cifar10_test.ids.tolist() != sorted(cifar10_test.ids)  # joining by position would be wrong
    assert _sha256(cifar10_test.images[order]) == "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04"
    labels = cifar10_test.labels[order].astype(np.uint8)
    assert _sha256(labels) == "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5"


def test_cifar10h_joined_by_id_has_the_labels_of_the_test_set(cifar10_test: Split) -> None:
    path = _shared_data() / "npz" / "cifar10h.npz"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    index = np.array([int(name.removeprefix("test_")) for name in cifar10_test.ids])
    with np.load(path) as human:
        np.testing.assert_array_equal(human["labels"][index], cifar10_test.labels)
        agree = (human["probs"][index].argmax(axis=1) == cifar10_test.labels).mean()
    assert agree == pytest.approx(0.9921, abs=1e-9)


def test_cifar10_is_cut_in_three_and_takes_the_cinic10_sample_as_its_shifted_set(tmp_path: pathlib.Path) -> None:
    config = DataConfig(Tfds("cifar10", _tfds_dir("cifar10")))
    data = load_data(config, cache_dir=tmp_path)
    train, validation = data.train, data.validation
    assert np.bincount(train.labels).tolist() == [4500] * 10
    assert np.bincount(validation.labels).tolist() == [500] * 10
    ids = np.concatenate([train.ids, validation.ids])
    order = np.argsort(ids)
    assert ids[order].tolist() == [f"train_{i:05d}" for i in range(50000)]
    images = np.concatenate([train.images, validation.images])[order]
    assert _sha256(images) == "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a"
    assert data.class_names[:3] == ("airplane", "automobile", "bird")
    np.testing.assert_allclose(data.mean, [0.4914, 0.4822, 0.4465], atol=1e-3)
    np.testing.assert_allclose(data.std, [0.2470, 0.2435, 0.2616], atol=1e-3)
    path = _shared_data() / "npz" / "cinic10_imagenet.npz"
    if path.is_file():
        assert np.bincount(load_test_set(Npz(str(path)), like=data).labels).tolist() == [200] * 10


def test_cifar100_subset_of_unknown_builder_loads_the_published_test_set() -> None:
    split = load_test_set(Tfds("cifar100_subset", _tfds_dir("cifar100_subset")))
    order = np.argsort(split.ids)
    assert _sha256(split.images[order]) == "4cb8e5d9309da489bf6b19cc10cd96c3ae6f8daf225380b605aaee4c0d6aee19"
    fine = split.labels[order].astype(np.uint8)  # the fine labels, not the 20 coarse ones
    assert _sha256(fine) == "4dad7d09c7c97d33f6cb928d705cf4196221316fd6e31bdd978a08ed9103ee0b"


def test_mnist_gets_ids_from_the_order_of_reading() -> None:
    split = load_test_set(Tfds("mnist", _tfds_dir("mnist")))
    assert split.images.shape == (10000, 28, 28, 1)
    assert split.ids.tolist() == [f"test_{i:05d}" for i in range(10000)]
    assert np.bincount(split.labels).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
