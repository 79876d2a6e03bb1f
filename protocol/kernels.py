"""The two inner loops compiled by numba: SHA-256 of many short messages, and the mean.

`protocol.speed` decides when they are used; without numba (extra `fast`) numpy and hashlib do the
same work to the same bits. Both release the interpreter lock, so threads over blocks help.

SHA-256 (FIPS 180-4) cannot be split within one message, but leaves and nodes are many messages of
one length: sixteen go side by side, one in each lane of a vector, which on a CPU with AVX-512 and
without SHA instructions is several times the speed of one after the other.
"""

from functools import reduce
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES: Final = 16

_WORDS: Final = 0  # rows of `scratch`: sixteen of message, eight of chaining value
_CHAIN: Final = 16
_ROWS: Final = 24


def _fraction_bits_of_roots(primes: list[int], root: int) -> NDArray[np.uint32]:
    """The first 32 bits of the fractional parts of square or cube roots (FIPS 180-4 §4.2.2)."""
    return np.array([_integer_root(p << 32 * root, root) % 2**32 for p in primes], np.uint32)


def _integer_root(value: int, degree: int) -> int:
    low, high = 0, 1 << (value.bit_length() // degree + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if middle**degree <= value else (low, middle)
    return low


_PRIMES: Final = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
_K: Final = _fraction_bits_of_roots(_PRIMES, 3)
_START: Final = _fraction_bits_of_roots(_PRIMES[:8], 2)


@njit(nogil=True, cache=True)
def _swap(x: Any) -> Any:
    return np.uint32(
        (x >> np.uint32(24))
        | ((x >> np.uint32(8)) & np.uint32(0xFF00))
        | ((x << np.uint32(8)) & np.uint32(0xFF0000))
        | (x << np.uint32(24))
    )


@intrinsic
def _compress(typing_context: Any, scratch: Any) -> Any:
    """Add one block, whose words are in `scratch`, to the chaining value of every lane.

    Written with vectors instead of loops over lanes: loops were tried, and stayed scalar.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        _Rounds(builder, array.data).compress()
        return context.get_dummy_value()

    return types.void(scratch), generate


class _Rounds:
    """Emits the compression function (FIPS 180-4 §6.2.2) on vectors of one word a lane."""

    def __init__(self, builder: Any, data: Any) -> None:
        self.builder = builder
        self.vector = ir.VectorType(ir.IntType(32), LANES)
        self.data = builder.bitcast(data, self.vector.as_pointer())

    def compress(self) -> None:
        chain = [self.load(_CHAIN + i) for i in range(8)]
        words = [self.load(_WORDS + i) for i in range(16)]
        state = chain
        for t in range(64):
            if t >= 16:
                words.append(self.extended(words))
            state = self.round(state, int(_K[t]), words[t])
        for i, (before, after) in enumerate(zip(chain, state, strict=True)):
            self.store(_CHAIN + i, self.builder.add(before, after))

    def round(self, state: list[Any], k: int, word: Any) -> list[Any]:
        a, b, c, d, e, f, g, h = state
        build = self.builder
        choice = build.xor(g, build.and_(e, build.xor(f, g)))
        majority = build.or_(build.and_(a, b), build.and_(c, build.or_(a, b)))
        added = self.sum(h, self.rotated(e, 6, 11, 25), choice, build.add(word, self.constant(k)))
        return [
            self.sum(added, self.rotated(a, 2, 13, 22), majority),
            a,
            b,
            c,
            build.add(d, added),
            e,
            f,
            g,
        ]

    def extended(self, words: list[Any]) -> Any:
        build = self.builder
        x, y = words[-15], words[-2]
        first = build.xor(self.rotated(x, 7, 18), build.lshr(x, self.constant(3)))
        second = build.xor(self.rotated(y, 17, 19), build.lshr(y, self.constant(10)))
        return self.sum(words[-16], first, words[-7], second)

    def rotated(self, x: Any, *places: int) -> Any:
        """The exclusive or of `x` rotated right by each of `places`."""
        turned = [
            self.builder.or_(
                self.builder.lshr(x, self.constant(n)), self.builder.shl(x, self.constant(32 - n))
            )
            for n in places
        ]
        return reduce(self.builder.xor, turned)

    def sum(self, *terms: Any) -> Any:
        return reduce(self.builder.add, terms)

    def constant(self, value: int) -> Any:
        return ir.Constant(self.vector, [value] * LANES)

    def load(self, row: int) -> Any:
        return self.builder.load(self.place(row), align=4)

    def store(self, row: int, value: Any) -> None:
        self.builder.store(value, self.place(row), align=4)

    def place(self, row: int) -> Any:
        index = ir.Constant(ir.IntType(64), row)
        return self.builder.gep(self.data, [index], source_etype=self.vector)


@njit(nogil=True, cache=True)
def _load_words(scratch: Any, carried: Any, rows: Any, group: Any, first: Any) -> None:
    """Load words `first` to `first` + 15 of sixteen rows, each one byte further on."""
    count, words = rows.shape
    whole = min(16, max(0, words - first))
    for lane in range(LANES):
        row = min(group + lane, count - 1)
        before = carried[lane]
        for t in range(whole):
            word = _swap(rows[row, first + t])
            scratch[(_WORDS + t) * LANES + lane] = before | (word >> np.uint32(8))
            before = np.uint32(word << np.uint32(24))
        carried[lane] = before


@njit(nogil=True, cache=True)
def _load_padding(scratch: Any, carried: Any, words: Any, first: Any) -> None:
    """Fill up with the row's last byte, the end mark, and zeros."""
    for t in range(min(16, max(0, words - first)), 16):
        for lane in range(LANES):
            is_end = first + t == words
            word = carried[lane] | np.uint32(0x800000) if is_end else np.uint32(0)
            scratch[(_WORDS + t) * LANES + lane] = word


@njit(nogil=True, cache=True)
def hash_rows(rows: Any, prefix: Any, digests: Any) -> None:
    """Write SHA-256(prefix ‖ row) of each row to `digests`.

    `rows` is C-contiguous uint32 (n, words) as it lies in memory, whatever bytes those are;
    `prefix` is one byte; `digests` is uint32 (n, 8), to be read as 32 bytes a row.
    """
    count, words = rows.shape
    blocks = (4 * words + 10 + 63) // 64  # prefix, 0x80 and the 64-bit length around the row
    bits = 8 * (4 * words + 1)
    scratch = np.empty(_ROWS * LANES, np.uint32)
    carried = np.empty(LANES, np.uint32)  # the last byte of the word before, at the top
    for group in range(0, count, LANES):
        for i in range(8):
            scratch[(_CHAIN + i) * LANES : (_CHAIN + i + 1) * LANES] = _START[i]
        carried[:] = np.uint32(prefix) << np.uint32(24)
        for block in range(blocks):
            _load_words(scratch, carried, rows, group, 16 * block)
            _load_padding(scratch, carried, words, 16 * block)
            if block == blocks - 1:
                scratch[(_WORDS + 14) * LANES : (_WORDS + 15) * LANES] = np.uint32(bits >> 32)
                scratch[(_WORDS + 15) * LANES : (_WORDS + 16) * LANES] = np.uint32(bits)
            _compress(scratch)
        for lane in range(min(LANES, count - group)):
            for i in range(8):
                digests[group + lane, i] = _swap(scratch[(_CHAIN + i) * LANES + lane])


@njit(nogil=True, cache=True)
def add_weighted(values: Any, is_swapped: Any, factor: Any, sums: Any) -> None:
    """Add factor · values to the int64 `sums`; `values` are uint32, the bits of an int32 each."""
    if is_swapped:
        for i in range(values.size):
            sums[i] += np.int64(np.int32(_swap(values[i]))) * factor
    else:
        for i in range(values.size):
            sums[i] += np.int64(np.int32(values[i])) * factor


@njit(nogil=True, cache=True)
def divide_down(sums: Any, divisor: Any, is_swapped: Any, quotients: Any) -> None:
    """Write floor(sums / divisor) to `quotients` as the bits of an int32 each.

    A division of integers is slow and has no vector form. The quotient is at most 2^31, so the
    one in float64 is off by less than 2^-19, and its floor by one at most: the remainder tells.
    Sums may wrap on the way to the remainder; it is right modulo 2^64 and lies within 2 divisors.
    """
    inverse = 1.0 / divisor
    for i in range(sums.size):
        quotient = np.int64(np.floor(np.float64(sums[i]) * inverse))
        remainder = np.int64(sums[i] - quotient * divisor)
        quotient += np.int64(remainder >= divisor) - np.int64(remainder < 0)
        bits = np.uint32(quotient)
        quotients[i] = _swap(bits) if is_swapped else bits
