"""What runs in a process of its own during a schedule: a participant, an aggregator, chain, IPFS.

A role is the project's own command, `commonweight participant run` or `aggregator run`, in an
interpreter that was forked instead of started. Four things differ from an operator's: the trainer
moves every value of the model a little instead of training, waits are shorter, the role tells the
stage where it is and waits for leave to go on (so a fault can come exactly there), and it lives in
a network namespace.
"""

import ctypes
import json
import multiprocessing
import os
import signal
import socket
import sys
import threading
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal

import aggregator.leader
import chain.federation
import node.follower
import runtime.progress
import runtime.service
from commonweight.cli import main
from devnet.anvil import anvil
from devnet.ipfs.daemon import DevIpfsDaemon
from ethereum.rpc import connect
from ethereum.transactions import SendingLimits
from runtime.events import Event
from storage.ipfs import ContentStore
from tests.faults.hosts import enter
from tests.world import SyntheticTrainer

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h
_RPC_SECONDS: Final = 2.0
_IPFS_SECONDS: Final = 2.0
_LIMITS: Final = partial(
    SendingLimits, receipt_seconds=8.0, bump_after_seconds=1.0, displaced_seconds=0.6
)
Noun = Literal["participant", "aggregator"]


@dataclass(frozen=True)
class Job:
    """What a role's process needs to know; `examples` are those of a participant."""

    name: str
    noun: Noun
    config: Path
    log: Path
    hooks: str
    namespace: str | None
    examples: int


def run_role(job: Job) -> None:
    """Run a role's command until it ends; what it writes goes to its log."""
    if job.namespace is not None:
        enter(job.namespace)
    log = os.open(job.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.stdout = sys.stderr = os.fdopen(log, "w", buffering=1)
    _stand_in(job)
    main(args=[job.noun, "run", "--config", str(job.config)], prog_name="commonweight")


def _stand_in(job: Job) -> None:
    """Replace what the module's first lines name, in this process."""
    trainer = SyntheticTrainer(job.name, job.examples)
    runtime.progress.reporter = lambda path, who: Hook(job.hooks, job.name)
    runtime.service.FIRST_BACK_OFF_S = 0.2  # type: ignore[misc]
    runtime.service.LONGEST_BACK_OFF_S = 0.8  # type: ignore[misc]
    chain.federation.connect = partial(connect, timeout_s=_RPC_SECONDS, patience_s=_RPC_SECONDS)  # type: ignore[attr-defined]
    for module in (node.follower, aggregator.leader):
        changed: Any = module
        changed.SendingLimits = _LIMITS
        changed.ContentStore = partial(ContentStore, timeout_s=_IPFS_SECONDS)
    changed = node.follower
    changed.open_trainer = lambda *settings: trainer


def run_chain(folder: Path, port: int) -> None:
    """Become an anvil with its state in `folder`, which ends with the stage."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    command = anvil(folder, port).command
    os.execv(command[0], command)


def run_ipfs(repo: Path, port: int) -> None:
    """Serve the dev IPFS daemon of a folder until killed."""
    with DevIpfsDaemon(repo, port=port):
        _await_the_end()


def _await_the_end() -> None:
    """Wait until the stage's process ends, should it do so without killing this one."""
    stage = multiprocessing.parent_process()
    assert stage is not None
    stage.join()


class Hook:
    """A report that tells the stage where a role is, and waits until it may go on."""

    def __init__(self, path: str, name: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rw")
        self._name = name
        self._lock = threading.Lock()

    def __call__(self, event: Event) -> None:
        line = {"who": self._name, "phase": event.phase, **event.facts()}
        with self._lock:
            self._lines.write(json.dumps(line, default=str) + "\n")
            self._lines.flush()
            if not self._lines.readline():
                os._exit(1)  # the stage is gone
