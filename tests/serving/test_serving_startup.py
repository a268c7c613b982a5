"""The noise filter hides the known lines and nothing else; the package stands alone."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path

import pytest
import tfaug.serving
from tfaug.serving.startup import has_nvidia_card, quiet_startup, without_noise

NOISE = [
    "2026-01-01 00:00:00.1: E external/local_xla/xla/stream_executor/cuda/cuda_dnn.cc:9261] Unable to register cuDNN "
    "factory: Attempting to register factory for plugin cuDNN when one has already been registered",
    "x: E cuda_fft.cc:607] Unable to register cuFFT factory: Attempting to register factory for plugin cuFFT",
    "x: E cuda_blas.cc:1515] Unable to register cuBLAS factory: Attempting to register factory for plugin cuBLAS",
    "x: W tensorflow/compiler/tf2tensorrt/utils/py_utils.cc:38] TF-TRT Warning: Could not find TensorRT",
    "x: I port.cc:113] oneDNN custom operations are on. You may see slightly different numerical results",
    "x: I cpu_feature_guard.cc:182] This TensorFlow binary is optimized to use available CPU instructions",
    "To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate "
    "compiler flags.",
    "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
]
NO_DRIVER = [
    "x: I cudart_stub.cc:31] Could not find cuda drivers on your machine, GPU will not be used.",
    "E0000 00:00:1.2 3 cuda_platform.cc:52] failed call to cuInit: INTERNAL: CUDA error: Failed call to cuInit: UNKNOWN ERROR (303)",
]
FINDINGS = [
    "x: W gpu_device.cc:2256] Cannot dlopen some GPU libraries. Skipping registering GPU devices...",
    "x: E cuda_driver.cc:268] failed to allocate 2.00G from device: CUDA_ERROR_OUT_OF_MEMORY",
    "DeprecationWarning: something of yours",
    "",
]


def test_known_noise_goes_and_findings_stay_in_order() -> None:
    mixed = [line for pair in zip(NOISE, FINDINGS * 2, strict=False) for line in pair]
    assert list(without_noise(mixed, nvidia_card=False)) == (FINDINGS * 2)[: len(NOISE)]


@pytest.mark.parametrize("card", [False, True])
def test_missing_driver_is_a_finding_only_where_there_is_a_card(card: bool) -> None:
    assert list(without_noise(NO_DRIVER, nvidia_card=card)) == (NO_DRIVER if card else [])


def test_nvidia_card_is_found_by_its_pci_numbers(tmp_path: Path) -> None:
    for name, vendor, kind in (
        ("a", "0x10de", "0x0c0330"),
        ("b", "0x1234", "0x030000"),
    ):  # its USB port, another's card
        (tmp_path / name).mkdir()
        (tmp_path / name / "vendor").write_text(vendor + "\n")
        (tmp_path / name / "class").write_text(kind + "\n")
    assert not has_nvidia_card(tmp_path)
    (tmp_path / "b" / "vendor").write_text("0x10de\n")
    assert has_nvidia_card(tmp_path)
    assert not has_nvidia_card(tmp_path / "nothing")


def test_filter_works_on_the_descriptor_and_when_the_body_raises(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), quiet_startup():
        os.write(2, (NOISE[0] + "\n" + FINDINGS[0] + "\n").encode())
        print("from Python", file=sys.stderr)
        raise KeyError
    print("afterwards", file=sys.stderr)
    captured = capfd.readouterr().err.splitlines()
    assert sorted(captured[:2]) == sorted([FINDINGS[0], "from Python"]) and captured[2:] == ["afterwards"]


def modules() -> list[Path]:
    """List the package's files."""
    return sorted(Path(tfaug.serving.__file__).parent.rglob("*.py"))


@pytest.mark.parametrize("path", modules(), ids=lambda path: path.stem)
def test_serving_imports_nothing_of_the_rest(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not [alias.name for alias in node.names if alias.name.split(".")[0] == "tfaug"]
        if isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] != "tfaug"
            assert node.level <= 1, "a relative import would leave the package"


def test_the_package_has_the_files_it_should() -> None:
    assert {"client", "codec", "grpc_service", "models", "rest", "server", "startup"} <= {
        path.stem for path in modules()
    }
