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

from protocol.errors import Rejected
from protocol.screening import (
    Check,
    UpdateFacts,
    duplicates,
    screen_update,
    squared_norm_limit,
)
from protocol.types import Address, Digest
from tests.protocol import reference
from tests.protocol.strategies import (
    GRID,
    ROUND,
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
    names = "REACHABLE MANIFEST ROUND_AND_SPEC LAYERS DIGESTS ROOT RANGE NORM ZERO DUPLICATE"
    late = "HARM", "BUNDLE", "SILENT", "BLAMED", "TOO_FEW"
    assert [check.name for check in Check] == [*names.split(), "WEAK", "SIMILAR", *late]
    assert [int(check) for check in Check] == list(range(1, 18))


@pytest.mark.parametrize("block", [1, 5, 64, 10_000])
def test_an_honest_update_passes_however_it_streams(block: int) -> None:
    update = replace(honest_update(), block=block)
    assert update.check() == update.manifest()
    values = np.frombuffer(b"".join(update.files), np.int8).tolist()
    assert update.screen() == UpdateFacts(update.root, reference.product(values, values))


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
    wrong_shape = first.model_copy(update={"shape": (101, 3)})
    cases = [
        ([first], "1 layers, the spec asks for 2"),
        ([first, second, second], "3 layers, the spec asks for 2"),
        ([second, first], "layer 0 is b, the spec asks for a"),
        ([wrong_shape, second], "layer a has shape (101, 3), the spec asks for (3, 101)"),
    ]
    for entries, line in cases:
        bent = replace(update, entries={"layers": entries})
        assert rejection(bent.check) == (4, line)


@pytest.mark.parametrize("count", [0, 2, 100])
def test_check_5_another_number_of_blocks(count: int) -> None:
    update = honest_update()
    first, second = update.manifest().layers
    bent = second.model_copy(update={"blocks": second.blocks * count})
    line = f"layer b has {count} blocks, its size makes 1"
    assert rejection(replace(update, entries={"layers": [first, bent]}).check) == (5, line)


def test_a_layer_over_a_mebibyte_has_more_blocks() -> None:
    spec = make_spec([((1 << 20) + 1,)])
    assert spec.block_sizes(0, "update") == [1 << 20, 256]
    assert spec.block_sizes(0, "model") == [1 << 20] * 4 + [1024]
    update = Update(spec, [packed([1] * ((1 << 20) + 1))])
    assert len(update.check().layers[0].blocks) == 2


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (0, "has 0 bytes, the spec asks for 512"),
        (256, "has 256 bytes, the spec asks for 512"),
        (511, "has 511 bytes, the spec asks for 512"),
        (513, "has more than the 512 bytes"),
        (768, "has more than the 512 bytes"),
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

    assert rejection(lambda: screen_update(update.spec, update.root, endless, ROUND))[0] == 5


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
    smallest = with_value(update, 1, 2, -128)
    assert rejection(smallest.screen) == (7, "layer b: a value is -128")
    padded = with_value(update, 0, 511, 1)  # layer a has 303 values in 2 leaves of 256
    assert rejection(padded.screen) == (7, "layer a: the padding is not zero")
    assert rejection(replace(padded, block=7).screen) == (7, "layer a: the padding is not zero")


@given(st.integers(0, 1), st.integers(0, 511), st.integers(-128, 127))
def test_a_single_value_at_fault_is_found(layer: int, place: int, value: int) -> None:
    update = honest_update()
    place %= len(update.files[layer])
    bent = with_value(update, layer, place, value)
    is_padding = place >= update.spec.layer_values(layer)
    if value == -128 or (is_padding and value):
        assert rejection(bent.screen)[0] == 7
    else:
        assert bent.screen().root == bent.root
    if bent.root != update.root:
        assert rejection(lambda: bent.screen(update.root))[0] == 6


def test_check_8_norm_on_both_sides_of_the_limit() -> None:
    limit = 5 / 2**GRID  # five steps
    at = Update(make_spec([(3,)], limit), [packed([3, -4, 0])])
    assert at.screen().squared_norm == 25
    check, reason = rejection(with_value(at, 0, 2, 1).screen)
    assert check == 8
    assert re.fullmatch(r"the update's norm is 0.00062\d+, the limit is 0.00061\d+", reason)
    assert replace(at, spec=make_spec([(3,)])).screen().squared_norm == 25


def test_check_8_follows_the_grid_of_the_round() -> None:
    update = Update(make_spec([(3,)], 5 / 2**GRID), [packed([3, 4, 1])])
    encoding = update.spec.encoding.model_copy(update={"grid_every": 1})
    finer = update.spec.model_copy(update={"encoding": encoding})
    assert rejection(update.screen)[0] == 8
    assert replace(update, spec=finer).screen().squared_norm == 26  # in round 12: 24 bits


def test_check_9_zero() -> None:
    update = honest_update(norm=1e-9)
    zero = replace(update, files=[bytes(512), bytes(256)])
    assert zero.root == zero.spec.zero_root
    assert rejection(zero.screen) == (9, "every value of the update is 0")


def test_check_11_weak() -> None:
    update = Update(make_spec([(3,)], None, 5), [packed([3, -4, 0])])
    assert update.screen().squared_norm == 25
    weak = with_value(update, 0, 0, 2)
    assert rejection(weak.screen) == (11, "the update's norm is 4.47214 steps, 5 are asked for")
    assert rejection(with_value(weak, 0, 0, -128).screen)[0] == 7


def test_check_10_duplicate() -> None:
    a, b, c, d = (Address(reference.address(index)) for index in range(4))
    one, two = Digest(bytes(31) + b"1"), Digest(bytes(31) + b"2")
    assert duplicates([(b, one), (a, two), (c, one), (d, one)]) == {c: b, d: b}
    assert duplicates([(c, one), (b, one)]) == {b: c}
    assert duplicates([(a, one), (b, two)]) == {}
    assert duplicates([]) == {}


def test_the_lowest_failed_check_is_the_one_reported() -> None:
    update = honest_update(norm=1e-9, least=10**6)  # fails 8 and 11
    assert rejection(update.screen)[0] == 8
    far = with_value(update, 0, 0, -128)
    assert rejection(far.screen)[0] == 7
    assert rejection(lambda: far.screen(update.root))[0] == 6
    short = replace(far, files=[far.files[0], far.files[1][:-1]])
    assert rejection(lambda: short.screen(update.root))[0] == 5
    zero = replace(honest_update(least=10**6), files=[bytes(512), bytes(256)])  # fails 9 and 11
    assert rejection(zero.screen)[0] == 9
    first, second = update.manifest().layers
    fewer = first.model_copy(update={"blocks": ()})
    both = {"layers": [fewer, second], "root": "00" * 32}
    assert rejection(replace(update, entries=both).check)[0] == 5
    assert rejection(replace(update, entries={**both, "layers": [second, first]}).check)[0] == 4
    assert rejection(replace(update, entries={**both, "round": 11}).check)[0] == 3


@given(st.floats(1e-6, 1e6), st.integers(0, 24))
def test_the_limit_is_the_decimal_numbers(norm: float, grid: int) -> None:
    if "e" not in repr(norm):
        assert squared_norm_limit(norm, grid) == reference.norm_squared_limit(repr(norm), grid)
    assert abs(sqrt(squared_norm_limit(norm, grid)) - norm * 2**grid) < 1 + norm * 2**grid * 1e-12


@pytest.mark.parametrize("block", [99_999, 1 << 20])
def test_many_blocks_of_a_larger_layer(block: int) -> None:
    spec = make_spec([(3, 280_001)])
    steps = np.random.default_rng(1).integers(-127, 128, 840_003, np.int8).tolist()
    files = [packed(steps)]
    root = Digest(reference.root(files[0], 256))
    facts = screen_update(spec, root, streamed(files, block), ROUND)
    assert facts == UpdateFacts(root, reference.product(steps, steps))


@pytest.mark.parametrize("place", [262_143, 262_144, 262_399])
def test_padding_is_checked_in_every_chunk_it_reaches(place: int) -> None:
    spec = make_spec([(262_142,), (262_145,)])
    files = [bytes(262_144), bytes(262_400)]
    update = Update(spec, files, block=1 << 18)
    for layer, name in enumerate("ab"):
        if place < len(files[layer]) and place >= spec.layer_values(layer):
            bent = with_value(update, layer, place, 1)
            assert rejection(bent.screen) == (7, f"layer {name}: the padding is not zero")
    assert rejection(update.screen)[0] == 9
