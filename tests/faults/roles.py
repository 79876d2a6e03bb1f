"""What runs in a process of its own during a schedule: a participant, an aggregator, chain, IPFS.

The roles are the project's own, followers of the contract; only the trainer is a stand-in, which
moves every value a little, and pauses are shorter. Each tells the stage where it is and waits for
leave to go on: so a fault can come exactly there.
"""

import json
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from aggregator.ledger import Leader, PatientCoordinator
from aggregator.settings import AggregatorSettings
from chain.devchain.server import DevChain
from chain.federation import Federation
from chain.rpc import connect
from chain.transactions import Sender, SendingLimits
from chain.wallet import Wallet
from node.ledger import Follower
from node.participant import Participant
from node.settings import ParticipantSettings
from protocol.errors import CommonweightError
from protocol.quantities import Address
from storage import service as pauses
from storage.dev_daemon import DevIpfsDaemon
from storage.ipfs import ContentStore
from storage.progress import combine, last_line_reporter
from storage.service import Service, alone
from tests.world import SyntheticTrainer

GAVE_UP: Final = 3
"""Exit code of a role that ended with one of the project's own errors."""

_RPC_SECONDS: Final = 1.5
_IPFS_SECONDS: Final = 1.5
_LIMITS: Final = SendingLimits(receipt_seconds=8.0, bump_after_seconds=1.0, displaced_seconds=0.6)


@dataclass(frozen=True)
class Job:
    """What a role's process needs to know."""

    name: str
    key: bytes
    state: Path
    log: Path
    hooks: str
    rpc_url: str
    ipfs_url: str
    address: Address
    deployment_block: int
    participants: int
    examples: int
    confirmations: int


def run_participant(job: Job) -> None:
    """Take part until the federation is over."""

    def run(report: Callable[..., None], service: Service) -> None:
        settings = ParticipantSettings(
            **_common(job), data=job.state, model="synthetic", rejoin=True
        )
        with alone(job.state, settings.keystore):
            trainer = SyntheticTrainer(job.name, job.examples)
            participant = service.insist(
                lambda: Participant(_federation(job), _store(job), trainer, job.state, report)
            )
            service.keep(Follower(participant, settings, service).step)

    _run(job, run)


def run_aggregator(job: Job) -> None:
    """Play the rounds until the federation is over."""

    def run(report: Callable[..., None], service: Service) -> None:
        settings = AggregatorSettings(**_common(job), min_participants=job.participants)
        with alone(job.state, settings.keystore):
            coordinator = service.insist(
                lambda: PatientCoordinator(_federation(job), _store(job), job.state, report)
            )
            coordinator.wait = service.pause
            coordinator.confirmations = settings.confirmations
            service.keep(Leader(coordinator, settings, service).step)

    _run(job, run)


def run_chain(journal: Path, port: int) -> None:
    """Serve the dev chain of a journal until killed."""
    with DevChain(journal, port=port):
        threading.Event().wait()


def run_ipfs(repo: Path, port: int) -> None:
    """Serve the dev IPFS daemon of a folder until killed."""
    with DevIpfsDaemon(repo, port=port):
        threading.Event().wait()


def _common(job: Job) -> dict[str, Any]:
    keystore = job.log.with_suffix(".key")
    keystore.touch()
    return {
        "federation": keystore,
        "keystore": keystore,
        "state": job.state,
        "poll_seconds": 0.15,
        "confirmations": job.confirmations,
    }


def _federation(job: Job) -> Federation:
    w3 = connect(job.rpc_url, timeout_s=_RPC_SECONDS)
    journal = job.state / "transactions.json"
    sender = Sender(w3, Wallet.from_key(job.key), _LIMITS, journal)
    return Federation(w3, job.address, sender, deployment_block=job.deployment_block)


def _store(job: Job) -> ContentStore:
    return ContentStore(job.ipfs_url, timeout_s=_IPFS_SECONDS)


def _run(job: Job, run: Callable[[Callable[..., None], Service], None]) -> None:
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    pauses.FIRST_BACK_OFF_S, pauses.LONGEST_BACK_OFF_S = 0.2, 0.8  # type: ignore[misc]
    tell = Hook(job.hooks, job.name)
    report = combine(last_line_reporter(job.state, job.name), tell)
    try:
        run(report, Service(report, 0.15))
    except CommonweightError as error:
        tell("gave up", reason=str(error))
        sys.exit(GAVE_UP)


class Hook:
    """Tells the stage where a role is, and waits until it may go on."""

    def __init__(self, path: str, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rw")
        self._name = name
        self._lock = threading.Lock()

    def __call__(self, phase: str, **facts: Any) -> None:
        line = {"time": time.time(), "who": self._name, "phase": phase, **facts}
        with self._lock:
            self._lines.write(json.dumps(line, default=str) + "\n")
            self._lines.flush()
            if not self._lines.readline():
                os._exit(1)  # the stage is gone
