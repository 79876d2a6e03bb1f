"""Start child processes that do not outlive their purpose, and find ports for them."""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

import psutil

from protocol.errors import Misconfigured

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_POLL_SECONDS: Final = 0.05


def spawn(
    command: Sequence[str],
    log: Path,
    *,
    outlive: bool = False,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command` with its output in `log`, in a session of its own and the folder of the log.

    On Linux it gets SIGTERM when this process dies, even by SIGKILL, unless it may `outlive` it.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return _start(command, output, log.parent, environment, outlive=outlive)


def spawn_piped(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` in `folder` as `spawn` does, with all its output to be read from `stdout`."""
    folder.mkdir(parents=True, exist_ok=True)
    return _start(command, subprocess.PIPE, folder, environment, outlive=False)


def _start(
    command: Sequence[str],
    output: IO[bytes] | int,
    folder: Path,
    environment: Mapping[str, str] | None,
    *,
    outlive: bool,
) -> subprocess.Popen[bytes]:
    # In a folder of its own: Python looks for packages where it is started, and ours have plain
    # names. In a session of its own: Ctrl-C in the terminal does not reach it.
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        cwd=folder,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
        preexec_fn=None if outlive or sys.platform != "linux" else _die_with_parent,
    )


def stop(pid: int, seconds: float = 10.0) -> None:
    """Ask the process to end and wait; kill it when it does not within `seconds`."""
    for name in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.kill(pid, name)
        except ProcessLookupError:
            return
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                # A child of ours would stay a zombie, which still has its id, until it is waited
                # for. Of another's process only its presence is visible.
                if os.waitpid(pid, os.WNOHANG)[0] == pid:
                    return
            except ChildProcessError:
                try:
                    os.kill(pid, 0)
                except ProcessLookupError:
                    return
            time.sleep(_POLL_SECONDS)


def is_running(pid: int, mark: str) -> bool:
    """Whether process `pid` runs a command line that contains `mark`."""
    # The id alone would not do: after a restart of the machine it may be another program's.
    try:
        return mark in " ".join(psutil.Process(pid).cmdline())
    except psutil.Error:  # no such process, or one that we may not see
        return False


def free_port() -> int:
    """Return a TCP port that nothing listens on now."""
    # Another program may take it before the caller does.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def check_port(port: int, purpose: str) -> int:
    """Return `port` when it is free; Misconfigured otherwise."""
    with socket.socket() as probe:
        # As servers do: the port of a daemon that has just ended is free for the next.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise Misconfigured(f"port {port} for {purpose}: {error.strerror}") from error
    return port


def _die_with_parent() -> None:
    # Runs in the child between fork and exec. A handler of ours would not run after a SIGKILL; the
    # kernel's signal comes whatever ended the parent.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
