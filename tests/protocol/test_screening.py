"""One test for each check of docs/protocol.md §6, by its number."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.errors import Misconfigured, Rejected
from protocol.screening import (
    Check,
    UpdateFacts,
    duplicates,
    norm_squared_limit,
    screen_update,
    squared_distance,
    sum_of_squares,
)
from protocol.types import Address, Digest
from tests.protocol import reference
from tests.protocol.strategies import (
    MAX,
    Update,
    honest_update,
    make_spec,
    packed,
    streamed,
    with_value,
)


def rejection(act: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(Rejected) as caught:
        act()
    assert str(caught.value) == f"check {caught.value.check}: {caught.value.reason}"
    return caught.value.check, caught.value.reason


def test_the_numbers_are_the_documents() -> None:
    names = "REACHABLE MANIFEST ROUND_AND_SPEC LAYERS DIGESTS ROOT RANGE NORM NOT_MODEL"
    assert [check.name for check in Check] == [*names.split(), "NOT_DUPLICATE"]
    assert [int(check) for check in Check] == list(range(1, 11))


@pytest.mark.parametrize("block", [1, 5, 64, 10_000])
def test_an_honest_update_passes_however_it_streams(block: int) -> None:
    update = replace(honest_update(), block=block)
    assert update.check() == update.manifest()
    new, old = b"".join(update.files), b"".join(update.model)
    values = [np.frombuffer(data, ">i4").tolist() for data in (new, old)]
    assert update.screen() == UpdateFacts(update.root, reference.norm_squared(*values))


def test_check_2_manifest() -> None:
    update = honest_update()
    check, reason = rejection(lambda: update.check(update.manifest().to_bytes() + b" "))
    assert check == 2
    assert "not canonical JSON" in reason


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("chain_id", 1),
        ("federation", reference.address(5)),
        ("round", 13),
        ("kind", "model"),
        ("spec", "00" * 32),
    ],
)
def test_check_3_round_and_spec(field: str, value: Any) -> None:
    bent = replace(honest_update(), entries={field: value})
    check, reason = rejection(bent.check)
    assert check == 3
    assert reason.startswith(f"{field} is {value}, ")


def test_check_4_layers() -> None:
    update = honest_update()
    first, second = update.manifest().layers
    wrong_shape = first.model_copy(update={"shape": (5, 3)})
    cases = [
        ([first], "1 layers, the spec asks for 2"),
        ([first, second, second], "3 layers, the spec asks for 2"),
        ([second, first], "layer 0 is b, the spec asks for a"),
        ([wrong_shape, second], "layer a has shape (5, 3), the spec asks for (3, 5)"),
    ]
    for entries, line in cases:
        bent = replace(update, entries={"layers": entries})
        assert rejection(bent.check) == (4, line)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (0, "has 0 bytes, the spec asks for 64"),
        (48, "has 48 bytes, the spec asks for 64"),
        (63, "has 63 bytes, the spec asks for 64"),
        (65, "has more than the 64 bytes"),
        (80, "has more than the 64 bytes"),
    ],
)
def test_check_5_a_file_of_another_size(size: int, line: str) -> None:
    update = honest_update()
    bent = replace(update, files=[(update.files[0] * 2)[:size], update.files[1]])
    check, reason = rejection(lambda: bent.screen(update.root))
    assert check == 5
    assert reason.startswith(f"layer a {line}")


def test_an_endless_stream_is_cut_off() -> None:
    update = honest_update()

    def endless(index: int) -> Iterator[bytes]:
        while True:
            yield update.files[index][:16]

    model = streamed(update.model, 16)
    args = (update.spec, update.root, endless, model, update.model_root)
    assert rejection(lambda: screen_update(*args))[0] == 5


def test_our_own_models_wrong_size_is_not_the_participants_fault() -> None:
    update = honest_update()
    bent = replace(update, model=[update.model[0], update.model[1][:-4]])
    args = (streamed(bent.files, 64), streamed(bent.model, 64), update.model_root)
    with pytest.raises(Misconfigured, match="this copy of the model: layer b has 12 bytes"):
        screen_update(bent.spec, bent.root, *args)


def test_check_6_root() -> None:
    update = honest_update()
    other = with_value(update, 0, 0, 7)
    check, reason = rejection(lambda: other.screen(update.root))
    assert check == 6
    assert reason == f"the layers hash to {other.root.hex()}, not to {update.root.hex()}"
    bent = replace(update, entries={"root": other.root.hex()})
    assert rejection(bent.check)[0] == 6


def test_check_7_range() -> None:
    update = honest_update()
    smallest = with_value(update, 1, 2, -(2**31))
    assert rejection(smallest.screen) == (7, "layer b: a value is -2^31")
    padded = with_value(update, 0, 15, 1)  # layer a has 15 values in 4 leaves of 4
    assert rejection(padded.screen) == (7, "layer a: the padding is not zero")
    assert rejection(replace(padded, block=7).screen) == (7, "layer a: the padding is not zero")


def test_check_8_norm_on_both_sides_of_the_limit() -> None:
    update = honest_update()  # the limit is 1.0, which is 2^24 quanta
    still = replace(update, files=update.model)
    first = int.from_bytes(update.model[1][:4], "big", signed=True)
    at = with_value(still, 1, 0, first + 2**24)
    assert at.screen().norm_squared == 2**48
    over = with_value(at, 1, 1, int.from_bytes(update.model[1][4:8], "big", signed=True) + 1)
    check, reason = rejection(over.screen)
    assert check == 8
    assert re.fullmatch(r"the update's norm is 1, the limit is 1", reason)


def test_check_9_the_model_itself() -> None:
    update = honest_update()
    copy = replace(update, files=update.model)
    assert rejection(copy.screen) == (9, "the update is the model itself")


def test_check_10_duplicates() -> None:
    a, b, c, d = (Address(reference.address(index)) for index in range(4))
    one, two = Digest(bytes(31) + b"1"), Digest(bytes(31) + b"2")
    assert duplicates([(b, one), (a, two), (c, one), (d, one)]) == {c: b, d: b}
    assert duplicates([(c, one), (b, one)]) == {b: c}
    assert duplicates([(a, one), (b, two)]) == {}
    assert duplicates([]) == {}


def test_the_lowest_failed_check_is_the_one_reported() -> None:
    update = honest_update()
    far = with_value(with_value(update, 0, 0, -(2**31)), 0, 1, MAX)  # fails 7 and 8
    assert rejection(far.screen)[0] == 7
    assert rejection(lambda: far.screen(update.root))[0] == 6
    short = replace(far, files=[far.files[0], far.files[1][:-1]])
    assert rejection(lambda: short.screen(update.root))[0] == 5


@given(st.lists(st.integers(-(2**32), 2**32), min_size=1))
def test_the_sum_of_squares_is_exact(values: list[int]) -> None:
    assert sum_of_squares(np.array(values, np.int64)) == sum(value**2 for value in values)


ENDS = st.sampled_from([0, 1, 2**22 - 1, 2**22, 2**22 + 1, 2**23, 2**31 - 1])


@given(st.lists(st.tuples(ENDS, ENDS, st.booleans(), st.booleans()), min_size=1, max_size=9))
def test_the_distance_is_exact_on_both_sides_of_where_it_is_quick(
    pairs: list[tuple[int, int, bool, bool]],
) -> None:
    new = [-a if negative else a for a, _, negative, _ in pairs]
    old = [-b if negative else b for _, b, _, negative in pairs]
    expected = sum((a - b) ** 2 for a, b in zip(new, old, strict=True))
    assert squared_distance(np.array(new, np.int32), np.array(old, np.int32)) == expected


@pytest.mark.parametrize("value", [2**22, 2**22 + 1, 2**31 - 1])
@pytest.mark.parametrize("count", [65_536, 200_000])
def test_the_distance_is_exact_over_many_values_far_apart(value: int, count: int) -> None:
    new = np.full(count, value, np.int32)
    assert squared_distance(new, -new) == count * (2 * value) ** 2


def test_the_sum_of_squares_is_exact_over_a_whole_block_of_extremes() -> None:
    for value in (2**32, -(2**32), 2**32 - 1, 1 - 2**32):
        assert sum_of_squares(np.full(65_536, value, np.int64)) == 65_536 * value**2


@given(st.floats(1e-6, 1e6), st.integers(0, 30))
def test_the_limit_is_the_decimal_numbers(norm: float, bits: int) -> None:
    decimal = f"{norm:.25f}" if "e" in repr(norm) else repr(norm)
    if "e" not in repr(norm):
        assert norm_squared_limit(norm, bits) == reference.norm_squared_limit(decimal, bits)
    assert abs(sqrt(norm_squared_limit(norm, bits)) - norm * 2**bits) < 1 + norm * 2**bits * 1e-12


def test_many_blocks_of_a_larger_layer() -> None:
    spec = make_spec([(3, 70_001)], leaf_values=256, norm=1e6)
    rng = np.random.default_rng(1)
    new, old = rng.integers(-MAX, MAX, (2, 210_003)).tolist()
    files, model = [packed(new, 256)], [packed(old, 256)]
    root = Digest(reference.root(files[0], 1024))
    facts = screen_update(
        spec, root, streamed(files, 1 << 18), streamed(model, 99_999), Digest(bytes(32))
    )
    assert facts == UpdateFacts(root, reference.norm_squared(new, old))


@pytest.mark.parametrize("place", [131_067, 131_072, 149_999])
def test_padding_is_checked_in_every_block_it_reaches(place: int) -> None:
    spec = make_spec([(131_067,)], leaf_values=50_000)  # 150,000 places, in blocks of 65,536
    values = np.zeros(150_000, ">i4")
    model = values.tobytes()
    values[place] = 1
    bent = Update(spec, [values.tobytes()], [model], block=1 << 18)
    assert rejection(bent.screen) == (7, "layer a: the padding is not zero")
