"""Inner loops compiled by numba: SHA-256 of many messages at once, the average, and the norm.

All hand-written LLVM IR of this project is in this file. `protocol.speed` is the only switch that
turns it on; with the switch off, numpy and hashlib do the same work to the same bits, which
tests/protocol/test_speed.py proves. The loops release the interpreter lock, so threads help.

SHA-256 (FIPS 180-4) cannot be split within one message. Leaves, nodes and files are many messages:
sixteen are hashed side by side, one in each lane of a vector. On a CPU with AVX-512 and without
SHA instructions that is several times as fast as hashing them one by one.

Each loop is compiled for one signature (`prepare`). Bytes that are only read are passed
by address (int64): as arrays, read-only and writable memory would be two signatures each.
Arrays are written value by value, never as `a[:] = b` or `a += 1`: for those numba compiles
broadcasting and the text of its errors as well, longer than all the rest of `advance_leaves`.
"""

import threading
from functools import reduce
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

LANES: Final = 16
BLOCK_BYTES: Final = 64  # what SHA-256 takes at a time

_STRIP: Final = 8192  # values averaged at once: their int32 sums stay in the L1 cache


def _fraction_bits_of_roots(primes: list[int], root: int) -> NDArray[np.uint32]:
    """The first 32 bits of the fractional parts of square or cube roots (FIPS 180-4 §4.2.2).

    They are computed, since 72 constants typed by hand would be 72 chances of a slip.
    """
    bits = []
    for prime in primes:
        # floor(prime^(1/root) · 2^32) by bisection in integers: floats lack the digits.
        value = prime << 32 * root
        low, high = 0, 1 << (value.bit_length() // root + 1)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle**root <= value else (low, middle)
        bits.append(low % 2**32)
    return np.array(bits, np.uint32)


# 311 is the 64th prime: SHA-256 has a constant for each of its 64 rounds (FIPS 180-4 §4.2.2).
_PRIMES: Final = [n for n in range(2, 312) if all(n % d for d in range(2, n))]
_K: Final = _fraction_bits_of_roots(_PRIMES, 3)
_START: Final = _fraction_bits_of_roots(_PRIMES[:8], 2)


_VECTOR: Final = ir.VectorType(ir.IntType(32), LANES)
_AHEAD_BYTES: Final = 512  # how far before its use a block is asked for

START: Final = np.repeat(_START, LANES).reshape(8, LANES)
"""The chaining values of sixteen messages before their first block."""


@njit(nogil=True, cache=True)
def _swap(x: Any) -> Any:
    return np.uint32(
        (x >> np.uint32(24))
        | ((x >> np.uint32(8)) & np.uint32(0xFF00))
        | ((x << np.uint32(8)) & np.uint32(0xFF0000))
        | (x << np.uint32(24))
    )


# The intrinsics are written with vectors instead of loops over lanes: loops were tried, and stayed
# scalar. `chains` is uint32 (8, 16), `words` uint32 (16, 16), `places` int64 (16), addresses.


@intrinsic
def _load(typing_context: Any, places: Any, words: Any) -> Any:
    """Write to row t of `words` word t of every lane's block, the 64 bytes at `places`."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        places, words = _pointers(context, builder, signature, arguments)
        # 1. Load each lane's block, and ask for the one that comes later: the hardware's own
        #    prefetcher does not follow sixteen streams.
        rows = []
        hint = builder.module.declare_intrinsic(
            "llvm.prefetch",
            (ir.PointerType(),),
            ir.FunctionType(ir.VoidType(), [ir.PointerType(), *[ir.IntType(32)] * 3]),
        )
        for lane in range(LANES):
            address = builder.load(builder.gep(places, [ir.Constant(ir.IntType(64), lane)]))
            rows.append(builder.load(builder.inttoptr(address, _VECTOR.as_pointer()), align=1))
            ahead = builder.add(address, ir.Constant(ir.IntType(64), _AHEAD_BYTES))
            flags = [ir.Constant(ir.IntType(32), flag) for flag in (0, 2, 1)]  # to read, L2, data
            builder.call(hint, [builder.inttoptr(ahead, ir.PointerType()), *flags])
        # 2. Transpose: interleaving rows i and i + 8 is a perfect shuffle, four of them transpose
        #    16 x 16.
        halves = [
            ir.Constant(_VECTOR, [i for j in range(8) for i in (first + j, first + j + LANES)])
            for first in (0, 8)
        ]
        for _ in range(4):
            rows = [
                builder.shuffle_vector(rows[i // 2], rows[i // 2 + 8], halves[i % 2])
                for i in range(LANES)
            ]
        # 3. SHA-256 reads words big-endian; the lanes are little-endian.
        kind = ir.FunctionType(_VECTOR, [_VECTOR])
        swap = builder.module.declare_intrinsic(f"llvm.bswap.v{LANES}i32", (), kind)
        for t, row in enumerate(rows):
            builder.store(builder.call(swap, [row]), _row(builder, words, t), align=4)
        return context.get_dummy_value()

    return types.void(places, words), generate


@intrinsic
def _shift(typing_context: Any, words: Any, carried: Any) -> Any:
    """Put the byte at the top of `carried`, uint32 (16), before the words; carry the last one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        words, carried = _pointers(context, builder, signature, arguments)
        before = builder.load(_row(builder, carried, 0), align=4)
        for t in range(16):
            place = _row(builder, words, t)
            word = builder.load(place, align=4)
            builder.store(builder.or_(before, builder.lshr(word, _constant(8))), place, align=4)
            before = builder.shl(word, _constant(24))
        builder.store(before, _row(builder, carried, 0), align=4)
        return context.get_dummy_value()

    return types.void(words, carried), generate


@intrinsic
def _emit_rounds(typing_context: Any, chains: Any, words: Any) -> Any:
    """Add a block, whose words are in `words`, to the chaining value of every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        chains, words = _pointers(context, builder, signature, arguments)
        _Rounds(builder).compress(chains, words)
        return context.get_dummy_value()

    return types.void(chains, words), generate


def _address_of(kind: Any) -> Any:
    """A function that makes of an address a pointer to numbers of `kind`, for `carray`."""

    @intrinsic
    def pointer(typing_context: Any, address: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(address), generate

    return pointer


_words, _steps = _address_of(types.uint32), _address_of(types.int8)


def _pointers(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    """Where the data of each array begins."""
    return [
        context.make_array(kind)(context, builder, argument).data
        for kind, argument in zip(signature.args, arguments, strict=True)
    ]


def _row(builder: Any, data: Any, row: int) -> Any:
    """Where row `row` of an array with one word a lane begins."""
    vectors = builder.bitcast(data, _VECTOR.as_pointer())
    return builder.gep(vectors, [ir.Constant(ir.IntType(64), row)], source_etype=_VECTOR)


def _constant(value: int) -> Any:
    return ir.Constant(_VECTOR, [value] * LANES)


class _Rounds:
    """Emits the compression function (FIPS 180-4 §6.2.2) on vectors of one word a lane."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder

    def compress(self, chains: Any, block: Any) -> None:
        """Add one block to the chaining values; both are pointers to rows of one word per lane."""
        build = self.builder
        before = [build.load(_row(build, chains, i), align=4) for i in range(8)]
        words = [build.load(_row(build, block, t), align=4) for t in range(16)]
        state = before
        for t in range(64):
            if t >= 16:
                words.append(self.extended(words))
            state = self.round(state, int(_K[t]), words[t])
        for i, (old, new) in enumerate(zip(before, state, strict=True)):
            build.store(build.add(old, new), _row(build, chains, i), align=4)

    def round(self, state: list[Any], k: int, word: Any) -> list[Any]:
        """Return the working variables a to h after one round (FIPS 180-4 §6.2.2, step 3)."""
        a, b, c, d, e, f, g, h = state
        build = self.builder
        # Ch and Maj with one operation less than in FIPS 180-4 §4.1.2.
        choice = build.xor(g, build.and_(e, build.xor(f, g)))
        majority = build.or_(build.and_(a, b), build.and_(c, build.or_(a, b)))
        added = self.sum(h, build.add(word, _constant(k)), choice, self.rotated(e, 6, 11, 25))
        first = self.sum(added, majority, self.rotated(a, 2, 13, 22))
        return [first, a, b, c, build.add(d, added), e, f, g]

    def extended(self, words: list[Any]) -> Any:
        """Return the next word of the message schedule (§6.2.2, step 1)."""
        build = self.builder
        x, y = words[-15], words[-2]
        first = build.xor(self.rotated(x, 7, 18), build.lshr(x, _constant(3)))
        second = build.xor(self.rotated(y, 17, 19), build.lshr(y, _constant(10)))
        return build.add(build.add(words[-16], first), build.add(words[-7], second))

    def rotated(self, x: Any, *places: int) -> Any:
        """The exclusive or of `x` rotated right by each of `places`."""
        build = self.builder
        turned = [
            build.or_(build.lshr(x, _constant(n)), build.shl(x, _constant(32 - n))) for n in places
        ]
        return reduce(build.xor, turned)

    def sum(self, *terms: Any) -> Any:
        """Return the sum of the terms, modulo 2^32 in each lane."""
        return reduce(self.builder.add, terms)


@njit(nogil=True, cache=True)
def _compress(chains: Any, words: Any) -> None:
    _emit_rounds(chains, words)


@njit(nogil=True, cache=True)
def _begin(chains: Any, carried: Any, prefix: Any) -> None:
    """Begin a message in every lane: its first byte is `prefix`, at the top of `carried`."""
    for lane in range(LANES):
        carried[lane] = np.uint32(prefix) << np.uint32(24)
        for i in range(8):
            chains[i, lane] = _START[i]


@njit(nogil=True, cache=True)
def _go_on(places: Any) -> None:
    """Move every lane on to its next block."""
    for lane in range(LANES):
        places[lane] += BLOCK_BYTES


@njit(nogil=True, cache=True)
def _end(chains: Any, carried: Any, mark: Any, size: Any, words: Any) -> None:
    """Take in the last block, of padding: what is carried, a mark, and the message's bytes."""
    for lane in range(LANES):
        words[0, lane] = carried[lane] | np.uint32(mark)
        for t in range(1, 14):
            words[t, lane] = 0
        words[14, lane], words[15, lane] = np.uint32(size >> 29), np.uint32(size << 3)
    _compress(chains, words)


@njit(nogil=True, cache=True)
def advance(chains: Any, places: Any, blocks: Any) -> None:
    """Take `blocks` blocks into each lane's chaining value.

    `chains` is uint32 (8, 16), begun as `START`; `places` is int64 (16), where each lane's bytes
    lie, and is moved on. One block has 64 bytes, at any alignment.
    """
    words = np.empty((16, LANES), np.uint32)
    for _ in range(blocks):
        _load(places, words)
        _compress(chains, words)
        _go_on(places)


@njit(nogil=True, cache=True)
def advance_leaves(chains: Any, places: Any, leaf_bytes: Any, leaves: Any) -> None:
    """As `advance`, by whole leaves, and write each leaf's digest to `leaves`, of the same bytes.

    `leaf_bytes` are whole blocks; `leaves` is uint32 (16, leaves, 8).
    """
    words, carried = np.empty((16, LANES), np.uint32), np.empty(LANES, np.uint32)
    leaf_chains = np.empty_like(chains)
    for leaf in range(leaves.shape[1]):
        _begin(leaf_chains, carried, 0)
        for _ in range(leaf_bytes // BLOCK_BYTES):
            _load(places, words)
            _compress(chains, words)
            _shift(words, carried)
            _compress(leaf_chains, words)
            _go_on(places)
        _end(leaf_chains, carried, 0x800000, leaf_bytes + 1, words)
        for lane in range(LANES):
            for i in range(8):
                leaves[lane, leaf, i] = _swap(leaf_chains[i, lane])


@njit(nogil=True, cache=True)
def finish(chains: Any, size: Any) -> None:
    """End every lane's message, whole blocks of `size` bytes together: now `chains` are digests."""
    words, carried = np.empty((16, LANES), np.uint32), np.zeros(LANES, np.uint32)
    _end(chains, carried, 0x80000000, size, words)


@njit(nogil=True, cache=True)
def hash_rows(place: Any, count: Any, size: Any, prefix: Any, digests: Any) -> None:
    """Write SHA-256(prefix ‖ row) of each row to `digests`.

    `place` is the address of `count` rows of `size` bytes, whole blocks, one after the other;
    `prefix` is one byte; `digests` is uint32 (count, 8), to be read as 32 bytes per row.
    """
    words, carried = np.empty((16, LANES), np.uint32), np.empty(LANES, np.uint32)
    chains, places = np.empty((8, LANES), np.uint32), np.empty(LANES, np.int64)
    for group in range(0, count, LANES):
        _begin(chains, carried, prefix)
        for lane in range(LANES):
            # The last group may be short: its spare lanes hash the last row again.
            places[lane] = place + min(group + lane, count - 1) * size
        for _ in range(size // BLOCK_BYTES):
            _load(places, words)
            _shift(words, carried)
            _compress(chains, words)
            _go_on(places)
        _end(chains, carried, 0x800000, size + 1, words)
        for lane in range(min(LANES, count - group)):
            for i in range(8):
                digests[group + lane, i] = _swap(chains[i, lane])


@njit(nogil=True, cache=True)
def _copy(source: Any, i: Any, target: Any, j: Any) -> None:
    """Copy digest `i` of `source` to place `j` of `target`."""
    for word in range(8):
        target[j, word] = source[i, word]


@njit(nogil=True, cache=True)
def subtrees(row: Any, first_leaf: Any, levels: Any, roots: Any) -> Any:
    """Write the fewest full subtrees over leaves to `levels` and `roots`; return how many.

    `row` are the leaves' digests, C-contiguous uint32 (n, 8), overwritten; the first is leaf
    `first_leaf` of the tree. `levels` is int64 (128), `roots` uint32 (128, 8). See
    `protocol.tree.full_subtrees`.
    """
    count, place, level = len(row), first_leaf, 0
    low, high = 0, len(levels)
    while count:
        first = place & 1
        if first:
            levels[low] = level
            _copy(row, 0, roots, low)
            low, place, count = low + 1, place + 1, count - 1
        if count & 1:
            high -= 1
            levels[high] = level
            _copy(row, first + count - 1, roots, high)
            count -= 1
        # In place: sixteen pairs are read before a digest is written.
        pairs = np.int64(row.ctypes.data) + 32 * first
        # As variables' types, not literals: those would be a signature of their own.
        hash_rows(pairs, count // 2, np.int64(64), np.int64(1), row)
        count, place, level = count // 2, place >> 1, level + 1
    for place in range(high, len(levels)):
        levels[low] = levels[place]
        _copy(roots, place, roots, low)
        low += 1
    return low


@njit(nogil=True, cache=True)
def add_blocks(seed: Any, first_leaf: Any, factor: Any, target: Any) -> None:
    """Add `factor` times SHA-256(seed ‖ leaf ‖ c) to `target`, modulo 2^32 (docs/protocol.md §13).

    `seed` is uint32 (8), big-endian words; `target` uint32 (leaves, 8 · blocks), a row a leaf from
    `first_leaf` on, and c counts the blocks of a row, a multiple of sixteen. Each is one message of
    40 bytes, so one step of SHA-256: sixteen of them, side by side, are those of sixteen c.
    """
    words, chains = np.empty((16, LANES), np.uint32), np.empty((8, LANES), np.uint32)
    for lane in range(LANES):
        for t in range(16):
            words[t, lane] = 0
        for t in range(8):
            words[t, lane] = seed[t]
        words[10, lane], words[15, lane] = np.uint32(0x80000000), np.uint32(8 * 40)
    for leaf in range(target.shape[0]):
        for first in range(0, target.shape[1] // 8, LANES):
            for lane in range(LANES):
                words[8, lane] = np.uint32(first_leaf + leaf)
                words[9, lane] = np.uint32(first + lane)
                for i in range(8):
                    chains[i, lane] = _START[i]
            _compress(chains, words)
            for lane in range(LANES):
                for i in range(8):
                    target[leaf, 8 * (first + lane) + i] += chains[i, lane] * factor


@njit(nogil=True, cache=True)
def _add_one(a: Any, w: Any, sums: Any) -> None:
    for i in range(sums.size):
        sums[i] += np.int32(a[i]) * np.int32(w)


@njit(nogil=True, cache=True)
def _add_four(a: Any, b: Any, c: Any, d: Any, weights: Any, sums: Any) -> None:
    """As four times `_add_one`, but the sums are read and written once."""
    w0, w1, w2, w3 = weights[0], weights[1], weights[2], weights[3]
    for i in range(sums.size):
        sums[i] += (
            np.int32(a[i]) * np.int32(w0)
            + np.int32(b[i]) * np.int32(w1)
            + np.int32(c[i]) * np.int32(w2)
            + np.int32(d[i]) * np.int32(w3)
        )


@njit(nogil=True, cache=True)
def _move(sums: Any, total: Any, shift: Any, old: Any, is_swapped: Any, new: Any) -> None:
    """Write old + floor((2^(shift+1) · sums + total) / (2 · total)) to `new`.

    A division of integers is slow and has no vector form. The quotient is at most 2^31, so the
    one in float64 is off by less than 2^-19, and once rounded by one at most: the remainder, which
    is exact, tells.
    """
    held = np.int32(127 * total)
    factor = np.float64(np.int64(1) << shift) / total
    for i in range(sums.size):
        weighted = max(min(sums[i], held), np.int32(-held))
        quotient = np.int32(np.rint(np.float64(weighted) * factor))
        # An int32 times an int32 is one instruction for a whole vector; int64 times int64 is not.
        product = np.int64(quotient) * np.int64(np.int32(total))
        doubled = 2 * ((np.int64(weighted) << shift) - product)
        quotient += np.int32(doubled >= total) - np.int32(doubled < -total)
        before = np.int32(_swap(old[i]) if is_swapped else old[i])
        moved = np.int64(before) + np.int64(np.int32(quotient))
        bits = np.uint32(max(min(moved, np.int64(0x7FFFFFFF)), np.int64(-0x7FFFFFFF)))
        new[i] = _swap(bits) if is_swapped else bits


@njit(nogil=True, cache=True)
def move_into(
    places: Any, weights: Any, shift: Any, before: Any, is_swapped: Any, target: Any
) -> None:
    """Write the moved model to `target` (docs/protocol.md §7), one strip after the other.

    `places` is int64, the address of each update's int8 values; `weights` int64, each positive,
    their sum below 2^24; `before` the address of the model's int32 values; `target` is uint32, the
    bits of an int32 each. Swapped, for both, is big-endian.
    """
    count, total = len(places), weights.sum()
    held = np.empty(min(_STRIP, target.size), np.int32)
    for start in range(0, target.size, _STRIP):
        sums = held[: min(_STRIP, target.size - start)]
        sums[:] = 0
        size = (sums.size,)
        fours = count - count % 4
        for i in range(0, fours, 4):
            _add_four(
                carray(_steps(places[i] + start), size),
                carray(_steps(places[i + 1] + start), size),
                carray(_steps(places[i + 2] + start), size),
                carray(_steps(places[i + 3] + start), size),
                weights[i : i + 4],
                sums,
            )
        for i in range(fours, count):
            _add_one(carray(_steps(places[i] + start), size), weights[i], sums)
        old = carray(_words(before + 4 * start), size)
        _move(sums, total, shift, old, is_swapped, target[start : start + sums.size])


@njit(nogil=True, cache=True)
def squares(place: Any, count: Any) -> Any:
    """Return Σ value² of the `count` int8 values at address `place`."""
    values = carray(_steps(place), (count,))
    total = np.int64(0)
    for i in range(count):
        total += np.int32(values[i]) * np.int32(values[i])
    return total


_ROWS: Final = types.uint32[:, ::1]
_PLACES: Final = types.int64[::1]
# `advance` is among the first, as it is what tells whether hashing in lanes is worth compiling.
_SIGNATURES: Final = (
    (
        move_into,
        (_PLACES, _PLACES, types.int64, types.int64, types.boolean, types.uint32[::1]),
    ),
    (squares, (types.int64, types.int64)),
    (advance, (_ROWS, _PLACES, types.int64)),
    (add_blocks, (types.uint32[::1], types.int64, types.uint32, _ROWS)),
)
_SIGNATURES_OF_HASHING: Final = (
    (advance_leaves, (_ROWS, _PLACES, types.int64, types.uint32[:, :, ::1])),
    (finish, (_ROWS, types.int64)),
    (hash_rows, (types.int64, types.int64, types.int64, types.int64, _ROWS)),
    (subtrees, (_ROWS, types.int64, _PLACES, _ROWS)),
)


_preparing = threading.Lock()


def prepare(*, with_hashing: bool) -> None:
    """Load the loops from numba's cache, compiling those that are not there yet.

    Afterwards numba compiles nothing else for them: a call with other types fails at once instead
    of holding up a round for seconds. Safe to call from several threads.
    """
    chosen = (*_SIGNATURES, *(_SIGNATURES_OF_HASHING if with_hashing else ()))
    # An aggregator's eight screening threads pass the threshold together. Without the lock one of
    # them asks numba to compile what another has just disabled.
    with _preparing:
        for loop, signature in chosen:
            if not loop.signatures:
                loop.compile(signature)
        for loop, _ in chosen:
            loop.disable_compile()
