"""Mutation testing: changes one place of a module at a time and sees whether the tests that concern it notice.

    make mutants N=40 MODULES="tfaug/train tfaug/workdir.py"

mutmut makes the changes (`pip install tfaug[mutants]`). Its own runner forks a process that has imported TensorFlow and
puts wrappers around functions that AutoGraph and Keras read; so here each change is one file of a copy of the checkout,
with the tests in a process of their own. Texts with a space in them, which are messages, are left as they are, and so
is `strict` of `zip`, whose lengths are equal unless something else is broken.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import functools
import itertools
import os
import pathlib
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
# The tests that concern a module, quick ones first; of the entries that begin a path, the longest counts.
TESTS = {
    "tfaug/config.py": ("tests/test_config.py", "tests/test_workdir.py"),
    "tfaug/experiment.py": ("tests/test_workdir.py", "tests/test_cli.py", "tests/train/test_joints.py"),
    "tfaug/losses.py": ("tests/test_losses.py",),
    "tfaug/report/recorded.py": ("tests/report/test_report_summary.py",),
    "tfaug/report/results.py": ("tests/test_study.py",),
    "tfaug/report/study.py": ("tests/test_study.py",),
    "tfaug/report/markdown.py": ("tests/test_study.py",),
    "tfaug/perfect_ordering.py": ("tests/test_perfect_ordering.py",),
    "tfaug/rng.py": ("tests/test_rng.py",),
    "tfaug/run.py": ("tests/train/test_joints.py", "tests/test_run.py"),
    "tfaug/study.py": ("tests/test_study.py",),
    "tfaug/trials.py": ("tests/test_study.py",),
    "tfaug/train/strategy.py": ("tests/train/test_strategy.py", "tests/train/test_workers.py"),
    "tfaug/train/workers.py": ("tests/train/test_workers.py",),
    "tfaug/data/service.py": ("tests/train/test_service.py",),
    "tfaug/trained.py": ("tests/train/test_joints.py",),
    "tfaug/workdir.py": (
        *("tests/test_workdir.py", "tests/test_study.py", "tests/test_evaluators.py", "tests/train/test_joints.py"),
    ),
    "tfaug/data/pipeline.py": ("tests/train/test_order.py", "tests/train/test_joints.py", "tests/train/test_fit.py"),
    "tfaug/evaluate": ("tests/test_evaluators.py", "tests/test_predict.py", "tests/test_attacks.py"),
    "tfaug/train": ("tests/train/test_joints.py", "tests/train/test_fit.py"),
    "tfaug/train/all_orders.py": ("tests/test_perfect_ordering.py",),
    "tfaug/train/average.py": ("tests/train/test_phases.py",),
    "tfaug/train/callbacks.py": ("tests/test_workdir.py", "tests/train/test_joints.py", "tests/train/test_fit.py"),
    "tfaug/train/cascades.py": ("tests/train/test_phases.py", "tests/test_sums_and_refine.py"),
    "tfaug/train/methods": (
        *("tests/train/test_methods.py", "tests/train/test_features.py", "tests/train/test_distill.py"),
        "tests/train/test_joints.py",
    ),
    "tfaug/train/optimizers.py": ("tests/train/test_optimizers.py", "tests/train/test_joints.py"),
    "tfaug/train/order": ("tests/train/test_order.py", "tests/train/test_scoring_orders.py"),
    "tfaug/train/plateau.py": ("tests/train/test_phases.py",),
    "tfaug/train/risks.py": ("tests/train/test_phases.py",),
    "tfaug/train/stop.py": ("tests/train/test_stop.py",),
    "tfaug/train/phase.py": ("tests/test_workdir.py", "tests/train/test_joints.py", "tests/train/test_fit.py"),
    "tfaug/train/teachers.py": ("tests/train/test_methods.py",),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Mutant:
    """A module with one change.

    Attributes:
      path: of the module, from the root.
      module: its syntax tree, of libcst.
      mutation: what is changed, of mutmut.
    """

    path: str
    module: Any
    mutation: Any

    @functools.cached_property
    def code(self) -> str:
        """All of the changed module."""
        return self.module.deep_replace(self.mutation.original_node, self.mutation.mutated_node).code

    @functools.cached_property
    def change(self) -> str:
        """The lines taken away, and those put in their place."""
        lines = difflib.unified_diff(self.module.code.splitlines(), self.code.splitlines(), n=0, lineterm="")
        return "\n".join(line for line in lines if not line.startswith(("---", "+++")))

    @property
    def is_of_strict(self) -> bool:
        """Whether nothing but `strict` of a `zip` is changed."""
        lines = self.change.splitlines()
        return len({re.sub(r"strict=\w+", "", line[1:]) for line in lines if line[0] in "-+"}) == 1


def find_mutants(path: str) -> list[Mutant]:
    """Returns every mutant of a module, in the order of its lines."""
    import libcst
    from mutmut.mutation.file_mutation import create_mutations

    module, mutations, _, _ = create_mutations(path, (ROOT / path).read_text(encoding="utf-8"))

    def is_message(node: libcst.CSTNode) -> bool:
        return isinstance(node, libcst.BaseString) and " " in module.code_for_node(node)

    return [Mutant(path, module, mutation) for mutation in mutations if not is_message(mutation.original_node)]


def tests_of(path: str) -> tuple[str, ...]:
    """Returns the tests that concern a module.

    Raises:
      SystemExit: if none do.
    """
    entries = [entry for entry in TESTS if f"{path}/".startswith(f"{entry}/")]
    if not entries:
        raise SystemExit(f"[mutants] no tests are named for {path}; allowed: {', '.join(TESTS)}, or add it to TESTS")
    return TESTS[max(entries, key=len)]


def copy_checkout(folder: pathlib.Path) -> None:
    """Copies what git knows, with the two packages that setup.cfg places inside tfaug."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
    for name in ("experiments", "serving"):
        (folder / "tfaug" / name).symlink_to(folder / name)


def run_tests(folder: pathlib.Path, tests: Sequence[str], limit_s: float | None) -> tuple[str, float]:
    """Returns `passed`, `failed` or, beyond the limit, `too long`; and the seconds."""
    started = time.monotonic()
    # No bytecode: two changes within one second would look alike.
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests],
        cwd=folder,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            outcome = "failed" if process.wait(limit_s) else "passed"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            outcome = "too long"
    return outcome, time.monotonic() - started


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a sample of mutants; returns 1 where the tests fail without any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="+", help="files, or folders with all that is below")
    parser.add_argument("--num", type=int, default=40, help="mutants to draw, over all modules")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--slack", type=float, default=5.0, help="limit, in times of the unchanged tests' seconds")
    settings = parser.parse_args(arguments)
    paths = [path for name in settings.modules for path in sorted((ROOT / name).rglob("*.py")) or [ROOT / name]]
    mutants = [mutant for path in paths for mutant in find_mutants(str(path.relative_to(ROOT)))]
    drawn = random.Random(settings.seed).sample(mutants, len(mutants))
    sample = list(itertools.islice((mutant for mutant in drawn if not mutant.is_of_strict), settings.num))
    print(
        f"[mutants] {len(sample)} of {len(mutants)} mutants of {len(paths)} modules, seed {settings.seed}", flush=True
    )
    survivors, limits = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy_checkout(folder)
        for number, mutant in enumerate(sorted(sample, key=lambda mutant: mutant.path), start=1):
            tests = tests_of(mutant.path)
            if tests not in limits:
                outcome, seconds = run_tests(folder, tests, None)
                if outcome != "passed":
                    print(f"[mutants] {' '.join(tests)} fail without a mutant")
                    return 1
                limits[tests] = settings.slack * seconds
            original = (folder / mutant.path).read_text(encoding="utf-8")
            (folder / mutant.path).write_text(mutant.code, encoding="utf-8")
            outcome, seconds = run_tests(folder, tests, limits[tests])
            (folder / mutant.path).write_text(original, encoding="utf-8")
            verdict = "SURVIVED" if outcome == "passed" else f"caught ({outcome})"
            print(f"\n{number}/{len(sample)} {mutant.path}: {verdict}, {seconds:.0f} s\n{mutant.change}", flush=True)
            if outcome == "passed":
                survivors.append(mutant)
    print(f"\n[mutants] caught {len(sample) - len(survivors)} of {len(sample)}")
    for path in sorted({mutant.path for mutant in sample}):
        num, left = (sum(mutant.path == path for mutant in group) for group in (sample, survivors))
        print(f"  {path}: {num - left} of {num}")
    for mutant in survivors:
        print(f"survived in {mutant.path}\n{mutant.change}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
