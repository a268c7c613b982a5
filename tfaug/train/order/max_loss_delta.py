"""The order by how much is learned: the batch whose step lowers the loss most."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from tfaug.config import ConfigError, check_choice, check_whole
from tfaug.train.order.base import REFRESH, Ask, Pool, ScoringOrder, draw_rows


@dataclasses.dataclass(frozen=True)
class MaxLossDelta(ScoringOrder):
    """Tries a step on each of K random batches, takes it back, and takes the one that lowered the loss most for good.

        score = L0 - L1   (`absolute`)   or   (L0 - L1) / L0   (`relative`)

    with L0 and L1 the mean loss before and after the step, in inference mode, of the same batch (`on="batch"`), or of
    one that stays the same for an epoch (`on="static"`). An epoch is a random split into batches, each of which is
    taken once; where fewer than K remain, all of them are tried. Weights, the optimizer's slots and steps are put back
    bit for bit; batch statistics are never touched. A tried step costs a forward and a backward pass and one more
    forward pass; `tools/bench.py ordering` says what that is.

    The authors draw their static batch from the *test* images; here it is drawn from the validation split, which is
    held out of the training images. It has a say in what is learned then, so that `keep="best"` is flattered by it.

    Attributes:
      k: candidates of a step, 1 .. batches in an epoch; the authors' are 8, 16, 32, and all 391 of them.
      on: whose loss, `batch` or `static`.
      score: `absolute` or `relative`.
      num_static: images of the static batch, drawn anew each epoch, 1 or more; the thesis has 512, its code 128.
      refresh: `step` scores the candidates before each step; `epoch` scores all batches at its beginning.

    Source: Simionescu 2020 (`sum`), section 2.4.2, tables 2.3 and 2.4.
    """

    k: int = 8
    on: str = "batch"
    score: str = "absolute"
    num_static: int = 512
    refresh: str = "step"

    def __post_init__(self) -> None:
        check_whole(self, "k", 1)
        check_choice(self, "on", ("batch", "static"))
        check_choice(self, "score", ("absolute", "relative"))
        check_whole(self, "num_static", 1)
        check_choice(self, "refresh", REFRESH)

    def check_fits(self, *, num_batches: int, num_held_out: int, num_replicas: int) -> None:
        """Refuses a static batch of more images than are held out, too; see `Order.check_fits`."""
        super().check_fits(num_batches=num_batches, num_held_out=num_held_out, num_replicas=num_replicas)
        if self.on == "static" and self.num_static > num_held_out:
            allowed = f"num_static of 1..{num_held_out}, or on='batch'" if num_held_out else "on='batch'"
            raise ConfigError(
                f"MaxLossDelta.num_static is {self.num_static}, but {num_held_out} images are held out of the training "
                f"images (the validation split); allowed: {allowed}"
            )

    def candidates(self, seed: tf.Tensor, pool: Pool) -> tf.Tensor:
        """Returns K batches of the split that remain, the first of them again where there are fewer."""
        remain = tf.gather(pool.remaining, pool.split[:, 0])
        places = draw_rows(seed, remain, (1, self.k))[0]
        return tf.gather(pool.split, tf.where(tf.gather(remain, places), places, places[0]))

    def items(self, pool: Pool) -> tf.Tensor:
        """Returns the batches of the split; see `ScoringOrder.items`."""
        return pool.split

    def scores(self, ask: Ask, items: tf.Tensor) -> tf.Tensor:
        """Returns by how much a step on each batch lowers the loss; see `ScoringOrder.scores`."""
        before, after = ask.deltas(items, self.num_static if self.on == "static" else 0)
        delta = before - after
        return delta if self.score == "absolute" else tf.math.divide_no_nan(delta, before)

    def choose(self, seed: tf.Tensor, items: tf.Tensor, scores: tf.Tensor, batch_size: int) -> tf.Tensor:
        """Returns the batch of the highest score; see `ScoringOrder.choose`."""
        return items[tf.argmax(scores)]
