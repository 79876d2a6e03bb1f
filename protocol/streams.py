"""How a member of a refused set accounts for its masks (docs/protocol.md §13).

A sketch that is not of its update betrays itself where the masks are known. Those of a pair stay
unknown: both of it publish the sketch of their common stream instead. Where the two differ, the
seed tells who lies. It was in no other sum than the one that was refused. Golden vectors:
tests/vectors/streams.json.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected
from protocol.masking import SEED_BYTES, stream
from protocol.sketches import SKETCH_SIZE, sketch
from protocol.types import Address

_NUMBER_BYTES: Final = 4
_SKETCH_BYTES: Final = _NUMBER_BYTES * SKETCH_SIZE
PEER_BYTES: Final = _SKETCH_BYTES + SEED_BYTES
"""Of an account, for each other member of the set."""
_CLOSED: Final = bytes(SEED_BYTES)


def sketch_stream(seed: bytes, sketch_seed: bytes, first_leaf: int, leaves: int) -> list[int]:
    """Return the sketch of so many leaves of a stream, modulo 2^32.

    Those of parts add up to that of the whole, modulo 2^32.
    """
    found = sketch(stream(seed, first_leaf, leaves), sketch_seed, first_leaf)
    return [number % 2**32 for number in found]


@dataclass(frozen=True)
class StreamAccount:
    """Of each stream shared with another member of the set: its sketch, and its seed if opened.

    The numbers of a sketch are modulo 2^32.
    """

    sketches: Mapping[Address, tuple[int, ...]]
    seeds: Mapping[Address, bytes]

    def to_bytes(self) -> bytes:
        """Return the bytes that are stored as one raw block: peers in ascending order."""
        peers = sorted(self.sketches, key=lambda peer: int(peer, 16))
        return b"".join(
            b"".join(number.to_bytes(_NUMBER_BYTES) for number in self.sketches[peer])
            + self.seeds.get(peer, _CLOSED)
            for peer in peers
        )

    @classmethod
    def parse(cls, raw: bytes, peers: Sequence[Address]) -> Self:
        """Return the account for these peers; Rejected(Check.BLAMED) for another length."""
        if len(raw) != PEER_BYTES * len(peers):
            size = PEER_BYTES * len(peers)
            raise Rejected(Check.BLAMED, f"an account of masks of {len(raw):,} bytes, not {size:,}")
        sketches, seeds = {}, {}
        for place, peer in enumerate(sorted(peers, key=lambda each: int(each, 16))):
            part = raw[PEER_BYTES * place : PEER_BYTES * (place + 1)]
            numbers = range(0, _SKETCH_BYTES, _NUMBER_BYTES)
            sketches[peer] = tuple(int.from_bytes(part[k : k + _NUMBER_BYTES]) for k in numbers)
            if part[_SKETCH_BYTES:] != _CLOSED:
                seeds[peer] = part[_SKETCH_BYTES:]
        return cls(sketches, seeds)

    def __post_init__(self) -> None:
        lengths = {len(numbers) for numbers in self.sketches.values()}
        if lengths - {SKETCH_SIZE} or not self.seeds.keys() <= self.sketches.keys():
            raise Misconfigured("an account of masks has 128 numbers, and seeds of its peers only")
