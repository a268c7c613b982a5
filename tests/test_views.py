"""The choice of test-time views: its rule on hand-made answers, its passes, and that an export gives what was measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tensorflow as tf

from tfaug.data.split import Split, stratified_subset
from tfaug.export import ExportConfig, ViewChoice, export_model, load_exported
from tfaug.views import View, choose_test_time, choose_views, describe_views, measure_views

SHAPE = (4, 6, 1)
CONFIG = ExportConfig(draws=(2, 5), weights=(0.5, 0.8), bank_size=7, mirror=True, num_examples=9)


def answers(num_right: int, total: int = 100, confidence: float = 0.8) -> np.ndarray:
    """Answers to `total` images of class 0, the first `num_right` of which are right."""
    right = np.arange(total) < num_right
    first = np.where(right, confidence, 1 - confidence)
    return np.stack([first, 1 - first], axis=1)


def choose(plain: int, mirror: int | None, *sums: tuple[int, int, float]) -> ViewChoice:
    views = [View("plain", answers(plain)), *([] if mirror is None else [View("mirror", answers(mirror))])]
    views += [View("sum_aug", answers(right), n, weight) for right, n, weight in sums]
    return choose_views(views, np.zeros(100, np.int64))


@pytest.mark.parametrize(
    ("right", "expected"),
    [
        # The best sum is 10 better: 10 of 100 images, Binomial(100, .1) is at least 5 in 97.5 % of draws.
        ((60, None, (65, 8, 0.5), (70, 64, 0.5)), ViewChoice(64, 0.5, "sum_aug")),
        # Equal sums: the fewer passes, whatever stands first.
        ((60, None, (70, 64, 0.5), (70, 8, 0.8)), ViewChoice(8, 0.8, "sum_aug")),
        # Plain is best: it is served, and the best sum is still there to be asked.
        ((70, None, (60, 8, 0.5), (65, 64, 0.8)), ViewChoice(64, 0.8, "plain")),
        # All equal: the fewest passes.
        ((70, 70, (70, 8, 0.5)), ViewChoice(8, 0.5, "plain")),
        # 3 of 100 better: Binomial(100, .03) is 0 in 4.8 % of draws, so the interval holds 0.
        ((70, 73, (60, 8, 0.5)), ViewChoice(8, 0.5, "plain")),
        # 4 of 100: 1.7 %, so it does not.
        ((70, 74, (60, 8, 0.5)), ViewChoice(8, 0.5, "mirror")),
        # The sum is best and cannot be told from mirror views, which are cheaper and can be told from plain.
        ((60, 70, (72, 8, 0.5)), ViewChoice(8, 0.5, "mirror")),
        ((60, 70, (80, 8, 0.5)), ViewChoice(8, 0.5, "sum_aug")),
    ],
)
def test_the_rule_by_hand(right, expected):
    assert choose(*right) == expected


def test_equal_sums_of_equal_cost_are_told_apart_by_their_nll():
    views = [View("plain", answers(50))]
    views += [View("sum_aug", answers(60, confidence=c), 8, a) for a, c in ((0.5, 0.99), (2 / 3, 0.6), (0.8, 0.9))]
    # 60 right, 40 wrong: the mean of -log c and -log(1 - c) is least at c = .6 of these.
    assert choose_views(views, np.zeros(100, np.int64)).weight == 2 / 3


def test_views_are_described_by_hand():
    plain, sums = describe_views(
        [View("plain", answers(3, 4, 0.5001)), View("sum_aug", answers(2, 4, 0.75), 8, 0.5)], np.zeros(4, np.int64)
    )
    assert (plain["mode"], plain["passes"], plain["accuracy"], plain["gain"]) == ("plain", 1, 0.75, None)
    assert (sums["num_draws"], sums["weight"], sums["passes"], sums["accuracy"]) == (8, 0.5, 8, 0.5)
    assert sums["accuracy_ci95"] == pytest.approx([0.15, 0.85], abs=5e-4)  # Wilson's interval of 2 of 4
    # Two losses of log(4/3) and two of log(4): mean .8370, standard deviation log(3)/sqrt(3) = .6343, t(3) = 3.1824.
    assert sums["nll"] == pytest.approx(0.8370, abs=5e-5)
    assert sums["nll_ci95"] == pytest.approx([0.8370 - 3.1824 * 0.6343 / 2, 0.8370 + 3.1824 * 0.6343 / 2], abs=2e-4)
    # One of four worse: Binomial(4, 1/4) is 3 at most in 97.5 % of draws.
    assert sums["gain"] == {"difference": -0.25, "ci95": [-0.75, 0.0]}


class Network(tf.Module):
    """Linear with fixed weights; counts the rows that it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(np.random.default_rng(1).normal(0, 0.02, (24, 3)).astype(np.float32))
        self.num_rows = tf.Variable(0, trainable=False)

    @property
    def variables(self):
        return (self.kernel, self.num_rows)

    def __call__(self, images: tf.Tensor, training: bool = False) -> tf.Tensor:
        self.num_rows.assign_add(tf.shape(images)[0])
        return tf.reshape(images, [-1, 24]) @ self.kernel


def make_split(num: int, seed: int = 0) -> Split:
    images = np.random.default_rng(seed).integers(0, 256, (num, *SHAPE)).astype(np.uint8)
    return Split(images, np.arange(num, dtype=np.int64) % 3, np.array([f"{seed}-{i}" for i in range(num)]))


BANK = make_split(7, seed=5).images


def test_one_set_of_passes_serves_every_number_of_draws():
    network = Network()
    views = measure_views(network, BANK, make_split(30).images, CONFIG)
    # Plain, two mirror views, five draws at each of two weights, and the bank to learn what the network gives.
    assert int(network.num_rows) == 30 * (1 + 2 + 5 * 2) + len(BANK)
    assert [(view.mode, view.num_draws, view.weight) for view in views] == [
        *(("plain", 0, 1.0), ("mirror", 0, 1.0)),
        *(("sum_aug", n, a) for a in (0.5, 0.8) for n in (2, 5)),
    ]


def test_no_images_are_refused():
    with pytest.raises(ValueError, match="0 images to measure views on; allowed: 1 or more"):
        measure_views(Network(), BANK, BANK[:0], CONFIG)


def test_what_was_measured_is_what_an_export_of_that_setting_answers(tmp_path):
    images = make_split(30).images
    for i, view in enumerate(measure_views(Network(), BANK, images, CONFIG)):
        n, a = (view.num_draws, view.weight) if view.mode == "sum_aug" else (2, 0.5)
        path = export_model(
            tmp_path / str(i),
            Network(),
            bank_images=BANK,
            config=CONFIG,
            choice=ViewChoice(n, a, view.mode),
            warmup_images=images[:1],
            image_shape=SHAPE,
        )
        for signature in (view.mode, "serving_default_uint8"):
            found = load_exported(path).predict({"images": images}, signature)["probs"]
            np.testing.assert_allclose(found, view.probs, atol=2e-6)


def test_the_choice_is_made_on_a_stratified_part_of_the_validation_images(tmp_path):
    validation = make_split(30)
    found = choose_test_time(Network(), BANK, validation, CONFIG)
    part = validation.take(stratified_subset(validation.labels, 9, seed=0))
    assert np.bincount(part.labels).tolist() == [3, 3, 3]
    views = measure_views(Network(), BANK, part.images, CONFIG)
    assert found["num_examples"] == 9
    assert found["views"] == describe_views(views, part.labels)
    assert ViewChoice(**found["choice"]) == choose_views(views, part.labels)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_without_mirror_views_none_are_asked():
    config = ExportConfig(draws=(1,), weights=(0.5,), bank_size=7)
    assert [view.mode for view in measure_views(Network(), BANK, make_split(3).images, config)] == ["plain", "sum_aug"]
