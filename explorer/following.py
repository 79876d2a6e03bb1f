"""Follows one federation: its newest state at one mined block, read in the background.

    following = Following(federation, store)
    following.start()
    view = following.view()         # the newest; waits for the first
    following.stop()

Pages show what was read last and never ask the node themselves, but for the times of blocks. While
nobody looks, the node is left alone.
"""

import threading
import time
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, Final

from chain.announcements import describe_announcements, read_announcements
from chain.development import is_development_chain
from chain.federation import Federation
from chain.history import History
from chain.records import Terms
from contracts.enums import AggregatorState, Status
from explorer.documents import Documents
from explorer.times import BlockTimes
from explorer.totals import Person, Totals
from protocol.errors import CommonweightError, Unavailable
from protocol.manifest import Manifest
from protocol.spec import Spec
from protocol.types import Address, Digest, RoundId
from rounds.whereabouts import learn_places
from runtime.service import one_line
from runtime.status import describe_round
from sponsor.show import count_unreachable
from storage.blocks import Store

_POLL_S: Final = 3.0  # blocks come every 12 s on Ethereum
_POLL_DEVELOPMENT_S: Final = 1.0
_SAME_BLOCK_S: Final = 5.0  # without a new block only the time moves a round on
_IDLE_S: Final = 60.0  # after the last look at a page: an open page looks every few seconds
_FIRST_WAIT_S: Final = 5.0


@dataclass(frozen=True)
class LocalNotes:
    """What only this machine knows of a federation that it runs; nobody else can check it.

    `names` are the participants' by address, `losses` the held-out loss after each round (0: of
    the base model) in nats per token, as the aggregator has reported it.
    """

    names: Mapping[Address, str] = field(default_factory=dict)
    losses: Callable[[], Mapping[int, float]] = dict


@dataclass(frozen=True)
class View:
    """A federation at one mined block.

    `now` reads that block. `phase` is that of `runtime.status.describe_round`, `chain_time` the
    chain's clock in Unix seconds when this machine's was `read_at`. `trouble` says why nothing
    newer is known.
    """

    now: Federation
    history: History
    totals: Totals
    people: Mapping[Address, Person]
    chain_time: int
    read_at: float
    phase: Mapping[str, Any]
    is_over: bool
    is_closed: bool
    leads: Address
    aggregators: Mapping[Address, AggregatorState]
    announced: Mapping[Address, Mapping[str, Any]]
    unreachable: Mapping[Address, Mapping[str, int]]
    sponsor: Address
    symbol: str
    trouble: str | None = None

    @property
    def terms(self) -> Terms:
        """The federation's terms."""
        return self.now.terms()

    @property
    def address(self) -> Address:
        """The federation's address."""
        return self.now.address

    @property
    def block(self) -> int:
        """The block that everything here is of."""
        return self.now.head

    @property
    def clock(self) -> int:
        """The chain's clock now, in Unix seconds."""
        return self.chain_time + int(time.time() - self.read_at)

    def status_of(self, round_id: RoundId) -> Status:
        """Return a round's status; only the newest can still change."""
        told = self.history.round(round_id)
        if told.ended:
            return Status.FINALIZED if told.finalized else Status.ABANDONED
        return Status[str(self.phase["phase"]).upper()]

    @property
    def key(self) -> object:
        """Equal for two views that show the same, their block and clock aside."""
        events = self.history.events
        last = events[-1].key if events else None
        facts = self.phase["phase"], self.is_over, self.is_closed, self.leads, self.trouble
        return len(events), last, facts


@dataclass(frozen=True)
class _OfEvents:
    """What stays the same until there are new events."""

    people: Mapping[Address, Person]
    aggregators: Mapping[Address, AggregatorState]
    announced: Mapping[Address, Mapping[str, Any]]
    unreachable: Mapping[Address, Mapping[str, int]]


class Following:
    """Follows one federation in a thread of its own."""

    def __init__(
        self,
        federation: Federation,
        store: Store,
        notes: LocalNotes | None = None,
    ) -> None:
        self.federation, self.store = federation, store
        self.notes = notes or LocalNotes()
        self.times = BlockTimes(federation.w3)
        self.version = 0
        """Grows with each change that a page would show."""
        is_quick = is_development_chain(federation.chain_id)
        self._poll_s = _POLL_DEVELOPMENT_S if is_quick else _POLL_S
        self._changed = threading.Condition()
        self._view: View | None = None
        self._trouble: str | None = None
        self._totals = Totals()
        self._fixed: tuple[Address, str] | None = None
        self._of_events = _OfEvents({}, {}, {}, {})
        self._wanted_at = time.monotonic()
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="following", daemon=True)
        self._documents = Documents(store, self.bump)

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def stop(self) -> None:
        """Follow no longer."""
        self._stopped.set()
        self._wake.set()
        self.times.stop()
        self._documents.stop()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def touch(self) -> None:
        """Note that somebody looks: the node is asked for news for a while."""
        was_idle = self._is_idle
        self._wanted_at = time.monotonic()
        if was_idle:
            self._wake.set()

    def await_documents(self, wait_s: float) -> None:
        """Wait for the spec and the manifests of all settled models, each so long at most."""
        terms, view = self.federation.terms(), self.view()
        self._documents.get(terms.identity.spec_digest, Spec.parse, wait_s)
        first = view.history.model_before(RoundId(1), terms).manifest
        settled = [t.finalized.manifest for t in view.history.rounds.values() if t.finalized]
        for digest in (first, *settled):
            self._documents.get(digest, Manifest.parse, wait_s)

    def bump(self) -> None:
        """Note a change that is none of the chain's."""
        with self._changed:
            self.version += 1

    @property
    def newest(self) -> History | None:
        """The newest history that was read; nobody is taken to look at it."""
        view = self._view
        return None if view is None else view.history

    @property
    def block(self) -> int | None:
        """The block that was read last."""
        view = self._view
        return None if view is None else view.block

    def view(self, wait_s: float = _FIRST_WAIT_S) -> View:
        """Return the newest view; Unavailable while there is none, after waiting for it."""
        was_idle = self._is_idle
        self.touch()
        with self._changed:
            self._changed.wait_for(lambda: self._view is not None or self._trouble, wait_s)
            if was_idle and self._view is not None:
                known = self._view
                self._changed.wait_for(lambda: self._view is not known, wait_s)
            if self._view is None:
                reason = self._trouble or "the federation's events are still being read"
                raise Unavailable(reason)
            return self._view

    # ---------------------------------------------------------------- the store

    def spec(self) -> Spec | None:
        """Return the federation's spec; None while the store does not have it."""
        digest = self.federation.terms().identity.spec_digest
        spec: Spec | None = self._documents.get(digest, Spec.parse)
        return spec

    def manifest(self, digest: Digest) -> Manifest | None:
        """Return a manifest that the chain names; None while the store does not have it."""
        manifest: Manifest | None = self._documents.get(digest, Manifest.parse)
        return manifest

    # ---------------------------------------------------------------- the chain

    @property
    def _is_idle(self) -> bool:
        return time.monotonic() - self._wanted_at > _IDLE_S

    def _follow(self) -> None:
        while not self._stopped.is_set():
            try:
                self._publish(self._look(), None)
            except (CommonweightError, OSError) as error:
                reason = str(error) if isinstance(error, CommonweightError) else one_line(error)
                self._publish(None, reason)
            self._wake.wait(None if self._is_idle else self._poll_s)
            self._wake.clear()

    def _publish(self, view: View | None, trouble: str | None) -> None:
        with self._changed:
            before, self._trouble = self._view, trouble
            if view is None and before is not None:
                view = replace(before, trouble=trouble)
            self._view = view
            if (view and view.key) != (before and before.key):
                self.version += 1
            self._changed.notify_all()

    def _look(self) -> View:
        now, known = self.federation.now(), self._view
        # Who provides a node counts requests: this is the only one of most looks.
        is_new = known is None or known.trouble is not None or known.block != now.head
        if known is not None and not is_new and time.time() - known.read_at < _SAME_BLOCK_S:
            return known
        history = now.history()
        chain_time, read_at = now.next_time(), time.time()
        if self._fixed is None:
            self._fixed = now.sponsor(), now.token.symbol()
        sponsor, symbol = self._fixed
        # What only events can change is read again only when there are new ones.
        if known is None or known.history is not history:
            self._totals.follow(history)
            learn_places(self.store, now)
            self._of_events = _OfEvents(
                people={who: copy(person) for who, person in self._totals.people.items()},
                aggregators={each: now.aggregator_state(each) for each in now.aggregators()},
                announced={
                    Address(who): made
                    for who, made in describe_announcements(read_announcements(now)).items()
                },
                unreachable=count_unreachable(history),
            )
        told = self._of_events
        return View(
            now=now,
            history=history,
            totals=self._totals,
            people=told.people,
            chain_time=chain_time,
            read_at=read_at,
            phase=describe_round(now, now.round_count(), None),
            is_over=now.is_over(),
            is_closed=now.is_closed(),
            leads=now.current_aggregator(),
            aggregators=told.aggregators,
            announced=told.announced,
            unreachable=told.unreachable,
            sponsor=sponsor,
            symbol=symbol,
        )
