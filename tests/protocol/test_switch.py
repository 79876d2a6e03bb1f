"""The compiled loops run only where they were compiled and found faster beforehand."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from protocol import speed
from tests.protocol.compiled import compiled_kernels, uses_lanes


@pytest.fixture
def kernels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The loops with a cache folder that holds no record, in a process that has not decided."""
    compiled = compiled_kernels(with_hashing=uses_lanes())
    if compiled is None:
        pytest.skip("numba is not installed")
    from protocol.compiled import record  # needs numba

    monkeypatch.setattr(record, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(speed, "_asked", 0)
    monkeypatch.setattr(speed, "load", speed.load.__wrapped__)
    monkeypatch.setattr(speed, "break_even", speed.break_even.__wrapped__)
    return compiled


def write_record(**changes: Any) -> None:
    """Write the record of a machine with faster loops and SHA instructions, but for `changes`."""
    from protocol.compiled import record

    faster = record.Measured(record.fingerprint(), move_speedup=2.0, break_even_lanes=20.0)
    record.write(replace(faster, **changes))


def test_without_a_record_the_loops_stay_off(kernels: ModuleType) -> None:
    assert speed.kernels(speed.WORTH_LOADING_BYTES) is None
    assert speed.hashing(speed.WORTH_LOADING_BYTES) is None


def test_a_record_turns_the_loops_on_from_the_threshold(kernels: ModuleType) -> None:
    write_record()
    assert speed.kernels(speed.WORTH_LOADING_BYTES - 1) is None
    assert speed.kernels(1) is kernels
    assert speed.hashing(1) is None


@pytest.mark.slow
def test_lanes_are_used_once_there_are_messages_for_them(kernels: ModuleType) -> None:
    write_record(break_even_lanes=3.5)
    assert speed.hashing(speed.WORTH_LOADING_BYTES, messages=4) is kernels
    assert speed.hashing(1) is kernels
    assert speed.hashing(1, messages=3) is None


@pytest.mark.parametrize("changes", [{"fingerprint": ["another CPU"]}, {"move_speedup": 0.9}])
def test_a_record_of_another_machine_or_of_slower_loops_leaves_them_off(
    kernels: ModuleType, changes: dict[str, object]
) -> None:
    write_record(**changes)
    assert speed.load() is None


def test_a_damaged_record_leaves_the_loops_off(kernels: ModuleType, tmp_path: Path) -> None:
    write_record()
    (path,) = tmp_path.iterdir()
    for content in ("", "[]", '{"fingerprint": []}'):
        path.write_text(content)
        assert speed.load() is None


def test_prepared_loops_compile_nothing_else(kernels: ModuleType) -> None:
    with pytest.raises((RuntimeError, TypeError)):
        kernels.advance(np.zeros((8, 16), np.float64), np.zeros(16, np.int64), 0)
    assert len(kernels.advance.signatures) == 1


def test_warming_up_writes_the_record(
    kernels: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    from protocol.compiled import record, warm_up

    assert warm_up.main() == 0
    measured = record.read()
    assert measured is not None
    assert min(measured.move_speedup, measured.break_even_lanes) > 0
    assert "compiled loops: ready" in capsys.readouterr().out


THREADS = """
import sys, threading
from concurrent.futures import ThreadPoolExecutor
from protocol.compiled import kernels
sys.setswitchinterval(1e-6)
together = threading.Barrier(8)
def prepare(_):
    together.wait()
    kernels.prepare(with_hashing=False)
with ThreadPoolExecutor(8) as pool:
    list(pool.map(prepare, range(8)))
"""


def test_threads_that_need_the_loops_at_once_all_get_them() -> None:
    """An aggregator screens eight updates at a time, and all pass the threshold together."""
    if compiled_kernels(with_hashing=False) is None:
        pytest.skip("numba is not installed")
    done = subprocess.run([sys.executable, "-c", THREADS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
