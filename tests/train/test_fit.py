"""Training through Keras: replicas, host and device augmentation, NaN, and the end of each phase."""

from __future__ import annotations

import csv
import dataclasses
import importlib.metadata
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf

from tests.train import by_hand
from tfaug import rng
from tfaug.augment import CutMix, Flip, ManifoldMixup, PadCrop, RandAugment, SumAug
from tfaug.augment.base import Batch
from tfaug.config import ConfigError
from tfaug.data import DataConfig, ImageData, Split, load_data
from tfaug.data.pipeline import augmentation_seed, evaluation_batches, step_seed, training_batches, visit_at
from tfaug.models import MODELS, LeNet, StagedModel, build_model
from tfaug.schedules import Constant, Linear, OneCycle
from tfaug.train import fit
from tfaug.train.callbacks import NonFiniteLoss, StopOnNonFinite
from tfaug.train.methods import Distill, Supervised
from tfaug.train.optimizers import Muon
from tfaug.train.phase import Phase, Training, check_phases, resolve_schedules
from tfaug.train.strategy import mirrored_strategy
from tfaug.trained import answers_of
from tfaug.workdir import PhaseFolder, TrainingFolder

DATA = by_hand.make_data()
SUPERVISED = Supervised()
ONE_DEVICE = ["CPU:0"]
TWO_DEVICES = ["CPU:0", "CPU:1"]
INTENSIVE = (
    Flip(alternate=True),
    PadCrop(2, padding="reflect"),
    CutMix(alpha=Linear(0.3, 1.0), p=Linear(0.2, 1.0)),
    SumAug(k=2),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> ImageData:
    return load_data(DataConfig(num_train_examples=320), cache_dir=tmp_path_factory.mktemp("cache"))


def train(
    data: ImageData,
    folder,
    phases,
    *,
    devices=ONE_DEVICE,
    seed=0,
    model="lenet",
    method=SUPERVISED,
    teacher=None,
    on_epoch=None,
):
    strategy = mirrored_strategy(devices)
    with strategy.scope():
        network = build_model(
            MODELS[model],
            image_shape=data.image_shape,
            num_classes=data.num_classes,
            mean=data.mean,
            std=data.std,
            precision="fp32",
            seed=seed,
        )
    answers = answers_of(teacher) if teacher else None
    run = fit.TrainingRun(
        TrainingFolder(folder),
        data,
        strategy,
        rng.make_seed(seed),
        folder / "tensorboard",
        method=method,
        teacher=answers,
        on_epoch=on_epoch,
    )
    return network, fit.train_phases(run, network, phases)


def history_of(folder, phase="0_train"):
    return PhaseFolder(folder / phase).read_history()


def weights_of(network: StagedModel) -> np.ndarray:
    return np.concatenate([weight.numpy().ravel() for weight in network.weights])


def phase(name="train", epochs=1, augment=(), **settings) -> Phase:
    return Phase(name, epochs, Constant(0.02), augment, batch_size=64, **settings)


def test_a_remainder_smaller_than_the_number_of_replicas_is_validated_too(data, tmp_path):
    """The second replica's share of the last batch is empty."""
    data = dataclasses.replace(data, validation=data.train.take(np.arange(251)))
    network, (result,) = train(data, tmp_path, (phase(),), devices=TWO_DEVICES)
    (row,) = history_of(tmp_path)
    assert float(row["val_accuracy"]) == pytest.approx(result["val_accuracy"])
    assert float(row["val_loss"]) == pytest.approx(result["val_nll"], rel=1e-5)
    assert fit.predict_logits(network, data.validation.images[:0]).shape == (0, 10)
    with pytest.raises(ConfigError, match="0 images to validate on; allowed: 1 or more"):
        evaluation_batches(data.validation.take(np.arange(0)), num_classes=10, batch_size=250)


def test_keras_cv_as_the_engine_trains_too(data, tmp_path):
    settings = dict(augment=(Flip(), RandAugment(n=1, m=9), CutMix()), engine="keras_cv")
    _, results = train(data, tmp_path, (phase(**settings),))
    assert np.isfinite(results[0]["val_nll"])


def test_host_and_device_give_the_same_pixels_and_labels(data):
    augment = fit.batch_function(phase(augment=INTENSIVE))
    seed = rng.make_seed(3)
    plain = training_batches(
        data.train, num_classes=10, batch_size=64, seed=seed, first_epoch=0, num_epochs=1, with_examples=True
    )
    hosted = training_batches(
        data.train, num_classes=10, batch_size=64, seed=seed, first_epoch=0, num_epochs=1, augment=augment
    )
    both = zip(plain.take(2), hosted.take(2), strict=True)
    for step, ((images, labels, examples), (want_images, want_labels)) in enumerate(both):
        progress = visit_at(augmentation_seed(seed), step, 5, 5, examples)
        got = augment((images, labels), step_seed(augmentation_seed(seed), step, 0), progress)
        np.testing.assert_array_equal(got.images, want_images)
        np.testing.assert_array_equal(got.labels, want_labels)


def test_soft_labels_are_what_is_trained_and_validated_on() -> None:
    """Each image tells its row, so that a label of another image, or a hard one, would show."""
    num = 12
    images = np.broadcast_to(np.arange(num, dtype=np.uint8)[:, None, None, None], (num, 4, 4, 1)).copy()
    probs = np.random.default_rng(0).dirichlet(np.ones(3), num).astype(np.float32)
    split = Split(images, probs.argmax(1), np.arange(num).astype(str), probs)
    trained = training_batches(split, num_classes=3, batch_size=4, seed=rng.make_seed(1), first_epoch=0, num_epochs=1)
    validated = evaluation_batches(split, num_classes=3, batch_size=5)
    for batches in (trained, validated):
        seen = [(rows, labels) for shown, labels in batches for rows in [shown.numpy()[:, 0, 0, 0]]]
        rows = np.concatenate([row for row, _ in seen])
        assert sorted(rows) == list(range(num))
        np.testing.assert_array_equal(np.concatenate([labels for _, labels in seen]), probs[rows])


def test_a_schedule_runs_over_the_phase_and_goes_on_after_a_restart(data):
    """Host: what an op is told at every step, and CutMix(p=Linear(0, 1)) mixing more and more images."""

    def batches(augment, first_epoch=0):
        return training_batches(
            data.train,
            num_classes=10,
            batch_size=64,
            seed=rng.make_seed(0),
            first_epoch=first_epoch,
            num_epochs=4,
            augment=augment,
            num_replicas=2,
        )

    def tell(batch, seed, progress):
        assert progress.total_steps == 20
        return Batch(batch.images, tf.fill([32, 1], tf.cast(progress.step, tf.float32)))

    assert [label for _, labels in batches(tell) for label in np.unique(labels)] == list(range(20))
    assert [label for _, labels in batches(tell, 3) for label in np.unique(labels)] == list(range(15, 20))
    rising = fit.batch_function(phase(augment=(CutMix(p=Linear(0, 1)),)))
    mixed = [np.mean(labels.numpy().max(1) < 1) for _, labels in batches(rising)]
    assert mixed[0] == 0 and np.mean(mixed[:5]) < 0.25 < 0.4 < np.mean(mixed[-5:])


def test_a_step_compiled_by_xla_learns_the_same_also_after_a_restart(tmp_path, monkeypatch):
    """On two replicas: what an op is told and what mixes features, which change over the phase, and batch statistics."""
    flips, mixes = Flip(p=Linear(0, 1)), ManifoldMixup(stages=("input", "stem"), p=Linear(0.2, 1.0))
    settings = Phase("train", 2, Constant(0.2), (flips,), 16, augment_on="device", mix_features=mixes)

    class Stops(Exception):
        pass

    def stop(_):
        raise Stops

    def learn(name, on_epoch=None):
        strategy = mirrored_strategy(TWO_DEVICES)
        with strategy.scope():
            network = by_hand.build(by_hand.Normed(), DATA)
        start = weights_of(network)
        folder = TrainingFolder(tmp_path / name)
        run = fit.TrainingRun(folder, DATA, strategy, rng.make_seed(0), folder.path / "tb", on_epoch=on_epoch)
        fit.train_phases(run, network, (settings,))
        return start, weights_of(network)

    start, plain = learn("plain")
    monkeypatch.setattr(fit, "compiles_on_device", lambda: True)
    with pytest.raises(Stops):
        learn("compiled", stop)
    assert np.abs(learn("compiled")[1] - plain).max() < 1e-3 * np.abs(plain - start).max()


def test_a_stage_that_is_not_there_is_refused_before_any_phase_is_trained(data, tmp_path):
    with pytest.raises(ConfigError, match=r"'stage9'; lenet allows: input, normalize, stage1"):
        train(data, tmp_path, (phase(), phase("mix", mix_features=ManifoldMixup(stages=("stage9",)))))
    assert not (tmp_path / "0_train").exists()


@pytest.mark.parametrize("distilled", [False, True])
def test_what_is_trained_on_are_smoothed_labels(data, tmp_path, distilled):
    """The loss of an epoch that hardly moves the weights is that of the first weights, by hand."""
    settings = (Phase("train", 1, Constant(1e-9), batch_size=64, weight_decay=0.0, label_smoothing=0.3),)
    method = Distill(alpha=0.0) if distilled else Supervised()
    teacher = train(data, tmp_path / "teacher", (phase(),))[0] if distilled else None
    network, _ = train(data, tmp_path / "smooth", settings, teacher=teacher, method=method)
    log_probs = tf.nn.log_softmax(fit.predict_logits(network, data.train.images)).numpy()
    right, all_classes = log_probs[np.arange(len(data.train)), data.train.labels].mean(), log_probs.mean()
    loss = float(history_of(tmp_path / "smooth")[0]["loss"])
    assert len(data.train) % 64 == 0 and abs(right - all_classes) > 0.01
    assert loss == pytest.approx(-(0.7 * right + 0.3 * all_classes), rel=1e-3)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: phase(optimizer=Muon()), r"weight_decay is 0\.0001 with Muon.*allowed: weight_decay=0"),
        (
            lambda: Training("s", LeNet(), (phase(loss="binary_cross_entropy"),), Distill()),
            r"training s: phases\.0\.loss is",
        ),
    ],
)
def test_what_would_train_otherwise_than_it_says_is_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_student_does_not_mix_features():
    with pytest.raises(ConfigError, match=r"training s: phases\.0\.mix_features is ManifoldMixup.*allowed: None"):
        Training("s", LeNet(), (phase(mix_features=ManifoldMixup()),), Distill())


def test_a_run_that_starts_at_a_later_epoch_sees_the_same_batches(data):
    def batches(first_epoch):
        found = training_batches(
            data.train,
            num_classes=10,
            batch_size=64,
            seed=rng.make_seed(0),
            first_epoch=first_epoch,
            num_epochs=3,
            augment=fit.batch_function(phase(augment=INTENSIVE)),
        )
        return [images.numpy() for images, _ in found]

    whole, later = batches(0), batches(2)
    np.testing.assert_array_equal(whole[-len(later) :], later)
    assert not np.array_equal(whole[0], later[0])


def test_every_epoch_visits_every_image_once_in_its_own_order(data):
    batches = training_batches(
        data.train, num_classes=10, batch_size=64, seed=rng.make_seed(0), first_epoch=0, num_epochs=2
    )
    images = np.concatenate([images.numpy() for images, _ in batches])
    first, second = images[: len(data.train)], images[len(data.train) :]
    want = sorted(image.tobytes() for image in data.train.images)
    assert sorted(i.tobytes() for i in first) == want == sorted(i.tobytes() for i in second)
    assert not np.array_equal(first, second)


def test_the_end_of_each_phase_is_kept_and_measured(data, tmp_path):
    phases = (phase("train", 2, augment=(SumAug(k=2),)), phase("refine", 1))
    network, results = train(data, tmp_path, phases)
    assert [(r["name"], r["epochs"]) for r in results] == [("train", 2), ("refine", 1)]
    assert results[0]["weights_sha256"] != results[1]["weights_sha256"] == fit.weights_sha256(network)
    network.load_weights(tmp_path / "0_train" / "last.weights.h5")
    assert fit.weights_sha256(network) == results[0]["weights_sha256"]
    with open(tmp_path / "0_train" / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["5", "10"]
    assert float(rows[-1]["learning_rate"]) == pytest.approx(0.02)


def test_a_finished_run_is_not_trained_again(data, tmp_path):
    _, first = train(data, tmp_path, (phase(),))
    written = (tmp_path / "0_train" / "last.weights.h5").stat().st_mtime_ns
    _, second = train(data, tmp_path, (phase(),))
    assert first == second
    assert (tmp_path / "0_train" / "last.weights.h5").stat().st_mtime_ns == written


def test_a_loss_that_is_not_a_number_stops_loudly_and_keeps_the_last_good_checkpoint(data, tmp_path):
    class Breaks(Exception):
        pass

    def run(phases, on_epoch=None):
        strategy = mirrored_strategy(ONE_DEVICE)
        with strategy.scope():
            network = build_model(
                LeNet(), image_shape=data.image_shape, num_classes=10, mean=data.mean, std=data.std, seed=0
            )
        folder = TrainingFolder(tmp_path)
        run = fit.TrainingRun(folder, data, strategy, rng.make_seed(0), tmp_path / "tb", on_epoch=on_epoch)
        fit.train_phases(run, network, phases)

    def stop(_):
        raise Breaks

    good = phase("train", 3)
    with pytest.raises(Breaks):
        run((good,), on_epoch=stop)
    kept = tmp_path / "0_train" / "checkpoints" / "epoch_0001"
    assert kept.is_dir()
    with pytest.raises(NonFiniteLoss, match="phase train, epoch 2: the mean loss is"):
        run((dataclasses.replace(good, schedule=Constant(1e18)),))
    assert kept.is_dir()
    assert not (tmp_path / "0_train" / "checkpoints" / "epoch_0002").exists()
    assert not (tmp_path / "0_train" / "last.weights.h5").exists()


def test_a_weight_that_is_not_a_number_stops_before_its_checkpoint(data, tmp_path):
    network = build_model(LeNet(), image_shape=data.image_shape, num_classes=10, mean=data.mean, std=data.std, seed=0)
    stop = StopOnNonFinite("train")
    stop.set_model(SimpleNamespace(network=network))
    stop.on_epoch_begin(0)
    stop.on_train_batch_end(4, {"loss": 1.5})
    with pytest.raises(NonFiniteLoss, match="epoch 1: the mean loss is nan at batch 5"):
        stop.on_train_batch_end(4, {"loss": float("nan")})
    stop.on_epoch_end(0)
    network.weights[0].assign(np.nan * network.weights[0])
    with pytest.raises(NonFiniteLoss, match="epoch 1: .*conv.*/kernel.* holds values that are not finite"):
        stop.on_epoch_end(0)


def test_a_batch_that_the_devices_cannot_share_is_refused(data, tmp_path):
    odd = dataclasses.replace(phase(), batch_size=33)
    with pytest.raises(ConfigError, match="33.*2 devices.*multiple of 2"):
        train(data, tmp_path, (odd,), devices=TWO_DEVICES)


def test_a_batch_of_more_images_than_there_are_is_refused(data, tmp_path):
    with pytest.raises(ConfigError, match=r"batch_size is 999.*1\.\.320"):
        train(data, tmp_path, (dataclasses.replace(phase(), batch_size=999),))


def test_refinement_goes_on_at_the_last_rate_of_the_phase_before():
    refine = Phase("refine", 1, None)
    schedules = resolve_schedules((phase(), refine))
    assert schedules[1] == Constant(0.02)
    assert resolve_schedules((Phase("train", 1, Linear(0.1, 0.01)), refine))[1].value(0, 1) == pytest.approx(
        0.01, rel=0.01
    )
    for schedule in (OneCycle(0.1, final_div=1e9), Linear(0.24, 0.0)):  # The last is another one in a longer phase.
        with pytest.raises(ConfigError, match=r"refine.*train.*state a small one"):
            check_phases((Phase("train", 1, schedule), refine))
    with pytest.raises(ConfigError, match="no schedule"):
        check_phases((refine,))


def test_phases_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="once"):
        check_phases((phase(), phase()))


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"epochs": 0}, "1 or more"),
        ({"label_smoothing": 1.0}, "0..0.999"),
        ({"loss": "crossentropy"}, "did you mean 'cross_entropy'"),
        ({"engine": "keras_cv", "augment_on": "device"}, "host"),
        ({"name": "a/b"}, "letters"),
    ],
)
def test_a_wrong_phase_names_what_is_allowed(settings, named):
    with pytest.raises(ConfigError, match=named):
        dataclasses.replace(phase(), **settings)


def test_tensorboard_gets_scalars_and_pictures(data, tmp_path):
    train(data, tmp_path, (phase(augment=INTENSIVE),))
    tags = set()
    for path in (tmp_path / "tensorboard").rglob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            tags |= {value.tag for value in event.summary.value}
    assert {"epoch_loss", "epoch_accuracy", "learning_rate"} <= tags
    assert any(tag.startswith("augmented") for tag in tags)


def test_tensorboard_itself_starts_with_the_locked_packages():
    ran = subprocess.run([sys.executable, "-m", "tensorboard.main", "--version"], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip().splitlines()[-1] == importlib.metadata.version("tensorboard")
