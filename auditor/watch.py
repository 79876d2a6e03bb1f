"""Watches a federation and judges each proposal inside its challenge window (§11).

    watch(federation, store, folder, print, stopped.is_set)

Nothing is kept on disk: a watcher that was restarted reads the state of affairs from the chain.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from auditor.disputes import judge, settle_requests
from auditor.replay import Audit
from chain.development import is_development_chain
from chain.events import Proposed
from chain.federation import Federation
from chain.history import RoundHistory
from contracts.enums import Status
from protocol.errors import CommonweightError
from protocol.types import Address
from rounds.prune import prune
from runtime.service import one_line
from storage.blocks import Store

_POLL_SECONDS: Final = 0.5
_CONFIRMATIONS: Final = 12
_AGAIN_SECONDS: Final = 2.0  # before asking again for bytes that were unavailable
# Errors that differ only in numbers count as one, or each new block would report them again.
_NUMBER: Final = re.compile(r"0x[0-9a-f]+|\d+")


def watch(
    federation: Federation,
    store: Store,
    workspace: Path,
    report: Callable[[str], None],
    is_stopped: Callable[[], bool],
    *,
    once: bool = False,
) -> None:
    """Judge each proposal in its challenge window and challenge the wrong ones, until stopped.

    `report` is called with one line per finding. Returns when the federation is over, and with
    `once` after the first proposal that was judged, or whose window closed before it could be.
    """
    watcher = Watcher(federation, store, workspace, report)
    while not is_stopped():
        watcher.look()
        if once and watcher.judged:
            return
        if watcher.is_done:
            report("the federation is over: there is nothing left to watch")
            return
        time.sleep(_POLL_SECONDS)


@dataclass
class _Pending:
    """A proposal not judged yet: the number of tries, the time of the next, the events it saw."""

    proposed: Proposed
    tries: int = 0
    again_at: float = 0.0
    events: int = 0


class Watcher:
    """Polls one federation's newest round.

    `judged` are the keys of proposals on which a final result was reported, and `is_done` says that
    no other can follow.
    """

    def __init__(
        self,
        federation: Federation,
        store: Store,
        workspace: Path,
        report: Callable[[str], None],
    ) -> None:
        self.federation = federation
        self.store = store
        self.workspace = workspace
        self.report = report
        self.judged: set[object] = set()
        self.is_done = False
        is_final_at_once = is_development_chain(federation.chain_id)
        self._confirmations = 0 if is_final_at_once else _CONFIRMATIONS
        self._reported: set[str] = set()
        self._active: Address | None = None
        self._pending: _Pending | None = None

    def look(self) -> None:
        """Do what is due now; a failure is reported and does not end the watch."""
        # A watcher that gave up on a node that is down, or a disk that is full, would miss the
        # window once it is back or has room.
        try:
            self._look()
        except (CommonweightError, OSError) as error:
            reason = str(error) if isinstance(error, CommonweightError) else one_line(error)
            line = f"cannot judge now, trying again: {reason}"
            self._report(line, _NUMBER.sub("#", line))

    def _look(self) -> None:
        # State and logs of one mined block: what waits in the pool may never be mined.
        now = self.federation.now()
        before, active = self._active, now.current_aggregator()
        self._active = active
        if before not in (None, active):
            self.report(f"the active aggregator changed from {before} to {active}")
        newest = now.round_count()
        if not newest:
            self.is_done = self._is_over(now)
            return
        told = now.history().round(newest)
        settled = list(settle_requests(self.federation, told.open_requests))
        for line in settled:
            self._report(line)
        if settled:
            return  # the history was read before the settlement, which may have refuted a proposal
        status = now.status(newest, now.head)
        if status is Status.VOID:
            self._report(f"round {newest}: its sum was not opened or is objected to, and is void")
        if status is Status.EXPIRED:
            self._report(f"round {newest}: {active} is late, anybody may hand the round on")
        self._report_refuted(told)
        standing = told.proposed if status is Status.CHALLENGE else None
        self._close(standing)
        if status.is_ended:
            self.is_done = self._is_over(now)
        if standing is None or standing.key in self.judged:
            return
        self._pending = self._pending or _Pending(standing)
        # New events may be the answer to a request. Without any, bytes may turn up with time.
        if len(told.events) != self._pending.events or time.monotonic() >= self._pending.again_at:
            self._pending.events = len(told.events)
            self._pending.again_at = time.monotonic() + _AGAIN_SECONDS
            self._judge(self._pending)

    def _is_over(self, now: Federation) -> bool:
        # Some blocks deep: a reorganisation may open what seems to be over.
        block = now.head - self._confirmations
        return block >= self.federation.deployment_block and self.federation.is_over(block)

    def _judge(self, pending: _Pending) -> None:
        """Judge a proposal; bytes are fetched twice before a deposit is spent on a leaf request."""
        # A new audit for each try: it reads one block, and remembers downloads that failed.
        audit = Audit(self.federation, self.store, self.workspace)
        context = audit.context(pending.proposed.round)
        standing = context.told.proposed
        if standing is None or standing.key != pending.proposed.key:
            return  # refuted meanwhile, or in another block after a reorganisation
        # Only at the first try: what cannot be settled on chain is reported here, once.
        if not pending.tries:
            prune(context)  # of rounds that were judged
            for check in audit.check_round(context):
                if not check.passed:
                    self._report(check.line())
        for line, is_final in judge(audit, context, may_request=pending.tries > 0):
            self._report(line)
            if is_final:
                self.judged.add(pending.proposed.key)
        pending.tries += 1

    def _close(self, standing: Proposed | None) -> None:
        """Drop the pending proposal if it is no longer open to challenge, judged or not."""
        pending = self._pending
        if pending is None or (standing is not None and standing.key == pending.proposed.key):
            return
        self._pending = None
        if standing is not None and standing.root == pending.proposed.root:
            return  # a reorganisation put it into another block
        if pending.proposed.key not in self.judged:
            line = f"round {pending.proposed.round}: the proposal can no longer be challenged"
            self._report(line)
            self.judged.add(pending.proposed.key)

    def _report_refuted(self, told: RoundHistory) -> None:
        for event in told.refuted:
            words = f"{event.aggregator} was refuted"
            # Our own challenge has reported it with its transaction already.
            if not any(words in line for line in self._reported):
                reward = f"{event.reward:,} token units to {event.challenger}"
                self._report(f"round {told.round_id}: {words}, {reward}")

    def _report(self, line: str, key: str | None = None) -> None:
        """Report a line, unless one with the same `key` was reported: most steps are repeated."""
        if (key or line) not in self._reported:
            self.report(line)
        self._reported.add(key or line)
