import re
import struct
from fractions import Fraction
from math import prod
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.checks import Check
from protocol.encoding import (
    Kind,
    decode_values,
    encode_values,
    layer_bytes,
    layer_values,
    leaf_bytes,
    padded_bytes,
    value_type,
)
from protocol.errors import Misconfigured, Rejected
from tests.protocol import reference
from tests.protocol.strategies import MAX

KINDS: tuple[Kind, ...] = ("update", "model")  # whose values are read as they are

shapes = hnp.array_shapes(max_dims=3, max_side=9)
layers = st.sampled_from(KINDS).flatmap(
    lambda kind: st.tuples(
        st.just(kind),
        hnp.arrays(
            value_type(kind).newbyteorder("="),
            hnp.array_shapes(max_dims=3, max_side=12),
            elements=st.integers(-127, 127) if kind == "update" else st.integers(-MAX, MAX),
        ),
    )
)


def test_the_sizes_are_the_documents() -> None:
    assert [leaf_bytes(kind) for kind in KINDS] == [256, 1024]
    assert [padded_bytes((300,), kind) for kind in KINDS] == [512, 2048]
    assert [padded_bytes((16, 16), kind) for kind in KINDS] == [256, 1024]


@given(hnp.arrays(np.float32, shapes, elements=st.floats(-1, 1, width=32)))
def test_decoding_an_encoded_tensor_is_off_by_half_a_quantum_at_most(
    values: NDArray[np.float32],
) -> None:
    decoded = decode_values(encode_values(values))
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    assert np.all(np.abs(decoded.astype(float) - values) <= 2.0**-25)


@given(st.lists(st.floats(width=64) | st.floats(-200, 200), min_size=1, max_size=5))
def test_encoding_is_the_references_on_every_float(values: list[float]) -> None:
    expected = [reference.encode(value) for value in values]
    array = np.array(values)
    if None in expected:
        with pytest.raises(Rejected, match=f"value {expected.index(None)} is") as caught:
            encode_values(array)
        assert caught.value.check == Check.RANGE
    else:
        assert encode_values(array).tolist() == expected


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_width_is_taken(dtype: Any) -> None:
    assert encode_values(np.array([0.5, -0.25], dtype)).tolist() == [2**23, -(2**22)]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 128.0, -128.0, 3e38])
def test_the_fault_is_named_wherever_it_lies(bad: float) -> None:
    values = np.zeros((3, 50_000), np.float32)
    values[2, 7] = bad
    with pytest.raises(Rejected, match=r"value 100007 is .*\|v\| < 2\^7"):
        encode_values(values)


def test_integers_are_not_taken_for_floats() -> None:
    with pytest.raises(Misconfigured, match="int64"):
        encode_values(np.array([1, 2]))
    for kind, other in zip(KINDS, (np.int32, np.int8), strict=True):
        with pytest.raises(Misconfigured, match=f"values of {kind} are int"):
            layer_bytes(np.zeros(3, other), kind)


def test_a_transposed_tensor_is_stored_in_its_own_row_major_order() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    encoded = encode_values(turned * 2.0**-24)
    assert encoded.tolist() == turned.tolist()
    assert layer_bytes(encoded, "model")[:24] == struct.pack(">6i", 0, 3, 1, 4, 2, 5)
    assert layer_bytes(encoded.astype(np.int8), "update")[:6] == bytes([0, 3, 1, 4, 2, 5])


@given(layers)
def test_a_layer_file_is_the_references_and_reads_back(given_: tuple[Kind, NDArray[Any]]) -> None:
    kind, values = given_
    data = layer_bytes(values, kind)
    assert data == reference.layer_file(values.reshape(-1).tolist(), kind)
    assert len(data) == padded_bytes(values.shape, kind)
    back = layer_values(data, values.shape, kind)
    assert back.dtype == values.dtype
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("off", [-1024, -1, 1, 1024])
def test_a_layer_file_of_another_size_is_refused(kind: Kind, off: int) -> None:
    size = padded_bytes((2000,), kind)
    with pytest.raises(Rejected, match=re.escape(f"shape (2000,) takes {size:,}")) as caught:
        layer_values(bytes(size + off), (2000,), kind)
    assert caught.value.check == Check.DIGESTS


@given(layers, st.data())
def test_a_single_fault_is_found_wherever_it_lies(
    given_: tuple[Kind, NDArray[Any]], data: st.DataObject
) -> None:
    kind, values = given_
    stored = np.frombuffer(layer_bytes(values, kind), value_type(kind)).copy()
    place = data.draw(st.integers(0, stored.size - 1))
    is_padding = place >= prod(values.shape)
    smallest = -(2**31) if kind == "model" else -128
    stored[place] = data.draw(st.integers(1, 127)) if is_padding else smallest
    line = "the padding is not zero" if is_padding else "a value is -(2\\^31|128)"
    with pytest.raises(Rejected, match=line) as caught:
        layer_values(stored.tobytes(), values.shape, kind)
    assert caught.value.check == Check.RANGE


def test_a_quantum_is_two_to_the_minus_24() -> None:
    assert Fraction(float(decode_values(np.array([1], np.int32))[0])) == Fraction(1, 2**24)
