"""A federation's history, folded once from its events: rounds, members, tokens.

    history = federation.now().history()
    history.rounds[RoundId(3)].proposed      # the proposal that stands, or None
    history.model_before(RoundId(3), terms)

Everything that a role reads from events is a view of this fold, so that no two readers can disagree
about a round. Nothing here reads the chain; chain/event_log.py does.
"""

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

from chain.accounts import Accounts
from chain.events import (
    Abandoned,
    Announced,
    Assisted,
    Committed,
    DepositReturned,
    Evicted,
    FederationEvent,
    Finalized,
    Joined,
    KeyPublished,
    LeafPosted,
    LeafRequested,
    Left,
    Objected,
    Paid,
    Penalized,
    ProposalRefuted,
    Proposed,
    Revealed,
    RoundEvent,
    RoundOpened,
    SecretsBound,
    SeedFixed,
    SetSealed,
    SketchFixed,
    StakeReleased,
    StreamsPosted,
    Unmasked,
    Voided,
    Withdrawn,
)
from chain.records import Model, Seats, Terms
from protocol.commitment import is_eligible
from protocol.errors import Unavailable
from protocol.reveal import Reveal
from protocol.types import Address, Digest, RoundId, TokenUnits
from protocol.verdict import Verdict

LeafRequests = dict[tuple[Digest, int], LeafRequested]
"""Leaf requests by root and number of the leaf (docs/protocol.md §11)."""

Membership = Joined | Left | Evicted | Penalized | StakeReleased
"""The events about a seat."""


@dataclass
class RoundHistory:
    """One round. Lists are in chain order, so `committed` is in the order of commitment.

    `members` were active when the round was opened and had joined in an earlier block: they could
    be drawn. `proposed` is the newest proposal unless it was refuted; `requested` are the leaf
    requests about it, answered or not. `open_requests` are the round's leaf requests that were
    neither answered nor settled; some may be about a proposal that was refuted.
    """

    round_id: RoundId
    members: frozenset[Address] = frozenset()
    opened_by: RoundOpened | None = None
    seeded: SeedFixed | None = None
    committed: list[Committed] = field(default_factory=list)
    revealed: list[Revealed] = field(default_factory=list)
    masking: "Masking" = field(default_factory=lambda: Masking())
    penalized: list[Penalized] = field(default_factory=list)
    proposals: list[Proposed] = field(default_factory=list)
    proposed: Proposed | None = None
    refuted: list[ProposalRefuted] = field(default_factory=list)
    requested: list[LeafRequested] = field(default_factory=list)
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
    def seed(self) -> Digest:
        """The seed; Unavailable when it was not fixed, or the node has no log of that."""
        if self.seeded is None:
            raise Unavailable(f"the seed of round {self.round_id} is not fixed", service="chain")
        return self.seeded.seed

    def asks(self, participant: Address, seats: Seats) -> bool:
        """Whether the round asks a participant: it is a member, and the seed drew it."""
        if self.seeded is None or participant not in self.members:
            return False
        active, target = self.opened.active, seats.round_target
        return is_eligible(self.seeded.seed, participant, active, target)

    def missed_by(self, participant: Address, seats: Seats) -> bool:
        """Whether a round that has ended asked a participant, had room, and got no commitment."""
        # A round whose commit phase ended early for want of nothing is full by definition.
        is_full = len(self.committed) >= seats.round_seats
        has_committed = any(event.participant == participant for event in self.committed)
        return not is_full and not has_committed and self.asks(participant, seats)

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
            Reveal(
                event.participant,
                reveal.root,
                reveal.manifest,
                reveal.examples,
                self.masking.secrets.get(event.participant),
                self.masking.seeds_of(event.participant),
            )
            for event in self.committed
            if (reveal := revealed.get(event.participant)) is not None
        ]

    @property
    def committers(self) -> list[Address]:
        """All that committed, in ascending order of address."""
        return sorted((each.participant for each in self.committed), key=lambda a: int(a, 16))

    @property
    def summed(self) -> list[Reveal]:
        """The reveals in the set that was sealed, in ascending order of address."""
        members = set(self.masking.members)
        inside = (reveal for reveal in self.reveals if reveal.participant in members)
        return sorted(inside, key=lambda reveal: int(reveal.participant, 16))

    @property
    def unmasked_themselves(self) -> list[Reveal]:
        """Those of `summed` whose participant posted its secrets itself."""
        recovered = set(self.masking.recovered)
        return [
            reveal
            for reveal in self.summed
            if reveal.participant in self.masking.unmasked and reveal.participant not in recovered
        ]

    @property
    def is_refused(self) -> bool:
        """Whether two thirds of the set that was sealed have objected to its sum."""
        members = self.masking.members
        return bool(members) and 3 * len(self.masking.objected) >= 2 * len(members)

    @property
    def outside(self) -> list[Address]:
        """Those of `committers` that are not in the set that was sealed."""
        members = self.masking.members
        return [each for each in self.committers if each not in members]

    @property
    def unrevealed(self) -> list[Address]:
        """Participants that committed, did not reveal, and were not penalized yet."""
        settled = {e.participant for e in self.revealed} | {e.participant for e in self.penalized}
        return [event.participant for event in self.committed if event.participant not in settled]

    @property
    def owing_penalties(self) -> list[Address]:
        """Who can be penalized: `unrevealed`, and whose silence ended the round."""
        if not self.revealed:  # the contract blames nobody: the chain may have kept everybody out
            return []
        settled = {event.participant for event in self.penalized}
        silent = self.masking.silent if self.abandoned is not None else []
        return self.unrevealed + [who for who in silent if who not in settled]

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

    def copied(self) -> "RoundHistory":
        """Return a copy that can be added to."""
        return replace(self, **_copies(self), masking=self.masking.copied())

    def add(self, event: RoundEvent) -> None:  # noqa: C901 - one case per event
        """Add the round's next event."""
        self.events.append(event)
        match event:
            case RoundOpened():
                self.opened_by = event
            case SeedFixed():
                self.seeded = event
            case Committed():
                self.committed.append(event)
            case Revealed():
                self.revealed.append(event)
            case Penalized():
                self.penalized.append(event)
            case KeyPublished() | SecretsBound() | SetSealed() | SketchFixed():
                self.masking.add(event)
            case Unmasked() | Assisted() | Objected() | StreamsPosted() | Voided():
                self.masking.add(event)
                if isinstance(event, Voided):
                    self.masking.voided_proposal = self.proposed
                    self.proposed, self.requested = None, []
            case Proposed():
                self.proposals.append(event)
                self.proposed, self.requested = event, []
            case ProposalRefuted():
                self.refuted.append(event)
                # Its leaf requests are void, but stay open until their deposits are returned.
                self.proposed, self.requested = None, []
            case LeafRequested():
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
class Masking:
    """What a round's events say of its masks (docs/protocol.md §13); nothing of a clear round.

    `keys` and `secrets` are by participant, `unmasked` by member of the set.
    """

    keys: dict[Address, Digest] = field(default_factory=dict)
    secrets: dict[Address, Digest] = field(default_factory=dict)
    sealed: SetSealed | None = None
    drawn: SketchFixed | None = None
    unmasked: dict[Address, Unmasked] = field(default_factory=dict)
    assisted: list[Assisted] = field(default_factory=list)
    objected: list[Objected] = field(default_factory=list)
    streams: list[StreamsPosted] = field(default_factory=list)
    voided: Voided | None = None
    voided_proposal: Proposed | None = None
    """The proposal that was objected to; None where the round was void before any."""

    @property
    def members(self) -> list[Address]:
        """The set that was sealed, in ascending order of address; empty before."""
        verdicts = self.sealed.verdicts if self.sealed is not None else ()
        return [each.participant for each in verdicts if each.is_averaged]

    @property
    def sketch_seed(self) -> Digest | None:
        """What draws the sketches' vectors; None before it is fixed."""
        return None if self.drawn is None else self.drawn.sketch_seed

    @property
    def silent(self) -> list[Address]:
        """Members of the set whose secrets are not known."""
        return [each for each in self.members if each not in self.unmasked]

    @property
    def recovered(self) -> list[Address]:
        """Members of the set whose secrets others recovered."""
        return [who for who, event in self.unmasked.items() if event.sender != who]

    def seeds_of(self, member: Address) -> tuple[bytes, ...]:
        """Return a member's own seed and those with who is outside the set; empty if unknown."""
        event = self.unmasked.get(member)
        return () if event is None else (event.own_seed, *event.seeds)

    def copied(self) -> "Masking":
        """Return a copy that can be added to."""
        return replace(self, **_copies(self))

    def add(self, event: RoundEvent) -> None:
        """Add the next event about masks."""
        match event:
            case KeyPublished():
                self.keys[event.participant] = event.public_key
            case SecretsBound():
                self.secrets[event.participant] = event.secrets
            case SetSealed():
                self.sealed = event
            case SketchFixed():
                self.drawn = event
            case Unmasked():
                self.unmasked[event.participant] = event
            case Assisted():
                self.assisted.append(event)
            case Objected():
                self.objected.append(event)
            case StreamsPosted():
                self.streams.append(event)
            case Voided():
                self.voided = event


@dataclass
class History:
    """A federation's history up to a block.

    `memberships` has the last event about the seat of everybody who ever joined, `announced` the
    last announcement of everybody who made one. `active` has the block in which each active
    participant joined.
    """

    rounds: dict[RoundId, RoundHistory] = field(default_factory=dict)
    memberships: dict[Address, Membership] = field(default_factory=dict)
    active: dict[Address, int] = field(default_factory=dict)
    announced: dict[Address, Announced] = field(default_factory=dict)
    posted_leaves: list[LeafPosted] = field(default_factory=list)
    withdrawals: list[Withdrawn] = field(default_factory=list)
    accounts: Accounts = field(default_factory=Accounts)
    events: list[FederationEvent] = field(default_factory=list)

    @classmethod
    def fold(cls, events: Iterable[FederationEvent], deposit: TokenUnits) -> "History":
        """Return the history of events in chain order; a leaf request takes `deposit`."""
        history = cls(accounts=Accounts(deposit))
        for event in events:
            history.add(event)
        return history

    def extended(self, events: Iterable[FederationEvent]) -> "History":
        """Return a history with the next events; this one, which somebody may hold, stays.

        Rounds that they do not touch are shared by both.
        """
        # Of a thousand rounds only the last changes: to fold all of them again for each block would
        # take seconds.
        further = replace(
            self,
            **{name: copy(value) for name, value in vars(self).items() if name != "accounts"},
            accounts=replace(self.accounts, credited=copy(self.accounts.credited)),
        )
        own: set[RoundId] = set()
        for event in events:
            if isinstance(event, RoundEvent) and event.round not in own:
                own.add(event.round)
                if (told := self.rounds.get(event.round)) is not None:
                    further.rounds[event.round] = told.copied()
            further.add(event)
        return further

    def add(self, event: FederationEvent) -> None:  # noqa: C901 - one case per event
        """Add the next event."""
        self.events.append(event)
        self.accounts.book(event)
        match event:
            case Joined():
                self.active[event.participant] = event.block_number
                self.memberships[event.participant] = event
            case Left() | Evicted():
                self.active.pop(event.participant, None)
                self.memberships[event.participant] = event
            case Penalized():
                self.memberships[event.participant] = event
                if event.amount:  # the contract deactivates only whom it took something from
                    self.active.pop(event.participant, None)
            case StakeReleased():
                self.memberships[event.participant] = event
            case Announced():
                self.announced[event.who] = event
            case LeafPosted():
                self.posted_leaves.append(event)
            case Withdrawn():
                self.withdrawals.append(event)
        # Replacing an aggregator between rounds emits an event of round 0.
        if isinstance(event, RoundEvent) and event.round:
            if event.round not in self.rounds:
                self.rounds[event.round] = self._new_round(event)
            self.rounds[event.round].add(event)

    def round(self, round_id: RoundId) -> RoundHistory:
        """Return a round, without events if there are none of it."""
        # An empty one is not kept: the history is shared, and compared with the contract's rounds.
        return self.rounds.get(round_id) or RoundHistory(round_id)

    def missed_rounds(self, participant: Address, seats: Seats) -> list[RoundId]:
        """Return the ended rounds that an active participant missed since its last commitment."""
        missed: list[RoundId] = []
        for told in self.rounds.values():
            if any(event.participant == participant for event in told.committed):
                missed = []
            elif told.ended and told.missed_by(participant, seats):
                missed.append(told.round_id)
        joined = self.active.get(participant)
        if joined is None:
            return []
        return [each for each in missed if self.rounds[each].opened.block_number > joined]

    def model_before(self, round_id: RoundId, terms: Terms) -> Model:
        """Return the global model that a round starts from."""
        # An abandoned round leaves the model as it was.
        model = Model(terms.identity.initial_model_root, terms.identity.initial_model_manifest)
        for earlier, told in self.rounds.items():
            if earlier < round_id and told.finalized is not None:
                model = Model(told.finalized.root, told.finalized.manifest)
        return model

    def last_end(self) -> Finalized | Abandoned | None:
        """Return the event that ended the newest round that is over, or None."""
        ended = [told.finalized or told.abandoned for told in self.rounds.values()]
        return next((event for event in reversed(ended) if event is not None), None)

    def _new_round(self, first: RoundEvent) -> RoundHistory:
        """Return a round as its first event finds it."""
        # By block, not by the order of events: who joined in the opening's block is no member.
        members = (who for who, block in self.active.items() if block < first.block_number)
        return RoundHistory(first.round, frozenset(members))


def _copies(parts: RoundHistory | Masking) -> dict[str, Any]:
    """Return copies of the parts that events are added to, by name."""
    return {
        name: copy(value)
        for name, value in vars(parts).items()
        if isinstance(value, list | dict | set)
    }
