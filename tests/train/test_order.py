"""Orders: the table of them by property, and that training takes the examples as they come."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from tests.train.by_hand import fold, make_data
from tfaug import rng
from tfaug.config import from_dict, to_dict
from tfaug.data.pipeline import training_batches
from tfaug.experiment import CLASSES
from tfaug.train.order import ORDERS, LossOrder, MaxLossDelta, Order, ScoringOrder, Shuffled

ALL: dict[str, Order] = {"LossOrder": LossOrder(3, "inverse"), "MaxLossDelta": MaxLossDelta(4), "Shuffled": Shuffled()}
ASKED = {name: order for name, order in ALL.items() if isinstance(order, ScoringOrder)}
SEED = rng.make_seed(3)
LABELS = tf.one_hot(tf.range(40) % 3, 3)


@dataclasses.dataclass(frozen=True)
class Backwards(Order):
    """Every example once, last to first, and some twice; each epoch begins one later."""

    def rows(self, seed: tf.Tensor, epoch: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        return tf.concat([tf.roll(tf.range(labels.shape[0])[::-1], -tf.cast(epoch, tf.int32), 0), [0, 1, 2]], 0)


def test_the_table_is_complete() -> None:
    found = {*Order.__subclasses__(), *ScoringOrder.__subclasses__()} - {ScoringOrder}
    assert set(ORDERS.values()) == {cls for cls in found if cls.__module__.startswith("tfaug.")}
    assert {name: type(order) for name, order in ALL.items()} == ORDERS


@pytest.mark.parametrize("name", ALL)
def test_an_order_is_a_frozen_dataclass_that_is_read_back(name: str) -> None:
    assert from_dict(to_dict(ALL[name]), CLASSES) == ALL[name] and CLASSES[name] is type(ALL[name])
    hash(ALL[name])


@pytest.mark.parametrize("name", sorted(set(ALL) - set(ASKED)))
def test_an_order_is_a_function_of_seed_epoch_and_labels(name: str) -> None:
    """The same bits eager and in a graph, whatever was asked before; places of the examples, as many or more."""
    order = ALL[name]
    in_graph = tf.function(lambda epoch: order.rows(SEED, epoch, LABELS))
    drawn = [order.rows(SEED, tf.constant(epoch, tf.int64), LABELS).numpy() for epoch in (0, 1, 2, 1)]
    np.testing.assert_array_equal(drawn[1], drawn[3])
    for epoch, rows in enumerate(drawn[:3]):
        assert rows.dtype == np.int32 and len(rows) >= 40 and rows.min() >= 0 and rows.max() < 40
        np.testing.assert_array_equal(in_graph(tf.constant(epoch, tf.int64)), rows)
    assert len({rows.tobytes() for rows in drawn}) == 3
    other = order.rows(rng.make_seed(4), tf.constant(0, tf.int64), LABELS).numpy()
    assert not np.array_equal(other, drawn[0])


def test_shuffled_visits_every_example_once_by_the_epochs_permutation() -> None:
    for epoch in range(3):
        rows = Shuffled().rows(SEED, tf.constant(epoch, tf.int64), LABELS).numpy()
        assert sorted(rows) == list(range(40))
        np.testing.assert_array_equal(rows, rng.permutation(fold(SEED, epoch), 40))


def test_batches_are_cut_from_what_the_order_says() -> None:
    """52 images in batches of 16: 48 of each epoch, in their order, from any epoch on."""
    train = make_data().train
    for first in (0, 1):
        batches = training_batches(
            train,
            num_classes=3,
            batch_size=16,
            seed=SEED,
            first_epoch=first,
            num_epochs=2,
            with_examples=True,
            rows_of=Backwards().rows,
        )
        seen = [[part.numpy() for part in batch] for batch in batches]
        rows = np.concatenate([examples for _, _, examples in seen])
        expected = [(51 - epoch - i) % 52 for epoch in range(first, 2) for i in range(48)]
        assert rows.tolist() == expected
        np.testing.assert_array_equal(np.concatenate([images for images, _, _ in seen]), train.images[rows])
        np.testing.assert_array_equal(np.concatenate([labels for _, labels, _ in seen]).argmax(1), train.labels[rows])


@pytest.mark.parametrize("name", ASKED)
def test_an_order_that_asks_the_network_has_no_rows_before(name: str) -> None:
    with pytest.raises(NotImplementedError, match=f"{name} asks the network"):
        ASKED[name].rows(SEED, tf.constant(0), LABELS)


def test_an_order_of_ones_own_says_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError, match=r"Order has no rows\(seed, epoch, labels\)"):
        Order().rows(SEED, tf.constant(0), LABELS)
