"""tfaug/data/sources: what every source keeps, folders of images file by file, and the texts that sources are read from."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import re
import zlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests import tiny
from tests.test_data import _examples, _store
from tfaug import cli, rng
from tfaug.augment import Brightness, Flip, Mixup, Solarize
from tfaug.config import ConfigError, fingerprint, to_dict
from tfaug.data import (
    SOURCES,
    Augmented,
    CorruptedDigits,
    DataConfig,
    Digits,
    Folder,
    Npz,
    Parts,
    Photos,
    Source,
    Split,
    Tfds,
    load_data,
    load_test_set,
    read_source,
)
from tfaug.data.copies import CopiesConfig, write_copies
from tfaug.data.load import load_parts
from tfaug.data.sources import folder
from tfaug.data.sources.base import PARTS
from tfaug.preview import Preview, load_pictures
from tfaug.schedules import Linear

# ------------------------------------------------------------------------------------------------- what every one keeps


@dataclasses.dataclass(frozen=True)
class Own(Source):
    """A source of a user's own module, with nothing but a `load`."""

    num: int = 24

    def load(self, parts: Iterable[str], cache_dir: str | os.PathLike[str] | None = None) -> Parts:
        splits = {}
        for part in parts:
            images = np.random.default_rng(len(part)).integers(0, 256, (self.num, 6, 6, 1), np.uint8)
            ids = np.array([f"{part}_{i}" for i in range(self.num)])
            splits[part] = Split(images, np.arange(self.num) % 2, ids)
        return Parts(splits, ("even", "odd"))


def _write_images(root: pathlib.Path, names: Iterable[str], num: int = 10, side: int = 8) -> None:
    """Writes `num` images of noise into each folder."""
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(num):
            pixels = np.random.default_rng(i + len(name)).integers(0, 256, (side, side + 2, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")


def _write_npz(path: pathlib.Path, num: int = 24, side: int = 6, **changes: Any) -> str:
    images = np.random.default_rng(num).integers(0, 256, (num, side, side, 3), np.uint8)
    np.savez(path, **{"images": images, "labels": np.arange(num) % 3, **changes})
    return str(path)


# The rows: what each source is made of, below a folder that `made` fills.
ROWS = {
    "Digits": lambda root: Digits(),
    "CorruptedDigits": lambda root: CorruptedDigits(),
    "Photos": lambda root: Photos(),
    "Tfds": lambda root: Tfds("plain", str(root)),
    "Npz": lambda root: Npz(root / "one.npz"),
    "Npz of two files": lambda root: Npz(root / "one.npz", test_path=root / "two.npz"),
    "Folder": lambda root: Folder(root / "flat", image_px=6),
    "Augmented": lambda root: Augmented(Npz(root / "one.npz"), Solarize(p=0.5), seed=3),
    "Folder of parts": lambda root: Folder(root / "parts", image_px=6),
    "Own": lambda root: Own(),
}
TEST_ONLY = {"CorruptedDigits", "Photos"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Source]:
    root = tmp_path_factory.mktemp("sources")
    _store(root, "plain", {"train": _examples(30), "test": _examples(9, first=100)})
    _write_npz(root / "one.npz")
    _write_npz(root / "two.npz", 9)
    _write_images(root / "flat", ("cats", "dogs"))
    _write_images(root / "parts", [f"{part}/{name}" for part in PARTS for name in ("cats", "dogs")], 6)
    return {name: make(root) for name, make in ROWS.items()}


@pytest.fixture(params=ROWS)
def source(request: pytest.FixtureRequest, made: dict[str, Source]) -> Source:
    return made[request.param]


def _assert_equal(one: Split, two: Split) -> None:
    for field in dataclasses.fields(Split):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(two, field.name))


def test_the_table_of_rows_and_that_of_sources_are_complete(made: dict[str, Source]) -> None:
    assert {name: cls.__name__ for name, cls in SOURCES.items()} == {name: name for name in SOURCES}
    assert {type(source) for source in made.values()} == {*SOURCES.values(), Own}


def test_it_is_a_value(source: Source) -> None:
    assert hash(source) == hash(dataclasses.replace(source)) and source == dataclasses.replace(source)
    assert json.loads(json.dumps(to_dict(source))) == to_dict(source) and fingerprint(source)
    if not isinstance(source, Own):
        assert read_source(repr(source)) == source


def test_its_parts_are_alike_every_time_and_whoever_is_loaded_with_them(source: Source, tmp_path: pathlib.Path) -> None:
    together = source.load(source.parts)
    assert list(together.splits) == list(source.parts)
    for part, split in together.splits.items():
        assert len(set(split.ids)) == len(split) > 0
        assert split.images.shape[1:] == together.splits[source.parts[0]].images.shape[1:]
        assert 0 <= split.labels.min() <= split.labels.max() < len(together.class_names)
        for _ in ("cold", "warm"):
            alone = source.load((part,), tmp_path)
            assert alone.class_names == together.class_names and alone.details == together.details
            _assert_equal(alone.splits[part], split)


def test_it_trains_or_says_that_it_is_a_test_set_alone(
    source: Source, request: pytest.FixtureRequest, tmp_path: pathlib.Path
) -> None:
    config = DataConfig(source, validation_fraction=0.25)
    if request.node.callspec.params["source"] in TEST_ONLY:
        with pytest.raises(ConfigError, match=rf"{re.escape(repr(source))} has no part 'train', only test; allowed"):
            load_data(config)
        return
    data = load_data(config, tmp_path)
    held_out = round(0.25 * (len(data.train) + len(data.validation)))
    if "validation" in source.parts:
        _assert_equal(data.validation, source.load(("validation",)).splits["validation"])
    else:
        assert len(data.validation) == held_out
    ids = [*data.train.ids, *data.validation.ids, *data.test.ids]
    assert len(set(ids)) == len(ids)
    assert (data.name, data.num_classes) == (source.short_name, len(source.load(("train",)).class_names))
    small = load_data(dataclasses.replace(config, num_train_examples=2 * data.num_classes), tmp_path)
    assert np.bincount(small.train.labels).tolist() == [2] * data.num_classes
    _assert_equal(small.test, data.test)
    other = load_data(dataclasses.replace(config, split_seed=1), tmp_path)
    _assert_equal(other.test, data.test)  # the seed moves the validation part and never the test part
    fits = load_test_set(source, like=data, cache_dir=tmp_path)
    assert fits.images.shape[1:] == data.image_shape and len(fits) >= len(data.test)


def test_it_is_a_further_test_set(source: Source) -> None:
    split = load_test_set(source)
    if source.one_part:
        parts = source.load(source.parts).splits
        assert sorted(split.ids) == sorted([*parts["train"].ids, *parts["test"].ids])
    else:
        _assert_equal(split, source.load(("test",)).splits["test"])


def test_it_is_shown_with_its_classes_in_turn(source: Source) -> None:
    loaded = source.test_set() if source.one_part else source.load(source.parts[:1])
    [whole] = loaded.splits.values()
    num, labels = min(len(whole), 20), whole.labels[:512].tolist()
    order = list(range(8))  # the photographs are in an order of their own
    if source != Photos():
        order = sorted(range(len(labels)), key=lambda i: (labels[:i].count(labels[i]), labels[i]))[:num]
    pictures = load_pictures(source, num)
    np.testing.assert_array_equal(pictures.images, whole.images[order])
    np.testing.assert_array_equal(pictures.labels.argmax(1), whole.labels[order])
    assert pictures.class_names == loaded.class_names
    assert Preview(("Flip(p=1)",), source, num_rows=1, num_columns=2).heading().startswith(source.short_name)


def test_copies_are_made_of_it(source: Source, tmp_path: pathlib.Path) -> None:
    config = CopiesConfig(DataConfig(source), "", ("test",), copies=0, originals=True, name="written")
    written = write_copies(config, tmp_path)
    wanted, copied = load_test_set(source), load_test_set(Tfds("written", str(tmp_path)))
    assert copied.original_ids is not None and sorted(copied.original_ids) == sorted(wanted.ids)
    place = {name: i for i, name in enumerate(wanted.ids)}
    np.testing.assert_array_equal(copied.images, wanted.images[[place[name] for name in copied.original_ids]])
    assert written.metadata["source"] and str(tmp_path.parent) not in json.dumps(written.metadata)
    with pytest.raises(ConfigError, match="allowed: one|has no part 'train'|exists already"):
        write_copies(dataclasses.replace(config, splits=("train", "test")), tmp_path)


def test_it_describes_itself_in_one_sentence_and_has_a_short_name(source: Source) -> None:
    sentence = source.describe()
    assert sentence.startswith(source.short_name) or "two.npz" in sentence
    assert sentence.endswith(".") and "\n" not in sentence and "/" not in sentence and "/" not in source.short_name


def test_resolved_it_is_the_same_from_another_folder(
    source: Source, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {f.name for f in dataclasses.fields(source)} & {"path", "test_path", "data_dir"}  # type: ignore[arg-type]
    relative = {name: os.path.relpath(value) for name in paths if (value := getattr(source, name))}
    resolved = dataclasses.replace(source, **relative).resolved()
    monkeypatch.chdir(tmp_path)
    _assert_equal(load_test_set(resolved), load_test_set(source))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Npz(""), r"Npz\.path is ''; allowed: a path"),
        (lambda: Npz("a.npz", test_fraction=0), r"Npz\.test_fraction is 0; allowed: 0\.001\.\.0\.5"),
        (lambda: Npz("a.npz", num_classes=-1), r"Npz\.num_classes is -1; allowed: a whole number, 0 or more"),
        (lambda: Folder(3), r"Folder\.path is 3; allowed: a path"),
        (lambda: Folder("x", image_px=0), r"Folder\.image_px is 0; allowed: a whole number, 1\.\.4096"),
        (lambda: Folder("x", test_fraction=0.6), r"Folder\.test_fraction is 0\.6; allowed"),
        (lambda: Augmented(Digits(), Mixup()), r"Augmented\.op is Mixup.* mixes labels; allowed"),
        (lambda: Augmented(Digits(), Flip(p=Linear())), r"Flip\.p is Linear.* Augmented\.op cannot follow"),
        (lambda: Augmented(Digits(), "Flip()"), r"Augmented\.op is 'Flip\(\)'; allowed: an op"),
        (lambda: Augmented(Digits(), Flip(), of=("validation",)), r"Augmented\.of is .*; allowed: .*train, test"),
        (lambda: DataConfig(augment_validation=Mixup()), r"DataConfig\.augment_validation is Mixup.* mixes labels"),
        (lambda: Tfds(""), r"Tfds\.name is ''; allowed: a name"),
        (lambda: Tfds("a", test_split=""), r"Tfds\.test_split is ''; allowed: a name"),
    ],
)
def test_a_field_out_of_range_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wrong()


def test_the_test_images_alone_are_augmented_block_by_block_and_the_validation_images_if_asked() -> None:
    """1,500 images: two batches, with the seeds (3, the part, the block)."""
    own, op = Own(1500), Brightness(p=0.5)
    plain, data = load_data(DataConfig(own)), load_data(DataConfig(Augmented(own, op, seed=3), augment_validation=op))
    _assert_equal(plain.train, data.train)
    for part, seed, ids in (("test", 3, plain.test), ("validation", 0, plain.validation)):
        start, before = rng.fold_in(rng.make_seed(seed), zlib.crc32(part.encode()) >> 1), ids.images
        made = [op(before[i * 1000 :][:1000], rng.fold_in(start, i)).numpy() for i in range(-(-len(before) // 1000))]
        after = getattr(data, part)
        np.testing.assert_array_equal(after.images, np.concatenate(made))
        _assert_equal(dataclasses.replace(after, images=before), ids)
        assert (after.images != before).any()


# ---------------------------------------------------------------------------------------------- sources of a user's own


def test_a_source_of_ones_own_is_a_frozen_dataclass() -> None:
    class Plain(Source):
        pass

    @dataclasses.dataclass
    class Thawed(Source):
        pass

    for source in (Plain(), Thawed()):
        with pytest.raises(ConfigError, match=r"DataConfig\.source.* is .*frozen=True"):
            DataConfig(source)
    with pytest.raises(NotImplementedError, match=r"Plain has no load\(parts, cache_dir\)"):
        Plain().load(("train",))


def test_the_sources_of_the_docs_are_what_they_say() -> None:
    blocks = re.findall(r"```python\n(.*?)```", (tiny.ROOT / "docs" / "data.md").read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {"__name__": __name__}
    for block in blocks:
        exec(block, names)
    assert len(load_data(DataConfig(names["Noise"]())).train) == 90
    assert names["flowers"]().data.source == Folder("flowers", image_px=64)
    assert names["own"]().data.source == Npz("own.npz")
    shown = re.findall(r"\| `(\w+)\(.*?\)`", (tiny.ROOT / "docs" / "data.md").read_text(encoding="utf-8"))
    assert {*shown, "CorruptedDigits"} == set(SOURCES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.array([0, 1, 2, 0])}, r"'wrong': train has labels 0\.\.2; allowed: 0\.\.1"),
        ({"labels": np.array([0, -1, 1, 0])}, r"train has labels -1\.\.1; allowed: 0\.\.1"),
        ({"ids": np.array(["a", "b", "b", "c"])}, r"train has 2 examples of id 'b'; allowed: one of each id"),
        ({"images": np.zeros((4, 5, 4, 1), np.uint8)}, r"has images \[4, 4, 1\] and \[5, 4, 1\]; allowed: one shape"),
    ],
)
def test_what_does_not_go_together_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    good = Split(np.zeros((4, 4, 4, 1), np.uint8), np.arange(4) % 2, np.array(list("abcd")))

    @dataclasses.dataclass(frozen=True)
    class Wrong(Source):
        def load(self, parts: Iterable[str], cache_dir: Any = None) -> Parts:
            return Parts({"train": dataclasses.replace(good, **change), "test": good}, ("a", "b"))

    with pytest.raises(ConfigError, match=message):
        load_parts(DataConfig(Wrong()), PARTS)


# --------------------------------------------------------------------------------------------------------- .npz files


def test_an_npz_file_is_cut_by_class_and_the_cut_moves_with_its_fraction_alone(tmp_path: pathlib.Path) -> None:
    path = _write_npz(tmp_path / "mine.npz", 60)
    parts = Npz(path).load(("train", "test")).splits
    assert np.bincount(parts["test"].labels).tolist() == [4, 4, 4] and len(parts["train"]) == 48
    assert sorted([*parts["train"].ids, *parts["test"].ids]) == [f"mine_{i:05d}" for i in range(60)]
    assert len(Npz(path, test_fraction=0.5).load(("test",)).splits["test"]) == 30
    with pytest.raises(ConfigError, match=r"test_fraction is 0\.001 of 60 examples, which leaves a part empty"):
        Npz(path, test_fraction=0.001).load(("train",))


def test_the_test_part_of_another_file_is_all_of_it(tmp_path: pathlib.Path) -> None:
    one, two = _write_npz(tmp_path / "one.npz"), _write_npz(tmp_path / "two.npz", 9)
    source = Npz(one, test_path=two, num_classes=4)
    data = load_data(DataConfig(source))
    assert (len(data.test), data.class_names) == (9, ("0", "1", "2", "3")) and not source.one_part
    with pytest.raises(ConfigError, match="path and test_path are one file"):
        Npz(one, test_path=tmp_path / "." / "one.npz").load(("test",))
    for name, changes, message in (
        ("other", {"side": 5}, r"images \[5, 5, 3\] and \[6, 6, 3\]; allowed: one shape"),
        ("more", {"labels": np.arange(24)}, r"'one': test has labels 0\.\.23; allowed: 0\.\.2"),
        ("same", {"ids": np.array(["a"] * 24)}, r"'one': test has 24 examples of id 'a'"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_data(DataConfig(Npz(one, test_path=_write_npz(tmp_path / f"{name}.npz", **changes))))


def test_one_part_is_written_whole_or_not_at_all(tmp_path: pathlib.Path) -> None:
    data = DataConfig(Npz(_write_npz(tmp_path / "one.npz")), num_train_examples=3)
    config = CopiesConfig(data, "", copies=0, originals=True)
    with pytest.raises(ConfigError, match=r"num_train_examples is 3; allowed: 0, because Npz\(.*\) is one part"):
        write_copies(config, tmp_path / "out")


# --------------------------------------------------------------------------------------------------- folders of images


def _read(root: pathlib.Path, image_px: int) -> dict[str, np.ndarray]:
    """All images of a folder by the names of their files."""
    split = Folder(root, image_px).test_set().splits["test"]
    return {name.rpartition("/")[2]: image for name, image in zip(split.ids, split.images, strict=True)}


def _antialiased(image: np.ndarray, image_px: int) -> np.ndarray:
    """The shorter side scaled to `image_px` by a triangle as wide as two new pixels, then the centre; in float64."""
    rows = image.astype(np.float64)
    scale = min(image.shape[:2]) / image_px
    for axis in (0, 1):
        length = image.shape[axis]
        centres = (length - min(image.shape[:2])) // 2 + (np.arange(image_px) + 0.5) * scale
        distance = np.abs(np.arange(length) + 0.5 - centres[:, None]) / max(scale, 1.0)
        weights = np.maximum(1 - distance, 0)
        rows = np.moveaxis(np.tensordot(weights / weights.sum(1, keepdims=True), rows, (1, axis)), 0, axis)
    return rows


def test_sizes_are_mixed_and_each_becomes_its_antialiased_centre(tmp_path: pathlib.Path) -> None:
    sizes = [(16, 16), (64, 40), (33, 130), (5, 9), (16, 47)]
    images = {}
    for i, size in enumerate(sizes):
        images[f"{i}.png"] = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.fromarray(images[f"{i}.png"]).save(tmp_path / name / f"{i}.png")
    read = _read(tmp_path, 16)
    assert read.keys() == images.keys()
    np.testing.assert_array_equal(read["0.png"], images["0.png"])
    np.testing.assert_array_equal(read["4.png"], images["4.png"][:, 15:31])
    for name, image in images.items():
        assert np.abs(read[name] - _antialiased(image, 16)).max() <= 1.01  # Pillow rounds after each of the two axes


@pytest.fixture(scope="module")
def kinds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """An image in every form that is read, 16 x 16."""
    root = tmp_path_factory.mktemp("kinds")
    for name in ("a", "b"):
        (root / name).mkdir()
    steps = np.add.outer(np.arange(16), 16 * np.arange(16)).astype(np.uint8)
    colour = Image.fromarray(np.stack([steps, steps.T, 255 - steps], -1))
    grey = Image.fromarray(steps)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    clear = np.dstack([np.asarray(colour), np.where(steps < 128, 0, 255).astype(np.uint8)])
    palette = colour.quantize(16)
    for name in ("a", "b"):
        folder = root / name
        colour.save(folder / "colour.png")
        colour.save(folder / "colour.webp", lossless=True)
        colour.save(folder / "upright.jpg", quality=95)
        colour.save(folder / "TURNED.JPEG", quality=95, exif=exif)
        colour.save(folder / "turned.webp", lossless=True, exif=exif)
        colour.convert("CMYK").save(folder / "cmyk.jpg", quality=100)
        grey.save(folder / "grey.png")
        grey.save(folder / "grey.jpg", quality=100)
        Image.fromarray(steps.astype(np.uint16) * 256 + 255).save(folder / "deep.png")
        grey.convert("LA").save(folder / "opaque.png")
        Image.fromarray(clear).save(folder / "clear.png")
        palette.save(folder / "palette.png")
        palette.save(folder / "holes.png", transparency=palette.getpixel((3, 3)))
        palette.convert("RGB").save(folder / "resolved.png")
        grey.convert("1").save(folder / "bits.png")
        colour.save(folder / "misnamed.png", format="JPEG", quality=95)
        colour.save(folder / "film.webp", lossless=True, save_all=True, append_images=[grey.convert("RGB")])
    return {**_read(root, 16), "steps": steps, "clear": clear, "palette": np.asarray(palette)}


def test_every_kind_of_file_gives_the_colours_that_one_sees(kinds: dict[str, np.ndarray]) -> None:
    steps, colour = kinds["steps"], kinds["colour.png"]
    np.testing.assert_array_equal(colour, np.stack([steps, steps.T, 255 - steps], -1))
    for name in ("colour.webp", "film.webp"):
        np.testing.assert_array_equal(kinds[name], colour)
    for name in ("grey.png", "deep.png", "opaque.png"):
        np.testing.assert_array_equal(kinds[name], np.repeat(steps[..., None], 3, -1))
    for name, wanted, bound in (
        ("grey.jpg", steps[..., None], 8),
        ("upright.jpg", colour, 60),
        ("cmyk.jpg", colour, 60),
    ):
        assert np.abs(kinds[name].astype(int) - wanted).mean() < bound / 4
    np.testing.assert_array_equal(kinds["misnamed.png"], kinds["upright.jpg"])
    np.testing.assert_array_equal(kinds["palette.png"], kinds["resolved.png"])
    assert set(np.unique(kinds["bits.png"])) == {0, 255}


def test_what_is_transparent_lies_over_white(kinds: dict[str, np.ndarray]) -> None:
    opaque = kinds["clear"][..., 3:] == 255
    np.testing.assert_array_equal(kinds["clear.png"], np.where(opaque, kinds["colour.png"], 255))
    hole = kinds["palette"] == kinds["palette"][3, 3]
    np.testing.assert_array_equal(kinds["holes.png"], np.where(hole[..., None], 255, kinds["palette.png"]))


def test_an_image_is_turned_as_its_exif_says(kinds: dict[str, np.ndarray]) -> None:
    np.testing.assert_array_equal(kinds["TURNED.JPEG"], np.rot90(kinds["upright.jpg"], -1))
    np.testing.assert_array_equal(kinds["turned.webp"], np.rot90(kinds["colour.png"], -1))


def test_ids_are_paths_in_the_order_of_code_points_and_the_classes_their_folders(tmp_path: pathlib.Path) -> None:
    _write_images(tmp_path, [f"{part}/{name}" for part in PARTS for name in ("dogs", "Zebras", "cats")], 11)
    loaded = Folder(tmp_path, 4).load(PARTS)
    assert loaded.class_names == ("Zebras", "cats", "dogs")
    for part, split in loaded.splits.items():
        names = [f"{i}.png" for i in (0, 1, 10, *range(2, 10))]
        assert split.ids.tolist() == [f"{part}/{cls}/{name}" for cls in loaded.class_names for name in names]
        assert split.labels.tolist() == [0] * 11 + [1] * 11 + [2] * 11


def test_a_missing_test_folder_is_cut_from_the_training_files(tmp_path: pathlib.Path) -> None:
    _write_images(tmp_path, [f"{part}/{name}" for part in ("train", "validation") for name in ("a", "b")])
    source = Folder(tmp_path, 4)
    data = load_data(DataConfig(source))
    assert (len(data.train), len(data.validation), len(data.test)) == (16, 20, 4)
    assert np.bincount(data.test.labels).tolist() == [2, 2] and not set(data.train.ids) & set(data.test.ids)
    assert all(name.startswith("train/") for name in data.test.ids)
    assert load_test_set(source).ids.tolist() == data.test.ids.tolist()


def test_a_folder_of_tests_alone_is_a_test_set(tmp_path: pathlib.Path) -> None:
    _write_images(tmp_path, ("test/a", "test/b"), 2)
    assert Folder(tmp_path).parts == ("test",) and len(load_test_set(Folder(tmp_path, 4))) == 4
    with pytest.raises(ConfigError, match="has no part 'train', only test"):
        load_data(DataConfig(Folder(tmp_path)))


def test_links_are_followed_and_hidden_names_passed_over(tmp_path: pathlib.Path) -> None:
    _write_images(tmp_path / "real", ("a", "b"), 2)
    _write_images(tmp_path / "set", ("a", ".git"), 2)
    (tmp_path / "set" / "b").symlink_to(tmp_path / "real" / "b")
    (tmp_path / "set" / "a" / "linked.png").symlink_to(tmp_path / "real" / "a" / "1.png")
    for hidden in (".DS_Store", "a/.DS_Store", "a/._0.png"):
        (tmp_path / "set" / hidden).write_text("")
    (tmp_path / "set" / "README.txt").write_text("what this is")
    ids = load_test_set(Folder(tmp_path / "set", 4)).ids.tolist()
    assert ids == ["a/0.png", "a/1.png", "a/linked.png", "b/0.png", "b/1.png"]


def test_all_files_that_cannot_be_read_are_named_at_once(tmp_path: pathlib.Path) -> None:
    _write_images(tmp_path, [f"{part}/{name}" for part in ("train", "test") for name in ("a", "b")], 3)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(tmp_path / "whole.jpg")
    content = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "whole.jpg").unlink()
    (tmp_path / "train/a/cut.jpg").write_bytes(content[: len(content) // 2])
    (tmp_path / "train/b/text.png").write_text("no picture")
    (tmp_path / "test/a/empty.webp").write_bytes(b"")
    (tmp_path / "test/b/notes.txt").write_text("notes")
    (tmp_path / "test/b/nowhere.png").symlink_to(tmp_path / "nothing")
    Image.new("RGB", (4, 4)).save(tmp_path / "test/b/film.gif")
    with pytest.raises(ConfigError) as caught:
        load_data(DataConfig(Folder(tmp_path, 4)), cache_dir=tmp_path / "cache")
    said = str(caught.value)
    assert said.startswith("6 files of") and said.endswith("take these out or replace them")
    for name, why in (
        ("train/a/cut.jpg", "truncated"),
        ("train/b/text.png", "no JPEG, PNG or WebP file"),
        ("test/a/empty.webp", "no JPEG, PNG or WebP file"),
        ("test/b/notes.txt", "no JPEG, PNG or WebP file"),
        ("test/b/film.gif", "no JPEG, PNG or WebP file"),
        ("test/b/nowhere.png", "No such file"),
    ):
        assert re.search(rf"^  {name}: .*{why}", said, re.MULTILINE), said
    assert not list(tmp_path.glob("cache/*"))


def _remove_class(root: pathlib.Path) -> None:
    for path in (root / "b").iterdir():
        path.unlink()
    (root / "b").rmdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "c").mkdir(), r"\n  c is empty\nallowed: a folder of images for each class"),
        (_remove_class, r"\n  a single folder of a class; two or more are needed\n"),
        (lambda root: (root / "a" / "more").mkdir(), r"\n  a/more is a folder within that of a class\n"),
        (lambda root: Image.new("L", (2, 2)).save(root / "top.png"), r"\n  top\.png is in no folder of a class\n"),
        (
            lambda root: _write_images(root, ("train",), 1),
            r"has the folders train and 'a'; allowed: train, validation, t",
        ),
    ],
)
def test_a_folder_that_is_not_as_it_should_be_is_refused_by_name(
    tmp_path: pathlib.Path, change: Any, message: str
) -> None:
    _write_images(tmp_path, ("a", "b"), 1)
    change(tmp_path)
    for use in (lambda source: load_data(DataConfig(source)), load_test_set, lambda source: source.first(1)):
        with pytest.raises(ConfigError, match=message):
            use(Folder(tmp_path, 4))


def test_classes_that_differ_between_parts_are_refused_and_all_is_said_at_once(tmp_path: pathlib.Path) -> None:
    _write_images(tmp_path, ("train/a", "train/b", "train/c", "test/a", "test/d"), 1)
    (tmp_path / "test" / "e").mkdir()
    with pytest.raises(ConfigError) as caught:
        load_data(DataConfig(Folder(tmp_path)))
    assert [line for line in str(caught.value).splitlines() if line.startswith("  ")] == [
        "  train has no folder of d, e, as another part has",
        "  test has no folder of b, c, as another part has",
        "  test/e is empty",
    ]
    (tmp_path / "test").rename(tmp_path / "val")
    with pytest.raises(ConfigError, match=r"has the folders train and 'val'; allowed: train, validation, test"):
        load_data(DataConfig(Folder(tmp_path)))
    with pytest.raises(ConfigError, match=r"nothing' does not exist; allowed: a folder that does"):
        load_data(DataConfig(Folder(tmp_path / "nothing")))
    (tmp_path / "bare").mkdir()
    with pytest.raises(ConfigError, match="no folder of a class; two or more are needed"):
        load_data(DataConfig(Folder(tmp_path / "bare")))


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were decoded."""
    names: list[str] = []
    read = folder._read_image

    def spy(path: pathlib.Path, image_px: int) -> Any:
        names.append(f"{path.parent.name}/{path.name}")
        return read(path, image_px)

    monkeypatch.setattr(folder, "_read_image", spy)
    return names


def test_the_cache_answers_until_a_file_changes(tmp_path: pathlib.Path, opened: list[str]) -> None:
    root, cache = tmp_path / "set", tmp_path / "cache"
    _write_images(root, ("a", "b"))
    config = DataConfig(Folder(root, 4))
    first = load_data(config, cache_dir=cache)
    assert len(opened) == 20
    second = load_data(config, cache_dir=cache)
    assert len(opened) == 20
    _assert_equal(first.train, second.train)
    other = load_data(DataConfig(Folder(root, 5)), cache_dir=cache)
    assert len(opened) == 40 and other.image_shape == (5, 5, 3)
    path = root / first.test.ids[0]
    Image.new("RGB", (9, 9), "red").save(path)
    os.utime(path, ns=(1, 1))
    changed = load_data(config, cache_dir=cache)
    assert len(opened) == 44  # the test part alone
    np.testing.assert_array_equal(changed.test.images[0], np.full((4, 4, 3), (255, 0, 0)))
    _assert_equal(changed.train, first.train)


def test_what_is_shown_is_all_that_is_decoded(tmp_path: pathlib.Path, opened: list[str]) -> None:
    _write_images(tmp_path, ("a", "b", "c"))
    pictures = load_pictures(Folder(tmp_path, 4), 4)
    assert sorted(opened) == ["a/0.png", "a/1.png", "b/0.png", "c/0.png"]
    assert pictures.labels.argmax(1).tolist() == [0, 1, 2, 0]


# ------------------------------------------------------------------------------------------------------ read from texts


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("digits", Digits()),
        ("digits_corrupted", CorruptedDigits()),
        ("photos", Photos()),
        ("Digits()", Digits()),
        ("cifar10", Tfds("cifar10")),
        ("cifar10:3.0.2", Tfds("cifar10:3.0.2")),
        ("cifar10_1/v6:test", Tfds("cifar10_1/v6", train_split="test", test_split="test")),
        ("mnist:3.0.1:test[:50]", Tfds("mnist:3.0.1", train_split="test[:50]", test_split="test[:50]")),
        ("a/b (1)/x.npz", Npz("a/b (1)/x.npz")),
        ('Tfds("cifar10", test_split="test")', Tfds("cifar10")),
        (" Folder('x', image_px = 64) ", Folder("x")),
        ("Folder('x', 32, test_fraction=0.1)", Folder("x", 32, 0.1)),
        ("Npz(path='a.npz', num_classes=3)", Npz("a.npz", num_classes=3)),
    ],
)
def test_a_source_is_read_from_a_text(text: str, wanted: Source) -> None:
    assert read_source(text) == wanted


def test_a_path_with_a_slash_is_a_folder_of_images_or_a_prepared_set(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_images(tmp_path / "mine", ("a", "b"), 1)
    stored = _store(tmp_path, "plain", {"train": _examples(3)})
    monkeypatch.chdir(tmp_path)
    assert read_source("./mine") == Folder("./mine") and read_source(f"{tmp_path}/mine") == Folder(f"{tmp_path}/mine")
    assert read_source(str(stored)) == Tfds(str(stored)) and read_source("mine") == Tfds("mine")
    with pytest.raises(ConfigError, match=r"\(a folder of images is written './mine'\)"):
        load_pictures("mine", 1, data_dir=str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"data set is ''; allowed: digits, digits_corrupted, photos, a TFDS name\[:split\], the path"),
        ("./nowhere", r"data set './nowhere': there is no such folder; allowed: digits"),
        ("Tfd('cifar10')", r"'Tfd' is unknown \(did you mean 'Tfds'\?\); allowed: .*Folder"),
        ("Tfds()", "Tfds.*name"),
        ("Tfds('cifar10', split='test')", "split"),
        ("Folder('x', image_px=0)", r"Folder\.image_px is 0; allowed"),
        ("Folder('x'", "cannot be read"),
        ("my.Own()", "my.Own"),
        ("Npz(open('x'))", "Npz"),
    ],
)
def test_a_text_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_source(text)


def test_fields_are_replaced_where_the_source_has_them() -> None:
    assert read_source("cifar10", data_dir="x", num_classes=0) == Tfds("cifar10", "x")
    with pytest.raises(ConfigError, match=r"data_dir is 'x', but 'a\.npz' has no such field; it has: path, test_path"):
        read_source("a.npz", data_dir="x")
    with pytest.raises(ConfigError, match=r"num_classes is 3, but 'digits' has no such field; it has no fields"):
        read_source("digits", num_classes=3)


def test_the_commands_take_a_folder(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    _write_images(tmp_path / "mine", ("a", "b"), 3)
    sheet = tmp_path / "sheet.png"
    arguments = [f"--dataset={tmp_path / 'mine'}", "--op=Flip(p=1)", "--columns=2", "--rows=1", f"--out={sheet}"]
    assert cli.main(["preview", *arguments]) == 0 and sheet.stat().st_size
    data = f"--dataset=Folder({str(tmp_path / 'mine')!r}, image_px=8)"
    assert cli.main(["data", "augment", data, "--op=Flip(p=1)", f"--out={tmp_path / 'out'}"]) == 0
    assert "test: 6 originals, 6 copies" in capsys.readouterr().out
    assert load_test_set(Tfds("mine_flip_p1", str(tmp_path / "out"))).images.shape == (6, 8, 8, 3)
    assert cli.main(["data", "augment", data, "--op=Flip(p=1)", "--data_dir=x", f"--out={tmp_path}"]) == 2
    assert "data_dir is 'x', but" in capsys.readouterr().err
