"""Conversion between real tensors and the integers all agree on (docs/protocol.md §2 and §3).

A value v of a model is stored as the signed 32-bit integer round_half_even(v · 2^24), one of an
update as a signed byte (`protocol.differences`). The smallest integer of either kind, -2^31 and
-128, is never used, so that a value and its negative are both representable. One of a masked update
is any unsigned 32 bits (`protocol.masking`).
Golden vectors: tests/vectors/encoding.json, tests/vectors/differences.json.
"""

from math import prod
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected

PublishedKind = Literal["update", "masked", "model"]
"""What a manifest can be of."""
Kind = Literal[PublishedKind, "sum"]
"""What layer files can be of; a `sum` of masked updates is computed by each for itself."""

FRACTION_BITS: Final = 24
LEAF_VALUES: Final = 256
BLOCK_BYTES: Final = 1 << 20
"""The size of the blocks that a layer file is stored in; the last one may be shorter."""
MAX_VALUE: Final = 2**31 - 1
"""The largest magnitude of a value of a model, in quanta of 2^-24."""
MAX_STEPS: Final = 127
"""The largest magnitude of a value of an update, in steps of the round's grid."""

_TYPES: Final[dict[Kind, np.dtype[Any]]] = {
    "model": np.dtype(">i4"),
    "update": np.dtype(np.int8),
    "masked": np.dtype(">u4"),
    "sum": np.dtype(">i4"),
}
_BLOCK: Final = 65_536  # values worked on at once: a float64 block of them fits the L2 cache


def value_type(kind: Kind) -> np.dtype[Any]:
    """Return the type of a value: big-endian int32 of a model, uint32 if masked, else int8."""
    return _TYPES[kind]


def leaf_bytes(kind: Kind) -> int:
    """Return the size in bytes of a leaf of 256 values: 256 in a clear update, else 1,024."""
    return LEAF_VALUES * _TYPES[kind].itemsize


def encode_values(
    values: NDArray[np.floating[Any]], fraction_bits: int = FRACTION_BITS
) -> NDArray[np.int32]:
    """Return round_half_even(values · 2^24) as int32, same shape (docs/protocol.md §2).

    Takes float16, float32 or float64. Raises Rejected(Check.RANGE) for NaN, infinity and any value
    whose rounded integer lies outside ±(2^31 - 1); nothing is clipped. Other `fraction_bits` than
    24 are for values that belong to no federation.
    """
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise Misconfigured(f"values are {values.dtype}, float16, float32 or float64 was expected")
    encoded = np.empty(values.shape, dtype=np.int32)
    source, target = values.reshape(-1), encoded.reshape(-1)
    for start in range(0, source.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        scaled = source[part].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled *= 2.0**fraction_bits  # a power of two: exact in float64
        np.rint(scaled, out=scaled)
        fits = np.abs(scaled) <= MAX_VALUE  # NaN compares false
        if not fits.all():
            at = start + int(np.argmin(fits))
            bound = f"a number and |v| < 2^{31 - fraction_bits}"
            raise Rejected(Check.RANGE, f"value {at} is {source[at]}; it must be {bound}")
        target[part] = scaled
    return encoded


def decode_values(values: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return values · 2^-24 as float32, same shape.

    Encoding a float32 array and decoding it loses at most half a quantum, 2^-25.
    """
    return values.astype(np.float32) * np.float32(2.0**-FRACTION_BITS)


def padded_bytes(shape: tuple[int, ...], kind: Kind) -> int:
    """Return the size in bytes of a layer file of `shape`, including padding to whole leaves."""
    return -(-prod(shape) // LEAF_VALUES) * leaf_bytes(kind)


def layer_bytes(values: NDArray[Any], kind: Kind) -> bytes:
    """Return a layer file: row-major, big-endian, zero padded to whole leaves (§3).

    `values` are int32 for a model and int8 for an update; Misconfigured for anything else.
    """
    stored = value_type(kind)
    if values.dtype.kind != "i" or values.dtype.itemsize != stored.itemsize:
        expected = f"int{8 * stored.itemsize}"
        raise Misconfigured(f"values of {kind} are {values.dtype}, {expected} was expected")
    padding = padded_bytes(values.shape, kind) - values.nbytes
    return values.astype(stored).tobytes(order="C") + bytes(padding)


def layer_values(
    data: bytes | bytearray | memoryview, shape: tuple[int, ...], kind: Kind
) -> NDArray[Any]:
    """Return the values of a layer file in `shape`, int32 or int8: the inverse of `layer_bytes`.

    Raises Rejected(Check.DIGESTS) when the size is not that of `shape`, and
    Rejected(Check.RANGE) when a value is the smallest integer or the padding is not zero.
    """
    expected = padded_bytes(shape, kind)
    if len(data) != expected:
        raise Rejected(Check.DIGESTS, f"{len(data):,} bytes, shape {shape} takes {expected:,}")
    stored = np.frombuffer(data, dtype=value_type(kind))
    fault = find_range_fault(stored, prod(shape), kind)
    if fault:
        raise Rejected(Check.RANGE, fault)
    return stored[: prod(shape)].astype(stored.dtype.newbyteorder("=")).reshape(shape)


def find_range_fault(stored: NDArray[Any], count: int, kind: Kind) -> str | None:
    """Return what check 7 finds wrong in values as they are stored, or None.

    The first `count` values are the layer's, the others its padding.
    """
    # Otherwise one tensor would have many files and roots, and a copy would pass as an original.
    if count < stored.size and stored[max(count, 0) :].any():
        return "the padding is not zero"
    smallest = np.iinfo(stored.dtype).min
    if stored.size and stored.min() == smallest:
        return "a value is -128" if kind == "update" else "a value is -2^31"
    return None
