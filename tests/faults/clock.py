"""Time, which passes only where nothing else could happen: for those who are away."""

from collections.abc import Callable

from chain.federation import Federation
from contracts.enums import AggregatorState, Status, SubmissionState
from protocol.types import RoundId
from tests.faults.founding import WALLETS
from tests.faults.schedule import LEAD, Schedule

_OPEN_STATE = {Status.COMMIT: SubmissionState.NONE, Status.REVEAL: SubmissionState.COMMITTED}


class Clock:
    """Tells when a deadline may pass. `excused` has (round, who) of each missed while away."""

    def __init__(
        self, federation: Federation, schedule: Schedule, tell: Callable[[str, str], None]
    ) -> None:
        self.excused: set[tuple[int, str]] = set()
        self._federation = federation
        self._schedule = schedule
        self._tell = tell

    def due(self, away: set[str]) -> tuple[int, set[str]]:
        """Return how many seconds may pass now, and who of `away` misses a deadline by that."""
        newest = self._federation.round_count()
        if newest and away:
            return self._pass_deadline(newest, away)
        if self._is_stalled():
            # Nobody can open a round any more: the federation ends when it closes.
            return self._until(self._federation.terms().windows.closes_at), set()
        return 0, set()

    def _pass_deadline(self, round_id: RoundId, away: set[str]) -> tuple[int, set[str]]:
        status, facts = self._federation.status(round_id), self._federation.get_round(round_id)
        if status is Status.PROPOSE:
            late, deadline = {LEAD}, facts.propose_deadline
        elif status in _OPEN_STATE:
            names = self._schedule.names
            late = {n for n in names if self._is_awaited(round_id, n, _OPEN_STATE[status])}
            is_commit = status is Status.COMMIT
            deadline = facts.commit_deadline if is_commit else facts.reveal_deadline
        else:
            return 0, set()
        if not late or not late <= away:
            return 0, set()
        self.excused |= {(round_id, name) for name in late}
        return self._until(deadline), late

    def _is_awaited(self, round_id: RoundId, name: str, state: SubmissionState) -> bool:
        address = WALLETS[name].address
        if self._federation.get_submission(round_id, address).state is not state:
            return False
        standing = self._federation.get_participant(address)
        opened = self._federation.get_round(round_id).opened_block
        is_member = standing.active and standing.joined_block < opened
        return state is SubmissionState.COMMITTED or is_member

    def _is_stalled(self) -> bool:
        """Whether every aggregator lost its bond with rounds still to be opened."""
        if self._federation.is_over():
            return False
        listed = [WALLETS[name].address for name in self._schedule.aggregators]
        states = {self._federation.aggregator_state(address) for address in listed}
        return states == {AggregatorState.SLASHED}

    def _until(self, deadline: int) -> int:
        return max(deadline - self._federation.next_time() + 1, 1)
