"""Sketches add up to the sum's, and show who is too long, too short, alike or untrue."""

import random
from collections.abc import Iterator, Sequence
from math import isqrt, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.checks import ACCEPTED, Check
from protocol.errors import Misconfigured, Rejected
from protocol.masking import Mask, add_masked, remove_masks, signed_sum, stream
from protocol.sketches import (
    SKETCH_SIZE,
    adds_up,
    exceeds_limit,
    is_own,
    is_weak,
    judge,
    pack_sketch,
    parse_sketch,
    sketch,
    sketch_each,
    sketch_similarity,
)
from tests.protocol import reference
from tests.protocol.compiled import choose_way
from tests.protocol.masked import LEAF, Member, Round, drawn_update

Z = bytes(range(32))
GRID = 13
LIMIT = 0.5  # 4,096 steps


@pytest.fixture(params=["plain", "compiled"], scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        choose_way(request.param, patch)
        yield


@pytest.mark.usefixtures("way")
@settings(deadline=None, max_examples=10)
@given(st.integers(0, 2**32), st.integers(0, 2**32 - 40), st.sampled_from([1, 2, 33]))
def test_a_sketch_is_that_of_naive_integers(seed: int, leaf: int, leaves: int) -> None:
    update = drawn_update(random.Random(seed), leaves)
    found = sketch(update, Z, leaf)
    if leaves < 3:
        assert found == reference.sketch(update.tolist(), Z, leaf)
    parts = [sketch(update[256 * i : 256 * (i + 1)], Z, leaf + i) for i in range(leaves)]
    assert [sum(column) for column in zip(*parts, strict=True)] == found


def test_the_largest_numbers_are_exact() -> None:
    for values in (
        np.full(256, -128, np.int8),
        np.full(256, 2**32 - 1, np.uint32),
        np.full(256, -(2**31), np.int32),
        np.full(256, -(2**33), np.int64),
    ):
        assert sketch(values, Z, 9) == reference.sketch(values.tolist(), Z, 9)
        assert sketch(values.astype(values.dtype.newbyteorder(">")), Z, 9) == sketch(values, Z, 9)
    beyond = [np.full(256, x) for x in (2**33 + 1, -(2**33) - 1, -(2**63))]
    for wrong in (*beyond, np.zeros(255, np.int8), np.zeros(256)):
        with pytest.raises(Misconfigured):
            sketch(wrong, Z, 9)
    assert sketch(np.zeros(0, np.int64), Z, 0) == [0] * SKETCH_SIZE


def test_a_posted_sketch_has_one_form() -> None:
    values = [-(2**63), 2**63 - 1, 0, -1, *range(SKETCH_SIZE - 4)]
    assert parse_sketch(pack_sketch(values)) == values
    for beyond in (2**63, -(2**63) - 1):
        with pytest.raises(Misconfigured, match="does not fit 64 bits"):
            pack_sketch([beyond, *values[1:]])
    with pytest.raises(Misconfigured, match="127 were given"):
        pack_sketch(values[1:])
    for raw in (b"", bytes(1023), bytes(1025)):
        with pytest.raises(Rejected, match="1024 bytes") as caught:
            parse_sketch(raw)
        assert caught.value.check == Check.BLAMED


# ------------------------------------------------------------------------------ what it says


def update_of(rng: random.Random, norm: float, values: int = 25_600) -> np.ndarray:
    """A vector of about this length, in steps, of leaves from 0 on."""
    raw = [rng.gauss(0, norm / sqrt(values)) for _ in range(values)]
    scale = norm / sqrt(sum(value**2 for value in raw))
    return np.array([round(value * scale) for value in raw], np.int8)


def length(update: np.ndarray) -> float:
    return sqrt(float(np.square(update.astype(np.int64)).sum()))


@pytest.mark.parametrize("seed", range(8))
def test_an_update_on_the_limit_passes_and_one_twice_as_long_does_not(seed: int) -> None:
    rng = random.Random(seed)
    weight = rng.randint(1, 80)
    update = update_of(rng, 4096)
    assert length(update) == pytest.approx(4096, rel=0.01)
    for factor, is_long in ((1, False), (2, True), (50, True)):
        found = [weight * factor * number for number in sketch(update, Z, 0)]
        assert exceeds_limit(found, weight, LIMIT, GRID) is is_long
    # What it says of the length is right to some 6% (one in √(2 · 128)).
    squares = sum(number**2 for number in sketch(update, Z, 0))
    assert isqrt(2 * squares // SKETCH_SIZE) == pytest.approx(length(update), rel=0.25)


@pytest.mark.parametrize("seed", range(4))
def test_idle_updates_and_near_copies_show(seed: int) -> None:
    rng = random.Random(100 + seed)
    honest, other = (update_of(rng, 3000) for _ in range(2))
    idle = update_of(rng, 500)
    near = (honest + rng.choice([-1, 1]) * (update_of(rng, 800))).astype(np.int8)
    movement = honest.astype(np.int64) * 2**11
    a, b, c, d = (sketch(each, Z, 0) for each in (honest, other, idle, near))
    assert not is_weak(a, 1, 1000)
    assert is_weak(c, 1, 1000)
    assert is_weak([0] * SKETCH_SIZE, 1, 1)
    assert sketch_similarity(a, a) == 10_000
    assert sketch_similarity(a, d) >= 9_000
    assert sketch_similarity(a, sketch(movement, Z, 0)) == 10_000
    assert sketch_similarity(a, b) < 5_000
    assert sketch_similarity([-number for number in a], a) == 0

    def reason(of: Sequence[int], *earlier: Sequence[int]) -> int:
        terms = {"max_update_norm": LIMIT, "grid": GRID, "min_norm": 1000}
        return judge(of, 1, **terms, earlier=earlier)  # type: ignore[arg-type]

    assert reason(a, b, [0] * SKETCH_SIZE) == ACCEPTED
    assert reason(c, a) == Check.WEAK
    assert reason(d, b, a) == Check.SIMILAR
    assert reason([3 * number for number in a], a) == Check.NORM


# ------------------------------------------------------------------------- whose is not true


class Sketched:
    """A round with everybody's masked update and posted sketch; a test bends both."""

    def __init__(self, size: int = 4, leaves: int = 2) -> None:
        self.round = Round(size, 8)
        rng = random.Random(5)
        self.weights = [rng.randint(1, 80) for _ in self.round.members]
        self.updates = [drawn_update(rng, leaves, 20) for _ in self.round.members]
        rows = zip(self.round.members, self.updates, self.weights, strict=True)
        self.masked = [self.round.masked(*row) for row in rows]
        pairs = zip(self.updates, self.weights, strict=True)
        self.posted = [[w * number for number in sketch(d, Z, LEAF)] for d, w in pairs]

    def fits(self) -> bool:
        sums = np.zeros_like(self.masked[0])
        for y in self.masked:
            add_masked(sums, y)
        remove_masks(sums, self.round.opened(self.round.members), LEAF)
        return adds_up(self.posted, sketch(signed_sum(sums), Z, LEAF))

    def untrue(self, r_seed: bytes = Z) -> list[int]:
        """Whose own equation fails, once everybody posted the sketches of its masks."""
        return [
            number
            for number, member in enumerate(self.round.members)
            if not self.is_own(number, member, r_seed)
        ]

    def is_own(self, number: int, member: Member, r_seed: bytes) -> bool:
        y = self.masked[number]
        of_masks = [
            (mask, sketch(stream(mask.seed, LEAF, y.size // 256), r_seed, LEAF))
            for mask in self.round.masks(member)
        ]
        return is_own(self.posted[number], sketch(y, r_seed, LEAF), of_masks)

    def too_long(self) -> list[int]:
        rows = enumerate(zip(self.posted, self.weights, strict=True))
        return [number for number, (v, w) in rows if exceeds_limit(v, w, 0.2, GRID)]


def test_honest_sketches_add_up_and_are_everybodys_own() -> None:
    this = Sketched()
    assert (this.fits(), this.untrue(), this.too_long()) == (True, [], [])


def test_a_boost_does_not_fit_and_a_sketch_that_makes_it_fit_is_too_long() -> None:
    this = Sketched()
    update, weight = this.updates[1].astype(np.int64), this.weights[1]
    # 50 times its update: in 32 bits, as the masks are.
    this.masked[1] += (49 * weight * update).astype(np.int32).view(np.uint32)
    assert (this.fits(), this.untrue(), this.too_long()) == (False, [1], [])
    this.posted[1] = [50 * number for number in this.posted[1]]
    assert (this.fits(), this.untrue(), this.too_long()) == (True, [], [1])


def test_garbage_is_named() -> None:
    this = Sketched()
    this.masked[2] = stream(bytes(32), 0, 2)
    assert (this.fits(), this.untrue()) == (False, [2])


def test_a_false_mask_is_named() -> None:
    this = Sketched()
    remove_masks(this.masked[0], [Mask(this.round.members[0].own_seed, 1)], LEAF)
    assert (this.fits(), this.untrue()) == (False, [0])


def test_a_false_sketch_is_named_and_two_that_make_up_for_it_too() -> None:
    this = Sketched()
    this.posted[3][77] += 1
    assert (this.fits(), this.untrue()) == (False, [3])
    this.posted[1][77] -= 1
    assert (this.fits(), this.untrue()) == (True, [1, 3])


def test_one_coordinate_out_of_range_is_named() -> None:
    this = Sketched()
    this.masked[2][300:301] += np.uint32(2**30)
    assert (this.fits(), this.untrue()) == (False, [2])
    r = reference.ternary(Z, LEAF + 1, 300 - 256)
    this.posted[2] = [v + 2**30 * sign for v, sign in zip(this.posted[2], r, strict=True)]
    assert (this.fits(), this.untrue(), this.too_long()) == (True, [], [2])


def test_the_wrap_around_of_two_values_is_named_for_the_zeros_in_r(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    this = Sketched()
    for place in (10, 400):
        this.masked[2][place] ^= np.uint32(2**31)  # as to add it, modulo 2^32
    assert (this.fits(), this.untrue(), this.too_long()) == (False, [2], [])
    # With ±1 alone, 2^31 in two places adds 0 or ±2^32 to every number: nobody could be named.
    only_signs = np.array(
        [[1 - 2 * (byte >> 7 - 2 * k & 1) for k in range(4)] for byte in range(256)], np.int8
    )
    monkeypatch.setattr("protocol.sketches._TERNARY", only_signs)
    rows = zip(this.updates, this.weights, strict=True)
    this.posted = [[w * number for number in sketch(d, Z, LEAF)] for d, w in rows]
    assert (this.fits(), this.untrue()) == (False, [])


def test_sketches_of_many_are_those_of_each_to_rounding() -> None:
    values = np.random.default_rng(2).integers(-127, 128, (3, 9 * 256), np.int8)
    found = sketch_each(values.astype(np.float32), Z)
    expected = [sketch(row, Z, 0) for row in values]
    assert np.allclose(found, expected)
