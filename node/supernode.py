"""A participant's SuperNode: what can be wrong is looked at first, then Flower's program runs.

Flower starts a process for each message, in whose log a wrong chain or keystore would show only in
the middle of a round.
"""

import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from ethereum.wallet import Wallet
from node.follower import Follower, open_participant
from node.settings import ParticipantSettings
from protocol.errors import CommonweightError, Misconfigured, Unavailable
from runtime import events
from runtime.events import Report
from runtime.flower import flower_environment, flower_program
from runtime.processes import free_port, spawn_piped
from runtime.service import Service, alone

_ANSWER_SECONDS: Final = 10.0
_END_SECONDS: Final = 4.0
_NOT_LET_IN: Final = b"Exit Code: 305"  # Flower's SUPERNODE_CONNECTION_ERROR


@dataclass(frozen=True)
class Link:
    """The way to a SuperLink: HOST:PORT, who vouches for it (None: the system's list), our key."""

    superlink: str
    root_certificates: Path | None
    key: Path


def run_supernode(
    file: Path,
    settings: ParticipantSettings,
    link: Link,
    open_wallet: Callable[[], Wallet],
    service: Service,
    report: Report,
) -> None:
    """Check everything, join where that is due, and run `flower-supernode` until it ends.

    `file` is where `settings` come from. Misconfigured in one line when something is wrong or the
    SuperLink does not let us in; what is only unavailable is waited for.
    """
    if settings.password_file is None:
        raise Misconfigured(
            f"{file} names no password_file: a SuperNode starts a process for each message, "
            "and nobody could type the password"
        )
    check_key(link.key)
    with alone(settings.state, settings.keystore):
        wallet = open_wallet()
        report(events.Starting(participant=wallet.address))
        participant = service.insist(lambda: open_participant(settings, wallet, report))
        service.insist(lambda: check_superlink(link))
        follower = Follower(participant, settings)
        if service.insist(lambda: follower.stay_in(participant.federation.now())):
            report(events.Connecting(superlink=link.superlink))
            _run(_command(file, link), settings.state / "flower", link)


def check_key(key: Path) -> None:
    """Raise Misconfigured unless `key` is a file that its owner alone can read."""
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise Misconfigured(
            f"the SuperNode's key {key} cannot be read: {error.strerror}; "
            f"`ssh-keygen -t ecdsa -b 384 -N '' -f {key}` makes one"
        ) from error
    if mode & 0o077:
        raise Misconfigured(f"{key} can be read by others: run chmod 600 {key}")


def check_superlink(link: Link) -> None:
    """Raise Misconfigured unless the SuperLink proves to be who we mean; Unavailable when down."""
    host, _, port = link.superlink.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isdigit():
        raise Misconfigured(f"the SuperLink {link.superlink!r} was expected to be HOST:PORT")
    voucher = link.root_certificates or "the system's list of authorities"
    context = _context(link.root_certificates)
    try:
        with (
            socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            return
    except ssl.SSLCertVerificationError as error:
        raise Misconfigured(
            f"the certificate of the SuperLink at {link.superlink} is not vouched for by {voucher}:"
            f" {error.verify_message}"
        ) from error
    except ssl.SSLError as error:
        raise Misconfigured(
            f"what answers at {link.superlink} does not speak TLS: {error.reason}"
        ) from error
    except OSError as error:
        reason = error.strerror or "no answer"
        raise Unavailable(
            f"no SuperLink answers at {link.superlink}: {reason}", service="flower"
        ) from error


def _context(root_certificates: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=root_certificates)
    except ssl.SSLError as error:
        raise Misconfigured(f"{root_certificates} holds no certificate in PEM form") from error
    except OSError as error:
        raise Misconfigured(f"{root_certificates} cannot be read: {error.strerror}") from error


def _command(file: Path, link: Link) -> list[str]:
    trust = [] if link.root_certificates is None else ["--root-certificates", _path(link)]
    return [
        flower_program("flower-supernode"),
        *("--superlink", link.superlink, *trust),
        *("--auth-supernode-private-key", str(link.key.resolve())),
        *("--port", str(free_port())),  # of its own processes: nobody else has to reach it
        *("--node-config", f'participant="{file.resolve()}"'),
    ]


def _path(link: Link) -> str:
    assert link.root_certificates is not None
    return str(link.root_certificates.resolve())


def _run(command: list[str], home: Path, link: Link) -> None:
    """Run Flower's program to its end, with its output on stderr."""
    child = spawn_piped(command, home, flower_environment(home))
    assert child.stdout is not None
    seen = _Output(child.stdout)
    try:
        code = child.wait()
    finally:
        _end(child)
        seen.join(_END_SECONDS)
    if seen.was_refused:
        raise Misconfigured(
            f"the SuperLink at {link.superlink} does not let this SuperNode in: has its operator "
            f"run `flwr supernode register` with {link.key}.pub?"
        )
    if code:
        raise CommonweightError(f"flower-supernode ended with exit code {code}")


def _end(child: subprocess.Popen[bytes]) -> None:
    """End the SuperNode and what it has started: its SuperExec may outlive it."""
    child.terminate()
    try:
        child.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)


class _Output(threading.Thread):
    """Passes on what a program prints; `was_refused` once it says that it was not let in."""

    def __init__(self, lines: IO[bytes]) -> None:
        super().__init__(daemon=True)
        self.was_refused = False
        self._lines = lines
        self.start()

    def run(self) -> None:
        """Copy line after line to stderr."""
        for line in self._lines:
            self.was_refused |= _NOT_LET_IN in line
            sys.stderr.write(line.decode(errors="replace"))
            sys.stderr.flush()
