"""What the property tests draw: layer values, specs, and an honest update in memory."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np

from protocol.canonical import sha256
from protocol.encoding import layer_bytes, leaf_bytes
from protocol.manifest import LayerEntry, Manifest
from protocol.screening import LayerBlocks, UpdateFacts, check_manifest, screen_update
from protocol.spec import Spec
from protocol.tree import compute_root
from protocol.types import Address, Digest, RoundId
from tests.protocol import make_vectors, reference

MAX = 2**31 - 1
FEDERATION = Address(reference.address(100))
CHAIN_ID = 31337
ROUND = RoundId(12)
GRID = 13


def make_spec(shapes: Sequence[tuple[int, ...]], norm: float | None = None, least: int = 1) -> Spec:
    """A valid spec with layers a, b, … of these shapes and a grid of 13 in every round."""
    layers = [{"name": chr(97 + i), "shape": list(shape)} for i, shape in enumerate(shapes)]
    document: dict[str, Any] = {
        **make_vectors.spec_document(),
        "layers": layers,
        "encoding": {"grid_bits": GRID, "grid_every": 0},
        "screening": {"min_norm": least, "max_update_norm": norm},
    }
    return Spec.model_validate(document)


@dataclass(frozen=True)
class Update:
    """An honest update; a test bends one field with `dataclasses.replace`."""

    spec: Spec
    files: list[bytes]
    entries: dict[str, Any] = field(default_factory=dict)
    block: int = 64

    @property
    def root(self) -> Digest:
        return compute_root(self.files, leaf_bytes("update"))

    def manifest(self) -> Manifest:
        entries = [
            LayerEntry(
                name=layer.name,
                shape=layer.shape,
                blocks=tuple(sha256(block).hex() for block in reference.blocks(data)),
            )
            for layer, data in zip(self.spec.layers, self.files, strict=True)
        ]
        values: dict[str, Any] = {
            "chain_id": CHAIN_ID,
            "federation": FEDERATION,
            "round": ROUND,
            "kind": "update",
            "spec": self.spec.digest().hex(),
            "root": self.root.hex(),
            "layers": entries,
        }
        return Manifest.model_validate({**values, **self.entries})

    def check(self, raw: bytes | None = None) -> Manifest:
        return check_manifest(
            self.manifest().to_bytes() if raw is None else raw,
            spec=self.spec,
            federation=FEDERATION,
            chain_id=CHAIN_ID,
            round_id=ROUND,
            kind="update",
            root=self.root,
        )

    def screen(self, root: Digest | None = None) -> UpdateFacts:
        blocks = streamed(self.files, self.block)
        return screen_update(self.spec, self.root if root is None else root, blocks, ROUND)


def streamed(files: Sequence[bytes], block: int) -> LayerBlocks:
    def blocks(index: int) -> Iterator[bytes]:
        data = files[index]
        return (data[start : start + block] for start in range(0, len(data), block))

    return blocks


def honest_update(
    shapes: Sequence[tuple[int, ...]] = ((3, 101), (2, 2)),
    seed: int = 1,
    norm: float | None = None,
    least: int = 1,
) -> Update:
    """An update whose layers have 303 and 4 values, in leaves of 256."""
    rng = random.Random(seed)
    layers = [[rng.randint(-127, 127) for _ in range(prod(shape))] for shape in shapes]
    return Update(make_spec(shapes, norm, least), [packed(layer) for layer in layers])


def packed(steps: Sequence[int]) -> bytes:
    return layer_bytes(np.array(steps, dtype=np.int8), "update")


def with_value(update: Update, layer: int, place: int, value: int) -> Update:
    """The same update with one stored value, padding included, replaced."""
    files = [bytearray(data) for data in update.files]
    files[layer][place : place + 1] = value.to_bytes(1, "big", signed=True)
    return replace(update, files=[bytes(data) for data in files])
