"""What the chain says of a round, put together from the federation's events."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Final, Literal

from chain.complete import require_round_logs
from chain.events import (
    Abandoned,
    Committed,
    FederationEvent,
    Finalized,
    Penalized,
    ProposalRefuted,
    Proposed,
    Revealed,
    RoundOpened,
    Withdrawn,
)
from chain.federation import Federation
from chain.location import FederationLocation
from chain.records import Model, Status
from chain.rpc import connect, plain_errors
from chain.transactions import Sender, SendingLimits
from chain.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.reveal import Reveal
from protocol.types import Address, RoundId, UnixTime

Phase = Literal[Status.COMMIT, Status.REVEAL]

_RECENT_BLOCKS: Final = 8


def connect_federation(
    location: FederationLocation,
    wallet: Wallet | None = None,
    limits: SendingLimits | None = None,
    journal: Path | None = None,
    report: Callable[[str], None] | None = None,
) -> Federation:
    """Return the federation at `location`, after checking that the RPC serves its chain.

    `limits`, `journal` and `report` are the sender's, see chain/transactions.py.
    """
    w3 = connect(location.rpc_url, chain_id=location.chain_id)
    sender = None if wallet is None else Sender(w3, wallet, limits, journal, report)
    return Federation(w3, location.address, sender, deployment_block=location.deployment_block)


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
    kinds = RoundOpened | Committed if phase is Status.COMMIT else Committed | Revealed
    submitted = [e for e in round_events(now, round_id) if isinstance(e, kinds)]
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
    kinds = Finalized | Abandoned
    blocks = [
        event.block_number
        for event in now.read_events()
        if isinstance(event, kinds) or (isinstance(event, Withdrawn) and event.account == account)
    ]
    last = max(blocks, default=now.deployment_block)
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


def round_events(federation: Federation, round_id: RoundId) -> list[FederationEvent]:
    """Return a round's events in chain order; all of them, where `federation` reads one block.

    Unavailable when the node's logs then are fewer than what the contract counts in that block.
    """
    events = federation.read_events(round_id=round_id)
    if federation.block is not None:
        require_round_logs(federation, events, round_id, federation.block)
    return events


def reveals(federation: Federation, round_id: RoundId) -> list[Reveal]:
    """Return the round's reveals in the order in which their participants committed."""
    events = round_events(federation, round_id)
    revealed = {e.participant: e for e in events if isinstance(e, Revealed)}
    committed = [e.participant for e in events if isinstance(e, Committed)]
    return [
        Reveal(who, revealed[who].root, revealed[who].manifest, revealed[who].examples)
        for who in committed
        if who in revealed
    ]


def unrevealed(federation: Federation, round_id: RoundId) -> list[Address]:
    """Return who committed to the round, never revealed and has not paid for it yet."""
    events = federation.read_events(round_id=round_id)
    settled = {e.participant for e in events if isinstance(e, Revealed | Penalized)}
    return [
        e.participant for e in events if isinstance(e, Committed) if e.participant not in settled
    ]


def proposal(federation: Federation, round_id: RoundId) -> Proposed:
    """Return the round's proposal; Misconfigured when it has none, or only refuted ones."""
    found = standing_proposal(federation.read_events(round_id=round_id))
    if found is None:
        raise Misconfigured(f"no model was proposed for round {round_id}")
    return found


def standing_proposal(events: Sequence[FederationEvent]) -> Proposed | None:
    """Return the last proposal among one round's `events`, None when it was refuted since."""
    found: Proposed | None = None
    for event in events:
        if isinstance(event, Proposed):
            found = event
        elif isinstance(event, ProposalRefuted):
            found = None
    return found


def model_before(federation: Federation, round_id: RoundId) -> Model:
    """Return the model from which participants of a round start."""
    if federation.last_finalized_round() < round_id:
        return federation.current_model()
    terms = federation.terms()
    model = Model(terms.initial_model_root, terms.initial_model_manifest)
    for event in federation.read_events():
        if isinstance(event, Finalized) and event.round < round_id:
            model = Model(event.root, event.manifest)
    return model
