"""One daemon of the devnet in the foreground, as a container runs it.

`commonweight.devnet` starts both in the background instead, for a person at a terminal.
"""

import signal
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import click


class _Daemon(Protocol):
    @property
    def url(self) -> str: ...


def serve_chain(folder: Path, host: str, port: int) -> None:
    """Serve the dev chain kept in `folder` until SIGTERM or SIGINT.

    It goes on where it was, with the clock as if it had never been off. Its URL is the one line on
    stdout, once it answers. Misconfigured when folder or port cannot be used.
    """
    from chain.devchain import DevChain

    _serve(DevChain(folder / "chain.jsonl", host, port))


def serve_ipfs(folder: Path, host: str, port: int) -> None:
    """Serve the dev IPFS daemon with its blocks in `folder` until SIGTERM or SIGINT.

    Its URL is the one line on stdout, once it answers. Misconfigured when folder or port cannot be
    used.
    """
    from storage.dev_daemon import DevIpfsDaemon

    _serve(DevIpfsDaemon(folder / "ipfs", host, port))


def _serve(daemon: AbstractContextManager[_Daemon]) -> None:
    stopped = threading.Event()
    # Before the daemon starts: a long journal is replayed then, and the first process of a
    # container is deaf to signals that it does not handle.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with daemon as running:
        click.echo(running.url)
        stopped.wait()
