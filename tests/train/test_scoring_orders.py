"""Orders that ask the network: each choice against one made in numpy, no trace of the asking, and a resumed run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from experiments import ordering
from tests.train.by_hand import NUM_CLASSES, Normed, build, fold, loss_and_slope, make_data, train_by_hand, updated
from tfaug import rng
from tfaug.augment import Flip
from tfaug.config import ConfigError
from tfaug.data import ImageData
from tfaug.data.pipeline import augmentation_seed, order_seed, step_seed
from tfaug.models import StagedModel
from tfaug.schedules import Linear
from tfaug.train import fit
from tfaug.train.methods import Supervised
from tfaug.train.optimizers import SGD
from tfaug.train.order import LossOrder, MaxLossDelta, Order
from tfaug.train.order.loader import DataLoader
from tfaug.train.order.loss_order import draw_by_weight
from tfaug.train.phase import Phase
from tfaug.train.state import State
from tfaug.train.strategy import mirrored_strategy
from tfaug.workdir import TrainingFolder

BATCH = 8
SUPERVISED = Supervised()
SEED = rng.make_seed(5)
ORDER_SEED = order_seed(SEED)
RATES = [0.05 + 0.01 * step for step in range(13)]


@pytest.fixture(scope="module")
def data() -> ImageData:
    """52 images, so 6 batches an epoch, and 22 that are held out."""
    return make_data()


def make_phase(order: Order, **settings: Any) -> Phase:
    settings = {"augment": (Flip(),), "augment_on": "device", "optimizer": SGD(), "label_smoothing": 0.1, **settings}
    return Phase("train", 2, Linear(0.05, 0.17), batch_size=BATCH, weight_decay=0.01, order=order, **settings)


class Bench:
    """A learner with its data loader, outside of `fit`."""

    def __init__(self, data: ImageData, order: Order):
        self.strategy = mirrored_strategy(["CPU:0"])
        self.phase = make_phase(order)
        with self.strategy.scope():
            self.network = build(Normed(), data)
            rate = fit.PhaseRate(self.phase.schedule, 12)
            function = fit.batch_function(self.phase)
            self.learner = fit.make_learner(
                self.network, self.phase, rate, augmentation_seed(SEED), function, SUPERVISED, None
            )
            self.state = State(self.network, self.learner.optimizer)
        self.loader = DataLoader(
            order, self.learner, data.train, data.validation, NUM_CLASSES, ORDER_SEED, BATCH, self.strategy
        )
        self.next_batch = tf.function(lambda step: self.strategy.run(self.loader.next_batch, (step,)), autograph=False)

    def disturb(self, step: int) -> None:
        """Gives the weights, the slots and the batch statistics values of a training, and the optimizer its step."""
        generator = np.random.default_rng(step)
        held = self.state.snapshot()
        noise = [0.1 * np.abs(generator.normal(size=each.shape)) for each in held]
        # Cast to whole numbers, the noise is none.
        self.state.restore([each + more.astype(each.dtype) for each, more in zip(held, noise, strict=True)])
        self.learner.optimizer.iterations.assign(step)

    def momenta(self) -> list[np.ndarray]:
        """Returns the momentum of each weight."""
        return [np.asarray(each) for each in self.learner.optimizer.momentums]


def losses_by_hand(
    network: StagedModel, phase: Phase, images: Any, labels: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns the losses in inference mode, and the gradients of their mean with the decay."""
    with tf.GradientTape() as tape:
        logits = network(images, training=False)
    losses, slope = loss_and_slope(phase, SUPERVISED, np.eye(NUM_CLASSES)[labels], logits.numpy(), None)
    weights = network.trainable_variables
    gradients = tape.gradient(logits, weights, output_gradients=tf.constant(slope / len(losses), tf.float32))
    return losses, [g.numpy() + phase.weight_decay * w.numpy() for g, w in zip(gradients, weights, strict=True)]


def scores_by_hand(
    network: StagedModel, phase: Phase, data: ImageData, items: np.ndarray, step: int, momenta: list[Any]
) -> np.ndarray:
    """Returns the score of each item: a mean loss or error, or what a step on it by hand brings."""
    train, order, weights = data.train, phase.order, network.trainable_variables
    if isinstance(order, LossOrder):
        found = losses_by_hand(network, phase, train.images, train.labels)[0]
        if order.score == "el2n":
            odds = np.exp(network(train.images, training=False).numpy())
            found = np.sqrt(((odds / odds.sum(1, keepdims=True) - np.eye(NUM_CLASSES)[train.labels]) ** 2).sum(1))
        return found[items].mean(1)
    scores = []
    places = rng.permutation(fold(ORDER_SEED, -2, step // 6), 22).numpy()[: order.num_static]
    for rows in items:
        batch = (train.images[rows], train.labels[rows])
        if phase.augment:
            seed = rng.fold_in(step_seed(augmentation_seed(SEED), step, 0), 0)
            flipped = Flip()(fit.Batch(tf.constant(batch[0]), tf.one_hot(batch[1], NUM_CLASSES)), seed)
            batch = (flipped.images, batch[1])
        judged = batch if order.on == "batch" else (data.validation.images[places], data.validation.labels[places])
        held = [weight.numpy() for weight in weights]
        before = losses_by_hand(network, phase, *judged)[0].mean()
        gradients = losses_by_hand(network, phase, *batch)[1]
        for weight, momentum, gradient in zip(weights, momenta, gradients, strict=True):
            weight.assign(updated(phase.optimizer, weight.numpy(), momentum, gradient, RATES[step])[0])
        after = losses_by_hand(network, phase, *judged)[0].mean()
        for weight, value in zip(weights, held, strict=True):
            weight.assign(value)
        scores.append((before - after) / (before if order.score == "relative" else 1.0))
    return np.array(scores)


class ByHand:
    """Chooses in numpy, step after step."""

    def __init__(self, network: StagedModel, phase: Phase, data: ImageData):
        self.network, self.phase, self.data = network, phase, data
        self.remaining: np.ndarray = np.ones(52, bool)

    def draw(self, seed: tf.Tensor, allowed: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        keys = np.where(allowed, rng.uniform(seed, [shape[0], len(allowed)]).numpy(), -1.0)
        return np.argsort(-keys, axis=1, kind="stable")[:, : shape[1]]

    def choose(self, step: int, momenta: list[Any]) -> np.ndarray:
        order, epoch = self.phase.order, step // 6
        if step % 6 == 0:
            self.remaining[:] = True
            self.split = rng.permutation(fold(ORDER_SEED, epoch), 52).numpy()[:48].reshape(6, BATCH)
            if order.refresh == "epoch":
                items = self.split if isinstance(order, MaxLossDelta) else np.arange(52)[:, None]
                self.table = np.zeros(52)
                self.table[items] = self.scores(items, step, momenta)[:, None]
        seed = fold(ORDER_SEED, -1, step)
        if isinstance(order, MaxLossDelta):
            left = self.remaining[self.split[:, 0]]
            items = self.split[self.draw(fold(seed, 0), left, (1, 6))[0][: min(order.k, left.sum())]]
        elif order.replaces:
            items = self.draw(fold(seed, 0), self.remaining, (1, order.k * BATCH)).T
        else:
            items = self.draw(fold(seed, 0), self.remaining, (order.k, BATCH))
        fresh = order.refresh == "step"
        scores = self.scores(items, step, momenta) if fresh else self.table[items].mean(1)
        if isinstance(order, LossOrder) and order.replaces:
            ends = np.cumsum(scores if order.strategy == "weighted" else 1 / scores)
            draws = rng.uniform(fold(seed, 1), [BATCH]).numpy() * ends[-1]
            return items[[int((ends <= draw).sum()) for draw in draws], 0]
        lowest = isinstance(order, LossOrder) and order.strategy == "ascending"
        rows = items[scores.argmin() if lowest else scores.argmax()]
        self.remaining[rows] = False
        return rows

    def scores(self, items: np.ndarray, step: int, momenta: list[Any]) -> np.ndarray:
        return scores_by_hand(self.network, self.phase, self.data, items, step, momenta)


@pytest.mark.parametrize(
    "order",
    [
        LossOrder(3),
        LossOrder(3, "descending", refresh="epoch"),
        LossOrder(3, "weighted"),
        LossOrder(3, "inverse", refresh="epoch"),
        LossOrder(3, "descending", score="el2n"),
        MaxLossDelta(3),
        MaxLossDelta(3, score="relative", on="static", num_static=10),
        MaxLossDelta(4, refresh="epoch"),
    ],
    ids=repr,
)
def test_a_choice_is_the_one_by_hand_and_leaves_no_trace(data: ImageData, order: Any) -> None:
    """Weights, slots, steps and batch statistics are bit for bit what they were; an ordering takes no example twice."""
    bench = Bench(data, order)
    hand = ByHand(bench.network, bench.phase, data)
    taken = []
    for step in range(6):
        if order.refresh == "step" or step == 0:
            bench.disturb(step)
        bench.learner.optimizer.iterations.assign(step)
        before = bench.state.snapshot()
        if step == 0:
            bench.loader.begin_epoch(0)
        images, labels, rows = (each.numpy() for each in bench.next_batch(tf.constant(step, tf.int64)))
        for old, new in zip(before, bench.state.snapshot(), strict=True):
            np.testing.assert_array_equal(old, new)
        np.testing.assert_array_equal(rows, hand.choose(step, bench.momenta()))
        np.testing.assert_array_equal(images, data.train.images[rows])
        np.testing.assert_array_equal(labels.argmax(1), data.train.labels[rows])
        taken += rows.tolist()
    assert order.replaces == (len(set(taken)) < 48)


def run_of(data: ImageData, folder: Any, on_epoch: Callable[[float], None] | None = None) -> fit.TrainingRun:
    return fit.TrainingRun(
        TrainingFolder(folder), data, mirrored_strategy(["CPU:0"]), SEED, folder / "tb", on_epoch=on_epoch
    )


def test_a_phase_killed_after_an_epoch_goes_on_as_if_it_was_not(data: ImageData, tmp_path: Any) -> None:
    """And the whole phase is the training by hand, on the batches that are chosen by hand."""
    order = MaxLossDelta(2)

    def train(folder: Any, on_epoch: Callable[[float], None] | None = None) -> list[np.ndarray]:
        run = run_of(data, folder, on_epoch)
        with run.strategy.scope():
            network = build(Normed(), data)
        fit.train_phases(run, network, (make_phase(order),))
        return network.get_weights()

    def kill(_: float) -> None:
        raise KeyboardInterrupt

    whole = train(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "killed", kill)
    for one, other in zip(whole, train(tmp_path / "killed"), strict=True):
        np.testing.assert_array_equal(one, other)
    phase, network = make_phase(order), build(Normed(), data)
    index_seed = rng.fold_in(SEED, 0)
    hand = ByHand(network, phase, data)
    hand_seeds = {"ORDER_SEED": order_seed(index_seed), "SEED": index_seed}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in hand_seeds.items():
            patch.setitem(globals(), name, value)
        train_by_hand(network, data, phase, index_seed, RATES, choose=hand.choose)
    for mine, theirs in zip(network.get_weights(), whole, strict=True):
        np.testing.assert_allclose(theirs, mine, rtol=2e-3, atol=2e-4)


def test_a_sampler_draws_by_the_weights_with_replacement() -> None:
    weights = np.array([1, 2, 0, 3, 4], np.float32)
    drawn = draw_by_weight(SEED, tf.constant(weights), 20_000).numpy()
    counts, expected = np.bincount(drawn, minlength=5), 2_000 * weights
    assert counts[2] == 0
    chosen = expected > 0
    assert ((counts - expected)[chosen] ** 2 / expected[chosen]).sum() < 11.3  # chi-square of 3 degrees, 1 %


@pytest.mark.parametrize(
    ("order", "settings", "devices", "named"),
    [
        (LossOrder(7), {}, 1, r"phase train: LossOrder.k is 7, but an epoch has 6 batches; allowed: 1..6"),
        (MaxLossDelta(8), {}, 1, r"MaxLossDelta.k is 8.*1..6"),
        (MaxLossDelta(2), {}, 2, r"on 2 replicas.*allowed: Shuffled\(\), or one device"),
        (MaxLossDelta(2, on="static"), {}, 1, r"num_static is 512, but 22 images are held out.*1..22, or on='batch'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    data: ImageData, tmp_path: Any, order: Any, settings: Any, devices: int, named: str
) -> None:
    run = dataclasses.replace(
        run_of(data, tmp_path / "run"), strategy=mirrored_strategy([f"CPU:{i}" for i in range(devices)])
    )
    with pytest.raises(ConfigError, match=named):
        fit.train_phases(run, build(Normed(), data), (dataclasses.replace(make_phase(order), epochs=1, **settings),))
    assert not (tmp_path / "run").exists()


def test_a_static_batch_needs_images_that_are_held_out() -> None:
    with pytest.raises(ConfigError, match="but 0 images are held out.*allowed: on='batch'"):
        MaxLossDelta(1, on="static").check_fits(num_batches=1, num_held_out=0, num_replicas=1)


def test_what_asks_the_network_is_not_augmented_on_the_host() -> None:
    with pytest.raises(ConfigError, match=r"LossOrder\(k=2.*augment_on 'host'.*allowed: augment_on='device'"):
        make_phase(LossOrder(2), augment_on="host")
    assert make_phase(LossOrder(2), augment_on="host", augment=()).order == LossOrder(2)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: LossOrder(0), "k is 0.*1 or more"),
        (lambda: LossOrder(2, "ascend"), "did you mean 'ascending'"),
        (lambda: LossOrder(2, refresh="never"), "step"),
        (lambda: MaxLossDelta(2, on="test"), "batch"),
        (lambda: MaxLossDelta(2, score="ratio"), "absolute"),
        (lambda: MaxLossDelta(2, num_static=0), "1 or more"),
    ],
)
def test_a_wrong_field_names_what_is_allowed(make: Callable[[], Order], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        make()


def test_the_study_holds_the_orders_at_both_scales() -> None:
    """And the paper's accuracies after as many epochs as are trained."""
    for scale, epochs in (("small", 2), ("paper", 10)):
        study = ordering.approximations(scale)
        assert len(study.paper) == 4 * epochs
        orders = [experiment.trainings[0].phases[0].order for experiment in study.arms.values()]
        assert [type(order).__name__ for order in orders] == ["Shuffled", "LossOrder", "MaxLossDelta", "MaxLossDelta"]
    with pytest.raises(ConfigError, match="scale is 'large'; allowed: small, paper"):
        ordering.approximations("large")
