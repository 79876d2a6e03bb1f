"""A federation of processes on geth and Kubo, while a schedule of faults plays.

    with Stage(folder, seed=1, faults=24, rounds=18) as stage:
        stage.play()        # until the federation is over; Stuck when it comes nowhere
    check(stage)            # tests/real/checks.py

Whichever role ends before the federation does is started again, as a container's engine would.
"""

import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from protocol.errors import CommonweightError
from tests.real.daemon import Daemon
from tests.real.founding import MEMBERS
from tests.real.network import Network, Stuck
from tests.real.schedule import GETH, Fault, make_schedule

_LOOK_S: Final = 0.2
_MOST_RESTARTS: Final = 60


class Stage(Network):
    """One schedule at play; see the module. What happens when is told on stdout."""

    def __init__(self, folder: Path, seed: int, faults: int, rounds: int) -> None:
        super().__init__(folder, rounds=rounds)
        self.schedule = make_schedule(seed, faults, rounds)
        self.struck: list[Fault] = []
        self._started = time.monotonic()
        self._restarts = 0

    def play(self) -> None:
        """Start all roles, strike what the schedule has, and return once all have gone home."""
        self.start(*MEMBERS)
        for fault in self.schedule:
            if not self._await_round(fault.round):
                break
            self.live(fault.delay)
            self._strike(fault)
        self._await_round(self.rounds + 1)
        self.until(self._have_gone_home, "the roles did not end with the federation")

    def tell(self, who: str, what: str) -> None:
        """Print a line of the trace."""
        print(f"{time.monotonic() - self._started:7.2f}  {who:<10}  {what}", flush=True)

    def live(self, seconds: float) -> None:
        """Let time pass, and start again whichever role ended too early."""
        deadline = time.monotonic() + seconds
        while True:
            self._supervise()
            left = deadline - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, _LOOK_S))

    def _supervise(self) -> None:
        for name, process in list(self._roles.items()):
            code = process.poll()
            if code is None or (code == 0 and self._is_over()):
                continue
            self.tell(name, f"ended with exit code {code}")
            self._restarts += 1
            if self._restarts > _MOST_RESTARTS:
                raise Stuck(f"{name} ended for the {self._restarts}th time")
            self.start(name)

    def _await_round(self, number: int) -> bool:
        """Return once round `number` was opened: True, or False when the federation is over."""
        known = self._round()
        while known < number:
            before = known
            self.until(
                lambda before=before: self._round() > before or self._is_over(),  # type: ignore[misc]
                f"round {before} does not end",
            )
            known = self._round()
            if known == before:
                return False
            self.tell("stage", f"round {known} is open, block {self.geth.height()}")
        return True

    def _round(self) -> int:
        with suppress(CommonweightError):
            return self.federation.round_count()
        return 0

    def _is_over(self) -> bool:
        with suppress(CommonweightError):
            return self.federation.is_over()
        return False

    def _have_gone_home(self) -> bool:
        """Whether all have ended."""
        return all(process.poll() is not None for process in self._roles.values())

    # ------------------------------------------------------------------ faults

    def _strike(self, fault: Fault) -> None:
        if fault.target in MEMBERS:
            self._begin(fault)
            self.kill(fault.target)
            self.live(fault.seconds)
            self.start(fault.target)
        elif fault.kind == "reorganise":
            self._reorganise(fault)
        elif fault.kind == "collect":
            self._begin(fault)
            self.kubos[_owner(fault.target)].collect_garbage()
        else:
            is_geth = fault.target == GETH
            self._take_away(fault, self.geth if is_geth else self.kubos[_owner(fault.target)])

    def _take_away(self, fault: Fault, daemon: Daemon) -> None:
        """Stop, kill or hold a daemon, and bring it back."""
        self._begin(fault)
        leave, come_back = {
            "stop": (daemon.stop, daemon.start),
            "kill": (daemon.kill, daemon.start),
            "hold": (daemon.hold, daemon.release),
        }[fault.kind]
        leave()
        self.live(fault.seconds)
        come_back()
        self.tell("stage", f"{fault.target} is back")

    def _reorganise(self, fault: Fault) -> None:
        """Undo blocks, but not those that founded the federation."""
        head = self.geth.height()
        target = max(head - fault.blocks, self.founded_at)
        if target < head:
            self._begin(fault, f", from {head} to {target}, {self.status().name}")
            self.geth.rewind(target)
        else:
            self.tell("stage", f"spares: {fault}")

    def _begin(self, fault: Fault, detail: str = "") -> None:
        self.struck.append(fault)
        self.tell("stage", f"STRIKES: {fault}{detail}")


def _owner(target: str) -> str:
    return target.removeprefix("kubo of ")
