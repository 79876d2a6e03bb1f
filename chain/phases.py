"""When a round's next step is due: seeds to be fixed, and phases that ended so many blocks ago.

Roles wait for this before their next step (docs/decisions/0012-decisions-on-mined-blocks.md).
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Final, Literal

from chain.events import FederationEvent
from chain.federation import Federation
from chain.records import Opening
from contracts.enums import Status
from contracts.reverts import Reverted
from ethereum.rpc import plain_errors
from ethereum.transactions import Receipt
from protocol.errors import Misconfigured
from protocol.types import Address, RoundId, UnixTime

Phase = Literal[Status.COMMIT, Status.REVEAL]

_RECENT_BLOCKS: Final = 8

# Whoever opened a round fixes its seed in the next block. Others do when that does not happen, not
# all at once, and well before the 256 blocks are over.
_SEED_BLOCKS: Final = 4
_SEED_BLOCK_SECONDS: Final = 15  # for a chain that mines only on demand
# In this order: the next block is not there yet; somebody else was faster.
_SKETCH_NOT_NOW: Final = frozenset({"SketchTooEarly", "SketchIsFixed", "WrongStatus"})
_SEED_NOT_NOW: Final = frozenset({"SeedTooEarly", "WrongStatus"})


def fix_seed(federation: Federation, round_id: RoundId) -> Receipt | None:
    """Fix a round's seed; None when it is too early or somebody else has done so."""
    try:
        return federation.fix_seed(round_id)
    except Reverted as error:
        if error.name not in _SEED_NOT_NOW:
            raise
        return None


def draw_sketches(federation: Federation, round_id: RoundId) -> Receipt | None:
    """Draw a sealed round's sketches; None when it is too early or somebody else has done so."""
    try:
        return federation.fix_sketch(round_id)
    except Reverted as error:
        if error.name not in _SKETCH_NOT_NOW:
            raise
        return None


def void_round(federation: Federation, round_id: RoundId) -> Receipt:
    """End a masked round whose sum cannot be opened, or was objected to."""
    told = federation.history().round(round_id)
    openings = [Opening.of(reveal) for reveal in told.unmasked_themselves]
    return federation.void_round(round_id, told.committers, openings)


def is_seed_overdue(federation: Federation, round_id: RoundId, account: Address) -> bool:
    """Whether a round has waited so long for its seed that `account` should fix it."""
    now = federation.pinned()
    opened = now.get_round(round_id).opened_block
    # By address, so that of many participants one pays the gas.
    blocks = _SEED_BLOCKS + int(account[-2:], 16) % 16
    if now.head >= opened + blocks:
        return True
    with plain_errors():
        opened_at = int(now.w3.eth.get_block(opened)["timestamp"])
    return now.next_time() >= opened_at + blocks * _SEED_BLOCK_SECONDS


def has_ended(federation: Federation, round_id: RoundId, phase: Phase, depth: int = 0) -> bool:
    """Whether no commitment, or no reveal, can be added to a round any more.

    The phase must have ended already `depth` blocks below the block that `federation` reads from
    (see `Federation.now`), so that a shorter reorganisation cannot undo it.
    """
    # Only mined blocks count. A transaction in the pool that would end the phase may be replaced by
    # somebody who has seen there what the next phase reveals. Depth is counted in block numbers of
    # headers and events, since a full node has no state older than about 128 blocks.
    now = federation.pinned()
    facts, deep = now.get_round(round_id), now.head - depth
    # Without a seed the deadlines are 0, and no phase has begun.
    if deep < now.deployment_block or not facts.is_seeded:
        return False
    # By the block's own time, not the clock's: a block with an earlier time may still come.
    deadline = facts.commit_deadline if phase is Status.COMMIT else facts.reveal_deadline
    with plain_errors():
        if int(now.w3.eth.get_block(deep)["timestamp"]) >= deadline:
            return True
    # While commitments can be added, so can their reveals, whatever the counts say now.
    if phase is Status.REVEAL and not has_ended(now, round_id, Status.COMMIT, depth):
        return False
    acted, awaited = (
        (facts.committed, facts.expected(now.terms().seats))
        if phase is Status.COMMIT
        else (facts.revealed, facts.committed)
    )
    if acted < awaited or depth == 0:
        return acted >= awaited
    # All have acted: the events say in which blocks, where the counts are of the newest one alone.
    told = now.history().round(round_id)
    submitted: list[FederationEvent] = [*told.committed]
    submitted += [told.opened] if phase is Status.COMMIT else told.revealed
    return all(event.block_number <= deep for event in submitted)


def depth_of_finality(now: Federation) -> int:
    """Return how many blocks lie on top of the newest one that is final."""
    return max(now.head - now.finalized_block(), 0)


def await_end(
    federation: Federation,
    round_id: RoundId,
    phase: Phase,
    depth: int,
    deadline: UnixTime,
    wait: Callable[[], None],
) -> Federation:
    """Wait until a phase `has_ended`, or until `deadline`; return the federation at that block."""
    # A chain that mines only on demand may never have a block that shows the end, and waiting for
    # one without a limit would cost a penalty or the bond.
    while True:
        now = federation.now()
        if has_ended(now, round_id, phase, depth) or now.next_time() >= deadline:
            return now
        wait()


def is_settled(
    federation: Federation, depth: int, seconds: int, account: Address | None = None
) -> bool:
    """Whether the last round's end, and `account`'s last withdrawal, are `depth` blocks deep.

    On a chain that has stopped mining, whether they are `seconds` old.
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
    """Raise Misconfigured when so many blocks take longer than half of a phase of `seconds`."""
    if not blocks:
        return
    # After half of the phase the deadline decides (`await_end`), and confirmations would be in
    # vain. Of the last blocks the fastest counts: on a chain that mines on demand the gaps mean
    # nothing.
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
