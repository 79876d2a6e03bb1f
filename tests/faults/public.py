"""What somebody who has everything public can make of it: is any update in a sum of too few?

Everything public is every word of every transaction that was ever sent, mined or not, and every
block that was ever in the store. It is held against arithmetic alone: a masked vector is

    w·d  +  PRG(own seed)  ±  PRG(seed of a pair), one a peer

so that of several vectors those sums are free of masks in which every seed is known or cancels. A
seed is known when a word has the digest that a bundle promises, or when enough words are shares.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from eth_utils.crypto import keccak

from protocol.bundle import Bundle
from protocol.errors import Rejected
from protocol.manifest import Manifest
from protocol.shares import default_threshold
from protocol.types import Address, Digest, parse_digest

_SELECTOR = 4
_WORD = 32
_LARGE = 8 << 10  # bytes of a layer file: its blocks are masked values, or a model's


@dataclass(frozen=True)
class Vector:
    """A masked vector that lies in the store: whose, of which round, and its bundle."""

    round_id: int
    owner: Address
    bundle: Bundle


def words_of(calls: Iterable[bytes]) -> set[bytes]:
    """Return every word in the arguments of calls of a contract."""
    return {
        data[start : start + _WORD]
        for data in calls
        for start in range(_SELECTOR, len(data) - _WORD + 1, _WORD)
    }


def words_in(blocks: Iterable[bytes]) -> set[bytes]:
    """Return what may be a secret in stored blocks: wherever it begins, in all but layer files."""
    return {
        block[start : start + _WORD]
        for block in blocks
        for start in range(0, len(block) - _WORD + 1, 1 if len(block) < _LARGE else _WORD)
    }


def masked_vectors(
    blocks: Mapping[bytes, bytes], owners: Mapping[Digest, Address]
) -> Iterator[Vector | str]:
    """Yield the masked vectors among blocks by SHA-256, and what cannot be there.

    `owners` says who made which manifest.
    """
    for digest, block in blocks.items():
        if not block.startswith(b"{"):
            continue
        try:
            manifest = Manifest.parse(block)
        except Rejected:
            continue
        if manifest.kind == "update":
            yield f"an update of round {manifest.round} is in the store, without masks"
        if manifest.kind != "masked":
            continue
        owner = owners.get(Digest(digest))
        if owner is None or manifest.bundle is None:
            yield f"nobody knows the masked update {digest.hex()} of round {manifest.round}"
        elif (raw := blocks.get(parse_digest(manifest.bundle))) is not None:
            yield Vector(manifest.round, owner, Bundle.parse(raw))


def find_leaks(
    vectors: Iterable[Vector], words: set[bytes], sets: Iterable[frozenset[Address]], least: int
) -> Iterator[str]:
    """Yield each sum that is free of masks and is none of the `sets`, or of fewer than `least`."""
    found = list(vectors)
    digests = {keccak(word) for word in words}
    allowed = set(sets)
    for round_id in sorted({vector.round_id for vector in found}):
        of_round = {v.owner: v for v in found if v.round_id == round_id}
        if len(of_round) != sum(v.round_id == round_id for v in found):
            yield f"round {round_id}: somebody has masked two vectors"
        for free in _free_sums(of_round, digests):
            if len(free) < least or free not in allowed:
                yield f"round {round_id}: the sum of {sorted(free)} is free of masks"


def _free_sums(vectors: dict[Address, Vector], digests: set[bytes]) -> Iterator[frozenset[Address]]:
    """Yield the smallest sets whose sum has no mask left; every other such sum is made of them."""
    # A vector whose own seed is unknown is in none. Two that have an unknown seed in common are in
    # the same or in none, since nothing else has it.
    left = {who for who, vector in vectors.items() if 0 in _known(vector, digests)}
    while left:
        group, dead, todo = set[Address](), False, [min(left)]
        while todo:
            who = todo.pop()
            group.add(who)
            for peer in _hidden_pairs(vectors, who, digests):
                dead |= peer not in vectors or 0 not in _known(vectors[peer], digests)
                if peer in left and peer not in group:
                    todo.append(peer)
        left -= group
        if not dead:
            yield frozenset(group)


def _hidden_pairs(
    vectors: dict[Address, Vector], who: Address, digests: set[bytes]
) -> Iterator[Address]:
    """Yield the peers whose common seed with somebody is unknown, by either's bundle."""
    own = vectors[who].bundle
    known = _known(vectors[who], digests)
    for place, peer in enumerate(own.peers, 1):
        theirs = vectors.get(peer)
        is_told = theirs is not None and (
            who in theirs.bundle.peers
            and 1 + theirs.bundle.peers.index(who) in _known(theirs, digests)
        )
        if place not in known and not is_told:
            yield peer


def _known(vector: Vector, digests: set[bytes]) -> set[int]:
    """Return which of a bundle's secrets are known, by their numbers: 0 is the own seed."""
    bundle = vector.bundle
    threshold = default_threshold(len(bundle.peers))
    return {
        number
        for number, commitment in enumerate(bundle.commitments)
        if commitment in digests
        or sum(row[number] in digests for row in bundle.share_digests) >= threshold
    }
