"""What the faults of a schedule do, when a role gets to their point or their moment comes."""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from protocol.errors import CommonweightError
from protocol.types import RoundId
from tests.faults import disk
from tests.faults.schedule import LEAD, Fault, Moment, Point

if TYPE_CHECKING:
    from tests.faults.stage import Stage

_TOLD: Final = {
    "openRound": "opened",
    "fixSeed": "seed fixed",
    "commit": "committed",
    "reveal": "revealed",
    "propose": "proposed",
    "commitMasked": "committed",
    "revealMasked": "revealed",
    "sealSet": "sealed",
    "fixSketch": "sketches drawn",
    "unmask": "unmasked",
    "assist": "assisted",
    "voidRound": "voided",
    "finalize": "finalized",
}
"""What a role reports once it has seen its transaction mined."""


class Strikes:
    """Strikes and mends. `struck` has what really happened, `away` who is gone until called.

    `stops` has the height of the chain at each of its stops.
    """

    def __init__(self, stage: "Stage") -> None:
        self.struck: list[Fault] = []
        self.away: dict[str, Fault] = {}
        self.stops: list[int] = []
        self._stage = stage
        self._pending = list(stage.schedule.faults)
        self._drops: dict[tuple[str, str], tuple[Fault, Any]] = {}
        self._marks: dict[tuple[str, int | None], Any] = {}  # heights, for what is to be undone
        self._late_drops = 0
        self._lock = threading.RLock()
        self._timers: list[threading.Timer] = []
        self._is_closed = False

    def is_dropping(self) -> bool:
        """Whether a transaction that a role saw mined is still to be dropped."""
        with self._lock:
            return self._late_drops > 0

    def close(self) -> None:
        """Strike no more."""
        with self._lock:
            self._is_closed = True
            for timer in self._timers:
                timer.cancel()

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something later, unless all is over then."""
        timer = threading.Timer(seconds, action)
        timer.daemon = True
        with self._lock:
            if not self._is_closed:
                self._timers.append(timer)
                timer.start()

    def reached(self, who: str, point: str, round_id: int | None) -> bool:
        """Strike what is due at this point; False when who got there is dead or must not know."""
        if (who, point, round_id) == (LEAD, "opened", 1):
            for fault in self._take(lambda at: isinstance(at, Moment)):
                self.after(fault.at.seconds, lambda fault=fault: self._strike(fault))  # type: ignore
        self._drop_if_told(who, point)
        self._mark(point, round_id)
        due = self._take(lambda at: isinstance(at, Point) and at.is_at(who, point, round_id))
        for fault in due:
            self._strike(fault)
        is_unaware = point.startswith("after ") and bool(due)
        return self._stage.processes.is_up(who) and not is_unaware

    def call_home(self, names: set[str]) -> None:
        """Let those start again, after a while, who were away for a deadline."""
        for name in names:
            fault = self.away.pop(name)
            self._start_after(fault.seconds, name)

    def _take(self, is_due: Callable[[Point | Moment], bool]) -> list[Fault]:
        with self._lock:
            due = [fault for fault in self._pending if is_due(fault.at)]
            self._pending = [fault for fault in self._pending if fault not in due]
        return due

    def _strike(self, fault: Fault) -> None:
        if self._is_closed:
            return
        if fault.kind in ("reorg", "undo", "withhold"):
            self._take_back(fault)
            return
        if fault.kind == "full" and not os.path.ismount(self._stage.folder / fault.target):
            return
        self._stage.tell("stage", f"STRIKES: {fault}")
        self.struck.append(fault)
        match fault.kind:
            case "kill" | "stop":
                self._end(fault)
            case "away":
                self._stage.processes.kill(fault.target)
                self.away[fault.target] = fault
            case "cut":
                for service in ("rpc", "ipfs") if fault.detail == "both" else (fault.detail,):
                    self._cut(fault, service)
            case "rpc" | "omit" | "lie" | "drip":
                self._bend(fault)
            case "full":
                folder = self._stage.folder / fault.target
                disk.fill(folder)
                self.after(fault.seconds, lambda: disk.free(folder))

    def _take_back(self, fault: Fault) -> None:
        """Strike what was published: on the chain, or in the store."""
        assert isinstance(fault.at, Point)
        round_id = RoundId(fault.at.round_id)
        if fault.kind == "reorg":
            self._note_height(fault)  # it strikes once the transaction is mined
        elif fault.kind == "undo":
            self._drop(fault, self._marks.get((fault.detail, round_id)))
        elif self._stage.withhold(fault.target, round_id):
            self._stage.tell("stage", f"STRIKES: {fault}")
            self.struck.append(fault)

    def _bend(self, fault: Fault) -> None:
        service, how = "ipfs" if fault.kind == "lie" else "rpc", fault.detail
        if fault.kind == "drip":
            service, how = how.split(" ", 1)
        line = self._stage.line(fault.target, service)
        line.bend(how)
        self.after(fault.seconds, line.mend)

    def _end(self, fault: Fault) -> None:
        processes = self._stage.processes
        if fault.kind == "kill":
            processes.kill(fault.target)
        else:
            head = self._ask("eth_blockNumber")
            if head is not None:
                self.stops.append(int(head, 16))
            processes.stop(fault.target)
        self._start_after(fault.seconds, fault.target)

    def _start_after(self, seconds: float, name: str) -> None:
        def start() -> None:
            if name not in self.away:
                self._stage.tell(name, "is started again")
                self._stage.processes.start(name)

        self.after(seconds, start)

    def _cut(self, fault: Fault, service: str) -> None:
        host = self._stage.hosts.get(fault.target)
        if host is not None:
            host.unplug(service)
            self.after(fault.seconds, lambda: host.plug(service))
        else:
            line = self._stage.line(fault.target, service)
            line.bend("cut")
            self.after(fault.seconds, line.mend)

    # ----------------------------------------------------------------- reorgs

    def _mark(self, point: str, round_id: int | None) -> None:
        """Remember the chain before the round's first transaction that is to be undone."""
        wanted = {fault.detail for fault in self._stage.schedule.faults if fault.kind == "undo"}
        name, key = point.removeprefix("before "), (point.removeprefix("before "), round_id)
        if name != point and name in wanted and key not in self._marks:
            self._marks[key] = self._ask("eth_blockNumber")

    def _note_height(self, fault: Fault) -> None:
        """Remember the chain as it is now, before the transaction."""
        assert isinstance(fault.at, Point)
        mark = self._ask("eth_blockNumber")
        with self._lock:
            self._drops[fault.at.role, _TOLD[fault.detail]] = fault, mark

    def _drop_if_told(self, who: str, point: str) -> None:
        """Undo the chain once the role has seen its transaction mined, or a little later."""
        with self._lock:
            drop = self._drops.pop((who, point), None)
        if drop is None:
            return
        fault, mark = drop
        if fault.seconds < 1.0:  # before the role goes on
            self._drop(fault, mark)
        else:
            with self._lock:
                self._late_drops += 1
            self.after(fault.seconds - 1.0, lambda: self._drop_late(fault, mark))

    def _drop_late(self, fault: Fault, mark: Any) -> None:
        try:
            self._drop(fault, mark)
        finally:
            with self._lock:
                self._late_drops -= 1

    def _drop(self, fault: Fault, mark: Any) -> None:
        with self._lock:
            if self._is_closed:
                return
        head = self._ask("eth_blockNumber")
        if head is None or mark is None:
            return
        self._ask("anvil_reorg", int(head, 16) - int(mark, 16), [])
        self.struck.append(fault)
        self._stage.tell("stage", f"STRIKES: {fault} (the head was {int(head, 16)})")

    def _ask(self, method: str, *params: Any) -> Any:
        try:
            return self._stage.ask_chain(method, *params)
        except CommonweightError as error:
            self._stage.tell("stage", f"{method}: {error}")
            return None
