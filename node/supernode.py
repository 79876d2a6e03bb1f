"""A participant's SuperNode: check what can be wrong, then run Flower's program.

Flower starts a process for each message: a wrong chain or keystore would show only in its log, in
the middle of a round.
"""

import math
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NoReturn

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
_END_SECONDS: Final = 4.0  # below runtime.service.STOP_SECONDS, when this process is ended
_NOT_LET_IN: Final = b"Exit Code: 305"  # Flower's SUPERNODE_CONNECTION_ERROR
# A SuperLink waits for two heartbeats, each 30 s after the other (flwr 1.41), before it believes
# that a SuperNode has gone.
FORGOTTEN_S: Final = 75.0


@dataclass(frozen=True)
class Link:
    """How to reach a SuperLink: HOST:PORT, its certificate authorities, our key.

    `root_certificates` is a file in PEM form; None stands for the system's list.
    """

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
    """Check everything, join if that is due, and run `flower-supernode` until it ends.

    `file` is where `settings` come from. Raises Misconfigured, with one line, when something is
    wrong or the SuperLink refuses this SuperNode; what is only unavailable is waited for.
    """
    if settings.password_file is None:
        raise Misconfigured(
            f"{file} names no password_file: a SuperNode starts a process for each message, "
            "and nobody could type the password"
        )
    # 1. What needs no network.
    check_key(link.key)
    # 2. The wallet, held as long as Flower runs: two processes would do everything twice.
    with alone(settings.state, settings.keystore):
        wallet = open_wallet()
        report(events.Starting(participant=wallet.address))
        # 3. Chain, contract and content store, then the SuperLink; each is waited for.
        participant = service.insist(lambda: open_participant(settings, wallet, report))
        service.insist(lambda: check_superlink(link))
        # 4. The stake. Only then is there anything for Flower to do.
        follower = Follower(participant, settings)
        if service.insist(lambda: follower.stay_in(participant.federation.now())):
            report(events.Connecting(superlink=link.superlink))
            trust = link.root_certificates
            command = [
                flower_program("flower-supernode"),
                *("--superlink", link.superlink),
                *(("--root-certificates", str(trust.resolve())) if trust else ()),
                *("--auth-supernode-private-key", str(link.key.resolve())),
                *("--port", str(free_port())),  # of its own processes: nobody else has to reach it
                *("--node-config", f'participant="{file.resolve()}"'),
            ]
            refusals = Refusals(link)
            service.insist(lambda: _run_flower(command, settings.state / "flower", refusals))


def check_key(key: Path) -> None:
    """Raise Misconfigured unless `key` is a file that its owner alone can read."""
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise Misconfigured(
            f"the SuperNode's key {key} cannot be read: {error.strerror}; "
            f"`ssh-keygen -t ecdsa -b 384 -N '' -f {key}` makes one"
        ) from error
    # As ssh does: whoever has the key can take this SuperNode's place.
    if mode & 0o077:
        raise Misconfigured(f"{key} can be read by others: run chmod 600 {key}")


def check_superlink(link: Link) -> None:
    """Raise Misconfigured unless the SuperLink proves its identity; Unavailable when it is down."""
    host, _, port = link.superlink.rpartition(":")
    host = host.strip("[]")  # of an IPv6 address
    if not host or not port.isdigit():
        raise Misconfigured(f"the SuperLink {link.superlink!r} was expected to be HOST:PORT")
    voucher = link.root_certificates or "the system's list of authorities"
    try:
        context = ssl.create_default_context(cafile=link.root_certificates)
    except ssl.SSLError as error:
        raise Misconfigured(f"{voucher} holds no certificate in PEM form") from error
    except OSError as error:
        raise Misconfigured(f"{voucher} cannot be read: {error.strerror}") from error
    # In this order: a certificate error is an SSLError, and that is an OSError.
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


class Refusals:
    """What to make of a SuperLink that does not let this SuperNode in.

    Its answer is the same for a key that nobody registered, and for one whose SuperNode was killed
    and still counts as online.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._since = self._last = -math.inf

    def take(self) -> NoReturn:
        """Raise Unavailable while it may have to forget a dead SuperNode, then Misconfigured."""
        refused = f"the SuperLink at {self._link.superlink} does not let this SuperNode in"
        now = time.monotonic()
        if now >= self._last + FORGOTTEN_S:  # it was let in meanwhile
            self._since = now
        self._last = now
        if now < self._since + FORGOTTEN_S:
            raise Unavailable(
                f"{refused}: one with this key that was killed counts for a minute, or the key is"
                " not registered",
                service="flower",
            )
        raise Misconfigured(
            f"{refused}: has its operator run `flwr supernode register` with {self._link.key}.pub?"
        )


def _run_flower(command: list[str], home: Path, refusals: Refusals) -> None:
    """Run Flower's program to its end, with its output on stderr."""
    child = spawn_piped(command, home, flower_environment(home))
    assert child.stdout is not None
    seen = _Output(child.stdout)
    try:
        code = child.wait()
    finally:
        # Also after a signal, which arrives here as an exception: nothing may go on training.
        child.terminate()
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        # The whole group: the SuperExec that Flower starts may outlive the SuperNode.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
        # The last lines are still in the pipe, and say whether it was refused.
        seen.join(_END_SECONDS)
    if seen.was_refused:
        refusals.take()
    if code:
        raise CommonweightError(f"flower-supernode ended with exit code {code}")


class _Output(threading.Thread):
    """Copies what a program prints to stderr; `was_refused` once it says that it was not let in."""

    def __init__(self, lines: IO[bytes]) -> None:
        # A daemon: a grandchild that keeps the pipe open must not keep this process.
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
