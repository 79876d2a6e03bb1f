"""What the chain says of a round, put together from the federation's events."""

from collections.abc import Callable, Sequence
from pathlib import Path

from chain.events import (
    Committed,
    FederationEvent,
    Finalized,
    Penalized,
    ProposalRefuted,
    Proposed,
    Revealed,
)
from chain.federation import Federation
from chain.location import FederationLocation
from chain.records import Model
from chain.rpc import connect, plain_errors
from chain.transactions import Sender, SendingLimits
from chain.wallet import Wallet
from protocol.errors import Misconfigured
from protocol.quantities import Address, RoundId, UnixTime
from protocol.reveal import Reveal


def connect_federation(
    location: FederationLocation,
    wallet: Wallet | None = None,
    limits: SendingLimits | None = None,
    journal: Path | None = None,
) -> Federation:
    """Return the federation at `location`, after checking that the RPC serves its chain.

    `limits` and `journal` are the sender's, see chain/transactions.py.
    """
    w3 = connect(location.rpc_url, chain_id=location.chain_id)
    sender = None if wallet is None else Sender(w3, wallet, limits, journal)
    return Federation(w3, location.address, sender, deployment_block=location.deployment_block)


def chain_time(federation: Federation) -> UnixTime:
    """Return the time that the next block would have: what deadlines are compared with."""
    with plain_errors():
        return UnixTime(federation.w3.eth.get_block("pending")["timestamp"])


def is_buried(federation: Federation, round_id: RoundId, blocks: int) -> bool:
    """Whether the round had the submissions it has now already `blocks` blocks ago.

    A reorganisation of fewer blocks can then no longer take one of them away.
    """
    if not blocks:
        return True
    with plain_errors():
        head = int(federation.w3.eth.block_number)
    if head - blocks < federation.deployment_block:
        return False
    now, then = (federation.get_round(round_id, block=each) for each in (head, head - blocks))
    return (now.seed, now.committed, now.revealed) == (then.seed, then.committed, then.revealed)


def await_buried(
    federation: Federation,
    round_id: RoundId,
    blocks: int,
    deadline: UnixTime,
    wait: Callable[[], None],
) -> None:
    """Return once the round's submissions are buried, or at `deadline`, whichever comes first."""
    while not is_buried(federation, round_id, blocks) and chain_time(federation) < deadline:
        wait()


def reveals(federation: Federation, round_id: RoundId) -> list[Reveal]:
    """Return the round's reveals in the order in which their participants committed."""
    events = federation.read_events(round_id=round_id)
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
