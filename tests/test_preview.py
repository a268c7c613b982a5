"""The sheet of `tfaug preview` holds the pixels that the ops return, labelled, with nothing over anything else."""

from __future__ import annotations

import io
import itertools
import os
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tests import tiny
from tfaug import cli, rng
from tfaug.augment import AUGMENTATIONS, CutMix, Mixup, RandAugment, SumAug, parse_op
from tfaug.cli import preview as command
from tfaug.config import ConfigError
from tfaug.preview import Preview, draw_preview, load_pictures, parse_sweep, weight_parts
from tfaug.report import sheet
from tfaug.report.figures import COLORS, open_font
from tfaug.schedules import Linear

DOCS = tiny.ROOT / "docs"
PAPER = np.array([int(COLORS["paper"][i : i + 2], 16) for i in (1, 3, 5)], np.uint8)


def read(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def cells(preview: Preview) -> tuple[np.ndarray, sheet.Layout]:
    """The drawn sheet's pixels and where its pictures lie."""
    layout = sheet.lay_out(preview.heading(), preview.blocks(), preview.image_px)
    return read(sheet.draw_sheet(layout, "png")), layout


def enlarged(image: np.ndarray, scale: int) -> np.ndarray:
    return np.kron(np.broadcast_to(image, (*image.shape[:2], 3)), np.ones((scale, scale, 1), np.uint8))


@pytest.fixture
def run(capsys):
    """Runs the CLI in this process; returns the status, what it printed and what it complained of."""

    def run(*arguments: str) -> tuple[int, str, str]:
        command.FLAGS.unparse_flags()
        for name in command.FLAGS:
            command.FLAGS[name].unparse()
        status = cli.main(["preview", *arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return run


# -- what is drawn ---------------------------------------------------------------------------------------------------


def test_the_png_holds_the_images_that_the_op_returns():
    preview = Preview(("RandAugment(n=2, m=9)", "Flip(p=1)"), num_rows=2, num_columns=4, seed=3, image_px=64)
    drawn, layout = cells(preview)
    given = load_pictures("digits", 4)
    expected = list(given.images)
    for op in (RandAugment(2, 9), AUGMENTATIONS["Flip"](1.0)):
        for row in range(2):
            seed = rng.fold_in(rng.make_seed(3), row)
            expected += list(op((tf.constant(given.images), tf.constant(given.labels)), seed).images.numpy())
    assert len(layout.pictures) == len(expected) == 20
    for place, image in zip(layout.pictures, expected, strict=True):
        found = drawn[place.y : place.y + 64, place.x : place.x + 64]
        np.testing.assert_array_equal(found, enlarged(image, 2))
    tops = [place.y for place in layout.pictures]
    assert tops == sorted(tops) and len(set(tops)) == 5  # row under row
    np.testing.assert_array_equal(expected[12], given.images[0][:, ::-1])


def test_all_rows_of_a_sweep_are_the_op_with_that_value_and_one_seed():
    preview = Preview(("RandAugment(n=1, m=9)",), sweep="m=0..30:15", num_columns=5, dataset="photos")
    (originals, block) = preview.blocks()
    given = load_pictures("photos", 5)
    np.testing.assert_array_equal(originals.rows[0].images, given.images)
    assert [row.label for row in block.rows] == ["m = 0", "m = 15", "m = 30"]
    assert block.title == "RandAugment(n=1, m=9), m=0..30:15"
    seed = rng.fold_in(rng.make_seed(0), 0)
    for row, m in zip(block.rows, (0, 15, 30), strict=True):
        np.testing.assert_array_equal(row.images, RandAugment(1, m)(tf.constant(given.images), seed).numpy())
    assert not np.array_equal(block.rows[0].images, block.rows[2].images)


def test_draws_differ_between_rows_and_seeds_and_are_repeatable():
    def images(**settings):
        return [row.images for row in Preview(("RandAugment(2, 20)",), num_columns=3, **settings).blocks()[1].rows]

    first, again, other = images(num_rows=3), images(num_rows=3), images(num_rows=3, seed=1)
    np.testing.assert_array_equal(first, again)
    assert all(not np.array_equal(a, b) for a, b in itertools.combinations([*first, *other], 2))


def test_mixed_labels_stand_below_the_images():
    preview = Preview(("CutMix()", "SumAug(k=4)", "Flip()"), num_rows=1, num_columns=8, dataset="photos")
    originals, cut, summed, flipped = preview.blocks()
    assert [list(caption) for caption in originals.rows[0].captions][:3] == [["temple"], ["flower"], ["temple"]]
    given = load_pictures("photos", 8)
    seed = rng.fold_in(rng.make_seed(0), 0)
    batch = (tf.constant(given.images), tf.constant(given.labels))
    mixed = CutMix()(batch, seed)
    for parts, label in zip(cut.rows[0].captions, mixed.labels.numpy(), strict=True):
        named = {part.split()[-1]: float(part.split()[-2]) for part in parts if " " in part}
        assert named == {
            name: pytest.approx(weight, abs=0.005)
            for name, weight in zip(given.class_names, label, strict=True)
            if 0.005 <= weight < 0.995
        }
    assert any(len(parts) == 2 for parts in cut.rows[0].captions)
    assert summed.rows[0].images.shape[0] == 2 == len(summed.rows[0].captions)
    np.testing.assert_array_equal(summed.rows[0].images, np.rint(SumAug(4)(batch, seed).images.numpy()))
    assert flipped.rows[0].captions == ()


def test_captions_name_the_largest_weight_first():
    assert weight_parts(np.array([0.38, 0, 0.62]), ["dog", "car", "cat"]) == ["0.62 cat", "+ 0.38 dog"]
    assert weight_parts(np.array([0.0, 0.997, 0.003]), ["dog", "car", "cat"]) == ["car"]
    assert weight_parts(np.array([0.25, 0.25, 0.5]), ["a", "b", "c"]) == ["0.50 c", "+ 0.25 a", "+ 0.25 b"]


def test_classes_that_are_numbers_are_told_from_weights():
    (originals, mixed) = Preview(("Mixup()",), num_rows=1, num_columns=2).blocks()
    assert [list(caption) for caption in originals.rows[0].captions] == [["'0'"], ["'1'"]]
    assert all(re.fullmatch(r"'\d'|(\+ )?0\.\d\d '\d'", part) for caption in mixed.rows[0].captions for part in caption)


def test_a_schedule_is_drawn_at_the_progress_asked_for():
    given = load_pictures("digits", 4)
    batch = (tf.constant(given.images), tf.constant(given.labels))
    seed = rng.fold_in(rng.make_seed(0), 0)
    text = "Mixup(p=Linear(0, 1))"
    (at,) = Preview((text,), num_rows=1, num_columns=4, progress_at=0.75).blocks()[1].rows
    expected = Mixup(p=Linear(0, 1))(batch, seed, progress=(750, 1000))
    np.testing.assert_array_equal(at.images, np.rint(expected.images.numpy()))
    swept = Preview((text,), sweep="progress=0..1:0.25", num_columns=4).blocks()[1].rows
    assert [row.label for row in swept] == [f"progress = {x}" for x in (0.0, 0.25, 0.5, 0.75, 1.0)]
    np.testing.assert_array_equal(swept[0].images, given.images)
    np.testing.assert_array_equal(swept[3].images, at.images)
    with pytest.raises(ConfigError, match=r"schedule.*--progress_at"):
        Preview((text,), num_columns=4).blocks()


def test_flips_that_alternate_are_drawn_as_in_the_first_epoch():
    given = load_pictures("digits", 8)
    (row,) = Preview(("Flip(alternate=True)",), num_rows=1, num_columns=8, progress_at=0.5).blocks()[1].rows
    mirrored = [(image == original[:, ::-1]).all() for image, original in zip(row.images, given.images, strict=True)]
    same = [(image == original).all() for image, original in zip(row.images, given.images, strict=True)]
    assert all(a != b for a, b in zip(mirrored, same, strict=True)) and any(mirrored) and any(same)
    with pytest.raises(ConfigError, match="--progress_at"):
        Preview(("Flip(alternate=True)",), num_columns=4).blocks()


def test_keras_cv_is_asked_where_it_is_the_engine(monkeypatch):
    asked = []

    def pipeline(op):
        asked.append(op)
        return lambda images, labels: (255.0 - tf.cast(images, tf.float32), labels)

    monkeypatch.setattr("tfaug.augment.keras_cv.keras_cv_pipeline", pipeline)
    preview = Preview(("Flip(p=1)",), num_rows=1, num_columns=2, engine="keras_cv")
    np.testing.assert_array_equal(preview.blocks()[1].rows[0].images, 255 - load_pictures("digits", 2).images)
    assert asked == [AUGMENTATIONS["Flip"](1)]
    assert "keras-cv" in preview.heading() and "seed 0" not in preview.heading()


def test_the_heading_names_data_seed_and_version():
    heading = Preview(("Flip()",), dataset="photos", seed=7, progress_at=0.5).heading()
    assert re.fullmatch(r"photos, seed 7, 50 % through training, tfaug \d+\.\d+\.\d+\S*", heading)


# -- the data --------------------------------------------------------------------------------------------------------


def test_pictures_take_the_classes_in_turn():
    given = load_pictures("digits", 12)
    assert given.labels.argmax(1).tolist() == [*range(10), 0, 1]
    assert given.images.shape == (12, 32, 32, 3) and not np.array_equal(given.images[0], given.images[10])


def test_the_photographs_are_cut_where_they_should_be():
    given = load_pictures("photos", 8)
    assert given.images.shape == (8, 96, 96, 3) and given.images.dtype == np.uint8
    assert given.class_names == ("temple", "flower", "trees", "leaf")
    sky, flower = (
        given.images[0][2:10, 60:90].reshape(-1, 3).mean(0),
        given.images[3][40:56, 40:56].reshape(-1, 3).mean(0),
    )
    assert sky[2] > sky[0] > 150 and flower[0] > 180 > flower[2] + 50


def test_an_npz_file_is_shown(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, [6, 8, 12, 1], np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.array([2, 0, 2, 0, 1, 1]))
    given = load_pictures(str(tmp_path / "own.npz"), 4)
    np.testing.assert_array_equal(given.images, images[[1, 4, 0, 3]])
    drawn, layout = cells(Preview(("Flip(p=0)",), str(tmp_path / "own.npz"), num_rows=1, num_columns=4, image_px=24))
    for place, image in zip(layout.pictures[4:], images[[1, 4, 0, 3]], strict=True):
        np.testing.assert_array_equal(drawn[place.y : place.y + 16, place.x : place.x + 24], enlarged(image, 2))


@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="TFDS_DATA_DIR names no folder with CIFAR-10")
def test_a_tfds_set_is_shown_with_its_class_names():
    given = load_pictures("cifar10", 10)
    assert given.class_names[:3] == ("airplane", "automobile", "bird") and given.labels.argmax(1).tolist() == [
        *range(10)
    ]
    assert not np.array_equal(given.images, load_pictures("cifar10:test", 10).images)
    with pytest.raises(ConfigError, match=r"no split 'tset' \(did you mean 'test'\?\); allowed: .*train"):
        load_pictures("cifar10:tset", 1)


# -- the sheet -------------------------------------------------------------------------------------------------------


def long_rows(num: int) -> list[sheet.SheetRow]:
    images = np.random.default_rng(0).integers(0, 256, [4, 16, 16, 3], np.uint8)
    caption = ["0.40 automobile", "+ 0.35 an extraordinarily long name of a class", "+ 0.20 c", "+ 0.05 d"]
    captions = [caption, caption[:1], ["$x$"], [*caption, *caption]]
    return [
        sheet.SheetRow(f"a rather long label of row {i} = 0.123456789", images, captions if i % 2 else ())
        for i in range(num)
    ]


@pytest.mark.parametrize(("num_rows", "image_px"), [(3, 16), (3, 200), (31, 48)])
def test_nothing_lies_over_anything_else(num_rows, image_px):
    title = "RandAugment(n=2, m=9) + " * 8 + "Flip()"
    blocks = [
        sheet.SheetBlock("", long_rows(1)),
        sheet.SheetBlock(title, long_rows(num_rows)),
        sheet.SheetBlock("x", long_rows(2)),
    ]
    layout = sheet.lay_out("a data set of a very long name, " * 4, blocks, image_px)
    boxes = [(place.x, place.y, *place.pixels.shape[1::-1]) for place in layout.pictures]
    drawn = read(sheet.draw_sheet(layout, "png"))
    for text in layout.texts:
        width = 1.03 * open_font(text.size).getlength(text.text)
        left = {"left": text.x, "right": text.x - width, "center": text.x - width / 2}[text.ha]
        boxes.append((left, text.y - 0.58 * text.size, width, 1.16 * text.size))
    for left, top, width, height in boxes:
        assert left >= 0 and top >= 0 and left + width <= layout.width and top + height <= layout.height
    for (x, y, width, height), (x2, y2, width2, height2) in itertools.combinations(boxes, 2):
        assert x + width <= x2 or x2 + width2 <= x or y + height <= y2 or y2 + height2 <= y
    # What matplotlib drew lies where the layout says: outside of the boxes there is paper, inside of each there is not.
    outside = np.any(drawn != PAPER, axis=-1)
    for left, top, width, height in boxes:
        box = np.s_[int(top) - 1 : int(top + height) + 2, int(left) - 1 : int(left + width) + 2]
        assert np.any(drawn[box] != PAPER)
        outside[box] = False
    assert not outside.any()


def test_images_larger_than_their_place_are_shrunk():
    images = np.zeros([1, 100, 200, 3], np.uint8)
    images[:, :, 100:] = 200
    layout = sheet.lay_out("", [sheet.SheetBlock("", [sheet.SheetRow("a", images)])], 50)
    assert layout.pictures[0].pixels.shape == (25, 50, 3)
    assert layout.pictures[0].pixels[:, 0].max() == 0 and layout.pictures[0].pixels[:, -1].min() == 200


def test_a_sheet_refuses_wrong_rows_and_sizes():
    images = np.zeros([2, 8, 8, 3], np.uint8)
    with pytest.raises(ValueError, match=r"float32 .*allowed: uint8 \[N, H, W, C\]"):
        sheet.lay_out("", [sheet.SheetBlock("", [sheet.SheetRow("a", images.astype(np.float32))])])
    with pytest.raises(ValueError, match="2 images, 1 captions"):
        sheet.lay_out("", [sheet.SheetBlock("", [sheet.SheetRow("a", images, [["b"]])])])
    with pytest.raises(ValueError, match="allowed: 32768 px a side"):
        sheet.lay_out("", [sheet.SheetBlock("", [sheet.SheetRow("a", images)] * 40)], 1024)
    with pytest.raises(ValueError, match="allowed: png, pdf, svg"):
        sheet.draw_sheet(sheet.Layout(10, 10, [], []), "jpg")


def test_pdf_and_svg_hold_the_images_and_no_date():
    preview = Preview(("Flip(p=1)",), num_rows=1, num_columns=2)
    svg, pdf = draw_preview(preview, "svg"), draw_preview(preview, "pdf")
    assert svg == draw_preview(preview, "svg") and pdf == draw_preview(preview, "pdf")
    root = xml.etree.ElementTree.fromstring(svg)
    assert len(root.findall(".//{http://www.w3.org/2000/svg}image")) == 4
    assert b"<dc:date>" not in svg
    assert pdf.startswith(b"%PDF") and pdf.count(b"/Subtype /Image") == 4 and b"CreationDate" not in pdf


# -- sweeps ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "owner", "field", "values"),
    [
        ("m=0..30:10", "", "m", (0, 10, 20, 30)),
        ("m=0..3", "", "m", (0, 1, 2, 3)),
        ("m=0..30:7", "", "m", (0, 7, 14, 21, 28)),
        ("p=0..0.3:0.1", "", "p", (0.0, 0.1, 0.2, 0.3)),
        ("p = 0..1:.5", "", "p", (0.0, 0.5, 1.0)),
        ("x=-1.5..1.5:1.5", "", "x", (-1.5, 0.0, 1.5)),
        ("CutMix.p=0,0.5,1", "CutMix", "p", (0, 0.5, 1)),
        ("preset=paper_cifar,torchvision", "", "preset", ("paper_cifar", "torchvision")),
        ("preset='a', 'b'", "", "preset", ("a", "b")),
        ("scale=(0.1, 0.2),(0.3, 0.4)", "", "scale", ((0.1, 0.2), (0.3, 0.4))),
        ("flag=True,False", "", "flag", (True, False)),
        ("m=5", "", "m", (5,)),
    ],
)
def test_a_sweep_is_read(text, owner, field, values):
    sweep = parse_sweep(text)
    assert sweep == (owner, field, values)
    assert [type(value) for value in sweep.values] == [type(value) for value in values]
    assert len(parse_sweep("m=0..63").values) == 64


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("m", ["FIELD=LOW..HIGH", "m=0..30:5"]),
        ("=1..2", ["FIELD=LOW..HIGH"]),
        ("m=", ["FIELD=LOW..HIGH"]),
        ("2=1..2", ["FIELD=LOW..HIGH"]),
        ("m=0..64", ["65 values", "64 at most"]),
        ("m=0..1:0.000001", ["1000001 values", "64 at most"]),
        ("m=" + ",".join("1" * 65), ["65 values"]),
        ("m=0..30:0", ["STEP above 0"]),
        ("m=30..0", ["LOW not above HIGH"]),
        ("p=0..0.5", ["needs a step", "0..0.5:0.05"]),
        ("m=a..b", ["LOW..HIGH", "numbers"]),
        ("m=0..", ["LOW..HIGH", "numbers"]),
        ("m=(1,2", ["a list of numbers, words or literals"]),
        ("m=open('x')", ["a list of numbers, words or literals"]),
    ],
)
def test_a_wrong_sweep_is_refused(text, named):
    with pytest.raises(ConfigError) as caught:
        parse_sweep(text)
    for part in ("--sweep=", *named):
        assert part in str(caught.value)


# -- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--out=a.png"], ["--op is missing", "tfaug preview"]),
        (["--op=Flip()"], ["--out is missing", "tfaug preview"]),
        (["--op=Flip()", "--out=a.jpg"], ["'a.jpg'", "png, pdf, svg"]),
        (["--op=Flip()", "--out=a"], ["'a'", "png, pdf, svg"]),
        (["--op=Flip()", "--out=folder.png"], ["folder.png", "a file"]),
        (["--op=Flipp()", "--out=a.png"], ["'Flipp' is unknown", "did you mean 'Flip'", "RandAugment"]),
        (["--op=RandAugment(m=9", "--out=a.png"], ["never closed"]),
        (["--op=RandAugment(m=31)", "--out=a.png"], ["RandAugment.m is 31", "0..30"]),
        (["--op=Flip()", "--sweep=m=0..30", "--out=a.png"], ["no field 'm'", "allowed: Flip.p"]),
        (["--op=Flip()", "--sweep=CutMix.p=0..1", "--out=a.png"], ["no field 'CutMix.p'", "Flip.p"]),
        (["--op=Flip() + CutMix()", "--sweep=p=0..1", "--out=a.png"], ["more than one", "Flip.p or CutMix.p"]),
        (["--op=RandAugment()", "--sweep=m=0..40:10", "--out=a.png"], ["RandAugment.m is 40", "0..30"]),
        (["--op=RandAugment()", "--sweep=m=0..99", "--out=a.png"], ["100 values", "64 at most"]),
        (["--op=Flip()", "--sweep=progress=0..2", "--out=a.png"], ["progress is 2", "0..1"]),
        (["--op=Flip()", "--sweep=p=0..1", "--rows=2", "--out=a.png"], ["--rows and --sweep"]),
        (["--op=Flip()"] * 9 + ["--rows=64", "--out=a.png"], ["576 rows", "256"]),
        (["--op=Flip()", "--dataset=cifra10", "--out=a.png"], ["'cifra10'", "did you mean 'cifar10'", "digits"]),
        (["--op=Flip()", "--dataset=none.npz", "--out=a.png"], ["none.npz", "does not exist"]),
        (["--op=Flip()", "--dataset=photos", "--columns=9", "--out=a.png"], ["'photos' has 8 images", "9"]),
        (["--op=SumAug(k=5)", "--columns=4", "--out=a.png"], ["SumAug(k=5)", "4 images"]),
        (["--op=Flip()", "--engine=keras", "--out=a.png"], ["engine", "keras_cv"]),
        (["--op=Flip()", "--columns=0", "--out=a.png"], ["columns", "1"]),
        (["--op=Flip()", "--progress_at=2", "--out=a.png"], ["progress_at", "1"]),
        (["--op=Flip()", "--out=a.png", "more"], ["flags alone", "'more'"]),
        (
            ["--op=Flip()", "--rows=40", "--columns=1", "--image_px=1024", "--out=a.png"],
            ["32768 px a side", "smaller image_px"],
        ),
        (["--op=Flip()", "--out=file/a.png"], ["--out=file/a.png cannot be written"]),
        (["--phase=train", "--out=a.png"], ["--phase and --set", "--config=MODULE:FUNCTION"]),
        (["--config=tests.tiny:run", "--op=Flip()", "--out=a.png"], ["--op and --config"]),
        (
            ["--config=tests.tiny:run", "--phase=trian", "--out=a.png"],
            ["'trian' (did you mean 'train'?)", "train, refine"],
        ),
        (
            ["--config=tests.tiny:run", "--phase=tutor/train", "--out=a.png"],
            ["no training 'tutor'", "teacher, student"],
        ),
    ],
)
def test_a_wrong_command_names_what_is_allowed_and_writes_nothing(run, tmp_path, monkeypatch, arguments, named):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").write_text("kept")
    status, _, said = run(*arguments)
    assert status == 2
    for part in named:
        assert part in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.png"]
    assert (tmp_path / "file").read_text() == "kept"


def test_the_flags_reach_the_sheet(run, tmp_path):
    out = tmp_path / "new" / "grid.PNG"
    arguments = ["--op=Flip(p=1)", "--op=PadCrop(2)", "--dataset=photos", "--rows=2", "--columns=3", "--seed=5"]
    status, said, _ = run(*arguments, "--image_px=48", f"--out={out}")
    preview = Preview(("Flip(p=1)", "PadCrop(2)"), "photos", num_rows=2, num_columns=3, seed=5, image_px=48)
    assert status == 0 and said.strip() == str(out) and out.read_bytes() == draw_preview(preview)


def test_a_phase_of_an_experiment_is_shown_on_its_data_at_its_middle(run, tmp_path):
    out = tmp_path / "grid.png"
    flags = ["--rows=1", "--columns=4", "--set", "phases.train.augment=CutMix(p=Linear(0, 1)) + Flip(1)"]
    status, _, _ = run("--config=tests.tiny:run", "--phase=teacher/train", *flags, f"--out={out}")
    op = parse_op("CutMix(p=Linear(0, 1)) + Flip(1)")
    preview = Preview((op,), "digits", num_rows=1, num_columns=4, progress_at=0.5)
    assert status == 0 and out.read_bytes() == draw_preview(preview)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(run, tmp_path, monkeypatch):
    (tmp_path / "grid.png").write_bytes(b"old")

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tfaug.files.os.replace", fail)
    status, _, said = run("--op=Flip()", "--rows=1", "--columns=1", f"--out={tmp_path / 'grid.png'}")
    assert status == 2 and "No space left on device" in said
    assert [path.name for path in tmp_path.iterdir()] == ["grid.png"]
    assert (tmp_path / "grid.png").read_bytes() == b"old"


def test_the_program_draws_a_sweep(tmp_path):
    arguments = ["preview", "--op=RandAugment(n=1)", "--sweep=m=0..30:15", "--columns=2", f"--out={tmp_path / 'a.png'}"]
    ran = subprocess.run(
        [sys.executable, "-m", "tfaug.cli", *arguments], capture_output=True, text=True, cwd=tiny.ROOT, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == str(tmp_path / "a.png") and ran.stderr == ""
    preview = Preview(("RandAugment(n=1)",), sweep="m=0..30:15", num_columns=2)
    assert (tmp_path / "a.png").read_bytes() == draw_preview(preview)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


# -- the documentation -----------------------------------------------------------------------------------------------


def test_the_docs_show_every_op_with_a_picture():
    text = (DOCS / "augmentations.md").read_text()
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL))
    assert not set(AUGMENTATIONS) - set(sections)
    for name in AUGMENTATIONS:
        assert re.search(r"!\[[^\]]+\]\(img/[\w-]+\.png\)", sections[name]), name
        assert f"{name}(" in sections[name]


def test_every_call_and_command_of_the_docs_is_right():
    text = (DOCS / "augmentations.md").read_text()
    calls = [call for call in re.findall(r"`(\w+\([^`]*\))`", text) if not call.startswith("compose")]
    assert len(calls) >= len(AUGMENTATIONS)
    for call in calls:
        if call.startswith((*AUGMENTATIONS, "OneOf")):
            parse_op(call.replace("3 / 4", "0.75").replace("4 / 3", "1.33"))
    commands = [line for line in text.splitlines() if line.startswith("tfaug preview")]
    for line in commands:
        words = [word.partition("=")[::2] for word in shlex.split(line)[2:]]
        assert {name for name, _ in words} <= {f"--{name}" for name in command.FLAGS}
        ops, given = tuple(value for name, value in words if name == "--op"), dict(words)
        assert Preview(ops, given["--dataset"], given.get("--sweep", "")).num_augmented_rows
    assert len(commands) == 4


def test_every_showcase_is_a_preview_and_a_picture():
    from tools.docs_pictures import FOLDER, OPERATIONS, SHOWCASES

    assert {path.stem for path in FOLDER.iterdir()} == {*SHOWCASES, OPERATIONS}
    for showcase in SHOWCASES.values():
        assert Preview(**showcase._asdict()).dataset in ("photos", "digits")


def test_every_picture_of_the_docs_is_there_shown_and_small():
    shown = set(re.findall(r"\(img/([\w-]+\.png)\)", (DOCS / "augmentations.md").read_text()))
    files = {path.name: path for path in (DOCS / "img").iterdir()}
    assert shown == set(files)
    for path in files.values():
        Image.open(path).verify()
    assert sum(path.stat().st_size for path in files.values()) < 2.5e6
