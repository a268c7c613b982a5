"""The figures: exact pixels where images are shown, marks where the numbers say, and nothing left behind."""

from __future__ import annotations

import io
import re

import matplotlib
import numpy as np
import pytest
import toy_run
from matplotlib.figure import Figure
from PIL import Image

from tfaug import report
from tfaug.report import figures, read_run, summarize
from tfaug.report.read import History
from tfaug.workdir import HISTORY_FIELDS


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, 8, 6, 3), dtype=np.uint8)


def _open(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def _axes(draw):
    axes = Figure().add_subplot()
    draw(axes)
    return axes


def _contains(sheet: np.ndarray, part: np.ndarray) -> bool:
    windows = np.lib.stride_tricks.sliding_window_view(sheet, part.shape)
    return bool((windows == part).all(axis=(-3, -2, -1)).any())


@pytest.mark.parametrize("scale", [1, 3])
def test_contact_sheet_holds_every_image_enlarged_exactly(images, scale):
    sheet = _open(report.contact_sheet(["first", "second"], images, scale=scale))
    assert sheet.shape[2] == 3
    for image in images.reshape(-1, 8, 6, 3):
        large = np.kron(image, np.ones((scale, scale, 1), np.uint8))
        assert (sheet.reshape(-1, 3) == large[0, 0]).all(axis=1).any()
        assert _contains(sheet[:, :, :1], large[:, :, :1])


def test_contact_sheet_of_grey_images_is_grey(images):
    grey = _open(report.contact_sheet(["a", "b"], images[..., :1], scale=2))
    assert _contains(grey, np.repeat(np.kron(images[1, 2, :, :, :1], np.ones((2, 2, 1), np.uint8)), 3, axis=2))


def test_contact_sheet_names_its_rows(images):
    named, blank = (_open(report.contact_sheet(names, images)) for names in (["Flip(p=0.5)", "x"], ["", ""]))
    left = named.shape[1] - 3 * (6 * 16 + 4)
    assert (named[:, left:] == blank[:, left:]).all()
    half = named.shape[0] // 2
    assert (named[:half] != blank[:half]).any() and (named[half:] != blank[half:]).any()
    assert (blank[:, :left] == blank[0, 0]).all()


def test_contact_sheet_is_written_where_asked(images, tmp_path):
    png = report.contact_sheet(["a", "b"], images, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").read_bytes() == png
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]


@pytest.mark.parametrize(
    ("names", "change", "scale", "message"),
    [
        (["a"], lambda images: images, 1, r"got 1 names and images uint8 \(2, 3, 8, 6, 3\)"),
        (["a", "b"], lambda images: images.astype(np.float32), 1, "images float32"),
        (["a", "b"], lambda images: images[0], 1, r"\(3, 8, 6, 3\); allowed: R names"),
        (["a", "b"], lambda images: images[..., :2], 1, "with C 1 or 3"),
        (["a", "b"], lambda images: images, -1, "scale is -1; allowed: 1 or more"),
    ],
)
def test_contact_sheet_refuses_what_it_cannot_draw(images, names, change, scale, message):
    with pytest.raises(ValueError, match=message):
        report.contact_sheet(names, change(images), scale=scale)


def test_long_names_stay_inside_the_label_column(images):
    long = "Augmentation" * 9 + "(" + "setting=1, " * 30 + ")"
    sheet = _open(report.contact_sheet([long, "b"], images, scale=8))
    short = _open(report.contact_sheet(["a", "b"], images, scale=8))
    assert sheet.shape == short.shape
    assert (sheet[:, 170:] == short[:, 170:]).all()


def test_curves_put_phases_end_to_end(workdir):
    teacher = [history for history in read_run(workdir).histories if history.training == "teacher"]
    axes = _axes(figures.draw_curves(teacher, "loss"))
    drawn = {tuple(zip(*line.get_data(), strict=True)) for line in axes.lines}
    assert ((1.0, 2.0), (2.0, 1.5)) in drawn and ((1.0, 1.5), (2.0, 1.0)) in drawn
    assert ((3.0, 1.25),) in drawn and ((3.0, 0.9),) in drawn
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["training", "validation"]
    assert {text.get_text() for text in axes.texts} == {"train", "refine"}


def test_learning_rates_far_apart_are_drawn_on_a_log_scale(workdir):
    teacher = [history for history in read_run(workdir).histories if history.training == "teacher"]
    assert _axes(figures.draw_curves(teacher, "learning_rate")).get_yscale() == "log"  # .1 to .001
    assert _axes(figures.draw_curves(teacher[:1], "learning_rate")).get_yscale() == "linear"  # .1 to .05


def test_a_spike_of_the_loss_does_not_flatten_the_rest():
    columns = {column: np.array([2.0, 1.5, 1.0]) for column in HISTORY_FIELDS}
    calm = History("teacher", "0_train", columns)
    spiked = History("teacher", "0_train", {**columns, "val_loss": np.array([900.0, 1.5, 1.0])})
    assert _axes(figures.draw_curves([calm], "loss")).get_yscale() == "linear"
    assert _axes(figures.draw_curves([spiked], "loss")).get_yscale() == "log"


def test_attack_bars_are_as_high_as_the_accuracies(workdir):
    summary = summarize(read_run(workdir))
    axes = _axes(figures.draw_attacks(summary["served"], {"fgsm": "FGSM", "pgd": "PGD 8/255"}))
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == [0.9, 0.5, 0.0, 0.7, 0.75, 0.5]  # plain, then Sum-Aug: clean, FGSM, PGD
    ends = [bars.lines[2][0].get_segments()[0][:, 1] for bars in axes.containers if hasattr(bars, "lines")]
    assert len(ends) == 6 and ends[0] == pytest.approx([0.5958, 0.9821], abs=5e-5)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["clean", "FGSM", "PGD 8/255"]


def test_reliability_dots_stand_at_confidence_and_accuracy(workdir):
    run = read_run(workdir)
    axes = _axes(figures.draw_reliability(figures.clean_answers(run, "refine")))
    plain, mirror, sum_aug = (dots.get_offsets().tolist() for dots in axes.collections)
    assert mirror == [pytest.approx([0.7, 1.0], abs=1e-6)]
    assert plain == [pytest.approx([0.8, 0.9], abs=1e-6)]
    assert sum_aug == [pytest.approx([0.6, 0.7], abs=1e-6)]


def test_svg_uses_the_page_s_colours_and_prefixed_ids(workdir):
    summary = summarize(read_run(workdir))
    drawing = figures.svg(figures.draw_attacks(summary["served"], {"pgd": "PGD"}), "bars of x", 'say "<alt>"')
    assert drawing.startswith('<svg class="chart" role="img" aria-label="say &quot;&lt;alt&gt;&quot;"')
    assert "fill: var(--plain, #2166ac)" in drawing and "var(--sum-aug," in drawing
    assert all(each.startswith("bars-of-x-") for each in re.findall(r'\bid="([^"]+)"', drawing))
    assert "http" not in drawing and "DejaVu" not in drawing


def test_drawing_changes_no_setting_and_repeats_its_bytes(workdir):
    before = dict(matplotlib.rcParams)
    summary = summarize(read_run(workdir))
    draw = figures.draw_attacks(summary["served"], {"pgd": "PGD"})
    assert figures.svg(draw, "a", "b") == figures.svg(draw, "a", "b")
    assert dict(matplotlib.rcParams) == before


def test_names_with_dollar_signs_are_text_not_formulas(workdir):
    history = read_run(workdir).histories[0]
    named = [History("teacher", f"{i}_a$b_$c", history.columns) for i in range(2)]
    assert "a$b_$c" in figures.svg(figures.draw_curves(named, "loss"), "x", "y")


def test_readme_picture_is_1200_wide_and_repeatable(workdir, tmp_path):
    path = report.save_readme_picture(workdir, tmp_path / "picture.png")
    first = path.read_bytes()
    assert Image.open(path).width == 1200
    assert report.save_readme_picture(workdir, path).read_bytes() == first


def test_readme_picture_does_without_augmentations_and_attacks(workdir, tmp_path):
    (workdir / "figures/augmentations.npz").unlink()
    toy_run.forget(workdir, "predictions/*/*.[fp]g*.npz")
    assert Image.open(report.save_readme_picture(workdir, tmp_path / "picture.png")).width == 1200
