"""When a phase of a round has ended, and how deep: what a role waits for before its next step."""

from collections.abc import Callable
from itertools import pairwise
from typing import Final, Literal

from chain.events import FederationEvent
from chain.federation import Federation
from contracts.enums import Status
from ethereum.rpc import plain_errors
from protocol.errors import Misconfigured
from protocol.types import Address, RoundId, UnixTime

Phase = Literal[Status.COMMIT, Status.REVEAL]

_RECENT_BLOCKS: Final = 8


def has_ended(federation: Federation, round_id: RoundId, phase: Phase, depth: int = 0) -> bool:
    """Whether no commitment, or no reveal, can be added to a round any more.

    Only mined blocks count: what opens the next phase in the pool alone may still be replaced, by
    somebody who has read there what the next phase shows. It must be so already `depth` blocks
    below the one that `federation` reads from (see `Federation.now`): a reorganisation of fewer
    cannot undo it. Depth is counted in block numbers of headers and events, since a full node has
    no state older than about 128 blocks.
    """
    now = federation.pinned()
    facts, deep = now.get_round(round_id), now.head - depth
    if deep < now.deployment_block:
        return False
    deadline = facts.commit_deadline if phase is Status.COMMIT else facts.reveal_deadline
    with plain_errors():
        if int(now.w3.eth.get_block(deep)["timestamp"]) >= deadline:
            return True
    if phase is Status.REVEAL and not has_ended(now, round_id, Status.COMMIT, depth):
        return False
    acted, awaited = (
        (facts.committed, facts.expected)
        if phase is Status.COMMIT
        else (facts.revealed, facts.committed)
    )
    if acted < awaited or depth == 0:
        return acted >= awaited
    told = now.history().round(round_id)
    submitted: list[FederationEvent] = [*told.committed]
    submitted += [told.opened] if phase is Status.COMMIT else told.revealed
    return all(event.block_number <= deep for event in submitted)


def await_end(
    federation: Federation,
    round_id: RoundId,
    phase: Phase,
    depth: int,
    deadline: UnixTime,
    wait: Callable[[], None],
) -> Federation:
    """Return the federation's newest block in which a phase `has_ended`, or at `deadline` as it is.

    A chain that stands still has no block that says so, and waiting for ever costs a penalty or a
    bond: there the deadline decides.
    """
    while True:
        now = federation.now()
        if has_ended(now, round_id, phase, depth) or now.next_time() >= deadline:
            return now
        wait()


def is_settled(
    federation: Federation, depth: int, seconds: int, account: Address | None = None
) -> bool:
    """Whether the last round's end, and what `account` withdrew since, lie `depth` blocks deep.

    On a chain that stands still, whether that was `seconds` ago.
    """
    if not depth:
        return True
    now = federation.pinned()
    history = now.history()
    final: list[FederationEvent] = [e for e in history.withdrawals if e.account == account]
    end = history.last_end()
    final += [] if end is None else [end]
    last = max((event.block_number for event in final), default=now.deployment_block)
    if last <= now.head - depth:
        return True
    with plain_errors():
        return now.next_time() >= int(now.w3.eth.get_block(last)["timestamp"]) + seconds


def check_confirmations(federation: Federation, blocks: int, seconds: int, phase: str) -> None:
    """Raise Misconfigured when so many blocks take longer than half of a phase of `seconds`.

    Blocks are taken to be no faster than the two of the last few that are closest together.
    """
    if not blocks:
        return
    head = federation.pinned().head
    recent = range(max(head - _RECENT_BLOCKS, 0), head + 1)
    with plain_errors():
        times = [int(federation.w3.eth.get_block(number)["timestamp"]) for number in recent]
    fastest = min((later - earlier for earlier, later in pairwise(times)), default=0)
    if blocks * fastest > seconds // 2:
        raise Misconfigured(
            f"confirmations = {blocks} take {blocks * fastest} s at one block every {fastest} s,"
            f" half of the {phase} phase has {seconds // 2} s: choose at most"
            f" {seconds // 2 // fastest}"
        )
