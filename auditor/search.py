"""Finds a wrong leaf in a tree that nobody has, by asking for a few of its leaves (§11).

A leaf that was posted comes with the digests of its siblings. Where the lowest of them that differs
from our own tree's stands, the subtree below it holds a wrong leaf, and a leaf asked for there
cannot again come to differ at that level or above: after depth + 1 leaves one of them is wrong.

    suspects = narrow(ours, posted)     # ask for any of them, until it was posted and is one
"""

from collections.abc import Mapping, Sequence

from chain.records import Leaf
from protocol.tree import TreeBuilder, compute_proof, leaf_digest
from protocol.types import Digest


def compute_digests_root(digests: Sequence[Digest]) -> Digest:
    """Return the root over leaves of which only the digests are known."""
    builder = TreeBuilder(leaf_bytes=1)
    for digest in digests:
        builder.add_leaf(digest)
    return builder.root()


def narrow(ours: Sequence[Digest], posted: Mapping[int, Leaf]) -> range:
    """Return the fewest leaves of a wrong tree that are known to hold a wrong one.

    `ours` are the leaf digests that the tree should have; its root is another. `posted` are leaves
    of the tree by number, with valid proofs; siblings that stand for no leaf are right. A range of
    one leaf that was posted is a wrong leaf itself; no other leaf in the range was posted.
    """
    found = range(len(ours))
    for index, leaf in posted.items():
        if leaf_digest(leaf.values) != ours[index]:
            return range(index, index + 1)
        found = min(found, _below_lowest_difference(ours, index, leaf.proof), key=len)
    return found


def _below_lowest_difference(ours: Sequence[Digest], index: int, proof: Sequence[Digest]) -> range:
    """Return the leaves below the lowest sibling of leaf `index` that is not as in our tree."""
    siblings = zip(proof, compute_proof(ours, index), strict=True)
    level = next(level for level, (theirs, right) in enumerate(siblings) if theirs != right)
    first = min((index >> level ^ 1) << level, len(ours) - 1)
    return range(first, min(first + (1 << level), len(ours)))
