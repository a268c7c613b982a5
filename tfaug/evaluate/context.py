"""What evaluators are given: models, sets, attacks, and all that was ever asked about them, made once."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfaug.config import ConfigError, identity, near_name, to_dict
from tfaug.data.split import Split, stratified_subset
from tfaug.evaluate.attacks import Attack, name_attacks
from tfaug.evaluate.config import EvaluateConfig
from tfaug.evaluate.endpoint import Endpoint
from tfaug.evaluate.predict import find_predictions, predict_set
from tfaug.predictions import CLEAN, MODES, Features, Predictions, array_sha256, is_of, read_features, write
from tfaug.train.fit import forward_pass, load_weights, predict_logits
from tfaug.workdir import Workdir

if TYPE_CHECKING:
    from tfaug.serving.client import Client

# Modes in which attacked images are asked.
_ATTACKED_MODES = ("plain", "sum_aug")


@dataclasses.dataclass(frozen=True, eq=False)
class Served:
    """A model that the endpoint serves.

    Attributes:
      weights_sha256: of its weights.
      load: returns the network, called as `network(images, training=False)`.
      precision: in which it computes, here and there.
      sum_aug: JSON values that identify the setting of its sums.
      epochs: of its phase by `last`, `best` and the names of those that are kept: files of weights.
    """

    weights_sha256: str
    load: Callable[[], Any]
    precision: str = "fp32"
    sum_aug: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    epochs: Mapping[str, pathlib.Path] = dataclasses.field(default_factory=dict)


class Context:
    """Hands out what evaluators ask for; what is not on disk under the same weights, images and settings is made first.

    Args:
      workdir: where predictions and features are kept.
      config: attacks and sizes.
      served: the models by their exported names.
      sets: test sets by their names, the data's own first; that one is attacked.
      connect: returns a client of an endpoint that serves each of `served` by its name; called when it is first asked.
      attacked: names of the models to attack.
      mirror: whether mirror views are asked.
      progress: show progress bars on a terminal.

    Attributes:
      models, sets, attacked, modes: names, in the order of the experiment.
      attacks: the attacks by their names.

    Raises:
      ConfigError: if a set is empty, or a model to attack is not there.
    """

    def __init__(
        self,
        workdir: Workdir,
        config: EvaluateConfig,
        served: Mapping[str, Served],
        sets: Mapping[str, Split],
        connect: Callable[[], Client],
        *,
        attacked: tuple[str, ...] = (),
        mirror: bool = False,
        progress: bool = True,
    ):
        self.workdir, self.config = workdir, config
        self.models, self.sets = tuple(served), tuple(sets)
        self.modes = ("plain", "mirror", "sum_aug") if mirror else ("plain", "sum_aug")
        self.attacks: dict[str, Attack] = {name: each for name, (_, each) in name_attacks(config.attacks).items()}
        self.attacked = attacked
        for name, split in sets.items():
            if not len(split):
                raise ConfigError(f"the {name} set has 0 images; allowed: 1 or more")
        for name in attacked:
            _check_name("a model to attack", name, self.models)
        self._served, self._sets, self._connect, self._progress = served, dict(sets), connect, progress
        self._networks: dict[str, Any] = {}
        self._of_epochs: dict[str, tuple[Any, Any]] = {}
        self._predictions: dict[tuple[str, str, str, str], Predictions | None] = {}
        self._made: tuple[tuple[str, str], np.ndarray] | None = None  # the images of the last attack

    def split(self, set_name: str) -> Split:
        """Returns the images of a set.

        Raises:
          ConfigError: if there is none of that name.
        """
        _check_name("the set", set_name, self.sets)
        return self._sets[set_name]

    def network(self, model: str) -> Any:
        """Returns the network of a model on this machine.

        Raises:
          ConfigError: if there is none of that name.
        """
        _check_name("the model", model, self.models)
        if model not in self._networks:
            self._networks[model] = self._served[model].load()
        return self._networks[model]

    @functools.cached_property
    def client(self) -> Endpoint:
        """What the models' answers come from."""
        return Endpoint(self._connect, self.network, self._sets[self.sets[0]].images)

    def predictions(self, model: str, set_name: str, attack: str = CLEAN, mode: str = "plain") -> Predictions | None:
        """Returns what a model answers about a set, in the order of `split`.

        In mode `sum_aug` a part of the images is asked. Attacked is a part of the first set, in the modes `plain` and
        `sum_aug`, with images made on the local plain model.

        Returns:
          The predictions; None where it is not asked: in a mode that is not among `modes`, about another set under
          attack, or a model that is not attacked.

        Raises:
          ConfigError: if there is no such model, set, attack or mode.
          ServingError: if the endpoint refuses or does not answer.
        """
        _check_name("the model", model, self.models)
        _check_name("the set", set_name, self.sets)
        _check_name("the attack", attack, (CLEAN, *self.attacks))
        _check_name("the mode", mode, MODES)
        place = (model, set_name, attack, mode)
        if place not in self._predictions:
            self._predictions[place] = self._clean(*place) if attack == CLEAN else self._under_attack(*place)
        return self._predictions[place]

    def epochs(self, model: str, set_name: str) -> dict[str, Predictions]:
        """Returns what epochs of a model's phase answer plainly about a set: `last`, `best` and those that it keeps.

        They are asked on this machine, for no more than one of them is exported; those of the same weights once.

        Raises:
          ConfigError: if there is no such model or set.
        """
        _check_name("the model", model, self.models)
        split, served = self.split(set_name), self._served[model]
        found: dict[str, Predictions] = {}
        same: dict[str, Predictions] = {}
        for epoch, weights in served.epochs.items():
            sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
            key = {
                "weights_file_sha256": sha256,
                "precision": served.precision,
                "set": set_name,
                "images_sha256": array_sha256(split.images),
            }
            path = self.workdir.predictions(model, set_name, CLEAN, epoch)
            held = find_predictions(path, key, split.labels, split.ids)
            if held is None:
                held = same.get(sha256)
                if held is None:
                    network, forward = self._network_of_epochs(model)
                    load_weights(network, weights)
                    logits = predict_logits(network, split.images, self.config.batch_size, forward)
                    held = Predictions(tf.nn.softmax(logits).numpy(), logits, split.labels, split.ids, key)
                write(path, held)
            found[epoch] = same[sha256] = held
        return found

    def features(self, model: str, set_name: str, stage: str) -> Features:
        """Returns what a stage of a model's network gives for a set, float32 [N, D...] in the order of `split`.

        Raises:
          ConfigError: if there is no such model, set or stage.
        """
        split, network = self.split(set_name), self.network(model)
        names = getattr(network, "stage_names", ())
        _check_name(f"the stage of {model}", stage, names)
        key = {
            "weights_sha256": self._served[model].weights_sha256,
            "precision": self._served[model].precision,
            "set": set_name,
            "stage": stage,
            "images_sha256": array_sha256(split.images),
        }
        path = self.workdir.features(model, set_name, stage)
        try:
            held = read_features(path)
            if is_of(held, key, split.labels, split.ids):
                return held
        except (FileNotFoundError, ValueError):
            pass
        size, stop = self.config.batch_size, names.index(stage) + 1
        parts = [
            tf.cast(network.forward(split.images[first : first + size], stop=stop), tf.float32).numpy()
            for first in range(0, len(split), size)
        ]
        write(path, Features(np.concatenate(parts), split.labels, split.ids, key))
        return read_features(path)

    def _network_of_epochs(self, model: str) -> tuple[Any, Any]:
        """Returns a network into which weights of epochs are loaded, and its compiled forward pass."""
        if model not in self._of_epochs:
            network = self._served[model].load()
            self._of_epochs[model] = network, forward_pass(network)
        return self._of_epochs[model]

    def _part(self, set_name: str, num: int) -> np.ndarray:
        """Returns a seeded class-stratified part of a set: the places, ascending."""
        return stratified_subset(self._sets[set_name].labels, num, seed=self.config.seed)

    def _clean(self, model: str, set_name: str, attack: str, mode: str) -> Predictions | None:
        """Asks about the images of a set as they are."""
        split = self._sets[set_name]
        if mode not in self.modes:
            return None
        if mode == "sum_aug":
            split = split.take(self._part(set_name, self.config.num_sum_aug_examples))
        key = self._key(model, set_name, mode, None)
        return self._ask(model, split, split.images, (model, set_name, attack, mode), key)

    def _under_attack(self, model: str, set_name: str, attack: str, mode: str) -> Predictions | None:
        """Asks about attacked images, which are made only where they were not asked yet."""
        if mode not in _ATTACKED_MODES or set_name != self.sets[0] or model not in self.attacked:
            return None
        whole = self._sets[set_name]
        subset = whole.take(self._part(set_name, self.config.num_attack_examples))
        asked = np.arange(len(subset))
        if mode == "sum_aug":  # By name, so that they are among the clean ones that are asked so.
            chosen = whole.ids[self._part(set_name, self.config.num_sum_aug_examples)]
            asked = np.flatnonzero(np.isin(subset.ids, chosen))
        if not len(asked):
            return None
        key = self._key(model, set_name, mode, self.attacks[attack])
        key["clean_images_sha256"] = array_sha256(subset.images)
        path = self.workdir.predictions(model, set_name, attack, mode)
        split = subset.take(asked)
        if (held := find_predictions(path, key, split.labels, split.ids)) is not None:
            return held
        images = self._adversarial(model, attack, subset)[asked]
        return self._ask(model, split, images, (model, set_name, attack, mode), key)

    def _key(self, model: str, set_name: str, mode: str, attack: Attack | None) -> dict[str, Any]:
        """Returns what predictions are of, but for the images."""
        served = self._served[model]
        setting = {"setting": served.sum_aug} if mode == "sum_aug" else {}
        return {
            "weights_sha256": served.weights_sha256,
            "precision": served.precision,
            "set": set_name,
            "attack": None if attack is None else {**to_dict(attack), **identity(attack)},  # defaults too
            **setting,
        }

    def _ask(
        self, model: str, split: Split, images: np.ndarray, place: tuple[str, str, str, str], key: dict[str, Any]
    ) -> Predictions:
        """Returns predictions of a file, or of the endpoint."""
        return predict_set(
            self.client,
            model,
            images,
            split.labels,
            split.ids,
            mode=place[3],
            path=self.workdir.predictions(*place),
            batch_size=self.config.batch_size,
            key=key,
            progress=self._progress,
        )

    def _adversarial(self, model: str, attack: str, subset: Split) -> np.ndarray:
        """Makes attacked images; those of the last attack are kept, for its other mode."""
        if self._made is None or self._made[0] != (model, attack):
            network = self.network(model)
            made = self.attacks[attack].attack(
                lambda images: network(images, training=False),
                subset.images,
                subset.labels,
                batch_size=self.config.batch_size,
                progress=self._progress,
            )
            self._made = ((model, attack), _check_attacked(made, subset.images, attack))
        return self._made[1]


def _check_name(what: str, name: str, known: tuple[str, ...]) -> None:
    """Refuses a name that is not there."""
    if name not in known:
        raise ConfigError(f"{what} is {name!r}{near_name(name, known)}; allowed: {', '.join(known)}")


def _check_attacked(made: np.ndarray, images: np.ndarray, attack: str) -> np.ndarray:
    """Refuses what an attack must not return: no attack's own clipping is trusted."""
    made = np.asarray(made)
    if made.shape != images.shape or made.dtype not in (np.uint8, np.float32):
        raise ConfigError(
            f"the attack {attack} returned {made.dtype} {list(made.shape)}; allowed: float32 {list(images.shape)}"
        )
    if not (made.min() >= 0 and made.max() <= 255):  # written so that NaN fails
        raise ConfigError(f"the attack {attack} returned pixels in {made.min():g}..{made.max():g}; allowed: 0..255")
    return made
