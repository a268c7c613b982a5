"""Teachers from elsewhere: where a method finds the network that it asks. `TEACHERS` is the table."""

from __future__ import annotations

import dataclasses

from tfaug.config import ConfigError, check_choice, check_whole


class Teacher:
    """Says where a teacher is; a frozen dataclass. `tfaug.teaching` finds it and refuses one that does not fit."""


@dataclasses.dataclass(frozen=True)
class FromWorkdir(Teacher):
    """The network of another run.

    It keeps its own model, precision and constants of normalisation. It is refused where its classes, its image shape
    or its held-out images are others: it would have been trained on what this run validates with.

    Attributes:
      path: of the workdir.
      training: which of its trainings; empty for the first.
      phase: at the end of which phase, -1 for the last.
      which: `last` or `best`, the epoch of the phase, by validation.
    """

    path: str
    training: str = ""
    phase: int = -1
    which: str = "last"

    def __post_init__(self) -> None:
        _check_text(self, "path")
        check_whole(self, "phase", -(10**6), 10**6)
        check_choice(self, "which", ("last", "best"))


@dataclasses.dataclass(frozen=True)
class FromSavedModel(Teacher):
    """A model that tfaug has exported; it answers plainly.

    It is refused as one of `FromWorkdir` is, by what stands beside it in `assets.extra/tfaug.json`.

    Attributes:
      path: of the version, as `export/refine/1`.
    """

    path: str

    def __post_init__(self) -> None:
        _check_text(self, "path")


@dataclasses.dataclass(frozen=True)
class FromEndpoint(Teacher):
    """A served model, asked at each step; it answers plainly.

    It is refused where its number of classes or its image shape is another; what it was trained on cannot be seen.

    Attributes:
      target: gRPC HOST:PORT.
      model: the name of the served model.
    """

    target: str
    model: str

    def __post_init__(self) -> None:
        _check_text(self, "target")
        _check_text(self, "model")


TEACHERS: dict[str, type[Teacher]] = {
    "FromEndpoint": FromEndpoint,
    "FromSavedModel": FromSavedModel,
    "FromWorkdir": FromWorkdir,
}


def _check_text(owner: Teacher, name: str) -> None:
    """Raises a ConfigError if a field is no text, or an empty one."""
    value = getattr(owner, name)
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{type(owner).__name__}.{name} is {value!r}; allowed: a text")


def check_teacher(owner: object, kind: type[Teacher] = Teacher, why: str = "") -> None:
    """Raises a ConfigError if the field `teacher` of a method is neither a name nor a teacher of a kind."""
    teacher = getattr(owner, "teacher")  # noqa: B009
    if not isinstance(teacher, (str, kind)) or not teacher:
        raise ConfigError(
            f"{type(owner).__name__}.teacher is {teacher!r}{why}; allowed: the name of a training, FromWorkdir(PATH)"
        )
