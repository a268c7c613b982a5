"""Stops: the table of rules, each against histories by hand."""

from __future__ import annotations

import dataclasses

import pytest

from tfaug.config import ConfigError, from_dict, to_dict
from tfaug.experiment import CLASSES
from tfaug.train.stop import STOPS, EarlyStop, Plateau, Stop

# A rule, the losses that it looks at, and after how many of these epochs it ends the phase; None for never.
CASES: dict[str, tuple[Stop, list[float], int | None]] = {
    "EarlyStop: the third loss is no lower": (EarlyStop(patience=1), [3, 2, 2, 1], 3),
    "EarlyStop: it falls all the time": (EarlyStop(patience=1), [3, 2, 1, 0.5], None),
    "EarlyStop: a new low begins the count again": (EarlyStop(patience=2), [3, 4, 2, 2.5, 2, 1], 5),
    "EarlyStop: the count is from the lowest": (EarlyStop(patience=2), [3, 1, 2, 1.5, 0], 4),
    "EarlyStop: too small a fall does not count": (EarlyStop(patience=2, min_delta=0.5), [3, 2.75, 2.5, 1], 3),
    "EarlyStop: small falls add up": (EarlyStop(patience=3, min_delta=0.5), [3, 2.75, 2.25, 2, 1.5], None),
    "EarlyStop: a loss that is not a number is no fall": (EarlyStop(patience=1), [3, float("nan"), 1], 2),
    "Plateau: it ends at once": (Plateau(patience=1), [3, 3, 1], 2),
    "Plateau: five by default": (Plateau(), [3, 3, 3, 3, 3, 3, 1], 6),
}


@pytest.mark.parametrize("case", CASES)
def test_a_stop_ends_after_its_patience_and_not_before(case: str) -> None:
    stop, losses, expected = CASES[case]
    looked_at, other = {"EarlyStop": ("val_loss", "loss"), "Plateau": ("loss", "val_loss")}[type(stop).__name__]
    history = [{looked_at: loss, other: 9.0 - i, "val_accuracy": 0.5} for i, loss in enumerate(losses)]
    ends = [i for i in range(len(history) + 1) if stop.ends(history[:i])]
    assert (ends[0] if ends else None) == expected


def test_the_table_is_complete() -> None:
    def below(cls: type) -> set[type]:
        return {cls, *(each for sub in cls.__subclasses__() for each in below(sub))}

    own = {cls for cls in below(Stop) if cls.__module__.startswith("tfaug.") and not cls.__name__.startswith("_")}
    assert set(STOPS.values()) == own - {Stop}
    assert {type(stop) for stop, _, _ in CASES.values()} == set(STOPS.values())


@pytest.mark.parametrize("name", STOPS)
def test_a_stop_is_a_frozen_dataclass_that_is_read_back(name: str) -> None:
    stop = STOPS[name](patience=7, min_delta=0.25)
    assert from_dict(to_dict(stop), CLASSES) == stop and CLASSES[name] is STOPS[name]
    with pytest.raises(dataclasses.FrozenInstanceError):
        stop.patience = 3
    for wrong in ({"patience": 0}, {"patience": 1.5}, {"min_delta": -0.1}):
        with pytest.raises(ConfigError, match=rf"{name}\.{next(iter(wrong))} is .*allowed: "):
            STOPS[name](**wrong)


def test_a_rule_of_ones_own_says_what_it_lacks() -> None:
    with pytest.raises(NotImplementedError, match=r"Stop has no ends\(history\)"):
        Stop().ends([])
