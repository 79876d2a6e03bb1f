"""A federation of processes on geth, with a Kubo for each role and synthetic training.

    with Network(folder, rounds=2) as network:
        network.start(*MEMBERS)
        network.await_phase("ann", "revealed", round=1)
        network.kubos["ann"].hold()

Roles are `commonweight participant run`, `aggregator run` and `audit watch`, a process each.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from chain.federation import Federation
from contracts.enums import Status
from ethereum.rpc import connect
from protocol.errors import CommonweightError
from protocol.types import RoundId
from runtime.processes import spawn
from tests.commonweight.program import ROOT
from tests.real.founding import AGGREGATOR, AUDITOR, ROLES, found, read_log, write_settings
from tests.real.geth import Geth
from tests.real.kubo import Kubo, running_mesh

# Long enough that nobody misses one for a fault; a phase ends when all have acted, so rounds are
# short all the same.
_WINDOWS: Final = {"commit_seconds": 180, "reveal_seconds": 180, "propose_seconds": 180}
_CHALLENGE_S: Final = 2
NOWHERE: Final = "http://127.0.0.1:9"
"""The IPFS daemon of a role that has none."""

_LOOK_S: Final = 0.2
_ANSWER_S: Final = 2.0  # no longer than that, or we stand still with a geth that is held
_STUCK_S: Final = 400.0


class Stuck(AssertionError):
    """What was waited for did not come in a long time."""


class Network:
    """See the module. `federation` reads the contract; `confirmations` are the roles'."""

    def __init__(self, folder: Path, *, rounds: int, confirmations: int = 2) -> None:
        self.folder = folder
        self.rounds = rounds
        self.confirmations = confirmations
        self._roles: dict[str, subprocess.Popen[bytes]] = {}
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.geth = stack.enter_context(Geth(self.folder / "geth"))
            self.kubos = self._start_kubos(stack)
            urls = dict.fromkeys(ROLES, NOWHERE)
            urls |= {name: daemon.url for name, daemon in self.kubos.items()}
            terms = {**_WINDOWS, "challenge_seconds": _CHALLENGE_S, "rounds": self.rounds}
            self.founded = found(self.folder, self.geth.url, urls, **terms)
            self.founded_at = self.geth.height()
            write_settings(self.founded, self.confirmations)
            self._prepare(stack)
            location = self.founded.location
            self.federation = Federation(
                connect(self.geth.url, timeout_s=_ANSWER_S),
                location.address,
                deployment_block=location.deployment_block,
            )
            stack.callback(self._end_roles)
            self._cleanup = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def _start_kubos(self, stack: ExitStack) -> dict[str, Kubo]:
        """Start a Kubo for each role that has one."""
        return stack.enter_context(running_mesh(self.folder / "kubo", ROLES))

    def _prepare(self, stack: ExitStack) -> None:
        """Change what was founded before any role starts."""

    # ------------------------------------------------------------------- roles

    def start(self, *names: str) -> None:
        """Start the processes of roles."""
        for name in names:
            self._roles[name] = spawn(
                [sys.executable, "-m", "tests.real.synthetic", *self._command(name)],
                self.log(name),
                environment={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            )

    def kill(self, name: str) -> None:
        """SIGKILL a role's process."""
        process = self._roles.pop(name)
        process.kill()
        process.wait()

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _command(self, name: str) -> list[str]:
        folder = self.folder / name
        if name != AUDITOR:
            noun = name if name == AGGREGATOR else "participant"
            config = str(folder / f"{noun}.toml")
            return [noun, "run", "--config", config, "--log-format", "json"]
        wallet = ["--keystore", str(folder / "wallet.json")]
        wallet += ["--password-file", str(folder / "wallet.password")]
        return ["audit", "watch", "--federation", str(folder / "federation.json"), *wallet]

    def _end_roles(self) -> None:
        for name in list(self._roles):
            self.kill(name)

    # ----------------------------------------------------------------- waiting

    def until(self, condition: Callable[[], bool], otherwise: str) -> None:
        """Return once `condition` holds; Stuck when that takes far too long."""
        deadline = time.monotonic() + _STUCK_S
        while True:
            with suppress(CommonweightError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise Stuck(otherwise)
            self.live(_LOOK_S)

    def live(self, seconds: float) -> None:
        """Let time pass."""
        time.sleep(seconds)

    def await_phase(self, name: str, phase: str, **facts: Any) -> None:
        """Return once a role reported `phase` with these facts."""
        wanted = {"phase": phase, **facts}

        def was_reported() -> bool:
            return any(wanted.items() <= line.items() for line in read_log(self.log(name)))

        self.until(was_reported, f"{name} never reported {wanted}")

    def status(self, round_id: RoundId | None = None) -> Status:
        """Return where a round stands, the newest by default; NONE before the first."""
        newest = self.federation.round_count() if round_id is None else round_id
        return self.federation.status(newest) if newest else Status.NONE
