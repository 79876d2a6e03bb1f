"""A federation of processes on geth, with a Kubo for each role, while a schedule plays.

    with Stage(folder, seed=1, faults=24) as stage:
        stage.play()        # until the federation is over; Stuck is raised when it comes nowhere
    check(stage)            # tests/real/checks.py

Geth, every Kubo and every role are processes. Roles are `commonweight participant run`,
`aggregator run` and `audit watch`, with synthetic training; whichever ends before the federation
does is started again, as a container's engine would.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from chain.events import Revealed
from chain.federation import Federation
from chain.records import Status
from chain.rpc import connect
from commonweight.processes import spawn
from protocol.errors import CommonweightError
from protocol.quantities import RoundId
from storage.ipfs import ContentStore
from tests.commonweight.program import ROOT
from tests.real.daemon import Daemon
from tests.real.founding import AGGREGATOR, AUDITOR, MEMBERS, ROLES, found, write_settings
from tests.real.geth import Geth
from tests.real.kubo import running_mesh
from tests.real.schedule import GETH, Fault, kubo, make_schedule

# Long enough that nobody misses one for a fault; a phase ends when all have acted, so rounds are
# short all the same.
_WINDOWS: Final = {"commit_seconds": 180, "reveal_seconds": 180, "propose_seconds": 180}
_CHALLENGE_S: Final = 2
_CONFIRMATIONS: Final = 2
_LOOK_S: Final = 0.2
_ANSWER_S: Final = 2.0  # no longer than that, or the stage stands still with a geth that is held
_STUCK_S: Final = 400.0  # without a new round
_MOST_RESTARTS: Final = 40


class Stuck(AssertionError):
    """The federation came nowhere for a long time."""


class Stage:
    """One schedule at play; see the module. `trace` tells what happened when."""

    def __init__(self, folder: Path, seed: int, faults: int, rounds: int) -> None:
        self.folder = folder
        self.seed = seed
        self.rounds = rounds
        self.schedule = make_schedule(seed, faults, rounds)
        self.struck: list[Fault] = []
        self.trace: list[str] = []
        self._started = time.monotonic()
        self._roles: dict[str, subprocess.Popen[bytes]] = {}
        self._restarts = 0
        self._cleanup = ExitStack()

    # ------------------------------------------------------------------- setup

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.geth = stack.enter_context(Geth(self.folder / GETH))
            self.kubos = stack.enter_context(running_mesh(self.folder / "kubo", ROLES))
            urls = {name: daemon.url for name, daemon in self.kubos.items()}
            terms = {**_WINDOWS, "challenge_seconds": _CHALLENGE_S, "rounds": self.rounds}
            self.founded = found(self.folder, self.geth.url, urls, **terms)
            write_settings(self.founded, _CONFIRMATIONS)
            self._founded_at = self.geth.height()
            location = self.founded.location
            self.federation = Federation(
                connect(self.geth.url, timeout_s=_ANSWER_S),
                location.address,
                deployment_block=location.deployment_block,
            )
            self.store = ContentStore(self.kubos[AUDITOR].url)
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

    # -------------------------------------------------------------------- play

    def play(self) -> None:
        """Start all roles, strike what the schedule has, and return once all have gone home."""
        for name in MEMBERS:
            self._start(name)
        for fault in self.schedule:
            if not self._await_round(fault.round):
                break
            self._live(fault.delay)
            self._strike(fault)
        self._await_round(self.rounds + 1)
        self._until(self._have_gone_home, "the roles did not end with the federation")

    def log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def tell(self, who: str, what: str) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{time.monotonic() - self._started:7.2f}  {who:<10}  {what}")

    def _await_round(self, number: int) -> bool:
        """Return once round `number` was opened: True, or False when the federation is over."""
        known = self._round()
        while known < number:
            if self._is_over():
                return False
            before = known

            def has_moved(before: int = before) -> bool:
                return self._round() > before or self._is_over()

            self._until(has_moved, f"round {before} does not end")
            known = self._round()
            if known > before:
                self.tell("stage", f"round {known} is open at block {self.geth.height()}")
        return True

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        deadline = time.monotonic() + _STUCK_S
        while True:
            with suppress(CommonweightError):
                if condition():
                    return
            if time.monotonic() > deadline:
                raise Stuck(otherwise)
            self._live(_LOOK_S)

    def _live(self, seconds: float) -> None:
        """Let time pass, and start again whichever role ended too early."""
        deadline = time.monotonic() + seconds
        while True:
            for name, process in list(self._roles.items()):
                if process.poll() is not None and not (process.returncode == 0 and self._is_over()):
                    self.tell(name, f"ended with exit code {process.returncode}")
                    self._restarts += 1
                    if self._restarts > _MOST_RESTARTS:
                        raise Stuck(f"{name} ended for the {self._restarts}th time")
                    self._start(name)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _LOOK_S))

    def _round(self) -> int:
        with suppress(CommonweightError):
            return self.federation.round_count()
        return 0

    def _status(self) -> Status:
        newest = self.federation.round_count()
        return self.federation.status(newest) if newest else Status.NONE

    def _is_over(self) -> bool:
        with suppress(CommonweightError):
            return self.federation.is_over()
        return False

    def _have_gone_home(self) -> bool:
        """Whether all but the watcher, which goes on for ever, have ended."""
        return all(
            process.poll() is not None for name, process in self._roles.items() if name != AUDITOR
        )

    # ------------------------------------------------------------------- roles

    def _start(self, name: str) -> None:
        noun = name if name == AGGREGATOR else "participant"
        folder = self.folder / name
        command = [noun, "run", "--config", str(folder / f"{noun}.toml"), "--log-format", "json"]
        if name == AUDITOR:
            command = ["audit", "watch", "--federation", str(folder / "federation.json")]
            command += ["--keystore", str(folder / "wallet.json")]
            command += ["--password-file", str(folder / "wallet.password")]
        self._roles[name] = spawn(
            [sys.executable, "-m", "tests.real.synthetic", *command],
            self.log(name),
            environment={"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )

    def _kill(self, name: str) -> None:
        process = self._roles.pop(name)
        process.kill()
        process.wait()

    def _end_roles(self) -> None:
        for name in list(self._roles):
            self._kill(name)

    # ------------------------------------------------------------------ faults

    def _strike(self, fault: Fault) -> None:
        if fault.target == kubo(AGGREGATOR) and fault.kind != "collect":
            # What an aggregator without its Kubo does: tests/real/test_known_faults.py.
            with self._aggregator_held():
                self._do(fault)
        else:
            self._do(fault)

    def _do(self, fault: Fault) -> None:
        if fault.target in MEMBERS:
            self._begin(fault)
            self._kill(fault.target)
            self._live(fault.seconds)
            self._start(fault.target)
            return
        daemon = self._daemon(fault.target)
        match fault.kind:
            case "reorganise":
                self._reorganise(fault)
                return
            case "stop":
                self._begin(fault)
                daemon.stop()
            case "hold":
                self._begin(fault)
                daemon.hold()
            case "kill":
                self._begin(fault)
                daemon.kill()
            case "collect":
                self._begin(fault)
                self.kubos[fault.target.removeprefix("kubo of ")].collect_garbage()
                return
        self._live(fault.seconds)
        if fault.kind == "hold":
            daemon.release()
        else:
            daemon.start()
        self.tell("stage", f"{fault.target} is back")

    def _begin(self, fault: Fault, detail: str = "") -> None:
        self.struck.append(fault)
        self.tell("stage", f"STRIKES: {fault}{detail}")

    def _daemon(self, target: str) -> Daemon:
        return self.geth if target == GETH else self.kubos[target.removeprefix("kubo of ")]

    def _reorganise(self, fault: Fault) -> None:
        """Undo blocks, but none that a proposal rests on: see tests/real/test_known_faults.py."""
        head = self.geth.height()
        target = max(head - fault.blocks, self._floor())
        if target < head:
            self._begin(fault, f", from {head} to {target}, {self._status().name}")
            self.geth.rewind(target)
        else:
            self.tell("stage", f"spares: {fault}")

    def _floor(self) -> int:
        """Return the block below which nothing may be undone: the last reveal of a whole round."""
        newest = self.federation.round_count()
        is_whole = newest and self.federation.status(newest) not in (Status.COMMIT, Status.REVEAL)
        last = newest if is_whole else newest - 1
        revealed = [
            event.block_number
            for event in self.federation.read_events()
            if isinstance(event, Revealed) and event.round <= RoundId(last)
        ]
        return max(revealed, default=self._founded_at)

    @contextmanager
    def _aggregator_held(self) -> Iterator[None]:
        """Hold the aggregator still for the block, in a phase in which it waits for others."""
        self._until(lambda: self._status() is Status.COMMIT or self._is_over(), "no commit phase")
        self._roles[AGGREGATOR].send_signal(signal.SIGSTOP)
        try:
            yield
            others = [each for name, each in self.kubos.items() if name != AGGREGATOR]
            self.kubos[AGGREGATOR].await_peers(others)
        finally:
            with suppress(ProcessLookupError):
                os.kill(self._roles[AGGREGATOR].pid, signal.SIGCONT)
