"""Import TensorFlow without the start-up lines that nobody can act on; all other lines reach standard error."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

# One entry per known line. TensorFlow 2.15 to 2.21 print them on every import, with and without a GPU.
_NOISE = re.compile(
    r"Unable to register cu(?:DNN|FFT|BLAS) factory"
    r"|TF-TRT Warning: Could not find TensorRT"
    r"|oneDNN custom operations are on\."
    r"|This TensorFlow binary is optimized to use available CPU instructions"
    r"|^To enable the following instructions: .* rebuild TensorFlow with the appropriate compiler flags\."
    r"|^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR"
)
_NO_DRIVER = re.compile(r"Could not find cuda drivers on your machine|failed call to cuInit")


def has_nvidia_card(devices: Path = Path("/sys/bus/pci/devices")) -> bool:
    """Tell whether the machine holds an NVIDIA display device, with or without a driver."""
    for vendor in devices.glob("*/vendor"):
        with contextlib.suppress(OSError):
            if vendor.read_text().strip() == "0x10de" and (vendor.parent / "class").read_text().startswith("0x03"):
                return True
    return False


def without_noise(lines: Iterable[str], nvidia_card: bool) -> Iterator[str]:
    """Yield the lines a user needs.

    Args:
        lines: What was written to standard error, in order.
        nvidia_card: Keep that there is no driver: noise on a machine without such a card, a finding with it.
    """
    for line in lines:
        if _NOISE.search(line) or (not nvidia_card and _NO_DRIVER.search(line)):
            continue
        yield line


@contextlib.contextmanager
def quiet_startup() -> Iterator[None]:
    """Hold back file descriptor 2, then write out all of it but the known noise, also when the body raises.

    The C++ runtime writes straight to the descriptor, so replacing `sys.stderr` would not be enough.
    """
    sys.stderr.flush()
    try:
        saved = os.dup(2)
    except OSError:  # started without a standard error: nothing to keep clean
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            text = held.read().decode("utf-8", errors="replace")
            kept = "".join(without_noise(text.splitlines(keepends=True), has_nvidia_card()))
            if kept:
                os.write(2, kept.encode("utf-8"))


def import_tensorflow() -> None:
    """Import TensorFlow once, without the noise."""
    if "tensorflow" not in sys.modules:
        with quiet_startup():
            import tensorflow

            # Newer ones look for a driver, and print that there is none, when they are first asked for devices.
            tensorflow.config.list_physical_devices("GPU")
