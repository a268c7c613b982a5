"""Layers that draw in training: by the seed of the step and the replica, under XLA and after a restart too."""

from __future__ import annotations

import contextlib
import dataclasses

from tests.train import by_hand
from tests.train.by_hand import fold
from tests.train.test_joints import assert_history, assert_trained_as
from tfaug import rng
from tfaug.models import Model
from tfaug.models.shake import ShakeBlock
from tfaug.models.stages import Head, LayerMaker, Normalize
from tfaug.schedules import Constant
from tfaug.train import fit
from tfaug.train.phase import Phase
from tfaug.train.strategy import mirrored_strategy
from tfaug.workdir import PhaseFolder, TrainingFolder

DATA = by_hand.make_data()


@dataclasses.dataclass(frozen=True)
class Drawn(Model):
    """A convolution with dropout, a shaken block and a classifier."""

    def stages(self, *, image_shape, num_classes, mean, std, precision, seed):
        make = LayerMaker(precision, seed, "fan_out")
        stem = [make.conv("conv", 4, 3), make.norm("norm"), make.relu("relu"), make.dropout("dropout", 0.4)]
        block = ShakeBlock(make, 4, 1, False, "block")
        head = Head(make.dense("dense", num_classes, policy="float32"), name="head")
        return [Normalize(mean, std, name="normalize"), make.chain("stem", stem), block, head]


class Stops(Exception):
    pass


def stop(_):
    raise Stops


def test_a_network_that_draws_is_trained_as_by_hand_with_a_restart(tmp_path, monkeypatch):
    """Whose steps XLA compiles."""
    monkeypatch.setattr(fit, "compiles_on_device", lambda: True)
    strategy = mirrored_strategy(["CPU:0"])
    phase = Phase("train", 2, Constant(0.1), batch_size=26, weight_decay=0.01)
    for first, on_epoch in ((1, stop), (2, None)):  # another start: what goes on is read from the checkpoint
        with strategy.scope():
            network = by_hand.build(Drawn(), DATA, first)
        run = fit.TrainingRun(
            TrainingFolder(tmp_path), DATA, strategy, rng.make_seed(2), tmp_path / "tb", on_epoch=on_epoch
        )
        with contextlib.suppress(Stops):
            fit.train_phases(run, network, (phase,))
    expected = by_hand.build(Drawn(), DATA, 1)
    start = expected.get_weights()
    history, _ = by_hand.train_by_hand(expected, DATA, phase, fold(rng.make_seed(2), 0), [0.1] * 5)
    assert_history(PhaseFolder(tmp_path / "0_train"), history)
    assert_trained_as(network.get_weights(), expected.get_weights(), start)
