"""Watches a federation and has each proposal judged inside its challenge window (§11).

    watch(federation, store, folder, print, stopped.is_set)

Nothing is kept on disk: a watcher that starts anew reads from the chain how far things are.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.disputes import judge, settle_requests
from auditor.replay import Audit
from chain.events import Proposed
from chain.federation import Federation
from chain.history import RoundHistory
from contracts.enums import Status
from protocol.errors import CommonweightError
from protocol.types import Address
from storage.ipfs import ContentStore

_POLL_SECONDS: Final = 0.5
_AGAIN_SECONDS: Final = 2.0  # before asking again for bytes that could not be had
_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\d+")  # told once, not again with every block


def watch(
    federation: Federation,
    store: ContentStore,
    workspace: Path,
    report: Callable[[str], None],
    is_stopped: Callable[[], bool],
    *,
    once: bool = False,
) -> None:
    """Judge each proposal in its challenge window, challenge the wrong ones, until stopped.

    `report` hears one line a finding. With `once`, returns after the first proposal that was
    judged, or whose window closed over what could only be reported.
    """
    watcher = Watcher(federation, store, workspace, report)
    while not is_stopped():
        watcher.look()
        if once and watcher.judged:
            return
        time.sleep(_POLL_SECONDS)


@dataclass
class _Pending:
    """A proposal that is not judged yet: how often it was tried, and when it is worth it again."""

    proposed: Proposed
    tries: int = 0
    again_at: float = 0.0
    events: int = 0


class Watcher:
    """Looks at one federation's newest round again and again.

    `judged` are the keys of proposals of which the last word was said.
    """

    def __init__(
        self,
        federation: Federation,
        store: ContentStore,
        workspace: Path,
        report: Callable[[str], None],
    ) -> None:
        self.federation = federation
        self.store = store
        self.workspace = workspace
        self.report = report
        self.judged: set[object] = set()
        self._told: set[str] = set()
        self._active: Address | None = None
        self._pending: _Pending | None = None

    def look(self) -> None:
        """Do what there is to do now. A node that is down is told of, and may come back."""
        try:
            self._look()
        except CommonweightError as error:
            line = f"cannot judge now, trying again: {error}"
            self._tell(line, _NUMBER.sub("#", line))

    def _look(self) -> None:
        # State and logs of one mined block; what waits in a pool may never come.
        now = self.federation.now()
        active = self._tell_active(now)
        newest = now.round_count()
        if not newest:
            return
        told = now.history().round(newest)
        settled = list(settle_requests(self.federation, told.open_requests))
        for line in settled:
            self._tell(line)
        if settled:
            return  # this history is of before it
        status = now.status(newest, now.head)
        if status is Status.EXPIRED:
            self._tell(f"round {newest}: {active} is late, anybody may hand the round on")
        self._tell_refuted(told)
        standing = told.proposed if status is Status.CHALLENGE else None
        self._close(standing)
        if standing is None or standing.key in self.judged:
            return
        self._pending = self._pending or _Pending(standing)
        if len(told.events) != self._pending.events or time.monotonic() >= self._pending.again_at:
            self._pending.events = len(told.events)
            self._pending.again_at = time.monotonic() + _AGAIN_SECONDS
            self._judge(self._pending)

    def _judge(self, pending: _Pending) -> None:
        """Judge a proposal; ask for bytes twice before a deposit is spent on requesting them."""
        audit = Audit(self.federation, self.store, self.workspace)
        context = audit.context(pending.proposed.round)
        standing = context.told.proposed
        if standing is None or standing.key != pending.proposed.key:
            return  # refuted meanwhile, or in another block after a reorganisation
        if not pending.tries:
            for check in audit.check_round(context):
                if not check.passed:
                    self._tell(check.line())
        for line, is_final in judge(audit, context, may_request=pending.tries > 0):
            self._tell(line)
            if is_final:
                self.judged.add(pending.proposed.key)
        pending.tries += 1

    def _close(self, standing: Proposed | None) -> None:
        """Have done with a proposal that is no longer open to challenge, judged or not."""
        pending = self._pending
        if pending is None or (standing is not None and standing.key == pending.proposed.key):
            return
        self._pending = None
        if standing is not None and standing.root == pending.proposed.root:
            return  # a reorganisation put it into another block
        if pending.proposed.key not in self.judged:
            self._tell(f"round {pending.proposed.round}: the proposal can no longer be challenged")
            self.judged.add(pending.proposed.key)

    def _tell_active(self, now: Federation) -> Address:
        """Return the active aggregator; report when it is another one than at the last look."""
        before, self._active = self._active, now.current_aggregator()
        if before not in (None, self._active):
            self.report(f"the lead passed from {before} to {self._active}")
        return self._active

    def _tell_refuted(self, told: RoundHistory) -> None:
        for event in told.refuted:
            words = f"{event.aggregator} was refuted"
            if not any(words in line for line in self._told):
                reward = f"{event.reward:,} token units to {event.challenger}"
                self._tell(f"round {told.round_id}: {words}, {reward}")

    def _tell(self, line: str, key: str | None = None) -> None:
        if (key or line) not in self._told:  # what is tried again is not told again
            self.report(line)
        self._told.add(key or line)
