from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Misconfigured
from protocol.tree import (
    TreeBuilder,
    compute_proof,
    compute_root,
    is_proof_valid,
    leaf_digest,
    leaf_digests,
    stream_proof,
    tree_depth,
    zero_root,
)
from protocol.types import Digest
from tests.protocol import reference

LEAF = 8


def cut(data: bytes, places: list[int]) -> Iterator[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return (data[start:end] for start, end in pairwise(edges))


@given(st.integers(1, 70), st.randoms(use_true_random=False), st.lists(st.integers(0, 9999)))
def test_the_root_is_the_naive_trees_however_the_stream_is_cut(
    leaves: int, rng: object, places: list[int]
) -> None:
    data = bytes(rng.randbytes(leaves * LEAF))  # type: ignore[attr-defined]
    assert compute_root(cut(data, places), LEAF) == reference.root(data, LEAF)


def test_the_root_so_far_can_be_asked_at_any_leaf_and_changes_nothing() -> None:
    builder = TreeBuilder(LEAF)
    data = bytes(range(33 * LEAF % 251)) + bytes(33 * LEAF - 33 * LEAF % 251)
    for count in range(1, 34):
        builder.update(memoryview(data)[(count - 1) * LEAF : count * LEAF])
        assert builder.leaf_count == count
        assert builder.root() == reference.root(data[: count * LEAF], LEAF)


def test_memory_is_one_digest_a_level() -> None:
    builder = TreeBuilder(LEAF)
    builder.update(bytes(LEAF * (2**15 - 1)))
    assert len(builder._subtrees) == 15
    assert not builder._partial


@pytest.mark.parametrize(
    ("leaves", "depth"), [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (2**28, 28), (2**28 + 1, 29)]
)
def test_depth(leaves: int, depth: int) -> None:
    assert tree_depth(leaves) == depth


def test_one_leaf_is_its_own_root() -> None:
    assert compute_root([b"12345678"], LEAF) == leaf_digest(b"12345678")
    assert compute_proof([leaf_digest(b"12345678")], 0) == []
    assert is_proof_valid(leaf_digest(b"12345678"), b"12345678", 0, [])


def test_what_is_not_whole_leaves_has_no_root() -> None:
    with pytest.raises(Misconfigured, match="at least one leaf, 0 were given"):
        compute_root([], LEAF)
    with pytest.raises(Misconfigured, match="ends 3 bytes into a leaf of 8"):
        compute_root([bytes(11)], LEAF)
    with pytest.raises(Misconfigured, match="11 bytes is not whole"):
        leaf_digests([bytes(11)], LEAF)
    with pytest.raises(Misconfigured, match="at least one byte"):
        TreeBuilder(0)
    with pytest.raises(Misconfigured, match="leaf 2 does not exist"):
        compute_proof(leaf_digests([bytes(16)], LEAF), 2)
    with pytest.raises(Misconfigured, match="leaf 2 does not exist"):
        stream_proof([bytes(16)], LEAF, 2)


@given(st.integers(1, 40), st.data())
def test_a_proof_holds_and_any_flipped_bit_breaks_it(leaves: int, data: st.DataObject) -> None:
    content = data.draw(st.binary(min_size=leaves * LEAF, max_size=leaves * LEAF))
    index = data.draw(st.integers(0, leaves - 1))
    root = compute_root([content], LEAF)
    proof = compute_proof(leaf_digests([content], LEAF), index)
    leaf = content[index * LEAF : (index + 1) * LEAF]
    assert proof == reference.proof(content, LEAF, index)
    cut = data.draw(st.integers(0, leaves)) * LEAF
    assert stream_proof([content[:cut], content[cut:]], LEAF, index) == (leaf, proof)
    assert is_proof_valid(root, leaf, index, proof)

    parts = [root, leaf, *proof]
    which = data.draw(st.integers(0, len(parts) - 1))
    bit = data.draw(st.integers(0, 8 * len(parts[which]) - 1))
    bent = bytearray(parts[which])
    bent[bit // 8] ^= 1 << bit % 8
    parts[which] = Digest(bytes(bent))
    assert not is_proof_valid(Digest(parts[0]), parts[1], index, [Digest(p) for p in parts[2:]])


def test_a_proof_holds_at_its_own_index_and_length_only() -> None:
    content = bytes(range(5 * LEAF))
    root = compute_root([content], LEAF)
    proof = compute_proof(leaf_digests([content], LEAF), 4)
    leaf = content[4 * LEAF :]
    assert [i for i in range(-1, 16) if is_proof_valid(root, leaf, i, proof)] == [4]
    assert not is_proof_valid(root, leaf, 4, proof[:-1])
    assert not is_proof_valid(root, leaf, 4, [*proof, proof[-1]])


def test_a_node_cannot_pass_as_a_leaf() -> None:
    content = bytes(range(4 * LEAF))
    digests = leaf_digests([content], LEAF)
    root = compute_root([content], LEAF)
    assert not is_proof_valid(root, digests[0] + digests[1], 0, compute_proof(digests, 0)[1:])


@given(st.integers(1, 300), st.sampled_from([LEAF, 256, 1024]))
def test_the_zero_root_is_that_of_zeros(leaves: int, leaf_bytes: int) -> None:
    assert zero_root(leaves, leaf_bytes) == compute_root([bytes(leaves * leaf_bytes)], leaf_bytes)


def test_the_zero_root_of_the_largest_tree_takes_no_time() -> None:
    assert zero_root(2**32 - 1) != zero_root(2**32 - 2)
    with pytest.raises(Misconfigured, match="at least one leaf, 0 were given"):
        zero_root(0)
