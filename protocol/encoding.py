"""Conversion between real tensors and the integers all agree on (docs/protocol.md §2 and §3).

A value v is stored as the signed 32-bit integer round_half_even(v · 2^F). The smallest integer,
-2^31, is never used, so that a value and its negative are both representable.
Golden vectors: tests/vectors/encoding.json.
"""

from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from protocol.checks import Check
from protocol.errors import Misconfigured, Rejected

FRACTION_BITS: Final = 24
LEAF_VALUES: Final = 256
VALUE_BYTES: Final = 4
MAX_VALUE: Final = 2**31 - 1
STORED: Final = np.dtype(">i4")
"""A value in a layer file: four bytes, big-endian, two's complement."""

_BLOCK: Final = 65_536  # values worked on at once: a float64 block of them fits the L2 cache


def encode_values(
    values: NDArray[np.floating[Any]], fraction_bits: int = FRACTION_BITS
) -> NDArray[np.int32]:
    """Return round_half_even(values · 2^fraction_bits) as int32, same shape (docs/protocol.md §2).

    Takes float16, float32 or float64. Raises Rejected(Check.RANGE) for NaN, infinity and any value
    whose rounded integer lies outside ±(2^31 - 1); nothing is clipped.
    """
    if values.dtype.kind != "f" or values.dtype.itemsize > 8:
        raise Misconfigured(f"values are {values.dtype}, float16, float32 or float64 was expected")
    scale = 2.0 ** _checked_bits(fraction_bits)  # a power of two, so scaling in float64 is exact
    encoded = np.empty(values.shape, dtype=np.int32)
    source, target = values.reshape(-1), encoded.reshape(-1)
    for start in range(0, source.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        scaled = source[part].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            scaled *= scale
        np.rint(scaled, out=scaled)
        fits = np.abs(scaled) <= MAX_VALUE  # NaN compares false
        if not fits.all():
            at = start + int(np.argmin(fits))
            text = (
                f"value {at} is {source[at]}; it must be a number and |v| < 2^{31 - fraction_bits}"
            )
            raise Rejected(Check.RANGE, text)
        target[part] = scaled
    return encoded


def decode_values(
    values: NDArray[np.int32], fraction_bits: int = FRACTION_BITS
) -> NDArray[np.float32]:
    """Return values · 2^-fraction_bits as float32, same shape.

    Encoding a float32 array and decoding it loses at most half a quantum, 2^-(fraction_bits + 1).
    """
    scale = np.float32(2.0 ** -_checked_bits(fraction_bits))
    return values.astype(np.float32) * scale


def padded_bytes(shape: tuple[int, ...], leaf_values: int, value_bytes: int = VALUE_BYTES) -> int:
    """Return the size in bytes of a layer file of `shape`, including padding to whole leaves."""
    leaves = -(-prod(shape) // leaf_values)
    return leaves * leaf_values * value_bytes


def layer_bytes(values: NDArray[np.int32], leaf_values: int = LEAF_VALUES) -> bytes:
    """Return a layer file: row-major big-endian int32, zero padded to whole leaves (§3)."""
    padding = padded_bytes(values.shape, leaf_values) - values.size * VALUE_BYTES
    return values.astype(STORED).tobytes(order="C") + bytes(padding)


def layer_values(
    data: bytes | bytearray | memoryview, shape: tuple[int, ...], leaf_values: int = LEAF_VALUES
) -> NDArray[np.int32]:
    """Return the int32 values of a layer file in `shape`: the inverse of `layer_bytes`.

    Raises Rejected(Check.DIGESTS) when the size is not that of `shape`, and
    Rejected(Check.RANGE) when a value is -2^31 or the padding is not zero.
    """
    expected = padded_bytes(shape, leaf_values)
    if len(data) != expected:
        raise Rejected(Check.DIGESTS, f"{len(data):,} bytes, shape {shape} takes {expected:,}")
    stored = np.frombuffer(data, dtype=STORED)
    count = prod(shape)
    # Otherwise one tensor would have many files and roots, and a copy would pass as an original.
    if stored[count:].any():
        raise Rejected(Check.RANGE, f"the padding after {count:,} values is not zero")
    values = stored[:count].astype(np.int32)
    if (values < -MAX_VALUE).any():
        raise Rejected(Check.RANGE, f"value {int(np.argmin(values))} is -2^31")
    return values.reshape(shape)


def _checked_bits(fraction_bits: int) -> int:
    if not 0 <= fraction_bits <= 30:
        raise Misconfigured(f"fraction_bits is {fraction_bits}, 0 to 30 was expected")
    return fraction_bits
