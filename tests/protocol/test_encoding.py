import re
import struct
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from protocol.checks import Check
from protocol.encoding import (
    decode_values,
    encode_values,
    layer_bytes,
    layer_values,
    padded_bytes,
)
from protocol.errors import Misconfigured, Rejected
from tests.protocol import reference
from tests.protocol.strategies import MAX

shapes = hnp.array_shapes(max_dims=3, max_side=9)
int32s = hnp.arrays(np.int32, shapes, elements=st.integers(-MAX, MAX))
BITS = st.integers(0, 30)


@given(hnp.arrays(np.float32, shapes, elements=st.floats(-1, 1, width=32)), BITS)
def test_decoding_an_encoded_tensor_is_off_by_half_a_quantum_at_most(
    values: NDArray[np.float32], bits: int
) -> None:
    decoded = decode_values(encode_values(values, bits), bits)
    assert decoded.dtype == np.float32
    assert decoded.shape == values.shape
    assert np.all(np.abs(decoded.astype(float) - values) <= 2.0 ** -(bits + 1))


@given(st.lists(st.floats(width=64) | st.floats(-200, 200), min_size=1, max_size=5), BITS)
def test_encoding_is_the_references_on_every_float(values: list[float], bits: int) -> None:
    expected = [reference.encode(value, bits) for value in values]
    array = np.array(values)
    if None in expected:
        with pytest.raises(Rejected, match=f"value {expected.index(None)} is") as caught:
            encode_values(array, bits)
        assert caught.value.check == Check.RANGE
    else:
        assert encode_values(array, bits).tolist() == expected


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
    with pytest.raises(Misconfigured, match="fraction_bits is 31"):
        encode_values(np.zeros(1), 31)


def test_a_transposed_tensor_is_stored_in_its_own_row_major_order() -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert encode_values(turned, 0).tolist() == turned.tolist()
    stored = layer_bytes(encode_values(turned, 0), 1)
    assert stored == struct.pack(">6i", 0, 3, 1, 4, 2, 5)


@given(int32s, st.integers(1, 20))
def test_a_layer_file_is_the_references_and_reads_back(
    values: NDArray[np.int32], leaf_values: int
) -> None:
    data = layer_bytes(values, leaf_values)
    assert data == reference.layer_file(values.reshape(-1).tolist(), leaf_values)
    assert len(data) == padded_bytes(values.shape, leaf_values)
    back = layer_values(data, values.shape, leaf_values)
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize("size", [0, 15, 17, 32])
def test_a_layer_file_of_another_size_is_refused(size: int) -> None:
    with pytest.raises(Rejected, match=re.escape("shape (3,) takes 16")) as caught:
        layer_values(bytes(size), (3,), 4)
    assert caught.value.check == Check.DIGESTS


def test_padding_and_the_smallest_integer_are_refused() -> None:
    with pytest.raises(Rejected, match="padding after 3 values") as caught:
        layer_values(struct.pack(">4i", 1, 2, 3, 4), (3,), 4)
    assert caught.value.check == Check.RANGE
    with pytest.raises(Rejected, match="value 1 is -2\\^31") as caught:
        layer_values(struct.pack(">4i", 1, -(2**31), 3, 0), (3,), 4)
    assert caught.value.check == Check.RANGE


def test_a_quantum_is_two_to_the_minus_fraction_bits() -> None:
    assert Fraction(float(decode_values(np.array([1], np.int32), 24)[0])) == Fraction(1, 2**24)
