"""One daemon of the devnet in the foreground, as a container runs it.

`devnet.daemons` starts both in the background, for a person at a terminal.
"""

import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from devnet.anvil import anvil, find_anvil
from devnet.daemons import eth_tester
from devnet.ipfs.daemon import DevIpfsDaemon
from protocol.errors import Unavailable
from runtime.healthcheck import is_chain
from runtime.processes import check_port, free_port

_POLL_SECONDS: Final = 0.05


def serve_chain(folder: Path, host: str, port: int, block_time: float = 0) -> None:
    """Serve anvil with its state in `folder` until SIGTERM or SIGINT; without anvil, eth-tester.

    Prints one line on stdout once it answers: its URL. Raises Misconfigured when the port is taken,
    Unavailable when the chain does not start or ends by itself.
    """
    port = check_port(port, "the chain") if port else free_port()
    if find_anvil() is not None:
        program = anvil(folder, port, block_time, host)
    else:
        print("anvil is not installed: the chain is eth-tester, in memory only", file=sys.stderr)
        program = eth_tester(folder, port, host)
    stopped = threading.Event()
    _on_signals(lambda *_: stopped.set())
    # In a session of its own, so that Ctrl-C reaches the chain once only, through this process. Its
    # output goes to stderr, since stdout is for the URL.
    process = subprocess.Popen(program.command, stdout=sys.stderr, start_new_session=True)
    # 0.0.0.0 is an address to listen at, not one to connect to.
    here = "127.0.0.1" if host == "0.0.0.0" else host
    try:
        while not is_chain(f"http://{here}:{port}") and not stopped.wait(_POLL_SECONDS):
            _check(process)
        if not stopped.is_set():
            print(program.url, flush=True)
        while not stopped.wait(_POLL_SECONDS):
            _check(process)
    finally:
        process.terminate()
        process.wait()  # it writes its state to disk


def serve_ipfs(folder: Path, host: str, port: int) -> None:
    """Serve the dev IPFS daemon with its blocks in `folder` until SIGTERM or SIGINT.

    Prints one line on stdout once it answers: its URL. Raises Misconfigured when folder or port
    cannot be used.
    """
    stopped = threading.Event()
    _on_signals(lambda *_: stopped.set())
    with DevIpfsDaemon(folder / "ipfs", host, port) as daemon:
        print(daemon.url, flush=True)
        stopped.wait()


def _on_signals(handler: Callable[..., Any]) -> None:
    """Handle SIGTERM and SIGINT from now on."""
    # The kernel ignores signals that the first process of a container does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handler)


def _check(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        raise Unavailable(f"the chain ended with exit code {process.returncode}")
