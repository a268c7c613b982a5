"""Perfect Ordering by brute force: every order of the batches of an epoch is trained and scored, epoch after epoch."""

from __future__ import annotations

import dataclasses
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from tfaug.config import ConfigError, check_whole, fingerprint
from tfaug.data import Source, Tfds, user_cache_dir
from tfaug.data.sources.base import check_source
from tfaug.extras import explained
from tfaug.files import atomic_file
from tfaug.models import BasicConv, build_model
from tfaug.predictions import CLEAN
from tfaug.report.text import duration
from tfaug.study import Column, Histogram, Published, Search, Table
from tfaug.train.all_orders import (
    Runs,
    ScoringImages,
    Windows,
    batch_windows,
    begin,
    join,
    score,
    scoring_images,
    train_all_orders,
)
from tfaug.trials import say
from tfaug.workdir import Row, Workdir

_MOST_BATCHES = 8
_QUICK = {"num_images": 40, "epochs": 6, "test_images": 256}
_NUM_BINS = 30
_SAY_EVERY_S = 20.0
# Which images, and in which batches: two streams of one seed.
_IMAGES, _BATCHES = 1, 2


@dataclasses.dataclass(frozen=True)
class PerfectOrdering(Search):
    """Trains `BasicConv` on all orders of a few batches, epoch by epoch, and says how far the orders lie apart.

    b batches have b! orders. After each epoch k-means clusters all trainings by their test loss; the first of each
    cluster, the best and the worst go on, each through all orders of the next epoch: with 6 batches and 12 clusters
    720 (1 + 14 (epochs - 1)) trainings of an epoch at most. All begin with the same weights, and the batches stay the
    same in every epoch, as the paper says; its authors' code draws others in each. The images are half of the source's
    first class and half of its second. The learning rate is 0.05, Nesterov's momentum 0.9, and the weight decay 1e-4
    on all weights. The test images choose what goes on, so they measure no generalisation of what is chosen.

    Attributes:
      source: with a part `test`.
      num_images: to train on, even.
      batch_size: divides `num_images`, into 2..8 batches.
      epochs: 1 or more; a higher number goes on where a lower one has ended.
      clusters: 1 or more; all trainings go on where they are no more.
      test_images: that score an order, 1 or more, the source's first of the two classes; all where it has fewer. The
        paper has 2,048 in four batches of 512; scoring is most of the work.
      quick: lowers `num_images` to 40, `epochs` to 6 and `test_images` to 256 where they are above.
      seed: of the images that are chosen, their batches and the first weights.

    Raises:
      ConfigError: if a number is not allowed.

    Source: `sum`, section 2.2, table 2.1, figures 2.1 and 2.2.
    """

    source: Source = Tfds("mnist")
    num_images: int = 48
    batch_size: int = 8
    epochs: int = 13
    clusters: int = 12
    test_images: int = 512
    quick: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        check_source(self, "source")
        check_whole(self, "num_images", 2)
        check_whole(self, "batch_size", 1)
        check_whole(self, "epochs", 1)
        check_whole(self, "clusters", 1)
        check_whole(self, "test_images", 1)
        check_whole(self, "seed", 0, 2**31 - 1)
        if self.quick:
            for name, most in _QUICK.items():
                object.__setattr__(self, name, min(getattr(self, name), most))
        if self.num_images % 2:
            raise ConfigError(f"PerfectOrdering.num_images is {self.num_images}; allowed: an even number, half a class")
        num_batches, rest = divmod(self.num_images, self.batch_size)
        if rest or not 2 <= num_batches <= _MOST_BATCHES:
            raise ConfigError(
                f"PerfectOrdering.batch_size is {self.batch_size} of {self.num_images} images; allowed: a number that "
                f"makes 2..{_MOST_BATCHES} whole batches; {_MOST_BATCHES} have {math.factorial(_MOST_BATCHES):,} orders"
            )

    # -- what is shown ---------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        return "Perfect Ordering by brute force"

    @property
    def arms(self) -> dict[str, None]:
        return {f"epoch {epoch}": None for epoch in range(1, self.epochs + 1)}

    @property
    def tables(self) -> tuple[Table, ...]:
        note = (
            "Over all orders of an epoch. Cross-entropy is the mean of an image; the paper's losses, which are above "
            "ln 2 at first, are sums over four test batches of 512 images, and stand here divided by 4."
        )
        return (Table("Table 2.1: test accuracy and cross-entropy over all orders", _COLUMNS, note=note),)

    @property
    def figures(self) -> tuple[Histogram, ...]:
        losses = [
            Histogram(f"Figure 2.1: test loss of all orders after epoch {epoch}", "loss", f"epoch {epoch}")
            for epoch in (1, 2, 5, 6)
            if epoch <= self.epochs
        ]
        accuracies = [
            Histogram(f"Figure 2.2: test accuracy of all orders after epoch {epoch}", "accuracy", f"epoch {epoch}")
            for epoch in range(max(self.epochs - 1, 1), self.epochs + 1)
        ]
        return (*losses, *accuracies)

    @property
    def paper(self) -> tuple[Published, ...]:
        return tuple(
            Published(f"epoch {epoch}", column.name, value / 4 if column.metric.endswith("loss") else value)
            for epoch, printed in enumerate(_TABLE_2_1[: self.epochs], start=1)
            for column, value in zip(_COLUMNS, printed, strict=True)
        )

    @property
    def note(self) -> str:
        num_batches = self.num_images // self.batch_size
        others = "" if self.source.short_name == "mnist" else " The paper's images are of MNIST."
        return (
            f"{self.num_images} images of two classes of {self.source.short_name} make {num_batches} batches, which "
            f"have {math.factorial(num_batches):,} orders. Of each epoch the first training of each of {self.clusters} "
            f"clusters by test loss, the best and the worst go on. {self.test_images:,} test images score, or all that "
            f"there are; the paper has 2,048.{others} They choose what goes on, so no number here is one of "
            "generalisation."
        )

    # -- what is done ----------------------------------------------------------------------------------------------

    def load(self) -> tuple[list[Windows], ScoringImages, Runs]:
        """Returns the batches, the test images and the training that has taken no step.

        Raises:
          ConfigError: if the source has too few training images of the two classes, or none to test on.
        """
        splits = self.source.load(("train", "test"), user_cache_dir()).splits
        train, test = splits["train"], splits["test"]
        places = []
        for label in (0, 1):
            found = np.flatnonzero(train.labels == label)
            if len(found) < self.num_images // 2:
                raise ConfigError(
                    f"PerfectOrdering.num_images is {self.num_images}, half of them of class {label}, of which "
                    f"{self.source.short_name} has {len(found)}; allowed: {2 * len(found)} at most"
                )
            places.append(_shuffle(found, (self.seed, _IMAGES, label))[: self.num_images // 2])
        chosen = train.take(_shuffle(np.concatenate(places), (self.seed, _BATCHES)))
        scored = test.take(np.flatnonzero(test.labels < 2)[: self.test_images])
        if not len(scored):
            raise ConfigError(
                f"{self.source!r} has no test image of its first two classes; allowed: a source with some"
            )
        scaled = chosen.images / 255.0
        mean, std = scaled.mean((0, 1, 2)), np.maximum(scaled.std((0, 1, 2)), 1e-3)
        network = build_model(
            BasicConv(),
            image_shape=chosen.images.shape[1:],
            num_classes=2,
            mean=tuple(map(float, mean)),
            std=tuple(map(float, std)),
            seed=self.seed,
        )

        def normalize(images: np.ndarray) -> np.ndarray:
            return np.asarray(network.forward(images, stop=1), np.float32)

        images = normalize(chosen.images)
        starts = range(0, self.num_images, self.batch_size)
        batches = [batch_windows(images[i:][: self.batch_size], chosen.labels[i:][: self.batch_size]) for i in starts]
        return batches, scoring_images(normalize(scored.images), scored.labels), begin(network)

    def run(self, workdir: Workdir, data: tuple[list[Windows], ScoringImages, Runs]) -> None:
        """Trains and scores the epochs that are not done; see `Search.run`."""
        batches, test, beginnings = data
        with workdir.stage("orders") as stage:
            num_orders = math.factorial(len(batches))
            pace = _Pace(self.epochs, self.clusters + 2, num_orders)
            for epoch in range(1, self.epochs + 1):
                path = self._path(workdir, epoch)
                if not path.exists():
                    num = len(beginnings.weights[0])
                    ends: list[Runs] = []
                    scores: list[tuple[np.ndarray, np.ndarray]] = []
                    for index in range(num):
                        ends.append(train_all_orders(beginnings.take([index]), batches))
                        scores.append(score(ends[-1], test))
                        pace.tell(epoch, index + 1, num)
                    losses, accuracies = map(np.stack, zip(*scores, strict=True))
                    places = choose(losses.ravel(), self.clusters, self.seed)
                    chosen = join([ends[place // num_orders].take([place % num_orders]) for place in places])
                    _write(path, Epoch(losses, accuracies, np.array(places), chosen, len(test.labels)))
                    stage.book()
                beginnings = _read(path).chosen

    def rows(self, workdir: Workdir) -> list[Row]:
        """Returns the rows of the epochs that are done; see `Search.rows`."""
        rows: list[Row] = []
        for epoch, arm in enumerate(self.arms, start=1):
            path = self._path(workdir, epoch)
            if path.exists():
                rows += _rows_of(_read(path), arm, self.seed)
        return rows

    def _path(self, workdir: Workdir, epoch: int) -> pathlib.Path:
        """Where an epoch is: of the same settings but for the number of epochs."""
        same = dataclasses.replace(self, epochs=PerfectOrdering.epochs, quick=False)
        return workdir.orders(fingerprint(same), epoch)


_COLUMNS = (
    Column("min_accuracy", model="basic_conv", metric="min_accuracy", unit="", digits=3),
    Column("mean_accuracy", model="basic_conv", metric="mean_accuracy", unit="", digits=3),
    Column("max_accuracy", model="basic_conv", metric="max_accuracy", unit="", digits=3),
    Column("min_loss", model="basic_conv", metric="min_loss", unit="", digits=4),
    Column("max_loss", model="basic_conv", metric="max_loss", unit="", digits=4),
)
# By epoch, in the order of the columns; losses as printed.
_TABLE_2_1 = (
    (0.671, 0.776, 0.903, 2.393, 2.449),
    (0.894, 0.937, 0.961, 1.643, 1.714),
    (0.959, 0.966, 0.971, 0.983, 1.023),
    (0.965, 0.973, 0.976, 0.626, 0.767),
    (0.972, 0.976, 0.980, 0.431, 0.582),
    (0.975, 0.980, 0.982, 0.322, 0.429),
    (0.979, 0.982, 0.985, 0.254, 0.294),
    (0.976, 0.983, 0.987, 0.217, 0.324),
    (0.979, 0.987, 0.990, 0.190, 0.294),
    (0.976, 0.989, 0.992, 0.178, 0.345),
    (0.979, 0.990, 0.993, 0.162, 0.320),
    (0.986, 0.991, 0.994, 0.144, 0.237),
    (0.984, 0.994, 0.995, 0.126, 0.269),
)


def choose(losses: np.ndarray, clusters: int, seed: int) -> list[int]:
    """Returns which trainings go on: the first of each cluster of losses, the best and the worst; each once.

    Args:
      losses: float [N].
      clusters: of k-means, 1..N; fewer are found where fewer losses differ.
      seed: of the clusters' first centres.

    Source: `sum`, section 2.2, and its authors' code, which adds the best and the worst.
    """
    with explained():
        from sklearn.cluster import KMeans

    clusters = min(clusters, len(np.unique(losses)))
    labels = KMeans(clusters, n_init=10, random_state=seed).fit_predict(losses.astype(np.float64)[:, None])
    _, firsts = np.unique(labels, return_index=True)
    return [int(place) for place in dict.fromkeys([*sorted(firsts), losses.argmin(), losses.argmax()])]


def _shuffle(values: np.ndarray, key: Sequence[int]) -> np.ndarray:
    """Returns the values in an order that the key draws, in every release of numpy the same."""
    return values[np.argsort(np.random.Philox(key).random_raw(len(values)), kind="stable")]


# -- files and rows ------------------------------------------------------------------------------------------------


class Epoch(NamedTuple):
    """What all orders of an epoch came to.

    Attributes:
      losses, accuracies: float32 [beginnings, orders].
      places: int64 [chosen], beginning * orders + order of each training that goes on.
      chosen: these trainings.
      num_images: that scored.
    """

    losses: np.ndarray
    accuracies: np.ndarray
    places: np.ndarray
    chosen: Runs
    num_images: int


def _write(path: pathlib.Path, epoch: Epoch) -> None:
    """Writes an epoch, whole or not at all."""
    parts = {f"{name}_{i}": array for name, part in epoch.chosen._asdict().items() for i, array in enumerate(part)}
    arrays: dict[str, Any] = {**epoch._asdict(), **parts}
    del arrays["chosen"]
    with atomic_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)


def _read(path: pathlib.Path) -> Epoch:
    """Reads what `_write` wrote."""
    with np.load(path) as held:
        parts = (
            tuple(held[f"{name}_{i}"] for i in range(sum(key.startswith(f"{name}_") for key in held.files)))
            for name in Runs._fields
        )
        return Epoch(held["losses"], held["accuracies"], held["places"], Runs(*parts), int(held["num_images"]))


def _rows_of(epoch: Epoch, arm: str, seed: int) -> list[Row]:
    """Returns the rows of an epoch: how many trainings, the least, mean and greatest score, and histograms."""
    num = epoch.losses.size

    def row(metric: str, value: float, low: float | None = None, high: float | None = None) -> Row:
        return Row("basic_conv", "test", CLEAN, "plain", metric, float(value), low, high, num, arm, seed)

    rows = [row("beginnings", len(epoch.losses)), row("scoring_images", epoch.num_images)]
    for name, scores in (("accuracy", epoch.accuracies), ("loss", epoch.losses)):
        scores = scores.astype(np.float64).ravel()
        rows += [row(f"min_{name}", scores.min()), row(f"mean_{name}", scores.mean()), row(f"max_{name}", scores.max())]
        rows.append(row(f"sd_{name}", scores.std(ddof=1)))
        counts, edges = np.histogram(scores, _NUM_BINS if name == "loss" else _bins_of(scores, epoch.num_images))
        rows += [
            row(f"{name}_share_{i:02d}", count / num, float(edges[i]), float(edges[i + 1]))
            for i, count in enumerate(counts)
        ]
    return rows


def _bins_of(accuracies: np.ndarray, num_images: int) -> np.ndarray:
    """Returns at most `_NUM_BINS` bins, float [M + 1], each of as many numbers of right answers as the others."""
    low, high = (round(end * num_images) for end in (accuracies.min(), accuracies.max()))
    width = -(-(high - low + 1) // _NUM_BINS)
    return (low - 0.5 + width * np.arange((high - low) // width + 2)) / num_images


class _Pace:
    """Says how far the work is and about how long the rest takes, by what is done in this process."""

    def __init__(self, epochs: int, most: int, num_orders: int) -> None:
        self._epochs, self._most, self._num_orders = epochs, most, num_orders
        self._done = 0
        self._started = self._said = time.perf_counter()

    def tell(self, epoch: int, done: int, num: int) -> None:
        """Notes that all orders after one more of the epoch's `num` beginnings are done."""
        self._done += 1
        now = time.perf_counter()
        if now - self._said < _SAY_EVERY_S and done < num:
            return
        self._said = now
        left = num - done + self._most * (self._epochs - epoch)
        rest = f"; at most about {duration(left * (now - self._started) / self._done)} left" if left else ""
        done, num = done * self._num_orders, num * self._num_orders
        say(f"epoch {epoch} of {self._epochs}: {done:,} of {num:,} orders{rest}")
