"""Masks over updates: what one participant adds, its peers take away (docs/protocol.md §13).

    y = w·d + PRG(b) + Σ PRG(s_j) over peers j above - Σ PRG(s_j) over peers j below      mod 2^32

The sum of everybody's y is the sum of everybody's w·d and PRG(b): the streams of the pairs cancel.
Whoever knows the seeds b, and those that pairs with somebody outside the sum have in common, takes
their streams away, and has the sum alone. Golden vectors: tests/vectors/masking.json.

All arrays here are whole leaves of 256 values, one after the other, from leaf `first_leaf` on, so
that a layer, or a part of it, is worked on by itself. Nothing else is held than one array of the
caller's and a block of 256 KiB at most.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.average import MAX_TOTAL_WEIGHT
from protocol.encoding import LEAF_VALUES
from protocol.errors import Misconfigured
from protocol.types import Address

SEED_BYTES: Final = 32
MASKED_VALUE: Final = np.dtype(">u4")
"""A value of a masked layer file."""

MIN_PARTICIPANTS: Final = 3
"""Of two, each knows the other's update from the sum."""
MAX_PARTICIPANTS: Final = 32

_DIGEST_WORDS: Final = 8
_LANES: Final = 16
_CHUNK_LEAVES: Final = 256  # of masked values: they stay in the L2 cache while every mask is added
# What `speed` counts in bytes of bulk hashing or averaging. A value of a stream is a message of its
# own in eight, at a fraction of that rate, so that loading the loops is soon worth it.
_WORK_PER_BYTE: Final = 8


class Mask(NamedTuple):
    """The stream of a seed, and whether the update's owner added or subtracted it."""

    seed: bytes
    sign: Literal[1, -1]


def masks_of(
    participant: Address, own_seed: bytes, pair_seeds: Mapping[Address, bytes]
) -> list[Mask]:
    """Return the masks of a participant's update: its own, and one a peer.

    `pair_seeds` are by the peer's address, one for each other who committed. A stream in common is
    added by whoever has the lower address, read as a number, and subtracted by the other.
    """
    if not MIN_PARTICIPANTS <= len(pair_seeds) + 1 <= MAX_PARTICIPANTS:
        raise Misconfigured(
            f"{len(pair_seeds)} peers: {MIN_PARTICIPANTS} to {MAX_PARTICIPANTS} participants mask"
        )
    return [Mask(own_seed, 1), *pair_masks(participant, pair_seeds)]


def pair_masks(participant: Address, pair_seeds: Mapping[Address, bytes]) -> list[Mask]:
    """Return those of a participant's masks that it has in common with these peers."""
    if participant in pair_seeds:
        raise Misconfigured(f"{participant} has no seed in common with itself")
    own = int(participant, 16)
    return [Mask(seed, 1 if own < int(peer, 16) else -1) for peer, seed in pair_seeds.items()]


def mask(
    update: NDArray[np.int8], weight: int, masks: Sequence[Mask], first_leaf: int
) -> NDArray[np.uint32]:
    """Return the masked values of whole leaves of an update, one-dimensional, native byte order.

    `update` is int8 as in its layer file, padding included: the padding is masked like any value.
    `weight` is min(examples, weight cap).
    """
    if update.dtype != np.int8:
        raise Misconfigured(f"an update is {update.dtype}, int8 was expected")
    if not 1 <= weight <= MAX_TOTAL_WEIGHT:
        raise Misconfigured(f"weight {weight} was given, 1 to 2^24 - 1 was expected")
    masked = update.reshape(-1).astype(np.int32)
    masked *= np.int32(weight)  # at most 128 · (2^24 - 1)
    values = masked.view(np.uint32)
    add_masks(values, masks, first_leaf)
    return values


def add_masks(values: NDArray[np.uint32], masks: Sequence[Mask], first_leaf: int) -> None:
    """Add to `values`, contiguous and in native byte order, the masks as their owner does."""
    _apply(values, masks, first_leaf, 1)


def remove_masks(values: NDArray[np.uint32], masks: Sequence[Mask], first_leaf: int) -> None:
    """Take away from `values` what `add_masks` adds: from an update, or from a sum of several."""
    _apply(values, masks, first_leaf, -1)


def add_masked(sums: NDArray[np.uint32], values: NDArray[Any]) -> None:
    """Add masked values to `sums`, modulo 2^32; `values` are 32-bit in either byte order."""
    if values.dtype.kind != "u" or values.dtype.itemsize != 4:
        raise Misconfigured(f"masked values are {values.dtype}, uint32 was expected")
    sums += values.reshape(sums.shape)


def signed_sum(sums: NDArray[np.uint32]) -> NDArray[np.int32]:
    """Return S, the sum once every mask is gone, read as two's complement; a view, not a copy.

    Σ w·d lies within ±127·W, below 2^31, so that of honest updates it is exact. Whatever lies
    outside is held there by `protocol.average.move_by_sum_into`.
    """
    return sums.view(np.int32)


def stream(seed: bytes, first_leaf: int, leaves: int) -> NDArray[np.uint32]:
    """Return PRG(seed) of so many leaves, one-dimensional: what a mask with the sign 1 adds."""
    values = np.zeros(leaves * LEAF_VALUES, np.uint32)
    add_masks(values, [Mask(seed, 1)], first_leaf)
    return values


def _apply(
    values: NDArray[np.uint32], masks: Sequence[Mask], first_leaf: int, direction: Literal[1, -1]
) -> None:
    if values.dtype != np.uint32 or values.ndim != 1 or values.size % LEAF_VALUES:
        raise Misconfigured(
            f"{values.size} values of {values.dtype}: whole leaves of {LEAF_VALUES} of uint32 were"
            " expected"
        )
    # Otherwise `reshape` would copy, and what is added to the copy be lost.
    if not (values.flags.c_contiguous and values.flags.writeable):
        raise Misconfigured("masks are added in place: a contiguous, writable array was expected")
    rows = values.reshape(-1, LEAF_VALUES)
    for start in range(0, len(rows), _CHUNK_LEAVES):
        part = rows[start : start + _CHUNK_LEAVES]
        for seed, sign in masks:
            add_blocks(part, seed, first_leaf + start, sign * direction)


def add_blocks(rows: NDArray[np.uint32], seed: bytes, first_leaf: int, sign: int) -> None:
    """Add to each row, or subtract, the words of block(seed, leaf, c), c = 0, 1, … as they fit.

    Row number i is leaf `first_leaf` + i and holds a multiple of 128 words in native byte order:

        block(seed, leaf, c) = SHA-256(seed ‖ uint32 leaf ‖ uint32 c)
    """
    if len(seed) != SEED_BYTES:
        raise Misconfigured(f"a seed has {len(seed)} bytes, {SEED_BYTES} were expected")
    if first_leaf < 0 or first_leaf + len(rows) > 1 << 32:
        raise Misconfigured(f"leaves {first_leaf} to {first_leaf + len(rows)} are not below 2^32")
    words = rows.shape[1]
    if words % (_DIGEST_WORDS * _LANES):
        raise Misconfigured(f"a leaf has {words} words, a multiple of 128 was expected")
    kernels = speed.kernels(_WORK_PER_BYTE * rows.nbytes)
    if kernels is not None:
        key = np.frombuffer(seed, ">u4").astype(np.uint32)
        kernels.add_blocks(key, first_leaf, np.uint32(sign % 2**32), rows)
        return
    counters = [c.to_bytes(4) for c in range(words // _DIGEST_WORDS)]
    for leaf, row in enumerate(rows, first_leaf):
        head = seed + leaf.to_bytes(4)
        digests = b"".join([sha256(head + counter).digest() for counter in counters])
        if sign > 0:
            row += np.frombuffer(digests, ">u4")
        else:
            row -= np.frombuffer(digests, ">u4")
