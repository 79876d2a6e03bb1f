"""The bundle: what a participant publishes of the secrets of its masks (docs/protocol.md §13).

Commitments to its own seed and to the seed of each pair it is in, and shares of all of them for
each peer, under a key that only the two can make. Bytes have one form: what is parsed and written
again is the same. Golden vectors: tests/vectors/bundles.json.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected
from protocol.masking import MAX_PARTICIPANTS, MIN_PARTICIPANTS, SEED_BYTES
from protocol.shares import (
    NONCE_BYTES,
    SHARE_BYTES,
    TAG_BYTES,
    open_shares,
    recover,
    seal_shares,
    split,
)
from protocol.types import Address, Digest

VERSION: Final = 1
_DIGEST_BYTES: Final = 32
_ADDRESS_BYTES: Final = 20

Randomness = Callable[[int], bytes]
"""Returns so many bytes from the operating system: `secrets.token_bytes`."""


@dataclass(frozen=True)
class Bundle:
    """The bundle of one dealer; lists go by ascending address of its peers.

    Each list of secrets has k + 1 entries for k peers: the dealer's own seed first, then the seed
    of its pair with each peer.
    """

    peers: tuple[Address, ...]
    commitments: tuple[Digest, ...]
    """Keccak-256 of each secret."""
    boxes: tuple[bytes, ...]
    """For each peer its shares of all secrets, sealed (`protocol.shares`)."""
    share_digests: tuple[tuple[Digest, ...], ...]
    """For each peer the Keccak-256 of each share in its box."""

    def __post_init__(self) -> None:
        fault = self._find_fault()
        if fault:
            raise Misconfigured(fault)

    def _find_fault(self) -> str | None:
        count = len(self.peers)
        if not MIN_PARTICIPANTS <= count + 1 <= MAX_PARTICIPANTS:
            return f"a bundle for {count} peers, {MIN_PARTICIPANTS - 1} to {MAX_PARTICIPANTS - 1}"
        numbers = [int(peer, 16) for peer in self.peers]
        if any(a >= b for a, b in pairwise(numbers)):
            return "the peers are not in ascending order of address, each once"
        sizes = [
            (len(self.commitments), count + 1),
            (len(self.boxes), count),
            (len(self.share_digests), count),
            *((len(digests), count + 1) for digests in self.share_digests),
            *((len(digest), _DIGEST_BYTES) for digest in self.commitments),
            *((len(digest), _DIGEST_BYTES) for row in self.share_digests for digest in row),
            *((len(box), _box_bytes(count)) for box in self.boxes),
        ]
        wrong = [
            f"{found} where {expected} belong" for found, expected in sizes if found != expected
        ]
        return f"lists or bytes of other sizes: {wrong[0]}" if wrong else None

    def to_bytes(self) -> bytes:
        """Return the bytes that are stored as one raw block, at most 66,002."""
        return b"".join(
            (
                bytes((VERSION, len(self.peers))),
                *(_raw(peer) for peer in self.peers),
                *self.commitments,
                *self.boxes,
                *(digest for row in self.share_digests for digest in row),
            )
        )

    @classmethod
    def parse(cls, raw: bytes) -> Self:
        """Return the bundle in `raw`; Rejected(Check.BUNDLE) for any other bytes."""
        if len(raw) < 2 or raw[0] != VERSION:
            raise Rejected(Check.BUNDLE, f"a bundle begins with {VERSION} and a number of peers")
        count = raw[1]
        if not MIN_PARTICIPANTS <= count + 1 <= MAX_PARTICIPANTS:
            raise Rejected(Check.BUNDLE, f"a bundle for {count} peers")
        # The length follows from the number of peers, so nothing below is read past the end.
        if len(raw) != bundle_bytes(count):
            expected = bundle_bytes(count)
            raise Rejected(Check.BUNDLE, f"{len(raw):,} bytes, {count} peers take {expected:,}")
        place = 2

        def take(size: int, times: int) -> list[bytes]:
            nonlocal place
            start, place = place, place + size * times
            return [raw[i : i + size] for i in range(start, place, size)]

        peers = tuple(Address(to_checksum_address(peer)) for peer in take(_ADDRESS_BYTES, count))
        commitments = tuple(Digest(each) for each in take(_DIGEST_BYTES, count + 1))
        boxes = tuple(take(_box_bytes(count), count))
        rows = [
            tuple(Digest(each) for each in take(_DIGEST_BYTES, count + 1)) for _ in range(count)
        ]
        try:
            return cls(peers, commitments, boxes, tuple(rows))
        except Misconfigured as error:
            raise Rejected(Check.BUNDLE, str(error)) from error

    def check_peers(self, dealer: Address, committed: Sequence[Address]) -> None:
        """Raise Rejected(Check.BUNDLE) unless it is for all who committed but the dealer."""
        if set(self.peers) != set(committed) - {dealer}:
            raise Rejected(
                Check.BUNDLE,
                f"the peers of {dealer} are {len(self.peers)} addresses, and not the"
                f" {len(committed) - 1} others who committed",
            )

    def secrets_digest(self) -> Digest:
        """Return Keccak-256 over the commitments, one after the other: what the reveal binds."""
        return Digest(keccak(b"".join(self.commitments)))

    def commitment_of_pair(self, peer: Address) -> Digest:
        """Return the commitment to the seed that the dealer has in common with `peer`."""
        return self.commitments[1 + self._index(peer)]

    def open_box(self, peer: Address, key: bytes) -> list[bytes]:
        """Return the peer's shares of all secrets, in their order.

        Raises Rejected(Check.BUNDLE) when the box does not open or a share is not the one that the
        bundle promises.
        """
        index = self._index(peer)
        shares = open_shares(key, self.boxes[index])
        if tuple(commit(share) for share in shares) != self.share_digests[index]:
            raise Rejected(Check.BUNDLE, f"the shares for {peer} are not those promised")
        return shares

    def recover_secret(
        self, secret: int, shares: Mapping[Address, bytes], dealer: Address
    ) -> bytes:
        """Return secret number `secret`, in the order of the commitments, from peers' shares.

        As many are used as are given. Raises Rejected(Check.BUNDLE) when a share is not the one
        that the bundle promises, or when together they are not what the dealer committed to.
        """
        for peer, share in shares.items():
            if commit(share) != self.share_digests[self._index(peer)][secret]:
                raise Rejected(Check.BUNDLE, f"the share of {peer} is not the one promised")
        places = share_places((dealer, *self.peers))
        found = recover({places[peer]: share for peer, share in shares.items()}, len(shares))
        if commit(found) != self.commitments[secret]:
            raise Rejected(
                Check.BUNDLE, f"{len(shares)} shares are not of what {dealer} committed to"
            )
        return found

    def _index(self, peer: Address) -> int:
        if peer not in self.peers:
            raise Misconfigured(f"{peer} is no peer of this bundle")
        return self.peers.index(peer)


def bundle_bytes(peers: int) -> int:
    """Return the size of a bundle for so many peers."""
    listed = _ADDRESS_BYTES * peers + _DIGEST_BYTES * (peers + 1)
    return 2 + listed + peers * (_box_bytes(peers) + _DIGEST_BYTES * (peers + 1))


def commit(secret: bytes) -> Digest:
    """Return the commitment to a secret, or the digest of a share: Keccak-256.

    Never SHA-256: that of a seed and eight bytes is a block of its stream.
    """
    return Digest(keccak(secret))


def share_places(committed: Sequence[Address]) -> dict[Address, int]:
    """Return the x of each participant's shares: 1 + its rank by address among all of a round."""
    ordered = sorted(committed, key=lambda address: int(address, 16))
    return {address: rank for rank, address in enumerate(ordered, 1)}


def deal(
    dealer: Address,
    own_seed: bytes,
    pair_seeds: Mapping[Address, bytes],
    share_keys: Mapping[Address, bytes],
    threshold: int,
    randomness: Randomness,
) -> Bundle:
    """Return the dealer's bundle; `threshold` peers can recover its secrets.

    `pair_seeds` and `share_keys` (`protocol.pair_keys`) have one entry a peer. First the
    coefficients of each secret are drawn, then each box's nonce.
    """
    if set(pair_seeds) != set(share_keys) or dealer in pair_seeds:
        raise Misconfigured(f"{len(pair_seeds)} seeds and {len(share_keys)} keys of other peers")
    peers = tuple(sorted(pair_seeds, key=lambda address: int(address, 16)))
    secrets = [own_seed, *(pair_seeds[peer] for peer in peers)]
    if any(len(secret) != SEED_BYTES for secret in secrets):
        raise Misconfigured(f"a seed has {SEED_BYTES} bytes")
    places = share_places((dealer, *peers))
    dealt = [
        split(
            secret,
            threshold,
            [places[peer] for peer in peers],
            randomness((threshold - 1) * SEED_BYTES),
        )
        for secret in secrets
    ]
    of_peers = list(zip(*dealt, strict=True))
    return Bundle(
        peers,
        tuple(commit(secret) for secret in secrets),
        tuple(
            seal_shares(share_keys[peer], shares, randomness(NONCE_BYTES))
            for peer, shares in zip(peers, of_peers, strict=True)
        ),
        tuple(tuple(commit(share) for share in shares) for shares in of_peers),
    )


def contradicted(
    bundles: Mapping[Address, Bundle], committed: Sequence[Address]
) -> dict[Address, int]:
    """Return who is left out because bundles commit to different seeds of one pair, and how often.

    The participant with the most such differences goes first, the later commitment of two, until
    none is left. `bundles` are those revealed, `committed` all participants in commitment order.
    """
    order = {address: place for place, address in enumerate(committed)}
    left, dropped = dict(bundles), dict[Address, int]()
    while True:
        differences = {
            who: sum(
                bundle.commitment_of_pair(peer) != left[peer].commitment_of_pair(who)
                for peer in bundle.peers
                if peer in left
            )
            for who, bundle in left.items()
        }
        worst = max(differences, key=lambda who: (differences[who], order[who]), default=None)
        if worst is None or not differences[worst]:
            return dropped
        dropped[worst] = differences[worst]
        del left[worst]


def _box_bytes(peers: int) -> int:
    return NONCE_BYTES + SHARE_BYTES * (peers + 1) + TAG_BYTES


def _raw(address: Address) -> bytes:
    return bytes.fromhex(address[2:])
