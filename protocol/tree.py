"""The Merkle tree over leaves (docs/protocol.md §4).

    leaf digest = SHA-256(0x00 ‖ leaf)      node digest = SHA-256(0x01 ‖ left ‖ right)

The leaves are padded on the right to a power of two with leaf digests of 32 zero bytes; nodes
above those are hashed like any other. The prefixes keep a node from passing as a leaf.
Golden vectors: tests/vectors/tree.json.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import accumulate
from types import ModuleType
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from protocol import speed
from protocol.errors import Misconfigured
from protocol.types import Digest

ZERO: Final = Digest(bytes(32))
"""The leaf digest of a place to the right of the last leaf."""

MAX_DEPTH: Final = 64  # out of reach: a spec has fewer than 2^32 leaves

Bytes = bytes | bytearray | memoryview


def leaf_digest(data: Bytes) -> Digest:
    """Return SHA-256(0x00 ‖ data)."""
    return Digest(sha256(b"\x00" + data).digest())


def node_digest(left: Digest, right: Digest) -> Digest:
    """Return SHA-256(0x01 ‖ left ‖ right)."""
    return Digest(sha256(b"\x01" + left + right).digest())


# _EMPTY[k] is the root over 2^k places without a leaf.
_EMPTY: Final = tuple(
    accumulate(range(MAX_DEPTH), lambda root, _: node_digest(root, root), initial=ZERO)
)


def tree_depth(leaf_count: int) -> int:
    """Return the number of levels above the leaves: the smallest d with 2^d >= leaf_count."""
    if leaf_count < 1:
        raise Misconfigured(f"a tree has at least one leaf, {leaf_count} were given")
    return (leaf_count - 1).bit_length()


def zero_root(leaf_count: int, leaf_bytes: int = 256) -> Digest:
    """Return the root over leaves of zeros; by default that of an update without a change (§4)."""
    tree_depth(leaf_count)  # no tree without a leaf
    builder = TreeBuilder(leaf_bytes)
    full = [leaf_digest(bytes(leaf_bytes))]
    for _ in range(leaf_count.bit_length() - 1):
        full.append(node_digest(full[-1], full[-1]))
    for level in range(len(full) - 1, -1, -1):  # the largest first, as leaves come
        if leaf_count >> level & 1:
            builder.append(Subtree(level, full[level]))
    return builder.root()


class Subtree(NamedTuple):
    """The root over 2^level leaves, the first of which has a multiple of 2^level as its number."""

    level: int
    root: Digest


def full_subtrees(data: Bytes, leaf_bytes: int, first_leaf: int) -> list[Subtree]:
    """Return the fewest full subtrees over the leaves in `data`, in order.

    `data` holds whole leaves, the first of which is leaf `first_leaf` of the tree. Thus threads can
    hash parts of one tree in any order; `TreeBuilder.append` then joins them.
    """
    if len(data) % leaf_bytes:
        raise Misconfigured(f"{len(data)} bytes are not whole {leaf_bytes}-byte leaves")
    view = memoryview(data).cast("B")
    kernels = speed.hashing(len(view))
    if kernels is None or leaf_bytes % kernels.BLOCK_BYTES or not len(view):
        return _subtrees_plain(view, leaf_bytes, first_leaf)
    leaves = np.frombuffer(view, np.uint8)
    digests = np.empty((len(view) // leaf_bytes, 8), np.uint32)
    kernels.hash_rows(leaves.ctypes.data, len(digests), leaf_bytes, 0, digests)
    return subtrees_over(kernels, digests, first_leaf)


def subtrees_over(
    kernels: ModuleType, digests: NDArray[np.uint32], first_leaf: int
) -> list[Subtree]:
    """As `full_subtrees`, from leaf digests; `kernels` is protocol.compiled.kernels.

    `digests` is C-contiguous uint32 (n, 8), 32 bytes per leaf in memory order; it is overwritten.
    """
    # Two subtrees a level at most, one on either side.
    levels, roots = np.empty(2 * MAX_DEPTH, np.int64), np.empty((2 * MAX_DEPTH, 8), np.uint32)
    count = kernels.subtrees(digests, first_leaf, levels, roots)
    return [Subtree(int(levels[i]), Digest(roots[i].tobytes())) for i in range(count)]


def _subtrees_plain(data: memoryview, leaf_bytes: int, first_leaf: int) -> list[Subtree]:
    row = [leaf_digest(data[i : i + leaf_bytes]) for i in range(0, len(data), leaf_bytes)]
    place, level = first_leaf, 0
    # A node without its sibling in `data` ends a subtree: on the left where its place is odd, on
    # the right where its sibling would come next.
    left: list[Subtree] = []
    right: list[Subtree] = []
    while row:
        if place & 1:
            left.append(Subtree(level, row.pop(0)))
            place += 1
        if len(row) & 1:
            right.append(Subtree(level, row.pop()))
        row = [node_digest(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        place, level = place >> 1, level + 1
    return left + right[::-1]


class TreeBuilder:
    """Computes a root from a stream of bytes, holding one digest per level and less than one leaf.

    >>> builder = TreeBuilder(leaf_bytes=1024)
    >>> builder.update(bytes(4096))
    >>> builder.leaf_count, builder.root().hex()[:16]
    (4, '3dbc0b22d132ef10')
    """

    def __init__(self, leaf_bytes: int) -> None:
        if leaf_bytes < 1:
            raise Misconfigured(f"a leaf has at least one byte, {leaf_bytes} was given")
        self._leaf_bytes = leaf_bytes
        self._partial = bytearray()
        # Roots of full subtrees, the largest first: one for each 1 in the leaf count's binary form.
        self._subtrees: list[Digest] = []
        self.leaf_count = 0

    def update(self, block: Bytes) -> None:
        """Add the bytes of `block`; it may begin and end anywhere within a leaf."""
        view = memoryview(block).cast("B")
        if self._partial:
            missing = self._leaf_bytes - len(self._partial)
            self._partial += view[:missing]
            view = view[missing:]
            if len(self._partial) < self._leaf_bytes:
                return
            digest = leaf_digest(self._partial)
            self._partial.clear()
            self.add_leaf(digest)
        whole = len(view) - len(view) % self._leaf_bytes
        for subtree in full_subtrees(view[:whole], self._leaf_bytes, self.leaf_count):
            self.append(subtree)
        self._partial += view[whole:]

    def add_leaf(self, digest: Digest) -> None:
        """Add the digest of the next leaf."""
        self.append(Subtree(0, digest))

    def append(self, subtree: Subtree) -> None:
        """Add the next 2^level leaves, hashed elsewhere, by the root over them.

        Raises Misconfigured in the middle of a leaf and where no full subtree of that size can
        begin.
        """
        level, digest = subtree
        if self._partial or self.leaf_count & ((1 << level) - 1):
            raise Misconfigured(f"no subtree of 2^{level} leaves begins at leaf {self.leaf_count}")
        carry = self.leaf_count >> level
        while carry & 1:  # like adding one to a binary number
            digest = node_digest(self._subtrees.pop(), digest)
            carry >>= 1
        self._subtrees.append(digest)
        self.leaf_count += 1 << level

    def root(self) -> Digest:
        """Return the root of what was added so far; Misconfigured without whole leaves."""
        if self._partial:
            raise Misconfigured(
                f"the data ends {len(self._partial)} bytes into a leaf of {self._leaf_bytes}"
            )
        depth = tree_depth(self.leaf_count)
        subtrees = self._subtrees.copy()  # more leaves may follow
        if self.leaf_count == 1 << depth:  # full: there is no empty place to join
            return subtrees[0]
        right = ZERO
        for level in range(depth):
            if self.leaf_count >> level & 1:
                right = node_digest(subtrees.pop(), right)
            else:
                right = node_digest(right, _EMPTY[level])
        return right


def compute_root(blocks: Iterable[Bytes], leaf_bytes: int) -> Digest:
    """Return the root over the concatenation of `blocks`, which may be cut anywhere."""
    builder = TreeBuilder(leaf_bytes)
    for block in blocks:
        builder.update(block)
    return builder.root()


def leaf_digests(blocks: Iterable[Bytes], leaf_bytes: int) -> list[Digest]:
    """Return every leaf's digest, in order; each block must hold whole leaves."""
    digests: list[Digest] = []
    for block in blocks:
        view = memoryview(block).cast("B")
        if len(view) % leaf_bytes:
            raise Misconfigured(
                f"a block of {len(view)} bytes is not whole {leaf_bytes}-byte leaves"
            )
        starts = range(0, len(view), leaf_bytes)
        digests.extend(leaf_digest(view[start : start + leaf_bytes]) for start in starts)
    return digests


def compute_proof(leaf_digests: Sequence[Digest], index: int) -> list[Digest]:
    """Return the siblings on the way from leaf `index` to the root, the lowest first."""
    depth = tree_depth(len(leaf_digests))
    if not 0 <= index < len(leaf_digests):
        raise Misconfigured(f"leaf {index} does not exist: there are {len(leaf_digests)}")
    proof = []
    row = list(leaf_digests)
    for level in range(depth):
        if len(row) % 2:
            row.append(_EMPTY[level])
        proof.append(row[index ^ 1])
        row = [node_digest(row[i], row[i + 1]) for i in range(0, len(row), 2)]
        index >>= 1
    return proof


def stream_proof(
    blocks: Iterable[Bytes], leaf_bytes: int, index: int
) -> tuple[bytes, list[Digest]]:
    """Return leaf `index` and its siblings on the way to the root, the lowest first.

    Each block must hold whole leaves. Keeps one digest per level of each sibling's subtree and no
    row of leaves. Raises Misconfigured when there is no such leaf.
    """
    # Leaf i stands under the sibling at the level of the highest bit in which i and index differ.
    siblings = [TreeBuilder(leaf_bytes) for _ in range(MAX_DEPTH)]
    leaf, count = None, 0
    for block in blocks:
        view = memoryview(block).cast("B")
        for start in range(0, len(view), leaf_bytes):
            data = view[start : start + leaf_bytes]
            if count == index:
                leaf = bytes(data)
            else:
                siblings[(count ^ index).bit_length() - 1].add_leaf(leaf_digest(data))
            count += 1
    if leaf is None:
        raise Misconfigured(f"leaf {index} does not exist: there are {count}")
    return leaf, [_padded_root(siblings[level], level) for level in range(tree_depth(count))]


def _padded_root(builder: TreeBuilder, depth: int) -> Digest:
    """Return the root over the added leaves and empty places up to 2^depth."""
    if not builder.leaf_count:
        return _EMPTY[depth]
    root = builder.root()
    for level in range(tree_depth(builder.leaf_count), depth):
        root = node_digest(root, _EMPTY[level])
    return root


def is_proof_valid(root: Digest, leaf_data: Bytes, index: int, proof: Sequence[Digest]) -> bool:
    """Whether `leaf_data` is leaf `index` of the tree of depth len(proof) under `root`."""
    # Only the low bits of a larger index would count: leaf i would pass as leaf i + 2^depth.
    if not 0 <= index < 1 << len(proof):
        return False
    digest = leaf_digest(leaf_data)
    for sibling in proof:
        digest = node_digest(sibling, digest) if index & 1 else node_digest(digest, sibling)
        index >>= 1
    return digest == root
