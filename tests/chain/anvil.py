"""A Foundry chain, for what the dev chain cannot show: transactions that wait in a pool."""

import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_INSTALLED = Path(__file__).resolve().parents[2] / "contracts" / "node_modules" / ".bin" / "anvil"
_START_S = 20.0


def find_anvil() -> str | None:
    """Return the path of anvil, from contracts/node_modules or the PATH."""
    return str(_INSTALLED) if _INSTALLED.exists() else shutil.which("anvil")


needs_anvil = pytest.mark.skipif(find_anvil() is None, reason="needs anvil (npm ci in contracts)")


@contextmanager
def running_anvil(*options: str | Path) -> Iterator[str]:
    """Yield the URL of a chain on a free port; it is stopped at the end."""
    command = [str(find_anvil()), "--host", "127.0.0.1", "--port", "0", *map(str, options)]
    with tempfile.NamedTemporaryFile() as log:  # a pipe that nobody reads would fill up
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            yield f"http://{_listening(process, Path(log.name))}"
        finally:
            process.terminate()
            process.wait(timeout=10)


def _listening(process: "subprocess.Popen[bytes]", log: Path) -> str:
    deadline = time.monotonic() + _START_S
    while process.poll() is None and time.monotonic() < deadline:
        found = re.search(r"Listening on (127\.0\.0\.1:\d+)", log.read_text())
        if found:
            return found.group(1)
        time.sleep(0.02)
    raise RuntimeError(f"anvil does not listen: {log.read_text()[-300:]}")
