"""Recomputes followed federations in the background, by the auditor's own code and cache.

    audits = Audits(folder)
    audits.start()
    audits.want(following)          # once, and again whenever a round of it changes
    audits.of(address).of_round(3)  # its checks, or None

One audit at a time. The first one of a federation recomputes all of its rounds, but for those that
this machine has recomputed before; later ones only rounds that are new or have changed. A failed
check and one that could not be made are never mixed up.
"""

import threading
import time
from collections import OrderedDict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

from auditor.cache import CONFIRMATIONS, AuditCache
from auditor.check_result import CheckResult
from auditor.replay import Audit
from chain.development import is_development_chain
from chain.history import RoundHistory
from explorer.following import Following
from protocol.errors import CommonweightError
from protocol.types import Address, RoundId
from runtime.service import one_line

Standing = Literal["waiting", "running", "done"]
Result = Literal["passed", "failed", "unchecked"]

_AGAIN_S: Final = 60.0  # before what could not be checked is tried once more
_PAUSE_S: Final = 0.5


@dataclass(frozen=True)
class RoundAudit:
    """The checks of one round as this machine made them, at `made_at` in Unix seconds.

    `told` is the history that they are of, `block` the block that they were made at.
    """

    told: RoundHistory
    checks: tuple[CheckResult, ...]
    block: int
    made_at: float
    from_cache: bool

    @property
    def result(self) -> Result:
        """Whether all passed, one failed, or none failed and not all could be made."""
        return result_of(self.checks)

    @property
    def may_change(self) -> bool:
        """Whether something could not be checked that another look may find."""
        return any(check.unchecked and not check.lasting for check in self.checks)


@dataclass(frozen=True)
class FederationAudit:
    """What this machine recomputed of a federation so far.

    `general` are the checks that are of no round; `rounds` those of each. While an audit runs,
    `doing` says where it is, and `done` of `planned` rounds are through. `error` is why the last
    audit ended early.
    """

    standing: Standing = "waiting"
    general: tuple[CheckResult, ...] = ()
    rounds: dict[RoundId, RoundAudit] = field(default_factory=dict)
    block: int | None = None
    made_at: float | None = None
    done: int = 0
    planned: int = 0
    doing: str = ""
    error: str | None = None

    def of_round(self, told: RoundHistory) -> RoundAudit | None:
        """Return the audit of a round; None where it was not audited, or went on since then."""
        found = self.rounds.get(told.round_id)
        return found if found is not None and _same(found.told, told) else None

    @property
    def has_spec(self) -> bool:
        """Whether the spec was there, without which no round is audited."""
        return any(check.claim.startswith("the spec is") and check.passed for check in self.general)

    @property
    def checks(self) -> list[CheckResult]:
        """All checks, those of the federation first."""
        return [*self.general, *(c for each in self.rounds.values() for c in each.checks)]


def result_of(checks: Collection[CheckResult]) -> Result:
    """Return what checks come to; without any, nothing is known."""
    if any(check.failed for check in checks):
        return "failed"
    return "passed" if checks and not any(c.unchecked for c in checks) else "unchecked"


class Audits:
    """Audits federations one after the other, in a thread of its own.

    `folder` is where the auditor's cache is. Without `enabled` nothing is ever recomputed.
    """

    def __init__(self, folder: Path, *, enabled: bool = True) -> None:
        self.enabled = enabled
        self._folder = folder
        self._wanted: OrderedDict[Address, Following] = OrderedDict()
        self._known: dict[Address, FederationAudit] = {}
        self._tried: dict[Address, tuple[float, frozenset[tuple[RoundId, int]]]] = {}
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="audits", daemon=True)

    def start(self) -> None:
        """Begin with what is wanted."""
        if self.enabled:
            self._thread.start()

    def stop(self) -> None:
        """Begin no other round; the one that is recomputed is left to its end or the process's."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def want(self, following: Following) -> None:
        """Recompute a federation, and whatever changes in it from now on."""
        self._wanted.setdefault(following.federation.address, following)

    def of(self, address: Address) -> FederationAudit:
        """Return what was recomputed of a federation so far."""
        return self._known.get(address, FederationAudit())

    # ----------------------------------------------------------------- the work

    def _work(self) -> None:
        while not self._stopped.wait(_PAUSE_S):
            for address, following in list(self._wanted.items()):
                due = self._due(address, following)
                if due is None or self._stopped.is_set():
                    continue
                try:
                    self._audit(following, due)
                except (CommonweightError, OSError) as error:
                    reason = str(error) if isinstance(error, CommonweightError) else one_line(error)
                    self._note(following, standing="done", error=reason, doing="")

    def _due(self, address: Address, following: Following) -> frozenset[RoundId] | None:
        """Return the rounds to recompute now, none for all; None when there is nothing to do.

        What this returns counts as tried: the same is due again after a minute.
        """
        known, history = self.of(address), following.newest
        tried_at, tried = self._tried.get(address, (-_AGAIN_S, frozenset()))
        may_try_again = time.monotonic() - tried_at >= _AGAIN_S
        if history is None:
            return None
        if known.made_at is None or not known.has_spec:
            if may_try_again:
                self._tried[address] = time.monotonic(), frozenset()
            return frozenset() if may_try_again else None
        judged = [each for each in history.rounds.values() if each.proposed or each.ended]
        due = {each.round_id for each in judged if known.of_round(each) is None}
        if may_try_again:
            due |= {n for n, each in known.rounds.items() if each.may_change}
        state = frozenset((number, len(history.round(number).events)) for number in due)
        if not due or (state == tried and not may_try_again):
            return None
        self._tried[address] = time.monotonic(), state
        return frozenset(due)

    def _audit(self, following: Following, due: frozenset[RoundId]) -> None:
        """Recompute rounds of a federation, all of them where none are named."""
        federation = following.federation
        self._note(following, standing="running", doing="reading the chain", error=None, done=0)
        # A block on a chain to try things on is never undone, and few are mined on top.
        confirmations = 0 if is_development_chain(federation.chain_id) else CONFIRMATIONS
        cache = AuditCache(self._folder, federation, confirmations, keeps_events=False)
        with cache.held():
            audit = Audit(federation, following.store, cache.files, cache)
            planned = len(due or audit.history.rounds)
            self._note(following, planned=planned, block=audit.block)
            self._take(following, audit, audit.run(due or None))

    def _take(self, following: Following, audit: Audit, checks: Iterable[CheckResult]) -> None:
        """Take over an audit's checks round by round, as they come."""
        general: list[CheckResult] = []
        of_round: list[CheckResult] = []
        number: RoundId | None = None

        def finish() -> None:
            if number is not None:
                known = self.of(following.federation.address)
                made = RoundAudit(
                    audit.history.rounds[number],
                    tuple(of_round),
                    audit.block,
                    time.time(),
                    number in audit.from_cache,
                )
                rounds = {**known.rounds, number: made}
                self._note(following, rounds=rounds, done=known.done + 1)

        for check in checks:
            if self._stopped.is_set():
                return
            if check.round_id != number:
                finish()
                number, of_round = check.round_id, []
                where = "the federation" if number is None else f"round {number}"
                self._note(following, doing=f"recomputing {where}")
            (general if number is None else of_round).append(check)
        finish()
        known = self.of(following.federation.address)
        # A round that a reorganisation undid is no more.
        rounds = {n: each for n, each in known.rounds.items() if n in audit.history.rounds}
        # An audit of some rounds does not look at the initial model again.
        claims = {check.claim for check in general}
        kept = [c for c in known.general if c.claim not in claims and c.section == "§4"]
        self._note(
            following,
            standing="done",
            general=(*general[:3], *kept, *general[3:]),
            rounds=rounds,
            made_at=time.time(),
            block=audit.block,
            doing="",
        )

    def _note(self, following: Following, **changes: object) -> None:
        address = following.federation.address
        self._known[address] = replace(self.of(address), **changes)  # type: ignore[arg-type]
        following.bump()


def _same(first: RoundHistory, second: RoundHistory) -> bool:
    """Whether two histories of a round have the same events."""
    # Events are only added but by a reorganisation, which gives the last one another key.
    if first is second:
        return True
    ends = [each.events[-1].key if each.events else None for each in (first, second)]
    return len(first.events) == len(second.events) and ends[0] == ends[1]
