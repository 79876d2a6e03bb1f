"""Reads blocks from whoever has them: a role's own store, then what others announced.

    sources = Sources(ContentStore(url), DialRules())
    sources.learn([Announcer("0x…", places, is_author=False)], period=3)
    sources.get_block(digest)                   # the first verified bytes win
    sources.of("0x…").get_block(digest)         # a block of that author's update

The next source starts beside the last after two seconds, or once it has failed. What a stranger's
line may cost is bounded in storage/announced.py, and which address is dialled in storage/dial.py.
"""

import math
import threading
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol, runtime_checkable

from protocol.errors import Misconfigured, Unavailable
from protocol.types import Digest
from protocol.whereabouts import Gateway, Peer
from storage.announced import Announcer, Budget, Line
from storage.blocks import ReadableStore, Store
from storage.dial import DialRules
from storage.gateway import GatewayStore
from storage.race import Race

BESIDE_S: Final = 2.0
"""How long a source has before the next one is asked beside it."""

_PEERS_AT_ONCE: Final = 16
_PEERING_AGAIN_S: Final = 30.0  # a daemon that was restarted has forgotten whom it was told to keep


@runtime_checkable
class PeeringStore(Protocol):
    """A store that finds blocks at peers, once it is told where these are."""

    def keep_peer(self, addresses: Sequence[str]) -> None:
        """Stay connected to a peer, given by multiaddrs that end with its ID."""

    def connect_peer(self, addresses: Sequence[str]) -> None:
        """Connect to a peer now."""

    def drop_peer(self, peer_id: str) -> None:
        """Stay connected to a peer no longer."""


class Sources:
    """A store whose reads also go to what others announced. Any number of threads may share it.

    `own` is None for a role that only reads. `timeout_s` bounds each silence of a gateway. `itself`
    is the role's own account, whose announcement is not read.
    """

    def __init__(
        self,
        own: Store | None,
        rules: DialRules,
        *,
        itself: str | None = None,
        peers_with_authors: bool = True,
        timeout_s: float = 30.0,
    ) -> None:
        self.own = own
        self._rules, self._itself, self._timeout_s = rules, itself, timeout_s
        self._peers_with_authors = peers_with_authors
        self._announcers: tuple[Announcer, ...] = ()
        self._period: int | None = None
        self._lines: dict[tuple[str, Gateway], Line] = {}
        self._budgets: dict[str, Budget] = {}
        self._current: list[Line] = []
        self._kept: set[str] = set()
        self._peering = threading.Lock()
        self._peered_at = -math.inf
        self._everybody = _View(self, None)

    def learn(self, announcers: Iterable[Announcer], period: int) -> None:
        """Take what is announced by now, in the order in which it is to be asked.

        What failed in an earlier `period`, which is a round, begins anew.
        """
        if period != self._period:
            self._lines, self._budgets, self._period = {}, {}, period
            self._everybody = _View(self, None)
        known, lines = self._lines, {}
        others = tuple(each for each in announcers if each.who != self._itself)
        for each in others:
            budget = self._budgets.setdefault(each.who, Budget())
            for place in each.places:
                if isinstance(place, Gateway):
                    store = GatewayStore(place, self._rules, self._timeout_s)
                    line = Line(store, budget, each.who if each.is_author else None)
                    # What was announced before keeps its failures.
                    lines[each.who, place] = known.get((each.who, place), line)
        has_changed = others != self._announcers
        self._announcers, self._lines = others, {**known, **lines}
        self._current = list(lines.values())
        self.keep_peers(at_once=has_changed)

    def of(self, author: str) -> ReadableStore:
        """Return where blocks of an author's update are read: from nobody else who trains."""
        return _View(self, author)

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        """Return a block from whoever has it first (storage/blocks.py)."""
        return self._everybody.get_block(digest, size, deadline)

    @property
    def address(self) -> str:
        """The own store's address; "none" without one."""
        return "none" if self.own is None else self.own.address

    def put_block(self, data: bytes) -> Digest:
        """Store one block in the role's own store."""
        return self._writable().put_block(data)

    def put_blocks(self, blocks: Iterable[bytes], *, pinned: bool = True) -> list[Digest]:
        """Store blocks in the role's own store."""
        return self._writable().put_blocks(blocks, pinned=pinned)

    def has(self, digest: Digest) -> bool:
        """Whether the role's own store has a block."""
        return self.own is not None and self.own.has(digest)

    def remove_blocks(self, digests: Collection[Digest], *, also_pinned: bool = True) -> None:
        """Remove blocks from the role's own store."""
        self._writable().remove_blocks(digests, also_pinned=also_pinned)

    def ask_in_turn(self, author: str | None) -> list[ReadableStore]:
        """Return the sources for a block, in the order in which they are asked."""
        own: list[ReadableStore] = [] if self.own is None else [self.own]
        wanted = (None,) if author is None else (None, author)
        usable = [line for line in self._current if line.is_usable]
        if author is None:
            return [*own, *usable]
        return [*own, *(line for line in usable if line.author in wanted)]

    def keep_peers(self, *, at_once: bool = False) -> None:
        """Remind the own store of the peers, beside the work; else not if that was done lately."""
        now = time.monotonic()
        is_due = at_once or now >= self._peered_at + _PEERING_AGAIN_S
        if is_due and isinstance(self.own, PeeringStore):
            self._peered_at = now
            # Beside the work: names may take long to resolve, and strangers chose them.
            threading.Thread(target=self._peer, args=(self.own,), daemon=True, name="peers").start()

    def _peer(self, own: PeeringStore) -> None:
        with self._peering:
            peers: dict[str, list[Peer]] = {}
            for each in self._announcers:
                if self._peers_with_authors or not each.is_author:
                    for place in each.places:
                        if isinstance(place, Peer):
                            peers.setdefault(place.id, []).append(place)
            for gone in self._kept - peers.keys():
                _try(own.drop_peer, gone)
            self._kept = set(peers)
            with ThreadPoolExecutor(_PEERS_AT_ONCE) as pool:
                list(pool.map(lambda places: self._keep(own, places), peers.values()))

    def _keep(self, own: PeeringStore, places: Sequence[Peer]) -> None:
        addresses = []
        for place in places:
            if place.address is None:
                addresses.append(place.line)
                continue
            try:
                found = self._rules.peer_addresses(place.address, self._timeout_s)
            except Unavailable:
                continue
            addresses += [f"{address}/p2p/{place.id}" for address in found]
        if addresses:
            _try(own.keep_peer, addresses)
        if any(not address.startswith("/p2p/") for address in addresses):
            _try(own.connect_peer, addresses)  # at once: by itself a daemon begins after seconds

    def _writable(self) -> Store:
        if self.own is None:
            raise Misconfigured("this role has no store of its own: nothing can be put")
        return self.own


class _View:
    """The sources for one author's blocks, or for everything; the last to deliver is asked first.

    A store that does not have an update does not have the next block of it either, and each
    would cost two seconds anew.
    """

    def __init__(self, sources: Sources, author: str | None) -> None:
        self._sources, self._author = sources, author
        self._last: ReadableStore | None = None

    def get_block(
        self, digest: Digest, size: int | None = None, deadline: float = math.inf
    ) -> bytes:
        """Return a block from whoever has it first; raises as storage/blocks.py says."""
        self._sources.keep_peers()
        in_turn = self._sources.ask_in_turn(self._author)
        if self._last in in_turn:
            in_turn.sort(key=lambda each: each is not self._last)  # stable: the others stay
        race = Race(digest, size, deadline)
        for source in in_turn:
            race.start(source)
            if race.is_won(min(BESIDE_S, max(deadline - time.monotonic(), 0))):
                break
        winner, data = race.result()
        self._last = winner
        return data


def reading_from(store: ReadableStore, author: str) -> ReadableStore:
    """Return where an author's update is read: its own places too, where `store` knows them."""
    return store.of(author) if isinstance(store, Sources) else store


def _try(action: Callable[..., None], *arguments: object) -> None:
    """Do what only helps: an own daemon that cannot is told by what it cannot fetch."""
    try:
        action(*arguments)
    except Unavailable:
        return
