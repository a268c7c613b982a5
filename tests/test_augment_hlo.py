"""Reads the compiled programs of all augmentations: nothing in them calls the host or needs a library of one device."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import tensorflow as tf

from tests.test_augment_conformance import COMPILED, OPS, PROGRESS, SEED, SHAPES, compiled, make_batch
from tfaug import rng

# Targets of custom calls that every device has. None occurs, so none is allowed.
ALLOWED_TARGETS: frozenset[str] = frozenset()

# What leaves the device, and random numbers whose state or algorithm is the device's.
FORBIDDEN = ("infeed", "outfeed", "send", "recv", "send-done", "recv-done", "rng", "rng-get-and-update-state")

# As TensorFlow lowers the op, for any device; and as XLA has it after its passes for the CPU.
STAGES = ("hlo", "optimized_hlo")


def violations(hlo: str) -> list[str]:
    """Returns the forbidden instructions and the targets of custom calls of a program, as often as they occur."""
    # An instruction is `name = shape opcode(operands), attributes`, and a shape ends in a bracket.
    instructions = [match for line in hlo.splitlines() if (match := re.search(r" = .*?[\]})] ([a-z][\w-]*)\(", line))]
    assert instructions, "this is no HLO"
    found = [match[1] for match in instructions if match[1] in FORBIDDEN]
    for match in instructions:
        if match[1] == "custom-call":
            target = re.search(r'custom_call_target="([^"]*)"', match.string)
            found.append(target[1] if target else "custom-call without a target")
    return [name for name in found if name not in ALLOWED_TARGETS]


def transposed(hlo: str) -> list[str]:
    """Returns the arrays of bytes that a program lays out otherwise than row by row: to be copied once more."""
    found = re.findall(r"u8\[[\d,]+\]\{([\d,]+)[^}]*\}", hlo)
    return [layout for layout in found if layout.split(",") != sorted(layout.split(","), key=int, reverse=True)]


def program(function: Callable[..., Any], *args: Any, stage: str) -> str:
    return function.experimental_get_compiler_ir(*args)(stage=stage)  # type: ignore[attr-defined]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("name", COMPILED)
def test_the_program_calls_neither_the_host_nor_a_library(name: str, stage: str) -> None:
    hlo = program(compiled(OPS[name]), make_batch(SHAPES["odd"]), rng.make_seed(SEED), PROGRESS, stage=stage)
    assert hlo.count("ENTRY") == 1
    assert violations(hlo) == []
    assert transposed(hlo) == []


def xla(function: Callable[..., Any]) -> Any:
    return tf.function(function, jit_compile=True, autograph=False)


def test_a_custom_call_is_found_in_a_compiled_program() -> None:
    values = tf.random.stateless_uniform([4, 300], [1, 2])
    assert set(violations(program(xla(lambda x: tf.math.top_k(x, 3)), values, stage="optimized_hlo"))) == {"TopK"}


def test_a_draw_by_the_device_is_found_in_a_compiled_program() -> None:
    drawn = xla(lambda x: x + tf.random.uniform([4]))
    assert "rng" in violations(program(drawn, tf.zeros([4]), stage="hlo"))


def test_a_call_of_the_host_does_not_compile() -> None:
    shown = xla(lambda x: tf.py_function(lambda value: value, [x], tf.float32))
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="EagerPyFunc"):
        shown(tf.zeros([4]))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("  outfeed.1 = token[] outfeed(p.1, after-all.2), outfeed_shape=f32[4]{0}", "outfeed"),
        ("  %i = (f32[4]{0}, token[]) infeed(token[] %t)", "infeed"),
        ("  ROOT %s = (f32[4]{0}, u32[], token[]) send(f32[4]{0} %p, token[] %t), is_host_transfer=true", "send"),
        ("  r = f32[4]{0} custom-call(p), custom_call_target=\"xla_python_cpu_callback\"", "xla_python_cpu_callback"),
        ("  q = (f32[4,4]{1,0}, f32[4]{0}) custom-call(f32[4,4]{1,0} p), custom_call_target=\"Qr\"", "Qr"),
    ],
)  # fmt: skip
def test_the_checker_finds_what_leaves_the_device(line: str, found: str) -> None:
    assert violations(line) == [found]
    assert violations('  ROOT a = s32[4]{0} add(outfeed, send), metadata={op_name="custom-call("}') == []
