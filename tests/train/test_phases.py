"""What a phase can say of its steps beyond the schedule: parts of a batch, averages of weights, plateaus, sums."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.train import by_hand
from tests.train.by_hand import Normed, fold
from tests.train.test_joints import DATA, assert_history, assert_trained_as, weights_in
from tfaug import rng
from tfaug.augment import Flip, GradualSumAug, ManifoldMixup, SumAug
from tfaug.augment.base import Batch
from tfaug.config import ConfigError, identity
from tfaug.data.split import stratified_subset
from tfaug.schedules import Constant, Linear
from tfaug.train import fit
from tfaug.train.cascades import Length, cascade, gradual
from tfaug.train.phase import Phase, check_phases
from tfaug.train.plateau import ReduceOnPlateau
from tfaug.train.risks import TrainingRisks
from tfaug.train.stop import EarlyStop, Plateau
from tfaug.train.strategy import mirrored_strategy
from tfaug.workdir import PhaseFolder, TrainingFolder


def learn(folder, *phases: Phase, devices=("CPU:0",), on_epoch=None) -> tuple[tf.keras.Model, list[dict]]:
    """Trains; returns the network and what came of each phase."""
    strategy = mirrored_strategy(devices)
    with strategy.scope():
        network = by_hand.build(Normed(), DATA)
    run = fit.TrainingRun(TrainingFolder(folder), DATA, strategy, rng.make_seed(0), folder / "tb", on_epoch=on_epoch)
    return network, fit.train_phases(run, network, phases)


def assert_equal(one: tf.keras.Model, other: tf.keras.Model) -> None:
    for first, second in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)


def test_parts_of_a_batch_and_the_average_are_those_written_out(tmp_path):
    """The average is what is validated, kept and handed on; each part has batch statistics and mixes of its own."""
    mix = ManifoldMixup(stages=("input", "stem"), p=0.5)
    phase = Phase("train", 2, Linear(0.4, 0.04), (Flip(),), 24, weight_decay=0.02, mix_features=mix, keep="best")
    phase = dataclasses.replace(phase, accumulate=3, ema=0.7, keep_epochs=1)
    network, _ = learn(tmp_path, phase, devices=("CPU:0", "CPU:1"))
    expected = by_hand.build(Normed(), DATA)
    start = expected.get_weights()
    rates = 0.4 - 0.36 * np.arange(5) / 4
    history, snapshots = by_hand.train_by_hand(expected, DATA, phase, fold(rng.make_seed(0), 0), rates, num_replicas=2)
    folder = PhaseFolder(tmp_path / "0_train")
    assert_history(folder, history)
    assert_trained_as(network.get_weights(), expected.get_weights(), start)
    assert folder.epochs() == ["epoch_0002"]
    assert_trained_as(weights_in(folder.weights("epoch_0002"), Normed()), snapshots[1], start)


CASCADE = cascade(
    (2, 1),
    {2: Length(0, 3, 5), 1: Length(0, 1, 3)},
    sums=8,
    augment=(),
    rate=0.4,
    single_rate=0.2,
    ema=0.5,
)


def test_risks_are_those_of_the_same_images_plain_and_as_the_phase_augments_them():
    """In inference mode, of two batches of 12 of the 52 images; the order and the draws follow from the seed."""
    phase = Phase("train", 5, Constant(0.1), (SumAug(3),), 12, risk_batches=2)
    network, seed = by_hand.build(Normed(), DATA), rng.make_seed(7)
    risks = TrainingRisks(network, phase, DATA.train, by_hand.NUM_CLASSES, seed, fit.batch_function(phase))
    chosen = DATA.train.take(stratified_subset(DATA.train.labels, 24, seed=0))
    places = rng.permutation(fold(seed, 2), 24).numpy()

    def losses(images, labels):
        logits = network(images, training=False).numpy().astype(np.float64)
        return by_hand.loss_and_slope(phase, by_hand.SUPERVISED, labels, logits, None)[0]

    labels = np.eye(by_hand.NUM_CLASSES, dtype=np.float32)[chosen.labels]
    summed = []
    for i, rows in enumerate((places[:12], places[12:])):
        batch = Batch(tf.constant(chosen.images[rows]), tf.constant(labels[rows]))
        mixed = SumAug(3)(batch, fold(seed, 2, i, 0, 0))
        summed.append(losses(mixed.images, mixed.labels.numpy()))
    for _ in range(2):
        assert risks.measure(4) == pytest.approx(
            {"clean_loss": losses(chosen.images, labels).mean(), "augmented_loss": np.mean(summed)}, rel=1e-5
        )
    single = dataclasses.replace(phase, augment=(), mix_features=ManifoldMixup(stages=("stem",), p=0.0))
    same = TrainingRisks(network, single, DATA.train, by_hand.NUM_CLASSES, seed, fit.batch_function(single)).measure(4)
    assert same["clean_loss"] == pytest.approx(same["augmented_loss"], rel=1e-5)


class Killed(RuntimeError):
    """In place of a signal."""


def dies_after(num_epochs: int):
    """Returns what is called after every epoch, and kills at the end of one of them."""
    left = iter(range(num_epochs, 0, -1))

    def on_epoch(seconds: float) -> None:
        if next(left) == 1:
            raise Killed

    return on_epoch


def test_a_cascade_that_is_killed_goes_on_as_if_it_was_not(tmp_path):
    """In its first phase and in its second: the cut rates, the stops, what is handed on and the averages."""
    whole, results = learn(tmp_path / "whole", *CASCADE)
    folders = [f"{i}_{phase.name}" for i, phase in enumerate(CASCADE)]
    histories = [PhaseFolder(tmp_path / "whole" / folder).read_history() for folder in folders]
    rates = [float(row["learning_rate"]) for row in histories[0]]
    assert rates[-1] < 0.4 and {0.4 * 0.5**cut for cut in range(5)}.issuperset(np.float64(rates).round(6))
    for num_epochs in (3, len(histories[0]) - 2):  # so the second time after the first epoch of the second phase
        with pytest.raises(Killed):
            learn(tmp_path / "killed", *CASCADE, on_epoch=dies_after(num_epochs))
    killed, again = learn(tmp_path / "killed", *CASCADE)
    assert_equal(whole, killed)
    for folder, history in zip(folders, histories, strict=True):
        rows = PhaseFolder(tmp_path / "killed" / folder).read_history()
        assert [{**row, "seconds": ""} for row in rows] == [{**row, "seconds": ""} for row in history]
    shas = [[result["weights_sha256"] for result in each] for each in (results, again)]
    assert shas[0] == shas[1] and len(set(shas[0])) == 2


def test_cuts_are_those_of_a_plateau_counted_by_hand():
    """PyTorch's rule: more than `patience` epochs without a fall by a share of the lowest; then it counts anew."""
    rule = ReduceOnPlateau(patience=1, threshold=0.1)
    losses = [10, 9.5, 8, 7.5, 7.3, 7.3, 7.3, 1, float("nan"), 1, 1, 1]
    cuts = [rule.num_cuts([{"loss": loss, "val_loss": 0.0} for loss in losses[:num]]) for num in range(len(losses) + 1)]
    assert cuts == [0, 0, 0, 0, 0, 1, 1, 2, 2, 2, 3, 3, 4]
    rate = fit.PhaseRate(Constant(0.1), 10, dataclasses.replace(rule, factor=0.25, lowest=0.02))
    for num, expected in ((4, 0.1), (5, 0.025), (7, 0.02)):
        rate.follow([{"loss": loss} for loss in losses[:num]])
        assert float(rate(tf.constant(3))) == pytest.approx(expected)
    never = fit.PhaseRate(Constant(0.01), 10, rule)
    never.follow([{"loss": 1.0}] * 99)
    assert float(never(tf.constant(3))) == pytest.approx(5e-5)  # the lowest does not raise a rate, and stops a fall
    assert float(fit.PhaseRate(Constant(1e-6), 10, rule)(tf.constant(3))) == pytest.approx(1e-6)


def test_a_batch_is_of_images_or_of_sums():
    images = Phase("train", 1, Constant(0.1), (Flip(), SumAug(4)), batch_size=24)
    sums = dataclasses.replace(images, batch_size=6, batch_of="sums")
    assert (images.num_drawn, images.images_per_sum) == (sums.num_drawn, sums.images_per_sum) == (24, 4)
    levels = gradual(4, 8, 2, sums=5)
    assert [(p.name, p.epochs, p.num_drawn, p.images_per_sum) for p in levels] == [
        ("level0", 3, 20, 4),
        ("level1", 3, 15, 3),
        ("level2", 2, 10, 2),
        ("single", 2, 5, 1),
    ]
    assert [p.schedule.peak for p in levels] == [0.25, 0.125, 0.0625, 0.03125]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: train(augment=(SumAug(4),), batch_size=26), "26 images, .* 4 images in a sum; allowed: .* of 4"),
        (lambda: train(batch_size=24, accumulate=5), "24 images, .* 5 parts of a step; allowed: .* of 5"),
        (lambda: train(batch_size=4, batch_of="sums", accumulate=3), "4 sums, .* 3 parts of a step; .* of 3"),
        (
            lambda: train(augment=(SumAug(2),), batch_size=6).check_shared(2),
            "6 images, .* 2 devices and 2 images",
        ),
        (lambda: train(batch_of="rows"), r"batch_of is 'rows'; allowed: "),
        (
            lambda: train(stop=Plateau(3)),
            r"stop is Plateau.* after epoch 4 at the earliest, so never; .* epochs=5 or",
        ),
        (lambda: train(stop=EarlyStop(9)), r"stop is EarlyStop.* so never"),
        (lambda: train(plateau=ReduceOnPlateau(2)), r"plateau is ReduceOnPlateau.* after epoch 4 .* epochs=5 or more"),
        (lambda: train(plateau=Plateau()), r"plateau is .*; allowed: None or ReduceOnPlateau"),
        (lambda: fits(train(batch_size=26, name="refine"), 3), "phase refine: .* 26, which 3 devices cannot share"),
        (lambda: fits(train(), train(batch_size=18, batch_of="sums", augment=(SumAug(3),))), r"18 sums, 54 .* 1\.\.17"),
        (lambda: train(ema=1.0), r"ema is 1.0; allowed: "),
        (
            lambda: check_phases((train(plateau=ReduceOnPlateau(1)), train(name="refine", schedule=None))),
            "plateau decides",
        ),
        (lambda: cascade((2, 4)), r"ks is \(2, 4\); allowed: .*descending"),
        (lambda: cascade((3, 1)), "ks names 3, which has no length"),
        (lambda: cascade((4, 1), coefficients="beta"), "allowed: k=2"),
        (lambda: gradual(1), "n = 1"),
        (lambda: ReduceOnPlateau(monitor="accuracy"), "monitor is 'accuracy'; allowed: loss, val_loss"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_runs(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def fits(*phases) -> None:
    *phases, last = phases
    num_replicas, phases = (last, phases) if isinstance(last, int) else (1, [*phases, last])
    fit.check_fits(phases, DATA, SimpleNamespace(num_replicas_in_sync=num_replicas))


def train(**settings) -> Phase:
    return Phase(**{"name": "train", "epochs": 4, "schedule": Constant(0.1), "batch_size": 24, **settings})


def test_stops_that_can_fire_pass_and_defaults_are_no_part_of_what_a_phase_is():
    assert train(stop=Plateau(2)).stop and train(plateau=ReduceOnPlateau(1)).plateau
    new = {"batch_of", "accumulate", "ema", "plateau", "keep_epochs", "risk_batches"}
    assert not new & set(identity(train())) and identity(train(ema=0.5))["ema"] == 0.5


def test_a_level_is_its_part_of_the_way():
    """At the step s of 10 of level 1 of n = 4: t = (1 + s / 10) / 3, and the fourth image is gone."""
    whole, level = GradualSumAug(4), GradualSumAug(4, level=1)
    assert level.output_shape((12, 2, 2, 1)) == (4, 2, 2, 1)
    for step in range(10):
        weights = level.sample(rng.make_seed(0), (12, 2, 2, 1), (step, 10))["weights"].numpy()
        expected = whole.sample(rng.make_seed(0), (12, 2, 2, 1), (10 + step, 30))["weights"].numpy()
        assert weights.shape == (4, 3) and not expected[:, 3].any()
        np.testing.assert_allclose(weights[0], expected[0, :3], atol=2**-16)
        assert (weights.sum(1) == 1).all()
    for wrong in (-1, 3, 1.5):
        with pytest.raises(ConfigError, match=r"level is .*allowed: "):
            GradualSumAug(4, level=wrong)
