"""An endpoint that is asked for predictions: connected when it is needed, and believed once it was checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from tfaug.config import ConfigError
from tfaug.losses import check_logits

if TYPE_CHECKING:
    from tfaug.serving.client import Client

# Mean total variation between an endpoint's answers and the local model's; bfloat16 stays far below.
_MAX_DISTANCE = 0.05
_NUM_CHECKED = 16


class Endpoint:
    """Asks a served model, after it was seen to be the local one.

    Args:
      connect: returns the client; called when a model is first asked.
      network: returns the local network of a model by its name.
      images: uint8 [N,H,W,C] in 0..255, N of 1 or more, the first of which both are asked about.
    """

    def __init__(self, connect: Callable[[], Client], network: Callable[[str], Any], images: np.ndarray):
        self._connect, self._network, self._images = connect, network, images[:_NUM_CHECKED]
        self._checked: set[str] = set()

    @functools.cached_property
    def client(self) -> Client:
        """The client itself."""
        return self._connect()

    def predict(self, model: str, inputs: Mapping[str, np.ndarray], **settings: Any) -> dict[str, np.ndarray]:
        """Asks as `tfaug.serving.client.Client.predict` does.

        Raises:
          ConfigError: if the endpoint's plain answers are not those of the local model.
          ServingError: if the endpoint refuses or does not answer.
        """
        self.check([model])
        return self.client.predict(model, inputs, **settings)

    def check(self, models: Iterable[str]) -> None:
        """Asks about models before anything is made; raises as `predict` does."""
        for model in models:
            if model not in self._checked:
                self._check(model)
                self._checked.add(model)

    def _check(self, model: str) -> None:
        served = self.client.predict(model, {"images": self._images}, signature="plain_uint8")["probs"]
        logits = self._network(model)(tf.cast(self._images, tf.float32), training=False)
        local = tf.nn.softmax(check_logits(logits)).numpy()
        if served.shape != local.shape:
            raise ConfigError(
                f"the endpoint's {model!r} gives {served.shape[-1]} classes, the local model {local.shape[-1]}"
            )
        distance = float(np.abs(served - local).sum(axis=1).mean() / 2)
        if not distance <= _MAX_DISTANCE:
            raise ConfigError(
                f"the endpoint's {model!r} is not the model of this workdir: its probabilities differ by "
                f"{distance:.3f} in total variation; allowed: {_MAX_DISTANCE}"
            )
