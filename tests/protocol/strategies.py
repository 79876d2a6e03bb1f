"""What the property tests draw: layer values, specs, and an honest update in memory."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st

from protocol.canonical import sha256
from protocol.cid import raw_cid
from protocol.encoding import layer_bytes
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

values = st.integers(-MAX, MAX)


def make_spec(shapes: Sequence[tuple[int, ...]], leaf_values: int = 4, norm: float = 1.0) -> Spec:
    """A valid spec with layers a, b, … of these shapes."""
    layers = [{"name": chr(97 + i), "shape": list(shape)} for i, shape in enumerate(shapes)]
    document: dict[str, Any] = {
        **make_vectors.spec_document(),
        "layers": layers,
        "encoding": {"fraction_bits": 24, "value_bytes": 4, "leaf_values": leaf_values},
        "screening": {"max_update_norm": norm},
    }
    return Spec.model_validate(document)


@dataclass(frozen=True)
class Update:
    """An honest update; a test bends one field with `dataclasses.replace`."""

    spec: Spec
    files: list[bytes]
    model: list[bytes]
    entries: dict[str, Any] = field(default_factory=dict)
    block: int = 64

    @property
    def root(self) -> Digest:
        return compute_root(self.files, self.spec.encoding.leaf_bytes)

    @property
    def model_root(self) -> Digest:
        return compute_root(self.model, self.spec.encoding.leaf_bytes)

    def manifest(self) -> Manifest:
        entries = [
            LayerEntry(
                name=layer.name,
                shape=layer.shape,
                cid=raw_cid(sha256(data)),
                sha256=sha256(data).hex(),
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
        return screen_update(
            self.spec,
            self.root if root is None else root,
            streamed(self.files, self.block),
            streamed(self.model, self.block + 3),
            self.model_root,
        )


def streamed(files: Sequence[bytes], block: int) -> LayerBlocks:
    def blocks(index: int) -> Iterator[bytes]:
        data = files[index]
        return (data[start : start + block] for start in range(0, len(data), block))

    return blocks


def honest_update(shapes: Sequence[tuple[int, ...]] = ((3, 5), (2, 2)), seed: int = 1) -> Update:
    """An update a little away from its model, well within the norm limit."""
    rng = random.Random(seed)
    spec = make_spec(shapes)
    model = [[rng.randint(-(2**24), 2**24) for _ in range(prod(shape))] for shape in shapes]
    update = [[value + rng.randint(-1000, 1000) for value in layer] for layer in model]
    return Update(spec, [packed(layer) for layer in update], [packed(layer) for layer in model])


def packed(values: Sequence[int], leaf_values: int = 4) -> bytes:
    return layer_bytes(np.array(values, dtype=np.int32), leaf_values)


def with_value(update: Update, layer: int, place: int, value: int) -> Update:
    """The same update with one stored value, padding included, replaced."""
    files = [bytearray(data) for data in update.files]
    files[layer][4 * place : 4 * place + 4] = value.to_bytes(4, "big", signed=True)
    return replace(update, files=[bytes(data) for data in files])
