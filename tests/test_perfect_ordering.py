"""Perfect Ordering: all orders at once against one training at a time, what goes on, resumption, and its report."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from experiments import ordering
from tests.train.by_hand import make_split, softmax, updated
from tfaug import cli, config, files, perfect_ordering
from tfaug.cli import study as commands
from tfaug.config import ConfigError
from tfaug.data import Digits, Source, Tfds
from tfaug.data.sources.base import Parts
from tfaug.data.split import Split
from tfaug.models import BasicConv, StagedModel, build_model
from tfaug.perfect_ordering import PerfectOrdering, choose
from tfaug.train import all_orders
from tfaug.train.optimizers import SGD
from tfaug.workdir import Workdir, read_rows


def make_dim_split(name: str, num: int) -> Split:
    """Returns images of which the most is dark, the same windows many times over, and no two alike."""
    split = make_split(name, num)
    images = split.images.copy()
    images[:, :, 6:] = 0
    images[split.labels == 0, 8:] = 0
    return dataclasses.replace(split, images=images)


@dataclasses.dataclass(frozen=True)
class Textures(Source):
    """48 images of 12x12 pixels to train on and 36 to test on, of three classes."""

    def load(self, parts, cache_dir=None):
        sizes = {"train": 48, "test": 36}
        return Parts({name: make_dim_split(name, sizes[name]) for name in parts}, ("flat", "rows", "columns"))


TOY = PerfectOrdering(Textures(), num_images=12, batch_size=4, epochs=2, clusters=2, test_images=20)


def toy() -> PerfectOrdering:
    return TOY


def make_network() -> StagedModel:
    return build_model(BasicConv(), image_shape=(12, 12, 1), num_classes=2, mean=[0.2], std=[0.3], seed=3)


def train_one(network: StagedModel, momenta: list, batches: list[Split]) -> list:
    """Trains by ordinary steps on batches, in their order; returns the momenta."""
    weights = network.trainable_variables
    for batch in batches:
        with tf.GradientTape() as tape:
            logits = network(batch.images, training=True)
        slope = (softmax(logits.numpy().astype(np.float64)) - np.eye(2)[batch.labels]) / len(batch)
        gradients = tape.gradient(logits, weights, output_gradients=tf.constant(slope, tf.float32))
        for i, weight in enumerate(weights):
            gradient = gradients[i].numpy() + 1e-4 * weight.numpy()
            value, momenta[i] = updated(SGD(0.9, nesterov=True), weight.numpy(), momenta[i], gradient, 0.05)
            weight.assign(value)
    return momenta


def test_all_orders_are_what_one_training_at_a_time_comes_to():
    split = make_dim_split("train", 60)
    split = split.take(np.flatnonzero(split.labels < 2))
    batches = [split.take(np.arange(4 * i, 4 * i + 4)) for i in range(3)]
    test = make_dim_split("test", 60)
    test = test.take(np.flatnonzero(test.labels < 2)[:37])

    def normalized(images: np.ndarray) -> np.ndarray:
        return np.float32((images / 255.0 - 0.2) / 0.3)

    windows = [all_orders.batch_windows(normalized(batch.images), batch.labels) for batch in batches]
    assert len(windows[0].inputs) < 4 * 60  # of 400: windows that occur several times are there once
    begun = all_orders.begin(make_network())
    runs = all_orders.train_all_orders(begun, windows)
    runs = all_orders.train_all_orders(runs.take([4]), windows)  # 4: the batches 2, 0, 1
    losses, accuracies = all_orders.score(runs, all_orders.scoring_images(normalized(test.images), test.labels))
    assert len(losses) == 6 and len(set(losses)) == 6
    for place, order in enumerate(itertools.permutations(range(3))):
        network = make_network()
        momenta = train_one(network, [0.0] * 10, [batches[i] for i in (2, 0, 1, *order)])
        for name, held, wanted in (
            ("weight", runs.weights, network.trainable_variables),
            ("momentum", runs.momenta, momenta),
            ("statistic", runs.statistics, network.non_trainable_variables),
        ):
            for i, (array, value) in enumerate(zip(held, wanted, strict=True)):
                np.testing.assert_allclose(array[place], np.asarray(value), 1e-4, 5e-6, err_msg=f"{name} {i}")
        probs = softmax(network(test.images, training=False).numpy().astype(np.float64))
        assert losses[place] == pytest.approx(-np.log(probs[np.arange(37), test.labels]).mean(), rel=1e-5)
        assert accuracies[place] == pytest.approx((probs.argmax(1) == test.labels).mean(), abs=1e-6)


def test_the_first_of_each_cluster_the_best_and_the_worst_go_on():
    losses = np.array([5.0, 5.1, 9.0, 1.0, 9.1, 0.9, 5.05], np.float32)
    assert choose(losses, 3, seed=0) == [0, 2, 3, 5, 4]
    assert choose(losses[:3], 3, seed=0) == [0, 1, 2]
    assert choose(np.full(4, 2.0, np.float32), 3, seed=0) == [0]


# -- what is kept --------------------------------------------------------------------------------------------------


def rows_of(search: PerfectOrdering, folder) -> list:
    workdir = Workdir(folder)
    workdir.begin(search)
    search.run(workdir, search.load())
    return search.rows(workdir)


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    whole = rows_of(TOY, tmp_path / "whole")
    calls = []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:  # in the second epoch, whose first beginning is done
            raise KeyboardInterrupt
        return all_orders.score(*arguments)

    monkeypatch.setattr(perfect_ordering, "score", interrupted)
    with pytest.raises(KeyboardInterrupt):
        rows_of(TOY, tmp_path / "stopped")
    assert {row.arm for row in TOY.rows(Workdir(tmp_path / "stopped"))} == {"epoch 1"}
    num_beginnings = next(int(row.value) for row in whole if (row.arm, row.metric) == ("epoch 2", "beginnings"))
    assert rows_of(TOY, tmp_path / "stopped") == whole
    assert 3 <= num_beginnings <= 4 and len(calls) == 3 + num_beginnings  # and not the first epoch again
    longer = rows_of(dataclasses.replace(TOY, epochs=3), tmp_path / "stopped")
    assert longer[: len(whole)] == whole and longer[-1].arm == "epoch 3"
    assert len(calls) < 3 + 2 * num_beginnings + 2
    assert dataclasses.replace(TOY, seed=1).rows(Workdir(tmp_path / "stopped")) == []


def test_those_that_are_chosen_go_on(tmp_path, monkeypatch):
    seen = []

    def train(run, batches):
        seen.append((run, all_orders.train_all_orders(run, batches)))
        return seen[-1][1]

    monkeypatch.setattr(perfect_ordering, "train_all_orders", train)
    rows_of(TOY, tmp_path / "w")
    (path,) = (tmp_path / "w").glob("orders/*/epoch_01.npz")
    places = choose(np.load(path)["losses"][0], TOY.clusters, TOY.seed)
    assert any(places) and len(seen) == 1 + len(places)
    for place, (run, _) in zip(places, seen[1:], strict=True):
        for held, made in zip(tf.nest.flatten(run), tf.nest.flatten(seen[0][1].take([place])), strict=True):
            np.testing.assert_array_equal(held, made)


def test_rows_are_of_all_orders_of_an_epoch(tmp_path):
    rows = [row for row in rows_of(TOY, tmp_path / "w") if row.arm == "epoch 2"]
    (path,) = (tmp_path / "w").glob("orders/*/epoch_02.npz")
    held = np.load(path)
    values = {row.metric: row.value for row in rows}
    assert held["losses"].shape == (values["beginnings"], 6) and {row.n for row in rows} == {held["losses"].size}
    for name, scores in (("loss", held["losses"]), ("accuracy", held["accuracies"])):
        found = [values[f"{which}_{name}"] for which in ("min", "mean", "max")]
        assert found == pytest.approx([scores.min(), scores.mean(), scores.max()], rel=1e-6)
        shares = [row for row in rows if row.metric.startswith(f"{name}_share_")]
        assert [row.high for row in shares[:-1]] == [row.low for row in shares[1:]]
        inside = [((scores >= row.low) & (scores < row.high)).mean() for row in shares[:-1]]
        assert [row.value for row in shares[:-1]] == pytest.approx(inside)
        assert sum(row.value for row in shares) == pytest.approx(1)
    losses = [row for row in rows if row.metric.startswith("loss_share_")]
    assert (losses[0].low, losses[-1].high) == (values["min_loss"], values["max_loss"])


@pytest.mark.parametrize(("right", "edges"), [((3, 5, 5), (2.5, 3.5, 4.5, 5.5)), ((0, 59, 31), (-0.5, 59.5, 31))])
def test_a_bar_of_accuracies_is_of_whole_images(right, edges):
    """Of 3 to 5 right answers three bars; of 0 to 59, 30 of two."""
    found = 100 * perfect_ordering._bins_of(np.array(right) / 100, 100)
    np.testing.assert_allclose(found, edges if len(edges) == 4 else np.linspace(*edges))


# -- settings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 7}, "batch_size is 7 of 48 images; allowed: .* 2..8 whole batches"),
        ({"batch_size": 48}, "batch_size is 48 of 48"),
        ({"num_images": 72}, "batch_size is 8 of 72 images.*; 8 have 40,320 orders"),
        ({"num_images": 15, "batch_size": 5}, "num_images is 15; allowed: an even number"),
        ({"clusters": 0}, "clusters is 0; allowed: a whole number, 1 or more"),
        ({"epochs": 0}, "epochs is 0"),
        ({"test_images": 0}, "test_images is 0"),
        ({"source": "mnist"}, "source is 'mnist'; allowed: a source"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(ConfigError, match=f"PerfectOrdering.{message}"):
        PerfectOrdering(**settings)


def test_a_source_with_too_few_images_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="num_images is 48, half of them of class 0, of which textures has 16; allow"):
        rows_of(PerfectOrdering(Textures()), tmp_path)
    assert not (tmp_path / "orders").exists()


def test_quick_lowers_what_is_above_it():
    quick = PerfectOrdering(quick=True, epochs=2)
    assert (quick.num_images, quick.epochs, quick.test_images) == (40, 2, 256)
    assert len(PerfectOrdering().paper) == 13 * 5 and len(quick.paper) == 2 * 5


def test_the_images_are_those_that_the_settings_say():
    assert ordering.perfect() == PerfectOrdering(Tfds("mnist"))
    digits = PerfectOrdering(Digits())
    assert "of digits" in digits.note and "MNIST" in digits.note and "MNIST" not in ordering.perfect().note
    made = config.from_dict(
        config.to_dict(TOY), {"tests.test_perfect_ordering.Textures": Textures, "PerfectOrdering": PerfectOrdering}
    )
    assert made == TOY


# -- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture
def tfaug(capsys):
    """Runs the command line; returns the exit status and what it said."""

    def run(*arguments: str) -> tuple[int, str]:
        for name in commands.FLAGS:
            commands.FLAGS[name].unparse()
        commands.FLAGS.unparse_flags()
        status = cli.main(["study", *arguments])
        said = capsys.readouterr()
        return status, said.out + said.err

    return run


def test_study_run_takes_a_search(tmp_path, tfaug):
    command = ["--config=tests.test_perfect_ordering:toy", f"--workdir={tmp_path / 'w'}", "--set=clusters=1"]
    status, said = tfaug("report", *command)
    assert status == 2 and "holds nothing of this study" in said
    for flag in ("--seeds=0..1", "--arms=a", "--shard=1/2"):
        status, said = tfaug("run", *command, flag)
        assert status == 2 and f"{flag.partition('=')[0]} is a flag of a study of several runs" in said
    status, said = tfaug("run", *command, "--set=batch_size=5")
    assert status == 2 and "--set batch_size=5: PerfectOrdering.batch_size is 5 of 12" in said
    status, said = tfaug("run", *command, f"--set=source=Npz('{tmp_path / 'nowhere.npz'}')")
    assert status == 2 and "nowhere.npz" in said
    assert not (tmp_path / "w").exists()  # nothing is written before the data is found
    status, said = tfaug("run", *command)
    assert status == 0 and "epoch 2 of 2: 18 of 18 orders" in said
    rows = read_rows(tmp_path / "w" / "rows.csv")
    least = {row.arm: row for row in rows if row.metric == "min_loss"}
    assert list(least) == ["epoch 1", "epoch 2"] and {row.seed for row in rows} == {0}
    summary = files.read_json(tmp_path / "w" / "summary.json")
    assert summary["arms"]["epoch 2"]["min_loss"]["mean"] == least["epoch 2"].value and summary["missing"] == []
    assert f"| min loss | {least['epoch 1'].value:.4f} [0.5982] | {least['epoch 2'].value:.4f} [0.4108] |" in said
    page = (tmp_path / "w" / "report.html").read_text()
    for text in ("0.5982", "0.671", "Figure 2.1: test loss of all orders after epoch 2", "tfaug study run --config="):
        assert text in page
    assert page.count("<svg") == 4 and "share%0A" in page
    status, again = tfaug("report", *command, "--set=epochs=3")
    assert status == 0 and "not finished: PerfectOrdering, seed 0" in again
    (tmp_path / "page.md").write_text("<!-- study: tests.test_perfect_ordering:toy -->\n<!-- study end -->\n")
    collected = [f"--rows={tmp_path / 'w' / 'rows.csv'}", f"--page={tmp_path / 'page.md'}"]
    assert tfaug("report", command[0], *collected)[0] == 0
    assert f"{least['epoch 1'].value:.4f} [0.5982]" in (tmp_path / "page.md").read_text()
