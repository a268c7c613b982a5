"""A study: arms that are experiments, seeds, and the tables and figures that are computed from the rows of all runs.

Every run of a study is an ordinary one, in a folder and a process of its own (`tfaug.trials`); its report only pivots
rows (`tfaug.report.study`).
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tfaug.config import LARGEST, ConfigError, check_choice, check_kind, check_range, check_whole, hash_of, near_name

if TYPE_CHECKING:  # for the report needs no TensorFlow
    from tfaug.experiment import Experiment
    from tfaug.workdir import Row, Workdir

# What a number of a row is multiplied with to be shown in a unit.
UNITS = {"%": 100.0, "points": 100.0, "": 1.0, "minutes": 1 / 60}
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_LARGEST_SEED = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Column:
    """One number of every run, picked from its rows.

    Attributes:
      name: of it in summary.json, letters, digits, underscores and dashes; once in a study.
      title: in tables; empty for the name in words.
      metric, model, set, attack, mode: of the row, as in `tfaug.workdir.Row`; `model` empty for the arm's own last
        exported model, at the end of the last phase of its last training.
      unit: `%`, `points` (hundredths of what is 0..1), `minutes` (of seconds) or empty.
      digits: after the point, 0..6.
      minus: what is subtracted, run by run.
    """

    name: str
    title: str = ""
    metric: str = "accuracy"
    model: str = ""
    set: str = "test"
    attack: str = "clean"
    mode: str = "plain"
    unit: str = "%"
    digits: int = 2
    minus: Column | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _NAME.fullmatch(self.name):
            raise ConfigError(f"Column.name is {self.name!r}; allowed: letters, digits, underscores and dashes")
        check_choice(self, "unit", UNITS)
        check_whole(self, "digits", 0, 6)
        if self.minus is not None:
            check_kind(self, "minus", Column, "None or Column(...)")

    @property
    def heading(self) -> str:
        """Its title with the unit."""
        title = self.title or self.name.replace("_", " ")
        return f"{title}, {self.unit}" if self.unit else title


TEST_ACCURACY = Column("test_accuracy")
# The time book of a run; in its rows `seconds` is of no model.
RUN_MINUTES = Column(
    "minutes", "whole run", metric="seconds", model="", set="", attack="", mode="", unit="minutes", digits=1
)


@dataclasses.dataclass(frozen=True)
class Table:
    """Mean, spread and n over the seeds of several numbers, an arm a line.

    Attributes:
      title: above it.
      columns: one or more.
      arms: which, in their order; empty for all.
      against: the arm from which every other's difference is taken, paired by seed where the seeds are the same; empty
        for none.
      note: beneath it.
    """

    title: str
    columns: tuple[Column, ...] = (TEST_ACCURACY,)
    arms: tuple[str, ...] = ()
    against: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        check_kind(self, "columns", Column, "columns, as in Column('test_accuracy')", several=True)
        if not self.columns:
            raise ConfigError("Table.columns is (); allowed: one column or more")


@dataclasses.dataclass(frozen=True)
class Figure:
    """A number of every run as a dot: by arm, or over another number of the same run.

    Attributes:
      title: above it.
      y: what is drawn, with the mean over the seeds and its interval where `x` is None.
      x: the other number, for a scatter plot; None for the arms.
      arms: which; empty for all.
    """

    title: str
    y: Column = TEST_ACCURACY
    x: Column | None = None
    arms: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_kind(self, "y", Column, "a column, as in Column('test_accuracy')")
        if self.x is not None:
            check_kind(self, "x", Column, "None or Column(...)")


@dataclasses.dataclass(frozen=True)
class Histogram:
    """How a number is spread within one arm, of the rows that have its shares.

    Attributes:
      title: above it.
      metric: of the rows `METRIC_share_00`, `METRIC_share_01`, ..., each the share, 0..1, that lies from its `low` to
        its `high`.
      arm: which.
    """

    title: str
    metric: str
    arm: str


@dataclasses.dataclass(frozen=True)
class Published:
    """What a paper prints for an arm, shown beside ours.

    Attributes:
      arm, column: their names.
      value: in the column's unit, as printed.
      note: where it stands, and what is doubtful about it.
    """

    arm: str
    column: str
    value: float
    note: str = ""

    def __post_init__(self) -> None:
        check_range(self, "value", -LARGEST)


@dataclasses.dataclass(frozen=True)
class Study:
    """Experiments that are compared over seeds; the functions in `experiments/` return one.

    Attributes:
      name: shown in the report.
      arms: name -> experiment.
      seeds: of every arm, in place of the experiment's own.
      tables: empty for one of the accuracy on the test set, against the first arm.
      figures: computed from the same rows.
      paper: what was published.
      note: what the reader has to know, above the tables.
    """

    name: str
    arms: Mapping[str, Experiment]
    seeds: tuple[int, ...] = (0, 1, 2)
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()
    paper: tuple[Published, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        from tfaug.experiment import Experiment

        if not isinstance(self.arms, Mapping) or not self.arms:
            raise ConfigError(f"Study.arms is {self.arms!r}; allowed: a dict, name -> experiment, of one or more")
        object.__setattr__(self, "arms", dict(self.arms))
        object.__setattr__(self, "seeds", tuple(self.seeds))
        names = list(self.arms)
        for name, experiment in self.arms.items():
            if not isinstance(experiment, Experiment):
                raise ConfigError(f"arm {name} of the study is {experiment!r}; allowed: an Experiment")
            if not isinstance(name, str) or not name.isprintable() or not name.strip():
                raise ConfigError(f"an arm is named {name!r}; allowed: a text")
        _check_seeds("Study.seeds", self.seeds)
        check_kind(self, "tables", Table, "tables, as in Table('Accuracy')", several=True)
        check_kind(self, "figures", Figure, "figures, as in Figure('Accuracy')", several=True)
        check_kind(self, "paper", Published, "Published(...)", several=True)
        if not self.tables:
            against = names[0] if len(names) > 1 else ""
            object.__setattr__(self, "tables", (Table("Accuracy on the test set", against=against),))
        for table in self.tables:
            _check_arms(f"table {table.title!r}", (*table.arms, *([table.against] if table.against else [])), names)
        for figure in self.figures:
            _check_arms(f"figure {figure.title!r}", figure.arms, names)
        columns = self.columns()
        for printed in self.paper:
            _check_arms("Study.paper", (printed.arm,), names)
            if printed.column not in columns:
                near = near_name(printed.column, columns)
                raise ConfigError(f"Study.paper has no column {printed.column!r}{near}; allowed: {', '.join(columns)}")

    def columns(self) -> dict[str, Column]:
        """Returns every column of the tables and figures by its name, and `test_accuracy` at the end.

        Raises:
          ConfigError: if two different ones have one name.
        """
        drawn = [column for figure in self.figures for column in (figure.y, figure.x) if column is not None]
        found = _by_name([*(column for table in self.tables for column in table.columns), *drawn])
        return {**found, TEST_ACCURACY.name: found.get(TEST_ACCURACY.name, TEST_ACCURACY)}

    def arm(self, name: str) -> Experiment:
        """Returns the experiment of an arm.

        Raises:
          ConfigError: if there is none of that name.
        """
        _check_arms("the study", (name,), list(self.arms))
        return self.arms[name]


class Search:
    """Gives what `tfaug study run` takes beside a `Study` its contract: one computation that makes rows of its own.

    Its tables, figures and page are those of a study, with lines of its own in place of arms. The search itself is a
    frozen dataclass with a field `seed`, whose settings `--set` replaces.
    """

    seed: int

    @property
    def name(self) -> str:
        """Shown in the report."""
        raise NotImplementedError(f"{type(self).__name__} has no name")

    @property
    def arms(self) -> Mapping[str, None]:
        """The lines of its tables; its rows are of these arms."""
        raise NotImplementedError(f"{type(self).__name__} has no arms")

    @property
    def tables(self) -> tuple[Table, ...]:
        """Computed from its rows; a column names its model."""
        raise NotImplementedError(f"{type(self).__name__} has no tables")

    @property
    def figures(self) -> tuple[Histogram, ...]:
        """Drawn from its rows."""
        return ()

    @property
    def paper(self) -> tuple[Published, ...]:
        """What was published."""
        return ()

    @property
    def note(self) -> str:
        """What the reader has to know, above the tables."""
        return ""

    def load(self) -> Any:
        """Finds its data, before anything is written, and returns what `run` needs of it.

        Raises:
          ConfigError: if it is not there, or does not do.
        """
        raise NotImplementedError(f"{type(self).__name__} has no load()")

    def run(self, workdir: Workdir, data: Any) -> None:
        """Does what is not done yet, and says how far it is; it may be stopped at any moment and go on.

        Args:
          workdir: where.
          data: what `load` returned.
        """
        raise NotImplementedError(f"{type(self).__name__} has no run(workdir, data)")

    def rows(self, workdir: Workdir) -> list[Row]:
        """Returns the rows of what is done, each with its arm and the seed."""
        raise NotImplementedError(f"{type(self).__name__} has no rows(workdir)")

    @property
    def seeds(self) -> tuple[int, ...]:
        """Its one seed."""
        return (self.seed,)

    def columns(self) -> dict[str, Column]:
        """Returns every column of the tables by its name.

        Raises:
          ConfigError: if two different ones have one name.
        """
        return _by_name([column for table in self.tables for column in table.columns])


@dataclasses.dataclass(frozen=True)
class Trial:
    """One run of a study.

    Attributes:
      arm, seed: which.
      experiment: with that seed.
      flags: of `tfaug run`, without the workdir.
    """

    arm: str
    seed: int
    experiment: Experiment
    flags: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.arm}, seed {self.seed}"


def read_seeds(text: str, what: str = "--seeds") -> tuple[int, ...]:
    """Returns the seeds that `0..4`, `0,2,5` or both together mean.

    Raises:
      ConfigError: if it is no such text, falls, is out of range, or names a seed twice.
    """
    seeds: list[int] = []
    for part in text.split(","):
        ends = re.fullmatch(r"\s*(\d+)\s*(?:\.\.\s*(\d+)\s*)?", part)
        first, last = (int(ends[1]), int(ends[2] or ends[1])) if ends else (1, 0)
        if first > last or last - first >= 10_000:
            raise ConfigError(f"{what} is {text!r}; allowed: whole numbers, 0 or more, as in 0..4 or 0,2,5")
        seeds += range(first, last + 1)
    _check_seeds(what, seeds)
    return tuple(seeds)


def read_shard(text: str) -> tuple[int, int]:
    """Returns i and n of `i/n`, the i-th of n shards, i in 1..n.

    Raises:
      ConfigError: if it is no such text.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ConfigError(f"--shard is {text!r}; allowed: i/n, i in 1..n, as in 1/3")
    return int(found[1]), int(found[2])


def read_arms(text: str, study: Study) -> tuple[str, ...]:
    """Returns the arms that `a,b` names, all for an empty text.

    Raises:
      ConfigError: if the study has no such arm, naming near ones, or one is named twice.
    """
    names = list(study.arms)
    if not text:
        return tuple(names)
    chosen = [part.strip() for part in text.split(",")]
    _check_arms("--arms", chosen, names)
    _check_once("--arms", chosen)
    return tuple(chosen)


@dataclasses.dataclass(frozen=True)
class Axis:
    """One axis of a grid: a setting and its values, as `--set` reads them."""

    key: str
    values: tuple[str, ...]


def read_axis(text: str) -> Axis:
    """Returns the axis that `KEY=A | B` or `KEY=0..4` means; texts in quotes may hold the bar.

    Raises:
      ConfigError: if a value is missing or named twice.
    """
    key, equals, rest = text.partition("=")
    values = [part.strip() for part in re.split(r"""\|(?=(?:[^'"]*['"][^'"]*['"])*[^'"]*$)""", rest)]
    if not equals or not key.strip() or not all(values):
        raise ConfigError(f"--grid {text!r}; allowed: KEY=VALUE | VALUE, or KEY=0..4, as in seed=0..4")
    if len(values) == 1 and re.fullmatch(r"\d+\.\.\d+", values[0]):
        values = [str(number) for number in read_seeds(values[0], f"--grid {key.strip()}")]
    _check_once(f"--grid {key.strip()}", values)
    return Axis(key.strip(), tuple(values))


def grid(axes: Sequence[Axis]) -> dict[str, tuple[str, ...]]:
    """Returns the arms of a grid: by their names, which are their settings, the assignments of `--set`; first axis
    slowest."""
    _check_once("--grid", [axis.key for axis in axes])
    products = itertools.product(*([f"{axis.key}={value}" for value in axis.values] for axis in axes))
    return {", ".join(assignments): tuple(assignments) for assignments in products}


def folder_name(arm: str) -> str:
    """Returns the name of an arm's folder: its own, or, with characters of which a path may not be made, the letters
    and digits in it and a hash."""
    if _NAME.fullmatch(arm):
        return arm
    return f"{'_'.join(re.findall('[A-Za-z0-9]+', arm))[:60]}-{hash_of(arm)[:6]}"


def choose(trials: Sequence[Trial], shard: tuple[int, int] = (1, 1)) -> list[Trial]:
    """Returns the trials of a shard: every n-th."""
    index, count = shard
    return list(trials)[index - 1 :: count]


def _by_name(columns: Sequence[Column]) -> dict[str, Column]:
    """Returns the columns by their names."""
    found: dict[str, Column] = {}
    for column in columns:
        if found.setdefault(column.name, column) != column:
            raise ConfigError(f"two columns are named {column.name!r}; allowed: different names")
    return found


def _check_arms(what: str, chosen: Sequence[str], names: Sequence[str]) -> None:
    """Refuses names of arms that are not there."""
    for name in chosen:
        if name not in names:
            raise ConfigError(f"{what} has no arm {name!r}{near_name(name, names)}; allowed: {', '.join(names)}")


def _check_once(what: str, names: Sequence[Any]) -> None:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"{what} names {twice[0]!r} twice; allowed: once")


def _check_seeds(what: str, seeds: Sequence[Any]) -> None:
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    if not seeds or not whole or not all(0 <= seed <= _LARGEST_SEED for seed in seeds):
        raise ConfigError(f"{what} is {seeds!r}; allowed: one whole number or more, 0..{_LARGEST_SEED}")
    _check_once(what, list(seeds))
