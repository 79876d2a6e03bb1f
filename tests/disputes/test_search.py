"""The search for a wrong leaf in a tree of which only single leaves can be had."""

import random

from hypothesis import example, given
from hypothesis import strategies as st

from auditor.search import compute_digests_root, narrow
from chain.records import Leaf
from protocol.tree import compute_proof, compute_root, is_proof_valid, leaf_digest, tree_depth


@st.composite
def trees(draw: st.DrawFn) -> tuple[list[bytes], list[bytes]]:
    """Leaves as they should be, and as they are: at least one is wrong."""
    count = draw(st.integers(1, 130))
    right = [index.to_bytes(4, "big") for index in range(count)]
    wrong = draw(st.sets(st.integers(0, count - 1), min_size=1))
    return right, [b"bent" if index in wrong else leaf for index, leaf in enumerate(right)]


@given(trees(), st.randoms(use_true_random=False))
@example(([b"\0\0\0\0"], [b"bent"]), random.Random(0))
def test_it_always_ends_at_a_wrong_leaf_within_depth_plus_one_demands(
    tree: tuple[list[bytes], list[bytes]], chance: random.Random
) -> None:
    right, proposed = tree
    ours = [leaf_digest(leaf) for leaf in right]
    theirs = [leaf_digest(leaf) for leaf in proposed]
    root = compute_digests_root(theirs)
    assert root == compute_root(proposed, 4) != compute_digests_root(ours)
    posted: dict[int, Leaf] = {}
    while True:
        suspects = narrow(ours, posted)
        assert any(right[index] != proposed[index] for index in suspects)
        index = chance.choice(suspects)
        if index in posted:
            break
        assert not set(suspects) & set(posted)
        posted[index] = Leaf(proposed[index], tuple(compute_proof(theirs, index)))
        assert is_proof_valid(root, posted[index].values, index, posted[index].proof)
    assert len(suspects) == 1
    assert right[index] != proposed[index]
    assert len(posted) <= tree_depth(len(right)) + 1


@given(trees(), st.randoms(use_true_random=False))
def test_the_order_in_which_leaves_were_posted_does_not_matter(
    tree: tuple[list[bytes], list[bytes]], chance: random.Random
) -> None:
    right, proposed = tree
    ours, theirs = ([leaf_digest(leaf) for leaf in leaves] for leaves in tree)
    some = chance.sample(range(len(right)), chance.randint(0, len(right)))
    posted = {i: Leaf(proposed[i], tuple(compute_proof(theirs, i))) for i in some}
    suspects = narrow(ours, posted)
    backwards = narrow(ours, dict(reversed(posted.items())))
    assert len(suspects) == len(backwards)
    assert any(right[index] != proposed[index] for index in suspects)
    if any(right[index] != proposed[index] for index in posted):
        assert len(suspects) == 1
        assert suspects[0] in posted


def test_no_tree_needs_more_leaves_than_its_deepest_path() -> None:
    """The worst case, asked for from the left: the fault is the last leaf of 64."""
    right = [bytes([index]) for index in range(64)]
    ours = [leaf_digest(leaf) for leaf in right]
    theirs = [*ours[:-1], leaf_digest(b"bent")]
    posted: dict[int, Leaf] = {}
    while (index := narrow(ours, posted)[0]) not in posted:
        values = b"bent" if index == 63 else right[index]
        posted[index] = Leaf(values, tuple(compute_proof(theirs, index)))
    assert list(posted) == [0, 32, 48, 56, 60, 62, 63]
