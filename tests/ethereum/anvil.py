"""Chains under the tests: an anvil for all worlds of a process, and others for who asks."""

import atexit
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path

import pytest

from devnet.anvil import find_anvil
from devnet.daemons import eth_tester
from runtime.healthcheck import is_chain
from runtime.processes import free_port, is_running, spawn, stop

_START_S = 60.0

needs_anvil = pytest.mark.skipif(find_anvil() is None, reason="needs anvil (npm ci in contracts)")


@contextmanager
def running_anvil(*options: str | Path) -> Iterator[str]:
    """Yield the URL of a chain on a free port; it is stopped at the end."""
    binary = find_anvil()
    assert binary is not None, "anvil is not installed: run `npm ci` in contracts, as `make setup`"
    command = [binary, "--host", "127.0.0.1", "--port", "0", *map(str, options)]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "anvil.log"  # a pipe that nobody reads would fill up
        process = spawn(command, log)
        try:
            yield f"http://{_listening(process.pid, binary, log)}"
        finally:
            stop(process.pid)


@contextmanager
def running_tester() -> Iterator[str]:
    """Yield the URL of an eth-tester in a process of its own; it is stopped at the end."""
    with tempfile.TemporaryDirectory() as folder:
        program = eth_tester(Path(folder), free_port())
        process = spawn(program.command, program.log)
        try:
            deadline = time.monotonic() + _START_S
            while not is_chain(program.url):
                assert time.monotonic() < deadline, program.log.read_text()
                time.sleep(0.05)
            yield program.url
        finally:
            stop(process.pid)


@cache
def shared_anvil() -> str:
    """Return the URL of the chain that all worlds of this process share, until it ends.

    Each deploys a federation of its own; what one does to the clock only moves it ahead.
    """
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running_anvil("--slots-in-an-epoch", "1", "--prune-history", "64"))


def _listening(pid: int, binary: str, log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while is_running(pid, binary) and time.monotonic() < deadline:
        found = re.search(r"Listening on (127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found.group(1)
        time.sleep(0.01)
    raise RuntimeError(f"anvil does not listen: {log.read_text()[-300:]}")
