"""Where the parts of a training are joined: rates, seeds, labels, teachers, restarts, and what becomes of the weights.

The values are those of `by_hand`, with rates that change, several epochs and phases, batch statistics, and a validation
split whose labels are wrong.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
from tfaug.serving.client import start_server

from tests.train import by_hand
from tests.train.by_hand import Normed, fold
from tfaug import rng
from tfaug.augment import Augmentation, CutMix, Flip, ManifoldMixup, PadCrop
from tfaug.config import ConfigError
from tfaug.data.pipeline import augmentation_seed, step_seed
from tfaug.evaluate import EvaluateConfig
from tfaug.experiment import Experiment
from tfaug.export import ExportConfig, load_exported
from tfaug.run import Job
from tfaug.schedules import Constant, Linear
from tfaug.train import fit
from tfaug.train.methods import Distill
from tfaug.train.optimizers import SGD, Muon
from tfaug.train.phase import Phase, Training, goes_on
from tfaug.train.state import State
from tfaug.train.stop import EarlyStop
from tfaug.train.strategy import mirrored_strategy
from tfaug.train.teachers import FromEndpoint, FromSavedModel, FromWorkdir
from tfaug.trained import answers_of, find_teacher, load_model
from tfaug.workdir import PhaseFolder, TrainingFolder, Workdir

DATA = by_hand.make_data()
SEED = 5
# A fall from 0.4 to 0.04, whose last value of a thousand the next phase goes on with.
FALL = Linear(0.4, 0.04)
FALLEN = 0.4 - 0.36 * 0.999
TEACHER = (
    Phase(
        "train",
        4,
        FALL,
        (Flip(), PadCrop(2)),
        batch_size=16,
        label_smoothing=0.2,
        optimizer=SGD(0.9, nesterov=True),
        weight_decay=0.02,
        keep="best",
    ),
    Phase(
        "refine",
        2,
        None,
        (Flip(),),
        batch_size=20,
        loss="binary_cross_entropy",
        optimizer=SGD(0.6, nesterov=False),
        weight_decay=0.0,
        augment_on="device",
    ),
)
STUDENT = Phase("distill", 2, FALL, batch_size=26, optimizer=Muon(vector_rate=1.0, matrix_rate=1.0), weight_decay=0.0)
DISTILL = Distill("teacher", alpha=0.3, temperature=4.0, direction="teacher_student")
EXPERIMENT = Experiment(
    "joints",
    trainings=(
        Training("teacher", Normed(4), TEACHER, export="last"),
        Training("student", Normed(3), (STUDENT,), DISTILL, export="last"),
    ),
    export=ExportConfig(draws=(2,), weights=(0.5,), bank_size=5, num_examples=6),
    evaluate=EvaluateConfig(attacks=()),
    seed=SEED,
    precision="fp32",
)


def fall(num_steps: int) -> np.ndarray:
    """The rate of each step of a phase under `FALL`, and the one after the last."""
    return 0.4 - 0.36 * np.arange(num_steps + 1) / num_steps


def job_of(folder, experiment: Experiment, data=DATA, devices=("CPU:0", "CPU:1")) -> Job:
    """Returns the job of an experiment on our data, which draws no pictures."""
    job = Job(Workdir(folder), experiment)
    job.__dict__.update(data=data, strategy=mirrored_strategy(devices))
    job.workdir.augmentations.parent.mkdir(parents=True, exist_ok=True)
    job.workdir.begin(experiment)
    job.workdir.augmentations.touch()
    return job


def weights_in(path, model, data=DATA) -> list[np.ndarray]:
    network = by_hand.build(model, data)
    network.load_weights(path)
    return network.get_weights()


def assert_trained_as(got: list[np.ndarray], expected: list[np.ndarray], start: list[np.ndarray]) -> None:
    """Each weight is where it should be, to a thousandth of the longest way that one of its tensor went."""
    for weight, (one, other, first) in enumerate(zip(got, expected, start, strict=True)):
        way = np.abs(other - first).max()
        assert way > 1e-3, f"weight {weight} did not move"
        np.testing.assert_allclose(one, other, atol=1e-3 * way, rtol=0, err_msg=f"weight {weight}")


def assert_history(folder: PhaseFolder, expected: list[dict[str, float]]) -> None:
    rows = folder.read_history()
    assert len(rows) == len(expected)
    for row, values in zip(rows, expected, strict=True):
        assert float(row["seconds"]) > 0
        for field, value in values.items():
            assert float(row[field]) == pytest.approx(value, rel=1e-3, abs=1e-6), (field, row["epoch"])


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run of `EXPERIMENT`; by hand, its two networks and, of each phase, the history, the weights after each epoch and
    what the end measures."""

    job: Job
    networks: dict[str, tf.keras.Model]
    histories: dict[str, list[dict[str, float]]]
    snapshots: dict[str, list[list[np.ndarray]]]
    ends: dict[str, dict[str, float]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Trained:
    """Two trainings on two devices."""
    job = job_of(tmp_path_factory.mktemp("joints") / "run", EXPERIMENT)
    job.train()
    job.export()
    teacher, student = (by_hand.build(training.model, DATA, SEED) for training in EXPERIMENT.trainings)
    by = Trained(job, {"teacher": teacher, "student": student}, {}, {}, {})
    for network, phase, seeds, rates, asked in (
        (teacher, TEACHER[0], (0, 0), fall(4 * 3), {}),
        (teacher, TEACHER[1], (0, 1), np.full(2 * 2 + 1, FALLEN), {}),
        (student, STUDENT, (1, 0), fall(2 * 2), {"method": DISTILL, "teacher": teacher}),
    ):
        by.histories[phase.name], by.snapshots[phase.name] = by_hand.train_by_hand(
            network, DATA, phase, fold(rng.make_seed(SEED), *seeds), rates, num_replicas=2, **asked
        )
        statistics = [[statistic.numpy() for statistic in network.non_trainable_variables]]
        by.ends[phase.name] = by_hand.measured(network, DATA.validation, statistics)
    return by


@pytest.mark.parametrize(("name", "last"), [("teacher", "1_refine"), ("student", "0_distill")])
def test_a_run_trains_what_is_written_out(trained, name, last):
    """Rates, seeds, optimizers, losses and the teacher of two trainings, three phases and eight epochs, at once."""
    folder = trained.job.workdir.training(name)
    start = by_hand.build(trained.job.config.training(name).model, DATA, SEED).get_weights()
    got = weights_in(folder.path / last / "last.weights.h5", trained.job.config.training(name).model)
    assert_trained_as(got, trained.networks[name].get_weights(), start)


def test_history_and_result_are_those_of_the_mislabelled_validation_split(trained):
    """The loss on validation is the plain cross-entropy, whatever the phase trains with."""
    for name, phases in (("teacher", TEACHER), ("student", (STUDENT,))):
        folder = trained.job.workdir.training(name)
        for place, phase in enumerate(phases):
            assert_history(folder.phase(place, phase.name), trained.histories[phase.name])
            result = json.loads(folder.result.read_text())["phases"][place]
            assert (result["name"], result["epochs"]) == (phase.name, phase.epochs)
            assert result["val_accuracy"] == pytest.approx(trained.ends[phase.name]["val_accuracy"])
            assert result["val_nll"] == pytest.approx(trained.ends[phase.name]["val_loss"], rel=1e-3)
            seconds = [float(row["seconds"]) for row in folder.phase(place, phase.name).read_history()]
            assert result["seconds"] == pytest.approx(sum(seconds))
        got = weights_in(folder.phase(place, phase.name).weights("last"), trained.job.config.training(name).model)
        digest = hashlib.sha256(b"".join(weight.astype("<f4").tobytes() for weight in got)).hexdigest()
        assert json.loads(folder.result.read_text())["weights_sha256"] == result["weights_sha256"] == digest
        seen = sum(52 // phase.batch_size * phase.batch_size * phase.epochs for phase in phases)
        spent = sum(each["seconds"] for each in json.loads(folder.result.read_text())["phases"])
        assert json.loads(folder.result.read_text())["images_per_second"] == pytest.approx(seen / spent)
    # 3 x 3 weights a filter, its scale and shift, and three classes with a bias each.
    assert json.loads(folder.result.read_text())["num_parameters"] == 3 * 9 + 2 * 3 + 3 * 3 + 3


def test_the_best_epoch_is_kept_beside_the_last(trained):
    """The next phase begins with it, as that of the hand does."""
    accuracies = [row["val_accuracy"] for row in trained.histories["train"]]
    best = int(np.argmax(accuracies))
    assert 0 < best < 3
    folder = trained.job.workdir.training("teacher").phase(0, "train")
    start = by_hand.build(Normed(4), DATA, SEED).get_weights()
    for which, epoch in (("best", best), ("last", 3)):
        got, expected = weights_in(folder.weights(which), Normed(4)), trained.snapshots["train"][epoch]
        assert_trained_as(got, expected, start)
    assert folder.checkpoints() == [3, 4]


def test_a_teacher_of_batch_statistics_answers_in_inference_mode_and_does_not_move(tmp_path):
    """On one device, by the divergence the other way round, with smoothed labels, over a restart."""
    method = Distill(alpha=0.3, temperature=4.0, direction="student_teacher")
    phase = Phase("train", 2, FALL, (Flip(),), batch_size=17, label_smoothing=0.3, weight_decay=0.01)
    teacher = by_hand.build(Normed(5), DATA, 1)
    generator = np.random.default_rng(0)
    teacher.set_weights([weight + generator.uniform(0.1, 0.9, weight.shape) for weight in teacher.get_weights()])
    variables = list(teacher.weights)  # in this order: Keras 2 has another for a network that is not trained
    before = [variable.numpy() for variable in variables]

    class Stops(Exception):
        pass

    def stop(_):
        raise Stops

    strategy = mirrored_strategy(["CPU:0"])
    left = tmp_path / "0_train" / "checkpoints" / ".partial-1-epoch_0002"
    for first, on_epoch in ((1, stop), (2, None)):  # another start: what goes on is read from the checkpoint
        with strategy.scope():
            network = by_hand.build(Normed(), DATA, first)
        run = fit.TrainingRun(
            TrainingFolder(tmp_path),
            DATA,
            strategy,
            rng.make_seed(2),
            tmp_path / "tb",
            method=method,
            teacher=answers_of(teacher),
            on_epoch=on_epoch,
        )
        if on_epoch:
            with pytest.raises(Stops):
                fit.train_phases(run, network, (phase,))
            left.mkdir()
        else:
            fit.train_phases(run, network, (phase,))
    assert not left.exists()
    for old, variable in zip(before, variables, strict=True):
        np.testing.assert_array_equal(old, variable.numpy())
    expected = by_hand.build(Normed(), DATA, 1)
    start = expected.get_weights()
    history, _ = by_hand.train_by_hand(
        expected, DATA, phase, fold(rng.make_seed(2), 0), fall(2 * 3), method=method, teacher=teacher
    )
    assert_trained_as(network.get_weights(), expected.get_weights(), start)
    assert_history(PhaseFolder(tmp_path / "0_train"), history)


def test_the_seeds_of_all_that_is_drawn_differ():
    """Of two trainings, their phases, the order of two epochs, two steps, two replicas, two ops, and mixing."""
    seeds = []
    for place, index in itertools.product(range(2), range(2)):
        phase = fold(rng.make_seed(SEED), place, index)
        seeds += [fold(phase, 0, epoch) for epoch in range(2)]
        for step, replica in itertools.product(range(2), range(2)):
            share = step_seed(augmentation_seed(phase), step, replica)
            np.testing.assert_array_equal(share, fold(phase, 1, step, replica))
            seeds += [share, *(fold(share, op) for op in (-1, 0, 1))]
    assert len({tuple(seed.numpy()) for seed in seeds}) == len(seeds) == 4 * (2 + 4 * 4)


# -- how a phase ends ----------------------------------------------------------------------------------------------


def learn(folder, phase: Phase) -> tuple[tf.keras.Model, list[dict]]:
    """Trains on one device; returns the network and what came of the phase."""
    strategy = mirrored_strategy(["CPU:0"])
    with strategy.scope():
        network = by_hand.build(Normed(), DATA)
    run = fit.TrainingRun(TrainingFolder(folder), DATA, strategy, rng.make_seed(0), folder / "tb")
    return network, fit.train_phases(run, network, (phase,))


def test_a_stop_ends_the_phase_where_the_history_says_so(tmp_path):
    """The labels of validation, at random, make its loss rise; features are mixed more and more over all six epochs. A
    process that goes on goes no further."""
    mix = ManifoldMixup(stages=("input", "stem"), p=Linear(0.2, 1.0))
    phase = Phase("train", 6, Constant(0.2), batch_size=26, stop=EarlyStop(patience=2), mix_features=mix)
    network, (result,) = learn(tmp_path, phase)
    expected = by_hand.build(Normed(), DATA)
    start = expected.get_weights()
    by, snapshots = by_hand.train_by_hand(expected, DATA, phase, fold(rng.make_seed(0), 0), np.full(13, 0.2))
    lowest = int(np.argmin([row["val_loss"] for row in by]))
    num = lowest + 1 + 2
    assert result["epochs"] == num < 6
    assert_history(folder := PhaseFolder(tmp_path / "0_train"), by[:num])
    assert_trained_as(network.get_weights(), snapshots[num - 1], start)
    folder.result.unlink()  # as if killed after the last epoch
    history = folder.read_history()
    again, (result,) = learn(tmp_path, phase)
    assert result["epochs"] == num and folder.read_history() == history
    for one, other in zip(again.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@dataclasses.dataclass(frozen=True)
class Tell(Augmentation):
    """Writes the step, the steps of the phase and the epoch into three pixels of each image."""

    def sample(self, seed, shape, progress=None):
        told = [progress.step, progress.total_steps, progress.epoch]
        return {"told": tf.broadcast_to(tf.cast(tf.stack(told), tf.uint8), [shape[0], 3])}

    def apply(self, batch, choice):
        flat = tf.reshape(batch.images, [-1, 144])
        return batch._replace(images=tf.reshape(tf.concat([choice["told"], flat[:, 3:]], 1), [-1, 12, 12, 1]))


def test_a_preview_shows_the_middle_of_the_phase():
    """7 epochs of 3 steps: step 10, in epoch 3, of the first images."""
    shown = fit.preview(Phase("train", 7, FALL, (Tell(),), batch_size=16), DATA, rng.make_seed(0), num_images=5).numpy()
    assert shown.shape == (5, 12, 12, 1) and shown[:, 0, :3, 0].tolist() == [[10, 21, 3]] * 5
    np.testing.assert_array_equal(shown.reshape(5, -1)[:, 3:], DATA.train.images[:5].reshape(5, -1)[:, 3:])


def test_a_state_is_all_of_a_training_and_comes_back(tmp_path):
    """Weights, statistics, momenta and the number of steps; in memory and from a folder."""
    network = by_hand.build(Normed(), DATA)
    optimizer = SGD(0.9).make(0.1)
    optimizer.build(network.trainable_variables)
    state = State(network, optimizer)

    def step():
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(network(DATA.train.images[:8], training=True)[:, 0])
        optimizer.apply_gradients(
            zip(tape.gradient(loss, network.trainable_variables), network.trainable_variables, strict=True)
        )

    step()
    taken = state.snapshot()
    state.write(tmp_path)
    kept = [value.copy() for value in taken]
    step()
    for one, other in zip(network.get_weights(), kept, strict=False):
        assert np.any(one != other)
    after = state.snapshot()
    for back in (lambda: state.restore(taken), lambda: state.read(tmp_path)):
        back()
        assert int(optimizer.iterations.numpy()) == 1
        for one, other in zip(state.snapshot(), kept, strict=True):
            np.testing.assert_array_equal(one, other)
        step()
        for one, other in zip(state.snapshot(), after, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-6)
    other = by_hand.build(Normed(), DATA)
    with pytest.raises(AssertionError):
        State(other, SGD(0.0).make(0.1)).read(tmp_path)


def experiment_of(*phases: Phase) -> Experiment:
    return Experiment("one", trainings=(Training("model", Normed(2), phases),), precision="fp32")


def short(epochs: int, **settings) -> Phase:
    return dataclasses.replace(Phase("train", epochs, Constant(0.2), (Flip(),), batch_size=26), **settings)


REFINE = short(1, name="refine", augment=())


@pytest.fixture(scope="module")
def longer(tmp_path_factory):
    """A folder whose only phase was trained for one epoch, and then for three."""
    folder = tmp_path_factory.mktemp("longer") / "run"
    for epochs in (1, 3):
        job_of(folder, experiment_of(short(epochs)), devices=["CPU:0"]).train()
    return folder


def test_more_epochs_on_a_finished_phase_are_those_of_a_longer_one(longer):
    network = by_hand.build(Normed(2), DATA)
    start = network.get_weights()
    history, _ = by_hand.train_by_hand(network, DATA, short(3), fold(rng.make_seed(0), 0, 0), np.full(7, 0.2))
    assert_trained_as(load_model(longer).get_weights(), network.get_weights(), start)
    assert_history(PhaseFolder(longer / "model" / "0_train"), history)
    with pytest.raises(ConfigError, match=r"trainings\.model\.phases\.0\.epochs: 3 -> 2"):
        job_of(longer, experiment_of(short(2)))


def test_a_phase_that_was_taken_away_does_not_pass_for_another_one_that_comes_in_its_place(longer):
    for phases in ((short(3), REFINE), (short(3),), (short(3), REFINE)):
        job_of(longer, experiment_of(*phases), devices=["CPU:0"]).train()
        held = json.loads((longer / "model" / "result.json").read_text())
        assert [each["name"] for each in held["phases"]] == [phase.name for phase in phases]
        last = PhaseFolder(longer / "model" / f"{len(phases) - 1}_{phases[-1].name}").result
        assert held["weights_sha256"] == json.loads(last.read_text())["weights_sha256"]
    job_of(longer, experiment_of(short(3)), devices=["CPU:0"]).train()
    with pytest.raises(ConfigError, match=r"trainings\.model\.phases\.1\.weight_decay: 0\.0001 -> 0\.5"):
        job_of(longer, experiment_of(short(3), dataclasses.replace(REFINE, weight_decay=0.5)))


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (short(2), short(2), True),
        (short(2), short(5), True),
        (short(2), short(2, keep="best"), True),
        (short(2), short(5, keep="best"), True),
        (short(2, schedule=None), short(5, schedule=None), True),
        (short(2, schedule=FALL), short(2, schedule=FALL, keep="best"), True),
        (short(2), short(1), False),
        (short(2, schedule=FALL), short(5, schedule=FALL), False),
        (short(2), short(5, schedule=Constant(0.1)), False),
        (short(2, augment=(CutMix(p=Linear(0, 1)),)), short(3, augment=(CutMix(p=Linear(0, 1)),)), False),
        (short(2, mix_features=ManifoldMixup()), short(3, mix_features=ManifoldMixup()), False),
        (short(2), short(5, weight_decay=0.0), False),
        (short(2), short(5, batch_size=13), False),
    ],
)
def test_a_phase_goes_on_where_nothing_goes_by_its_length(old, new, expected):
    assert goes_on(old, new) is expected


# -- teachers from elsewhere, and exports --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def darker():
    """Our data at half the brightness: another mean and deviation, and everything else the same."""
    train = dataclasses.replace(DATA.train, images=DATA.train.images // 2)
    scaled = train.images / 255
    mean, std = (float(scaled.mean()),), (float(scaled.std()),)
    assert abs(mean[0] - DATA.mean[0]) > 0.1
    return dataclasses.replace(DATA, train=train, mean=mean, std=std)


@pytest.fixture(scope="module")
def endpoint(trained):
    with start_server(trained.job.exported()) as server:
        yield server.grpc_target


@pytest.mark.parametrize("kind", ["workdir", "saved_model", "endpoint"])
def test_a_teacher_from_elsewhere_answers_as_its_own_network_with_its_own_constants(trained, darker, endpoint, kind):
    teacher = {
        "workdir": FromWorkdir(str(trained.job.path), "teacher"),
        "saved_model": FromSavedModel(trained.job.exported()["teacher"]),
        "endpoint": FromEndpoint(endpoint, "teacher"),
    }[kind]
    answers = tf.function(find_teacher(teacher, darker, mirrored_strategy(["CPU:0"])))
    images = DATA.test.images
    expected = trained.networks["teacher"](images, training=False).numpy()
    for given in (images, images.astype(np.float32)):
        np.testing.assert_allclose(answers(tf.constant(given)), expected, atol=1e-2 * np.abs(expected).max())
    assert answers(tf.constant(images)).shape == (16, 3)


@pytest.mark.parametrize("kind", ["workdir", "saved_model"])
def test_a_teacher_of_other_classes_images_or_held_out_images_is_refused(trained, kind):
    path = str(trained.job.path)
    teacher = FromWorkdir(path) if kind == "workdir" else FromSavedModel(trained.job.exported()["teacher"])
    strategy = mirrored_strategy(["CPU:0"])
    wider = dataclasses.replace(DATA.train, images=np.zeros((52, 12, 16, 1), np.uint8))
    for other, message in (
        (dataclasses.replace(DATA, class_names=("flat", "columns", "rows")), r"has the classes .*allowed: .*columns"),
        (dataclasses.replace(DATA, train=wider), r"has the image shape \[12, 12, 1\]; allowed: \[12, 16, 1\]"),
        (dataclasses.replace(DATA, validation=DATA.test), "was trained with other validation images held out"),
        (dataclasses.replace(DATA, validation=DATA.validation.take(np.arange(21))), "other validation images"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_teacher(teacher, other, strategy)
    shuffled = dataclasses.replace(DATA, validation=DATA.validation.take(np.arange(22)[::-1]))
    find_teacher(teacher, shuffled, strategy)


def test_an_endpoint_of_other_classes_or_images_is_refused(endpoint):
    strategy = mirrored_strategy(["CPU:0"])
    teacher = FromEndpoint(endpoint, "teacher")
    with pytest.raises(ConfigError, match="knows 3 classes; allowed: 2"):
        find_teacher(teacher, dataclasses.replace(DATA, class_names=("flat", "rows")), strategy)
    wider = dataclasses.replace(DATA.train, images=np.zeros((52, 12, 16, 1), np.uint8))
    with pytest.raises(ConfigError, match=r"does not answer images \[12, 16, 1\]"):
        find_teacher(teacher, dataclasses.replace(DATA, train=wider), strategy)
    with pytest.raises(ConfigError, match="does not answer"):
        find_teacher(FromEndpoint(endpoint, "nobody"), DATA, strategy)


def test_a_loaded_model_predicts_as_the_exported_one(trained):
    images = DATA.test.images
    for name in ("teacher", "student"):
        exported = load_exported(trained.job.exported()[name]).predict({"images": images}, "plain_uint8")["logits"]
        np.testing.assert_allclose(load_model(trained.job.path, name)(images), exported, atol=1e-4)
    teacher = trained.job.workdir.training("teacher")
    for phase, which in ((0, "best"), (0, "last"), (-1, "last"), (-2, "best"), (1, "best")):
        name = TEACHER[phase].name
        expected = weights_in(teacher.phase(phase % 2, name).weights(which), Normed(4))
        for one, other in zip(load_model(trained.job.path, "", phase, which).get_weights(), expected, strict=True):
            np.testing.assert_array_equal(one, other)
    for arguments, message in (
        (("nobody",), "has no training 'nobody'; it has: teacher, student"),
        (("teacher", 2), r"phase is 2; teacher allows -2\.\.1"),
        (("teacher", -3), r"phase is -3; teacher allows -2\.\.1"),
        (("teacher", 0, "first"), "which is 'first'; allowed: last, best"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_model(trained.job.path, *arguments)


def test_the_bank_holds_training_images_alone(trained):
    files = tf.train.load_checkpoint(f"{load_exported(trained.job.exported()['teacher']).path}/variables/variables")
    shapes = files.get_variable_to_shape_map()
    (bank,) = (files.get_tensor(key) for key, shape in shapes.items() if shape == [5, *by_hand.SHAPE])
    chosen = np.random.Generator(np.random.Philox(key=0)).permutation(52)[:5]
    np.testing.assert_array_equal(bank, DATA.train.images[chosen])


def test_an_export_is_made_again_for_other_settings_of_its_own_alone(trained):
    path, config = trained.job.path, trained.job.config
    for other in (
        dataclasses.replace(config, evaluate=EvaluateConfig(num_attack_examples=3)),
        dataclasses.replace(config, name="another title"),
    ):
        assert job_of(path, other).exported() == trained.job.exported()
    other = job_of(path, dataclasses.replace(config, export=dataclasses.replace(config.export, bank_size=4)))
    with pytest.raises(ConfigError, match="holds no export of teacher, student; run `tfaug export` first"):
        other.exported()
    with pytest.raises(ConfigError, match=r"trainings\.student\.seed: 5 -> 6|trainings\.teacher\.seed: 5 -> 6"):
        job_of(path, dataclasses.replace(config, seed=6))


def test_ids_labels_and_predictions_stand_in_one_order(trained, endpoint):
    """With a test set in no order of its ids, of which a part is asked through sums."""
    order = np.random.default_rng(0).permutation(16)
    shuffled = dataclasses.replace(DATA, test=DATA.test.take(order))
    settings = EvaluateConfig(attacks=(), num_sum_aug_examples=9)
    job = job_of(trained.job.path, dataclasses.replace(trained.job.config, evaluate=settings), shuffled)
    job.evaluate(endpoint)
    places = {example: place for place, example in enumerate(DATA.test.ids)}
    network, seen = trained.networks["teacher"], []
    for path in sorted((job.path / "predictions").rglob("*.npz")):
        with np.load(path) as held:
            rows = [places[example] for example in held["ids"]]
            np.testing.assert_array_equal(held["labels"], DATA.test.labels[rows])
            seen.append(len(rows))
            if len(rows) == 16 and "teacher" in str(path.relative_to(job.path)):
                expected = by_hand.softmax(network(DATA.test.images[rows], training=False).numpy())
                np.testing.assert_allclose(held["probs"], expected, atol=1e-2)
    assert sorted(seen) == [9, 9, 16, 16]
