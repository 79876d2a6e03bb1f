"""Similarities of whole updates on disk are those of naive integers, in whatever blocks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protocol.spec import Spec
from rounds import similar
from rounds.similar import Movement, compare_updates
from storage.layers import LayerFolder
from tests.protocol import reference
from tests.world import small_spec


def flat(folder: LayerFolder, spec: Spec) -> list[int]:
    return [int(x) for layer in folder.read(spec) for x in layer.ravel()]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32),
    counts=st.tuples(st.integers(1, 4), st.integers(0, 3)),
    span=st.sampled_from([1, 127]),
    block=st.sampled_from([256, 1024, 1 << 17]),
)
def test_is_what_naive_integers_give(
    seed: int, counts: tuple[int, int], span: int, block: int, tmp_path: Path
) -> None:
    spec, rng = small_spec(), np.random.default_rng(seed)
    common = [rng.integers(-span, span + 1, layer.shape) for layer in spec.layers]

    def update(name: str) -> LayerFolder:
        folder, share = LayerFolder(tmp_path / name, "update"), rng.random()
        layers = [
            np.where(rng.random(e.shape) < share, e, rng.integers(-span, span + 1, e.shape))
            for e in common
        ]
        folder.write(spec, [each.astype(np.int8) for each in layers])
        return folder

    updates = [update(f"u{n}") for n in range(counts[0])]
    earlier = [update(f"e{n}") for n in range(counts[1])]
    old, new = (LayerFolder(tmp_path / name, "model") for name in ("old", "new"))
    most = 2**31 - 1
    old.write(spec, [np.full(each.shape, -most, np.int32) for each in common])
    moved = [(-most + each.astype(np.int64) * 2**24).clip(-most, most) for each in common]
    new.write(spec, [each.astype(np.int32) for each in moved])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similar, "_BLOCK", block)
        found = compare_updates(spec, updates, earlier, Movement(old, new))
        alone = compare_updates(spec, updates, [], None)
    mine, theirs = ([flat(each, spec) for each in some] for some in (updates, earlier))
    movement = [b - a for a, b in zip(flat(old, spec), flat(new, spec), strict=True)]
    assert found.among == alone.among == [[reference.similarity(a, b) for b in mine] for a in mine]
    assert found.earlier == [[reference.similarity(a, b) for b in theirs] for a in mine]
    assert found.movement == [reference.similarity(a, movement) for a in mine]
    assert alone.movement == [0] * len(updates)


def test_nothing_resembles_a_vector_of_zeros_or_its_opposite(tmp_path: Path) -> None:
    spec = small_spec()
    folders = []
    for name, value in (("zero", 0), ("up", 3), ("down", -5)):
        folder = LayerFolder(tmp_path / name, "update")
        folder.write(spec, [np.full(layer.shape, value, np.int8) for layer in spec.layers])
        folders.append(folder)
    found = compare_updates(spec, folders, folders, None)
    assert found.among == found.earlier == [[0, 0, 0], [0, 10_000, 0], [0, 0, 10_000]]
