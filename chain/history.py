"""A federation's history, folded once from its events: rounds, members, tokens.

    history = federation.now().history()
    history.rounds[RoundId(3)].proposed      # the proposal that stands, or None
    history.model_before(RoundId(3), terms)

Everything that a role reads from events is a view of this fold, so that no two readers can disagree
about a round. Nothing here reads the chain; chain/event_log.py does.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from chain.accounts import Accounts
from chain.events import (
    Abandoned,
    AvailabilityChallenged,
    Committed,
    Created,
    DepositReturned,
    FederationEvent,
    Finalized,
    Joined,
    LeafPosted,
    Left,
    Paid,
    Penalized,
    ProposalRefuted,
    Proposed,
    Revealed,
    RoundEvent,
    RoundOpened,
    StakeReleased,
    Withdrawn,
)
from chain.records import Model, Terms
from protocol.errors import Unavailable
from protocol.reveal import Reveal
from protocol.types import Address, Digest, RoundId, TokenUnits
from protocol.verdict import Verdict

LeafRequests = dict[tuple[Digest, int], AvailabilityChallenged]
"""Leaf requests by root and number of the leaf (docs/protocol.md §11)."""


@dataclass
class RoundHistory:
    """One round. Lists are in chain order, so `committed` is in the order of commitment.

    `members` were active when the round was opened and could have been drawn. `proposed` is the
    newest proposal unless it was refuted; `requested` are the leaf requests about it, answered or
    not. `open_requests` are the round's leaf requests that were neither answered nor settled; some
    may be about a proposal that was refuted.
    """

    round_id: RoundId
    members: frozenset[Address] = frozenset()
    opened_by: RoundOpened | None = None
    committed: list[Committed] = field(default_factory=list)
    revealed: list[Revealed] = field(default_factory=list)
    penalized: list[Penalized] = field(default_factory=list)
    proposals: list[Proposed] = field(default_factory=list)
    proposed: Proposed | None = None
    refuted: list[ProposalRefuted] = field(default_factory=list)
    requested: list[AvailabilityChallenged] = field(default_factory=list)
    open_requests: LeafRequests = field(default_factory=dict)
    paid: list[Paid] = field(default_factory=list)
    finalized: Finalized | None = None
    abandoned: Abandoned | None = None
    events: list[RoundEvent] = field(default_factory=list)

    @property
    def opened(self) -> RoundOpened:
        """The event that opened the round; Unavailable when the node has no log of it."""
        if self.opened_by is None:
            raise Unavailable(
                f"the node does not have all logs: none says that round {self.round_id} was opened",
                service="chain",
            )
        return self.opened_by

    @property
    def ended(self) -> bool:
        """Whether the round is over; only penalties may still follow."""
        return self.finalized is not None or self.abandoned is not None

    @property
    def reveals(self) -> list[Reveal]:
        """The reveals, in the order of their commitments."""
        # That order decides who keeps a root that two have revealed (check 10): a commitment hides
        # it, so the copy is committed later, while a reveal in the pool can be overtaken.
        revealed = {event.participant: event for event in self.revealed}
        return [
            Reveal(event.participant, reveal.root, reveal.manifest, reveal.examples)
            for event in self.committed
            if (reveal := revealed.get(event.participant)) is not None
        ]

    @property
    def unrevealed(self) -> list[Address]:
        """Participants that committed, did not reveal, and were not penalized yet."""
        settled = {e.participant for e in self.revealed} | {e.participant for e in self.penalized}
        return [event.participant for event in self.committed if event.participant not in settled]

    @property
    def standing_requests(self) -> LeafRequests:
        """The open leaf requests about the standing proposal, which can still be answered."""
        current = {event.key for event in self.requested}
        return {key: event for key, event in self.open_requests.items() if event.key in current}

    def verdict_on(self, participant: Address) -> Verdict | None:
        """Return the standing proposal's verdict on a participant's update."""
        verdicts = self.proposed.verdicts if self.proposed is not None else ()
        return next((each for each in verdicts if each.participant == participant), None)

    def paid_to(self, participant: Address) -> TokenUnits:
        """Return what a participant was credited for the round."""
        return TokenUnits(sum(e.amount for e in self.paid if e.participant == participant))

    def add(self, event: RoundEvent) -> None:  # noqa: C901 - one case per event
        """Add the round's next event."""
        self.events.append(event)
        match event:
            case RoundOpened():
                self.opened_by = event
            case Committed():
                self.committed.append(event)
            case Revealed():
                self.revealed.append(event)
            case Penalized():
                self.penalized.append(event)
            case Proposed():
                self.proposals.append(event)
                self.proposed, self.requested = event, []
            case ProposalRefuted():
                self.refuted.append(event)
                # Its leaf requests are void, but stay open until their deposits are returned.
                self.proposed, self.requested = None, []
            case AvailabilityChallenged():
                self.requested.append(event)
                self.open_requests[event.root, event.leaf] = event
            case LeafPosted() | DepositReturned():
                self.open_requests.pop((event.root, event.leaf), None)
            case Paid():
                self.paid.append(event)
            case Finalized():
                self.finalized = event
            case Abandoned():
                self.abandoned = event


@dataclass
class History:
    """A federation's history up to a block.

    `created` is None when the logs do not go back to the deployment. `memberships` has the last
    Joined, Penalized or StakeReleased event of everybody who ever joined.
    """

    created: Created | None = None
    rounds: dict[RoundId, RoundHistory] = field(default_factory=dict)
    memberships: dict[Address, Joined | Penalized | StakeReleased] = field(default_factory=dict)
    posted_leaves: list[LeafPosted] = field(default_factory=list)
    withdrawals: list[Withdrawn] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)
    events: list[FederationEvent] = field(default_factory=list)
    _active: set[Address] = field(default_factory=set)

    @classmethod
    def fold(cls, events: Iterable[FederationEvent], deposit: TokenUnits) -> "History":
        """Return the history of events in chain order; a leaf request takes `deposit`."""
        history = cls(accounts=Accounts(deposit))
        for event in events:
            history.add(event)
        return history

    def add(self, event: FederationEvent) -> None:
        """Add the next event."""
        self.events.append(event)
        self.accounts.book(event)
        match event:
            case Created():
                self.created = event
            case Joined():
                self._active.add(event.participant)
                self.memberships[event.participant] = event
            case Left():
                self._active.discard(event.participant)
            case Penalized():
                self.memberships[event.participant] = event
                if event.amount:  # the contract deactivates only whom it took something from
                    self._active.discard(event.participant)
            case StakeReleased():
                self.memberships[event.participant] = event
            case LeafPosted():
                self.posted_leaves.append(event)
            case Withdrawn():
                self.withdrawals.append(event)
        # Replacing an aggregator between rounds emits an event of round 0.
        if isinstance(event, RoundEvent) and event.round:
            # Kept from its first event on, RoundOpened: the members are those active by then.
            self.rounds.setdefault(event.round, self.round(event.round)).add(event)

    def round(self, round_id: RoundId) -> RoundHistory:
        """Return a round, without events if there are none of it."""
        # An empty one is not kept: the history is shared, and compared with the contract's rounds.
        return self.rounds.get(round_id) or RoundHistory(round_id, frozenset(self._active))

    def model_before(self, round_id: RoundId, terms: Terms) -> Model:
        """Return the global model that a round starts from."""
        # An abandoned round leaves the model as it was.
        model = Model(terms.initial_model_root, terms.initial_model_manifest)
        for earlier, told in self.rounds.items():
            if earlier < round_id and told.finalized is not None:
                model = Model(told.finalized.root, told.finalized.manifest)
        return model

    def last_end(self) -> Finalized | Abandoned | None:
        """Return the event that ended the newest round that is over, or None."""
        ended = [told.finalized or told.abandoned for told in self.rounds.values()]
        return next((event for event in reversed(ended) if event is not None), None)
