"""What `make bench-stores` measures, and its arithmetic."""

import pytest

from benchmarks.files import spec_of
from benchmarks.stores import AT_ONCE, adapter_layers, summarise
from storage import layers


def test_the_update_is_as_large_as_the_demos() -> None:
    spec = spec_of(adapter_layers())
    assert len(spec.layers) == 240
    assert spec.total_bytes("update") == 1_843_200
    # curl asks for as many at once as we do for blocks of this size.
    largest = max(size for index in range(240) for size in spec.block_sizes(index, "update"))
    assert min(layers._MOST_AT_ONCE, layers._HELD_BYTES // largest) == AT_ONCE


def test_the_ratio_is_to_the_faster_way_of_curls() -> None:
    seconds = {"ours": [3.0, 1.0, 2.0], "curl": [8.0, 8.0, 8.0], "curl, 8 at once": [9.0, 1.0, 1.0]}
    summary = summarise(seconds)
    assert summary["ours"] == 2.0
    assert summary["ours, range"] == [1.0, 3.0]
    assert summary["curl, 8 at once"] == 1.0
    assert summary["ratio"] == pytest.approx(2.0)
