"""Time, which passes only where nothing else could happen: for those who are away."""

from collections.abc import Callable, Collection
from typing import Final

from chain.federation import Federation
from contracts.enums import AggregatorState, Status, SubmissionState
from protocol.shares import default_threshold
from protocol.types import RoundId
from tests.faults.founding import WALLETS
from tests.faults.schedule import LEAD, STAYS, Fault, Point, Schedule

_OPEN_STATE: Final = {Status.COMMIT: SubmissionState.NONE, Status.REVEAL: SubmissionState.COMMITTED}
_OPENING: Final = (Status.UNMASK, Status.ASSIST)
_BEFORE_SUM: Final = (Status.COMMIT, Status.REVEAL, Status.SEAL, *_OPENING)


class Clock:
    """Tells when a deadline may pass. `excused` has (round, who) of each missed while away.

    `silent` has those who opened no secrets in time, being away, or refusing a set.
    """

    def __init__(
        self, federation: Federation, schedule: Schedule, tell: Callable[[str, str], None]
    ) -> None:
        self.excused: set[tuple[int, str]] = set()
        self.silent: set[tuple[int, str]] = set()
        self._federation = federation
        self._schedule = schedule
        self._tell = tell

    def due(
        self, away: dict[str, Fault], refusing: Collection[tuple[int, str]]
    ) -> tuple[int, set[str]]:
        """Return how many seconds may pass now, and who of `away` may come back after that.

        `refusing` has those who open nothing for the set of a round.
        """
        newest = self._federation.round_count()
        if newest and self._federation.status(newest) in _OPENING:
            return self._pass_opening(newest, away, refusing)
        if newest and away:
            seconds, missed = self._pass_deadline(newest, set(away))
            return seconds, missed | self._needed_no_more(newest, away)
        if self._is_stalled():
            # Nobody can open a round any more: the federation ends when it closes.
            return self._until(self._federation.terms().windows.closes_at), set()
        return 0, set()

    def _pass_deadline(self, round_id: RoundId, away: set[str]) -> tuple[int, set[str]]:
        status, facts = self._federation.status(round_id), self._federation.get_round(round_id)
        if status in (Status.PROPOSE, Status.SEAL):
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

    def _pass_opening(
        self, round_id: RoundId, away: dict[str, Fault], refusing: Collection[tuple[int, str]]
    ) -> tuple[int, set[str]]:
        """Let the time for secrets pass, and that for shares where there are too few of them."""
        mute = {*away, *(name for number, name in refusing if number == round_id)}
        told, total = self._federation.history().round(round_id), self._federation.get_sum(round_id)
        names = {WALLETS[name].address: name for name in self._schedule.names}
        awaited = {names[address] for address in told.masking.silent}
        if not awaited <= mute:
            return 0, set()
        is_late = self._federation.status(round_id) is Status.ASSIST
        # Who is away does not put back what its store lost: nobody finds the shares in it.
        lost = {fault.target for fault in self._schedule.faults if fault.kind == "withhold"}
        peers = len(told.committed) - 1
        has_shares = len(told.masking.unmasked) >= default_threshold(peers)
        if is_late and has_shares and not awaited & lost & away.keys():
            return 0, set()
        self.silent |= {(round_id, name) for name in awaited}
        back = {name for name in awaited & set(away) if away[name].detail != STAYS}
        return self._until(total.assist_deadline if is_late else total.unmask_deadline), back

    def _needed_no_more(self, newest: RoundId, away: dict[str, Fault]) -> set[str]:
        """Return who stayed away from a round whose sum is known, or never will be."""
        is_under_way = self._federation.status(newest) in _BEFORE_SUM
        return {
            name
            for name, fault in away.items()
            if fault.detail == STAYS
            and isinstance(fault.at, Point)
            and (fault.at.round_id < newest or not is_under_way)
        }

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
