"""Orders by the loss or the error: the easiest first, the hardest first, or drawn by it."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfaug import rng
from tfaug.config import check_choice, check_whole
from tfaug.train.order.base import REFRESH, Ask, Pool, ScoringOrder, draw_rows

SCORES = ("loss", "el2n")
STRATEGIES = ("ascending", "descending", "weighted", "inverse")


@dataclasses.dataclass(frozen=True)
class LossOrder(ScoringOrder):
    """Takes, of what K random candidates there are, the batch of the lowest loss, or draws examples by their losses.

    `ascending` and `descending` are orderings (the authors' multi-attempt loss orderer): a learning item is a batch, K
    random subsets of the examples that the epoch has not taken yet; the one of the lowest or highest mean loss is
    taken, so that each example comes at most once in an epoch. `weighted` and `inverse` are samplers: a learning item
    is an example; of K B random examples, B are drawn with replacement, each with a probability proportional to its
    loss, or to one over it. Nothing says that an epoch sees all examples then; it is as many steps as ever.

    The loss is the phase's, in inference mode, on images as they are: the authors' loader scores augmented ones, of
    which a step may not come back to the same. All K B images go through the network in one call.

    With `score="el2n"` the Euclidean length of softmax(logits) - labels stands in place of the loss everywhere. Paul et
    al. average it over several networks after a few epochs and drop the easiest examples for good; here it is that of
    the one network that is trained, as it is now, and no example is dropped.

    Attributes:
      k: candidates of a step, 1 .. batches in an epoch; the authors' are 8, 16, 32 and 64.
      strategy: `ascending`, `descending`, `weighted` or `inverse`.
      refresh: `step` scores the candidates before each step; `epoch` scores all examples at its beginning.
      score: `loss`, or `el2n`, 0 .. sqrt(2).

    Source: Simionescu 2020 (`sum`), section 2.4.1, whose descending order learned nothing; table 2.2. EL2N: Paul et al.
    2021, Deep Learning on a Data Diet.
    """

    k: int = 8
    strategy: str = "ascending"
    refresh: str = "step"
    score: str = "loss"

    def __post_init__(self) -> None:
        check_whole(self, "k", 1)
        check_choice(self, "strategy", STRATEGIES)
        check_choice(self, "refresh", REFRESH)
        check_choice(self, "score", SCORES)

    @property
    def replaces(self) -> bool:  # type: ignore[override]
        """Whether it is a sampler."""
        return self.strategy in ("weighted", "inverse")

    def candidates(self, seed: tf.Tensor, pool: Pool) -> tf.Tensor:
        """Returns K batches, or K B examples for a sampler; see `ScoringOrder.candidates`."""
        batch_size = int(pool.split.shape[1])
        if self.replaces:
            return tf.transpose(draw_rows(seed, pool.remaining, (1, self.k * batch_size)))
        return draw_rows(seed, pool.remaining, (self.k, batch_size))

    def items(self, pool: Pool) -> tf.Tensor:
        """Returns every example; see `ScoringOrder.items`."""
        return tf.range(pool.remaining.shape[0])[:, None]

    def scores(self, ask: Ask, items: tf.Tensor) -> tf.Tensor:
        """Returns the mean loss or error of each item; see `ScoringOrder.scores`."""
        rows = tf.reshape(items, [-1])
        found = ask.losses(rows) if self.score == "loss" else tf.norm(ask.errors(rows), axis=1)
        return tf.reduce_mean(tf.reshape(found, tf.shape(items)), axis=1)

    def choose(self, seed: tf.Tensor, items: tf.Tensor, scores: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Returns the batch; see `ScoringOrder.choose`."""
        if self.strategy == "ascending":
            return items[tf.argmin(scores)]
        if self.strategy == "descending":
            return items[tf.argmax(scores)]
        weights = scores if self.strategy == "weighted" else 1.0 / tf.maximum(scores, 1e-6)
        return tf.gather(items[:, 0], draw_by_weight(seed, weights, batch_size))


def draw_by_weight(seed: tf.Tensor, weights: tf.Tensor, num: int) -> tf.Tensor:
    """Draws `num` places with replacement, int32, each with a probability proportional to its weight.

    Args:
      seed: int32 [2].
      weights: float32 [M], 0 or more, not all of them 0.
      num: how many.
    """
    ends = tf.cumsum(tf.cast(weights, tf.float64))
    draws = tf.cast(rng.uniform(seed, [num]), tf.float64) * ends[-1]
    # A draw of just the end of a place is the next one's, so that a weight of 0 is never drawn.
    return tf.minimum(tf.searchsorted(ends, draws, side="right"), weights.shape[0] - 1)
