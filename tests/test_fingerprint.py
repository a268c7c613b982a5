"""The digests of the table: whole, the same here as where they were made, and what the command line says of them."""

from __future__ import annotations

import functools
import hashlib
import itertools

import numpy as np
import pytest
import tensorflow as tf

from tfaug import cli, fingerprint
from tfaug.augment import AUGMENTATIONS, SALIENCY, Augmentation, CutMix, RandAugment, layers, parse_op
from tfaug.augment.autoaugment import POLICIES
from tfaug.augment.policies import PRESETS
from tfaug.fingerprint import Case, make_batch, read_table, write_table

TABLE = read_table()
SEEDS = (0, 1, 2**40 + 7)
# Compiled here: no op of the conformance tables, which compile those; `tfaug fingerprint --check --xla` compiles all.
COMPILED = ("ManifoldMixup()", "Mixup()")


@functools.cache
def ops() -> dict[str, Augmentation]:
    """Returns the ops of the table by their texts; reading the schedules takes a while."""
    texts = dict.fromkeys(case.op for case in TABLE)
    return {text: parse_op(text) for text in texts if not text.startswith(("layers.", "ManifoldMixup"))}


def texts_of(op: str) -> list[str]:
    """Returns the texts of the table that stand for the op, or whose op is an instance of the layer."""
    if op.startswith("layers."):
        return [case.op for case in TABLE if case.op.startswith(f"{op}(")]
    wanted = parse_op(op)
    return [text for text, built in ops().items() if built == wanted]


REQUIRED = {
    **{name: f"{name}()" for name in AUGMENTATIONS},
    **{f"preset {preset}": preset for preset in PRESETS},
    **{f"policy {policy}": f"AutoAugment({policy!r})" for policy in POLICIES},
    **{f"SALIENCY {op}": repr(op) for op in SALIENCY},
    **{f"layers.{name}": f"layers.{name}" for name in layers.__all__ if name != "ImageLayer"},
}


@pytest.mark.parametrize("name", REQUIRED)
def test_the_table_holds_every_op_preset_policy_and_layer_at_every_seed_and_type(name):
    if name.startswith("preset "):
        texts = [text for text, op in ops().items() if isinstance(op, RandAugment) and op.preset == REQUIRED[name]]
    else:
        texts = texts_of(REQUIRED[name])
    wanted = [Case("", seed) for seed in SEEDS] + [Case("", dtype="float32")]
    if not name.startswith("layers."):
        wanted.append(Case("", shape="16x28x28x1"))
    missing = [case for case in wanted if not any(Case(op, case.seed, case.shape, case.dtype) in TABLE for op in texts)]
    assert not missing, (
        f"tfaug/fingerprints.txt lacks {name}: add what `tfaug fingerprint --op=...` prints for {missing}"
    )


def test_the_table_holds_the_choice_of_manifold_mixup_and_compositions_and_schedules():
    assert {case.seed for case in TABLE if case.op == "ManifoldMixup()"} == set(SEEDS)
    assert any(" + " in case.op for case in TABLE) and any(case.op.startswith("OneOf(") for case in TABLE)
    scheduled = {case.op for case in TABLE if "Linear(" in case.op}
    for op in scheduled:
        digests = {case.progress: digest for case, digest in TABLE.items() if case.op == op}
        assert len(set(digests.values())) == 3, f"{op} does not change with the progress"


def test_the_table_is_sorted_and_written_as_it_is_read(tmp_path):
    write_table(dict(reversed(TABLE.items())), tmp_path / "table.txt")
    assert (tmp_path / "table.txt").read_text(encoding="utf-8") == fingerprint.TABLE.read_text(encoding="utf-8")


@pytest.mark.parametrize("op", dict.fromkeys(case.op for case in TABLE))
def test_the_digests_are_those_of_the_table(op):
    table = {case: digest for case, digest in TABLE.items() if case.op == op}
    different = [str(case) for case, digest, expected in fingerprint.compare(table) if digest != expected]
    assert not different


@pytest.mark.parametrize("op", COMPILED)
def test_the_digests_under_xla_are_those_of_the_table(op):
    table = {case: digest for case, digest in TABLE.items() if case.op == op and case.shape == Case.shape}
    assert len(table) == 4
    different = [str(case) for case, digest, expected in fingerprint.compare(table, xla=True) if digest != expected]
    assert not different


def test_the_digest_is_that_of_the_images_and_the_labels_as_documented():
    case = Case("CutMix()", 5, "4x6x5x3", "float32")
    images, labels = CutMix()(tuple(map(tf.constant, make_batch(case.shape, case.dtype))), 5)
    said = b"images float32 4x6x5x3\n" + images.numpy().astype("<f4").tobytes()
    said += b"labels float32 4x10\n" + labels.numpy().astype("<f4").tobytes()
    assert fingerprint.fingerprint(case) == hashlib.sha256(said).hexdigest()


def test_each_part_of_a_case_counts():
    cases = [
        Case("Mixup()", shape="16x6x5x3"),
        Case("Mixup(alpha=0.5)", shape="16x6x5x3"),
        Case("Mixup()", 1, shape="16x6x5x3"),
        Case("Mixup()", 2**32, shape="16x6x5x3"),
        Case("Mixup()", shape="16x5x6x3"),
        Case("Mixup()", shape="16x6x5x3", dtype="float32"),
        Case("Mixup(p=Linear(0.2, 1))", shape="16x6x5x3", progress="0/2"),
        Case("Mixup(p=Linear(0.2, 1))", shape="16x6x5x3", progress="1/2"),
    ]
    assert len({fingerprint.fingerprint(case) for case in cases}) == len(cases)


def test_the_images_are_the_same_everywhere_and_give_the_ops_something_to_do():
    images, labels = make_batch("16x32x32x3")
    assert images.dtype == np.uint8 and images.shape == (16, 32, 32, 3) and labels.shape == (16, 10)
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    assert digest == "965d6b6a438a0ed2014367b86e7458d398dabb3ec0b3c38e548a98009a6dd5ff"
    assert (np.ptp(images, (1, 2)) < 200).any() and (np.ptp(images, (1, 2)) > 100).any()
    floats, soft = make_batch("16x32x32x3", "float32")
    assert floats.dtype == np.float32 and floats.min() >= 0 and floats.max() <= 255
    assert ((floats * 16) == np.round(floats * 16)).all() and (floats % 1).any()
    np.testing.assert_array_equal(soft.sum(1), 1)
    assert set(np.unique(soft)) == {0, 0.25, 0.75}


@pytest.mark.parametrize("case", list(itertools.islice(TABLE, 0, None, 40)), ids=lambda case: case.op[:30])
def test_a_case_is_read_from_its_own_text(case):
    assert Case.read(str(case)) == case


@pytest.fixture
def run(capsys):
    def run(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["fingerprint", *arguments])
        return status, *capsys.readouterr()

    return run


def test_the_command_prints_the_line_of_the_table(run):
    case = Case("Mixup()", 2**40 + 7)
    assert run("--op=Mixup()", f"--seed={2**40 + 7}") == (0, f"{TABLE[case]} {case}\n", "")
    assert run("--op=Mixup()", "--xla")[1] == f"{TABLE[Case('Mixup()')]} {Case('Mixup()')}\n"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ([], ["--op is missing", "as in: tfaug fingerprint", "--check"]),
        (["--op=Flipp()"], ["'Flipp' is unknown", "did you mean 'Flip'", "ManifoldMixup"]),
        (["--op=Flip("], ["cannot be read"]),
        (["--op=layers.Grayscal()"], ["'Grayscal' is unknown", "did you mean 'Grayscale'"]),
        (["--op=layers.RandomRotation()"], ["RandomRotation needs factor", "RandomRotation has: factor"]),
        (["--op=layers.Grayscale(kwargs=1)"], ["Grayscale has no field 'kwargs'"]),
        (["--op=Flip() + ManifoldMixup()"], ["Compose.ops[1] is ManifoldMixup"]),
        (["--op=Flip()", "--seed=x"], ["seed", "x"]),
        (["--op=Flip()", f"--seed={2**64}"], [f"Case.seed is {2**64}; allowed: a whole number, -{2**63}..{2**64 - 1}"]),
        (["--op=Flip()", "--shape=32x32x3"], ["Case.shape is '32x32x3'", "BxHxWxC"]),
        (["--op=Flip()", "--shape=0x32x32x3"], ["Case.shape is '0x32x32x3'"]),
        (["--op=Flip()", "--dtype=float16"], ["Case.dtype is 'float16'", "uint8, float32"]),
        (["--op=Flip()", "--progress=3"], ["Case.progress is '3'", "STEP/TOTAL_STEPS"]),
        (["--op=Flip()", "--progress=3/3"], ["Case.progress is '3/3'", "below the total"]),
        (["--op=RandomCrop(size_px=40)"], ["RandomCrop", "uint8 16x32x32x3", "40"]),
        (["--op=SumAug(k=20)"], ["SumAug", "16x32x32x3"]),
        (["--op=Flip()", "--check"], ["--check", "--op is given"]),
        (["--check", "--seed=1"], ["--check", "--seed is given"]),
        (["--op=Flip()", "--write=x"], ["--write is given without --check"]),
        (["Flip()"], ["takes flags alone", "Flip()"]),
    ],
)
def test_a_wrong_command_line_is_refused_with_what_is_allowed(run, arguments, named):
    status, out, said = run(*arguments)
    assert status == 2 and out == ""
    for part in named:
        assert part in said


def test_check_names_what_differs_and_writes_the_table_as_it_is_here(run, monkeypatch, tmp_path):
    right = {case: digest for case, digest in TABLE.items() if case.op == "Flip()"}
    monkeypatch.setattr(fingerprint, "read_table", lambda: right)
    status, out, _ = run("--check")
    assert status == 0 and out.startswith(f"{len(right)} of {len(right)} digests are those of tfaug")
    changed = next(iter(right))
    monkeypatch.setattr(fingerprint, "read_table", lambda: {**right, changed: "0" * 64})
    status, out, _ = run("--check", f"--write={tmp_path / 'new.txt'}")
    assert status == 1
    assert f"differs: {changed}\n  here {right[changed]}\n" in out
    assert f"{len(right) - 1} of {len(right)} digests" in out
    assert read_table(tmp_path / "new.txt") == right
    status, _, said = run("--check", f"--write={tmp_path}")
    assert status == 2 and "cannot be written" in said
