"""A federation's events from one node: read once, extended block by block, checked for gaps.

A node whose log index is behind, or that truncates answers, returns fewer logs without an error.
Comparing them with the contract's own counts at the same block reveals that.
"""

import threading
from collections.abc import Sequence
from typing import Final, Protocol

from web3 import Web3

from chain.event_index import EventIndex, ReadUpTo, block_hash
from chain.events import FederationEvent, read_events
from chain.history import History, RoundHistory
from chain.records import Round, Sum, Terms
from contracts.enums import Stage
from protocol.errors import Unavailable
from protocol.types import Address, Digest, RoundId, TokenUnits, UnixTime

# After a deeper reorganisation, events are read again from the deployment on. Ethereum finalizes
# after two epochs of 32 blocks.
_REORGANISATION_BLOCKS: Final = 128


class MissingLogs(Unavailable):
    """The node does not have all logs of a block; it may have them later."""

    service = "chain"


class Counts(Protocol):
    """The contract's own counts at a block."""

    deployment_block: int

    def created_at(self) -> UnixTime:
        """Return the time of the founding."""

    def active_count(self, block: int | None = None) -> int:
        """Return how many participants may commit."""

    def round_count(self, block: int | None = None) -> RoundId:
        """Return the newest round's number."""

    def get_round(self, round_id: RoundId, block: int | None = None) -> Round:
        """Return the facts of a round."""

    def get_sum(self, round_id: RoundId, block: int | None = None) -> Sum:
        """Return what is stored of a round's masked sum."""

    def terms(self) -> Terms:
        """Return the terms of the founding."""


class EventLog:
    """The events of one federation from one node; thread-safe.

    `deposit` is the deposit of a leaf request (`Terms.availability_deposit`).
    """

    def __init__(self, w3: Web3, address: Address, deposit: TokenUnits) -> None:
        self._w3 = w3
        self._address = address
        self._deposit = deposit
        # Held while reading too: two threads would read the same blocks and append them twice.
        self._lock = threading.Lock()
        self._events: list[FederationEvent] = []
        self._reads: list[ReadUpTo] = []
        self._complete: set[RoundId] = set()
        self._history: History | None = None
        self._index: EventIndex | None = None

    @property
    def last_read(self) -> ReadUpTo | None:
        """The block up to which events were read last."""
        return self._reads[-1] if self._reads else None

    def begin_with(self, events: Sequence[FederationEvent], read: ReadUpTo) -> None:
        """Take over events that an earlier process read from this node and compared."""
        with self._lock:
            self._forget()
            self._events, self._reads = list(events), [read]
            # Only rounds that have ended: what an open one had then says nothing of now.
            ended = History.fold(events, self._deposit).rounds.values()
            self._complete = {told.round_id for told in ended if told.ended}

    def use(self, index: EventIndex) -> None:
        """Begin with the events of an index, and keep in it what is read from now on."""
        if (known := index.load()) is not None:
            self.begin_with(*known)
        self._index = index

    def forget(self) -> None:
        """Forget all events, so that the next call reads them again from the deployment on."""
        with self._lock:
            self._forget()

    def up_to(self, block: int, counts: Counts) -> History:
        """Return the history up to `block`, whose state `counts` can read.

        Asks for the logs of new blocks only; after a reorganisation, from the last block that is
        still on the chain. Raises MissingLogs when there are fewer logs than the contract counts,
        and Unavailable when the node no longer has the state, or the chain changes meanwhile.
        """
        with self._lock:
            self._forget_what_is_gone(block)
            last = self.last_read
            first = counts.deployment_block if last is None else last.block + 1
            if first > block and self._history is not None:
                return self._history
            before = block_hash(self._w3, block)
            if before is None:
                raise Unavailable(
                    f"the Ethereum RPC does not have its own block {block}", service="chain"
                )
            told = read_events(self._w3, self._address, first, block) if first <= block else []
            # Logs are asked for by number: a reorganisation meanwhile would mix two branches.
            if block_hash(self._w3, block) != before:
                raise Unavailable(
                    f"the chain has another block {block} than a moment ago", service="chain"
                )
            # Callers keep a history, so it is never changed. Without new events it is used again.
            if self._history is None:
                history = History.fold([*self._events, *told], self._deposit)
            else:
                history = self._history.extended(told) if told else self._history
            try:
                check_complete(history, counts, block, self._complete)
            except MissingLogs:
                # The events are not kept: the same question may get a longer answer. Neither are
                # those of the index, which may be what lacks some.
                if self._index is not None:
                    self._index = None
                    self._forget()
                raise
            except Unavailable:
                # Only the state is gone. The logs are good, and are compared with a later state.
                self._keep(history.events, block, before)
                self._history = None
                raise
            self._keep(history.events, block, before)
            self._history = history
            if self._index is not None:
                self._index.keep(history.events, block, before)
            self._complete |= {told.round_id for told in history.rounds.values() if told.ended}
            return history

    def _keep(self, events: list[FederationEvent], block: int, found: bytes) -> None:
        self._events = events
        if self.last_read is None or self.last_read.block < block:
            self._reads.append(ReadUpTo(block, found, len(events)))
            del self._reads[:-_REORGANISATION_BLOCKS]

    def _forget_what_is_gone(self, block: int) -> None:
        """Go back to the last block that was read and is still on the chain, at most `block`."""
        # From the newest backwards: without a reorganisation this asks for one header.
        kept = len(self._reads)
        while kept and (
            self._reads[kept - 1].block > block
            or block_hash(self._w3, self._reads[kept - 1].block) != self._reads[kept - 1].block_hash
        ):
            kept -= 1
        if kept < len(self._reads):
            reads = self._reads[:kept]
            events = self._events[: reads[-1].count] if reads else []
            self._forget()
            self._events, self._reads = events, reads

    def _forget(self) -> None:
        self._events, self._reads, self._complete, self._history = [], [], set(), None


def check_complete(
    history: History, counts: Counts, block: int, complete: set[RoundId] | None = None
) -> None:
    """Raise MissingLogs unless a history has all that the federation emitted up to `block`.

    Compares the rounds that are not in `complete` with the contract's counts. Raises Unavailable
    when the node no longer has the state of `block`.
    """
    active, found = counts.active_count(block), len(history.active)
    if active != found:
        raise MissingLogs(
            f"the node does not have all logs of block {block}: they show {found} active"
            f" participants, the contract counts {active}"
        )
    newest = counts.round_count(block)
    if history.rounds and max(history.rounds) > newest:
        raise MissingLogs(
            f"the node has logs of round {max(history.rounds)}, but only {newest} rounds at block"
            f" {block}"
        )
    # Before they are asked for one by one: the count may be false, and any number.
    if len(history.rounds) < newest:
        raise MissingLogs(
            f"the node does not have all logs of block {block}: they show {len(history.rounds)}"
            f" rounds, the contract counts {newest}"
        )
    for round_id in map(RoundId, range(1, newest + 1)):
        if round_id not in (complete or ()):
            told = history.rounds.get(round_id, RoundHistory(round_id))
            facts = counts.get_round(round_id, block)
            _check_round(told, facts, block)
            if counts.terms().is_masked:
                _check_sum(told, facts, counts.get_sum(round_id, block), block)


def _check_sum(told: RoundHistory, facts: Round, total: Sum, block: int) -> None:
    masking = told.masking
    compared = {
        "public keys": (len(masking.keys), facts.committed),
        "bound secrets": (len(masking.secrets), facts.revealed),
        # An empty set is sealed as well; the contract keeps nothing of it.
        "members of the set": (len(masking.members), total.size),
        "draws of sketches": (int(masking.drawn is not None), int(any(total.sketch_seed))),
        "opened secrets": (len(masking.unmasked), total.unmasked),
        "objections": (len(masking.objected), total.objections),
    }
    _compare(told.round_id, compared, block)


def _compare(round_id: RoundId, compared: dict[str, tuple[int, int]], block: int) -> None:
    for what, (found, expected) in compared.items():
        if found != expected:
            raise MissingLogs(
                f"the node does not have all logs of block {block}: they show {found} {what} in"
                f" round {round_id}, the contract counts {expected}"
            )


def _check_round(told: RoundHistory, counted: Round, block: int) -> None:
    # A refuted proposal no longer stands: the stage is OPEN again, or the round abandoned.
    is_voided = told.masking.voided_proposal is not None
    standing = counted.stage in (Stage.PROPOSED, Stage.FINALIZED) or is_voided
    compared = {
        "openings": (int(told.opened_by is not None), int(bool(counted.opened_block))),
        "members": (len(told.members), counted.active),
        "seeds": (int(told.seeded is not None), int(counted.is_seeded)),
        "commitments": (len(told.committed), counted.committed),
        "reveals": (len(told.revealed), counted.revealed),
        "proposals": (len(told.proposals), counted.proposals),
        "refuted proposals": (len(told.refuted), counted.proposals - standing),
        "open leaf requests": (len(told.standing_requests), counted.open_requests),
        "settlements": (
            int(told.finalized is not None),
            int(counted.stage is Stage.FINALIZED),
        ),
        "abandonments": (
            int(told.abandoned is not None),
            int(counted.stage is Stage.ABANDONED),
        ),
    }
    _compare(told.round_id, compared, block)
    # What the events say is what the contract has, where it has it.
    said: list[tuple[str, Digest, Digest]] = []
    if told.seeded is not None:
        said.append(("seed", told.seeded.seed, counted.seed))
    if told.proposed is not None:
        said.append(("model root", told.proposed.root, counted.model_root))
        said.append(("model manifest", told.proposed.manifest, counted.model_manifest))
    for name, logged, stated in said:
        if logged != stated:
            raise MissingLogs(
                f"the node's logs up to block {block} give round {told.round_id} the {name}"
                f" {logged.hex()}, the contract {stated.hex()}"
            )
    # The contract does not count payments; their sum stands in the settlement itself.
    if told.finalized is not None:
        paid = told.finalized.fee + sum(event.amount for event in told.paid)
        if paid != told.finalized.paid:
            raise MissingLogs(
                f"the node does not have all logs of block {block}: they show {paid:,} token"
                f" units paid in round {told.round_id}, {told.finalized.paid:,} were"
            )
