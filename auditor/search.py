"""Finds a wrong leaf in a tree that is not available, by requesting a few of its leaves (§11).

A posted leaf comes with the digests of its siblings. The subtree below the lowest sibling that
differs from our own tree holds a wrong leaf. A leaf requested in that subtree can only differ from
ours at a lower level, so one of the first depth + 1 leaves is wrong.

    suspects = narrow(ours, posted)     # request any of them until one leaf is left, and posted
"""

from collections.abc import Mapping, Sequence

from chain.records import Leaf
from protocol.tree import TreeBuilder, compute_proof, leaf_digest
from protocol.types import Digest


def compute_digests_root(digests: Sequence[Digest]) -> Digest:
    """Return the root over leaves whose digests are known."""
    builder = TreeBuilder(leaf_bytes=1)
    for digest in digests:
        builder.add_leaf(digest)
    return builder.root()


def narrow(ours: Sequence[Digest], posted: Mapping[int, Leaf]) -> range:
    """Return the smallest known range of leaves that contains a wrong one.

    `ours` are the leaf digests that the tree should have; its root differs. `posted` are leaves of
    the tree by number, with valid proofs; siblings that stand for no leaf are right. If the only
    leaf of the range was posted, it is wrong; otherwise no leaf of the range was posted.
    """
    # Every leaf gives a range of its own. The smallest is taken, whatever the order of the answers.
    found = range(len(ours))
    for index, leaf in posted.items():
        if leaf_digest(leaf.values) != ours[index]:
            return range(index, index + 1)
        found = min(found, _below_lowest_difference(ours, index, leaf.proof), key=len)
    return found


def _below_lowest_difference(ours: Sequence[Digest], index: int, proof: Sequence[Digest]) -> range:
    """Return the leaves below the lowest sibling of leaf `index` that differs from our tree's."""
    siblings = zip(proof, compute_proof(ours, index), strict=True)
    # There is one: the leaf is right and the root is not, so the paths differ somewhere.
    level = next(level for level, (theirs, right) in enumerate(siblings) if theirs != right)
    first = min((index >> level ^ 1) << level, len(ours) - 1)
    # The last subtree is cut short where the number of leaves is not a power of two.
    return range(first, min(first + (1 << level), len(ours)))
