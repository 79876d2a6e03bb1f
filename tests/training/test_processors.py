"""Training prints the same on every CPU: nothing of what bitsandbytes says of AVX512-BF16."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.long

AVX512_BF16 = Path(__file__).parent / "avx512_bf16"
ABOUT_KERNELS = "Failed to load CPU gemm_4bit_forward"
TRAIN_AND_WARN = """
import logging, runpy
runpy.run_module("tests.training.train_once", run_name="__main__")
for module in ("backends.cpu.ops", "nn.modules"):
    logging.getLogger(f"bitsandbytes.{module}").warning("%s is slow", module)
"""


def run_with_avx512_bf16(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python on a processor that says it has AVX512-BF16, whatever this one is."""
    path = os.pathsep.join([str(AVX512_BF16), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
        env=os.environ | {"PYTHONPATH": path, "OMP_WAIT_POLICY": "PASSIVE"},
    )


def test_bitsandbytes_alone_complains() -> None:
    """If this fails, bitsandbytes words it otherwise or has mended it: see training/__init__.py."""
    assert ABOUT_KERNELS in run_with_avx512_bf16("-c", "import bitsandbytes").stderr


def test_training_prints_nothing_and_other_warnings_are_printed(tiny_folder: str) -> None:
    done = run_with_avx512_bf16("-c", TRAIN_AND_WARN, tiny_folder)
    assert done.stdout.startswith("[")
    assert done.stderr == "backends.cpu.ops is slow\nnn.modules is slow\n"
